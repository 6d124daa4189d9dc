"""``$batch``: several requests in one, and change sets, each of which is one transaction.

Sources: "Execute batch operations using the Web API", learn.microsoft.com
(power-apps/developer/data-platform/webapi): at most 1,000 requests, no batch in a batch, no GET in
a change set, ``$1`` in URLs and in binds, the first failure ends it unless continue-on-error is
preferred; OData 4.0 part 1, section 11.7.4: a change set that fails is answered by one error in its
place.

The other shapes are not documented for Dataverse: .NET's OData answers 200
(github.com/janhommes/o.js, pull request 124), Azure's tables put the error into the change set, and
a bare error is what a gateway sends.
"""

import json
import re
import sqlite3
import urllib.parse
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus

from writeahead.simulators.dataverse.messages import API_ROOT, ApiRequest, ApiResponse, error_response
from writeahead.simulators.dataverse.multipart import Item, http_part, joined, malformed, read_request, split
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.plugins import Plugin
from writeahead.simulators.dataverse.requestlog import RequestLog
from writeahead.simulators.dataverse.storage import transaction
from writeahead.simulators.dataverse.understood import query_options, require_understood
from writeahead.simulators.dataverse.webapi import WebApi

__all__ = ["MOST_REQUESTS", "BatchErrors", "Batches"]

MOST_REQUESTS = 1000

_BIND = "@odata.bind"
_REFERENCE = re.compile(r"\$(?P<id>[^/?()]+)(?P<rest>.*)")
_CONTINUE = "odata.continue-on-error"


class BatchErrors(StrEnum):
    """The answer to a batch in which a request fails, without continue-on-error."""

    STATUS = "status"
    """The status of the failure, with its error as a part, as documented."""
    OK = "ok"
    """Status 200, with the error as a part."""
    NESTED = "nested"
    """As STATUS, but the error of a change set is a part of a change set, with its Content-ID."""
    BARE = "bare"
    """The error alone, as for a single request."""


@dataclass(frozen=True)
class _Part:
    request: ApiRequest
    content_id: str | None
    sequence: int = 0


@dataclass(frozen=True)
class _Step:
    """One request, or a change set."""

    parts: Sequence[_Part]
    change_set: bool


@dataclass(frozen=True)
class _Result:
    """The result of a step: its part of the answer, and its failure, if any."""

    content: bytes
    failure: ApiResponse | None = None


class Batches:
    """Answers batches.

    Args:
        api: Answers the requests in a batch.
        connection: A connection to the database.
        log: The request log; requests follow their batch.
        plugin: Runs after each transaction.
        errors: The form of an answer with a failure.
        empty_codes: Whether ``error.code`` is always empty.
    """

    def __init__(
        self,
        api: WebApi,
        connection: sqlite3.Connection,
        log: RequestLog,
        plugin: Plugin,
        *,
        errors: BatchErrors,
        empty_codes: bool,
    ) -> None:
        self._api = api
        self._connection = connection
        self._log = log
        self._plugin = plugin
        self._errors = errors
        self._empty_codes = empty_codes

    def answer(self, request: ApiRequest, sequence: int) -> ApiResponse:
        """Carry out a batch, in its own transactions.

        Args:
            request: The batch.
            sequence: The batch's number in the log.

        Raises:
            ODataError: 400 or 405: the request is not a batch; nothing was done.
        """
        if request.method != "POST":
            raise ODataError(405, ErrorCode.NONE, "A batch must be sent by POST.")
        require_understood(request)
        query_options(request.query, ())
        steps = self._noted(_steps(request), sequence)
        go_on = _CONTINUE in request.headers.get("prefer", "")
        contents = []
        for step in steps:
            result = self._carry_out(step, sequence)
            contents.append(result.content)
            if result.failure and not go_on:
                return self._failed(result.failure, contents)
        return _multipart(200, contents, {"Preference-Applied": _CONTINUE} if go_on else {})

    def _noted(self, steps: Sequence[_Step], batch: int) -> list[_Step]:
        """Log the parts before any of them is carried out."""
        with transaction(self._connection):
            return [replace(step, parts=[self._note(part, batch) for part in step.parts]) for step in steps]

    def _note(self, part: _Part, batch: int) -> _Part:
        request = part.request
        sequence = self._log.received(
            method=request.method,
            path=f"{API_ROOT}{request.path}",
            query=request.query,
            headers=request.headers,
            body=request.body.decode("utf-8", "replace"),
            batch=batch,
        )
        return replace(part, sequence=sequence)

    def _carry_out(self, step: _Step, batch: int) -> _Result:
        replies: list[tuple[_Part, ApiResponse]] = []
        try:
            with transaction(self._connection):
                for part in step.parts:
                    known = {done.content_id: reply.row for done, reply in replies}
                    replies.append((part, self._one(part, step, known)))
                if any(reply.changed for _, reply in replies):
                    self._log.applied(batch)
        except ODataError as error:
            # The part that failed is the first without a reply; those before it are rolled back.
            part = step.parts[len(replies)]
            prefer = part.request.headers.get("prefer", "")
            failure = error_response(error, empty_code=self._empty_codes, prefer=prefer)
            self._log.answered(part.sequence, status=failure.status, fault=None)
            self._keep_elastic(step, [done for done, _ in replies], batch)
            nested = step.change_set and self._errors is BatchErrors.NESTED
            content = _shown(failure, part.content_id if nested else None)
            return _Result(_change_set([content]) if nested else content, failure)
        self._plugin.after(reply for _, reply in replies)
        for part, reply in replies:
            self._log.answered(part.sequence, status=reply.status, fault=None)
        shown = [_shown(reply, part.content_id) for part, reply in replies]
        return _Result(_change_set(shown) if step.change_set else shown[0])

    def _keep_elastic(self, step: _Step, done: Sequence[_Part], batch: int) -> None:
        """Carry out again what was rolled back, where the table is elastic.

        A change set is accepted there, but no transaction: "Elastic tables for developers".
        """
        for part in done:
            if self._api.is_elastic(part.request.path):
                with transaction(self._connection):
                    self._one(part, step, {})
                    self._log.applied(batch)

    def _one(self, part: _Part, step: _Step, known: Mapping[str | None, str | None]) -> ApiResponse:
        if part.request.path == "$batch":
            raise malformed("a batch can't be in a batch")
        if step.change_set and part.request.method == "GET":
            raise malformed("a change set can't have a GET request")
        reply = self._api.handle(_resolved(part, known))
        if reply.changed:
            self._log.applied(part.sequence)
        return reply

    def _failed(self, failure: ApiResponse, contents: Sequence[bytes]) -> ApiResponse:
        if self._errors is BatchErrors.BARE:
            return failure
        return _multipart(200 if self._errors is BatchErrors.OK else failure.status, contents, {})


def _steps(request: ApiRequest) -> list[_Step]:
    steps = []
    for item in split(request.headers.get("content-type", ""), request.body):
        nested = item.content_type.lower().startswith("multipart/")
        items = split(item.content_type, item.body) if nested else [item]
        steps.append(_Step([_part(inner, request.root) for inner in items], nested))
    count = sum(len(step.parts) for step in steps)
    if not 1 <= count <= MOST_REQUESTS:
        raise malformed(f"it has {count} requests, and may have 1 to {MOST_REQUESTS}")
    return steps


def _part(item: Item, root: str) -> _Part:
    found = read_request(item)
    url, _, query = found.url.partition("?")
    path = urllib.parse.unquote(_below_root(url))
    inner = ApiRequest(
        method=found.method, path=path, query=query, headers=found.headers, body=found.body, root=root
    )
    return _Part(inner, item.headers.get("content-id") or found.headers.get("content-id"))


def _below_root(url: str) -> str:
    """The path below the service root, of a whole URL, an absolute path or a relative one."""
    path = url if url.startswith("/") else re.sub(r"https?://[^/]+", "", url, count=1)
    return path.removeprefix(API_ROOT)


def _resolved(part: _Part, known: Mapping[str | None, str | None]) -> ApiRequest:
    """The request with rows in the place of ``$1`` and the like."""
    request = part.request
    path = _target(request.path, known)
    if b"$" not in request.body:
        return replace(request, path=path)
    try:
        payload = json.loads(request.body)
    except ValueError:
        return replace(request, path=path)
    if isinstance(payload, dict):
        for name, value in payload.items():
            if name.endswith(_BIND) and isinstance(value, str):
                payload[name] = _target(value, known)
    return replace(request, path=path, body=json.dumps(payload).encode())


def _target(text: str, known: Mapping[str | None, str | None]) -> str:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return text
    row = known.get(match["id"])
    if row is None:
        raise ODataError(
            400,
            ErrorCode.NONE,
            f"Content-ID Reference: '${match['id']}' does not exist in the batch context.",
        )
    return f"{row}{match['rest']}"


def _shown(reply: ApiResponse, content_id: str | None) -> bytes:
    headers = dict(reply.headers)
    if "OData-EntityId" in headers:
        headers["Location"] = headers["OData-EntityId"]
    if reply.status >= HTTPStatus.BAD_REQUEST:
        headers["REQ_ID"] = str(uuid.uuid4())
    elif reply.body:
        headers["Content-Type"] += "; odata.streaming=true"
    return http_part(reply.status, headers, reply.body, content_id)


def _change_set(contents: Sequence[bytes]) -> bytes:
    content_type, body = joined("changesetresponse", contents)
    return f"Content-Type: {content_type}\r\n\r\n".encode() + body


def _multipart(status: int, contents: Sequence[bytes], headers: Mapping[str, str]) -> ApiResponse:
    content_type, body = joined("batchresponse", contents)
    return ApiResponse(
        status=status, headers={"OData-Version": "4.0", "Content-Type": content_type, **headers}, body=body
    )
