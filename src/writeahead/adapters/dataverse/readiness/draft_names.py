"""What of an environment's names and labels can stand in a mapping file.

An environment may have names that no mapping takes, labels in any language, twice or empty, and
relationships that the Web API does not show. A draft leaves out what it can't hold, and says so.
"""

import re
from collections.abc import Iterable, Mapping

from writeahead.adapters.dataverse.mapping.mapping import NOT_COLUMNS
from writeahead.adapters.dataverse.mapping.payloads import INPUTS
from writeahead.adapters.dataverse.mapping.tables import NAVIGATION
from writeahead.adapters.dataverse.webapi.names import ENTITY_SET, NAME

__all__ = ["comment", "known_names", "labelled", "required_fields", "unusable"]

_LONGEST_LABEL = 50
_LONGEST_COMMENT = 300


def unusable(entity_set: str, key: str) -> str | None:
    """Say why a table can be in no mapping; None if it can."""
    if not ENTITY_SET.fullmatch(entity_set):
        return "its entity set's name has other characters than letters, 0-9 and _"
    if not NAME.fullmatch(key):
        return "its key column's name is no logical name"
    return None


def known_names(names: Iterable[str], *, navigation: bool = False) -> list[str]:
    """The names that a mapping takes: logical ones, or those of navigation properties."""
    pattern = NAVIGATION if navigation else NAME
    return [name for name in names if pattern.fullmatch(name)]


def required_fields(kind: str) -> set[str]:
    """The fields without which the mapping of a named kind can't be read."""
    fields = INPUTS[kind].model_fields
    return {name for name in fields if fields[name].is_required()} - NOT_COLUMNS


def labelled(options: Mapping[int | bool, str]) -> dict[str, int | bool]:
    """A label that can be a key of the file for each option; none is lost to another's label."""
    found: dict[str, int | bool] = {}
    for value, label in options.items():
        slug = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")[:_LONGEST_LABEL]
        if not re.match(r"[a-z]", slug):
            slug = f"option_{slug}".rstrip("_")
        if slug in found:
            slug = f"{slug}_{int(value)}".replace("-", "minus_")
        while slug in found:
            slug += "_"
        found[slug] = value
    return found


def comment(text: str) -> str:
    """A text of the environment's as it may stand in a comment: one line, and not without end."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= _LONGEST_COMMENT else f"{shown[:_LONGEST_COMMENT]} ..."
