"""Every reachable state of the model keeps every promise; each planted bug breaks the named one.

The figures are printed at the end. With ``WRITEAHEAD_DEPTH=2`` more orders are explored, and more
runs at once. No code of the package is tried here: what a change of the code breaks, the tests of
tests/protocol find, and each bug that is planted into the model is found at any depth.
"""

import os
from itertools import permutations

import pytest

from tests.support.protocol_model import (
    ALL_CLASSES,
    CONDITIONAL,
    CREATE,
    LOOKUP,
    ROWS,
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
# How many runs other than the first may be alive at once.
RUNS = min(DEPTH, 2)
SLOW = pytest.mark.skipif(DEPTH == 1, reason="takes seconds: WRITEAHEAD_DEPTH=2 runs it")
HARD = (UNPROVABLE, LOOKUP, CREATE)
ORDERS = [HARD, (LOOKUP, CREATE, UNPROVABLE), *(list(permutations(ALL_CLASSES)) if DEPTH > 1 else [])]


def completed(state: State) -> bool:
    return state.final or state.plan != "present"


def shown(seen: Exploration) -> str:
    return "\n".join(f"{broken.value}:\n    " + "\n    ".join(way) for broken, way in seen.found.items())


@pytest.mark.timeout(600)
def test_many_resumers_and_five_operations_keep_every_promise():
    seen = explore(Model(ALL_CLASSES, resumers=3 if DEPTH > 1 else 2))
    print(f"{seen.states} states, {seen.steps} steps; any number of crashes and lost replies")
    assert not seen.found, shown(seen)
    assert seen.dead_end(completed) is None, "no person could ever bring this session to its end"
    assert seen.states > 10_000, "the model has lost its moving parts"


@pytest.mark.parametrize("interval", [False, True], ids=["at-once", "interval"])
@pytest.mark.parametrize("operations", ORDERS, ids="-".join)
def test_every_order_with_and_without_an_interval_keeps_every_promise(operations, interval):
    seen = explore(Model(operations, resumers=1, interval=interval))
    print(f"{seen.states} states, {seen.steps} steps")
    assert not seen.found, shown(seen)
    assert seen.dead_end(completed) is None


# Each freedom that an operator, a repeat or a remote may take, with operations that it matters to.
FREEDOMS = {
    "a new run in a tombstone's place": [Model((one,), RUNS, newcomers=1) for one in (UNPROVABLE, LOOKUP)],
    "new runs beside a tombstone": [Model((UNPROVABLE, LOOKUP), RUNS, newcomers=2, write_once=True)],
    "abandoning": [Model((UNPROVABLE, LOOKUP), RUNS, abandons=True)],
    "an early takeover": [
        Model((UNPROVABLE, LOOKUP), RUNS, takes_over=True),
        Model((CREATE, LOOKUP), RUNS, takes_over=True, interval=True),
    ],
    "a long wait": [Model((UNPROVABLE, LOOKUP), RUNS, waits=True)],
    "upserts of a row": [
        Model(ROWS, RUNS),
        Model(ROWS, RUNS, takes_over=True, interval=True, abandons=DEPTH > 1),
    ],
    "all of them": [
        Model((UNPROVABLE,), RUNS, newcomers=1, abandons=True, takes_over=True, waits=True),
        Model((LOOKUP,), RUNS, newcomers=1, abandons=True, takes_over=True),
    ],
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("freedom", FREEDOMS)
def test_every_freedom_keeps_every_promise(freedom):
    for model in FREEDOMS[freedom]:
        seen = explore(model)
        print(f"{'-'.join(model.operations)}: {seen.states} states, {seen.steps} steps")
        assert not seen.found, shown(seen)
        ended = seen.dead_end(lambda state: completed(state) or state.entry.kind == "abandoned")
        assert ended is None, ended


@pytest.mark.parametrize(
    "model",
    [
        Model((UNPROVABLE,), RUNS, newcomers=1, undeletes=True),
        Model((LOOKUP, CREATE), 1, abandons=True, takes_over=True, undeletes=True),
    ],
    ids=["tombstone", "abandoning"],
)
def test_a_delete_that_is_undone_breaks_no_promise(model):
    seen = explore(model)
    print(f"{seen.states} states, {seen.steps} steps")
    assert not seen.found, shown(seen)
    # Whatever came back goes again, once the session has its end.
    assert not [
        state
        for state in seen.numbers
        if state.final and not state.owners and (state.open or state.blocked) and not any(model._start(state))
    ]
    assert seen.dead_end(completed) is None or model.abandons


def test_a_session_with_a_tombstone_can_be_completed():
    """An id whose run died before its plan works again, whatever dies on the way."""
    for model in FREEDOMS["a new run in a tombstone's place"]:
        assert explore(model).dead_end(lambda state: state.final) is None


def test_a_late_final_of_an_abandoned_session_dominates():
    seen = explore(Model((CREATE,), resumers=1, abandons=True))
    both = [state for state in seen.numbers if state.final and state.entry.kind == "abandoned"]
    assert both
    assert all(1 in state.effects for state in both)
    # Whatever is left of its markers, a sweep finds and removes.
    assert seen.dead_end(lambda state: not (state.open or state.blocked)) is None


@pytest.mark.parametrize("operations", [(UNPROVABLE,), (LOOKUP,)], ids="-".join)
def test_a_delete_without_a_claim_loses_a_plan(operations):
    """Why a new run in a tombstone's place claims the session before it deletes the tombstone."""
    seen = explore(Model(operations, resumers=2, newcomers=2), until=Broken.PLAN_LOST)
    assert Broken.PLAN_LOST in seen.found, shown(seen)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("operations", "more"),
    [
        pytest.param((LOOKUP, UNPROVABLE), {}, marks=SLOW),
        ((UNPROVABLE, CREATE), {}),
        ((UNPROVABLE,), {"newcomers": 1, "waits": True}),
        pytest.param((LOOKUP,), {"abandons": True, "takes_over": True}, marks=SLOW),
        pytest.param(ROWS, {"takes_over": True, "interval": True}, marks=SLOW),
    ],
    ids=["lookup", "unprovable", "newcomers", "early", "rows"],
)
def test_leaving_out_idle_owners_loses_no_state(operations, more):
    def visible(merged: bool) -> set[tuple[object, ...]]:
        seen = explore(Model(operations, resumers=1, merged=merged, **more))
        print(f"merged={merged}: {seen.states} states")
        return {
            (s.plan, s.entry, s.final, s.open, s.blocked, s.effects, s.late_lookup, s.late_unprovable, s.row)
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


ABANDONS, TAKES_OVER, WAITS = {"abandons": True}, {"takes_over": True}, {"waits": True}


@pytest.mark.parametrize(
    ("bug", "operations", "more", "broken"),
    [
        (Bug.OPEN_MARKS_AGAIN, (CREATE,), {"newcomers": 1}, Broken.HIDDEN),
        (Bug.SWEEP_TAKES_BLOCKED, (CREATE,), {"newcomers": 1}, Broken.HIDDEN),
        (Bug.SWEEP_TAKES_BLOCKED, (CREATE,), {"newcomers": 2, "write_once": True}, Broken.HIDDEN),
        (Bug.OPEN_MARKS_AGAIN, (CREATE,), {"newcomers": 2, "write_once": True}, Broken.HIDDEN),
        (Bug.ABANDON_WITHOUT_FENCE, (UNPROVABLE,), ABANDONS, Broken.RESURRECTED),
        (Bug.ABANDON_WITHOUT_FENCE, (UNPROVABLE,), ABANDONS, Broken.SENT_AFTER_END),
        (Bug.ABANDON_FORGETS, (UNPROVABLE,), ABANDONS, Broken.SENT_AFTER_END),
        (Bug.ABANDONED_IS_RESUMED, (UNPROVABLE,), ABANDONS, Broken.RESURRECTED),
        (Bug.TAKEOVER_FORGETS, (UNPROVABLE,), TAKES_OVER, Broken.DOUBLED_UNPROVABLE),
        (Bug.TAKEOVER_FORGETS, (LOOKUP,), TAKES_OVER, Broken.DOUBLED_LOOKUP),
        (Bug.TAKEOVER_IS_SILENT, (LOOKUP,), TAKES_OVER, Broken.DOUBLED_LOOKUP),
        (Bug.NEWEST_LEASE_ONLY, (LOOKUP,), TAKES_OVER, Broken.DOUBLED_LOOKUP),
        (Bug.NEWEST_LEASE_ONLY, ROWS, TAKES_OVER, Broken.STALE_ROW),
        (Bug.NO_WAITING_ENTRY, (UNPROVABLE,), WAITS, Broken.NEEDLESS_QUESTION),
        (Bug.WAITS_AFTER_UNKNOWN, (UNPROVABLE,), WAITS, Broken.DOUBLED_UNPROVABLE),
        (Bug.RECEIPT_SETTLES, ROWS, {}, Broken.STALE_ROW),
        (Bug.SILENCE_SETTLES, ROWS, {}, Broken.STALE_ROW),
        (Bug.OVERWRITES_UNRECORDED, ROWS, {"interval": True}, Broken.STALE_ROW),
        (Bug.OVERWRITES_UNRECORDED, (CREATE, UPSERT), {"interval": True}, Broken.OUT_OF_ORDER),
        (Bug.OVERWRITES_UNRECORDED, (UPSERT, CONDITIONAL, CREATE), {"interval": True}, Broken.OUT_OF_ORDER),
        (Bug.ONCE_RECEIPT_WAITS, (UNPROVABLE, CREATE), {"interval": True}, Broken.NEEDLESS_QUESTION),
        (Bug.ONCE_RECEIPT_WAITS, (LOOKUP, CREATE), {"interval": True}, Broken.NEEDLESS_QUESTION),
    ],
)
def test_a_planted_bug_in_a_freedom_is_found(bug, operations, more, broken):
    seen = explore(Model(operations, resumers=2, bug=bug, **more), until=broken)
    assert broken in seen.found, f"{bug.value}: exploration found nothing in {seen.states} states"
    print(f"{bug.value} => {broken.value}, {seen.states} states:", *seen.found[broken], sep="\n    ")


def test_without_settles_after_a_late_upsert_leaves_an_old_value():
    """The documented gap: nothing else is lost by it."""
    seen = explore(Model(ROWS, resumers=1, bug=Bug.NO_SETTLING))
    assert set(seen.found) == {Broken.STALE_ROW}, shown(seen)


def planted(test) -> set[Bug]:
    mark = next(mark for mark in test.pytestmark if mark.name == "parametrize")
    return {bug for bug, *_ in mark.args[1]}


def test_every_planted_bug_is_caught():
    caught = planted(test_a_planted_bug_breaks_the_promise_that_it_is_about)
    caught |= planted(test_a_planted_bug_in_a_freedom_is_found)
    assert caught == set(Bug) - {Bug.ANNOUNCES_ONCE, Bug.NO_SETTLING}


@pytest.mark.parametrize("bug", [Bug.NO_LEASE, pytest.param(Bug.NO_OWN_CHECK, marks=SLOW)])
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
