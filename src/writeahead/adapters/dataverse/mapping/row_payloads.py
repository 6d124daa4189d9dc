"""What a caller gives for an operation on any table that the mapping declares.

create_row:              {"table": "account", "columns": {"name": "Ada Ltd"}}
update_row, upsert_row:  {"table": "account", "row_id": "0000...", "columns": {...}}
by an alternate key:     {"table": "account", "key": {"accountnumber": "A-1"}, "columns": {...}}
several options:         {"table": "account", "columns": {"wa_topics": [1, 9]}}
parties of an activity:  {"table": "letter", "columns": {...}, "parties": [
                          {"role": "to", "table": "contact", "id": "0000..."}]}
a lookup:                {"table": "contact", "row_id": "0000...", "columns":
                          {"parentcustomerid_account": {"table": "account", "id": "0000..."}}}
complete_activity:       {"operation": "1-phone_call_activity"}
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    model_validator,
)

from writeahead.adapters.dataverse.mapping.payloads import Address, EntitySet, Guid, Label, PartyRole
from writeahead.adapters.dataverse.webapi.names import Scalar

__all__ = ["CompleteActivity", "CreateRow", "RowParty", "RowReference", "UpdateRow", "UpsertRow"]

_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,127}$")]
_ReadName = Annotated[str, StringConstraints(pattern=r"^_?[a-z][a-z0-9_]{0,127}$")]
# Columns are in lower case; navigation properties may have capitals.
_Written = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,199}$")]
_Qualified = Annotated[str, StringConstraints(pattern=r"^((kinds|tables)\.)?[a-z][a-z0-9_]{0,127}$")]
_OperationId = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowReference(_Input):
    """A row that a lookup points to.

    Attributes:
        id: Its GUID.
        table: What the mapping calls its table.
        entity_set: The table's name in URLs, instead.
    """

    id: Guid
    table: _Name | None = None
    entity_set: EntitySet | None = None

    @model_validator(mode="after")
    def _one_table(self) -> Self:
        if (self.table is None) == (self.entity_set is None):
            raise ValueError("either table or entity_set must say where the row is")
        return self


def _joined(value: Any) -> Any:
    """Several options as the Web API has them: "Choices columns", learn.microsoft.com."""
    if isinstance(value, list | tuple) and all(type(item) is int for item in value):
        return ",".join(map(str, dict.fromkeys(value))) or None
    return value


_Value: TypeAlias = Annotated[RowReference | Scalar, BeforeValidator(_joined)]
Columns: TypeAlias = Annotated[dict[_Written, _Value], Field(min_length=1)]


class RowParty(_Input):
    """A party of a new activity: a row in a role, or an address that no row is known for.

    Attributes:
        role: What it is in the activity.
        id: The row's GUID.
        table: What the mapping calls the row's table.
        entity_set: The table's name in URLs, instead.
        address: A telephone number or an email address, instead of a row.
    """

    role: PartyRole
    id: Guid | None = None
    table: _Name | None = None
    entity_set: EntitySet | None = None
    address: Address | None = None

    @model_validator(mode="after")
    def _one_party(self) -> Self:
        where = (self.table is not None) + (self.entity_set is not None)
        if (self.id is None) == (self.address is None) or where != (self.id is not None):
            raise ValueError("either id with table or entity_set, or address alone must say who it is")
        return self


class CreateRow(_Input):
    """A new row; its GUID is made of session and operation.

    Attributes:
        table: What the mapping calls it.
        columns: Logical name to value, as JSON, a list of numbers for several options; navigation
            property to row, for a lookup.
        parties: Who takes part, if the row is an activity.
    """

    table: _Name
    columns: Columns
    parties: tuple[RowParty, ...] = ()


class _Addressed(_Input):
    table: _Name
    columns: Columns
    row_id: Guid | None = None
    key: Annotated[dict[_ReadName, Scalar], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_parties(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "parties" in value:
            raise ValueError("only create_row has parties, since a list of parties is replaced as a whole")
        return value


class UpdateRow(_Addressed):
    """An update of a row that is there.

    Attributes:
        table: What the mapping calls it.
        columns: As for `CreateRow`; null empties a column.
        row_id: The row's GUID.
        key: The columns of an alternate key and their values, instead.
        operation: The id of an operation before this one that creates the row, instead.
    """

    operation: _OperationId | None = None

    @model_validator(mode="after")
    def _one_row(self) -> Self:
        if sum(value is not None for value in (self.row_id, self.key, self.operation)) != 1:
            raise ValueError("one of row_id, key and operation must say which row it is")
        return self


class UpsertRow(_Addressed):
    """A row that is created, or updated if it is there.

    Attributes:
        table: What the mapping calls it.
        columns: As for `CreateRow`.
        row_id: The row's GUID.
        key: The columns of an alternate key and their values, instead.
    """

    @model_validator(mode="after")
    def _one_row(self) -> Self:
        if (self.row_id is None) == (self.key is None):
            raise ValueError("either row_id or key must say which row it is")
        return self


class CompleteActivity(_Input):
    """Closing a row, such as a call that was made.

    Attributes:
        operation: The id of the operation before this one that creates the row.
        table: Where the row is, instead: a kind (``phone_call_activity``), or what the mapping
            calls a table; ``tables.task`` where a kind has the same name.
        row_id: The row's GUID.
        state: Of ``statecode``: a label of the mapping, or its value.
        status: Of ``statuscode``; None for Dataverse's default of the state.
    """

    operation: _OperationId | None = None
    table: _Qualified | None = None
    row_id: Guid | None = None
    state: Label | StrictInt = "completed"
    status: Label | StrictInt | None = None

    @model_validator(mode="after")
    def _one_row(self) -> Self:
        if (self.operation is None) == (self.row_id is None):
            raise ValueError("either operation or row_id must say which row it is")
        if self.row_id is not None and self.table is None:
            raise ValueError("table must say where the row is")
        return self
