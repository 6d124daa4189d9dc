"""A model as JSON that reads back as the same model; else an error names the field.

What is planned is what was asked for: a masked secret, an excluded or private field, a subclass's
field behind its base, or a validator that changes what it wrote itself would be lost silently.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, get_args

from pydantic import BaseModel, RootModel, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError

from writeahead._validation import Invalid, validated
from writeahead.errors import InvalidInput

__all__ = ["difference_of", "json_of"]

_SECRETS = (SecretStr, SecretBytes)
_PLAIN = (str, int, float, bool, NoneType)
_UNWRITABLE = (PydanticSerializationError, TypeError, ValueError, RecursionError)
_DUMP: Mapping[str, Any] = {"by_alias": True, "round_trip": True}


def json_of(model: BaseModel) -> Any:
    """Return a model as JSON: an object, or what a `RootModel` holds.

    Its sets come in one canonical order, whatever process asks.

    Raises:
        InvalidInput: It can't be JSON, or would read back as something else. The message names the
            field, and never its value.
    """
    name = type(model).__name__
    written = _written(model)
    if isinstance(written, str):
        raise InvalidInput(
            f"{name}{_unwritable(model)}: can't be written as JSON ({written}); nothing was written"
        )
    document, text = written
    read_back = validated(lambda: type(model).model_validate_json(text))
    if isinstance(read_back, Invalid):
        places = ", ".join(problem.where("the whole") for problem in read_back.problems)[:300]
        raise InvalidInput(f"{name} does not read back what it writes: {places}; nothing was written")
    if _is_flat(type(model)) and BaseModel.__eq__(model, read_back):
        return document
    for place, why in _differences(model, read_back, ""):
        raise InvalidInput(f"{name}{place}: {why}; nothing was written")
    # A default is not validated: it may be written in another form than what was read.
    written = _written(read_back)
    return document if isinstance(written, str) else written[0]


@lru_cache(maxsize=1024)
def _is_flat(model_type: type[BaseModel]) -> bool:
    """Whether fields hold one plain value each: then to be equal is to be the same."""
    parts = [part for info in model_type.model_fields.values() for part in _parts(info.annotation)]
    return all(part in _PLAIN for part in parts)


def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def _written(model: BaseModel) -> tuple[Any, str] | str:
    """A model's JSON, parsed and as text; or the name of what went wrong.

    The error itself would be kept as the context of ours, and may hold the value.
    """
    try:
        document = model.model_dump(mode="json", **_DUMP)
        text = json.dumps(document, allow_nan=False)
        # Without a list there was no set.
        if "[" in text:
            document = _in_order(document, model)
            text = json.dumps(document, allow_nan=False)
    except _UNWRITABLE as error:
        return type(error).__name__
    else:
        return document, text


def difference_of(planned: Any, model: BaseModel) -> str | None:
    """Where a model's JSON differs from the JSON that it was read from; None if it does not.

    The order of sets does not count.
    """
    document = model.model_dump(mode="json", **_DUMP)
    if document == planned:
        return None
    document = _in_order(document, model)
    if document in (planned, _in_order(planned, model)):
        return None
    if not (isinstance(planned, dict) and isinstance(document, dict)):
        return "it would change"
    lost = [name for name in planned if name not in document]
    added = [name for name in document if name not in planned]
    changed = [name for name in planned if name in document and planned[name] != document[name]]
    found = (("would be lost", lost), ("would be added", added), ("would change", changed))
    return "; ".join(f"{', '.join(map(repr, names))} {what}" for what, names in found if names)


def _in_order(document: Any, value: Any) -> Any:
    """Sort the lists that were sets: their order differs between processes."""
    if isinstance(value, RootModel):
        value = value.root
    if isinstance(document, dict):
        inside = _by_name_in_json(document, value)
        return {key: _in_order(item, inside.get(key)) for key, item in document.items()}
    is_set = isinstance(value, set | frozenset)
    if not isinstance(document, list) or not (is_set or isinstance(value, list | tuple)):
        return document
    items = document
    # What was read may hold an item of a set twice.
    if len(value) == len(document):
        items = [_in_order(item, inside) for item, inside in zip(document, value, strict=True)]
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if is_set else items


def _by_name_in_json(document: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """The values behind a JSON object; those that can't be matched are left out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        named = {info.serialization_alias or info.alias or name: name for name, info in fields}
        extra = value.__pydantic_extra__ or {}
        return {key: getattr(value, name) for key, name in named.items()} | extra
    if dataclasses.is_dataclass(value):
        return {key: getattr(value, key, None) for key in document}
    if isinstance(value, Mapping) and len(value) == len(document):
        return dict(zip(document, value.values(), strict=True))
    return {}


def _unwritable(model: BaseModel) -> str:
    """The first field that can't be written by itself."""
    for field in type(model).model_fields:
        try:
            json.dumps(model.model_dump(mode="json", include={field}, **_DUMP), allow_nan=False)
        except _UNWRITABLE:
            return f".{field}"
    return ""


def _differences(asked: Any, read: Any, place: str) -> Iterator[tuple[str, str]]:
    """Where two values differ, and why that is, from the outside in."""
    if isinstance(asked, _SECRETS):
        yield (
            place,
            "is a secret, which must not go into an artifact: give it to the adapter by its environment",
        )
    elif isinstance(asked, BaseModel) and type(asked) is type(read):
        yield from _differences_of_models(asked, read, place)
    elif isinstance(asked, Mapping) and isinstance(read, Mapping):
        if list(map(str, asked)) != list(map(str, read)):
            yield place, "has keys that are the same or others in JSON"
        for key, inside in asked.items():
            if key in read:
                yield from _differences(inside, read[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}", "has a key that JSON can't keep"
    elif isinstance(asked, list | tuple) and isinstance(read, list | tuple) and len(asked) == len(read):
        for position, (one, other) in enumerate(zip(asked, read, strict=True)):
            yield from _differences(one, other, f"{place}.{position}")
    elif asked != read:
        yield place, f"would read back as {_kind(asked, read)}"


def _differences_of_models(asked: BaseModel, read: BaseModel, place: str) -> Iterator[tuple[str, str]]:
    for field, info in type(asked).model_fields.items():
        inside = f"{place}.{field}"
        for where, why in _differences(getattr(asked, field), getattr(read, field), inside):
            yield where, "is excluded from JSON" if info.exclude and where == inside else why
    for attribute, value in (asked.__pydantic_private__ or {}).items():
        if (read.__pydantic_private__ or {}).get(attribute) != value:
            yield f"{place}.{attribute}", "is private, so JSON does not have it"
    yield from _differences(asked.__pydantic_extra__ or {}, read.__pydantic_extra__ or {}, place)


def _kind(asked: Any, read: Any) -> str:
    one, other = type(asked).__name__, type(read).__name__
    return f"another {one} than it is" if one == other else f"{other}, and it is {one}"
