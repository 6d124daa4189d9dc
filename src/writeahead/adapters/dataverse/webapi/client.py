"""A thin client for the Dataverse Web API v9.2: each method sends one request.

Sources on learn.microsoft.com: "Compose HTTP requests and handle errors" (URL, headers, statuses),
"Perform conditional operations using the Web API" (ETags, If-Match, If-None-Match), "Upsert a table
row" (PATCH with the row's GUID or alternate key), "Query data using the Web API" ($select, $filter,
$top, @odata.nextLink), "Create a table row using the Web API", "Execute batch operations using the
Web API".
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from writeahead.adapters.dataverse.webapi.batch import Part, PartAnswer, PartResult, answers, encode, in_order
from writeahead.adapters.dataverse.webapi.codes import NOT_FOUND
from writeahead.adapters.dataverse.webapi.credentials import TokenSource
from writeahead.adapters.dataverse.webapi.endpoint import DEFAULT_TIMEOUT, Endpoint
from writeahead.adapters.dataverse.webapi.errors import (
    PermanentDataverseError,
    Precondition,
    RowNotFound,
    TableNotFound,
    TransientDataverseError,
)
from writeahead.adapters.dataverse.webapi.names import ETAG, require_etag
from writeahead.adapters.dataverse.webapi.paths import (
    ResourcePath,
    RowKey,
    next_page,
    resource_path,
    row_path,
    selected,
    table_path,
)
from writeahead.adapters.dataverse.webapi.protection import Protection, ServiceLimits
from writeahead.adapters.dataverse.webapi.traces import NO_TRACE, Trace
from writeahead.errors import Applied

__all__ = ["DEFAULT_TIMEOUT", "Answer", "DataverseClient", "Part", "PartResult", "Row", "RowKey"]

_BATCH = ResourcePath("/$batch", "/$batch")
# Microsoft's page on batches and its own clients ask for application/json and get parts; a batch
# that is refused as a whole is answered in JSON. Other services take that for a wish for the JSON
# form of OData 4.01 (SAP CAP does), so the parts come first.
_ANSWERS = "multipart/mixed, application/json;q=0.9"
# A list that goes on for longer is none of ours, or goes in circles.
_MOST_PAGES = 1000
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: its columns, and its version."""

    columns: Mapping[str, Any]
    etag: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answered: the JSON object, and the headers, which ignore case."""

    content: Mapping[str, Any]
    headers: Mapping[str, str]


class DataverseClient:
    """Requests to one environment. Safe to share between threads, and to use after a fork.

    Args:
        url: The environment, ``https://org.crm.dynamics.com``; http is allowed for loopback hosts
            only.
        token: Called before each request for a bearer token. If it has a method ``discard(token)``,
            that is called with a token that was refused, before the next one is asked for. A
            credential of the Azure SDK, with ``get_token`` or ``get_token_info``, will do as well.
        timeout: Seconds for connecting, writing and each wait for data, as one number or an
            `httpx.Timeout`. A request takes no longer than its four parts together. The time for a
            free connection is also the time for a slot below the service's limits.
        transport: Replaces the network; for tests.
        protection: Keeps requests below the service's limits; None for the one that all clients of
            the environment share in this process, as of `protection_of`.
        service_text: Whether errors repeat the service's own words, which may hold what is in a
            record: one line of at most 300 characters.

    Raises:
        InvalidInput: The URL can't be used.
    """

    def __init__(
        self,
        url: str,
        token: TokenSource,
        *,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        protection: Protection | None = None,
        service_text: bool = False,
    ) -> None:
        self._endpoint = Endpoint(
            url,
            token,
            timeout=timeout,
            transport=transport,
            protection=protection,
            service_text=service_text,
        )
        self._tables: set[str] = set()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def limits(self) -> ServiceLimits:
        """What this process keeps to."""
        return self._endpoint.protection.limits

    def close(self) -> None:
        """Close the connections. The client must not be used after that."""
        self._endpoint.close()

    def sign_in(self) -> None:
        """Get a token, so that wrong credentials are found out before anything is sent.

        Raises:
            NotReady: There is none to be had.
            TransientDataverseError: The authority did not answer, or asked to come back later.
        """
        self._endpoint.auth.token()

    def get_row(self, entity_set: str, key: RowKey, select: Sequence[str] | None) -> Row | None:
        """Read some columns of one row.

        Args:
            entity_set: The table's.
            key: The row's GUID, or the columns of an alternate key with their values.
            select: The columns to read; None for all of them.

        Returns:
            None if there is no such row.

        Raises:
            TransientDataverseError: It could not be read now.
            PermanentDataverseError: It may not be read, or there is no such table.
            NotReady: The token is refused.
            InvalidInput: A name or the key can't be part of a URL. Nothing was sent.
        """
        resource = row_path(entity_set, key)
        try:
            params = {"$select": selected(select)} if select is not None else None
            response = self._endpoint.send("GET", resource, params=params)
        except RowNotFound as error:
            if error.code not in NOT_FOUND:
                self._require_table(entity_set)
            return None
        content = self._json_object("GET", resource, response)
        if not _holds(content, select or ()):
            raise self._unreadable("GET", resource)
        return _row(content, response.headers.get("etag"))

    def _require_table(self, entity_set: str) -> None:
        """Tell a missing row from a missing table: both may be a 404 without a code of its own.

        Raises:
            TableNotFound: There is no such table.
            TransientDataverseError: It is not known now.
        """
        if entity_set in self._tables:
            return
        resource = table_path(entity_set)
        try:
            self._endpoint.send("GET", resource, params={"$select": "createdon", "$top": "1"})
        except RowNotFound as error:
            raise TableNotFound.of(error) from None
        except TableNotFound:
            raise
        except PermanentDataverseError:
            pass  # it is there, and may not be read as a whole, or has no such column
        self._tables.add(entity_set)

    def query(self, entity_set: str, *, select: Sequence[str], where: str, top: int) -> list[Row]:
        """Read the first rows that fulfil an OData ``$filter`` expression.

        Args:
            entity_set: The table's.
            select: The columns to read.
            where: The expression; its values must be quoted already.
            top: How many rows at most.

        Raises: as `get_row`.
        """
        resource = table_path(entity_set)
        params = {"$select": selected(select), "$filter": where, "$top": str(top)}
        content = self._json_object("GET", resource, self._endpoint.send("GET", resource, params=params))
        rows = content.get("value")
        if not isinstance(rows, list) or not all(_holds(row, select) for row in rows):
            raise self._unreadable("GET", resource)
        return [_row(row, None) for row in rows]

    def get_json(self, path: str, params: Mapping[str, str] | None = None) -> Mapping[str, Any]:
        """Read any resource, such as the metadata of a table.

        Args:
            path: Below the service root: ``/EntityDefinitions(LogicalName='task')``. It can hold no
                host, query, escape or traversal.
            params: The query, not encoded.

        Returns:
            The JSON object. Of a list in pages, ``value`` has the items of all pages.

        Raises:
            RowNotFound: There is no such resource.
            TransientDataverseError, PermanentDataverseError, NotReady, InvalidInput: as `get_row`.
                A link to a next page that leaves the service root counts as a body that can't be
                read, and so do more than 1,000 pages or 64 MiB.
        """
        resource = resource_path(path)
        response = self._endpoint.send("GET", resource, params=params)
        content = dict(self._json_object("GET", resource, response))
        size = len(response.content)
        link = content.pop("@odata.nextLink", None)
        for _ in range(_MOST_PAGES):
            if link is None:
                return content
            url = next_page(self._endpoint.root, link)
            if url is None or size > _MOST_BYTES:
                break
            response = self._endpoint.send("GET", resource, url=url)
            page = self._json_object("GET", resource, response)
            size += len(response.content)
            if not isinstance(content.get("value"), list) or not isinstance(page.get("value"), list):
                break
            content["value"] += page["value"]
            link = page.get("@odata.nextLink")
        raise self._unreadable("GET", resource)

    def ask(self, path: str) -> Answer:
        """Call a function that takes no parameters, such as ``/WhoAmI``.

        Args:
            path: As for `get_json`.

        Raises: as `get_json`.
        """
        resource = resource_path(path)
        response = self._endpoint.send("GET", resource)
        return Answer(self._json_object("GET", resource, response), response.headers)

    def delete(self, entity_set: str, key: RowKey) -> None:
        """Delete a row; one that is not there is deleted.

        Raises:
            TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
            InvalidInput: A name or the key can't be part of a URL. Nothing was sent.
        """
        with contextlib.suppress(RowNotFound):
            self._endpoint.send("DELETE", row_path(entity_set, key))

    def patch(
        self,
        entity_set: str,
        key: RowKey,
        columns: Mapping[str, Any],
        *,
        if_match: str | None = None,
        create_only: bool = False,
    ) -> str | None:
        """Write columns of one row.

        Args:
            entity_set: The table's.
            key: The row's GUID, or the columns of an alternate key with their values. Columns of
                the key need not be repeated in ``columns``.
            columns: What to write.
            if_match: Write only if the row has this version; never create it.
            create_only: Create the row, or do nothing if it exists (``If-None-Match: *``). With
                neither, the row is created or updated.

        Returns:
            The row's new version, if the response names it.

        Raises:
            PreconditionFailed: The row has another version, or exists already.
            RowNotFound: There is no such row, or a lookup points to none.
            TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
            InvalidInput: A name, the key or the version can't be sent. Nothing was sent.
        """
        headers = {"If-None-Match": "*"} if create_only else {}
        if if_match is not None:
            headers["If-Match"] = require_etag(if_match)
        return self._write("PATCH", row_path(entity_set, key), columns, headers)

    def post(self, entity_set: str, columns: Mapping[str, Any]) -> str | None:
        """Create a row, with a key of Dataverse's choosing unless ``columns`` has one.

        Returns and raises: as `patch`.
        """
        return self._write("POST", table_path(entity_set), columns, {})

    def change_set(self, parts: Sequence[Part]) -> list[PartResult]:
        """Write several rows in one transaction, by one ``$batch`` request: all of them, or none.

        Returns:
            What each part came to, in order.

        Raises:
            PreconditionFailed, RowNotFound, PermanentDataverseError: One part was refused, so
                nothing was written. The error's ``part`` is its index, or None where the answer
                does not tell.
            TransientDataverseError: It failed in a way that may pass, or the answer is cut or none
                of Dataverse's; ``applied`` is about all parts.
            NotReady: The token is refused.
            InvalidInput: There are no parts or too many, or one can't be sent. Nothing was sent.
        """
        content_type, content = encode(self._endpoint.root, parts)
        headers = {"Content-Type": content_type, "Accept": _ANSWERS}
        response = self._endpoint.exchange("POST", _BATCH, headers=headers, content=content)
        found = answers(response.headers.get("content-type", ""), response.content)
        refused = next((answer for answer in found or () if not answer.is_success()), None)
        if refused is None and not response.is_success:
            # No parts, or none with an error: the status of the whole is what counts.
            refused = PartAnswer(response.status_code, None, response.headers, response.content)
        if refused is not None:
            raise self._refused_part(parts, refused, self._endpoint.trace(response))
        results = in_order(found or [], len(parts))
        if results is None:
            raise self._unreadable("POST", _BATCH, response)
        return results

    def _refused_part(
        self, parts: Sequence[Part], answer: PartAnswer, batch: Trace
    ) -> TransientDataverseError | PermanentDataverseError:
        self._endpoint.protection.observe(answer.status, answer.headers, answer.body)
        number = answer.content_id
        index = number - 1 if number is not None and 1 <= number <= len(parts) else None
        sent = parts if index is None else parts[index : index + 1]
        conditions = {part.precondition() for part in sent}
        error = self._endpoint.refusal(
            "POST" if index is None else "PATCH",
            _BATCH if index is None else parts[index].resource(),
            (answer.status, answer.headers, answer.body),
            # If the answer does not tell the part, a key that is taken is about the row of a
            # create.
            next((condition for condition in Precondition if condition in conditions), None),
            batch,
        )
        error.part = index
        return error

    def _write(
        self, method: str, resource: ResourcePath, columns: Mapping[str, Any], headers: dict[str, str]
    ) -> str | None:
        content = json.dumps(columns, allow_nan=False).encode()
        headers["Content-Type"] = "application/json"
        response = self._endpoint.send(method, resource, headers=headers, content=content)
        if response.status_code != httpx.codes.NO_CONTENT:
            # No body was asked for, and any proxy may say 200: only a row proves that Dataverse
            # answered.
            row = _row(self._json_object(method, resource, response), None)
            if row.etag is None:
                raise self._unreadable(method, resource, response)
            return row.etag
        etag: str | None = response.headers.get("etag")
        return etag

    def _json_object(
        self, method: str, resource: ResourcePath, response: httpx.Response
    ) -> Mapping[str, Any]:
        try:
            content = json.loads(response.content)
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, Mapping):
            raise self._unreadable(method, resource, response)
        return content

    def _unreadable(
        self, method: str, resource: ResourcePath, response: httpx.Response | None = None
    ) -> TransientDataverseError:
        return TransientDataverseError(
            method,
            self._endpoint.shown(resource),
            response.status_code if response else None,
            detail="the body is cut, no JSON or none of Dataverse's",
            applied=Applied.NO if method == "GET" else Applied.UNKNOWN,
            trace=self._endpoint.trace(response) if response else NO_TRACE,
        )


def _holds(row: object, select: Sequence[str]) -> bool:
    """Whether this is a row with these columns; those without a value are null, not absent."""
    return isinstance(row, Mapping) and all(name in row for name in select)


def _row(content: Mapping[str, Any], etag_header: str | None) -> Row:
    etag = content.get("@odata.etag") or etag_header
    columns = {name: value for name, value in content.items() if "@" not in name}
    return Row(columns, etag if isinstance(etag, str) and ETAG.fullmatch(etag) else None)
