"""What a store holds of one session, read without trust and without changing anything.

Only our own keys count: other files in a session's folder are ignored.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar

from writeahead.errors import CorruptArtifact, NotFound, ResumeError
from writeahead.model import Receipt, RunStatus, Stop
from writeahead.protocol.encoding import decode, is_abandoned, is_pruned, require_size
from writeahead.protocol.keys import (
    entry_number,
    final_key,
    journal_key,
    planned_key,
    pruned_key,
    require_session_id,
)
from writeahead.protocol.liveness import is_dead
from writeahead.protocol.own_plans import checksums, is_others, is_own_plan, require_checksum
from writeahead.protocol.schema import (
    ATTEMPTS,
    STATE,
    AbandonedPlan,
    Event,
    Holder,
    JournalEntry,
    PlannedWriteback,
    PrunedPlan,
    Writeback,
)
from writeahead.stores.base import ArtifactStore, ObjectInfo, require_store

__all__ = [
    "StoredSession",
    "after",
    "build_on",
    "entry_numbers",
    "listed_and_read",
    "objects_of",
    "read_artifact",
    "read_stored",
    "require_ours",
    "require_tombstone",
    "stored_in",
]

_T = TypeVar("_T")


def after(moment: datetime, seconds: float) -> datetime:
    """Return a later moment; the last there is, where a file's odd time leads beyond that."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def build_on(state: Mapping[str, MutableMapping[str, Any]], entry: JournalEntry) -> None:
    """Bring a state, a mapping for each field of `STATE`, from an entry's base to the entry."""
    for name, held in state.items():
        held.update(getattr(entry, name))
    for field, operations in entry.removed.items():
        for operation_id in operations:
            state[field].pop(operation_id, None)
    for name in ATTEMPTS:
        for operation_id in entry.receipts:
            state[name].pop(operation_id, None)


@dataclass(frozen=True)
class StoredSession:
    """What a store holds of one session. Where there is a final artifact, the rest is not read.

    Attributes:
        session_id: The session.
        final: The final artifact.
        plan: The plan.
        abandoned: The tombstone at the plan's key; its entry is of a run that takes its place.
        entries: The newest journal entry, the last, and those that it builds on.
        written_at: When the newest of these was written, by the store's clock where it has one.
        is_own: The session is one of a caller's own orchestrator, whose models are not read here.
        has_foreign_final: There is a final artifact that writeahead did not write. A session of an
            own orchestrator is finished by it; any other one finds it in its way.
        pruned: The tombstone at the plan's key of a session that was pruned. What may be there
            besides, but for a final artifact, is not read.
    """

    session_id: str
    final: Writeback | None = None
    plan: PlannedWriteback | None = None
    abandoned: AbandonedPlan | None = None
    entries: Sequence[JournalEntry] = ()
    written_at: datetime | None = None
    is_own: bool = False
    has_foreign_final: bool = False
    pruned: PrunedPlan | None = None

    @cached_property
    def entry(self) -> JournalEntry | None:
        """The newest journal entry, with the whole state and its holder."""
        if not self.entries:
            return None
        newest, holder = self.entries[-1], None
        for entry in reversed(self.entries):
            if entry.owner == newest.owner and newest.lease_seconds:
                holder = holder or entry.holder
        state: dict[str, dict[str, Any]] = {name: {} for name in STATE}
        for entry in self.entries:
            build_on(state, entry)
        return newest.model_copy(update={**state, "holder": holder, "base": None, "removed": {}})

    @property
    def is_final(self) -> bool:
        """Whether all is done."""
        if self.pruned:
            return self.pruned.status is RunStatus.COMPLETED
        return self.final is not None or (self.is_own and self.has_foreign_final)

    @property
    def number(self) -> int:
        """The newest entry's number; 0 if there is none."""
        return self.entries[-1].number if self.entries else 0

    @property
    def receipts(self) -> Mapping[str, Receipt]:
        """Every receipt so far, by operation id."""
        if self.final:
            return {operation.id: operation.receipt for operation in self.final.operations}
        return self.entry.receipts if self.entry else {}

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The operations at which the last owner stopped, and why."""
        entry = self.entry
        if entry is None or self.final or entry.status not in (RunStatus.RESUME_NEEDED, RunStatus.BLOCKED):
            return ()
        if entry.stops or entry.operation is None or entry.error is None:
            return entry.stops
        stop = Stop(
            operation=entry.operation,
            status=entry.status,
            error=entry.error,
            block_reason=entry.block_reason,
            not_before=entry.not_before,
        )
        return (stop,)

    @property
    def was_ended(self) -> bool:
        """Whether the last owner gave the session up by itself, rather than falling silent."""
        return self.entry is not None and self.entry.event in (Event.ENDED, Event.UNBLOCKED, Event.ABANDONED)

    @property
    def lease_ends(self) -> datetime | None:
        """When the last owner's lease runs out; None if there is no owner."""
        lease = self.entry.lease_seconds if self.entry else self.plan.lease_seconds if self.plan else 0
        if self.final or self.was_ended or self.written_at is None:
            return None
        return after(self.written_at, lease)

    @property
    def is_planned(self) -> bool:
        """Whether there is a plan, or what it came to."""
        return (
            self.plan is not None
            or self.is_final
            or self.pruned is not None
            or (self.is_own and self.written_at is not None)
        )

    @property
    def planned_at(self) -> datetime | None:
        """When it was planned; None if there is no plan."""
        return self.plan.created_at if self.plan else self.written_at

    @property
    def adapter(self) -> str | None:
        """The name of the adapter that it is for; None where only its own orchestrator knows."""
        found = self.final or self.plan or self.pruned
        return found.adapter if found else None

    @property
    def holder(self) -> Holder | None:
        """The process of the last owner, where that is known."""
        return self.entry.holder if self.entry else self.plan.holder if self.plan else None

    @property
    def held_by(self) -> str:
        """Who holds an active session, since when, and until when; for people."""
        entry, since, until = self.entry or self.plan, self.written_at, self.lease_ends
        assert entry is not None
        assert since is not None
        assert until is not None
        holder = f"process {self.holder.pid} on {self.holder.host}" if self.holder else f"run {entry.owner}"
        return (
            f"another run is active: {holder} holds the lease since {since:%Y-%m-%d %H:%M:%SZ}, until"
            f" {until:%Y-%m-%d %H:%M:%SZ}"
        )

    @cached_property
    def owner_is_dead(self) -> bool:
        """Whether the last owner was a process of this machine that surely runs no more.

        Asked of the system once, for all that is decided about the session as it was read.
        """
        return is_dead(self.holder)

    def waits_until(self, now: datetime, clock_skew: float) -> datetime | None:
        """Before when resuming is pointless: another owner's lease, or the remote, says so."""
        if self.final or self.plan is None:
            return None
        if self.lease_ends:
            moment = now if self.owner_is_dead else after(self.lease_ends, clock_skew)
        elif self.entry and self.entry.not_before:
            moment = self.entry.not_before
        else:
            return None
        return moment if moment > now else None

    def status(self, now: datetime, clock_skew: float) -> RunStatus:
        """Tell the session's status: completed, blocked, in progress, or needing a resume."""
        if self.pruned and not self.final:
            return self.pruned.status
        if self.is_final:
            return RunStatus.COMPLETED
        if self.entry and self.entry.status in (RunStatus.BLOCKED, RunStatus.ABANDONED):
            return self.entry.status
        if self.lease_ends and self.waits_until(now, clock_skew):
            return RunStatus.IN_PROGRESS
        return RunStatus.RESUME_NEEDED


def read_stored(store: ArtifactStore, session_id: str) -> StoredSession:
    """Read a session: one listing, then the final artifact, or else the plan and the newest entry.

    A session that is not there has none of these. One that is pruned meanwhile is read again.

    Raises:
        CorruptArtifact: One of these is truncated or altered, or an entry is missing from the
            journal.
        InvalidInput: The session id can't be used.
        StoreError: As the store's verbs.
    """
    return listed_and_read(lambda: stored_in(store, session_id, objects_of(store, session_id)))


def listed_and_read(read: Callable[[], _T]) -> _T:
    """List a session and read it; do so again if something went in between.

    A prune deletes, and a run in a tombstone's place. It takes two of them, one after the other, to
    need a third time.

    Args:
        read: Lists and reads.

    Raises:
        NotFound: Three times, what was listed could not be found.
        Exception: As ``read``.
    """
    for _ in range(2):
        with contextlib.suppress(NotFound):
            return read()
    return read()


def stored_in(store: ArtifactStore, session_id: str, found: Mapping[str, ObjectInfo]) -> StoredSession:
    """Read a session as `read_stored` does, from a listing that is there already."""
    final = found.get(final_key(session_id))
    has_foreign_final = False
    if final:
        data = read_artifact(store, final)
        has_foreign_final = is_others(data, key=final.key, found=found)
        if not has_foreign_final:
            return StoredSession(session_id, final=decode(data, Writeback, key=final.key))
    numbers = entry_numbers(session_id, found)
    planned = found.get(planned_key(session_id))
    if planned is None:
        require_tombstone(session_id, found)
        _require_no_entry(session_id, numbers)
        is_own = has_foreign_final or bool(checksums(session_id, found))
        return StoredSession(session_id, is_own=is_own, has_foreign_final=has_foreign_final)
    data = read_artifact(store, planned)
    if is_pruned(data, key=planned.key):
        return StoredSession(session_id, pruned=decode(data, PrunedPlan, key=planned.key))
    require_tombstone(session_id, found)
    newest = _newest_entry(store, session_id, found, numbers)
    entries = _entries(store, newest, found) if newest else []
    if is_own_plan(session_id, data, found, has_journal=bool(entries)):
        require_checksum(session_id, data, found)
        return StoredSession(
            session_id,
            entries=entries,
            written_at=_latest(planned.last_modified),
            is_own=True,
            has_foreign_final=has_foreign_final,
        )
    written_at = _latest(newest.last_modified) or entries[-1].at if newest else None
    if is_abandoned(data, key=planned.key):
        tombstone = decode(data, AbandonedPlan, key=planned.key)
        return StoredSession(session_id, abandoned=tombstone, entries=entries, written_at=written_at)
    plan = decode(data, PlannedWriteback, key=planned.key)
    if newest and entries[-1].plan_digest != plan.digest:
        raise _misplaced(newest.key)
    written_at = written_at or _latest(planned.last_modified) or plan.created_at
    return StoredSession(
        session_id,
        plan=plan,
        entries=entries,
        written_at=written_at,
        has_foreign_final=has_foreign_final,
    )


def objects_of(store: ArtifactStore, session_id: str) -> dict[str, ObjectInfo]:
    """List what is in a session's folder, ours or not, by key.

    Raises:
        InvalidInput: The session id can't be used, or the store is none.
        StoreError: As `ArtifactStore.list`.
    """
    require_store(store)
    require_session_id(session_id)
    return {info.key: info for info in store.list(f"{session_id}/")}


def require_ours(session: StoredSession) -> None:
    """Refuse a session of a caller's own orchestrator.

    Raises:
        ResumeError: It is one.
    """
    if session.is_own:
        raise ResumeError(
            f"session {session.session_id} is of an orchestrator of its own, whose plan only it can read:"
            " resume it with that program, or by a sweep that is given it"
        )


def read_artifact(store: ArtifactStore, info: ObjectInfo) -> bytes:
    """Read an object, unless the listing says that it is larger than any artifact.

    Raises:
        CorruptArtifact: It is.
        StoreError: As `ArtifactStore.get`.
    """
    require_size(info.size, info.key)
    return store.get(info.key).data


def _latest(last_modified: datetime | None) -> datetime | None:
    """The latest moment that a store's time stands for.

    Some stores keep whole seconds only (S3's Last-Modified is an HTTP date: RFC 9110, section
    5.6.7), and a lease that was counted from the second's beginning would end early.
    """
    if last_modified is not None and last_modified.microsecond == 0:
        return after(last_modified, 1.0)
    return last_modified


def require_tombstone(session_id: str, found: Iterable[str]) -> None:
    """Refuse a session that was pruned, and whose plan came back or whose tombstone went.

    Args:
        session_id: The session.
        found: The keys in its folder; what is at the plan's key is no tombstone.

    Raises:
        CorruptArtifact: It was pruned.
    """
    if pruned_key(session_id) in found:
        raise CorruptArtifact(
            f"{planned_key(session_id)}: the session was pruned, and its tombstone is not there any more: it"
            " was replaced or removed, as by an older backup; nothing of it must be sent"
        )


def _require_no_entry(session_id: str, numbers: Sequence[int]) -> None:
    """Refuse a journal without a plan: as a new session, its effects would be forgotten."""
    if numbers:
        raise CorruptArtifact(
            f"{planned_key(session_id)}: missing, though the session has a journal: it was removed"
        )


def entry_numbers(session_id: str, found: Iterable[str]) -> list[int]:
    """The numbers of the journal's entries among a session's keys, in order."""
    return sorted(number for key in found if (number := entry_number(session_id, key)) is not None)


def _newest_entry(
    store: ArtifactStore, session_id: str, found: Mapping[str, ObjectInfo], numbers: Sequence[int]
) -> ObjectInfo | None:
    if not numbers:
        return None
    for number in sorted(set(range(1, numbers[-1])) - set(numbers)):
        # A listing that ran while entries were added may lack one; ask for each before believing
        # it.
        if store.head(journal_key(session_id, number)) is None:
            raise _missing(journal_key(session_id, number))
    return found[journal_key(session_id, numbers[-1])]


def _entries(store: ArtifactStore, newest: ObjectInfo, found: Mapping[str, ObjectInfo]) -> list[JournalEntry]:
    """The newest entry, the last, and those that it builds on."""
    session_id = newest.key.partition("/")[0]
    entries = [_entry(read_artifact(store, newest), newest.key)]
    while base := entries[0].base:
        key = journal_key(session_id, base)
        if base >= entries[0].number:
            raise _misplaced(journal_key(session_id, entries[0].number))
        below = _entry(read_artifact(store, found[key]) if key in found else _unlisted(store, key), key)
        if below.plan_digest != entries[0].plan_digest:
            raise _misplaced(key)
        entries.insert(0, below)
    return entries


def _unlisted(store: ArtifactStore, key: str) -> bytes:
    """An entry that a listing lacks, as one may that ran while entries were added.

    One that is listed, and gone when it is read, is no loss: it was deleted since, as by a prune.
    """
    try:
        return store.get(key).data
    except NotFound:
        raise _missing(key) from None


def _entry(data: bytes, key: str) -> JournalEntry:
    entry = decode(data, JournalEntry, key=key)
    if key != journal_key(entry.session_id, entry.number):
        raise _misplaced(key)
    return entry


def _misplaced(key: str) -> CorruptArtifact:
    return CorruptArtifact(f"{key}: belongs to another plan or place; it was left as it is")


def _missing(key: str) -> CorruptArtifact:
    return CorruptArtifact(f"{key}: missing from the journal")
