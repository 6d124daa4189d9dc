"""sweep(): resume many sessions. The cost grows with the unfinished ones only."""

import contextvars
import functools
import heapq
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple, ParamSpec, TypeVar

from writeahead.adapters.base import Adapter
from writeahead.adapters.limits import POLL
from writeahead.errors import InvalidInput
from writeahead.model import RunPolicy
from writeahead.protocol.breaker import Breaker
from writeahead.protocol.context import require_means
from writeahead.protocol.finding import Found
from writeahead.protocol.progress import OnProgress, Progress
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import after
from writeahead.protocol.settling import Left, OnOwn, Settled, Settler, SweepResult
from writeahead.protocol.stopping import LinkedStop
from writeahead.protocol.turns import candidates, in_turn, next_look
from writeahead.stores.base import ArtifactStore, require_store

__all__ = ["OnOwn", "SweepResult", "sweep"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_DEFAULT_POLICY = RunPolicy()
# Seconds that a sweep waits at most, each time, for a remote that is down: three probes in 35 s.
# One that goes on until all is done waits as long as it takes.
_PATIENCE = 30.0
# The longest single wait: what a clock or a lock takes has its limits.
_LONGEST_SLEEP = 3600.0


def sweep(
    store: ArtifactStore,
    adapter: Adapter | None = None,
    *,
    policy: RunPolicy = _DEFAULT_POLICY,
    on_own: OnOwn | None = None,
    scan: bool = False,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    on_progress: OnProgress | None = None,
    concurrency: int = 1,
    executor: Executor | None = None,
    limit: int | None = None,
    max_time: float | None = None,
    until_done: bool = False,
) -> Generator[SweepResult, None, bool]:
    """Resume every session that needs it, and remove markers of finished ones. Streams results.

    One bad session never stops the sweep: its error is in its result. A marker without a plan,
    older than ``policy.lease``, is of a run that died before it emitted anything: a tombstone takes
    the plan's place.

    The oldest sessions come first, from a start by chance, so that slow ones keep no others from
    their turn for ever; blocked ones come last. One that has to wait costs no more than a look. If
    the remote takes nothing of three sessions in a row, the others are held back, and one is tried
    after 5 seconds, 10, 20 and so on, or when the remote asked for it. A Retry-After that any
    session of the process was told holds all of them back. A sweep waits 35 seconds in all for
    that, one with ``until_done`` without an end. The rest is `Left`, for a later sweep.

    Any number of sweeps may run at once, in any processes on any machines. A session that another
    one is at is ``in_progress``.

    Args:
        store: Where the artifacts are.
        adapter: Resumes the sessions that it planned; None to leave them.
        policy: How hard to try.
        on_own: Resumes a session of an orchestrator of its own: it gets the store and the session's
            id, and ends with `writeahead.write_writeback_artifact`. It is called if neither its
            run nor another sweep has begun it within ``policy.lease``. That is no lock: as for any
            replay, the remote must recognize what it has. It may be ``async def``: then a stop
            cancels it, after 5 more seconds.
        scan: List the whole store, and put the marker again where it was lost, as in a copy that
            left out files whose name begins with a dot. It reads each unfinished session that has
            none.
        stop: Once set, nothing more is begun, and the runs under way end as for `write_back`.
        clock: Where time comes from; for tests.
        on_progress: As for `write_back`. It is called in the threads of the runs, one call at a
            time.
        concurrency: How many sessions are under way at once, at most. They run in threads of the
            sweep, between two results, too; adapter, store and ``on_own`` must be safe from threads
            then. One runs in the caller's thread, while the next result is asked for.
        executor: Runs them instead of these threads: another pool of threads, which is not shut
            down. For processes and engines see `writeahead.items.resume_item`.
        limit: How many sessions are tried, at most. A look is no try.
        max_time: Seconds after which the sweep ends as if ``stop`` were set; the rest is `Left`.
        until_done: Come back to sessions that have to wait, and wait for those, until all are
            completed, blocked, abandoned, not for this sweep, or in error. A result with ``again``
            is not the last of its session.

    Returns:
        The results, as they come; as the value of the generator, whether each session had its turn.

    Raises:
        InvalidInput: There is neither an adapter nor ``on_own``, a number is out of its range, or
            the executor is none, or has processes.
        StoreError: The markers, or with ``scan`` the store, can't be listed.
    """
    if adapter is None:
        require_store(store)
    else:
        require_means(store, adapter)
    if adapter is None and on_own is None:
        raise InvalidInput("sweep: give an adapter, on_own, or both: without them, nothing can be resumed")
    _require_numbers(concurrency, limit, max_time)
    _require_threads(executor)
    clock = clock or Clock()
    is_inline = executor is None and concurrency == 1
    if not is_inline or max_time is not None:
        deadline = math.inf if max_time is None else clock.monotonic() + max_time
        stop = LinkedStop(stop, clock, deadline=deadline)
    if on_progress is not None and not is_inline:
        on_progress = _one_at_a_time(on_progress)
    settler = Settler(store, adapter, policy, on_own, stop, clock, on_progress, Breaker(clock, adapter))
    bounds = _Bounds(concurrency, limit, until_done=until_done)
    return _Sweep(settler, bounds, executor).results(scan=scan)


def _require_numbers(concurrency: int, limit: int | None, max_time: float | None) -> None:
    for name, number in (("concurrency", concurrency), ("limit", limit)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
            raise InvalidInput(f"{name}: give a whole number of 1 or more, not {number!r}")
    if max_time is not None and not 0 < max_time < math.inf:
        raise InvalidInput(f"max_time: give a number of seconds above 0, not {max_time!r}")


def _require_threads(executor: object) -> None:
    if executor is None:
        return
    if not isinstance(executor, Executor):
        raise InvalidInput(f"executor: give a concurrent.futures.Executor, not a {type(executor).__name__}")
    # By name: to import the class would load multiprocessing.
    if any(kind.__module__ == "concurrent.futures.process" for kind in type(executor).__mro__):
        raise InvalidInput(
            "executor: a store and an adapter can't be sent to a process: give a ThreadPoolExecutor, or"
            " submit writeahead.resume_item to it"
        )


def _one_at_a_time(call: OnProgress) -> OnProgress:
    lock = threading.Lock()

    @functools.wraps(call)
    def locked(event: Progress) -> None:
        with lock:
            # Returned, since one that is async by mistake is noticed by what it returns.
            return call(event)

    return locked


class _Bounds(NamedTuple):
    concurrency: int
    limit: int | None
    until_done: bool


class _Waiting(NamedTuple):
    at: datetime
    session_id: str
    found: Found


class _Inline(Executor):
    """Runs what it is given at once, in the caller's thread; an interrupt gets out."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """See `concurrent.futures.Executor`."""
        done: Future[_T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


class _Sweep:
    """One sweep: what is still to be looked at, what is under way, and what waits.

    It has the id and the time of each unfinished session in memory, some 300 bytes each.
    """

    def __init__(self, settler: Settler, bounds: _Bounds, executor: Executor | None) -> None:
        self._settler = settler
        self._bounds = bounds
        self._own_pool: ThreadPoolExecutor | None = None
        if executor is None and bounds.concurrency > 1:
            executor = self._own_pool = ThreadPoolExecutor(bounds.concurrency, "writeahead-sweep")
        self._executor = executor or _Inline()
        self._queue: deque[Found] = deque()
        self._held: deque[Found] = deque()
        self._waiting: list[_Waiting] = []
        self._under_way: dict[Future[Settled | None], Found] = {}
        self._seen: set[str] = set()
        self._told: set[str] = set()
        self._attempts = 0
        self._is_unlisted = True

    def results(self, *, scan: bool) -> Generator[SweepResult, None, bool]:
        """Sweep; return whether each session had its turn."""
        try:
            while self._find(scan=scan):
                yield from self._work_off()
                if not self._bounds.until_done or self._is_over() or self._is_at_limit():
                    break
            is_through = not (self._queue or self._held or self._waiting) and not self._is_unlisted
            yield from self._leftovers()
        finally:
            self._end()
        return is_through

    def _find(self, *, scan: bool) -> bool:
        """List the sessions that this sweep has not seen; tell whether there are any."""
        settler = self._settler
        if self._is_over():
            return False
        self._is_unlisted = False
        found = (one for one in candidates(settler.store, scan=scan) if one.session_id not in self._seen)
        self._queue.extend(in_turn(found, settler.clock.random))
        self._seen.update(one.session_id for one in self._queue)
        return bool(self._queue)

    def _work_off(self) -> Iterator[SweepResult]:
        while True:
            self._fill()
            if self._under_way:
                yield from self._finished()
                continue
            moment = self._next_moment()
            if moment is None:
                return
            self._sleep_until(moment)

    def _fill(self) -> None:
        """Begin what may be begun: no more is handed to the executor than may be under way."""
        while len(self._under_way) < self._bounds.concurrency:
            found = self._next()
            if found is None:
                return
            # The adapter's coroutines run on the loop that is known in this context.
            context = contextvars.copy_context()
            future = self._executor.submit(context.run, self._settler.settle, found)
            self._under_way[future] = found

    def _next(self) -> Found | None:
        """Take what is next in turn, if anything may be begun now."""
        breaker = self._settler.breaker
        if self._is_over() or self._is_at_limit():
            return None
        if (breaker.is_open or self._held) and breaker.has_room:
            if self._held:
                return self._held.popleft()
        elif self._held and not breaker.is_open:
            return None  # the remote has still to show that it is there
        elif breaker.is_open and self._settler.on_own is None:
            return None  # those of an own orchestrator may go on
        if self._waiting and self._waiting[0].at <= self._settler.clock.now():
            return heapq.heappop(self._waiting).found
        return self._queue.popleft() if self._queue else None

    def _finished(self) -> Iterator[SweepResult]:
        """Wait a little for what is under way; yield what it came to."""
        if self._is_over():
            # What a busy executor has not begun yet need not be begun any more.
            for future in [one for one in self._under_way if one.cancel()]:
                self._queue.append(self._under_way.pop(future))
        done, _ = wait(self._under_way, POLL, FIRST_COMPLETED)
        for future in done:
            found = self._under_way.pop(future)
            settled = future.result()
            if settled is not None:
                yield from self._noted(found, settled)

    def _noted(self, found: Found, settled: Settled) -> Iterator[SweepResult]:
        result, attempted = settled
        self._attempts += attempted
        if result.left:
            self._held.append(found)
            return
        settler = self._settler
        moment = next_look(result, now=settler.clock.now(), policy=settler.policy)
        again = self._bounds.until_done and moment is not None
        # Not each look at one that still has to wait is news.
        if attempted or not again or found.session_id not in self._told:
            yield replace(result, again=again, found=len(self._seen))
        if again and moment is not None:
            self._told.add(found.session_id)
            heapq.heappush(self._waiting, _Waiting(moment, found.session_id, found))

    def _next_moment(self) -> datetime | None:
        """When there will be something to begin, if nothing is under way; None to end."""
        breaker, settler = self._settler.breaker, self._settler
        if self._is_over() or self._is_at_limit():
            return None
        due = self._waiting[0].at if self._waiting else None
        probe_at = breaker.probe_at
        if probe_at is None:
            return due
        if not self._held and not self._queue:
            return due and max(due, probe_at)
        is_patient = self._bounds.until_done or probe_at <= after(settler.clock.now(), _PATIENCE)
        return probe_at if is_patient else None

    def _sleep_until(self, moment: datetime) -> None:
        stop, clock = self._settler.stop, self._settler.clock
        seconds = min((moment - clock.now()).total_seconds(), _LONGEST_SLEEP)
        if seconds <= 0:
            return
        if stop is None:
            clock.sleep(seconds)
        else:
            stop.wait(seconds)

    def _leftovers(self) -> Iterator[SweepResult]:
        """Say of each session that was not settled why. After a stop, nothing more is said."""
        stop, probe_at = self._settler.stop, self._settler.breaker.probe_at
        if self._is_over():
            if not (isinstance(stop, LinkedStop) and stop.is_late):
                return
            why, not_before = Left.MAX_TIME, None
        elif self._is_at_limit():
            why, not_before = Left.LIMIT, None
        else:
            why, not_before = Left.REMOTE_DOWN, probe_at
        rest = (*self._held, *self._queue, *(one.found for one in self._waiting))
        for found in rest:
            yield SweepResult(found.session_id, left=why, not_before=not_before, found=len(self._seen))

    def _is_over(self) -> bool:
        return self._settler.stop is not None and self._settler.stop.is_set()

    def _is_at_limit(self) -> bool:
        limit = self._bounds.limit
        return limit is not None and self._attempts + len(self._under_way) >= limit

    def _end(self) -> None:
        """End what is under way: at the next safe point, as after a stop."""
        stop = self._settler.stop
        if self._under_way and isinstance(stop, LinkedStop):
            stop.set()
            # One that is cancelled before it was begun is not waited for: its executor may be busy.
            wait([future for future in self._under_way if not future.cancel()])
        if self._own_pool is not None:
            self._own_pool.shutdown()
