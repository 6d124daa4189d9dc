"""Operations that need no order: which of them form a stage, and how those of one run at once."""

import contextvars
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from writeahead.adapters import limits
from writeahead.adapters.base import Adapter
from writeahead.errors import Fenced, StoreError
from writeahead.model import BlockReason, PlannedOperation, RunStatus, Stop
from writeahead.protocol.emission import Emission, EndRun
from writeahead.protocol.journal import Ending
from writeahead.protocol.schema import PlannedWriteback
from writeahead.protocol.stopping import LinkedStop

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["UNDECIDED", "SideBySide", "Stage", "Unit", "ending_of", "stages_of"]

# How an unprovable operation stops that an earlier attempt may have applied.
UNDECIDED = Ending(
    RunStatus.BLOCKED,
    "it may have been sent, and no one can tell whether it took effect",
    BlockReason.OUTCOME_UNKNOWN,
)

# What takes effect as a whole: see `Emission`.
Unit: TypeAlias = Sequence[PlannedOperation]
# Units that may be sent at the same time. All of them are confirmed before the next stage begins.
Stage: TypeAlias = Sequence[Unit]


def stages_of(plan: PlannedWriteback, adapter: Adapter, reads: Mapping[str, set[str]]) -> list[Stage]:
    """Divide a plan into stages: consecutive independent operations, or one that is not.

    A transaction is one unit. An independent operation begins a stage of its own if it refers to a
    receipt of the stage before it, or writes the same row, as far as the adapter tells.

    Args:
        plan: The plan.
        adapter: Knows the rows.
        reads: The operations whose receipts each operation refers to, by its id.
    """
    if plan.atomic:
        return [[plan.operations]]
    stages: list[Stage] = []
    gathered: list[Unit] = []
    ids: set[str] = set()
    rows: set[str] = set()
    for operation in plan.operations:
        row = _row_of(operation, adapter) if operation.independent else None
        is_apart = not operation.independent or row in rows or not ids.isdisjoint(reads[operation.id])
        if is_apart and gathered:
            stages.append(gathered)
            gathered, ids, rows = [], set(), set()
        if not operation.independent:
            stages.append([(operation,)])
            continue
        gathered.append((operation,))
        ids.add(operation.id)
        rows |= {row} if row is not None else set()
    return [*stages, gathered] if gathered else stages


def _row_of(operation: PlannedOperation, adapter: Adapter) -> str | None:
    # A version without the kind may still have a receipt of it.
    return adapter.row_of(operation) if operation.kind in adapter.kinds else None


class _Cause(NamedTuple):
    """What ends a whole run, how, and at which operation it was found."""

    error: BaseException
    ending: Ending
    operation: str | None

    @property
    def gets_out(self) -> bool:
        """Whether the caller gets the error itself: a bug, an interrupt."""
        return not isinstance(self.error, EndRun | Fenced | StoreError)


@dataclass
class SideBySide:
    """Carries out the units of one stage, several at once.

    What stops one of them does not stop the others, unless it holds for the whole run: a stop, a
    lease that is over or lost, a store that fails, an adapter that raises against its contract.
    Then no other is begun, and those under way get as long as after a stop. A remote's wait that is
    too long lets no other begin, and those under way end by themselves.

    Attributes:
        stage: Its units, of one operation each.
        emission: Sends them.
        confirmed: What is done with a unit that has its receipt; it may raise what ends the run.
        stops: Why units stopped, by the operation's id.
        cause: What ends the whole run, if anything does.
    """

    stage: Stage
    emission: Emission
    confirmed: Callable[[Unit], None]
    stops: dict[str, Ending] = field(default_factory=dict)
    cause: _Cause | None = None

    def __post_init__(self) -> None:
        context = self.emission.context
        self._halt = LinkedStop(context.stop, context.clock)
        self._context = replace(context, stop=self._halt)
        self._ids = {operation.id for unit in self.stage for operation in unit}
        # Guards what is under way, and `cause`.
        self._changed = threading.Condition()
        self._under_way: dict[str, Emission] = {}

    @property
    def left(self) -> list[str]:
        """The operations without a receipt, in the plan's order."""
        receipts = self.emission.journal.receipts
        return [unit[0].id for unit in self.stage if unit[0].id not in receipts]

    def in_words(self) -> list[Stop]:
        """Each stop, in the plan's order."""
        return [self.stops[name].at(name) for name in self.left if name in self.stops]

    def run(self, *, at_once: int) -> None:
        """Send the units that have not been stopped, so many at once, and wait for all of them."""
        units = [unit for unit in self.stage if unit[0].id not in self.stops]
        at_once = min(at_once, len(units))
        if at_once > 1:
            self._in_threads(units, at_once)
            return
        for unit in units:
            self._carry(unit)

    def _in_threads(self, units: Stage, at_once: int) -> None:
        # Loaded here: few sessions need it.
        from concurrent.futures import ThreadPoolExecutor, wait

        pool = ThreadPoolExecutor(at_once, thread_name_prefix="writeahead-unit")
        futures: list[Future[None]] = []
        try:
            # The adapter's calls see the caller's context variables.
            futures.extend(pool.submit(contextvars.copy_context().run, self._carry, unit) for unit in units)
            # In slices: an interrupt just before a wait does not end it, nor any on Windows.
            while wait(futures, limits.POLL).not_done:
                pass
        except BaseException as error:  # noqa: BLE001 - it is raised once the end is journaled
            self._break_off(error)
        pool.shutdown(wait=not self._under_way, cancel_futures=True)

    def _break_off(self, error: BaseException) -> None:
        """Wait for what is under way, unless another interrupt says not to."""
        ending = Ending(RunStatus.RESUME_NEEDED, f"stopped by {type(error).__name__}")
        try:
            self._end_run(_Cause(error, ending, None))
            # Not for the futures: the interrupt may have come before one of them was kept.
            with self._changed:
                while self._under_way:
                    self._changed.wait(limits.POLL)
        except BaseException:  # noqa: BLE001 - likewise
            for name, emission in dict(self._under_way).items():
                self.stops[name] = emission.given_up([emission.planned[name]], error)

    def _carry(self, unit: Unit) -> None:
        (operation,) = unit
        emission = self.emission.beside(self._context, self._ids)
        with self._changed:
            if self.cause is not None:
                return
            self._under_way[operation.id] = emission
        try:
            emission.send(unit)
            self.confirmed(unit)
            # A receipt that must not wait does not wait for an observer either.
            emission.progress.confirmed(unit, emission.journal.receipts)
        except EndRun as end:
            # Of one that the end of another keeps from its next attempt, there is nothing to say.
            if not end.of_run or self._end_run(_Cause(end, end.ending, operation.id)):
                self.stops[operation.id] = end.ending
        except (Fenced, StoreError) as error:
            ending = Ending.by(error, RunStatus.RESUME_NEEDED)
            self._end_run(_Cause(error, ending, operation.id))
        except BaseException as error:  # noqa: BLE001 - it is raised once the end is journaled
            ending = self.stops[operation.id] = emission.given_up(unit, error)
            self._end_run(_Cause(error, ending, operation.id))
        finally:
            emission.spans.tell()
            with self._changed:
                del self._under_way[operation.id]
                self._changed.notify_all()

    def _end_run(self, cause: _Cause) -> bool:
        """Let nothing more begin; tell whether this is what the run ends by."""
        with self._changed:
            is_first = self.cause is None
            if self.cause is None or (cause.gets_out and not self.cause.gets_out):
                self.cause = cause
        # A remote that asked to wait still answers what it has.
        if not cause.ending.is_excused:
            self._halt.set()
        return is_first


def ending_of(side: SideBySide) -> tuple[Ending, str | None]:
    """How a session ends after a stage that was not confirmed as a whole, and at which operation.

    It is blocked if each operation that is left needs an operator. Else it is to be resumed, so
    that a sweep goes on with the others; as early as one of them may be sent.
    """
    left = side.left
    # What ended the run comes first, and then the plan's order.
    found = [(side.cause.ending, side.cause.operation)] if side.cause else []
    found += [(side.stops[name], name) for name in left if name in side.stops]
    # The one that was told to wait says more than those that were held back for it.
    found.sort(key=lambda end: end[0].is_excused)
    ends = [side.stops.get(name) for name in left]
    resumable = [end for end in ends if end is None or end.status is RunStatus.RESUME_NEEDED]
    if left and not resumable:
        return next(one for one in found if one[0].status is RunStatus.BLOCKED)
    ending, operation = next((one for one in found if one[0].status is RunStatus.RESUME_NEEDED), found[0])
    moments = [end.not_before if end else None for end in resumable]
    earliest = None if None in moments else min(filter(None, moments), default=None)
    not_before = side.emission.heeding(earliest)
    return replace(
        ending, status=RunStatus.RESUME_NEEDED, block_reason=None, not_before=not_before
    ), operation
