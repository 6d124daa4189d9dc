"""The columns of a table that a draft of a mapping takes for its marker."""

import re
from collections.abc import Iterator

from writeahead.adapters.dataverse.mapping.tables import KindTable
from writeahead.adapters.dataverse.readiness.draft_toml import toml_text
from writeahead.adapters.dataverse.readiness.metadata import TableDefinition

__all__ = ["marker", "marker_columns"]

_MARKS = (re.compile(r".+_(last)?session(id)?"), re.compile(r".+_(last)?operation(id)?"))
_LEAST_MARK = 128
# One column for both ids: what `Marker.length` takes, and two ids of 128 characters.
_LEAST_FOR_BOTH, _LONGEST_MARK = 40, 257


def marker(info: TableDefinition, default: KindTable | None) -> Iterator[str]:
    """The columns that mark our rows: the default mapping's, or one or two that look like them."""
    names = default.marker.columns if default is not None and default.marker is not None else []
    if not names or not all(name in info.columns for name in names):
        names = marker_columns(info) or names
    if not names:
        yield "# marker = { session = ..., operation = ... }  one or two text columns that tell our rows"
        return
    absent = [name for name in names if name not in info.columns]
    if absent:
        yield f"# Not there yet: {', '.join(absent)}. Add them: texts of 128 and 200 characters."
        yield "# Or name one text column: { session = ..., length = ... }"
    if len(names) == 1:
        length = min(info.columns[names[0]].max_length or 0, _LONGEST_MARK)
        yield f"marker = {{ session = {toml_text(names[0])}, length = {length} }}"
    else:
        yield f"marker = {{ session = {toml_text(names[0])}, operation = {toml_text(names[1])} }}"


def marker_columns(info: TableDefinition) -> list[str]:
    """A column for each id; else one for both; none if there is no such column."""
    two = [name for pattern in _MARKS for name in _texts(info, pattern, _LEAST_MARK)[:1]]
    return two if len(two) == len(_MARKS) else _texts(info, _MARKS[0], _LEAST_FOR_BOTH)[:1]


def _texts(info: TableDefinition, pattern: re.Pattern[str], length: int) -> list[str]:
    return [
        name
        for name, column in sorted(info.columns.items())
        if pattern.fullmatch(name) and column.type == "String" and (column.max_length or 0) >= length
    ]
