"""What each artifact holds, field by field. How they are encoded is in `encoding`.

A field or an event that is added here is an artifact field: see docs/decisions/0009.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BeforeValidator, ConfigDict, Field, JsonValue, PlainSerializer

from writeahead._sparse import LeftOut, Sparse, is_none, is_unset
from writeahead.model import (
    ID_PATTERN,
    BlockReason,
    Frozen,
    PlannedOperation,
    Receipt,
    RunStatus,
    Stop,
    Timestamp,
    in_words,
)
from writeahead.policy import LONGEST_LEASE

__all__ = [
    "ATTEMPTS",
    "STATE",
    "AbandonedPlan",
    "Event",
    "Holder",
    "JournalEntry",
    "PlannedWriteback",
    "PrunedPlan",
    "SettledOperation",
    "StoredReceipt",
    "Writeback",
    "document_of_receipt",
]


class StoredReceipt(Receipt):
    """A receipt in an artifact: there, an unknown field is one of a newer version."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=False)


# What a receipt in a journal entry usually has. It is left out there, since each is written
# several times.
_USUAL: Mapping[str, Any] = {"remote_id": None, "remote_version": None, "outcome": "applied", "attempts": 1}


def document_of_receipt(receipt: Receipt) -> dict[str, Any]:
    """A receipt as ``model_dump(mode="json")`` writes it; by hand, in a fraction of the time."""
    document: dict[str, Any] = {
        "remote_id": receipt.remote_id,
        "remote_version": receipt.remote_version,
        "outcome": receipt.outcome,
        "confirmed_at": receipt.confirmed_at and in_words(receipt.confirmed_at),
        "attempts": receipt.attempts,
    }
    if receipt.value is not None:
        document["value"] = receipt.value
    if receipt.generation:
        document["generation"] = receipt.generation
    return document


def _briefly(receipts: Mapping[str, StoredReceipt]) -> dict[str, Any]:
    return {name: _unusual(document_of_receipt(receipt)) for name, receipt in receipts.items()}


def _unusual(receipt: Mapping[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in receipt.items() if field not in _USUAL or value != _USUAL[field]}


def _in_full(receipts: Any) -> Any:
    if not isinstance(receipts, dict):
        return receipts
    return {name: {**_USUAL, **one} if isinstance(one, dict) else one for name, one in receipts.items()}


_BriefReceipts: TypeAlias = Annotated[
    dict[str, StoredReceipt], BeforeValidator(_in_full), PlainSerializer(_briefly, when_used="json")
]


class SettledOperation(PlannedOperation):
    """A planned operation with its receipt; an element of the final artifact."""

    receipt: StoredReceipt


class Holder(Frozen):
    """The process that holds a lease, so that another on its machine can tell whether it is dead.

    Attributes:
        host: The machine's name, for people.
        boot_id: Of the running kernel: /proc/sys/kernel/random/boot_id, random(4).
        pid_namespace: In which ``pid`` counts: /proc/self/ns/pid, pid_namespaces(7).
        pid: The process.
        started: When it started, in clock ticks since the boot: /proc/[pid]/stat, proc(5).
    """

    host: str
    boot_id: str
    pid_namespace: str
    pid: int
    started: str


class _Artifact(Frozen):
    session_id: str = Field(pattern=ID_PATTERN)


class PlannedWriteback(Sparse, _Artifact):
    """The intent: ``planned-writeback.json``, created once before the first effect.

    Attributes:
        adapter: The name of the adapter that made the plan; only the same one may carry it out.
        created_at: When, by the owner's clock.
        owner: Random id of the run that owns attempt 1.
        lease_seconds: How long an owner may stay silent before another may take over.
        request_digest: sha256 of the operations as they were asked for, to tell a repeat from a
            conflict.
        digest: sha256 of ``operations``.
        operations: What will be issued, in this order.
        atomic: They are issued as one transaction: all of them take effect, or none.
        exact: Each payload is all that will be sent; plans of version 0.1 may lack defaults.
        target: What identifies the remote, hashed: see `Adapter.target`.
        holder: The process that made the plan and holds its first lease.
        traceparent: The span of the run that made the plan, in W3C's trace context, where the
            program is traced. A resume links to it.
    """

    adapter: str
    created_at: Timestamp
    owner: str
    lease_seconds: float = Field(ge=0, le=LONGEST_LEASE)
    request_digest: str
    digest: str
    operations: tuple[PlannedOperation, ...] = Field(min_length=1)
    atomic: Annotated[bool, LeftOut(is_unset)] = False
    exact: Annotated[bool, LeftOut(is_unset)] = False
    target: Annotated[str | None, LeftOut(is_unset)] = None
    holder: Annotated[Holder | None, LeftOut(is_unset)] = None
    traceparent: Annotated[str | None, LeftOut(is_unset)] = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What planning found odd, with the operation that it is about."""
        return tuple(f"{item.id}: {warning}" for item in self.operations for warning in item.warnings)


class AbandonedPlan(_Artifact):
    """A tombstone at the plan's key: the run died before its plan, so nothing was emitted."""

    abandoned_at: Timestamp


class PrunedPlan(Sparse, _Artifact):
    """A tombstone at the plan's key: the session was at its end, and its artifacts were removed.

    The id stays closed. See docs/decisions/0016.

    Attributes:
        status: How it ended.
        ended_at: When, by the store's clock or its last owner's, whichever says later.
        pruned_at: When its artifacts were removed.
        adapter: The adapter that its plan was for; None for an orchestrator of its own.
        request_digest: The plan's, to tell a repeat from a conflict; None likewise.
        target: The plan's.
    """

    status: Literal[RunStatus.COMPLETED, RunStatus.ABANDONED]
    ended_at: Timestamp
    pruned_at: Timestamp
    adapter: Annotated[str | None, LeftOut(is_none)] = None
    request_digest: Annotated[str | None, LeftOut(is_none)] = None
    target: Annotated[str | None, LeftOut(is_none)] = None


class Event(StrEnum):
    """What a journal entry reports."""

    CONFIRMED = "confirmed"
    SENDING = "sending"
    CLAIMED = "claimed"
    ENDED = "ended"
    UNBLOCKED = "unblocked"
    WAITING = "waiting"
    ABANDONED = "abandoned"


# What has become of the operations: fields of an entry, each a mapping by operation id.
_StateField: TypeAlias = Literal["receipts", "attempted", "attempted_since", "unsettled", "generations"]
STATE: tuple[str, ...] = get_args(_StateField)
# Those of them in which no operation with a receipt is.
ATTEMPTS = ("attempted", "attempted_since")


class JournalEntry(Sparse, _Artifact):
    """One entry of a session's history.

    The fields of `STATE` are what has become of the operations. An entry with a ``base`` holds what
    of them is new since that one, so that a long journal does not cost the square of its plan; an
    entry without a base holds all of them.

    Attributes:
        number: Position, from 1, without gaps; also the fencing token.
        event: What happened.
        owner: Random id of the run that wrote it.
        at: When, by the owner's clock.
        lease_seconds: The entry renews the owner's lease by this much; 0 gives it up.
        plan_digest: The plan that it belongs to.
        receipts: Receipts by operation id: all of them, or those since the base.
        attempted: Operations without a receipt that may have been sent, and when at the latest.
        operation: The operation it is about, if any.
        status: How the run ended: ``resume_needed``, ``blocked`` or ``abandoned``.
        block_reason: Why it is blocked.
        error: What the remote or the store said, in one line.
        not_before: The remote asked to send nothing earlier than this.
        reason: Why an operator unblocked, took over, or abandoned the session.
        was_blocked: The session has had a ``.blocked/`` marker, which goes when it is final.
        attempted_since: Of operations whose key expires: when they may have been sent at the
            earliest.
        unsettled: Of upserts that may land late: when that is over, by operation id.
        generations: How often an operator gave an operation a new key.
        issued: The payload about to be sent, with its references resolved, where it can't be
            proved.
        turn: How often the session was claimed; 0 for the run that made the plan.
        idle: Turns since the last new receipt.
        holder: The process that holds the lease. Left out where it is that of the base, which the
            same run wrote.
        base: The number of the earlier entry that this one builds on; None for a whole one.
        removed: What an entry with a base takes out of its base, by the name of the field. An
            operation with a receipt is attempted no more, and is not named here.
        stops: Each operation at which the run stopped, where there are several.
    """

    number: int = Field(ge=1)
    event: Event
    owner: str
    at: Timestamp
    lease_seconds: float = Field(ge=0, le=LONGEST_LEASE)
    plan_digest: str
    receipts: _BriefReceipts = Field(default_factory=dict)
    attempted: dict[str, Timestamp] = Field(default_factory=dict)
    operation: Annotated[str | None, LeftOut(is_none)] = None
    status: Annotated[
        Literal[RunStatus.RESUME_NEEDED, RunStatus.BLOCKED, RunStatus.ABANDONED] | None, LeftOut(is_none)
    ] = None
    block_reason: Annotated[BlockReason | None, LeftOut(is_none)] = None
    error: Annotated[str | None, LeftOut(is_none)] = None
    not_before: Annotated[Timestamp | None, LeftOut(is_none)] = None
    reason: Annotated[str | None, LeftOut(is_none)] = None
    was_blocked: Annotated[bool, LeftOut(is_unset)] = False
    attempted_since: Annotated[dict[str, Timestamp], LeftOut(is_unset)] = Field(default_factory=dict)
    unsettled: Annotated[dict[str, Timestamp], LeftOut(is_unset)] = Field(default_factory=dict)
    generations: Annotated[dict[str, int], LeftOut(is_unset)] = Field(default_factory=dict)
    issued: Annotated[dict[str, JsonValue] | None, LeftOut(is_unset)] = None
    turn: Annotated[int, LeftOut(is_unset)] = Field(default=0, ge=0)
    idle: Annotated[int, LeftOut(is_unset)] = Field(default=0, ge=0)
    holder: Annotated[Holder | None, LeftOut(is_unset)] = None
    base: Annotated[int | None, LeftOut(is_unset)] = Field(default=None, ge=1)
    removed: Annotated[dict[_StateField, tuple[str, ...]], LeftOut(is_unset)] = Field(default_factory=dict)
    stops: Annotated[tuple[Stop, ...], LeftOut(is_unset)] = ()


class Writeback(_Artifact):
    """All is done: ``writeback.json``. Its presence is the success signal.

    Attributes:
        adapter: The adapter that carried the plan out.
        plan_digest: The plan's ``digest``, and the sha256 of the operations here without their
            receipts.
        completed_at: When, by the last owner's clock.
        operations: Every planned operation with its receipt.
    """

    adapter: str
    plan_digest: str
    completed_at: Timestamp
    operations: tuple[SettledOperation, ...] = Field(min_length=1)
