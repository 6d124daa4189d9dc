"""The kinds of operations that an adapter's class declares by its methods.

A class is read where it is defined, and what can't work is refused there.
"""

import difflib
import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, is_dataclass
from datetime import timedelta
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel

from writeahead._roundtrip import JsonType
from writeahead.model import Receipt, ReplayClass

__all__ = ["BASELINE", "EMIT", "FIND", "PLAN", "Kind", "emits", "kinds_of"]

EMIT, PLAN, FIND = "emit_", "plan_", "find_"
# The parameter by which a planner says that its kind takes a baseline from the caller.
BASELINE = "baseline"
# What `emit_<kind>` may return: see `writeahead.adapters.base.Adapter`.
_Emitted = Receipt | None | Awaitable[Receipt | None]
_F = TypeVar("_F", bound=Callable[..., _Emitted])
_MARK = "__writeahead_emits__"
_PAYLOADS = "a pydantic model, a dataclass, a TypedDict or a dict"


def emits(
    replay: ReplayClass | str,
    *,
    key_valid_for: timedelta | None = None,
    settles_after: timedelta | None = None,
) -> Callable[[_F], _F]:
    """Declare the replay class of an ``emit_<kind>`` method. There is no default.

    Args:
        replay: One of the five classes.
        key_valid_for: How long the remote remembers our key, for ``create_with_key``. An operation
            that may have been sent longer ago is searched by ``find_<kind>`` if there is one, and
            otherwise blocked. None: as long as the row is there.
        settles_after: How long a request whose reply was lost can still land, for ``upsert``. The
            next upsert waits for that, since a late one would undo it. None: it can't, or does no
            harm.

    Raises:
        ValueError: ``replay`` is none of the five classes, or a time does not belong to it.
    """
    try:
        declared = ReplayClass(replay)
    except ValueError:
        given = repr(replay) if isinstance(replay, str) else f"a {type(replay).__name__}"
        known = ", ".join(ReplayClass)
        raise ValueError(f"@emits takes a replay class, not {given}; there are: {known}") from None
    for name, value, needed in (
        ("key_valid_for", key_valid_for, ReplayClass.CREATE_WITH_KEY),
        ("settles_after", settles_after, ReplayClass.UPSERT),
    ):
        if value is not None and (declared is not needed or value <= timedelta(0)):
            raise ValueError(f"{name} must be longer than nothing, and goes with {needed}, not {declared}")

    def mark(method: _F) -> _F:
        method.__writeahead_emits__ = (declared, key_valid_for, settles_after)  # type: ignore[attr-defined]
        return method

    return mark


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of operation, as its methods declare it.

    Attributes:
        name: The kind.
        replay: Its replay class.
        payload: The type of what ``emit_<kind>`` takes.
        asked: The type of what ``plan_<kind>`` takes: that of ``emit_<kind>`` if there is none.
        found: The type of what ``find_<kind>`` takes.
        baseline: The type of the baseline that ``plan_<kind>`` takes from a caller; None if it
            takes none.
        has_receipt: Whether ``emit_<kind>`` may return one; not if it says ``-> None``.
        key_valid_for: How long the remote remembers our key; None for ever.
        settles_after: How long a late request can still land; None if that does no harm.
    """

    name: str
    replay: ReplayClass
    payload: JsonType
    asked: JsonType
    found: JsonType
    baseline: JsonType | None = None
    has_receipt: bool = True
    key_valid_for: timedelta | None = None
    settles_after: timedelta | None = None


def kinds_of(cls: type) -> dict[str, Kind]:
    """Read the kinds off an adapter's class.

    Raises:
        TypeError: A method has no kind, no replay class or no payload, or would never be called.
    """
    for verb in ("plan", "emit", "find"):
        if inspect.iscoroutinefunction(getattr(cls, verb)):
            raise TypeError(f"{cls.__name__}.{verb} can't be async: make async what it calls, {verb}_<kind>")
    for attribute in dir(cls):
        if not attribute.startswith((EMIT, PLAN, FIND)) and hasattr(
            inspect.getattr_static(cls, attribute, None), _MARK
        ):
            named = f"call it {EMIT}{attribute.removeprefix('_')}, or leave @emits out"
            raise TypeError(
                f"{cls.__name__}.{attribute} is decorated with @emits, and names no kind: {named}"
            )
    kinds = {attribute.removeprefix(EMIT): _kind_of(cls, attribute) for attribute in _methods(cls, EMIT)}
    for prefix in (PLAN, FIND):
        for attribute in _methods(cls, prefix):
            if attribute.removeprefix(prefix) not in kinds:
                raise TypeError(_without_kind(cls, attribute, prefix, kinds))
    if kinds and not (isinstance(getattr(cls, "name", None), str) and cls.name):  # type: ignore[attr-defined]
        raise TypeError(f'{cls.__name__} has no name: set name = "...", which each plan stores')
    return kinds


def _methods(cls: type, prefix: str) -> list[str]:
    found = [attribute for attribute in dir(cls) if attribute.startswith(prefix)]
    for attribute in found:
        _require_parameters(cls, attribute)
    return found


def _require_parameters(cls: type, attribute: str) -> None:
    """Refuse a method that can't be called with payload and operation."""
    member = inspect.getattr_static(cls, attribute)
    arguments = [None] * (2 if isinstance(member, staticmethod | classmethod) else 3)
    named = {BASELINE: None} if attribute.startswith(PLAN) and _takes_baseline(member) else {}
    try:
        inspect.signature(getattr(cls, attribute)).bind(*arguments, **named)
    except TypeError:
        raise TypeError(f"{cls.__name__}.{attribute} must take (self, payload, operation)") from None


def _kind_of(cls: type, attribute: str) -> Kind:
    name = attribute.removeprefix(EMIT)
    method = inspect.getattr_static(cls, attribute)
    declared = getattr(method, _MARK, None)
    if declared is None:
        raise TypeError(f"{cls.__name__}.{attribute} has no replay class: decorate it with @emits(...)")
    replay, key_valid_for, settles_after = declared
    finds = hasattr(cls, f"{FIND}{name}")
    if replay is ReplayClass.LOOKUP and not finds:
        raise TypeError(f"{cls.__name__}.{attribute} is of class lookup, so it needs a find_{name}")
    payload = _payload_type(method)
    return Kind(
        name,
        replay,
        payload,
        asked=_payload_type_of(cls, f"{PLAN}{name}") or payload,
        found=_payload_type_of(cls, f"{FIND}{name}", optional=True) or payload,
        baseline=_baseline_type_of(cls, f"{PLAN}{name}"),
        has_receipt=_annotations(method).get("return", ...) not in (None, "None", types.NoneType),
        key_valid_for=key_valid_for,
        settles_after=settles_after,
    )


def _without_kind(cls: type, attribute: str, prefix: str, kinds: Mapping[str, Kind]) -> str:
    name = attribute.removeprefix(prefix)
    nearest = difflib.get_close_matches(name, kinds, n=1)
    advice = (
        f"do you mean {prefix}{nearest[0]}?" if nearest else f"begin other names than kinds with _{prefix}"
    )
    return f"{cls.__name__}.{attribute} is never called, since there is no {EMIT}{name}: {advice}"


def _payload_type_of(cls: type, attribute: str, *, optional: bool = False) -> JsonType | None:
    method = inspect.getattr_static(cls, attribute, None)
    return None if method is None else _payload_type(method, optional=optional)


@typing.overload
def _payload_type(method: Any) -> JsonType: ...
@typing.overload
def _payload_type(method: Any, *, optional: bool) -> JsonType | None: ...
def _payload_type(method: Any, *, optional: bool = False) -> JsonType | None:
    """The type that a method says its parameter ``payload`` is of."""
    name = getattr(method, "__qualname__", repr(method))
    function = inspect.unwrap(getattr(method, "__func__", method))
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{name} is a generator: it must return what it has, and yield nothing")
    annotation = _annotation_of(function, name)
    if annotation is None and optional:
        return None
    if not _is_object(annotation):
        raise TypeError(f"{name} must annotate its parameter 'payload' with {_PAYLOADS}")
    return JsonType(annotation)


def _takes_baseline(method: Any) -> bool:
    function = getattr(method, "__func__", method)
    return callable(function) and BASELINE in inspect.signature(function).parameters


def _baseline_type_of(cls: type, attribute: str) -> JsonType | None:
    """The type that a planner says its parameter ``baseline`` is of, without the None."""
    method = inspect.getattr_static(cls, attribute, None)
    if method is None or not _takes_baseline(method):
        return None
    name = getattr(method, "__qualname__", repr(method))
    function = inspect.unwrap(getattr(method, "__func__", method))
    given = get_args(_annotation_of(function, name, BASELINE))
    rest = tuple(part for part in given if part is not types.NoneType)
    if len(rest) == len(given) or not rest or not all(map(_is_object, rest)):
        raise TypeError(f"{name} must annotate its parameter 'baseline' with {_PAYLOADS}, or None")
    return JsonType(typing.Union[rest])  # noqa: UP007 - of a tuple, whose length is not known


def _annotations(method: Any) -> Mapping[str, Any]:
    return getattr(inspect.unwrap(getattr(method, "__func__", method)), "__annotations__", {})


def _annotation_of(function: Any, name: str, parameter: str = "payload") -> Any:
    """The annotation of one parameter: the others may name what is there for checkers only."""
    try:
        said = {key: value for key, value in _annotations(function).items() if key == parameter}
        holder = types.SimpleNamespace(__annotations__=said)
        names = getattr(function, "__globals__", {})
        return typing.get_type_hints(holder, globalns=names, include_extras=True).get(parameter)
    except NameError as error:
        missing = error.name
    raise TypeError(
        f"{name} annotates its parameter {parameter!r} with {missing!r}, which is not to be found where the"
        " adapter is defined: import or define it at the top of the module, outside of TYPE_CHECKING"
    )


def _is_object(annotation: Any) -> bool:
    """Whether values of a type are objects in JSON, as far as the type says it by itself."""
    alias = getattr(typing, "TypeAliasType", None)
    if alias is not None and isinstance(annotation, alias):
        return _is_object(annotation.__value__)
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_object(get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return all(map(_is_object, get_args(annotation)))
    found = origin or annotation
    if not isinstance(found, type):
        return False
    if typing.is_typeddict(found) and found.__class__.__module__ == "typing" and sys.version_info < (3, 12):
        # https://errors.pydantic.dev/latest/u/typed-dict-version/
        raise TypeError(
            f"{found.__name__} is a typing.TypedDict, which Python 3.11 tells too little of: take it from"
            " typing_extensions, which is installed with pydantic"
        )
    return issubclass(found, BaseModel | Mapping) or is_dataclass(found)
