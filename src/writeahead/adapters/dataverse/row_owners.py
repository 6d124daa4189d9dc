"""The owners of new rows that are to be those of other rows: the mapping's ``owner_from``.

Sources, learn.microsoft.com: "Phone Call (PhoneCall)" and "Queue Item (QueueItem)" table reference
(OwnerId, and OwningUser: the user that owns the row; queue items have no OwningTeam), "Owner" table
reference (an owner's id is that of the user or of the team). That OwningUser is null where a team
owns the row is what users report (jordimontana82/fake-xrm-easy, pull request 315).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.owner_from import owner_bind, owner_row
from writeahead.adapters.dataverse.mapping.payloads import RowAddress
from writeahead.adapters.dataverse.mapping.plans import Draft
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError
from writeahead.adapters.dataverse.webapi.names import guid_or_none, referenced_row, row_reference

__all__ = ["with_row_owners"]

_OWNER, _USER = "_ownerid_value", "_owninguser_value"


@dataclass(frozen=True)
class _Owner:
    """The owner of a row, or why there is none.

    Neither: the session itself makes the row and names none, so it is the application's user.
    """

    reference: str | None = None
    problem: str | None = None


def with_row_owners(client: DataverseClient, mapping: TableMapping, drafts: Sequence[Draft]) -> list[Draft]:
    """Read the owners that new rows are to have, each row once.

    A row that the session itself makes or assigns has the owner that it gets by then. Where a row
    gives no owner, the default one gets the new row, with a warning.

    Args:
        client: Of the environment.
        mapping: Names the default owner.
        drafts: Of the session, in order.

    Returns:
        The drafts, in order, with their owners. A new row without any owner, where the mapping
        has no default one, is a gap of its draft.

    Raises:
        NotReady: The token is refused.
        TransientDataverseError: A row could not be read now.
    """
    owners: dict[RowAddress, _Owner] = {}
    found = []
    for draft in drafts:
        row = owner_row(draft.table, draft.write.columns) if draft.creates else None
        if row is not None:
            if row not in owners:
                owners[row] = _read(client, row)
            draft = _owned(mapping, draft, owners[row])  # noqa: PLW2901
        written = _written(draft)
        if written is not None:
            owners[draft.write.row_address] = written
        found.append(draft)
    return found


def _read(client: DataverseClient, row: RowAddress) -> _Owner:
    try:
        found = client.get_row(*row, [_OWNER, _USER])
    except PermanentDataverseError as error:
        return _Owner(problem=f"can't be read: {error}")
    if found is None:
        return _Owner(problem="is not there")
    owner = guid_or_none(found.columns[_OWNER])
    if owner is None:
        return _Owner(problem="has no owner")
    is_user = guid_or_none(found.columns[_USER]) == owner
    return _Owner(row_reference("systemusers" if is_user else "teams", owner))


def _written(draft: Draft) -> _Owner | None:
    """The owner that a draft gives its row; None if it leaves the owner as it is."""
    kept = {name for names in draft.table.preserved().values() for name in names}
    for entity_set in ("systemusers", "teams"):
        name = owner_bind(draft.table, entity_set)
        value = draft.write.columns.get(name) if name is not None and name not in kept else None
        if isinstance(value, str) and referenced_row(value):
            return _Owner(value)
    return _Owner() if draft.creates else None


def _owned(mapping: TableMapping, draft: Draft, owner: _Owner) -> Draft:
    problem = owner.problem
    if problem is None:
        if owner.reference is None:
            return draft
        who = referenced_row(owner.reference)
        if who is not None and (name := owner_bind(draft.table, who[0])):
            return _with_column(draft, name, owner.reference)
        problem = "has an owner that the mapping's lookups do not take"
    said = f"the row that {draft.table.owner_from} points to {problem}"
    default = mapping.owner_of(draft.table)
    name = owner_bind(draft.table, default.entity_set) if default else None
    if default is None or name is None:
        gap = f"{said}, so it gives no owner: name one, or a default_owner in the mapping"
        return replace(draft, gaps=(*draft.gaps, gap))
    owned = _with_column(draft, name, row_reference(default.entity_set, default.id))
    return replace(owned, warnings=(*draft.warnings, f"{said}, so the default owner gets it"))


def _with_column(draft: Draft, name: str, value: str) -> Draft:
    columns = {**draft.write.columns, name: value}
    return replace(draft, write=draft.write.model_copy(update={"columns": columns}))
