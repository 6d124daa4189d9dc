"""The sections of a named kind in a draft of a mapping.

A kind gets the fields of the default mapping whose columns are there, with the labels of the live
options, and as comments the custom columns that may stand in for those that are not there.
"""

import json
from collections.abc import Iterator, Mapping

from writeahead.adapters.dataverse.mapping.tables import KindTable, OptionSet
from writeahead.adapters.dataverse.readiness.draft_columns import candidate_lines, plain_columns
from writeahead.adapters.dataverse.readiness.draft_markers import marker
from writeahead.adapters.dataverse.readiness.draft_names import labelled, required_fields
from writeahead.adapters.dataverse.readiness.draft_toml import toml_inline, toml_list, toml_text
from writeahead.adapters.dataverse.readiness.metadata import ColumnDefinition, TableDefinition
from writeahead.adapters.dataverse.readiness.owners import OWNER_TABLES
from writeahead.adapters.dataverse.readiness.parties import PartyTable

__all__ = ["kind_parties", "kind_section"]

_NOT_THERE = "# Not there yet: {}. Add it, or name another one here: without it this can't be read."


def kind_section(
    kind: str, default: KindTable, info: TableDefinition, targets: Mapping[str, str]
) -> Iterator[str]:
    """The table of a kind, its columns, options and lookups, and what completes a row.

    Args:
        kind: Its name.
        default: The kind in the default mapping.
        info: The definition of the table that it writes.
        targets: The entity set of each table that is known, by logical name.
    """
    yield f"[kinds.{kind}]"
    yield f"entity_set = {toml_text(info.entity_set)}"
    yield f"key = {toml_text(info.key)}"
    yield from marker(info, default)
    if default.guarded:
        guarded = [name for name in default.guarded if name in info.columns]
        yield "# What a user may decide while a session is under way; that edit wins."
        yield f"guarded = {toml_list(guarded or ['statecode'])}"
    elif "ownerid" in info.columns:
        yield '# owner_from = "regarding"  a new row that names no owner belongs to the owner of that row'
    yield "# shorten = [...]  fields whose texts may be cut to what their columns hold"
    yield ""
    yield f"[kinds.{kind}.columns]"
    needed = required_fields(kind)
    for field, column in default.columns.items():
        there = column in info.columns
        if not there and field in needed:
            yield _NOT_THERE.format(column)
        is_written = there or field in needed
        yield f"{field} = {toml_text(column)}" if is_written else f"# {field}: there is no column {column}"
    for field, option in default.options.items():
        yield ""
        live = info.columns.get(option.column)
        if field in needed and (live is None or not live.options):
            yield _NOT_THERE.format(option.column)
            live = ColumnDefinition("Picklist", True, True, "None", options=_numbers(option))
        yield from _options(f"kinds.{kind}.options.{field}", field, option, live)
    mapped = {*default.columns.values(), *(option.column for option in default.options.values())}
    if mapped - info.columns.keys():
        # The name of a column that a customization has added has its publisher's prefix.
        yield from candidate_lines(
            {
                name: column
                for name, column in plain_columns(info).items()
                if "_" in name and name not in mapped
            }
        )
    yield from _completion(f"kinds.{kind}.completion", default, info)
    for field, types in default.lookups.items():
        lookups = [
            f"{name} = {{ navigation = {toml_text(lookup.navigation)}, "
            f"entity_set = {toml_text(lookup.entity_set)} }}"
            for name, lookup in types.items()
            if _points(info, lookup.navigation, lookup.entity_set, targets)
        ]
        if lookups:
            yield ""
            yield f"[kinds.{kind}.lookups.{field}]"
            yield from lookups


def kind_parties(
    kind: str, default: KindTable, found: PartyTable | None, targets: Mapping[str, str]
) -> Iterator[str]:
    """The fields of a kind that are parties, as by default where there are such roles."""
    parties = default.parties
    if parties is None or found is None:
        return
    yield from ("", f"[kinds.{kind}.parties]", f"navigation = {toml_text(found.collection)}")
    there = {(targets.get(target), navigation) for target, navigation in found.targets.items()}
    for field, party in parties.by_field().items():
        types = {
            name: item.entity_set
            for name, item in party.types.items()
            if (item.entity_set, item.navigation) in there
        }
        if party.role in found.roles:
            yield from ("", f"[kinds.{kind}.parties.{field}]", f"role = {toml_text(party.role)}")
            shown = ", ".join(f"{name} = {toml_text(entity_set)}" for name, entity_set in types.items())
            yield f"types = {{ {shown} }}"
            yield f"unresolved = {json.dumps(party.unresolved)}"


def _options(section: str, field: str, default: OptionSet, column: ColumnDefinition | None) -> Iterator[str]:
    if column is None or not column.options:
        yield f"# {field}: there is no choice column {default.column}"
        return
    # Labels that the fields of a kind fix stay, where their values are what they are by default.
    is_default = set(default.values.values()) <= set(column.options)
    values = dict(default.values) if is_default else labelled(column.options)
    yield f"[{section}]"
    yield f"column = {toml_text(default.column)}"
    yield f"values = {toml_inline(values)}"


def _numbers(option: OptionSet) -> dict[int | bool, str]:
    return {value: label for label, value in option.values.items()}


def _completion(section: str, default: KindTable, info: TableDefinition) -> Iterator[str]:
    """What closes a row, as by default where these values are there."""
    if default.completion is None:
        return
    found = {}
    for name, values in (("state", default.completion.state), ("status", default.completion.status)):
        column = info.columns.get(f"{name}code")
        options = set(column.options) if column else set()
        found[name] = {label: value for label, value in values.items() if value in options}
    if found["state"]:
        yield ""
        yield f"[{section}]"
        yield from (f"{name} = {toml_inline(values)}" for name, values in found.items() if values)


def _points(info: TableDefinition, navigation: str, entity_set: str, targets: Mapping[str, str]) -> bool:
    if entity_set in OWNER_TABLES.values() and navigation == "ownerid":
        return "ownerid" in info.columns
    return any(
        item.navigation == navigation and targets.get(item.target) == entity_set for item in info.relations
    )
