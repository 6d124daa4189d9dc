"""The definitions of a table's columns, as a client may read them.

Sources, learn.microsoft.com: "AttributeMetadata" and the types derived from it in the Web API
reference (names of the properties), "AttributeTypeCode Enum".
"""

import uuid
from typing import Any

from writeahead.simulators.dataverse.schema import Column, Kind, Schema, Table

__all__ = ["CASTS", "cast_of", "column_definition", "label", "logical_name", "metadata_id"]

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
# Types of columns that are listed only: they have no rows' values, or not yet.
_OTHER_CASTS = {f"{name}AttributeMetadata" for name in ("EntityName", "Image")}
# What a request for columns can cast to.
CASTS = frozenset({*_CASTS, *_OTHER_CASTS})
_Json = dict[str, Any]


def column_definition(table: Table, name: str, schema: Schema) -> _Json:
    """The definition of a column, with the properties of its derived type."""
    column = table.columns[name]
    kind = "Owner" if name == "ownerid" else column.type_name
    return {
        "@odata.type": f"#Microsoft.Dynamics.CRM.{cast_of(column)}",
        "MetadataId": metadata_id(f"{table.logical_name}.{name}"),
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
        "DisplayName": label(name),
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


def cast_of(column: Column) -> str:
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
        yes, no = ({"Value": value, "Label": label(labels[value])} for value in (1, 0))
        option_set = {"TrueOption": yes, "FalseOption": no}
        return {"DefaultValue": bool(column.default), "OptionSet": option_set, "GlobalOptionSet": None}
    if column.kind in (Kind.LOOKUP, Kind.PARTYLIST):
        targets = {logical_name(schema, target) for target in column.navigation} | set(column.targets)
        return {"Targets": sorted(targets)}
    if column.kind in (Kind.PICKLIST, Kind.MULTI_SELECT_PICKLIST, Kind.STATE, Kind.STATUS):
        options = [
            {
                "Value": value,
                "Label": label(text),
                **({"State": table.state_of(value)} if column.kind is Kind.STATUS else {}),
            }
            for value, text in column.options.items()
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


def logical_name(schema: Schema, entity_set: str) -> str:
    """The logical name of a table of the schema; another table is named by its entity set."""
    table = schema.get(entity_set)
    return table.logical_name if table else entity_set


def label(text: str) -> _Json:
    """A label in the one language that the simulator has."""
    shown = {"Label": text, "LanguageCode": 1033}
    return {"LocalizedLabels": [shown], "UserLocalizedLabel": shown}


def metadata_id(name: str) -> str:
    """The ``MetadataId`` of what has this name: the same in each run."""
    return str(uuid.uuid5(_NAMESPACE, name))
