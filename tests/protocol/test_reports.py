"""What a run says and leaves behind when it does not go well: reports, entries, markers, waits."""

import threading
from datetime import timedelta

import pytest

from tests.support.remotes import Meets
from tests.support.worlds import entry_of, held_by_another, planned_session, take_over
from writeahead import RunPolicy
from writeahead.errors import Applied, InvalidInput, PlanConflict, TransientError
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.context import RunContext
from writeahead.protocol.resuming import resume_from
from writeahead.protocol.session import read_stored
from writeahead.protocol.unblocking import unblock_session
from writeahead.testing import FaultyStore, StoreFault, TracingStore

DOWN = StoreFault.unavailable()


# Markers.


def test_markers_are_empty(world):
    seen = {}
    world.remote.script["1-create"] = [Meets.REJECTED]
    emit = world.adapter.emit

    def look(operation):
        seen["open"] = world.store.get(".open/s1").data
        return emit(operation)

    world.adapter.emit = look
    assert world.run("create").status is RunStatus.BLOCKED
    assert seen["open"] == b""
    assert world.store.get(".blocked/s1").data == b""
    unblock_session("s1", store=world.store, reason="mended", clock=world.clock)
    assert world.store.get(".open/s1").data == b""


def test_a_completed_session_loses_both_markers_whoever_finds_it(world):
    world.run("create")
    world.store.put(".open/s1", b"")
    world.store.put(".blocked/s1", b"")
    assert world.resume().status is RunStatus.NO_RESUME_NEEDED
    assert [name for name in world.names() if name.startswith(".")] == []


def test_a_conflicting_repeat_removes_its_own_marker_only(world):
    world.run("create")
    world.store = TracingStore(world.store)
    with pytest.raises(PlanConflict, match=r"s1 was completed with other operations"):
        world.run("update")
    assert [call.key for call in world.store.calls if call.verb == "delete"] == [".open/s1"]


def test_a_marker_failure_is_a_warning_with_its_cause(world):
    world.store = FaultyStore(world.store)
    world.store.fail("delete", ".open/*", DOWN)
    (warning,) = world.run("create").warnings
    assert "a marker stays behind: " in warning
    assert "come back later" in warning
    world.remote.script["1-create"] = [Meets.REJECTED]
    world.store.fail("put", ".blocked/*", DOWN)
    (warning,) = world.run("create", session_id="s2").warnings
    assert "a marker is not as it should be: " in warning
    assert "come back later" in warning


# Ends.


def test_an_end_that_can_t_be_journaled_says_when_to_resume(world):
    world.policy = RunPolicy(lease=600, attempts=2, wait_initial=7)
    world.store = FaultyStore(world.store)
    world.store.fail("create", "s1/journal/*", DOWN, times=None)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 2
    report = world.run("create", "update")
    assert (report.status, report.operation) == (RunStatus.RESUME_NEEDED, "1-create")
    assert "come back later" in report.error
    # The plan is the last that renewed the lease, and since then there was one wait.
    waited = sum(world.clock.slept)
    assert report.not_before == world.clock.now() + timedelta(seconds=600 - waited)


def test_a_lease_that_is_long_over_is_no_reason_to_wait(world):
    world.policy = RunPolicy(lease=10)
    world.store = FaultyStore(world.store)
    world.store.fail("create", "s1/journal/*", DOWN, times=None)
    emit = world.adapter.emit

    def slow(operation):
        world.clock.elapsed += 60
        return emit(operation)

    world.adapter.emit = slow
    world.remote.script["1-create"] = [Meets.REJECTED]
    report = world.run("create", "update")
    assert report.not_before == world.clock.now()


def test_an_unknown_outcome_has_the_remote_s_words(world):
    world.remote.script["1-mail"] = [Meets.LOST_REPLY]
    report = world.run("mail")
    assert (report.block_reason, report.error) == (
        BlockReason.OUTCOME_UNKNOWN,
        "POST /rows: connection reset",
    )
    assert entry_of(world, 2)["error"] == "POST /rows: connection reset"


# Leases and waits.


def test_a_wait_into_the_margin_of_the_lease_is_not_begun(world):
    world.policy = RunPolicy(lease=10, wait_initial=9.5, wait_max=9.5)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    assert world.run("create").status is RunStatus.RESUME_NEEDED
    assert world.clock.slept == []
    world.policy = RunPolicy(lease=10, wait_initial=8.5, wait_max=8.5)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    assert world.run("create", session_id="s2").status is RunStatus.COMPLETED
    assert world.clock.slept == [8.5]


def test_a_held_session_says_until_when(world):
    held_by_another(world)
    session = read_stored(world.store, "s1")
    report = world.resume()
    assert report.status is RunStatus.IN_PROGRESS
    assert report.not_before == session.lease_ends + timedelta(seconds=world.policy.clock_skew)
    assert list(report.receipts) == ["1-create"]
    assert [operation.id for operation in report.operations] == ["1-create", "2-update", "3-update"]
    assert report.operation == "1-create"


def test_a_wait_of_the_remote_ends_at_its_very_moment(world):
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    report = world.run("create")
    assert world.resume().status is RunStatus.RESUME_NEEDED
    world.clock.elapsed = (report.not_before - world.clock.start).total_seconds() - 0.001
    assert world.resume().status is RunStatus.RESUME_NEEDED
    assert world.remote.requests == ["1-create"]
    world.clock.elapsed += 0.001
    assert world.resume().status is RunStatus.COMPLETED


ROOMY = {"run_limit": 10_000, "lease": 20_000, "journal_interval": 0}


def test_a_retry_after_beyond_the_longest_parks_at_once(world):
    world.policy = RunPolicy(retry_after_max=60, **ROOMY)
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    report = world.run("create")
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "POST /rows: 429")
    assert report.not_before == world.clock.now() + timedelta(seconds=3600)
    assert (world.clock.slept, world.remote.requests) == ([], ["1-create"])
    world.clock.elapsed += 3600
    assert world.resume().ok


def test_a_retry_after_within_the_longest_holds_the_run(world):
    world.policy = RunPolicy(retry_after_max=3600, **ROOMY)
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    assert world.run("create").ok
    assert world.clock.slept == [3600]


def test_the_wait_before_a_search_is_no_retry_after(world):
    world.policy = RunPolicy(retry_after_max=5, waits=[1, 1], **ROOMY)
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    assert world.run("lookup").ok
    assert sum(world.clock.slept) == world.adapter.request_lifetime + world.policy.clock_skew
    assert (world.remote.requests, world.remote.searches) == (["1-lookup"], ["1-lookup"])


def test_a_retry_after_beyond_the_longest_ends_planning(world):
    def busy(operations):
        raise TransientError("GET /: 429", applied=Applied.NO, retry_after=90)

    world.adapter.plan = busy
    world.policy = RunPolicy(retry_after_max=60, **ROOMY)
    report = world.run("create")
    assert (report.block_reason, world.clock.slept) == (BlockReason.NOT_READY, [])
    assert report.not_before == world.clock.now() + timedelta(seconds=90)


def test_a_search_s_retry_after_is_heeded_by_the_run_after_a_stop(world):
    world.policy = RunPolicy(**ROOMY)
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    world.stop = threading.Event()

    def busy(payload, operation):
        world.stop.set()
        raise TransientError("GET /rows: 429", retry_after=900)

    world.adapter.find_lookup = busy
    world.stop.wait = lambda seconds: world.stop.is_set() or world.clock.advance(seconds)
    report = world.run("lookup")
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "stopped by a signal or by the caller")
    assert report.not_before == world.clock.now() + timedelta(seconds=900)


def test_turns_without_progress_are_spaced_by_the_longest_wait(world):
    world.policy = RunPolicy(waits=[30, 7], attempts=1, journal_interval=0)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 9
    world.run("create")
    for _ in range(2):
        report = world.resume()
    assert report.not_before == world.clock.now() + timedelta(seconds=30)


def test_the_slower_of_two_claimers_is_refused(world):
    session = planned_session(world)
    take_over(world)
    report = resume_from(
        session, RunContext.begin(world.store, world.adapter, RunPolicy(), None, world.clock)
    )
    assert report.status is RunStatus.IN_PROGRESS
    assert "another owner has taken it over" in report.error
    assert world.remote.requests == ["1-create"] * 4


def test_an_announced_operation_without_a_receipt_blocks(world):
    store = world.store = FaultyStore(world.store)
    store.fail("create", "s1/journal/000002.json", DOWN, times=None)
    store.fail("create", "s1/writeback.json", DOWN, times=None)
    world.remote.script["1-mail"] = [Meets.LOST_REPLY]
    world.run("mail")
    store.heal()
    world.clock.elapsed += 3600
    report = world.resume()
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.OUTCOME_UNKNOWN)
    assert report.operation == "1-mail"
    assert report.error == "it may have been sent, and no one can tell whether it took effect"
    assert entry_of(world, 2)["operation"] == "1-mail"


def test_a_silent_owner_s_lookup_is_searched_before_it_is_sent(world):
    store = world.store = FaultyStore(world.store)
    store.fail("create", "s1/*", DOWN, times=None, skip=1)
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    world.policy = RunPolicy(attempts=1)
    world.run("lookup", "create")
    store.heal()
    world.clock.elapsed += 3600
    report = world.resume()
    assert report.status is RunStatus.COMPLETED
    assert report.receipts["1-lookup"].outcome == "already_applied"
    assert world.remote.searches == ["1-lookup"]
    assert world.remote.requests == ["1-lookup", "2-create"]


# Unblocking.


def test_an_unblock_is_on_record(world):
    world.remote.script["2-mail"] = [Meets.LOST_REPLY]
    world.run("create", "mail", "update")
    with pytest.raises(InvalidInput, match="2-mail took effect"):
        unblock_session("s1", store=world.store, reason="?", clock=world.clock)
    report = unblock_session(
        "s1", store=world.store, reason="asked them", assume={"2-mail": "applied"}, clock=world.clock
    )
    assert (report.session_id, report.status) == ("s1", RunStatus.RESUME_NEEDED)
    assert sorted(report.receipts) == ["1-create", "2-mail"]
    assert [operation.id for operation in report.operations] == ["1-create", "2-mail", "3-update"]
    unblocked = world.json("s1/journal/000003.json")
    assert (unblocked["event"], unblocked["reason"], unblocked["was_blocked"]) == (
        "unblocked",
        "asked them",
        True,
    )
    assert (unblocked["lease_seconds"], unblocked["attempted"]) == (0, {})
    receipt = report.receipts["2-mail"]
    assert (receipt.outcome, receipt.confirmed_at) == ("assumed", world.clock.now())


@pytest.mark.parametrize(
    ("assume", "said"),
    [
        ({"9-x": "applied"}, "no operation '9-x' here, only: 1-create, 2-update"),
        ({"1-create": "applied"}, "'1-create' is confirmed already"),
    ],
)
def test_an_assumption_must_be_about_what_is_open(world, assume, said):
    world.remote.script["2-update"] = [Meets.REJECTED]
    world.run("create", "update")
    with pytest.raises(InvalidInput, match=said):
        unblock_session("s1", store=world.store, reason="x", assume=assume, clock=world.clock)


def test_only_what_is_blocked_can_be_unblocked(world):
    planned_session(world)
    with pytest.raises(InvalidInput, match="s1 is not blocked"):
        unblock_session("s1", store=world.store, reason="x")
