"""The service protection limits of an environment: staying below them, and waiting when asked.

There is one state for each environment and process, shared by all clients and threads: the service
counts by user, so a wait that it asks of one session holds for the others. During such a wait
nothing is sent. A request fails at once instead, with the time to wait, so that its session can be
resumed later.

Source, learn.microsoft.com, "Service protection API limits": 52 concurrent requests or more, and
6,000 in a sliding window of 5 minutes, for each user and web server; beyond that 429 with
``Retry-After`` in seconds, and longer waits for clients that keep sending. The third limit, 20
minutes of execution time, can't be counted from here; its 429 counts like the others.
"""

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from pyrate_limiter import Rate, RateItem, StateBucket, TokenBucket

from writeahead.adapters.dataverse.webapi.errors import error_code, is_throttled
from writeahead.adapters.dataverse.webapi.names import service_root
from writeahead.adapters.http import retry_after_seconds
from writeahead.adapters.limits import current_limits
from writeahead.errors import InvalidInput

__all__ = [
    "DEFAULT_LIMITS",
    "Protection",
    "RateLimited",
    "ServiceLimits",
    "ServiceLimitsTransport",
    "protection_of",
    "requested_wait",
]

_WINDOW = 300.0
# Seconds, where the service limits us and does not say for how long. Our own choice; Dataverse does
# say.
_DEFAULT_WAIT = 5.0


@dataclass(frozen=True, slots=True)
class ServiceLimits:
    """How much one process asks of an environment.

    More than the default makes sense only where the environment has more than one web server.

    Args:
        concurrent: Requests at the same time.
        requests: Requests in any 5 minutes.

    Raises:
        InvalidInput: One is no whole number above 0.
    """

    concurrent: int = 52
    requests: int = 5900

    def __post_init__(self) -> None:
        for name in ("concurrent", "requests"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InvalidInput(f"service limit {name} must be a whole number above 0")


DEFAULT_LIMITS = ServiceLimits()


class RateLimited(Exception):
    """A request must not be sent now.

    Attributes:
        reason: Why, in words.
        seconds: For how long, if that is known.
        by_service: Whether the service asked for it, and not our own count.
    """

    def __init__(self, reason: str, seconds: float | None, *, by_service: bool = False) -> None:
        self.reason = reason
        self.seconds = seconds
        self.by_service = by_service
        super().__init__(reason)


class Protection:
    """The state of one environment's limits. Safe to share between threads.

    Args:
        limits: How much to ask for.
        monotonic: Seconds on a clock that is never set; for tests.
    """

    def __init__(
        self, limits: ServiceLimits = DEFAULT_LIMITS, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._monotonic = monotonic
        self._limits = limits
        self._paused_until = -math.inf
        self._forget_requests()
        _instances.add(self)

    @property
    def limits(self) -> ServiceLimits:
        """How much is asked for now."""
        return self._limits

    def pause(self, seconds: float) -> None:
        """Send nothing for so long; an earlier, longer wait stays."""
        with self._changed:
            self._paused_until = max(self._paused_until, self._monotonic() + seconds)
            self._changed.notify_all()

    @contextmanager
    def slot(self, timeout: float | None) -> Iterator[None]:
        """Hold one of the slots for requests while the block runs.

        Args:
            timeout: Seconds to wait for a slot; None waits for as long as it takes.

        Raises:
            RateLimited: The service asked to wait, or no slot became free in time.
        """
        with self._changed:
            deadline = math.inf if timeout is None else self._monotonic() + timeout
            while not self._entered(deadline):
                pass
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                # All of them: a single one might be waiting for something else.
                self._changed.notify_all()

    def observe(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Look at a response, and pause if it says that there were too many requests."""
        if is_throttled(status, error_code(body)):
            self.pause(requested_wait(status, headers, body) or 0.0)

    def tighten(self, limits: ServiceLimits) -> None:
        """Keep to these limits too, where they are narrower."""
        with self._changed:
            narrower = ServiceLimits(
                min(limits.concurrent, self._limits.concurrent), min(limits.requests, self._limits.requests)
            )
            if narrower.requests != self._limits.requests:
                self._bucket = _bucket(narrower)
                # Empty: what was sent counts, and the bucket before can't be asked how much that
                # was.
                sent = RateItem("sent", math.floor(self._monotonic() * 1000), weight=_burst(narrower))
                self._bucket.put(sent)
            self._limits = narrower

    def _entered(self, deadline: float) -> bool:
        """Take a slot if one is free, else wait for a change. The lock is held."""
        now = self._monotonic()
        if now < self._paused_until:
            raise RateLimited("the service asked to wait", self._paused_until - now, by_service=True)
        wait: float | None = None
        if self._under_way < self._limits.concurrent:
            wait = self._time_to_token(now)
            if wait == 0:
                self._under_way += 1
                return True
        left = deadline - now
        if left <= 0 or (wait is not None and wait > left):
            raise RateLimited("too many requests for the service protection limits", wait)
        longest = min(left if wait is None else wait, threading.TIMEOUT_MAX)
        self._changed.wait(longest)
        return False

    def _time_to_token(self, now: float) -> float:
        item = RateItem("request", math.floor(now * 1000))
        # A millisecond on top, for the library's clock has whole ones and ours has fractions.
        return 0.0 if self._bucket.put(item) else (_whole(self._bucket.waiting(item)) + 1) / 1000

    def _forget_requests(self) -> None:
        """Begin without requests under way; in a fork, where their threads are not."""
        self._changed = threading.Condition()
        self._under_way = 0
        self._bucket = _bucket(self._limits)


class ServiceLimitsTransport(httpx.BaseTransport):
    """Sends requests below the limits of their environment.

    A request waits for a slot as long as httpx lets it wait for a connection.

    Args:
        inner: Sends the requests, and reads responses whole, since a slot is free after that.
        protection: Of the environment.

    Raises (by `handle_request`):
        RateLimited: The service asked to wait, or no slot became free in time. Nothing was sent.
    """

    def __init__(self, inner: httpx.BaseTransport, protection: Protection) -> None:
        self._inner = inner
        self._protection = protection

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises: see the class."""
        with self._protection.slot(_slot_timeout(request)):
            response = self._inner.handle_request(request)
            if not response.is_success:
                # Before the slot is free again, so that no request is sent in between.
                self._protection.observe(response.status_code, response.headers, response.content)
            return response

    def close(self) -> None:
        """Close the connections."""
        self._inner.close()


def _slot_timeout(request: httpx.Request) -> float | None:
    """As long as the request may wait for a connection, and no longer than the run lasts."""
    timeout = request.extensions.get("timeout", {}).get("pool")
    left = max(0.0, current_limits().time_left())
    longest = left if timeout is None else min(timeout, left)
    return None if longest == math.inf else longest


def requested_wait(status: int, headers: Mapping[str, str], body: bytes) -> float | None:
    """Seconds that a response asks to wait; None if it does not ask."""
    wait = retry_after_seconds(headers)
    return _DEFAULT_WAIT if not wait and is_throttled(status, error_code(body)) else wait


_registry = threading.Lock()
# For as long as the process lasts: what was sent, and what was asked for, outlives the client.
_known: dict[str, Protection] = {}
_instances: "weakref.WeakSet[Protection]" = weakref.WeakSet()


def protection_of(url: str, limits: ServiceLimits = DEFAULT_LIMITS) -> Protection:
    """Return the state of an environment, which all its clients in this process share.

    It lasts as long as the process. Of several limits the narrowest hold.

    Raises:
        InvalidInput: It is not the URL of an environment.
    """
    name = str(service_root(url))
    with _registry:
        protection = _known.get(name)
        if protection is None:
            protection = _known[name] = Protection(limits)
    protection.tighten(limits)
    return protection


def _bucket(limits: ServiceLimits) -> StateBucket:
    # A bucket lets through its size at once and its refill over the window; together they are the
    # limit, in whichever 5 minutes one looks.
    burst = _burst(limits)
    refill = max(1, limits.requests - burst)
    return StateBucket([Rate(refill, math.ceil(_WINDOW * 1000), burst=burst)], algorithm=TokenBucket())


def _burst(limits: ServiceLimits) -> int:
    return max(1, limits.requests // 12)


def _whole(value: object) -> int:
    """The library's types allow for asynchronous buckets; this one is none."""
    assert isinstance(value, int)
    return value


def _after_fork() -> None:
    # The locks may be held by threads that are not here, and what these threads sent is the
    # parent's. A wait that the service asked for holds here as well.
    global _registry  # noqa: PLW0603 - a lock that was inherited can't be released
    _registry = threading.Lock()
    for protection in _instances:
        protection._forget_requests()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
