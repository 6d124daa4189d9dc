"""What there is to read about a session: operations, history, artifacts, and what to do next."""

import os
import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from writeahead.errors import CorruptArtifact, NotFound, ResumeError
from writeahead.model import (
    BlockReason,
    PlannedOperation,
    Receipt,
    ReplayClass,
    RunReport,
    RunStatus,
    Timestamp,
)
from writeahead.protocol.encoding import decode, require_size
from writeahead.protocol.keys import blocked_key, dry_run_key, journal_prefix, open_key, planned_key
from writeahead.protocol.schema import JournalEntry, PlannedWriteback, SettledOperation
from writeahead.protocol.session import Session, read_artifact, read_session
from writeahead.stores.base import ArtifactStore, ObjectInfo

__all__ = [
    "ArtifactLine",
    "OperationLine",
    "SessionPage",
    "next_step",
    "operation_lines",
    "quoted",
    "read_page",
]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class OperationLine(_Line):
    """One operation of a session.

    Attributes:
        id: The operation's id.
        kind: Its kind.
        replay: How its replay is proved harmless.
        state: ``confirmed`` by a receipt; ``attempted``: it may have been sent, and nothing
            confirms it; ``missing``: neither.
        receipt: The receipt, if it is confirmed.
        attempted_at: When it was sent at the latest, if it is attempted.
    """

    id: str
    kind: str
    replay: ReplayClass
    state: Literal["confirmed", "attempted", "missing"]
    receipt: Receipt | None = None
    attempted_at: Timestamp | None = None


class ArtifactLine(_Line):
    """One object of a session in the store: its key, its size in bytes, and when it was written."""

    key: str
    size: int
    last_modified: Timestamp | None = None


class SessionPage(_Line):
    """Everything that a store tells of one session.

    Attributes:
        session_id: The session.
        status: Its status; None if it is unknown.
        problem: Why the status is unknown, or the session can't be resumed.
        own: Whether it is of an orchestrator of its own, whose plan is not read here.
        adapter: The adapter that its plan is for.
        planned_at: When it was planned, by the owner's clock.
        atomic: Its operations are issued as one transaction.
        warnings: What planning found odd.
        block_reason: Why it is blocked, if it is.
        error: What the remote or the store said last.
        not_before: Resuming earlier than this is pointless: the remote or a lease says so.
        operations: The plan's operations, in order.
        history: The journal as it is stored, oldest entry first, without its entries that can't be
            read. An entry with a ``base`` holds what is new since that one.
        artifacts: The session's objects, markers included.
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
    not_before: Timestamp | None = None
    operations: tuple[OperationLine, ...] = ()
    history: tuple[JournalEntry, ...] = ()
    artifacts: tuple[ArtifactLine, ...] = ()


def read_page(store: ArtifactStore, session_id: str, *, now: datetime, clock_skew: float) -> SessionPage:
    """Read all that a store holds of a session. What can't be read is named and hides nothing.

    Args:
        store: Where the artifacts are.
        session_id: The session.
        now: The wall clock's time.
        clock_skew: Seconds that two machines' clocks may be apart.

    Raises:
        ResumeError: The store holds nothing of this session.
        InvalidInput: The session id can't be used.
        StoreError: As the store's verbs.
    """
    problem: str | None
    try:
        session = read_session(store, session_id)
        problem = _problem_of(session)
    except CorruptArtifact as error:
        session, problem = Session(session_id), str(error)
    artifacts = tuple(_artifacts(store, session_id))
    if not artifacts:
        raise ResumeError(
            f"session {session_id}: {store.name} holds nothing of it{_dry_run_hint(store, session_id)}"
        )
    entry = session.entry
    plan = session.plan or _plan_behind(store, session, artifacts)
    return SessionPage(
        session_id=session_id,
        status=None if problem else session.status(now, clock_skew),
        problem=problem,
        own=session.is_own,
        adapter=plan.adapter if plan else session.final.adapter if session.final else None,
        planned_at=plan.created_at if plan else session.planned_at,
        atomic=plan is not None and plan.atomic,
        warnings=plan.warnings if plan else (),
        block_reason=entry.block_reason if entry else None,
        error=entry.error if entry else None,
        not_before=session.waits_until(now, clock_skew),
        operations=operation_lines(_operations(session), session),
        history=tuple(_history(store, session_id)),
        artifacts=artifacts,
    )


def operation_lines(
    operations: Sequence[PlannedOperation], found: Session | RunReport
) -> tuple[OperationLine, ...]:
    """Set operations beside what is known of each."""
    attempted = found.entry.attempted if isinstance(found, Session) and found.entry else {}
    return tuple(
        OperationLine(
            id=operation.id,
            kind=operation.kind,
            replay=operation.replay,
            state=_state(operation.id, found, attempted),
            receipt=found.receipts.get(operation.id),
            attempted_at=attempted.get(operation.id),
        )
        for operation in operations
    )


def next_step(
    session_id: str,
    status: RunStatus | None,
    *,
    block_reason: BlockReason | None = None,
    operation: str | None = None,
    not_before: datetime | None = None,
    planned: bool = True,
    own: bool = False,
    options: str = "",
    resume_options: str = "",
) -> str | None:
    """Say what to do next, in one line; None if there is nothing to do.

    Args:
        session_id: The session.
        status: How it stands.
        block_reason: Why it is blocked, if it is.
        operation: The operation it stopped at, if any.
        not_before: Resuming earlier than this is pointless.
        planned: Whether it has a plan, so that there is something to resume.
        own: Whether it is of an orchestrator of its own.
        options: The flags that any command needs, e.g. ``--store ./artifacts``.
        resume_options: The flags that a resume needs.
    """
    resume = f"writeahead resume {session_id} {resume_options}".rstrip()
    when = f"after {not_before:%Y-%m-%d %H:%M:%SZ}: " if not_before else ""
    match status:
        case RunStatus.RESUME_NEEDED if own:
            resume = f"writeahead sweep {options}".rstrip() + " --own module:function --write"
            return f"resume it by the program that planned it, or: {resume}"
        case RunStatus.RESUME_NEEDED:
            return f"{when}{resume if planned else 'run it again; nothing was written'}"
        case RunStatus.IN_PROGRESS:
            return f"another run is active; if it is gone, {when}{resume}"
        case RunStatus.PLANNED:
            return "nothing was sent; run it again with --write"
        case RunStatus.BLOCKED:
            return _blocked_step(session_id, block_reason, operation, when, options)
    return None


def quoted(word: str, *, windows: bool = os.name == "nt") -> str:
    """A word of a command line as a shell takes it: PowerShell and cmd, or a POSIX one."""
    if not windows:
        return shlex.quote(word)
    from subprocess import list2cmdline

    return list2cmdline([word])


def _blocked_step(
    session_id: str, reason: BlockReason | None, operation: str | None, when: str, options: str
) -> str:
    if reason is BlockReason.NOT_READY:
        fix = "" if when else "fix the problems above, then "
        return f"{when}{fix}run it again; nothing was sent"
    return _unblock_step(session_id, reason, operation, options)


def _unblock_step(session_id: str, reason: BlockReason | None, operation: str | None, options: str) -> str:
    unblock = f"writeahead unblock {session_id} {options}".rstrip() + " --reason TEXT"
    named = quoted(operation) if operation else "OPERATION"
    match reason:
        case BlockReason.OUTCOME_UNKNOWN:
            return (
                f"find out whether {named} took effect, then: {unblock} --assume applied|not-applied {named}"
            )
        case BlockReason.GAVE_UP:
            return f"find out why it made no progress, then: {unblock}, and resume; or: writeahead abandon"
        case BlockReason.UNKNOWN_KIND:
            return f"install the adapter's version that has the kind, then: {unblock}, and resume"
        case BlockReason.CONFLICT_DETECTED:
            found = "settle the conflict"
            if operation is None:  # a file in the final artifact's place
                return f"{found}, then: {unblock}, and resume"
        case _:
            found = "fix what was refused"
    return f"{found}, then: {unblock} (if it is done by hand: --assume applied {named}), and resume"


def _problem_of(session: Session) -> str | None:
    if session.abandoned:
        return "abandoned before it emitted anything: run it again"
    if not session.is_planned:
        return "it has no plan yet: its run is active, or died before it emitted anything"
    return None


def _dry_run_hint(store: ArtifactStore, session_id: str) -> str:
    if store.head(dry_run_key(session_id)) is None:
        return "; writeahead list shows what is there"
    return f" but a dry run's plan, {dry_run_key(session_id)}: run it with --write"


def _artifacts(store: ArtifactStore, session_id: str) -> Iterator[ArtifactLine]:
    for key in (open_key(session_id), blocked_key(session_id)):
        marker = store.head(key)
        if marker:
            yield _artifact(marker)
    for info in store.list(f"{session_id}/"):
        yield _artifact(info)


def _artifact(info: ObjectInfo) -> ArtifactLine:
    return ArtifactLine(key=info.key, size=info.size, last_modified=info.last_modified)


def _plan_behind(
    store: ArtifactStore, session: Session, artifacts: Sequence[ArtifactLine]
) -> PlannedWriteback | None:
    """The plan of a finished session, which is read for its history's sake only."""
    key = planned_key(session.session_id)
    found = next((artifact for artifact in artifacts if artifact.key == key), None)
    if session.final is None or found is None:
        return None
    try:
        require_size(found.size, key)
        return decode(store.get(key).data, PlannedWriteback, key=key)
    except (CorruptArtifact, NotFound):
        return None


def _history(store: ArtifactStore, session_id: str) -> Iterator[JournalEntry]:
    for info in store.list(journal_prefix(session_id)):
        try:
            yield decode(read_artifact(store, info), JournalEntry, key=info.key)
        except CorruptArtifact:
            continue  # `problem` names it if the session can't be read without it


def _operations(session: Session) -> Sequence[PlannedOperation | SettledOperation]:
    if session.final:
        return session.final.operations
    return session.plan.operations if session.plan else ()


def _state(
    operation_id: str, found: Session | RunReport, attempted: dict[str, datetime] | dict[str, Timestamp]
) -> Literal["confirmed", "attempted", "missing"]:
    if operation_id in found.receipts:
        return "confirmed"
    return "attempted" if operation_id in attempted else "missing"
