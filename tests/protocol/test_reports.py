"""What a run says and leaves behind when it does not go well: reports, entries, markers, waits."""

import threading
from datetime import timedelta

import pytest

from tests.support.remotes import Meets
from tests.support.worlds import World
from writeahead import RunPolicy
from writeahead.errors import (
    Applied,
    CorruptArtifact,
    Fenced,
    InvalidInput,
    NotReady,
    PlanConflict,
    TransientError,
)
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.encoding import encode_model
from writeahead.protocol.journal import Journal
from writeahead.protocol.keys import journal_key
from writeahead.protocol.resuming import resume_from
from writeahead.protocol.schema import Event, JournalEntry
from writeahead.protocol.session import Session, read_session
from writeahead.protocol.unblocking import unblock_session
from writeahead.report.page import next_step
from writeahead.testing import FaultyStore, ManualClock, StoreFault, TracingStore

DOWN = StoreFault.unavailable()


@pytest.fixture
def world():
    return World()


def entry_of(world, number):
    return world.json(f"s1/journal/{number:06}.json")


def take_over(world):
    """Another owner appends the next entry, whatever it is."""
    session = read_session(world.store, "s1")
    other = Journal.of(session, session.plan, world.store, world.clock, lease=600)
    other.append(Event.CLAIMED)


# Planning.


def trouble_while_planning(world, times, error=None):
    plan, left = world.adapter.plan, [error or TransientError("GET /: 503", applied=Applied.NO)] * times

    def later(operations):
        if left:
            raise left.pop()
        return plan(operations)

    world.adapter.plan = later
    return left


def test_planning_is_repeated_by_the_policy(world):
    trouble_while_planning(world, 2)
    world.policy = RunPolicy(wait_initial=3)
    assert world.run("create").status is RunStatus.COMPLETED
    assert world.clock.slept == [3, 4]


def test_planning_that_fails_for_good_says_so_and_writes_nothing(world):
    trouble_while_planning(world, 9)
    report = world.run("create")
    assert (report.session_id, report.status, report.block_reason) == (
        "s1",
        RunStatus.BLOCKED,
        BlockReason.NOT_READY,
    )
    assert report.error == "GET /: 503"
    assert world.clock.slept == [1, 2, 4]
    assert world.names() == []


def test_planning_does_not_wait_beyond_the_limit_of_the_run(world):
    world.clock.elapsed = 1000.0
    world.policy = RunPolicy(run_limit=2.5)
    trouble_while_planning(world, 9)
    assert world.run("create").status is RunStatus.BLOCKED
    assert world.clock.slept == [1]


@pytest.mark.parametrize("wait", [1, 0.001])
def test_planning_stops_when_it_is_told_to(world, wait):
    world.policy = RunPolicy(wait_initial=wait)
    waits = []

    class Told:
        def is_set(self):
            return len(waits) > 0

        def wait(self, seconds):
            waits.append(seconds)

    world.stop = Told()
    left = trouble_while_planning(world, 9)
    report = world.run("create")
    # Not blocked: nothing is to be mended. There is nothing to resume either.
    assert (report.status, report.operations) == (RunStatus.RESUME_NEEDED, ())
    assert report.error == ("stopped by a signal or by the caller while it was planning; nothing was written")
    step = next_step("s1", report.status, planned=bool(report.operations))
    assert step == "run it again; nothing was written"
    assert world.names() == []
    # One wait, in which it was told, and none after that.
    assert waits == [wait]
    assert len(left) == 7


def test_a_gap_is_told_even_to_who_has_stopped_the_run(world):
    world.stop = threading.Event()
    world.stop.set()

    def plan(keyed):
        raise NotReady("a column is missing")

    world.adapter.plan = plan
    report = world.run("create")
    assert (report.status, report.error) == (RunStatus.BLOCKED, "a column is missing")


def test_what_a_remote_asked_for_while_planning_is_told(world):
    world.policy = RunPolicy(run_limit=60)

    def plan(keyed):
        raise TransientError("GET /: 429", applied=Applied.NO, retry_after=600)

    world.adapter.plan = plan
    report = world.run("create")
    assert report.block_reason is BlockReason.NOT_READY
    assert report.not_before == world.clock.start + timedelta(seconds=600)
    step = next_step("s1", report.status, block_reason=report.block_reason, not_before=report.not_before)
    assert step.endswith("Z: run it again; nothing was sent")
    assert world.names() == []


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


def test_a_conflicting_repeat_of_a_completed_session_takes_its_own_marker_away_and_no_more(world):
    world.run("create")
    world.store = TracingStore(world.store)
    with pytest.raises(PlanConflict, match=r"s1 already has a plan .*resume it as it is"):
        world.run("update")
    assert [call.key for call in world.store.calls if call.verb == "delete"] == [".open/s1"]


def test_what_goes_wrong_with_a_marker_is_a_warning_with_its_cause(world):
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


def test_an_end_is_journaled_without_a_lease_and_names_its_operation(world):
    world.remote.script["2-update"] = [Meets.UNAVAILABLE] * 4
    report = world.run("create", "update")
    ended = entry_of(world, 2)
    assert (ended["event"], ended["operation"], ended["lease_seconds"]) == ("ended", "2-update", 0)
    assert (report.operation, report.error) == ("2-update", "POST /rows: 503")
    assert entry_of(world, 1)["lease_seconds"] == world.policy.lease


def test_an_end_that_finds_another_owner_says_that_it_goes_on_elsewhere(world):
    emit = world.adapter.emit

    def taken_over(operation):
        take_over(world)
        return emit(operation)

    world.adapter.emit = taken_over
    world.remote.script["1-create"] = [Meets.REJECTED]
    report = world.run("create")
    assert (report.status, report.operation) == (RunStatus.IN_PROGRESS, "1-create")
    assert "session s1: another owner has taken it over (s1/journal/000001.json)" in report.error
    assert ".blocked/s1" not in world.names()


def test_a_run_that_can_t_journal_its_end_says_from_when_it_can_be_resumed(world):
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


@pytest.mark.parametrize(
    ("meets", "error", "said"),
    [
        (Meets.BUG, RuntimeError, "the adapter raised RuntimeError"),
        (Meets.INTERRUPT, KeyboardInterrupt, "stopped by KeyboardInterrupt"),
    ],
)
@pytest.mark.parametrize("kind", ["create", "mail"])
def test_what_breaks_a_turn_off_is_journaled_by_the_name_of_its_type(world, meets, error, said, kind):
    world.remote.script[f"1-{kind}"] = [meets]
    with pytest.raises(error):
        world.run(kind)
    ended = world.json(f"s1/journal/{1 + (kind == 'mail'):06}.json")
    assert ended["error"] == said
    assert list(ended["attempted"]) == [f"1-{kind}"]
    assert ended["status"] == ("blocked" if kind == "mail" else "resume_needed")


def test_an_unknown_outcome_of_an_unprovable_operation_says_what_the_remote_said(world):
    world.remote.script["1-mail"] = [Meets.LOST_REPLY]
    report = world.run("mail")
    assert (report.block_reason, report.error) == (
        BlockReason.OUTCOME_UNKNOWN,
        "POST /rows: connection reset",
    )
    assert entry_of(world, 2)["error"] == "POST /rows: connection reset"


# Leases and waits.


def test_a_wait_that_would_eat_the_margin_of_the_lease_is_not_begun(world):
    world.policy = RunPolicy(lease=10, wait_initial=9.5, wait_max=9.5)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    assert world.run("create").status is RunStatus.RESUME_NEEDED
    assert world.clock.slept == []
    world.policy = RunPolicy(lease=10, wait_initial=8.5, wait_max=8.5)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    assert world.run("create", session_id="s2").status is RunStatus.COMPLETED
    assert world.clock.slept == [8.5]


def planned_session(world, **more):
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create", **more)
    return read_session(world.store, "s1")


def test_a_lease_ends_after_the_skew_of_clocks_and_not_earlier(world):
    session = planned_session(world)
    held = Session("s1", plan=session.plan, written_at=session.plan.created_at)
    ends = held.lease_ends + timedelta(seconds=5)
    assert held.status(ends - timedelta(microseconds=1), 5) is RunStatus.IN_PROGRESS
    assert held.status(ends, 5) is RunStatus.RESUME_NEEDED


def held_by_another(world):
    """A session whose owner fell silent after its first receipt."""
    store = world.store = FaultyStore(world.store)
    store.fail(
        "create", "s1/journal/000002.json", StoreFault.crash("before", KeyboardInterrupt()), times=None
    )
    with pytest.raises(KeyboardInterrupt):
        world.run("create", "update", "update")
    store.heal()


def test_a_session_that_is_held_says_until_when_and_what_is_known(world):
    held_by_another(world)
    session = read_session(world.store, "s1")
    report = world.resume()
    assert report.status is RunStatus.IN_PROGRESS
    assert report.not_before == session.lease_ends + timedelta(seconds=world.policy.clock_skew)
    assert list(report.receipts) == ["1-create"]
    assert [operation.id for operation in report.operations] == ["1-create", "2-update", "3-update"]
    assert report.operation == "1-create"


def test_a_remote_that_asked_to_wait_is_asked_again_at_that_very_moment(world):
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    report = world.run("create")
    assert world.resume().status is RunStatus.RESUME_NEEDED
    world.clock.elapsed = (report.not_before - world.clock.start).total_seconds() - 0.001
    assert world.resume().status is RunStatus.RESUME_NEEDED
    assert world.remote.requests == ["1-create"]
    world.clock.elapsed += 0.001
    assert world.resume().status is RunStatus.COMPLETED


def test_who_claims_gives_its_own_lease_and_heeds_its_own_stop(world):
    planned_session(world)

    class Set:
        def is_set(self):
            return True

    world.policy, world.stop = RunPolicy(lease=77), Set()
    report = world.resume()
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "stopped by a signal or by the caller")
    assert (entry_of(world, 2)["event"], entry_of(world, 2)["lease_seconds"]) == ("claimed", 77)
    assert world.remote.requests == ["1-create"] * 4


def test_of_two_that_read_the_same_session_the_slower_one_is_told(world):
    session = planned_session(world)
    take_over(world)
    report = resume_from(session, store=world.store, adapter=world.adapter, clock=world.clock)
    assert report.status is RunStatus.IN_PROGRESS
    assert "another owner has taken it over" in report.error
    assert world.remote.requests == ["1-create"] * 4


def test_an_announced_operation_without_a_receipt_blocks_whoever_takes_over(world):
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
    assert report.error == "it was sent, and nobody knows whether it took effect"
    assert entry_of(world, 2)["operation"] == "1-mail"


def test_what_a_silent_owner_may_have_sent_is_searched_before_it_is_sent(world):
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
        unblock_session("s1", store=world.store, reason="", clock=world.clock)
    report = unblock_session(
        "s1", store=world.store, reason="asked them", assume={"2-mail": True}, clock=world.clock
    )
    assert (report.session_id, report.status) == ("s1", RunStatus.RESUME_NEEDED)
    assert sorted(report.receipts) == ["1-create", "2-mail"]
    assert [operation.id for operation in report.operations] == ["1-create", "2-mail", "3-update"]
    unblocked = world.json("s1/journal/000004.json")
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
        ({"9-x": True}, "no operation '9-x' here, only: 1-create, 2-update"),
        ({"1-create": True}, "'1-create' is confirmed already"),
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


# The journal.


def test_a_missing_entry_is_named(world):
    world.run("create", "create", "create", "create")
    world.store.delete("s1/writeback.json")
    world.store.delete("s1/journal/000002.json")
    with pytest.raises(CorruptArtifact, match=r"^s1/journal/000002\.json: missing from the journal$"):
        read_session(world.store, "s1")


@pytest.mark.parametrize("change", [{"plan_digest": "0" * 64}, {"number": 7}])
def test_an_entry_of_another_plan_or_place_is_named(world, change):
    planned_session(world)
    ended = JournalEntry.model_validate(
        {k: v for k, v in entry_of(world, 1).items() if k in JournalEntry.model_fields}
    )
    world.store.put("s1/journal/000001.json", encode_model(ended.model_copy(update=change)))
    with pytest.raises(CorruptArtifact, match=r"^s1/journal/000001\.json: belongs to another plan or place"):
        read_session(world.store, "s1")


def test_a_journal_has_an_end(world):
    session = planned_session(world)
    journal = Journal.of(session, session.plan, world.store, world.clock, lease=600)
    journal.number = 999_998
    assert journal.append(Event.CLAIMED).number == 999_999
    with pytest.raises(Fenced, match="session s1: its journal is full"):
        journal.append(Event.CLAIMED)
    assert world.store.head(journal_key("s1", 999_999))


def test_the_lease_of_a_session_counts_from_when_the_store_has_its_newest_artifact(world):
    world.clock = ManualClock(skew=-86_400)
    held_by_another(world)
    session = read_session(world.store, "s1")
    assert session.entry.at < session.written_at
    assert session.lease_ends == session.written_at + timedelta(seconds=600)
    before_any_entry = read_session(_without(world.store, "s1/journal/"), "s1")
    assert before_any_entry.written_at > before_any_entry.plan.created_at


def _without(store, prefix):
    for info in list(store.list(prefix)):
        store.delete(info.key)
    return store
