"""write_back() and resume_session(): from operations to a final artifact, through a store and an adapter."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from writeahead.adapters.base import Adapter
from writeahead.artifacts import (
    FINAL,
    PLANNED,
    decode,
    digest_of,
    digest_of_operations,
    dry_run_key,
    encode_model,
    open_key,
    planned_key,
    require_session_id,
)
from writeahead.errors import (
    AdapterError,
    AlreadyExists,
    Fenced,
    InvalidInput,
    NotReady,
    PlanConflict,
    ResumeError,
)
from writeahead.journal import Journal, Session, new_owner, read_session
from writeahead.model import (
    BlockReason,
    Event,
    KeyedOperation,
    Operation,
    PlannedOperation,
    PlannedWriteback,
    Receipt,
    ReplayClass,
    RunPolicy,
    RunReport,
    RunStatus,
    idempotency_key,
)
from writeahead.retry import Clock, with_retries
from writeahead.stores.base import ArtifactStore
from writeahead.turn import Stop, Turn, one_line, remove_markers, sleep_unless_stopped

__all__ = ["resume_from", "resume_session", "unblock_session", "write_back"]

_DEFAULT_POLICY = RunPolicy()


@dataclass(frozen=True)
class _Means:
    """What a run works with."""

    store: ArtifactStore
    adapter: Adapter
    policy: RunPolicy
    stop: threading.Event | None
    clock: Clock
    deadline: float

    @classmethod
    def of(
        cls,
        store: ArtifactStore,
        adapter: Adapter,
        policy: RunPolicy,
        stop: threading.Event | None,
        clock: Clock | None,
    ) -> "_Means":
        clock = clock or Clock()
        # One limit on the whole run, planning included.
        return cls(store, adapter, policy, stop, clock, clock.monotonic() + policy.run_limit)

    def turn(self, journal: Journal) -> Turn:
        return Turn(journal, self.adapter, self.policy, self.stop, self.deadline)


def write_back(
    operations: Iterable[Operation | Mapping[str, Any]],
    *,
    session_id: str,
    store: ArtifactStore,
    adapter: Adapter,
    policy: RunPolicy = _DEFAULT_POLICY,
    dry_run: bool = False,
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
        stop: Once set, nothing more is sent, and the run ends as ``resume_needed``.
        clock: Where time comes from; for tests.

    Returns:
        How it ended: ``completed``, ``resume_needed``, ``blocked``, ``no_resume_needed``,
        ``in_progress`` (another owner is at it) or ``planned`` (a dry run).

    Raises:
        InvalidInput: The operations or the session id can't be used. Nothing was written.
        PlanConflict: The session id has a plan for other operations. Nothing was changed.
        ResumeError: The session exists, and can't be used.
        StoreError: The plan could not be made durable. Nothing was emitted.
        Exception: What an adapter raises against its contract; the session is left as ``resume_needed``.
    """
    means = _Means.of(store, adapter, policy, stop, clock)
    keyed = _keyed(session_id, operations)
    # First of all, since it finds out what could not be kept in an artifact.
    digest = digest_of([item.model_dump(mode="json") for item in keyed])
    try:
        planned = _plan(means, keyed)
    except (NotReady, AdapterError) as error:
        return RunReport(
            session_id=session_id,
            status=RunStatus.BLOCKED,
            block_reason=BlockReason.NOT_READY,
            error=one_line(error),
        )
    plan = PlannedWriteback(
        session_id=session_id,
        adapter=adapter.name,
        created_at=means.clock.now(),
        owner=new_owner(),
        lease_seconds=policy.lease,
        request_digest=digest,
        digest=digest_of_operations(planned),
        operations=tuple(planned),
    )
    if dry_run:
        store.put(dry_run_key(session_id), encode_model(plan))
        return RunReport(session_id=session_id, status=RunStatus.PLANNED, operations=plan.operations)
    data = encode_model(plan)
    renewed_at = means.clock.monotonic()
    store.put(open_key(session_id), b"")
    try:
        _create_plan(store, plan, data)
    except AlreadyExists:
        return _repeat(means, session_id, digest)
    journal = Journal(store, means.clock, plan, plan.owner, policy.lease, 0, renewed_at)
    return means.turn(journal).carry_out()


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
        How it ended. Nothing is sent if the session is complete (``no_resume_needed``), ``blocked``, held by
        a live owner (``in_progress``), or told by the remote to wait (``resume_needed`` and ``not_before``).

    Raises:
        ResumeError: There is neither plan nor final artifact, or what is there can't be used.
        InvalidInput: The session id can't be used, or its plan was made by another adapter.
        StoreError: The session could not be read or claimed. Nothing was emitted.
        Exception: What an adapter raises against its contract; the session is left as ``resume_needed``.
    """
    session = read_session(store, session_id)
    return resume_from(session, store=store, adapter=adapter, policy=policy, stop=stop, clock=clock)


def resume_from(
    session: Session,
    *,
    store: ArtifactStore,
    adapter: Adapter,
    policy: RunPolicy = _DEFAULT_POLICY,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> RunReport:
    """Do the same as `resume_session` with a session that has just been read."""
    return _resume(_Means.of(store, adapter, policy, stop, clock), session)


def unblock_session(
    session_id: str,
    *,
    store: ArtifactStore,
    reason: str,
    assume: Mapping[str, bool] | None = None,
    clock: Clock | None = None,
) -> RunReport:
    """Let a blocked session be resumed, by a person's decision.

    Args:
        session_id: The session.
        store: Where its artifacts are.
        reason: Why; it is kept in the journal.
        assume: What a person found out of operations without a receipt: True if it was applied, so that it is
            never sent again; False if it was not, so that it may be sent.
        clock: Where time comes from; for tests.

    Returns:
        A report with status ``resume_needed``: the session can be resumed now.

    Raises:
        InvalidInput: It is not blocked, an operation is unknown or confirmed already, or it waits for a
            decision on an operation of unknown outcome that ``assume`` does not give.
        Fenced: Somebody else unblocked it at the same time.
        ResumeError: There is no such session, or it can't be read.
        StoreError: As the store's verbs.
    """
    clock = clock or Clock()
    session = read_session(store, session_id)
    status = session.status(clock.now(), 0)
    if session.plan is None or session.entry is None or status is not RunStatus.BLOCKED:
        raise InvalidInput(f"session {session_id} is not blocked: there is nothing to unblock")
    journal = _journal_of(session, session.plan, store, clock, lease=0)
    _assume(journal, assume or {}, clock.now())
    undecided = _undecided(journal)
    if undecided:
        raise InvalidInput(
            f"session {session_id}: find out whether {undecided} took effect, then say --assume applied"
            f" {undecided} or --assume not-applied {undecided}"
        )
    journal.was_blocked = True
    journal.append(Event.UNBLOCKED, reason=reason)
    # .blocked/ stays until the session is final: see docs/decisions/0002.
    store.put(open_key(session_id), b"")
    return RunReport(
        session_id=session_id,
        status=RunStatus.RESUME_NEEDED,
        operations=session.plan.operations,
        receipts=journal.receipts,
    )


def _create_plan(store: ArtifactStore, plan: PlannedWriteback, data: bytes) -> None:
    store.put(planned_key(plan.session_id), data, if_absent=True)


def _keyed(session_id: str, operations: Iterable[Operation | Mapping[str, Any]]) -> list[KeyedOperation]:
    require_session_id(session_id)
    keyed: dict[str, KeyedOperation] = {}
    for position, given in enumerate(operations, start=1):
        operation = _as_operation(given, position)
        operation_id = operation.id or f"{position}-{operation.kind}"
        if operation_id in keyed:
            raise InvalidInput(f"operation id {operation_id!r} is there twice: give each operation its own")
        keyed[operation_id] = KeyedOperation(
            session_id=session_id,
            id=operation_id,
            kind=operation.kind,
            key=idempotency_key(session_id, operation_id),
            payload=operation.payload,
        )
    if not keyed:
        raise InvalidInput(f"session {session_id} has no operations: there is nothing to write")
    return list(keyed.values())


def _as_operation(given: Operation | Mapping[str, Any], position: int) -> Operation:
    if isinstance(given, Operation):
        return given
    try:
        return Operation.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False, include_context=False)
        )
        raise InvalidInput(f"operation {position}: {problems}") from None


def _plan(means: _Means, keyed: Sequence[KeyedOperation]) -> list[PlannedOperation]:
    adapter, clock, stop = means.adapter, means.clock, means.stop
    planned = with_retries(
        lambda: adapter.plan(keyed),
        policy=means.policy,
        time_left=lambda: 0.0 if stop and stop.is_set() else means.deadline - clock.monotonic(),
        sleep=lambda seconds: sleep_unless_stopped(seconds, clock, stop),
    )
    if [(item.id, item.kind, item.key) for item in planned] != [(x.id, x.kind, x.key) for x in keyed]:
        raise InvalidInput(f"adapter {adapter.name!r} planned other operations than it was asked to")
    return planned


def _repeat(means: _Means, session_id: str, request_digest: str) -> RunReport:
    """Go on with a session that was there already, if it is for the same operations."""
    store = means.store
    session = read_session(store, session_id)
    plan = session.plan
    if session.final:
        stored = store.get(planned_key(session_id))
        plan = decode(stored.data, PlannedWriteback, key=stored.info.key)
    if plan and plan.request_digest != request_digest:
        if session.final:
            # We have just put a marker, and a completed session needs none, whatever its operations were.
            remove_markers(store, session_id, was_blocked=False)
        raise PlanConflict(
            f"session {session_id} already has a plan for other operations: use a new session id, or resume"
            " it as it is"
        )
    return _resume(means, session)


def _resume(means: _Means, session: Session) -> RunReport:
    if session.abandoned:
        when = session.abandoned.abandoned_at
        raise ResumeError(
            f"session {session.session_id} was abandoned at {when:%Y-%m-%d %H:%M:%SZ} before it emitted"
            " anything: start it again under a new session id"
        )
    if session.final:
        return _nothing_to_do(session, remove_markers(means.store, session.session_id, was_blocked=True))
    plan = session.plan
    if plan is None:
        raise ResumeError(
            f"session {session.session_id}: neither {PLANNED} nor {FINAL} is in {means.store.name}"
        )
    if plan.adapter != means.adapter.name:
        raise InvalidInput(
            f"session {session.session_id} was planned by adapter {plan.adapter!r}: resume it with that one,"
            f" not with {means.adapter.name!r}"
        )
    _require_same_classes(means.adapter, plan)
    refusal = _refusal(session, plan, means.clock.now(), means.policy)
    return refusal or _claim(means, session, plan)


def _require_same_classes(adapter: Adapter, plan: PlannedWriteback) -> None:
    """Refuse a plan that an adapter of today would carry out under other rules than it was made for."""
    for operation in plan.operations:
        kind = adapter.kinds.get(operation.kind)
        if kind is not None and kind.replay is not operation.replay:
            raise InvalidInput(
                f"operation {operation.id} was planned as {operation.replay}, and adapter {adapter.name!r}"
                f" now says {kind.replay}: resume it with the version that planned it"
            )


def _claim(means: _Means, session: Session, plan: PlannedWriteback) -> RunReport:
    """Take a session over and carry on with it, unless somebody else is faster."""
    journal = _journal_of(session, plan, means.store, means.clock, lease=means.policy.lease)
    _suspect_lookups(session, journal)
    turn = means.turn(journal)
    undecided = _undecided(journal)
    if undecided:
        error = "it was sent, and nobody knows whether it took effect"
        return turn.end(Stop(RunStatus.BLOCKED, error, reason=BlockReason.OUTCOME_UNKNOWN), undecided)
    try:
        journal.append(Event.CLAIMED)
    except Fenced as error:
        return turn.report(RunStatus.IN_PROGRESS, error=str(error))
    return turn.carry_out()


def _nothing_to_do(session: Session, warnings: tuple[str, ...]) -> RunReport:
    assert session.final is not None
    return RunReport(
        session_id=session.session_id,
        status=RunStatus.NO_RESUME_NEEDED,
        operations=session.final.operations,
        receipts=dict(session.receipts),
        warnings=warnings,
    )


def _refusal(session: Session, plan: PlannedWriteback, now: datetime, policy: RunPolicy) -> RunReport | None:
    """Say why a session can't be claimed now; None if it can."""
    status = session.status(now, policy.clock_skew)
    entry = session.entry
    not_before = entry.not_before if entry else None
    if status is RunStatus.IN_PROGRESS and session.lease_ends:
        not_before = session.lease_ends + timedelta(seconds=policy.clock_skew)
    elif status is RunStatus.RESUME_NEEDED and (not_before is None or not_before <= now):
        return None
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


def _journal_of(
    session: Session, plan: PlannedWriteback, store: ArtifactStore, clock: Clock, *, lease: float
) -> Journal:
    return Journal(
        store,
        clock,
        plan,
        new_owner(),
        lease,
        session.number,
        clock.monotonic(),
        dict(session.receipts),
        dict(session.entry.attempted) if session.entry else {},
        was_blocked=session.entry is not None
        and (session.entry.was_blocked or session.entry.event is Event.UNBLOCKED),
    )


def _suspect_lookups(session: Session, journal: Journal) -> None:
    """Note what a silent owner may have sent, up to its lease's last moment, without telling us."""
    if session.was_ended or session.lease_ends is None:
        return
    for operation in journal.plan.operations:
        if operation.replay is ReplayClass.LOOKUP and operation.id not in journal.receipts:
            journal.attempted[operation.id] = session.lease_ends


def _undecided(journal: Journal) -> str | None:
    """Return the unprovable operation that was sent and has no receipt, if there is one."""
    for operation in journal.plan.operations:
        if operation.replay is ReplayClass.UNPROVABLE and operation.id in journal.attempted:
            return operation.id
    return None


def _assume(journal: Journal, assume: Mapping[str, bool], now: datetime) -> None:
    known = {operation.id: operation for operation in journal.plan.operations}
    for operation_id, applied in assume.items():
        if operation_id not in known:
            raise InvalidInput(f"there is no operation {operation_id!r} here, only: {', '.join(known)}")
        if operation_id in journal.receipts:
            raise InvalidInput(f"operation {operation_id!r} is confirmed already: nothing is to be assumed")
        journal.attempted.pop(operation_id, None)
        if applied:
            journal.receipts[operation_id] = Receipt(outcome="assumed", confirmed_at=now)
