"""What rows are like when a plan is made. The plan keeps it, so that later edits are found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from writeahead.adapters.dataverse.loaded import require_as_loaded, require_usable
from writeahead.adapters.dataverse.mapping.payloads import Baseline, RowAddress
from writeahead.adapters.dataverse.mapping.plans import Draft, marks_of
from writeahead.adapters.dataverse.rows import is_ours
from writeahead.adapters.dataverse.webapi.client import DataverseClient, Row
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError, TableNotFound
from writeahead.adapters.dataverse.webapi.names import BIND, Scalar, guid_or_none
from writeahead.errors import InvalidInput, NotReady
from writeahead.model import ReplayClass

__all__ = ["with_baselines"]


def with_baselines(client: DataverseClient, drafts: Sequence[Draft], now: datetime) -> list[Draft]:
    """Read the rows of updates, each once, and leave out the columns to preserve.

    Args:
        client: Of the environment.
        drafts: Of the session, in order.
        now: The time; timezone-aware.

    Returns:
        The drafts, in order, with their baselines.

    Raises:
        NotReady: Rows are missing or may not be read; it names them all.
        ConflictError: Rows are not as the caller has loaded them.
        InvalidInput: A row without a marker is to be updated twice, two operations mark a row in
            two ways, or a caller's baseline can't be used.
        TransientDataverseError: A row could not be read now.
    """
    require_usable(drafts)
    rows = _read(client, drafts)
    # By GUID from here on: that is the row whose version guards the write, even if its key changes.
    found = [_by_guid(draft, rows.get(draft.write.row_address)) for draft in drafts]
    by_guid = {
        now.write.row_address: rows[was.write.row_address]
        for was, now in zip(drafts, found, strict=True)
        if was.write.row_address in rows
    }
    _require_one_marker(found)
    require_as_loaded(found, by_guid)
    chain = _Chain(by_guid, found, now)
    return [chain.follow(position, draft) for position, draft in enumerate(found)]


def _read(client: DataverseClient, drafts: Sequence[Draft]) -> dict[RowAddress, Row | None]:
    wanted: dict[RowAddress, tuple[list[str], list[Draft]]] = {}
    created: set[RowAddress] = set()
    for draft in drafts:
        if draft.creates:
            created.add(draft.write.row_address)
        elif draft.watches and draft.write.row_address not in created:
            columns, users = wanted.setdefault(draft.write.row_address, ([], []))
            columns += [draft.table.key, *draft.table.baseline_columns(draft.write.columns)]
            users.append(draft)
    rows: dict[RowAddress, Row | None] = {}
    problems: list[str] = []
    for address, (columns, users) in wanted.items():
        write = users[0].write
        try:
            rows[address] = row = client.get_row(
                write.entity_set, write.address, list(dict.fromkeys(columns))
            )
        except PermanentDataverseError as error:
            problems.append(_unreadable(users[0], error))
            continue
        if row is None and any(user.loaded for user in users):
            continue  # it was there: a conflict, and no gap
        if row is None and any(user.replay is ReplayClass.CONDITIONAL_UPDATE for user in users):
            problems.append(f"operation {users[0].operation}: {write.where} does not exist")
        elif row is not None and row.etag is None:
            problems.append(f"{write.where} has no ETag: enable optimistic concurrency for its table")
    if problems:
        raise NotReady(*problems)
    return rows


def _unreadable(draft: Draft, error: PermanentDataverseError) -> str:
    if not isinstance(error, TableNotFound):
        return f"{draft.write.where} can't be read: {error}"
    where = f"[{draft.write.table}] of the mapping" if draft.write.table else "the mapping of its kind"
    return (
        f"operation {draft.operation}: the environment has no table {draft.write.entity_set}: correct"
        f" entity_set in {where} (upper and lower case count in names of entity sets)"
    )


def _by_guid(draft: Draft, row: Row | None) -> Draft:
    if draft.write.row_id is not None or row is None:
        return draft
    row_id = guid_or_none(row.columns[draft.table.key])
    if row_id is None:
        return draft
    return replace(draft, write=draft.write.model_copy(update={"row_id": row_id, "key": None}))


def _require_one_marker(drafts: Sequence[Draft]) -> None:
    """Require that no two operations mark a row in two ways that get into each other's column."""
    first: dict[RowAddress, Draft] = {}
    for draft in drafts:
        other = first.setdefault(draft.write.row_address, draft) if draft.table.marker else draft
        shared = set(draft.table.marker_columns()) & set(other.table.marker_columns())
        if other.table.marker != draft.table.marker and shared:
            raise InvalidInput(
                f"operation {draft.operation}: it marks {draft.write.where} in {', '.join(sorted(shared))},"
                f" as does {other.operation} by another marker: give both tables of the mapping the same one"
            )


@dataclass
class _Chain:
    """What each row is like after each of the session's operations on it."""

    rows: Mapping[RowAddress, Row | None]
    drafts: Sequence[Draft]
    now: datetime
    values: dict[RowAddress, dict[str, Scalar]] = field(default_factory=dict)
    made: set[RowAddress] = field(default_factory=set)
    # What the session itself has written by then. A value that the service changes (a rounded
    # amount) would look like another user's edit, so for these the marker must be proof enough.
    written: dict[RowAddress, set[str]] = field(default_factory=dict)
    # What the service may make of what the session has written by then.
    forms: dict[RowAddress, dict[str, tuple[Scalar, ...]]] = field(default_factory=dict)
    # What the service itself has changed by then, to values that are not known.
    unknown: dict[RowAddress, set[str]] = field(default_factory=dict)
    touched: set[RowAddress] = field(default_factory=set)

    def follow(self, position: int, draft: Draft) -> Draft:
        address, row = draft.write.row_address, self.rows.get(draft.write.row_address)
        if address not in self.values:
            self.values[address] = dict(row.columns) if row else {}
        values = self.values[address]
        later = marks_of(self.drafts[position + 1 :], draft)
        if draft.creates:
            self.made.add(address)
            # In every table that has states, 0 is the one that a new row is in.
            values["statecode"] = 0
        if not draft.watches:
            self._leave(draft)
            forms = draft.forms
            planned = Baseline(guarded={}, stored=forms) if forms else None
            if draft.creates:
                planned = Baseline(
                    guarded={}, absent=True, planned_at=self.now, stored=forms, found=draft.found
                )
            return replace(_warned(draft), baseline=planned)
        _require_columns_of_lookups(draft)
        self._require_one_update(draft)
        if address not in self.made and row is None:
            self.made.add(address)
            self._leave(draft)
            planned = Baseline(guarded={}, absent=True, later=later, stored=draft.forms)
            return replace(_warned(draft), baseline=planned)
        draft = _preserving(draft, values)
        guarded = self._guarded(draft, values)
        found = Baseline(
            etag=row.etag if row and address not in self.made else None,
            guarded=guarded,
            later=later,
            stored=draft.forms,
            left={name: forms for name, forms in self.forms.get(address, {}).items() if name in guarded},
        )
        if not is_ours(values, draft.table, draft.write, later):
            # The session's next update of this row meets what this one leaves behind.
            self.written.setdefault(address, set()).update(self._leave(draft))
        return replace(_warned(draft), baseline=found)

    def _leave(self, draft: Draft) -> dict[str, Scalar]:
        """Take down what a row is like after a write, and return what the write itself left."""
        left = draft.table.leaves(draft.write.columns)
        self.values[draft.write.row_address].update(left)
        forms = self.forms.setdefault(draft.write.row_address, {})
        for name in left:
            forms.pop(name, None)
        forms.update(draft.forms)
        unknown = self.unknown.setdefault(draft.write.row_address, set())
        unknown.update(draft.table.entailed(draft.write.columns))
        unknown.difference_update(left)
        return left

    def _guarded(self, draft: Draft, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
        names = draft.table.baseline_columns(draft.write.columns)
        unknown = self.unknown.get(draft.write.row_address, set())
        if draft.write.row_address not in self.made:
            ours = self.written.get(draft.write.row_address, set()) - set(draft.table.watched_columns())
            unsure = sorted(unknown & {*names} - ours)
            if unsure:
                raise InvalidInput(
                    f"operation {draft.operation}: what an operation before it leaves in {', '.join(unsure)}"
                    f" of {draft.write.where} is the service's choice, and is watched: write it there, too"
                )
            return {name: values.get(name) for name in names if name not in ours}
        # No row yet. What the session itself will have written is known, and the rest is not.
        state = ({"statecode"} - set(names)) | unknown
        return {name: value for name, value in values.items() if name not in state}

    def _require_one_update(self, draft: Draft) -> None:
        if draft.table.marker is not None:
            return
        if draft.write.row_address in self.touched:
            raise InvalidInput(
                f"operation {draft.operation}: {draft.write.where} is updated twice in this session, and its"
                " table has no marker in the mapping: make it one update, or add marker columns"
            )
        self.touched.add(draft.write.row_address)


def _warned(draft: Draft) -> Draft:
    """Warn of values that the service makes something else of."""
    return replace(draft, warnings=(*draft.warnings, *draft.stored_warnings()))


def _require_columns_of_lookups(draft: Draft) -> None:
    """Refuse to overwrite a lookup that can't be read: another user's edit would go unseen."""
    unknown = [
        name.removesuffix(BIND)
        for name in draft.write.columns
        if name.endswith(BIND) and not draft.table.lookups_by_bind()[name][0].column
    ]
    if unknown:
        raise InvalidInput(
            f"operation {draft.operation}: the mapping must name the lookup column that"
            f" {', '.join(sorted(unknown))} of {draft.write.entity_set} sets, since it is read before it is"
            ' changed: { entity_sets = [...], column = "..." }'
        )


def _preserving(draft: Draft, values: Mapping[str, Scalar]) -> Draft:
    left_out = {
        name: read
        for read, names in draft.table.preserved().items()
        if values.get(read) not in (None, "")
        for name in names
        if name in draft.write.columns
    }
    if not left_out:
        return draft
    columns = {name: value for name, value in draft.write.columns.items() if name not in left_out}
    said = tuple(f"{read} has a value, and is left as it is" for read in sorted(set(left_out.values())))
    return replace(
        draft,
        write=draft.write.model_copy(update={"columns": columns}),
        warnings=(*draft.warnings, *said),
    )
