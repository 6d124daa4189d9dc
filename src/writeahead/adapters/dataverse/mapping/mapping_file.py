"""The mapping file: TOML that names every column that may be written. No other column is.

[kinds.task]
entity_set = "tasks"                # in the URL
key = "activityid"                  # the primary key column
# two text columns of 128 characters, that say which operation wrote the row last
marker = { session = "wa_sessionid", operation = "wa_operationid" }
owner_from = "regarding"            # who owns that row owns a new one that names no owner
shorten = ["subject"]               # cut where it is longer than its column

[kinds.task.columns]                # field = column
subject = "subject"

[kinds.task.options.reason_code]    # field = option-set column, and the value of each label
column = "wa_reasoncode"
values = { low_confidence = 100000000 }

[kinds.task.lookups.regarding.contact]   # field and type of the row it points to
navigation = "regardingobjectid_contact_task"
entity_set = "contacts"

[kinds.queue_status_update]
guarded = ["wa_status"]             # another user's edit of one is a conflict

[tables.contact]                    # a declared table, for create_row, update_row and upsert_row
entity_set = "contacts"
key = "contactid"
columns = ["lastname", "telephone1"]
"""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from writeahead.adapters.dataverse.mapping.approval import APPROVAL_KEYS, approval_of
from writeahead.adapters.dataverse.mapping.elastic import elastic_setting_problem
from writeahead.adapters.dataverse.mapping.free_texts import shorten_problem
from writeahead.adapters.dataverse.mapping.mapping import NOT_COLUMNS, TableMapping
from writeahead.adapters.dataverse.mapping.owner_from import owner_from_problem
from writeahead.adapters.dataverse.mapping.payloads import INPUTS
from writeahead.adapters.dataverse.mapping.tables import DeclaredTable, DefaultOwner, KindTable, Table
from writeahead.adapters.dataverse.webapi.names import NAME
from writeahead.errors import InvalidInput

__all__ = ["load_mapping"]

_DEFAULT = "default_mapping.toml"
_GUARDING = "queue_status_update"


def load_mapping(path: str | Path | None = None) -> TableMapping:
    """Read a mapping file, or the default one, and check it.

    Args:
        path: The file; None for the one that comes with the package.

    Raises:
        InvalidInput: It can't be read, is no TOML, lacks something or has something unknown; the
            message names file, table and field.
    """
    name = _DEFAULT if path is None else str(path)
    try:
        if path is None:
            text = resources.files("writeahead.adapters.dataverse").joinpath(_DEFAULT).read_text("utf-8")
        else:
            text = Path(path).read_text("utf-8-sig")
        content = tomllib.loads(text)
    except OSError as error:
        raise InvalidInput(f"mapping {name}: {error.strerror or type(error).__name__}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise InvalidInput(f"mapping {name} is not TOML: {error}") from None
    except RecursionError:
        raise InvalidInput(f"mapping {name}: nested too deeply") from None
    unknown = sorted(set(content) - {"kinds", "tables", "default_owner", "unknown_columns", *APPROVAL_KEYS})
    if unknown or not content:
        what = f" has {unknown[0]!r}:" if unknown else ""
        raise InvalidInput(
            f"mapping {name}:{what} it must hold tables [kinds.<kind>] and [tables.<name>], perhaps"
            " [default_owner], unknown_columns and the keys of an approval, and nothing else"
        )
    owner = content.get("default_owner")
    unknown_columns = content.get("unknown_columns", "refuse")
    if unknown_columns not in ("refuse", "drop"):
        raise InvalidInput(f'mapping {name}: unknown_columns must be "refuse" or "drop"')
    return TableMapping(
        name,
        _kinds(name, _section(name, content, "kinds")),
        _declared(name, _section(name, content, "tables")),
        None if owner is None else _model(name, "default_owner", DefaultOwner, owner),
        approval=approval_of(name, content),
        unknown_columns=unknown_columns,
    )


def _section(name: str, content: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    found = content.get(section, {})
    if not isinstance(found, Mapping):
        raise InvalidInput(f"mapping {name}: {section} must hold tables [{section}.<name>]")
    return found


def _kinds(name: str, found: Mapping[str, Any]) -> dict[str, KindTable]:
    kinds = {}
    for kind, content in found.items():
        if kind not in INPUTS:
            raise InvalidInput(f"mapping {name}: [kinds.{kind}] is no kind; there are {', '.join(INPUTS)}")
        kinds[kind] = _model(name, f"kinds.{kind}", KindTable, content)
        if kinds[kind].marker is None:
            raise InvalidInput(f"mapping {name}: [kinds.{kind}] marker: Field required")
        _check_kind(name, kind, kinds[kind])
    return kinds


def _declared(name: str, found: Mapping[str, Any]) -> dict[str, DeclaredTable]:
    tables = {}
    for table_name, content in found.items():
        if not NAME.fullmatch(table_name):
            raise InvalidInput(f"mapping {name}: [tables.<name>] must be named by a-z, 0-9 and _")
        table = _model(name, f"tables.{table_name}", DeclaredTable, content)
        tables[table_name] = table
        where = f"tables.{table_name}"
        _require_one_place(name, where, table)
        _require_unique(name, where, "column", [table.key, *table.written()])
        _require_findable(name, where, table)
        _require_unwatched(name, where, table)
        problem = elastic_setting_problem(table)
        if problem:
            raise InvalidInput(f"mapping {name}: [{where}] {problem}")
        known = {*table.columns, *table.options, *(item.column for item in table.lookups.values())}
        for what, columns in (("preserve", table.preserve), ("phones", table.phones)):
            for column in columns:
                if column not in known:
                    raise InvalidInput(
                        f"mapping {name}: [{where}] {what} has {column!r}, which is neither in columns nor"
                        " the column of a lookup"
                    )
        _require_usable(name, where, table, kind=None)
    return tables


_M = TypeVar("_M", bound=BaseModel)


def _model(name: str, where: str, model: type[_M], content: object) -> _M:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_located(where, item) for item in error.errors(include_url=False))
        raise InvalidInput(f"mapping {name}: {problems}") from None


def _located(where: str, item: Mapping[str, Any]) -> str:
    *tables, field = map(str, item["loc"]) if item["loc"] else [""]
    return f"[{'.'.join([where, *tables])}] {field}: {item['msg']}"


def _check_kind(name: str, kind: str, table: KindTable) -> None:
    fields = INPUTS[kind].model_fields
    known = set(fields) - NOT_COLUMNS
    needed = {field for field in known if fields[field].is_required()}
    mapped = table.fields()
    for field in sorted(needed - {*table.columns, *table.options}):
        raise InvalidInput(f"mapping {name}: [kinds.{kind}.columns] lacks {field!r}, which every {kind} has")
    for field in mapped:
        if field not in known:
            raise InvalidInput(
                f"mapping {name}: [kinds.{kind}] maps {field!r}, which is no field of it; there are"
                f" {', '.join(sorted(known))}"
            )
    _require_unique(name, f"kinds.{kind}", "field", mapped)
    _require_unique(name, f"kinds.{kind}", "column", [table.key, *table.written()])
    _require_findable(name, f"kinds.{kind}", table)
    _require_unwatched(name, f"kinds.{kind}", table)
    if table.find_by and kind == _GUARDING:
        raise InvalidInput(f"mapping {name}: [kinds.{kind}] creates no rows: leave find_by out")
    if bool(table.guarded) != (kind == _GUARDING):
        must = "needs guarded, a list of columns" if kind == _GUARDING else "creates rows: leave guarded out"
        raise InvalidInput(f"mapping {name}: [kinds.{kind}] {must}")
    _require_usable(name, f"kinds.{kind}", table, kind=kind)


def _require_usable(name: str, where: str, table: Table, kind: str | None) -> None:
    """Require that ``owner_from`` and ``shorten`` name fields and columns that the mapping has."""
    problem = owner_from_problem(table) or shorten_problem(kind, table)
    if problem:
        raise InvalidInput(f"mapping {name}: [{where}] {problem}")


def _require_unwatched(name: str, where: str, table: Table) -> None:
    """Require that the column for warnings is not watched: the session writes it itself."""
    watched = {*table.guarded, *table.preserve} & {*table.own_columns()} - {*table.marker_columns()}
    if watched:
        raise InvalidInput(
            f"mapping {name}: [{where}] warnings_to is {watched.pop()!r}, which is guarded or preserved, too:"
            " take it out there"
        )


def _require_findable(name: str, where: str, table: Table) -> None:
    """Require that rows are found only by what a create writes."""
    lookups = (lookup.column for several in table.lookups_by_bind().values() for lookup in several)
    known = {*table.written(), *(f"_{column}_value" for column in lookups if column)}
    for column in table.find_by:
        if column not in known - {*table.own_columns()}:
            raise InvalidInput(
                f"mapping {name}: [{where}] find_by has {column!r}, which no create writes: name mapped"
                " columns of the table, and the column of a lookup as _<column>_value"
            )
    _require_unique(name, where, "find_by", list(table.find_by))


def _require_one_place(name: str, where: str, table: DeclaredTable) -> None:
    twice = sorted(set(table.columns) & set(table.options))
    if twice:
        raise InvalidInput(
            f"mapping {name}: [{where}] has column {twice[0]!r} twice: what is in options may be written, so"
            " take it out of columns"
        )


def _require_unique(name: str, where: str, what: str, names: list[str]) -> None:
    twice = sorted({item for item in names if names.count(item) > 1})
    if twice:
        raise InvalidInput(f"mapping {name}: [{where}] has {what} {twice[0]!r} twice")
