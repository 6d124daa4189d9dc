"""Whether the users and teams that are to own rows can own any.

Sources, learn.microsoft.com: "SystemUser" (isdisabled) and "Team" (teamtype) table reference; "Use
access teams and owner teams to collaborate and share information" (an access team owns no rows; the
teams of groups in Entra ID do). Whether a user or a team has a role that lets it own rows of some
table only shows on the write itself.
"""

import time
from collections.abc import Callable, Collection

from writeahead.adapters.dataverse.readiness.cache import MAX_AGE, TimedCache
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError
from writeahead.adapters.dataverse.webapi.names import referenced_row

__all__ = ["OWNER_TABLES", "Owners", "is_owner"]

# The tables of owners, with the column that is read and the word for messages.
_OWNERS = {"systemusers": ("isdisabled", "user"), "teams": ("teamtype", "team")}
_ACCESS_TEAM = 1
# Logical name to entity set.
OWNER_TABLES = {"systemuser": "systemusers", "team": "teams"}


def is_owner(reference: object) -> bool:
    """Whether the value of a lookup points to a user or a team."""
    row = referenced_row(reference)
    return row is not None and row[0] in _OWNERS


class Owners:
    """Looks up users and teams. Safe to share between threads.

    Args:
        client: Of the environment.
        max_age: Seconds that an owner which can own rows is trusted to be able to.
        monotonic: Seconds on a clock that is never set; for tests.
    """

    def __init__(
        self,
        client: DataverseClient,
        *,
        max_age: float = MAX_AGE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._problems = TimedCache[str | None](max_age, monotonic)

    def problems(self, references: Collection[str]) -> dict[str, str]:
        """Say why some can't own rows.

        Args:
            references: ``/systemusers(<id>)`` or ``/teams(<id>)``.

        Returns:
            The problem of each that has one.

        Raises:
            TransientDataverseError: One could not be read now.
            NotReady: The token is refused.
        """
        problems = {}
        for reference in dict.fromkeys(references):
            found, _ = self._problems.fetch([reference], self._read)
            problem = found[reference]
            if problem:
                # Not kept: an administrator may enable the user meanwhile.
                self._problems.forget(reference)
                problems[reference] = problem
        return problems

    def _read(self, references: Collection[str]) -> dict[str, str | None]:
        return {reference: self._problem(reference) for reference in references}

    def _problem(self, reference: str) -> str | None:
        row = referenced_row(reference)
        assert row is not None
        entity_set, row_id = row
        column, who = _OWNERS[entity_set]
        try:
            found = self._client.get_row(entity_set, row_id, [column])
        except PermanentDataverseError as error:
            return f"the {who} can't be read: {error}"
        if found is None:
            return f"there is no such {who}"
        if found.columns.get("isdisabled") is True:
            return f"the {who} is disabled"
        is_access_team = found.columns.get("teamtype") == _ACCESS_TEAM
        return f"the {who} is an access team, which can own nothing" if is_access_team else None
