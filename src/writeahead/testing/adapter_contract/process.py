"""A process that is killed at an exchange: its connections, its store and its clock all end there."""

import os
import signal
import urllib.parse
import warnings
from collections.abc import Callable
from typing import TypeVar

from writeahead.protocol.artifacts import planned_key
from writeahead.stores.base import ArtifactStore
from writeahead.testing.clock import ManualClock
from writeahead.testing.decorators import TracingStore
from writeahead.testing.http_proxy import Fault, HttpProxy, SeenRequest

__all__ = ["FaultProxy", "KillableClock", "KillableStore", "Killed", "forked"]

_T = TypeVar("_T")


class Killed(BaseException):
    """The death of a process, as far as it can be told from outside: from here on nothing has an effect."""


class FaultProxy(HttpProxy):
    """A proxy that takes a process's life at an exchange: its own threads and stores ask it if they live."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.path = urllib.parse.urlsplit(upstream).path.rstrip("/")
        self.dead = False
        self.victim: int | None = None

    @property
    def base(self) -> str:
        """What an adapter is given for the server's URL."""
        return self.url + self.path

    def at(self, exchange: int, fault: Fault, *, times: int = 1) -> None:
        """Plan a fault for the exchange at this position, from 0, and for those that follow."""
        self.fault(lambda _request: True, fault, times=times, skip=exchange)

    def clear(self) -> None:
        """Forget all, and let live."""
        super().clear()
        self.dead = False
        self.victim = None

    def next_fault(self, request: SeenRequest) -> Fault | None:
        """Nothing reaches the server from a process that is dead."""
        if self.dead:
            return Fault("dead", forward=False, reset=True)
        return super().next_fault(request)

    def record(self, request: SeenRequest) -> None:
        """Kill when it is time: the server has done what it shall, and the client has no answer yet."""
        super().record(request)
        if request.fault == "crash":
            self.dead = True
        if request.fault == "kill" and self.victim is not None:
            os.kill(self.victim, signal.SIGKILL)


class KillableStore(TracingStore):
    """Its process's store: out of reach once that is dead."""

    def __init__(self, store: ArtifactStore, wire: FaultProxy) -> None:
        super().__init__(store)
        self._wire = wire
        self.planning: int | None = None

    def _around(self, verb: str, key: str, call: Callable[[], _T]) -> _T:
        if self._wire.dead:
            raise Killed
        if verb == "create" and key.endswith(planned_key("")) and self.planning is None:
            self.planning = len(self._wire.requests)
        return super()._around(verb, key, call)


class KillableClock(ManualClock):
    """Its process's clock: no sleep begins once that is dead.

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


def forked(work: Callable[[], object], begin: Callable[[int], None]) -> int:
    """Do the work in a child process, after ``begin`` was called here with its id; return its wait status."""
    waiting, told = os.pipe()
    with warnings.catch_warnings():
        # Python warns, rightly, of a fork beside threads; the child makes all that it uses anew.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(60)
            os.read(waiting, 1)
            work()
            code = 0
        finally:
            os._exit(code)
    try:
        begin(child)
        os.write(told, b"x")
        return os.waitpid(child, 0)[1]
    finally:
        os.close(waiting)
        os.close(told)
