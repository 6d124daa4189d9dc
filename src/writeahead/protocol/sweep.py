"""sweep(): resume many sessions. The cost grows with the unfinished ones only."""

import heapq
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from writeahead.adapters.base import Adapter
from writeahead.errors import InvalidInput
from writeahead.model import RunPolicy
from writeahead.protocol.breaker import Breaker
from writeahead.protocol.context import require_means
from writeahead.protocol.dispatch import Bounds, Dispatch
from writeahead.protocol.finding import Found
from writeahead.protocol.progress import OnProgress
from writeahead.protocol.retry import Clock
from writeahead.protocol.settling import OnOwn, Settled, Settler, SweepResult
from writeahead.protocol.turns import candidates, in_turn, next_look
from writeahead.protocol.workers import Workers
from writeahead.stores.base import ArtifactStore, require_store
from writeahead.telemetry import log, tracing

__all__ = ["OnOwn", "Sweep", "SweepResult", "sweep"]

_DEFAULT_POLICY = RunPolicy()


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
    bounds = Bounds(concurrency, limit, max_time, executor, is_patient=until_done)
    tracing.load()
    clock = clock or Clock()
    stop, on_progress = bounds.linked(stop, clock), bounds.told(on_progress)
    settler = Settler(store, adapter, policy, on_own, stop, clock, on_progress, Breaker(clock, adapter))
    return Sweep(settler, bounds).results(scan=scan)


class _Waiting(NamedTuple):
    at: datetime
    session_id: str
    found: Found


class Sweep(Dispatch[Found]):
    """One sweep: what is still to be looked at, what is under way, and what waits.

    It has the id and the time of each unfinished session in memory, some 300 bytes each.

    Args:
        settler: What all sessions have in common.
        bounds: How many of them, and for how long.
        workers: Work on them, in place of threads that use the settler.
    """

    def __init__(self, settler: Settler, bounds: Bounds, workers: Workers[Found] | None = None) -> None:
        super().__init__(bounds, settler.breaker, settler.stop, settler.clock, workers)
        self._settler = settler
        self._queue: deque[Found] = deque()
        self._waiting: list[_Waiting] = []
        self._seen: set[str] = set()
        self._told: set[str] = set()
        self._is_unlisted = True
        self._span = tracing.span(
            "writeahead.sweep", store=settler.store.name, concurrency=bounds.concurrency
        )

    def results(self, *, scan: bool) -> Generator[SweepResult, None, bool]:
        """Sweep; return whether each session had its turn."""
        log.SWEEP.info("begun", store=self._settler.store.name, concurrency=self.bounds.concurrency)
        self._span.begin()
        try:
            while self._find(scan=scan):
                yield from self.work_off()
                if not self.bounds.is_patient or self.is_over or self.is_at_limit:
                    break
            is_through = not (self._queue or self.held or self._waiting) and not self._is_unlisted
            yield from self._leftovers()
        except BaseException as error:
            self._span.failed(error)
            raise
        finally:
            self.end()
            self._span.set(found=len(self._seen))
            self._span.end()
            log.SWEEP.info("ended", store=self._settler.store.name, found=len(self._seen))
        return is_through

    def _find(self, *, scan: bool) -> bool:
        """List the sessions that this sweep has not seen; tell whether there are any."""
        if self.is_over:
            return False
        self._is_unlisted = False
        with self._span.inside():
            listed = candidates(self._settler.store, scan=scan)
            found = (one for one in listed if one.session_id not in self._seen)
            self._queue.extend(in_turn(found, self.clock.random))
        self._seen.update(one.session_id for one in self._queue)
        return bool(self._queue)

    def settle(self, item: Found) -> Settled | None:
        """See `Dispatch`."""
        # Threads call it: they don't have the sweep's span from where they were begun.
        with self._span.inside():
            return self._settler.settle(item)

    def take(self) -> Found | None:
        """See `Dispatch`."""
        if self._waiting and self._waiting[0].at <= self.clock.now():
            return heapq.heappop(self._waiting).found
        return self._queue.popleft() if self._queue else None

    def put_back(self, item: Found) -> None:
        """See `Dispatch`."""
        self._queue.append(item)

    @property
    def has_more(self) -> bool:
        """See `Dispatch`."""
        return bool(self._queue)

    @property
    def due(self) -> datetime | None:
        """See `Dispatch`."""
        return self._waiting[0].at if self._waiting else None

    @property
    def needs_no_remote(self) -> bool:
        """See `Dispatch`."""
        # That of an own orchestrator is another one.
        return self._settler.on_own is not None

    def noted(self, item: Found, settled: Settled) -> Iterator[SweepResult]:
        """See `Dispatch`."""
        result = settled.result
        _log_result(result, is_tried=settled.attempted)
        moment = next_look(result, now=self.clock.now(), policy=self._settler.policy)
        again = self.bounds.is_patient and moment is not None
        # Not each look at one that still has to wait is news.
        if settled.attempted or not again or item.session_id not in self._told:
            yield replace(result, again=again, found=len(self._seen))
        if again and moment is not None:
            self._told.add(item.session_id)
            heapq.heappush(self._waiting, _Waiting(moment, item.session_id, item))

    def _leftovers(self) -> Iterator[SweepResult]:
        """Say of each session that was not settled why. After a stop, nothing more is said."""
        why = self.why_left()
        if why is None:
            return
        rest = (*self.held, *self._queue, *(one.found for one in self._waiting))
        for found in rest:
            yield SweepResult(found.session_id, left=why[0], not_before=why[1], found=len(self._seen))


def _log_result(result: SweepResult, *, is_tried: bool) -> None:
    """Log what a sweep did about a session. What went wrong is logged where that is known."""
    log.SWEEP.debug(
        "settled",
        session_id=result.session_id,
        tried=is_tried,
        status=result.status,
        reason=result.block_reason,
        restored=result.restored or None,
    )
