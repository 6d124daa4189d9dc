"""Faults for one test: lost replies, outages, a killed process, a store whose answer is lost.

    faults = FaultInjector(MemoryStore())
    adapter = MyAdapter(faults.proxy("http://127.0.0.1:8000").url)
    faults.lost_reply(nth=2)
    write_back([...], session_id="call-7", store=faults.store, adapter=adapter)

pytest gives one as the fixture ``writeahead_faults``.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from writeahead.adapters.awaiting import awaited
from writeahead.adapters.base import Adapter
from writeahead.errors import Applied, TransientError
from writeahead.stores.base import ArtifactStore
from writeahead.testing.adapter_contract.process import Killed
from writeahead.testing.decorators import FaultyStore, StoreFault
from writeahead.testing.http_proxy import Fault, HttpProxy, SeenRequest, answer, lost_reply

__all__ = ["FaultInjector"]

_T = TypeVar("_T")
_A = TypeVar("_A", bound=Adapter)
# RFC 9110, section 9.2.1.
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
_FOREVER = 10**9
_KILL = "kill"
_DEAD = Fault("dead", forward=False, reset=True)


@dataclass
class _Planned:
    what: str
    fault: Fault
    skip: int
    left: int
    is_met: bool = False

    def is_due(self) -> bool:
        """Count a write, and tell whether it may meet this fault."""
        if self.skip:
            self.skip -= 1
            return False
        return self.left > 0

    def meet(self) -> Fault:
        self.left -= 1
        self.is_met = True
        return self.fault


class FaultInjector:
    """Plans what goes wrong in a test, at a store and on the way to a remote.

    Give `store` to the code under test. Let its requests go through `proxy`, which is real HTTP; or
    wrap the adapter with `adapter` if it speaks something else. Use one of the two, since both
    count.

    The faults of the remote count **writes**: requests through the proxy that are not GET, HEAD,
    OPTIONS or TRACE, or calls of the adapter's ``emit`` and ``transact``. The first write after the
    call is number 1. Of several faults that are due for one write, the one planned first comes.

    Args:
        store: The store to wrap.

    Attributes:
        store: That store with faults; `FaultyStore.fail` plans those that have no method here.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self._is_dead = False
        self._planned: list[_Planned] = []
        self._lock = threading.Lock()
        self._opened = ExitStack()
        self.store: FaultyStore = _MortalStore(store, self)

    def proxy(self, url: str) -> HttpProxy:
        """Put a proxy in front of a server, until `close`.

        Args:
            url: The server: scheme, host and port; plain HTTP.

        Returns:
            The proxy, which runs. Its ``url`` is for the code under test, its ``requests`` for the
            test, and its ``fault()`` plans what has no method here.
        """
        return self._opened.enter_context(_InjectingProxy(url, self))

    def adapter(self, adapter: _A) -> _A:
        """Let an adapter's ``emit`` and ``transact`` meet the faults, until `close`.

        Returns:
            The same adapter. A lost reply and an outage reach its caller as a `TransientError`.
        """
        for name in ("emit", "transact"):
            send = getattr(adapter, name, None)
            if send is not None:
                # On the object, not on its class: other adapters of this class are left alone.
                setattr(adapter, name, self._injected(send))
                self._opened.callback(vars(adapter).pop, name)
        return adapter

    def lost_reply(self, nth: int = 1, *, times: int | None = 1) -> None:
        """The remote applies a write, and its reply is lost: a reset connection.

        Args:
            nth: Which write, from 1.
            times: How many writes from there on; None is until `heal`.
        """
        self._plan("lost_reply", lost_reply(), nth, times)

    def unavailable(self, nth: int = 1, *, times: int | None = 1, retry_after: int | None = None) -> None:
        """The remote does not get a write: HTTP 503, or a `TransientError` that says so.

        Args:
            nth: Which write, from 1.
            times: How many writes from there on; None is until `heal`.
            retry_after: Seconds of a ``Retry-After``.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._plan("unavailable", answer(HTTPStatus.SERVICE_UNAVAILABLE, headers), nth, times)

    def lost_put(self, nth: int = 1, *, key: str = "*") -> None:
        """The store keeps what is put, and its answer is lost: `OutcomeUnknown`.

        Args:
            nth: Which create of a fitting key, from 1.
            key: A pattern of `fnmatch` whose ``*`` takes ``/`` too, e.g. ``*/writeback.json``.
        """
        self.store.fail("create", key, StoreFault.lost_reply(), skip=nth - 1)

    @contextmanager
    def kill(self, nth: int = 1, *, applied: bool = True) -> Iterator[None]:
        """Kill what runs in a ``with`` block at a write, as ``kill -9`` would.

        From then on nothing that the block does reaches the store, or the remote through a proxy or
        a wrapped adapter. The block ends by the exception that this raises in the code under test,
        and that goes no further. What follows the block is another process. The lease of the dead
        one still counts. A run tries again before it finds out that it is dead: give it a
        `ManualClock`, or its waits are real.

        Args:
            nth: At which write, from 1.
            applied: Whether the remote applies that write.

        Raises:
            AssertionError: The block ended, and that write was not sent.
        """
        self._plan(_KILL, Fault(_KILL, forward=applied, reset=True), nth, 1)
        try:
            yield
        except (Exception, Killed, SystemExit) as error:
            # A failed assertion of the test is no part of what died.
            if not self._is_dead or isinstance(error, AssertionError):
                raise
        finally:
            was_killed, self._is_dead = self._is_dead, False
        assert was_killed, f"kill: write number {nth} was not sent, so nothing was killed"

    def heal(self) -> None:
        """Drop every fault that is planned: an outage is over."""
        with self._lock:
            self._planned.clear()
        self.store.heal()

    @property
    def pending(self) -> list[str]:
        """The faults that were planned and never came, in words; a test can expect none."""
        with self._lock:
            missing = [planned.what for planned in self._planned if not planned.is_met]
        return missing + ["a fault of the store"] * self.store.pending

    def close(self) -> None:
        """Stop the proxies, and leave the adapters as they were."""
        self._opened.close()

    # What the store, the proxies and the adapters ask.

    def require_alive(self) -> None:
        """Raise `Killed` in a process that is dead."""
        if self._is_dead:
            raise Killed

    def next_fault(self) -> Fault | None:
        """The fault of the next write."""
        if self._is_dead:
            return _DEAD
        with self._lock:
            # Each one counts each write, also one that meets another fault.
            due = [planned for planned in self._planned if planned.is_due()]
            return due[0].meet() if due else None

    def note(self, fault: str | None) -> None:
        """Die, if this was the fault of a write that has reached the remote or was kept from it."""
        self._is_dead |= fault == _KILL

    def _plan(self, what: str, fault: Fault, nth: int, times: int | None) -> None:
        assert nth > 0, f"{what}: nth counts from 1"
        planned = _Planned(f"{what}(nth={nth})", fault, nth - 1, _FOREVER if times is None else times)
        with self._lock:
            self._planned.append(planned)

    def _injected(self, send: Callable[..., _T]) -> Callable[..., _T]:
        def sent(*arguments: object) -> _T:
            self.require_alive()
            fault = self.next_fault()
            if fault is None:
                return send(*arguments)
            if fault.forward:
                awaited(send(*arguments))
            self.note(fault.name)
            self.require_alive()
            raise _error_of(fault)

        return sent


class _MortalStore(FaultyStore):
    """Out of reach for a dead process."""

    def __init__(self, store: ArtifactStore, faults: FaultInjector) -> None:
        super().__init__(store)
        self._faults = faults

    def _around(self, verb: str, key: str, call: Callable[[], _T]) -> _T:
        self._faults.require_alive()
        return super()._around(verb, key, call)


class _InjectingProxy(HttpProxy):
    """Asks for a fault at each write; those of its own come first."""

    def __init__(self, upstream: str, faults: FaultInjector) -> None:
        super().__init__(upstream)
        self._faults = faults

    def next_fault(self, request: SeenRequest) -> Fault | None:
        """See `HttpProxy.next_fault`."""
        try:
            self._faults.require_alive()
        except Killed:
            return _DEAD
        own = super().next_fault(request)
        return own if own or request.verb in _SAFE_METHODS else self._faults.next_fault()

    def record(self, request: SeenRequest) -> None:
        """Keep a request; the client has no answer yet."""
        super().record(request)
        self._faults.note(request.fault)


def _error_of(fault: Fault) -> TransientError:
    if fault.answer is None:
        return TransientError("a planned fault: the reply was lost", applied=Applied.UNKNOWN)
    wait = fault.answer.headers.get("Retry-After")
    return TransientError(
        f"a planned fault: HTTP {fault.answer.status}",
        applied=Applied.NO,
        retry_after=None if wait is None else float(wait),
    )
