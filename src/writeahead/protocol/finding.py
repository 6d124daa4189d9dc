"""find_sessions(): which sessions a store has, and how each stands.

The markers name the unfinished ones, so that finding these costs nothing for any number of others.
A listing of the whole store finds the rest, and sessions whose marker was lost.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from writeahead.errors import CorruptArtifact, InvalidInput, ResumeError, StoreError
from writeahead.model import BlockReason, RunPolicy, RunStatus, Stop
from writeahead.protocol.encoding import is_foreign
from writeahead.protocol.keys import (
    BLOCKED_PREFIX,
    OPEN_PREFIX,
    entry_number,
    final_key,
    is_session_id,
    planned_key,
    pruned_key,
)
from writeahead.protocol.messages import one_line
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import StoredSession, read_stored
from writeahead.stores.base import ArtifactStore, ObjectInfo, require_store

__all__ = [
    "Found",
    "SessionSummary",
    "State",
    "all_sessions",
    "find_sessions",
    "marked_sessions",
    "unfinished_sessions",
]

_DEFAULT_POLICY = RunPolicy()


class State(StrEnum):
    """What `find_sessions` can be asked for.

    ``open`` is every session that is not at its end; ``own`` is every open one of an orchestrator
    of its own. ``pruned`` is every one whose artifacts were removed after its end: no other state
    is, and a list of everything leaves them out.
    """

    OPEN = "open"
    RESUME_NEEDED = "resume_needed"
    IN_PROGRESS = "in_progress"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    ABANDONED = "abandoned"
    OWN = "own"
    PRUNED = "pruned"


@dataclass(frozen=True)
class SessionSummary:
    """One session in a list.

    Attributes:
        session_id: The session.
        status: Its status; None if it can't be read, or has no plan.
        block_reason: Why it is blocked, if it is.
        confirmed: How many of its operations have a receipt.
        operations: How many it has; 0 where only its own orchestrator knows.
        note: What the remote or the store said last, who holds its lease, or why the session can't
            be read.
        own: Whether it is of an orchestrator of its own: see
            `writeahead.write_planned_writeback_artifact`.
        adapter: The adapter that its plan is for.
        planned_at: When it was planned.
        operation: The operation at which it stopped.
        stops: Each operation at which it stopped.
        not_before: Resuming earlier than this is pointless: the remote or a lease says so.
        marked: Whether its marker is there. If not, only a sweep with ``scan`` finds it.
        host: The machine of the run that holds its lease, unless it gave the session up.
        pid: That run's process.
        pruned_at: When its artifacts were removed, if they were.
        unreadable: Whether it has no status because it can't be read. Else it has no plan.
    """

    session_id: str
    status: RunStatus | None
    block_reason: BlockReason | None = None
    confirmed: int = 0
    operations: int = 0
    note: str | None = None
    own: bool = False
    adapter: str | None = None
    planned_at: datetime | None = None
    operation: str | None = None
    not_before: datetime | None = None
    host: str | None = None
    pid: int | None = None
    marked: bool = True
    pruned_at: datetime | None = None
    stops: tuple[Stop, ...] = ()
    unreadable: bool = False

    def matches(self, state: State | None) -> bool:
        """Tell whether the session belongs in a list of this state. An unreadable one is open."""
        if self.pruned_at or state is State.PRUNED:
            return self.pruned_at is not None and state is State.PRUNED
        is_open = self.status not in (RunStatus.COMPLETED, RunStatus.ABANDONED)
        match state:
            case None:
                return True
            case State.OPEN:
                return is_open
            case State.OWN:
                return is_open and self.own
        return self.status is not None and self.status.value == state.value


class Found(NamedTuple):
    """A session in a listing.

    Attributes:
        session_id: The session.
        is_marked: Whether it has a marker.
        is_final: Whether it has a final artifact; False from a listing of the markers alone.
        is_open: Whether one of its markers is ``.open/``.
        marked_at: When the first of its markers was written, where the store says it.
        is_pruned: Whether it was pruned; False from a listing of the markers alone.
        final_at: When its final artifact was written, where the store says it.
    """

    session_id: str
    is_marked: bool
    is_final: bool
    is_open: bool = False
    marked_at: datetime | None = None
    is_pruned: bool = False
    final_at: datetime | None = None


class _Marker(NamedTuple):
    session_id: str
    is_open: bool
    written_at: datetime | None


def unfinished_sessions(store: ArtifactStore) -> Iterator[str]:
    """Stream the ids of all sessions that have a marker, in order."""
    return (found.session_id for found in marked_sessions(store))


def marked_sessions(store: ArtifactStore) -> Iterator[Found]:
    """Stream all sessions that have a marker, in order. Whether they are final is not known."""
    markers = (_markers(store, prefix) for prefix in (OPEN_PREFIX, BLOCKED_PREFIX))
    for session_id, group in groupby(heapq.merge(*markers, key=_session_of), key=_session_of):
        yield _found(session_id, group)


def _session_of(marker: _Marker) -> str:
    return marker.session_id


def _markers(store: ArtifactStore, prefix: str) -> Iterator[_Marker]:
    return _markers_among(prefix, store.list(prefix))


def _markers_among(prefix: str, infos: Iterable[ObjectInfo]) -> Iterator[_Marker]:
    for info in infos:
        name = info.key.removeprefix(prefix)
        if is_session_id(name):  # others may keep files of their own here
            yield _Marker(name, prefix == OPEN_PREFIX, info.last_modified)


def _found(
    session_id: str,
    markers: Iterable[_Marker],
    *,
    is_final: bool = False,
    is_pruned: bool = False,
    final_at: datetime | None = None,
) -> Found:
    """A session with its markers, of which there may be none."""
    own = list(markers)
    times = [marker.written_at for marker in own if marker.written_at]
    return Found(
        session_id,
        is_marked=bool(own),
        is_final=is_final,
        is_open=any(marker.is_open for marker in own),
        marked_at=min(times, default=None),
        is_pruned=is_pruned,
        final_at=final_at,
    )


def all_sessions(store: ArtifactStore) -> Iterator[Found]:
    """Stream all sessions, from one listing of the whole store. Folders of others are no sessions.

    Markers come before sessions in it, since ``.`` sorts before letters and digits. A session that
    has nothing but its marker comes last.
    """
    marked: dict[str, list[_Marker]] = {}
    for first, group in groupby(store.list(), key=lambda info: info.key.split("/")[0]):
        if (prefix := first + "/") in (OPEN_PREFIX, BLOCKED_PREFIX):
            for marker in _markers_among(prefix, group):
                marked.setdefault(marker.session_id, []).append(marker)
        elif is_session_id(first):
            is_marked = first in marked
            inside = _looked_through(first, group)
            is_final = inside.has_final
            if is_final and inside.has_entry and not is_marked and store.is_local:
                # Another program's file ends no session. It costs a request elsewhere.
                is_final = not _has_foreign_final(store, first)
            markers = marked.pop(first, [])
            if is_marked or inside.is_ours:
                is_pruned = inside.was_pruned and not is_final
                yield _found(first, markers, is_final=is_final, is_pruned=is_pruned, final_at=inside.final_at)
    for session_id in sorted(marked):
        yield _found(session_id, marked[session_id])


class _Inside(NamedTuple):
    """What a session's folder has."""

    has_plan: bool
    has_entry: bool
    has_final: bool
    was_pruned: bool
    final_at: datetime | None

    @property
    def is_ours(self) -> bool:
        return self.has_plan or self.has_entry or self.has_final


def _looked_through(session_id: str, infos: Iterable[ObjectInfo]) -> _Inside:
    # One pass over keys that are not kept, since other programs may have any number of files there.
    planned, final, pruned = planned_key(session_id), final_key(session_id), pruned_key(session_id)
    has_plan = has_entry = has_final = was_pruned = False
    final_at = None
    for info in infos:
        key = info.key
        if key == planned:
            has_plan = True
        elif key == final:
            has_final, final_at = True, info.last_modified
        elif key == pruned:
            was_pruned = True
        else:
            has_entry = has_entry or entry_number(session_id, key) is not None
    return _Inside(has_plan, has_entry, has_final, was_pruned, final_at)


def _has_foreign_final(store: ArtifactStore, session_id: str) -> bool:
    try:
        return is_foreign(store.get(final_key(session_id)).data, key=final_key(session_id))
    except (CorruptArtifact, StoreError):
        return False


def find_sessions(
    store: ArtifactStore,
    state: State | str | None = None,
    *,
    clock_skew: float = _DEFAULT_POLICY.clock_skew,
    clock: Clock | None = None,
) -> Iterator[SessionSummary]:
    """Stream sessions with their status.

    Asked for everything, ``completed``, ``abandoned`` or ``pruned``, it lists the store; else it
    starts from the markers. A session that can't be read is listed with the reason, and never hides
    the others. One without a marker that has a final artifact is ``completed``; that artifact is
    not read, since it would cost a request each. Only in a folder and in memory is it looked at, if
    there is a journal, since another program's file ends no session.

    Raises:
        InvalidInput: There is no such state.
        StoreError: The store can't be listed.
    """
    require_store(store)
    if state is not None and state not in tuple(State):
        raise InvalidInput(f"state {str(state)!r}: use one of {', '.join(State)}")
    return _summaries(store, None if state is None else State(state), clock or Clock(), clock_skew)


def _summaries(
    store: ArtifactStore, state: State | None, clock: Clock, clock_skew: float
) -> Iterator[SessionSummary]:
    everything = state in (None, State.COMPLETED, State.ABANDONED, State.PRUNED)
    for found in all_sessions(store) if everything else marked_sessions(store):
        if found.is_final and not found.is_marked:
            summary = SessionSummary(found.session_id, RunStatus.COMPLETED)
        elif state is State.COMPLETED or (
            found.is_pruned is not (state is State.PRUNED) and not found.is_marked
        ):
            continue
        else:
            summary = replace(_summary(store, found.session_id, clock, clock_skew), marked=found.is_marked)
        if summary.matches(state):
            yield summary


def _summary(store: ArtifactStore, session_id: str, clock: Clock, clock_skew: float) -> SessionSummary:
    try:
        session = read_stored(store, session_id)
    except (ResumeError, StoreError) as error:
        return SessionSummary(session_id, None, note=one_line(error), unreadable=True)
    if session.abandoned:
        return SessionSummary(session_id, None, note="abandoned before it emitted anything")
    if session.pruned:
        pruned = session.pruned
        return SessionSummary(session_id, pruned.status, adapter=pruned.adapter, pruned_at=pruned.pruned_at)
    if not session.is_planned:
        return SessionSummary(session_id, None, note="no plan yet", own=session.is_own)
    now = clock.now()
    status = session.status(now, clock_skew)
    summary = SessionSummary(
        session_id, status, own=session.is_own, planned_at=session.planned_at, adapter=session.adapter
    )
    return summary if session.is_final else _with_history(summary, session, now, clock_skew)


def _with_history(
    summary: SessionSummary, session: StoredSession, now: datetime, clock_skew: float
) -> SessionSummary:
    entry, holder = session.entry, session.holder
    note = entry.error if entry else None
    if len(session.stops) > 1:
        note = "; ".join(f"{stop.operation}: {stop.error}" for stop in session.stops)
    return replace(
        summary,
        block_reason=entry.block_reason if entry else None,
        confirmed=len(session.receipts),
        operations=len(session.plan.operations) if session.plan else 0,
        note=session.held_by if summary.status is RunStatus.IN_PROGRESS else note,
        operation=entry.operation if entry else None,
        stops=session.stops,
        not_before=session.waits_until(now, clock_skew),
        host=holder.host if holder else None,
        pid=holder.pid if holder else None,
    )
