"""Writing a mapping file from what an environment has: a first draft, to be cut down.

The named kinds get the fields of the default mapping whose columns are there, with the labels of
the live options. Other tables get every column that may be written; what is left in the file is
what may be written.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from writeahead.adapters.dataverse.mapping.mapping_file import load_mapping
from writeahead.adapters.dataverse.mapping.tables import KindTable, OptionSet
from writeahead.adapters.dataverse.readiness.metadata import (
    ColumnDefinition,
    TableDefinition,
    entity_sets,
    read_tables,
)
from writeahead.adapters.dataverse.readiness.owners import OWNER_TABLES
from writeahead.adapters.dataverse.webapi.client import DataverseClient
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
    "MultiSelectPicklist",
}
_MARKS = (re.compile(r".+_(last)?session(id)?"), re.compile(r".+_(last)?operation(id)?"))
_LEAST_MARK = 128


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
    found = read_tables(client, dict.fromkeys(sets.values()))
    infos = {logical: found[entity_set] for logical, entity_set in sets.items()}
    pointed_at = {item.target for info in infos.values() for item in info.relations} - {"owner"}
    targets = {**entity_sets(client, pointed_at), **OWNER_TABLES}
    lines = [*_HEAD]
    for kind, logical in kinds.items():
        lines += ["", *_kind(kind, known[kind], infos[logical], targets)]
    for logical in tables:
        lines += ["", *_table(infos[logical], targets)]
    return "\n".join(lines) + "\n"


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
    for field, column in default.columns.items():
        there = column in info.columns
        yield f"{field} = {_text(column)}" if there else f"# {field}: there is no column {column}"
    for field, option in default.options.items():
        yield ""
        yield from _options(f"kinds.{kind}.options.{field}", field, option, info.columns.get(option.column))
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


def _options(section: str, field: str, default: OptionSet, column: ColumnDefinition | None) -> Iterator[str]:
    if column is None or not column.options:
        yield f"# {field}: there is no choice column {default.column}"
        return
    # Labels that the fields of a kind fix stay, where their values are what they are by default.
    is_default = set(default.values.values()) <= set(column.options)
    values = dict(default.values) if is_default else _labelled(column.options)
    yield f"[{section}]"
    yield f"column = {_text(default.column)}"
    yield f"values = {_inline(values)}"


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
        yield from (f"{name} = {_inline(values)}" for name, values in found.items() if values)


def _labelled(options: Mapping[int | bool, str]) -> dict[str, int | bool]:
    """A label that can be a key of the file for each option."""
    found: dict[str, int | bool] = {}
    for value, label in options.items():
        slug = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")[:50]
        if not re.match(r"[a-z]", slug):
            slug = f"option_{slug}".rstrip("_")
        found[slug if slug not in found else f"{slug}_{int(value)}"] = value
    return found


def _table(info: TableDefinition, targets: Mapping[str, str]) -> Iterator[str]:
    yield f"[tables.{info.logical_name}]"
    yield f"entity_set = {_text(info.entity_set)}"
    yield f"key = {_text(info.key)}"
    yield from _marker(info, None)
    yield "columns = ["
    for name, column in sorted(info.columns.items()):
        if _is_plain(name, column, info):
            yield f"  {_text(name)},  # {_described(column)}"
    yield "]"
    keys = [sorted(key.columns) for key in info.keys if key.status == "Active"]
    if keys:
        yield f"alternate_keys = [{', '.join(map(_list, keys))}]"
    if "ownerid" in info.columns:
        yield "# owner_from = ...  a lookup: a new row that names no owner belongs to the owner of that row"
    yield "# shorten = [...]  columns whose texts may be cut to what they hold"
    lookups = dict(_lookups(info, targets))
    if lookups:
        yield ""
        yield f"[tables.{info.logical_name}.lookups]"
        yield from (
            f"{navigation} = {{ entity_sets = {_list(found)}, column = {_text(column)} }}"
            for navigation, (column, found) in lookups.items()
        )


def _is_plain(name: str, column: ColumnDefinition, info: TableDefinition) -> bool:
    marks = _marker_columns(info) or ()
    is_free = name != info.key and name not in _PLATFORM and name not in marks
    return is_free and column.type in _PLAIN and (column.creatable or column.updatable)


def _described(column: ColumnDefinition) -> str:
    said = [column.type]
    said += [f"at most {column.max_length} characters"] if column.max_length else []
    said += [f"{len(column.options)} options"] if column.options else []
    said += [column.required] if column.required != "None" else []
    return ", ".join(said)


def _lookups(
    info: TableDefinition, targets: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, list[str]]]]:
    """Yield each navigation property with its column and the entity sets it may point to."""
    columns: dict[str, str] = {}
    found: dict[str, set[str]] = {}
    for relation in info.relations:
        column = info.columns.get(relation.column)
        if column is None or not (column.creatable or column.updatable):
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
    """The two columns that mark our rows: the default mapping's, or two that look like them."""
    names = default.marker.columns if default is not None and default.marker is not None else []
    if not names or not all(name in info.columns for name in names):
        names = list(_marker_columns(info) or names)
    if names:
        absent = [name for name in names if name not in info.columns]
        if absent:
            yield f"# Not there yet: {', '.join(absent)}. Add them: texts of 128 and 200 characters."
        yield f"marker = {{ session = {_text(names[0])}, operation = {_text(names[1])} }}"
    else:
        yield "# marker = { session = ..., operation = ... }  two text columns that tell our rows"


def _marker_columns(info: TableDefinition) -> tuple[str, str] | None:
    found = []
    for pattern in _MARKS:
        names = [
            name
            for name, column in sorted(info.columns.items())
            if pattern.fullmatch(name) and column.type == "String" and (column.max_length or 0) >= _LEAST_MARK
        ]
        found += names[:1]
    return (found[0], found[1]) if len(found) == len(_MARKS) else None


def _inline(values: Mapping[str, int | bool]) -> str:
    return f"{{ {', '.join(f'{label} = {json.dumps(value)}' for label, value in values.items())} }}"


def _list(names: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, names))}]"


def _text(value: str) -> str:
    # TOML's basic strings take what JSON's take.
    return json.dumps(value, ensure_ascii=False)
