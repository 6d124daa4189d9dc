"""Whether those that rows are to be owned by can own any: enabled users, or teams.

Source: "SystemUser" (isdisabled) and "Team" table reference, learn.microsoft.com. That a user has
no right to own rows of some table only shows on the write itself.
"""

import math
import re
import time
from collections.abc import Callable, Collection

from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError

__all__ = ["Owners", "is_owner"]

_OWNER = re.compile(r"/(?P<entity_set>systemusers|teams)\((?P<id>[0-9a-f-]{36})\)", re.IGNORECASE)
_COLUMN = {"systemusers": "isdisabled", "teams": "teamid"}
_MAX_AGE = 300.0


def is_owner(bind: object) -> bool:
    """Whether the value of a lookup points to a user or a team."""
    return isinstance(bind, str) and _OWNER.fullmatch(bind) is not None


class Owners:
    """Looks up users and teams. Safe to share between threads.

    Args:
        client: Of the environment.
        max_age: Seconds that somebody who can own rows is trusted to be able to.
        monotonic: Seconds on a clock that is never set; for tests.
    """

    def __init__(
        self,
        client: DataverseClient,
        *,
        max_age: float = _MAX_AGE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._max_age = max_age
        self._monotonic = monotonic
        self._enabled: dict[str, float] = {}

    def problems(self, binds: Collection[str]) -> dict[str, str]:
        """Say why some can't own rows.

        Args:
            binds: ``/systemusers(<id>)`` or ``/teams(<id>)``.

        Returns:
            The problem of each that has one.

        Raises:
            TransientDataverseError: One could not be read now.
            NotReady: The token is refused.
        """
        now = self._monotonic()
        problems = {}
        for bind in dict.fromkeys(binds):
            if now - self._enabled.get(bind, -math.inf) < self._max_age:
                continue
            problem = self._problem(bind)
            if problem:
                # Not kept: somebody may enable the user meanwhile.
                problems[bind] = problem
            else:
                self._enabled[bind] = now
        return problems

    def _problem(self, bind: str) -> str | None:
        match = _OWNER.fullmatch(bind)
        assert match is not None
        entity_set, column = match["entity_set"].lower(), _COLUMN[match["entity_set"].lower()]
        who = "user" if entity_set == "systemusers" else "team"
        try:
            row = self._client.get_row(entity_set, match["id"], [column])
        except PermanentDataverseError as error:
            return f"the {who} can't be read: {error}"
        if row is None:
            return f"there is no such {who}"
        return f"the {who} is disabled" if row.columns.get("isdisabled") is True else None
