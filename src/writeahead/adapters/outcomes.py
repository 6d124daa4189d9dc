"""What the outcome of an HTTP request means: whether it was applied, and whether to try again."""

import contextlib
import email.utils
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

import httpx

from writeahead.errors import (
    LONGEST_WAIT,
    AdapterError,
    Applied,
    NotReady,
    PermanentError,
    TransientError,
)

__all__ = ["applied_despite", "remote_errors", "require_status", "retry_after_seconds"]

_DELAY_SECONDS = re.compile(r"[0-9]+")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_CREDENTIALS_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)


@contextlib.contextmanager
def remote_errors(what: str) -> Iterator[None]:
    """Turn what httpx raises for one request into the error that says what happened.

    with remote_errors("PUT /rows"):
        reply = http.put(f"/rows/{operation.key}", json=payload.model_dump())
        require_status(reply, 201, 204)

    Statuses mean what RFC 9110, section 15, and RFC 6585 (429) say. A conflict looks different on
    each remote, so an adapter that can meet one looks at the status before it is required. All
    messages are made of ``what`` and of a status or a type's name.

    Args:
        what: The request in a few words, such as a method and a table: no host, key or payload.

    Raises:
        TransientError: No whole response came; the status is 408, 429 or 5xx, with the remote's
            ``Retry-After``; or it is none that refuses, so something else on the way has answered.
            Only without a connection, and by 429, the request surely was not applied.
        NotReady: The credentials were refused (401, 407).
        PermanentError: Any other 4xx, or a URL that is none.
    """
    raised = None
    try:
        yield
    except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
        raised = _meaning_of(error, what)
    if raised is None:
        return
    try:
        raise raised
    finally:
        # Inside of a with statement even an error raised here gets the first one as its context,
        # and that one holds the request, with its secrets.
        raised.__context__ = None


def require_status(response: httpx.Response, *expected: int) -> None:
    """Refuse a response whose status is none of those that the remote answers on success.

    A proxy or a login page on the way may answer 200 to anything, and nothing was written then.

    Raises:
        httpx.HTTPStatusError: It is another one. `remote_errors` says what that means.
    """
    if response.status_code not in expected:
        message = f"HTTP {response.status_code}"
        raise httpx.HTTPStatusError(message, request=response.request, response=response)


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """How many seconds a server asks to wait; None if it does not say, or makes no sense.

    Both forms of RFC 9110, section 10.2.3, are understood: a number of seconds, and a date in any
    of the three formats of section 5.6.7. A date is compared with the response's own Date header
    where there is one, so that our clock need not agree with the server's.

    Args:
        headers: Of the response; looked up as given, so pass a mapping that ignores case.
        now: Our time, timezone-aware, for a date without a Date header.
    """
    value = headers.get("retry-after", "").strip()
    if _DELAY_SECONDS.fullmatch(value):
        return LONGEST_WAIT if len(value) > 9 else min(float(value), LONGEST_WAIT)  # noqa: PLR2004
    until = _http_date(value)
    if until is None:
        return None
    since = _http_date(headers.get("date", "")) or now or datetime.now(UTC)
    return min(max(0.0, (until - since).total_seconds()), LONGEST_WAIT)


def applied_despite(error: httpx.HTTPError | httpx.StreamError) -> Applied:
    """Whether a request may have been applied although it ended in this error.

    It surely was not if no connection was made. After that, no one can tell.
    """
    return Applied.NO if isinstance(error, _NEVER_SENT) else Applied.UNKNOWN


def _meaning_of(error: Exception, what: str) -> AdapterError | NotReady:
    if isinstance(error, httpx.HTTPStatusError):
        return _meaning_of_status(error.response, f"{what}: HTTP {error.response.status_code}")
    message = f"{what}: {type(error).__name__}"
    if isinstance(error, (httpx.HTTPError, httpx.StreamError)):
        return TransientError(message, applied=applied_despite(error))
    return PermanentError(message)  # a URL that is none is found out before anything is sent


def _meaning_of_status(response: httpx.Response, message: str) -> AdapterError | NotReady:
    status, wait = response.status_code, retry_after_seconds(response.headers)
    if status in _CREDENTIALS_REFUSED:
        return NotReady(f"{message}: the credentials were refused")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return TransientError(message, applied=Applied.NO, retry_after=wait)
    if response.is_client_error and status != HTTPStatus.REQUEST_TIMEOUT:
        return PermanentError(message)
    return TransientError(message, applied=Applied.UNKNOWN, retry_after=wait)


def _http_date(value: str) -> datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    # The asctime form names no zone; an HTTP-date is always in UTC.
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
