"""One owner's turn at a session, from holding the lease to giving it up. Used by the runner alone."""

import re
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from writeahead.adapters.base import Adapter
from writeahead.artifacts import (
    blocked_key,
    decode,
    encode,
    final_key,
    open_key,
    write_writeback_artifact,
)
from writeahead.errors import (
    AdapterError,
    AlreadyExists,
    Applied,
    ConflictError,
    CorruptArtifact,
    Fenced,
    InvalidInput,
    NotReady,
    PermanentError,
    StoreError,
    TransientError,
)
from writeahead.journal import Journal
from writeahead.model import (
    BlockReason,
    Event,
    PlannedOperation,
    Receipt,
    ReplayClass,
    RunPolicy,
    RunReport,
    RunStatus,
    SettledOperation,
    Writeback,
)
from writeahead.retry import Clock, with_retries
from writeahead.stores.base import ArtifactStore

__all__ = ["Stop", "Turn", "one_line", "remove_markers", "sleep_unless_stopped"]

# What adapters' messages may bring along from a client library, and what stays of it. A query takes the rest
# of the message with it, since its end can't be told.
_NOBODYS_BUSINESS = [
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s'\"?#]*", re.IGNORECASE), ""),
    (re.compile(r"\?[^\s=?]*=.*"), ""),
    (re.compile(r"#\S*=\S*"), ""),
    (re.compile(r"\bhost=(['\"]).*?\1"), "host"),
    (re.compile(r"\b[\w-]+(\.[\w-]+)+:\d+\b"), "host"),
]
_MAX_MESSAGE = 500


class Stop(Exception):
    """The decision to end a turn, on its way to the place that journals it."""

    def __init__(
        self,
        status: RunStatus,
        error: str,
        *,
        reason: BlockReason | None = None,
        not_before: datetime | None = None,
    ) -> None:
        self.status = status
        self.error = error
        self.reason = reason
        self.not_before = not_before
        super().__init__(error)


@dataclass
class Turn:
    """One owner's turn at a session: from holding the lease to giving it up."""

    journal: Journal
    adapter: Adapter
    policy: RunPolicy
    stop: threading.Event | None
    deadline: float
    emitted: list[str] = field(default_factory=list)
    attempts: int = 0
    in_flight: bool = False

    def __post_init__(self) -> None:
        self.clock = self.journal.clock
        # Room for a request between the check of the lease and its end. One that takes longer than that is
        # no danger: the remote or the announcement settles it.
        self.margin = min(30.0, self.policy.lease / 10)

    def carry_out(self) -> RunReport:
        """Emit what has no receipt yet, in order, and finish; or end, and say why."""
        plan = self.journal.plan
        for operation in plan.operations:
            if operation.id in self.journal.receipts:
                continue
            try:
                self._emit(operation)
                self._record(operation)
            except Stop as stop:
                return self.end(stop, operation.id)
            except Fenced as error:
                return self.report(RunStatus.IN_PROGRESS, error=str(error), operation=operation.id)
            except StoreError as error:
                return self._without_store(error, operation.id)
            except BaseException as error:
                self._give_up(operation, error)
                raise
        try:
            return self._finish()
        except StoreError as error:
            # The journal may take what the final could not: then no receipt is lost with this process.
            return self.end(Stop(RunStatus.RESUME_NEEDED, one_line(error)), None)
        except BaseException as error:
            self.end(Stop(RunStatus.RESUME_NEEDED, f"stopped by {type(error).__name__}"), None)
            raise

    def end(self, stop: Stop, operation_id: str | None) -> RunReport:
        """Journal why the run ends, and set the markers."""
        try:
            self._journal_end(stop, operation_id)
        except Fenced as error:
            return self.report(RunStatus.IN_PROGRESS, error=str(error), operation=operation_id)
        except StoreError as error:
            return self._without_store(error, operation_id)
        return self.report(
            stop.status,
            block_reason=stop.reason,
            error=stop.error,
            operation=operation_id,
            not_before=stop.not_before,
            warnings=self._mark_blocked() if stop.status is RunStatus.BLOCKED else (),
        )

    def report(self, status: RunStatus, **fields: Any) -> RunReport:
        """Say what the turn came to."""
        return RunReport(
            session_id=self.journal.plan.session_id,
            status=status,
            operations=self.journal.plan.operations,
            receipts=self.journal.receipts,
            emitted=tuple(self.emitted),
            **fields,
        )

    def _journal_end(self, stop: Stop, operation_id: str | None) -> None:
        self.journal.append(
            Event.ENDED,
            lease=0,
            operation=operation_id,
            status=stop.status,
            block_reason=stop.reason,
            error=stop.error,
            not_before=stop.not_before,
        )

    def _mark_blocked(self) -> tuple[str, ...]:
        """Set the markers of a session that is blocked, whatever comes of them; return what went wrong."""
        session_id = self.journal.plan.session_id
        try:
            # In this order: an unfinished session always has at least one of its two markers.
            self.journal.store.put(blocked_key(session_id), b"")
            self.journal.store.delete(open_key(session_id))
        except StoreError as error:
            return (f"a marker is not as it should be: {one_line(error)}",)
        return ()

    def _without_store(self, error: StoreError, operation_id: str | None) -> RunReport:
        """Report a run that can't journal its end. The plan is durable, so the session can be resumed."""
        lease_ends = self.clock.now() + timedelta(seconds=max(0.0, self.journal.lease_left()))
        return self.report(
            RunStatus.RESUME_NEEDED, error=one_line(error), operation=operation_id, not_before=lease_ends
        )

    def _give_up(self, operation: PlannedOperation, error: BaseException) -> None:
        """Journal an adapter's bug, or an interrupt, while it is on its way to the caller."""
        if self.in_flight:
            self.journal.attempted[operation.id] = self.clock.now()
        # The type's name only: nobody vouches for what the message holds.
        who = "the adapter raised" if isinstance(error, Exception) else "stopped by"
        stop = Stop(RunStatus.RESUME_NEEDED, f"{who} {type(error).__name__}")
        if operation.replay is ReplayClass.UNPROVABLE and self.in_flight:
            stop = Stop(RunStatus.BLOCKED, stop.error, reason=BlockReason.OUTCOME_UNKNOWN)
        self.end(stop, operation.id)

    def _emit(self, operation: PlannedOperation) -> None:
        self.attempts = 0
        try:
            receipt = with_retries(
                lambda: self._attempt(operation),
                policy=self.policy,
                time_left=self._time_left,
                sleep=lambda seconds: sleep_unless_stopped(seconds, self.clock, self.stop),
            )
        except TransientError as error:
            raise self._exhausted(operation, error) from None
        except PermanentError as error:
            self._surely_unsent(operation)
            raise Stop(RunStatus.BLOCKED, one_line(error), reason=BlockReason.REJECTED) from None
        except ConflictError as error:
            self._surely_unsent(operation)
            raise Stop(RunStatus.BLOCKED, one_line(error), reason=BlockReason.CONFLICT_DETECTED) from None
        except (NotReady, InvalidInput) as error:
            # Found out before anything was sent: credentials that are missing, a mapping that has changed.
            self._surely_unsent(operation)
            raise Stop(RunStatus.RESUME_NEEDED, one_line(error)) from None
        self.journal.attempted.pop(operation.id, None)
        self.journal.receipts[operation.id] = receipt.model_copy(
            update={"confirmed_at": self.clock.now(), "attempts": self.attempts}
        )
        self.emitted.append(operation.id)

    def _attempt(self, operation: PlannedOperation) -> Receipt:
        found = self._look_up(operation)
        if found:
            return found
        self._require_leave_to_send()
        self._announce(operation)
        self.attempts += 1
        self.in_flight = True
        try:
            receipt = self.adapter.emit(operation)
        except (AdapterError, NotReady, InvalidInput) as error:
            self.in_flight = False
            if isinstance(error, TransientError):
                self._note_failure(operation, error)
            raise
        if not isinstance(receipt, Receipt):
            raise TypeError(f"adapter {self.adapter.name!r} returned no Receipt for {operation.id}")
        self.in_flight = False
        return _storable(receipt)

    def _announce(self, operation: PlannedOperation) -> None:
        """Journal that an unprovable operation is about to be sent; that also fences out other owners.

        Before each attempt, not only the first: between two, somebody may have taken the session over,
        a person may have decided, and the operation may have been sent.
        """
        journal = self.journal
        if operation.replay is not ReplayClass.UNPROVABLE:
            return
        journal.attempted[operation.id] = self.clock.now()
        journal.append(Event.SENDING, operation=operation.id)
        try:
            self._require_leave_to_send()
        except Stop:
            self._surely_unsent(operation)
            raise

    def _surely_unsent(self, operation: PlannedOperation) -> None:
        """Take back an announcement: each attempt at this operation surely had no effect.

        An attempt of unknown outcome has ended the turn before it came to this.
        """
        if operation.replay is ReplayClass.UNPROVABLE:
            self.journal.attempted.pop(operation.id, None)

    def _note_failure(self, operation: PlannedOperation, error: TransientError) -> None:
        """Keep what is known of a failed attempt, for the next one and for the journal."""
        if error.applied is Applied.NO:
            self._surely_unsent(operation)
            return
        now = self.clock.now()
        self.journal.attempted[operation.id] = now
        if operation.replay is ReplayClass.UNPROVABLE:
            raise Stop(RunStatus.BLOCKED, one_line(error), reason=BlockReason.OUTCOME_UNKNOWN) from None
        if operation.replay is ReplayClass.LOOKUP:
            # It could still land; until then a search proves nothing.
            error.retry_after = max(error.retry_after or 0.0, self.adapter.request_lifetime)

    def _look_up(self, operation: PlannedOperation) -> Receipt | None:
        attempted_at = self.journal.attempted.get(operation.id)
        if operation.replay is not ReplayClass.LOOKUP or attempted_at is None:
            return None
        lifetime = timedelta(seconds=self.adapter.request_lifetime + self.policy.clock_skew)
        wait = (attempted_at + lifetime - self.clock.now()).total_seconds()
        if wait >= self._time_left():
            raise Stop(
                RunStatus.RESUME_NEEDED,
                "an earlier request could still take effect; it is too early to look for it",
                not_before=attempted_at + lifetime,
            )
        if wait > 0:
            sleep_unless_stopped(wait, self.clock, self.stop)
        self._require_leave_to_send()
        return self.adapter.find(operation)

    def _require_leave_to_send(self) -> None:
        if self.stop and self.stop.is_set():
            raise Stop(RunStatus.RESUME_NEEDED, "stopped by a signal or by the caller")
        if self.journal.lease_left() < self.margin:
            raise Stop(RunStatus.RESUME_NEEDED, "the lease is nearly over")
        if self.clock.monotonic() >= self.deadline:
            raise Stop(RunStatus.RESUME_NEEDED, "the limit on the whole run is reached")

    def _time_left(self) -> float:
        lease = self.journal.lease_left() - self.margin
        return min(lease, self.deadline - self.clock.monotonic())

    def _exhausted(self, operation: PlannedOperation, error: TransientError) -> Stop:
        not_before = None
        if error.retry_after:
            not_before = self.clock.now() + timedelta(seconds=error.retry_after)
        self._surely_unsent(operation)
        return Stop(RunStatus.RESUME_NEEDED, one_line(error), not_before=not_before)

    def _record(self, operation: PlannedOperation) -> None:
        """Journal the newest receipt, unless the final artifact or a later entry will carry it."""
        if len(self.journal.receipts) == len(self.journal.plan.operations):
            return
        half_over = self.journal.lease_left() < self.policy.lease / 2
        if self.policy.journal == "every" or half_over:
            self.journal.append(Event.CONFIRMED, operation=operation.id)

    def _finish(self) -> RunReport:
        plan, receipts = self.journal.plan, self.journal.receipts
        final = Writeback(
            session_id=plan.session_id,
            adapter=plan.adapter,
            plan_digest=plan.digest,
            completed_at=self.clock.now(),
            operations=tuple(
                SettledOperation(**dict(operation), receipt=receipts[operation.id])
                for operation in plan.operations
            ),
        )
        try:
            write_writeback_artifact(self.journal.store, plan.session_id, final)
        except AlreadyExists:
            self._accept_final()
        return self.report(
            RunStatus.COMPLETED,
            warnings=remove_markers(
                self.journal.store, plan.session_id, was_blocked=self.journal.was_blocked
            ),
        )

    def _accept_final(self) -> None:
        """Take another owner's final artifact for ours, if it is for the same plan."""
        key = final_key(self.journal.plan.session_id)
        final = decode(self.journal.store.get(key).data, Writeback, key=key)
        if final.plan_digest != self.journal.plan.digest:
            raise CorruptArtifact(f"{key}: it is the end of another plan; it was left as it is")


def remove_markers(store: ArtifactStore, session_id: str, *, was_blocked: bool) -> tuple[str, ...]:
    """Remove a completed session's markers; return what went wrong.

    The session is complete whatever happens to a marker: a sweep removes what stays behind.
    """
    try:
        store.delete(open_key(session_id))
        if was_blocked:
            store.delete(blocked_key(session_id))
    except StoreError as error:
        return (f"a marker stays behind: {one_line(error)}",)
    return ()


def sleep_unless_stopped(seconds: float, clock: Clock, stop: threading.Event | None) -> None:
    """Wait, or return at once when asked to stop."""
    if stop is None:
        clock.sleep(seconds)
    else:
        stop.wait(seconds)


def one_line(error: BaseException) -> str:
    """Return a message fit for artifacts and people: one line, without hosts and query strings."""
    text = " ".join(str(error).split())
    if isinstance(error, AdapterError | NotReady | InvalidInput):
        for pattern, kept in _NOBODYS_BUSINESS:
            text = pattern.sub(kept, text)
    return text[:_MAX_MESSAGE]


def _storable(receipt: Receipt) -> Receipt:
    """Return the receipt, without an id that JSON can't hold: the effect must not go unrecorded for it."""
    try:
        encode(receipt.model_dump(mode="json"))
    except InvalidInput:
        return Receipt(outcome=receipt.outcome)
    return receipt
