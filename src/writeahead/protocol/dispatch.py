"""Work on many sessions at once: so many at a time, and none while the remote is down."""

import functools
import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from writeahead.adapters.limits import POLL
from writeahead.errors import InvalidInput
from writeahead.protocol.breaker import Breaker
from writeahead.protocol.progress import OnProgress, Progress
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import after
from writeahead.protocol.settling import Left, Settled, SweepResult
from writeahead.protocol.stopping import LinkedStop, linked_stop
from writeahead.protocol.workers import InThreads, Workers, require_threads

__all__ = ["Bounds", "Dispatch"]

_Item = TypeVar("_Item")
# Seconds that is waited at most, each time, for a remote that is down: three probes in 35 s. Who is
# patient waits as long as it takes.
_PATIENCE = 30.0
# Sessions in a row for which the store can't be reached before the rest is left.
_STORE_FAILURES = 3
# The longest single wait: what a clock or a lock takes has its limits.
_LONGEST_SLEEP = 3600.0


@dataclass(frozen=True)
class Bounds:
    """How many sessions, how many at once, and for how long.

    Attributes:
        concurrency: How many are under way at once, at most.
        limit: How many are tried, at most.
        max_time: Seconds after which nothing more is begun.
        executor: Runs them instead of threads made for this.
        is_patient: Wait for a remote that is down as long as it takes.

    Raises:
        InvalidInput: A number is out of its range, or the executor is none, or has processes.
    """

    concurrency: int = 1
    limit: int | None = None
    max_time: float | None = None
    executor: Executor | None = None
    is_patient: bool = False

    def __post_init__(self) -> None:
        for name, number in (("concurrency", self.concurrency), ("limit", self.limit)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise InvalidInput(f"{name}: give a whole number of 1 or more, not {number!r}")
        if self.max_time is not None and not 0 < self.max_time < math.inf:
            raise InvalidInput(f"max_time: give a number of seconds above 0, not {self.max_time!r}")
        require_threads(self.executor)

    @property
    def is_inline(self) -> bool:
        """Whether all is done in the caller's thread."""
        return self.executor is None and self.concurrency == 1

    def linked(self, stop: threading.Event | None, clock: Clock) -> threading.Event | None:
        """The caller's stop, and the end of the time that is allowed from now on."""
        if self.is_inline and self.max_time is None:
            return stop
        return linked_stop(stop, clock, self.max_time)

    def told(self, on_progress: OnProgress | None) -> OnProgress | None:
        """What is called with each event of a run, one call at a time."""
        return on_progress if on_progress is None or self.is_inline else _one_at_a_time(on_progress)


def _one_at_a_time(call: OnProgress) -> OnProgress:
    lock = threading.Lock()

    @functools.wraps(call)
    def locked(event: Progress) -> None:
        with lock:
            # Returned, since one that is async by mistake is noticed by what it returns.
            return call(event)

    return locked


class Dispatch(ABC, Generic[_Item]):
    """Hands out items, each of which stands for a session, and takes what they came to.

    A subclass says which items there are, and what is done about each.

    Args:
        bounds: How many at once, and how many in all.
        breaker: Holds items back while the remote is down.
        stop: Once set, nothing more is begun.
        clock: Where time comes from.

        workers: Work on the items in place of `settle`, which threads call by default.

    Attributes:
        held: Items that the breaker has held back.
    """

    def __init__(
        self,
        bounds: Bounds,
        breaker: Breaker,
        stop: threading.Event | None,
        clock: Clock,
        workers: Workers[_Item] | None = None,
    ) -> None:
        self.bounds, self.breaker, self.stop, self.clock = bounds, breaker, stop, clock
        self.held: deque[_Item] = deque()
        self._workers = workers or InThreads(self.settle, bounds.concurrency, bounds.executor)
        self._under_way: dict[Future[Settled | None], _Item] = {}
        self._attempts = 0
        self._store_failures = 0

    @abstractmethod
    def settle(self, item: _Item) -> Settled | None:
        """Do what is to be done about an item; None if that was nothing. Threads call it."""

    @abstractmethod
    def take(self) -> _Item | None:
        """Take the item that is next in turn; None if there is none now."""

    @abstractmethod
    def put_back(self, item: _Item) -> None:
        """Take an item back that was never begun."""

    @abstractmethod
    def noted(self, item: _Item, settled: Settled) -> Iterator[SweepResult]:
        """Yield what is to be told about an item that was not held back."""

    @property
    @abstractmethod
    def has_more(self) -> bool:
        """Whether there are items that wait for nothing but their turn."""

    @property
    def due(self) -> datetime | None:
        """When the first of those is due that wait for a moment of their own; None without any."""
        return None

    @property
    def needs_no_remote(self) -> bool:
        """Whether an item may be begun while the remote is down."""
        return False

    @property
    def is_over(self) -> bool:
        """Whether a stop was asked for, or the time is over."""
        return self.stop is not None and self.stop.is_set()

    @property
    def is_at_limit(self) -> bool:
        """Whether as many are tried, or under way, as are allowed in all."""
        limit = self.bounds.limit
        return limit is not None and self._attempts + len(self._under_way) >= limit

    @property
    def is_store_down(self) -> bool:
        """Whether the store could not be reached for the last few. Who is patient comes back."""
        return self._store_failures >= _STORE_FAILURES and not self.bounds.is_patient

    def work_off(self) -> Iterator[SweepResult]:
        """Work on all items, until there is nothing more to begin; yield results as they come."""
        while True:
            self._fill()
            if self._under_way:
                yield from self._finished()
            elif self._is_at_end() or not self.wait():
                return

    def wait(self) -> bool:
        """Wait until something may be begun, while nothing is under way; False to end."""
        moment = self._next_moment()
        if moment is None:
            return False
        seconds = min((moment - self.clock.now()).total_seconds(), _LONGEST_SLEEP)
        if seconds > 0:
            if self.stop is None:
                self.clock.sleep(seconds)
            else:
                self.stop.wait(seconds)
        return True

    def why_left(self) -> tuple[Left, datetime | None] | None:
        """Why the rest is left, and until when; None after a stop, which needs no word."""
        if self.is_over:
            is_late = isinstance(self.stop, LinkedStop) and self.stop.is_late
            return (Left.MAX_TIME, None) if is_late else None
        if self.is_at_limit:
            return Left.LIMIT, None
        if self.is_store_down:
            return Left.STORE_DOWN, None
        return Left.REMOTE_DOWN, self.breaker.probe_at

    def end(self) -> None:
        """End what is under way: at the next safe point, as after a stop."""
        pending = set(self._under_way)
        if pending and isinstance(self.stop, LinkedStop):
            self.stop.set()
            while pending := {one for one in pending if not one.done() and not self._withdrawn(one)}:
                wait(pending, POLL, FIRST_COMPLETED)
        self._workers.close()

    def _withdrawn(self, future: Future[Settled | None]) -> bool:
        return not future.done() and self._workers.withdraw(future)

    def _is_at_end(self) -> bool:
        return self.is_over or self.is_at_limit or self.is_store_down

    def _fill(self) -> None:
        """Begin what may be begun: no more is handed to the executor than may be under way."""
        while len(self._under_way) < self.bounds.concurrency:
            item = self._next()
            if item is None:
                return
            self._under_way[self._workers.begin(item)] = item

    def _next(self) -> _Item | None:
        """Take what is next, if anything may be begun now."""
        breaker = self.breaker
        if self._is_at_end():
            return None
        if (breaker.is_open or self.held) and breaker.has_room:
            if self.held:
                return self.held.popleft()
        elif self.held and not breaker.is_open:
            return None  # the remote has still to show that it is there
        elif breaker.is_open and not self.needs_no_remote:
            return None
        return self.take()

    def _finished(self) -> Iterator[SweepResult]:
        """Wait a little for what is under way; yield what it came to."""
        if self.is_over:
            for future in [one for one in self._under_way if self._withdrawn(one)]:
                self.put_back(self._under_way.pop(future))
        done, _ = wait(self._under_way, POLL, FIRST_COMPLETED)
        for future in done:
            item = self._under_way.pop(future)
            settled = future.result()
            if settled is None:
                continue
            self._attempts += settled.attempted
            self._store_failures = self._store_failures + 1 if settled.is_store_down else 0
            if settled.result.left:
                self.held.append(item)
            else:
                yield from self.noted(item, settled)

    def _next_moment(self) -> datetime | None:
        """When there will be something to begin, if nothing is under way; None to end."""
        due, probe_at = self.due, self.breaker.probe_at
        has_more = bool(self.held) or self.has_more
        if probe_at is None:
            # What holds the rest back may have been over since it was last asked for.
            return self.clock.now() if has_more else due
        if not has_more:
            return due and max(due, probe_at)
        is_patient = self.bounds.is_patient or probe_at <= after(self.clock.now(), _PATIENCE)
        return probe_at if is_patient else None
