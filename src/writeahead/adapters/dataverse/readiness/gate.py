"""The readiness gate: checks drafts against the environment's tables and the owners of rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from writeahead.adapters.dataverse.mapping.free_texts import shortened_columns
from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.plans import Draft
from writeahead.adapters.dataverse.mapping.shorten import shortened
from writeahead.adapters.dataverse.readiness.checks import (
    WriteRequirements,
    missing_columns,
    plain_columns,
)
from writeahead.adapters.dataverse.readiness.definitions import Definitions
from writeahead.adapters.dataverse.readiness.metadata import TableDefinition
from writeahead.adapters.dataverse.readiness.owners import Owners, is_owner
from writeahead.adapters.dataverse.readiness.parties import party_requirements
from writeahead.adapters.dataverse.readiness.values import stored_value
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.names import BIND, Scalar, row_reference
from writeahead.errors import NotReady
from writeahead.model import ReplayClass

__all__ = ["ReadinessGate"]


class ReadinessGate:
    """Checks whether drafts can be carried out. Safe to share between threads.

    Args:
        client: Of the environment.
        mapping: Names the default owner.
    """

    def __init__(self, client: DataverseClient, mapping: TableMapping) -> None:
        self._definitions = Definitions(client)
        self._owners = Owners(client)
        self._mapping = mapping

    def check(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Check drafts, and give those a default owner whose own can't own rows.

        Returns:
            The drafts, in order, with what the service may make of their values. Texts that the
            mapping lets be cut are cut to what their columns hold.

        Raises:
            NotReady: Some can't be carried out; it names every gap.
            TransientDataverseError: The environment could not be read now.
        """
        problems = self._problems(drafts)
        owned = [self._owned(draft, problems) for draft in drafts]
        gaps = [f"operation {draft.operation}: {gap}" for draft in drafts for gap in draft.gaps]
        gaps += [
            f"operation {draft.operation}: {self._owner_gap(draft, value, problems[value])}"
            for draft in owned
            for _, value in _owner_binds(draft)
            if value in problems
        ]
        tables: Mapping[str, TableDefinition] = {}
        try:
            tables = self._definitions.require([_requirements(draft) for draft in owned])
        except NotReady as error:
            gaps += error.problems
        if gaps:
            raise NotReady(*dict.fromkeys(gaps))
        return [_described(draft, tables[draft.write.entity_set]) for draft in owned]

    def check_creates(self, drafts: Sequence[Draft]) -> None:
        """Check the upserts whose rows were found to be missing: each of them is a create.

        Raises: as `check`.
        """
        creates = [draft for draft in drafts if draft.replay is ReplayClass.UPSERT and _is_absent(draft)]
        if creates:
            self._definitions.require([replace(_requirements(draft), updates=False) for draft in creates])

    def _problems(self, drafts: Sequence[Draft]) -> Mapping[str, str]:
        """Why owners that are asked for, and the default one where it is needed, can't own rows."""
        problems = self._owners.problems([value for draft in drafts for _, value in _owner_binds(draft)])
        defaults = {
            self._default(draft)
            for draft in drafts
            if any(value in problems for _, value in _owner_binds(draft))
        }
        return {**problems, **self._owners.problems(sorted(filter(None, defaults)))}

    def _default(self, draft: Draft) -> str | None:
        owner = self._mapping.owner_of(draft.table)
        return row_reference(owner.entity_set, owner.id) if owner else None

    def _owner_gap(self, draft: Draft, value: str, problem: str) -> str:
        default = self._default(draft)
        if value == default:
            return f"its owner is the mapping's default_owner: {problem}; name another there"
        other = "another default_owner" if default else "a default_owner"
        return f"its owner: {problem}; name another, or {other} in the mapping"

    def _owned(self, draft: Draft, problems: Mapping[str, str]) -> Draft:
        for name, value in _owner_binds(draft):
            default = self._default(draft)
            if value not in problems or default is None or default in problems:
                continue
            if draft.table.approves(name, default):
                columns: dict[str, Scalar] = {**draft.write.columns, name: default}
                return replace(
                    draft,
                    write=draft.write.model_copy(update={"columns": columns}),
                    warnings=(*draft.warnings, f"its owner: {problems[value]}; the default owner gets it"),
                )
        return draft


def _owner_binds(draft: Draft) -> Iterator[tuple[str, str]]:
    for name, value in draft.write.columns.items():
        if name.startswith("ownerid") and name.endswith(BIND) and isinstance(value, str) and is_owner(value):
            yield name, value


def _is_absent(draft: Draft) -> bool:
    return draft.baseline is not None and draft.baseline.absent


def _described(draft: Draft, table: TableDefinition) -> Draft:
    """Add what the service may make of the values, and what a new row would lack."""
    lengths = {name: column.max_length for name, column in table.columns.items() if column.max_length}
    draft = shortened(draft, lengths)
    columns = draft.write.columns
    found = {name: stored_value(name, columns[name], table.columns[name]) for name in plain_columns(columns)}
    stored = {name: value for name, value in found.items() if value is not None}
    warnings = draft.warnings
    if draft.replay is ReplayClass.UPSERT and not draft.watches:
        # Whether the row is there is known to the service alone.
        missing = missing_columns(_requirements(draft), table)
        if missing:
            warnings += (f"a new row would have no value in {', '.join(missing)}, which is required",)
    return replace(draft, stored={**draft.stored, **stored}, warnings=warnings)


def _requirements(draft: Draft) -> WriteRequirements:
    write, table = draft.write, draft.table
    updates = draft.replay is ReplayClass.CONDITIONAL_UPDATE
    return WriteRequirements(
        operation=draft.operation,
        entity_set=write.entity_set,
        key=table.key,
        # What a mark or the warnings can come to: not only what this session's do.
        columns={**write.columns, **table.longest()},
        read=tuple(table.baseline_columns(write.columns) if draft.watches else table.marker_columns()),
        creates=not updates and draft.loaded is None,  # a row that was loaded is there
        # An upsert of an elastic table writes a new row over the one that is there.
        updates=not draft.creates and not table.replaces_rows(),
        versioned=draft.watches,
        alternate_key=write.key or {},
        created=(table.created or None) if draft.creates else None,
        shortened=tuple(shortened_columns(table)),
        elastic=table.replaces_rows(),
        parties=party_requirements(table, write, draft.section),
    )
