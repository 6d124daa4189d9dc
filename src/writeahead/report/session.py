"""read_session(): how a session stands, for a program that looks at it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from writeahead.errors import ResumeError
from writeahead.model import (
    BlockReason,
    PlannedOperation,
    Receipt,
    ReplayClass,
    RunPolicy,
    RunStatus,
    Stop,
    Timestamp,
)
from writeahead.protocol.in_doubt import in_doubt
from writeahead.protocol.keys import dry_run_key
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import PlannedWriteback, SettledOperation
from writeahead.protocol.session import StoredSession, read_stored
from writeahead.stores.base import ArtifactStore

__all__ = [
    "Line",
    "OperationLine",
    "Session",
    "fields_of_history",
    "fields_of_status",
    "nothing_of",
    "operation_lines",
    "operations_of",
    "problem_of",
    "read_session",
]

_DEFAULT_POLICY = RunPolicy()


class Line(BaseModel):
    """What is read of a session is data: it is never changed."""

    model_config = ConfigDict(frozen=True, defer_build=True)


class OperationLine(Line):
    """One operation of a session.

    Attributes:
        id: The operation's id.
        kind: Its kind; None if the plan can't be read.
        replay: How its replay is proved harmless; None if the plan can't be read.
        independent: Whether it needs no order among those next to it.
        state: ``confirmed`` by a receipt; ``attempted``: it may have been sent, and nothing
            confirms it; ``missing``: neither.
        receipt: The receipt, if it is confirmed.
        attempted_at: When it may have been sent at the latest, if it is attempted; None if the
            artifact that would tell can't be read.
    """

    id: str
    kind: str | None = None
    replay: ReplayClass | None = None
    state: Literal["confirmed", "attempted", "missing"]
    receipt: Receipt | None = None
    attempted_at: Timestamp | None = None
    independent: bool = False


class Session(Line):
    """How a session stands.

    Attributes:
        session_id: The session.
        status: Its status; None if it has no plan, and so nothing was sent.
        problem: Why it has no status.
        own: Whether it is of an orchestrator of its own, whose plan is not read here.
        adapter: The adapter that its plan is for.
        planned_at: When it was planned, by the owner's clock; None where the final artifact is all
            that was read.
        atomic: Its operations are issued as one transaction.
        warnings: What planning found odd.
        block_reason: Why it is blocked, if it is.
        error: What the remote or the store said last.
        operation: The operation at which it stopped.
        stops: Each operation at which it stopped, in the plan's order.
        not_before: Resuming earlier than this is pointless: the remote or a lease says so.
        host: The machine of the run that holds its lease, unless it gave the session up.
        pid: That run's process.
        pruned_at: When its artifacts were removed after its end, if they were.
        operations: The plan's operations, in order, with what is known of each.
    """

    session_id: str
    status: RunStatus | None = None
    problem: str | None = None
    own: bool = False
    adapter: str | None = None
    planned_at: Timestamp | None = None
    atomic: bool = False
    warnings: tuple[str, ...] = ()
    block_reason: BlockReason | None = None
    error: str | None = None
    operation: str | None = None
    not_before: Timestamp | None = None
    host: str | None = None
    pid: int | None = None
    pruned_at: Timestamp | None = None
    operations: tuple[OperationLine, ...] = ()
    stops: tuple[Stop, ...] = ()

    @property
    def receipts(self) -> dict[str, Receipt]:
        """Every receipt so far, by operation id."""
        return {line.id: line.receipt for line in self.operations if line.receipt}


def read_session(
    store: ArtifactStore,
    session_id: str,
    *,
    clock_skew: float = _DEFAULT_POLICY.clock_skew,
    clock: Clock | None = None,
) -> Session:
    """Read how a session stands, and change nothing.

    It costs one listing of the session and two or three reads, more for a long journal.

    Args:
        store: Where its artifacts are.
        session_id: The session.
        clock_skew: Seconds that two machines' clocks may be apart; a lease counts as over after
            that.
        clock: Where time comes from; for tests.

    Raises:
        ResumeError: The store holds nothing of it; or, as `CorruptArtifact`, what it holds can't be
            read. ``writeahead show`` tells what still reads of such a session.
        InvalidInput: The session id can't be used.
        StoreError: As the store's verbs.
    """
    stored = read_stored(store, session_id)
    if stored == StoredSession(session_id):
        raise nothing_of(store, session_id)
    now = (clock or Clock()).now()
    return Session(
        session_id=session_id,
        **fields_of_history(stored, stored.plan),
        **fields_of_status(stored, now, clock_skew),
    )


def fields_of_history(stored: StoredSession, plan: PlannedWriteback | None) -> dict[str, Any]:
    """What a plan and a journal tell that does not change with time."""
    entry, holder = stored.entry, stored.holder
    return {
        "own": stored.is_own,
        "adapter": plan.adapter if plan else stored.adapter,
        "planned_at": plan.created_at if plan else stored.planned_at,
        "atomic": plan is not None and plan.atomic,
        "warnings": plan.warnings if plan else (),
        "block_reason": entry.block_reason if entry else None,
        "error": entry.error if entry else None,
        "operation": entry.operation if entry else None,
        "stops": stored.stops,
        "host": holder.host if holder else None,
        "pid": holder.pid if holder else None,
        "pruned_at": stored.pruned.pruned_at if stored.pruned else None,
    }


def fields_of_status(stored: StoredSession, now: datetime, clock_skew: float) -> dict[str, Any]:
    """What changes with time: the status, and until when to wait."""
    problem = problem_of(stored)
    return {
        "problem": problem,
        "status": None if problem else stored.status(now, clock_skew),
        "not_before": stored.waits_until(now, clock_skew),
        "operations": operation_lines(operations_of(stored), stored.receipts, in_doubt(stored, now)),
    }


def operation_lines(
    operations: Sequence[PlannedOperation],
    receipts: Mapping[str, Receipt],
    attempted: Mapping[str, datetime | None],
) -> tuple[OperationLine, ...]:
    """Set operations beside what is known of each: its receipt, or when it may have been sent."""
    return tuple(
        OperationLine(
            id=operation.id,
            kind=operation.kind,
            replay=operation.replay,
            state=_state(operation.id, receipts, attempted),
            receipt=receipts.get(operation.id),
            attempted_at=attempted.get(operation.id),
            independent=operation.independent,
        )
        for operation in operations
    )


def operations_of(stored: StoredSession) -> Sequence[PlannedOperation | SettledOperation]:
    """The operations, of the final artifact or of the plan."""
    if stored.final:
        return stored.final.operations
    return stored.plan.operations if stored.plan else ()


def nothing_of(store: ArtifactStore, session_id: str) -> ResumeError:
    """The error for a session that a store does not hold; it says if there is a dry run's plan."""
    hint = "; writeahead list shows what is there"
    if store.head(dry_run_key(session_id)) is not None:
        hint = f" but a dry run's plan, {dry_run_key(session_id)}: run it with --write"
    return ResumeError(f"session {session_id}: {store.name} holds nothing of it{hint}")


def problem_of(stored: StoredSession) -> str | None:
    """Why a session has no status, though it can be read; None if it has one."""
    if stored.abandoned:
        return "abandoned before it emitted anything: run it again"
    if not stored.is_planned:
        return "it has no plan yet: its run is active, or died before it emitted anything"
    return None


def _state(
    operation_id: str, receipts: Mapping[str, Receipt], attempted: Mapping[str, datetime | None]
) -> Literal["confirmed", "attempted", "missing"]:
    if operation_id in receipts:
        return "confirmed"
    return "attempted" if operation_id in attempted else "missing"
