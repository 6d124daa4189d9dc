"""``$filter`` expressions, of names and values that were checked.

Sources: "Filter rows using OData", learn.microsoft.com (a quote within a text is doubled; texts
compare without case), "Use wildcard characters in conditions for string values" (only functions
such as ``contains`` know wildcards), "Language collations" (in most languages accents don't count
either). OData 4.0, part 2, section 5.1.1.6.1, "Primitive Literals". What the service does with a
control character in a query is documented nowhere, so none is sent.
"""

import re
from collections.abc import Mapping

from writeahead.adapters.dataverse.webapi.names import LOOKUP, Scalar, require_guid, require_name
from writeahead.errors import InvalidInput

__all__ = ["all_equal", "is_guid"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def all_equal(values: Mapping[str, Scalar]) -> str:
    """Return the condition that columns have these values.

    Args:
        values: By name. A lookup is named ``_<name>_value``, and its value is a GUID. There is at
            least one, and none is null.

    Returns:
        The expression, not percent-encoded.

    Raises:
        InvalidInput: A name or a value can't be part of it. The message holds no value.
    """
    return " and ".join(f"{_name(name)} eq {_literal(name, values[name])}" for name in sorted(values))


def is_guid(name: str, row_id: str) -> str:
    """Return the condition that a column holds a GUID. Raises: as `all_equal`."""
    return f"{require_name(name)} eq {require_guid(row_id)}"


def _name(name: str) -> str:
    return name if LOOKUP.fullmatch(name) else require_name(name)


def _literal(name: str, value: Scalar) -> str:
    if LOOKUP.fullmatch(name):
        return require_guid(value if isinstance(value, str) else "")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise InvalidInput(f"column {name} can't be searched: only texts and whole numbers compare exactly")
    if _CONTROL.search(value):
        raise InvalidInput(f"column {name} can't be searched for a text with a control character")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"column {name} can't be searched: the value is no text") from None
    return "'" + value.replace("'", "''") + "'"
