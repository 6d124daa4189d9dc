"""Which scenarios are played: every exchange with every fault, kills at local steps, and pairs."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.lost_reply.driver import Fault, Outcome, Scenario, Stage
from benchmarks.lost_reply.remote import EDITS, FAULTS, SETUPS

# Steps of peers take the longest; a third of them is enough where there are many.
MOST_LOCAL_STEPS = 40

Played = tuple[Scenario, Outcome]


def of_a_peer(stage: Stage) -> Iterator[Played]:
    """Every exchange with every fault on each set-up; with each edit, and kills at local steps, on one.

    An edit of others concerns the deal alone, and the set-up the create alone.
    """
    for setup in SETUPS:
        yield from at_exchanges(stage, Scenario(setup))
    for edit in EDITS[1:]:
        yield from at_exchanges(stage, Scenario(SETUPS[0], edit))
    yield from at_local_steps(stage, Scenario(SETUPS[0]), MOST_LOCAL_STEPS)


def of_pairs(stage: Stage, base: Scenario) -> Iterator[Played]:
    """Each fault and local kill of a run with each of its first recovery."""
    singles = [*at_exchanges(stage, base), *at_local_steps(stage, base)]
    yield from singles
    for scenario, outcome in singles:
        if outcome.rounds:
            yield from at_exchanges(stage, scenario, of_second=True)
            yield from at_local_steps(stage, scenario, of_second=True)


def at_exchanges(stage: Stage, base: Scenario, *, of_second: bool = False) -> Iterator[Played]:
    """Every fault at each exchange of a run, or of the recovery of a scenario."""
    for exchange in itertools.count(1):
        met = [
            played
            for fault in FAULTS
            if (played := _played(stage, base, Fault(exchange, fault), of_second=of_second))
        ]
        if not met:
            return
        yield from met


def at_local_steps(
    stage: Stage, base: Scenario, most: int | None = None, *, of_second: bool = False
) -> Iterator[Played]:
    """A kill at each local step of a run, or of the recovery of a scenario; about ``most`` of them."""
    steps = 0 if most is None else stage.play(base).steps
    stride = max(1, -(-steps // most)) if most else 1
    for step in itertools.count(1, stride):
        played = _played(stage, base, Fault(step=step), of_second=of_second)
        if played is None:
            return
        yield played


def _played(stage: Stage, base: Scenario, fault: Fault, *, of_second: bool) -> Played | None:
    """Play a scenario with one fault more; None if not all of its faults happened."""
    scenario = replace(base, **{"second" if of_second else "first": fault})
    outcome = stage.play(scenario)
    return (scenario, outcome) if outcome.was_met else None
