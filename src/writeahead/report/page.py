"""What there is to read about a session: operations, history, artifacts, and what to do next."""

import os
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from writeahead.errors import CorruptArtifact, ResumeError
from writeahead.model import (
    BlockReason,
    PlannedOperation,
    Receipt,
    ReplayClass,
    RunStatus,
    Timestamp,
)
from writeahead.protocol.in_doubt import in_doubt
from writeahead.protocol.keys import blocked_key, dry_run_key, open_key, require_session_id
from writeahead.protocol.schema import JournalEntry, SettledOperation
from writeahead.protocol.session import Session, read_session
from writeahead.report.salvage import Readable, read_each, way_out
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
        kind: Its kind; None if the plan can't be read.
        replay: How its replay is proved harmless; None if the plan can't be read.
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


class ArtifactLine(_Line):
    """One object of a session in the store.

    Attributes:
        key: Its key.
        size: In bytes; None if it is missing, and must have been there.
        last_modified: When it was written.
        problem: Why it can't be read, if it is an artifact and can't.
    """

    key: str
    size: int | None = None
    last_modified: Timestamp | None = None
    problem: str | None = None


class SessionPage(_Line):
    """Everything that a store tells of one session.

    Attributes:
        session_id: The session.
        status: Its status; None if it is unknown.
        problem: Why the status is unknown, or the session can't be resumed.
        own: Whether it is of an orchestrator of its own, whose plan is not read here.
        way_out: What to do about a session that can't be read, and what not. All else on the page
            is then what still reads, and may be older than the truth.
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
        artifacts: The session's objects, markers included, and those that are missing.
    """

    session_id: str
    status: RunStatus | None = None
    problem: str | None = None
    own: bool = False
    way_out: tuple[str, ...] = ()
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
    found = list(store.list(f"{require_session_id(session_id)}/"))
    readable = read_each(store, session_id, found)
    try:
        session = read_session(store, session_id)
    except CorruptArtifact as error:
        # By itself an artifact may read well, and belong elsewhere.
        readable.problems.setdefault(str(error).partition(": ")[0], str(error))
        page = _page(readable.session(), readable, _artifacts(store, session_id, found, readable))
        operations = _what_still_reads(readable.session())
        return page.model_copy(
            update={"problem": str(error), "way_out": way_out(readable), "operations": operations}
        )
    artifacts = _artifacts(store, session_id, found, readable)
    if not artifacts:
        raise ResumeError(
            f"session {session_id}: {store.name} holds nothing of it{_dry_run_hint(store, session_id)}"
        )
    page = _page(session, readable, artifacts)
    problem = _problem_of(session)
    return page.model_copy(
        update={
            "problem": problem,
            "status": None if problem else session.status(now, clock_skew),
            "not_before": session.waits_until(now, clock_skew),
            "operations": operation_lines(_operations(session), session.receipts, in_doubt(session, now)),
        }
    )


def _page(session: Session, readable: Readable, artifacts: tuple[ArtifactLine, ...]) -> SessionPage:
    """What needs no status, and so can be told of a damaged session, too."""
    entry, plan = session.entry, readable.plan
    return SessionPage(
        session_id=session.session_id,
        own=session.is_own,
        adapter=plan.adapter if plan else session.final.adapter if session.final else None,
        planned_at=plan.created_at if plan else session.planned_at,
        atomic=plan is not None and plan.atomic,
        warnings=plan.warnings if plan else (),
        block_reason=entry.block_reason if entry else None,
        error=entry.error if entry else None,
        history=tuple(readable.entries[number] for number in sorted(readable.entries)),
        artifacts=artifacts,
    )


def _what_still_reads(session: Session) -> tuple[OperationLine, ...]:
    """The operations of a damaged session: what could say that one was not sent may be lost."""
    attempted = dict(session.entry.attempted) if session.entry else {}
    operations = _operations(session)
    if operations:
        doubts = {item.id: attempted.get(item.id) for item in operations}
        return operation_lines(operations, session.receipts, doubts)
    confirmed = (
        OperationLine(id=name, state="confirmed", receipt=receipt)
        for name, receipt in session.receipts.items()
    )
    doubtful = (
        OperationLine(id=name, state="attempted", attempted_at=latest) for name, latest in attempted.items()
    )
    return (*confirmed, *doubtful)


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
    step = None
    match status:
        case RunStatus.RESUME_NEEDED if own:
            resume = f"writeahead sweep {options}".rstrip() + " --own module:function --write"
            step = f"resume it by the program that planned it, or: {resume}"
        case RunStatus.RESUME_NEEDED:
            step = f"{when}{resume if planned else 'run it again; nothing was written'}"
        case RunStatus.IN_PROGRESS:
            step = f"another run is active; if it is gone, {when}{resume}"
        case RunStatus.PLANNED:
            step = "nothing was sent; run it again with --write"
        case RunStatus.BLOCKED:
            step = _blocked_step(session_id, block_reason, operation, when, options)
        case RunStatus.ABANDONED:
            remaining = f"writeahead remaining {session_id} {options}".rstrip()
            step = f"for a session of what is missing: {remaining}"
    return step


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
        case BlockReason.REJECTED:
            found = (
                "if the payload is wrong: writeahead abandon, then writeahead remaining; else fix the cause"
            )
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


def _artifacts(
    store: ArtifactStore, session_id: str, found: Sequence[ObjectInfo], readable: Readable
) -> tuple[ArtifactLine, ...]:
    problems = dict(readable.problems)
    markers = [store.head(key) for key in (open_key(session_id), blocked_key(session_id))]
    present = [
        ArtifactLine(
            key=info.key,
            size=info.size,
            last_modified=info.last_modified,
            problem=problems.pop(info.key, None),
        )
        for info in (*filter(None, markers), *found)
    ]
    missing = [ArtifactLine(key=key, problem=problem) for key, problem in problems.items()]
    return (*present, *missing)


def _operations(session: Session) -> Sequence[PlannedOperation | SettledOperation]:
    if session.final:
        return session.final.operations
    return session.plan.operations if session.plan else ()


def _state(
    operation_id: str, receipts: Mapping[str, Receipt], attempted: Mapping[str, datetime | None]
) -> Literal["confirmed", "attempted", "missing"]:
    if operation_id in receipts:
        return "confirmed"
    return "attempted" if operation_id in attempted else "missing"
