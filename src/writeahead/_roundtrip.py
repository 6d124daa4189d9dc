"""A typed value as JSON that reads back as the same value; else an error names the field.

What is planned is what was asked for: a masked secret, an excluded or private field, a subclass's
field behind its base, or a validator that changes what it wrote itself would be lost silently.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from types import NoneType, UnionType
from typing import Any, get_args

from pydantic import BaseModel, RootModel, SecretBytes, SecretStr, TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from pydantic_core import PydanticSerializationError

from writeahead._validation import Invalid, validated
from writeahead.errors import InvalidInput

__all__ = ["JsonType", "difference_of", "is_record", "json_of", "values_by_name", "written_of"]

_SECRETS = (SecretStr, SecretBytes)
_PLAIN = (str, int, float, bool, NoneType)
_UNWRITABLE = (PydanticSerializationError, TypeError, ValueError, RecursionError)


class JsonType:
    """A type whose values go into JSON and come from there: whatever pydantic has a schema for.

    Args:
        annotation: A pydantic model, a dataclass, a TypedDict, a dict and the like.
    """

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation
        self.name = annotation.__name__ if isinstance(annotation, type) else str(annotation)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        # Built at first use: to define an adapter of many kinds should cost nothing.
        try:
            adapter = TypeAdapter(self.annotation)
            # One that waits for a name fails here.
            _ = adapter.validator.title
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            message = error.message
        else:
            return adapter
        raise TypeError(f"{self.name} can't be read from JSON: {message}")

    def read(self, text: str) -> Any:
        """Make a value of JSON; an `Invalid` says what is wrong with it."""
        return validated(lambda: self._adapter.validator.validate_json(text))

    def document_of(self, value: Any, only: str | None = None) -> Any:
        """Return a value as JSON, or one of its fields.

        What pydantic would warn of, with the value, is found when it is read back.
        """
        include = None if only is None else {only}
        return self._adapter.serializer.to_python(
            value, mode="json", by_alias=True, round_trip=True, warnings=False, include=include
        )


@lru_cache(maxsize=1024)
def _cached_type(annotation: Any) -> JsonType:
    return JsonType(annotation)


def _type_of(value: Any) -> JsonType:
    own_type: Any = type(value)
    return _cached_type(own_type)


def is_record(value: Any) -> bool:
    """Whether a value is one of named fields that says its type by itself: no mapping does."""
    return isinstance(value, BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def json_of(value: Any, json_type: JsonType | None = None) -> Any:
    """Return a value as JSON: an object, or what a `RootModel` holds.

    Its sets come in one canonical order, whatever process asks.

    Args:
        value: What is to be written.
        json_type: What it is read back as; by default its own type.

    Raises:
        InvalidInput: It can't be JSON, or would read back as something else. The message names the
            field, and never its value.
        TypeError: pydantic knows no schema for the type.
    """
    json_type = json_type or _type_of(value)
    name = json_type.name
    written = written_of(value, json_type)
    if isinstance(written, str):
        raise InvalidInput(
            f"{name}{_unwritable(value, json_type)}: can't be written as JSON ({written});"
            " nothing was written"
        )
    document, text = written
    read_back = json_type.read(text)
    if isinstance(read_back, Invalid):
        places = ", ".join(problem.where("the whole") for problem in read_back.problems)[:300]
        raise InvalidInput(f"{name} does not read back what it writes: {places}; nothing was written")
    if isinstance(value, BaseModel) and _is_flat(type(value)) and BaseModel.__eq__(value, read_back):
        return document
    for place, why in _differences(value, read_back, ""):
        raise InvalidInput(f"{name}{place}: {why}; nothing was written")
    # A default is not validated: it may be written in another form than what was read.
    written = written_of(read_back, json_type)
    return document if isinstance(written, str) else written[0]


@lru_cache(maxsize=1024)
def _is_flat(model_type: type[BaseModel]) -> bool:
    """Whether fields hold one plain value each: then to be equal is to be the same."""
    parts = [part for info in model_type.model_fields.values() for part in _parts(info.annotation)]
    return all(part in _PLAIN for part in parts)


def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)


def written_of(value: Any, json_type: JsonType) -> tuple[Any, str] | str:
    """A value's JSON, parsed and as text; or the name of what went wrong.

    The error itself would be kept as the context of ours, and may hold the value.
    """
    try:
        document = json_type.document_of(value)
        text = json.dumps(document, allow_nan=False)
        # Without a list there was no set.
        if "[" in text:
            document = _in_order(document, value)
            text = json.dumps(document, allow_nan=False)
    except _UNWRITABLE as error:
        return type(error).__name__
    else:
        return document, text


def difference_of(planned: Any, value: Any, json_type: JsonType | None = None) -> str | None:
    """Where a value's JSON differs from the JSON that it was read from; None if it does not.

    The order of sets does not count.
    """
    document = (json_type or _type_of(value)).document_of(value)
    if document == planned:
        return None
    document = _in_order(document, value)
    if document in (planned, _in_order(planned, value)):
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
        inside = values_by_name(document, value)
        return {key: _in_order(item, inside.get(key)) for key, item in document.items()}
    is_set = isinstance(value, set | frozenset)
    if not isinstance(document, list) or not (is_set or isinstance(value, list | tuple)):
        return document
    items = document
    # What was read may hold an item of a set twice.
    if len(value) == len(document):
        items = [_in_order(item, inside) for item, inside in zip(document, value, strict=True)]
    return sorted(items, key=lambda item: json.dumps(item, sort_keys=True)) if is_set else items


def values_by_name(document: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """The values behind a JSON object; those that can't be matched are left out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        named = {info.serialization_alias or info.alias or name: name for name, info in fields}
        extra = value.__pydantic_extra__ or {}
        return {key: getattr(value, name) for key, name in named.items()} | extra
    if dataclasses.is_dataclass(value):
        infos = getattr(type(value), "__pydantic_fields__", {}).items()
        named = {info.serialization_alias or info.alias or name: name for name, info in infos}
        return {key: getattr(value, named.get(key, key), None) for key in document}
    if isinstance(value, Mapping) and len(value) == len(document):
        return dict(zip(document, value.values(), strict=True))
    return {}


def _unwritable(value: Any, json_type: JsonType) -> str:
    """The first field that can't be written by itself."""
    for field in _field_names(value):
        try:
            json.dumps(json_type.document_of(value, field), allow_nan=False)
        except _UNWRITABLE:
            return f".{field}"
    return ""


def _field_names(value: Any) -> list[str]:
    if isinstance(value, BaseModel):
        return list(type(value).model_fields)
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return list(value) if isinstance(value, Mapping) else []


def _differences(asked: Any, read: Any, place: str) -> Iterator[tuple[str, str]]:
    """Where two values differ, and why that is, from the outside in."""
    if isinstance(asked, _SECRETS):
        yield (
            place,
            "is a secret, which must not go into an artifact: give it to the adapter by its environment",
        )
    elif is_record(asked) and type(asked) is type(read):
        of_records = _differences_of_models if isinstance(asked, BaseModel) else _differences_of_dataclasses
        yield from of_records(asked, read, place)
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


def _differences_of_dataclasses(asked: Any, read: Any, place: str) -> Iterator[tuple[str, str]]:
    fields = _field_names(asked)
    for field in fields:
        yield from _differences(getattr(asked, field), getattr(read, field), f"{place}.{field}")
    others, read_others = getattr(asked, "__dict__", {}), getattr(read, "__dict__", {})
    for attribute in others.keys() - fields:
        if isinstance(getattr(type(asked), attribute, None), cached_property):
            continue  # it comes of the fields
        if attribute not in read_others or read_others[attribute] != others[attribute]:
            yield f"{place}.{attribute}", "is no field, so JSON does not have it"


def _kind(asked: Any, read: Any) -> str:
    one, other = type(asked).__name__, type(read).__name__
    return f"another {one} than it is" if one == other else f"{other}, and it is {one}"
