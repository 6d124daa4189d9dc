"""What one request may take, in time and bytes; the server counts what it could send."""

import contextlib
import socket
import struct
import threading

import pytest

from writeahead.errors import OutcomeUnknown, Unavailable, Unsupported
from writeahead.stores import base, obstore_clients, remote, s3, s3_session
from writeahead.stores.local import LocalStore
from writeahead.stores.registry import open_store

# So much was never on its way at once: kernel buffers, and what was read before the limit was met.
ROOM = 64 * 1024 * 1024


class Flood:
    """A server that sends a head, and then parts without end, until the client goes away."""

    def __init__(self, head: bytes, part: bytes, pause: float = 0.0) -> None:
        self.head, self.part, self.pause = head, part, pause
        self.sent = self.connections = 0
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._flood, args=[connection])
            self._threads.append(thread)
            thread.start()

    def _flood(self, connection):
        with connection, contextlib.suppress(OSError):
            connection.settimeout(20)
            connection.recv(65536)
            connection.sendall(self.head)
            while not self._ended.wait(self.pause):
                connection.sendall(self.part)
                self.sent += len(self.part)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


OBJECT = (
    b'HTTP/1.1 200 OK\r\nETag: "1"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n'
    b"Content-Type: application/octet-stream\r\n"
)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
LISTING = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\n"


@pytest.fixture(autouse=True)
def _one_attempt(monkeypatch, s3_server):
    monkeypatch.setattr(remote, "ATTEMPTS", 1)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(base, "MAX_OBJECT_BYTES", 1_000_000)
    monkeypatch.setattr(s3_session, "_MAX_ANSWER_BYTES", 1_000_000)


@pytest.fixture
def short(monkeypatch):
    """One second for a request in all; a byte now and then comes more often than that."""
    monkeypatch.setattr(s3, "_REQUEST_LIMIT", 1.0)
    monkeypatch.setattr(obstore_clients, "_REQUEST_LIMIT", 1.0)


def opened(client, url):
    return open_store(f"s3://bucket?client={client}&endpoint_url={url}&read_timeout=0.9")


@pytest.mark.usefixtures("small")
def test_an_object_without_an_end_is_not_read_to_it(client):
    with Flood(OBJECT + CHUNKED, CHUNK) as server:
        with pytest.raises(Unsupported, match=r"more than|Content-Length"):
            opened(client, server.url).get("a")
        assert server.sent < ROOM


@pytest.mark.usefixtures("small")
def test_an_object_that_says_it_is_too_large_is_not_read(client):
    with Flood(OBJECT + b"Content-Length: 6000000000\r\n\r\n", b" " * 65536) as server:
        with pytest.raises(Unsupported, match="more than"):
            opened(client, server.url).get("a")
        assert server.sent < ROOM


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("length", [CHUNKED, b"Content-Length: 6000000000\r\n\r\n"], ids=["endless", "told"])
def test_a_listing_without_an_end_is_not_read_to_it(length):
    """obstore reads a listing as a whole, whatever its size: only the time limit ends it."""
    with Flood(LISTING + length, CHUNK if length is CHUNKED else b" " * 65536) as server:
        with pytest.raises(Unsupported, match="more than"):
            list(opened("s3fs", server.url).list())
        assert server.sent < ROOM


@pytest.mark.usefixtures("small")
def test_an_error_without_an_end_is_not_read_to_it():
    with Flood(b"HTTP/1.1 503 Busy\r\n" + CHUNKED, CHUNK) as server:
        with pytest.raises(OutcomeUnknown):
            opened("s3fs", server.url).put("a", b"1")
        assert server.sent < ROOM


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Filler: 1\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OBJECT + b"Content-Length: 1000000\r\n\r\n", b"x"),
    ],
    ids=["headers", "continue", "body"],
)
@pytest.mark.parametrize("verb", ["get", "put"])
def test_one_deadline_for_headers_and_body(client, head, part, verb):
    """The test ends at all only because the request does."""
    with Flood(head, part, pause=0.2) as server:
        store = opened(client, server.url)
        with pytest.raises((Unavailable, OutcomeUnknown, Unsupported)):
            store.get("a") if verb == "get" else store.put("a", b"1")


@pytest.mark.usefixtures("small")
def test_what_could_not_be_read_is_not_written(client, s3_proxy, s3_bucket, tmp_path):
    stores = [
        open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}"),
        LocalStore(tmp_path / "folder"),
    ]
    for store in stores:
        for if_absent in (False, True):
            with pytest.raises(Unsupported, match="1000001 bytes"):
                store.put("a", b"1" * 1_000_001, if_absent=if_absent)
        store.put("a", b"1" * 1_000_000)
        assert len(store.get("a").data) == 1_000_000
    assert set(s3_proxy.count()) == {"PUT", "GET"}


@pytest.mark.usefixtures("small")
def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(6_000_000_000)
    store = LocalStore(tmp_path)
    with pytest.raises(Unsupported, match="6000000000 bytes"):
        store.get("a")
    assert store.head("a").size == 6_000_000_000
