"""What there is to read about a session: operations, history, artifacts, and what to do next."""

import os
import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from writeahead.errors import CorruptArtifact
from writeahead.model import BlockReason, RunStatus, Timestamp
from writeahead.protocol.keys import blocked_key, open_key
from writeahead.protocol.schema import JournalEntry
from writeahead.protocol.session import StoredSession, listed_and_read, objects_of, stored_in
from writeahead.report.salvage import Readable, read_each, way_out
from writeahead.report.session import (
    Line,
    OperationLine,
    Session,
    fields_of_history,
    fields_of_status,
    nothing_of,
    operation_lines,
    operations_of,
)
from writeahead.stores.base import ArtifactStore, ObjectInfo

__all__ = [
    "ArtifactLine",
    "SessionPage",
    "next_step",
    "quoted",
    "read_page",
    "read_whole",
]


class ArtifactLine(Line):
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


class SessionPage(Session):
    """Everything that a store tells of one session, also of one that is damaged.

    Attributes:
        problem: Why the status is unknown, or the session can't be resumed.
        way_out: What to do about a session that can't be read, and what not. All else on the page
            is then what still reads, and may be older than the truth.
        history: The journal as it is stored, oldest entry first, without its entries that can't be
            read. An entry with a ``base`` holds what is new since that one.
        artifacts: The session's objects, markers included, and those that are missing.
    """

    way_out: tuple[str, ...] = ()
    history: tuple[JournalEntry, ...] = ()
    artifacts: tuple[ArtifactLine, ...] = ()


def read_page(store: ArtifactStore, session_id: str, *, now: datetime, clock_skew: float) -> SessionPage:
    """Read what a store holds of a session, without payloads: the page of `read_whole`."""
    return read_whole(store, session_id, now=now, clock_skew=clock_skew)[0]


def read_whole(
    store: ArtifactStore, session_id: str, *, now: datetime, clock_skew: float
) -> tuple[SessionPage, Readable]:
    """Read all that a store holds of a session. What can't be read is named and hides nothing.

    Args:
        store: Where the artifacts are.
        session_id: The session.
        now: The wall clock's time.
        clock_skew: Seconds that two machines' clocks may be apart.

    Returns:
        What there is to read about it, and the artifacts that it was made of.

    Raises:
        ResumeError: The store holds nothing of this session.
        InvalidInput: The session id can't be used.
        StoreError: As the store's verbs.
    """
    return listed_and_read(lambda: _read(store, session_id, now=now, clock_skew=clock_skew))


def _read(
    store: ArtifactStore, session_id: str, *, now: datetime, clock_skew: float
) -> tuple[SessionPage, Readable]:
    found = objects_of(store, session_id)
    readable = read_each(store, session_id, found)
    try:
        stored = stored_in(store, session_id, found)
    except CorruptArtifact as error:
        # By itself an artifact may read well, and belong elsewhere.
        readable.problems.setdefault(str(error).partition(": ")[0], str(error))
        stored = readable.session()
        told: dict[str, Any] = {
            "problem": str(error),
            "way_out": way_out(readable),
            "operations": _what_still_reads(stored),
        }
    else:
        told = fields_of_status(stored, now, clock_skew)
    artifacts = _artifacts(store, session_id, found, readable)
    if not artifacts:
        raise nothing_of(store, session_id)
    page = SessionPage(
        session_id=session_id,
        **fields_of_history(stored, readable.plan),
        **told,
        history=tuple(readable.entries[number] for number in sorted(readable.entries)),
        artifacts=artifacts,
    )
    return page, readable


def _what_still_reads(session: StoredSession) -> tuple[OperationLine, ...]:
    """The operations of a damaged session: what could say that one was not sent may be lost."""
    attempted = dict(session.entry.attempted) if session.entry else {}
    operations = operations_of(session)
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
        planned: Whether it has a plan, so that there is something to resume, or to see.
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
            step = _blocked_step(session_id, block_reason, operation, when, options, planned=planned)
        case RunStatus.ABANDONED if planned:
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
    session_id: str,
    reason: BlockReason | None,
    operation: str | None,
    when: str,
    options: str,
    *,
    planned: bool,
) -> str:
    if reason is BlockReason.NOT_READY:
        fix = "" if when else "fix the problems above, then "
        return f"{when}{fix}run it again; nothing was sent"
    if not planned:  # a conflict that planning has found: there is no session to unblock
        return "settle the conflict, then run it again; nothing was sent"
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
            if operation is None:  # a file in the final artifact's place
                return f"settle the conflict, then: {unblock}, and resume"
            found = "if the other change stands: writeahead abandon; else settle the conflict"
        case BlockReason.REJECTED:
            found = (
                "if the payload is wrong: writeahead abandon, then writeahead remaining; else fix the cause"
            )
        case _:
            found = "fix what was refused"
    return f"{found}, then: {unblock} (if it is done by hand: --assume applied {named}), and resume"


def _artifacts(
    store: ArtifactStore, session_id: str, found: Mapping[str, ObjectInfo], readable: Readable
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
        for info in (*filter(None, markers), *found.values())
    ]
    missing = [ArtifactLine(key=key, problem=problem) for key, problem in problems.items()]
    return (*present, *missing)
