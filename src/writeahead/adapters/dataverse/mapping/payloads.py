"""The payloads of the named kinds, in the terms of an outbound-call service, and what is issued.

None in a field means: leave the column as it is. The mapping says which column a field becomes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from writeahead._sparse import LeftOut, Sparse, is_none, is_unset
from writeahead.adapters.dataverse.webapi.names import ENTITY_SET, GUID, Scalar

__all__ = [
    "INPUTS",
    "Baseline",
    "FreeText",
    "Party",
    "PartyWrite",
    "PhoneCallActivity",
    "QueueStatusUpdate",
    "Reference",
    "RowAddress",
    "RowWrite",
    "Task",
]

# The entity set, and the row's id or alternate key.
RowAddress: TypeAlias = tuple[str, str]

Guid = Annotated[str, StringConstraints(pattern=rf"(?i)^{GUID.pattern}$", to_lower=True)]
EntitySet = Annotated[str, StringConstraints(pattern=rf"^{ENTITY_SET.pattern}$")]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


@dataclass(frozen=True)
class FreeText:
    """Marks a field whose text may be cut: see `free_texts`, which holds it to its length.

    Attributes:
        longest: Characters, if the mapping does not let it be cut.
    """

    longest: int


# Lengths of the standard columns: "Phone Call (PhoneCall)" and "Task" table reference,
# learn.microsoft.com.
Subject = Annotated[str, StringConstraints(min_length=1), FreeText(200)]
Text = Annotated[str, FreeText(2000)]
Phone = Annotated[str, StringConstraints(min_length=1, max_length=200)]
# The length of addressused: "ActivityParty table reference", learn.microsoft.com.
Address = Annotated[str, StringConstraints(min_length=1, max_length=320)]
# What a party is in an activity; `parties` has the platform's number of each.
PartyRole = Literal["from", "to", "cc", "bcc", "required", "optional", "organizer", "resource", "customer"]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+$", max_length=100)]
# Edm.DateTimeOffset, to the second: Dataverse keeps no fractions.
Moment = Annotated[
    AwareDatetime,
    AfterValidator(lambda value: value.astimezone(UTC).replace(microsecond=0)),
    PlainSerializer(lambda value: value.strftime("%Y-%m-%dT%H:%M:%SZ"), when_used="json"),
]


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Reference(_Input):
    """A row that another one points to.

    Attributes:
        type: As the mapping calls it: ``contact``, ``account``, ``queue_row``, ``user``, ``team``.
        id: Its GUID.
    """

    type: Label
    id: Guid


class Party(_Input):
    """Who took part in a call: a row, or an address that no row is known for.

    Attributes:
        type: As the mapping calls the row's table: ``contact``, ``account``, ``user``.
        id: The row's GUID.
        address: A telephone number or an email address, instead.
    """

    type: Label | None = None
    id: Guid | None = None
    address: Address | None = None

    @model_validator(mode="after")
    def _one_party(self) -> Self:
        if (self.type is None) != (self.id is None) or (self.id is None) == (self.address is None):
            raise ValueError("either type and id, or address must say who it is")
        return self


class PhoneCallActivity(_Input):
    """A call that took place.

    Attributes:
        subject: One line.
        description: What was said.
        phone_number: As it was dialled.
        direction: Who called.
        outcome: Its label, e.g. ``interested``; the mapping has its value.
        duration_minutes: Whole minutes.
        actual_start: When it began.
        actual_end: When it ended.
        caller: Who called; its role is the mapping's, and ``from`` by default.
        callee: Who was called; ``to`` by default.
        regarding: What the call was about.
        owner: Whose it is; Dataverse's default is the application's user.
    """

    subject: Subject
    description: Text | None = None
    phone_number: Phone | None = None
    direction: Literal["inbound", "outbound"] | None = None
    outcome: Label | None = None
    duration_minutes: int | None = Field(default=None, ge=0)
    actual_start: Moment | None = None
    actual_end: Moment | None = None
    caller: Party | None = None
    callee: Party | None = None
    regarding: Reference | None = None
    owner: Reference | None = None


class Task(_Input):
    """A task for an employee.

    Attributes:
        subject: One line.
        description: What is to be done.
        due: Until when.
        priority: How urgent it is.
        reason_code: Why it is needed: a label, e.g. ``low_confidence``; the mapping has its value.
        category: Free text, for grouping.
        email: Address to use.
        phone_number: Number to call.
        regarding: What it is about.
        owner: Who is to do it; Dataverse's default is the application's user.
    """

    subject: Subject
    description: Text | None = None
    due: Moment | None = None
    priority: Literal["low", "normal", "high"] | None = None
    reason_code: Label | None = None
    category: Subject | None = None
    email: Email | None = None
    phone_number: Phone | None = None
    regarding: Reference | None = None
    owner: Reference | None = None


class QueueStatusUpdate(_Input):
    """What became of a row of the call queue.

    Attributes:
        row_id: The row's GUID.
        status: Its label, e.g. ``callback``; the mapping has its value.
        outcome: Of the last call, as a label.
        attempts: How many calls there have been in all. A total, so that writing it twice does no
            harm.
        next_attempt_at: When to call again.
        last_attempt_at: When the last call was.
        email: Address that was captured.
        do_not_call: Whether this person must not be called.
        do_not_call_reason: Why; a label or free text, as the mapping has it.
        do_not_call_at: Since when.
        reason_code: Why it is blocked or needs review: a label, e.g. ``no_consent``.
        notes: Free text.
        clear: Fields to be emptied.
    """

    row_id: Guid
    status: Label
    outcome: Label | None = None
    attempts: int | None = Field(default=None, ge=0)
    next_attempt_at: Moment | None = None
    last_attempt_at: Moment | None = None
    email: Email | None = None
    do_not_call: bool | None = None
    do_not_call_reason: Subject | None = None
    do_not_call_at: Moment | None = None
    reason_code: Label | None = None
    notes: Text | None = None
    clear: tuple[
        Literal[
            "outcome",
            "next_attempt_at",
            "email",
            "do_not_call_reason",
            "do_not_call_at",
            "reason_code",
            "notes",
        ],
        ...,
    ] = ()

    @model_validator(mode="after")
    def _not_both(self) -> Self:
        if any(getattr(self, name) is not None for name in self.clear):
            raise ValueError("a field can't be set and cleared at once")
        return self


# The named kinds. The mapping has fields of these models only, and all that are required.
INPUTS: dict[str, type[BaseModel]] = {
    "phone_call_activity": PhoneCallActivity,
    "task": Task,
    "queue_status_update": QueueStatusUpdate,
}


class PartyWrite(Sparse, _Input):
    """One party of an activity that is created: a row in a role, or an address.

    Attributes:
        role: What it is in the activity.
        entity_set: The row's table.
        id: The row's GUID.
        address: Instead of a row.
    """

    role: PartyRole
    entity_set: Annotated[EntitySet | None, LeftOut(is_none)] = None
    id: Annotated[Guid | None, LeftOut(is_none)] = None
    address: Annotated[Address | None, LeftOut(is_none)] = None

    @model_validator(mode="after")
    def _one_party(self) -> Self:
        if (self.entity_set is None) != (self.id is None) or (self.id is None) == (self.address is None):
            raise ValueError("either entity_set and id, or address must say who it is")
        return self


class RowWrite(Sparse, _Input):
    """One write to one row as it is issued: ``PATCH /<entity_set>(<row>)`` with these columns.

    It comes back from an artifact, so it is checked against the mapping again before it is sent.

    Attributes:
        entity_set: The table's.
        row_id: The row's GUID.
        key: The columns of an alternate key with their values, where the GUID is not known.
        columns: The body: logical names, or ``<navigation property>@odata.bind`` for a lookup.
        table: What the mapping calls the table, ``tables.account``; None for the one of the named
            kind.
        parties: Of an activity that is created; they are made with it.
    """

    entity_set: EntitySet
    row_id: Annotated[Guid | None, LeftOut(is_none)] = None
    key: Annotated[dict[str, Scalar] | None, LeftOut(is_none)] = None
    columns: dict[str, Scalar]
    table: Annotated[str | None, LeftOut(is_none)] = Field(default=None, max_length=200)
    parties: Annotated[tuple[PartyWrite, ...], LeftOut(is_unset)] = ()

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if (self.row_id is None) == (not self.key):
            raise ValueError("either row_id or key must say which row it is")
        return self

    @property
    def address(self) -> str | Mapping[str, Scalar]:
        """What the row is addressed by."""
        return self.row_id if self.row_id is not None else self.key or {}

    @property
    def row_address(self) -> RowAddress:
        """The row, to compare with others; a GUID and an alternate key are never the same."""
        return self.entity_set, self.row_id or repr(sorted((self.key or {}).items()))

    @property
    def where(self) -> str:
        """The row, for messages: without the values of a key, which are contents of a record."""
        return (
            f"{self.entity_set}({self.row_id or ','.join(f'{name}=...' for name in sorted(self.key or {}))})"
        )


class Baseline(Sparse, _Input):
    """What a row was like when the plan was made; persisted as the operation's precondition.

    Attributes:
        etag: Its version; None if there was no row yet.
        guarded: The columns that no other user may change, with their values. Where an earlier
            operation of the same session writes the row, they are what it leaves behind.
        later: What later operations of the session write into this row's marker, their ids or, in
            one column, both ids: finding one there proves that this one was applied.
        absent: There was no row, and no operation before this one makes it.
        planned_at: When a create was planned. A row under its GUID that is older was created by an
            earlier session under the same ids.
        stored: By column that is written: what it may read then, other than as what is written.
        left: The same of guarded columns that an earlier operation of the session writes.
        found: The GUID of a row that was there already: the create counts as done.
    """

    etag: str | None = Field(default=None, min_length=1, max_length=200)
    guarded: dict[str, Scalar]
    later: tuple[str, ...] = ()
    absent: Annotated[bool, LeftOut(is_unset)] = False
    planned_at: Annotated[Moment | None, LeftOut(is_none)] = None
    stored: Annotated[dict[str, tuple[Scalar, ...]], LeftOut(is_unset)] = Field(default_factory=dict)
    left: Annotated[dict[str, tuple[Scalar, ...]], LeftOut(is_unset)] = Field(default_factory=dict)
    found: Annotated[Guid | None, LeftOut(is_none)] = None

    @property
    def watches(self) -> bool:
        """Whether there is anything to hold the row against; not so for an upsert that is blind."""
        return self.absent or self.etag is not None or bool(self.guarded)
