"""What ends an adapter's call from outside: the time left for the whole run, and a request to stop.

The runner sets both around each call of an adapter. A transport that waits for a remote reads them:
`writeahead.adapters.bounded` does, and an adapter with a transport of its own can.
"""

import contextlib
import contextvars
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["POLL", "STOP_GRACE", "CallLimits", "Deadline", "call_limits", "current_limits"]

# Seconds that a request may go on after the run was asked to stop: most replies come within them,
# and a write that is broken off has an unknown outcome.
STOP_GRACE = 5.0
# Seconds between two looks at the limits while a remote is silent.
POLL = 0.25


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


class Deadline:
    """When one request has to end. It moves closer when the run is asked to stop.

    Args:
        seconds: The longest that the request may take.
        monotonic: Seconds on a clock that is never set; for tests.
    """

    def __init__(self, seconds: float = math.inf, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._limits = current_limits()
        self._ends_at = monotonic() + seconds
        self._stopping = False

    def time_left(self) -> float:
        """Seconds; 0 or less when the request has to end."""
        now = self._monotonic()
        if not self._stopping and self._limits.stopped():
            self._stopping = True
            self._ends_at = min(self._ends_at, now + STOP_GRACE)
        return min(self._ends_at - now, self._limits.time_left())
