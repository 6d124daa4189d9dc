"""The readiness gate: checks drafts against the environment's tables and the owners of rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.plans import Draft
from writeahead.adapters.dataverse.readiness.checks import WriteRequirements
from writeahead.adapters.dataverse.readiness.definitions import Definitions
from writeahead.adapters.dataverse.readiness.owners import Owners, is_owner
from writeahead.adapters.dataverse.readiness.parties import party_requirements
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

        Raises:
            NotReady: Some can't be carried out; it names every gap.
            TransientDataverseError: The environment could not be read now.
        """
        problems = self._problems(drafts)
        owned = [self._owned(draft, problems) for draft in drafts]
        gaps = [f"operation {draft.operation}: {gap}" for draft in drafts for gap in draft.gaps]
        gaps += [
            f"operation {draft.operation}: its owner: {problems[value]}; name another, or a default_owner in"
            " the mapping"
            for draft in owned
            for _, value in _owner_binds(draft)
            if value in problems
        ]
        try:
            self._definitions.require([_requirements(draft) for draft in owned])
        except NotReady as error:
            gaps += error.problems
        if gaps:
            raise NotReady(*dict.fromkeys(gaps))
        return owned

    def _problems(self, drafts: Sequence[Draft]) -> Mapping[str, str]:
        """Why owners that are asked for, and the default one where it is needed, can't own rows."""
        problems = self._owners.problems([value for draft in drafts for _, value in _owner_binds(draft)])
        return (
            {**problems, **self._owners.problems([self._default])} if problems and self._default else problems
        )

    @property
    def _default(self) -> str | None:
        owner = self._mapping.default_owner
        return row_reference(owner.entity_set, owner.id) if owner else None

    def _owned(self, draft: Draft, problems: Mapping[str, str]) -> Draft:
        for name, value in _owner_binds(draft):
            default = self._default
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


def _requirements(draft: Draft) -> WriteRequirements:
    write, table = draft.write, draft.table
    updates = draft.replay is ReplayClass.CONDITIONAL_UPDATE
    return WriteRequirements(
        operation=draft.operation,
        entity_set=write.entity_set,
        key=table.key,
        columns=write.columns,
        read=tuple(table.baseline_columns(write.columns) if draft.watches else table.marker_columns()),
        creates=not updates,
        updates=not draft.creates,
        versioned=draft.watches,
        alternate_key=tuple(write.key or ()),
        created=(table.created or None) if draft.creates else None,
        parties=party_requirements(table, write, draft.section),
    )
