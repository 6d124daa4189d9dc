"""Settings of every client of obstore: time limits, and no retries of its own."""

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

__all__ = ["NO_RETRIES", "client_options"]

# Seconds.
_CONNECT_TIMEOUT, _READ_TIMEOUT, _REQUEST_LIMIT = 5.0, 20.0, 60.0
NO_RETRIES: "RetryConfig" = {"max_retries": 0, "retry_timeout": timedelta(0)}


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
