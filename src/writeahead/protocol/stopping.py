"""A request to stop that has several sources: a cancelled call, the caller's event, a deadline."""

import math
import threading

from writeahead.adapters import limits
from writeahead.protocol.retry import Clock

__all__ = ["LinkedStop", "linked_stop"]


class LinkedStop(threading.Event):
    """Is set by `set`; counts as set, too, while the caller's own event is, and after a deadline.

    Args:
        callers: What the caller gave as ``stop``.
        clock: What the caller gave as ``clock``; None for the real time.
        deadline: When it counts as set, on that clock's monotonic time.
    """

    def __init__(
        self, callers: threading.Event | None, clock: Clock | None, *, deadline: float = math.inf
    ) -> None:
        super().__init__()
        self._callers = callers
        self._clock = clock
        self._deadline = deadline

    @property
    def is_late(self) -> bool:
        """Whether the deadline is over."""
        return self.time_left() <= 0

    @property
    def is_asked(self) -> bool:
        """Whether a stop was asked for, be it late or not."""
        return super().is_set() or (self._callers is not None and self._callers.is_set())

    def is_set(self) -> bool:
        """See `threading.Event`."""
        return self.is_asked or self.is_late

    def wait(self, timeout: float | None = None) -> bool:
        """See `threading.Event`. Time passes as the caller's event or the caller's clock has it."""
        left = min(math.inf if timeout is None else timeout, self.time_left())
        timeout = None if left == math.inf else left
        if self._callers is not None:
            return self._wait_for_both(timeout)
        if self._clock is None or timeout is None or type(self._clock).sleep is Clock.sleep:
            return super().wait(timeout) or self.is_set()
        # The caller's time: the synchronous function would sleep on it, too.
        if not self.is_set():
            self._clock.sleep(timeout)
        return self.is_set()

    def time_left(self) -> float:
        """Seconds until the deadline; infinite without one."""
        if self._deadline == math.inf:
            return math.inf
        return self._deadline - (self._clock or Clock()).monotonic()

    def _wait_for_both(self, timeout: float | None) -> bool:
        assert self._callers is not None
        # On the caller's, which may have its own idea of time; so a cancellation is seen in slices.
        left = timeout
        while not self.is_set() and (left is None or left > 0):
            piece = limits.POLL if left is None else min(left, limits.POLL)
            self._callers.wait(piece)
            left = None if left is None else left - piece
        return self.is_set()


def linked_stop(stop: threading.Event | None, clock: Clock, max_time: float | None) -> LinkedStop:
    """Return what ends work on many sessions: the caller's event, or a time that is over."""
    deadline = math.inf if max_time is None else clock.monotonic() + max_time
    return LinkedStop(stop, clock, deadline=deadline)
