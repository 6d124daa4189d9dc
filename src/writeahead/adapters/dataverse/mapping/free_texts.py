"""Free texts, their lengths, and ``shorten``: which of them are cut to what their column holds.

[kinds.task] shorten = ["subject"]                fields of the kind
[tables.account] shorten = ["description"]        columns

A length counts units of UTF-16, as the service's does: "nchar and nvarchar (Transact-SQL)",
learn.microsoft.com.
"""

import unicodedata
from collections.abc import Mapping
from typing import get_args, get_type_hints

from pydantic import BaseModel

from writeahead.adapters.dataverse.mapping.payloads import INPUTS, FreeText
from writeahead.adapters.dataverse.mapping.tables import DeclaredTable, KindTable, Table
from writeahead.errors import InvalidInput

__all__ = ["cut", "require_lengths", "shorten_problem", "shortened_columns", "text_limits", "units"]

_ELLIPSIS = "…"
_LAST_OF_ONE_UNIT = "\uffff"
_JOINER = "\u200d"
_EMOJI_MODIFIERS = ("\U0001f3fb", "\U0001f3ff")


def cut(text: str, most: int) -> str:
    """Return a text as it is, or its beginning and an ellipsis, in at most so many units.

    No character is cut in half, and none loses the marks and joiners that belong to it.

    Args:
        text: The text.
        most: Units of UTF-16, at least 1.
    """
    if units(text) <= most:
        return text
    end, room = 0, most - len(_ELLIPSIS)
    while room >= (size := 2 if text[end] > _LAST_OF_ONE_UNIT else 1):
        room -= size
        end += 1
    whole = end
    while whole and _goes_on(text, whole):
        whole -= 1
    # A text that is one long character is cut within it.
    return text[: whole or end].rstrip() + _ELLIPSIS


def units(text: str) -> int:
    """The length of a text as the service counts it."""
    # A lone surrogate is one unit, and can come from JSON.
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def shortened_columns(table: Table) -> dict[str, str]:
    """The columns whose texts are cut, and what the mapping calls each."""
    return {column: name for name in table.shorten if (column := _column(table, name)) is not None}


def text_limits(kind: str, table: Table) -> dict[str, int]:
    """The lengths that the fields of a named kind have by themselves, by column."""
    limits = _limits(kind)
    return {column: limits[name] for column, name in shortened_columns(table).items() if name in limits}


def require_lengths(kind: str, table: Table, operation_id: str, fields: BaseModel) -> None:
    """Refuse texts that are longer than their field, unless they are cut.

    Raises:
        InvalidInput: One is; the message names fields and lengths.
    """
    problems = [
        f"payload.{name}: it holds {most} characters, and {len(text)} are given"
        for name, most in _limits(kind).items()
        if name not in table.shorten
        if isinstance(text := getattr(fields, name), str) and len(text) > most
    ]
    if problems:
        raise InvalidInput(
            f"operation {operation_id}: {'; '.join(problems)}: shorten it, or name the field in shorten of"
            f" [kinds.{kind}]"
        )


def shorten_problem(kind: str | None, table: Table) -> str | None:
    """Say why the mapping's ``shorten`` can't be used; None if it can.

    Args:
        kind: The named kind; None for a declared table.
        table: Its table.
    """
    known = _limits(kind) if kind is not None else None
    for name in table.shorten:
        problem = _problem_of_text(name, known, table)
        if problem:
            return f"shorten has {name!r}, which is {problem}"
    return None


def _problem_of_text(name: str, texts: Mapping[str, int] | None, table: Table) -> str | None:
    if texts is not None and name not in texts:
        return f"no free text; there are {', '.join(sorted(texts))}"
    column = _column(table, name)
    if column is None:
        return "not in columns"
    if column in table.find_by:
        return "in find_by: two rows may become one"
    if isinstance(table, DeclaredTable):
        if name in table.phones:
            return "in phones: a part of a number is none"
        if any(name in key for key in table.alternate_keys):
            return "in alternate_keys: two keys may become one"
    return None


def _column(table: Table, name: str) -> str | None:
    """The column that the mapping calls so; None if it has none."""
    if isinstance(table, KindTable):
        return table.columns.get(name)
    return name if isinstance(table, DeclaredTable) and name in table.columns else None


def _limits(kind: str) -> dict[str, int]:
    """The longest text that each free text of a kind has by itself, in characters."""
    model = INPUTS.get(kind)
    hints = get_type_hints(model, include_extras=True) if model else {}
    return {
        name: item.longest
        for name, hint in hints.items()
        for part in (hint, *get_args(hint))
        for item in getattr(part, "__metadata__", ())
        if isinstance(item, FreeText)
    }


def _goes_on(text: str, at: int) -> bool:
    """Whether the character here belongs to the one before it."""
    character = text[at]
    return (
        unicodedata.category(character).startswith("M")
        or _JOINER in (character, text[at - 1])
        or _EMOJI_MODIFIERS[0] <= character <= _EMOJI_MODIFIERS[1]
    )
