"""sweep(): resume many sessions. The cost grows with the unfinished ones only."""

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from writeahead.adapters.awaiting import awaited
from writeahead.adapters.base import Adapter
from writeahead.adapters.limits import call_limits
from writeahead.errors import AlreadyExists, InvalidInput, WriteaheadError
from writeahead.model import RunPolicy, RunReport, RunStatus
from writeahead.protocol.artifacts import remove_markers
from writeahead.protocol.context import RunContext, require_means
from writeahead.protocol.encoding import encode_model
from writeahead.protocol.finding import Found, all_sessions, marked_sessions
from writeahead.protocol.keys import blocked_key, final_key, open_key, planned_key
from writeahead.protocol.messages import one_line
from writeahead.protocol.progress import OnProgress
from writeahead.protocol.resuming import resume_from
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import AbandonedPlan, PlannedWriteback
from writeahead.protocol.session import StoredSession, after, read_stored
from writeahead.stores.base import ArtifactStore, require_store

__all__ = ["OnOwn", "SweepAction", "SweepResult", "candidates", "lost_marker", "sweep", "sweep_step"]

_DEFAULT_POLICY = RunPolicy()

OnOwn: TypeAlias = Callable[[ArtifactStore, str], object]


@dataclass(frozen=True)
class SweepResult:
    """What a sweep did about one session.

    Attributes:
        session_id: The session.
        report: The report of its resume, or
        note: what the sweep found instead, or
        error: what went wrong.
        restored: Whether its marker was lost, and was put again.
    """

    session_id: str
    report: RunReport | None = None
    note: str | None = None
    error: str | None = None
    restored: bool = False


def sweep(
    store: ArtifactStore,
    adapter: Adapter | None = None,
    *,
    policy: RunPolicy = _DEFAULT_POLICY,
    on_own: OnOwn | None = None,
    scan: bool = False,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[SweepResult]:
    """Resume every session that needs it, and remove markers of finished ones. Streams results.

    One bad session never stops the sweep: its error is in its result. A marker without a plan,
    older than ``policy.lease``, is of a run that died before it emitted anything: a tombstone takes
    the plan's place.

    Args:
        store: Where the artifacts are.
        adapter: Resumes the sessions that it planned; None to leave them.
        policy: How hard to try.
        on_own: Resumes a session of an orchestrator of its own: it gets the store and the session's
            id, and ends with `writeahead.write_writeback_artifact`. It is called if neither its
            run nor another sweep has begun it within ``policy.lease``. That is no lock: as for any
            replay, the remote must recognize what it has. It may be ``async def``: then a stop
            cancels it, after 5 more seconds.
        scan: List the whole store, and put the marker again where it was lost, as in a copy that
            left out files whose name begins with a dot. It reads each unfinished session that has
            none.
        stop: Once set, nothing more is begun, and the run under way ends as for `write_back`.
        clock: Where time comes from; for tests.
        on_progress: As for `write_back`.

    Raises:
        InvalidInput: There is neither an adapter nor ``on_own``.
        StoreError: The markers, or with ``scan`` the store, can't be listed.
    """
    if adapter is None:
        require_store(store)
    else:
        require_means(store, adapter)
    if adapter is None and on_own is None:
        raise InvalidInput("sweep: give an adapter, on_own, or both: without them, nothing can be resumed")
    return _Sweep(store, adapter, policy, on_own, stop, clock or Clock(), on_progress).results(scan=scan)


class SweepAction(StrEnum):
    """What a sweep does about a session that has a marker."""

    TIDY = "tidy"
    ABANDON = "abandon"
    SKIP = "skip"
    WAIT = "wait"
    RESUME = "resume"
    RESUME_OWN = "resume_own"


def candidates(store: ArtifactStore, *, scan: bool) -> Iterator[Found]:
    """Stream the sessions that a sweep looks at."""
    found = all_sessions(store) if scan else marked_sessions(store)
    return (one for one in found if one.is_marked or not (one.is_final or one.is_pruned))


def sweep_step(
    session: StoredSession, *, now: datetime, clock_skew: float, adapter: str | None = None
) -> tuple[SweepAction, str]:
    """Decide what a sweep does about a session that has a marker, and say it in one line.

    Args:
        session: As it was read.
        now: The wall clock's time.
        clock_skew: Seconds that two machines' clocks may be apart.
        adapter: The name of the adapter that sweeps; None to leave it out of the decision.
    """
    ended = _how_it_ended(session)
    if ended:
        return SweepAction.TIDY, f"{ended}: remove its marker"
    if session.is_own:
        return _own_step(session)
    plan = session.plan
    if plan is None:
        note = "no plan yet: wait while its run may be active; later, mark it as abandoned"
        return SweepAction.ABANDON, note
    if adapter is not None and plan.adapter != adapter:
        return SweepAction.SKIP, f"planned by adapter {plan.adapter!r}: sweep it with that one"
    return _planned_step(session, plan, now, clock_skew)


def _own_step(session: StoredSession) -> tuple[SweepAction, str]:
    if session.is_planned:
        return (
            SweepAction.RESUME_OWN,
            "resume it by the function of --own, once its marker is older than a lease",
        )
    return SweepAction.SKIP, "no plan yet: its program is at work, or died before it sent anything"


def _planned_step(
    session: StoredSession, plan: PlannedWriteback, now: datetime, clock_skew: float
) -> tuple[SweepAction, str]:
    status, not_before = session.status(now, clock_skew), session.waits_until(now, clock_skew)
    if status is RunStatus.BLOCKED:
        return SweepAction.SKIP, "blocked: it waits for an operator"
    if not_before:
        what = "another run is active" if status is RunStatus.IN_PROGRESS else "it has to wait"
        return SweepAction.WAIT, f"{what}, until {not_before:%Y-%m-%d %H:%M:%SZ} at the latest"
    missing = len(plan.operations) - len(session.receipts)
    return SweepAction.RESUME, f"resume it: {missing} of {len(plan.operations)} operations are missing"


def _how_it_ended(session: StoredSession) -> str | None:
    if session.pruned:
        return "pruned"
    if session.is_final:
        return "finished"
    if session.abandoned:
        return "abandoned before it emitted anything"
    was_given_up = session.entry is not None and session.entry.status is RunStatus.ABANDONED
    return "abandoned by an operator" if was_given_up else None


@dataclass(frozen=True)
class _Sweep:
    store: ArtifactStore
    adapter: Adapter | None
    policy: RunPolicy
    on_own: OnOwn | None
    stop: threading.Event | None
    clock: Clock
    on_progress: OnProgress | None

    def results(self, *, scan: bool) -> Iterator[SweepResult]:
        for found in candidates(self.store, scan=scan):
            if self.stop and self.stop.is_set():
                return
            try:
                result = self._result(found)
            except WriteaheadError as error:
                result = SweepResult(found.session_id, error=one_line(error))
            except Exception as error:  # noqa: BLE001 - a bug that one session meets must not starve the others
                message = f"unexpected {type(error).__name__}: a bug in writeahead or in the adapter"
                result = SweepResult(found.session_id, error=message)
            if result is not None:
                yield result

    def _result(self, found: Found) -> SweepResult | None:
        # Counted from before the session is read.
        context = self._begun()
        session = read_stored(self.store, found.session_id)
        if found.is_marked:
            return self._swept(session, context)
        marker = lost_marker(session)
        if marker is None:
            return None
        self.store.put(marker, b"")
        return replace(self._swept(session, context), restored=True)

    def _begun(self) -> RunContext | None:
        """The context of a resume that begins now; None without an adapter."""
        if self.adapter is None:
            return None
        return RunContext.begin(
            self.store, self.adapter, self.policy, self.stop, self.clock, on_progress=self.on_progress
        )

    def _swept(self, session: StoredSession, context: RunContext | None) -> SweepResult:
        action, note = sweep_step(
            session,
            now=self.clock.now(),
            clock_skew=self.policy.clock_skew,
            adapter=self.adapter.name if self.adapter else None,
        )
        session_id = session.session_id
        match action:
            case SweepAction.TIDY:
                return _tidied(session, self.store)
            case SweepAction.ABANDON:
                return self._abandoned(session_id)
            case SweepAction.SKIP:
                return SweepResult(session_id, note=note)
            case SweepAction.RESUME_OWN:
                return self._resumed_own(session_id)
        if context is None:
            return SweepResult(
                session_id, note=f"planned by adapter {session.adapter!r}: sweep it with that one"
            )
        # One that has to wait is reported as a resume reports it.
        return SweepResult(session_id, report=context.ended(resume_from(session, context)))

    def _resumed_own(self, session_id: str) -> SweepResult:
        if self.on_own is None:
            note = "of an orchestrator of its own: resume it with that, or sweep it with on_own"
            return SweepResult(session_id, note=note)
        busy_until = self._busy_until(session_id)
        if busy_until:
            why = "its program, or another sweep, may be at work on it"
            report = RunReport(
                session_id=session_id, status=RunStatus.IN_PROGRESS, error=why, not_before=busy_until
            )
            return SweepResult(session_id, report=report)
        # Other sweeps leave it alone from now on.
        self.store.put(open_key(session_id), b"")
        try:
            given = self.on_own(self.store, session_id)
            with call_limits(lambda: math.inf, self.stop):
                awaited(given)
        except Exception as error:  # noqa: BLE001 - as in `results`, and whose bug it is is known
            said = one_line(error) if isinstance(error, WriteaheadError) else type(error).__name__
            return SweepResult(session_id, error=f"its program raised {said}")
        if self.store.head(final_key(session_id)) is None:
            why = "its program ended without a final artifact"
            report = RunReport(session_id=session_id, status=RunStatus.RESUME_NEEDED, error=why)
        else:
            report = RunReport(session_id=session_id, status=RunStatus.COMPLETED)
        return SweepResult(session_id, report=report)

    def _abandoned(self, session_id: str) -> SweepResult:
        if self._busy_until(session_id):
            return SweepResult(session_id, note="no plan yet: its run may be active")
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


def lost_marker(session: StoredSession) -> str | None:
    """The key of the marker that a session without one should have; None if it needs none."""
    if _how_it_ended(session) or not session.is_planned:
        return None
    is_blocked = session.entry is not None and session.entry.status is RunStatus.BLOCKED
    return blocked_key(session.session_id) if is_blocked else open_key(session.session_id)


def _tidied(session: StoredSession, store: ArtifactStore) -> SweepResult:
    """Remove the markers of a session that nothing is left to do about.

    A tombstone can be replaced by a new run, whose marker is ``.blocked/``: that one stays.
    """
    session_id = session.session_id
    problems = remove_markers(store, session_id, was_blocked=session.abandoned is None)
    if problems:
        return SweepResult(session_id, error=problems[0])
    return SweepResult(session_id, note=f"{_how_it_ended(session)}: its marker was removed")
