"""A session as one transaction: all of it takes effect, or none, whatever is lost on the way."""

import json

import pytest

from tests.support.remotes import (
    ALL,
    Meets,
    Remote,
    RemoteAdapter,
    TransactionalRemoteAdapter,
    operations,
)
from writeahead import Receipt, RunPolicy, resume_session, write_back
from writeahead.errors import InvalidInput, PlanConflict
from writeahead.model import BlockReason, RunStatus, idempotency_key
from writeahead.protocol.encoding import digest_of
from writeahead.protocol.unblocking import unblock_session
from writeahead.report.page import read_page
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock


class World:
    def __init__(self, *meets):
        self.store = MemoryStore()
        self.remote = Remote(script={ALL: list(meets)})
        self.adapter = TransactionalRemoteAdapter(self.remote)
        self.clock = ManualClock()

    def run(self, *kinds, atomic=True, **more):
        means = {
            "store": self.store,
            "adapter": self.adapter,
            "clock": self.clock,
            "policy": RunPolicy(attempts=2),
        }
        return write_back(operations(*kinds), session_id="s", atomic=atomic, **means | more)

    def resume(self, adapter=None):
        return resume_session("s", store=self.store, adapter=adapter or self.adapter, clock=self.clock)

    def json(self, key):
        return json.loads(self.store.get(key).data)

    def effects(self, *ids):
        return [self.remote.count(idempotency_key("s", one)) for one in ids]


IDS = ("1-create", "2-update", "3-upsert")
KINDS = ("create", "update", "upsert")


def test_all_operations_are_sent_as_one_with_a_receipt_each():
    world = World()
    report = world.run(*KINDS)
    assert report.status is RunStatus.COMPLETED
    assert report.emitted == IDS
    assert world.remote.requests == [ALL]
    assert world.effects(*IDS) == [1, 1, 1]
    assert world.json("s/planned-writeback.json")["atomic"] is True
    final = world.json("s/writeback.json")["operations"]
    assert [item["receipt"]["remote_id"] for item in final] == [idempotency_key("s", one) for one in IDS]
    assert [info.key for info in world.store.list()] == ["s/planned-writeback.json", "s/writeback.json"]


@pytest.mark.parametrize("meets", [Meets.LOST_REPLY, Meets.LOST_REQUEST, Meets.UNAVAILABLE], ids=str)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_it_is_repeated_and_resumed_as_a_whole(meets, times):
    world = World(*[meets] * times)
    report = world.run(*KINDS)
    if times > 1:
        assert report.status is RunStatus.RESUME_NEEDED
        assert report.receipts == {}
        report = world.resume()
    assert report.status is RunStatus.COMPLETED
    assert set(world.remote.requests) == {ALL}
    assert world.effects(*IDS) == [1, 1, 1]


@pytest.mark.parametrize(
    ("meets", "reason"),
    [(Meets.REJECTED, BlockReason.REJECTED), (Meets.CONFLICT, BlockReason.CONFLICT_DETECTED)],
    ids=str,
)
def test_a_refusal_blocks_it_as_a_whole(meets, reason):
    world = World(meets)
    report = world.run(*KINDS)
    assert (report.status, report.block_reason, report.receipts) == (RunStatus.BLOCKED, reason, {})
    assert report.operation is None
    assert world.effects(*IDS) == [0, 0, 0]


def test_an_interrupted_transaction_is_left_to_be_resumed():
    world = World(Meets.INTERRUPT)
    with pytest.raises(KeyboardInterrupt):
        world.run(*KINDS)
    entry = world.json("s/journal/000001.json")
    assert (entry["status"], sorted(entry["attempted"])) == ("resume_needed", sorted(IDS))
    assert "operation" not in entry
    assert world.resume().status is RunStatus.COMPLETED
    assert world.effects(*IDS) == [1, 1, 1]


def test_an_adapter_without_transactions_is_refused():
    world = World()
    world.adapter = RemoteAdapter(world.remote)
    with pytest.raises(InvalidInput, match="adapter 'remote' has no transactions"):
        world.run(*KINDS)
    assert list(world.store.list()) == []


@pytest.mark.parametrize("kind", ["lookup", "mail"])
def test_an_unprovable_class_in_a_transaction_is_refused(kind):
    world = World()
    with pytest.raises(InvalidInput, match=f"operation 2-{kind} is of class"):
        world.run("create", kind)
    assert list(world.store.list()) == []


def test_a_transaction_is_never_resumed_in_parts():
    world = World(*[Meets.LOST_REQUEST] * 2)
    world.run(*KINDS)
    with pytest.raises(InvalidInput, match="has no transactions"):
        world.resume(RemoteAdapter(world.remote))
    assert world.remote.requests == [ALL, ALL]


def test_a_transaction_is_known_again_by_later_versions():
    """What digests are made of is part of the format: a repeat must know its own session."""
    world = World()
    world.run(*KINDS)
    plan = world.json("s/planned-writeback.json")
    names = ("id", "kind", "key", "payload")
    asked = [
        {"session_id": "s"} | {name: operation[name] for name in names} for operation in plan["operations"]
    ]
    assert plan["request_digest"] == digest_of({"atomic": asked})


@pytest.mark.parametrize(
    ("planned", "difference"),
    [(True, "with atomic, unlike this request"), (False, "without atomic, unlike this request")],
)
@pytest.mark.parametrize("completed", [True, False])
def test_a_transaction_is_another_request_than_its_parts(planned, difference, completed):
    world = World(*[] if completed else [Meets.UNAVAILABLE] * 2)
    world.remote.script["1-create"] = [] if completed else [Meets.UNAVAILABLE] * 2
    world.run(*KINDS, atomic=planned)
    before = {info.key for info in world.store.list()}
    with pytest.raises(PlanConflict, match=rf"(completed|a plan) {difference}"):
        world.run(*KINDS, atomic=not planned)
    assert {info.key for info in world.store.list()} == before
    repeat = RunStatus.NO_RESUME_NEEDED if completed else RunStatus.COMPLETED
    assert world.run(*KINDS, atomic=planned).status is repeat


def test_an_operator_assumes_the_same_of_the_whole_transaction():
    world = World(Meets.REJECTED)
    world.run(*KINDS)
    for assume in (
        {"1-create": "applied"},
        {"1-create": "applied", "2-update": "applied", "3-upsert": "not-applied"},
    ):
        with pytest.raises(
            InvalidInput,
            match=r"^it is one transaction: assume the same of each of its operations, or nothing$",
        ):
            unblock_session("s", store=world.store, reason="looked", assume=assume, clock=world.clock)
    everything = dict.fromkeys(IDS, "applied")
    unblock_session("s", store=world.store, reason="looked", assume=everything, clock=world.clock)
    assert world.resume().status is RunStatus.COMPLETED
    assert world.remote.requests == [ALL]


def test_too_few_receipts_of_a_transaction_are_an_adapter_bug():
    world = World()
    world.adapter.transact = lambda operations: [Receipt()]
    with pytest.raises(TypeError, match="returned no Receipt for 1-create, 2-update, 3-upsert"):
        world.run(*KINDS)
    assert world.json("s/journal/000001.json")["receipts"] == {}


def test_a_plan_that_is_no_transaction_does_not_speak_of_them():
    world = World()
    world.run(*KINDS, atomic=False)
    plan = world.json("s/planned-writeback.json")
    assert "atomic" not in plan
    assert "warnings" not in plan["operations"][0]
    assert world.remote.requests == list(IDS)


class WarningAdapter(TransactionalRemoteAdapter):
    def plan(self, operations):
        planned = super().plan(operations)
        return [planned[0].model_copy(update={"warnings": ("the owner is disabled",)}), *planned[1:]]


@pytest.mark.parametrize("dry_run", [True, False])
def test_planning_warnings_are_in_the_plan_and_every_report(dry_run):
    world = World(*[Meets.UNAVAILABLE] * 2)
    world.adapter = WarningAdapter(world.remote)
    report = world.run(*KINDS, dry_run=dry_run)
    assert report.warnings == ("1-create: the owner is disabled",)
    key = ".dry-run/s/planned-writeback.json" if dry_run else "s/planned-writeback.json"
    assert world.json(key)["operations"][0]["warnings"] == ["the owner is disabled"]
    if not dry_run:
        page = read_page(world.store, "s", now=world.clock.now(), clock_skew=0)
        assert page.warnings == world.resume().warnings == ("1-create: the owner is disabled",)
        assert page.atomic
