"""Answers about a table as a whole: its rows, page by page, and how many there are.

Sources, learn.microsoft.com (power-apps/developer/data-platform/webapi/query): "Use OData to query
data", "Page results using OData", "Count rows using OData" (``$count`` beside the rows whatever the
page, ``/$count`` as plain text, 5,000 at most).
"""

from dataclasses import replace
from typing import Any

from writeahead.simulators.dataverse.messages import ApiRequest, ApiResponse, json_response
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.paging import MOST_ROWS, Page, page_size
from writeahead.simulators.dataverse.query import parse_query
from writeahead.simulators.dataverse.records import Records
from writeahead.simulators.dataverse.schema import Table

__all__ = ["Listing"]

_OPTIONS = ("$select", "$filter", "$orderby", "$top", "$count", "$skiptoken")


class Listing:
    """Reads tables.

    Args:
        records: The rows.
        most: How many rows a page may have.
    """

    def __init__(self, records: Records, most: int) -> None:
        self._records = records
        self._most = most

    def rows(self, request: ApiRequest, table: Table, context: str) -> ApiResponse:
        """The rows that a query finds, or one page of them.

        Args:
            request: The request.
            table: What it reads.
            context: What ``@odata.context`` begins with.

        Raises:
            ODataError: 400 or 501 for a query that is not understood.
        """
        query = parse_query(table, request.query, _OPTIONS)
        size = page_size(request, self._most)
        applied = {} if size is None else {"Preference-Applied": f"odata.maxpagesize={size}"}
        if query.top is not None and size is None:
            found = self._records.select(table, query)
            page = Page(found, None)
        else:
            found = self._records.select(table, replace(query, top=None))
            page = Page.of(found, request, size or self._most, query.skip_token)
        columns = "" if query.select is None else f"({','.join(query.select)})"
        content: dict[str, Any] = {"@odata.context": f"{context}{columns}"}
        if query.count:
            content["@odata.count"] = self._count(table, request)
        content["value"] = [record.body(query.select) for record in page.records]
        if page.next_link is not None:
            content["@odata.nextLink"] = page.next_link
        return json_response(200, content, applied)

    def count(self, request: ApiRequest, table: Table) -> ApiResponse:
        """How many rows there are, as plain text.

        Raises:
            ODataError: as `rows`, and 405 for another method than GET.
        """
        if request.method != "GET":
            raise ODataError(
                405,
                ErrorCode.NONE,
                f"The requested resource does not support http method '{request.method}'.",
            )
        parse_query(table, request.query, ("$filter",))
        headers = {"OData-Version": "4.0", "Content-Type": "text/plain"}
        return ApiResponse(status=200, headers=headers, body=str(self._count(table, request)).encode())

    def _count(self, table: Table, request: ApiRequest) -> int:
        query = parse_query(table, request.query, _OPTIONS)
        return min(len(self._records.select(table, replace(query, top=None))), MOST_ROWS)
