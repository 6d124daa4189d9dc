"""Rows that are there already, by the columns that the mapping's ``find_by`` names.

A create of such a row counts as done: nothing is sent, and what the session does with the row that
it would have made is done with the one that is there. Planning decides it, and the plan keeps the
GUID; before a create is sent it is asked again, since rows are made meanwhile. Between that look
and the write there are still milliseconds. An alternate key of the same columns closes them: the
service then refuses the second row.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from writeahead.adapters.dataverse.mapping.payloads import Baseline, RowAddress, RowWrite
from writeahead.adapters.dataverse.mapping.plans import Draft
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.webapi.client import DataverseClient, Row
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError, TransientDataverseError
from writeahead.adapters.dataverse.webapi.filters import all_equal, is_guid
from writeahead.adapters.dataverse.webapi.names import (
    BIND,
    Scalar,
    guid_or_none,
    referenced_row,
    row_reference,
)
from writeahead.errors import Applied, ConflictError, InvalidInput, NotReady
from writeahead.model import Receipt

__all__ = ["receipt_of_existing", "with_existing"]

# The entity set and the GUID that a create would have made, and the GUID of the row that is there.
_Found: TypeAlias = dict[tuple[str, str], str]
# Enough to name a count that helps.
_MOST = 10


def with_existing(client: DataverseClient, drafts: Sequence[Draft]) -> list[Draft]:
    """Search for the rows of creates, and have the rest of the session use those that are there.

    Args:
        client: Of the environment.
        drafts: Of the session, in order.

    Returns:
        The drafts, in order. Of a create whose row is there, ``found`` is the row's GUID.

    Raises:
        NotReady: Several rows have the same values, or they can't be searched; it names all.
        InvalidInput: Two operations create a row with the same values, one changes the values that
            a row of the session is found by, or a value can't be searched for.
        TransientDataverseError: They could not be searched now.
    """
    found: _Found = {}
    searched: list[Draft] = []
    seen: dict[object, str] = {}
    problems: list[str] = []
    for given in drafts:
        # A row may be told by its lookup to a row that was found.
        draft = _redirected(given, found)
        _require_first(draft, seen)
        row_id, problem = _search(client, draft)
        problems += [f"operation {draft.operation}: {problem}"] if problem else []
        if row_id is None or draft.write.row_id is None:
            searched.append(draft)
            continue
        found[draft.write.entity_set, draft.write.row_id] = row_id
        said = (
            f"{draft.write.entity_set}({row_id}) has the same {_names(draft.table)}: it counts as created,"
            " and is left as it is"
        )
        searched.append(replace(draft, found=row_id, warnings=(*draft.warnings, said)))
    if problems:
        raise NotReady(*problems)
    # An operation may point to a row that one after it creates.
    redirected = [_redirected(draft, found) for draft in searched]
    _require_kept(redirected)
    return redirected


def receipt_of_existing(
    client: DataverseClient, table: Table, write: RowWrite, baseline: Baseline | None
) -> Receipt | None:
    """Look for the row again, just before it is created.

    Args:
        client: Of the environment.
        table: Of the mapping.
        write: The row.
        baseline: Says whether planning found one.

    Returns:
        A receipt of the row that planning found; None if the row is to be created, or was by this
        operation.

    Raises:
        ConflictError: The row that planning found is gone or has other values, or there is another
            one, which planning did not see.
        InvalidInput: A row was found, and the mapping does not search for any.
        TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
    """
    values = table.searched(write.columns)
    found = baseline.found if baseline else None
    if found is not None:
        if values is None:
            raise InvalidInput(
                f"{write.where}: the plan found a row, and the mapping has no find_by that finds it"
            )
        rows = _rows(client, table, write, f"{is_guid(table.key, found)} and {all_equal(values)}")
        if not rows:
            raise ConflictError(
                f"{write.entity_set}({found}): the row that planning found is gone, or has another"
                f" {_names(table)}"
            )
        return Receipt(remote_id=found, remote_version=rows[0].etag, outcome="already_applied")
    if values is None or not _rows(client, table, write, all_equal(values)):
        return None
    if _rows(client, table, write, is_guid(table.key, write.row_id or "")):
        return None  # It may be this operation's own; the create finds out.
    raise ConflictError(
        f"{write.where}: a row with the same {_names(table)} is there, which planning did not see"
    )


def _search(client: DataverseClient, draft: Draft) -> tuple[str | None, str | None]:
    """The GUID of the row that a create would make a second time, or what is in the way."""
    values = draft.table.searched(draft.write.columns) if draft.creates else None
    if values is None:
        return None, None
    table, where = draft.table, f"{draft.write.entity_set} by {_names(draft.table)}"
    try:
        rows = client.query(
            draft.write.entity_set, select=[table.key], where=all_equal(values), top=_MOST + 1
        )
    except PermanentDataverseError as error:
        return None, f"can't search {where}: {error}"
    except InvalidInput as error:
        raise InvalidInput(f"operation {draft.operation}: {error}") from None
    ids = {guid_or_none(row.columns[table.key]) for row in rows}
    if not ids or draft.write.row_id in ids:
        return None, None  # None there, or this operation's own, of an earlier run.
    if len(ids) > 1:
        count = f"more than {_MOST}" if len(ids) > _MOST else str(len(ids))
        return None, (
            f"{count} rows of {draft.write.entity_set} have the same {_names(table)}: leave one, or update"
            " it by its GUID"
        )
    return ids.pop(), None


def _require_first(draft: Draft, seen: dict[object, str]) -> None:
    values = draft.table.searched(draft.write.columns) if draft.creates else None
    if values is None:
        return
    # The service is asked before anything of a transaction is there, so it can't tell then.
    folded = [(name, _without_accents(_folded(value))) for name, value in sorted(values.items())]
    first = seen.setdefault((draft.write.entity_set, *folded), draft.operation)
    if first != draft.operation:
        raise InvalidInput(
            f"operation {draft.operation}: operation {first} creates a row with the same"
            f" {_names(draft.table)}: create it once"
        )


def _require_kept(drafts: Sequence[Draft]) -> None:
    """Refuse to change what a row of the session is found by: it would not be found again.

    A create that is sent again would take the session's own change for another user's; and a
    session that is planned again, after its artifacts were lost, would create a second row.
    """
    told: dict[RowAddress, Mapping[str, Scalar]] = {}
    for draft in drafts:
        values = draft.table.searched(draft.write.columns) if draft.creates else None
        if values is not None:
            told[draft.write.row_address] = values
            told[draft.write.entity_set, draft.found or ""] = values
    for draft in drafts:
        known = {} if draft.creates else told.get(draft.write.row_address, {})
        leaves = draft.table.leaves(draft.write.columns)
        changed = [name for name in known if name in leaves and _folded(leaves[name]) != _folded(known[name])]
        if changed:
            raise InvalidInput(
                f"operation {draft.operation}: it changes {', '.join(changed)}, by which the row that this"
                " session creates is found: create it with that value, or change it in another session"
            )


def _rows(client: DataverseClient, table: Table, write: RowWrite, where: str) -> list[Row]:
    try:
        return client.query(write.entity_set, select=[table.key], where=where, top=1)
    except TransientDataverseError as error:
        # Nothing was sent now. An earlier request may have been applied, which is unknown.
        error.applied = Applied.UNKNOWN
        raise


def _redirected(draft: Draft, found: _Found) -> Draft:
    """Have a draft write, and point to, the rows that are there."""
    if not found:
        return draft
    write = draft.write
    columns: dict[str, Scalar] = {}
    for name, value in write.columns.items():
        row = referenced_row(value) if name.endswith(BIND) else None
        columns[name] = row_reference(row[0], found[row]) if row in found and row else value
    parties = (
        party.model_copy(update={"id": found.get((party.entity_set or "", party.id or ""), party.id)})
        for party in write.parties
    )
    # Two of them may be one by now.
    changes: dict[str, Any] = {"columns": columns, "parties": tuple(dict.fromkeys(parties))}
    address = (write.entity_set, write.row_id or "")
    if not draft.creates and address in found:
        changes["row_id"] = found[address]
    if write.key is not None:
        by_guid = {row_id: there for (_, row_id), there in found.items()}
        changes["key"] = {
            name: by_guid.get(guid_or_none(value) or "", value) for name, value in write.key.items()
        }
    return replace(draft, write=write.model_copy(update=changes))


def _names(table: Table) -> str:
    return ", ".join(table.find_by)


def _folded(value: Scalar) -> Scalar:
    return value.casefold().strip() if isinstance(value, str) else value


def _without_accents(value: Scalar) -> Scalar:
    if not isinstance(value, str):
        return value
    return "".join(sign for sign in unicodedata.normalize("NFKD", value) if not unicodedata.combining(sign))
