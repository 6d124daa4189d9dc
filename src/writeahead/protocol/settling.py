"""What a sweep does about one session that has a marker, or has lost it."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from writeahead.adapters.awaiting import awaited
from writeahead.adapters.base import Adapter
from writeahead.adapters.limits import call_limits
from writeahead.errors import AlreadyExists, OutcomeUnknown, Unavailable, WriteaheadError
from writeahead.model import BlockReason, RunPolicy, RunReport, RunStatus
from writeahead.protocol.artifacts import remove_markers
from writeahead.protocol.breaker import Breaker
from writeahead.protocol.context import HeldBack, RunContext
from writeahead.protocol.encoding import encode_model
from writeahead.protocol.finding import Found
from writeahead.protocol.keys import final_key, open_key, planned_key
from writeahead.protocol.messages import one_line
from writeahead.protocol.progress import OnProgress
from writeahead.protocol.resuming import resume_from
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import AbandonedPlan
from writeahead.protocol.session import StoredSession, after, read_stored
from writeahead.protocol.steps import SweepAction, how_it_ended, lost_marker, sweep_step
from writeahead.stores.base import ArtifactStore
from writeahead.telemetry import log, tracing

__all__ = ["Left", "OnOwn", "Settled", "Settler", "SweepResult", "reported", "went_wrong"]

OnOwn: TypeAlias = Callable[[ArtifactStore, str], object]


class Left(StrEnum):
    """Why a sweep, or a batch, left a session to a later one.

    - ``REMOTE_DOWN``: the remote took nothing of the sessions before it.
    - ``STORE_DOWN``: the store could not be reached for the sessions before it.
    - ``LIMIT``: so many were resumed as the caller allowed.
    - ``MAX_TIME``: the time that the caller allowed is over.
    """

    REMOTE_DOWN = "remote_down"
    STORE_DOWN = "store_down"
    LIMIT = "limit"
    MAX_TIME = "max_time"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep, or a batch, did about one session.

    Attributes:
        session_id: The session; empty for a line of a batch that names none.
        report: The report of its resume, or
        note: what the sweep found instead, or
        error: what went wrong, or
        left: why it was left as it is.
        restored: Whether its marker was lost, and was put again.
        status: How it stands, where that is known.
        block_reason: Why it is blocked, if it is.
        not_before: Before when another look at it is pointless, if that is known.
        again: Whether this very sweep will come back to it: another result of it follows, unless
            the sweep is stopped.
        found: How many sessions the sweep has found so far.
        line: In a batch, the number of its line.
        refused: In a batch, whether ``error`` is about the line, and not about the run of it.
    """

    session_id: str
    report: RunReport | None = None
    note: str | None = None
    error: str | None = None
    restored: bool = False
    left: Left | None = None
    status: RunStatus | None = None
    block_reason: BlockReason | None = None
    not_before: datetime | None = None
    again: bool = False
    found: int = 0
    line: int | None = None
    refused: bool = False


class Settled(NamedTuple):
    """What a look at a session came to.

    Attributes:
        result: What is told about it.
        attempted: Whether its operations were tried.
        is_store_down: Whether the store could not be reached.
    """

    result: SweepResult
    attempted: bool = False
    is_store_down: bool = False


@dataclass(frozen=True)
class Settler:
    """Does what `sweep_step` says about one session after the other. Threads may share it.

    Attributes:
        store: As for `writeahead.sweep`, and so are all but the last.
        adapter: See there.
        policy: See there.
        on_own: See there.
        stop: See there.
        clock: See there.
        on_progress: See there.
        breaker: Holds sessions back while the adapter's remote is down.
    """

    store: ArtifactStore
    adapter: Adapter | None
    policy: RunPolicy
    on_own: OnOwn | None
    stop: threading.Event | None
    clock: Clock
    on_progress: OnProgress | None
    breaker: Breaker

    def settle(self, found: Found) -> Settled | None:
        """Look at a session, and do what is to be done; None if nothing had to be, or would be.

        It raises nothing but interrupts: what goes wrong is in the result.
        """
        try:
            return self._settled(found)
        except Exception as error:  # noqa: BLE001 - a bug that one session meets must not starve the others
            return went_wrong(found.session_id, error, self.clock, self.policy)

    def _settled(self, found: Found) -> Settled | None:
        # Its time counts from before the session is read.
        context = self._begun()
        session = read_stored(self.store, found.session_id)
        if found.is_marked:
            return self._swept(session, context)
        marker = lost_marker(session)
        if marker is None:
            return None
        self.store.put(marker, b"")
        settled = self._swept(session, context)
        return settled._replace(result=replace(settled.result, restored=True))

    def _begun(self) -> RunContext | None:
        """The context of a resume that begins now; None without an adapter."""
        if self.adapter is None:
            return None
        return RunContext.begin(
            self.store, self.adapter, self.policy, self.stop, self.clock, on_progress=self.on_progress
        )

    def _swept(self, session: StoredSession, context: RunContext | None) -> Settled:
        action, note = sweep_step(
            session,
            now=self.clock.now(),
            clock_skew=self.policy.clock_skew,
            adapter=self.adapter.name if self.adapter else None,
        )
        session_id = session.session_id
        match action:
            case SweepAction.TIDY:
                return Settled(_tidied(session, self.store))
            case SweepAction.ABANDON:
                return Settled(self._abandoned(session_id))
            case SweepAction.SKIP:
                return Settled(_skipped(session, note))
            case SweepAction.RESUME_OWN:
                return self._resumed_own(session_id)
        return self._by_adapter(session, action, context)

    def _by_adapter(self, session: StoredSession, action: SweepAction, context: RunContext | None) -> Settled:
        """Resume a session, or say until when it has to wait."""
        if context is None:
            note = f"planned by adapter {session.adapter!r}: sweep it with that one"
            return Settled(SweepResult(session.session_id, note=note))
        if action is SweepAction.WAIT:
            # It is reported as a resume reports it.
            return Settled(reported(context.ended(resume_from(session, context), is_look=True)))
        report = self.breaker.tried(lambda: _resumed(session, context), self.stop)
        if report is None:
            # The caller knows when another look makes sense.
            return Settled(SweepResult(session.session_id, left=Left.REMOTE_DOWN))
        return Settled(reported(report), attempted=not isinstance(report.cause, HeldBack))

    def _resumed_own(self, session_id: str) -> Settled:
        if self.on_own is None:
            note = "of an orchestrator of its own: resume it with that, or sweep it with on_own"
            return Settled(SweepResult(session_id, note=note))
        busy_until = self._busy_until(session_id)
        if busy_until:
            why = "its program, or another sweep, may be at work on it"
            report = RunReport(
                session_id=session_id, status=RunStatus.IN_PROGRESS, error=why, not_before=busy_until
            )
            return Settled(reported(report))
        # Other sweeps leave it alone from now on.
        self.store.put(open_key(session_id), b"")
        try:
            given = self.on_own(self.store, session_id)
            with call_limits(lambda: math.inf, self.stop):
                awaited(given)
        except Exception as error:  # noqa: BLE001 - as in `settle`, and whose bug it is is known
            log.SWEEP.warning("failed", session_id=session_id, error=error)
            said = one_line(error) if isinstance(error, WriteaheadError) else type(error).__name__
            return Settled(SweepResult(session_id, error=f"its program raised {said}"), attempted=True)
        if self.store.head(final_key(session_id)) is None:
            why = "its program ended without a final artifact"
            report = RunReport(session_id=session_id, status=RunStatus.RESUME_NEEDED, error=why)
        else:
            report = RunReport(session_id=session_id, status=RunStatus.COMPLETED)
        return Settled(reported(report), attempted=True)

    def _abandoned(self, session_id: str) -> SweepResult:
        busy_until = self._busy_until(session_id)
        if busy_until:
            note = "no plan yet: its run may be active"
            return SweepResult(session_id, note=note, not_before=busy_until)
        tombstone = AbandonedPlan(session_id=session_id, abandoned_at=self.clock.now())
        try:
            # The tombstone first: a slow writer's plan is refused from now on, so the marker can
            # go.
            self.store.put(planned_key(session_id), encode_model(tombstone), if_absent=True)
        except AlreadyExists:
            return SweepResult(session_id, note="its plan has just been created")
        problems = remove_markers(self.store, session_id, was_blocked=False)
        if problems:
            return SweepResult(session_id, error=problems[0])
        return SweepResult(session_id, note="abandoned: its run died before it emitted anything")

    def _busy_until(self, session_id: str) -> datetime | None:
        """Until when a session's run may be at work, by its marker's age; None if it is over."""
        marker, now = self.store.head(open_key(session_id)), self.clock.now()
        written = marker.last_modified if marker else None
        until = after(written or now, self.policy.lease + self.policy.clock_skew)
        return until if until >= now else None


def _resumed(session: StoredSession, context: RunContext) -> RunReport:
    with tracing.span(
        "writeahead.resume", session_id=session.session_id, adapter=context.adapter.name
    ) as span:
        return span.ended(context.ended(resume_from(session, context)))


def went_wrong(session_id: str, error: Exception, clock: Clock, policy: RunPolicy) -> Settled:
    """What an exception says about a session; of one that is not ours only the class."""
    log.SWEEP.warning("failed", session_id=session_id, error=error)
    if isinstance(error, Unavailable | OutcomeUnknown):
        soon = after(clock.now(), policy.longest_wait)
        result = SweepResult(session_id, error=one_line(error), not_before=soon)
        return Settled(result, is_store_down=True)
    if isinstance(error, WriteaheadError):
        return Settled(SweepResult(session_id, error=one_line(error)))
    message = f"unexpected {type(error).__name__}: a bug in writeahead or in the adapter"
    return Settled(SweepResult(session_id, error=message), attempted=True)


def reported(report: RunReport) -> SweepResult:
    """What the report of a run says about its session."""
    return SweepResult(
        report.session_id,
        report=report,
        status=report.status,
        block_reason=report.block_reason,
        not_before=report.not_before,
    )


def _skipped(session: StoredSession, note: str) -> SweepResult:
    entry = session.entry
    is_blocked = entry is not None and entry.status is RunStatus.BLOCKED
    return SweepResult(
        session.session_id,
        note=note,
        status=RunStatus.BLOCKED if is_blocked else None,
        block_reason=entry.block_reason if entry and is_blocked else None,
    )


def _tidied(session: StoredSession, store: ArtifactStore) -> SweepResult:
    """Remove the markers of a session that nothing is left to do about.

    A tombstone can be replaced by a new run, whose marker is ``.blocked/``: that one stays.
    """
    session_id = session.session_id
    problems = remove_markers(store, session_id, was_blocked=session.abandoned is None)
    if problems:
        return SweepResult(session_id, error=problems[0])
    return SweepResult(
        session_id,
        note=f"{how_it_ended(session)}: its marker was removed",
        status=RunStatus.COMPLETED if session.is_final else RunStatus.ABANDONED,
    )
