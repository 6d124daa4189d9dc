"""Whether a row can be addressed by an alternate key of its table.

Sources, learn.microsoft.com: "Work with alternate keys" (which types a key may have; its index must
be Active), "Use an alternate key to reference a record" (a lookup column is named
``_<name>_value``). A key may have a date, but no page was found that shows one in a URL, and the
colon of a time is a character that the first page takes in no key: so dates are refused.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from writeahead.adapters.dataverse.readiness.metadata import TableDefinition

__all__ = ["key_gaps", "own_name"]

# What the URL's literal for a column of each type is made of.
_LITERALS: Mapping[str, Callable[[object], bool]] = {
    "String": lambda value: isinstance(value, str),
    "Integer": lambda value: type(value) is int,
    "Picklist": lambda value: type(value) is int,
    "Decimal": lambda value: type(value) in (int, float),
}


def key_gaps(key: Mapping[str, Any], table: TableDefinition) -> Iterator[str]:
    """Say what keeps a row from being addressed so; no value is repeated.

    Args:
        key: The columns as they are named in a URL, with their values, None for one that is not
            known; no columns for a GUID.
        table: The table's definition.
    """
    wanted = frozenset(map(own_name, key))
    found = [item for item in table.keys if item.columns == wanted]
    shown = ", ".join(key)
    if wanted and not found:
        yield f"there is no alternate key of {shown}"
    elif found and all(item.status != "Active" for item in found):
        yield f"the index of the alternate key {shown} is {found[0].status}, not Active"
    for name, value in key.items():
        column = table.columns.get(own_name(name))
        kind = column.type if column is not None else ""
        if kind == "DateTime":
            yield (
                f"key column {name} is a date, and how one stands in a URL is not documented: use row_id or"
                " another key"
            )
        elif value is not None and kind in _LITERALS and not _LITERALS[kind](value):
            yield f"key column {name} is of type {kind}, and the value of the key is not"


def own_name(name: str) -> str:
    """The logical name of a column that may be named as a lookup is read."""
    return name.removeprefix("_").removesuffix("_value") if name.startswith("_") else name
