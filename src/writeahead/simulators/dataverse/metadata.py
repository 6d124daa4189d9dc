"""Table definitions, read-only: ``EntityDefinitions`` and what hangs below one.

Sources, learn.microsoft.com: "Query table definitions using the Web API" (paths, casts, $expand of
OptionSet), "Retrieve table definitions by name or MetadataId" (``LogicalName='...'`` as a key),
"EntityMetadata", "AttributeMetadata", "EntityKeyMetadata" and "OneToManyRelationshipMetadata" in
the Web API reference (names of the properties).
"""

import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from writeahead.simulators.dataverse.column_definitions import (
    CASTS,
    cast_of,
    column_definition,
    label,
    logical_name,
    metadata_id,
)
from writeahead.simulators.dataverse.definition_options import DERIVED, listed, shaped
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
_OPTIONS = ("$select", "$expand", "$filter")
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
            found = listed([_definition(table, self._schema) for table in self._schema], options)
            return {"@odata.context": f"{self._context}#EntityDefinitions", "value": found}
        wanted = (match["table"], (match["id"] or "").lower())
        table = next(
            (
                table
                for table in self._schema
                if table.logical_name == wanted[0] or metadata_id(table.logical_name) == wanted[1]
            ),
            None,
        )
        if table is None:
            raise _absent("entity", match["table"] or match["id"])
        if match["rest"]:
            return self._below(table, match["rest"], options)
        body = shaped(_definition(table, self._schema), options)
        return {"@odata.context": f"{self._context}#EntityDefinitions/$entity", **body}

    def _below(self, table: Table, rest: str, options: Mapping[str, str]) -> _Json:
        context = f"{self._context}#EntityDefinitions('{table.logical_name}')/{rest}"
        if rest in _COLLECTIONS:
            items = _COLLECTIONS[rest](table, self._schema)
            return {"@odata.context": context, "value": listed(items, options)}
        match = _ATTRIBUTES.fullmatch(rest)
        if match is None or match["cast"] not in (None, *CASTS):
            raise not_imitated("this path below a table definition")
        found = [
            column_definition(table, name, self._schema)
            for name, column in table.columns.items()
            if match["cast"] in (None, cast_of(column)) and match["column"] in (None, name)
        ]
        hidden = frozenset() if match["cast"] else DERIVED
        if match["column"] is None:
            return {"@odata.context": context, "value": listed(found, options, hidden)}
        if not found:
            raise _absent("attribute", match["column"])
        return {"@odata.context": f"{context}/$entity", **shaped(found[0], options, hidden)}


def _definition(table: Table, schema: Schema) -> _Json:
    return {
        "MetadataId": metadata_id(table.logical_name),
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
        "DisplayName": label(table.logical_name),
        "Privileges": privileges_of(table),
        "Attributes": [column_definition(table, name, schema) for name in table.columns],
        "Keys": _keys(table, schema),
        "ManyToOneRelationships": _relationships(table, schema),
    }


def _keys(table: Table, _schema: Schema) -> list[_Json]:
    return [
        {
            "MetadataId": metadata_id(f"{table.logical_name}.key.{name}"),
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
            referenced = "owner" if name == "ownerid" else logical_name(schema, target)
            found.append(
                {
                    "MetadataId": metadata_id(f"{table.logical_name}.{name}.{referenced}"),
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


def _primary_key(schema: Schema, entity_set: str) -> str:
    table = schema.get(entity_set)
    return table.primary_key if table else f"{entity_set}id"


def _absent(what: str, name: str) -> ODataError:
    # Web service error codes: 0x80060888 is for syntax errors, DoesNotExist for missing ones.
    return ODataError(
        404, ErrorCode.OBJECT_DOES_NOT_EXIST, f"Could not find an {what} with LogicalName '{name}'."
    )


_COLLECTIONS: dict[str, Callable[[Table, Schema], list[_Json]]] = {
    "Keys": _keys,
    "ManyToOneRelationships": _relationships,
}
