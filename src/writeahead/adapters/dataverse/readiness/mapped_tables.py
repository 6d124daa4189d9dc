"""What keeps an environment from taking any write that the mapping allows, table by table."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from writeahead.adapters.dataverse.mapping.parties import COLUMNS
from writeahead.adapters.dataverse.mapping.payloads import PartyWrite
from writeahead.adapters.dataverse.mapping.tables import DeclaredTable, KindTable, Table
from writeahead.adapters.dataverse.readiness.checks import WriteRequirements, gaps_of, missing_columns
from writeahead.adapters.dataverse.readiness.findings import Finding, Level
from writeahead.adapters.dataverse.readiness.metadata import TableDefinition
from writeahead.adapters.dataverse.readiness.parties import PARTY_LIST, PartyRequirements
from writeahead.adapters.dataverse.webapi.names import row_reference

__all__ = ["pointed_to", "table_findings"]

# Of a session or an operation: `writeahead.model.ID_PATTERN`.
_LONGEST_ID = 128
_NO_ROW = "00000000-0000-4000-8000-000000000000"


def pointed_to(table: Table) -> set[str]:
    """The entity sets of the tables that lookups and parties of a table may point to."""
    lookups = {lookup.entity_set for found in table.lookups_by_bind().values() for lookup in found}
    parties = table.approved_parties()
    rows = parties.rows.values() if parties else ()
    return lookups | {entity_set for found in rows for entity_set in found}


def table_findings(
    subject: str,
    table: Table,
    definition: TableDefinition | None,
    names: Mapping[str, str | None],
    activity_party: TableDefinition | None,
    *,
    creates: bool,
    updates: bool,
) -> list[Finding]:
    """Say what the gate would say of any write to a table, whatever its values.

    Args:
        subject: What the findings are about.
        table: Of the mapping.
        definition: The environment's; None if it has no such table.
        names: The logical names of the tables that are pointed to, by entity set.
        activity_party: The definition of the table of activity parties, if there are any.
        creates: Whether rows of it are created.
        updates: Whether rows of it are updated.

    Returns:
        Problems and warnings; one line that all is there, if there is no problem.
    """
    gaps = [gap for write in _writes(table) for gap in gaps_of(write, definition, names, activity_party)]
    found = [Finding(subject, Level.PROBLEM, gap.split(": ", 2)[-1]) for gap in dict.fromkeys(gaps)]
    if definition is not None:
        found += [*_columns(subject, table, definition), *_markers(subject, table, definition)]
        if creates:
            found += _required(subject, table, definition)
        if updates and not definition.optimistic_concurrency and not table.replaces_rows():
            text = "it has no optimistic concurrency, which updates rely on: enable it"
            found.append(Finding(subject, Level.PROBLEM, text))
    if all(finding.level is not Level.PROBLEM for finding in found):
        found.append(Finding(subject, Level.OK, "what the mapping names is there"))
    return found


def _writes(table: Table) -> Iterator[WriteRequirements]:
    """Writes that between them touch everything that the mapping names."""
    one = WriteRequirements("", table.entity_set, table.key, {}, elastic=table.replaces_rows())
    texts = table.longest()
    columns = {name: texts.get(name) for name in table.written()}
    yield replace(one, columns=columns, read=tuple(table.watched_columns()), created=table.created or None)
    for name, lookups in table.lookups_by_bind().items():
        for lookup in lookups:
            yield replace(one, columns={name: row_reference(lookup.entity_set, _NO_ROW)})
    for key in table.alternate_keys if isinstance(table, DeclaredTable) else ():
        yield replace(one, alternate_key=dict.fromkeys(key))
    approved = table.approved_parties()
    if approved is not None:
        rows = [(role, entity_set) for role, sets in approved.rows.items() for entity_set in sets]
        given = [PartyWrite(role=role, entity_set=entity_set, id=_NO_ROW) for role, entity_set in rows]
        given += [PartyWrite(role=role, address="x") for role in sorted(approved.addresses)]
        yield replace(one, parties=PartyRequirements(tuple(given), approved))


def _columns(subject: str, table: Table, definition: TableDefinition) -> Iterator[Finding]:
    for name in table.written():
        column = definition.columns.get(name)
        if column is not None and not column.creatable and not column.updatable:
            yield Finding(
                subject, Level.PROBLEM, f"column {name} can't be written: take it out of the mapping"
            )
    for field, name, values in _options(table):
        column = definition.columns.get(name)
        if column is None or not column.options:
            continue
        unknown = sorted(label for label, value in values.items() if value not in column.options)
        if unknown:
            yield Finding(
                subject,
                Level.PROBLEM,
                f"column {name} has no such option as {', '.join(unknown)} of {field} have: correct"
                " the values in the mapping",
            )


def _options(table: Table) -> Iterator[tuple[str, str, Mapping[str, int | bool]]]:
    """The field or column, the column, and the values by label of each choice."""
    if isinstance(table, KindTable):
        yield from ((field, option.column, option.values) for field, option in table.options.items())
    elif isinstance(table, DeclaredTable):
        yield from ((name, name, values) for name, values in table.options.items())


def _markers(subject: str, table: Table, definition: TableDefinition) -> Iterator[Finding]:
    if table.marker is None and not table.replaces_rows():
        yield Finding(subject, Level.WARNING, "it has no marker: a lost reply proves less, see decision 7")
    # Of one column for both ids, the mapping says how long it must be, and the gate looks.
    for name in table.marker_columns() if table.marker and table.marker.operation else ():
        column = definition.columns.get(name)
        if column is not None and column.type not in {"String", "Memo"}:
            yield Finding(subject, Level.PROBLEM, f"marker column {name} is no text: name another")
        elif column is not None and column.max_length is not None and column.max_length < _LONGEST_ID:
            yield Finding(
                subject,
                Level.WARNING,
                f"marker column {name} holds {column.max_length} characters: ids have up to {_LONGEST_ID}",
            )


def _required(subject: str, table: Table, definition: TableDefinition) -> Iterator[Finding]:
    """What every new row needs, and the mapping can't give it."""
    columns = dict.fromkeys(table.written(), "x")
    columns |= {name: row_reference("x", _NO_ROW) for name in table.lookups_by_bind()}
    whole = WriteRequirements("", table.entity_set, table.key, columns)
    approved = table.approved_parties()
    roles = {*approved.rows, *approved.addresses} if approved else set()
    for name in missing_columns(whole, definition):
        if definition.columns[name].type != PARTY_LIST:
            yield Finding(subject, Level.WARNING, f"column {name} requires a value, and the mapping has none")
        elif COLUMNS.get(name) not in roles:
            text = f"column {name} requires a party, and the mapping has none of its role"
            yield Finding(subject, Level.WARNING, text)
