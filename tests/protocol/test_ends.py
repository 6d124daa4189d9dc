"""What a run says, and journals, when it ends early: status, operation, words, and when to come back."""

import threading
from datetime import timedelta

import pytest
from pydantic import BaseModel, model_validator

from tests.support.remotes import Meets
from tests.support.worlds import World
from writeahead import RunPolicy
from writeahead.errors import CorruptArtifact, Unavailable
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.encoding import decode, digest_of, encode, encode_model
from writeahead.protocol.schema import JournalEntry, PlannedWriteback, Writeback


@pytest.fixture
def world():
    return World()


def at(world, seconds):
    return world.clock.start + timedelta(seconds=seconds)


def slow(world, seconds, *, key):
    """Let the put of a key take so long."""
    put = world.store._put

    def slow_put(name, data, *, if_absent):
        found = put(name, data, if_absent=if_absent)
        world.clock.elapsed += seconds if name == key else 0
        return found

    world.store._put = slow_put


def refuse(world, key):
    """Let the store refuse a key."""
    put = world.store._put

    def refusing(name, data, *, if_absent):
        if name == key:
            raise Unavailable(world.store.name, "put", name, "planted")
        return put(name, data, if_absent=if_absent)

    world.store._put = refusing


# Before a request.


@pytest.mark.parametrize(("took", "sends"), [(90, True), (90.5, False)])
def test_nothing_is_sent_in_the_last_tenth_of_a_lease(world, took, sends):
    world.policy = RunPolicy(lease=100)
    slow(world, took, key="s1/planned-writeback.json")
    report = world.run("create")
    if sends:
        assert report.status is RunStatus.COMPLETED
        return
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "the lease is nearly over")
    assert (report.operation, report.not_before) == ("1-create", None)
    assert world.remote.requests == []
    assert world.json("s1/journal/000001.json")["error"] == "the lease is nearly over"


@pytest.mark.parametrize(("took", "sends"), [(2970, True), (2970.5, False)])
def test_of_a_long_lease_half_a_minute_is_enough(world, took, sends):
    world.policy = RunPolicy(lease=3000, run_limit=9000)
    slow(world, took, key="s1/planned-writeback.json")
    assert (world.run("create").status is RunStatus.COMPLETED) is sends


@pytest.mark.parametrize(("limit", "sends"), [(60.5, True), (60, False)])
def test_nothing_is_sent_beyond_the_limit_of_the_run(world, limit, sends):
    world.policy = RunPolicy(run_limit=limit)
    slow(world, 60, key="s1/journal/000001.json")
    report = world.run("create", "update")
    if sends:
        assert report.status is RunStatus.COMPLETED
        return
    assert (report.status, report.error) == (
        RunStatus.RESUME_NEEDED,
        "the limit on the whole run is reached",
    )
    assert report.operation == "2-update"
    assert [item.id for item in report.operations] == ["1-create", "2-update"]
    assert world.remote.requests == ["1-create"]


# Unprovable operations.


def test_an_announcement_names_its_operation(world):
    world.run("create", "mail")
    entry = world.json("s1/journal/000002.json")
    assert (entry["event"], entry["operation"], list(entry["attempted"])) == ("sending", "2-mail", ["2-mail"])


def test_a_stop_between_announcement_and_request_leaves_nothing_unknown(world):
    world.stop = threading.Event()
    put = world.store._put

    def stopping(name, data, *, if_absent):
        if name == "s1/journal/000001.json":
            world.stop.set()
        return put(name, data, if_absent=if_absent)

    world.store._put = stopping
    report = world.run("mail")
    assert (report.status, report.operation) == (RunStatus.RESUME_NEEDED, "1-mail")
    assert world.remote.requests == []
    assert world.json("s1/journal/000002.json")["attempted"] == {}
    world.stop = None
    assert world.resume().status is RunStatus.COMPLETED


def test_an_interrupt_while_waiting_after_a_sure_failure_leaves_nothing_unknown(world):
    world.remote.script["1-mail"] = [Meets.UNAVAILABLE]

    def interrupt(seconds):
        raise KeyboardInterrupt

    world.clock.sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.run("mail")
    entry = world.json("s1/journal/000002.json")
    assert (entry["status"], entry["attempted"], entry["operation"]) == ("resume_needed", {}, "1-mail")
    assert entry["error"] == "stopped by KeyboardInterrupt"


# Searches.


def unknown_lookup(world):
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    policy, world.policy = world.policy, RunPolicy(attempts=1)
    assert world.run("lookup").not_before == at(world, 60)
    world.policy = policy
    world.clock.elapsed = 61


def test_a_search_waits_until_nothing_can_land_any_more(world):
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    assert world.run("lookup").status is RunStatus.COMPLETED
    # The lifetime of a request, and what clocks may be apart.
    assert world.clock.slept == [60, 5]
    assert (world.remote.searches, world.remote.requests) == (["1-lookup"], ["1-lookup"])


@pytest.mark.parametrize(("limit", "waits"), [(4, False), (4.5, True)])
def test_a_search_that_is_too_far_away_is_left_to_the_next_run(world, limit, waits):
    world.policy = RunPolicy(run_limit=limit)
    unknown_lookup(world)
    report = world.resume()
    if waits:
        assert (report.status, world.clock.slept) == (RunStatus.COMPLETED, [4])
        return
    assert (report.status, report.not_before) == (RunStatus.RESUME_NEEDED, at(world, 65))
    assert report.error == "an earlier request could still take effect; it is too early to look for it"
    assert world.remote.searches == []


def test_a_stop_ends_the_wait_for_a_search(world):
    unknown_lookup(world)
    told = []

    class Told:
        def is_set(self):
            return bool(told)

        def wait(self, seconds):
            told.append(seconds)

    world.stop = Told()
    report = world.resume()
    assert (report.status, told, world.clock.slept) == (RunStatus.RESUME_NEEDED, [4], [])
    assert world.remote.searches == []


# Other owners, and stores that fail.


def test_who_is_taken_over_says_so_and_where(world):
    emit = world.adapter.emit

    def taken_over(operation):
        receipt = emit(operation)
        other = encode_model(decode_entry(world))
        world.store.put("s1/journal/000002.json", other, if_absent=True)
        return receipt

    world.run("create", "create", "create", session_id="s0")
    world.adapter.emit = lambda operation: (
        taken_over(operation) if operation.id == "2-create" else emit(operation)
    )
    report = world.run("create", "create", "create")
    assert (report.status, report.operation) == (RunStatus.IN_PROGRESS, "2-create")
    assert "another owner has taken it over (s1/journal/000002.json)" in report.error
    assert len(world.remote.requests) == 3 + 2


def decode_entry(world):
    """What another owner would write next: the newest entry of a session, as number 2."""
    entry = decode(world.store.get("s1/journal/000001.json").data, JournalEntry, key="s1/journal/000001.json")
    return entry.model_copy(update={"number": 2, "owner": "another"})


def test_a_store_that_fails_under_way_is_told_with_the_operation(world):
    refuse(world, "s1/journal/000001.json")
    report = world.run("create", "update")
    assert (report.status, report.operation) == (RunStatus.RESUME_NEEDED, "1-create")
    assert "s1/journal/000001.json" in report.error


def test_a_final_that_can_not_be_put_is_told_in_the_journal(world):
    refuse(world, "s1/writeback.json")
    report = world.run("create")
    assert report.status is RunStatus.RESUME_NEEDED
    error = world.json("s1/journal/000001.json")["error"]
    assert "s1/writeback.json" in error
    assert error == report.error


def test_a_bug_is_journaled_with_its_operation(world):
    world.remote.script["2-create"] = [Meets.BUG]
    with pytest.raises(RuntimeError):
        world.run("create", "create")
    assert world.json("s1/journal/000002.json")["operation"] == "2-create"


def test_an_interrupt_at_the_final_is_told_in_the_journal(world):
    put = world.store._put

    def interrupted(name, data, *, if_absent):
        if name == "s1/writeback.json":
            raise KeyboardInterrupt
        return put(name, data, if_absent=if_absent)

    world.store._put = interrupted
    with pytest.raises(KeyboardInterrupt):
        world.run("create")
    entry = world.json("s1/journal/000001.json")
    assert (entry["error"], entry["operation"]) == ("stopped by KeyboardInterrupt", None)
    assert list(entry["receipts"]) == ["1-create"]


def test_a_rejected_operation_is_named(world):
    world.remote.script["1-create"] = [Meets.REJECTED]
    report = world.run("create")
    assert (report.block_reason, report.operation) == (BlockReason.REJECTED, "1-create")


# Words about artifacts.


def test_what_is_wrong_with_an_artifact_is_said_with_its_key(world):
    world.run("create")
    key = "s1/planned-writeback.json"
    plan = decode(world.store.get(key).data, PlannedWriteback, key=key)
    with pytest.raises(CorruptArtifact, match=f"{key}: its operations do not match its digest"):
        decode(encode_model(plan.model_copy(update={"digest": "0" * 64})), PlannedWriteback, key=key)
    with pytest.raises(CorruptArtifact, match=f"{key}: does not fit PlannedWriteback: lease_seconds"):
        decode(encode_model(plan.model_copy(update={"lease_seconds": -7.0})), PlannedWriteback, key=key)
    with pytest.raises(CorruptArtifact, match=f"{key}: not a writeahead/planned-writeback artifact"):
        decode(encode({"a": 1}), PlannedWriteback, key=key)
    older = {**world.json(key), "version": 0}
    older["checksum"] = digest_of({name: value for name, value in older.items() if name != "checksum"})
    with pytest.raises(CorruptArtifact, match=f"{key}: its format version is none that there ever was"):
        decode(encode(older), PlannedWriteback, key=key)


def test_a_final_whose_operations_are_not_the_plan_s_says_so(world):
    world.run("create")
    key = "s1/writeback.json"
    final = decode(world.store.get(key).data, Writeback, key=key)
    with pytest.raises(CorruptArtifact, match=f"{key}: its operations do not match its digest"):
        decode(encode_model(final.model_copy(update={"plan_digest": "0" * 64})), Writeback, key=key)


def test_an_own_model_that_is_nested_too_deeply_is_named():
    class Tree(BaseModel):
        inner: "Tree | None" = None

        @model_validator(mode="before")
        @classmethod
        def climb(cls, value: object) -> object:
            raise RecursionError

    with pytest.raises(
        CorruptArtifact, match=r"s1/planned-writeback.json: does not fit Tree: nested too deeply"
    ):
        decode(b"{}", Tree, key="s1/planned-writeback.json")
