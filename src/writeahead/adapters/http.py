"""What any adapter over HTTP needs: how long to wait, what a failed request may have done, quiet logs."""

import contextlib
import contextvars
import email.utils
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import httpx

from writeahead.errors import Applied, InvalidInput

__all__ = ["applied_despite", "is_loopback", "quiet_logs", "retry_after_seconds", "secure_url"]

# A wait beyond this is no wait but a mistake, and it would overflow a date.
_LONGEST_WAIT = 366 * 24 * 3600.0
_DELAY_SECONDS = re.compile(r"[0-9]+")
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_LOOPBACK = re.compile(r"localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::1", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_CLIENT_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy")


def retry_after_seconds(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """How many seconds a server asks to wait; None if it does not say, or says nothing that makes sense.

    Both forms of RFC 9110, section 10.2.3, are understood: a number of seconds, and a date in any of the
    three formats of section 5.6.7. A date is compared with the response's own Date header where there is
    one, so that our clock need not agree with the server's.

    Args:
        headers: Of the response; looked up as given, so pass a mapping that ignores case.
        now: Our time, timezone-aware, for a date without a Date header.
    """
    value = headers.get("retry-after", "").strip()
    if _DELAY_SECONDS.fullmatch(value):
        return _LONGEST_WAIT if len(value) > 9 else min(float(value), _LONGEST_WAIT)  # noqa: PLR2004
    until = _http_date(value)
    if until is None:
        return None
    since = _http_date(headers.get("date", "")) or now or datetime.now(UTC)
    return min(max(0.0, (until - since).total_seconds()), _LONGEST_WAIT)


def applied_despite(error: httpx.HTTPError | httpx.StreamError) -> Applied:
    """Whether a request may have been applied although it ended in this error.

    It surely was not where no connection was had to send it on. Anything later may have come too late.
    """
    return Applied.NO if isinstance(error, _NEVER_SENT) else Applied.UNKNOWN


def is_loopback(host: str) -> bool:
    """Whether a host is this very machine, so that no TLS is needed on the way."""
    return _LOOPBACK.fullmatch(host) is not None


def secure_url(value: object, name: str) -> httpx.URL:
    """Read a URL that secrets may be sent to: https, or http to this machine.

    Args:
        value: As it was given.
        name: What it is called in settings.

    Raises:
        InvalidInput: It is none, or has a user, a query or a fragment. The message does not repeat it.
    """
    try:
        url = httpx.URL(value.strip()) if isinstance(value, str) else httpx.URL()
    except httpx.InvalidURL:
        url = httpx.URL()
    if not _HOST.fullmatch(url.raw_host):
        raise InvalidInput(f"{name} is not a URL such as https://host.example")
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.host)):
        raise InvalidInput(f"{name} must begin with https:// (http:// is for loopback hosts only)")
    if url.userinfo or url.query or url.fragment:
        raise InvalidInput(f"{name} must have no user, query or fragment")
    return url


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep the client library from logging the requests made inside: it logs hosts and query strings.

    Requests that others make through the same library are logged as before.
    """
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def _http_date(value: str) -> datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    # The asctime form names no zone; an HTTP-date is always in UTC.
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


_quiet: contextvars.ContextVar[bool] = contextvars.ContextVar("writeahead_quiet", default=False)


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _quiet.get()


for _name in _CLIENT_LOGGERS:
    logging.getLogger(_name).addFilter(_is_not_ours)
