"""What any adapter over HTTP needs: how long to wait, what a failed request may have done, quiet logs."""

import contextlib
import contextvars
import email.utils
import logging
import os
import re
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from writeahead.errors import Applied, InvalidInput

__all__ = ["Connections", "applied_despite", "is_loopback", "quiet_logs", "retry_after_seconds", "secure_url"]

# A wait beyond this is no wait but a mistake, and it would overflow a date.
_LONGEST_WAIT = 366 * 24 * 3600.0
_DELAY_SECONDS = re.compile(r"[0-9]+")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_LOOPBACK = re.compile(r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
# What writes hosts and paths, with tenants in them, of the clients used here and of those in
# credentials.
_CLIENT_LOGGERS = (
    "httpx",
    *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy")),
    *(f"azure.core.pipeline.policies.{part}" for part in ("http_logging_policy", "_universal", "_retry")),
    "urllib3.connectionpool",
    *(
        f"msal.{part}"
        for part in ("authority", "application", "token_cache", "oauth2cli.oauth2", "telemetry")
    ),
)


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """How many seconds a server asks to wait; None if it does not say, or says nothing that makes sense.

    Both forms of RFC 9110, section 10.2.3, are understood: a number of seconds, and a date in any
    of the three formats of section 5.6.7. A date is compared with the response's own Date header
    where there is one, so that our clock need not agree with the server's.

    Args:
        headers: Of the response; looked up as given, so pass a mapping that ignores case.
        now: Our time, timezone-aware, for a date without a Date header.
    """
    value = headers.get("retry-after", "").strip()
    if _DELAY_SECONDS.fullmatch(value):
        return _LONGEST_WAIT if len(value) > 9 else min(float(value), _LONGEST_WAIT)  # noqa: PLR2004
    until = _http_date(value)
    if until is None:
        return None
    since = _http_date(headers.get("date", "")) or now or datetime.now(UTC)
    return min(max(0.0, (until - since).total_seconds()), _LONGEST_WAIT)


def applied_despite(error: httpx.HTTPError | httpx.StreamError) -> Applied:
    """Whether a request may have been applied although it ended in this error.

    It surely was not where no connection was had to send it on. Anything later may have come too
    late.
    """
    return Applied.NO if isinstance(error, _NEVER_SENT) else Applied.UNKNOWN


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine, so that no TLS is needed on the way."""
    return _LOOPBACK.fullmatch(host) is not None


def secure_url(value: object, name: str) -> httpx.URL:
    """Read a URL that secrets may be sent to: https, or http to this machine.

    Args:
        value: As it was given.
        name: What it is called in settings.

    Raises:
        InvalidInput: It is none, or has a user, a query or a fragment. The message does not repeat
            it.
    """
    try:
        url = httpx.URL(value.strip()) if isinstance(value, str) else httpx.URL()
    except httpx.InvalidURL:
        url = httpx.URL()
    if not _HOST.fullmatch(url.raw_host):
        raise InvalidInput(f"{name} is not a URL such as https://host.example")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.host)):
        raise InvalidInput(f"{name} must begin with https:// (http:// is for loopback hosts only)")
    if url.userinfo or url.query or url.fragment:
        raise InvalidInput(f"{name} must have no user, query or fragment")
    return url


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep the client library from logging the requests made inside: it logs hosts and query strings.

    Requests that others make through the same library are logged as before.
    """
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


class Connections:
    """Connections to one host: safe to share between threads, and made anew after a fork.

    No redirect is followed, nothing is sent twice, and nothing is logged.

    Args:
        root: The URL that all requests are below.
        timeout: For connecting, for writing and for each wait for data. A whole response is given
            no longer than the wait for data once more.
        most: How many connections there may be at once.
        transport: Replaces the network; for tests.
    """

    def __init__(
        self,
        root: httpx.URL,
        timeout: httpx.Timeout,
        *,
        most: int = 100,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._root = root
        self._timeout = timeout
        self._limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
        self._transport = transport
        self._pool = self._open()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def close(self) -> None:
        """Close the connections. They must not be used after that."""
        self._pool.http.close()

    def exchange(
        self,
        method: str,
        url: httpx.URL,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send a request, and return the response, read whole.

        Raises:
            httpx.HTTPError, httpx.StreamError: No whole response came. They hold the request with
            its
                secrets, so turn them into an error of your own outside of the except block.
        """
        http = self._in_this_process().http
        with quiet_logs():
            request = http.build_request(method, url, params=params, content=content, headers=headers)
            return self._read(http.send(request, stream=True), request)

    def _read(self, response: httpx.Response, request: httpx.Request) -> httpx.Response:
        limit = self._timeout.read
        deadline = None if limit is None else time.monotonic() + limit
        try:
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if deadline is not None and time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the response took too long", request=request)
        finally:
            response.close()
        headers = httpx.Headers(
            [
                (name, value)
                for name, value in response.headers.multi_items()
                if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
            ]
        )
        return httpx.Response(response.status_code, headers=headers, content=bytes(content))

    def _in_this_process(self) -> "_Pool":
        if self._pool.pid != os.getpid():
            self._pool = self._open(inherited=self._pool)
        return self._pool

    def _open(self, inherited: "_Pool | None" = None) -> "_Pool":
        http = httpx.Client(
            timeout=self._timeout,
            limits=self._limits,
            transport=self._transport,
            follow_redirects=False,
            # Reading the certificates takes longer than anything else here, and without TLS they
            # have no use.
            verify=self._root.scheme == "https" and self._transport is None,
            # Nobody means a proxy between a machine and itself.
            trust_env=not is_loopback(self._root.host),
        )
        pool = _Pool(os.getpid(), http, inherited)
        weakref.finalize(self, pool.close_in_owner)
        return pool


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool of connections, and the process that they belong to.

    What was inherited through a fork is kept, unused: closing it would speak on the parent's
        connections.
    """

    pid: int
    http: httpx.Client
    inherited: "_Pool | None"

    def close_in_owner(self) -> None:
        if os.getpid() == self.pid:
            self.http.close()


def _http_date(value: str) -> datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    # The asctime form names no zone; an HTTP-date is always in UTC.
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("writeahead_quiet", default=False)


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _quiet.get()


for _name in _CLIENT_LOGGERS:
    logging.getLogger(_name).addFilter(_is_not_ours)
