"""An httpx transport with one deadline for a request and one limit for the size of its response.

The time limits of httpx are for single steps: a server that sends a header line now and then, or
``100 Continue`` without end, meets each of them for ever. httpx also decodes a body of any size.
"""

import contextvars
import math
import selectors
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpcore
import httpx

from writeahead.adapters import limits
from writeahead.adapters.limits import Deadline

__all__ = ["BoundedTransport", "ResponseTooLarge", "network_transport"]

MEBIBYTE = 2**20
# Bytes that are decoded, and written, at once, so that limits hold within a body, too. The system
# has room for so few as soon as it has room at all.
_PIECE = 64 * 1024
_WRITTEN = 16 * 1024
_READS = {"GET", "HEAD", "OPTIONS"}
# One wait for one socket is one call of poll. The default, epoll on Linux, takes four, and a file.
# Windows has no poll.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.DefaultSelector)


class ResponseTooLarge(httpx.RequestError):
    """A response is longer than its limit. It says nothing of whether the request took effect."""


class BoundedTransport(httpx.BaseTransport):
    """Ends every request at a deadline and every response at a size, and reads responses whole.

    The deadline covers everything: waiting for a connection, connecting, TLS, sending, header
    lines, ``100 Continue``, the body. It is the sum of the four time limits that httpx has for the
    request; where one of them is None there is no deadline. The time limit of the run ends a
    request earlier, and a request to stop ends it after 5 more seconds: see `CallLimits`. Only the
    look-up of a host's name has no limit, since the system offers none.

    Bodies may be compressed by gzip. Other encodings are neither asked for nor read.

    Args:
        inner: Sends the requests. To have the deadline hold while the server is silent or slow, it
            must come from `network_transport`.
        read_limit: Bytes, decoded, in the response to a GET.
        write_limit: Bytes, decoded, in the response to any other method but HEAD and OPTIONS.
        monotonic: Seconds on a clock that is never set; for tests.

    Raises (by `handle_request`):
        httpx.TimeoutException: The deadline is over. It is a ConnectTimeout or a PoolTimeout where
            nothing was sent.
        ResponseTooLarge: The response is longer than its limit.
        httpx.DecodingError: The response has an encoding that was not asked for, or is damaged.
    """

    def __init__(
        self,
        inner: httpx.BaseTransport,
        *,
        read_limit: int = 32 * MEBIBYTE,
        write_limit: int = 8 * MEBIBYTE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._read_limit = read_limit
        self._write_limit = write_limit
        self._monotonic = monotonic

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and read its response whole. Raises: see the class."""
        request.headers["Accept-Encoding"] = "gzip"
        deadline = _deadline_of(request, self._monotonic)
        if deadline.time_left() <= 0:
            # On a connection that is open already, it would end while sending: outcome unknown.
            raise httpx.PoolTimeout("there is no time left for the request", request=request)
        token = _deadline.set(deadline)
        try:
            response = self._inner.handle_request(request)
            try:
                content = self._content(request, response)
            finally:
                response.close()
        finally:
            _deadline.reset(token)
        headers = [item for item in response.headers.multi_items() if item[0].lower() not in _FRAMING]
        return httpx.Response(response.status_code, headers=headers, content=content)

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()

    def _content(self, request: httpx.Request, response: httpx.Response) -> bytes:
        limit = self._read_limit if request.method in _READS else self._write_limit
        # The stream has the bytes as they came, also where httpx made the response of bytes.
        assert isinstance(response.stream, httpx.SyncByteStream)
        match response.headers.get("content-encoding", "identity").strip().lower():
            case "identity" | "":
                decoded = _plain(response.stream, limit, request)
            case "gzip" | "x-gzip":
                decoded = _gunzipped(response.stream, limit, request)
            case _:
                raise httpx.DecodingError("the response has an encoding that was not asked for")
        return b"".join(decoded)


_FRAMING = {"content-encoding", "content-length", "transfer-encoding"}


def _deadline_of(request: httpx.Request, monotonic: Callable[[], float]) -> Deadline:
    parts = request.extensions.get("timeout", {})
    seconds = [parts.get(name) for name in ("pool", "connect", "write", "read")]
    deadline = Deadline(math.inf if None in seconds else sum(seconds), monotonic)
    # The pool of connections waits by itself, so it gets its limit beforehand.
    pool = min(seconds[0] if seconds[0] is not None else math.inf, max(deadline.time_left(), 0.0))
    request.extensions = {
        **request.extensions,
        "timeout": {**parts, "pool": None if pool == math.inf else pool},
    }
    return deadline


# The connections of a pool serve one request after another, each in the context that sends it.
_deadline: contextvars.ContextVar[Deadline | None] = contextvars.ContextVar(
    "writeahead_request_deadline", default=None
)


def _slices(
    timeout: float | None, error: type[Exception], longest: float = math.inf
) -> Iterator[float | None]:
    """Cut the wait of one step into waits after each of which the deadline is checked.

    Raises:
        Exception: ``error``, once the deadline is over.
    """
    deadline = _deadline.get()
    remaining = math.inf if timeout is None else timeout
    while remaining > 0:
        left = math.inf if deadline is None else deadline.time_left()
        if left <= 0:
            raise error("the deadline of the request is over")
        wait = min(remaining, left, longest)
        yield None if wait == math.inf else wait
        remaining -= wait


class _BoundedStream(httpcore.NetworkStream):
    """A connection whose every wait ends at the deadline of the request that it serves."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        for wait in _slices(timeout, httpcore.ReadTimeout, limits.POLL):
            try:
                return self._inner.read(max_bytes, wait)
            except httpcore.ReadTimeout:
                continue
        raise httpcore.ReadTimeout("the server was silent for too long")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITTEN):
            self._wait_for_room(timeout)
            wait = next(_slices(timeout, httpcore.WriteTimeout), 0.0)
            self._inner.write(buffer[start : start + _WRITTEN], wait)

    def _wait_for_room(self, timeout: float | None) -> None:
        """Wait until the system takes bytes. A write can't be cut: how much it sent is not told."""
        connection = self._inner.get_extra_info("socket")
        if connection is None or connection.fileno() < 0:
            return
        with _Selector() as selector:
            selector.register(connection, selectors.EVENT_WRITE)
            for wait in _slices(timeout, httpcore.WriteTimeout, limits.POLL):
                if selector.select(wait):
                    return
        raise httpcore.WriteTimeout("the server took nothing for too long")

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait = next(_slices(timeout, httpcore.ConnectTimeout), 0.0)
        return _BoundedStream(self._inner.start_tls(ssl_context, server_hostname, wait))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _BoundedBackend(httpcore.NetworkBackend):
    """Opens connections: tries the addresses of a host one by one, until the deadline."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            # UnicodeError: a label of the name is longer than the 63 bytes of RFC 1035.
            raise httpcore.ConnectError(str(error)) from error
        failure: Exception = httpcore.ConnectError("the host has no address")
        for address in dict.fromkeys(str(address[0]) for *_, address in found):
            wait = next(_slices(timeout, httpcore.ConnectTimeout), 0.0)
            try:
                return _BoundedStream(
                    self._inner.connect_tcp(address, port, wait, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure


def network_transport(
    *, verify: bool = True, trust_env: bool = True, proxy: str | None = None, most: int = 100
) -> httpx.HTTPTransport:
    """Make the transport that httpx makes, with waits that heed the deadline of `BoundedTransport`.

    Args:
        verify: Check the certificates of https.
        trust_env: Take the certificates that the environment names.
        proxy: The URL of a proxy to go through.
        most: How many connections there may be at once.
    """
    limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
    transport = httpx.HTTPTransport(verify=verify, trust_env=trust_env, proxy=proxy, limits=limits)
    # httpx has no argument for it, and its pool has: each kind of pool (direct, through a proxy)
    # opens its connections by this backend. The tests show that waits end.
    pool = transport._pool  # noqa: SLF001
    pool._network_backend = _BoundedBackend(pool._network_backend)  # noqa: SLF001
    return transport


def _plain(chunks: Iterable[bytes], limit: int, request: httpx.Request) -> Iterator[bytes]:
    room = limit
    for chunk in chunks:
        room -= len(chunk)
        if room < 0:
            raise ResponseTooLarge(f"the response is longer than {limit} bytes", request=request)
        yield chunk


def _gunzipped(chunks: Iterable[bytes], limit: int, request: httpx.Request) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        yield from _plain(_pieces(decoder, chunks), limit, request)
    except zlib.error:
        raise httpx.DecodingError("the response is no gzip, or cut", request=request) from None


def _pieces(decoder: Any, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Decode in pieces, since a few bytes may stand for very many. An empty body has no gzip."""
    started = False
    for chunk in chunks:
        started = started or bool(chunk)
        rest, is_full = chunk, True
        while is_full:
            piece = decoder.decompress(rest, _PIECE)
            # One that is not full is the last one that this chunk has.
            rest, is_full = decoder.unconsumed_tail, len(piece) == _PIECE
            yield piece
        if decoder.unused_data:
            # The decoder would keep all of it.
            raise zlib.error("there is more behind the end")
    if started and not decoder.eof:
        raise zlib.error("the end is missing")
