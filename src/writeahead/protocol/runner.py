"""write_back(): plans operations, makes the plan durable, and carries it out."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from writeahead.adapters.base import Adapter
from writeahead.errors import (
    AdapterError,
    AlreadyExists,
    ConflictError,
    Fenced,
    NotReady,
    TransientError,
)
from writeahead.model import (
    BlockReason,
    KeyedOperation,
    Operation,
    PlannedOperation,
    ReplayClass,
    RunPolicy,
    RunReport,
    RunStatus,
    with_cause,
)
from writeahead.protocol.context import HeldBack, RunContext, require_means
from writeahead.protocol.encoding import digest_of, digest_of_operations
from writeahead.protocol.execution import Execution
from writeahead.protocol.journal import Journal, new_owner
from writeahead.protocol.keys import blocked_key, dry_run_key, final_key, open_key, planned_key
from writeahead.protocol.liveness import this_process
from writeahead.protocol.messages import one_line
from writeahead.protocol.planning import (
    encode_finishable,
    keyed_operations,
    plan_operations,
    request_digest,
    require_atomic,
)
from writeahead.protocol.progress import OnProgress
from writeahead.protocol.repeats import repeat
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import Event, PlannedWriteback
from writeahead.protocol.session import (
    StoredSession,
    after,
    entry_numbers,
    objects_of,
    read_stored,
)
from writeahead.stores.base import ArtifactStore
from writeahead.telemetry import log, tracing

__all__ = ["write_back"]

_DEFAULT_POLICY = RunPolicy()
# A second plan of a session that was carried out before does no harm to these, as long as the
# remote keeps the key: see docs/protocol.md.
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
    identity: JsonValue = None,
    namespace: str = "",
    stop: threading.Event | None = None,
    clock: Clock | None = None,
    on_progress: OnProgress | None = None,
) -> RunReport:
    """Plan operations, persist the plan, emit them in order, and write the final artifact.

    Called again with the same session id and operations it behaves as `resume_session`.

    Args:
        operations: What is to be written, in this order.
        session_id: Names the unit of work, for as long as the remote remembers it; the idempotency
            keys are made from it.
        store: Where the artifacts go.
        adapter: Plans and emits.
        policy: How hard to try.
        dry_run: Plan through the same code, leave the plan under ``.dry-run/``, emit nothing.
        atomic: Issue the operations as one transaction: all of them take effect, or none. For
            adapters that have transactions (`TransactionalAdapter`).
        identity: What makes two requests for this session the same, as JSON; by default the
            operations, without their baselines. With it, a repeat whose operations differ (by a
            timestamp, say) is no conflict, and the operations that were planned first are the ones
            that are sent.
        namespace: Tells apart sessions of the same id on one remote, for callers whose ids are
            unique only within it. It becomes part of the idempotency keys.
        stop: Once set, nothing more is sent. The run ends as the request under way decides:
            ``resume_needed``, ``blocked`` if it may not be sent again, or ``completed`` if it was
            the last.
        clock: Where time comes from; for tests.
        on_progress: Called with each event of the run, such as a request, a wait or a receipt: see
            `writeahead.protocol.progress`. It is called in this thread, so it must be quick. What
            it raises becomes a warning of the report, and it is not called again.

    Returns:
        How it ended: ``completed``, ``resume_needed``, ``blocked``, ``no_resume_needed``,
        ``in_progress`` (another run is active), ``abandoned`` or ``planned`` (a dry run).

    Raises:
        InvalidInput: The operations or the session id can't be used. Nothing was written.
        PlanConflict: The session id has a plan for another request: other operations, or another
            ``atomic``, ``identity`` or ``namespace``. Nothing was changed.
        ResumeError: The session exists, and can't be used.
        StoreError: The plan could not be made durable. Nothing was emitted.
        Exception: What an adapter raises against its contract; the session is left as
            ``resume_needed``, or as ``blocked`` where an unprovable operation may have been sent.
    """
    require_means(store, adapter)
    context = RunContext.begin(store, adapter, policy, stop, clock, on_progress=on_progress)
    log.RUN.info("begun", call="run", session_id=session_id, adapter=adapter.name)
    tracing.load()
    with tracing.span("writeahead.run", session_id=session_id, adapter=adapter.name) as span:
        keyed = keyed_operations(session_id, operations, namespace=namespace)
        span.set(operations=len(keyed))
        # First of all, since it finds out what could not be kept in an artifact.
        digest = request_digest(keyed, atomic=atomic, identity=identity, namespace=namespace)
        report = _plan_and_begin(context, keyed, digest, dry_run=dry_run, atomic=atomic, identity=identity)
        return span.ended(report)


def _plan_and_begin(
    context: RunContext,
    keyed: Sequence[KeyedOperation],
    digest: str,
    *,
    dry_run: bool,
    atomic: bool,
    identity: JsonValue,
) -> RunReport:
    store, adapter, session_id = context.store, context.adapter, keyed[0].session_id
    try:
        planned = plan_operations(keyed, context, dry_run=dry_run)
    except (NotReady, AdapterError) as error:
        return context.ended(_not_planned(context, session_id, digest, error, dry_run=dry_run))
    if atomic:
        require_atomic(adapter, planned)
    if identity is not None:
        planned = [_identified(operation, identity) for operation in planned]
    plan = PlannedWriteback(
        session_id=session_id,
        adapter=adapter.name,
        created_at=context.clock.now(),
        owner=new_owner(),
        lease_seconds=context.policy.lease,
        request_digest=digest,
        digest=digest_of_operations(planned),
        operations=tuple(planned),
        atomic=atomic,
        exact=True,
        target=_target(adapter, dry_run=dry_run),
        holder=this_process(),
        traceparent=tracing.traceparent(),
    )
    data = encode_finishable(plan)
    if dry_run:
        store.put(dry_run_key(session_id), data)
        report = RunReport(
            session_id=session_id,
            status=RunStatus.PLANNED,
            operations=plan.operations,
            warnings=(*plan.warnings, *_stands_already(store, session_id)),
        )
        return context.ended(report)
    return context.ended(_begin(context, plan, data))


def _target(adapter: Adapter, *, dry_run: bool) -> str | None:
    """The remote that a plan is bound to; a preview may be made before it is known."""
    try:
        return adapter.target()
    except NotReady:
        if dry_run:
            return None
        raise


def _stands_already(store: ArtifactStore, session_id: str) -> tuple[str, ...]:
    """A warning where a dry run shows what a run would not do."""
    if store.head(planned_key(session_id)) is None:
        return ()
    return (f"session {session_id} is there already: a run goes on with it, or refuses other operations",)


def _identified(operation: PlannedOperation, identity: JsonValue) -> PlannedOperation:
    return operation.model_copy(update={"identity": digest_of([identity, operation.id])})


def _begin(context: RunContext, plan: PlannedWriteback, data: bytes) -> RunReport:
    """Make the plan durable and carry it out; or go on with the one that is there."""
    store, session_id = context.store, plan.session_id
    renewed_at = context.clock.monotonic()
    # Before there is anything of ours. Elsewhere it would cost a request, and the end finds out.
    has_final = store.is_local and store.head(final_key(session_id)) is not None
    store.put(open_key(session_id), b"")
    try:
        store.put(planned_key(session_id), data, if_absent=True)
    except AlreadyExists:
        session = read_stored(store, session_id)
        if session.abandoned is None:
            return repeat(context, session, plan.request_digest, plan)
        return _begin_again(context, session, plan, data)
    log.RUN.debug("planned", session_id=session_id, owner=plan.owner, operations=len(plan.operations))
    session = StoredSession(session_id)
    if has_final or (not _is_harmless_twice(context, plan) and _has_a_past(store, plan)):
        session = read_stored(store, session_id)
        if session.final and session.final.plan_digest != plan.digest:
            store.delete(planned_key(session_id))  # ours, and not what was carried out
        if not session.has_foreign_final:
            return repeat(context, session, plan.request_digest, plan)
    journal = Journal(store, context.clock, plan, plan.owner, context.policy.lease, 0, renewed_at)
    execution = Execution(journal, context)
    return execution.end_before_foreign_final() if session.has_foreign_final else execution.carry_out()


def _begin_again(
    context: RunContext, session: StoredSession, plan: PlannedWriteback, data: bytes
) -> RunReport:
    """Begin a session whose earlier run died before it had a plan, and was given a tombstone.

    A sweep that read the tombstone may delete ``.open/`` at any later time. So this session's
    marker is ``.blocked/``, which no sweep deletes before there is a final artifact. A delete has
    no condition: of two runs that begin again, the one with the journal's next entry removes the
    tombstone, and the other one stops.
    """
    store, session_id = context.store, plan.session_id
    store.put(blocked_key(session_id), b"")
    lease = context.policy.lease
    journal = Journal.of(session, plan, store, context.clock, lease=lease, known_at=context.begun_at)
    execution = Execution(journal, context)
    held_until = session.lease_ends and after(session.lease_ends, context.policy.clock_skew)
    if held_until and context.clock.now() < held_until and not session.owner_is_dead:
        error = "another run is beginning this session again"
        return execution.report(RunStatus.IN_PROGRESS, error=error, not_before=held_until)
    try:
        journal.append(Event.CLAIMED)
    except Fenced as error:
        return execution.fenced(error)
    if journal.lease_left() <= 0:
        # Another run may have begun again meanwhile, and the key may hold more than a tombstone.
        return execution.report(RunStatus.RESUME_NEEDED, error="its lease ran out before it had a plan")
    store.delete(planned_key(session_id))
    try:
        store.put(planned_key(session_id), data, if_absent=True)
    except AlreadyExists:
        # A slow writer's plan, which landed once the tombstone was gone. We hold the lease.
        session = read_stored(store, session_id)
        is_ours = session.entry is not None and session.entry.owner == journal.owner
        if not is_ours or session.plan is None or session.plan.request_digest != plan.request_digest:
            return repeat(context, session, plan.request_digest, plan)
        journal.plan = session.plan
    return execution.carry_out()


def _not_planned(
    context: RunContext, session_id: str, digest: str, error: NotReady | AdapterError, *, dry_run: bool
) -> RunReport:
    """Report a run that found no plan to persist; if the session is there already, that decides.

    A dry run is about planning only: it never goes on with a session.
    """
    if isinstance(error, TransientError) and context.stopped:
        message = "stopped by a signal or by the caller while it was planning; nothing was written"
        return RunReport(session_id=session_id, status=RunStatus.RESUME_NEEDED, error=message)
    session = StoredSession(session_id) if dry_run else read_stored(context.store, session_id)
    if session.final or session.plan or session.pruned:
        return repeat(context, session, digest, None)
    if isinstance(error, HeldBack):
        report = RunReport(
            session_id=session_id,
            status=RunStatus.RESUME_NEEDED,
            error=f"{error}; nothing was written",
            not_before=error.not_before,
        )
        return with_cause(report, error)
    wait = error.retry_after if isinstance(error, TransientError) else None
    is_conflict = isinstance(error, ConflictError)
    report = RunReport(
        session_id=session_id,
        status=RunStatus.BLOCKED,
        block_reason=BlockReason.CONFLICT_DETECTED if is_conflict else BlockReason.NOT_READY,
        error=one_line(error),
        not_before=after(context.clock.now(), wait) if wait else None,
    )
    return with_cause(report, error)


def _is_harmless_twice(context: RunContext, plan: PlannedWriteback) -> bool:
    """Whether a second run of the plan, beside the first or after it, has no second effect."""
    kinds = context.adapter.kinds
    return all(
        operation.replay in _HARMLESS and not kinds[operation.kind].key_valid_for
        for operation in plan.operations
    )


def _has_a_past(store: ArtifactStore, plan: PlannedWriteback) -> bool:
    """Whether a new plan has a journal or a final artifact beside it: one was removed."""
    found = objects_of(store, plan.session_id)
    return final_key(plan.session_id) in found or bool(entry_numbers(plan.session_id, found))
