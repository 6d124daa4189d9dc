"""Writing all rows of a session in one transaction, so that a replay does no harm.

The rules are those of `rows`, for all rows at once. Since they are written together or not at all,
one row with our marker proves that all were written, even if others have changed since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from writeahead.adapters.dataverse.contents import is_older, require_own_content
from writeahead.adapters.dataverse.mapping.payloads import Baseline, RowAddress, RowWrite
from writeahead.adapters.dataverse.mapping.plans import marks_of
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.resends import Resends, may_hide_a_row
from writeahead.adapters.dataverse.rows import (
    changed_columns,
    is_created_by_us,
    is_ours,
    is_written,
    read_back,
    require_same_content,
)
from writeahead.adapters.dataverse.webapi.batch import MOST_PARTS
from writeahead.adapters.dataverse.webapi.client import DataverseClient, Part, Row
from writeahead.adapters.dataverse.webapi.errors import (
    PermanentDataverseError,
    PreconditionFailed,
    RowNotFound,
    TransientDataverseError,
)
from writeahead.adapters.dataverse.webapi.names import Scalar
from writeahead.errors import ConflictError, InvalidInput
from writeahead.model import Receipt, ReplayClass

__all__ = ["ChangeSetItem", "emit_change_set", "require_change_set"]

_Refusal: TypeAlias = PermanentDataverseError | TransientDataverseError


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


def emit_change_set(client: DataverseClient, items: Sequence[ChangeSetItem]) -> list[Receipt]:
    """Write all rows in one transaction; a row this session has written before counts as written.

    If it is refused, the rows are read back: one written by this session = all of it was applied;
    guarded columns unchanged = it is sent again, as a whole, for the versions there are now;
    else a conflict.

    Returns:
        A receipt for each item, in order.

    Raises:
        ConflictError: Rows were written by another user, or are gone. It names columns, not values.
        TransientDataverseError, PermanentDataverseError, NotReady: as their names say; the message
            names the operation at fault where the answer tells. Sent again after an unknown
            outcome, it finds out.
    """
    if any(_was_written(item, items) for item in items):
        # Planned again, after the artifacts of a finished run were lost.
        _require_own_contents(client, items)
        return _already(items, {})
    etags = _planned_versions(items)
    resends = Resends("the rows of this transaction")
    while True:
        try:
            results = client.change_set(_parts(items, etags))
        except (PermanentDataverseError, TransientDataverseError) as error:
            refused = _naming(error, items)
        else:
            return [
                Receipt(remote_id=item.write.row_id, remote_version=result.etag)
                for item, result in zip(items, results, strict=True)
            ]
        if isinstance(refused, TransientDataverseError) and not may_hide_a_row(refused):
            raise refused
        rows, was_written = _read_back(client, items, refused)
        if was_written:
            return _already(items, rows)
        sent, etags = etags, _versions_to_rebase_on(items, etags, rows, refused)
        if etags != sent:
            resends.for_new_version()
        else:
            _count_unexplained(resends, refused, items)


def _count_unexplained(resends: Resends, refused: _Refusal, items: Sequence[ChangeSetItem]) -> None:
    assert isinstance(refused, PermanentDataverseError)
    try:
        resends.for_nothing_in_the_way(refused)
    except (PermanentDataverseError, TransientDataverseError) as error:
        raise _naming(error, items) from None


def _planned_versions(items: Sequence[ChangeSetItem]) -> dict[RowAddress, str]:
    """The version of each row that is there; of several operations on a row, the first one's."""
    return {
        item.write.row_address: item.baseline.etag
        for item in reversed(items)
        if item.baseline is not None and item.baseline.etag is not None
    }


def _read_back(
    client: DataverseClient, items: Sequence[ChangeSetItem], refused: _Refusal
) -> tuple[dict[RowAddress, Row | None], bool]:
    """Read the rows of a refused transaction, and say whether it was written all the same."""
    rows: dict[RowAddress, Row | None] = {}
    found = []
    for item in items:
        row = read_back(client, item.table, item.write, refused, item.baseline)
        _add(rows, item.write.row_address, row)
        found.append(row is not None and item.is_found_in(row, _later(item, items)))
        if row is not None and found[-1] and item.proves_commit:
            if is_older(row, item.table, item.baseline):
                _require_own_contents(client, items)
            return rows, True
    # Values like ours are no proof, since they may have been there before: unless there is nothing
    # else to go by, and all are like ours.
    return rows, all(found) and not any(item.proves_commit for item in items)


def _add(rows: dict[RowAddress, Row | None], address: RowAddress, row: Row | None) -> None:
    """Add what was read of a row for one item to what was read for those before it."""
    earlier = rows.get(address, row)
    # By its first version: if it was changed since, the next attempt is refused.
    rows[address] = (
        Row({**earlier.columns, **row.columns}, earlier.etag)
        if row is not None and earlier is not None
        else None
    )


def _require_own_contents(client: DataverseClient, items: Sequence[ChangeSetItem]) -> None:
    """Require that what an earlier transaction under the same ids created is what is planned."""
    for item in items:
        if item.baseline is not None and item.baseline.planned_at is not None:
            require_own_content(client, item.table, item.write, item.baseline)


def _parts(items: Sequence[ChangeSetItem], etags: Mapping[RowAddress, str]) -> list[Part]:
    parts: list[Part] = []
    seen: set[RowAddress] = set()
    for item in items:
        first = item.write.row_address not in seen
        seen.add(item.write.row_address)
        parts.append(
            Part(
                item.write.entity_set,
                item.write.address,
                item.table.body(item.write),
                if_match=etags.get(item.write.row_address) if first else None,
                create_only=first and item.creates,
                # The part before it has checked the row, and has given it another version.
                update_only=not first,
            )
        )
    return parts


def _versions_to_rebase_on(
    items: Sequence[ChangeSetItem],
    etags: Mapping[RowAddress, str],
    rows: Mapping[RowAddress, Row | None],
    refused: _Refusal,
) -> dict[RowAddress, str]:
    """The versions that the updates may go on from.

    Raises:
        ConflictError: Another user changed the rows.
        PermanentDataverseError, TransientDataverseError: ``refused``.
    """
    of_precondition = isinstance(refused, PreconditionFailed | RowNotFound)
    _require_no_conflict(items, rows, of_precondition=of_precondition)
    if not of_precondition:
        raise refused
    found = {address: row.etag for address, row in rows.items() if address in etags and row and row.etag}
    if found.keys() != etags.keys():
        raise refused
    if found != etags and any(item.proves_commit for item in items):
        return found
    if found != etags:
        raise ConflictError(
            "rows have other versions, and without marker columns no one can tell by whom: look at them, and"
            " write what is missing in a new session"
        )
    if isinstance(refused, RowNotFound):
        raise refused  # a lookup points to none
    return found


def _require_no_conflict(
    items: Sequence[ChangeSetItem], rows: Mapping[RowAddress, Row | None], *, of_precondition: bool
) -> None:
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


def _was_written(item: ChangeSetItem, items: Sequence[ChangeSetItem]) -> bool:
    """Whether planning found a row as this session leaves it."""
    if item.baseline is None:
        return False
    ours = is_ours(item.baseline.guarded, item.table, item.write, _later(item, items))
    if ours:
        require_same_content(item.baseline, item.table, item.write)
    return ours


def _later(item: ChangeSetItem, items: Sequence[ChangeSetItem]) -> tuple[str, ...]:
    """The marks of the operations that write the same row after this one."""
    position = next(index for index, other in enumerate(items) if other is item)
    return marks_of(items[position + 1 :], item)


def _already(items: Sequence[ChangeSetItem], rows: Mapping[RowAddress, Row | None]) -> list[Receipt]:
    versions = {address: row.etag for address, row in rows.items() if row is not None}
    return [
        Receipt(
            remote_id=item.write.row_id,
            remote_version=versions.get(item.write.row_address),
            outcome="already_applied",
        )
        for item in items
    ]


def _naming(error: _Refusal, items: Sequence[ChangeSetItem]) -> _Refusal:
    """Put the operation at fault in front of the message, if the answer names it."""
    if error.part is not None:
        error.args = (f"operation {items[error.part].operation}: {error}",)
    return error
