"""The bearer token on each request, renewed once where it is refused.

A request that is answered by 401 surely had no effect, so it is sent again with a new token ("Use
OAuth authentication with Microsoft Dataverse", learn.microsoft.com; decision 6 in docs/decisions).
"""

import re
from collections.abc import Callable, Generator
from http import HTTPStatus

import httpx

from writeahead.errors import NotReady

__all__ = ["BearerAuth"]

_TOKEN = re.compile(r"[\x21-\x7e]+")


class BearerAuth(httpx.Auth):
    """Signs requests with a bearer token.

    Args:
        source: Returns a token. If it has a method ``discard(token)``, that is called with a token
            that was refused, before the next one is asked for.
    """

    def __init__(self, source: Callable[[], str]) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request with a token; after a 401 once again, if there is another token.

        Raises: as `token`.
        """
        token = self.token()
        response = yield _signed(request, token)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            renewed = self.token(instead_of=token)
            if renewed != token:
                yield _signed(request, renewed)

    def token(self, instead_of: str | None = None) -> str:
        """Ask for a token, after discarding one that was refused.

        Raises:
            NotReady: There is none.
            TransientDataverseError: The authority did not answer, or asked to come back later.
        """
        discard = getattr(self._source, "discard", None)
        if instead_of is not None and discard is not None:
            discard(instead_of)
        token = self._source()
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise NotReady("the token source gave no usable token: it must return a bearer token as a string")
        return token


def _signed(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request
