"""Every schedule of real runs beside each other: the actors' next steps, in any order.

A `World` is one state: store, archive, remote, time, and where each actor stands. A list of choices
fixes everything that happens: a schedule. `explore` visits every schedule; two schedules that lead
to the same state are followed once only.
"""

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import TypeAlias

from tests.support.actors import Course, Moment, Run, Told, Tools
from tests.support.remotes import found_out
from tests.support.stepping import (
    LIFETIME,
    PAST_LEASE,
    PLANNED,
    POLICY,
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
    is_tombstone,
    require,
    written_once,
)
from writeahead.model import RunReport
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import unblock_session

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
    _prepared: list[tuple[TimedStore, Remote, float]] = field(default_factory=list)

    def start(self) -> tuple[TimedStore, Remote, float]:
        """Return store, remote and time as the actors find them."""
        if not self._prepared:
            time, remote = Time(), Remote()
            store = TimedStore(time, ignores_if_absent=self.ignores_if_absent)
            adapter = SteppingAdapter(remote, lambda _: "ok", time)
            self.prepare(Tools(store, adapter, SteppedClock(time)))
            self._prepared.append((store, remote, time.seconds))
        store, remote, seconds = self._prepared[0]
        return store, remote.copy(), seconds

    def is_step(self, moment: Moment) -> bool:
        """Whether it matters when an actor goes on from here.

        It does not where it reads what never changes: whatever the others do, it reads the same.
        """
        return not moment.at.startswith("get ") or (self.replaces and moment.at == f"get {PLANNED}")


@dataclass
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


def _begun(name: str, run: Run, scenario: Scenario, stores: list[str]) -> Actor:
    course = Course(name, run, scenario.skews.get(name, 0.0), stores)
    return Actor(course, course.start, scenario.leaps.get(name, 0.0))


# What was before, and what was done then, in words.
_Line: TypeAlias = tuple["_Line | None", str]


class World:
    """One state of a scenario; and how it came to it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        store, self.remote, seconds = scenario.start()
        self.time = Time(seconds)
        self.stores = {"store": store.copy(self.time)}
        self.faults, self.crashes, self.jumps = scenario.faults, scenario.crashes, scenario.jumps
        self.seen: dict[str, bytes] = {}
        self._log: _Line | None = None
        self.actors = {
            name: _begun(name, run, scenario, list(self.stores)) for name, run in scenario.runs.items()
        }

    def copy(self) -> "World":
        """The same state, to go on from in another way."""
        twin = copy(self)
        twin.time = Time(self.time.seconds)
        twin.remote = self.remote.copy()
        twin.stores = {name: store.copy(twin.time) for name, store in self.stores.items()}
        twin.actors = {name: copy(actor) for name, actor in self.actors.items()}
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
        actor = self.actors[name]
        while not actor.is_over and not actor.at.startswith(until):
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
        what, *more = choice
        if what == "go":
            name, outcome = more
            words = f"{name}: {self.actors[name].at}" + (f": {outcome}" if outcome != "ok" else "")
            self.faults -= outcome != "ok"
            self._go(self.actors[name], outcome)
        else:
            words = " ".join(choice)
            self._happen(what, *more)
        self._log = (self._log, words)

    def _go(self, actor: Actor, outcome: str) -> None:
        """Let an actor take its step, and come to stand at the next."""
        assert not actor.is_over
        while True:
            told = self._made(actor.moment, outcome)
            actor.moment = actor.course.after(actor.moment, told)
            if actor.moment.is_over or self.scenario.is_step(actor.moment):
                return

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
            self.actors[more[0]].is_killed = True
        elif what == "leap":
            actor = self.actors[more[0]]
            actor.moment, actor.leap = actor.course.after(actor.moment, Told(now, leap=actor.leap)), 0.0
        elif what == "land":
            self.remote.land(int(more[0]), now)
        elif what == "jump":
            self.jumps -= 1
            self._pass(now + PAST_LEASE)
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
        content = tuple(sorted(self.store.content.items()))
        dates = tuple(sorted(self.store.written.items()))
        return hash((content, dates, self.remote.state()))

    def check(self) -> None:
        """Hold the truth against the promises."""
        check_promises(self.store.content, self.remote)
        for key, data in self.seen.items():
            if self.store.content.get(key) != data:
                raise Violation(f"REWRITTEN: {key}")
        self.seen = written_once(self.store.content)
        for name, actor in self.actors.items():
            if error := actor.moment.error:
                raise Violation(f"{name} raised {error!r}") from error
            if actor.report and actor.report.status in ("completed", "no_resume_needed"):
                require(f"{SESSION}/writeback.json" in self.store.content, "FINAL_TOO_EARLY: it was reported")

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


def recover(store: TimedStore, remote: Remote, time: Time, ahead: float = 0.0) -> None:
    """Finish a session, with sound requests and an operator who looks before deciding."""
    tools = Tools(store, SteppingAdapter(remote, lambda _: "ok", time), SteppedClock(time))
    if PLANNED not in store.content or is_tombstone(store.content[PLANNED]):
        return
    for _ in range(4):
        time.seconds += PAST_LEASE + LIFETIME + POLICY.clock_skew + ahead
        report = resume(tools)
        check_promises(store.content, remote)
        if report.status in ("completed", "no_resume_needed", "abandoned"):
            break
        require(report.status == "blocked", f"DEAD_END: a late resume says {report.status}: {report.error}")
        require(bool(report.block_reason and report.error), "SILENT_BLOCK: in the report")
        assume = {}
        if report.block_reason == "outcome_unknown":
            assume = {report.operation: found_out(bool(remote.effects.get(report.operation)))}
        unblock_session(SESSION, store=store, reason="looked", assume=assume, clock=tools.clock)
        check_promises(store.content, remote)
    is_final = f"{SESSION}/writeback.json" in store.content
    require(is_final or report.status == "abandoned", "DEAD_END: it never came to its end")
    list(sweep(store, tools.adapter, policy=POLICY, clock=tools.clock))
    left = [key for key in store.content if key.startswith(".")]
    require(not left, f"LEFT_OVER: {left}")


def resume(tools: Tools) -> RunReport:
    return resume_session(SESSION, store=tools.store, adapter=tools.adapter, policy=POLICY, clock=tools.clock)


@dataclass
class Coverage:
    """What an exploration saw."""

    states: int = 0
    steps: int = 0
    runs: int = 0
    recoveries: int = 0
    interleavings: int = 0

    def __str__(self) -> str:
        return (
            f"{self.states} states, {self.steps} steps, {self.runs} runs of the real code, {self.recoveries}"
            f" recoveries; they stand for {self.interleavings} schedules"
        )


def explore(scenario: Scenario) -> Coverage:
    """Visit every schedule of a scenario.

    Raises:
        Violation: With the schedule that leads to it.
    """
    coverage = Coverage()
    children: dict[int, list[int]] = {}
    recovered: set[int] = set()
    first = World(scenario)
    pending = [first]
    try:
        _look(first, recovered)
        children[first.key()] = []
        while pending:
            world = pending.pop()
            before = world.key()
            for choice in world.choices():
                after = world.copy()
                after.do(choice)
                coverage.steps += 1
                key = after.key()
                children[before].append(key)
                if key not in children:
                    children[key] = []
                    _look(after, recovered)
                    pending.append(after)
    finally:
        first.end()
    coverage.states = len(children)
    coverage.runs = sum(actor.course.runs for actor in first.actors.values())
    coverage.recoveries = len(recovered)
    coverage.interleavings = _paths(children)
    return coverage


def _look(world: World, recovered: set[int]) -> None:
    """Hold a state against the promises; from a new store and remote, the session is finished."""
    try:
        world.check()
        if world.fingerprint() not in recovered:
            recovered.add(world.fingerprint())
            world.check_recovery()
    except Violation as violation:
        raise Violation("\n    ".join([str(violation), *world.log])) from violation


def _paths(children: Mapping[int, list[int]]) -> int:
    """Count the ways through the graph of states; it has no cycle: each step leaves a trace."""
    counts: dict[int, int] = {}
    for start in reversed(list(children)):
        todo = [start]
        while todo:
            key = todo[-1]
            missing = [child for child in children[key] if child not in counts]
            if missing:
                todo += missing
                continue
            todo.pop()
            counts[key] = sum(counts[child] for child in children[key]) or 1
    return counts[next(iter(children))]
