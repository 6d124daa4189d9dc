"""A run of an id that has a session already: the same request goes on, another one is refused."""

from collections.abc import Sequence

from writeahead.adapters.base import Adapter
from writeahead.errors import InvalidInput, PlanConflict
from writeahead.model import PlannedOperation, RunReport
from writeahead.protocol.artifacts import remove_markers
from writeahead.protocol.context import RunContext
from writeahead.protocol.encoding import decode, is_pruned
from writeahead.protocol.keys import planned_key
from writeahead.protocol.messages import when_pruned
from writeahead.protocol.resuming import report_of, report_of_final, require_same_remote, resume_from
from writeahead.protocol.schema import PlannedWriteback, PrunedPlan, Writeback
from writeahead.protocol.session import StoredSession, read_artifact
from writeahead.stores.base import ArtifactStore

__all__ = ["repeat"]


def repeat(
    context: RunContext, session: StoredSession, request_digest: str, asked: PlannedWriteback | None
) -> RunReport:
    """Go on with a session that was there already, if it is for the same operations.

    Args:
        context: Of the run that was asked for.
        session: As it is in the store.
        request_digest: Of what was asked for.
        asked: What was planned now; None where planning failed.

    Raises:
        PlanConflict: It is for other operations, or of an orchestrator of its own.
        InvalidInput: It was completed for another remote.
        Exception: As `resume_from`.
    """
    store, session_id = context.store, session.session_id
    if session.is_own:
        if session.is_final and asked:
            remove_markers(store, session_id, was_blocked=False)  # as below
        raise PlanConflict(
            f"session {session_id} already has a plan of an orchestrator of its own"
            f" ({planned_key(session_id)}): a session id names one unit of work, so give this one its own"
        )
    plan, pruned = session.plan, session.pruned
    if session.final:
        plan, pruned = _plan_behind(store, session.final)
    if pruned:
        return _repeat_of_pruned(context, session, pruned, request_digest)
    same = plan is None or plan.request_digest == request_digest
    try:
        if session.final and asked and plan is None:
            _require_same_end(context, session, session.final, asked)
        if plan and not same and not (asked and _is_same_plan(context, plan, asked)):
            raise _plan_conflict(context, session, plan, asked)
        if session.final and plan:
            # Completed elsewhere is not completed here.
            require_same_remote(context.adapter, plan)
    except InvalidInput:
        if session.final and asked:
            # We have just put a marker, and a completed session needs none, whatever is wrong with
            # the request.
            remove_markers(store, session_id, was_blocked=False)
        raise
    return resume_from(session, context)


def _repeat_of_pruned(
    context: RunContext, session: StoredSession, pruned: PrunedPlan, request_digest: str
) -> RunReport:
    """Tell how a session ended of which little more than its request's digest is left.

    A marker that we have just put goes again, whatever is wrong with the request.

    Raises:
        PlanConflict: It was for another request, or of an orchestrator of its own.
        InvalidInput: It was for another remote.
    """
    remove_markers(context.store, session.session_id, was_blocked=False)
    if pruned.request_digest != request_digest:
        raise PlanConflict(
            f"session {session.session_id} {when_pruned(pruned.status, pruned.pruned_at)}, and it was for"
            " another request: a session id names one unit of work, so give this one its own"
        )
    require_same_remote(context.adapter, pruned)
    return resume_from(session, context)


def _plan_behind(store: ArtifactStore, final: Writeback) -> tuple[PlannedWriteback | None, PrunedPlan | None]:
    """The plan of a completed session, or its tombstone; neither if it was removed since."""
    info = store.head(planned_key(final.session_id))
    if info is None:
        return None, None
    data = read_artifact(store, info)
    if is_pruned(data, key=info.key):
        return None, decode(data, PrunedPlan, key=info.key)
    plan = decode(data, PlannedWriteback, key=info.key)
    return (plan if plan.digest == final.plan_digest else None), None


def _require_same_end(
    context: RunContext, session: StoredSession, final: Writeback, asked: PlannedWriteback
) -> None:
    """Refuse what a completed session, whose plan was removed, has not carried out.

    Raises:
        PlanConflict: It is for other operations, as far as what was sent tells.
    """
    if final.adapter != asked.adapter or not _are_same(context, final.operations, asked.operations):
        raise PlanConflict(
            f"session {session.session_id} was completed, its plan was removed since, and what it has sent is"
            " not what is asked for now: a session id names one unit of work, so give this one its own",
            report_of_final(session),
        )


def _plan_conflict(
    context: RunContext, session: StoredSession, plan: PlannedWriteback, asked: PlannedWriteback | None
) -> PlanConflict:
    difference = _difference(plan, asked)
    if session.final:
        return PlanConflict(
            f"session {session.session_id} was completed {difference}: a session id names one unit of work,"
            " so give this one its own",
            report_of_final(session),
        )
    return PlanConflict(
        f"session {session.session_id} already has a plan {difference}, which is not finished: resume it as"
        " it is",
        report_of(session, plan, context),
    )


def _difference(plan: PlannedWriteback, asked: PlannedWriteback | None) -> str:
    """What a plan has that this request has not, in words that end a sentence."""
    if asked is None:  # planning failed, and a digest tells only that they differ
        return "for another request (with other operations, atomic, identity or namespace)"
    if plan.atomic != asked.atomic:
        return f"{'with' if plan.atomic else 'without'} atomic, unlike this request"
    both = list(zip(plan.operations, asked.operations, strict=False))
    if any(one.identity != other.identity for one, other in both):
        return "with another identity"
    if any(one.id == other.id and one.key != other.key for one, other in both):
        return "in another namespace"
    if any(one.id == other.id and one.independent != other.independent for one, other in both):
        return "with other operations marked as independent"
    return "with other operations"


def _is_same_plan(context: RunContext, plan: PlannedWriteback, asked: PlannedWriteback) -> bool:
    """Whether two plans differ in nothing but the order of sets, which version 1 did not fix."""
    return plan.atomic == asked.atomic and _are_same(context, plan.operations, asked.operations)


def _are_same(
    context: RunContext, some: Sequence[PlannedOperation], others: Sequence[PlannedOperation]
) -> bool:
    """Whether operations are the same, by their identity, or up to the order of sets."""
    return len(some) == len(others) and all(
        _named(one) == _named(other)
        and (one.identity is not None or _is_same_payload(context.adapter, one, other))
        for one, other in zip(some, others, strict=True)
    )


def _is_same_payload(adapter: Adapter, one: PlannedOperation, other: PlannedOperation) -> bool:
    try:
        return one.payload == other.payload or adapter.payload_of(one) == adapter.payload_of(other)
    except InvalidInput:
        return False  # a reference, or what another version of the adapter planned


def _named(operation: PlannedOperation) -> tuple[object, ...]:
    one = operation
    return one.id, one.kind, one.key, one.replay, one.identity, one.independent
