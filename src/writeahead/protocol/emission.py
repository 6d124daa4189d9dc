"""Sends what is planned: under the retry policy, while the lease holds, by the replay class."""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Self

from writeahead._validation import Invalid, validated
from writeahead.adapters.awaiting import awaited
from writeahead.adapters.base import Kind, TransactionalAdapter
from writeahead.errors import (
    AdapterError,
    Applied,
    ConflictError,
    Fenced,
    InvalidInput,
    NotReady,
    PermanentError,
    StoreError,
    TransientError,
    WriteaheadError,
)
from writeahead.model import BlockReason, PlannedOperation, Receipt, ReplayClass, RunStatus
from writeahead.protocol.context import HeldBack, RunContext
from writeahead.protocol.encoding import MAX_RECEIPT_BYTES, encode
from writeahead.protocol.journal import Ending, Journal, renewed_key
from writeahead.protocol.progress import WaitReason
from writeahead.protocol.references import reads_receipts, resolved
from writeahead.protocol.retry import with_retries
from writeahead.protocol.schema import Event
from writeahead.protocol.session import after
from writeahead.telemetry import metrics, tracing
from writeahead.telemetry.tracing import Traced, UntoldSpans

__all__ = ["OVERWRITING", "Emission", "EndRun"]

# These say whether a request took effect; an adapter's own subclasses do, too.
_CONCLUSIVE = (TransientError, PermanentError, ConflictError)
# These say that nothing was sent. An adapter's own subclass does not: it may be raised later.
_UNSENT = (NotReady, InvalidInput)
# What may write, or delete, a row that an earlier operation has written. Sent again after it, that
# one would undo it, or meet a conflict.
OVERWRITING = (ReplayClass.UPSERT, ReplayClass.CONDITIONAL_UPDATE)
# Seconds from which on a wait is worth an entry.
_LONG_WAIT = 1.0
# What an adapter says in a receipt, and how many bytes that may have; the rest is the runner's.
_ANSWER = ("outcome", "remote_id", "remote_version", "value")
_LARGEST_ANSWER = MAX_RECEIPT_BYTES - 512
# Two parts of so many characters fit, however they are escaped.
_SHORT = 256
_OUTCOMES = ("applied", "already_applied", "assumed")


class EndRun(Exception):
    """The decision to end a run, on its way to the place that journals it.

    Attributes:
        ending: How and why it ends.
        of_run: Whether that holds for every unit, and not for the one that found it out.
    """

    def __init__(self, ending: Ending, *, of_run: bool = False) -> None:
        self.ending = ending
        self.of_run = of_run
        super().__init__(ending.error)

    @property
    def error_type(self) -> str:
        """What telemetry calls it: by its cause; without one, nothing was sent."""
        return tracing.error_type(self.ending.cause) if self.ending.cause else "not_sent"


@dataclass
class Emission:
    """How one owner sends operations, one unit at a time.

    A unit is what takes effect as a whole: one operation, or all of a plan that is atomic. Units
    that are sent at the same time have one of these each: see `beside`.
    """

    journal: Journal
    context: RunContext
    attempts: int = 0
    # True from before a request until its receipt or its failure is kept.
    in_flight: bool = False
    # Nothing of the unit may be sent earlier: a request could still land, or the remote asked so.
    not_before: datetime | None = None
    # Operations that may be under way at the same time.
    siblings: Collection[str] = ()
    # Of its requests.
    spans: UntoldSpans = field(default_factory=UntoldSpans)

    def __post_init__(self) -> None:
        self.clock = self.context.clock
        plan = self.journal.plan
        self.progress = self.context.progress(plan.session_id, plan.operations, self.journal.owner)
        self.planned = {operation.id: operation for operation in self.journal.plan.operations}
        self.reads = {name: reads_receipts(item.payload) for name, item in self.planned.items()}
        # Room for a request between the check of the lease and its end. One that takes longer than
        # that is no danger: the remote or the announcement settles it.
        self.margin = min(30.0, self.context.policy.lease / 10)

    def beside(self, context: RunContext, siblings: Collection[str]) -> Self:
        """The same for another unit, which is sent at the same time as these siblings."""
        other = copy.copy(self)
        other.context, other.siblings = context, siblings
        other.attempts, other.in_flight, other.not_before = 0, False, None
        other.progress = copy.copy(self.progress)  # it knows why the next wait will be
        other.spans = UntoldSpans()
        return other

    def send(self, unit: Sequence[PlannedOperation]) -> None:
        """Send a unit until it is confirmed, and keep its receipts in the journal's memory.

        Raises:
            EndRun: It is not confirmed, and the run has to end.
            Fenced: Another owner has the session now.
            StoreError: An announcement could not be journaled; nothing was sent after that.
            Exception: What the adapter raises against its contract.
        """
        self.attempts, self.not_before = 0, None
        try:
            issued = [self._issued(operation) for operation in unit]
            with metrics.timed(*self._measured(unit)):
                receipts = with_retries(
                    lambda: self._attempt(issued),
                    policy=self.context.policy,
                    clock=self.clock,
                    time_left=self._time_left,
                    sleep=lambda seconds: self._wait(seconds, unit),
                    own_wait=self._wait_left,
                )
        except TransientError as error:
            self._surely_unsent(unit)
            raise self._stop_for_now(error) from None
        except ConflictError as error:
            self._surely_unsent(unit)
            raise _blocked(error, BlockReason.CONFLICT_DETECTED) from None
        except PermanentError as error:
            self._surely_unsent(unit)
            raise _blocked(error, BlockReason.REJECTED) from None
        except (NotReady, InvalidInput) as error:
            if self.in_flight:
                raise
            # Found out before anything was sent: credentials that are missing, a mapping that has
            # changed.
            self._surely_unsent(unit)
            raise _for_now(error) from None
        now = self.clock.now()
        for operation, receipt in zip(unit, receipts, strict=True):
            self.journal.confirm(operation.id, receipt, now, self.attempts)
        self.in_flight = False

    def heeding(self, moment: datetime | None) -> datetime | None:
        """When a unit may be sent again: as its own stop has it, and as the remote asked for."""
        wait = self.context.held_until() - self.clock.monotonic()
        return _latest(moment, after(self.clock.now(), wait) if wait > 0 else None)

    def given_up(self, unit: Sequence[PlannedOperation], error: BaseException) -> Ending:
        """The ending of a run that an adapter's bug or an interrupt breaks off."""
        if not self.in_flight:
            # Announced perhaps, and not sent.
            self._surely_unsent(unit)
        unsure = [item for item in unit if self.in_flight and item.id not in self.journal.receipts]
        self._suspect(unsure)
        # The type's name only: the message may hold anything.
        who = "the adapter raised" if isinstance(error, Exception) else "stopped by"
        message = f"{who} {type(error).__name__}"
        if any(item.replay is ReplayClass.UNPROVABLE for item in unsure):
            return _blocked(message, BlockReason.OUTCOME_UNKNOWN).ending
        return self._stop_for_now(message).ending

    def _issued(self, operation: PlannedOperation) -> PlannedOperation:
        """The operation as it will be sent; what differs from the plan is found out here."""
        adapter = self.context.adapter
        if not self.journal.plan.exact:
            operation = adapter.completed(operation)
        if self.reads[operation.id]:
            operation = resolved(operation, self.journal.receipts, adapter.payload_of)
        else:
            adapter.payload_of(operation)
        generation = self.journal.generations.get(operation.id)
        if generation:
            operation = operation.model_copy(update={"key": renewed_key(operation.key, generation)})
        return operation

    def _attempt(self, unit: Sequence[PlannedOperation]) -> list[Receipt]:
        try:
            return self._send_once(unit)
        except TransientError as error:
            self._note_wait(error.retry_after)
            self.context.told(error)
            raise

    def _send_once(self, unit: Sequence[PlannedOperation]) -> list[Receipt]:
        self._wait_for_remote(unit)
        for operation in unit:
            # An atomic plan has none that is looked up.
            found = self._look_up(operation)
            if found:
                return [_storable(found)]
        self._wait_for_late_requests(unit)
        self._wait_for_remote(unit)
        self._require_leave_to_send()
        self.progress.sending(unit, self.attempts + 1)
        # Begun before the check of the lease: what begins a span may take its time.
        with self.spans.keep(self._span("emit", unit, self.attempts + 1)) as span:
            self._announce(unit)
            self.attempts += 1
            self.in_flight = True
            try:
                with metrics.counted(*self._measured(unit)):
                    receipts = self._call_adapter(unit)
            except WriteaheadError as error:
                span.failed(error)
                if isinstance(error, AdapterError):
                    self.progress.failed(unit, self.attempts, error)
                if isinstance(error, TransientError):
                    self._note_failure(unit, error)
                # Any other class leaves the outcome open: it may be raised after the effect.
                self.in_flight = not (isinstance(error, _CONCLUSIVE) or type(error) in _UNSENT)
                raise
        return [_storable(receipt) for receipt in receipts]

    def _measured(self, unit: Sequence[PlannedOperation]) -> tuple[str | None, str]:
        """What a measurement is of: a kind of operation, and an adapter."""
        return None if self.journal.plan.atomic else unit[0].kind, self.context.adapter.name

    def _span(self, verb: str, unit: Sequence[PlannedOperation], attempt: int | None = None) -> Traced:
        """The span of a request; all operations of a transaction have one."""
        if not tracing.is_on():
            return tracing.NOTHING
        plan, one = self.journal.plan, unit[0]
        about = {"session_id": plan.session_id, "owner": self.journal.owner, "attempt": attempt}
        if plan.atomic:
            return tracing.span("writeahead.transact", is_client=True, operations=len(unit), **about)
        return tracing.span(
            f"writeahead.{verb} {one.kind}",
            is_client=True,
            operation=one.id,
            kind=one.kind,
            replay=one.replay,
            **about,
        )

    def _call_adapter(self, unit: Sequence[PlannedOperation]) -> list[Receipt]:
        adapter = self.context.adapter
        with self.context.call_limits():
            if self.journal.plan.atomic:
                # The runner has checked the adapter's type before it claimed the session.
                assert isinstance(adapter, TransactionalAdapter)
                receipts = awaited(adapter.transact(unit))
            else:
                receipts = [adapter.emit(operation) for operation in unit]
        if len(receipts) != len(unit) or not all(isinstance(receipt, Receipt) for receipt in receipts):
            ids = ", ".join(operation.id for operation in unit)
            raise TypeError(f"adapter {adapter.name!r} returned no Receipt for {ids}")
        return receipts

    def _announce(self, unit: Sequence[PlannedOperation]) -> None:
        """Note that a unit is about to be sent; journal it of an unprovable operation.

        That entry fences other owners, too. So it comes before each attempt, not only the first:
        between two, another owner may have taken the session over, an operator may have decided,
        and the operation may have been sent.

        An observer, or the store, may have taken long: so leave is asked for again.
        """
        journal = self.journal
        try:
            for operation in unit:
                with journal.lock:
                    if self._kind(operation).key_valid_for:
                        journal.attempted_since.setdefault(operation.id, self.clock.now())
                    if operation.replay is not ReplayClass.UNPROVABLE:
                        continue
                    journal.attempted[operation.id] = self.clock.now()
                if operation.payload == self.planned[operation.id].payload:
                    journal.include(Event.SENDING, operation=operation.id)
                else:
                    journal.append(Event.SENDING, operation=operation.id, issued=operation.payload)
            self._require_leave_to_send()
        except (EndRun, Fenced, StoreError):
            self._surely_unsent(unit)
            raise

    def _kind(self, operation: PlannedOperation) -> Kind:
        return self.context.adapter.kinds[operation.kind]

    def _surely_unsent(self, unit: Sequence[PlannedOperation]) -> None:
        """Take back an announcement: each attempt at this operation surely had no effect.

        An attempt of unknown outcome has ended the run before this, for an unprovable operation;
        for one whose key expires it is on record.
        """
        with self.journal.lock:
            for operation in unit:
                if operation.replay is ReplayClass.UNPROVABLE:
                    self.journal.attempted.pop(operation.id, None)
                elif operation.id not in self.journal.attempted:
                    self.journal.attempted_since.pop(operation.id, None)

    def _suspect(self, unit: Sequence[PlannedOperation]) -> None:
        now = self.clock.now()
        for operation in unit:
            settles_after = self._kind(operation).settles_after
            settled = now + settles_after if settles_after else None
            self.journal.suspect(operation.id, now, settled)

    def _wait(self, seconds: float, unit: Sequence[PlannedOperation]) -> None:
        """Wait for the next attempt; a long wait after a sure failure is journaled before it.

        Else a process that is killed while it waits leaves an announcement behind, and an operator
        would be asked about a request that surely had no effect.
        """
        announced = any(operation.replay is ReplayClass.UNPROVABLE for operation in unit)
        if announced and seconds >= _LONG_WAIT:
            self.journal.include(Event.WAITING, operation=unit[0].id)
        self._sleep(seconds, unit)

    def _sleep(
        self, seconds: float, unit: Sequence[PlannedOperation], reason: WaitReason | None = None
    ) -> None:
        # A process that dies while it waits should have little to send again.
        self.journal.record(self.context.policy.journal_interval, ahead=seconds)
        self.progress.waiting(unit, seconds, reason)
        self.spans.tell()
        self.context.sleep(seconds)

    def _wait_for_remote(self, unit: Sequence[PlannedOperation]) -> None:
        """Wait as long as the remote has asked any session of this process."""

        def sleep(seconds: float) -> None:
            # A run that is stopped meanwhile leaves the rest of it to the next one.
            self._note_wait(seconds)
            self._sleep(seconds, unit, WaitReason.RETRY_AFTER)

        try:
            self.context.wait_for_remote(self._time_left, sleep)
        except HeldBack as held:
            self._surely_unsent(unit)
            raise EndRun(Ending.excused(held, held.not_before), of_run=True) from None

    def _wait_for_late_requests(self, unit: Sequence[PlannedOperation]) -> None:
        """Wait until no earlier upsert of the session can land after this write, and undo it.

        Only the adapter knows the row of a write, so each write of what may be there waits; but not
        for those that need no order.
        """
        if all(operation.replay not in OVERWRITING for operation in unit):
            return
        ids = {*self.siblings, *(operation.id for operation in unit)}
        with self.journal.lock:
            moments = [moment for name, moment in self.journal.unsettled.items() if name not in ids]
        if moments:
            # They may have been noted under another clock.
            moment = after(max(moments), self.context.policy.clock_skew)
            self._wait_until(moment, unit)

    def _wait_until(self, moment: datetime, unit: Sequence[PlannedOperation]) -> None:
        """Wait until no earlier request can take effect any more."""
        wait = (moment - self.clock.now()).total_seconds()
        if wait > 0 and wait >= self._time_left():
            raise _for_now("an earlier request could still take effect; it is too early to go on", moment)
        if wait > 0:
            self._sleep(wait, unit, WaitReason.LATE_REQUEST)

    def _note_failure(self, unit: Sequence[PlannedOperation], error: TransientError) -> None:
        """Keep what is known of a failed attempt, for the next one and for the journal."""
        if error.applied is Applied.NO:
            self._surely_unsent(unit)
            return
        self._suspect(unit)
        classes = {operation.replay for operation in unit}
        if ReplayClass.UNPROVABLE in classes:
            raise _blocked(error, BlockReason.OUTCOME_UNKNOWN) from None
        if ReplayClass.LOOKUP in classes:
            # It could still land; until then a search proves nothing.
            self.progress.reason = WaitReason.LATE_REQUEST
            self._note_wait(self.context.adapter.request_lifetime)

    def _note_wait(self, seconds: float | None) -> None:
        """Keep for how long nothing may be sent; a later moment that is on record stays."""
        if seconds:
            self.not_before = _latest(after(self.clock.now(), seconds), self.not_before)

    def _wait_left(self) -> float:
        return (self.not_before - self.clock.now()).total_seconds() if self.not_before else 0.0

    def _look_up(self, operation: PlannedOperation) -> Receipt | None:
        """Search for an operation that may have been sent, where its key can't settle that."""
        attempted_at = self.journal.attempted.get(operation.id)
        has_expired = self._has_expired(operation)
        if has_expired and (self.journal.plan.atomic or not self.context.adapter.can_find(operation)):
            error = "it may have been sent, and the remote may have forgotten its key since"
            raise _blocked(error, BlockReason.OUTCOME_UNKNOWN)
        if not has_expired and (operation.replay is not ReplayClass.LOOKUP or attempted_at is None):
            return None
        lifetime = self.context.adapter.request_lifetime + self.context.policy.clock_skew
        self._wait_until(
            after(attempted_at or self.clock.now(), lifetime if attempted_at else 0), [operation]
        )
        self._require_leave_to_send()
        try:
            with self.spans.keep(self._span("find", [operation])), self.context.call_limits():
                found = self.context.adapter.find(operation)
        except AdapterError as error:
            self.progress.failed([operation], self.attempts, error, writes=False)
            raise
        if not isinstance(found, Receipt | None):
            # It would count as found.
            raise TypeError(
                f"adapter {self.context.adapter.name!r} found neither a Receipt nor None for {operation.id}"
            )
        if found is None and has_expired:
            # It is not there, so what is sent now is the first that can be.
            with self.journal.lock:
                self.journal.attempted_since.pop(operation.id, None)
                self.journal.attempted.pop(operation.id, None)
        return found

    def _has_expired(self, operation: PlannedOperation) -> bool:
        valid_for = self._kind(operation).key_valid_for
        since = self.journal.attempted_since.get(operation.id)
        if valid_for is None or since is None:
            return False
        # What is sent now may arrive late, and the remote's clock may be ahead.
        way = max(self.margin, self.context.adapter.request_lifetime)
        late = timedelta(seconds=self.context.policy.clock_skew + way)
        return self.clock.now() + late >= after(since, valid_for.total_seconds())

    def _require_leave_to_send(self) -> None:
        if self.context.stopped:
            raise self._stop_for_now("stopped by a signal or by the caller", of_run=True)
        if self.journal.lease_left() < self.margin:
            raise self._stop_for_now("the lease is nearly over", of_run=True)
        if self.context.time_left() <= 0:
            raise self._stop_for_now("the limit on the whole run is reached", of_run=True)

    def _stop_for_now(self, why: str | WriteaheadError, *, of_run: bool = False) -> EndRun:
        """End the run; the next one heeds what the remote asked for."""
        return _for_now(why, self.not_before if self._wait_left() > 0 else None, of_run=of_run)

    def _time_left(self) -> float:
        # A stop is found right after the wait, which then ends at once.
        run = self.context.deadline - self.clock.monotonic()
        return min(self.journal.lease_left() - self.margin, run)


def _blocked(why: str | WriteaheadError, reason: BlockReason) -> EndRun:
    return EndRun(Ending.by(why, RunStatus.BLOCKED, block_reason=reason))


def _for_now(
    why: str | WriteaheadError, not_before: datetime | None = None, *, of_run: bool = False
) -> EndRun:
    return EndRun(Ending.by(why, RunStatus.RESUME_NEEDED, not_before=not_before), of_run=of_run)


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(filter(None, (one, other)), default=None)


def _storable(receipt: Receipt) -> Receipt:
    """Return what of a receipt fits into an artifact: the effect must be recorded in any case.

    A subclass may have fields of its own, and a copy may hold what was never validated.
    """
    if type(receipt) is Receipt and _is_short(receipt):
        return receipt
    answer = {name: getattr(receipt, name, None) for name in _ANSWER}
    for left_out in ((), ("value",), ("value", "remote_version"), ("value", "remote_version", "remote_id")):
        kept = {name: value for name, value in answer.items() if name not in left_out}
        found = validated(partial(Receipt.model_validate, kept))
        if not isinstance(found, Invalid) and _fits(found):
            return found
    return Receipt()


def _is_short(receipt: Receipt) -> bool:
    """Whether a receipt surely fits into an artifact, as nearly all do."""
    parts = receipt.remote_id, receipt.remote_version
    short = all(
        part is None or (type(part) is str and len(part) <= _SHORT and part.isascii()) for part in parts
    )
    return short and receipt.value is None and receipt.outcome in _OUTCOMES


def _fits(receipt: Receipt) -> bool:
    try:
        # As deep as in the final artifact, since each level indents each line.
        return len(encode({"operations": [{"receipt": receipt.model_dump(mode="json")}]})) <= _LARGEST_ANSWER
    except (InvalidInput, ValueError):
        return False  # what JSON can't hold
