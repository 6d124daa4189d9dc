"""What a plan binds: the remote, what is sent, the content of an id, and what a repeat finds."""

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import BaseModel

from tests.support.remotes import Meets, Remote, RemoteAdapter, TransactionalRemoteAdapter
from tests.support.worlds import World
from writeahead import Operation, PlannedOperation, Receipt, RunPolicy, emits, load_replay_artifact
from writeahead.adapters.base import Adapter, target_of
from writeahead.errors import InvalidInput, NotCompleted, NotReady, PlanConflict, ResumeError, TransientError
from writeahead.model import BlockReason, RunStatus, idempotency_key
from writeahead.protocol.artifacts import write_planned_writeback_artifact
from writeahead.protocol.encoding import digest_of, encode
from writeahead.stores.memory import MemoryStore

ONCE = RunPolicy(attempts=1)


class Targeted(RemoteAdapter):
    def __init__(self, remote, url):
        super().__init__(remote)
        self.url = url

    def target(self):
        return target_of(self.url)


def parked(world, *kinds, **more):
    world.policy = ONCE
    world.remote.script = {"2-upsert": [Meets.UNAVAILABLE]}
    report = world.run(*(kinds or ("create", "upsert", "create")), **more)
    assert report.status is RunStatus.RESUME_NEEDED
    return report


def test_a_session_is_not_resumed_at_another_target():
    world = World()
    world.adapter = Targeted(world.remote, "https://a.example.com")
    parked(world)
    entries = world.names()
    other = Remote()
    world.adapter = Targeted(other, "https://b.example.com")
    named = [target_of(f"https://{name}.example.com") for name in "ab"]
    with pytest.raises(InvalidInput, match=rf"planned for target {named[0]}, .* writes to {named[1]}"):
        world.resume()
    with pytest.raises(InvalidInput, match="planned for target"):
        world.run("create", "upsert", "create")
    assert other.requests == []
    assert world.names() == entries
    world.adapter = Targeted(world.remote, "https://a.example.com")
    assert world.resume().status is RunStatus.COMPLETED


def test_a_plan_without_a_target_is_resumed_as_before():
    world = World()
    parked(world)
    assert "target" not in world.json("s1/planned-writeback.json")
    world.adapter = Targeted(world.remote, "https://a.example.com")
    assert world.resume().status is RunStatus.COMPLETED


class Before(BaseModel):
    amount: int
    note: str | None = None


class Renamed(BaseModel):
    amount: int
    memo: str | None = None


class Grown(Before):
    urgent: bool = True


def writer(model):
    class Writer(Adapter):
        name = "writer"

        def __init__(self):
            self.sent = []

        @emits("upsert")
        def emit_row(self, payload: model, operation: PlannedOperation) -> Receipt:
            self.sent.append(payload)
            if len(self.sent) == 1 and model is Before:
                raise KeyboardInterrupt
            return Receipt()

    return Writer()


@pytest.mark.parametrize(
    ("model", "difference"),
    [(Renamed, "'note' would be lost; 'memo' would be added"), (Grown, "'urgent' would be added")],
)
def test_what_differs_from_the_plan_is_not_sent(model, difference):
    world = World()
    world.adapter = writer(Before)
    row = Operation(kind="row", payload={"amount": 1, "note": "call back"})
    with pytest.raises(KeyboardInterrupt):
        world.run_operations([row])
    world.adapter = writer(model)
    report = world.resume()
    assert report.status is RunStatus.RESUME_NEEDED
    assert f"would not send what was planned: {difference}" in report.error
    assert world.adapter.sent == []


def test_a_default_is_in_the_plan():
    world = World()
    world.adapter = writer(Grown)
    assert world.run_operations([Operation(kind="row", payload={"amount": 1})]).ok
    (planned,) = world.json("s1/planned-writeback.json")["operations"]
    assert planned["payload"] == {"amount": 1, "note": None, "urgent": True}


def test_an_own_plan_is_not_replayed_as_something_else():
    store = MemoryStore()
    write_planned_writeback_artifact(store, "s1", Before(amount=1, note="call back"))
    with pytest.raises(ResumeError, match="'note' would be lost; 'memo' would be added"):
        load_replay_artifact(store, "s1", Renamed)
    assert load_replay_artifact(store, "s1", Before).model.note == "call back"


def test_a_transaction_is_held_to_its_plan(monkeypatch):
    world = World()
    world.adapter = TransactionalRemoteAdapter(world.remote)
    world.remote.script = {"all": [Meets.UNAVAILABLE]}
    world.policy = ONCE
    world.run("create", "upsert", atomic=True)

    def payload_of(operation):
        raise InvalidInput(f"operation {operation.id}: other")

    monkeypatch.setattr(world.adapter, "payload_of", payload_of)
    world.remote.requests.clear()
    assert "other" in world.resume().error
    assert world.remote.requests == []


def test_an_identity_says_what_a_repeat_is():
    world = World()
    parked(world, identity={"event": 7})
    planned = world.store.get("s1/planned-writeback.json").data
    report = world.run("create", "create", identity={"event": 7})
    assert report.status is RunStatus.COMPLETED
    assert world.store.get("s1/planned-writeback.json").data == planned
    assert [operation.kind for operation in report.operations] == ["create", "upsert", "create"]
    with pytest.raises(PlanConflict, match="was completed with another identity"):
        world.run("create", "upsert", "create", identity={"event": 8})
    with pytest.raises(PlanConflict, match="was completed with another identity"):
        world.run("create", "upsert", "create")


def test_the_content_of_an_operation_has_a_digest():
    world = World()
    one, two = (world.run("create", session_id=name, dry_run=True).operations[0] for name in ("s1", "s2"))
    assert one.content_digest == two.content_digest
    other = one.model_copy(update={"payload": {"text": "x"}})
    assert other.content_digest != one.content_digest
    first, second = (
        world.run(*kinds, session_id="s3", dry_run=True, identity="e").operations[0].content_digest
        for kinds in (["create"], ["create", "create"])
    )
    assert first == second != one.content_digest


def test_a_namespace_tells_sessions_of_one_id_apart():
    assert idempotency_key("s1", "1-create") == idempotency_key("s1", "1-create", namespace="")
    world = World()
    world.run("create", namespace="tenant-a")
    world.store = MemoryStore()
    assert world.run("create", namespace="tenant-b").receipts["1-create"].outcome == "applied"
    assert len(set(world.remote.effects)) == 2


def fail_to_plan(monkeypatch, world, error):
    def plan(_operations):
        raise error

    monkeypatch.setattr(world.adapter, "plan", plan)


def test_a_repeat_while_the_remote_is_down_finds_the_completed_session(monkeypatch):
    world = World()
    world.run("create")
    for error in (NotReady("no row"), TransientError("GET: 503")):
        fail_to_plan(monkeypatch, world, error)
        report = world.run("create")
        assert (report.status, report.ok) == (RunStatus.NO_RESUME_NEEDED, True)
        with pytest.raises(PlanConflict):
            world.run("upsert")
        assert world.run("create", session_id="new").block_reason is BlockReason.NOT_READY


def test_a_repeat_while_planning_fails_resumes_the_plan_that_is_there(monkeypatch):
    world = World()
    parked(world)
    fail_to_plan(monkeypatch, world, NotReady("gone"))
    assert world.run("create", "upsert", "create").status is RunStatus.COMPLETED


def test_a_conflict_carries_how_the_session_stands():
    world = World()
    parked(world)
    with pytest.raises(PlanConflict) as caught:
        world.run("create")
    assert caught.value.report.status is RunStatus.RESUME_NEEDED
    assert list(caught.value.report.receipts) == ["1-create"]
    world.resume()
    with pytest.raises(PlanConflict) as caught:
        world.run("create")
    assert caught.value.report.status is RunStatus.NO_RESUME_NEEDED


def test_a_report_raises_for_its_status():
    world = World()
    report = parked(world)
    with pytest.raises(NotCompleted, match="session s1: resume_needed: POST /rows: 503") as caught:
        report.raise_for_status()
    assert caught.value.report is report
    done = world.resume()
    assert done.raise_for_status() is done


def test_times_belong_to_their_class():
    with pytest.raises(ValueError, match="key_valid_for"):
        emits("upsert", key_valid_for=timedelta(hours=1))
    with pytest.raises(ValueError, match="settles_after"):
        emits("create_with_key", settles_after=timedelta(hours=1))
    with pytest.raises(ValueError, match="longer than nothing"):
        emits("upsert", settles_after=timedelta(0))


def test_a_dry_run_sends_nothing_where_planning_fails(monkeypatch):
    world = World()
    parked(world)
    world.remote.requests.clear()
    fail_to_plan(monkeypatch, world, NotReady("gone"))
    report = world.run("create", "upsert", "create", dry_run=True)
    assert (report.block_reason, world.remote.requests) == (BlockReason.NOT_READY, [])


def test_two_tenants_with_one_id_and_identity_are_no_repeat():
    world = World()
    world.run("create", namespace="a", identity="e7")
    with pytest.raises(PlanConflict, match="was completed in another namespace"):
        world.run("create", namespace="b", identity="e7")


def test_a_request_that_can_not_be_planned_is_refused_for_what_it_may_be(monkeypatch):
    world = World()
    parked(world)
    fail_to_plan(monkeypatch, world, NotReady("gone"))
    with pytest.raises(PlanConflict, match="other operations, atomic, identity or namespace"):
        world.run("create")


def test_a_completed_session_refused_for_its_remote_has_no_marker(monkeypatch):
    world = World()
    monkeypatch.setattr(world.adapter, "target", lambda: "one")
    world.run("create")
    monkeypatch.setattr(world.adapter, "target", lambda: "another")
    with pytest.raises(InvalidInput, match="was planned for target"):
        world.run("create")
    assert [info.key for info in world.store.list(".open/")] == []


def test_a_completed_session_whose_plan_was_removed(monkeypatch):
    world = World()
    world.run("create")
    world.store.delete("s1/planned-writeback.json")
    fail_to_plan(monkeypatch, world, NotReady("down"))
    assert world.run("create").status is RunStatus.NO_RESUME_NEEDED


@pytest.mark.parametrize("kind", ["upsert", "mail"])
@pytest.mark.parametrize("identity", [None, "e7"])
def test_other_operations_are_not_completed_by_a_session_whose_plan_was_removed(kind, identity):
    world = World()
    world.run(kind, identity=identity)
    before = world.names()
    for _ in range(2):
        world.store.delete("s1/planned-writeback.json")
        with pytest.raises(PlanConflict, match="its plan was removed since") as caught:
            world.run("create", identity="other")
        assert caught.value.report.status is RunStatus.NO_RESUME_NEEDED
        assert world.names() == [name for name in before if not name.endswith("/planned-writeback.json")]
        assert world.run(kind, identity=identity).status is RunStatus.NO_RESUME_NEEDED
    assert world.remote.requests == [f"1-{kind}"]


def test_completed_elsewhere_is_not_completed_here(monkeypatch):
    world = World()
    world.adapter = Targeted(world.remote, "https://a.example.com")
    assert world.run("create").ok
    world.adapter = Targeted(Remote(), "https://b.example.com")
    with pytest.raises(InvalidInput, match="planned for target"):
        world.run("create")
    fail_to_plan(monkeypatch, world, NotReady("down"))
    with pytest.raises(InvalidInput, match="planned for target"):
        world.run("create")


class Loose(Adapter):
    """Its planner leaves a default out, as one could with version 0.1."""

    name = "writer"

    def __init__(self, model):
        self.sent = []
        self.kinds = {"row": replace(type(writer(model)).kinds["row"])}
        self.model = model

    @emits("upsert")
    def emit_row(self, payload: Grown, operation: PlannedOperation) -> Receipt:
        self.sent.append(operation.payload)
        return Receipt()


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        (Grown, [{"amount": 1, "note": "call back", "urgent": True}]),
        (Renamed, []),
    ],
)
def test_a_plan_of_version_1_may_lack_defaults_and_nothing_else(model, sent):
    world = World(RunPolicy(attempts=1, clock_skew=0))
    world.adapter = writer(Before)
    with pytest.raises(KeyboardInterrupt):
        world.run_operations([Operation(kind="row", payload={"amount": 1, "note": "call back"})])
    key = "s1/planned-writeback.json"
    document = world.json(key)
    for name in ("checksum", "exact", "holder"):
        document.pop(name, None)
    document |= {"version": 1}
    document["checksum"] = digest_of(document)
    for info in list(world.store.list("s1/")):
        world.store.delete(info.key)
    world.store.put(key, encode(document))
    world.clock.advance(3600)
    world.adapter = Loose(model)
    report = world.resume()
    assert world.adapter.sent == sent
    assert report.ok is bool(sent)
    assert sent or "'note' would be lost" in report.error


def test_a_run_that_is_told_to_stop_is_no_turn():
    world = World(RunPolicy(attempts=1, clock_skew=0, max_turns=2))
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    world.run("create")
    world.stop = threading.Event()
    world.stop.set()
    for _ in range(5):
        assert world.resume(now="again").status is RunStatus.RESUME_NEEDED
    world.stop = None
    assert world.resume(now="again").ok
