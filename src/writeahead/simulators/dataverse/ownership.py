"""Who may own a row, and the columns that the platform keeps beside ``ownerid``.

Sources, learn.microsoft.com: "Phone Call (PhoneCall)" and "Queue Item (QueueItem)" table reference
(OwningUser: the user that owns the row; OwningTeam: the team that does; both are read-only, and
queue items have no OwningTeam). That each is null where the other one owns the row is what users
report (jordimontana82/fake-xrm-easy, pull request 315); no page of Microsoft's says so.
"""

from collections.abc import Callable, Mapping
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.record import Record
from writeahead.simulators.dataverse.schema import Navigation, Table

__all__ = ["owning_columns", "require_owner"]

_OWNER = "_ownerid_value"
# Team.TeamType: 0 owner, 1 access, 2 and 3 groups of Entra ID.
_ACCESS_TEAM = 1
# The column of each table of owners.
_OWNING = {"systemusers": "_owninguser_value", "teams": "_owningteam_value"}


def owning_columns(
    table: Table, columns: Mapping[str, Any], is_there: Callable[[str, str], bool]
) -> dict[str, str | None]:
    """What these columns hold for a row.

    Args:
        table: The row's.
        columns: The row's.
        is_there: Whether a table, by entity set, has a row of this id.
    """
    owner = columns.get(_OWNER)
    return {
        name: owner if owner is not None and is_there(entity_set, owner) else None
        for entity_set, name in _OWNING.items()
        if name in table.properties
    }


def require_owner(navigation: Navigation, found: Record) -> None:
    """Refuse an access team as the owner of a row.

    "Use access teams and owner teams to collaborate and share information" says that it owns none;
    no page was found that says how that is answered.

    Raises:
        ODataError: 400.
    """
    is_access_team = found.table.logical_name == "team" and found.columns.get("teamtype") == _ACCESS_TEAM
    if navigation.property_name == _OWNER and is_access_team:
        raise ODataError(400, ErrorCode.NONE, "An access team can't be the owner of a record.")
