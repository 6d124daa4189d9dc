"""write_back() and resume_session(): from operations to a final artifact."""

import threading
from collections.abc import Iterable, Mapping
from typing import Any

from writeahead.adapters.base import Adapter
from writeahead.errors import (
    AdapterError,
    AlreadyExists,
    Fenced,
    InvalidInput,
    NotReady,
    PlanConflict,
    ResumeError,
    TransientError,
)
from writeahead.model import BlockReason, Operation, ReplayClass, RunPolicy, RunReport, RunStatus
from writeahead.protocol.artifacts import no_session
from writeahead.protocol.context import RunContext
from writeahead.protocol.encoding import decode, digest_of, digest_of_operations, encode_model
from writeahead.protocol.execution import Execution, remove_markers
from writeahead.protocol.journal import Ending, Journal, Session, after, new_owner, read_session
from writeahead.protocol.keys import dry_run_key, open_key, planned_key
from writeahead.protocol.messages import one_line
from writeahead.protocol.planning import keyed_operations, plan_operations, require_atomic, require_finishable
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import Event, PlannedWriteback
from writeahead.stores.base import ArtifactStore

__all__ = ["resume_from", "resume_session", "write_back"]

_DEFAULT_POLICY = RunPolicy()
# A second plan of a session that was carried out before does no harm to these: see docs/protocol.md.
_HARMLESS = (ReplayClass.CREATE_WITH_KEY, ReplayClass.UPSERT, ReplayClass.CONDITIONAL_UPDATE)


def write_back(
    operations: Iterable[Operation | Mapping[str, Any]],
    *,
    session_id: str,
    store: ArtifactStore,
    adapter: Adapter,
    policy: RunPolicy = _DEFAULT_POLICY,
    dry_run: bool = False,
    atomic: bool = False,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> RunReport:
    """Plan operations, persist the plan, emit them in order, and write the final artifact.

    Called again with the same session id and operations it behaves as `resume_session`.

    Args:
        operations: What is to be written, in this order.
        session_id: Names the unit of work; the idempotency keys are made from it.
        store: Where the artifacts go.
        adapter: Plans and emits.
        policy: How hard to try.
        dry_run: Plan through the same code, leave the plan under ``.dry-run/``, emit nothing.
        atomic: Issue the operations as one transaction: all of them take effect, or none. For
            adapters that have transactions (`TransactionalAdapter`).
        stop: Once set, nothing more is sent, and the run ends as ``resume_needed``.
        clock: Where time comes from; for tests.

    Returns:
        How it ended: ``completed``, ``resume_needed``, ``blocked``, ``no_resume_needed``,
        ``in_progress`` (another run is active) or ``planned`` (a dry run).

    Raises:
        InvalidInput: The operations or the session id can't be used. Nothing was written.
        PlanConflict: The session id has a plan for other operations. Nothing was changed.
        ResumeError: The session exists, and can't be used.
        StoreError: The plan could not be made durable. Nothing was emitted.
        Exception: What an adapter raises against its contract; the session is left as
            ``resume_needed``.
    """
    context = RunContext.begin(store, adapter, policy, stop, clock)
    keyed = keyed_operations(session_id, operations)
    # First of all, since it finds out what could not be kept in an artifact.
    request = [item.model_dump(mode="json") for item in keyed]
    digest = digest_of({"atomic": request} if atomic else request)
    try:
        planned = plan_operations(keyed, context)
    except (NotReady, AdapterError) as error:
        return _not_planned(context, session_id, error)
    if atomic:
        require_atomic(adapter, planned)
    plan = PlannedWriteback(
        session_id=session_id,
        adapter=adapter.name,
        created_at=context.clock.now(),
        owner=new_owner(),
        lease_seconds=policy.lease,
        request_digest=digest,
        digest=digest_of_operations(planned),
        operations=tuple(planned),
        atomic=atomic,
    )
    require_finishable(plan)
    if dry_run:
        store.put(dry_run_key(session_id), encode_model(plan))
        return RunReport(
            session_id=session_id,
            status=RunStatus.PLANNED,
            operations=plan.operations,
            warnings=plan.warnings,
        )
    data = encode_model(plan)
    renewed_at = context.clock.monotonic()
    store.put(open_key(session_id), b"")
    try:
        store.put(planned_key(session_id), data, if_absent=True)
    except AlreadyExists:
        return _repeat(context, plan)
    if _has_a_past(store, plan):
        return _repeat(context, plan)
    journal = Journal(store, context.clock, plan, plan.owner, policy.lease, 0, renewed_at)
    return Execution(journal, context).carry_out()


def resume_session(
    session_id: str,
    *,
    store: ArtifactStore,
    adapter: Adapter,
    policy: RunPolicy = _DEFAULT_POLICY,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> RunReport:
    """Replay just the writes that a session still lacks.

    Args: as `write_back`.

    Returns:
        How it ended. Nothing is sent if the session is complete (``no_resume_needed``),
        ``blocked``, held by a live owner (``in_progress``), or told by the remote to wait
        (``resume_needed`` and ``not_before``).

    Raises:
        ResumeError: There is neither plan nor final artifact, or what is there can't be used.
        InvalidInput: The session id can't be used, or its plan was made by another adapter.
        StoreError: The session could not be read or claimed. Nothing was emitted.
        Exception: What an adapter raises against its contract; the session is left as
            ``resume_needed``.
    """
    session = read_session(store, session_id)
    return resume_from(session, RunContext.begin(store, adapter, policy, stop, clock))


def _not_planned(context: RunContext, session_id: str, error: NotReady | AdapterError) -> RunReport:
    """Report a run that found no plan to persist; there is nothing that could be resumed."""
    if isinstance(error, TransientError) and context.stopped:
        message = "stopped by a signal or by the caller while it was planning; nothing was written"
        return RunReport(session_id=session_id, status=RunStatus.RESUME_NEEDED, error=message)
    wait = error.retry_after if isinstance(error, TransientError) else None
    return RunReport(
        session_id=session_id,
        status=RunStatus.BLOCKED,
        block_reason=BlockReason.NOT_READY,
        error=one_line(error),
        not_before=after(context.clock.now(), wait) if wait else None,
    )


def _has_a_past(store: ArtifactStore, plan: PlannedWriteback) -> bool:
    """Whether there is more of a session than the plan that was just created: an earlier plan was removed.

    Asked only where a second run would have a second effect: for the other classes the request buys
        nothing.
    """
    if all(operation.replay in _HARMLESS for operation in plan.operations):
        return False
    return any(info.key != planned_key(plan.session_id) for info in store.list(f"{plan.session_id}/"))


def _repeat(context: RunContext, asked: PlannedWriteback) -> RunReport:
    """Go on with a session that was there already, if it is for the same operations."""
    store, session_id = context.store, asked.session_id
    session = read_session(store, session_id)
    plan = session.plan
    if session.final:
        stored = store.get(planned_key(session_id))
        plan = decode(stored.data, PlannedWriteback, key=stored.info.key)
    if plan and plan.request_digest != asked.request_digest and not _is_same_plan(context, plan, asked):
        if session.final:
            # We have just put a marker, and a completed session needs none, whatever its operations
            # were.
            remove_markers(store, session_id, was_blocked=False)
            raise PlanConflict(
                f"session {session_id} was completed with other operations: a session id names one unit of"
                " work, so give this one its own"
            )
        raise PlanConflict(
            f"session {session_id} already has a plan for other operations, which is not finished: resume it"
            " as it is"
        )
    return resume_from(session, context)


def _is_same_plan(context: RunContext, plan: PlannedWriteback, asked: PlannedWriteback) -> bool:
    """Whether two plans differ in nothing but the order of sets, which version 1 did not fix."""
    if plan.atomic != asked.atomic or len(plan.operations) != len(asked.operations):
        return False
    pairs = zip(plan.operations, asked.operations, strict=True)
    return all(
        (one.id, one.kind, one.key, one.replay) == (other.id, other.kind, other.key, other.replay)
        and context.adapter.payload_of(one) == context.adapter.payload_of(other)
        for one, other in pairs
    )


def resume_from(session: Session, context: RunContext) -> RunReport:
    """Do the same as `resume_session` with a session that has just been read."""
    if session.abandoned:
        when = session.abandoned.abandoned_at
        raise ResumeError(
            f"session {session.session_id} was abandoned at {when:%Y-%m-%d %H:%M:%SZ} before it emitted"
            " anything: start it again under a new session id"
        )
    if session.final:
        return _nothing_to_do(session, remove_markers(context.store, session.session_id, was_blocked=True))
    plan = session.plan
    if plan is None:
        raise no_session(context.store, session.session_id)
    if plan.adapter != context.adapter.name:
        raise InvalidInput(
            f"session {session.session_id} was planned by adapter {plan.adapter!r}: resume it with that one,"
            f" not with {context.adapter.name!r}"
        )
    _require_same_classes(context.adapter, plan)
    if plan.atomic:
        require_atomic(context.adapter, plan.operations)
    refusal = _refusal(session, plan, context)
    return refusal or _claim(context, session, plan)


def _require_same_classes(adapter: Adapter, plan: PlannedWriteback) -> None:
    """Refuse a plan that an adapter of today would carry out under other rules than it was made for."""
    for operation in plan.operations:
        kind = adapter.kinds.get(operation.kind)
        if kind is not None and kind.replay is not operation.replay:
            raise InvalidInput(
                f"operation {operation.id} was planned as {operation.replay}, and adapter {adapter.name!r}"
                f" now says {kind.replay}: resume it with the version that planned it"
            )


def _claim(context: RunContext, session: Session, plan: PlannedWriteback) -> RunReport:
    """Take a session over and carry on with it, unless another run is faster."""
    journal = Journal.of(session, plan, context.store, context.clock, lease=context.policy.lease)
    _suspect_lookups(session, journal)
    execution = Execution(journal, context)
    undecided = journal.undecided()
    if undecided:
        error = "it may have been sent, and no one can tell whether it took effect"
        return execution.end(Ending(RunStatus.BLOCKED, error, BlockReason.OUTCOME_UNKNOWN), undecided)
    try:
        journal.append(Event.CLAIMED)
    except Fenced as error:
        return execution.report(RunStatus.IN_PROGRESS, error=str(error))
    return execution.carry_out()


def _nothing_to_do(session: Session, warnings: tuple[str, ...]) -> RunReport:
    assert session.final is not None
    return RunReport(
        session_id=session.session_id,
        status=RunStatus.NO_RESUME_NEEDED,
        operations=session.final.operations,
        receipts=dict(session.receipts),
        warnings=warnings,
    )


def _refusal(session: Session, plan: PlannedWriteback, context: RunContext) -> RunReport | None:
    """Say why a session can't be claimed now; None if it can."""
    now, clock_skew = context.clock.now(), context.policy.clock_skew
    status, not_before = session.status(now, clock_skew), session.waits_until(now, clock_skew)
    if status is RunStatus.RESUME_NEEDED and not_before is None:
        return None
    entry = session.entry
    return RunReport(
        session_id=session.session_id,
        status=status,
        block_reason=entry.block_reason if entry else None,
        error=entry.error if entry else None,
        operation=entry.operation if entry else None,
        operations=plan.operations,
        receipts=dict(session.receipts),
        not_before=not_before,
    )


def _suspect_lookups(session: Session, journal: Journal) -> None:
    """Note what a silent owner may have sent, up to its lease's last moment, without telling us."""
    if session.lease_ends is None:
        return
    for operation in journal.plan.operations:
        if operation.replay is ReplayClass.LOOKUP and operation.id not in journal.receipts:
            journal.attempted[operation.id] = session.lease_ends
