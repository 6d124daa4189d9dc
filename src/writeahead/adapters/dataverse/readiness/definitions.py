"""Whether an environment can take what is planned: its own table definitions against every planned write.

All gaps are named at once, before anything is persisted or sent. Only what a session writes is
looked at, so that a mapping may know more than one environment has.

Sources, learn.microsoft.com: "AttributeMetadata" (IsValidForCreate, IsValidForUpdate,
RequiredLevel: enforced by apps, not by the Web API), "Optimistic concurrency" (is enabled per
table), "Define alternate keys" (EntityKeyIndexStatus must be Active).
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from writeahead.adapters.dataverse.readiness.metadata import TableInfo, logical_names, read_tables
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError
from writeahead.errors import InvalidInput, NotReady

__all__ = ["Demand", "Readiness"]

_BIND = "@odata.bind"
_TARGET = re.compile(r"/([a-z][a-z0-9_]*)\(.*\)", re.IGNORECASE)
_PRINCIPALS = {"systemusers", "teams"}
_MAX_AGE = 300.0


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


@dataclass(frozen=True)
class Demand:
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


class Readiness:
    """Holds planned writes against the live definitions of their tables. Safe to share between threads.

    Args:
        client: Of the environment.
        max_age: Seconds that a definition is trusted for; a change by an administrator shows that
            late.
        monotonic: Seconds on a clock that is never set; for tests.
    """

    def __init__(
        self,
        client: DataverseClient,
        *,
        max_age: float = _MAX_AGE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._max_age = max_age
        self._monotonic = monotonic
        # No lock: two threads at once read the same, and a fork could inherit one that is held.
        # What a check has looked up it keeps to itself, since another thread may forget it.
        self._tables: dict[str, tuple[float, frozenset[str], TableInfo | None]] = {}
        self._names: dict[str, tuple[float, str | None]] = {}

    def require(self, demands: Sequence[Demand]) -> None:
        """Check planned writes.

        Raises:
            NotReady: Some can't be carried out; it names every gap.
            TransientDataverseError: The definitions could not be read now.
        """
        gaps, is_fresh = self._gaps(demands)
        if gaps and not is_fresh:
            # An administrator may have mended it since it was read.
            self._tables, self._names = {}, {}
            gaps, _ = self._gaps(demands)
        if gaps:
            raise NotReady(*dict.fromkeys(gaps))

    def _gaps(self, demands: Sequence[Demand]) -> tuple[list[str], bool]:
        """All gaps, and whether all that they rest on was read just now."""
        try:
            tables, is_fresh = self._read(demands)
            names, are_fresh = self._logical_names(demands)
        except (PermanentDataverseError, InvalidInput) as error:
            raise NotReady(
                f"the table definitions can't be read: {error}: let the application read them, or set"
                ' readiness = "off"'
            ) from None
        gaps = [gap for demand in demands for gap in _gaps(demand, tables.get(demand.entity_set), names)]
        return gaps, is_fresh and are_fresh

    def _read(self, demands: Sequence[Demand]) -> tuple[dict[str, TableInfo | None], bool]:
        wanted: dict[str, set[str]] = {}
        for demand in demands:
            wanted.setdefault(demand.entity_set, set()).update(_plain(demand.columns))
        now = self._monotonic()
        stale: dict[str, set[str]] = {}
        tables: dict[str, TableInfo | None] = {}
        for name, columns in wanted.items():
            since, known, tables[name] = self._tables.get(name, (-math.inf, frozenset(), None))
            if now - since >= self._max_age or not columns <= known:
                # With what was known before, so that two sorts of session don't take turns at
                # reading.
                stale[name] = columns | known
        if stale:
            found = read_tables(self._client, stale)
            for name, columns in stale.items():
                tables[name] = found.get(name)
                self._tables[name] = (now, frozenset(columns), tables[name])
        return tables, len(stale) == len(wanted)

    def _logical_names(self, demands: Sequence[Demand]) -> tuple[dict[str, str | None], bool]:
        """The logical names of the tables that lookups point to: one request for those not known."""
        targets = {target for demand in demands for _, target in _binds(demand.columns)}
        now = self._monotonic()
        known = {name: self._names.get(name, (-math.inf, None)) for name in targets}
        missing = {name for name, (since, _) in known.items() if now - since >= self._max_age}
        found = logical_names(self._client, missing) if missing else {}
        read = {name: (now, found.get(name)) for name in missing}
        self._names.update(read)
        names = {name: logical for name, (_, logical) in {**known, **read}.items()}
        return names, len(missing) == len(targets)


@dataclass(frozen=True)
class _Check:
    """One write beside its table's definition; each method tells the gaps of one kind."""

    demand: Demand
    table: TableInfo
    names: Mapping[str, str | None]

    def gaps(self) -> Iterator[str]:
        yield from self._table()
        yield from self._key()
        for name in _plain(self.demand.columns):
            yield from self._column(name)
        for navigation, target in _binds(self.demand.columns):
            yield from self._lookup(navigation, target)
        # An upsert may meet a row that has them.
        if self.demand.creates and not self.demand.updates:
            yield from self._required()

    def _table(self) -> Iterator[str]:
        demand, table = self.demand, self.table
        if table.key != demand.key:
            yield f"its key column is {table.key}, not {demand.key}: correct key in the mapping"
        for name in demand.read:
            if (
                name not in table.columns
                and name.removeprefix("_").removesuffix("_value") not in table.columns
            ):
                yield f"there is no column {name}, which the mapping guards or marks rows with"
        if demand.versioned and not table.optimistic_concurrency:
            yield "it has no optimistic concurrency: enable it, since updates rely on row versions"

    def _key(self) -> Iterator[str]:
        wanted = frozenset(self.demand.alternate_key)
        found = [key for key in self.table.keys if key.columns == wanted]
        shown = ", ".join(self.demand.alternate_key)
        if wanted and not found:
            yield f"there is no alternate key of {shown}"
        elif found and all(key.status != "Active" for key in found):
            yield f"the index of the alternate key {shown} is {found[0].status}, not Active"

    def _column(self, name: str) -> Iterator[str]:
        column, value = self.table.columns.get(name), self.demand.columns[name]
        if column is None:
            yield f"there is no column {name}: check the mapping"
            return
        if (self.demand.creates and not column.creatable) or (self.demand.updates and not column.updatable):
            yield f"column {name} can't be written"
        if column.type in _LOOKUPS:
            yield f"column {name} is a lookup: write it by its navigation property, and have that in lookups"
        elif value is not None and column.type in _TYPES and not _TYPES[column.type](value):
            yield f"column {name} is of type {column.type}, and the planned value is not"
        elif type(value) in (int, float) and not column.minimum <= value <= column.maximum:
            yield f"column {name} holds {column.minimum:g} to {column.maximum:g}, and not what is planned"
        if column.max_length is not None and isinstance(value, str) and len(value) > column.max_length:
            yield f"column {name} holds {column.max_length} characters, and {len(value)} are planned"
        if column.options and value is not None and not any(_same(value, known) for known in column.options):
            yield f"column {name} has no such option as is planned: check the values in the mapping"

    def _lookup(self, navigation: str, target: str) -> Iterator[str]:
        relations = [item for item in self.table.relations if item.navigation == navigation]
        targets = {item.target for item in relations}
        if target in _PRINCIPALS and (targets == {"owner"} or (not targets and navigation == "ownerid")):
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
        demand = self.demand
        bound = {navigation for navigation, _ in _binds(demand.columns)}
        looked_up = {item.column for item in self.table.relations if item.navigation in bound}
        plain = {name for name in _plain(demand.columns) if demand.columns[name] is not None}
        given = {*plain, *looked_up, *bound, *demand.alternate_key}
        for name, column in self.table.columns.items():
            needed = column.required == "ApplicationRequired" and column.creatable and not column.has_default
            if needed and name not in given:
                yield f"column {name} requires a value"


def _gaps(demand: Demand, table: TableInfo | None, names: Mapping[str, str | None]) -> list[str]:
    said = (
        _Check(demand, table, names).gaps() if table else ["it is not there: check entity_set in the mapping"]
    )
    return [f"operation {demand.operation}: table {demand.entity_set}: {gap}" for gap in said]


def _plain(columns: Iterable[str]) -> list[str]:
    return [name for name in columns if not name.endswith(_BIND)]


def _binds(columns: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each lookup that is set: its navigation property, and the entity set that it points to."""
    for name, value in columns.items():
        found = _TARGET.fullmatch(value) if name.endswith(_BIND) and isinstance(value, str) else None
        if found:
            yield name.removesuffix(_BIND), found[1]


def _same(value: object, known: object) -> bool:
    return type(value) is type(known) and value == known
