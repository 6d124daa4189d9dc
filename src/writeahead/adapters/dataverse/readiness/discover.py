"""Writing a mapping file from what an environment has: a first draft, to be cut down.

The named kinds get the fields of the default mapping whose columns are there, with the labels of
the live options, and as comments the custom columns that may stand in for those that are not there.
Other tables get every column that may be written; what is left in the file is what may be written.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from writeahead.adapters.dataverse.mapping.mapping_file import load_mapping
from writeahead.adapters.dataverse.mapping.tables import KindTable, OptionSet
from writeahead.adapters.dataverse.readiness.draft_columns import (
    MULTI_SELECT,
    alternate_keys,
    candidate_lines,
    column_line,
    inline,
    label_lines,
)
from writeahead.adapters.dataverse.readiness.draft_names import (
    comment,
    known_names,
    labelled,
    required_fields,
    unusable,
)
from writeahead.adapters.dataverse.readiness.metadata import (
    ColumnDefinition,
    TableDefinition,
    entity_sets,
    read_tables,
)
from writeahead.adapters.dataverse.readiness.owners import OWNER_TABLES
from writeahead.adapters.dataverse.readiness.parties import ACTIVITY_PARTIES, PartyTable
from writeahead.adapters.dataverse.readiness.table_types import ELASTIC
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.names import ENTITY_SET
from writeahead.errors import InvalidInput

__all__ = ["discover"]

_HEAD = (
    "# Written from the table definitions of an environment. Cut it down: what stands here may be written,",
    "# and nothing else ever is. The format is described in docs/dataverse.md.",
)
# Not a column to write: the platform's own, and what a state change of its own is for.
_PLATFORM = {
    "statecode",
    "statuscode",
    "importsequencenumber",
    "overriddencreatedon",
    "timezoneruleversionnumber",
}
_PLAIN = {
    "String",
    "Memo",
    "Integer",
    "BigInt",
    "Decimal",
    "Double",
    "Money",
    "Boolean",
    "DateTime",
    "Picklist",
    MULTI_SELECT,
}
_NOT_THERE = "# Not there yet: {}. Add it, or name another one here: without it this can't be read."
_MARKS = (re.compile(r".+_(last)?session(id)?"), re.compile(r".+_(last)?operation(id)?"))
_LEAST_MARK = 128
# One column for both ids: what `Marker.length` takes, and two ids of 128 characters.
_LEAST_FOR_BOTH, _LONGEST_MARK = 40, 257


def discover(client: DataverseClient, kinds: Mapping[str, str], tables: Sequence[str]) -> str:
    """Write a mapping.

    Args:
        client: Of the environment.
        kinds: Named kinds of operation, and the logical name of the table that each writes.
        tables: Logical names of further tables, for ``create_row``, ``update_row`` and
            ``upsert_row``.

    Returns:
        The text of a file that `load_mapping` reads.

    Raises:
        InvalidInput: Nothing was asked for, a kind is unknown, or a table is not there.
        TransientDataverseError, PermanentDataverseError, NotReady: as their names say.
    """
    known = load_mapping(None).kinds
    for kind in kinds:
        if kind not in known:
            raise InvalidInput(f"--kind {kind}: there is no such kind; there are {', '.join(sorted(known))}")
    wanted = [*kinds.values(), *tables]
    if not wanted:
        raise InvalidInput("name a table: --kind task=task, or --table account")
    sets = entity_sets(client, set(wanted))
    missing = sorted(set(wanted) - set(sets))
    if missing:
        raise InvalidInput(f"the environment has no table {', '.join(missing)}: logical names are singular")
    infos, party = _infos(client, sets)
    pointing = [*infos.values(), *([party] if party is not None else [])]
    pointed_at = {item.target for info in pointing for item in info.relations} - {"owner"}
    known_sets = entity_sets(client, known_names(pointed_at))
    targets = {name: found for name, found in known_sets.items() if ENTITY_SET.fullmatch(found)}
    targets |= OWNER_TABLES
    lines = [*_HEAD]
    for kind, logical in kinds.items():
        lines += ["", *_kind(kind, known[kind], infos[logical], targets)]
        lines += _kind_parties(kind, known[kind], PartyTable.of(infos[logical], party), targets)
    for logical in dict.fromkeys(tables):
        lines += ["", *_table(infos[logical], targets)]
        lines += _parties(logical, PartyTable.of(infos[logical], party), targets)
    return "\n".join(lines) + "\n"


def _infos(
    client: DataverseClient, sets: Mapping[str, str]
) -> tuple[dict[str, TableDefinition], TableDefinition | None]:
    """Read the tables that were asked for, by logical name, and that of parties."""
    problems = [
        f"table {name} can be in no mapping: {problem}"
        for name, entity_set in sorted(sets.items())
        if (problem := unusable(entity_set, "key"))
    ]
    if problems:
        raise InvalidInput("; ".join(problems))
    found = read_tables(client, {**dict.fromkeys(sets.values()), ACTIVITY_PARTIES: ()})
    infos = {name: found[entity_set] for name, entity_set in sets.items()}
    problems = [
        f"table {name} can be in no mapping: {problem}"
        for name, info in sorted(infos.items())
        if (problem := unusable(info.entity_set, info.key))
    ]
    if problems:
        raise InvalidInput("; ".join(problems))
    return infos, found.get(ACTIVITY_PARTIES)


def _kind(kind: str, default: KindTable, info: TableDefinition, targets: Mapping[str, str]) -> Iterator[str]:
    yield f"[kinds.{kind}]"
    yield f"entity_set = {_text(info.entity_set)}"
    yield f"key = {_text(info.key)}"
    yield from _marker(info, default)
    if default.guarded:
        guarded = [name for name in default.guarded if name in info.columns]
        yield "# What a user may decide while a session is under way; that edit wins."
        yield f"guarded = {_list(guarded or ['statecode'])}"
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
        yield f"{field} = {_text(column)}" if is_written else f"# {field}: there is no column {column}"
    for field, option in default.options.items():
        yield ""
        live = info.columns.get(option.column)
        if field in needed and (live is None or not live.options):
            yield _NOT_THERE.format(option.column)
            live = ColumnDefinition("Picklist", True, True, "None", options=_numbers(option))
        yield from _options(f"kinds.{kind}.options.{field}", field, option, live)
    mapped = {*default.columns.values(), *(option.column for option in default.options.values())}
    if mapped - info.columns.keys():
        # A column that a customization has added is told by its publisher's prefix.
        yield from candidate_lines(
            {name: column for name, column in _plain(info).items() if "_" in name and name not in mapped}
        )
    yield from _completion(f"kinds.{kind}.completion", default, info)
    for field, types in default.lookups.items():
        lookups = [
            f"{name} = {{ navigation = {_text(lookup.navigation)}, entity_set = {_text(lookup.entity_set)} }}"
            for name, lookup in types.items()
            if _points(info, lookup.navigation, lookup.entity_set, targets)
        ]
        if lookups:
            yield ""
            yield f"[kinds.{kind}.lookups.{field}]"
            yield from lookups


def _kind_parties(
    kind: str, default: KindTable, found: PartyTable | None, targets: Mapping[str, str]
) -> Iterator[str]:
    """The fields of a kind that are parties, as by default where there are such roles."""
    parties = default.parties
    if parties is None or found is None:
        return
    yield from ("", f"[kinds.{kind}.parties]", f"navigation = {_text(found.collection)}")
    there = {(targets.get(target), navigation) for target, navigation in found.targets.items()}
    for field, party in parties.by_field().items():
        types = {
            name: item.entity_set
            for name, item in party.types.items()
            if (item.entity_set, item.navigation) in there
        }
        if party.role in found.roles:
            yield from ("", f"[kinds.{kind}.parties.{field}]", f"role = {_text(party.role)}")
            shown = ", ".join(f"{name} = {_text(entity_set)}" for name, entity_set in types.items())
            yield f"types = {{ {shown} }}"
            yield f"unresolved = {json.dumps(party.unresolved)}"


def _parties(logical: str, found: PartyTable | None, targets: Mapping[str, str]) -> Iterator[str]:
    """Who may take part in the rows of a table, if they are activities with roles."""
    if found is None:
        return
    tables = ", ".join(
        f"{{ entity_set = {_text(targets[target])}, navigation = {_text(navigation)} }}"
        for target, navigation in sorted(found.targets.items())
        if target in targets
    )
    yield from ("", f"[tables.{logical}.parties]", f"navigation = {_text(found.collection)}")
    yield from (f"{role} = [{tables}]" for role in found.roles)
    yield "# unresolved = [...]  the roles in which an address will do"


def _options(section: str, field: str, default: OptionSet, column: ColumnDefinition | None) -> Iterator[str]:
    if column is None or not column.options:
        yield f"# {field}: there is no choice column {default.column}"
        return
    # Labels that the fields of a kind fix stay, where their values are what they are by default.
    is_default = set(default.values.values()) <= set(column.options)
    values = dict(default.values) if is_default else labelled(column.options)
    yield f"[{section}]"
    yield f"column = {_text(default.column)}"
    yield f"values = {inline(values)}"


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
        yield from (f"{name} = {inline(values)}" for name, values in found.items() if values)


def _table(info: TableDefinition, targets: Mapping[str, str]) -> Iterator[str]:
    yield f"[tables.{info.logical_name}]"
    yield f"entity_set = {_text(info.entity_set)}"
    yield f"key = {_text(info.key)}"
    yield from _marker(info, None)
    if info.table_type == ELASTIC:
        yield "# upsert_row replaces whole rows here, and nothing else is possible: see docs/dataverse.md."
        yield "elastic = true"
    columns = _plain(info)
    yield "columns = ["
    yield from (column_line(name, column) for name, column in columns.items())
    yield "]"
    keys, unusable_keys = alternate_keys(info)
    yield from (
        f"# The key of {comment(', '.join(names))} is left out: see docs/dataverse.md."
        for names in unusable_keys
    )
    if keys:
        yield f"alternate_keys = [{', '.join(map(_list, keys))}]"
        yield f"# find_by = {_list(keys[0])}  a row that is there with these values counts as created"
    if "ownerid" in info.columns:
        yield "# owner_from = ...  a lookup: a new row that names no owner belongs to the owner of that row"
    yield "# shorten = [...]  columns whose texts may be cut to what they hold"
    yield from label_lines(f"tables.{info.logical_name}", columns)
    lookups = dict(_lookups(info, targets))
    if lookups:
        yield ""
        yield f"[tables.{info.logical_name}.lookups]"
        yield from (
            f"{navigation} = {{ entity_sets = {_list(found)}, column = {_text(column)} }}"
            for navigation, (column, found) in lookups.items()
        )


def _plain(info: TableDefinition) -> dict[str, ColumnDefinition]:
    return {name: column for name, column in sorted(info.columns.items()) if _is_plain(name, column, info)}


def _is_plain(name: str, column: ColumnDefinition, info: TableDefinition) -> bool:
    marks = _marker_columns(info)
    is_free = name != info.key and name not in _PLATFORM and name not in marks
    return is_free and column.type in _PLAIN and (column.creatable or column.updatable)


def _lookups(
    info: TableDefinition, targets: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    """Yield each navigation property with its column and the entity sets it may point to."""
    columns: dict[str, str] = {}
    found: dict[str, set[str]] = {}
    for relation in info.relations:
        column = info.columns.get(relation.column)
        usable = known_names([relation.column]) and known_names([relation.navigation], navigation=True)
        if column is None or not usable or not (column.creatable or column.updatable):
            continue
        columns[relation.navigation] = relation.column
        if relation.target == "owner":
            found.setdefault(relation.navigation, set()).update(OWNER_TABLES.values())
        elif relation.target in targets:
            found.setdefault(relation.navigation, set()).add(targets[relation.target])
    for navigation, names in sorted(found.items()):
        yield navigation, (columns[navigation], sorted(names))


def _points(info: TableDefinition, navigation: str, entity_set: str, targets: Mapping[str, str]) -> bool:
    if entity_set in OWNER_TABLES.values() and navigation == "ownerid":
        return "ownerid" in info.columns
    return any(
        item.navigation == navigation and targets.get(item.target) == entity_set for item in info.relations
    )


def _marker(info: TableDefinition, default: KindTable | None) -> Iterator[str]:
    """The columns that mark our rows: the default mapping's, or one or two that look like them."""
    names = default.marker.columns if default is not None and default.marker is not None else []
    if not names or not all(name in info.columns for name in names):
        names = _marker_columns(info) or names
    if not names:
        yield "# marker = { session = ..., operation = ... }  one or two text columns that tell our rows"
        return
    absent = [name for name in names if name not in info.columns]
    if absent:
        yield f"# Not there yet: {', '.join(absent)}. Add them: texts of 128 and 200 characters."
        yield "# Or name one text column: { session = ..., length = ... }"
    if len(names) == 1:
        length = min(info.columns[names[0]].max_length or 0, _LONGEST_MARK)
        yield f"marker = {{ session = {_text(names[0])}, length = {length} }}"
    else:
        yield f"marker = {{ session = {_text(names[0])}, operation = {_text(names[1])} }}"


def _marker_columns(info: TableDefinition) -> list[str]:
    """A column for each id; else one for both; none if there is no such column."""
    two = [name for pattern in _MARKS for name in _texts(info, pattern, _LEAST_MARK)[:1]]
    return two if len(two) == len(_MARKS) else _texts(info, _MARKS[0], _LEAST_FOR_BOTH)[:1]


def _texts(info: TableDefinition, pattern: re.Pattern[str], length: int) -> list[str]:
    return [
        name
        for name, column in sorted(info.columns.items())
        if pattern.fullmatch(name) and column.type == "String" and (column.max_length or 0) >= length
    ]


def _list(names: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, names))}]"


def _text(value: str) -> str:
    # TOML's basic strings take what JSON's take.
    return json.dumps(value, ensure_ascii=False)
