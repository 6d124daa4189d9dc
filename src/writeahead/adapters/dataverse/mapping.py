"""What the mapping knows of each kind's table; `mapping_file` reads it from TOML.

Lookups are written as ``<navigation property>@odata.bind``: "Create a table row using the Web API", section
"Associate table rows on create", learn.microsoft.com.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
)

from writeahead.adapters.dataverse.names import GUID
from writeahead.adapters.dataverse.payloads import Reference, RowWrite, Scalar
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation

__all__ = ["NOT_COLUMNS", "Lookup", "Marker", "OptionSet", "Table", "TableMapping"]

_BIND = "@odata.bind"
# Fields that steer an operation rather than being written.
NOT_COLUMNS = {"row_id", "clear"}

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,127}$")]
ReadName = Annotated[str, StringConstraints(pattern=r"^_?[a-z][a-z0-9_]{0,127}$")]
# Navigation properties are case-sensitive, and those of custom tables may have capitals.
Navigation = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,199}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OptionSet(_Model):
    """A choice column, and the value of each label."""

    column: Name
    values: dict[str, StrictInt | StrictBool] = Field(min_length=1)


class Lookup(_Model):
    """How a row of one type is pointed to."""

    navigation: Navigation
    entity_set: Name


class Marker(_Model):
    """The two columns that say which operation wrote a row last."""

    session: Name
    operation: Name

    @property
    def columns(self) -> list[str]:
        """Both."""
        return [self.session, self.operation]


class Table(_Model):
    """One kind of operation's table.

    Attributes:
        entity_set: Its name in URLs.
        key: The primary key column.
        marker: Which operation wrote the row last.
        columns: Field to column.
        options: Field to choice column.
        lookups: Field to type of row to navigation property.
        guarded: Columns in the baseline, for a kind that updates.
    """

    entity_set: Name
    key: Name
    marker: Marker
    columns: dict[str, Name] = Field(default_factory=dict)
    options: dict[str, OptionSet] = Field(default_factory=dict)
    lookups: dict[str, dict[str, Lookup]] = Field(default_factory=dict)
    guarded: tuple[ReadName, ...] = ()

    def fields(self) -> list[str]:
        """Every field that is mapped, once for each time that it is."""
        return [*self.columns, *self.options, *self.lookups]

    def written(self) -> list[str]:
        """Every column that may be written, the marker included."""
        options = (option.column for option in self.options.values())
        return [*self.columns.values(), *options, *self.marker.columns]

    def baseline_columns(self) -> list[str]:
        """What is read for a baseline: a foreign marker is a foreign write, so the marker is guarded too."""
        return list(dict.fromkeys([*self.guarded, *self.marker.columns]))

    def problem_of(self, write: RowWrite) -> str | None:
        """Say what in a planned write this mapping does not approve; None if it approves of all."""
        if write.entity_set != self.entity_set:
            return "entity_set is not the mapped one"
        if not all(isinstance(write.columns.get(name), str) for name in self.marker.columns):
            return "columns lacks the marker"
        for name, value in write.columns.items():
            if not self._approves(name, value):
                # Cut, for a name out of an artifact may be anything.
                return f"columns has {name[:80]!r} with a value that is not approved"
        return None

    def _approves(self, name: str, value: Scalar) -> bool:
        for option in self.options.values():
            if name == option.column:
                return value is None or any(
                    value == known and type(value) is type(known) for known in option.values.values()
                )
        targets = {x.entity_set for x in self._all_lookups() if _bind_of(x) == name}
        return _is_bind(value, targets) if targets else name in self.written()

    def _all_lookups(self) -> Iterator[Lookup]:
        for types in self.lookups.values():
            yield from types.values()


class TableMapping:
    """A mapping file that has been read and checked.

    Args:
        name: The file, for messages.
        kinds: Kind of operation to table.
    """

    def __init__(self, name: str, kinds: Mapping[str, Table]) -> None:
        self.name = name
        self.kinds = kinds

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def table(self, kind: str, operation_id: str) -> Table:
        """Return the table of a kind.

        Raises:
            InvalidInput: The mapping has none.
        """
        table = self.kinds.get(kind)
        if table is None:
            raise InvalidInput(f"mapping {self.name} has no table [kinds.{kind}], which {operation_id} needs")
        return table

    def write(self, operation: KeyedOperation, row_id: str, fields: BaseModel) -> RowWrite:
        """Translate a caller's payload.

        Args:
            operation: Whose it is; it becomes the row's marker.
            row_id: The row to write.
            fields: The payload; what is None in it is left alone.

        Raises:
            InvalidInput: A field or label that is used is not mapped.
        """
        kind, operation_id = operation.kind, operation.id
        table = self.table(kind, operation_id)
        columns: dict[str, Scalar] = {}
        for field in type(fields).model_fields:
            value = getattr(fields, field)
            if field in NOT_COLUMNS or value is None:
                continue
            name, scalar = self._column(kind, operation_id, field, value, fields)
            columns[name] = scalar
        for field in getattr(fields, "clear", ()):
            columns[self._plain_column(kind, operation_id, field)] = None
        columns[table.marker.session] = operation.session_id
        columns[table.marker.operation] = operation_id
        return RowWrite(entity_set=table.entity_set, row_id=row_id, columns=columns)

    def _column(
        self, kind: str, operation_id: str, field: str, value: Any, fields: BaseModel
    ) -> tuple[str, Scalar]:
        table = self.kinds[kind]
        if isinstance(value, Reference):
            lookup = table.lookups.get(field, {}).get(value.type)
            if lookup is None:
                raise self._gap(f"[kinds.{kind}.lookups.{field}.{value.type}]", operation_id)
            return _bind_of(lookup), f"/{lookup.entity_set}({value.id})"
        if field in table.options:
            option = table.options[field]
            if value not in option.values:
                known = ", ".join(sorted(option.values))
                raise InvalidInput(
                    f"operation {operation_id}: {field} has a label that mapping {self.name} does not know;"
                    f" [kinds.{kind}.options.{field}] has {known}"
                )
            return option.column, option.values[value]
        as_json: Scalar = fields.model_dump(mode="json", include={field})[field]
        return self._plain_column(kind, operation_id, field), as_json

    def _plain_column(self, kind: str, operation_id: str, field: str) -> str:
        table = self.kinds[kind]
        if field in table.options:
            return table.options[field].column
        if field not in table.columns:
            raise self._gap(f"field {field!r} in [kinds.{kind}.columns]", operation_id)
        return table.columns[field]

    def _gap(self, what: str, operation_id: str) -> InvalidInput:
        return InvalidInput(
            f"mapping {self.name} has no {what}, which {operation_id} needs: add it, or leave the field out"
        )


def _bind_of(lookup: Lookup) -> str:
    return lookup.navigation + _BIND


def _is_bind(value: Scalar, entity_sets: set[str]) -> bool:
    if not isinstance(value, str):
        return False
    found = re.fullmatch(rf"/([a-z][a-z0-9_]*)\({GUID.pattern}\)", value, re.IGNORECASE)
    return found is not None and found[1] in entity_sets
