"""What the kills on a folder and on a bucket have in common."""

import re
import signal
from collections import Counter
from pathlib import Path

from witness import Witness, recover

KILLED = -signal.SIGKILL
EVERY = "[a-z]+"
# Of these a process makes the same number each time.
DURABLE = ("write", "fsync", "link", "unlink", "rename", "mkdir")
_CALL = re.compile(r"^(?:(\d+) +)?(\w+)\(", re.MULTILINE)


def whole_run(forker, remote, place, **more):
    """The steps of a run that nobody kills."""
    end, steps = forker("run", place.url, remote, **more)
    assert (end, steps[-1]) == (0, "status completed")
    remote.forget()
    return steps[:-1]


def judge(place, remote, adapter, hours, where, witness=None):  # noqa: PLR0917
    """Bring a session to its end, checking all the way; gives what its first resume came to."""
    try:
        outcome = recover(place, remote, witness or Witness(place, remote), hours, adapter)
    except BaseException as error:
        error.add_note(f"killed at: {where}")
        raise
    remote.forget()
    return outcome


def kill_at_each_system_call(stage, new_place, log: Path, full, verb, only=EVERY):  # noqa: PLR0917
    """Kill a run, or a resume of one that was killed itself, at each system call that changes something."""
    forker, remote, adapter = stage
    start = new_place()
    if verb == "resume":
        # Killed when its second operation was applied, before the reply: nothing but the plan and one entry.
        steps = whole_run(forker, remote, new_place())
        forker("run", start.url, remote, steps.index("after apply PUT /upsert") + 1)
    state = remote.state()

    def go(inject):
        place = new_place()
        if verb == "resume":
            place.copy(start)
        remote.restore(state)
        end, _ = forker(verb, place.url, remote, hours=1, inject=inject, strace_log=str(log))
        return place, end

    _, end = go("trace")
    assert end == 0
    calls = _counts(log.read_text())
    tried = kills = 0
    missed = set()
    for call, count in sorted(calls.items()):
        if not re.fullmatch(only, call):
            continue
        step = 1 if full else max(1, count // 2)
        for when in range(1, count + 1, step):
            place, end = go(f"{call}:when={when}")
            tried += 1
            kills += end == KILLED
            missed |= set() if end == KILLED else {f"{call} {when}"}
            judge(place, remote, adapter, 2, f"{call} {when}")
    # How often the network is read differs from run to run, so the last of those may not come.
    unkilled = {call for call in missed if call.startswith(DURABLE)}
    assert not unkilled, f"{unkilled} of {calls}"
    assert kills >= tried * 0.8
    print(f"{verb}: {kills} kills at {calls}")
    return calls


def _counts(trace: str) -> dict[str, int]:
    """How often each call was made, by the thread that made it most: strace counts each thread's own."""
    found = Counter(match.groups() for match in _CALL.finditer(trace))
    return {call: max(n for (_, name), n in found.items() if name == call) for _, call in found}
