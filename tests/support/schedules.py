"""Every schedule of real runs beside each other: the actors' next steps, in any order.

A `World` is one state: store, archive, remote, time, and where each actor stands. A list of choices
fixes everything that happens: a schedule. `tests.support.exploring` visits every one.
"""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from tests.support.actors import Course, Moment, Run, Told, Tools
from tests.support.recoveries import recover
from tests.support.stepping import (
    PAST_LEASE,
    PLANNED,
    SESSION,
    TIMED,
    TIMELESS,
    Remote,
    SteppedClock,
    SteppingAdapter,
    Time,
    TimedStore,
    Violation,
    check_promises,
    is_pruned,
    require,
    written_once,
)
from writeahead.model import RunReport

Choice = tuple[str, ...]


@dataclass(frozen=True)
class Scenario:
    """What is explored.

    Attributes:
        prepare: Brings a store and a remote to where the actors start.
        runs: Each actor's name and what it runs.
        outcomes: What may become of a request besides ``ok``; each use costs one of ``faults``.
        faults: How many requests in all may go wrong.
        crashes: How many actors may be killed.
        jumps: How often time may jump past a lease.
        pauses_in_send: Time may pass while a lookup request is between the lease check and the
            wire.
        skews: By actor, how wrong its wall clock is.
        leaps: By actor, how far its wall clock leaps, once, at any moment.
        ignores_if_absent: A broken store.
        replaces: A tombstone may be replaced, so that reading what is at the plan's key is a step.
        deletes: Anything may be deleted, so that each read is a step.
        jump: How many seconds such a jump takes.
        page: How many keys a listing reads at once; by default all of them.
        stores: The names of the stores.
        lead: Where the schedules part: an actor, and the step that it comes to before.
        world: What its states are.
    """

    prepare: Callable[[Tools], None]
    runs: Mapping[str, Run]
    outcomes: tuple[str, ...] = ("lost", "not applied", "late")
    faults: int = 1
    crashes: int = 1
    jumps: int = 1
    pauses_in_send: bool = False
    skews: Mapping[str, float] = field(default_factory=dict)
    leaps: Mapping[str, float] = field(default_factory=dict)
    ignores_if_absent: bool = False
    replaces: bool = False
    deletes: bool = False
    jump: float = PAST_LEASE
    page: int | None = None
    stores: tuple[str, ...] = ("store",)
    lead: tuple[str, str] | None = None
    world: type["World"] = field(default_factory=lambda: World)
    _prepared: list[tuple[dict[str, TimedStore], Remote, float]] = field(default_factory=list)

    def start(self) -> tuple[dict[str, TimedStore], Remote, float]:
        """Return stores, remote and time as the actors find them."""
        if not self._prepared:
            time, remote = Time(), Remote()
            stores = {
                name: TimedStore(time, ignores_if_absent=self.ignores_if_absent) for name in self.stores
            }
            adapter = SteppingAdapter(remote, lambda _: "ok", time)
            self.prepare(Tools(adapter=adapter, clock=SteppedClock(time), **stores))
            self._prepared.append((stores, remote, time.seconds))
        stores, remote, seconds = self._prepared[0]
        return stores, remote.copy(), seconds

    def is_step(self, moment: Moment) -> bool:
        """Whether it matters when an actor goes on from here.

        It does not where it reads what never changes: whatever the others do, it reads the same.
        """
        if not moment.at.startswith("get "):
            return True
        return self.deletes or (self.replaces and moment.at == f"get {PLANNED}")


@dataclass(frozen=True, slots=True)
class Actor:
    """One actor of a world.

    Attributes:
        course: All that it can do.
        moment: Where it stands.
        leap: Seconds that its wall clock is still to leap by, at a moment of the world's choice.
        is_killed: It is never scheduled again.
    """

    course: Course
    moment: Moment
    leap: float = 0.0
    is_killed: bool = False

    @property
    def at(self) -> str:
        return self.moment.at

    @property
    def is_over(self) -> bool:
        return self.is_killed or self.moment.is_over

    @property
    def wakes_at(self) -> float:
        return self.moment.wakes_at

    @property
    def report(self) -> RunReport | None:
        return self.moment.report


def _begun(name: str, run: Run, scenario: Scenario) -> Actor:
    course = Course(name, run, scenario.skews.get(name, 0.0), scenario.stores, scenario.page)
    return Actor(course, course.start, scenario.leaps.get(name, 0.0))


# What was before, and what was done then, in words.
_Line: TypeAlias = tuple["_Line | None", str]


class World:
    """One state of a scenario; and how it came to it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        stores, self.remote, seconds = scenario.start()
        self.time = Time(seconds)
        self.stores = {name: store.copy(self.time) for name, store in stores.items()}
        self.faults, self.crashes, self.jumps = scenario.faults, scenario.crashes, scenario.jumps
        self._log: _Line | None = None
        self._fingerprint: int | None = None
        self.actors = {name: _begun(name, run, scenario) for name, run in scenario.runs.items()}

    def copy(self) -> "World":
        """The same state, to go on from in another way."""
        twin = copy(self)
        twin.time = Time(self.time.seconds)
        twin.remote = self.remote.copy()
        twin.stores = {name: store.copy(twin.time) for name, store in self.stores.items()}
        twin.actors = dict(self.actors)
        twin._fingerprint = None
        return twin

    @property
    def store(self) -> TimedStore:
        return self.stores["store"]

    @property
    def log(self) -> list[str]:
        """The schedule so far, in words."""
        found, line = [], self._log
        while line:
            line, words = line
            found.append(words)
        return found[::-1]

    def steer(self, name: str, until: str) -> None:
        """Let one actor go on until it stands at a step, or is over."""
        while not (actor := self.actors[name]).is_over and not actor.at.startswith(until):
            if actor.at == "sleep":
                self._pass(max(self.time.seconds, actor.wakes_at))
            self.do(("go", name, "ok"))
        self.check()

    def meet(self, name: str, request: str, outcome: str) -> None:
        """Let one actor's next such request come to an outcome, if there is one."""
        self.steer(name, request)
        if not self.actors[name].is_over:
            self.do(("go", name, outcome))
        self.check()

    def choices(self) -> list[Choice]:
        """Everything that can happen next."""
        found: list[Choice] = []
        alive = {name: actor for name, actor in self.actors.items() if not actor.is_over}
        for name, actor in alive.items():
            if actor.at == "sleep" and actor.wakes_at > self.time.seconds:
                continue
            found.append(("go", name, "ok"))
            if self.faults and actor.at.startswith("send"):
                found += [("go", name, outcome) for outcome in self._outcomes(actor)]
        if not alive:
            return []
        if self.crashes:
            # Never to be chosen again is as good as dead, and is among the schedules already. Only
            # what leans on time and stands before its request holds time back: it must be able to
            # die there.
            found += [("crash", name) for name, actor in alive.items() if self._is_sending_timed(actor)]
        found += [("leap", name) for name, actor in alive.items() if actor.leap]
        found += [("land", str(index)) for index in range(len(self.remote.late))]
        return found + self._times(list(alive.values()))

    @staticmethod
    def _is_sending_timed(actor: Actor) -> bool:
        return actor.at.startswith("send") and actor.at.endswith(TIMED)

    def _outcomes(self, actor: Actor) -> list[str]:
        keyed = actor.at.endswith(TIMELESS)
        return [one for one in self.scenario.outcomes if not (keyed and one == "late")]

    def _times(self, alive: list[Actor]) -> list[Choice]:
        sending = any(self._is_sending_timed(actor) for actor in alive)
        if sending and not self.scenario.pauses_in_send:
            return []
        found: list[Choice] = []
        if self.jumps:
            found.append(("jump",))
        wakes = [actor.wakes_at for actor in alive if actor.at == "sleep"]
        if any(wake > self.time.seconds for wake in wakes):
            found.append(("wake",))
        return found

    def do(self, choice: Choice) -> None:
        """Let one of these happen.

        Raises:
            Violation: What was written once has changed.
        """
        before, self._fingerprint = self.store.content, None
        what, *more = choice
        if what == "go":
            name, outcome = more
            words = f"{name}: {self.actors[name].at}" + (f": {outcome}" if outcome != "ok" else "")
            self.faults -= outcome != "ok"
            self._go(name, outcome)
        else:
            words = " ".join(choice)
            self._happen(what, *more)
        self._log = (self._log, words)
        self.changed(before)

    def changed(self, before: Mapping[str, bytes]) -> None:
        """Hold what the store has against what it had."""
        content = self.store.content
        for key, data in written_once(before).items():
            require(content.get(key) == data, f"REWRITTEN: {key}")

    def _go(self, name: str, outcome: str) -> None:
        """Let an actor take its step, and come to stand at the next."""
        actor = self.actors[name]
        assert not actor.is_over
        moment = actor.course.after(actor.moment, self._made(actor.moment, outcome))
        while not (moment.is_over or self.scenario.is_step(moment)):
            moment = actor.course.after(moment, self._made(moment, outcome))
        self.actors[name] = replace(actor, moment=moment)

    def _made(self, moment: Moment, outcome: str) -> Told:
        """Make an actor's call."""
        try:
            return Told(self.time.seconds, moment.call(self, outcome) if moment.call else None)
        except Exception as error:
            return Told(self.time.seconds, error=error)

    def _happen(self, what: str, *more: str) -> None:
        now = self.time.seconds
        if what == "crash":
            self.crashes -= 1
            self.actors[more[0]] = replace(self.actors[more[0]], is_killed=True)
        elif what == "leap":
            actor = self.actors[more[0]]
            moment = actor.course.after(actor.moment, Told(now, leap=actor.leap))
            self.actors[more[0]] = replace(actor, moment=moment, leap=0.0)
        elif what == "land":
            self.remote.land(int(more[0]), now)
        elif what == "jump":
            self.jumps -= 1
            self._pass(now + self.scenario.jump)
        else:
            sleepers = [one.wakes_at for one in self.actors.values() if one.at == "sleep" and not one.is_over]
            self._pass(min(wakes_at for wakes_at in sleepers if wakes_at > now))

    def _pass(self, until: float) -> None:
        """Let time pass; a request that has not landed within its lifetime never will."""
        self.time.seconds = until
        self.remote.late = [late for late in self.remote.late if late[2] > until]

    def key(self) -> int:
        """A fingerprint of all that the future depends on."""
        actors = tuple((id(one.moment), one.is_killed, one.leap) for one in self.actors.values())
        budgets = (self.faults, self.crashes, self.jumps, self.time.seconds)
        return hash((self.fingerprint(), actors, budgets, tuple(self.remote.late)))

    def fingerprint(self) -> int:
        """The same of store and remote alone."""
        if self._fingerprint is None:
            self._fingerprint = hash(self.held())
        return self._fingerprint

    def held(self) -> tuple[object, ...]:
        """What store and remote hold."""
        content = tuple(sorted(self.store.content.items()))
        dates = tuple(sorted(self.store.written.items()))
        return content, dates, self.remote.state()

    def check(self) -> None:
        """Hold the truth against the promises."""
        check_promises(self.store.content, self.remote)
        self.check_reports()

    def check_reports(self) -> None:
        """Hold what the actors say against the truth."""
        content = self.store.content
        for name, actor in self.actors.items():
            if error := actor.moment.error:
                raise Violation(f"{name} raised {error!r}") from error
            if actor.report and actor.report.status in ("completed", "no_resume_needed"):
                is_completed = f"{SESSION}/writeback.json" in content or is_pruned(content.get(PLANNED))
                require(is_completed, "FINAL_TOO_EARLY: it was reported")

    def check_recovery(self) -> None:
        """Kill all actors; a later resume, and an operator if needed, finish the session."""
        time = Time(self.time.seconds)
        remote = self.remote.copy()
        while remote.late:
            remote.land(now=time.seconds)
        store = self.store.copy(time)
        # What a clock that was ahead has dated is in an honest one's future: that costs time,
        # nothing else.
        ahead = max([0.0, *self.scenario.skews.values(), *self.scenario.leaps.values()])
        recover(store, remote, time, ahead)

    def end(self) -> None:
        for actor in self.actors.values():
            actor.course.end()
