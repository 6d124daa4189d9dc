"""sweep_items(): a sweep whose sessions other processes resume.

Here are the order, the bounds and the circuit breaker; at the workers are store and adapter. What
goes there and comes back is data.
"""

import functools
import math
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import TypeAlias

from writeahead.adapters.limits import STOP_GRACE
from writeahead.errors import InvalidInput, ResumeError, StoreError, WriteaheadError
from writeahead.items import AdapterSpec, Opened, opened
from writeahead.model import RunPolicy
from writeahead.protocol.breaker import Breaker, Verdict, verdict_on
from writeahead.protocol.dispatch import Bounds
from writeahead.protocol.finding import Found
from writeahead.protocol.keys import open_key
from writeahead.protocol.messages import one_line
from writeahead.protocol.retry import Clock
from writeahead.protocol.settling import Left, Settled, Settler, SweepResult, went_wrong
from writeahead.protocol.stopping import LinkedStop, linked_stop
from writeahead.protocol.sweep import Sweep
from writeahead.protocol.workers import Workers
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store, shared_url

__all__ = ["Broadcast", "sweep_items"]

Broadcast: TypeAlias = Callable[[Callable[[str], None], str], object]

_DEFAULT_POLICY = RunPolicy()
# Seconds after a stop in which a worker's runs should have ended: what a request may take, and as
# much again for what follows it. A worker that says nothing then is not waited for.
_GRACE = 2 * STOP_GRACE
# Seconds between two words to the workers that they stop: one may have come late.
_AGAIN = 1.0
# How many sweeps a worker process remembers.
_REMEMBERED = 100


def sweep_items(
    store_url: str,
    adapter_spec: AdapterSpec | str,
    *,
    executor: Executor,
    broadcast: Broadcast | None = None,
    policy: RunPolicy = _DEFAULT_POLICY,
    scan: bool = False,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    concurrency: int = 1,
    limit: int | None = None,
    max_time: float | None = None,
    until_done: bool = False,
) -> Generator[SweepResult, None, bool]:
    """Resume every session that needs it, as `writeahead.sweep` does, in processes of an executor.

    A session goes to a worker as data. One whose worker is killed is as after any kill: the engine
    sends it again, or the next sweep does, and it is ``in_progress`` until the lease ends. Sessions
    of an orchestrator of its own are left alone.

    Args:
        store_url: As for `writeahead.open_store`; one that all workers reach.
        adapter_spec: The adapter, or its name alone. The workers open it; this process does not.
        executor: Sends them: a ``ProcessPoolExecutor``, or one of an engine. It is not shut down.
        broadcast: Calls a function with an argument in each worker process, without waiting for an
            answer. So workers learn of a stop. Without it, runs under way go on to their end, at
            most for ``policy.run_limit``.
        policy: As for `writeahead.sweep`, and so are all that follow.
        scan: See there.
        stop: See there.
        clock: Where this process's time comes from; workers have their own. For tests.
        concurrency: See there. More than the executor has workers would wait there in a queue.
        limit: See there.
        max_time: See there.
        until_done: See there.

    Returns:
        As `writeahead.sweep`. A session that the engine gave up is in error.

    Raises:
        InvalidInput: The store is in memory, or is not the workers'; a worker can't open the
            adapter; or a number is out of its range.
        StoreError: The markers, or with ``scan`` the store, can't be listed.
        ResumeError: The executor takes nothing any more.
    """
    spec = AdapterSpec(adapter_spec) if isinstance(adapter_spec, str) else adapter_spec
    if not isinstance(executor, Executor):
        raise InvalidInput(f"executor: give a concurrent.futures.Executor, not a {type(executor).__name__}")
    store_url = shared_url(store_url)
    bounds = Bounds(concurrency, limit, max_time, is_patient=until_done)
    clock = clock or Clock()
    linked = linked_stop(stop, clock, max_time)
    breaker = Breaker(clock)
    settler = Settler(open_store(store_url), None, policy, None, linked, clock, None, breaker)
    item = _Item(store_url, spec, policy, sweep=uuid.uuid4().hex)
    return Sweep(settler, bounds, _AsItems(item, executor, broadcast, breaker, linked)).results(scan=scan)


@dataclass(frozen=True)
class _Item:
    """What a worker gets. ``seconds`` is what is left of the sweep's time."""

    store_url: str
    adapter: AdapterSpec
    policy: RunPolicy
    sweep: str
    found: Found | None = None
    seconds: float = math.inf


@dataclass(frozen=True)
class _Worked:
    """What a worker says.

    Attributes:
        settled: What its look at the session came to.
        verdict: What that says about the remote.
        wait: Seconds that the remote has asked the worker's process to wait, whichever session it
            told so; None if it has not.
        is_begun: False if the worker was told to stop before.
    """

    settled: Settled | None = None
    verdict: Verdict = Verdict.NOTHING
    wait: float | None = None
    is_begun: bool = True


class _AsItems(Workers[Found]):
    """Sends sessions to the workers of an executor. They answer in threads of its own."""

    def __init__(
        self,
        item: _Item,
        executor: Executor,
        broadcast: Broadcast | None,
        breaker: Breaker,
        stop: LinkedStop,
    ) -> None:
        self._item = item
        self._executor = executor
        self._broadcast = broadcast
        self._breaker = breaker
        self._stop = stop
        self._at_workers: dict[Future[Settled | None], Future[_Worked]] = {}
        self._stopping_since: float | None = None
        self._told_at = -math.inf

    def begin(self, found: Found) -> "Future[Settled | None]":
        """See `Workers`."""
        answer: Future[Settled | None] = Future()
        if not self._breaker.admit():
            answer.set_result(Settled(SweepResult(found.session_id, left=Left.REMOTE_DOWN)))
            return answer
        item = replace(self._item, found=found, seconds=self._stop.time_left())
        try:
            sent = self._executor.submit(_work_on, item)
        except Exception as error:  # of any kind: engines have their own
            self._breaker.over(Verdict.NOTHING)
            said = f"the engine takes no work any more: {type(error).__name__}"
            raise ResumeError(f"{said}. Nothing is lost: run it again") from error
        self._at_workers[answer] = sent
        sent.add_done_callback(functools.partial(self._over, answer, found.session_id))
        return answer

    def _over(self, answer: "Future[Settled | None]", session_id: str, sent: "Future[_Worked]") -> None:
        self._at_workers.pop(answer, None)
        try:
            worked, failure = sent.result(), None
        except BaseException as error:  # noqa: BLE001 - of any kind: engines have their own
            worked, failure = _Worked(), error
        # First: who has the answer asks the breaker what comes next.
        self._breaker.over(worked.verdict, worked.wait)
        match failure:
            case None:
                untouched = Settled(SweepResult(session_id, left=Left.MAX_TIME))
                answer.set_result(worked.settled if worked.is_begun else untouched)
            case InvalidInput() | ImportError():
                # It would be so for each session.
                answer.set_exception(InvalidInput(f"a worker refused its work: {one_line(failure)}"))
            case _:
                said = f"the engine gave it up: {type(failure).__name__}; a later sweep goes on with it"
                answer.set_result(Settled(SweepResult(session_id, error=said), attempted=True))

    def withdraw(self, future: "Future[Settled | None]") -> bool:
        """See `Workers`. An engine can't end what has begun: the worker does, once it knows."""
        sent = self._at_workers.get(future)
        if sent is None:
            return False  # its answer is just coming
        if self._broadcast is None:
            return sent.cancel()
        now = time.monotonic()
        since = self._stopping_since = self._stopping_since or now
        if now - since > _GRACE:
            sent.cancel()
            return True
        if now - self._told_at > _AGAIN:
            self._told_at = now
            self._broadcast(_end_sweep, self._item.sweep)
        return False


# At the workers. By sweep: what ends its runs.
_stops: dict[str, threading.Event] = {}
_lock = threading.Lock()


def _stop_of(sweep: str) -> threading.Event:
    with _lock:
        found = _stops.setdefault(sweep, threading.Event())
        for oldest in list(_stops)[:-_REMEMBERED]:
            del _stops[oldest]
        return found


def _end_sweep(sweep: str) -> None:
    _stop_of(sweep).set()


def _work_on(item: _Item) -> _Worked:
    """Do at a worker about one session what is to be done.

    Raises:
        InvalidInput: This worker can't do it for any session.
    """
    found, clock = item.found, Clock()
    assert found is not None  # the sweep's own item is sent to no worker
    deadline = clock.monotonic() + item.seconds
    stop = LinkedStop(_stop_of(item.sweep), None, deadline=deadline)
    if stop.is_set():
        return _Worked(is_begun=False)
    store, adapter = _opened(item)
    settler = Settler(store, adapter, item.policy, None, stop, clock, None, Breaker(clock))
    settled = settler.settle(found)
    if settled is None:
        return _Worked()
    if found.is_marked:
        try:
            _require_its_marker(store, item.store_url, settled.result)
        except StoreError as error:
            settled = went_wrong(found.session_id, error, clock, item.policy)
    result, verdict = settled.result, Verdict.NOTHING
    if settled.attempted and result.report is not None:
        verdict = verdict_on(result.report, stopped=stop.is_set())
    wait = clock.waits.until(adapter, clock.monotonic()) - clock.monotonic()
    return _Worked(settled, verdict, wait if wait > 0 else None)


def _require_its_marker(store: ArtifactStore, url: str, result: SweepResult) -> None:
    """Refuse a store that has nothing of a session whose marker the driver has seen."""
    session_id = result.session_id
    if result.status or result.error or store.head(open_key(session_id)):
        return
    if next(iter(store.list(f"{session_id}/")), None) is None:
        where = f"{socket.gethostname()}: nothing of session {session_id} is in {url}"
        raise InvalidInput(f"{where}: give a store that all workers reach under this URL")


def _opened(item: _Item) -> Opened:
    try:
        return opened(item.store_url, item.adapter)
    except WriteaheadError as error:
        raise InvalidInput(f"{socket.gethostname()}: {one_line(error)}") from None
    except Exception as error:  # noqa: BLE001 - of any kind: factories are others' code
        # What a factory raises may hold secrets, or be of a class that can't be sent.
        what = f"the factory of adapter {item.adapter.name!r} raised {type(error).__name__}"
        raise InvalidInput(f"{socket.gethostname()}: {what}") from None
