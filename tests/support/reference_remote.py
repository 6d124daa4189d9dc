"""A remote with one kind of operation for each replay class, and an adapter that sends real HTTP.

`Remote.answer` is the whole remote: `serve` puts it on loopback, `transport_to` into this process.

    PUT  /create/KEY  If-None-Match: *    201, or 412 if it exists; GET reads it back
    PUT  /upsert/KEY                      201, or 409 if the key was used for another X-Content
    PUT  /update/KEY  If-Match: "1"       200, or 412 if the version is another; GET reads it back
    POST /lookup/KEY                      201, another row each time; GET searches
    POST /mail/KEY                        201, another effect each time

X-Content is a digest of what was planned. A row keeps the one that it was made with, whatever
others write into it, and is read with it.
"""

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
from pydantic import BaseModel

from tests.support.http_server import QuietHandler, serving
from writeahead import Adapter, PlannedOperation, Receipt, emits
from writeahead.adapters.base import target_of
from writeahead.adapters.http import applied_despite, quiet_logs, retry_after_seconds
from writeahead.errors import Applied, ConflictError, NotReady, PermanentError, TransientError
from writeahead.model import idempotency_key

KINDS = ("create", "upsert", "update", "lookup", "mail")
OPERATIONS = [{"kind": kind, "payload": {"text": f"the {kind}"}} for kind in KINDS]
KEYS = {kind: idempotency_key("s1", f"{n}-{kind}") for n, kind in enumerate(KINDS, start=1)}


class Remote:
    """The truth: effects of each key, what is stored, and all requests in order of arrival."""

    def __init__(self) -> None:
        self.url = "http://remote.invalid"
        self._lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        """Begin again, with nothing applied."""
        self.effects: Counter[str] = Counter()
        self.rows: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self.requests: list[str] = []

    def answer(self, method: str, path: str, headers, body: bytes) -> tuple[int, bytes]:
        kind, key = path.strip("/").split("/")
        with self._lock:
            self.requests.append(f"{method} {kind}")
            if method == "GET":
                return (200, self._read(key)) if key in self.rows else (404, b"{}")
            text = json.loads(body)["text"]
            exists = key in self.rows
            if exists and (headers.get("If-None-Match") or headers.get("If-Match")):
                return 412, b"{}"
            digest = headers.get("X-Content", "")
            if kind == "upsert" and self.digests.get(key, digest) != digest:
                return 409, b"{}"
            if not (kind == "upsert" and self.rows.get(key) == text):
                self.effects[key] += 1
            self.rows[key] = text
            self.digests.setdefault(key, digest)
            return 201, self._read(key)

    def _read(self, key: str) -> bytes:
        return json.dumps({"key": key, "text": self.rows[key], "digest": self.digests.get(key)}).encode()

    def counts(self) -> dict[str, int]:
        return {kind: self.effects[key] for kind, key in KEYS.items()}

    def state(self):
        return Counter(self.effects), dict(self.rows), list(self.requests), dict(self.digests)

    def restore(self, state) -> None:
        effects, rows, requests, digests = state
        self.effects, self.rows, self.requests = Counter(effects), dict(rows), list(requests)
        self.digests = dict(digests)


@contextmanager
def serve() -> Iterator[Remote]:
    """Serve a remote on loopback. ``X-Die: PID`` kills the sender of an applied request."""
    remote = Remote()

    class Handler(QuietHandler):
        def do_PUT(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            if len(body) < length:
                self.close_connection = True  # its sender died on the way: nothing to apply
                return
            status, reply = remote.answer(self.command, self.path, self.headers, body)
            if "X-Die" in self.headers:
                os.kill(int(self.headers["X-Die"]), signal.SIGKILL)
                self.close_connection = True
                return
            with suppress(ConnectionError):
                self.send_response_only(status)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

        do_POST = do_GET = do_PUT

    with serving(Handler) as remote.url:
        yield remote


def transport_to(remote: Remote) -> httpx.MockTransport:
    """The remote without a network."""

    def handle(request: httpx.Request) -> httpx.Response:
        status, body = remote.answer(request.method, request.url.path, request.headers, request.content)
        return httpx.Response(status, content=body)

    return httpx.MockTransport(handle)


class Text(BaseModel):
    text: str


class ReferenceAdapter(Adapter):
    """Sends to a `Remote`.

    ``around(point)`` is called before a request is sent and after its reply. If it returns True
    when called with ``after apply``, the server is asked to kill this process at that moment.
    """

    name = "five-kinds"
    request_lifetime = 60.0
    thread_safe = True

    def __init__(
        self,
        url: str,
        around: Callable[[str], bool | None] = lambda point: None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._around = around
        self._url = url
        self._http = httpx.Client(
            base_url=url, timeout=60, transport=transport, trust_env=False, verify=False
        )

    def close(self) -> None:
        self._http.close()

    def target(self) -> str:
        return target_of(self._url)

    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._guarded(payload, operation, {"If-None-Match": "*"})

    @emits("upsert")
    def emit_upsert(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._write("PUT", payload, operation, {})

    @emits("conditional_update")
    def emit_update(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._guarded(payload, operation, {"If-Match": '"1"'})

    @emits("lookup")
    def emit_lookup(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._write("POST", payload, operation, {})

    def find_lookup(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        return self._read(operation)

    @emits("unprovable")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._write("POST", payload, operation, {})

    def _guarded(self, payload: Text, operation: PlannedOperation, headers: dict[str, str]) -> Receipt:
        try:
            return self._write("PUT", payload, operation, headers)
        except _PreconditionFailed:
            try:
                found = self._read(operation)
            except TransientError as error:
                # This request was refused; an earlier one may have been applied.
                error.applied = Applied.UNKNOWN
                raise
            if found is None:
                raise ConflictError(f"/{operation.kind}: refused, and nothing of ours is there") from None
            return found

    def _write(
        self, method: str, payload: Text, operation: PlannedOperation, headers: dict[str, str]
    ) -> Receipt:
        reply = self._exchange(method, operation, headers, payload.model_dump_json().encode())
        return _receipt(reply, operation, "applied", Applied.UNKNOWN)

    def _read(self, operation: PlannedOperation) -> Receipt | None:
        try:
            reply = self._exchange("GET", operation, {}, b"")
        except _Missing:
            return None
        return _receipt(reply, operation, "already_applied", Applied.NO)

    def _exchange(
        self, method: str, operation: PlannedOperation, headers: dict[str, str], body: bytes
    ) -> httpx.Response:
        where = f"{method} /{operation.kind}"
        headers = headers | {"X-Content": operation.content_digest}
        self._around(f"before send {where}")
        if self._around(f"after apply {where}"):
            headers = headers | {"X-Die": str(os.getpid())}
        try:
            with quiet_logs():
                reply = self._http.request(
                    method, f"/{operation.kind}/{operation.key}", headers=headers, content=body
                )
        except httpx.HTTPError as error:
            applied = Applied.NO if method == "GET" else applied_despite(error)
            raise TransientError(f"{where}: {type(error).__name__}", applied=applied) from None
        self._around(f"after reply {where}")
        if not reply.is_success:
            raise _refusal(where, method, reply)
        return reply


class _PreconditionFailed(PermanentError):
    pass


class _Missing(PermanentError):
    pass


def _refusal(where: str, method: str, reply: httpx.Response) -> Exception:
    status = reply.status_code
    said = f"{where}: HTTP {status}"
    wait = retry_after_seconds(reply.headers)
    if status == 401:
        return NotReady(said)
    if status == 429:
        return TransientError(said, applied=Applied.NO, retry_after=wait)
    if status == 408 or (status >= 500 and status != 501):
        applied = Applied.NO if method == "GET" else Applied.UNKNOWN
        return TransientError(said, applied=applied, retry_after=wait)
    special = {412: _PreconditionFailed, 404: _Missing, 409: ConflictError}
    return special.get(status, PermanentError)(said)


def _receipt(reply: httpx.Response, operation: PlannedOperation, outcome: str, applied: Applied) -> Receipt:
    try:
        row = json.loads(reply.content)
        key, digest = row["key"], row["digest"]
    except (ValueError, KeyError, TypeError):
        raise TransientError(f"/{operation.kind}: unreadable reply", applied=applied) from None
    if outcome == "already_applied" and digest != operation.content_digest:
        raise ConflictError(f"/{operation.kind}: another session of this id wrote it, with other content")
    return Receipt(remote_id=key, outcome=outcome)
