"""A baseline from the caller, through the core to any adapter's planner."""

import asyncio
from dataclasses import dataclass

import pytest
from pydantic import BaseModel, SecretStr

from tests.report.test_remaining import remaining_of
from tests.support.worlds import World
from writeahead import Adapter, Operation, PlannedOperation, Receipt, awrite_back, emits
from writeahead.errors import ConflictError, InvalidInput, PlanConflict
from writeahead.model import BlockReason, KeyedOperation, ReplayClass, RunStatus
from writeahead.protocol.planning import keyed_operations, request_digest
from writeahead.report.page import next_step
from writeahead.report.remaining import Asked


class Row(BaseModel):
    text: str


class Seen(BaseModel):
    version: int
    text: str = ""


@dataclass
class Loaded:
    version: int


class Crm(Adapter):
    """One row, whose planner compares its version with the one that the caller saw."""

    name = "crm"

    def __init__(self):
        self.version, self.sent, self.seen = 7, [], []

    def plan_row(
        self, payload: Row, operation: KeyedOperation, baseline: Seen | None = None
    ) -> PlannedOperation:
        self.seen.append(baseline)
        if baseline is not None and baseline.version != self.version:
            raise ConflictError(f"operation {operation.id}: changed since it was loaded")
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=operation.payload,
            precondition={"version": self.version},
            replay=ReplayClass.CONDITIONAL_UPDATE,
        )

    @emits("conditional_update")
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        self.sent.append(operation.precondition)
        return Receipt()

    @emits("upsert")
    def emit_bare(self, payload: Row, operation: PlannedOperation) -> None:
        self.sent.append(payload)


@pytest.fixture
def world():
    made = World()
    made.adapter = Crm()
    return made


def row(baseline=None, kind="row"):
    return Operation(kind=kind, payload={"text": "ours"}, baseline=baseline)


@pytest.mark.parametrize("baseline", [{"version": 7}, Seen(version=7), Loaded(version=7)])
def test_a_planner_gets_it_in_its_type(world, baseline):
    assert world.run_operations([row(baseline)]).ok
    assert world.adapter.seen == [Seen(version=7)]
    assert world.adapter.sent == [{"version": 7}]


def test_without_one_a_planner_gets_none(world):
    assert world.run_operations([row()]).ok
    assert world.adapter.seen == [None]


def test_asyncio_has_it_too(world):
    class AsyncCrm(Crm):
        async def plan_row(
            self, payload: Row, operation: KeyedOperation, *, baseline: "Seen | None"
        ) -> PlannedOperation:
            return Crm.plan_row(self, payload, operation, baseline)

    world.adapter = AsyncCrm()
    asked = [row({"version": 6})]
    report = asyncio.run(
        awrite_back(asked, session_id="s1", store=world.store, adapter=world.adapter, policy=world.policy)
    )
    assert report.block_reason is BlockReason.CONFLICT_DETECTED
    assert world.adapter.seen == [Seen(version=6)]


# ---- what is refused


def test_a_kind_that_takes_none_refuses_one(world):
    with pytest.raises(InvalidInput, match=r"operation 1-bare \(bare\): this kind takes no baseline"):
        world.run_operations([row({"version": 7}, kind="bare")])
    assert world.names() == []


def test_an_adapter_that_plans_by_itself_can_not_overlook_one(world):
    class Own(Crm):
        def plan(self, operations):
            return [super().plan([one.model_copy(update={"baseline": None})])[0] for one in operations]

    world.adapter = Own()
    with pytest.raises(InvalidInput, match="takes no baseline"):
        world.run_operations([row({"version": 7}, kind="bare")])


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ({}, "version"),
        ({"version": "planted"}, "version"),
        ({"version": 7, "etag": "planted"}, "etag: Seen has no such field"),
    ],
)
def test_one_of_another_shape_is_refused(world, baseline, words):
    with pytest.raises(
        InvalidInput, match=rf"operation 1-row \(row\): baseline of the wrong shape: .*{words}"
    ) as caught:
        world.run_operations([row(baseline)])
    assert "planted" not in str(caught.value)
    assert world.names() == []


def test_one_that_would_read_back_otherwise_is_refused():
    class Hidden(BaseModel):
        version: SecretStr

    with pytest.raises(InvalidInput, match="version"):
        row(Hidden(version="planted"))


def define(annotation):
    def plan_row(self, payload, operation, baseline): ...

    def emit_row(self, payload, operation): ...

    plan_row.__annotations__ = {"payload": Row, "baseline": annotation}
    emit_row.__annotations__ = {"payload": Row}
    return type(
        "Defined", (Adapter,), {"name": "x", "plan_row": plan_row, "emit_row": emits("upsert")(emit_row)}
    )


@pytest.mark.parametrize("annotation", [Seen | None, Seen | Loaded | None, dict | None])
def test_its_type_is_read_where_the_class_is_defined(annotation):
    assert define(annotation).kinds["row"].baseline is not None


@pytest.mark.parametrize("annotation", [Seen, int | None, None, list[int] | None])
def test_a_type_that_can_not_be_left_out_or_is_no_object_is_refused(annotation):
    with pytest.raises(TypeError, match="plan_row must annotate its parameter 'baseline' with a pydantic"):
        define(annotation)


def test_a_third_parameter_of_another_name_is_refused():
    def plan_row(self, payload: Row, operation, loaded): ...

    with pytest.raises(TypeError, match=r"plan_row must take \(self, payload, operation\)"):
        type("Third", (Crm,), {"plan_row": plan_row})


# ---- a conflict that planning finds


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_row_that_changed_since_is_a_conflict_and_nothing_is_kept(world, dry_run):
    report = world.run_operations([row({"version": 6})], dry_run=dry_run)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert "1-row: changed since" in report.error
    assert isinstance(report.cause, ConflictError)
    assert (world.names(), world.adapter.sent) == ([], [])
    step = next_step("s1", report.status, block_reason=report.block_reason, planned=bool(report.operations))
    assert step == "settle the conflict, then run it again; nothing was sent"
    assert world.run_operations([row({"version": 7})]).ok


# ---- it is no part of the request


def test_the_digest_of_a_request_is_as_it_was():
    """Without one it is the digest of earlier versions, and any baseline leaves it so."""
    digests = {
        request_digest(keyed_operations("s1", [row(baseline)]), atomic=False, identity=None, namespace="")
        for baseline in (None, {}, {"version": 7})
    }
    assert digests == {"c1e67c8b2c62f17c0b412a31b56ef58c650443d435bd9553cf0d4fecfefee27c"}


def test_a_repeat_goes_by_the_baseline_that_was_planned(world):
    assert world.run_operations([row({"version": 7})]).status is RunStatus.COMPLETED
    world.adapter.version = 8
    for baseline in ({"version": 8}, {"version": 7}, None):
        assert world.run_operations([row(baseline)]).status is RunStatus.NO_RESUME_NEEDED
    other = Operation(kind="row", payload={"text": "another"}, baseline={"version": 8})
    with pytest.raises(PlanConflict):
        world.run_operations([other])
    assert len(world.adapter.sent) == 1


def test_a_plan_has_no_baseline_of_the_caller_but_its_precondition(world):
    world.run_operations([row({"version": 7, "text": "seen"})])
    [planned] = world.json("s1/planned-writeback.json")["operations"]
    assert planned["precondition"] == {"version": 7}
    assert "seen" not in str(planned)


def test_an_operation_without_one_is_written_as_before():
    assert row().model_dump() == {"kind": "row", "payload": {"text": "ours"}, "id": None}
    assert row({"version": 7}).model_dump()["baseline"] == {"version": 7}


# ---- what remains


def test_what_remains_keeps_the_baselines_of_the_file(world):
    class Down(Crm):
        @emits("conditional_update")
        def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
            raise ConflictError("planted")

    world.adapter = Down()
    asked = [row({"version": 7})]
    assert world.run_operations(asked).status is RunStatus.BLOCKED
    found = remaining_of(world, Asked(asked))
    assert [one.baseline for one in found.operations] == [{"version": 7}]
    assert not any("planned again" in warning for warning in found.warnings)
    [bare] = remaining_of(world).operations
    assert bare.baseline is None
    assert any("planned again" in warning for warning in remaining_of(world).warnings)
