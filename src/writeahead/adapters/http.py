"""What any adapter over HTTP needs: connections, outcomes of requests, quiet logs."""

import contextlib
import contextvars
import logging
import os
import re
import urllib.request
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import httpx

from writeahead.adapters.bounded import BoundedTransport, network_transport
from writeahead.adapters.outcomes import (
    applied_despite,
    remote_errors,
    require_status,
    retry_after_seconds,
)
from writeahead.errors import InvalidInput

__all__ = [
    "BoundedTransport",
    "Connections",
    "applied_despite",
    "is_loopback",
    "network_transport",
    "quiet_logs",
    "remote_errors",
    "require_status",
    "retry_after_seconds",
    "secure_url",
]

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
        raise InvalidInput(f"{name} must have no user, query or fragment: leave that out")
    return url


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep client libraries from logging requests made inside: they log hosts and query strings.

    Requests that others make through the same library are logged as before.
    """
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


class Connections:
    """Connections to one host. Safe to share between threads, and opened again after a fork.

    No redirect is followed, nothing is retried, and nothing is logged. Every request ends at a
    deadline and every response at a size: see `BoundedTransport`.

    Args:
        root: The URL that all requests are below.
        timeout: For connecting, for writing, for each wait for data and for a free connection. A
            request takes no longer than the four together.
        most: How many connections there may be at once.
        auth: Signs the requests.
        transport: Replaces the network; for tests.
        wrap: Puts a transport of the adapter's own around the bounded one. It sees each request as
            it is sent, and each response whole.

    Raises:
        InvalidInput: The environment names a proxy that can't be used.
    """

    def __init__(
        self,
        root: httpx.URL,
        timeout: httpx.Timeout,
        *,
        most: int = 100,
        auth: httpx.Auth | None = None,
        transport: httpx.BaseTransport | None = None,
        wrap: Callable[[httpx.BaseTransport], httpx.BaseTransport] = lambda bounded: bounded,
    ) -> None:
        self._root = root
        self._timeout = timeout
        self._most = most
        self._auth = auth
        self._transport = transport
        self._wrap = wrap
        self._pool = self._open()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def close(self) -> None:
        """Close the connections. They must not be used after that."""
        with quiet_logs():
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
                its secrets, so turn them into an error of your own outside of the except block.
            Exception: What ``auth`` and the transport of ``wrap`` raise.
        """
        http = self._in_this_process().http
        with quiet_logs():
            return http.request(method, url, params=params, content=content, headers=headers)

    def _in_this_process(self) -> "_Pool":
        if self._pool.pid != os.getpid():
            self._pool = self._open(inherited=self._pool)
        return self._pool

    def _open(self, inherited: "_Pool | None" = None) -> "_Pool":
        http = httpx.Client(
            timeout=self._timeout,
            auth=self._auth,
            transport=self._wrap(BoundedTransport(self._transport or self._network())),
            follow_redirects=False,
            trust_env=False,
        )
        pool = _Pool(os.getpid(), http, inherited)
        weakref.finalize(self, pool.close_in_owner)
        return pool

    def _network(self) -> httpx.BaseTransport:
        try:
            return network_transport(
                # Reading the certificates takes longer than anything else here, and without TLS
                # they have no use.
                verify=self._root.scheme == "https",
                proxy=_proxy_of(self._root),
                most=self._most,
            )
        except (ImportError, ValueError):
            variables = "HTTPS_PROXY, HTTP_PROXY or ALL_PROXY"
        # Out of the except block: the URL may hold a password.
        raise InvalidInput(
            f"{variables} can't be used: give http:// or https://; for socks5://, install httpx[socks]"
        )


def _proxy_of(root: httpx.URL) -> str | None:
    """The proxy for a URL by HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY."""
    # A proxy between a machine and itself is never what was meant.
    if is_loopback(root.host) or urllib.request.proxy_bypass(root.host):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(root.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


@dataclass(frozen=True, slots=True)
class _Pool:
    """A pool of connections, and the process that they belong to.

    A pool inherited through a fork is kept, unused: closing it would write to the parent's
    connections.
    """

    pid: int
    http: httpx.Client
    inherited: "_Pool | None"

    def close_in_owner(self) -> None:
        # A finalizer: the garbage collector may run it while a context variable is being set, and
        # CPython up to 3.11 crashes if it sets one itself. So logs are not kept quiet here; they
        # say "close" and nothing else.
        if os.getpid() == self.pid:
            self.http.close()


_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("writeahead_quiet", default=False)


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _quiet.get()


for _name in _CLIENT_LOGGERS:
    logging.getLogger(_name).addFilter(_is_not_ours)
