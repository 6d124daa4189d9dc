"""The transport that keeps requests below the limits of their environment."""

import math

import httpx

from writeahead.adapters.dataverse.webapi.protection import Protection
from writeahead.adapters.limits import current_limits

__all__ = ["ServiceLimitsTransport"]


class ServiceLimitsTransport(httpx.BaseTransport):
    """Sends requests below the limits of their environment.

    A request waits for a slot as long as httpx lets it wait for a connection.

    Args:
        inner: Sends the requests, and reads responses whole, since a slot is free after that.
        protection: Of the environment.

    Raises (by `handle_request`):
        RateLimited: The service asked to wait, or no slot became free in time. Nothing was sent.
    """

    def __init__(self, inner: httpx.BaseTransport, protection: Protection) -> None:
        self._inner = inner
        self._protection = protection

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises: see the class."""
        with self._protection.slot(_slot_timeout(request)):
            response = self._inner.handle_request(request)
            if not response.is_success:
                # Before the slot is free again, so that no request is sent in between.
                self._protection.observe(response.status_code, response.headers, response.content)
            return response

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def _slot_timeout(request: httpx.Request) -> float | None:
    """As long as the request may wait for a connection, and no longer than the run lasts."""
    timeout = request.extensions.get("timeout", {}).get("pool")
    left = max(0.0, current_limits().time_left())
    longest = left if timeout is None else min(timeout, left)
    return None if longest == math.inf else longest
