"""Creating and updating one row so that a replay does no harm, whatever table it is in.

Whoever writes a row leaves a marker in it: the ids of session and operation. Where the service refuses a
write, the row is read back, and the marker tells our own earlier write from somebody else's.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from writeahead.adapters.dataverse.client import DataverseClient, Row
from writeahead.adapters.dataverse.errors import (
    PermanentDataverseError,
    PreconditionFailed,
    RowNotFound,
    TransientDataverseError,
)
from writeahead.adapters.dataverse.mapping import Table
from writeahead.adapters.dataverse.payloads import Baseline, RowWrite, Scalar
from writeahead.errors import Applied, ConflictError, NotReady
from writeahead.model import Receipt

__all__ = ["create_row", "read_baselines", "update_row"]


def create_row(client: DataverseClient, table: Table, write: RowWrite) -> Receipt:
    """Create a row under its planned GUID; one that this operation created before counts as created.

    Raises:
        ConflictError: The GUID is taken by a row that this operation did not write.
        TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
    """
    try:
        etag = client.patch(write.entity_set, write.row_id, write.columns, create_only=True)
    except PermanentDataverseError as error:
        refused: PermanentDataverseError | TransientDataverseError = error
    except TransientDataverseError as error:
        if error.status != HTTPStatus.INTERNAL_SERVER_ERROR:
            raise
        # It may be because the row is there, and then it would be so each time. SAP CAP is such a server.
        refused = error
    else:
        return Receipt(remote_id=write.row_id, remote_version=etag)
    # Not after a 412 only: a duplicate rule or a validation may have met what an earlier attempt made.
    row = _read_back(client, table, write, refused)
    if row is None:
        # Taken a moment ago, and free now.
        if isinstance(refused, PreconditionFailed):
            raise TransientDataverseError(
                refused.method,
                refused.path,
                refused.status,
                detail="the row was there and is gone",
                applied=Applied.NO,
            )
        raise refused
    if _is_ours(row.columns, table, write) and _guid(row.columns.get(table.key)) == write.row_id:
        return _already(write, row)
    raise ConflictError(f"{_where(write)}: the row exists and was written by somebody else")


def update_row(client: DataverseClient, table: Table, write: RowWrite, baseline: Baseline) -> Receipt:
    """Update a row that is as the plan saw it; never create it.

    If it has another version by now, it is read back: written by this operation = applied; guarded columns
    unchanged = the update is sent once more, for that version; else a conflict.

    Raises:
        ConflictError: Somebody else wrote a guarded column, or the row is gone. It names columns, not values.
        TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
    """
    if _is_ours(baseline.guarded, table, write, baseline.later):
        # Planned anew after the artifacts of a finished run were lost.
        _require_same_content(baseline, table, write)
        return Receipt(remote_id=write.row_id, remote_version=baseline.etag, outcome="already_applied")
    etag = baseline.etag
    for _ in ("as planned", "rebased"):
        try:
            version = client.patch(write.entity_set, write.row_id, write.columns, if_match=etag)
        except PermanentDataverseError as error:
            refused = error
        else:
            return Receipt(remote_id=write.row_id, remote_version=version)
        row = _read_back(client, table, write, refused, also=baseline.guarded)
        if row is not None and _is_ours(row.columns, table, write, baseline.later):
            return _already(write, row)
        etag = _version_to_rebase_on(write, baseline, refused, row)
    raise ConflictError(f"{_where(write)}: somebody else keeps changing the row")


def _require_same_content(baseline: Baseline, table: Table, write: RowWrite) -> None:
    """Tell a repeat of this update from another one under the same ids, as far as guarded columns show it."""
    if not _is_ours(baseline.guarded, table, write):
        return  # a later operation of the session has been at the row
    other = [
        name
        for name, value in write.columns.items()
        if name in baseline.guarded and not _same(baseline.guarded[name], value)
    ]
    if other:
        raise ConflictError(
            f"{_where(write)}: this session wrote it before with other content: {', '.join(sorted(other))}"
        )


def read_baselines(client: DataverseClient, writes: Sequence[tuple[Table, RowWrite]]) -> list[Baseline]:
    """Read what the rows of some updates are like now, each row once.

    Returns:
        The baseline of each update, in order.

    Raises:
        NotReady: Rows are missing or may not be read; it names them all.
        TransientDataverseError: A row could not be read now.
    """
    rows: dict[tuple[str, str], Row] = {}
    problems: list[str] = []
    for table, write in writes:
        place = (write.entity_set, write.row_id)
        if place in rows:
            continue
        try:
            row = client.get_row(*place, [table.key, *table.baseline_columns()])
        except PermanentDataverseError as error:
            problems.append(f"{_where(write)} can't be read: {error}")
            continue
        if row is None:
            problems.append(f"{_where(write)} does not exist")
        elif row.etag is None:
            problems.append(f"{_where(write)} has no ETag: enable optimistic concurrency for its table")
        else:
            rows[place] = row
    if problems:
        raise NotReady(*problems)
    return _baselines(writes, rows)


def _baselines(
    writes: Sequence[tuple[Table, RowWrite]], rows: Mapping[tuple[str, str], Row]
) -> list[Baseline]:
    found = []
    expected: dict[tuple[str, str], dict[str, Scalar]] = {}
    for position, (table, write) in enumerate(writes):
        place = (write.entity_set, write.row_id)
        row = rows[place]
        values = expected.setdefault(
            place, {name: row.columns.get(name) for name in table.baseline_columns()}
        )
        later = [
            str(after.columns[owner.marker.operation])
            for owner, after in writes[position + 1 :]
            if (after.entity_set, after.row_id) == place
        ]
        assert row.etag is not None
        found.append(Baseline(etag=row.etag, guarded=dict(values), later=tuple(later)))
        if not _is_ours(values, table, write, later):
            # The session's next update of this row meets what this one leaves behind.
            values.update({name: value for name, value in write.columns.items() if name in values})
    return found


def _version_to_rebase_on(
    write: RowWrite, baseline: Baseline, refused: PermanentDataverseError, row: Row | None
) -> str:
    if row is None and isinstance(refused, PreconditionFailed | RowNotFound):
        raise ConflictError(f"{_where(write)}: the row is gone")
    if row is None or not isinstance(refused, PreconditionFailed):
        raise refused
    changed = [name for name, value in baseline.guarded.items() if not _same(row.columns.get(name), value)]
    if changed:
        raise ConflictError(f"{_where(write)}: changed by somebody else: {', '.join(sorted(changed))}")
    if row.etag is None:
        raise refused
    return row.etag


def _read_back(
    client: DataverseClient,
    table: Table,
    write: RowWrite,
    refused: PermanentDataverseError | TransientDataverseError,
    also: Mapping[str, Scalar] | None = None,
) -> Row | None:
    """Read a row whose write was refused. None if it is not there."""
    select = list(dict.fromkeys([table.key, *table.marker.columns, *(also or {})]))
    try:
        return client.get_row(write.entity_set, write.row_id, select)
    except TransientDataverseError as error:
        # This request was refused; an earlier one may have been applied, and that could not be found out.
        error.applied = Applied.UNKNOWN
        raise
    except PermanentDataverseError:
        raise refused from None


def _is_ours(columns: Mapping[str, object], table: Table, write: RowWrite, later: Sequence[str] = ()) -> bool:
    """Whether a row was last written by this operation, or by one that comes after it in the same session."""
    session, operation = table.marker.columns
    return columns.get(session) == write.columns[session] and columns.get(operation) in {
        write.columns[operation],
        *later,
    }


def _already(write: RowWrite, row: Row) -> Receipt:
    return Receipt(remote_id=write.row_id, remote_version=row.etag, outcome="already_applied")


def _where(write: RowWrite) -> str:
    return f"{write.entity_set}({write.row_id})"


def _guid(value: object) -> str:
    return value.lower() if isinstance(value, str) else ""


def _same(one: object, other: object) -> bool:
    """Compare two values of a column; a moment may be written in more than one way."""
    if type(one) is type(other) and one == other:
        return True
    first, second = _moment(one), _moment(other)
    return first is not None and first == second


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str) or len(value) < len("2026-01-01T00:00"):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
