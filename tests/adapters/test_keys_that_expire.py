"""A service that keeps the first answer of a key for 24 hours, from the plan to the last resume."""

import pytest

from tests.support.keyed_service import Charge, Charges, KeyedService
from tests.support.worlds import World
from writeahead import Operation, PlannedOperation, Receipt, RunPolicy, emits
from writeahead.errors import InvalidInput
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.unblocking import unblock_session
from writeahead.stores.memory import MemoryStore

DAY = 24 * 3600
CHARGE = [Operation(kind="charge", payload={"amount": 100})]


@pytest.fixture
def world():
    world = World(RunPolicy(attempts=1, wait_initial=1))
    world.service = KeyedService(world.clock)
    world.adapter = Charges(world.service)
    return world


def run(world, *meets, operations=CHARGE):
    world.service.meets = list(meets)
    return world.run_operations(operations)


def resume(world, seconds):
    world.clock.advance(seconds)
    world.service.requests.clear()
    return world.resume()


def outcome(report):
    return report.receipts["1-charge"].remote_id, report.receipts["1-charge"].outcome


def test_a_lost_reply_is_replayed_while_the_key_lives(world):
    assert run(world, "lost reply").status is RunStatus.RESUME_NEEDED
    assert outcome(resume(world, 3600)) == ("ch_1", "applied")
    assert (world.service.requests, len(world.service.charges)) == (["POST"], 1)


def test_a_lost_reply_is_searched_once_the_key_is_forgotten(world):
    run(world, "lost reply")
    assert outcome(resume(world, DAY)) == ("ch_1", "already_applied")
    assert (world.service.requests, len(world.service.charges)) == (["GET"], 1)


def test_a_lost_request_is_sent_once_the_search_has_found_nothing(world):
    run(world, "lost request")
    assert outcome(resume(world, DAY)) == ("ch_1", "applied")
    assert (world.service.requests, len(world.service.charges)) == (["GET", "POST"], 1)


class KeysForEver(Charges):
    """Believes that a key is remembered as long as the charge is there."""

    @emits("create_with_key")
    def emit_charge(self, payload: Charge, operation: PlannedOperation) -> Receipt:
        return super().emit_charge(payload, operation)


def test_a_key_that_is_believed_for_ever_charges_twice(world):
    """What the declaration is for: without it this is said to be completed."""
    world.adapter = KeysForEver(world.service)
    run(world, "lost reply")
    assert resume(world, DAY).ok
    assert len(world.service.charges) == 2


def test_a_sure_failure_needs_no_search(world):
    run(world, "429")
    assert outcome(resume(world, 2 * DAY)) == ("ch_1", "applied")
    assert world.service.requests == ["POST"]


def test_a_500_that_comes_again_for_ever_needs_a_new_key(world):
    assert run(world, "500").status is RunStatus.RESUME_NEEDED
    report = resume(world, 60)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert "it needs a new key" in report.error
    means = {"store": world.store, "clock": world.clock, "reason": "searched"}
    with pytest.raises(InvalidInput, match="may have been sent"):
        unblock_session("s1", new_keys=["1-charge"], **means)
    unblock_session("s1", new_keys=["1-charge"], assume={"1-charge": "not-applied"}, **means)
    report = resume(world, 60)
    assert outcome(report) == ("ch_1", "applied")
    assert report.receipts["1-charge"].generation == 1
    assert len(world.service.charges) == 1


def test_the_same_key_after_an_unblock_meets_the_same_500(world):
    run(world, "500")
    resume(world, 60)
    means = {"store": world.store, "clock": world.clock, "reason": "searched"}
    unblock_session("s1", assume={"1-charge": "not-applied"}, **means)
    assert resume(world, 60).block_reason is BlockReason.REJECTED
    assert world.service.charges == []


def test_a_500_that_was_charged_is_found(world):
    run(world, "500, charged")
    assert outcome(resume(world, 60)) == ("ch_1", "already_applied")
    assert len(world.service.charges) == 1


@pytest.mark.parametrize(("amount", "ok"), [(100, True), (200, False)])
def test_the_same_id_with_an_empty_store(world, amount, ok):
    run(world)
    world.store = MemoryStore()
    report = run(world, operations=[Operation(kind="charge", payload={"amount": amount})])
    assert report.ok is ok
    assert report.block_reason is (None if ok else BlockReason.CONFLICT_DETECTED)
    assert [charge["amount"] for charge in world.service.charges] == [100]


def test_a_silent_owner_may_have_charged(world):
    run(world, "lost reply")
    # As a process leaves it that was killed before it could say how its request ended.
    for info in list(world.store.list("s1/journal/")):
        world.store.delete(info.key)
    assert outcome(resume(world, DAY)) == ("ch_1", "already_applied")
    assert len(world.service.charges) == 1
