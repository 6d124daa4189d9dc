"""The Web API of one environment: sends one request, and turns each failure into an error of ours.

No text of the remote's goes into an error, unless it is asked for. Nothing is retried here;
`bearer` has the one exception.
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
    is_later,
    refusal,
)
from writeahead.adapters.dataverse.webapi.limited import ServiceLimitsTransport
from writeahead.adapters.dataverse.webapi.names import service_root
from writeahead.adapters.dataverse.webapi.paths import ResourcePath, query_string
from writeahead.adapters.dataverse.webapi.protection import (
    Protection,
    RateLimited,
    protection_of,
    requested_wait,
)
from writeahead.adapters.dataverse.webapi.traces import (
    CLIENT_REQUEST_ID,
    Trace,
    new_client_request_id,
    request_id_in,
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
        service_text: bool = False,
    ) -> None:
        self._service_text = service_text
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
        precondition = next((sent for sent in Precondition if sent in (headers or {})), None)
        answer = (response.status_code, response.headers, response.content)
        raise self.refusal(method, resource, answer, precondition, self.trace(response))

    def refusal(
        self,
        method: str,
        resource: ResourcePath,
        answer: tuple[int, Mapping[str, str], bytes],
        precondition: Precondition | None,
        trace: Trace,
    ) -> TransientDataverseError | PermanentDataverseError:
        """Make the error of an answer that is no success: of a response, or of a part of one.

        Args:
            method: Of the request.
            resource: Where it went.
            answer: Its status, headers and body.
            precondition: The condition of the request on its row.
            trace: What finds the request in the service's logs.
        """
        status, _, body = answer
        return refusal(
            method,
            self.shown(resource),
            status,
            body,
            retry_after=requested_wait(*answer),
            precondition=precondition,
            trace=trace,
            service_text=self._service_text,
        )

    def trace(self, response: httpx.Response) -> Trace:
        """What finds the request of a response in the service's logs."""
        sent = response.request.headers.get(CLIENT_REQUEST_ID, "")
        return Trace(request_id_in(response.headers), sent)

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
            params: The query, not encoded; without ``url``.
            content: The body.

        Raises:
            TransientDataverseError, PermanentDataverseError: No whole response came.
            NotReady: The token is refused, or there is none.
        """
        path = self.root.path + resource.path + (f"?{query_string(params)}" if params else "")
        target = url or self.root.copy_with(raw_path=path.encode())
        sent = Trace(client_request_id=new_client_request_id())
        named = {**_HEADERS, CLIENT_REQUEST_ID: sent.client_request_id, **(headers or {})}
        failure: Exception
        try:
            response = self._connections.exchange(method, target, headers=named, content=content)
        except RateLimited as limited:
            failure = TransientDataverseError(
                method,
                self.shown(resource),
                detail=f"not sent: {limited.reason}",
                applied=Applied.NO,
                retry_after=limited.seconds,
                # Each session that waits for our own count waits by itself: it has another place.
                for_target=limited.by_service,
            )
        except httpx.LocalProtocolError:
            failure = PermanentDataverseError(method, self.shown(resource), detail="not a valid request")
        except (httpx.HTTPError, httpx.StreamError) as error:
            applied = Applied.NO if method == "GET" else applied_despite(error)
            failure = TransientDataverseError(
                method, self.shown(resource), detail=type(error).__name__, applied=applied, trace=sent
            )
        else:
            if response.status_code != HTTPStatus.UNAUTHORIZED or is_later(response.content):
                return response
            ids = "".join(f" ({shown})" for shown in self.trace(response).shown())
            failure = NotReady(
                f"{method} {self.shown(resource)}: HTTP 401, the token is refused{ids}: check the"
                " credentials, and that the application is a user of this environment"
            )
        # Out of the except block, so that not even __context__ holds the request with its token.
        raise failure
