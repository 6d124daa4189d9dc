"""The Web API: one request in, one response out, without sockets, faults or tokens.

Sources, all below learn.microsoft.com/power-apps/developer/data-platform/webapi: "Perform
conditional operations using the Web API" (the matrix of If-Match and If-None-Match), "Create a
table row", "Update and delete table rows", "Retrieve a table row", "Compose HTTP requests and
handle errors".
"""

import json
import re
import sqlite3
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from writeahead.simulators.dataverse import elastic
from writeahead.simulators.dataverse.bulk import NAMESPACE, Bulk
from writeahead.simulators.dataverse.duplicates import Duplicates
from writeahead.simulators.dataverse.functions import USER_PRIVILEGES, Functions
from writeahead.simulators.dataverse.keys import KEY_TEXT, RowKey, parse_key
from writeahead.simulators.dataverse.listing import Listing
from writeahead.simulators.dataverse.messages import HEADERS, ApiRequest, ApiResponse, json_response
from writeahead.simulators.dataverse.metadata import Metadata
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError, not_imitated
from writeahead.simulators.dataverse.paging import MOST_ROWS
from writeahead.simulators.dataverse.privileges import Privileges
from writeahead.simulators.dataverse.query import Query, parse_query
from writeahead.simulators.dataverse.record import Record
from writeahead.simulators.dataverse.records import Records
from writeahead.simulators.dataverse.schema import PARTITION, Schema, Table
from writeahead.simulators.dataverse.understood import query_options, require_understood

__all__ = ["WebApi"]

_RESOURCE = re.compile(
    r"(?P<name>[A-Za-z_]\w*|\$batch|\$metadata)?"
    rf"(?:\((?P<key>{KEY_TEXT})\))?(?P<rest>/.*)?"
)
# Of definitions, and functions and actions that clients often use; other names are not found.
_NOT_IMITATED = {
    "$metadata",
    "BulkDelete",
    "CreateEntities",
    "GlobalOptionSetDefinitions",
    "GrantAccess",
    "InitializeFrom",
    "ManagedPropertyDefinitions",
    "Merge",
    "ModifyAccess",
    "PublishXml",
    "RelationshipDefinitions",
    "RetrieveDuplicates",
    "RetrieveMetadataChanges",
    "RetrieveTotalRecordCount",
    "RevokeAccess",
}
_MISMATCH = "The version of the existing record doesn't match the RowVersion property provided."
_EXISTS = "A record with matching key values already exists."


_Handler = TypeVar("_Handler", bound=Callable[..., ApiResponse])


class WebApi:
    """Answers requests with the rows of one database.

    Args:
        connection: A connection to the database; the caller runs the transaction.
        schema: The tables and their columns.
        duplicate_rules: By entity set, the properties that make two rows duplicates.
        privileges: What the application may do.
        page_size: The rows of a page at most.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        schema: Schema,
        duplicate_rules: Mapping[str, Sequence[str]],
        privileges: Privileges,
        page_size: int = MOST_ROWS,
    ) -> None:
        self._connection = connection
        self._schema = schema
        self._records = Records(connection, schema)
        self._duplicates = Duplicates(self._records, duplicate_rules)
        self._privileges = privileges
        self._functions = Functions(connection, schema, privileges)
        self._listing = Listing(self._records, page_size)
        self._bulk = Bulk(self._records, privileges, self._duplicates)
        self._without_table: dict[str, Callable[[ApiRequest], ApiResponse]] = {
            "": self._functions.service_document,
            "EntityDefinitions": self._definitions,
            "RetrieveVersion": self._functions.version,
            "WhoAmI": self._functions.who_am_i,
        }
        self._on_collection: dict[str, Callable[[ApiRequest, Table], ApiResponse]] = {
            "GET": self._list,
            "POST": self._post,
        }
        self._on_row: dict[str, Callable[[ApiRequest, Table, RowKey], ApiResponse]] = {
            "GET": self._read,
            "PATCH": self._patch,
            "DELETE": self._delete,
        }

    def is_elastic(self, path: str) -> bool:
        """Whether a path is below an elastic table."""
        match = _RESOURCE.fullmatch(path)
        table = self._schema.get(match["name"] or "") if match else None
        return table is not None and table.elastic

    def handle(self, request: ApiRequest) -> ApiResponse:
        """Answer one request.

        Raises:
            ODataError: The request is refused; the caller rolls back.
        """
        require_understood(request)
        match = _RESOURCE.fullmatch(request.path)
        name = (match["name"] or "") if match else ""
        if match is None or (not name and request.path):
            raise _no_resource(request.path)
        if name in _NOT_IMITATED:
            raise not_imitated(name)
        if name in self._without_table:
            return self._without_table[name](request)
        table, key = self._schema.get(name), match["key"]
        if table is None:
            raise _no_resource(name)
        if table.definition_only:
            raise not_imitated(f"rows of {name}")
        if match["rest"]:
            return self._below(request, table, key, match["rest"])
        if table.list_only and (key is not None or request.method != "GET"):
            raise ODataError(
                400,
                ErrorCode.METHOD_NOT_SUPPORTED,
                f"The '{request.method}' method does not support entities of type '{table.logical_name}'.",
            )
        if key is None:
            return _chosen(self._on_collection, request)(request, table)
        return _chosen(self._on_row, request)(request, table, parse_key(table, key))

    def _below(self, request: ApiRequest, table: Table, key: str | None, rest: str) -> ApiResponse:
        if key is None and rest == "/$count":
            self._privileges.require(table, "Read")
            return self._listing.count(request, table)
        if rest == USER_PRIVILEGES and table.entity_set == "systemusers":
            return self._functions.user_privileges(request)
        name = rest.removeprefix(f"/{NAMESPACE}")
        if key is None and name != rest and request.method == "POST":
            return self._bulk.answer(request, table, name, _payload(request))
        raise not_imitated("this path below a row or a table")

    def _definitions(self, request: ApiRequest) -> ApiResponse:
        if request.method != "GET":
            raise not_imitated("changes of table definitions")
        metadata = Metadata(self._schema, f"{request.root}$metadata")
        return json_response(200, metadata.read(request.path, request.query))

    def _list(self, request: ApiRequest, table: Table) -> ApiResponse:
        self._privileges.require(table, "Read")
        return self._listing.rows(request, table, f"{request.root}$metadata#{table.entity_set}")

    def _read(self, request: ApiRequest, table: Table, key: RowKey) -> ApiResponse:
        self._privileges.require(table, "Read")
        query = parse_query(table, request.query, ("$select", *elastic.options(table)))
        record = self._records.get_by(table, elastic.partitioned(table, key, elastic.of_query(request.query)))
        # With annotations, which may come from other rows, it is never "not modified".
        annotated = "odata.include-annotations" in request.headers.get("prefer", "")
        if request.header("if-none-match") == record.etag and not annotated:
            return ApiResponse(status=304, headers=HEADERS)
        return self._representation(request, record, query, 200, {"ETag": record.etag}, changed=False)

    def _post(self, request: ApiRequest, table: Table) -> ApiResponse:
        self._privileges.require(table, "Create")
        query = parse_query(table, request.query)
        record = self._records.create(table, None, _payload(request))
        return self._written(request, record, query, created=True)

    def _patch(self, request: ApiRequest, table: Table, key: RowKey) -> ApiResponse:
        if table.elastic:
            return self._patch_elastic(request, table, key)
        query = parse_query(table, request.query)
        found = self._records.find_by(table, key)
        if found is not None and request.header("if-none-match") == "*":
            raise ODataError(412, ErrorCode.DUPLICATE_RECORD, _EXISTS)
        if request.header("if-match") is not None:
            # Without a header this is an upsert; with one, a missing row is never created.
            found = self._records.get_by(table, key)
            _require_version(request, found)
        payload = _payload(request)
        self._privileges.require(table, "Create" if found is None else "Write")
        if found is None:
            created = self._records.create(table, key, payload)
            return self._written(request, created, query, created=True, key=key)
        # The columns that name the row can't be changed through that name.
        payload = {name: value for name, value in payload.items() if name not in key.values}
        return self._written(request, self._records.update(found, payload), query, created=False, key=key)

    def _patch_elastic(self, request: ApiRequest, table: Table, key: RowKey) -> ApiResponse:
        """An update, or an upsert that replaces the whole row."""
        query, payload = parse_query(table, request.query), _payload(request)
        key = elastic.partitioned(table, key, payload.get(PARTITION))
        if elastic.is_update(request):
            self._privileges.require(table, "Write")
            rest = {name: value for name, value in payload.items() if name not in key.values}
            record = self._records.update(self._records.get_by(table, key), rest)
            return self._written(request, record, query, created=False, key=key)
        found = self._records.find_by(table, key)
        if found is not None:
            self._records.delete(found)
        elif self._records.find(table, key.values[table.primary_key]):
            raise elastic.two_partitions()
        # "Use Upsert to create or update a record": neither message is called; both are assumed.
        self._privileges.require(table, "Create")
        self._privileges.require(table, "Write")
        record = self._records.create(table, key, payload)
        return self._written(request, record, query, created=found is None, key=key)

    def _delete(self, request: ApiRequest, table: Table, key: RowKey) -> ApiResponse:
        query_options(request.query, elastic.options(table))
        self._privileges.require(table, "Delete")
        record = self._records.get_by(table, elastic.partitioned(table, key, elastic.of_query(request.query)))
        if request.header("if-match") is not None:
            _require_version(request, record)
        self._records.delete(record)
        return ApiResponse(status=204, headers={"OData-Version": "4.0"}, changed=True)

    def _written(
        self,
        request: ApiRequest,
        record: Record,
        query: Query,
        *,
        created: bool,
        key: RowKey | None = None,
    ) -> ApiResponse:
        self._duplicates.refuse(request, record)
        if "return=representation" in request.headers.get("prefer", "").replace(" ", ""):
            # As documented, OData-EntityId is not sent beside a representation.
            headers = {"Preference-Applied": "return=representation", "ETag": record.etag}
            status = 201 if created else 200
            reply = self._representation(request, record, query, status, headers, changed=True)
            return replace(reply, row=record.path)
        # The answer names a row as the request did, by its alternate key.
        name = urllib.parse.quote(key.text, safe="=,'") if key and key.values else record.id
        headers = {
            "OData-Version": "4.0",
            "OData-EntityId": f"{request.root}{record.table.entity_set}({name})",
        }
        written = ApiResponse(status=204, headers=headers, changed=True, row=record.path)
        return elastic.with_session_token(written, record.version) if record.table.elastic else written

    def _representation(
        self,
        request: ApiRequest,
        record: Record,
        query: Query,
        status: int,
        headers: Mapping[str, str],
        *,
        changed: bool,
    ) -> ApiResponse:
        context = f"{_context(request, record.table, query)}/$entity"
        content = {"@odata.context": context, **record.body(query.select)}
        return json_response(status, content, headers, changed=changed)


def _chosen(handlers: Mapping[str, _Handler], request: ApiRequest) -> _Handler:
    handler = handlers.get(request.method)
    if handler is None:
        raise ODataError(
            405, ErrorCode.NONE, f"The requested resource does not support http method '{request.method}'."
        )
    return handler


def _require_version(request: ApiRequest, record: Record) -> None:
    if request.header("if-match") not in ("*", record.etag):
        raise ODataError(412, ErrorCode.CONCURRENCY_VERSION_MISMATCH, _MISMATCH)


def _context(request: ApiRequest, table: Table, query: Query) -> str:
    columns = "" if query.select is None else f"({','.join(query.select)})"
    return f"{request.root}$metadata#{table.entity_set}{columns}"


def _payload(request: ApiRequest) -> dict[str, Any]:
    try:
        payload = json.loads(request.body, parse_constant=_no_json)
    except ValueError:
        payload = None
    if not isinstance(payload, dict):
        raise ODataError(
            400,
            ErrorCode.PAYLOAD_INVALID,
            "Error identified in Payload provided by the user: no JSON object.",
        )
    return payload


def _no_json(constant: str) -> Any:
    # NaN and the infinities, which Python reads but JSON does not have.
    raise ValueError(constant)


def _no_resource(segment: str) -> ODataError:
    return ODataError(404, ErrorCode.RESOURCE_NOT_FOUND, f"Resource not found for the segment '{segment}'.")
