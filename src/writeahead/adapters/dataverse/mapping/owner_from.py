"""``owner_from``: a new row that names no owner belongs to the owner of a row that it points to.

[kinds.task] owner_from = "regarding"             a field of the kind
[tables.contact] owner_from = "wa_Campaign"       a navigation property of lookups
"""

from collections.abc import Mapping

from writeahead.adapters.dataverse.mapping.payloads import RowAddress
from writeahead.adapters.dataverse.mapping.tables import DeclaredTable, KindTable, Lookup, Table, bind_of
from writeahead.adapters.dataverse.webapi.names import BIND, Scalar, referenced_row

__all__ = ["owner_bind", "owner_from_problem", "owner_row", "owner_targets"]

_OWNER = "ownerid"
_FIELD = "owner"
_OWNERS = ("systemusers", "teams")


def owner_bind(table: Table, entity_set: str) -> str | None:
    """The name that an owner out of ``systemusers`` or ``teams`` is written by.

    None if the mapping does not let one of these own rows of the table.
    """
    if isinstance(table, KindTable):
        lookups = table.lookups.get(_FIELD, {}).values()
        return next((bind_of(lookup) for lookup in lookups if lookup.entity_set == entity_set), None)
    known = {lookup.entity_set for lookup in table.lookups_by_bind().get(_OWNER + BIND, [])}
    return _OWNER + BIND if entity_set in known else None


def owner_row(table: Table, columns: Mapping[str, Scalar]) -> RowAddress | None:
    """The row whose owner a new row with these columns gets.

    None if the new row names an owner of its own, points to no row, or the mapping has no
    ``owner_from``.
    """
    names = {owner_bind(table, entity_set) for entity_set in _OWNERS}
    if any(name in columns for name in names if name):
        return None
    found = (referenced_row(columns.get(bind_of(lookup))) for lookup in _lookups(table))
    return next(filter(None, found), None)


def owner_targets(table: Table) -> list[str]:
    """The entity sets of the rows that ``owner_from`` may read."""
    return list(dict.fromkeys(lookup.entity_set for lookup in _lookups(table)))


def owner_from_problem(table: Table) -> str | None:
    """Say why the mapping's ``owner_from`` can't be used; None if it can, or there is none."""
    name = table.owner_from
    if name is None:
        return None
    if name in (_FIELD, _OWNER):
        return f"owner_from is {name!r}, which is the owner itself: name a lookup to the row that has one"
    known = table.lookups if isinstance(table, KindTable | DeclaredTable) else {}
    if name not in known:
        others = ", ".join(sorted(set(known) - {_FIELD, _OWNER})) or "none"
        return f"owner_from is {name!r}, which is not in lookups; there are {others}"
    if not any(owner_bind(table, entity_set) for entity_set in _OWNERS):
        what = _FIELD if isinstance(table, KindTable) else _OWNER
        return f"owner_from needs lookups.{what}, by which an owner is written"
    return None


def _lookups(table: Table) -> list[Lookup]:
    if table.owner_from is None:
        return []
    if isinstance(table, KindTable):
        return list(table.lookups.get(table.owner_from, {}).values())
    return table.lookups_by_bind().get(table.owner_from + BIND, [])
