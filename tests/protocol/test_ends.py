"""What a run reports and journals when it ends early: status, operation, words, next time."""

import threading
from datetime import timedelta

import pytest

from tests.support.remotes import Meets
from tests.support.worlds import names, refuse
from writeahead import RunPolicy
from writeahead.errors import AccessDenied, InvalidInput, PermanentError
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.unblocking import unblock_session


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
    world.policy = RunPolicy(run_limit=limit, journal_interval=0)
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


def test_a_stop_after_the_announcement_leaves_nothing_unknown(world):
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


def test_an_interrupted_wait_leaves_nothing_unknown(world):
    world.remote.script["1-mail"] = [Meets.UNAVAILABLE]

    def interrupt(seconds):
        raise KeyboardInterrupt

    world.clock.sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.run("mail")
    waiting, entry = (world.json(f"s1/journal/00000{number}.json") for number in (2, 3))
    assert (waiting["event"], waiting["attempted"]) == ("waiting", {})
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
    world.policy = RunPolicy(run_limit=limit, journal_interval=0)
    unknown_lookup(world)
    report = world.resume()
    if waits:
        assert (report.status, world.clock.slept) == (RunStatus.COMPLETED, [4])
        return
    assert (report.status, report.not_before) == (RunStatus.RESUME_NEEDED, at(world, 65))
    assert report.error == "an earlier request could still take effect; it is too early to go on"
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


def test_a_store_that_fails_under_way_is_told_with_the_operation(world):
    refuse(world.store, "s1/journal/000001.json")
    report = world.run("create", "update")
    assert (report.status, report.operation) == (RunStatus.RESUME_NEEDED, "1-create")
    assert "s1/journal/000001.json" in report.error


def test_a_rejected_operation_is_named(world):
    world.remote.script["1-create"] = [Meets.REJECTED]
    report = world.run("create")
    assert (report.block_reason, report.operation) == (BlockReason.REJECTED, "1-create")


def test_a_receipt_outlives_a_final_that_could_not_be_put(run, resume, store, remote):
    mend = refuse(store, "/writeback.json", AccessDenied)
    assert run("mail").status is RunStatus.RESUME_NEEDED
    mend()
    assert resume().status is RunStatus.COMPLETED
    assert remote.requests == ["1-mail"]


def test_a_blocked_run_without_its_marker_still_says_blocked(run, store, remote):
    refuse(store, ".blocked/")
    remote.script["1-create"] = [Meets.REJECTED]
    report = run("create")
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert "marker" in report.warnings[0]
    assert ".open/s1" in names(store)


@pytest.mark.parametrize("said", ["\ud800 planted", "planted \udfff"])
def test_words_that_json_cannot_hold_still_end_a_session(run, adapter, store, said):
    def refuse(payload, operation):
        raise PermanentError(said)

    adapter.emit_create = refuse
    report = run("create")
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert names(store) == [".blocked/s1", "s1/journal/000001.json", "s1/planned-writeback.json"]
    assert b"planted" in store.get("s1/journal/000001.json").data


def test_both_markers_go_after_a_second_resume(run, resume, store, remote, clock):
    remote.script["1-create"] = [Meets.REJECTED, *[Meets.UNAVAILABLE] * 4]
    run("create")
    unblock_session("s1", store=store, reason="mended", clock=clock)
    assert resume().status is RunStatus.RESUME_NEEDED
    assert resume().status is RunStatus.COMPLETED
    assert not [name for name in names(store) if name.startswith(".")]


def test_a_refusal_before_sending_is_journaled_and_resumable(run, resume, adapter):
    def refuse_payload(payload, operation):
        raise InvalidInput("operation 1-mail: the mapping does not approve column x")

    emit, adapter.emit_mail = adapter.emit_mail, refuse_payload
    report = run("mail")
    assert report.status is RunStatus.RESUME_NEEDED
    assert "mapping" in report.error
    adapter.emit_mail = emit
    assert resume().status is RunStatus.COMPLETED
