"""What planning may do, what it refuses, and how long it may take."""

import threading
from datetime import timedelta

import pytest

from tests.support.remotes import STRICT, Meets, RemoteAdapter, Strict, Text, operations
from tests.support.worlds import names
from writeahead import Operation, PlannedOperation, Receipt, RunPolicy, emits, write_back
from writeahead.errors import Applied, InvalidInput, NotReady, TransientError
from writeahead.model import BlockReason, KeyedOperation, ReplayClass, RunStatus
from writeahead.report.page import next_step


class Rebel(RemoteAdapter):
    """Its planner names another replay class than its emit method."""

    def plan_mail(self, payload: Text, operation: KeyedOperation) -> PlannedOperation:
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=payload.model_dump(),
            replay=ReplayClass.UPSERT,
        )


def test_a_planner_must_keep_the_replay_class(store, remote):
    with pytest.raises(TypeError, match="unprovable"):
        write_back(operations("mail"), session_id="s1", store=store, adapter=Rebel(remote))
    assert names(store) == []


class StrictAdapter(RemoteAdapter):
    @emits("upsert")
    def emit_strict(self, payload: Strict, operation: PlannedOperation) -> Receipt:
        self.remote.effects.append(payload.row_id)
        return Receipt()


def test_payload_models_may_have_aliases_and_computed_fields(store, remote):
    report = write_back(
        [Operation(kind="strict", payload=STRICT)],
        session_id="s1",
        store=store,
        adapter=StrictAdapter(remote),
    )
    assert report.status is RunStatus.COMPLETED
    assert remote.effects == ["r1"]


def test_a_plan_too_large_leaves_no_marker(run, store, monkeypatch):
    monkeypatch.setattr("writeahead.protocol.planning.MAX_ARTIFACT_BYTES", 1000)
    with pytest.raises(InvalidInput, match="several sessions"):
        run(*["create"] * 10)
    assert names(store) == []


def test_the_limit_on_the_run_includes_planning(run, adapter, clock, remote):
    plan = adapter.plan

    def plan_slowly(keyed):
        clock.elapsed += 299
        return plan(keyed)

    adapter.plan = plan_slowly
    remote.script["1-create"] = [Meets.UNAVAILABLE]
    assert run("create").status is RunStatus.RESUME_NEEDED


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


class Urgent(Text):
    urgent: bool = False


class PlansAlone(RemoteAdapter):
    """Plans without the base class, and leaves out what its model has by default."""

    payload = "text"

    def plan(self, operations):
        return [
            PlannedOperation(
                id=item.id, kind=item.kind, key=item.key, payload={self.payload: "x"}, replay="upsert"
            )
            for item in operations
        ]

    @emits("upsert")
    def emit_row(self, payload: Urgent, operation: PlannedOperation) -> Receipt:
        return Receipt()


def test_what_an_adapter_plans_by_itself_is_what_it_sends(world):
    world.adapter = PlansAlone(world.remote)
    assert world.run("row").ok
    (planned,) = world.json("s1/planned-writeback.json")["operations"]
    assert planned["payload"] == {"text": "x", "urgent": False}


def test_what_an_adapter_plans_by_itself_and_cannot_send_is_refused(world):
    world.adapter = PlansAlone(world.remote)
    world.adapter.payload = "zork"
    with pytest.raises(InvalidInput, match="payload of the wrong shape: text"):
        world.run("row")
    assert world.names() == []
