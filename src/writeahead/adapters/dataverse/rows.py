"""Creating and updating one row so that a replay does no harm, whatever table it is in.

Each write leaves a marker in its row: the ids of session and operation, in two columns or in one.
Where the service refuses a write, the row is read back, and the marker tells our own earlier write
from another one. A table may have no columns for it; docs/decisions/0007-rows-without-a-marker.md
says what proves a replay then.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from writeahead.adapters.dataverse.contents import is_older, require_own_content, same_value
from writeahead.adapters.dataverse.mapping.payloads import Baseline, RowWrite
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.resends import Resends, may_hide_a_row
from writeahead.adapters.dataverse.webapi.client import DataverseClient, Row
from writeahead.adapters.dataverse.webapi.errors import (
    PermanentDataverseError,
    PreconditionFailed,
    RowNotFound,
    TransientDataverseError,
)
from writeahead.adapters.dataverse.webapi.names import guid_or_none
from writeahead.errors import Applied, ConflictError
from writeahead.model import Receipt

__all__ = [
    "changed_columns",
    "create_row",
    "is_created_by_us",
    "is_ours",
    "is_written",
    "read_back",
    "require_same_content",
    "update_row",
    "upsert_row",
]

_Refusal: TypeAlias = PermanentDataverseError | TransientDataverseError


def create_row(client: DataverseClient, table: Table, write: RowWrite, baseline: Baseline | None) -> Receipt:
    """Create a row under its planned GUID; a row this operation created before counts as created.

    Args:
        client: Of the environment.
        table: Of the mapping.
        write: The row.
        baseline: When it was planned; None in a plan of before that was kept.

    Raises:
        ConflictError: The GUID is taken by a row that this operation did not write, or that an
            earlier session under the same ids wrote with other content.
        TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
    """
    created = _create(client, table, write, baseline)
    if isinstance(created, Receipt):
        return created
    if is_created_by_us(created, table, write):
        if is_older(created, table, baseline):
            require_own_content(client, table, write, baseline)
        return _already(table, write, created)
    raise ConflictError(f"{write.where}: the row exists and was not written by this operation")


def upsert_row(client: DataverseClient, table: Table, write: RowWrite, baseline: Baseline | None) -> Receipt:
    """Create a row, or update it if it is there.

    Where the table watches columns, planning has seen whether the row is there, and only that is
    done: it is created, or updated as by `update_row`. Else it is one request that writes these
    columns over whatever is in them.

    Raises:
        ConflictError: Another user made the row, wrote a guarded column of it, or removed it.
        TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
    """
    if baseline is None:
        version = client.patch(write.entity_set, write.address, write.columns)
        return _receipt(client, table, write, version)
    if not baseline.absent:
        return update_row(client, table, write, baseline)
    created = _create(client, table, write, baseline)
    if isinstance(created, Receipt):
        return created
    if is_written(created.columns, table, write, baseline):
        return _already(table, write, created)
    raise ConflictError(f"{write.where}: another user created the row after it was planned")


def update_row(client: DataverseClient, table: Table, write: RowWrite, baseline: Baseline) -> Receipt:
    """Update a row that is as the plan saw it or an earlier operation left it; never create it.

    If it has another version by now, it is read back: written by this operation = applied; guarded
    columns unchanged = the update is sent again, for that version; else a conflict.

    Raises:
        ConflictError: Another user wrote a guarded column, or the row is gone. It names columns,
            not values.
        TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
    """
    if is_ours(baseline.guarded, table, write, baseline.later):
        # Planned again, after the artifacts of a finished run were lost.
        require_same_content(baseline, table, write)
        return Receipt(remote_id=write.row_id, remote_version=baseline.etag, outcome="already_applied")
    etag, row_id = baseline.etag, write.row_id
    if etag is None or not write.columns:
        row = client.get_row(write.entity_set, write.address, _read(table, write, baseline))
        if row is not None and is_written(row.columns, table, write, baseline):
            return _already(table, write, row)
        etag = _unchanged_version(write, baseline, row)
        row_id = _row_id(table, write, row)
        if not write.columns:
            return Receipt(remote_id=row_id, remote_version=etag, outcome="already_applied")
    resends = Resends(f"{write.where}: the row")
    while True:
        try:
            version = client.patch(write.entity_set, write.address, write.columns, if_match=etag)
        except PermanentDataverseError as error:
            refused = error
        else:
            return Receipt(remote_id=row_id, remote_version=version)
        row = read_back(client, table, write, refused, baseline)
        if row is not None and is_written(row.columns, table, write, baseline):
            return _already(table, write, row)
        sent, etag = etag, _version_to_rebase_on(table, write, baseline, refused, row, sent=etag)
        if etag == sent:
            resends.for_nothing_in_the_way(refused)
        else:
            resends.for_new_version()


def require_same_content(baseline: Baseline, table: Table, write: RowWrite) -> None:
    """Tell a repeat of this update from another one under the same ids, by its guarded columns.

    Raises:
        ConflictError: The row has other content than this update would have left.
    """
    if not is_ours(baseline.guarded, table, write):
        return  # a later operation of the session has written the row
    other = [
        name
        for name, value in table.leaves(write.columns).items()
        if name in baseline.guarded
        and not same_value(baseline.guarded[name], value, baseline.stored.get(name, ()))
    ]
    if other:
        raise ConflictError(
            f"{write.where}: this session wrote it before with other content: {', '.join(sorted(other))}"
        )


def read_back(
    client: DataverseClient,
    table: Table,
    write: RowWrite,
    refused: _Refusal,
    baseline: Baseline | None = None,
) -> Row | None:
    """Read a row whose write was refused.

    Returns:
        None if it is not there.

    Raises:
        TransientDataverseError: It could not be read now.
        PermanentDataverseError: ``refused``, since the row may not be read.
    """
    try:
        return client.get_row(write.entity_set, write.address, _read(table, write, baseline))
    except TransientDataverseError as error:
        # This request was refused. An earlier one may have been applied, which is unknown now.
        error.applied = Applied.UNKNOWN
        raise
    except PermanentDataverseError:
        raise refused from None


def is_ours(columns: Mapping[str, object], table: Table, write: RowWrite, later: Sequence[str] = ()) -> bool:
    """Whether a row's marker is this operation's, or that of a later one of the session."""
    return table.marker is not None and table.marker.is_in(columns, write.columns, later)


def is_created_by_us(row: Row, table: Table, write: RowWrite) -> bool:
    """Whether a row under the GUID of a create is that create's.

    The GUID is made of session and operation, so it tells, whichever sessions have written the row
    since. A row without a marker, in a table that has one, got this GUID by other means.
    """
    row_id = guid_or_none(row.columns.get(table.key))
    return (
        row_id is not None
        and row_id == write.row_id
        and (table.marker is None or bool(row.columns.get(table.marker.session)))
    )


def is_written(columns: Mapping[str, object], table: Table, write: RowWrite, baseline: Baseline) -> bool:
    """Whether an update took effect: by its marker, or else by its values and all guarded ones."""
    if table.marker is not None:
        return is_ours(columns, table, write, baseline.later)
    ours = table.leaves(write.columns)
    changed = set(_changed(columns, baseline))
    if not ours or changed - set(ours) - table.entailed(write.columns):
        return False
    stored = {name: baseline.stored.get(name, ()) for name in ours}
    if not all(same_value(columns.get(name), value, stored[name]) for name, value in ours.items()):
        return False
    # What the service may have made of ours, among other things, and was there before, is no proof.
    unsure = [name for name in ours if len(stored[name]) > 1 and not same_value(columns[name], ours[name])]
    return not unsure or any(name in changed or name not in baseline.guarded for name in ours)


def changed_columns(row: Row, baseline: Baseline) -> list[str]:
    """The guarded columns that are not as they were, by name."""
    return _changed(row.columns, baseline)


def _changed(columns: Mapping[str, object], baseline: Baseline) -> list[str]:
    return sorted(
        name
        for name, value in baseline.guarded.items()
        if not same_value(columns.get(name), value, baseline.left.get(name, ()))
    )


def _create(
    client: DataverseClient, table: Table, write: RowWrite, baseline: Baseline | None
) -> Receipt | Row:
    """Create a row; or return the one that is there already."""
    resends = Resends(write.where)
    while True:
        refused = _try_to_create(client, table, write)
        if isinstance(refused, Receipt):
            return refused
        # Not after a 412 only: a duplicate rule or a validation may have met the row of an earlier
        # attempt.
        row = read_back(client, table, write, refused, baseline)
        if row is not None:
            return row
        if not isinstance(refused, PreconditionFailed):
            raise refused
        resends.for_nothing_in_the_way(refused)


def _try_to_create(client: DataverseClient, table: Table, write: RowWrite) -> Receipt | _Refusal:
    """Send a create once; return a refusal that the row may be the reason of."""
    try:
        etag = client.patch(write.entity_set, write.address, table.body(write), create_only=True)
    except PermanentDataverseError as error:
        return error
    except TransientDataverseError as error:
        if not may_hide_a_row(error):
            raise
        return error
    return _receipt(client, table, write, etag)


def _receipt(client: DataverseClient, table: Table, write: RowWrite, version: str | None) -> Receipt:
    if write.row_id is not None:
        return Receipt(remote_id=write.row_id, remote_version=version)
    # By an alternate key: the service has chosen the GUID.
    try:
        row = client.get_row(write.entity_set, write.address, [table.key])
    except TransientDataverseError as error:
        error.applied = Applied.UNKNOWN
        raise
    except PermanentDataverseError:
        row = None  # it was written, and may not be read
    return Receipt(remote_id=_row_id(table, write, row), remote_version=version)


def _unchanged_version(write: RowWrite, baseline: Baseline, row: Row | None) -> str:
    if row is None:
        raise ConflictError(f"{write.where}: the row is gone")
    changed = changed_columns(row, baseline)
    if changed:
        raise ConflictError(f"{write.where}: changed by another user: {', '.join(changed)}")
    if row.etag is None:
        raise ConflictError(f"{write.where}: the row has no ETag, so a change of it can't be detected")
    return row.etag


def _version_to_rebase_on(
    table: Table,
    write: RowWrite,
    baseline: Baseline,
    refused: PermanentDataverseError,
    row: Row | None,
    *,
    sent: str,
) -> str:
    if row is None and not isinstance(refused, PreconditionFailed | RowNotFound):
        raise refused
    if row is not None and not isinstance(refused, PreconditionFailed):
        raise refused
    etag = _unchanged_version(write, baseline, row)
    if table.marker is None and baseline.etag is not None and etag != sent:
        raise ConflictError(
            f"{write.where}: its version changed, and without marker columns no one can tell by whom: look at"
            " the row, and write what is missing in a new session"
        )
    return etag


def _read(table: Table, write: RowWrite, baseline: Baseline | None) -> list[str]:
    guarded = baseline.guarded if baseline else {}
    content = {} if table.marker else table.leaves(write.columns)
    created = table.created_columns() if baseline and baseline.planned_at else []
    return list(dict.fromkeys([table.key, *table.marker_columns(), *created, *guarded, *content]))


def _already(table: Table, write: RowWrite, row: Row) -> Receipt:
    row_id = _row_id(table, write, row)
    return Receipt(remote_id=row_id, remote_version=row.etag, outcome="already_applied")


def _row_id(table: Table, write: RowWrite, row: Row | None) -> str | None:
    """The GUID of a row, also where it is written by an alternate key."""
    return write.row_id or (guid_or_none(row.columns.get(table.key)) if row else None)
