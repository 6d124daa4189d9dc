"""Which scenarios are played: every exchange with every fault, kills at local steps, and pairs."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from benchmarks.lost_reply.driver import Fault, Outcome, Scenario, Stage, Start
from benchmarks.lost_reply.remote import EDITS, FAULTS, SETUPS

# Steps of peers take the longest; a third of them is enough where there are many.
MOST_LOCAL_STEPS = 40

Played = tuple[Scenario, Outcome]


def of_a_peer(stage: Stage) -> Iterator[Played]:
    """Every exchange with every fault: on each set-up, and on one of them with each edit of others.

    An edit concerns the deal alone, and the set-up the create alone. Then kills at local steps.
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
            start = stage.begin(scenario)
            yield from at_exchanges(stage, scenario, start)
            yield from at_local_steps(stage, scenario, start=start)


def at_exchanges(stage: Stage, base: Scenario, start: Start | None = None) -> Iterator[Played]:
    """Every fault at each exchange of a run; of the first recovery, if there is a start."""
    for exchange in itertools.count(1):
        faults = [Fault(exchange, name) for name in FAULTS]
        met = [played for fault in faults if (played := _played(stage, base, fault, start))]
        if not met:
            return
        yield from met


def at_local_steps(
    stage: Stage, base: Scenario, most: int | None = None, start: Start | None = None
) -> Iterator[Played]:
    """A kill at each local step of the same; at about ``most`` of them, if that is given."""
    steps = 0 if most is None else stage.play(base).steps
    stride = max(1, -(-steps // most)) if most else 1
    for step in itertools.count(1, stride):
        played = _played(stage, base, Fault(step=step), start)
        if played is None:
            return
        yield played


def _played(stage: Stage, base: Scenario, fault: Fault, start: Start | None) -> Played | None:
    """Play a scenario with one fault more; None if not all of its faults happened."""
    scenario = replace(base, first=fault) if start is None else replace(base, second=fault)
    outcome = stage.play(scenario, start)
    return (scenario, outcome) if outcome.was_met else None
