"""What keeps an environment from taking one planned write, by the definition of its table.

Sources, learn.microsoft.com: "AttributeMetadata" (IsValidForCreate, IsValidForUpdate), "Column
definitions" (RequiredLevel: ApplicationRequired is enforced by apps, not by the Web API;
SystemRequired by Dataverse), "Optimistic concurrency" (is enabled per table), "Define alternate
keys" (EntityKeyIndexStatus must be Active).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from writeahead.adapters.dataverse.readiness.metadata import ColumnDefinition, TableDefinition
from writeahead.adapters.dataverse.readiness.owners import OWNER_TABLES
from writeahead.adapters.dataverse.webapi.names import BIND, referenced_row

__all__ = ["WriteRequirements", "gaps_of", "plain_columns", "set_lookups"]

# Edm.Date, or Edm.DateTimeOffset with its offset: "OData JSON Format 4.01", section 7.1. Python
# takes more.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,12})?)?(Z|[+-]\d\d:\d\d))?", re.ASCII)


def _is_moment(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(_MOMENT.fullmatch(value) and datetime.fromisoformat(value))
    except ValueError:
        return False


# What the Web API takes for a column of each AttributeType ("Web API types and operations").
_TYPES: Mapping[str, Callable[[object], bool]] = {
    "String": lambda value: isinstance(value, str),
    "Memo": lambda value: isinstance(value, str),
    "Integer": lambda value: type(value) is int,
    "BigInt": lambda value: type(value) is int,
    "Boolean": lambda value: type(value) is bool,
    "DateTime": _is_moment,
    "Decimal": lambda value: type(value) in (int, float),
    "Double": lambda value: type(value) in (int, float),
    "Money": lambda value: type(value) in (int, float),
}
_LOOKUPS = {"Lookup", "Customer", "Owner"}
# The table of a lookup's row, e.g. workeridtype beside workerid. Definitions call some required
# and valid for create ("QueueItem table/entity reference"); the lookup alone sets them: the types
# of the Web API have no such properties.
_SET_BY_LOOKUPS = {"EntityName"}


@dataclass(frozen=True)
class WriteRequirements:
    """What one planned write needs of its table.

    Attributes:
        operation: The operation's id, for messages.
        entity_set: The table's.
        key: The primary key column, as the mapping has it.
        columns: What is written: columns and ``<navigation property>@odata.bind``.
        read: Columns that a baseline or a read-back needs.
        creates: A row may be created.
        updates: A row may be updated.
        versioned: The row's version guards the write.
        alternate_key: The columns that the row is addressed by, if not by its GUID.
        created: The column that says when a row was created, if that matters and there is one.
    """

    operation: str
    entity_set: str
    key: str
    columns: Mapping[str, Any]
    read: tuple[str, ...] = ()
    creates: bool = False
    updates: bool = False
    versioned: bool = False
    alternate_key: tuple[str, ...] = ()
    created: str | None = None


@dataclass(frozen=True)
class _WriteCheck:
    """One write and its table's definition; each method names the gaps of one kind."""

    write: WriteRequirements
    table: TableDefinition
    names: Mapping[str, str | None]

    def gaps(self) -> Iterator[str]:
        yield from self._table()
        yield from self._key()
        for name in plain_columns(self.write.columns):
            yield from self._column(name)
        for navigation, target in set_lookups(self.write.columns):
            yield from self._lookup(navigation, target)
        # An upsert may meet a row that has them.
        if self.write.creates and not self.write.updates:
            yield from self._required()

    def _table(self) -> Iterator[str]:
        write, table = self.write, self.table
        if table.key != write.key:
            yield f"its key column is {table.key}, not {write.key}: correct key in the mapping"
        for name in write.read:
            if (
                name not in table.columns
                and name.removeprefix("_").removesuffix("_value") not in table.columns
            ):
                yield f"there is no column {name}, which the mapping guards or marks rows with"
        if write.created and write.created not in table.columns:
            yield (
                f"there is no column {write.created}, which says when a row was created: name another as"
                " created in the mapping, or set created = false"
            )
        if write.versioned and not table.optimistic_concurrency:
            yield "it has no optimistic concurrency: enable it, since updates rely on row versions"

    def _key(self) -> Iterator[str]:
        wanted = frozenset(self.write.alternate_key)
        found = [key for key in self.table.keys if key.columns == wanted]
        shown = ", ".join(self.write.alternate_key)
        if wanted and not found:
            yield f"there is no alternate key of {shown}"
        elif found and all(key.status != "Active" for key in found):
            yield f"the index of the alternate key {shown} is {found[0].status}, not Active"

    def _column(self, name: str) -> Iterator[str]:
        column, value = self.table.columns.get(name), self.write.columns[name]
        if column is None:
            yield f"there is no column {name}: check the mapping"
            return
        if (self.write.creates and not column.creatable) or (self.write.updates and not column.updatable):
            yield f"column {name} can't be written"
        if column.type in _LOOKUPS:
            yield f"column {name} is a lookup: write it by its navigation property, and have that in lookups"
        elif value is not None:
            yield from (f"column {name} {problem}" for problem in _problems_of(value, column))

    def _lookup(self, navigation: str, target: str) -> Iterator[str]:
        relations = [item for item in self.table.relations if item.navigation == navigation]
        targets = {item.target for item in relations}
        if target in OWNER_TABLES.values() and (
            targets == {"owner"} or (not targets and navigation == "ownerid")
        ):
            # Owners are users or teams. An activity has the property of its base type as well, and
            # its metadata names its own only: ownerid beside ownerid_phonecall ("phonecall
            # EntityType").
            if "ownerid" not in self.table.columns:
                yield "it has no owner: leave it out, or check the mapping"
        elif not relations:
            yield f"there is no navigation property {navigation}: check the mapping"
        elif self.names.get(target) is None:
            yield f"there is no table {target} for {navigation} to point to: check the mapping"
        elif self.names[target] not in targets:
            yield f"{navigation} does not point to {target}: check the mapping"

    def _required(self) -> Iterator[str]:
        write = self.write
        bound = {navigation for navigation, _ in set_lookups(write.columns)}
        looked_up = {item.column for item in self.table.relations if item.navigation in bound}
        plain = {name for name in plain_columns(write.columns) if write.columns[name] is not None}
        given = {*plain, *looked_up, *bound, *write.alternate_key}
        for name, column in self.table.columns.items():
            if _is_needed(column) and name not in given:
                yield f"column {name} requires a value"


def _is_needed(column: ColumnDefinition) -> bool:
    """Whether a new row must be given a value: for apps, or for the service ("Column definitions").

    Of what the system requires, the service gives a new row its key, its owner and its states by
    itself; a lookup of another kind it does not, such as the customer of a case.
    """
    asked = column.required == "ApplicationRequired" and column.type not in _SET_BY_LOOKUPS
    by_system = column.required == "SystemRequired" and column.type in _LOOKUPS - {"Owner"}
    return (asked or by_system) and column.creatable and not column.has_default


def _problems_of(value: Any, column: ColumnDefinition) -> Iterator[str]:
    """Say why a value does not fit into a column; the value is not repeated."""
    if column.type in _TYPES and not _TYPES[column.type](value):
        yield f"is of type {column.type}, and the planned value is not"
    elif type(value) in (int, float) and not column.minimum <= value <= column.maximum:
        yield f"holds {column.minimum:g} to {column.maximum:g}, and not what is planned"
    if column.max_length is not None and isinstance(value, str) and len(value) > column.max_length:
        yield f"holds {column.max_length} characters, and {len(value)} are planned"
    if column.options and not any(_same(value, known) for known in column.options):
        yield "has no such option as is planned: check the values in the mapping"


def gaps_of(
    write: WriteRequirements, table: TableDefinition | None, names: Mapping[str, str | None]
) -> list[str]:
    """Say what keeps a write from being carried out.

    Args:
        write: The write.
        table: Its table's definition; None if there is no such table.
        names: The logical names of the tables that lookups point to, by entity set.
    """
    if table is None:
        gaps = iter(["it is not there: check entity_set in the mapping"])
    else:
        gaps = _WriteCheck(write, table, names).gaps()
    return [f"operation {write.operation}: table {write.entity_set}: {gap}" for gap in gaps]


def plain_columns(columns: Iterable[str]) -> list[str]:
    """Return the names of columns among what is written, without lookups."""
    return [name for name in columns if not name.endswith(BIND)]


def set_lookups(columns: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the navigation property of each lookup that is set, and the entity set it points to."""
    for name, value in columns.items():
        row = referenced_row(value) if name.endswith(BIND) else None
        if row:
            yield name.removesuffix(BIND), row[0]


def _same(value: object, known: object) -> bool:
    return type(value) is type(known) and value == known
