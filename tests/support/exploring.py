"""Visit every schedule of a scenario; two that lead to the same state are one from there on."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.schedules import Choice, Scenario, World
from tests.support.stepping import Violation

__all__ = ["Coverage", "explore", "steered"]


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
    first = scenario.world(scenario)
    try:
        if scenario.lead:
            first.steer(*scenario.lead)
        pending = [(first.key(), first)]
        _look(first, recovered)
        children[first.key()] = []
        while pending:
            before, world = pending.pop()
            for choice in world.choices():
                after = world.copy()
                _do(after, choice)
                coverage.steps += 1
                key = after.key()
                children[before].append(key)
                if key not in children:
                    children[key] = []
                    _look(after, recovered)
                    pending.append((key, after))
    finally:
        first.end()
    coverage.states = len(children)
    coverage.runs = sum(actor.course.runs for actor in first.actors.values())
    coverage.recoveries = len(recovered)
    coverage.interleavings = _paths(children)
    return coverage


def _do(world: World, choice: Choice) -> None:
    try:
        world.do(choice)
    except Violation as violation:
        raise _with_schedule(violation, world) from violation


def _look(world: World, recovered: set[int]) -> None:
    """Hold a state against the promises; from a new store and remote, the session is finished."""
    try:
        world.check()
        if world.fingerprint() not in recovered:
            recovered.add(world.fingerprint())
            world.check_recovery()
    except Violation as violation:
        raise _with_schedule(violation, world) from violation


def _with_schedule(violation: Violation, world: World) -> Violation:
    return Violation("\n    ".join([str(violation), *world.log]))


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


@contextmanager
def steered(scenario: Scenario) -> Iterator[World]:
    """A world whose one schedule the caller chooses."""
    world = scenario.world(scenario)
    try:
        yield world
    except Violation as violation:
        raise _with_schedule(violation, world) from violation
    finally:
        world.end()
