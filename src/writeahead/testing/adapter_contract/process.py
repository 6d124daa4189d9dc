"""One process under test: its network, store, clock and adapter, recorded and killed on demand."""

import os
import signal
import sys
import urllib.parse
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from writeahead.adapters.awaiting import awaited
from writeahead.adapters.base import Adapter, TransactionalAdapter
from writeahead.errors import Applied, ConflictError, InvalidInput, NotReady, PermanentError, TransientError
from writeahead.model import KeyedOperation, PlannedOperation, Receipt
from writeahead.protocol.keys import planned_key
from writeahead.stores.base import ArtifactStore
from writeahead.testing.clock import ManualClock
from writeahead.testing.decorators import TracingStore
from writeahead.testing.http_proxy import Fault, HttpProxy, SeenRequest

__all__ = ["KILL", "FaultProxy", "KillableClock", "KillableStore", "Killed", "RecordingAdapter", "forked"]

_T = TypeVar("_T")
# For type checkers: a test that kills is skipped where this is absent.
KILL: int = getattr(signal, "SIGKILL", 9)
# Seconds until a child ends itself whose parent is gone.
_PATIENCE = 300
# The runner takes these for "surely not applied", a TransientError only if it says so.
_CLAIMS = (PermanentError, ConflictError, NotReady, InvalidInput)


class Killed(BaseException):
    """The death of a process, as others see it: nothing that it does has an effect any more."""


class FaultProxy(HttpProxy):
    """A proxy that kills a process at an exchange.

    Attributes:
        dead: Whether the process is; its store and its clock ask.
        victim: The id of a real process to kill.
        spoilt: How many requests the server got whose answer the client did not get whole.
        effect: The position of the first request after which the remote looks different, of those
            since `watch`.
        pid: The process that made this proxy.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.path = urllib.parse.urlsplit(upstream).path.rstrip("/")
        self.dead = False
        self.victim: int | None = None
        self.spoilt = 0
        self.effect: int | None = None
        self._look: Callable[[], object] | None = None
        self._seen: object = None
        self.pid = os.getpid()

    @property
    def base(self) -> str:
        """What an adapter gets as the server's URL."""
        return self.url + self.path

    def at(self, exchange: int, fault: Fault, *, times: int = 1) -> None:
        """Plan a fault for the exchange at this position, from 0, and for those that follow."""
        self.fault(lambda _request: True, fault, times=times, skip=exchange)

    def watch(self, look: Callable[[], object]) -> None:
        """Look at the remote now and after each request, until `clear`, to find the `effect`."""
        self._look, self._seen = look, look()

    def clear(self) -> None:
        """Forget the requests and the faults; the process lives."""
        super().clear()
        self.dead = False
        self.victim = None
        self._look = self.effect = None

    def next_fault(self, request: SeenRequest) -> Fault | None:
        """The fault of a request; nothing reaches the server from a dead process."""
        if self.dead:
            return Fault("dead", forward=False, reset=True)
        fault = super().next_fault(request)
        if fault is not None and fault.forward and (fault.answer or fault.reset or fault.cut):
            self.spoilt += 1
        return fault

    def deliver(self, request: SeenRequest) -> None:
        """Let the server have a request that was held back; its answer goes nowhere."""
        query = f"?{urllib.parse.urlencode(request.query)}" if request.query else ""
        self.forward(request.verb, request.path + query, request.headers, request.body)

    def record(self, request: SeenRequest) -> None:
        """Kill if planned: the server has done its part, and the client has no answer yet."""
        super().record(request)
        if self._look is not None and self.effect is None and self._look() != self._seen:
            self.effect = len(self.requests) - 1
        if request.fault == "crash":
            self.dead = True
        if request.fault == "kill" and self.victim is not None:
            os.kill(self.victim, KILL)


class KillableStore(TracingStore):
    """The store of a process: out of reach once that is dead.

    Attributes:
        planning: How many requests there were before the plan was created.
    """

    def __init__(self, store: ArtifactStore, proxy: FaultProxy) -> None:
        super().__init__(store)
        self._proxy = proxy
        self.planning: int | None = None

    def _around(self, verb: str, key: str, call: Callable[[], _T]) -> _T:
        if self._proxy.dead:
            raise Killed
        if verb == "create" and key.endswith(planned_key("")) and self.planning is None:
            self.planning = len(self._proxy.requests)
        return super()._around(verb, key, call)


class KillableClock(ManualClock):
    """The clock of a process: no sleep begins once that is dead.

    Args:
        proxy: Says whether the process is dead.
        ahead: Seconds by which it is ahead of the real time at first.
    """

    def __init__(self, proxy: FaultProxy, ahead: float = 0.0) -> None:
        super().__init__()
        self.advance(ahead)
        self._proxy = proxy

    def sleep(self, seconds: float) -> None:
        """Let the time pass at once, or die."""
        if self._proxy.dead:
            raise Killed
        super().sleep(seconds)


class RecordingAdapter(TransactionalAdapter):
    """The adapter under test; its errors and its requests are recorded.

    It can do transactions if that adapter can.

    Args:
        inner: The adapter.
        proxy: Where it sends.
        rows: Reads what the remote has of this session, around the adapter.
        detour: Used instead of ``inner`` for the first ``detours`` attempts at sending.
        detours: See above.
        plan: Planning counts as such an attempt, too.

    Attributes:
        errors: What the adapter raised.
        waits: The ``retry_after`` of each TransientError, in seconds.
        before_emit: Called with an operation's id before each attempt.
        repeats: How many requests it sent in an attempt after the answer 429 or 503.
        false_claims: Errors that said "surely not applied" although the server had applied the
            request.
    """

    def __init__(
        self,
        inner: Adapter,
        proxy: FaultProxy,
        rows: Callable[[], object],
        detour: Adapter | None = None,
        *,
        detours: int = 0,
        plan: bool = False,
    ) -> None:
        self.inner = inner
        self._proxy = proxy
        self._rows = rows
        self._detour = detour
        self._detours = detours
        self._plan_too = plan
        self.errors: list[BaseException] = []
        self.waits: list[float | None] = []
        self.before_emit: Callable[[str], None] | None = None
        self.repeats = 0
        self.false_claims: list[str] = []
        # This one class stands for adapters of all names and kinds.
        setattr(self, "name", inner.name)  # noqa: B010 - see above
        setattr(self, "kinds", inner.kinds)  # noqa: B010 - see above
        self.request_lifetime = inner.request_lifetime

    def target(self) -> str | None:
        """As the adapter does."""
        return self.inner.target()

    def row_of(self, operation: PlannedOperation) -> str | None:
        """As the adapter does."""
        return self.inner.row_of(operation)

    def can_find(self, operation: PlannedOperation) -> bool:
        """As the adapter does."""
        return self.inner.can_find(operation)

    def payload_of(self, operation: PlannedOperation) -> Any:
        """As the adapter does."""
        return self.inner.payload_of(operation)

    def completed(self, planned: PlannedOperation) -> PlannedOperation:
        """As the adapter does."""
        return self.inner.completed(planned)

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """As the adapter does."""
        inner = self._next() if self._plan_too else self.inner
        return self._record(lambda: inner.plan(operations))

    def emit(self, operation: PlannedOperation) -> Receipt:
        """As the adapter does."""
        if self.before_emit is not None:
            self.before_emit(operation.id)
        inner = self._next()
        return self._check_claim(lambda: inner.emit(operation))

    def require_transaction(self, operations: Sequence[PlannedOperation]) -> None:
        """As the adapter does."""
        assert isinstance(self.inner, TransactionalAdapter), "the kit asks no other for transactions"
        self.inner.require_transaction(operations)

    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        """As the adapter does."""
        inner = self._next()
        assert isinstance(inner, TransactionalAdapter), "the kit asks no other for transactions"
        return self._check_claim(lambda: awaited(inner.transact(operations)))

    def find(self, operation: PlannedOperation) -> Receipt | None:
        """As the adapter does."""
        return self._record(lambda: self.inner.find(operation))

    def close(self) -> None:
        """Close what has a close."""
        for adapter in filter(None, (self.inner, self._detour)):
            close = getattr(adapter, "close", None)
            if close is not None:
                close()

    def _next(self) -> Adapter:
        if self._detour is None or self._detours < 1:
            return self.inner
        self._detours -= 1
        return self._detour

    def _check_claim(self, send: Callable[[], _T]) -> _T:
        """Send; note a "surely not applied" of a request that has changed a row.

        What a run does shows such a lie for some replay classes only: the others send again anyway.
        """
        before, spoilt = self._rows_now(), self._proxy.spoilt
        try:
            return self._record(send)
        except BaseException as error:
            claims = isinstance(error, _CLAIMS) or getattr(error, "applied", None) is Applied.NO
            if claims and self._proxy.spoilt > spoilt and self._rows_now() != before:
                self.false_claims.append(type(error).__name__)
            raise

    def _rows_now(self) -> object:
        # A forked child must not use what the backdoor has opened.
        return self._rows() if os.getpid() == self._proxy.pid else None

    def _record(self, call: Callable[[], _T]) -> _T:
        before = len(self._proxy.requests)
        try:
            return call()
        except BaseException as error:
            self.errors.append(error)
            if isinstance(error, TransientError):
                # Now, because the runner may make it longer.
                self.waits.append(error.retry_after)
            raise
        finally:
            sent = self._proxy.requests[before:]
            busy = [position for position, one in enumerate(sent) if one.fault and one.status in (429, 503)]
            self.repeats += len(sent) - 1 - busy[0] if busy else 0


def forked(work: Callable[[], object], begin: Callable[[int], None]) -> int:
    """Do the work in a child process, after ``begin`` was called with its id.

    Returns:
        The child's wait status.
    """
    if sys.platform == "win32":
        raise AssertionError("the part fork is skipped there")
    waiting, go = os.pipe()
    with warnings.catch_warnings():
        # Python is right to warn of a fork beside threads; the child makes new objects of its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(_PATIENCE)
            os.read(waiting, 1)
            work()
            code = 0
        finally:
            os._exit(code)
    try:
        begin(child)
        os.write(go, b"x")
        return os.waitpid(child, 0)[1]
    finally:
        os.close(waiting)
        os.close(go)
