"""Table definitions, read-only: ``EntityDefinitions`` and what hangs below one.

Sources, learn.microsoft.com: "Query table definitions using the Web API" (paths, casts, $expand of
OptionSet), "Retrieve table definitions by name or MetadataId" (``LogicalName='...'`` as a key),
"EntityMetadata", "AttributeMetadata", "EntityKeyMetadata" and "OneToManyRelationshipMetadata" in
the Web API reference (names of the properties).
"""

import re
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from writeahead.simulators.dataverse.definition_filter import matching
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError, not_imitated
from writeahead.simulators.dataverse.privileges import privileges_of
from writeahead.simulators.dataverse.schema import Column, Kind, Schema, Table
from writeahead.simulators.dataverse.understood import query_options

__all__ = ["Metadata"]

_PATH = re.compile(
    r"EntityDefinitions(?:\((?:LogicalName='(?P<table>[^']*)'|(?P<id>[0-9A-Fa-f-]{36}))\))?(?:/(?P<rest>.+))?"
)
_ATTRIBUTES = re.compile(
    r"Attributes(?:\(LogicalName='(?P<column>[^']*)'\))?(?:/Microsoft\.Dynamics\.CRM\.(?P<cast>\w+))?"
)
_OPTION = re.compile(r"(?P<name>\w+)(?:\((?P<options>.*)\))?")
_NAMESPACE = uuid.UUID("5d0c9a53-52c5-4f0e-9a53-5b0b3a1c7d11")
_CASTS = {
    "StringAttributeMetadata": Kind.STRING,
    "MemoAttributeMetadata": Kind.MEMO,
    "IntegerAttributeMetadata": Kind.INTEGER,
    "DecimalAttributeMetadata": Kind.DECIMAL,
    "DoubleAttributeMetadata": Kind.DOUBLE,
    "MoneyAttributeMetadata": Kind.MONEY,
    "DateTimeAttributeMetadata": Kind.DATETIME,
    "PicklistAttributeMetadata": Kind.PICKLIST,
    "MultiSelectPicklistAttributeMetadata": Kind.MULTI_SELECT_PICKLIST,
    "StateAttributeMetadata": Kind.STATE,
    "StatusAttributeMetadata": Kind.STATUS,
    "BooleanAttributeMetadata": Kind.BOOLEAN,
    "LookupAttributeMetadata": Kind.LOOKUP,
}
_OPTIONS = ("$select", "$expand", "$filter")
# Types of columns that are listed only: they have no rows' values, or not yet.
_OTHER_CASTS = {f"{name}AttributeMetadata" for name in ("EntityName", "Image")}
_Json = dict[str, Any]


class Metadata:
    """Answers reads of table definitions.

    Args:
        schema: The tables there are.
        context: What ``@odata.context`` begins with.
    """

    def __init__(self, schema: Schema, context: str) -> None:
        self._schema = schema
        self._context = context

    def read(self, path: str, query: str) -> _Json:
        """The JSON of a definition, or of several.

        Args:
            path: The path below the service root.
            query: The query string, still encoded.

        Raises:
            ODataError: 404 if the definition does not exist, 400 or 501 if the request is not
                understood.
        """
        match = _PATH.fullmatch(urllib.parse.unquote(path))
        if match is None:
            raise not_imitated("this path below EntityDefinitions")
        options = query_options(query, _OPTIONS)
        if match["table"] is None and match["id"] is None:
            if match["rest"]:
                raise not_imitated("this path below EntityDefinitions")
            found = _listed([_definition(table, self._schema) for table in self._schema], options)
            return {"@odata.context": f"{self._context}#EntityDefinitions", "value": found}
        wanted = (match["table"], (match["id"] or "").lower())
        table = next(
            (
                table
                for table in self._schema
                if table.logical_name == wanted[0] or _id(table.logical_name) == wanted[1]
            ),
            None,
        )
        if table is None:
            raise _absent("entity", match["table"] or match["id"])
        if match["rest"]:
            return self._below(table, match["rest"], options)
        body = _shaped(_definition(table, self._schema), options)
        return {"@odata.context": f"{self._context}#EntityDefinitions/$entity", **body}

    def _below(self, table: Table, rest: str, options: Mapping[str, str]) -> _Json:
        context = f"{self._context}#EntityDefinitions('{table.logical_name}')/{rest}"
        if rest in _COLLECTIONS:
            items = _COLLECTIONS[rest](table, self._schema)
            return {"@odata.context": context, "value": _listed(items, options)}
        match = _ATTRIBUTES.fullmatch(rest)
        if match is None or match["cast"] not in (None, *_CASTS, *_OTHER_CASTS):
            raise not_imitated("this path below a table definition")
        found = [
            _attribute(table, name, self._schema)
            for name, column in table.columns.items()
            if match["cast"] in (None, _cast_of(column)) and match["column"] in (None, name)
        ]
        hidden = frozenset() if match["cast"] else _DERIVED
        if match["column"] is None:
            return {"@odata.context": context, "value": _listed(found, options, hidden)}
        if not found:
            raise _absent("attribute", match["column"])
        return {"@odata.context": f"{context}/$entity", **_shaped(found[0], options, hidden)}


def _definition(table: Table, schema: Schema) -> _Json:
    return {
        "MetadataId": _id(table.logical_name),
        "LogicalName": table.logical_name,
        "SchemaName": table.logical_name.capitalize(),
        "EntitySetName": table.entity_set,
        "PrimaryIdAttribute": table.primary_key,
        "PrimaryNameAttribute": table.primary_name,
        "IsActivity": table.activity,
        "IsPrivate": False,
        # "EntityMetadata.TableType" and "TableTypeCode": Standard, Virtual or Elastic.
        "TableType": "Elastic" if table.elastic else "Standard",
        "IsCustomEntity": "_" in table.logical_name,
        "IsOptimisticConcurrencyEnabled": table.optimistic_concurrency,
        "ChangeTrackingEnabled": True,
        "OwnershipType": table.ownership if "ownerid" in table.columns else "OrganizationOwned",
        "DisplayName": _label(table.logical_name),
        "Privileges": privileges_of(table),
        "Attributes": [_attribute(table, name, schema) for name in table.columns],
        "Keys": _keys(table, schema),
        "ManyToOneRelationships": _relationships(table, schema),
    }


_EXPANDABLE = {"Attributes", "Keys", "ManyToOneRelationships", "OptionSet", "GlobalOptionSet"}


# Properties of derived types, which a request can name under a cast only.
_DERIVED = frozenset(
    {
        "MaxLength",
        "MinValue",
        "MaxValue",
        "Precision",
        "PrecisionSource",
        "Format",
        "DateTimeBehavior",
        "DefaultValue",
        "DefaultFormValue",
        "Targets",
        "OptionSet",
        "GlobalOptionSet",
    }
)


def _listed(items: list[_Json], options: Mapping[str, str], hidden: frozenset[str] = _DERIVED) -> list[_Json]:
    """Apply ``$filter``, then the options of each item."""
    others = {name: value for name, value in options.items() if name != "$filter"}
    found = matching(items, options["$filter"]) if "$filter" in options else items
    return [_shaped(item, others, hidden) for item in found]


def _shaped(body: _Json, options: Mapping[str, str], hidden: frozenset[str] = _DERIVED) -> _Json:
    """Apply $select and $expand. MetadataId is always there, a navigation property if expanded."""
    if set(options) - {"$select", "$expand"}:
        raise not_imitated("this query option on a definition")
    wanted = _names(options["$select"]) if options.get("$select") else None
    expanded = _expanded(options.get("$expand", ""))
    unknown = {*(wanted or ()), *expanded} - (set(body) - hidden)
    if unknown:
        raise ODataError(
            400,
            ErrorCode.NONE,
            f"Could not find a property named '{min(unknown)}' on type 'Microsoft.Dynamics.CRM.Metadata'.",
        )
    shaped = {
        name: value
        for name, value in body.items()
        if name not in _EXPANDABLE
        and (wanted is None or name in wanted or name in ("MetadataId", "@odata.type"))
    }
    for name, inner in expanded.items():
        value = body[name]
        if isinstance(value, list):
            shaped[name] = _listed(value, inner)
        else:
            shaped[name] = None if value is None else _shaped(value, inner)
    return shaped


def _expanded(text: str) -> dict[str, dict[str, str]]:
    """Read ``Attributes($select=LogicalName),Keys``: each name with its own options."""
    found = {}
    for part in _split(text, ","):
        match = _OPTION.fullmatch(part.strip())
        if match is None:
            raise not_imitated("this $expand")
        inner = (option.partition("=") for option in _split(match["options"] or "", ";"))
        found[match["name"]] = {name.strip(): value for name, _, value in inner}
    return found


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside of parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")}


def _attribute(table: Table, name: str, schema: Schema) -> _Json:
    column = table.columns[name]
    kind = "Owner" if name == "ownerid" else column.type_name
    return {
        "@odata.type": f"#Microsoft.Dynamics.CRM.{_cast_of(column)}",
        "MetadataId": _id(f"{table.logical_name}.{name}"),
        "LogicalName": name,
        "SchemaName": name.capitalize(),
        # AttributeTypeCode has no value for it: "AttributeTypeCode Enum", "Choices columns".
        "AttributeType": "Virtual" if column.kind is Kind.MULTI_SELECT_PICKLIST else kind,
        "AttributeTypeName": {"Value": f"{kind}Type"},
        "IsPrimaryId": name == table.primary_key,
        "IsPrimaryName": name == table.primary_name,
        "IsValidForCreate": column.creatable,
        "IsValidForUpdate": column.updatable and name != table.primary_key,
        "IsValidForRead": True,
        "RequiredLevel": {
            "Value": "SystemRequired" if name == table.primary_key else column.required,
            "CanBeChanged": name != table.primary_key,
            "ManagedPropertyLogicalName": "canmodifyrequirementlevelsettings",
        },
        "DisplayName": _label(name),
        **_typed(table, column, schema),
    }


# For columns without own limits, MinSupportedValue and MaxSupportedValue and the most decimals:
# "DecimalAttributeMetadata", "DoubleAttributeMetadata" and "MoneyAttributeMetadata".
_LIMITS = {
    Kind.INTEGER: (None, None, None),
    Kind.DECIMAL: (-1e11, 1e11, 10),
    Kind.DOUBLE: (-1e11, 1e11, 5),
    Kind.MONEY: (-922337203685477, 922337203685477, 4),
}


def _cast_of(column: Column) -> str:
    """The derived type of a column's definition, which requests cast to."""
    own = f"{column.type_name}AttributeMetadata"
    by_kind = {kind: cast for cast, kind in _CASTS.items()}
    # A list of parties is a lookup with an AttributeType of its own.
    by_kind[Kind.PARTYLIST] = by_kind[Kind.LOOKUP]
    return own if own in _OTHER_CASTS else by_kind.get(column.kind, "AttributeMetadata")


def _typed(table: Table, column: Column, schema: Schema) -> _Json:
    """The properties that only columns of this kind have."""
    if column.kind in _LIMITS:
        return _numeric(column)
    if column.kind is Kind.BOOLEAN:
        labels = {1: "Yes", 0: "No", **column.options}
        yes, no = ({"Value": value, "Label": _label(labels[value])} for value in (1, 0))
        option_set = {"TrueOption": yes, "FalseOption": no}
        return {"DefaultValue": bool(column.default), "OptionSet": option_set, "GlobalOptionSet": None}
    if column.kind in (Kind.LOOKUP, Kind.PARTYLIST):
        targets = {_logical(schema, target) for target in column.navigation} | set(column.targets)
        return {"Targets": sorted(targets)}
    if column.kind in (Kind.PICKLIST, Kind.MULTI_SELECT_PICKLIST, Kind.STATE, Kind.STATUS):
        options = [
            {
                "Value": value,
                "Label": _label(label),
                **({"State": table.state_of(value)} if column.kind is Kind.STATUS else {}),
            }
            for value, label in column.options.items()
        ]
        default = -1 if column.default is None else column.default
        return {"DefaultFormValue": default, "OptionSet": {"Options": options}, "GlobalOptionSet": None}
    shown = {"Format": column.format, "DateTimeBehavior": {"Value": column.behavior}}
    lengths = {"MaxLength": column.max_length}
    others: dict[Kind, _Json] = {Kind.STRING: lengths, Kind.MEMO: lengths, Kind.DATETIME: shown}
    return others.get(column.kind, {})


def _numeric(column: Column) -> _Json:
    least, most, digits = _LIMITS[column.kind]
    found: _Json = {
        "MinValue": least if column.minimum is None else column.minimum,
        "MaxValue": most if column.maximum is None else column.maximum,
    }
    if digits is not None:
        found["Precision"] = digits if column.precision is None else column.precision
    if column.kind is Kind.MONEY:
        found["PrecisionSource"] = column.precision_source
    return found


def _keys(table: Table, _schema: Schema) -> list[_Json]:
    return [
        {
            "MetadataId": _id(f"{table.logical_name}.key.{name}"),
            "LogicalName": name,
            "SchemaName": name.capitalize(),
            "EntityLogicalName": table.logical_name,
            "KeyAttributes": list(key.columns),
            "EntityKeyIndexStatus": key.status,
        }
        for name, key in table.keys.items()
    ]


def _relationships(table: Table, schema: Schema) -> list[_Json]:
    found = []
    for name, column in table.columns.items():
        if column.kind is Kind.PARTYLIST:
            continue  # the relationships are those of the activity parties
        for target, navigation in _navigations(name, column):
            referenced = "owner" if name == "ownerid" else _logical(schema, target)
            found.append(
                {
                    "MetadataId": _id(f"{table.logical_name}.{name}.{referenced}"),
                    "SchemaName": f"{referenced}_{table.logical_name}_{name}",
                    "ReferencedEntityNavigationPropertyName": _collection(table, name, referenced),
                    "ReferencingEntity": table.logical_name,
                    "ReferencingAttribute": name,
                    # It can be null ("OneToManyRelationshipMetadata").
                    "ReferencingEntityNavigationPropertyName": table.own_navigation(navigation) or None,
                    "ReferencedEntity": referenced,
                    "ReferencedAttribute": _primary_key(schema, target)
                    if referenced != "owner"
                    else "ownerid",
                }
            )
    return found


def _collection(table: Table, name: str, referenced: str) -> str:
    """The collection-valued navigation property on the other side of a lookup."""
    if table.logical_name == "activityparty":
        return f"{'system_user' if referenced == 'systemuser' else referenced}_activity_parties"
    return f"{referenced}_{table.logical_name}_{name}"


def _navigations(name: str, column: Column) -> Sequence[tuple[str, str]]:
    pairs: Iterable[tuple[str, str]] = column.navigation.items()
    return list(pairs)[:1] if name == "ownerid" else list(pairs)


def _logical(schema: Schema, entity_set: str) -> str:
    table = schema.get(entity_set)
    return table.logical_name if table else entity_set


def _primary_key(schema: Schema, entity_set: str) -> str:
    table = schema.get(entity_set)
    return table.primary_key if table else f"{entity_set}id"


def _label(text: str) -> _Json:
    label = {"Label": text, "LanguageCode": 1033}
    return {"LocalizedLabels": [label], "UserLocalizedLabel": label}


def _id(name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, name))


def _absent(what: str, name: str) -> ODataError:
    # Web service error codes: 0x80060888 is for syntax errors, DoesNotExist for missing ones.
    return ODataError(
        404, ErrorCode.OBJECT_DOES_NOT_EXIST, f"Could not find an {what} with LogicalName '{name}'."
    )


_COLLECTIONS: dict[str, Callable[[Table, Schema], list[_Json]]] = {
    "Keys": _keys,
    "ManyToOneRelationships": _relationships,
}
