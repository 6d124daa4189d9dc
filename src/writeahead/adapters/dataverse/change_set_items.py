"""The writes of a transaction, and what others may have done to their rows meanwhile."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from writeahead.adapters.dataverse.mapping.payloads import Baseline, RowAddress, RowWrite
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.rows import changed_columns, is_created_by_us, is_ours, is_written
from writeahead.adapters.dataverse.webapi.batch import MOST_PARTS
from writeahead.adapters.dataverse.webapi.client import Row
from writeahead.adapters.dataverse.webapi.names import Scalar
from writeahead.errors import ConflictError, InvalidInput
from writeahead.model import ReplayClass

__all__ = ["ChangeSetItem", "require_change_set", "require_no_conflict"]


@dataclass(frozen=True, slots=True)
class ChangeSetItem:
    """One write of a transaction.

    Attributes:
        operation: The id of the operation that this is.
        table: Of the mapping.
        write: What is written.
        baseline: What the row was like; for an update.
        replay: ``create_with_key``, ``conditional_update`` or ``upsert``.
        stored: What the service may make of the values, by column.
    """

    operation: str
    table: Table
    write: RowWrite
    baseline: Baseline | None
    replay: ReplayClass
    stored: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)

    @property
    def creates(self) -> bool:
        """Whether the row must not be there before."""
        absent = self.baseline is not None and self.baseline.absent
        return absent or self.replay is ReplayClass.CREATE_WITH_KEY

    @property
    def proves_commit(self) -> bool:
        """Whether its row alone proves that it was written: by a marker, or a GUID of ours."""
        return self.table.marker is not None or self.replay is ReplayClass.CREATE_WITH_KEY

    @property
    def writes(self) -> bool:
        """Whether there is anything to send; an update whose columns are all preserved has none."""
        return self.creates or bool(self.write.columns)

    def is_found_in(self, row: Row, later: Sequence[str]) -> bool:
        """Whether a row shows that this was written."""
        if self.replay is ReplayClass.CREATE_WITH_KEY:
            return is_created_by_us(row, self.table, self.write)
        if self.table.marker is not None:
            return is_ours(row.columns, self.table, self.write, later)
        blind = Baseline(guarded={}, stored=dict(self.stored))
        return is_written(row.columns, self.table, self.write, self.baseline or blind)


def require_change_set(items: Sequence[ChangeSetItem]) -> None:
    """Refuse what can't be sent as one change set, before anything is persisted or sent.

    Sources, learn.microsoft.com: "Execute batch operations using the Web API" (1,000 requests),
    "Elastic tables for developers" (change sets of them are no transactions). A body that is too
    large is answered by 413 ("Compose HTTP requests and handle errors"); no page was found that
    says how large it may be.

    Raises:
        InvalidInput: There are too many, or a table is elastic.
    """
    count = sum(item.writes for item in items)
    if count > MOST_PARTS:
        raise InvalidInput(
            f"one transaction of Dataverse holds {MOST_PARTS:,} operations at most, and {count:,} are"
            " planned: split the session, or plan it without atomic"
        )
    for item in items:
        if item.table.replaces_rows():
            raise InvalidInput(
                f"operation {item.operation}: its table is elastic, and Dataverse has no transactions there:"
                " plan the session without atomic, or make this one a session of its own"
            )


def require_no_conflict(
    items: Sequence[ChangeSetItem], rows: Mapping[RowAddress, Row | None], *, of_precondition: bool
) -> None:
    """Require that a transaction that was refused may be sent again.

    Args:
        items: All of it.
        rows: What was read back.
        of_precondition: Whether the refusal may be about a row's version.

    Raises:
        ConflictError: Another user changed rows, or made one. It names columns, not values.
    """
    by_row: dict[RowAddress, list[ChangeSetItem]] = {}
    for item in items:
        by_row.setdefault(item.write.row_address, []).append(item)
    # A key that is taken is refused in many ways; a row that has changed only by a precondition.
    suspects = [
        (address, mates)
        for address, mates in by_row.items()
        if of_precondition or mates[0].replay is ReplayClass.CREATE_WITH_KEY
    ]
    problems = [_conflict(mates, rows[address]) for address, mates in suspects]
    found = sorted(problem for problem in problems if problem)
    if found:
        raise ConflictError("; ".join(found))


def _conflict(mates: Sequence[ChangeSetItem], row: Row | None) -> str | None:
    """How another user changed the row of some items; None if no one did."""
    first = mates[0]
    where = f"operation {first.operation}: {first.write.where}"
    if first.creates:
        return None if row is None else f"{where}: the row exists and was not written by this operation"
    if all(item.baseline is None for item in mates):
        return None
    if row is None:
        return f"{where}: the row is gone"
    changed = changed_columns(row, _before(mates))
    return f"{where}: changed by another user: {', '.join(changed)}" if changed else None


def _before(mates: Sequence[ChangeSetItem]) -> Baseline:
    """What a row was like before the first item on it, by what all of them guard.

    The others guard, too, what those before them would have left.
    """
    guarded: dict[str, Scalar] = {}
    left: dict[str, tuple[Scalar, ...]] = {}
    written: set[str] = set()
    for item in mates:
        baseline = item.baseline or Baseline(guarded={})
        for name in baseline.guarded.keys() - written - guarded.keys():
            guarded[name] = baseline.guarded[name]
            left[name] = baseline.left.get(name, ())
        written |= {*item.table.leaves(item.write.columns), *item.table.entailed(item.write.columns)}
    return Baseline(guarded=guarded, left=left)
