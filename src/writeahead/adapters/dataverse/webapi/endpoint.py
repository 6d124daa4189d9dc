"""The Web API of one environment: sends one request, and turns each failure into an error of ours.

No text of the remote's goes into an error. Nothing is retried here; `bearer` has the one exception.
"""

from collections.abc import Mapping
from http import HTTPStatus

import httpx

from writeahead.adapters.dataverse.webapi.bearer import BearerAuth
from writeahead.adapters.dataverse.webapi.credentials import TokenSource, token_of
from writeahead.adapters.dataverse.webapi.errors import (
    PermanentDataverseError,
    Precondition,
    TransientDataverseError,
    refusal,
)
from writeahead.adapters.dataverse.webapi.names import service_root
from writeahead.adapters.dataverse.webapi.paths import ResourcePath
from writeahead.adapters.dataverse.webapi.protection import (
    Protection,
    RateLimited,
    ServiceLimitsTransport,
    protection_of,
    requested_wait,
)
from writeahead.adapters.http import Connections, applied_despite
from writeahead.errors import Applied, NotReady

__all__ = ["DEFAULT_TIMEOUT", "Endpoint"]

# Seconds. Reading is the server's time at work; a longer one ends as unknown, and the next attempt
# finds out.
DEFAULT_TIMEOUT = httpx.Timeout(connect=5.0, read=25.0, write=25.0, pool=5.0)

# "Compose HTTP requests and handle errors", learn.microsoft.com.
_HEADERS = {
    "Accept": "application/json",
    "OData-MaxVersion": "4.0",
    "OData-Version": "4.0",
    "User-Agent": "writeahead",
}


class Endpoint:
    """Sends requests below a service root. Args and raises: as `DataverseClient`."""

    def __init__(
        self,
        url: str,
        token: TokenSource,
        *,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        protection: Protection | None = None,
    ) -> None:
        self.root = service_root(url)
        self.protection = protection or protection_of(url)
        self.auth = BearerAuth(token_of(token, url))
        self._connections = Connections(
            self.root,
            httpx.Timeout(timeout),
            # As many as there may be requests: one that has a slot must not wait for a connection.
            most=self.protection.limits.concurrent,
            auth=self.auth,
            transport=transport,
            wrap=lambda bounded: ServiceLimitsTransport(bounded, self.protection),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def shown(self, resource: ResourcePath) -> str:
        """The path of a request as it may be named in a message."""
        return self.root.path + resource.shown

    def send(
        self,
        method: str,
        resource: ResourcePath,
        *,
        url: httpx.URL | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send a request in one attempt, and return the response if it is 2xx.

        Args: as `exchange`.

        Raises:
            TransientDataverseError, PermanentDataverseError: as `refusal`, or no whole response
                came.
            NotReady: The token is refused, or there is none.
        """
        response = self.exchange(method, resource, url=url, headers=headers, params=params, content=content)
        if response.is_success:
            return response
        raise refusal(
            method,
            self.shown(resource),
            response.status_code,
            response.content,
            retry_after=requested_wait(response.status_code, response.headers, response.content),
            precondition=next((sent for sent in Precondition if sent in (headers or {})), None),
        )

    def exchange(
        self,
        method: str,
        resource: ResourcePath,
        *,
        url: httpx.URL | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send a request in one attempt, and return the response whatever its status, but for 401.

        Args:
            method: In capitals.
            resource: Where to.
            url: Where to instead, for a link that the service gave.
            headers: In addition to those of every request.
            params: The query.
            content: The body.

        Raises:
            TransientDataverseError, PermanentDataverseError: No whole response came.
            NotReady: The token is refused, or there is none.
        """
        target = url or self.root.copy_with(raw_path=(self.root.path + resource.path).encode())
        failure: Exception
        try:
            response = self._connections.exchange(
                method, target, headers={**_HEADERS, **(headers or {})}, params=params, content=content
            )
        except RateLimited as limited:
            failure = TransientDataverseError(
                method,
                self.shown(resource),
                detail=f"not sent: {limited.reason}",
                applied=Applied.NO,
                retry_after=limited.seconds,
            )
        except httpx.LocalProtocolError:
            failure = PermanentDataverseError(method, self.shown(resource), detail="not a valid request")
        except (httpx.HTTPError, httpx.StreamError) as error:
            applied = Applied.NO if method == "GET" else applied_despite(error)
            failure = TransientDataverseError(
                method, self.shown(resource), detail=type(error).__name__, applied=applied
            )
        else:
            if response.status_code != HTTPStatus.UNAUTHORIZED:
                return response
            failure = NotReady(
                f"{method} {self.shown(resource)}: HTTP 401, the token is refused: check the credentials, and"
                " that the application is a user of this environment"
            )
        # Out of the except block, so that not even __context__ holds the request with its token.
        raise failure
