"""How tables and columns are described. The tables themselves are in `tables`.

A column's kind carries the name of Dataverse's AttributeType, its Web API type is the Edm type
beside it (learn.microsoft.com/power-apps/developer/data-platform/webapi/web-api-properties).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN
from enum import Enum
from functools import cached_property
from typing import Any

__all__ = ["PARTITION", "AlternateKey", "Column", "Kind", "Navigation", "Schema", "Table"]


class Kind(Enum):
    """What a column holds: Dataverse's attribute type, and its type in the Web API."""

    STRING = ("String", "Edm.String")
    MEMO = ("Memo", "Edm.String")
    INTEGER = ("Integer", "Edm.Int32")
    BIGINT = ("BigInt", "Edm.Int64")
    DECIMAL = ("Decimal", "Edm.Decimal")
    DOUBLE = ("Double", "Edm.Double")
    MONEY = ("Money", "Edm.Decimal")
    BOOLEAN = ("Boolean", "Edm.Boolean")
    DATETIME = ("DateTime", "Edm.DateTimeOffset")
    UNIQUEIDENTIFIER = ("Uniqueidentifier", "Edm.Guid")
    PICKLIST = ("Picklist", "Edm.Int32")
    MULTI_SELECT_PICKLIST = ("MultiSelectPicklist", "Edm.String")
    STATE = ("State", "Edm.Int32")
    STATUS = ("Status", "Edm.Int32")
    LOOKUP = ("Lookup", "Edm.Guid")
    PARTYLIST = ("PartyList", "Collection(mscrm.activityparty)")
    # Images, virtual columns and what else is only listed: null in every row.
    OTHER = ("Virtual", "Edm.Binary")

    @property
    def edm(self) -> str:
        """The type's name in messages of the Web API."""
        return self.value[1]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Args:
        kind: What it holds.
        max_length: Longest text, in units of UTF-16.
        minimum: Smallest number.
        maximum: Largest number.
        precision: Decimals of an amount, as its definition has them; None for as many as its kind
            can have.
        precision_source: Whose decimals count for money: 0 for the column's own, 1 for the
            organization's, 2 for those of the row's currency ("MoneyAttributeMetadata",
            PrecisionSource).
        other_precision: What the organization or the currency has. There are no tables of either.
        rounding: How an amount between two is rounded, as in `decimal`. Users report half to even
            ("Rounding Numbers In Microsoft Dynamics CRM", PowerObjects); Microsoft documents none.
        behavior: Of a moment: UserLocal, DateOnly or TimeZoneIndependent.
        format: How a moment is shown: DateAndTime or DateOnly.
        options: For option sets: the values allowed, with their labels.
        default: The value in a new row if none is given.
        keeps: What is stored of a value that fits, in place of what the kind's rules make of it:
            for what no source says, such as blanks at the end of a text.
        creatable: Whether a client may set it in a new row: IsValidForCreate. A value for another
            column is ignored.
        updatable: Whether a client may change it: IsValidForUpdate.
        navigation: For lookups: the navigation property of each table that it can point to, by
            entity set; empty where the Web API does not show the relationship.
        targets: For lookups: the logical names in their definition, beside the tables of
            ``navigation``.
        required: Whether forms ask for it: Dataverse's RequiredLevel. The Web API does not.
        attribute_type: The AttributeType in its definition, if it is not that of the kind.
        exposed: Whether it is a property in the Web API. Definitions have columns that are not: the
            table of a lookup's row (EntityName), and lists of activity parties.
        joined: Columns whose texts the service joins with a blank to make this one.
    """

    kind: Kind
    max_length: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    precision: int | None = None
    precision_source: int = 0
    other_precision: int = 2
    rounding: str = ROUND_HALF_EVEN
    behavior: str = "UserLocal"
    format: str = "DateAndTime"
    options: Mapping[int, str] = field(default_factory=dict)
    default: Any = None
    creatable: bool = True
    updatable: bool = True
    navigation: Mapping[str, str] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    required: str = "None"
    keeps: Callable[[Any], Any] | None = None
    attribute_type: str | None = None
    exposed: bool = True
    joined: tuple[str, ...] = ()

    @property
    def edm(self) -> str:
        """The type's name in messages of the Web API; a date without a time has one of its own."""
        is_date = self.kind is Kind.DATETIME and self.behavior == "DateOnly"
        return "Edm.Date" if is_date else self.kind.edm

    @property
    def type_name(self) -> str:
        """The AttributeType in its definition."""
        return self.attribute_type or self.kind.value[0]


@dataclass(frozen=True)
class AlternateKey:
    """Columns that tell a row from all others, once the index on them is there.

    Args:
        columns: By logical name.
        status: The index's status: Active, Pending, InProgress or Failed.
    """

    columns: tuple[str, ...]
    status: str = "Active"


@dataclass(frozen=True)
class Navigation:
    """A single-valued navigation property: its lookup, and the tables that it can point to."""

    name: str
    property_name: str
    targets: tuple[str, ...]


PARTITION = "partitionid"
_ELASTIC_COLUMNS = {
    PARTITION: Column(kind=Kind.STRING, max_length=100),
    "ttlinseconds": Column(kind=Kind.INTEGER, minimum=-1),
}
_ELASTIC_KEY = "keyfornosqlentitywithpkpartitionid"


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table.

    Args:
        entity_set: Its name in URLs, such as ``phonecalls``.
        logical_name: Such as ``phonecall``.
        primary_key: The column that holds the row's GUID.
        primary_name: The column that users see as the row's name.
        columns: The columns by logical name; system columns are added.
        states: The status values of each state, the default first. Empty for tables without a
            state.
        activity: Whether rows are activities: their GUIDs are unique over all activity tables, and
            a new one is always open.
        closed_read_only: Whether an activity that is completed or canceled refuses changes, but for
            those that open it again. Users report this of old versions; Microsoft does not document
            it.
        optimistic_concurrency: The value in its metadata.
        keys: Alternate keys, by name.
        unique: The columns of each unique index that is no alternate key.
        elastic: Whether it is one on Azure Cosmos DB: see `elastic`. Its columns ``partitionid``
            and ``ttlinseconds``, and its key of GUID and partition, are added.
        list_only: Whether it can be listed and nothing else, as activity parties.
        ownership: OwnershipType in its definition.
        definition_only: Whether there are no rows of it, only its definition.
    """

    entity_set: str
    logical_name: str
    primary_key: str
    primary_name: str
    columns: Mapping[str, Column]
    states: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    activity: bool = False
    closed_read_only: bool = False
    optimistic_concurrency: bool = True
    keys: Mapping[str, AlternateKey] = field(default_factory=dict)
    unique: tuple[tuple[str, ...], ...] = ()
    elastic: bool = False
    list_only: bool = False
    ownership: str = "UserOwned"
    definition_only: bool = False

    def __post_init__(self) -> None:
        if self.elastic:
            object.__setattr__(self, "columns", {**_ELASTIC_COLUMNS, **self.columns})
            key = AlternateKey((self.primary_key, PARTITION))
            object.__setattr__(self, "keys", {_ELASTIC_KEY: key})

    @cached_property
    def properties(self) -> dict[str, Column]:
        """Every column by its property name in the Web API: ``_name_value`` for a lookup."""
        return {
            f"_{name}_value" if column.kind is Kind.LOOKUP else name: column
            for name, column in self.columns.items()
            if column.exposed
        }

    @cached_property
    def navigations(self) -> dict[str, Navigation]:
        """Every single-valued navigation property by its name."""
        return {
            shown: Navigation(
                shown,
                f"_{name}_value",
                # Owners of two tables share one property; otherwise each table has its own.
                tuple(target for target, other in column.navigation.items() if other == navigation),
            )
            for name, column in self.columns.items()
            for navigation in filter(None, column.navigation.values())
            for shown in (navigation, self.own_navigation(navigation))
        }

    def own_navigation(self, navigation: str) -> str:
        """A navigation property as the definitions call it.

        A derived type repeats its base's properties under its own names: the Web API reference of
        phonecall has both ownerid, of activitypointer, and ownerid_phonecall.
        """
        return (
            f"{navigation}_{self.logical_name}" if self.activity and navigation == "ownerid" else navigation
        )

    @property
    def party_collection(self) -> str | None:
        """The collection that an activity's parties are inserted with: see `parties`."""
        return f"{self.logical_name}_activity_parties" if self.activity else None

    @property
    def type_name(self) -> str:
        """The name in messages of the Web API."""
        return f"Microsoft.Dynamics.CRM.{self.logical_name}"

    def state_of(self, status: int) -> int | None:
        """The state that a status value belongs to."""
        return next((state for state, statuses in self.states.items() if status in statuses), None)


class Schema:
    """The tables of one organization, by entity set."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = {table.entity_set: table for table in tables}

    def __iter__(self) -> Iterator[Table]:
        return iter(self._tables.values())

    def get(self, entity_set: str) -> Table | None:
        """The table of an entity set; names are case-sensitive, as in Dataverse."""
        return self._tables.get(entity_set)

    def with_tables(self, *tables: Table) -> "Schema":
        """The same schema with tables added or replaced."""
        return Schema([*self, *tables])
