"""The interface of every adapter: two verbs, `Adapter.plan` and `Adapter.emit`.

Subclass `Adapter`, give each kind of operation a typed method ``emit_<kind>(self, payload,
operation)`` and say with `emits` how its replay is proved harmless. The base class does the rest.
"""

import difflib
import hashlib
import inspect
import json
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel

from writeahead._roundtrip import difference_of, json_of
from writeahead._validation import Invalid, validated
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation, PlannedOperation, Receipt, ReplayClass

__all__ = ["Adapter", "Kind", "TransactionalAdapter", "emits", "target_of"]

_EMIT, _PLAN, _FIND = "emit_", "plan_", "find_"
_F = TypeVar("_F", bound=Callable[..., Receipt])


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
    """One kind of operation, as its ``emit_<kind>`` declares it.

    Attributes:
        name: The kind.
        replay: Its replay class.
        payload: The model that its emitted payload is made of.
        key_valid_for: How long the remote remembers our key; None for ever.
        settles_after: How long a late request can still land; None if that does no harm.
    """

    name: str
    replay: ReplayClass
    payload: type[BaseModel]
    key_valid_for: timedelta | None = None
    settles_after: timedelta | None = None


class Adapter(ABC):
    """What writeahead needs to know of a remote system.

    A subclass sets ``name`` and defines, for each kind of operation:

    - ``emit_<kind>(self, payload: Model, operation: PlannedOperation) -> Receipt``, decorated with
      `emits`: sends one request and returns its receipt. It never retries; it raises
      `TransientError`, `PermanentError` or `ConflictError`. ``operation.key`` is the idempotency
      key to give to the remote.
    - ``plan_<kind>(self, payload: Input, operation: KeyedOperation) -> PlannedOperation``,
      optional: turns what the caller asked for into what will be issued, reading baselines if there
      are any. Without it, the caller's payload, validated against the emit method's model, is what
      will be issued.
    - ``find_<kind>(self, payload: Model, operation: PlannedOperation) -> Receipt | None``: searches
      the remote by ``operation.key``. Required for kinds of class ``lookup``; for a kind with
      ``key_valid_for`` it is asked once the key may have been forgotten.

    The class is checked where it is defined: a missing name, a kind without a replay class, or a
    ``plan_`` or ``find_`` method of no kind is a TypeError.

    The message of an adapter's error goes into journals and reports. URLs, queries and
    ``host:port`` are cut out of it. The adapter must leave out all else that is secret or personal,
    such as tokens and payloads.

    Attributes:
        name: Stored in each plan; a plan is carried out only by an adapter of the same name.
        request_lifetime: Seconds after which a request that was sent can surely no longer take
            effect. Counts for kinds of class ``lookup``.
    """

    name: ClassVar[str]
    request_lifetime: float = 300.0

    kinds: ClassVar[Mapping[str, Kind]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kinds = _kinds_of(cls)

    def target(self) -> str | None:
        """What identifies the remote that this adapter writes to; None if it can't be told.

        A plan keeps it, and is carried out only by an adapter with the same. Make it with
        `target_of` out of what tells two environments apart (URL, tenant, account), and of no
        secret.
        """
        return None

    def row_of(self, operation: PlannedOperation) -> str | None:
        """What an operation writes, so that one row has one name; None if it can't be told.

        Before an update or upsert of a row that an operation before it may have written, the
        receipt of that one is journaled.
        """
        del operation  # this class knows nothing of rows
        return None

    def can_find(self, operation: PlannedOperation) -> bool:
        """Whether the remote can be searched for an operation of this kind."""
        return hasattr(self, f"{_FIND}{operation.kind}")

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Validate all that can be validated before a side effect, and return what will be issued.

        Override it to check what is common to all operations, such as credentials, and call this.

        Raises:
            InvalidInput: An unknown kind, or a payload of the wrong shape.
            NotReady: The remote or the configuration is not ready; it names every gap.
            TransientError: The remote could not be read.
        """
        return [self._plan_one(operation) for operation in operations]

    def emit(self, operation: PlannedOperation) -> Receipt:
        """Send one operation, in one attempt.

        Raises:
            TransientError: It failed in a way that may pass.
            PermanentError: It was refused, and would be again.
            ConflictError: Another user changed what it was to change.
            NotReady: Nothing was sent, since e.g. credentials are missing or were refused.
            InvalidInput: The planned payload does not fit this version of the adapter. Nothing was
                sent.
        """
        receipt: Receipt = self._call(_EMIT, operation)
        return receipt

    def find(self, operation: PlannedOperation) -> Receipt | None:
        """Search the remote for an operation that may have been sent; None if it is not there.

        Raises:
            TransientError: The remote could not be searched.
        """
        found: Receipt | None = self._call(_FIND, operation)
        return found

    def payload_of(self, operation: PlannedOperation) -> BaseModel:
        """Return a planned operation's payload as the model that its ``emit_<kind>`` takes.

        Raises:
            InvalidInput: It does not fit this version of the adapter, or this version would send
                something else than was planned. Nothing was sent.
        """
        payload = _validated(self._kind(operation).payload, operation)
        difference = difference_of(operation.payload, payload)
        if difference:
            raise InvalidInput(
                f"operation {operation.id} ({operation.kind}): this version of adapter {self.name!r} would"
                f" not send what was planned: {difference}; resume it with the version that planned it"
            )
        return payload

    def as_issued(self, planned: PlannedOperation) -> PlannedOperation:
        """Return a planned operation with the payload exactly as it will be issued.

        What its ``emit_<kind>`` would refuse is found out here, before anything is durable or sent.
        What the model would add, such as a default, is put into the plan.

        Raises:
            InvalidInput: The payload does not fit.
            TypeError: It is planned under another replay class than its ``emit_<kind>`` declares.
        """
        kind = self._kind(planned)
        if planned.replay is not kind.replay:
            raise TypeError(f"plan_{kind.name} says {planned.replay}, but emit_{kind.name} is {kind.replay}")
        issued = _json_of(_validated(kind.payload, planned), planned)
        return planned if issued == planned.payload else planned.model_copy(update={"payload": issued})

    def completed(self, planned: PlannedOperation) -> PlannedOperation:
        """Return an operation with the defaults that a planner of version 0.1 left out.

        Raises:
            InvalidInput: This version would lose or change a field that was planned.
        """
        payload = {**self.as_issued(planned).payload, **planned.payload}
        completed = planned.model_copy(update={"payload": payload})
        self.payload_of(completed)
        return completed

    def _kind(self, operation: KeyedOperation | PlannedOperation) -> Kind:
        kind = self.kinds.get(operation.kind)
        if kind is None:
            known = ", ".join(sorted(self.kinds)) or "none"
            raise InvalidInput(
                f"operation {operation.id}: adapter {self.name!r} has no kind {operation.kind!r},"
                f" only: {known}"
            )
        return kind

    def _plan_one(self, operation: KeyedOperation) -> PlannedOperation:
        kind = self._kind(operation)
        planner = getattr(self, _PLAN + kind.name, None)
        if planner is not None:
            model = _payload_model(planner)
            planned: PlannedOperation = planner(_validated(model, operation), operation)
            return self.as_issued(planned)
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=_json_of(_validated(kind.payload, operation), operation),
            replay=kind.replay,
        )

    def _call(self, verb: str, operation: PlannedOperation) -> Any:
        kind = self._kind(operation)
        method = getattr(self, verb + kind.name)
        return method(_validated(kind.payload, operation), operation)


def target_of(*parts: str) -> str:
    """Return what stands for a remote in a plan: a hash of what identifies it, and of no secret."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _json_of(payload: BaseModel, operation: KeyedOperation | PlannedOperation) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json_of(payload)
    except InvalidInput as error:
        raise InvalidInput(f"operation {operation.id} ({operation.kind}): {error}") from None
    return document


def _kinds_of(cls: type[Adapter]) -> dict[str, Kind]:
    """Read the kinds off a class, and refuse what the base class would never call."""
    kinds: dict[str, Kind] = {}
    for attribute in _methods(cls, _EMIT):
        name = attribute.removeprefix(_EMIT)
        method = inspect.getattr_static(cls, attribute)
        declared = getattr(method, "__writeahead_emits__", None)
        if declared is None:
            raise TypeError(f"{cls.__name__}.{attribute} has no replay class: decorate it with @emits(...)")
        replay, key_valid_for, settles_after = declared
        if replay is ReplayClass.LOOKUP and not hasattr(cls, f"{_FIND}{name}"):
            raise TypeError(f"{cls.__name__}.{attribute} is of class lookup, so it needs a find_{name}")
        kinds[name] = Kind(name, replay, _payload_model(method), key_valid_for, settles_after)
    for prefix in (_PLAN, _FIND):
        for attribute in _methods(cls, prefix):
            if attribute.removeprefix(prefix) not in kinds:
                raise TypeError(_without_kind(cls, attribute, prefix, kinds))
            if prefix == _PLAN:
                _payload_model(inspect.getattr_static(cls, attribute))
    if kinds and not (isinstance(getattr(cls, "name", None), str) and cls.name):
        raise TypeError(f'{cls.__name__} has no name: set name = "...", which each plan stores')
    return kinds


def _methods(cls: type[Adapter], prefix: str) -> list[str]:
    return [attribute for attribute in dir(cls) if attribute.startswith(prefix)]


def _without_kind(cls: type[Adapter], attribute: str, prefix: str, kinds: Mapping[str, Kind]) -> str:
    name = attribute.removeprefix(prefix)
    nearest = difflib.get_close_matches(name, kinds, n=1)
    advice = (
        f"do you mean {prefix}{nearest[0]}?" if nearest else f"begin other names than kinds with _{prefix}"
    )
    return f"{cls.__name__}.{attribute} is never called, since there is no {_EMIT}{name}: {advice}"


def _payload_model(method: Callable[..., Any]) -> type[BaseModel]:
    model = typing.get_type_hints(method).get("payload")
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{method.__qualname__} must annotate its parameter 'payload' with a pydantic model")
    return model


def _validated(model: type[BaseModel], operation: KeyedOperation | PlannedOperation) -> BaseModel:
    # As JSON, the form in which it comes from an artifact: a strict model takes dates from there.
    payload = validated(lambda: model.model_validate_json(json.dumps(operation.payload)))
    if isinstance(payload, Invalid):
        raise InvalidInput(
            f"operation {operation.id} ({operation.kind}): payload of the wrong shape:"
            f" {payload.line('payload')}"
        )
    return payload


class TransactionalAdapter(Adapter):
    """An adapter of a remote that can take a session's operations as one transaction."""

    @abstractmethod
    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        """Send all operations in one attempt: all of them take effect, or none.

        They are of the classes ``create_with_key``, ``upsert`` and ``conditional_update``. It never
        retries. Called again after an attempt of unknown outcome, it finds out whether that one
        took effect; it never sends a part of them.

        Returns:
            A receipt for each operation, in order.

        Raises: as `Adapter.emit`. The message of an error names the operation at fault where that
            is known.
        """
