"""What a session still lacks, as a request of its own: to be corrected, and sent under a new id."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from writeahead.errors import InvalidInput, ResumeError
from writeahead.model import KeyedOperation, Operation, PlannedOperation, RunStatus, idempotency_key
from writeahead.protocol.emission import OVERWRITING
from writeahead.protocol.in_doubt import in_doubt
from writeahead.protocol.messages import when_pruned
from writeahead.protocol.planning import keyed_operations, request_digest
from writeahead.protocol.references import filled_in
from writeahead.protocol.schema import PlannedWriteback
from writeahead.protocol.session import StoredSession

__all__ = ["Asked", "Remaining", "remaining_operations"]


@dataclass(frozen=True)
class Asked:
    """What the session was asked for, as it was given to `writeahead.write_back`."""

    operations: Sequence[Operation]
    identity: JsonValue = None
    namespace: str = ""


@dataclass(frozen=True)
class Remaining:
    """The operations of a session that have no receipt.

    Attributes:
        operations: Them, each under the id that it has, with what they take from receipts put in.
        attempted: Which of them may have been sent, and when at the latest.
        warnings: What must be looked at before they are sent under another session id.
    """

    operations: tuple[Operation, ...]
    attempted: Mapping[str, datetime] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def remaining_operations(
    session: StoredSession, *, now: datetime, clock_skew: float, asked: Asked | None = None
) -> Remaining:
    """Tell what a session still lacks.

    A plan holds what an adapter's planning made of a request, and of the request itself a digest
    only. Where that shows that the adapter changed payloads, they are no valid request any more,
    unless ``asked`` brings the request back.

    Args:
        session: As it was read.
        now: The wall clock's time.
        clock_skew: Seconds that two machines' clocks may be apart.
        asked: The request; it must be the one that the session was planned from.

    Raises:
        InvalidInput: Nothing is missing; or ``asked`` is another request.
        ResumeError: It has no plan.
    """
    plan = session.plan
    if session.final:
        raise InvalidInput(f"session {session.session_id} is completed: nothing is missing")
    if session.pruned:
        words = when_pruned(session.pruned.status, session.pruned.pruned_at)
        raise InvalidInput(f"session {session.session_id} {words}")
    if plan is None:
        raise ResumeError(f"session {session.session_id} has no plan: nothing was sent, so run it again")
    missing = [item for item in plan.operations if item.id not in session.receipts]
    status = session.status(now, clock_skew)
    if not missing:
        step = "" if status is RunStatus.ABANDONED else ", and only its final artifact is missing: resume it"
        raise InvalidInput(f"session {session.session_id}: every operation has a receipt{step}")
    given = {item.id: item for item in _asked_for(plan, asked)} if asked is not None else {}
    operations, lacking = [], set()
    for item in missing:
        source = given.get(item.id)
        payload, gaps = filled_in((source or item).payload, session.receipts)
        lacking |= {f"{item.id} takes a value from the receipt of {name}, which has none" for name in gaps}
        baseline = source.baseline if source else None
        operations.append(
            Operation(
                kind=item.kind,
                payload=payload,
                id=item.id,
                baseline=baseline,
                independent=item.independent,
            )
        )
    attempted = in_doubt(session, now)
    warnings = (
        *_doubts(attempted),
        *_still_open(session, status),
        *_unlike_the_request(plan, missing, asked),
        *_without_baseline(missing, given),
        *(f"{problem}: put one there by hand" for problem in sorted(lacking)),
    )
    return Remaining(tuple(operations), attempted, warnings)


def _asked_for(plan: PlannedWriteback, asked: Asked) -> list[KeyedOperation]:
    keyed = keyed_operations(plan.session_id, asked.operations, namespace=asked.namespace)
    digest = request_digest(keyed, atomic=plan.atomic, identity=asked.identity, namespace=asked.namespace)
    same = [(item.id, item.kind) for item in keyed] == [(item.id, item.kind) for item in plan.operations]
    if digest != plan.request_digest or not same:
        raise InvalidInput(
            f"session {plan.session_id} was planned from another request: give the file that it was run from"
        )
    return keyed


def _doubts(attempted: Mapping[str, datetime]) -> Iterator[str]:
    for name, latest in attempted.items():
        yield (
            f"{name} may have been sent, {latest:%Y-%m-%d %H:%M:%SZ} at the latest: find out whether it took"
            " effect, and leave it out if it did; idempotency keys are made from the session id, so under"
            " another one the remote applies it again"
        )


def _still_open(session: StoredSession, status: RunStatus) -> Iterator[str]:
    if status is RunStatus.ABANDONED:
        return
    what = "is held by an active run" if status is RunStatus.IN_PROGRESS else "can still be resumed"
    yield (
        f"session {session.session_id} {what}, which would send these operations as well: abandon it first,"
        " then ask again for what remains"
    )


def _unlike_the_request(
    plan: PlannedWriteback, missing: Sequence[PlannedOperation], asked: Asked | None
) -> Iterator[str]:
    """What the new request would lack, or have otherwise, than the one before."""
    if asked is None and not _is_as_asked(plan):
        kinds = ", ".join(sorted({item.kind for item in missing}))
        yield (
            f"the payloads are what adapter {plan.adapter!r} planned, and not what it was asked for (kinds:"
            f" {kinds}): if it translates payloads, give the file that the session was run from, too; a dry"
            " run shows whether these are taken as they are"
        )
    if asked is None and any(item.identity for item in missing):
        yield "the session had an identity, which is not kept: give one to the new session if it needs it"
    if asked is None and any(item.key != idempotency_key(plan.session_id, item.id) for item in missing):
        yield "the session had a namespace, which is not kept: give it to the new session"
    if asked is not None and asked.identity is not None:
        yield "the session had an identity, so the file may hold other payloads than were planned"
    if plan.atomic:
        yield "the session was one transaction: run the new one with --atomic"


def _without_baseline(
    missing: Sequence[PlannedOperation], given: Mapping[str, KeyedOperation]
) -> Iterator[str]:
    """Name the operations whose rows others may have edited since the first plan."""
    kept = {name for name, item in given.items() if item.baseline is not None}
    guarded = ", ".join(
        item.id
        for item in missing
        if item.precondition and item.replay in OVERWRITING and item.id not in kept
    )
    if guarded:
        yield (
            f"{guarded}: planned again, on the rows as they are then: what others have changed since the"
            " first plan is no conflict any more"
        )


def _is_as_asked(plan: PlannedWriteback) -> bool:
    """Whether the planned payloads are the very request, which its digest tells."""
    keyed = [
        KeyedOperation(
            session_id=plan.session_id,
            id=item.id,
            kind=item.kind,
            key=item.key,
            payload=item.payload,
            independent=item.independent,
        )
        for item in plan.operations
    ]
    return plan.request_digest == request_digest(keyed, atomic=plan.atomic, identity=None, namespace="")
