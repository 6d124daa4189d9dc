"""What an environment says of its tables now: `read_tables`.

Sources, learn.microsoft.com: "Query table definitions using the Web API" (paths, casts, OptionSet),
"EntityMetadata", "AttributeMetadata", "EntityKeyMetadata" and "OneToManyRelationshipMetadata" in
the Web API reference.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from writeahead.adapters.dataverse.readiness.table_types import STANDARD, table_type
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.names import require_entity_set, require_name
from writeahead.errors import InvalidInput

__all__ = [
    "AlternateKey",
    "ColumnDefinition",
    "Relationship",
    "TableDefinition",
    "entity_sets",
    "logical_names",
    "privileges_of",
    "read_tables",
]

_DEFINITIONS = "/EntityDefinitions"
# What a definition says only under a cast to its type, by AttributeType.
_DETAILS = {
    "String": "LogicalName,MaxLength",
    "Memo": "LogicalName,MaxLength",
    "Integer": "LogicalName,MinValue,MaxValue",
    "Decimal": "LogicalName,MinValue,MaxValue,Precision",
    "Double": "LogicalName,MinValue,MaxValue,Precision",
    "Money": "LogicalName,MinValue,MaxValue,Precision,PrecisionSource",
    "DateTime": "LogicalName,Format,DateTimeBehavior",
    "MultiSelectPicklist": "LogicalName",
    "Picklist": "LogicalName,DefaultFormValue",
    "State": "LogicalName",
    "Status": "LogicalName",
    "Boolean": "LogicalName,DefaultValue",
}
_CHOICES = {"Picklist", "MultiSelectPicklist", "State", "Status", "Boolean"}
_SELECTED = "LogicalName,EntitySetName,PrimaryIdAttribute,IsOptimisticConcurrencyEnabled,TableType"
_EXPANDED = (
    "Attributes($select=LogicalName,AttributeType,AttributeTypeName,IsValidForCreate,IsValidForUpdate,"
    "RequiredLevel),"
    "Keys($select=KeyAttributes,EntityKeyIndexStatus),"
    "ManyToOneRelationships($select=ReferencingAttribute,ReferencedEntity,"
    "ReferencingEntityNavigationPropertyName,ReferencedEntityNavigationPropertyName)"
)


@dataclass(frozen=True)
class ColumnDefinition:
    """A column: its type, when it can be written, what fits, and if it has a default.

    Attributes:
        type: Its AttributeType; ``MultiSelectPicklist`` for a column of several options.
        creatable: Whether a new row can have a value in it.
        updatable: Whether it can be changed.
        required: Its RequiredLevel.
        max_length: Longest text, in units of UTF-16.
        minimum: Smallest number.
        maximum: Largest number.
        has_default: Whether a new row has a value in it by itself.
        options: Value to label.
        precision: Decimals of an amount.
        precision_source: Whose decimals count for money: 0 for the column's, 1 for the
            organization's, 2 for the currency's.
        behavior: Of a moment: ``UserLocal``, ``DateOnly`` or ``TimeZoneIndependent``.
        format: Of a moment: ``DateAndTime`` or ``DateOnly``.
    """

    type: str
    creatable: bool
    updatable: bool
    required: str
    max_length: int | None = None
    minimum: float = -math.inf
    maximum: float = math.inf
    has_default: bool = False
    options: Mapping[int | bool, str] = field(default_factory=dict)
    precision: int | None = None
    precision_source: int = 0
    behavior: str | None = None
    format: str | None = None


@dataclass(frozen=True)
class AlternateKey:
    """An alternate key, and whether its index is ``Active``."""

    columns: frozenset[str]
    status: str


@dataclass(frozen=True)
class Relationship:
    """A lookup: its column, its navigation property, and the logical name of its target.

    Attributes:
        column: Of the table that points.
        navigation: Of the table that points.
        target: The table that is pointed to.
        collection: The navigation property on the other side; empty if there is none.
    """

    column: str
    navigation: str
    target: str
    collection: str = ""


@dataclass(frozen=True)
class TableDefinition:
    """A table's definition."""

    logical_name: str
    entity_set: str
    key: str
    optimistic_concurrency: bool
    columns: Mapping[str, ColumnDefinition]
    keys: tuple[AlternateKey, ...]
    relations: tuple[Relationship, ...]
    table_type: str = STANDARD


def read_tables(
    client: DataverseClient, wanted: Mapping[str, Iterable[str] | None]
) -> dict[str, TableDefinition]:
    """Read the definitions of tables: one request for all, and one for each type of column.

    Args:
        client: Of the environment.
        wanted: Of which tables, by entity set, and of which of their columns lengths and options
            are read; None is all columns.

    Returns:
        The tables that there are, by entity set.

    Raises: as `DataverseClient.get_json`.
    """
    found = {}
    for body in _definitions(client, wanted, expand=_EXPANDED):
        if not _has_set(body):
            continue
        attributes = _objects(body, "Attributes")
        names = wanted.get(_text(body, "EntitySetName"))
        asked = {_text(item, "LogicalName") for item in attributes if _is_asked(item, names)}
        types = {_text(item, "LogicalName"): _type(item) for item in attributes}
        details = _details(
            client, _text(body, "LogicalName"), {types[name] for name in asked if name in types}
        )
        found[_text(body, "EntitySetName")] = _table(body, details)
    return found


def logical_names(client: DataverseClient, entity_sets: Iterable[str]) -> dict[str, str]:
    """The logical name of each table that there is, by entity set. Raises: as `read_tables`."""
    bodies = _definitions(client, entity_sets)
    return {_text(body, "EntitySetName"): _text(body, "LogicalName") for body in bodies if _has_set(body)}


def entity_sets(client: DataverseClient, logical: Iterable[str]) -> dict[str, str]:
    """The entity set of each existing table, by logical name; a table without one is left out.

    Raises: as `read_tables`.
    """
    bodies = _definitions(client, logical, by="LogicalName")
    return {_text(body, "LogicalName"): _text(body, "EntitySetName") for body in bodies if _has_set(body)}


def privileges_of(
    client: DataverseClient, entity_sets: Iterable[str]
) -> dict[str, dict[str, tuple[str, str]]]:
    """The privileges of each existing table, by entity set and PrivilegeType: name and id.

    Raises: as `read_tables`.
    """
    return {
        _text(body, "EntitySetName"): {
            _text(item, "PrivilegeType"): (_text(item, "Name"), _text(item, "PrivilegeId").lower())
            for item in _objects(body, "Privileges")
        }
        for body in _definitions(client, entity_sets, select=f"{_SELECTED},Privileges")
    }


def _definitions(
    client: DataverseClient,
    names: Iterable[str],
    *,
    by: str = "EntitySetName",
    expand: str | None = None,
    select: str = _SELECTED,
) -> Sequence[Mapping[str, Any]]:
    require = require_entity_set if by == "EntitySetName" else require_name
    conditions = [f"{by} eq '{require(name)}'" for name in sorted(names)]
    if not conditions:
        return []
    params = {"$select": select, "$filter": " or ".join(conditions)}
    if expand:
        params["$expand"] = expand
    return _objects(client.get_json(_DEFINITIONS, params), "value")


def _table(body: Mapping[str, Any], details: Mapping[str, Mapping[str, Any]]) -> TableDefinition:
    return TableDefinition(
        logical_name=_text(body, "LogicalName"),
        entity_set=_text(body, "EntitySetName"),
        key=_text(body, "PrimaryIdAttribute"),
        optimistic_concurrency=body.get("IsOptimisticConcurrencyEnabled") is True,
        columns={
            _text(item, "LogicalName"): _column(item, details.get(_text(item, "LogicalName"), {}))
            for item in _objects(body, "Attributes")
        },
        keys=tuple(
            AlternateKey(frozenset(item.get("KeyAttributes") or ()), _text(item, "EntityKeyIndexStatus"))
            for item in _objects(body, "Keys")
        ),
        relations=tuple(
            Relationship(
                _text(item, "ReferencingAttribute"),
                _text(item, "ReferencingEntityNavigationPropertyName"),
                _text(item, "ReferencedEntity"),
                str(item.get("ReferencedEntityNavigationPropertyName") or ""),
            )
            for item in _objects(body, "ManyToOneRelationships")
            # A relationship that the Web API does not show has none: nothing can be written by it.
            if item.get("ReferencingEntityNavigationPropertyName")
        ),
        table_type=table_type(body.get("TableType")),
    )


def _has_set(body: Mapping[str, Any]) -> bool:
    """Whether the Web API shows the rows of a table at all."""
    return bool(body.get("EntitySetName"))


def _details(client: DataverseClient, table: str, types: set[str]) -> dict[str, Mapping[str, Any]]:
    """What only columns of some types have: how long a text may be, which options there are."""
    details: dict[str, Mapping[str, Any]] = {}
    for kind in sorted(types & set(_DETAILS)):
        path = (
            f"{_DEFINITIONS}(LogicalName='{require_name(table)}')/Attributes"
            f"/Microsoft.Dynamics.CRM.{kind}AttributeMetadata"
        )
        params = {"$select": _DETAILS[kind]}
        if kind in _CHOICES:
            # A choice of one's own has its options in the one, a global choice in the other.
            params["$expand"] = "OptionSet,GlobalOptionSet"
        for item in _objects(client.get_json(path, params), "value"):
            details[_text(item, "LogicalName")] = item
    return details


def _is_asked(item: Mapping[str, Any], names: Iterable[str] | None) -> bool:
    # Of a column that must have a value it matters whether it has one by itself.
    return names is None or item.get("LogicalName") in set(names) or _level(item) == "ApplicationRequired"


def _level(item: Mapping[str, Any]) -> str:
    level = item.get("RequiredLevel")
    return str(level.get("Value")) if isinstance(level, Mapping) else "None"


def _column(item: Mapping[str, Any], detail: Mapping[str, Any]) -> ColumnDefinition:
    length, least, most = (detail.get(name) for name in ("MaxLength", "MinValue", "MaxValue"))
    precision, source, shown = (detail.get(name) for name in ("Precision", "PrecisionSource", "Format"))
    behavior = detail.get("DateTimeBehavior")
    # -1 stands for none ("PicklistAttributeMetadata"); a yes/no column always has one.
    default = detail.get("DefaultFormValue", detail.get("DefaultValue"))
    return ColumnDefinition(
        type=_type(item),
        creatable=item.get("IsValidForCreate") is True,
        updatable=item.get("IsValidForUpdate") is True,
        required=_level(item),
        max_length=length if isinstance(length, int) else None,
        minimum=least if isinstance(least, int | float) else -math.inf,
        maximum=most if isinstance(most, int | float) else math.inf,
        has_default=isinstance(default, int) and (isinstance(default, bool) or default >= 0),
        options=_options(detail.get("OptionSet") or detail.get("GlobalOptionSet") or {}),
        precision=precision if isinstance(precision, int) else None,
        precision_source=source if isinstance(source, int) else 0,
        behavior=str(behavior.get("Value")) if isinstance(behavior, Mapping) else None,
        format=shown if isinstance(shown, str) else None,
    )


def _type(item: Mapping[str, Any]) -> str:
    # AttributeTypeCode has no value for a column of several options, so it is Virtual, as others
    # are.
    name = item.get("AttributeTypeName")
    is_multiple = isinstance(name, Mapping) and name.get("Value") == "MultiSelectPicklistType"
    # It may be null ("AttributeMetadata"): such a column is known by its name alone.
    found = item.get("AttributeType")
    return "MultiSelectPicklist" if is_multiple else found if isinstance(found, str) else ""


def _options(option_set: Mapping[str, Any]) -> dict[int | bool, str]:
    if "TrueOption" in option_set:
        # In a row these are true and false, not the numbers of the metadata.
        return {True: _label(option_set["TrueOption"]), False: _label(option_set.get("FalseOption", {}))}
    return {
        item["Value"]: _label(item) for item in _objects(option_set, "Options") if type(item["Value"]) is int
    }


def _label(item: Mapping[str, Any]) -> str:
    label = item.get("Label")
    shown = label.get("UserLocalizedLabel") if isinstance(label, Mapping) else None
    return str(shown.get("Label", "")) if isinstance(shown, Mapping) else ""


def _objects(content: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    items = content.get(name, [])
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise InvalidInput(f"the table definitions hold no list {name}: is this a Dataverse environment?")
    return items


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"the table definitions hold no {name}: is this a Dataverse environment?")
    return value
