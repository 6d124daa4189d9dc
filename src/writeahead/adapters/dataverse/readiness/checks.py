"""What keeps an environment from taking one planned write, by the definition of its table.

Sources, learn.microsoft.com: "AttributeMetadata" (IsValidForCreate, IsValidForUpdate), "Column
definitions" (RequiredLevel: ApplicationRequired is enforced by apps, not by the Web API;
SystemRequired by Dataverse), "Optimistic concurrency" (is enabled per table).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from writeahead.adapters.dataverse.mapping.free_texts import cut
from writeahead.adapters.dataverse.readiness.alternate_keys import key_gaps, own_name
from writeahead.adapters.dataverse.readiness.metadata import ColumnDefinition, TableDefinition
from writeahead.adapters.dataverse.readiness.owners import OWNER_TABLES
from writeahead.adapters.dataverse.readiness.parties import (
    NO_PARTIES,
    PARTY_LIST,
    PartyRequirements,
    missing_party,
    party_gaps,
)
from writeahead.adapters.dataverse.readiness.table_types import table_type_gaps
from writeahead.adapters.dataverse.readiness.values import problems_of
from writeahead.adapters.dataverse.webapi.names import BIND, referenced_row

__all__ = [
    "WriteRequirements",
    "gaps_of",
    "is_lookup",
    "missing_columns",
    "plain_columns",
    "set_lookups",
]

_LOOKUPS = {"Lookup", "Customer", "Owner"}
# The table of a lookup's row, e.g. workeridtype beside workerid. Definitions call some required
# and valid for create ("QueueItem table/entity reference"); the lookup alone sets them: the types
# of the Web API have no such properties. The platform fills the other two as well.
_NEVER_WRITTEN = {"CalendarRules", "EntityName", "ManagedProperty"}


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
        alternate_key: The columns that the row is addressed by, if it is not by its GUID, with
            their values; None for one that is not known.
        created: The column that says when a row was created, if that matters and there is one.
        shortened: Columns whose texts are cut to what the column holds.
        elastic: The mapping says that the table is elastic.
        parties: Who is to take part, if the row is an activity.
    """

    operation: str
    entity_set: str
    key: str
    columns: Mapping[str, Any]
    read: tuple[str, ...] = ()
    creates: bool = False
    updates: bool = False
    versioned: bool = False
    alternate_key: Mapping[str, Any] = field(default_factory=dict)
    created: str | None = None
    shortened: tuple[str, ...] = ()
    elastic: bool = False
    parties: PartyRequirements = NO_PARTIES


@dataclass(frozen=True)
class _WriteCheck:
    """One write and its table's definition; each method names the gaps of one kind."""

    write: WriteRequirements
    table: TableDefinition
    names: Mapping[str, str | None]
    activity_party: TableDefinition | None

    def gaps(self) -> Iterator[str]:
        yield from self._table()
        yield from key_gaps(self.write.alternate_key, self.table)
        for name in plain_columns(self.write.columns):
            yield from self._column(name)
        for navigation, target in set_lookups(self.write.columns):
            yield from self._lookup(navigation, target)
        yield from party_gaps(self.write.parties, self.table, self.activity_party, self.names)
        # An upsert may meet a row that has them.
        if self.write.creates and not self.write.updates:
            yield from self._required()

    def _table(self) -> Iterator[str]:
        write, table = self.write, self.table
        yield from table_type_gaps(table.table_type, elastic=write.elastic)
        if table.key != write.key:
            yield f"its key column is {table.key}, not {write.key}: correct key in the mapping"
        for name in write.read:
            is_there = name in table.columns or own_name(name) in table.columns
            if not is_there and name not in write.columns:  # else it is named as one that is written
                yield f"there is no column {name}, which the mapping guards or marks rows with"
        if write.created and write.created not in table.columns:
            yield (
                f"there is no column {write.created}, which says when a row was created: name another as"
                " created in the mapping, or set created = false"
            )
        if write.versioned and not table.optimistic_concurrency:
            yield "it has no optimistic concurrency: enable it, since updates rely on row versions"

    def _column(self, name: str) -> Iterator[str]:
        column, value = self.table.columns.get(name), self.write.columns[name]
        if column is None:
            yield f"there is no column {name}: check the mapping"
            return
        if (self.write.creates and not column.creatable) or (self.write.updates and not column.updatable):
            yield f"column {name} can't be written"
        if column.type == PARTY_LIST:
            yield f"column {name} holds parties: write them as parties"
        elif column.type in _LOOKUPS:
            yield f"column {name} is a lookup: write it by its navigation property, and have that in lookups"
        elif value is not None:
            if name in self.write.shortened and isinstance(value, str) and column.max_length is not None:
                value = cut(value, column.max_length)
            yield from (f"column {name} {problem}" for problem in problems_of(value, column))

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
        for name in missing_columns(self.write, self.table):
            if self.table.columns[name].type == PARTY_LIST:
                yield from missing_party(name, self.write.parties)
            else:
                yield f"column {name} requires a value"


def missing_columns(write: WriteRequirements, table: TableDefinition) -> list[str]:
    """Name what an administrator requires of a new row, and a write leaves empty."""
    bound = {navigation for navigation, _ in set_lookups(write.columns)}
    looked_up = {item.column for item in table.relations if item.navigation in bound}
    plain = {name for name in plain_columns(write.columns) if write.columns[name] is not None}
    given = {*plain, *looked_up, *bound, *map(own_name, write.alternate_key)}
    return [name for name, column in table.columns.items() if _is_needed(column) and name not in given]


def _is_needed(column: ColumnDefinition) -> bool:
    """Whether a new row must be given a value: for apps, or for the service ("Column definitions").

    Of what the system requires, the service gives a new row its key, its owner and its states by
    itself; a lookup of another kind it does not, such as the customer of a case.
    """
    asked = column.required == "ApplicationRequired" and column.type not in _NEVER_WRITTEN
    by_system = column.required == "SystemRequired" and column.type in _LOOKUPS - {"Owner"}
    return (asked or by_system) and column.creatable and not column.has_default


def gaps_of(
    write: WriteRequirements,
    table: TableDefinition | None,
    names: Mapping[str, str | None],
    activity_party: TableDefinition | None = None,
) -> list[str]:
    """Say what keeps a write from being carried out.

    Args:
        write: The write.
        table: Its table's definition; None if there is no such table.
        names: The logical names of the tables that lookups and parties point to, by entity set.
        activity_party: The definition of the table of activity parties, if there are any.
    """
    if table is None:
        gaps = iter(["it is not there: check entity_set in the mapping"])
    else:
        gaps = _WriteCheck(write, table, names, activity_party).gaps()
    return [f"operation {write.operation}: table {write.entity_set}: {gap}" for gap in gaps]


def is_lookup(column: ColumnDefinition | None) -> bool:
    """Whether a column points to a row."""
    return column is not None and column.type in _LOOKUPS


def plain_columns(columns: Iterable[str]) -> list[str]:
    """Return the names of columns among what is written, without lookups."""
    return [name for name in columns if not name.endswith(BIND)]


def set_lookups(columns: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the navigation property of each lookup that is set, and the entity set it points to."""
    for name, value in columns.items():
        row = referenced_row(value) if name.endswith(BIND) else None
        if row:
            yield name.removesuffix(BIND), row[0]
