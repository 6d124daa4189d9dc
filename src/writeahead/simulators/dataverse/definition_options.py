"""The query options of a request for definitions: which of them it asks for, and how much of each.

Sources, learn.microsoft.com: "Query table definitions using the Web API" ($select, $filter,
$expand of OptionSet), "AttributeMetadata" (the types derived from it own what a request can name
under a cast only).
"""

import re
from collections.abc import Mapping
from typing import Any

from writeahead.simulators.dataverse.definition_filter import matching
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError, not_imitated

__all__ = ["DERIVED", "listed", "shaped"]

_OPTION = re.compile(r"(?P<name>\w+)(?:\((?P<options>.*)\))?")
_Json = dict[str, Any]
_EXPANDABLE = {"Attributes", "Keys", "ManyToOneRelationships", "OptionSet", "GlobalOptionSet"}
# Properties of derived types, which a request can name under a cast only.
DERIVED = frozenset(
    {
        "MaxLength",
        "MinValue",
        "MaxValue",
        "Precision",
        "PrecisionSource",
        "Format",
        "DateTimeBehavior",
        "DefaultValue",
        "DefaultFormValue",
        "Targets",
        "OptionSet",
        "GlobalOptionSet",
    }
)


def listed(items: list[_Json], options: Mapping[str, str], hidden: frozenset[str] = DERIVED) -> list[_Json]:
    """Apply ``$filter``, then the options of each item."""
    others = {name: value for name, value in options.items() if name != "$filter"}
    found = matching(items, options["$filter"]) if "$filter" in options else items
    return [shaped(item, others, hidden) for item in found]


def shaped(body: _Json, options: Mapping[str, str], hidden: frozenset[str] = DERIVED) -> _Json:
    """Apply $select and $expand. MetadataId is always there, a navigation property if expanded."""
    if set(options) - {"$select", "$expand"}:
        raise not_imitated("this query option on a definition")
    wanted = _names(options["$select"]) if options.get("$select") else None
    expanded = _expanded(options.get("$expand", ""))
    unknown = {*(wanted or ()), *expanded} - (set(body) - hidden)
    if unknown:
        raise ODataError(
            400,
            ErrorCode.NONE,
            f"Could not find a property named '{min(unknown)}' on type 'Microsoft.Dynamics.CRM.Metadata'.",
        )
    answer = {
        name: value
        for name, value in body.items()
        if name not in _EXPANDABLE
        and (wanted is None or name in wanted or name in ("MetadataId", "@odata.type"))
    }
    for name, inner in expanded.items():
        value = body[name]
        if isinstance(value, list):
            answer[name] = listed(value, inner)
        else:
            answer[name] = None if value is None else shaped(value, inner)
    return answer


def _expanded(text: str) -> dict[str, dict[str, str]]:
    """Read ``Attributes($select=LogicalName),Keys``: each name with its own options."""
    found = {}
    for part in _split(text, ","):
        match = _OPTION.fullmatch(part.strip())
        if match is None:
            raise not_imitated("this $expand")
        inner = (option.partition("=") for option in _split(match["options"] or "", ";"))
        found[match["name"]] = {name.strip(): value for name, _, value in inner}
    return found


def _split(text: str, separator: str) -> list[str]:
    """Split at separators outside of parentheses."""
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",")}
