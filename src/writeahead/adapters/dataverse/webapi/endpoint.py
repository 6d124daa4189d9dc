"""One request to one environment: with a token, below its limits, and with whatever goes wrong sorted.

It never retries, and lets no text of the remote's into an error. The one exception is 401: such a
request was surely not applied, so the token is renewed and the request sent once more ("Use OAuth
authentication with Microsoft Dataverse", learn.microsoft.com).
"""

import re
from collections.abc import Mapping
from http import HTTPStatus

import httpx

from writeahead.adapters.dataverse.webapi.credentials import TokenSource, token_of
from writeahead.adapters.dataverse.webapi.errors import (
    PermanentDataverseError,
    Precondition,
    TransientDataverseError,
    error_code,
    is_throttled,
    refusal,
)
from writeahead.adapters.dataverse.webapi.names import service_root
from writeahead.adapters.dataverse.webapi.paths import ResourcePath
from writeahead.adapters.dataverse.webapi.protection import MustWait, Protection, protection_of
from writeahead.adapters.http import Connections, applied_despite, retry_after_seconds
from writeahead.errors import Applied, NotReady

__all__ = ["DEFAULT_TIMEOUT", "Transport", "wait_asked"]

# Seconds. Reading is the server's time at work; a longer one ends as unknown, and the next attempt
# finds out.
DEFAULT_TIMEOUT = httpx.Timeout(connect=5.0, read=25.0, write=25.0, pool=5.0)

# Seconds, where the service limits us and does not say for how long. Our own choice; Dataverse does
# say.
_WAIT_UNTOLD = 5.0
_TOKEN = re.compile(r"[\x21-\x7e]+")
# "Compose HTTP requests and handle errors", learn.microsoft.com.
_HEADERS = {
    "Accept": "application/json",
    "OData-MaxVersion": "4.0",
    "OData-Version": "4.0",
    "User-Agent": "writeahead",
}


class Transport:
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
        self._protection = protection or protection_of(url)
        self._token = token_of(token, url)
        self._timeout = httpx.Timeout(timeout)
        # As many as there may be requests: whoever has a place must not wait for a connection.
        most = self._protection.limits.concurrent
        self._connections = Connections(self.root, self._timeout, most=most, transport=transport)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def shown(self, place: ResourcePath) -> str:
        """The path of a request as it may be named in a message."""
        return self.root.path + place.shown

    def send(
        self,
        method: str,
        place: ResourcePath,
        *,
        url: httpx.URL | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send a request in one attempt, and return the response if it is 2xx.

        Raises:
            TransientDataverseError, PermanentDataverseError: as `refusal`, or no whole response
                came.
            NotReady: The token is refused, or there is none.
        """
        response = self.exchange(method, place, url=url, headers=headers, params=params, content=content)
        if response.is_success:
            return response
        raise refusal(
            method,
            self.shown(place),
            response.status_code,
            response.content,
            retry_after=wait_asked(response.status_code, response.headers, response.content),
            precondition=next((sent for sent in Precondition if sent in (headers or {})), None),
        )

    def exchange(
        self,
        method: str,
        place: ResourcePath,
        *,
        url: httpx.URL | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """Send a request in one attempt, and return the response whatever its status, but for 401.

        Args:
            method: In capitals.
            place: Where to.
            url: Where to instead, for a link that the service gave.
            headers: In addition to those of every request.
            params: The query.
            content: The body.

        Raises:
            TransientDataverseError, PermanentDataverseError: No whole response came.
            NotReady: The token is refused, or there is none.
        """
        target = url or self.root.copy_with(raw_path=(self.root.path + place.path).encode())

        def attempt(token: str) -> httpx.Response:
            every = {**_HEADERS, **(headers or {}), "Authorization": f"Bearer {token}"}
            return self._exchange(method, place, target, headers=every, params=params, content=content)

        token = self.fresh_token()
        response = attempt(token)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            renewed = self.fresh_token(instead_of=token)
            if renewed != token:
                response = attempt(renewed)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise NotReady(
                f"{method} {self.shown(place)}: HTTP 401, the token is refused: check the credentials, and"
                " that the application is a user of this environment"
            )
        return response

    def fresh_token(self, instead_of: str | None = None) -> str:
        """Ask for a token, after discarding one that was refused.

        Raises:
            NotReady: There is none to be had.
            TransientDataverseError: The authority did not answer, or asked to come back later.
        """
        discard = getattr(self._token, "discard", None)
        if instead_of is not None and discard is not None:
            discard(instead_of)
        token = self._token()
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise NotReady("the token source gave no usable token: it must return a bearer token as a string")
        return token

    def _exchange(
        self,
        method: str,
        place: ResourcePath,
        url: httpx.URL,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None,
        content: bytes | None,
    ) -> httpx.Response:
        failure: Exception
        try:
            with self._protection.turn(self._timeout.pool):
                response = self._connections.exchange(
                    method, url, headers=headers, params=params, content=content
                )
                if not response.is_success:
                    # Before the place is given back, so that nobody sends in between.
                    self.heed(response.status_code, response.headers, response.content)
                return response
        except MustWait as waiting:
            failure = TransientDataverseError(
                method,
                self.shown(place),
                detail=f"not sent: {waiting.reason}",
                applied=Applied.NO,
                retry_after=waiting.seconds,
            )
        except httpx.LocalProtocolError:
            failure = PermanentDataverseError(method, self.shown(place), detail="not a valid request")
        except (httpx.HTTPError, httpx.StreamError) as error:
            applied = Applied.NO if method == "GET" else applied_despite(error)
            failure = TransientDataverseError(
                method, self.shown(place), detail=type(error).__name__, applied=applied
            )
        # Out of the except block, so that not even __context__ holds the request with its token.
        raise failure

    def heed(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Let nobody send while the service asks to wait."""
        if is_throttled(status, error_code(body)):
            self._protection.pause(wait_asked(status, headers, body) or 0.0)


def wait_asked(status: int, headers: Mapping[str, str], body: bytes) -> float | None:
    """Seconds that a response asks to wait, if it does."""
    wait = retry_after_seconds(headers)
    return _WAIT_UNTOLD if not wait and is_throttled(status, error_code(body)) else wait
