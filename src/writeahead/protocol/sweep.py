"""Find and resume many sessions. The cost grows with the unfinished ones only."""

import heapq
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby

from writeahead.adapters.base import Adapter
from writeahead.errors import AlreadyExists, InvalidInput, ResumeError, StoreError, WriteaheadError
from writeahead.model import BlockReason, RunPolicy, RunReport, RunStatus
from writeahead.protocol.context import RunContext
from writeahead.protocol.encoding import encode_model
from writeahead.protocol.execution import remove_markers
from writeahead.protocol.keys import BLOCKED_PREFIX, FINAL, OPEN_PREFIX, is_session_id, open_key, planned_key
from writeahead.protocol.messages import one_line
from writeahead.protocol.progress import OnProgress
from writeahead.protocol.resuming import resume_from
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import AbandonedPlan
from writeahead.protocol.session import Session, read_session
from writeahead.stores.base import ArtifactStore

__all__ = [
    "SessionSummary",
    "State",
    "SweepAction",
    "SweepResult",
    "find_sessions",
    "sweep",
    "sweep_step",
    "unfinished_sessions",
]

_DEFAULT_POLICY = RunPolicy()


class State(StrEnum):
    """What `find_sessions` can be asked for; ``open`` is every session that is not at its end."""

    OPEN = "open"
    RESUME_NEEDED = "resume_needed"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class SessionSummary:
    """One session in a list.

    Attributes:
        session_id: The session.
        status: Its status; None if it can't be read, or has no plan.
        block_reason: Why it is blocked, if it is.
        confirmed: How many of its operations have a receipt.
        operations: How many it has.
        note: What the remote or the store said last, or why the session can't be read.
    """

    session_id: str
    status: RunStatus | None
    block_reason: BlockReason | None = None
    confirmed: int = 0
    operations: int = 0
    note: str | None = None

    def matches(self, state: State | None) -> bool:
        """Tell whether the session belongs in a list of this state. An unreadable one is open."""
        if state is None:
            return True
        if state is State.OPEN:
            return self.status not in (RunStatus.COMPLETED, RunStatus.ABANDONED)
        return self.status is not None and self.status.value == state.value


@dataclass(frozen=True)
class SweepResult:
    """What a sweep did about one session: the report of its resume, or what it found instead."""

    session_id: str
    report: RunReport | None = None
    note: str | None = None
    error: str | None = None


def unfinished_sessions(store: ArtifactStore) -> Iterator[str]:
    """Stream the ids of all sessions that have a marker, in order."""
    markers = (_marked(store, prefix) for prefix in (OPEN_PREFIX, BLOCKED_PREFIX))
    for session_id, _ in groupby(heapq.merge(*markers)):
        yield session_id


def _marked(store: ArtifactStore, prefix: str) -> Iterator[str]:
    for info in store.list(prefix):
        name = info.key.removeprefix(prefix)
        if is_session_id(name):  # others may keep files of their own here
            yield name


def find_sessions(
    store: ArtifactStore,
    state: State | str | None = None,
    *,
    clock_skew: float = _DEFAULT_POLICY.clock_skew,
    clock: Clock | None = None,
) -> Iterator[SessionSummary]:
    """Stream sessions with their status.

    Asked for everything, ``completed`` or ``abandoned``, it lists the store; else it starts from
    the markers. A session that can't be read is listed with the reason, and never hides the others.
    One without a marker that has a final artifact is ``completed``; that artifact is not read,
    since it would cost a request each.

    Raises:
        InvalidInput: There is no such state.
        StoreError: The store can't be listed.
    """
    if state is not None and state not in tuple(State):
        raise InvalidInput(f"state {str(state)!r}: use one of {', '.join(State)}")
    return _found(store, None if state is None else State(state), clock or Clock(), clock_skew)


def _found(
    store: ArtifactStore, state: State | None, clock: Clock, clock_skew: float
) -> Iterator[SessionSummary]:
    everything = state in (None, State.COMPLETED, State.ABANDONED)
    found = _all_sessions(store) if everything else ((name, False) for name in unfinished_sessions(store))
    for session_id, is_final in found:
        if is_final:
            summary = SessionSummary(session_id, RunStatus.COMPLETED)
        elif state is State.COMPLETED:
            continue
        else:
            summary = _summary(store, session_id, clock, clock_skew)
        if summary.matches(state):
            yield summary


def sweep(
    store: ArtifactStore,
    adapter: Adapter,
    *,
    policy: RunPolicy = _DEFAULT_POLICY,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    on_progress: OnProgress | None = None,
) -> Iterator[SweepResult]:
    """Resume every session that needs it, and remove markers of finished ones. Streams results.

    One bad session never stops the sweep: its error is in its result. A marker without a plan,
    older than ``policy.lease``, is of a run that died before it emitted anything: a tombstone takes
    the plan's place. ``on_progress`` is as for `write_back`.

    Raises:
        StoreError: The markers can't be listed.
    """
    clock = clock or Clock()
    for session_id in unfinished_sessions(store):
        if stop and stop.is_set():
            return
        try:
            yield _sweep_one(
                session_id, RunContext.begin(store, adapter, policy, stop, clock, on_progress=on_progress)
            )
        except WriteaheadError as error:
            yield SweepResult(session_id, error=one_line(error))
        except Exception as error:  # noqa: BLE001 - a bug that one session meets must not starve the others
            message = f"unexpected {type(error).__name__}: a bug in writeahead or in the adapter"
            yield SweepResult(session_id, error=message)


class SweepAction(StrEnum):
    """What a sweep does about a session that has a marker."""

    TIDY = "tidy"
    ABANDON = "abandon"
    SKIP = "skip"
    WAIT = "wait"
    RESUME = "resume"


def sweep_step(
    session: Session, *, now: datetime, clock_skew: float, adapter: str | None = None
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
    plan = session.plan
    if plan is None:
        note = "no plan yet: wait while its run may be active; later, mark it as abandoned"
        return SweepAction.ABANDON, note
    if adapter is not None and plan.adapter != adapter:
        return SweepAction.SKIP, f"planned by adapter {plan.adapter!r}: sweep it with that one"
    status, not_before = session.status(now, clock_skew), session.waits_until(now, clock_skew)
    if status is RunStatus.BLOCKED:
        return SweepAction.SKIP, "blocked: it waits for an operator"
    if not_before:
        what = "another run is active" if status is RunStatus.IN_PROGRESS else "the remote asked to wait"
        return SweepAction.WAIT, f"{what}, until {not_before:%Y-%m-%d %H:%M:%SZ} at the latest"
    missing = len(plan.operations) - len(session.receipts)
    return SweepAction.RESUME, f"resume it: {missing} of {len(plan.operations)} operations are missing"


def _how_it_ended(session: Session) -> str | None:
    if session.final:
        return "finished"
    if session.abandoned:
        return "abandoned before it emitted anything"
    was_given_up = session.entry is not None and session.entry.status is RunStatus.ABANDONED
    return "abandoned by an operator" if was_given_up else None


def _sweep_one(session_id: str, context: RunContext) -> SweepResult:
    store = context.store
    session = read_session(store, session_id)
    action, note = sweep_step(
        session,
        now=context.clock.now(),
        clock_skew=context.policy.clock_skew,
        adapter=context.adapter.name,
    )
    match action:
        case SweepAction.TIDY:
            return _tidied(session, store)
        case SweepAction.ABANDON:
            return _abandon(session_id, context)
        case SweepAction.SKIP:
            return SweepResult(session_id, note=note)
    # One that has to wait is reported as a resume reports it.
    return SweepResult(session_id, report=context.ended(resume_from(session, context)))


def _tidied(session: Session, store: ArtifactStore) -> SweepResult:
    """Remove the markers of a session that nothing is left to do about.

    A tombstone can be replaced by a new run, whose marker is ``.blocked/``: that one stays.
    """
    session_id = session.session_id
    problems = remove_markers(store, session_id, was_blocked=session.abandoned is None)
    if problems:
        return SweepResult(session_id, error=problems[0])
    return SweepResult(session_id, note=f"{_how_it_ended(session)}: its marker was removed")


def _abandon(session_id: str, context: RunContext) -> SweepResult:
    store, policy, now = context.store, context.policy, context.clock.now()
    marker = store.head(open_key(session_id))
    age = timedelta(seconds=policy.lease + policy.clock_skew)
    if marker is None or marker.last_modified is None or now - marker.last_modified <= age:
        return SweepResult(session_id, note="no plan yet: its run may be active")
    tombstone = AbandonedPlan(session_id=session_id, abandoned_at=now)
    try:
        # The tombstone first: a slow writer's plan is refused from now on, so the marker can go.
        store.put(planned_key(session_id), encode_model(tombstone), if_absent=True)
    except AlreadyExists:
        return SweepResult(session_id, note="its plan has just been created")
    problems = remove_markers(store, session_id, was_blocked=False)
    note = "abandoned: its run died before it emitted anything"
    return SweepResult(session_id, note=None if problems else note, error=problems[0] if problems else None)


def _all_sessions(store: ArtifactStore) -> Iterator[tuple[str, bool]]:
    """Stream (session id, whether it is surely completed) from one listing of the whole store.

    Markers come before sessions in it, since ``.`` sorts before letters and digits.
    """
    marked: set[str] = set()
    for first, group in groupby(store.list(), key=lambda info: info.key.split("/")[0]):
        keys = (info.key for info in group)
        if first + "/" in (OPEN_PREFIX, BLOCKED_PREFIX):
            names = (key.split("/", 1)[1] for key in keys)
            marked.update(name for name in names if is_session_id(name))
        elif is_session_id(first):
            yield first, first not in marked and any(key == f"{first}/{FINAL}" for key in keys)
            marked.discard(first)
    for session_id in sorted(marked):
        yield session_id, False


def _summary(store: ArtifactStore, session_id: str, clock: Clock, clock_skew: float) -> SessionSummary:
    try:
        session = read_session(store, session_id)
    except (ResumeError, StoreError) as error:
        return SessionSummary(session_id, None, note=one_line(error))
    summary = _describe(session)
    if session.plan is None and session.final is None:
        return summary
    return replace(summary, status=session.status(clock.now(), clock_skew))


def _describe(session: Session) -> SessionSummary:
    if session.abandoned:
        return SessionSummary(session.session_id, None, note="abandoned before it emitted anything")
    if session.final or session.plan is None:
        return SessionSummary(session.session_id, None, note=None if session.final else "no plan yet")
    entry = session.entry
    return SessionSummary(
        session.session_id,
        None,
        block_reason=entry.block_reason if entry else None,
        confirmed=len(session.receipts),
        operations=len(session.plan.operations),
        note=entry.error if entry else None,
    )
