"""What is different about elastic tables: rows in partitions, and upserts that replace.

Sources, learn.microsoft.com: "Elastic tables for developers" (partitions, session tokens, no
transactions), "Use elastic tables using code" (the forms of a request; an update has ``If-Match:
*``), "Create elastic tables using code" (the columns and the key that each has), "Use Upsert to
create or update a record" (an upsert overwrites all of a row).

What a version in ``If-Match``, or ``If-None-Match: *``, does to an elastic table is on none of
these pages, so both are refused with 501. A PATCH that would put one GUID into two partitions is
refused, too: the database here has one row for each.
"""

import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from writeahead.simulators.dataverse.keys import RowKey
from writeahead.simulators.dataverse.messages import ApiRequest, ApiResponse
from writeahead.simulators.dataverse.odata import ODataError, not_imitated
from writeahead.simulators.dataverse.schema import PARTITION, Table

__all__ = ["is_update", "of_query", "options", "partitioned", "two_partitions", "with_session_token"]


def partitioned(table: Table, key: RowKey, partition: Any) -> RowKey:
    """A row's key with its partition; a row of which none is told is in that of its own GUID."""
    if not table.elastic or key.id is None:
        return key
    values = {table.primary_key: key.id, PARTITION: partition or key.id}
    return RowKey(text=key.text, values=values)


def options(table: Table) -> tuple[str, ...]:
    """The query options of its own that a request for a row of the table may have."""
    return ("partitionId",) if table.elastic else ()


def of_query(query: str) -> str | None:
    """The partition that a GET or DELETE names by the parameter ``partitionId``, quoted or not."""
    found = dict(urllib.parse.parse_qsl(query)).get("partitionId")
    return found.strip("'") if found else None


def is_update(request: ApiRequest) -> bool:
    """Whether a PATCH is an update, ``If-Match: *``, or else an upsert.

    Raises:
        ODataError: 501: it has a condition whose effect is not documented.
    """
    if request.header("if-none-match") == "*":
        raise not_imitated("If-None-Match: * on an elastic table, since its effect is not documented")
    if request.header("if-match") not in (None, "*"):
        raise not_imitated("a version in If-Match on an elastic table, since its effect is not documented")
    return request.header("if-match") == "*"


def two_partitions() -> ODataError:
    """The refusal of a second row of the same GUID."""
    return not_imitated("rows of one GUID in two partitions")


def with_session_token(reply: ApiResponse, version: int) -> ApiResponse:
    """The reply to a write, with the token by which a read sees that write."""
    headers: Mapping[str, str] = {**reply.headers, "x-ms-session-token": f"240:8#{version}#7=-1"}
    return replace(reply, headers=headers)
