"""What the kills on a folder and on a bucket have in common."""

import re
import shutil
import signal
from collections import Counter
from pathlib import Path

from tests.support.invariants import Invariants, recover

KILLED = -signal.SIGKILL
EVERY = "[a-z]+"
# Of these a process makes the same number each time.
DURABLE = ("write", "fsync", "link", "unlink", "rename", "mkdir")
_CALL = re.compile(r"^(?:(\d+) +)?(\w+)\(", re.MULTILINE)


def whole_run(fork_server, remote, place, **more):
    """The steps of a run that is not killed."""
    end, steps = fork_server("run", place.url, remote, **more)
    assert (end, steps[-1]) == (0, "status completed")
    remote.forget()
    return steps[:-1]


def judge(place, remote, adapter, hours, where, invariants=None):  # noqa: PLR0917
    """Bring a session to its end, checking all the way; gives what its first resume came to."""
    try:
        outcome = recover(place, remote, invariants or Invariants(place, remote), hours, adapter)
    except BaseException as error:
        error.add_note(f"killed at: {where}")
        raise
    remote.forget()
    return outcome


def kill_at_each_system_call(stage, new_place, log: Path, full, verb, only=EVERY):  # noqa: PLR0917
    """Kill a run, or the resume of a killed run, at each system call that changes something."""
    fork_server, remote, adapter = stage
    start = None
    if verb == "resume":
        # Killed when its second operation was applied, before the reply: nothing but the plan and
        # one entry.
        steps = whole_run(fork_server, remote, new_place())
        start = new_place()
        fork_server("run", start.url, remote, steps.index("after apply PUT /upsert") + 1)
    tried = _Tried(stage, new_place, log, verb, start)
    for where, place in tried.kills(only, 1 if full else None):
        judge(place, remote, adapter, 2, where)
    print(f"{verb}: {tried.killed} kills at {tried.calls}")
    return tried.calls


def kill_pairs_at_system_calls(stage, new_place, log: Path, part, parts):
    """Kill a run at each system call, then its resume at each: once from each state a kill left.

    Killed between the same two changes of the disk and the remote, two runs leave the same, so that
    one of them is enough. Gives what the recoveries from the second kill came to, and how many
    states there were.
    """
    _, remote, adapter = stage
    starts = {}
    for where, place in _Tried(stage, new_place, log, "run").kills(EVERY, 1):
        starts.setdefault((_left(place), repr(remote.state())), (where, place, remote.state()))
        remote.forget()
    outcomes = Counter()
    for where, start, state in [*starts.values()][part::parts]:
        if "s1/planned-writeback.json" not in start.objects():
            continue
        remote.restore(state)
        for then, place in _Tried(stage, new_place, log, "resume", start).kills(EVERY, 1):
            invariants = Invariants(start, remote)
            invariants.seen = start.objects()
            invariants.place = place
            outcomes[judge(place, remote, adapter, 2, f"{where}, then {then}", invariants)] += 1
            shutil.rmtree(place.path)
    return outcomes, len(starts)


def _left(folder) -> tuple[tuple[str, bool], ...]:
    """The names that a kill left in a folder, without times and random parts of names."""
    return tuple(
        (re.sub(r"~.*", "~", str(file.relative_to(folder.path))), file.is_dir() or file.stat().st_size > 0)
        for file in sorted(folder.path.rglob("*"))
    )


class _Tried:
    """Kills of a run, or of a resume of what is at a place, at its system calls."""

    def __init__(self, stage, new_place, log: Path, verb, start=None) -> None:
        self._forker, self._remote, _ = stage
        self._new_place, self._log, self._verb, self._start = new_place, log, verb, start
        self._state = self._remote.state()
        self.calls: dict[str, int] = {}
        self.killed = 0

    def kills(self, only, step):
        """Where each kill was, and the place with what it left; step None is two of each call."""
        _, end = self._go("trace")
        assert end == 0
        self.calls = _counts(self._log.read_text())
        tried, missed = 0, set()
        for call, count in sorted(self.calls.items()):
            if not re.fullmatch(only, call):
                continue
            for when in range(1, count + 1, step or max(1, count // 2)):
                place, end = self._go(f"{call}:when={when}")
                tried += 1
                self.killed += end == KILLED
                missed |= set() if end == KILLED else {f"{call} {when}"}
                yield f"{call} {when}", place
        # How often the network is read differs from run to run, so the last of those may not come.
        unkilled = {call for call in missed if call.startswith(DURABLE)}
        assert not unkilled, f"{unkilled} of {self.calls}"
        assert self.killed >= tried * 0.8

    def _go(self, inject):
        place = self._new_place()
        if self._start is not None:
            place.copy(self._start)
        self._remote.restore(self._state)
        end, _ = self._forker(
            self._verb, place.url, self._remote, hours=1, inject=inject, strace_log=str(self._log)
        )
        return place, end


def _counts(trace: str) -> dict[str, int]:
    """How often the busiest thread made each call: strace counts by thread."""
    found = Counter(match.groups() for match in _CALL.finditer(trace))
    return {call: max(n for (_, name), n in found.items() if name == call) for _, call in found}
