"""What an observer is told, in which order, and that it can do no harm."""

import threading
from datetime import timedelta

import pytest

from tests.support.remotes import ALL, Meets, TransactionalRemoteAdapter
from tests.support.worlds import World, held_by_another
from writeahead import RunPolicy, sweep
from writeahead.errors import Applied, TransientError
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.progress import (
    AttemptFailed,
    Confirmed,
    Ended,
    Planning,
    Sending,
    Waiting,
    WaitReason,
)


class Seen(list):
    """Every event, and what the remote had got by then."""

    def __init__(self, world):
        self.world = world
        self.requests = []

    def __call__(self, event):
        self.append(event)
        self.requests.append(len(self.world.remote.requests))

    def names(self):
        return [type(event).__name__ for event in self]


def watched(world, *kinds, **more):
    seen = Seen(world)
    return world.run(*kinds, on_progress=seen, **more), seen


def test_a_run_tells_each_step_before_or_right_after_it():
    world = World(RunPolicy(wait_initial=2))
    world.remote.script["2-create"] = [Meets.UNAVAILABLE]
    _, seen = watched(world, "create", "create")
    assert seen.names() == [
        "Planning",
        *("Sending", "Confirmed"),
        *("Sending", "AttemptFailed", "Waiting", "Sending", "Confirmed"),
        "Ended",
    ]
    # A request is told of before it is sent.
    assert seen.requests == [0, *(0, 1), *(1, 2, 2, 2, 3), 3]
    assert {(event.session_id, event.total) for event in seen} == {("s1", 2)}
    assert [event.operations for event in seen if event.position == 2] == [("2-create",)] * 5
    assert [event.attempt for event in seen if isinstance(event, Sending)] == [1, 1, 2]
    failed = seen[4]
    assert (failed.attempt, failed.error, failed.applied) == (1, "POST /rows: 503", Applied.NO)
    waiting = seen[5]
    assert (waiting.seconds, waiting.reason) == (2, WaitReason.BACKOFF)
    assert waiting.until == waiting.at + timedelta(seconds=2)
    assert isinstance(seen[-2], Confirmed)
    assert seen[-2].receipt.attempts == 2
    assert seen[-1].status is RunStatus.COMPLETED


def test_an_event_never_changes():
    _, seen = watched(World(), "create")
    for event in seen:
        with pytest.raises(AttributeError):
            event.session_id = "other"


@pytest.mark.parametrize(
    ("meets", "status", "reason"),
    [
        (Meets.RETRY_AFTER, RunStatus.RESUME_NEEDED, None),
        (Meets.REJECTED, RunStatus.BLOCKED, BlockReason.REJECTED),
        (Meets.CONFLICT, RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED),
        (Meets.LOST_REPLY, RunStatus.BLOCKED, BlockReason.OUTCOME_UNKNOWN),
    ],
)
def test_the_end_is_told_as_the_report_has_it(meets, status, reason):
    world = World()
    world.remote.script["1-mail"] = [meets]
    report, seen = watched(world, "mail")
    assert seen.names() == ["Planning", "Sending", "AttemptFailed", "Ended"]
    assert seen[2].applied is (Applied.UNKNOWN if meets is Meets.LOST_REPLY else Applied.NO)
    end = seen[-1]
    assert (end.status, end.block_reason) == (report.status, report.block_reason) == (status, reason)
    assert (end.error, end.not_before) == (report.error, report.not_before)


def test_a_wait_says_what_it_is_for():
    world = World(RunPolicy(run_limit=100_000, lease=100_000))
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    world.remote.script["2-lookup"] = [Meets.LOST_REPLY]
    _, seen = watched(world, "create", "lookup")
    waits = [event for event in seen if isinstance(event, Waiting)]
    assert [(wait.operations, wait.reason) for wait in waits] == [
        (("1-create",), WaitReason.RETRY_AFTER),
        (("2-lookup",), WaitReason.LATE_REQUEST),
        (("2-lookup",), WaitReason.LATE_REQUEST),
    ]
    assert waits[0].seconds >= 3600
    assert waits[1].seconds >= world.adapter.request_lifetime


def test_a_search_that_fails_is_told():
    world = World(RunPolicy(run_limit=100_000))
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    find, answers = world.adapter.find, [TransientError("GET /rows: 503")]

    def fails_once(operation):
        if answers:
            raise answers.pop()
        return find(operation)

    world.adapter.find = fails_once
    report, seen = watched(world, "lookup")
    assert report.ok
    failures = [event for event in seen if isinstance(event, AttemptFailed)]
    assert [(event.error, event.applied) for event in failures] == [
        ("POST /rows: connection reset", Applied.UNKNOWN),
        # A search has no effect.
        ("GET /rows: 503", Applied.NO),
    ]


def test_planning_that_has_to_wait_tells_so():
    world = World()
    plan, answers = world.adapter.plan, [TransientError("GET /tables: 429", retry_after=9)]

    def busy(operations):
        if answers:
            raise answers.pop()
        return plan(operations)

    world.adapter.plan = busy
    _, seen = watched(world, "create")
    assert seen.names()[:4] == ["Planning", "AttemptFailed", "Waiting", "Sending"]
    assert (seen[1].attempt, seen[1].operations) == (1, ())
    assert (seen[2].reason, seen[2].position) == (WaitReason.RETRY_AFTER, 0)


def test_a_transaction_is_told_of_as_one():
    world = World()
    world.adapter = TransactionalRemoteAdapter(world.remote)
    world.remote.script[ALL] = [Meets.UNAVAILABLE]
    _, seen = watched(world, "create", "create", atomic=True)
    sent = [event for event in seen if isinstance(event, Sending)]
    assert [(event.operations, event.position) for event in sent] == [(("1-create", "2-create"), 1)] * 2
    assert [event.operations for event in seen if isinstance(event, Confirmed)] == [
        ("1-create",),
        ("2-create",),
    ]


def test_a_resume_and_a_sweep_tell_as_well():
    world = World(RunPolicy(attempts=1))
    world.remote.script["2-create"] = [Meets.UNAVAILABLE] * 2
    world.run("create", "create")
    seen = Seen(world)
    world.resume(on_progress=seen)
    assert seen.names() == ["Sending", "AttemptFailed", "Ended"]
    seen.clear()
    list(sweep(world.store, world.adapter, clock=world.clock, on_progress=seen))
    assert seen.names() == ["Sending", "Confirmed", "Ended"]
    assert (seen[0].position, seen[0].total) == (2, 2)


def test_a_session_that_is_left_alone_tells_its_end_only():
    world = World()
    held_by_another(world)
    seen = Seen(world)
    world.resume(on_progress=seen)
    assert [event.status for event in seen] == [RunStatus.IN_PROGRESS]
    _, seen = watched(world, "create", session_id="s2", dry_run=True)
    assert seen.names() == ["Planning", "Ended"]


# An observer that misbehaves.


def test_what_an_observer_raises_is_a_warning_and_harms_nothing():
    world, calls = World(), []

    def broken(event):
        calls.append(event)
        if isinstance(event, Sending):
            raise TransientError("token=planted-secret")

    report = world.run("mail", "create", on_progress=broken)
    assert report.status is RunStatus.COMPLETED
    assert report.warnings == ("on_progress raised TransientError at Sending, and was not called again",)
    assert [type(event) for event in calls] == [Planning, Sending]
    assert world.remote.requests == ["1-mail", "2-create"]


@pytest.mark.filterwarnings("error")
def test_an_async_observer_is_told_of():
    async def watching(event):
        pytest.fail("awaited")

    report = World().run("create", on_progress=watching)
    assert report.status is RunStatus.COMPLETED
    (warning,) = report.warnings
    assert warning == "on_progress is async, where a plain function belongs, and was not called again"


def test_a_failure_at_the_very_end_is_in_the_report():
    def broken(event):
        if type(event) is Ended:
            raise RuntimeError

    assert "RuntimeError" in World().run("create", on_progress=broken).warnings[0]


# The entry that announces an e-mail renews the lease, or is refused.
@pytest.mark.parametrize("kind", ["create", "upsert", "lookup"])
def test_an_observer_that_outlasts_the_lease_lets_nothing_be_sent(kind):
    world = World(RunPolicy(lease=60))

    def slow(event):
        if isinstance(event, Sending):
            world.clock.advance(59)

    report = world.run(kind, on_progress=slow)
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "the lease is nearly over")
    assert world.remote.requests == []
    assert report.attempted == {}


def test_an_observer_can_stop_the_run_before_a_request():
    world = World()
    world.stop = threading.Event()
    report = world.run("create", "mail", on_progress=lambda event: halt(world, event, "2-mail"))
    assert report.status is RunStatus.RESUME_NEEDED
    assert world.remote.requests == ["1-create"]
    assert report.attempted == {}


def halt(world, event, operation):
    if isinstance(event, Sending) and event.operations == (operation,):
        world.stop.set()


@pytest.mark.parametrize("meets", [Meets.BUG, Meets.INTERRUPT])
def test_a_run_that_raises_tells_its_end_all_the_same(meets):
    world = World()
    world.remote.script["1-mail"] = [meets]
    seen = Seen(world)
    with pytest.raises(KeyboardInterrupt if meets is Meets.INTERRUPT else RuntimeError):
        world.run("mail", on_progress=seen)
    assert seen.names() == ["Planning", "Sending", "Ended"]
    assert (seen[-1].status, seen[-1].block_reason) == (RunStatus.BLOCKED, BlockReason.OUTCOME_UNKNOWN)
    assert "planted-secret" not in seen[-1].error


def test_an_interrupt_in_an_observer_ends_the_run_as_anywhere():
    world = World()

    def interrupted(event):
        if isinstance(event, Sending):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.run("mail", on_progress=interrupted)
    # Nothing was sent, so nothing is in doubt, and a resume goes on.
    assert world.remote.requests == []
    assert world.resume().ok
