"""Messages that write several rows of one table in one request: ``CreateMultiple`` and the like.

Source: "Use bulk operation messages", learn.microsoft.com (power-apps/developer/data-platform):
actions bound to a table, ``Targets`` with ``@odata.type`` for each row, all of them or none for
standard tables, the Ids of what was created, 204 for the rest, ``@odata.id`` with an alternate key,
the texts for a missing row and for ``DeleteMultiple`` on a standard table. No source was found for
the statuses of these two (404 and 501), nor for the answer to a request without ``@odata.type`` or
without rows (400).
"""

import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from writeahead.simulators.dataverse.duplicates import Duplicates
from writeahead.simulators.dataverse.keys import KEY_TEXT, RowKey, parse_key
from writeahead.simulators.dataverse.messages import ApiRequest, ApiResponse, json_response
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError, not_imitated
from writeahead.simulators.dataverse.privileges import Privileges
from writeahead.simulators.dataverse.record import Record
from writeahead.simulators.dataverse.records import Records
from writeahead.simulators.dataverse.schema import Table
from writeahead.simulators.dataverse.understood import query_options

__all__ = ["NAMESPACE", "Bulk"]

NAMESPACE = "Microsoft.Dynamics.CRM."
"""What a bound action's name begins with in a URL."""

_REFERENCE = re.compile(rf"(?:.*/)?(?P<set>\w+)\((?P<key>{KEY_TEXT})\)")
_Payload = Mapping[str, Any]


class Bulk:
    """Answers these messages, within the transaction of the request.

    Args:
        records: The rows.
        privileges: What the application may do.
        duplicates: May refuse a row that was written.
    """

    def __init__(self, records: Records, privileges: Privileges, duplicates: Duplicates) -> None:
        self._records = records
        self._privileges = privileges
        self._duplicates = duplicates
        self._one: dict[str, Callable[[Table, _Payload], Record]] = {
            "CreateMultiple": lambda table, target: self._create(table, None, target),
            "UpdateMultiple": self._update,
            "UpsertMultiple": self._upsert,
        }

    def answer(self, request: ApiRequest, table: Table, name: str, payload: _Payload) -> ApiResponse:
        """Carry out a message.

        Args:
            request: The request.
            table: What the action is bound to.
            name: The action's, without its namespace.
            payload: The body.

        Raises:
            ODataError: 400, 403, 404 or 412 for a row that can't be written, 501 for other actions.
        """
        query_options(request.query, ())
        if table.elastic or table.list_only:
            # Elastic tables may write some rows and not others.
            raise not_imitated(f"the action {name} on this table")
        if name == "DeleteMultiple":
            raise ODataError(501, ErrorCode.NONE, "DeleteMultiple has not yet been implemented.")
        if name not in self._one:
            raise not_imitated(f"the action {name}")
        found = []
        for target in _targets(table, payload):
            record = self._one[name](table, target)
            self._duplicates.refuse(request, record)
            found.append(record)
        rows = tuple(record.path for record in found)
        if name != "CreateMultiple":
            return ApiResponse(status=204, headers={"OData-Version": "4.0"}, changed=True, rows=rows)
        content = {
            "@odata.context": f"{request.root}$metadata#{NAMESPACE}CreateMultipleResponse",
            "Ids": [record.id for record in found],
        }
        return json_response(200, content, changed=True, rows=rows)

    def _create(self, table: Table, key: RowKey | None, target: _Payload) -> Record:
        self._privileges.require(table, "Create")
        return self._records.create(table, key, target)

    def _update(self, table: Table, target: _Payload) -> Record:
        key = _key(table, target)
        record = self._records.find_by(table, key)
        if record is None:
            raise ODataError(
                404,
                ErrorCode.OBJECT_DOES_NOT_EXIST,
                f"{table.logical_name} With Ids = {key.text} Do Not Exist",
            )
        return self._changed(record, key, target)

    def _upsert(self, table: Table, target: _Payload) -> Record:
        key = _key(table, target)
        record = self._records.find_by(table, key)
        if record is None:
            return self._create(table, key, target)
        return self._changed(record, key, target)

    def _changed(self, record: Record, key: RowKey, target: _Payload) -> Record:
        self._privileges.require(record.table, "Write")
        # As in a PATCH, the columns that name the row can't be changed through that name.
        changes = {name: value for name, value in target.items() if name not in key.values}
        return self._records.update(record, changes)


def _targets(table: Table, payload: _Payload) -> list[_Payload]:
    targets = payload.get("Targets")
    if set(payload) != {"Targets"} or not isinstance(targets, list) or not targets:
        raise _invalid("'Targets' with one row at least is needed, and nothing else.")
    for target in targets:
        kind = target.get("@odata.type") if isinstance(target, dict) else None
        if not isinstance(kind, str) or kind.removeprefix("#") != table.type_name:
            raise _invalid(f"each of 'Targets' needs an '@odata.type' of {table.type_name}.")
    return targets


def _key(table: Table, target: _Payload) -> RowKey:
    reference = target.get("@odata.id")
    if reference is None:
        row_id = target.get(table.primary_key)
        if not isinstance(row_id, str):
            raise _invalid(f"each of 'Targets' needs '{table.primary_key}' or '@odata.id'.")
        return parse_key(table, row_id)
    match = _REFERENCE.fullmatch(urllib.parse.unquote(reference)) if isinstance(reference, str) else None
    if match is None or match["set"] != table.entity_set:
        raise _invalid(f"an '@odata.id' is no reference to a row of {table.entity_set}.")
    return parse_key(table, match["key"])


def _invalid(why: str) -> ODataError:
    return ODataError(
        400, ErrorCode.PAYLOAD_INVALID, f"Error identified in Payload provided by the user: {why}"
    )
