"""A remote on loopback that fails or waits on demand, and an adapter that the CLI can name."""

import threading
from collections import Counter
from contextlib import contextmanager

import httpx
from pydantic import BaseModel

from tests.support import http_server
from writeahead import Adapter, PlannedOperation, Receipt, emits
from writeahead.errors import Applied, ConflictError, NotReady, PermanentError, TransientError


class Crm:
    """The truth: requests in order of arrival, and effects by key.

    ``answers``: what the next requests get. 0 is applied, and dropped without an answer; so is 201,
    with one; no other status is.
    ``hold``: while it is set, a request is applied and not answered; ``arrived`` is released for
    each.
    """

    def __init__(self):
        self.url = ""
        self.requests = []
        self.effects = Counter()
        self.answers = []
        self.hold = False
        self.arrived = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.lock = threading.Lock()

    def serve_one(self, method, path):
        key = path.rsplit("/", 1)[1]
        with self.lock:
            self.requests.append(f"{method} {path.rsplit('/', 1)[0]}")
            answer = self.answers.pop(0) if self.answers else None
            if answer not in (None, 0, 201):
                return answer
            if method == "PUT" and self.effects[key]:
                return 412
            self.effects[key] += 1
        self.arrived.release()
        if self.hold:
            self.go_on.wait()
        return 0 if answer == 0 else 201


@contextmanager
def serving():
    """Serve until the block ends."""
    crm = Crm()

    class Handler(http_server.QuietHandler):
        def do_PUT(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status = crm.serve_one(self.command, self.path)
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT

    with http_server.serving(Handler) as crm.url:
        try:
            yield crm
        finally:
            crm.go_on.set()


class Row(BaseModel):
    text: str


class CrmAdapter(Adapter):
    """Sends to a `Crm`."""

    name = "crm"
    thread_safe = True

    def __init__(self, url, ready=True):
        self.url = url
        self.ready = ready

    def plan(self, operations):
        if not self.ready:
            raise NotReady("CRM_USER is not set", "CRM_PASSWORD is not set")
        return super().plan(operations)

    def _send(self, method, operation):
        path = f"/{operation.kind}/{operation.key}"
        try:
            # Plain HTTP: loading certificates would take longer than all the rest.
            reply = httpx.request(method, self.url + path, content=b"{}", timeout=30, verify=False)
        except httpx.TransportError as error:
            raise TransientError(f"{method} /{operation.kind}: {type(error).__name__}") from error
        status = reply.status_code
        if status >= 500:
            raise TransientError(f"{method} /{operation.kind}: {status}", applied=Applied.NO)
        if status == 409:
            raise ConflictError(f"{method} /{operation.kind}: {status}")
        if status == 418:
            raise RuntimeError("password=planted-secret")
        if status >= 400 and status != 412:
            raise PermanentError(f"{method} /{operation.kind}: {status}")
        return Receipt(remote_id=operation.key, outcome="already_applied" if status == 412 else "applied")

    @emits("create_with_key")
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        return self._send("PUT", operation)

    @emits("unprovable")
    def emit_mail(self, payload: Row, operation: PlannedOperation) -> Receipt:
        return self._send("POST", operation)


def no_adapter():
    """A factory that forgets what it is for."""
    return "not an adapter"


def needs_more(url, tenant):
    """A factory with settings that are missing."""


nothing_callable = 7
