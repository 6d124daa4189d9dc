"""From the caller's words to Dataverse's: a TOML file names every column that may be written; no other is.

    [kinds.task]
    entity_set = "tasks"                # in the URL
    key = "activityid"                  # the primary key column
    # two text columns of 128 characters, that say which operation wrote the row last
    marker = { session = "wa_sessionid", operation = "wa_operationid" }

    [kinds.task.columns]                # field = column
    subject = "subject"

    [kinds.task.options.reason_code]    # field = option-set column, and the value of each label
    column = "wa_reasoncode"
    values = { low_confidence = 100000000 }

    [kinds.task.lookups.regarding.contact]   # field and type of the row it points to
    navigation = "regardingobjectid_contact_task"
    entity_set = "contacts"

    [kinds.queue_status_update]
    guarded = ["wa_status"]             # columns that a concurrent edit of which is a conflict

Lookups are written as ``<navigation property>@odata.bind``: "Create a table row using the Web API", section
"Associate table rows on create", learn.microsoft.com.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
)

from writeahead.adapters.dataverse.names import GUID
from writeahead.adapters.dataverse.payloads import INPUTS, Reference, RowWrite, Scalar
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation

__all__ = ["Lookup", "Marker", "OptionSet", "Table", "TableMapping", "load_mapping"]

_DEFAULT = "default_mapping.toml"
_BIND = "@odata.bind"
_GUARDING = "queue_status_update"
# Fields that steer an operation rather than being written.
_NOT_COLUMNS = {"row_id", "clear"}

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
            if field in _NOT_COLUMNS or value is None:
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


def load_mapping(path: str | Path | None = None) -> TableMapping:
    """Read a mapping file, or the default one, and check it.

    Args:
        path: The file; None for the one that comes with the package.

    Raises:
        InvalidInput: It can't be read, is no TOML, lacks something or has something unknown; the message
            names file, table and field.
    """
    name = _DEFAULT if path is None else str(path)
    try:
        if path is None:
            text = resources.files(__package__).joinpath(_DEFAULT).read_text("utf-8")
        else:
            text = Path(path).read_text("utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise InvalidInput(f"mapping {name}: {error.strerror or type(error).__name__}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise InvalidInput(f"mapping {name} is not TOML: {error}") from None
    return TableMapping(name, _tables(name, content))


def _tables(name: str, content: Mapping[str, Any]) -> dict[str, Table]:
    kinds = content.get("kinds")
    if not isinstance(kinds, Mapping) or set(content) != {"kinds"}:
        raise InvalidInput(f"mapping {name}: it must hold tables [kinds.<kind>], and nothing else")
    tables = {}
    for kind, table in kinds.items():
        if kind not in INPUTS:
            raise InvalidInput(f"mapping {name}: [kinds.{kind}] is no kind; there are {', '.join(INPUTS)}")
        try:
            tables[kind] = Table.model_validate(table)
        except ValidationError as error:
            problems = "; ".join(_located(kind, item) for item in error.errors(include_url=False))
            raise InvalidInput(f"mapping {name}: {problems}") from None
        _check(name, kind, tables[kind])
    return tables


def _located(kind: str, item: Mapping[str, Any]) -> str:
    *tables, field = map(str, item["loc"]) if item["loc"] else [""]
    where = ".".join(["kinds", kind, *tables])
    return f"[{where}] {field}: {item['msg']}"


def _check(name: str, kind: str, table: Table) -> None:
    fields = INPUTS[kind].model_fields
    known = set(fields) - _NOT_COLUMNS
    needed = {field for field in known if fields[field].is_required()}
    mapped = table.fields()
    for field in sorted(needed - {*table.columns, *table.options}):
        raise InvalidInput(f"mapping {name}: [kinds.{kind}.columns] lacks {field!r}, which every {kind} has")
    for field in mapped:
        if field not in known:
            raise InvalidInput(
                f"mapping {name}: [kinds.{kind}] maps {field!r}, which is no field of it; there are"
                f" {', '.join(sorted(known))}"
            )
    _require_unique(name, kind, "field", mapped)
    _require_unique(name, kind, "column", [table.key, *table.written()])
    if bool(table.guarded) != (kind == _GUARDING):
        must = "needs guarded, a list of columns" if kind == _GUARDING else "creates rows: leave guarded out"
        raise InvalidInput(f"mapping {name}: [kinds.{kind}] {must}")


def _require_unique(name: str, kind: str, what: str, names: list[str]) -> None:
    twice = sorted({item for item in names if names.count(item) > 1})
    if twice:
        raise InvalidInput(f"mapping {name}: [kinds.{kind}] has {what} {twice[0]!r} twice")


def _bind_of(lookup: Lookup) -> str:
    return lookup.navigation + _BIND


def _is_bind(value: Scalar, entity_sets: set[str]) -> bool:
    if not isinstance(value, str):
        return False
    found = re.fullmatch(rf"/([a-z][a-z0-9_]*)\({GUID.pattern}\)", value, re.IGNORECASE)
    return found is not None and found[1] in entity_sets
