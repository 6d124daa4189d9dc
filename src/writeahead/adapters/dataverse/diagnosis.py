"""All that can be told of an environment: by reading it, and on request by a row of its own."""

from collections.abc import Iterator, Sequence
from itertools import chain

from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.readiness.doctor import examine
from writeahead.adapters.dataverse.readiness.findings import Finding, Level
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.write_probe import probe
from writeahead.errors import InvalidInput

__all__ = ["diagnose", "probed_table"]


def probed_table(mapping: TableMapping, name: str | None) -> Table | None:
    """Return the table that a write probe is asked for on.

    Args:
        mapping: What may be written.
        name: What it calls the table, ``tables.account`` or ``kinds.task``; None for no probe.

    Raises:
        InvalidInput: The mapping has no such table.
    """
    table = mapping.named(name) if name is not None else None
    if name is not None and table is None:
        known = next(iter(mapping.sections()), "tables.account")
        raise InvalidInput(f"mapping {mapping.name} has no {name}: name a table as it does, such as {known}")
    return table


def diagnose(
    client: DataverseClient, mapping: TableMapping, probed: Table | None, known: Sequence[Finding] = ()
) -> Iterator[Finding]:
    """Look at an environment, and prove the conditional requests if that is asked for.

    Args:
        client: Of the environment.
        mapping: What may be written.
        probed: The table on which a row is made, changed and removed; None to read only.
        known: Findings that are known already; they come first.

    Yields:
        Findings, while they are made.

    Raises:
        InvalidInput: The table has no text column that the mapping names.
    """
    found = []
    examined = examine(client, mapping, client.limits, probed=probed.entity_set if probed else None)
    for finding in chain(known, examined):
        found.append(finding.level)
        yield finding
    if probed is not None and Level.PROBLEM not in found:
        yield from probe(client, probed)
    elif probed is not None:
        text = "left out: solve the problems first"
        yield Finding(f"write probe on {probed.entity_set}", Level.UNKNOWN, text)
