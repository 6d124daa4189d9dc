"""The service protection limits of an environment: staying below them, and waiting when asked.

There is one state for each environment and process, shared by all clients and threads: the service
counts by user. During a wait that it asked for nothing is sent. A request fails at once instead,
with the time to wait, so that its session can be resumed later. The runner keeps such waits too,
but it stops operations. This stops requests: those that are no operations (`doctor`, `discover`,
`read_baseline`), and the further ones of an operation, such as a page of a query.

Several processes may share what they send: through a folder, or by parts of the limits.

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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyrate_limiter import Rate, RateItem, StateBucket, TokenBucket

from writeahead.adapters.base import target_of
from writeahead.adapters.dataverse.webapi.errors import error_code, is_throttled
from writeahead.adapters.dataverse.webapi.names import service_root
from writeahead.adapters.http import retry_after_seconds
from writeahead.adapters.shared_rate import FileState
from writeahead.adapters.shared_slots import SharedSlots
from writeahead.errors import InvalidInput, TransientError

__all__ = [
    "DEFAULT_LIMITS",
    "Protection",
    "RateLimited",
    "ServiceLimits",
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

    def divided_by(self, parts: int) -> "ServiceLimits":
        """Return one of several equal parts, rounded down.

        Raises:
            InvalidInput: A part would be less than one request, and all parts more than the limit.
        """
        if parts > min(self.concurrent, self.requests):
            raise InvalidInput(
                f"{self.concurrent} requests at the same time and {self.requests} in 5 minutes can't be"
                f" divided by {parts}: run fewer processes, or share the limits through a folder"
            )
        return ServiceLimits(self.concurrent // parts, self.requests // parts)


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
        self._folder: Path | None = None
        self._slots: SharedSlots | None = None
        self._rate: FileState | None = None
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
            self._require_no_pause()
            deadline = math.inf if timeout is None else self._monotonic() + timeout
            slots = self._slots
        # First the place, since what is counted then is sent at once.
        with _shared_slot(slots, timeout), self._place(deadline):
            yield

    @contextmanager
    def _place(self, deadline: float) -> Iterator[None]:
        """Hold a place among the requests of this process."""
        with self._changed:
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
                self._bucket = self._new_bucket(narrower)
                if self._folder is None:
                    # Empty: what was sent counts, and the bucket before can't be asked how much
                    # that was.
                    sent = RateItem("sent", math.floor(self._monotonic() * 1000), weight=_burst(narrower))
                    self._bucket.put(sent)
            is_fewer = narrower.concurrent != self._limits.concurrent
            self._limits = narrower
            if self._folder is not None and is_fewer:
                self._slots = SharedSlots(self._folder, narrower.concurrent)

    def share(self, folder: Path) -> None:
        """Keep to the limits together with all processes of this machine that share the folder.

        Raises:
            InvalidInput: It can't be used, or this process shares them in another one already.
        """
        with self._changed:
            if self._folder == folder:
                return
            if self._folder is not None:
                raise InvalidInput(
                    f"the limits of one environment can't be shared in two folders: {self._folder} and"
                    f" {folder}"
                )
            self._slots = SharedSlots(folder, self._limits.concurrent)
            self._folder, self._rate = folder, FileState(folder)
            self._bucket = self._new_bucket(self._limits)

    def _entered(self, deadline: float) -> bool:
        """Take a slot if one is free, else wait for a change. The lock is held."""
        now = self._require_no_pause()
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

    def _require_no_pause(self) -> float:
        """Return the time, if there is no wait that the service asked for."""
        now = self._monotonic()
        if now < self._paused_until:
            raise RateLimited("the service asked to wait", self._paused_until - now, by_service=True)
        return now

    def _time_to_token(self, now: float) -> float:
        item = RateItem("request", math.floor(now * 1000))
        # A millisecond on top, for the library's clock has whole ones and ours has fractions.
        return 0.0 if self._bucket.put(item) else (_whole(self._bucket.waiting(item)) + 1) / 1000

    def _forget_requests(self) -> None:
        """Begin without requests under way; in a fork, where their threads are not."""
        self._changed = threading.Condition()
        self._under_way = 0
        self._bucket = self._new_bucket(self._limits)

    def _new_bucket(self, limits: ServiceLimits) -> StateBucket:
        # A bucket lets through its size at once and its refill over the window; together they are
        # the limit, in whichever 5 minutes one looks.
        burst = _burst(limits)
        rate = Rate(max(1, limits.requests - burst), math.ceil(_WINDOW * 1000), burst=burst)
        return StateBucket([rate], algorithm=TokenBucket(), store=self._rate)


def requested_wait(status: int, headers: Mapping[str, str], body: bytes) -> float | None:
    """Seconds that a response asks to wait; None if it does not ask."""
    wait = retry_after_seconds(headers)
    return _DEFAULT_WAIT if not wait and is_throttled(status, error_code(body)) else wait


_registry = threading.Lock()
# For as long as the process lasts: what was sent, and what was asked for, outlives the client.
_known: dict[str, Protection] = {}
_instances: "weakref.WeakSet[Protection]" = weakref.WeakSet()


def protection_of(
    url: str, limits: ServiceLimits = DEFAULT_LIMITS, share_in: Path | None = None
) -> Protection:
    """Return the state of an environment, which all its clients in this process share.

    It lasts as long as the process. Of several limits the narrowest hold.

    Args:
        url: The environment.
        limits: How much to ask for.
        share_in: A folder, in which all processes of this machine keep to the limits together. Each
            environment has a folder of its own in it. Once one client shares, all do.

    Raises:
        InvalidInput: It is not the URL of an environment, or the folder can't be used.
    """
    name = str(service_root(url))
    with _registry:
        protection = _known.get(name)
        if protection is None:
            protection = _known[name] = Protection(limits)
    protection.tighten(limits)
    if share_in is not None:
        # A hash: the name of a tenant's host stays out of the folder.
        protection.share(share_in.absolute() / target_of(name))
    return protection


@contextmanager
def _shared_slot(slots: SharedSlots | None, timeout: float | None) -> Iterator[None]:
    """Hold a slot of this machine, if the limits are shared."""
    if slots is None:
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(slots.slot(timeout))
        except TransientError as error:
            raise RateLimited(str(error), None) from error
        yield


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
