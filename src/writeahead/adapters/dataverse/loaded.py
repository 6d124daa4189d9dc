"""Rows as callers have loaded them, held against what they are like when a plan is made.

A host loads a row, works for minutes, and writes then. What others did to the row meanwhile is seen
only if the host says what it saw. Nothing of this plan was sent yet, so the columns are the
evidence: a row of another version, with all watched columns as they were loaded, is written for the
version that planning finds. See docs/decisions/0007-rows-without-a-marker.md.

An ETag tells whether a row was modified since it was retrieved, and is compared for equality only:
"Perform conditional operations using the Web API" ("If-Match and If-None-Match headers", "Apply
optimistic concurrency"), learn.microsoft.com.
"""

from collections.abc import Mapping, Sequence

from writeahead.adapters.dataverse.contents import same_value
from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.payloads import Baseline, RowAddress
from writeahead.adapters.dataverse.mapping.plans import Draft, marks_of
from writeahead.adapters.dataverse.mapping.row_baseline import RowBaseline, columns_to_load, table_to_load
from writeahead.adapters.dataverse.rows import is_ours, is_written
from writeahead.adapters.dataverse.webapi.client import DataverseClient, Row
from writeahead.adapters.dataverse.webapi.names import Scalar
from writeahead.errors import ConflictError, InvalidInput

__all__ = ["read_baseline", "require_as_loaded", "require_usable"]


def read_baseline(
    client: DataverseClient,
    mapping: TableMapping,
    name: str,
    row: str | Mapping[str, Scalar],
    columns: Sequence[str] | None,
) -> RowBaseline | None:
    """Read what a row is like, in one request. Args and the rest: as the adapter's method."""
    table = table_to_load(mapping, name)
    if not isinstance(row, str) and not table.is_key(row):
        raise InvalidInput(
            f"{', '.join(sorted(row)) or 'no column'} is no alternate key that [{name}] of mapping"
            f" {mapping.name} has in alternate_keys"
        )
    names = columns_to_load(table, columns)
    found = client.get_row(table.entity_set, row, names)
    if found is None:
        return None
    return RowBaseline(etag=found.etag, columns={name: found.columns.get(name) for name in names})


def require_usable(drafts: Sequence[Draft]) -> None:
    """Refuse callers' baselines that can't be held against a row.

    Raises:
        InvalidInput: A baseline is of a row that the session itself creates, or lacks a column that
            must not have changed.
    """
    created: set[RowAddress] = set()
    for draft in drafts:
        if draft.creates:
            created.add(draft.write.row_address)
        if draft.loaded is None:
            continue
        where = f"operation {draft.operation}: the baseline"
        if draft.write.row_address in created:
            raise InvalidInput(f"{where} is of a row that this session itself creates: leave it out")
        lacking = _lacking(draft, draft.loaded.columns)
        if draft.loaded.etag is None and lacking:
            raise InvalidInput(
                f"{where} has no etag, and lacks {', '.join(lacking)}, which must not have changed: load the"
                " row by read_baseline, or give the etag that it had"
            )


def require_as_loaded(drafts: Sequence[Draft], rows: Mapping[RowAddress, Row | None]) -> None:
    """Hold rows against what their callers have loaded.

    Args:
        drafts: Of the session; each is held against its own baseline, if it has one.
        rows: What they are like now, before anything of the session is sent; None for one that is
            not there.

    Raises:
        ConflictError: Rows are gone, or have other values in columns that are watched or written.
            It names all of them, and no values.
    """
    by_row: dict[RowAddress, list[Draft]] = {}
    for draft in drafts:
        by_row.setdefault(draft.write.row_address, []).append(draft)
    problems = [
        f"operation {draft.operation}: {draft.write.where}: {problem}"
        for address, mates in by_row.items()
        for position, draft in enumerate(mates)
        if (problem := _problem(draft, rows.get(address), mates[:position], mates[position + 1 :]))
    ]
    if problems:
        raise ConflictError("; ".join(problems))


def _problem(draft: Draft, row: Row | None, earlier: Sequence[Draft], later: Sequence[Draft]) -> str | None:
    loaded = draft.loaded
    if loaded is None:
        return None
    if row is None:
        return "the row is gone since it was loaded"
    seen = {name: loaded.columns[name] for name in _held(draft) if name in loaded.columns}
    if (loaded.etag is not None and loaded.etag == row.etag) or _has_our_write(draft, seen, row, later):
        return None
    ours = _written_before(draft, row, earlier)
    changed = sorted(
        name
        for name, value in seen.items()
        if name not in ours and not same_value(row.columns.get(name), value)
    )
    if changed:
        return f"changed by another user since it was loaded: {', '.join(changed)}"
    lacking = _lacking(draft, seen)
    return f"changed since it was loaded, and the baseline lacks {', '.join(lacking)}" if lacking else None


def _written_before(draft: Draft, row: Row, earlier: Sequence[Draft]) -> set[str]:
    """The columns that a run of this session has written, if it was lost before this operation."""
    if not earlier or not is_ours(row.columns, draft.table, draft.write, marks_of(earlier, draft)):
        return set()
    return {name for other in earlier for name in other.table.leaves(other.write.columns)}


def _has_our_write(draft: Draft, seen: Mapping[str, Scalar], row: Row, later: Sequence[Draft]) -> bool:
    """Whether a run of this session, whose artifacts were lost, has carried out this operation."""
    if draft.table.marker is not None:
        return is_ours(row.columns, draft.table, draft.write, marks_of(later, draft))
    # By its values, and by all others as they were loaded.
    whole = not _lacking(draft, seen)
    # Where the service may make several things of a value, one of them may as well be another
    # user's, and would be overwritten: nothing of this plan was sent yet.
    sure = {name: forms for name, forms in draft.forms.items() if _are_one(forms)}
    before = Baseline(guarded=dict(seen), stored=sure)
    return whole and is_written(row.columns, draft.table, draft.write, before)


def _are_one(forms: Sequence[Scalar]) -> bool:
    """Whether these are one value, such as the same options in another order."""
    return len({tuple(sorted(str(form).split(","))) for form in forms}) == 1


def _held(draft: Draft) -> list[str]:
    """The columns that must be as they were loaded; the key tells whether it is the same row."""
    return [draft.table.key, *draft.table.baseline_columns(draft.write.columns)]


def _lacking(draft: Draft, seen: Mapping[str, Scalar]) -> list[str]:
    needed = draft.table.baseline_columns(draft.write.columns)
    return sorted(name for name in needed if name not in seen)
