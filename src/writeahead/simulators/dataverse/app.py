"""The HTTP side: routes, the request log, and faults of the connection."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse.batch import Batches
from writeahead.simulators.dataverse.editor import Editor
from writeahead.simulators.dataverse.faults import Fault, FaultAction, Faults
from writeahead.simulators.dataverse.messages import API_ROOT, ApiRequest, ApiResponse, error_response
from writeahead.simulators.dataverse.multipart import header_fields
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.plugins import Plugin
from writeahead.simulators.dataverse.privileges import Privileges
from writeahead.simulators.dataverse.protection import Protection
from writeahead.simulators.dataverse.requestids import with_request_ids
from writeahead.simulators.dataverse.requestlog import RequestLog
from writeahead.simulators.dataverse.settings import Settings
from writeahead.simulators.dataverse.storage import create_database, setting, transaction
from writeahead.simulators.dataverse.tokens import TokenIssuer
from writeahead.simulators.dataverse.webapi import WebApi

__all__ = ["CONNECTION", "Connection", "SimulatorApp"]

CONNECTION = "writeahead.connection"
"""The ASGI extension under which the server hands over the client's `Connection`."""

_Answer = Callable[[Request, bytes, int], ApiResponse]


class Connection(Protocol):
    """A client's TCP connection, with the two ways to end it that faults need."""

    def close(self) -> None:
        """Close the connection after everything written was sent."""

    def reset(self) -> None:
        """Close the connection with RST at once."""


class SimulatorApp:
    """The ASGI application.

    Args:
        path: The database file, which is created if it does not exist.
        settings: Credentials, schema and the like.
        faults: The faults to apply to requests.

    Raises:
        InvalidInput: The database can't be used.
    """

    def __init__(self, path: Path, settings: Settings, faults: Faults) -> None:
        self._connection = create_database(path)
        self._settings = settings
        self._faults = faults
        self._log = RequestLog(self._connection)
        self._api = WebApi(
            self._connection,
            settings.schema,
            settings.duplicate_rules,
            Privileges(settings.withheld_privileges),
            page_size=settings.page_size,
        )
        self._editor = Editor(self._connection, settings.schema)
        self._plugin = Plugin(self._connection, settings.schema, settings.plugin_tables)
        self._batches = Batches(
            self._api,
            self._connection,
            self._log,
            self._plugin,
            errors=settings.batch_errors,
            empty_codes=settings.empty_error_codes,
        )
        self._protection = Protection(settings.limits, settings.degree_of_parallelism)
        self.tokens = TokenIssuer(
            key=setting(self._connection, "token_key"),
            tenant_id=settings.tenant_id,
            client_id=settings.client_id,
            client_secret=settings.client_secret,
            lifetime=settings.token_lifetime,
            static_tokens=settings.static_tokens,
        )
        self._stopping = asyncio.Event()
        self._router = Router(
            [
                Route("/_simulator/faults", self._control, methods=["GET", "POST", "DELETE"]),
                Route("/{tenant}/oauth2/v2.0/token", _Recorded(self, self._token, data=False)),
                Route(f"{API_ROOT}{{resource:path}}", _Recorded(self, self._data, data=True)),
                Route("/{rest:path}", _Recorded(self, _nothing_here, data=False)),
            ],
            redirect_slashes=False,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._router(scope, receive, send)

    def stop_waiting(self) -> None:
        """End every delay: drop the requests that still wait, without applying them."""
        self._stopping.set()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    async def record(self, request: Request, answer: _Answer, *, data: bool) -> "_Outcome":
        """Log one request, count it, apply its fault, and carry it out.

        The log keeps bodies of requests for data only. Limits count requests with a valid token.
        """
        body = await request.body()
        path = request.scope["path"]
        sequence = self._log.received(
            method=request.method,
            path=path,
            query=_query_string(request),
            headers=request.headers,
            body=body.decode("utf-8", "replace") if data else None,
        )
        counted = data and self.tokens.accepts(request.headers.get("authorization"))
        with self._protection.request() if counted else contextlib.nullcontext() as refused:
            fault = None if refused else self._faults.take(request.method, path)
            reply = refused or await self._carry_out(fault, lambda: answer(request, body, sequence))
        if counted and reply is not None:
            reply = self._protection.with_remaining(reply)
        if data and reply is not None and not (fault and fault.action is FaultAction.NOT_JSON):
            # A page of HTML is not Dataverse's, but that of something on the way.
            reply = with_request_ids(reply, sequence)
        outcome = _Outcome(fault, reply)
        self._log.answered(sequence, status=outcome.status, fault=fault.label if fault else None)
        return outcome

    async def _carry_out(self, fault: Fault | None, answer: Callable[[], ApiResponse]) -> ApiResponse | None:
        if fault is None:
            return answer()
        if not await self._waited(fault.delay_before):
            return None
        try:
            if fault.edit_before:
                self._editor.carry_out(fault.edit_before)
            reply = answer() if fault.applies else None
            if fault.edit_after:
                self._editor.carry_out(fault.edit_after)
        except ODataError as error:
            return error_response(error)
        if not await self._waited(fault.delay_after):
            return None
        if fault.action in (FaultAction.DROP, FaultAction.RESET):
            return None
        return fault.spoil(reply)

    async def _waited(self, seconds: float) -> bool:
        if seconds:
            try:
                await asyncio.wait_for(self._stopping.wait(), seconds)
            except TimeoutError:
                return True
            return False
        return True

    def _token(self, request: Request, body: bytes, _sequence: int) -> ApiResponse:
        return self.tokens.answer(request.method, request.path_params["tenant"], body)

    def _data(self, request: Request, body: bytes, sequence: int) -> ApiResponse:
        if not self.tokens.accepts(request.headers.get("authorization")):
            # The answer of the gateway in front of Dataverse: a challenge without a body.
            return ApiResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        try:
            api_request = _api_request(request, body)
            if api_request.path == "$batch":
                return self._batches.answer(api_request, sequence)
            return self._in_transaction(api_request, sequence)
        except ODataError as error:
            prefer = request.headers.get("prefer", "")
            return error_response(error, empty_code=self._settings.empty_error_codes, prefer=prefer)

    def _in_transaction(self, request: ApiRequest, sequence: int) -> ApiResponse:
        with transaction(self._connection):
            response = self._api.handle(request)
            if response.changed:
                self._log.applied(sequence)
        self._plugin.after([response])
        return response

    async def _control(self, request: Request) -> Response:
        """Program the faults from outside: GET lists them, POST arms one, DELETE disarms all."""
        if request.method == "POST":
            try:
                number = self._faults.arm(Fault.from_json(await request.json()))
            except InvalidInput as error:
                return JSONResponse({"error": str(error)}, status_code=400)
            except ValueError:
                return JSONResponse({"error": "fault: the body is not JSON"}, status_code=400)
            return JSONResponse({"number": number}, status_code=201)
        if request.method == "DELETE":
            self._faults.clear()
        return JSONResponse(self._faults.pending())


class _Outcome:
    """The end of a request: a reply or none, on a connection that stays, closes or is reset."""

    def __init__(self, fault: Fault | None, reply: ApiResponse | None) -> None:
        self._action = fault.action if fault else None
        self._reply = reply

    @property
    def status(self) -> int | None:
        """The reply that will be sent; None for no reply."""
        return self._reply.status if self._reply else None

    async def send(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply, and close or reset the connection."""
        if self._reply is None:
            connection: Connection = scope["extensions"][CONNECTION]
            (connection.reset if self._action is FaultAction.RESET else connection.close)()
            await _gone(receive)
        elif self._action is FaultAction.CUT:
            await _send_cut(self._reply, scope, receive, send)
        else:
            response = Response(
                self._reply.body, status_code=self._reply.status, headers=dict(self._reply.headers)
            )
            await response(scope, receive, send)


class _Recorded:
    """A route's endpoint as an ASGI application, so that it accepts every method."""

    def __init__(self, app: SimulatorApp, answer: _Answer, *, data: bool) -> None:
        self._app = app
        self._answer = answer
        self._data = data

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            outcome = await self._app.record(Request(scope, receive), self._answer, data=self._data)
        except ClientDisconnect:
            # The client died before its request was complete: there is nothing to answer.
            return
        await outcome.send(scope, receive, send)


async def _send_cut(reply: ApiResponse, scope: Scope, receive: Receive, send: Send) -> None:
    headers = {**reply.headers, "Content-Length": str(len(reply.body))}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    half = reply.body[: len(reply.body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})
    scope["extensions"][CONNECTION].close()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until the server knows that the connection is closed and expects no reply."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _query_string(request: Request) -> str:
    return str(request.scope["query_string"], "latin-1")


def _api_request(request: Request, body: bytes) -> ApiRequest:
    return ApiRequest(
        method=request.method,
        path=request.scope["path"].removeprefix(API_ROOT),
        query=_query_string(request),
        headers=header_fields(request.headers.items()),
        body=body,
        root=f"http://{request.headers.get('host', 'localhost')}{API_ROOT}",
    )


def _nothing_here(request: Request, _body: bytes, _sequence: int) -> ApiResponse:
    path = request.scope["path"]
    return error_response(ODataError(404, ErrorCode.NONE, f"There is nothing at {path}: try {API_ROOT}."))
