"""A circuit breaker: a remote that is down is noticed after a few sessions, and probed.

It knows what one sweep or batch has met, and keeps nothing anywhere: another one finds out by
itself.
"""

import threading
from collections.abc import Callable
from datetime import datetime
from enum import Enum, auto

from writeahead.adapters.base import Adapter
from writeahead.errors import ConflictError, PermanentError, TransientError
from writeahead.model import RunReport, RunStatus
from writeahead.protocol.context import HeldBack
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import after
from writeahead.protocol.waits import LONGEST_SHARED

__all__ = ["Breaker", "Verdict", "verdict_on"]

# Sessions in a row that a remote takes nothing of before the rest is held back.
_THRESHOLD = 3
# Seconds until the first probe; each further wait is twice as long, up to the second.
_FIRST_WAIT = 5.0
_LONGEST_WAIT = 300.0


class Verdict(Enum):
    """What the run of one session says about the remote."""

    UP = auto()
    DOWN = auto()
    NOTHING = auto()


def verdict_on(report: RunReport, *, stopped: bool = False) -> Verdict:
    """What a run says about the remote: a refusal of a write is an answer, too.

    One that found it down may be blocked: its plan could not be made, or its request may have taken
    effect, and no one can tell. A request that a stop broke off says nothing.
    """
    if stopped:
        return Verdict.NOTHING
    answered = isinstance(report.cause, PermanentError | ConflictError)
    if report.emitted or report.status is RunStatus.COMPLETED or answered:
        return Verdict.UP
    is_down = isinstance(report.cause, TransientError) and not isinstance(report.cause, HeldBack)
    return Verdict.DOWN if is_down else Verdict.NOTHING


class Breaker:
    """Says whether a session may be begun. Threads may share it.

    It is closed at first. Three sessions in a row that the remote took nothing of open it. Then one
    session, the probe, may be begun after a wait: of 5 seconds, and twice as long after each probe
    that failed, up to 5 minutes. A session of which the remote took something closes it.

    Until the remote has taken something for the first time, no more sessions are under way at once
    than may still fail. So a remote that is down from the beginning costs three, however many could
    run at once.

    A wait that the remote asked this process for holds all back until it is over, and counts as no
    failure.

    Args:
        clock: Where time comes from.
        adapter: Whose remote that is; None where other processes ask it, and `over` is told.
    """

    def __init__(self, clock: Clock, adapter: Adapter | None = None) -> None:
        self._clock = clock
        self._adapter = adapter
        self._lock = threading.Lock()
        self._active = 0
        self._failures = 0
        self._is_proven = False
        self._wait = _FIRST_WAIT
        self._probe_at: datetime | None = None
        self._asked_until: datetime | None = None
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Whether sessions are held back."""
        return self.probe_at is not None

    @property
    def probe_at(self) -> datetime | None:
        """When a session may be tried again; None while it is closed."""
        moments = [moment for moment in (self._probe_at, self._told_until()) if moment is not None]
        return max(moments, default=None)

    def _told_until(self) -> datetime | None:
        if self._adapter is None:
            asked = self._asked_until
            return asked if asked and asked > self._clock.now() else None
        now = self._clock.monotonic()
        wait = self._clock.waits.until(self._adapter, now) - now
        return after(self._clock.now(), wait) if wait > 0 else None

    @property
    def has_room(self) -> bool:
        """Whether `admit` would let a session pass now."""
        with self._lock:
            return self._admits()

    def admit(self) -> bool:
        """Let a session pass, which `over` must follow; or hold it back."""
        with self._lock:
            if not self._admits():
                return False
            self._is_probing = self._probe_at is not None
            self._active += 1
            return True

    def _admits(self) -> bool:
        if self._told_until() is not None:
            return False
        if self._probe_at is not None:
            return not self._is_probing and self._clock.now() >= self._probe_at
        return self._is_proven or self._active < _THRESHOLD - self._failures

    def tried(self, run: Callable[[], RunReport], stop: threading.Event | None) -> RunReport | None:
        """Run a session if it may be begun now, and note what that says about the remote.

        Args:
            run: Runs it.
            stop: The run's. A request that a stop broke off says nothing.

        Returns:
            Its report; None if it was held back.
        """
        if not self.admit():
            return None
        verdict = Verdict.NOTHING
        try:
            report = run()
            verdict = verdict_on(report, stopped=stop is not None and stop.is_set())
        finally:
            self.over(verdict)
        return report

    def over(self, verdict: Verdict, retry_after: float | None = None) -> None:
        """Note how a session ended that was let pass.

        Args:
            verdict: What that says.
            retry_after: Seconds that the remote asked another process to wait, if it did.
        """
        with self._lock:
            self._active -= 1
            if retry_after:
                until = after(self._clock.now(), min(retry_after, LONGEST_SHARED))
                self._asked_until = max(until, self._asked_until or until)
            match verdict:
                case Verdict.UP:
                    self._failures, self._wait = 0, _FIRST_WAIT
                    self._probe_at, self._is_probing, self._is_proven = None, False, True
                case Verdict.DOWN:
                    self._failures += 1
                    if self._failures >= _THRESHOLD:
                        self._hold_back()
                case Verdict.NOTHING if not self._active:
                    # A probe that found nothing out leaves its place to the next.
                    self._is_probing = False

    def _hold_back(self) -> None:
        """Open, or stay open. Only a probe makes the wait longer."""
        if self._probe_at is None or self._is_probing:
            self._probe_at = after(self._clock.now(), self._wait)
            self._wait = min(2 * self._wait, _LONGEST_WAIT)
            self._is_probing = False
