"""Every schedule of runs whose operations are under way at once: threads that are stepped.

An actor of `tests.support.schedules` is known by what it is told. Strands of one actor share
memory, so here each schedule runs the real code from its start.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.support import schedules
from tests.support.actors import Run, Tools
from tests.support.exploring import _paths
from tests.support.schedules import Choice, Scenario
from tests.support.stepping import (
    PAST_LEASE,
    PLANNED,
    SESSION,
    SteppedClock,
    SteppingAdapter,
    Time,
    TimedStore,
    Violation,
    check_promises,
    require,
    written_once,
)
from tests.support.wrappers import WholeListStore
from writeahead.model import RunReport


class Killed(BaseException):
    """An actor that is never scheduled again: its thread ends without further effects."""


class SteppingStore(WholeListStore):
    """One actor's store: it holds still before each call that others can see or influence."""

    def __init__(self, inner: TimedStore, actor: "Actor") -> None:
        super().__init__(inner)
        self.actor = actor

    def _around(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        # What is read this way changes in one case only: a new run replaces a tombstone.
        if verb == "get" and not (self.actor.world.scenario.replaces and key == PLANNED):
            return call()
        self.actor.hold(f"{verb} {key}")
        return self.actor.saw(call)


class Actor:
    """One run in a thread, standing at a step."""

    def __init__(self, name: str, run: Run, world: "World", skew: float) -> None:
        self.name = name
        self.world = world
        self.at = ""
        self.wakes_at = 0.0
        self.history = hash(name)
        self.clock = SteppedClock(world.time, skew, self._sleep)
        # Seconds that its wall clock is still to leap by, at a moment of the world's choice.
        self.leap = world.scenario.leaps.get(name, 0.0)
        self.report: RunReport | None = None
        self.error: BaseException | None = None
        self.is_over = False
        # Threads of its own: see `tests.support.strands`.
        self.strands: list[Actor] = []
        self._answer = ""
        self._is_killed = False
        # Plain locks, handed over like a baton: much faster than semaphores.
        self._go = threading.Lock()
        self._go.acquire()
        self._stands = threading.Lock()
        self._stands.acquire()
        tools = Tools(
            SteppingStore(world.store, self),
            SteppingAdapter(world.remote, self.hold, world.time),
            self.clock,
        )
        self._thread = threading.Thread(target=self._run, args=(run, tools), name=name, daemon=True)
        self._thread.start()
        self._stands.acquire()

    def _run(self, run: Run, tools: Tools) -> None:
        try:
            self.hold("start")
            self.report = run(tools)
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._stands.release()

    def hold(self, what: str) -> str:
        """Stand still until the world says go on; return what it says."""
        here = self._here()
        if self._is_killed:
            raise Killed
        here.at = what
        here._stands.release()
        here._go.acquire()
        if self._is_killed:
            raise Killed
        return here._answer

    def _here(self) -> "Actor":
        """The one of its threads that runs now."""
        thread = threading.current_thread()
        return next((strand for strand in self.strands if strand._thread is thread), self)

    def can_go(self) -> bool:
        if self.at == "join":
            return all(strand.is_over for strand in self.strands)
        return self.at != "sleep" or self.wakes_at <= self.world.time.seconds

    def saw(self, call: Callable[[], Any]) -> Any:
        """Make a store call; what it says is all that the actor learns of the others."""
        try:
            result = call()
        except Exception as error:
            self.history = hash((self.history, type(error).__name__))
            raise
        self.history = hash((self.history, repr(result)))
        return result

    def _sleep(self, seconds: float) -> None:
        self._here().wakes_at = self.world.time.seconds + seconds
        self.hold("sleep")

    def go(self, answer: str = "") -> None:
        """Let it take its step, and come to stand at the next."""
        assert not self.is_over, f"{self.name} is over"
        self.history = hash((self.history, self.at, answer, self.world.time.seconds))
        self._answer = answer
        self._go.release()
        self._stands.acquire()

    def set_clock(self) -> None:
        """Let its wall clock leap, as if an administrator had set it."""
        self.history = hash((self.history, "leap"))
        self.clock.skew += self.leap
        self.leap = 0.0

    def kill(self) -> None:
        self._is_killed = True
        for strand in self.strands:
            if not strand.is_over:
                strand._go.release()
                strand._stands.acquire()
            strand._thread.join()
        if not self.is_over:
            self._go.release()
            self._stands.acquire()
        self._thread.join()


class World(schedules.World):
    """One execution of a scenario, step by step."""

    log: Sequence[str] = ()

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        stores, self.remote, seconds = scenario.start()
        self.time = Time(seconds)
        self.stores = {name: store.copy(self.time) for name, store in stores.items()}
        self.faults, self.crashes, self.jumps = scenario.faults, scenario.crashes, scenario.jumps
        self.seen: dict[str, bytes] = {}
        self.log = []
        self.actors = {
            name: Actor(name, run, self, scenario.skews.get(name, 0.0)) for name, run in scenario.runs.items()
        }

    def choices(self) -> list[Choice]:
        """Everything that can happen next."""
        found: list[Choice] = []
        alive = [actor for actor in self.actors.values() if not actor.is_over]
        for actor in alive:
            if not actor.can_go():
                continue
            found.append(("go", actor.name, "ok"))
            if self.faults and actor.at.startswith("send"):
                found += [("go", actor.name, outcome) for outcome in self._outcomes(actor)]
        if not alive:
            return []
        if self.crashes:
            # Never to be chosen again is as good as dead, and is among the schedules already. Only
            # what leans on time and stands before its request holds time back: it must be able to
            # die there.
            found += [("crash", actor.name) for actor in alive if self._is_sending_timed(actor)]
        found += [("leap", actor.name) for actor in alive if actor.leap]
        found += [("land", str(index)) for index in range(len(self.remote.late))]
        return found + self._times(alive)

    def do(self, choice: Choice) -> None:
        what, *more = choice
        self.log.append(" ".join(choice[:2]))
        if what == "go":
            name, outcome = more
            self.log[-1] = f"{name}: {self.actors[name].at}" + (f": {outcome}" if outcome != "ok" else "")
            self.faults -= outcome != "ok"
            self.actors[name].go(outcome)
        elif what == "crash":
            self.crashes -= 1
            self.actors[more[0]].kill()
        elif what == "leap":
            self.actors[more[0]].set_clock()
        elif what == "land":
            self.remote.land(int(more[0]), self.time.seconds)
        elif what == "jump":
            self.jumps -= 1
            self._pass(self.time.seconds + PAST_LEASE)
        else:
            now = self.time.seconds
            self._pass(
                min(
                    a.wakes_at
                    for a in self.actors.values()
                    if a.at == "sleep" and not a.is_over and a.wakes_at > now
                )
            )

    def key(self) -> int:
        """A fingerprint of all that the future depends on."""
        actors = tuple((a.name, a.at, a.is_over, a.wakes_at, a.history) for a in self.actors.values())
        budgets = (self.faults, self.crashes, self.jumps, self.time.seconds)
        return hash((self.fingerprint(), actors, budgets, tuple(self.remote.late)))

    def fingerprint(self) -> int:
        """The same of store and remote alone."""
        return hash(self.held())

    def check(self) -> None:
        """Hold the truth against the promises."""
        check_promises(self.store.content, self.remote)
        for key, data in self.seen.items():
            if self.store.content.get(key) != data:
                raise Violation(f"REWRITTEN: {key}")
        self.seen = written_once(self.store.content)
        for actor in self.actors.values():
            if actor.error:
                raise Violation(f"{actor.name} raised {actor.error!r}") from actor.error
            if actor.report and actor.report.status in ("completed", "no_resume_needed"):
                require(f"{SESSION}/writeback.json" in self.store.content, "FINAL_TOO_EARLY: it was reported")

    def end(self) -> None:
        for actor in self.actors.values():
            actor.kill()


@dataclass
class Coverage:
    """What an exploration saw."""

    states: int = 0
    executions: int = 0
    steps: int = 0
    recoveries: int = 0
    interleavings: int = 0

    def __str__(self) -> str:
        return (
            f"{self.states} states, {self.executions} executions, {self.steps} steps, {self.recoveries}"
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
    pending: list[list[Choice]] = [[]]
    while pending:
        schedule = pending.pop()
        coverage.executions += 1
        world = World(scenario)
        try:
            before = None
            for position, choice in enumerate(schedule):
                if position == len(schedule) - 1:
                    before = world.key()
                world.do(choice)
                coverage.steps += 1
            while True:
                key = world.key()
                if before is not None:
                    children[before].append(key)
                if key in children:
                    break
                children[key] = []
                world.check()
                if world.fingerprint() not in recovered:
                    recovered.add(world.fingerprint())
                    world.check_recovery()
                choices = world.choices()
                if not choices:
                    break
                pending += [[*schedule, other] for other in choices[1:]]
                schedule = [*schedule, choices[0]]
                before = key
                world.do(choices[0])
                coverage.steps += 1
        except Violation as violation:
            raise Violation("\n    ".join([str(violation), *world.log])) from violation
        finally:
            world.end()
    coverage.states = len(children)
    coverage.recoveries = len(recovered)
    coverage.interleavings = _paths(children)
    return coverage
