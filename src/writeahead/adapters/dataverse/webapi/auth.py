"""Bearer tokens from Microsoft Entra ID by the client credentials flow.

Sources: learn.microsoft.com, "Microsoft identity platform and the OAuth 2.0 client credentials
flow" (endpoint, parameters, ``expires_in`` in seconds) and "Use OAuth authentication with Microsoft
Dataverse" (the scope is the environment's URL followed by ``/.default``); RFC 6749, sections 4.4
and 5.2 (flow and error values).
"""

import re
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from writeahead.adapters.dataverse.webapi.endpoint import DEFAULT_TIMEOUT
from writeahead.adapters.dataverse.webapi.errors import TransientDataverseError
from writeahead.adapters.dataverse.webapi.names import service_root
from writeahead.adapters.dataverse.webapi.tokens import CachedTokenSource, IssuedToken, may_pass
from writeahead.adapters.dataverse.webapi.traces import sign_in_ids
from writeahead.adapters.http import Connections, retry_after_seconds, secure_url
from writeahead.errors import Applied, InvalidInput, NotReady

__all__ = ["DEFAULT_AUTHORITY", "ClientCredentials"]

DEFAULT_AUTHORITY = "https://login.microsoftonline.com"

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}")
# RFC 6749, section 5.2, and what Entra adds. Other texts of the remote's are not repeated.
# What to look at, by the number of the error. A hint for people: the numbers may change, says the
# page "Microsoft Entra authentication and authorization error codes".
_ADVICE = {
    90002: "the tenant is not found: check DATAVERSE_TENANT_ID",
    700016: "the tenant has no such application: check DATAVERSE_CLIENT_ID and DATAVERSE_TENANT_ID",
    7000215: "the secret is wrong: check DATAVERSE_CLIENT_SECRET, which is the secret's value and not its id",
    7000222: "the secret has expired: make another one, and put it in DATAVERSE_CLIENT_SECRET",
}
_ANY_ADVICE = "check DATAVERSE_TENANT_ID, DATAVERSE_CLIENT_ID and DATAVERSE_CLIENT_SECRET"
_KNOWN_ERRORS = {
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_resource",
}
_HEADERS = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
_TOKEN_PATH = "/oauth2/v2.0/token"  # noqa: S105 - a path, not a token


class ClientCredentials(CachedTokenSource):
    """A source of tokens for one environment: call it. Safe to share by threads, and after a fork.

    Args:
        url: The environment that the token is for.
        tenant_id: The Entra tenant: its GUID or a domain.
        client_id: The registered application.
        client_secret: Its secret; kept out of every representation.
        authority: Where tokens are issued; a national cloud's, or a simulator's.
        timeout: Seconds, as for `DataverseClient`.
        transport: Replaces the network; for tests.
        monotonic: Seconds on a clock that is never set; for tests.

    Raises:
        InvalidInput: The authority, the URL or the tenant can't be used.
    """

    def __init__(
        self,
        *,
        url: str,
        tenant_id: str,
        client_id: str,
        client_secret: SecretStr | str,
        authority: str = DEFAULT_AUTHORITY,
        timeout: float | httpx.Timeout = DEFAULT_TIMEOUT,
        transport: httpx.BaseTransport | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(monotonic)
        if not _TENANT.fullmatch(tenant_id):
            raise InvalidInput("DATAVERSE_TENANT_ID must be the tenant's GUID or domain")
        root = service_root(url)
        self._scope = str(root.copy_with(path="/.default"))
        self._endpoint = _authority(authority).copy_with(path=f"/{tenant_id}{_TOKEN_PATH}")
        self._client_id = client_id
        self._account = (tenant_id.lower(), client_id.lower())
        self._secret = client_secret if isinstance(client_secret, SecretStr) else SecretStr(client_secret)
        self._timeout = httpx.Timeout(timeout)
        self._transport = transport

    @property
    def account(self) -> tuple[str, str]:
        """Whose tokens these are: the tenant and the application, in lower case."""
        return self._account

    def _issue(self) -> IssuedToken:
        status, content, wait = self._request()
        token, lifetime = content.get("access_token"), _seconds(content.get("expires_in"))
        if status == HTTPStatus.OK and isinstance(token, str) and lifetime is not None:
            return IssuedToken(SecretStr(token), lifetime)
        raise _failure(status, content, wait)

    def _request(self) -> tuple[int, Mapping[str, Any], float | None]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret.get_secret_value(),
            "scope": self._scope,
        }
        # Once an hour: a connection of its own costs less than keeping one over a fork.
        connections = Connections(self._endpoint, self._timeout, most=1, transport=self._transport)
        failure = ""
        try:
            response = connections.exchange(
                "POST", self._endpoint, headers=_HEADERS, content=urlencode(form).encode()
            )
        except (httpx.HTTPError, httpx.StreamError) as error:
            failure = type(error).__name__
        finally:
            connections.close()
        if failure:
            # Out of the except block, so that not even __context__ holds the request with its
            # secret.
            raise TransientDataverseError("POST", _TOKEN_PATH, detail=failure, applied=Applied.NO)
        wait = retry_after_seconds(response.headers)
        return response.status_code, _json_object(response), wait


def _json_object(response: httpx.Response) -> Mapping[str, Any]:
    try:
        content = response.json()
    except ValueError:
        return {}
    return content if isinstance(content, Mapping) else {}


def _failure(
    status: int, content: Mapping[str, Any], wait: float | None
) -> NotReady | TransientDataverseError:
    codes = content.get("error_codes")
    numbers = [code for code in codes if type(code) is int] if isinstance(codes, list) else []
    passing = status in {
        HTTPStatus.OK,  # without a token that can be read
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
    if passing or status >= HTTPStatus.INTERNAL_SERVER_ERROR or may_pass(content.get("error"), numbers):
        detail = ", ".join(["no token", *sign_in_ids(content)])
        return TransientDataverseError(
            "POST", _TOKEN_PATH, status, detail=detail, applied=Applied.NO, retry_after=wait
        )
    said = [f"HTTP {status}"]
    said += [error for error in _KNOWN_ERRORS if error == content.get("error")]
    # Numbers only: they are documented ("Microsoft Entra authentication and authorization error
    # codes").
    said += [f"AADSTS{number}" for number in numbers]
    said += sign_in_ids(content)
    advice = next((_ADVICE[number] for number in numbers if number in _ADVICE), _ANY_ADVICE)
    return NotReady(f"no token for Dataverse ({', '.join(said)}): {advice}")


def _seconds(value: object) -> float | None:
    try:
        seconds = float(value) if isinstance(value, int | float | str) else 0.0
    except ValueError:
        return None
    return seconds if 0 < seconds < float("inf") else None


def _authority(value: str) -> httpx.URL:
    authority = secure_url(value, "DATAVERSE_AUTHORITY")
    if authority.path not in {"", "/"}:
        raise InvalidInput("DATAVERSE_AUTHORITY must name the host only: leave the path out")
    return authority
