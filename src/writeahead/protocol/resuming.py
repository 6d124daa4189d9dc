"""resume_session(): who may go on with a session, under which conditions, and from what."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from writeahead.adapters.base import Adapter
from writeahead.errors import Fenced, InvalidInput, ResumeError
from writeahead.model import BlockReason, RunPolicy, RunReport, RunStatus
from writeahead.protocol.artifacts import no_session, remove_markers
from writeahead.protocol.context import RunContext, require_means
from writeahead.protocol.execution import Execution
from writeahead.protocol.in_doubt import in_doubt, silently_sent
from writeahead.protocol.journal import Ending, Journal, require_reason
from writeahead.protocol.messages import when_pruned
from writeahead.protocol.planning import require_atomic
from writeahead.protocol.progress import OnProgress
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import Event, PlannedWriteback, PrunedPlan
from writeahead.protocol.session import StoredSession, after, read_stored, require_ours
from writeahead.protocol.stages import UNDECIDED
from writeahead.stores.base import ArtifactStore
from writeahead.telemetry import log, tracing

__all__ = [
    "Override",
    "report_of",
    "report_of_final",
    "report_of_pruned",
    "require_same_remote",
    "resume_from",
    "resume_session",
]

_DEFAULT_POLICY = RunPolicy()


@dataclass(frozen=True)
class Override:
    """The waits that an operator cuts short, with the reason."""

    take_over: str | None = None
    now: str | None = None

    @property
    def reason(self) -> str | None:
        """The reason that the journal keeps."""
        return self.take_over or self.now


_NO_OVERRIDE = Override()


def resume_session(
    session_id: str,
    *,
    store: ArtifactStore,
    adapter: Adapter,
    policy: RunPolicy = _DEFAULT_POLICY,
    take_over: str | None = None,
    now: str | None = None,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    on_progress: OnProgress | None = None,
) -> RunReport:
    """Replay just the writes that a session still lacks.

    A session whose owner was a process on this machine that surely does not run any more is resumed
    at once; any other owner's lease is waited for.

    Args:
        session_id: The session.
        store: Where its artifacts are.
        adapter: Of the same name and target as the one that planned it.
        policy: How hard to try.
        take_over: Why an operator takes the session over before its owner's lease is over; it is
            kept in the journal. The owner stops at its next entry. No unprovable operation that may
            have been applied is sent again by it, and a ``lookup`` still waits for the lease and
            for ``request_lifetime``.
        now: Why an operator resumes before the remote's Retry-After is over; it is kept in the
            journal.
        stop: As for `write_back`.
        clock: Where time comes from; for tests.
        on_progress: As for `write_back`.

    Returns:
        How it ended. Nothing is sent if the session is complete (``no_resume_needed``),
        ``blocked``, ``abandoned``, held by a live owner (``in_progress``), or told by the remote to
        wait (``resume_needed`` and ``not_before``).

    Raises:
        ResumeError: There is neither plan nor final artifact, or what is there can't be used.
        InvalidInput: The session id can't be used, or its plan was made by another adapter or for
            another target.
        NotReady: The adapter can't tell its target, since settings are missing.
        StoreError: The session could not be read or claimed. Nothing was emitted.
        Exception: What an adapter raises against its contract; the session is left as
            ``resume_needed``, or as ``blocked`` where an unprovable operation may have been sent.
    """
    require_means(store, adapter)
    for name, reason in (("take_over", take_over), ("now", now)):
        if reason is not None:
            require_reason(name, reason)
    context = RunContext.begin(store, adapter, policy, stop, clock, on_progress=on_progress)
    log.RUN.info("begun", call="resume", session_id=session_id, adapter=adapter.name)
    override = Override(take_over=take_over, now=now)
    tracing.load()
    with tracing.span("writeahead.resume", session_id=session_id, adapter=adapter.name) as span:
        session = read_stored(store, session_id)
        return span.ended(context.ended(resume_from(session, context, override)))


def resume_from(session: StoredSession, context: RunContext, override: Override = _NO_OVERRIDE) -> RunReport:
    """Do the same as `resume_session` with a session that was read since the run began.

    The current span links to that of the run which planned the session.
    """
    tracing.link(session.plan.traceparent if session.plan else None)
    if session.abandoned:
        when = session.abandoned.abandoned_at
        raise ResumeError(
            f"session {session.session_id} was abandoned at {when:%Y-%m-%d %H:%M:%SZ} before it emitted"
            " anything: run it again"
        )
    if session.pruned and not session.final:
        remove_markers(context.store, session.session_id, was_blocked=True)
        return report_of_pruned(session.pruned)
    if session.final:
        return report_of_final(session, remove_markers(context.store, session.session_id, was_blocked=True))
    require_ours(session)
    plan = session.plan
    if plan is None:
        raise no_session(context.store, session.session_id)
    if override.now:
        context = replace(context, unheeded=context.held_until())
    require_same_remote(context.adapter, plan)
    _require_same_classes(context.adapter, plan)
    if plan.atomic:
        require_atomic(context.adapter, plan.operations)
    if _must_wait(session, context, override):
        if session.entry and session.entry.status is RunStatus.ABANDONED:
            remove_markers(context.store, session.session_id, was_blocked=True)
        return report_of(session, plan, context)
    return _claim(context, session, plan, override)


def require_same_remote(adapter: Adapter, plan: PlannedWriteback | PrunedPlan) -> None:
    """Refuse an adapter that would write elsewhere than the plan was made for.

    Raises:
        InvalidInput: It would.
    """
    if plan.adapter != adapter.name:
        raise InvalidInput(
            f"session {plan.session_id} was planned by adapter {plan.adapter!r}: resume it with that one,"
            f" not with {adapter.name!r}"
        )
    target = adapter.target()
    if plan.target is not None and plan.target != target:
        raise InvalidInput(
            f"session {plan.session_id} was planned for target {plan.target}, and adapter {adapter.name!r}"
            f" now writes to {target or 'a remote that it does not name'}: resume it with the"
            " URL and account that it was planned for"
        )


def _require_same_classes(adapter: Adapter, plan: PlannedWriteback) -> None:
    """Refuse a plan that today's adapter would carry out under other rules than planned."""
    for operation in plan.operations:
        kind = adapter.kinds.get(operation.kind)
        if kind is not None and kind.replay is not operation.replay:
            raise InvalidInput(
                f"operation {operation.id} was planned as {operation.replay}, and adapter {adapter.name!r}"
                f" now says {kind.replay}: resume it with the version that planned it"
            )


def _claim(
    context: RunContext, session: StoredSession, plan: PlannedWriteback, override: Override
) -> RunReport:
    """Take a session over and carry on with it, unless another run is faster."""
    lease = context.policy.lease
    journal = Journal.of(session, plan, context.store, context.clock, lease=lease, known_at=context.begun_at)
    _suspect_silent_owner(session, journal, context)
    execution = Execution(journal, context)
    was_unblocked = session.entry is not None and session.entry.event is Event.UNBLOCKED
    if session.has_foreign_final:
        return execution.end_before_foreign_final(override.reason)
    undecided = journal.undecided()
    if undecided and not execution.has_others_than(undecided):
        stops = [UNDECIDED.at(name) for name in undecided]
        return execution.end(UNDECIDED, undecided[0], override.reason, stops=stops)
    ending = _hopeless(journal, context, was_unblocked=was_unblocked)
    if ending:
        return execution.end(*ending, override.reason)
    held = execution.held_back()
    if held:
        return held
    try:
        journal.append(Event.CLAIMED, reason=override.reason)
    except Fenced as error:
        return execution.fenced(error)
    return execution.carry_out()


def _hopeless(
    journal: Journal, context: RunContext, *, was_unblocked: bool
) -> tuple[Ending, str | None] | None:
    """Why a session must not be carried on with, and at which operation; None if it may be.

    An operator who unblocked it gave it one more turn, whatever its age.
    """
    for operation in journal.plan.operations:
        if operation.id not in journal.receipts and operation.kind not in context.adapter.kinds:
            error = f"adapter {context.adapter.name!r} has no kind {operation.kind!r} any more"
            return Ending(RunStatus.BLOCKED, error, BlockReason.UNKNOWN_KIND), operation.id
    policy, age = context.policy, context.clock.now() - journal.plan.created_at
    if policy.max_turns is not None and journal.idle > policy.max_turns:
        error = f"gave up after {policy.max_turns} resumes without progress"
        return Ending(RunStatus.BLOCKED, error, BlockReason.GAVE_UP), None
    if policy.max_age is not None and not was_unblocked and age.total_seconds() > policy.max_age:
        error = f"gave up: it was planned more than {policy.max_age:g} s ago"
        return Ending(RunStatus.BLOCKED, error, BlockReason.GAVE_UP), None
    return None


def report_of_final(session: StoredSession, warnings: Sequence[str] = ()) -> RunReport:
    """How a completed session stands."""
    assert session.final is not None
    return RunReport(
        session_id=session.session_id,
        status=RunStatus.NO_RESUME_NEEDED,
        operations=session.final.operations,
        receipts=dict(session.receipts),
        warnings=tuple(warnings),
    )


def report_of_pruned(tombstone: PrunedPlan) -> RunReport:
    """How a session stands whose artifacts were removed."""
    is_complete = tombstone.status is RunStatus.COMPLETED
    words = f"the session {when_pruned(tombstone.status, tombstone.pruned_at)}"
    return RunReport(
        session_id=tombstone.session_id,
        status=RunStatus.NO_RESUME_NEEDED if is_complete else RunStatus.ABANDONED,
        warnings=(words,),
    )


def _must_wait(session: StoredSession, context: RunContext, override: Override) -> bool:
    """Whether a session can't be claimed now."""
    now, clock_skew = context.clock.now(), context.policy.clock_skew
    match session.status(now, clock_skew):
        case RunStatus.IN_PROGRESS:
            return override.take_over is None
        case RunStatus.RESUME_NEEDED:
            return override.reason is None and session.waits_until(now, clock_skew) is not None
    return True


def report_of(session: StoredSession, plan: PlannedWriteback, context: RunContext) -> RunReport:
    """The status of a session that is left alone."""
    now, clock_skew = context.clock.now(), context.policy.clock_skew
    entry = session.entry
    status = session.status(now, clock_skew)
    return RunReport(
        session_id=session.session_id,
        status=status,
        block_reason=entry.block_reason if entry else None,
        error=session.held_by if status is RunStatus.IN_PROGRESS else entry.error if entry else None,
        operation=entry.operation if entry else None,
        operations=plan.operations,
        receipts=dict(session.receipts),
        attempted=in_doubt(session, now),
        not_before=session.waits_until(now, clock_skew),
        stops=session.stops,
    )


def _suspect_silent_owner(session: StoredSession, journal: Journal, context: RunContext) -> None:
    """Note what a silent owner may have sent, up to its last moment, without telling us."""
    silent = silently_sent(session, context.clock.now())
    if not silent or session.written_at is None:
        return
    record = session.entry.at if session.entry else journal.plan.created_at
    earliest = after(min(record, session.written_at), -context.policy.clock_skew)
    for operation in journal.plan.operations:
        latest = silent.get(operation.id)
        if latest is None:
            continue
        kind = context.adapter.kinds.get(operation.kind)
        settles_after = kind.settles_after if kind else None
        settled = after(latest, settles_after.total_seconds()) if settles_after else None
        journal.suspect(operation.id, latest, settled)
        # A kind that this version does not have may come back, and its key may expire.
        if kind is None or kind.key_valid_for:
            journal.attempted_since.setdefault(operation.id, earliest)
