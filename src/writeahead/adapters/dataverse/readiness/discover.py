"""Writing a mapping file from what an environment has: a first draft, to be cut down.

Tables get every column that may be written; what is left in the file is what may be written. The
sections of named kinds are in `writeahead.adapters.dataverse.readiness.draft_kinds`.
"""

from collections.abc import Iterator, Mapping, Sequence

from writeahead.adapters.dataverse.mapping.mapping_file import load_mapping
from writeahead.adapters.dataverse.readiness.draft_columns import (
    alternate_keys,
    column_line,
    label_lines,
    plain_columns,
)
from writeahead.adapters.dataverse.readiness.draft_kinds import kind_parties, kind_section
from writeahead.adapters.dataverse.readiness.draft_markers import marker
from writeahead.adapters.dataverse.readiness.draft_names import comment, known_names, unusable
from writeahead.adapters.dataverse.readiness.draft_toml import toml_list, toml_text
from writeahead.adapters.dataverse.readiness.metadata import (
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
    "# and nothing else ever is. The format is described in docs/dataverse-mapping.md.",
)


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
        lines += ["", *kind_section(kind, known[kind], infos[logical], targets)]
        lines += kind_parties(kind, known[kind], PartyTable.of(infos[logical], party), targets)
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


def _parties(logical: str, found: PartyTable | None, targets: Mapping[str, str]) -> Iterator[str]:
    """Who may take part in the rows of a table, if they are activities with roles."""
    if found is None:
        return
    tables = ", ".join(
        f"{{ entity_set = {toml_text(targets[target])}, navigation = {toml_text(navigation)} }}"
        for target, navigation in sorted(found.targets.items())
        if target in targets
    )
    yield from ("", f"[tables.{logical}.parties]", f"navigation = {toml_text(found.collection)}")
    yield from (f"{role} = [{tables}]" for role in found.roles)
    yield "# unresolved = [...]  the roles in which an address will do"


def _table(info: TableDefinition, targets: Mapping[str, str]) -> Iterator[str]:
    yield f"[tables.{info.logical_name}]"
    yield f"entity_set = {toml_text(info.entity_set)}"
    yield f"key = {toml_text(info.key)}"
    yield from marker(info, None)
    if info.table_type == ELASTIC:
        yield "# upsert_row replaces whole rows here, and nothing else is possible: see docs/dataverse.md."
        yield "elastic = true"
    columns = plain_columns(info)
    yield "columns = ["
    yield from (column_line(name, column) for name, column in columns.items())
    yield "]"
    keys, unusable_keys = alternate_keys(info)
    yield from (
        f"# The key of {comment(', '.join(names))} is left out: see docs/dataverse.md."
        for names in unusable_keys
    )
    if keys:
        yield f"alternate_keys = [{', '.join(map(toml_list, keys))}]"
        yield f"# find_by = {toml_list(keys[0])}  a row that is there with these values counts as created"
    if "ownerid" in info.columns:
        yield "# owner_from = ...  a lookup: a new row that names no owner belongs to the owner of that row"
    yield "# shorten = [...]  columns whose texts may be cut to what they hold"
    yield from label_lines(f"tables.{info.logical_name}", columns)
    lookups = dict(_lookups(info, targets))
    if lookups:
        yield ""
        yield f"[tables.{info.logical_name}.lookups]"
        yield from (
            f"{navigation} = {{ entity_sets = {toml_list(found)}, column = {toml_text(column)} }}"
            for navigation, (column, found) in lookups.items()
        )


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
