"""The columns that the platform keeps beside ``ownerid``: which user or which team owns a row.

Sources, learn.microsoft.com: "Phone Call (PhoneCall)" and "Queue Item (QueueItem)" table reference
(OwningUser: the user that owns the row; OwningTeam: the team that does; both are read-only, and
queue items have no OwningTeam). That each is null where the other one owns the row is what users
report (jordimontana82/fake-xrm-easy, pull request 315); no page of Microsoft's says so.
"""

from collections.abc import Callable, Mapping
from typing import Any

from writeahead.simulators.dataverse.schema import Table

__all__ = ["owning_columns"]

_OWNER = "_ownerid_value"
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
