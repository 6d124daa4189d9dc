"""``shorten``: free texts that are cut where they are longer than their column.

[kinds.task] shorten = ["subject"]                fields of the kind
[tables.account] shorten = ["description"]        columns

A length counts units of UTF-16, as the service's does: "nchar and nvarchar (Transact-SQL)",
learn.microsoft.com.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from typing import get_args, get_type_hints

from pydantic import BaseModel

from writeahead.adapters.dataverse.mapping.payloads import INPUTS, FreeText
from writeahead.adapters.dataverse.mapping.plans import Draft, StoredValue
from writeahead.adapters.dataverse.mapping.tables import DeclaredTable, KindTable, Table
from writeahead.adapters.dataverse.webapi.names import Scalar
from writeahead.errors import InvalidInput

__all__ = ["cut", "require_lengths", "shorten_problem", "shortened", "shortened_columns", "text_limits"]

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
    if _units(text) <= most:
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


def shortened_columns(table: Table) -> dict[str, str]:
    """The columns whose texts are cut, and what the mapping calls each."""
    if isinstance(table, KindTable):
        return {table.columns[field]: field for field in table.shorten if field in table.columns}
    return {column: column for column in table.shorten}


def shortened(draft: Draft, lengths: Mapping[str, int]) -> Draft:
    """Cut the texts that the mapping lets be cut, with a warning for each.

    Args:
        draft: What is planned.
        lengths: Units of UTF-16, by column. A column that is not there is left as it is.
    """
    columns: dict[str, Scalar] = {}
    stored: dict[str, StoredValue] = {}
    for column, name in shortened_columns(draft.table).items():
        text, most = draft.write.columns.get(column), lengths.get(column)
        if isinstance(text, str) and most is not None and _units(text) > most:
            columns[column] = cut(text, most)
            stored[column] = StoredValue(
                warning=f"{name} is cut to the {most} characters that its column holds, of {_units(text)}"
            )
    if not columns:
        return draft
    write = draft.write.model_copy(update={"columns": {**draft.write.columns, **columns}})
    return replace(draft, write=write, stored={**draft.stored, **stored})


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
    for name in table.shorten:
        if isinstance(table, KindTable):
            texts = _limits(kind or "")
            if name not in texts:
                return f"shorten has {name!r}, which is no free text; there are {', '.join(sorted(texts))}"
            if name not in table.columns:
                return f"shorten has {name!r}, which is not in columns"
        if isinstance(table, DeclaredTable):
            if name not in table.columns:
                return f"shorten has {name!r}, which is not in columns"
            if name in table.phones:
                return f"shorten has {name!r}, which is in phones: a part of a number is none"
            if any(name in key for key in table.alternate_keys):
                return f"shorten has {name!r}, which is in alternate_keys: two keys may become one"
    return None


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


def _units(text: str) -> int:
    # A lone surrogate is one unit, and can come from JSON.
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _goes_on(text: str, at: int) -> bool:
    """Whether the character here belongs to the one before it."""
    character = text[at]
    return (
        unicodedata.category(character).startswith("M")
        or _JOINER in (character, text[at - 1])
        or _EMOJI_MODIFIERS[0] <= character <= _EMOJI_MODIFIERS[1]
    )
