"""An HTTP proxy in front of a real server: it fails on demand, and keeps every request.

    with HttpProxy("http://127.0.0.1:8000") as proxy:
        adapter = MyAdapter(proxy.url)
        proxy.fault("POST", lost_reply())          # the next POST is applied, its reply lost
        proxy.fault("PATCH", answer(503), times=2, skip=1)
        ...
        assert [request.verb for request in proxy.requests] == ["POST", "POST"]
        proxy.clear()                              # forget what was seen and what is planned

Faults are met in the order in which they were planned, by the requests that match them; what was
done shows in the request's ``fault``.
"""

import http.client
import socket
import struct
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

__all__ = [
    "Answer",
    "Fault",
    "HttpProxy",
    "SeenRequest",
    "after",
    "answer",
    "applied_then",
    "lost_reply",
    "reset_mid_body",
    "truncated",
]

_UPSTREAM_TIMEOUT = 30.0
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class SeenRequest:
    """One request on the wire. ``status`` is what the client was sent; None if it got no answer."""

    verb: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    fault: str | None = None
    status: int | None = None


@dataclass(frozen=True)
class Answer:
    """What a client is sent."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Fault:
    """What to do with one request: whether the server gets it, and what the client gets.

    Attributes:
        name: Shown in `SeenRequest.fault`.
        forward: The server gets the request.
        answer: The client gets this rather than the server's answer.
        reset: The client gets no answer, and its connection is reset.
        cut: The client gets half of the body, though its Content-Length says otherwise.
        unread: The body is left unread; the server then gets nothing.
        before: Called before the server gets the request.
    """

    name: str
    forward: bool
    answer: Answer | None = None
    reset: bool = False
    cut: bool = False
    unread: bool = False
    before: Callable[[], None] | None = None


def lost_reply() -> Fault:
    """The server applies the request; the connection closes without an answer."""
    return Fault("lost_reply", forward=True, reset=True)


def reset_mid_body() -> Fault:
    """The connection is reset before the body was read; the server gets nothing."""
    return Fault("reset_mid_body", forward=False, reset=True, unread=True)


def answer(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Fault:
    """The server gets nothing; the client gets this answer."""
    return Fault(f"answer {status}", forward=False, answer=Answer(status, headers or {}, body))


def applied_then(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Fault:
    """The server applies the request; the client gets this answer all the same."""
    return Fault(f"applied, then {status}", forward=True, answer=Answer(status, headers or {}, body))


def truncated() -> Fault:
    """The answer's body ends at its half, though its Content-Length says otherwise."""
    return Fault("truncated", forward=True, cut=True)


def after(step: Callable[[], None]) -> Fault:
    """``step`` runs before the server gets the request: something that happens meanwhile."""
    return Fault("after", forward=True, before=step)


@dataclass
class _Planned:
    matches: Callable[[SeenRequest], bool]
    fault: Fault
    times: int
    skip: int


class HttpProxy:
    """See the module's text. Starts and stops with ``with``; safe to use from threads.

    Args:
        upstream: The URL of the server: scheme, host and port; plain HTTP.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urllib.parse.urlsplit(upstream)
        self._lock = threading.Lock()
        self._requests: list[SeenRequest] = []
        self._planned: list[_Planned] = []
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def fault(
        self, matches: str | Callable[[SeenRequest], bool], fault: Fault, *, times: int = 1, skip: int = 0
    ) -> None:
        """Plan a fault for the next requests that match.

        Args:
            matches: A verb, or a function that looks at the request.
            fault: What to do with it.
            times: How many requests it meets.
            skip: How many that match are let through before.
        """
        if isinstance(matches, str):
            verb = matches
            chosen: Callable[[SeenRequest], bool] = lambda request: request.verb == verb  # noqa: E731
        else:
            chosen = matches
        with self._lock:
            self._planned.append(_Planned(chosen, fault, times, skip))

    @property
    def requests(self) -> list[SeenRequest]:
        """Every request since the start or the last `clear`, in the order of their answers."""
        with self._lock:
            return list(self._requests)

    def count(self) -> Counter[str]:
        """How many requests there were, by verb."""
        return Counter(request.verb for request in self.requests)

    def clear(self) -> None:
        """Forget the requests seen and the faults planned."""
        with self._lock:
            self._requests.clear()
            self._planned.clear()

    def verb_of(self, method: str, path: str) -> str:  # noqa: ARG002 - for subclasses
        """What a request is called; its HTTP method, unless a subclass knows better."""
        return method

    def next_fault(self, request: SeenRequest) -> Fault | None:
        """The fault that is planned for a request; it is used up by that."""
        with self._lock:
            for planned in self._planned:
                if planned.times < 1 or not planned.matches(request):
                    continue
                if planned.skip:
                    planned.skip -= 1
                    return None
                planned.times -= 1
                return planned.fault
        return None

    def record(self, request: SeenRequest) -> None:
        """Keep a request that was answered."""
        with self._lock:
            self._requests.append(request)

    def forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request on, and return the server's answer.

        Raises:
            OSError, http.client.HTTPException: The server gave none.
        """
        connection = http.client.HTTPConnection(
            self._upstream.hostname or "127.0.0.1", self._upstream.port, timeout=_UPSTREAM_TIMEOUT
        )
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() not in {"connection", "expect", "transfer-encoding"}
        }
        try:
            connection.request(method, target, body or None, {**kept, "Connection": "close"})
            response = connection.getresponse()
            data = response.read()
            plain = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            if method == "HEAD":
                plain["Content-Length"] = response.getheader("Content-Length", "0")
            return Answer(response.status, plain, data)
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    proxy: HttpProxy
    protocol_version = "HTTP/1.1"
    # An answer's head and body are two writes; without this the second would wait for the first's
    # ACK.
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        verb = self.proxy.verb_of(self.command, url.path)
        seen = SeenRequest(verb, url.path, query, dict(self.headers))
        fault = self.proxy.next_fault(seen)
        body = b"" if fault and fault.unread else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault and fault.before:
            fault.before()
        reply = self._reply_of(fault, body)
        self.proxy.record(
            replace(
                seen,
                body=body,
                fault=fault.name if fault else None,
                status=reply.status if reply else None,
            )
        )
        if reply is None:
            self._drop()
        else:
            self._send(reply, cut=bool(fault and fault.cut))

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = do_PATCH = handle_any  # noqa: N815 - http.server's names

    def _reply_of(self, fault: Fault | None, body: bytes) -> Answer | None:
        reply = None
        if fault is None or fault.forward:
            try:
                reply = self.proxy.forward(self.command, self.path, dict(self.headers), body)
            except (OSError, http.client.HTTPException):
                # The server is down, or was killed meanwhile: the client shall see just that.
                return None
        return fault.answer if fault and (fault.answer or fault.reset) else reply

    def _send(self, reply: Answer, *, cut: bool) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers and reply.status != http.client.NO_CONTENT:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: len(reply.body) // 2] if cut else reply.body)
        if cut:
            self.close_connection = True

    def _drop(self) -> None:
        # Lingering for no time turns the close into a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
