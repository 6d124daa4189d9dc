"""The state and the status of a row: which go together, and what a closed activity refuses."""

from collections.abc import Mapping
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.record import Record
from writeahead.simulators.dataverse.schema import Table

__all__ = ["apply_state", "require_open"]


def require_open(record: Record, changes: Mapping[str, Any]) -> None:
    """Refuse a change of a closed activity of a table where these are read-only.

    Raises:
        ODataError: 400.
    """
    closed = record.table.activity and record.columns.get("statecode") != 0
    if closed and record.table.closed_read_only and changes.get("statecode") != 0:
        raise ODataError(400, ErrorCode.NONE, "Cannot update Closed or Cancelled Activity")


def apply_state(table: Table, columns: dict[str, Any], changes: dict[str, Any], *, new: bool) -> None:
    """Keep state and status consistent: a state without a status gets its default status.

    Args:
        table: The row's.
        columns: The row's, before the change.
        changes: What the change sets; the status is added to it.
        new: Whether the row is new.

    Raises:
        ODataError: 400: the status is none of the state's, or a new activity is closed.
    """
    if not table.states or not {"statecode", "statuscode"} & set(changes):
        return
    state: Any = changes.get("statecode", columns.get("statecode"))
    if "statuscode" not in changes:
        changes["statuscode"] = table.states[state][0] if state in table.states else None
    status = changes["statuscode"]
    # A new activity is open; completing it takes a second request.
    if status not in table.states.get(state, ()) or (new and table.activity and state != 0):
        shown = table.columns["statecode"].options.get(state, state)
        raise ODataError(
            400,
            ErrorCode.INVALID_STATE_CODE_STATUS_CODE,
            f"{status} is not a valid status code for state code {table.logical_name}State.{shown} "
            f"on {table.logical_name}.",
        )
