"""Every reachable state of the model keeps every promise; each planted bug breaks the named one.

The figures are printed at the end. With ``WRITEAHEAD_DEPTH=2`` more orders are explored.
"""

import os
from itertools import permutations

import pytest

from tests.support.protocol_model import (
    ALL_CLASSES,
    CONDITIONAL,
    CREATE,
    LOOKUP,
    UNPROVABLE,
    UPSERT,
    Broken,
    Bug,
    Exploration,
    Model,
    State,
    explore,
)

DEPTH = int(os.environ.get("WRITEAHEAD_DEPTH", "1"))
HARD = (UNPROVABLE, LOOKUP, CREATE)
ORDERS = [HARD, (LOOKUP, CREATE, UNPROVABLE), *(list(permutations(ALL_CLASSES)) if DEPTH > 1 else [])]


def completed(state: State) -> bool:
    return state.final or state.plan != "present"


def shown(seen: Exploration) -> str:
    return "\n".join(f"{broken.value}:\n    " + "\n    ".join(way) for broken, way in seen.found.items())


@pytest.mark.timeout(600)
def test_three_resumers_and_five_operations_keep_every_promise():
    seen = explore(Model(ALL_CLASSES, resumers=3))
    print(f"{seen.states} states, {seen.steps} steps; any number of crashes and lost replies")
    assert not seen.found, shown(seen)
    assert seen.dead_end(completed) is None, "no person could ever bring this session to its end"
    assert seen.states > 10_000, "the model has lost its moving parts"


@pytest.mark.parametrize("batched", [False, True], ids=["every", "batched"])
@pytest.mark.parametrize("operations", ORDERS, ids="-".join)
def test_every_order_and_both_journal_modes_keep_every_promise(operations, batched):
    seen = explore(Model(operations, resumers=1, batched=batched))
    print(f"{seen.states} states, {seen.steps} steps")
    assert not seen.found, shown(seen)
    assert seen.dead_end(completed) is None


@pytest.mark.parametrize("operations", [(LOOKUP, UNPROVABLE), (UNPROVABLE, CREATE)], ids="-".join)
def test_leaving_out_idle_owners_loses_no_state(operations):
    def visible(merged: bool) -> set[tuple[object, ...]]:
        seen = explore(Model(operations, resumers=1, merged=merged))
        print(f"merged={merged}: {seen.states} states")
        return {
            (s.plan, s.entry, s.final, s.open, s.blocked, s.effects, s.late_lookup, s.late_unprovable)
            for s in seen.numbers
        }

    assert visible(merged=True) == visible(merged=False)


@pytest.mark.parametrize(
    ("bug", "operations", "broken"),
    [
        (Bug.NO_FENCING, (UNPROVABLE,), Broken.DOUBLED_UNPROVABLE),
        (Bug.NO_FENCING, (LOOKUP,), Broken.DOUBLED_LOOKUP),
        (Bug.NO_FENCING, (CREATE, UPSERT), Broken.REWRITTEN),
        (Bug.PLAN_AFTER_FIRST_EMIT, HARD, Broken.UNPLANNED_EFFECT),
        (Bug.PLAN_AFTER_FIRST_EMIT, HARD, Broken.DOUBLED_UNPROVABLE),
        (Bug.FINAL_BEFORE_LAST_RECEIPT, HARD, Broken.FINAL_TOO_EARLY),
        (Bug.MARKER_BEFORE_FINAL, HARD, Broken.HIDDEN),
        (Bug.NO_READ_BACK, HARD, Broken.FALSE_FENCE),
        (Bug.ANY_412_IS_OURS, (UNPROVABLE,), Broken.DOUBLED_UNPROVABLE),
        (Bug.ANY_412_IS_OURS, (LOOKUP,), Broken.DOUBLED_LOOKUP),
        (Bug.NO_LEASE, (LOOKUP, CREATE), Broken.DOUBLED_LOOKUP),
        (Bug.NO_OWN_CHECK, (LOOKUP, CREATE), Broken.DOUBLED_LOOKUP),
        (Bug.NO_ANNOUNCEMENT, HARD, Broken.DOUBLED_UNPROVABLE),
        (Bug.HASTY_SEARCH, HARD, Broken.DOUBLED_LOOKUP),
        (Bug.NO_SUSPICION, HARD, Broken.DOUBLED_LOOKUP),
        (Bug.OPEN_GOES_FIRST, HARD, Broken.HIDDEN),
        (Bug.UNBLOCK_DELETES, HARD, Broken.HIDDEN),
        (Bug.BLOCKS_WITHOUT_REASON, HARD, Broken.SILENT_BLOCK),
        (Bug.NO_TAKEOVER, HARD, Broken.DEAD_END),
        (Bug.NO_KEY, (CREATE, UNPROVABLE), Broken.DOUBLED_KEYED),
        (Bug.NO_KEY, (CONDITIONAL,), Broken.DOUBLED_KEYED),
    ],
)
def test_a_planted_bug_breaks_the_promise_that_it_is_about(bug, operations, broken):
    seen = explore(Model(operations, resumers=1, bug=bug), until=broken)
    assert broken in seen.found, f"{bug.value}: exploration found nothing in {seen.states} states"
    print(f"{bug.value} => {broken.value}:", *seen.found[broken], sep="\n    ")


def test_every_planted_bug_without_clock_jumps_is_caught():
    mark = next(
        mark
        for mark in test_a_planted_bug_breaks_the_promise_that_it_is_about.pytestmark
        if mark.name == "parametrize"
    )
    assert {bug for bug, _, _ in mark.args[1]} == set(Bug) - {Bug.ANNOUNCES_ONCE}


@pytest.mark.parametrize("bug", [Bug.NO_LEASE, Bug.NO_OWN_CHECK])
def test_the_lease_protects_lookups_only(bug):
    seen = explore(Model((LOOKUP, UNPROVABLE), resumers=1, bug=bug))
    assert set(seen.found) == {Broken.DOUBLED_LOOKUP}, shown(seen)
    without = explore(Model((CONDITIONAL, UNPROVABLE), resumers=1, bug=bug))
    assert not without.found, shown(without)


def test_without_fencing_the_remote_protects_keys_and_versions():
    seen = explore(Model((CONDITIONAL,), resumers=1, bug=Bug.NO_FENCING))
    assert set(seen.found) == {Broken.REWRITTEN}, shown(seen)


def test_clock_jumps_can_double_lookups_only():
    safe = explore(Model((CREATE, CONDITIONAL, UNPROVABLE), resumers=1, clock_jumps=True))
    assert not safe.found, shown(safe)
    seen = explore(Model((UNPROVABLE, LOOKUP), resumers=1, clock_jumps=True))
    assert set(seen.found) == {Broken.DOUBLED_LOOKUP}, shown(seen)


def test_clock_jumps_need_an_announcement_of_each_attempt():
    sound = explore(Model((CREATE, UNPROVABLE), resumers=1, bug=Bug.ANNOUNCES_ONCE))
    assert not sound.found, shown(sound)
    seen = explore(Model((CREATE, UNPROVABLE), resumers=1, bug=Bug.ANNOUNCES_ONCE, clock_jumps=True))
    assert set(seen.found) == {Broken.DOUBLED_UNPROVABLE}, shown(seen)


def test_the_one_gap_of_the_protocol_is_known():
    """A pause before sending doubles a lookup; a guess of the operator an unprovable operation."""
    paused = explore(Model(HARD, resumers=1, unbounded_pause=True))
    assert set(paused.found) == {Broken.DOUBLED_LOOKUP}, shown(paused)
    guessed = explore(Model((LOOKUP, UNPROVABLE), resumers=1, hasty_person=True))
    assert set(guessed.found) == {Broken.DOUBLED_UNPROVABLE}, shown(guessed)
