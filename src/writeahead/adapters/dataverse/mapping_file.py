"""From the caller's words to Dataverse's: a TOML file names every column that may be written; no other is.

[kinds.task]
entity_set = "tasks"                # in the URL
key = "activityid"                  # the primary key column
# two text columns of 128 characters, that say which operation wrote the row last
marker = { session = "wa_sessionid", operation = "wa_operationid" }

[kinds.task.columns]                # field = column
subject = "subject"

[kinds.task.options.reason_code]    # field = option-set column, and the value of each label
column = "wa_reasoncode"
values = { low_confidence = 100000000 }

[kinds.task.lookups.regarding.contact]   # field and type of the row it points to
navigation = "regardingobjectid_contact_task"
entity_set = "contacts"

[kinds.queue_status_update]
guarded = ["wa_status"]             # columns that a concurrent edit of which is a conflict
"""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from writeahead.adapters.dataverse.mapping import NOT_COLUMNS, Table, TableMapping
from writeahead.adapters.dataverse.payloads import INPUTS
from writeahead.errors import InvalidInput

__all__ = ["load_mapping"]

_DEFAULT = "default_mapping.toml"
_GUARDING = "queue_status_update"


def load_mapping(path: str | Path | None = None) -> TableMapping:
    """Read a mapping file, or the default one, and check it.

    Args:
        path: The file; None for the one that comes with the package.

    Raises:
        InvalidInput: It can't be read, is no TOML, lacks something or has something unknown; the message
            names file, table and field.
    """
    name = _DEFAULT if path is None else str(path)
    try:
        if path is None:
            text = resources.files(__package__).joinpath(_DEFAULT).read_text("utf-8")
        else:
            text = Path(path).read_text("utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise InvalidInput(f"mapping {name}: {error.strerror or type(error).__name__}") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise InvalidInput(f"mapping {name} is not TOML: {error}") from None
    return TableMapping(name, _tables(name, content))


def _tables(name: str, content: Mapping[str, Any]) -> dict[str, Table]:
    kinds = content.get("kinds")
    if not isinstance(kinds, Mapping) or set(content) != {"kinds"}:
        raise InvalidInput(f"mapping {name}: it must hold tables [kinds.<kind>], and nothing else")
    tables = {}
    for kind, table in kinds.items():
        if kind not in INPUTS:
            raise InvalidInput(f"mapping {name}: [kinds.{kind}] is no kind; there are {', '.join(INPUTS)}")
        try:
            tables[kind] = Table.model_validate(table)
        except ValidationError as error:
            problems = "; ".join(_located(kind, item) for item in error.errors(include_url=False))
            raise InvalidInput(f"mapping {name}: {problems}") from None
        _check(name, kind, tables[kind])
    return tables


def _located(kind: str, item: Mapping[str, Any]) -> str:
    *tables, field = map(str, item["loc"]) if item["loc"] else [""]
    where = ".".join(["kinds", kind, *tables])
    return f"[{where}] {field}: {item['msg']}"


def _check(name: str, kind: str, table: Table) -> None:
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
    _require_unique(name, kind, "field", mapped)
    _require_unique(name, kind, "column", [table.key, *table.written()])
    if bool(table.guarded) != (kind == _GUARDING):
        must = "needs guarded, a list of columns" if kind == _GUARDING else "creates rows: leave guarded out"
        raise InvalidInput(f"mapping {name}: [kinds.{kind}] {must}")


def _require_unique(name: str, kind: str, what: str, names: list[str]) -> None:
    twice = sorted({item for item in names if names.count(item) > 1})
    if twice:
        raise InvalidInput(f"mapping {name}: [kinds.{kind}] has {what} {twice[0]!r} twice")
