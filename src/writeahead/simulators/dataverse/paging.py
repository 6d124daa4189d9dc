"""Pages of rows: how many go into one, and the link to the next.

Source: "Page results using OData", learn.microsoft.com
(power-apps/developer/data-platform/webapi/query): 5,000 rows at most, fewer by the preference
``odata.maxpagesize``, which every request for a further page repeats; the form of
``@odata.nextLink``; ``$top`` is ignored beside the preference. A row that others make or delete
between two pages neither repeats nor hides another, since a page goes on after the last row of the
one before. No source was found for the answer to a token that can't be read: 400.
"""

import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from writeahead.simulators.dataverse.messages import ApiRequest
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.record import Record

__all__ = ["MOST_ROWS", "Page", "page_size"]

MOST_ROWS = 5000
"""The rows of a page, and the largest number that a count tells ("Count rows using OData")."""

_PREFERENCE = re.compile(r"(?:^|,)\s*(?:odata\.)?maxpagesize\s*=\s*\"?([0-9]{1,9})\"?\s*(?=,|;|$)")
_TOKEN = re.compile(
    r'<cookie pagenumber="(?P<number>[1-9][0-9]{0,8})" pagingcookie="(?P<cookie>[^"]*)" istracking="False" />'
)
_LAST = re.compile(r'last="\{(?P<id>[0-9A-F-]{36})\}"')


@dataclass(frozen=True)
class Page:
    """The rows of one page, and the link to the next one, if there is one."""

    records: Sequence[Record]
    next_link: str | None

    @classmethod
    def of(cls, records: Sequence[Record], request: ApiRequest, size: int, token: str | None) -> "Page":
        """Cut a page out of all rows that a query finds.

        Args:
            records: All of them, in order.
            request: What asks for the page.
            size: How many rows it may have.
            token: Of ``$skiptoken``; None for the first page.

        Raises:
            ODataError: 400: the token is none.
        """
        number, start = (1, 0) if token is None else _start(records, size, token)
        rows = records[start : start + size]
        more = start + size < len(records)
        return cls(rows, _link(request, number, rows) if more else None)


def page_size(request: ApiRequest, most: int) -> int | None:
    """The size of a page that the request prefers, at most ``most``; None if it prefers none."""
    found = _PREFERENCE.search(request.headers.get("prefer", ""))
    return min(int(found[1]), most) or None if found else None


def _start(records: Sequence[Record], size: int, token: str) -> tuple[int, int]:
    match = _TOKEN.fullmatch(token)
    last = match and _LAST.search(urllib.parse.unquote(match["cookie"]))
    if match is None or last is None:
        raise ODataError(
            400, ErrorCode.ODATA_QUERY_INVALID, "Invalid value for $skiptoken query option found."
        )
    number = int(match["number"])
    ids = [record.id for record in records]
    row_id = last["id"].lower()
    # A row that was deleted meanwhile leaves the page's number to go by.
    return number, ids.index(row_id) + 1 if row_id in ids else (number - 1) * size


def _link(request: ApiRequest, number: int, rows: Sequence[Record]) -> str:
    kept = [
        part
        for part in request.query.split("&")
        if part and urllib.parse.unquote(part.partition("=")[0]) not in ("$skiptoken", "$top")
    ]
    key = rows[0].table.primary_key
    ends = [f'{name}="{{{row.id.upper()}}}"' for name, row in (("last", rows[-1]), ("first", rows[0]))]
    cookie = f'<cookie page="{number}"><{key} {" ".join(ends)} /></cookie>'
    token = (
        f'<cookie pagenumber="{number + 1}" pagingcookie="{urllib.parse.quote(cookie, safe="")}" '
        'istracking="False" />'
    )
    query = "&".join([*kept, f"$skiptoken={urllib.parse.quote(token, safe='=')}"])
    return f"{request.root}{urllib.parse.quote(request.path)}?{query}"
