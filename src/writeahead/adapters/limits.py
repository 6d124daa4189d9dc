"""What ends an adapter's call from outside: the time left for the whole run, and a request to stop.

The runner sets both around each call of an adapter. A transport that waits for a remote reads them:
`writeahead.adapters.bounded` does, and an adapter with a transport of its own can.
"""

import contextlib
import contextvars
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["CallLimits", "call_limits", "current_limits"]


@dataclass(frozen=True, slots=True)
class CallLimits:
    """The limits of the call that is under way.

    Attributes:
        time_left: Returns the seconds until the run reaches its time limit; infinite without one.
        stop: Set when the run is asked to stop; None where no one can ask.
    """

    time_left: Callable[[], float] = lambda: math.inf
    stop: threading.Event | None = None

    def stopped(self) -> bool:
        """Whether the run is asked to stop."""
        return self.stop is not None and self.stop.is_set()


_UNLIMITED = CallLimits()
_current: contextvars.ContextVar[CallLimits] = contextvars.ContextVar("writeahead_call_limits")


def current_limits() -> CallLimits:
    """Return the limits of the call that is under way; outside of a run there are none."""
    return _current.get(_UNLIMITED)


@contextlib.contextmanager
def call_limits(time_left: Callable[[], float], stop: threading.Event | None) -> Iterator[None]:
    """Set the limits for what is called inside."""
    token = _current.set(CallLimits(time_left, stop))
    try:
        yield
    finally:
        _current.reset(token)
