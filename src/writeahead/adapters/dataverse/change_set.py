"""Writing all rows of a session in one transaction, so that a replay does no harm.

The rules are those of `rows`, for all rows at once. Since they are written together or not at all,
one row with our marker proves that all were written, even if others have changed since.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from writeahead.adapters.dataverse.change_set_items import ChangeSetItem, require_no_conflict
from writeahead.adapters.dataverse.contents import is_older, require_own_content
from writeahead.adapters.dataverse.mapping.payloads import RowAddress
from writeahead.adapters.dataverse.mapping.plans import marks_of
from writeahead.adapters.dataverse.resends import Resends, may_hide_a_row
from writeahead.adapters.dataverse.rows import is_ours, read_back, require_same_content
from writeahead.adapters.dataverse.webapi.client import DataverseClient, Part, Row
from writeahead.adapters.dataverse.webapi.errors import (
    PermanentDataverseError,
    PreconditionFailed,
    RowNotFound,
    TransientDataverseError,
)
from writeahead.errors import ConflictError
from writeahead.model import Receipt

__all__ = ["emit_change_set"]

_Refusal: TypeAlias = PermanentDataverseError | TransientDataverseError


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
    require_no_conflict(items, rows, of_precondition=of_precondition)
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
