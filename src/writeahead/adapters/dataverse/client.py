"""A thin client for the Dataverse Web API v9.2: a method for each kind of request, a request for each call.

It never retries, follows no redirect, and lets no text of the remote's into an error. The one exception is
401: such a request was surely not applied, so the token is renewed and the request sent once more.

Sources on learn.microsoft.com: "Compose HTTP requests and handle errors" (URL, headers, statuses), "Perform
conditional operations using the Web API" (ETags, If-Match, If-None-Match), "Upsert a table row" (PATCH with
the row's GUID), "Query data using the Web API" ($select, $filter, $top), "Create a table row using the Web
API".
"""

import json
import os
import re
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx

from writeahead.adapters.dataverse.errors import (
    PermanentDataverseError,
    RowNotFound,
    TransientDataverseError,
    refusal,
)
from writeahead.adapters.dataverse.names import ETAG, require_etag, require_guid, require_name, service_root
from writeahead.adapters.http import applied_despite, is_loopback, quiet_logs, retry_after_seconds
from writeahead.errors import Applied, NotReady

__all__ = ["DEFAULT_TIMEOUT", "DataverseClient", "Row"]

# Seconds. Reading is the server's time at work; a longer one ends as unknown, and the next attempt finds out.
DEFAULT_TIMEOUT = httpx.Timeout(connect=5.0, read=25.0, write=25.0, pool=5.0)

_TOKEN = re.compile(r"[\x21-\x7e]+")
_HEADERS = {
    "Accept": "application/json",
    "OData-MaxVersion": "4.0",
    "OData-Version": "4.0",
    "User-Agent": "writeahead",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: its columns, and its version."""

    columns: Mapping[str, Any]
    etag: str | None


class DataverseClient:
    """Requests to one environment. Safe to share between threads, and to use after a fork.

    Args:
        url: The environment, ``https://org.crm.dynamics.com``; http is allowed for loopback hosts only.
        token: Called before each request for a bearer token. If it has a method ``discard(token)``, that is
            called with a token that was refused, before the next one is asked for.
        timeout: Seconds for connecting, writing and each wait for data, as one number or an `httpx.Timeout`.
            A whole response is given no longer than the wait for data once more.
        transport: Replaces the network; for tests.

    Raises:
        InvalidInput: The URL can't be used.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._root = service_root(url)
        self._token = token
        self._timeout = httpx.Timeout(timeout)
        self._transport = transport
        self._http = self._connect()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def close(self) -> None:
        """Close the connections. The client must not be used after that."""
        self._http.http.close()

    def sign_in(self) -> None:
        """Get a token, so that wrong credentials are found out before anything is sent.

        Raises:
            NotReady: There is none to be had.
            TransientDataverseError: The authority did not answer, or asked to come back later.
        """
        self._fresh_token()

    def get_row(self, entity_set: str, row_id: str, select: Sequence[str]) -> Row | None:
        """Read some columns of one row.

        Returns:
            None if there is no such row.

        Raises:
            TransientDataverseError: It could not be read now.
            PermanentDataverseError: It may not be read.
            NotReady: The token is refused.
        """
        path = _row_path(entity_set, row_id)
        try:
            response = self._send("GET", path, params={"$select": _names(select)})
        except RowNotFound:
            return None
        content = _json_object("GET", self._root.path + path, response)
        if not _holds(content, select):
            raise _unreadable("GET", self._root.path + path)
        return _row(content, response.headers.get("etag"))

    def query(self, entity_set: str, *, select: Sequence[str], where: str, top: int) -> list[Row]:
        """Read the first rows that fulfil an OData ``$filter`` expression.

        Args:
            entity_set: The table's.
            select: The columns to read.
            where: The expression; whoever makes it quotes what it is made of.
            top: How many rows at most.

        Raises: as `get_row`.
        """
        path = f"/{require_name(entity_set)}"
        params = {"$select": _names(select), "$filter": where, "$top": str(top)}
        content = _json_object("GET", self._root.path + path, self._send("GET", path, params=params))
        rows = content.get("value")
        if not isinstance(rows, list) or not all(_holds(row, select) for row in rows):
            raise _unreadable("GET", self._root.path + path)
        return [_row(row, None) for row in rows]

    def patch(
        self,
        entity_set: str,
        row_id: str,
        columns: Mapping[str, Any],
        *,
        if_match: str | None = None,
        create_only: bool = False,
    ) -> str | None:
        """Write columns of one row.

        Args:
            entity_set: The table's.
            row_id: The row's GUID.
            columns: What to write.
            if_match: Write only if the row has this version; never create it.
            create_only: Create the row, or do nothing if it exists (``If-None-Match: *``). With neither, the
                row is created or updated.

        Returns:
            The row's new version, if the response names it.

        Raises:
            PreconditionFailed: The row has another version, or exists already.
            RowNotFound: There is no such row, or a lookup points to none.
            TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
        """
        headers = {"If-None-Match": "*"} if create_only else {}
        if if_match is not None:
            headers["If-Match"] = require_etag(if_match)
        return self._write("PATCH", _row_path(entity_set, row_id), columns, headers)

    def post(self, entity_set: str, columns: Mapping[str, Any]) -> str | None:
        """Create a row, with a key of Dataverse's choosing unless ``columns`` has one.

        Returns and raises: as `patch`.
        """
        return self._write("POST", f"/{require_name(entity_set)}", columns, {})

    def _write(
        self, method: str, path: str, columns: Mapping[str, Any], headers: dict[str, str]
    ) -> str | None:
        content = json.dumps(columns, allow_nan=False).encode()
        headers["Content-Type"] = "application/json"
        response = self._send(method, path, headers=headers, content=content)
        if response.status_code != HTTPStatus.NO_CONTENT:
            # Nobody asked for a body, and any proxy says 200: only a row in it is Dataverse's own word.
            row = _row(_json_object(method, self._root.path + path, response), None)
            if row.etag is None:
                raise _unreadable(method, self._root.path + path, response.status_code)
            return row.etag
        etag: str | None = response.headers.get("etag")
        return etag

    def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        token = self._fresh_token()
        response = self._exchange(method, path, token, **parts)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            renewed = self._fresh_token(instead_of=token)
            if renewed != token:
                response = self._exchange(method, path, renewed, **parts)
        full_path = self._root.path + path
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise NotReady(
                f"{method} {full_path}: HTTP 401, the token is refused: check the credentials, and that"
                " the application is a user of this environment"
            )
        if response.is_success:
            return response
        wait = retry_after_seconds(response.headers)
        raise refusal(method, full_path, response.status_code, response.content, wait)

    def _fresh_token(self, instead_of: str | None = None) -> str:
        discard = getattr(self._token, "discard", None)
        if instead_of is not None and discard is not None:
            discard(instead_of)
        token = self._token()
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise NotReady("the token source gave no usable token: it must return a bearer token as a string")
        return token

    def _exchange(
        self,
        method: str,
        path: str,
        token: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        request = self._client().build_request(
            method,
            self._root.copy_with(path=self._root.path + path),
            params=params,
            content=content,
            headers={**_HEADERS, **(headers or {}), "Authorization": f"Bearer {token}"},
        )
        try:
            with quiet_logs():
                return self._receive(request)
        except httpx.LocalProtocolError:
            failure: Exception = PermanentDataverseError(
                method, request.url.path, detail="not a valid request"
            )
        except (httpx.HTTPError, httpx.StreamError) as error:
            applied = Applied.NO if method == "GET" else applied_despite(error)
            failure = TransientDataverseError(
                method, request.url.path, detail=type(error).__name__, applied=applied
            )
        # Out of the except block, so that not even __context__ holds the request with its token.
        raise failure

    def _receive(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and read the response whole, within the time for it."""
        response = self._client().send(request, stream=True)
        limit = self._timeout.read
        deadline = None if limit is None else time.monotonic() + limit
        try:
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if deadline is not None and time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the response took too long", request=request)
        finally:
            response.close()
        headers = httpx.Headers(
            [
                (name, value)
                for name, value in response.headers.multi_items()
                if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
            ]
        )
        return httpx.Response(response.status_code, headers=headers, content=bytes(content))

    def _client(self) -> httpx.Client:
        if self._http.pid != os.getpid():
            self._http = self._connect(inherited=self._http)
        return self._http.http

    def _connect(self, inherited: "_Connections | None" = None) -> "_Connections":
        http = httpx.Client(
            timeout=self._timeout,
            transport=self._transport,
            follow_redirects=False,
            # Reading the certificates takes longer than anything else here, and without TLS they have no use.
            verify=self._root.scheme == "https",
            # Nobody means a proxy between a machine and itself.
            trust_env=not is_loopback(self._root.host),
        )
        connections = _Connections(os.getpid(), http, inherited)
        weakref.finalize(self, connections.close_in_owner)
        return connections


@dataclass(frozen=True, slots=True)
class _Connections:
    """A pool of connections, and the process that they belong to.

    What was inherited through a fork is kept, unused: closing it would speak on the parent's connections.
    """

    pid: int
    http: httpx.Client
    inherited: "_Connections | None"

    def close_in_owner(self) -> None:
        if os.getpid() == self.pid:
            self.http.close()


def _row_path(entity_set: str, row_id: str) -> str:
    return f"/{require_name(entity_set)}({require_guid(row_id)})"


def _names(names: Sequence[str]) -> str:
    return ",".join(require_name(name.removeprefix("_")) and name for name in names)


def _json_object(method: str, path: str, response: httpx.Response) -> Mapping[str, Any]:
    try:
        content = json.loads(response.content)
    except ValueError:
        content = None
    if not isinstance(content, Mapping):
        raise _unreadable(method, path, response.status_code)
    return content


def _unreadable(method: str, path: str, status: int | None = None) -> TransientDataverseError:
    applied = Applied.NO if method == "GET" else Applied.UNKNOWN
    return TransientDataverseError(
        method, path, status, detail="the body is cut, no JSON or none of Dataverse's", applied=applied
    )


def _holds(row: object, select: Sequence[str]) -> bool:
    """Whether this is a row with these columns; those without a value are null, not absent."""
    return isinstance(row, Mapping) and all(name in row for name in select)


def _row(content: Mapping[str, Any], etag_header: str | None) -> Row:
    etag = content.get("@odata.etag") or etag_header
    columns = {name: value for name, value in content.items() if "@" not in name}
    return Row(columns, etag if isinstance(etag, str) and ETAG.fullmatch(etag) else None)
