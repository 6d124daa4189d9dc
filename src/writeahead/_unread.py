"""Keys in JSON that a type does not look at, and so would lose."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import RootModel

from writeahead._roundtrip import JsonType, values_by_name, written_of
from writeahead._validation import Invalid

__all__ = ["unread_key"]

# What no field can take and leave no trace of.
_SENTINEL = {"$unread": [None]}


def unread_key(given: Any, value: Any, json_type: JsonType, document: Any = None) -> str | None:
    """The place of a key in JSON that the type, which read a value of it, did not look at.

    pydantic ignores what is in no field, unless a type says otherwise, and so loses it. A type that
    says ``extra="ignore"`` itself has its way. A key that is not written again may have been read
    under another name, or by a validator: then the value depends on what stands there, or on
    whether anything does.

    Args:
        given: The JSON.
        value: What was read of it.
        json_type: What read it.
        document: The value as `json_of` writes it, where that is known already.
    """
    if document is None:
        written = written_of(value, json_type)
        if isinstance(written, str):
            return None  # it is for a planner only, and there is nothing to compare with
        document = written[0]
    tried: set[tuple[object, ...]] = set()
    for path, holder in _unwritten_keys(given, document, value, ()):
        # Items of a list are alike if they are of one type.
        form = (holder, *("*" if isinstance(step, int) else step for step in path))
        if form in tried:
            continue
        tried.add(form)
        if _is_unread(given, path, document, json_type):
            return ".".join(map(str, path))
    return None


def _unwritten_keys(
    given: Any, document: Any, value: Any, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], type]]:
    """The paths of keys that are not written again, each with the type that does not write it."""
    if given == document:
        return
    if isinstance(value, RootModel):
        value = value.root
    if isinstance(given, dict) and isinstance(document, dict):
        inside = values_by_name(document, value)
        for key, item in given.items():
            if key not in document:
                if not _says_ignore(type(value)):
                    yield (*path, key), type(value)
            elif item != document[key]:
                yield from _unwritten_keys(item, document[key], inside.get(key), (*path, key))
    elif isinstance(given, list) and isinstance(document, list) and isinstance(value, list | tuple):
        for position, (one, other, item) in enumerate(zip(given, document, value, strict=False)):
            yield from _unwritten_keys(one, other, item, (*path, position))


def _says_ignore(value_type: Any) -> bool:
    config = getattr(value_type, "model_config", None) or getattr(value_type, "__pydantic_config__", None)
    return (config or {}).get("extra") == "ignore"


def _is_unread(given: Any, path: Sequence[str | int], document: Any, json_type: JsonType) -> bool:
    # A validator may look at what stands there, or only at whether anything does.
    return all(
        _comes_to(document, other, json_type) for other in (_replaced(given, path), _removed(given, path))
    )


def _comes_to(document: Any, given: Any, json_type: JsonType) -> bool:
    try:
        value = json_type.read(json.dumps(given))
        written = "" if isinstance(value, Invalid) else written_of(value, json_type)
        return not isinstance(written, str) and written[0] == document
    except Exception:  # noqa: BLE001 - a validator of the type's own that looked there
        return False


def _replaced(given: Any, path: Sequence[str | int]) -> Any:
    if not path:
        return _SENTINEL
    copy: Any = list(given) if isinstance(given, list) else dict(given)
    copy[path[0]] = _replaced(copy[path[0]], path[1:])
    return copy


def _removed(given: Any, path: Sequence[str | int]) -> Any:
    copy: Any = list(given) if isinstance(given, list) else dict(given)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _removed(copy[path[0]], path[1:])
    return copy
