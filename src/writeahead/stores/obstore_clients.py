"""Settings of every obstore client: time limits, no retries of its own, and no redirects."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

__all__ = ["NOWHERE", "NO_RETRIES", "Connection", "client_options", "only_to"]

# Seconds.
_CONNECT_TIMEOUT, _READ_TIMEOUT, _REQUEST_LIMIT = 5.0, 20.0, 60.0
NO_RETRIES: "RetryConfig" = {"max_retries": 0, "retry_timeout": timedelta(0)}
# No server can listen on port 0.
NOWHERE = "127.0.0.1:0"


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Connection:
    """One of obstore's clients, and the credentials that it uses.

    Attributes:
        client: The client.
        endpoint: The URL of the server; None for the service's own.
        credentials: Tells the credentials of this moment, in any form that can be compared. It is
            asked before each request, and raises `RequestFailed` if there are none.
    """

    client: "ObjectStore"
    endpoint: str | None = None
    credentials: Callable[[], Hashable] = _nothing


def client_options(
    endpoint: str | None, connect_timeout: float = _CONNECT_TIMEOUT, read_timeout: float = _READ_TIMEOUT
) -> "ClientConfig":
    """The client's options for a server: its URL, and time limits in seconds."""
    return {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "connect_timeout": timedelta(seconds=connect_timeout),
        "read_timeout": timedelta(seconds=read_timeout),
        "timeout": timedelta(seconds=max(_REQUEST_LIMIT, read_timeout)),
    }


def only_to(url: str, *hosts: str) -> "ClientConfig":
    """Options that keep a client from any other host.

    obstore follows redirects, with the session token, and has no option against it. So a request to
    another host is sent to a proxy that does not exist. A redirect to another port of the same host
    is still followed. Where the environment names a proxy for the server, that proxy is used, and
    nothing keeps redirects from passing it.

    Args:
        url: The server's.
        hosts: Others that the client needs.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies_environment()
    if {parts.scheme, "all"} & proxies.keys() and not proxy_bypass_environment(host, proxies):
        return {}
    return {"proxy_url": f"http://{NOWHERE}", "proxy_excludes": ",".join((host, *hosts))}
