"""Sources of bearer tokens that keep a token for as long as it is valid.

A token's life is counted on the monotonic clock, from just before it was asked for, so that no
change of the wall clock matters and the time of the request is counted.
"""

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from pydantic import SecretStr

from writeahead.errors import TransientError

__all__ = ["CachedTokenSource", "IssuedToken", "may_pass"]

# "Microsoft Entra authentication and authorization error codes", learn.microsoft.com: what its
# table calls temporary, transient, retryable, unreachable or a time-out, and a throttled tenant.
_PASSING_CODES = {90006, 90012, 90024, 90033, 90055, 90090, 90091}

# A token is renewed this many seconds before it ends, or after 9 tenths of its life if that is
# later.
_MARGIN = 300.0
_MARGIN_SHARE = 0.1
# Seconds until the next try, where an authority is in trouble and there is a token left.
_PAUSE = 10.0


def may_pass(error: object, codes: Iterable[int]) -> bool:
    """Whether Entra's refusal of a token is for now only, whatever its HTTP status.

    Args:
        error: The ``error`` of its answer: ``temporarily_unavailable`` says so, by the same page.
        codes: The numbers of its ``AADSTS`` codes. The page warns that they change; so they make a
            refusal one that may pass, and never the other way round.
    """
    return error == "temporarily_unavailable" or not _PASSING_CODES.isdisjoint(codes)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that has just been issued.

    Attributes:
        token: For the ``Authorization`` header.
        lifetime: Seconds that it is valid, from when it was asked for.
        ask_after: Seconds after which it is worth asking again; None leaves it to the margin.
    """

    token: SecretStr
    lifetime: float
    ask_after: float | None = None


@dataclass(slots=True)
class _Cache:
    """The newest token of one process; in a fork the lock could be held for ever."""

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: SecretStr | None = None
    renew_at: float = 0.0
    ends_at: float = 0.0


class CachedTokenSource(ABC):
    """A source of tokens: call it. Safe to share between threads, and after a fork.

    Args:
        monotonic: Seconds on a clock that is never set.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._cached = _Cache()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and can't be pickled: make it where it is used")

    def __call__(self) -> str:
        """Return a token that is valid for some time yet.

        Raises:
            NotReady: The credentials are refused.
            TransientDataverseError: The authority did not answer, or asked to come back later.
        """
        cache = self._cache()
        with cache.lock:
            if cache.token is None or self._monotonic() >= cache.renew_at:
                self._renew(cache)
            assert cache.token is not None
            return cache.token.get_secret_value()

    def discard(self, token: str) -> None:
        """Forget a token that was refused, unless another thread has had it replaced already."""
        cache = self._cache()
        with cache.lock:
            if cache.token is not None and cache.token.get_secret_value() == token:
                cache.token = None

    @abstractmethod
    def _issue(self) -> IssuedToken:
        """Have a token issued. Raises: as `__call__`."""

    def _renew(self, cache: _Cache) -> None:
        asked_at = self._monotonic()
        try:
            issued = self._issue()
        except TransientError:
            # The current token is still valid for the margin.
            now = self._monotonic()
            if cache.token is None or now >= cache.ends_at:
                raise
            cache.renew_at = min(now + _PAUSE, cache.ends_at)
            return
        cache.token = issued.token
        cache.ends_at = asked_at + issued.lifetime
        margin = min(_MARGIN, issued.lifetime * _MARGIN_SHARE)
        cache.renew_at = cache.ends_at - margin
        if issued.ask_after is not None:
            cache.renew_at = min(cache.renew_at, asked_at + issued.ask_after)

    def _cache(self) -> _Cache:
        if self._cached.pid != os.getpid():
            self._cached = _Cache()
        return self._cached
