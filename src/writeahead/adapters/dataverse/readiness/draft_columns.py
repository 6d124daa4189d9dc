"""How the columns and the alternate keys of a table stand in a draft of a mapping."""

import json

from writeahead.adapters.dataverse.readiness.checks import is_lookup
from writeahead.adapters.dataverse.readiness.draft_names import comment, known_names
from writeahead.adapters.dataverse.readiness.metadata import ColumnDefinition, TableDefinition
from writeahead.adapters.dataverse.readiness.table_types import ELASTIC

__all__ = ["MULTI_SELECT", "alternate_keys", "column_line"]

MULTI_SELECT = "MultiSelectPicklist"


def column_line(name: str, column: ColumnDefinition) -> str:
    """The line of a column and what its definition says; a comment if no mapping takes the name."""
    if known_names([name]):
        return f"  {json.dumps(name)},  # {_described(column)}"
    return f"  # left out, since it is no logical name: {comment(name)}"


def alternate_keys(info: TableDefinition) -> tuple[list[list[str]], list[list[str]]]:
    """The keys that rows can be addressed by, a lookup by the name of its value; then the others.

    An elastic table has none that a mapping takes: see
    `writeahead.adapters.dataverse.mapping.elastic`.
    """
    usable: list[list[str]] = []
    others: list[list[str]] = []
    for key in (sorted(key.columns) for key in info.keys if key.columns and info.table_type != ELASTIC):
        columns = [info.columns.get(name) for name in key]
        has_date = any(column is not None and column.type == "DateTime" for column in columns)
        shown = [f"_{name}_value" if is_lookup(info.columns.get(name)) else name for name in key]
        is_active = any(item.status == "Active" and item.columns == set(key) for item in info.keys)
        (usable if is_active and known_names(key) == key and not has_date else others).append(shown)
    return usable, others


def _described(column: ColumnDefinition) -> str:
    said = [column.type]
    said += [f"at most {column.max_length} characters"] if column.max_length else []
    if column.type == MULTI_SELECT and column.options:
        said.append(f"values of {', '.join(f'{value} {label}' for value, label in column.options.items())}")
    elif column.options:
        said.append(f"{len(column.options)} options")
    said += [column.required] if column.required != "None" else []
    return comment(", ".join(said))
