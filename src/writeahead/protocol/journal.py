"""One session's append-only, fenced history on a store.

An entry's number is the fencing token: an owner appends only at its next number, and each number is
created once. An owner that finds its number taken has been taken over, and stops.

Operations that are sent at the same time share one journal. Entries are put one after another, and
each holds the whole state as it was when the entry was begun. So an entry that one operation had
put also records what others had noted by then: `Journal.include`.
"""

import os
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self, TypeAlias

from pydantic import JsonValue

from writeahead.errors import AlreadyExists, Fenced, InvalidInput, StoreError, WriteaheadError
from writeahead.model import BlockReason, Receipt, ReplayClass, RunStatus, Stop
from writeahead.protocol.deltas import ChangingMap, number_below
from writeahead.protocol.encoding import encode_model
from writeahead.protocol.keys import journal_key, pruned_key
from writeahead.protocol.liveness import this_process
from writeahead.protocol.messages import one_line
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import (
    ATTEMPTS,
    STATE,
    Event,
    JournalEntry,
    PlannedWriteback,
    StoredReceipt,
)
from writeahead.protocol.session import StoredSession, build_on
from writeahead.stores.base import ArtifactStore
from writeahead.telemetry import log

__all__ = ["LOOK_AGAIN", "Ending", "Journal", "new_owner", "renewed_key", "require_reason"]

# Seconds. A session is pruned twice that long after its end at the earliest (`pruning`), and with
# its journal the fence goes. So an owner that knows how it stood only from before that looks again.
LOOK_AGAIN = 1800.0


def renewed_key(key: str, generation: int) -> str:
    """The key of an operation to which an operator gave a new one, by how often that was."""
    return str(uuid.uuid5(uuid.UUID(key), f"generation {generation}"))


def require_reason(name: str, reason: str) -> None:
    """Refuse an empty reason: the journal keeps it for later readers.

    Args:
        name: The argument or flag that it was given by.
        reason: Why an operator decided something.

    Raises:
        InvalidInput: It is empty.
    """
    if not reason.strip():
        raise InvalidInput(f"{name}: say why, in a few words; it is kept in the journal")


def new_owner() -> str:
    """Return a random id for a run."""
    return os.urandom(8).hex()


_EndStatus: TypeAlias = Literal[RunStatus.RESUME_NEEDED, RunStatus.BLOCKED, RunStatus.ABANDONED]


@dataclass(frozen=True)
class Ending:
    """Why and how a run stops short of the final artifact.

    Attributes:
        status: ``resume_needed``, ``blocked`` or ``abandoned``.
        error: Why, in one line.
        block_reason: Why it is blocked, if it is.
        not_before: Resuming earlier than this is pointless.
        cause: The exception behind it, for the report of this run; never journaled.
        is_excused: Whether it is no turn without progress, since the run was not let to make any.
    """

    status: _EndStatus
    error: str
    block_reason: BlockReason | None = None
    not_before: datetime | None = None
    cause: WriteaheadError | None = None
    is_excused: bool = False

    @classmethod
    def by(cls, why: str | WriteaheadError, status: _EndStatus, **more: Any) -> Self:
        """An ending for a reason in words, or by an exception, of which one line is kept."""
        if isinstance(why, str):
            return cls(status, why, **more)
        return cls(status, one_line(why), cause=why, **more)

    def at(self, operation: str) -> Stop:
        """The stop of an operation that ends so; an operator's decision to abandon is none."""
        assert self.status is not RunStatus.ABANDONED
        return Stop(
            operation=operation,
            status=self.status,
            error=self.error,
            block_reason=self.block_reason,
            not_before=self.not_before,
        )

    @classmethod
    def excused(cls, why: WriteaheadError, not_before: datetime) -> Self:
        """An ending of a run that was not let to send."""
        return cls(RunStatus.RESUME_NEEDED, one_line(why), not_before=not_before, is_excused=True)


@dataclass
class Journal:
    """The history as its present owner writes it.

    Attributes:
        plan: What the session is to do.
        owner: This run's random id.
        lease: Seconds that each entry renews the lease by.
        number: The newest entry's number.
        renewed_at: The monotonic clock just before the lease was last renewed.
        receipts: Every receipt so far, by operation id.
        attempted: Operations without a receipt that may have been sent, and when at the latest.
        was_blocked: The session has a ``.blocked/`` marker to be removed at its end.
        attempted_since: Of operations whose key expires: when they may have been sent at the
            earliest.
        unsettled: Of upserts that may land late: when that is over.
        generations: How often an operator gave an operation a new key.
        turn: How often the session was claimed.
        idle: Turns since the last new receipt, this one included.
        waiting: Operations whose receipts no entry holds yet.
        known_at: The monotonic clock when the session was read; None where ``renewed_at`` says it.
        lock: Held while the fields above change or are read as a whole, and never while a store is
            waited for.
    """

    store: ArtifactStore
    clock: Clock
    plan: PlannedWriteback
    owner: str
    lease: float
    number: int
    renewed_at: float
    receipts: ChangingMap[StoredReceipt] = field(default_factory=ChangingMap)
    attempted: ChangingMap[datetime] = field(default_factory=ChangingMap)
    was_blocked: bool = False
    attempted_since: ChangingMap[datetime] = field(default_factory=ChangingMap)
    unsettled: ChangingMap[datetime] = field(default_factory=ChangingMap)
    generations: ChangingMap[int] = field(default_factory=ChangingMap)
    turn: int = 0
    idle: int = 0
    waiting: list[str] = field(default_factory=list)
    known_at: float | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    # The first entry of this owner.
    _first: int | None = None
    # Of each entry that another can build on: where the history of each field was.
    _marks: dict[int, tuple[int, ...]] = field(default_factory=lambda: {0: (0,) * len(STATE)})
    # Entries for the next number whose put an interrupt or the store left open.
    _unsettled: list[bytes] = field(default_factory=list)
    # Held by the one that puts an entry.
    _writer: threading.Lock = field(default_factory=threading.Lock)
    # Entries are counted as they are begun: all, up to the newest that was put, up to the newest
    # that failed, and how.
    _begun: int = 0
    _put: int = 0
    _failed: int = 0
    _failure: Fenced | StoreError | None = None
    # It was given up: nothing is noted any more.
    _is_over: bool = False

    @classmethod
    def of(
        cls,
        session: StoredSession,
        plan: PlannedWriteback,
        store: ArtifactStore,
        clock: Clock,
        *,
        lease: float,
        known_at: float | None = None,
    ) -> Self:
        """The history of a session that was read, for a new owner who has not claimed it yet.

        ``known_at`` is the monotonic clock before it was read; by default it was read just now.
        """
        entry = session.entry
        journal = cls(store, clock, plan, new_owner(), lease, session.number, clock.monotonic())
        journal.known_at = journal.renewed_at if known_at is None else known_at
        # A run that died right after its plan may have left either marker.
        journal.was_blocked = entry is None or entry.was_blocked or entry.event is Event.UNBLOCKED
        for held in session.entries:
            build_on(journal._state, held)
            # In a tombstone's place, earlier runs may have had another plan.
            if held.plan_digest == plan.digest:
                journal._marks[held.number] = journal._positions()
        is_new_start = entry is not None and entry.event is Event.UNBLOCKED
        journal.turn = 1 if entry is None or is_new_start else entry.turn + 1
        journal.idle = 1 if entry is None or is_new_start else entry.idle + 1
        return journal

    @property
    def _state(self) -> dict[str, ChangingMap[Any]]:
        return {name: getattr(self, name) for name in STATE}

    def _positions(self) -> tuple[int, ...]:
        """Where the history of each field is now."""
        return tuple(held.position for held in self._state.values())

    def suspect(self, operation_id: str, until: datetime, settled: datetime | None = None) -> None:
        """Note that an operation may have been sent, at the latest at a moment.

        Args:
            operation_id: The operation.
            until: When it may have been sent at the latest; a later moment on record stays.
            settled: When a late request of it can't land any more, where that matters.
        """
        with self.lock:
            self.attempted[operation_id] = max(until, self.attempted.get(operation_id, until))
            if settled is not None:
                self.unsettled[operation_id] = max(settled, self.unsettled.get(operation_id, settled))

    def undecided(self) -> list[str]:
        """Return the unprovable operations that were sent and have no receipt."""
        return [
            operation.id
            for operation in self.plan.operations
            if operation.replay is ReplayClass.UNPROVABLE and operation.id in self.attempted
        ]

    def confirm(self, operation_id: str, receipt: Receipt, now: datetime, attempts: int | None) -> None:
        """Keep a receipt in memory; the next entry, or the final artifact, carries it."""
        stored = StoredReceipt(
            remote_id=receipt.remote_id,
            remote_version=receipt.remote_version,
            outcome=receipt.outcome,
            value=receipt.value,
            confirmed_at=now,
            attempts=attempts,
            generation=self.generations.get(operation_id, 0),
        )
        # At once: an entry in between would say that it was never sent.
        with self.lock:
            self.attempted.pop(operation_id, None)
            self.attempted_since.pop(operation_id, None)
            self.receipts[operation_id] = stored
            self.idle = 0
            self.waiting.append(operation_id)

    def record(self, interval: float, *, ahead: float = 0) -> None:
        """Journal the receipts that wait for an entry, unless the newest entry is young enough.

        Args:
            interval: How old it may be, in seconds; at most half the lease.
            ahead: When that counts: so many seconds from now.

        Raises:
            Fenced: As `append`.
            StoreError: As `append`.
        """
        age = self.clock.monotonic() - self.renewed_at + ahead
        with self.lock:
            newest = self.waiting[-1] if self.waiting else None
        if newest and age >= min(interval, self.lease / 2):
            self.include(Event.CONFIRMED, operation=newest)

    def include(self, event: Event, *, operation: str) -> None:
        """Have what was noted so far on record: by an entry of its own, or by another's.

        Another's counts if it was begun after this call: then it holds the same.

        Args:
            event: What happened.
            operation: The operation that it happened to.

        Raises:
            Fenced: As `append`; for this entry, or for the one that this call waited for.
            StoreError: Likewise.
        """
        with self.lock:
            noted = self._begun
        with self._writer:
            if self._put > noted:
                return
            if self._failure is not None and self._failed > noted:
                raise self._failure
            self._append(event, operation=operation)

    def append(
        self,
        event: Event,
        *,
        operation: str | None = None,
        ending: Ending | None = None,
        reason: str | None = None,
        issued: dict[str, JsonValue] | None = None,
        stops: Sequence[Stop] = (),
    ) -> None:
        """Append an entry; with it, every receipt is on record. It renews the lease.

        An ending gives the lease up, and nothing is appended after it.

        Raises:
            Fenced: The number is taken: another owner has the session now; or it was pruned.
            StoreError: As `ArtifactStore.put`.
        """
        with self._writer:
            self._append(event, operation=operation, ending=ending, reason=reason, issued=issued, stops=stops)

    def _append(self, event: Event, *, ending: Ending | None = None, **about: Any) -> None:
        if self._is_over:
            raise Fenced(f"session {self.plan.session_id}: this run has given it up")
        self._is_over = ending is not None
        try:
            self._put_next(event, ending, about)
        except (Fenced, StoreError) as error:
            self._failed, self._failure = self._begun, error
            raise

    def _put_next(self, event: Event, ending: Ending | None, about: Mapping[str, Any]) -> None:
        while True:
            before = self.clock.monotonic()
            with self.lock:
                # What others note from here on is of a later entry.
                entry = self._entry(event, ending, **about)
                positions, recorded = self._positions(), len(self.waiting)
                self._begun += 1
            key, data = journal_key(entry.session_id, entry.number), encode_model(entry)
            earlier = tuple(self._unsettled)
            self._unsettled.append(data)
            try:
                self.store.put(key, data, if_absent=True)
            except AlreadyExists:
                if not earlier or self.store.get(key).data not in earlier:
                    message = f"session {entry.session_id}: another owner has taken it over ({key})"
                    raise Fenced(message) from None
                # Ours: an interrupt, or the store, left open whether it had landed.
                self.number, self._unsettled = entry.number, []
            else:
                break
        known_at = self.renewed_at if self.known_at is None else self.known_at
        if self.clock.monotonic() - known_at > LOOK_AGAIN and self._is_pruned():
            message = f"session {self.plan.session_id}: it came to its end without this run, and was pruned"
            raise Fenced(message)
        self.number, self.renewed_at, self._unsettled = entry.number, before, []
        self.known_at = None
        self._first = self._first or entry.number
        self._marks[entry.number] = positions
        with self.lock:
            del self.waiting[:recorded]
        self._put = self._begun
        _log_entry(entry)

    def _is_pruned(self) -> bool:
        """Whether the entry that would have stopped this owner may be gone; asked after the put."""
        return self.store.head(pruned_key(self.plan.session_id)) is not None

    def _entry(
        self,
        event: Event,
        ending: Ending | None,
        *,
        operation: str | None,
        reason: str | None = None,
        issued: dict[str, JsonValue] | None = None,
        stops: Sequence[Stop] = (),
    ) -> JournalEntry:
        number = self.number + 1
        base = number_below(number)
        if base not in self._marks:
            base = 0  # as after entries of version 1
        state, removed = self._changes(base)
        is_told_below = self._first is not None and base >= self._first
        return JournalEntry(
            **state,
            removed=removed,
            base=base or None,
            session_id=self.plan.session_id,
            number=number,
            event=event,
            owner=self.owner,
            at=self.clock.now(),
            lease_seconds=0 if ending else self.lease,
            plan_digest=self.plan.digest,
            operation=operation,
            status=ending.status if ending else None,
            block_reason=ending.block_reason if ending else None,
            error=ending.error if ending else None,
            not_before=ending.not_before if ending else None,
            reason=reason,
            was_blocked=self.was_blocked,
            issued=issued,
            stops=tuple(stops),
            turn=self.turn,
            idle=self.idle,
            holder=this_process() if self.lease and not ending and not is_told_below else None,
        )

    def _changes(self, base: int) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """What is new since an entry, and what is gone, by field; all of it where there is none."""
        state, removed = {}, {}
        for (name, held), position in zip(self._state.items(), self._marks[base], strict=True):
            state[name], gone = held.since(position)
            if name in ATTEMPTS:
                gone = [operation_id for operation_id in gone if operation_id not in self.receipts]
            if base and gone:
                removed[name] = gone
        return state, removed

    def lease_left(self) -> float:
        """Seconds until this owner's lease runs out, by the monotonic clock."""
        return self.renewed_at + self.lease - self.clock.monotonic()


def _log_entry(entry: JournalEntry) -> None:
    """Log what an entry says. One that claims the session is a takeover."""
    is_claim = entry.event is Event.CLAIMED
    (log.RUN.info if is_claim else log.RUN.debug)(
        "claimed" if is_claim else "journaled",
        session_id=entry.session_id,
        entry=entry.number,
        what=None if is_claim else entry.event,
        operation=entry.operation,
        owner=entry.owner,
        turn=entry.turn,
        lease=entry.lease_seconds,
    )
