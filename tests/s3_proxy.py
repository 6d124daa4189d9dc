"""A fault-injecting HTTP proxy in front of an S3 server: real TCP, faults on demand, every request counted.

    with S3Proxy("http://127.0.0.1:9000") as proxy:
        store = open_store(f"s3://bucket?endpoint_url={proxy.url}")
        proxy.fault("PUT", lost_reply())          # the next PUT is applied, and its reply lost
        store.put("a", b"1", if_absent=True)
        assert proxy.count() == {"PUT": 2, "GET": 1}
        assert [r.verb for r in proxy.requests] == ["PUT", "PUT", "GET"]
        proxy.clear()                             # forget what was seen and what is planned

Verbs are the HTTP methods, but for ``LIST``: a GET of a bucket. A fault is used once for each time that
`S3Proxy.fault` was told to, in that order, and shows in the request's ``fault``.

Switches hold until they are turned off: ``ignore_conditions`` drops If-None-Match and If-Match before the
server sees them; ``empty_errors`` takes the body off every error answer, as strict servers do; ``bare_etags``
takes the quotes off ETags; ``no_if_match`` answers 501 to every If-Match.
"""

import http.client
import re
import socket
import struct
import threading
import urllib.parse
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass(frozen=True)
class SeenRequest:
    """One request on the wire. ``status`` is what the client was sent; None where it got no answer."""

    verb: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    fault: str | None
    status: int | None


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Fault:
    """What to do with one request: whether the server gets it, what the client gets."""

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


def answer(status: int, code: str = "", body: bytes | None = None) -> Fault:
    """The server gets nothing; the client gets this status, with S3's error body if there is a code."""
    return Fault(f"answer {status} {code}".rstrip(), forward=False, answer=_error(status, code, body))


def applied_then(status: int, code: str = "") -> Fault:
    """The server applies the request; the client gets this status all the same."""
    return Fault(f"applied, then {status} {code}".rstrip(), forward=True, answer=_error(status, code, None))


def truncated() -> Fault:
    """The answer's body ends at its half, though its Content-Length says otherwise."""
    return Fault("truncated", forward=True, cut=True)


def after(step: Callable[[], None]) -> Fault:
    """``step`` runs before the server gets the request: something that happens meanwhile, or a wait."""
    return Fault("after", forward=True, before=step)


def _error(status: int, code: str, body: bytes | None) -> Answer:
    if body is None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode() if code else b""
    return Answer(status, {"Content-Type": "application/xml"}, body)


class S3Proxy:
    """See the module's text. Starts and stops with ``with``."""

    def __init__(self, upstream: str) -> None:
        self.ignore_conditions = False
        self.empty_errors = False
        self.bare_etags = False
        self.no_if_match = False
        self._upstream = urllib.parse.urlsplit(upstream)
        self._lock = threading.Lock()
        self._requests: list[SeenRequest] = []
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def fault(self, verb: str, fault: Fault, *, times: int = 1) -> None:
        """Plan a fault for the next ``times`` requests of this verb."""
        with self._lock:
            self._faults[verb].extend([fault] * times)

    @property
    def requests(self) -> list[SeenRequest]:
        """Every request since the start or the last `clear`, in the order in which they were answered."""
        with self._lock:
            return list(self._requests)

    def count(self) -> Counter[str]:
        """How many requests there were, by verb: PUT, GET, HEAD, LIST, DELETE, POST."""
        return Counter(request.verb for request in self.requests)

    def clear(self) -> None:
        """Forget the requests seen and the faults planned."""
        with self._lock:
            self._requests.clear()
            self._faults.clear()

    def next_fault(self, verb: str) -> Fault | None:
        with self._lock:
            return self._faults[verb].popleft() if self._faults[verb] else None

    def record(self, request: SeenRequest) -> None:
        with self._lock:
            self._requests.append(request)

    def forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if self.no_if_match and any(name.lower() == "if-match" for name in headers):
            return _error(501, "NotImplemented", None)
        connection = http.client.HTTPConnection(self._upstream.hostname, self._upstream.port, timeout=30)
        kept = {
            name: value
            for name, value in headers.items()
            if name.lower() not in {"connection", "expect", "transfer-encoding"}
            and not (self.ignore_conditions and name.lower() in {"if-none-match", "if-match"})
        }
        try:
            connection.request(method, target, body or None, {**kept, "Connection": "close"})
            response = connection.getresponse()
            data = response.read()
            plain = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP}
            if method == "HEAD":
                plain["Content-Length"] = response.getheader("Content-Length", "0")
            elif self.empty_errors and response.status >= 400:
                data = b""
            if self.bare_etags:
                plain = {k: v.strip('"') if k.lower() == "etag" else v for k, v in plain.items()}
                data = re.sub(rb'<ETag>(?:"|&quot;)(.*?)(?:"|&quot;)</ETag>', rb"<ETag>\1</ETag>", data)
            return Answer(response.status, plain, data)
        finally:
            connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    proxy: S3Proxy
    protocol_version = "HTTP/1.1"
    # An answer's head and body are two writes; without this the second would wait for the first's ACK.
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        verb = "LIST" if self.command == "GET" and url.path.count("/") == 1 else self.command
        fault = self.proxy.next_fault(verb)
        body = b"" if fault and fault.unread else self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault and fault.before:
            fault.before()
        reply = None
        if fault is None or fault.forward:
            reply = self.proxy.forward(self.command, self.path, self.headers, body)
        if fault and (fault.answer or fault.reset):
            reply = fault.answer
        self.proxy.record(
            SeenRequest(
                verb,
                url.path,
                query,
                dict(self.headers),
                body,
                fault.name if fault else None,
                reply.status if reply else None,
            )
        )
        if reply is None:
            self._drop()
        else:
            self._reply(reply, cut=bool(fault and fault.cut))

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any

    def _reply(self, reply: Answer, *, cut: bool) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers and reply.status != 204:
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
