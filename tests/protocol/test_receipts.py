"""What a run gives back: values, references between operations, and receipts of any size."""

import json

import pytest
from pydantic import BaseModel, ConfigDict

from tests.support.remotes import TransactionalRemoteAdapter
from tests.support.worlds import World
from writeahead import Operation, PlannedOperation, Receipt, RunPolicy, emits, unblock_session
from writeahead.adapters.base import Adapter
from writeahead.errors import Applied, InvalidInput, PlanConflict, TransientError
from writeahead.model import Assume, BlockReason, KeyedOperation, RunStatus, ref
from writeahead.protocol import planning
from writeahead.protocol.encoding import MAX_ARTIFACT_BYTES, MAX_RECEIPT_BYTES


class Ticket(BaseModel):
    title: str = "x"


class Comment(BaseModel):
    ticket: str
    text: str = ""
    urgent: bool = False


class Vote(BaseModel):
    ticket_number: int


class Sum(BaseModel):
    sum: float


class Address(BaseModel):
    row: str


class Desk(Adapter):
    name = "desk"

    def __init__(self):
        self.sent, self.receipt = [], Receipt(remote_id="T-1", value=4711)

    def _send(self, payload):
        self.sent.append(payload)

    @emits("create_with_key")
    def emit_ticket(self, payload: Ticket, operation: PlannedOperation) -> Receipt:
        self._send(payload)
        return self.receipt

    @emits("unprovable")
    def emit_comment(self, payload: Comment, operation: PlannedOperation) -> Receipt:
        self._send(payload)
        return Receipt()

    @emits("upsert")
    def emit_vote(self, payload: Vote, operation: PlannedOperation) -> Receipt:
        self._send(payload)
        return Receipt()

    def plan_address(self, payload: Address, operation: KeyedOperation) -> PlannedOperation:
        return PlannedOperation(
            id=operation.id,
            kind="address",
            key=operation.key,
            payload={"row": f"/tickets({payload.row})"},
            replay="upsert",
        )

    @emits("upsert")
    def emit_address(self, payload: Address, operation: PlannedOperation) -> Receipt:
        self._send(payload)
        return Receipt()


@pytest.fixture
def world():
    world = World(RunPolicy(attempts=1))
    world.adapter = Desk()
    return world


TICKET = Operation(kind="ticket")
COMMENT = Operation(kind="comment", payload={"ticket": ref("1-ticket"), "text": "hello"})


def test_an_operation_refers_to_an_earlier_receipt(world):
    report = world.run_operations([TICKET, COMMENT])
    assert report.ok
    assert world.adapter.sent == [Ticket(), Comment(ticket="T-1", text="hello")]
    planned = world.json("s1/planned-writeback.json")["operations"][1]["payload"]
    assert planned == {
        "ticket": {"$receipt": "1-ticket", "field": "remote_id"},
        "text": "hello",
        "urgent": False,
    }
    (sending,) = [
        entry
        for name in world.names()
        if "/journal/" in name and (entry := world.json(name))["event"] == "sending"
    ]
    assert sending["issued"] == {"ticket": "T-1", "text": "hello", "urgent": False}


def test_a_reference_is_resolved_after_a_resume(world):
    world.adapter._send = failing_second(world.adapter)
    assert world.run_operations([TICKET, COMMENT]).status is RunStatus.RESUME_NEEDED
    world.adapter = Desk()
    assert world.resume().ok
    assert world.adapter.sent == [Comment(ticket="T-1", text="hello")]


def failing_second(adapter):
    def send(payload):
        adapter.sent.append(payload)
        if len(adapter.sent) == 2:
            raise TransientError("503", applied=Applied.NO)

    return send


def test_a_reference_may_be_a_number(world):
    vote = Operation(kind="vote", payload={"ticket_number": ref("1-ticket", "value")})
    assert world.run_operations([TICKET, vote]).ok
    assert world.adapter.sent[1] == Vote(ticket_number=4711)


WRONG = {
    "forward": ([COMMENT, TICKET], "refers to '1-ticket', which is no operation before it"),
    "to itself": (
        [Operation(kind="comment", payload={"ticket": ref("1-comment")})],
        "no operation before it",
    ),
    "malformed": (
        [TICKET, Operation(kind="comment", payload={"ticket": {"$receipt": "1-ticket", "x": 1}})],
        "write",
    ),
    "of no field": (
        [TICKET, Operation(kind="comment", payload={"ticket": ref("1-ticket", "zork")})],
        "write a ref",
    ),
    "to a list": (
        [TICKET, Operation(kind="comment", payload={"ticket": {"$receipt": ["1-ticket"]}})],
        "no operation before it",
    ),
    "in an address": (
        [TICKET, Operation(kind="address", payload={"row": ref("1-ticket")})],
        "can't stand where its kind needs the value",
    ),
    "for a bool": (
        [TICKET, Operation(kind="comment", payload={"ticket": "x", "urgent": ref("1-ticket")})],
        "urgent",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_reference_of_no_use_is_refused_before_anything_is_written(world, what):
    operations, said = WRONG[what]
    with pytest.raises(InvalidInput, match=said):
        world.run_operations(operations)
    assert world.names() == []
    assert world.adapter.sent == []


def test_a_transaction_has_no_receipts_to_refer_to():
    world = World()
    world.adapter = TransactionalRemoteAdapter(world.remote)
    operations = [
        Operation(kind="create", payload={"text": "a"}),
        Operation(kind="upsert", payload={"text": ref("1-create")}),
    ]
    with pytest.raises(InvalidInput, match="refers to a receipt"):
        world.run_operations(operations, atomic=True)


def test_a_receipt_without_the_field_rejects_the_operation(world):
    world.adapter.receipt = Receipt()
    report = world.run_operations([TICKET, COMMENT])
    assert (report.block_reason, report.operation) == (BlockReason.REJECTED, "2-comment")
    assert "the receipt of 1-ticket has no remote_id" in report.error
    assert len(world.adapter.sent) == 1


def test_a_value_is_kept_and_shown(world):
    world.adapter.receipt = Receipt(remote_id="T-1", value={"number": 7, "url": "/t/7"})
    report = world.run_operations([TICKET])
    assert report.receipts["1-ticket"].value == {"number": 7, "url": "/t/7"}
    (operation,) = world.json("s1/writeback.json")["operations"]
    assert operation["receipt"]["value"] == {"number": 7, "url": "/t/7"}


def test_what_an_adapter_returns_too_much_is_no_error_after_the_effect():
    receipt = Receipt(remote_id=4711, status="open")
    assert (receipt.remote_id, receipt.model_dump().get("status")) == ("4711", None)


@pytest.mark.parametrize(
    "large", [{"remote_id": "x" * 10_000}, {"value": ["x" * 9_000]}, {"remote_id": "\ud800"}]
)
def test_a_receipt_too_large_is_cut_and_the_effect_recorded(world, large):
    world.adapter.receipt = Receipt(**large, outcome="already_applied")
    assert world.run_operations([TICKET]).ok
    (operation,) = world.json("s1/writeback.json")["operations"]
    assert operation["receipt"]["outcome"] == "already_applied"
    assert len(json.dumps(operation["receipt"], indent=2)) <= MAX_RECEIPT_BYTES


def test_a_plan_whose_final_could_not_be_written_is_refused(world, monkeypatch):
    size = MAX_RECEIPT_BYTES * 2 + 2000
    monkeypatch.setattr(planning, "MAX_ARTIFACT_BYTES", size)
    with pytest.raises(InvalidInput, match=r"3 operations need up to .* make it several sessions"):
        world.run_operations([TICKET] * 3)
    with pytest.raises(InvalidInput, match="several sessions"):
        world.run_operations([TICKET] * 3, dry_run=True)
    assert world.names() == []
    assert world.adapter.sent == []
    assert world.run_operations([TICKET]).ok


def test_the_largest_plan_that_is_accepted_can_be_finished(world):
    """Each receipt as large as it may be: the final artifact still fits."""
    world.adapter.receipt = Receipt(remote_id="x" * 3400)
    count = 200
    assert world.run_operations([TICKET] * count).ok
    planned, final = (len(world.store.get(f"s1/{name}writeback.json").data) for name in ("planned-", ""))
    assert final <= planned + count * MAX_RECEIPT_BYTES <= MAX_ARTIFACT_BYTES


class More(Receipt):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    status: object = None


ODD_RECEIPTS = [
    More(remote_id="r", status="open"),
    More(remote_id="r", status=object()),
    Receipt(remote_id="r").model_copy(update={"remote_version": {5}}),
    Receipt.model_construct(remote_id="r", value={1, 2}),
    Receipt.model_construct(remote_id="r", value=float("nan")),
]


@pytest.mark.parametrize("receipt", ODD_RECEIPTS)
def test_an_odd_receipt_is_no_error_after_the_effect(world, receipt):
    world.adapter.receipt = receipt
    report = world.run_operations([TICKET])
    assert report.ok
    assert report.receipts["1-ticket"].remote_id == "r"


@pytest.mark.parametrize("value", [[1] * 490, "x" * 10_000])
def test_a_value_is_bounded_where_it_stands_and_ids_stay(world, value):
    """In the final artifact each level of JSON indents each of its lines."""
    world.adapter.receipt = Receipt(remote_id="r", value=value)
    report = world.run_operations([TICKET])
    text = world.store.get("s1/writeback.json").data.decode()
    assert len(text[text.index('"receipt"') : text.index('"replay"')]) <= MAX_RECEIPT_BYTES
    assert report.receipts["1-ticket"].remote_id == "r"


class Sums(Desk):
    """Numbers its tickets; others refer to them."""

    @emits("create_with_key")
    def emit_pay(self, payload: Sum, operation: PlannedOperation) -> Receipt:
        self._send(payload)
        return Receipt()


def test_an_id_that_is_a_number_fits_where_a_number_belongs(world):
    world.adapter.receipt = Receipt(remote_id=4711)
    vote = Operation(kind="vote", payload={"ticket_number": ref("1-ticket")})
    report = world.run_operations([TICKET, vote])
    assert report.ok, report.error
    assert world.adapter.sent[1] == Vote(ticket_number=4711)


def test_a_reference_may_be_a_float(world):
    world.adapter = Sums()
    world.adapter.receipt = Receipt(value=12.5)
    assert world.run_operations([TICKET, Operation(kind="pay", payload={"sum": ref("1-ticket", "value")})]).ok
    assert world.adapter.sent[1] == Sum(sum=12.5)


def test_a_receipt_is_journaled_before_another_operation_reads_it():
    """What was sent must be the same after a crash: a second answer may have other values."""
    world = World(RunPolicy(attempts=1, journal_interval=3600))
    world.adapter = Sums()
    world.run_operations([TICKET, Operation(kind="pay", payload={"sum": ref("1-ticket", "value")}), TICKET])
    first = world.json("s1/journal/000001.json")
    assert (first["event"], list(first["receipts"])) == ("confirmed", ["1-ticket"])
    assert "s1/journal/000002.json" not in world.names()


def test_other_operations_that_refer_to_receipts_are_a_conflict(world):
    assert world.run_operations([TICKET, COMMENT]).ok
    other = Operation(kind="comment", payload={"ticket": ref("1-ticket", "remote_version"), "text": "hello"})
    for operations in ([TICKET, other], [Operation(kind="ticket", payload={"title": "y"}), COMMENT]):
        with pytest.raises(PlanConflict):
            world.run_operations(operations)


def test_an_assumed_operation_that_is_referred_to_needs_its_id(world):
    def lost(payload):
        raise TransientError("timeout", applied=Applied.UNKNOWN)

    comment = Operation(kind="comment", payload={"ticket": "T-0"})
    reply = Operation(kind="comment", payload={"ticket": ref("1-comment")})
    world.adapter._send = lost
    assert world.run_operations([comment, reply]).status is RunStatus.BLOCKED
    assume = {"1-comment": Assume.APPLIED}

    def unblock(assume, **more):
        unblock_session("s1", store=world.store, reason="x", assume=assume, clock=world.clock, **more)

    with pytest.raises(InvalidInput, match="'2-comment' refers to the remote id of '1-comment'"):
        unblock(assume)
    unblock(assume, remote_ids={"1-comment": "C-1"})
    del world.adapter._send
    assert world.resume().ok
    assert world.adapter.sent == [Comment(ticket="C-1")]


class Quiet(Desk):
    """Its tickets have no receipt to speak of."""

    @emits("create_with_key")
    def emit_ticket(self, payload: Ticket, operation: PlannedOperation) -> None:
        self._send(payload)


class Forgetful(Desk):
    @emits("create_with_key")
    def emit_ticket(self, payload: Ticket, operation: PlannedOperation) -> Receipt:
        self._send(payload)


def test_none_is_an_empty_receipt(world):
    world.adapter = Quiet()
    report = world.run_operations([TICKET])
    assert report.ok
    (kept,) = world.json("s1/writeback.json")["operations"]
    assert (kept["receipt"]["remote_id"], kept["receipt"]["outcome"]) == (None, "applied")
    assert world.resume().status is RunStatus.NO_RESUME_NEEDED
    assert world.adapter.sent == [Ticket()]


def test_a_reference_to_what_returns_none_is_refused_at_planning(world):
    world.adapter = Quiet()
    with pytest.raises(InvalidInput, match="2-comment: it refers to the receipt of 1-ticket, and emit_tic"):
        world.run_operations([TICKET, COMMENT])
    assert (world.adapter.sent, world.names()) == ([], [])


def test_a_forgotten_return_blocks_what_refers_to_its_receipt(world):
    world.adapter = Forgetful()
    report = world.run_operations([TICKET, COMMENT])
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert "the receipt of 1-ticket has no remote_id, to which 2-comment refers" in report.error
    assert "has to return a Receipt" in report.error
    assert world.adapter.sent == [Ticket()]
    assert world.resume().status is RunStatus.BLOCKED
    assert world.adapter.sent == [Ticket()]


@pytest.mark.parametrize("returned", [{"remote_id": "1"}, "1", True, ()])
def test_anything_else_than_a_receipt_is_an_unknown_outcome(world, returned):
    world.adapter = Desk()
    world.adapter.emit_comment = lambda payload, operation: returned
    with pytest.raises(TypeError, match="returned no Receipt for 1-comment"):
        world.run_operations([Operation(kind="comment", payload={"ticket": "T"})])
    assert world.resume().block_reason is BlockReason.OUTCOME_UNKNOWN


def test_a_transaction_has_a_receipt_for_each_operation():
    world = World(RunPolicy(attempts=1))
    world.adapter = TransactionalRemoteAdapter(world.remote)
    world.adapter.transact = lambda operations: [Receipt(), None]
    with pytest.raises(TypeError, match="returned no Receipt for 1-create, 2-upsert"):
        world.run("create", "upsert", atomic=True)
    assert world.json("s1/journal/000001.json")["status"] == "resume_needed"
