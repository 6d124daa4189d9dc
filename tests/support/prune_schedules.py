"""States in which a prune goes on beside others, and what must hold of them.

What a pruned session was is kept beside its state, from the moment at which its tombstone is put.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import ClassVar

import pytest

from tests.support.actors import Run, Tools
from tests.support.journals import whole
from tests.support.recoveries import recover, resume
from tests.support.schedules import Choice, Scenario, World
from tests.support.stepping import (
    EPOCH,
    PLANNED,
    POLICY,
    SESSION,
    SteppedClock,
    SteppingAdapter,
    Time,
    is_pruned,
    loaded,
    require,
)
from writeahead.errors import PlanConflict
from writeahead.model import RunReport
from writeahead.protocol import pruning
from writeahead.protocol.pruning import YOUNGEST, prune
from writeahead.protocol.runner import write_back
from writeahead.protocol.sweep import sweep

FINAL = f"{SESSION}/writeback.json"
PRUNED = f"{SESSION}/pruned"
LEFT = {PLANNED, PRUNED}
# Past the age that a prune asks for at least, and past the half hour after which an owner looks.
PAST_YOUNGEST = YOUNGEST.total_seconds() + 2


def name_probes_by_thread(monkeypatch) -> None:
    """A probe of an archive has a random name, and a schedule leaves nothing to chance."""
    probe = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=threading.current_thread().name))
    monkeypatch.setattr(pruning, "uuid", probe)


def prune_all(tools: Tools) -> None:
    """A prune that may remove whatever is old enough, and meets no error."""
    for result in prune(tools.store, YOUNGEST, archive=tools.archive, dry_run=False, clock=tools.clock):
        require(result.error is None, f"PRUNE_FAILED: {result.error}")


def repeat(*kinds: str) -> Run:
    """The request for these, as at first or again."""

    def run(tools: Tools) -> RunReport:
        operations = [{"kind": kind, "payload": {"text": "x"}} for kind in kinds]
        means = {"store": tools.store, "adapter": tools.adapter, "clock": tools.clock}
        return write_back(operations, session_id=SESSION, policy=POLICY, **means)

    return run


@dataclass(frozen=True)
class PruneScenario(Scenario):
    """What is explored.

    Attributes:
        kinds: Of the session's operations.
        undoes: How many deletes a power cut may undo, at any moment.
        is_unmarked: Markers were lost before, so that a session without one is no fault.
        seen: What was left of it in the end, and tried once.
    """

    kinds: tuple[str, ...] = ()
    undoes: int = 0
    is_unmarked: bool = False
    seen: set[tuple[object, ...]] = field(default_factory=set)
    faults: int = 0
    crashes: int = 0
    deletes: bool = True
    jump: float = PAST_YOUNGEST
    world: type[World] = field(default_factory=lambda: PruneWorld)


@dataclass(frozen=True)
class _Closed:
    """What a session was when it was pruned: all but its markers."""

    status: str
    held: Mapping[str, bytes]
    # What was on its way to the remote, or had taken effect.
    sent: frozenset[str]

    def planned(self) -> set[str]:
        """The operations of its plan."""
        return {operation["id"] for operation in loaded(self.held[PLANNED])["operations"]}

    def known(self) -> set[str]:
        """The operations that the journal says may have been sent."""
        entries = [loaded(self.held[key]) for key in sorted(self.held) if "/journal/" in key]
        said = whole(dict(enumerate(entries, start=1)), len(entries))
        return {*said["receipts"], *said["attempted"]}


class PruneWorld(World):
    """A state with a prune in it."""

    scenario: PruneScenario
    # By which a session is pruned in the end, whatever bug is planted in the prune that is tried.
    later: ClassVar[type] = pruning._Pruning

    def __init__(self, scenario: PruneScenario) -> None:
        super().__init__(scenario)
        self.undoes = scenario.undoes
        self.deleted: dict[str, tuple] = {}
        self.closed: _Closed | None = None
        self.status = ""

    def copy(self) -> "PruneWorld":
        twin = super().copy()
        twin.deleted = dict(self.deleted)
        return twin

    def key(self) -> int:
        return hash((super().key(), self.undoes))

    def held(self) -> tuple[object, ...]:
        archived = tuple(sorted(self.stores["archive"].content.items())) if "archive" in self.stores else ()
        return *super().held(), archived, self._past()

    def _past(self) -> tuple[object, ...]:
        undo = tuple(sorted(self.deleted)) if self.undoes else ()
        closed = self.closed
        return undo, self.status, closed and (tuple(sorted(closed.held.items())), closed.sent)

    def choices(self) -> list[Choice]:
        found = super().choices()
        if found and self.undoes:
            found += [("undo", key) for key in self.deleted if key not in self.store.content]
        return found

    def _happen(self, what: str, *more: str) -> None:
        if what == "undo":
            self.undoes -= 1
            self.store.undelete(*self.deleted.pop(more[0]))
        else:
            super()._happen(what, *more)

    def do(self, choice: Choice) -> None:
        before, dates = dict(self.store.wrapped._objects), dict(self.store.written)
        super().do(choice)
        gone = before.keys() - self.store.content.keys()
        self.deleted |= {key: (before[key], dates[key]) for key in gone}

    def changed(self, before: Mapping[str, bytes]) -> None:
        """Hold a prune's writes against what was there."""
        after = self.store.content
        if is_pruned(after.get(PLANNED)) and not is_pruned(before.get(PLANNED)):
            self._close(before)
        elif not self.closed:
            super().changed(before)
        if self.closed:
            require(is_pruned(after.get(PLANNED)), "REOPENED: there is no tombstone at the plan's key")
            earlier, self.status = self.status or self.closed.status, _ended_as(after)
            require(self.status in (earlier, "completed"), f"FORGOTTEN: it was {earlier}")

    def _close(self, before: Mapping[str, bytes]) -> None:
        status = loaded(self.store.content[PLANNED])["status"]
        # A final artifact may come late, to an abandoned session: then it stays for the next prune.
        ended = {key: data for key, data in before.items() if status == "completed" or key != FINAL}
        require(_ended_as(ended) == status, "PRUNED_ALIVE: it was not at its end")
        decides = FINAL if status == "completed" else max(key for key in before if "/journal/" in key)
        age = EPOCH + timedelta(seconds=self.time.seconds) - self.store.written[decides]
        require(age >= YOUNGEST, f"PRUNED_YOUNG: it ended {age} ago")
        held = {key: data for key, data in ended.items() if not key.startswith(".")}
        if "archive" in self.stores:
            kept = [FINAL] if status == "completed" else held
            archived = self.stores["archive"].content
            missing = [key for key in kept if archived.get(key) != held[key]]
            require(not missing, f"NOT_ARCHIVED: {missing}")
        self.closed = _Closed(status, held, frozenset(self._sent()))

    def _sent(self) -> set[str]:
        """The operations whose requests took effect, or are on their way."""
        standing = [actor.at.split(" ")[1] for actor in self.actors.values() if actor.at.startswith("send ")]
        return {*self.remote.effects, *standing, *(name for _, name, _ in self.remote.late)}

    def check(self) -> None:
        if not self.closed and not self.scenario.is_unmarked:
            super().check()
            return
        self.check_reports()
        if not self.closed:
            return
        effects = self.remote.effects
        doubled = [name for name, count in effects.items() if count > 1]
        require(not doubled, f"DOUBLED: {doubled}")
        more = effects.keys() - self.closed.sent
        require(not more, f"SENT_AFTER_PRUNE: {more}")
        if self.status == "completed":
            missing = self.closed.planned() - effects.keys()
            require(not missing, f"FINAL_TOO_EARLY: {missing}")
        if self.closed.status == "abandoned":
            unsaid = {name for name in effects if name.endswith("mail")} - self.closed.known()
            require(not unsaid, f"SENT_AFTER_END: {unsaid}")

    def check_recovery(self) -> None:
        """Kill all actors; what others do then sends nothing more, and a later prune finishes."""
        time, remote = Time(self.time.seconds), self.remote.copy()
        while remote.late:
            remote.land(now=time.seconds)
        store = self.store.copy(time)
        if not self.closed and self.scenario.is_unmarked:
            return
        if not self.closed:
            recover(store, remote, time)
            time.seconds += PAST_YOUNGEST
        tools = Tools(store, SteppingAdapter(remote, lambda _: "ok", time), SteppedClock(time))
        effects = dict(remote.effects)
        status = _ended_as(store.content)
        if status is None:
            return
        self._meet_others(tools, status)
        require(remote.effects == effects, "SENT_AFTER_PRUNE: by others")
        time.seconds += PAST_YOUNGEST
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pruning, "_Pruning", self.later)
            prune_all(Tools(store, tools.adapter, tools.clock))
        require(store.content.keys() == LEFT, f"LEFT_OVER: {store.content.keys()}")
        require(_ended_as(store.content) == status, f"FORGOTTEN: it was {status}")
        # Little is left, and it is the same after most of the schedules.
        left = (status, *store.content.values(), remote.state())
        if left not in self.scenario.seen:
            self.scenario.seen.add(left)
            self._meet_others(tools, status)
            require(remote.effects == effects, "SENT_AFTER_PRUNE: once it was pruned")
            require(store.content.keys() == LEFT, f"LEFT_OVER: {store.content.keys()}")

    def _meet_others(self, tools: Tools, status: str) -> None:
        """Every other command, once."""
        says = "no_resume_needed" if status == "completed" else "abandoned"
        for scan in (False, True):
            for result in sweep(tools.store, tools.adapter, policy=POLICY, scan=scan, clock=tools.clock):
                require(result.error is None, f"SWEPT: {result.error}")
        report = resume(tools)
        require(report.status == says, f"REOPENED: a resume says {report.status}")
        report = repeat(*self.scenario.kinds)(tools)
        require(report.status == says, f"REOPENED: a repeat says {report.status}")
        try:
            repeat("create", "create", "create", "create")(tools)
        except PlanConflict:
            pass
        else:
            require(False, "REOPENED: for another request")


def _ended_as(content: Mapping[str, bytes]) -> str | None:
    """How a session ended by its raw bytes; None if it did not."""
    if FINAL in content and loaded(content[FINAL]).get("format") == "writeahead/writeback":
        return "completed"
    plan = content.get(PLANNED)
    if is_pruned(plan):
        return loaded(plan)["status"]
    entries = [key for key in content if key.startswith(f"{SESSION}/journal/")]
    newest = loaded(content[max(entries)]) if entries else {}
    return "abandoned" if newest.get("status") == "abandoned" else None
