"""A remote on loopback that counts what it did, and an adapter for it: real HTTP, no framework.

``PUT /<kind>/<key>`` with ``If-None-Match: *`` creates (201) or says that it exists (412).
``POST /mail/<key>`` happens each time.
"""

import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from pydantic import BaseModel

from tests.support.http_server import QuietHandler, serving
from writeahead import Adapter, PlannedOperation, Receipt, emits
from writeahead.errors import Applied, TransientError


@dataclass
class Loopback:
    """The truth about the remote: requests in order of arrival, and effects by key."""

    url: str = ""
    requests: list[str] = field(default_factory=list)
    effects: Counter = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def apply(self, method: str, path: str) -> int:
        key = path.rsplit("/", 1)[1]
        with self.lock:
            self.requests.append(f"{method} {path}")
            if method == "PUT" and self.effects[key]:
                return 412
            self.effects[key] += 1
            return 201


@contextmanager
def serve():
    """Serve until the block ends."""
    remote = Loopback()

    class Handler(QuietHandler):
        def do_PUT(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(remote.apply(self.command, self.path))
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT

    with serving(Handler) as remote.url:
        yield remote


class Text(BaseModel):
    text: str


class LoopbackAdapter(Adapter):
    """Sends to a `Loopback`; ``around`` is called before and after each request."""

    name = "loopback"

    def __init__(self, url, around=lambda point: None):
        self.url = url
        self.around = around

    def _send(self, method, operation):
        self.around("before request")
        try:
            headers = {"If-None-Match": "*"}
            reply = httpx.request(
                method, f"{self.url}/{operation.kind}/{operation.key}", headers=headers, timeout=60
            )
        except httpx.TransportError as error:
            raise TransientError(
                f"{method} /{operation.kind}: {type(error).__name__}", applied=Applied.UNKNOWN
            ) from error
        self.around("after reply")
        outcome = "already_applied" if reply.status_code == 412 else "applied"
        return Receipt(remote_id=operation.key, outcome=outcome)

    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send("PUT", operation)

    @emits("unprovable")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send("POST", operation)
