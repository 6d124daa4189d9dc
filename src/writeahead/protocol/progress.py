"""What a run tells while it runs: frozen events, one call each."""

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from writeahead.errors import AdapterError, Applied, ConflictError, PermanentError, TransientError
from writeahead.model import (
    BlockReason,
    KeyedOperation,
    PlannedOperation,
    Receipt,
    RunReport,
    RunStatus,
    in_words,
)
from writeahead.protocol.messages import one_line
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import after
from writeahead.telemetry import log

__all__ = [
    "AttemptFailed",
    "Confirmed",
    "Ended",
    "Observer",
    "OnProgress",
    "Planning",
    "Progress",
    "Sending",
    "SessionProgress",
    "WaitReason",
    "Waiting",
]


class WaitReason(StrEnum):
    """Why a run waits.

    - ``BACKOFF``: the retry policy says so, after a failed attempt.
    - ``RETRY_AFTER``: the remote asked for it.
    - ``LATE_REQUEST``: an earlier request could still take effect.
    """

    BACKOFF = "backoff"
    RETRY_AFTER = "retry_after"
    LATE_REQUEST = "late_request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Something that happened in a run. Later versions may have more fields, and more events.

    Attributes:
        session_id: The session.
        at: When, by the run's wall clock.
        total: How many operations the session has.
        operations: The ids of the operations it is about: one, or all of a transaction; none while
            the run plans, and at its end.
        position: Of the first of them in the plan, from 1; 0 where there is none.
    """

    session_id: str
    at: datetime
    total: int
    operations: tuple[str, ...] = ()
    position: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planning(Progress):
    """The adapter is about to plan. Nothing has been written or sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending(Progress):
    """A request is about to be sent, unless the lease or a stop forbids it at the last moment.

    Attributes:
        attempt: Which one of this run, from 1.
    """

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(Progress):
    """A request failed: a write, a search for one, or one that planning made. Another may follow.

    Attributes:
        attempt: Which write of this run it was, from 1; before a search, how many there were; while
            planning, which attempt to plan.
        error: What the remote said, in one line.
        applied: Whether this request may have taken effect.
    """

    attempt: int
    error: str
    applied: Applied


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Progress):
    """The run is about to wait. A stop ends the wait.

    Attributes:
        seconds: How long.
        until: Until when, by the run's wall clock.
        reason: Why.
    """

    seconds: float
    until: datetime
    reason: WaitReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed(Progress):
    """There is a receipt for an operation.

    Attributes:
        receipt: The receipt.
    """

    receipt: Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Progress):
    """The run is over; its report follows, or what an adapter raised against its contract.

    A call that raises before it sends anything ends without this event.

    Attributes:
        status: How it ended.
        block_reason: Why it is blocked, if it is.
        error: Why it did not complete, in one line.
        not_before: Resuming earlier than this is pointless.
    """

    status: RunStatus
    block_reason: BlockReason | None = None
    error: str | None = None
    not_before: datetime | None = None


OnProgress = Callable[[Progress], None]


class Observer:
    """Calls ``on_progress``, and never lets it harm the run.

    What it raises is kept as a warning, and it is not called again: nothing that only watches may
    decide what is sent. An interrupt (`KeyboardInterrupt`) passes, as from anywhere else.

    Args:
        call: What is called; None if no one watches.

    Attributes:
        warnings: What it raised.
    """

    def __init__(self, call: OnProgress | None) -> None:
        self._call = call
        self._lock = threading.RLock()
        self.warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anyone to tell; else no event need be made."""
        return self._call is not None

    def tell(self, event: Progress) -> None:
        """Pass an event on, one at a time: operations may be under way in several threads."""
        with self._lock:
            self._tell(event)

    def _tell(self, event: Progress) -> None:
        if self._call is None:
            return
        try:
            returned = cast("Callable[[Progress], object]", self._call)(event)
        except Exception as error:  # noqa: BLE001 - whatever a caller's function raises
            # The type's name only: the message may hold anything.
            self._leave_off(f"raised {type(error).__name__} at {type(event).__name__}")
        else:
            if inspect.iscoroutine(returned):
                returned.close()
                self._leave_off("is async, where a plain function belongs")

    def _leave_off(self, why: str) -> None:
        self._call = None
        self.warnings = (f"on_progress {why}, and was not called again",)


class SessionProgress:
    """Makes the events of one session's run, if anyone watches, and logs them.

    Args:
        observer: Who watches.
        clock: Where time comes from.
        operations: Those of the session, in order.
        session_id: The session.
        owner: The run that holds its lease, where one does.

    Attributes:
        reason: Why the next wait will be, as the last failure has it.
    """

    def __init__(
        self,
        observer: Observer,
        clock: Clock,
        session_id: str,
        operations: Sequence[KeyedOperation | PlannedOperation],
        owner: str | None = None,
    ) -> None:
        self._observer = observer
        self._owner = owner
        self._clock = clock
        self._session_id = session_id
        self._positions = {item.id: place for place, item in enumerate(operations, 1)} if observer else {}
        self.reason = WaitReason.BACKOFF

    def planning(self) -> None:
        """Tell that planning begins."""
        self._log("planning")
        if self._observer:
            self._observer.tell(Planning(**self._about(())))

    def sending(self, unit: Sequence[PlannedOperation], attempt: int) -> None:
        """Tell that a request is about to be sent."""
        self._log("sending", unit, attempt=attempt)
        if self._observer:
            self._observer.tell(Sending(**self._about(unit), attempt=attempt))

    def failed(
        self, unit: Sequence[PlannedOperation], attempt: int, error: AdapterError, *, writes: bool = True
    ) -> None:
        """Tell that an attempt failed, and remember why a wait would follow."""
        wait = error.retry_after if isinstance(error, TransientError) else None
        self.reason = WaitReason.RETRY_AFTER if wait else WaitReason.BACKOFF
        applied = _applied(error) if writes else Applied.NO
        self._log("failed", unit, attempt=attempt, error=error, applied=applied)
        if self._observer:
            about = self._about(unit)
            self._observer.tell(
                AttemptFailed(**about, attempt=attempt, error=one_line(error), applied=applied)
            )

    def waiting(
        self, unit: Sequence[PlannedOperation], seconds: float, reason: WaitReason | None = None
    ) -> None:
        """Tell that a wait begins; by default the one that follows the last failure."""
        reason = reason or self.reason
        self._log("waiting", unit, wait=seconds, reason=reason)
        if self._observer:
            about = self._about(unit)
            until = after(about["at"], seconds)
            self._observer.tell(Waiting(**about, seconds=seconds, until=until, reason=reason))

    def confirmed(self, unit: Sequence[PlannedOperation], receipts: Mapping[str, Receipt]) -> None:
        """Tell of each receipt."""
        if log.RUN.has_debug:
            for operation in unit:
                receipt = receipts[operation.id]
                self._log("confirmed", [operation], attempt=receipt.attempts, outcome=receipt.outcome)
        if self._observer:
            for operation in unit:
                self._observer.tell(Confirmed(**self._about([operation]), receipt=receipts[operation.id]))

    def ended(self, report: RunReport, *, is_look: bool = False) -> None:
        """Tell how the run ended; or, after no more than a look, how the session stands."""
        _log_end(report, is_look=is_look)
        if self._observer:
            self._observer.tell(
                Ended(
                    **self._about(()),
                    status=report.status,
                    block_reason=report.block_reason,
                    error=report.error,
                    not_before=report.not_before,
                )
            )

    def _log(self, event: str, unit: Sequence[PlannedOperation] = (), **fields: object) -> None:
        if log.RUN.has_debug:
            operation = log.ids(one.id for one in unit)
            about = {"session_id": self._session_id, "operation": operation, "owner": self._owner}
            log.RUN.debug(event, **about, **fields)

    def _about(self, unit: Sequence[PlannedOperation]) -> dict[str, Any]:
        return {
            "session_id": self._session_id,
            "at": self._clock.now(),
            "total": len(self._positions),
            "operations": tuple(operation.id for operation in unit),
            "position": self._positions[unit[0].id] if unit else 0,
        }


def _log_end(report: RunReport, *, is_look: bool) -> None:
    tell = log.RUN.warning if report.status in (RunStatus.BLOCKED, RunStatus.RESUME_NEEDED) else log.RUN.info
    # A sweep may look at one that waits any number of times.
    (log.RUN.debug if is_look else tell)(
        "looked" if is_look else "ended",
        session_id=report.session_id,
        status=report.status,
        reason=report.block_reason,
        operation=report.operation,
        error=report.cause,
        not_before=report.not_before and in_words(report.not_before),
        sent=len(report.emitted),
        confirmed=len(report.receipts),
        operations=len(report.operations),
    )


def _applied(error: AdapterError) -> Applied:
    if isinstance(error, TransientError):
        return error.applied
    # An error of another class says nothing: see `AdapterError`.
    return Applied.NO if isinstance(error, PermanentError | ConflictError) else Applied.UNKNOWN
