"""Logs of client libraries, silenced for our own requests: at DEBUG they hold the session token."""

import contextvars
import functools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

__all__ = ["quietly", "readable_on_the_way"]

_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "fsspec", "s3fs", "urllib3")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_ours: contextvars.ContextVar[bool] = contextvars.ContextVar("writeahead_store_request", default=False)


def _is_not_ours(_record: logging.LogRecord) -> bool:
    return not _ours.get()


@functools.lru_cache(maxsize=1)
def _add_filters(_count: int, _newest: str) -> None:
    """Let the client libraries' loggers heed `quietly`; done anew only when there are others."""
    # A filter counts for its own logger only, not for those below it.
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in _CLIENTS:
            logging.getLogger(name).addFilter(_is_not_ours)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence the client libraries within this block; logs of their other users stay."""
    token = _ours.set(True)
    try:
        loggers = logging.root.manager.loggerDict
        _add_filters(len(loggers), next(reversed(loggers), ""))
        yield
    finally:
        _ours.reset(token)


@functools.lru_cache
def readable_on_the_way(endpoint: str | None) -> str | None:
    """What to say of a server that is reached by plain http; None for TLS, and for this machine."""
    parts = urlsplit(endpoint or "")
    if parts.scheme != "http" or parts.hostname in _LOOPBACK:
        return None
    return "plain http to another host: what is stored can be read and changed on the way; use https"
