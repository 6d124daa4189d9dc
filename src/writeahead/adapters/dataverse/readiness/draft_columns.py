"""How the columns and the alternate keys of a table stand in a draft of a mapping."""

import json
from collections.abc import Iterator, Mapping

from writeahead.adapters.dataverse.readiness.checks import is_lookup
from writeahead.adapters.dataverse.readiness.draft_markers import marker_columns
from writeahead.adapters.dataverse.readiness.draft_names import comment, known_names, labelled
from writeahead.adapters.dataverse.readiness.draft_toml import toml_inline
from writeahead.adapters.dataverse.readiness.metadata import ColumnDefinition, TableDefinition
from writeahead.adapters.dataverse.readiness.table_types import ELASTIC

__all__ = ["alternate_keys", "candidate_lines", "column_line", "label_lines", "plain_columns"]

_MULTI_SELECT = "MultiSelectPicklist"
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
    _MULTI_SELECT,
}


def plain_columns(info: TableDefinition) -> dict[str, ColumnDefinition]:
    """The columns of a table that are plain values to be written, by name."""
    return {name: column for name, column in sorted(info.columns.items()) if _is_plain(name, column, info)}


def _is_plain(name: str, column: ColumnDefinition, info: TableDefinition) -> bool:
    marks = marker_columns(info)
    is_free = name != info.key and name not in _PLATFORM and name not in marks
    return is_free and column.type in _PLAIN and (column.creatable or column.updatable)


def column_line(name: str, column: ColumnDefinition) -> str:
    """The line of a column and what its definition says; a comment if no mapping takes the name."""
    if known_names([name]):
        return f"  {json.dumps(name)},  # {_described(column)}"
    return f"  # left out, since it is no logical name: {comment(name)}"


def label_lines(section: str, columns: Mapping[str, ColumnDefinition]) -> Iterator[str]:
    """The labels of choice columns, as comments: a column with labels leaves the list."""
    choices = {name: column for name, column in columns.items() if _is_choice(name, column)}
    if choices:
        yield "# Labels of choices. To use some, take the # away, and the column out of columns above."
        yield f"# [{section}.options]"
        yield from (f"# {name} = {toml_inline(labelled(column.options))}" for name, column in choices.items())


def candidate_lines(columns: Mapping[str, ColumnDefinition]) -> Iterator[str]:
    """Columns of one's own, as comments, for fields whose column is not there."""
    if columns:
        yield "# Other columns of this table, for the fields whose column is not there:"
    for name, column in columns.items():
        labels = f", values = {toml_inline(labelled(column.options))}" if _is_choice(name, column) else ""
        yield f"#   {comment(name)}  {_described(column)}{labels}"


def _is_choice(name: str, column: ColumnDefinition) -> bool:
    return column.type == "Picklist" and bool(column.options) and bool(known_names([name]))


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
    if column.type == _MULTI_SELECT and column.options:
        said.append(f"values of {', '.join(f'{value} {label}' for value, label in column.options.items())}")
    elif column.options:
        said.append(f"{len(column.options)} options")
    said += [column.required] if column.required != "None" else []
    return comment(", ".join(said))
