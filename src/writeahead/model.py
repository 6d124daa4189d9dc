"""What callers and adapters exchange, as frozen models: operations, receipts, reports.

`RunPolicy` is in `writeahead.policy`, and can be imported from here, too.
"""

import hashlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from writeahead._roundtrip import is_record, json_of
from writeahead._sparse import LeftOut, Sparse, is_none, is_unset
from writeahead.errors import NotCompleted
from writeahead.policy import RunPolicy

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "REFERENCE",
    "Assume",
    "BlockReason",
    "KeyedOperation",
    "Operation",
    "PlannedOperation",
    "Receipt",
    "ReplayClass",
    "RunPolicy",
    "RunReport",
    "RunStatus",
    "Stop",
    "idempotency_key",
    "ref",
]

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
KIND_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"

# What marks a reference to a receipt in a payload: see `ref`.
REFERENCE = "$receipt"

# Fixed for ever: an operation's idempotency key must come out the same in every version.
_KEY_NAMESPACE = uuid.UUID("6f1b1f0e-52c5-5d0c-9a53-5b0b3a1c7d11")


def in_words(moment: datetime) -> str:
    """A moment in UTC, as it is in artifacts and reports (RFC 3339)."""
    return moment.isoformat().replace("+00:00", "Z")


Timestamp = Annotated[
    AwareDatetime,
    AfterValidator(lambda value: value.astimezone(UTC)),
    PlainSerializer(in_words, when_used="json"),
]


class Frozen(BaseModel):
    # Validators are built at first use: building them all at import would double its time.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ReplayClass(StrEnum):
    """How a replay of an operation is proved harmless.

    - ``CREATE_WITH_KEY``: the remote refuses a second create of our key; "exists" with our mark =
      applied.
    - ``UPSERT``: same key, same content: sending again converges.
    - ``CONDITIONAL_UPDATE``: guarded by the baseline version; a mismatch is read back and settled.
    - ``LOOKUP``: the remote can be searched by our key, once no earlier request can still land.
    - ``UNPROVABLE``: none of these; it is never sent again after an attempt that may have been
      applied, and an operator decides.
    """

    CREATE_WITH_KEY = "create_with_key"
    UPSERT = "upsert"
    CONDITIONAL_UPDATE = "conditional_update"
    LOOKUP = "lookup"
    UNPROVABLE = "unprovable"


class RunStatus(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    NO_RESUME_NEEDED = "no_resume_needed"
    RESUME_NEEDED = "resume_needed"
    BLOCKED = "blocked"
    IN_PROGRESS = "in_progress"
    PLANNED = "planned"
    ABANDONED = "abandoned"


class BlockReason(StrEnum):
    """Why a session waits for an operator."""

    NOT_READY = "not_ready"
    CONFLICT_DETECTED = "conflict_detected"
    REJECTED = "rejected"
    OUTCOME_UNKNOWN = "outcome_unknown"
    UNKNOWN_KIND = "unknown_kind"
    GAVE_UP = "gave_up"


class Assume(StrEnum):
    """What an operator found out about an operation without a receipt."""

    APPLIED = "applied"
    NOT_APPLIED = "not-applied"


def idempotency_key(session_id: str, operation_id: str, *, namespace: str = "") -> str:
    """The key that the remote knows an operation by: a UUID (version 5, RFC 9562) of the ids.

    Args:
        session_id: The session.
        operation_id: The operation.
        namespace: Tells apart sessions of the same id, for callers whose ids are unique only within
            it.
    """
    root = uuid.uuid5(_KEY_NAMESPACE, namespace) if namespace else _KEY_NAMESPACE
    return str(uuid.uuid5(root, f"{session_id}/{operation_id}"))


def ref(operation_id: str, field: str = "remote_id") -> dict[str, JsonValue]:
    """A reference in a payload: a field of an earlier receipt takes its place before the send.

    Args:
        operation_id: An operation before this one in the session.
        field: ``remote_id``, ``remote_version`` or ``value``.
    """
    return {REFERENCE: operation_id, "field": field}


class Operation(Sparse, Frozen):
    """One write that a caller wants done.

    Attributes:
        kind: Which of the adapter's verbs: ``task`` is emitted by the adapter's ``emit_task``.
        payload: What to write, as JSON, a pydantic model or a dataclass.
        id: Names the operation within its session; by default its position and kind, ``2-task``.
        baseline: What the row was like when the caller loaded it, in the adapter's form, as JSON, a
            pydantic model or a dataclass. An edit of the row between that and planning is then a
            conflict, too. None: what planning sees is the baseline. It is no part of the request: a
            repeat may have another one, and the plan that is there goes by its own.
        independent: It needs no order among the independent operations next to it: they are sent
            at the same time, `RunPolicy.max_in_flight` at most, and a refusal of one does not stop
            the others. It still comes after all that is before these, and before all that is after
            them. One that refers to a receipt of another waits for that, and so does one that
            writes the same row, where the adapter tells (`Adapter.row_of`). In an atomic session it
            changes nothing. It is part of the request.

    Raises:
        pydantic.ValidationError: A field can't be used.
        InvalidInput: The payload or the baseline is a model or a dataclass that would read back
            different from its JSON.
    """

    kind: str = Field(pattern=KIND_PATTERN)
    payload: dict[str, JsonValue] = Field(default_factory=dict)
    id: str | None = Field(default=None, pattern=ID_PATTERN)
    baseline: Annotated[dict[str, JsonValue] | None, LeftOut(is_none)] = None
    independent: Annotated[bool, LeftOut(is_unset)] = False

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            kind: str,
            payload: Mapping[str, Any] | BaseModel | "DataclassInstance" = ...,
            id: str | None = None,  # noqa: A002 - the field's name
            baseline: Mapping[str, Any] | BaseModel | "DataclassInstance" | None = None,
            independent: bool = False,
        ) -> None: ...
    else:

        def __init__(self, **fields: Any) -> None:
            for name in ("payload", "baseline"):
                if is_record(fields.get(name)):
                    fields[name] = json_of(fields[name])
            super().__init__(**fields)


class KeyedOperation(Frozen):
    """An operation as an adapter's ``plan`` gets it: with session, id and idempotency key.

    Attributes:
        session_id: The session.
        id: The operation's id within its session.
        kind: Which of the adapter's verbs plans it.
        key: The idempotency key.
        payload: As the caller gave it.
        baseline: As the caller gave it; None if none was given. ``plan_<kind>`` gets it in its type
            as its parameter ``baseline``.
        independent: As the caller gave it. The plan keeps it, whatever the adapter plans.
    """

    session_id: str
    id: str
    kind: str
    key: str
    payload: dict[str, JsonValue]
    baseline: dict[str, JsonValue] | None = None
    independent: bool = False


class PlannedOperation(Sparse, Frozen):
    """One write, ready to be issued; an element of the plan.

    Attributes:
        id: The operation's id within its session.
        kind: Which of the adapter's verbs emits it.
        key: The idempotency key, a UUID made from the session id and the operation id.
        payload: What will be issued, exactly.
        precondition: What must still hold at the remote, e.g. the baseline version; None if nothing
            must.
        replay: How a replay is proved harmless.
        warnings: What planning found odd and went on with; for people.
        identity: What makes two requests for this operation the same, hashed, where the caller
            said.
        independent: It needs no order among the independent operations next to it.
    """

    id: str
    kind: str
    key: str
    payload: dict[str, JsonValue]
    precondition: dict[str, JsonValue] | None = None
    replay: ReplayClass
    warnings: Annotated[tuple[str, ...], LeftOut(is_unset)] = ()
    identity: Annotated[str | None, LeftOut(is_unset)] = None
    independent: Annotated[bool, LeftOut(is_unset)] = False

    @property
    def content_digest(self) -> str:
        """What a marker at the remote keeps beside the key, to tell ours from another of this id.

        The sha256, in hex, of the caller's identity if there is one, and else of kind and payload.
        """
        content = self.identity or json.dumps([self.kind, self.payload], sort_keys=True)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _if_it_is_text(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Leave out what UTF-8 can't hold: half a surrogate pair.

    No artifact can hold it, and pydantic before 2.10 raises for it: after the effect.
    """
    try:
        return validate(value)
    except ValidationError as error:
        if any(problem["type"] != "string_unicode" for problem in error.errors()):
            raise
    return None


_TEXT = WrapValidator(_if_it_is_text)


class Receipt(Sparse, Frozen):
    """The proof that one operation took effect.

    An adapter's ``emit`` fills the first four; the runner adds the rest. An unknown field is left
    out, and a number becomes text: an error would come after the effect.

    Attributes:
        remote_id: The remote's id of the row or message.
        remote_version: Its version after the write, e.g. an ETag.
        outcome: ``applied`` by this request; ``already_applied`` by an earlier one, which was found
            out by asking the remote; ``assumed`` by an operator's decision.
        value: Small JSON that the remote gave back, e.g. a number or a URL. It is kept and shown,
            and never compared. With the ids it has at most 3.5 KiB.
        confirmed_at: When the runner got the receipt.
        attempts: Requests that this run made for it, the last one included.
        generation: How often an operator gave the operation a new key before it was applied.
    """

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    remote_id: Annotated[str | None, _TEXT] = None
    remote_version: Annotated[str | None, _TEXT] = None
    outcome: Literal["applied", "already_applied", "assumed"] = "applied"
    value: Annotated[JsonValue, _TEXT, LeftOut(is_none)] = None
    confirmed_at: Timestamp | None = None
    attempts: int | None = None
    generation: Annotated[int, LeftOut(is_unset)] = 0


class Stop(Sparse, Frozen):
    """An operation at which a run stopped, and why.

    Attributes:
        operation: The operation's id.
        status: What it needs: ``resume_needed``, or ``blocked`` if an operator has to decide.
        error: Why, in one line.
        block_reason: Why it is blocked, if it is.
        not_before: Sending it earlier than this is pointless: the remote says so.
    """

    operation: str
    status: Literal[RunStatus.RESUME_NEEDED, RunStatus.BLOCKED]
    error: str
    block_reason: Annotated[BlockReason | None, LeftOut(is_none)] = None
    not_before: Annotated[Timestamp | None, LeftOut(is_none)] = None


class RunReport(Frozen):
    """The result of a run.

    Attributes:
        session_id: The session.
        status: How it ended.
        block_reason: Why it is blocked, if it is.
        error: Why it did not complete, in one line.
        operation: The operation at which it stopped; of several, the first one of this status.
        stops: Every operation at which it stopped, in the plan's order. There can be several where
            operations are independent: the session is ``resume_needed`` as long as one of these
            needs no operator.
        operations: The plan's operations; empty if there is no plan.
        receipts: Every receipt of the session so far, by operation id.
        attempted: Operations without a receipt that may have been sent, and when at the latest.
        emitted: Ids of the operations that this very run confirmed.
        not_before: Resuming earlier than this is pointless: the remote or a lease says so.
        warnings: What planning found odd, and what went wrong without consequence.
    """

    # No field, since an exception is no value: it may hold what must not leave the process. So it
    # is in no dump, pickle, copy, comparison or text.
    __slots__ = ("_cause",)

    session_id: str
    status: RunStatus
    block_reason: BlockReason | None = None
    error: str | None = None
    operation: str | None = None
    operations: tuple[PlannedOperation, ...] = ()
    receipts: dict[str, Receipt] = Field(default_factory=dict)
    attempted: dict[str, Timestamp] = Field(default_factory=dict)
    emitted: tuple[str, ...] = ()
    not_before: Timestamp | None = None
    warnings: tuple[str, ...] = ()
    stops: tuple[Stop, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every operation of the session is confirmed."""
        return self.status in (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED)

    @property
    def cause(self) -> BaseException | None:
        """The exception that ended this very run, as it was raised; None where none did.

        For handlers of the caller's own. Its text, which may hold more than ``error``, is for no
        log that others read. It stays with this object: a copy, a report out of a pickle, and one
        of an end that is on record have none.
        """
        found: BaseException | None = getattr(self, "_cause", None)
        return found

    def raise_for_status(self) -> Self:
        """Return the report if it is `ok`.

        Raises:
            NotCompleted: It is not. The error carries the report, and its ``__cause__`` is `cause`.
        """
        if not self.ok:
            raise NotCompleted(self) from self.cause
        return self


def with_cause(report: RunReport, cause: BaseException | None) -> RunReport:
    """Note on a report that was just made what ended its run, and return it."""
    object.__setattr__(report, "_cause", cause)
    return report
