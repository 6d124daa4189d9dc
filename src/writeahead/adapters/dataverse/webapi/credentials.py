"""Bearer tokens from any credential of the Azure SDK, without an import of azure-core.

Sources: "azure.core.credentials" (``TokenCredential.get_token``,
``SupportsTokenInfo.get_token_info``; times are Unix times) and "azure.core.exceptions"
(``ClientAuthenticationError``, ``HttpResponseError.status_code``) in the Azure SDK for Python; "Use
OAuth authentication with Microsoft Dataverse", learn.microsoft.com (the scope is the environment's
URL followed by ``/.default``).
"""

import inspect
import re
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias, runtime_checkable

from pydantic import SecretStr

from writeahead.adapters.dataverse.webapi.errors import TransientDataverseError
from writeahead.adapters.dataverse.webapi.names import service_root
from writeahead.adapters.dataverse.webapi.tokens import CachedTokenSource, IssuedToken, may_pass
from writeahead.adapters.dataverse.webapi.traces import sign_in_ids_in
from writeahead.adapters.http import quiet_logs, retry_after_seconds
from writeahead.errors import Applied, NotReady

__all__ = ["CredentialToken", "GetToken", "GetTokenInfo", "TokenSource", "token_of"]

# A credential keeps its tokens, and knows better when to renew them: it is asked again after so
# many seconds.
_ASK_AFTER = 300.0
_REFUSED = {"ClientAuthenticationError", "CredentialUnavailableError"}
_PATH = "/get_token"
_AADSTS = re.compile(r"AADSTS([0-9]{5,9})\b", re.ASCII)


@runtime_checkable
class GetToken(Protocol):
    """A credential, such as azure-identity's: ``azure.core.credentials.TokenCredential``."""

    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        """Return an object with ``token`` and ``expires_on``."""


@runtime_checkable
class GetTokenInfo(Protocol):
    """A credential that says more of its tokens: ``azure.core.credentials.SupportsTokenInfo``."""

    def get_token_info(self, *scopes: str, **kwargs: Any) -> Any:
        """Return an object with ``token``, ``expires_on``, and perhaps ``refresh_on``."""


TokenSource: TypeAlias = Callable[[], str] | GetToken | GetTokenInfo


def token_of(source: TokenSource, url: str) -> Callable[[], str]:
    """Make a source of tokens out of a credential; a function that returns tokens is one already.

    Args:
        source: The credential, or the function.
        url: The environment that the tokens are for.

    Raises:
        InvalidInput: The URL can't be used.
    """
    if isinstance(source, GetToken | GetTokenInfo):
        return CredentialToken(source, url)
    return source


class CredentialToken(CachedTokenSource):
    """A source of tokens for one environment: call it. Safe to share if the credential is.

    When a token ends is a Unix time. It is taken for what this machine's clock will show then. That
    is right for credentials that add a token's life to that very clock, as azure-identity's do, and
    wrong by the clock's error for those that pass on what the authority says. So no more is made of
    it than whether to ask
    again: that is done after 5 minutes at the latest, and for each request where the token looks
    expired. If a token has expired after all, the environment answers 401, and a new one is asked
    for.

    Args:
        credential: Keeps its own tokens; it is asked without claims and tenant.
        url: The environment.
        monotonic: Seconds on a clock that is never set; for tests.
        wall: Unix time; for tests.

    Raises:
        InvalidInput: The URL can't be used.
    """

    def __init__(
        self,
        credential: GetToken | GetTokenInfo,
        url: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(monotonic)
        self._credential = credential
        self._wall = wall
        self._scope = str(service_root(url).copy_with(path="/.default"))

    def _issue(self) -> IssuedToken:
        issued: Any = None
        failure: Exception | None = None
        try:
            with quiet_logs():
                issued = self._ask()
        except Exception as error:  # noqa: BLE001 - whatever a credential raises may hold secrets
            failure = _failure(error)
        if failure is not None:
            # Out of the except block, so that __context__ does not hold what the credential said.
            raise failure
        token, ends = getattr(issued, "token", None), getattr(issued, "expires_on", None)
        if not isinstance(token, str) or isinstance(ends, bool) or not isinstance(ends, int | float):
            if inspect.iscoroutine(issued):
                issued.close()
            raise NotReady(
                "the credential gave no usable token: it must be a synchronous one, whose tokens have"
                " token and expires_on"
            )
        now = self._wall()
        refresh = getattr(issued, "refresh_on", None)
        soon = refresh - now if type(refresh) is int else _ASK_AFTER
        return IssuedToken(SecretStr(token), max(0.0, ends - now), max(0.0, min(soon, _ASK_AFTER)))

    def _ask(self) -> Any:
        if isinstance(self._credential, GetTokenInfo):
            return self._credential.get_token_info(self._scope)
        return self._credential.get_token(self._scope)


def _failure(error: Exception) -> NotReady | TransientDataverseError:
    """Sort what a credential raised, by its kind and status; of its text the ids are repeated."""
    kind, text = type(error).__name__, _text(error)
    ids = sign_in_ids_in(text)
    status = getattr(error, "status_code", None)
    status = status if type(status) is int else None
    passing = status is not None and (
        status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
    )
    # Entra's numbers are all that is looked for in the text.
    passing = passing or may_pass(None, map(int, _AADSTS.findall(text)))
    refused = any(base.__name__ in _REFUSED for base in type(error).__mro__)
    if not passing and (refused or (status is not None and status >= HTTPStatus.BAD_REQUEST)):
        said = ", ".join([kind, *([f"HTTP {status}"] if status is not None else []), *ids])
        return NotReady(f"the credential gives no token for Dataverse ({said}): check its configuration")
    detail = ", ".join([f"no token: {kind}", *ids])
    return TransientDataverseError(
        "GET", _PATH, status, detail=detail, applied=Applied.NO, retry_after=_wait(error)
    )


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a class that is not ours
        return ""


def _wait(error: Exception) -> float | None:
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    try:
        return retry_after_seconds({str(name).lower(): str(headers[name]) for name in headers})
    except TypeError:
        return None
