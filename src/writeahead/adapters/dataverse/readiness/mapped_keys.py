"""What the mapping's ``owner_from`` and ``shorten`` need of an environment, for the doctor."""

from collections.abc import Iterator, Mapping

from writeahead.adapters.dataverse.mapping.free_texts import shortened_columns
from writeahead.adapters.dataverse.mapping.owner_from import owner_targets
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.readiness.findings import Finding, Level
from writeahead.adapters.dataverse.readiness.metadata import TableDefinition

__all__ = ["key_findings"]

_OWNING = {"ownerid", "owninguser"}


def key_findings(subject: str, table: Table, found: Mapping[str, TableDefinition]) -> Iterator[Finding]:
    """Say where a text can't be cut, and where rows have no owner that could be read.

    Args:
        subject: What the findings are about.
        table: Of the mapping.
        found: Definitions by entity set. Tables that are missing are told of elsewhere.
    """
    columns = found[table.entity_set].columns if table.entity_set in found else {}
    for name, shown in shortened_columns(table).items():
        column = columns.get(name)
        if column is not None and column.max_length is None:
            text = f"column {name} is no text, and can't be cut: take {shown} out of shorten"
            yield Finding(subject, Level.PROBLEM, text)
    for target in owner_targets(table):
        if target in found and not set(found[target].columns) >= _OWNING:
            yield Finding(
                subject,
                Level.WARNING,
                f"rows of {target}, which {table.owner_from} may point to, have no owner: without a"
                " default_owner, rows that point to one are refused",
            )
