"""References in payloads to earlier receipts: planned by stand-ins, resolved before the send."""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from writeahead.errors import InvalidInput, PermanentError
from writeahead.model import REFERENCE, KeyedOperation, PlannedOperation, Receipt

__all__ = [
    "filled_in",
    "ids_read",
    "planned_with_references",
    "reads_receipts",
    "require_earlier",
    "resolved",
]

_FIELDS = ("remote_id", "remote_version", "value")
# Up to 64 bits, without a sign: what remotes number rows by.
_WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,18}|0", re.ASCII)
_HOLDERS = (dict, list, tuple)
_KEYS = ({REFERENCE}, {REFERENCE, "field"})


def reads_receipts(payload: Mapping[str, Any]) -> set[str]:
    """The operations whose receipts a payload refers to."""
    return {found[REFERENCE] for found in _references(payload)}


def ids_read(payload: Mapping[str, Any]) -> set[str]:
    """The operations whose remote ids a payload refers to."""
    return {
        found[REFERENCE] for found in _references(payload) if found.get("field", "remote_id") == "remote_id"
    }


def resolved(
    operation: PlannedOperation,
    receipts: Mapping[str, Receipt],
    require_fit: Callable[[PlannedOperation], object],
) -> PlannedOperation:
    """Return an operation with the receipts' fields in place of its references; it has some.

    An id is text in a receipt. Where that does not fit, and it is a number, the number is taken.

    Args:
        operation: As it is in the plan.
        receipts: What has been confirmed so far.
        require_fit: `Adapter.payload_of`, which raises what it raises for an operation that does
            not fit.

    Raises:
        PermanentError: A receipt lacks the field.
        InvalidInput: As ``require_fit``.
    """
    first: InvalidInput | None = None
    for form in (_as_it_is, _as_number):
        candidate = _with_receipts(operation, receipts, form)
        try:
            require_fit(candidate)
        except InvalidInput as error:
            first = first or error
        else:
            return candidate
    assert first is not None
    raise first


def filled_in(payload: Mapping[str, Any], receipts: Mapping[str, Receipt]) -> tuple[dict[str, Any], set[str]]:
    """Put what receipts hold in place of the references to them, as it is; leave the others.

    Returns:
        The payload; and the operations whose receipts lack what is referred to, so that these
        references are left, too.
    """
    lacking: set[str] = set()

    def field_of(reference: Mapping[str, str]) -> Any:
        name = reference[REFERENCE]
        value = getattr(receipts.get(name), reference.get("field", "remote_id"), None)
        if value is None and name in receipts:
            lacking.add(name)
        return dict(reference) if value is None else value

    return _replaced(payload, field_of), lacking


def _as_it_is(value: Any) -> Any:
    return value


def _as_number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value) else value


def _with_receipts(
    operation: PlannedOperation, receipts: Mapping[str, Receipt], form: Callable[[Any], Any]
) -> PlannedOperation:

    def field_of(reference: Mapping[str, str]) -> Any:
        name = reference.get("field", "remote_id")
        value = getattr(receipts[reference[REFERENCE]], name)
        if value is None:
            raise PermanentError(
                f"the receipt of {reference[REFERENCE]} has no {name}, to which {operation.id} refers:"
                " its emit method has to return a Receipt with it"
            )
        return form(value)

    return operation.model_copy(update={"payload": _replaced(operation.payload, field_of)})


def planned_with_references(
    keyed: Sequence[KeyedOperation], plan: Callable[[Sequence[KeyedOperation]], list[PlannedOperation]]
) -> list[PlannedOperation]:
    """Have operations planned, with a stand-in for each reference: its value is not known yet.

    Models and planners see a GUID, or a number where a GUID does not fit, and must keep it whole.

    Raises:
        InvalidInput: A reference can't stand where it does.
    """
    if not any(reads_receipts(item.payload) for item in keyed):
        return plan(keyed)
    first: InvalidInput | None = None
    for stand_in in (_guid, _number):
        try:
            planned = plan([_with_stand_ins(item, stand_in) for item in keyed])
            return [_put_back(one, other, stand_in) for one, other in zip(keyed, planned, strict=True)]
        except InvalidInput as error:
            first = first or error
    assert first is not None
    raise first


def require_earlier(keyed: Sequence[KeyedOperation]) -> None:
    """Refuse a reference that can't be resolved.

    Raises:
        InvalidInput: It is malformed, or names no earlier operation.
    """
    earlier: list[str] = []
    for item in keyed:
        for found in _references(item.payload):
            if set(found) not in _KEYS or found.get("field", "remote_id") not in _FIELDS:
                raise InvalidInput(
                    f'operation {item.id}: write a reference as {{"{REFERENCE}": OPERATION, "field": FIELD}},'
                    f" with a field of {', '.join(_FIELDS)}"
                )
            if found[REFERENCE] not in earlier:
                raise InvalidInput(
                    f"operation {item.id}: it refers to {found[REFERENCE]!r}, which is no operation before it"
                )
        earlier.append(item.id)


def _guid(place: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"writeahead:{place}"))


def _number(place: str) -> int:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"writeahead:{place}").int % 10**9


def _place(operation_id: str, reference: Mapping[str, str]) -> str:
    return f"{operation_id}/{reference[REFERENCE]}/{reference.get('field', 'remote_id')}"


def _with_stand_ins(item: KeyedOperation, stand_in: Callable[[str], Any]) -> KeyedOperation:
    payload = _replaced(item.payload, lambda reference: stand_in(_place(item.id, reference)))
    return item.model_copy(update={"payload": payload})


def _put_back(
    asked: KeyedOperation, planned: PlannedOperation, stand_in: Callable[[str], Any]
) -> PlannedOperation:
    back = {stand_in(_place(asked.id, reference)): reference for reference in _references(asked.payload)}
    if not back:
        return planned
    found: set[Any] = set()
    payload = _swapped(planned.payload, back, found)
    left = json.dumps([payload, planned.precondition, planned.key])
    if found != set(back) or any(str(value) in left for value in back):
        raise InvalidInput(
            f"operation {asked.id} ({asked.kind}): a reference can't stand where its kind needs the value"
            " while it is planned, as in what finds or names a row"
        )
    return planned.model_copy(update={"payload": payload})


def _references(value: Any) -> Iterator[Mapping[str, str]]:
    if isinstance(value, dict):
        if REFERENCE in value:
            yield value
        else:
            for inside in value.values():
                if isinstance(inside, _HOLDERS):
                    yield from _references(inside)
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from _references(inside)


def _replaced(value: Any, by: Callable[[Mapping[str, str]], Any]) -> Any:
    if isinstance(value, dict):
        return by(value) if REFERENCE in value else {key: _replaced(item, by) for key, item in value.items()}
    return [_replaced(item, by) for item in value] if isinstance(value, list | tuple) else value


def _swapped(value: Any, back: Mapping[Any, Any], found: set[Any]) -> Any:
    if isinstance(value, dict):
        return {key: _swapped(item, back, found) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_swapped(item, back, found) for item in value]
    # A number may have become a float, which is equal.
    if isinstance(value, str | int | float) and not isinstance(value, bool) and value in back:
        found.add(value)
        return back[value]
    return value
