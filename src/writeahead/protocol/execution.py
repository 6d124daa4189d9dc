"""One owner's work on a session, from holding the lease to giving it up."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import zip_longest

from writeahead.errors import AlreadyExists, CorruptArtifact, Fenced, StoreError, WriteaheadError
from writeahead.model import (
    BlockReason,
    PlannedOperation,
    ReplayClass,
    RunReport,
    RunStatus,
    Stop,
    with_cause,
)
from writeahead.protocol.artifacts import remove_markers
from writeahead.protocol.context import HeldBack, RunContext
from writeahead.protocol.emission import OVERWRITING, Emission, EndRun
from writeahead.protocol.encoding import decode, encode_model, is_foreign
from writeahead.protocol.journal import Ending, Journal
from writeahead.protocol.keys import blocked_key, final_key, open_key
from writeahead.protocol.messages import foreign_final, one_line
from writeahead.protocol.schema import Event, SettledOperation, Writeback
from writeahead.protocol.session import after
from writeahead.protocol.stages import UNDECIDED, SideBySide, Stage, Unit, ending_of, stages_of
from writeahead.telemetry import log

__all__ = ["Execution"]

# Turns without progress after which the next one has to wait; and the longest wait, in seconds.
_PROMPT_TURNS = 2
_LONGEST_SPACE = 3600.0


@dataclass
class Execution:
    """One owner's work on a session: it emits what has no receipt yet, and finishes or ends."""

    journal: Journal
    context: RunContext
    emitted: list[str] = field(default_factory=list)
    # What went otherwise than was asked for, without consequence.
    _notes: tuple[str, ...] = ()

    def carry_out(self) -> RunReport:
        """Emit what has no receipt yet, in order, and finish; or end, and say why."""
        stages = self._stages()
        for stage, following in zip_longest(stages, stages[1:]):
            carry_out = self._one if len(stage) == 1 else self._several
            report = carry_out(stage, following)
            if report is not None:
                return report
        try:
            return self._finish()
        except StoreError as error:
            # The journal may take what the final could not: then no receipt is lost with this
            # process.
            return self.end(Ending.by(error, RunStatus.RESUME_NEEDED), None)
        except BaseException as error:
            ending = Ending(RunStatus.RESUME_NEEDED, f"stopped by {type(error).__name__}")
            self.context.ended(self.end(ending, None))
            raise

    def _one(self, stage: Stage, following: Stage | None) -> RunReport | None:
        """Carry out a stage of one unit; return how the run ended, if it did."""
        (unit,) = stage
        emission, about = self._emission, unit[0].id if len(unit) == 1 else None
        try:
            emission.send(unit)
            self._confirmed(unit, stage, following)
            # A receipt that must not wait does not wait for an observer either.
            emission.progress.confirmed(unit, self.journal.receipts)
        except EndRun as end:
            return self.end(end.ending, about)
        except Fenced as error:
            return self.fenced(error, about)
        except StoreError as error:
            return self._without_store(error, about)
        except BaseException as error:
            self.context.ended(self.end(emission.given_up(unit, error), about))
            raise
        finally:
            emission.spans.tell()
        return None

    def _several(self, stage: Stage, following: Stage | None) -> RunReport | None:
        """Carry out a stage of several units; return how the run ended, if it did."""
        side = SideBySide(stage, self._emission, lambda unit: self._confirmed(unit, stage, following))
        ids = {operation.id for unit in stage for operation in unit}
        side.stops |= dict.fromkeys(ids.intersection(self.journal.undecided()), UNDECIDED)
        side.run(at_once=self._at_once())
        if side.cause is None and not side.stops:
            return None
        cause = side.cause
        if cause and isinstance(cause.error, Fenced):
            return self.fenced(cause.error, cause.operation)
        report = self.end(*ending_of(side), stops=side.in_words())
        if cause is None or not cause.gets_out:
            return report
        self.context.ended(report)
        raise cause.error

    def _at_once(self) -> int:
        """How many units may be sent at the same time."""
        adapter, at_once = self.context.adapter, self.context.policy.max_in_flight
        if at_once > 1 and not adapter.thread_safe:
            note = f"adapter {adapter.name!r} does not say thread_safe: independent operations had to wait"
            self._notes = (f"{note} for each other",)
            return 1
        return at_once

    def held_back(self) -> RunReport | None:
        """Report a session that is not claimed, since nothing may be sent for too long a time.

        None if it may be; or if it lacks nothing but its end, for which nothing is sent.
        """
        context = self.context
        try:
            # Once it is claimed, it has a lease of its own.
            context.require_no_long_wait(
                context.held_until(), min(context.policy.lease - self._emission.margin, context.time_left())
            )
        except HeldBack as held:
            if self._stages():
                return self.report(
                    RunStatus.RESUME_NEEDED, error=str(held), cause=held, not_before=held.not_before
                )
        return None

    @cached_property
    def _emission(self) -> Emission:
        return Emission(self.journal, self.context)

    @cached_property
    def _referred(self) -> set[str]:
        """Operations whose receipts later ones refer to."""
        return set().union(*self._emission.reads.values())

    def _stages(self) -> list[Stage]:
        """The stages, without the units that have their receipts."""
        stages = stages_of(self.journal.plan, self.context.adapter, self._emission.reads)
        left = ([unit for unit in stage if self._is_open(unit)] for stage in stages)
        return [stage for stage in left if stage]

    def has_others_than(self, undecided: Sequence[str]) -> bool:
        """Whether operations can be sent that need not wait until these are decided."""
        stage = self._stages()[0]
        ids = {operation.id for unit in stage for operation in unit}
        return ids > set(undecided)

    def _is_open(self, unit: Unit) -> bool:
        return any(operation.id not in self.journal.receipts for operation in unit)

    def end(
        self,
        ending: Ending,
        operation: str | None,
        reason: str | None = None,
        *,
        stops: Sequence[Stop] = (),
    ) -> RunReport:
        """Journal why the run ends, and set the markers.

        Args:
            ending: How and why it ends.
            operation: At which operation.
            reason: Why an operator had it begin, if no entry says so yet.
            stops: At which operations, if there can be several.
        """
        if self.context.stopped or ending.is_excused:
            # A run that was told to stop is no turn without progress.
            self.journal.idle = max(0, self.journal.idle - 1)
        ending = self._spaced(ending)
        try:
            self.journal.append(
                Event.ENDED,
                operation=operation,
                ending=ending,
                reason=reason,
                stops=stops if len(stops) > 1 else (),
            )
        except Fenced as error:
            return self.fenced(error, operation)
        except StoreError as error:
            return self._without_store(error, operation)
        warnings = self._mark_blocked() if ending.status is RunStatus.BLOCKED else ()
        return self.report(
            ending.status,
            error=ending.error,
            cause=ending.cause,
            operation=operation,
            ending=ending,
            warnings=warnings,
            stops=stops,
        )

    def _spaced(self, ending: Ending) -> Ending:
        """Let a session that makes no progress wait longer after each turn, up to an hour.

        A longer wait that the remote asked for stays.
        """
        turns = self.journal.idle - _PROMPT_TURNS
        if ending.status is not RunStatus.RESUME_NEEDED or turns < 0 or self.context.stopped:
            return ending
        wait = min(self.context.policy.longest_wait * 2 ** min(turns, 20), _LONGEST_SPACE)
        spaced = after(self.context.clock.now(), wait)
        return replace(ending, not_before=max(spaced, ending.not_before or spaced))

    def report(
        self,
        status: RunStatus,
        *,
        error: str | None = None,
        cause: WriteaheadError | None = None,
        operation: str | None = None,
        ending: Ending | None = None,
        not_before: datetime | None = None,
        warnings: Sequence[str] = (),
        stops: Sequence[Stop] = (),
    ) -> RunReport:
        """Say what the run came to."""
        if ending and operation and not stops:
            stops = [ending.at(operation)]
        report = RunReport(
            session_id=self.journal.plan.session_id,
            status=status,
            block_reason=ending.block_reason if ending else None,
            error=error,
            operation=operation,
            operations=self.journal.plan.operations,
            receipts=dict(self.journal.receipts),
            attempted=dict(self.journal.attempted),
            emitted=tuple(self.emitted),
            not_before=ending.not_before if ending else not_before,
            warnings=(*self.journal.plan.warnings, *self._notes, *warnings),
            stops=tuple(stops),
        )
        return with_cause(report, cause)

    def fenced(self, error: Fenced, operation: str | None = None) -> RunReport:
        """Report a run that another owner has taken the session from."""
        session_id, owner = self.journal.plan.session_id, self.journal.owner
        log.RUN.warning("fenced", session_id=session_id, operation=operation, owner=owner)
        return self.report(RunStatus.IN_PROGRESS, error=str(error), cause=error, operation=operation)

    def _mark_blocked(self) -> tuple[str, ...]:
        """Set the markers of a blocked session; return what went wrong with them."""
        session_id = self.journal.plan.session_id
        try:
            # In this order: an unfinished session always has at least one of its two markers.
            self.journal.store.put(blocked_key(session_id), b"")
            self.journal.store.delete(open_key(session_id))
        except StoreError as error:
            return (f"a marker is not as it should be: {one_line(error)}",)
        return ()

    def _without_store(self, error: StoreError, operation_id: str | None) -> RunReport:
        """Report a run that can't journal its end. Its plan is durable, so it can be resumed."""
        lease_ends = self.journal.clock.now() + timedelta(seconds=max(0.0, self.journal.lease_left()))
        ending = Ending.by(error, RunStatus.RESUME_NEEDED, not_before=lease_ends)
        return self.report(
            ending.status, error=ending.error, cause=error, operation=operation_id, ending=ending
        )

    def _confirmed(self, unit: Unit, stage: Stage, following: Stage | None) -> None:
        """Journal the newest receipt, unless the final artifact or a later entry will carry it."""
        self.emitted += [operation.id for operation in unit]
        # From the end, which is confirmed last, as a rule.
        next_units = () if any(map(self._is_open, reversed(stage))) else following
        if next_units is None:
            return  # the final artifact comes next
        if len(next_units) == 1 and next_units[0][0].replay is ReplayClass.UNPROVABLE:
            # The entry that announces it comes next, if the lease allows.
            self.journal.record(math.inf)
        elif any(map(self._is_kept_at_once, unit)) or any(map(self._may_meet, next_units)):
            self.journal.record(0)
        else:
            self.journal.record(self.context.policy.journal_interval)

    def _may_meet(self, unit: Unit) -> bool:
        """Whether a unit may write a row whose receipt waits: see `OVERWRITING`."""
        if unit[0].replay not in OVERWRITING:
            return False
        planned, row_of = self._emission.planned, self.context.adapter.row_of
        row, rows = row_of(unit[0]), {row_of(planned[name]) for name in self.journal.waiting}
        return row is None or None in rows or row in rows

    def _is_kept_at_once(self, operation: PlannedOperation) -> bool:
        """Whether to send an operation again, after a crash, could ask an operator or do harm."""
        adapter = self.context.adapter
        kind = adapter.kinds[operation.kind]
        return (
            operation.replay in (ReplayClass.LOOKUP, ReplayClass.UNPROVABLE)
            # What a later operation sends of its receipt must be the same then.
            or operation.id in self._referred
            # The remote may have forgotten its key by then.
            or (kind.key_valid_for is not None and not adapter.can_find(operation))
        )

    def _finish(self) -> RunReport:
        plan, receipts = self.journal.plan, self.journal.receipts
        final = Writeback(
            session_id=plan.session_id,
            adapter=plan.adapter,
            plan_digest=plan.digest,
            completed_at=self.journal.clock.now(),
            operations=tuple(
                SettledOperation(**vars(operation), receipt=receipts[operation.id])
                for operation in plan.operations
            ),
        )
        try:
            self.journal.store.put(final_key(plan.session_id), encode_model(final), if_absent=True)
        except AlreadyExists:
            if not self._is_our_final():
                return self.end_before_foreign_final()
        log.RUN.debug("finished", session_id=plan.session_id, owner=self.journal.owner)
        return self.report(
            RunStatus.COMPLETED,
            warnings=remove_markers(
                self.journal.store, plan.session_id, was_blocked=self.journal.was_blocked
            ),
        )

    def _is_our_final(self) -> bool:
        """Whether the final artifact that was there first is ours, and not another program's."""
        key = final_key(self.journal.plan.session_id)
        data = self.journal.store.get(key).data
        if is_foreign(data, key=key):
            return False
        if decode(data, Writeback, key=key).plan_digest != self.journal.plan.digest:
            raise CorruptArtifact(f"{key}: it is the end of another plan; it was left as it is")
        return True

    def end_before_foreign_final(self, reason: str | None = None) -> RunReport:
        """End the run: another program's file has the final artifact's key."""
        error = foreign_final(final_key(self.journal.plan.session_id))
        return self.end(Ending(RunStatus.BLOCKED, error, BlockReason.CONFLICT_DETECTED), None, reason)
