"""The interface of every adapter: two verbs, `Adapter.plan` and `Adapter.emit`.

Subclass `Adapter`, give each kind of operation a typed method ``emit_<kind>(self, payload,
operation)`` and say with `emits` how its replay is proved harmless. The base class does the rest.
"""

import inspect
import json
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel

from writeahead._validation import Invalid, validated
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation, PlannedOperation, Receipt, ReplayClass

__all__ = ["Adapter", "Kind", "TransactionalAdapter", "emits"]

_EMIT = "emit_"
_F = TypeVar("_F", bound=Callable[..., Receipt])


def emits(replay: ReplayClass | str) -> Callable[[_F], _F]:
    """Declare the replay class of an ``emit_<kind>`` method. There is no default: it must be thought of.

    Raises:
        ValueError: ``replay`` is none of the five classes.
    """
    declared = ReplayClass(replay)

    def mark(method: _F) -> _F:
        method.__writeahead_replay__ = declared  # type: ignore[attr-defined]
        return method

    return mark


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of operation: its replay class, and the model that its emitted payload is made of."""

    name: str
    replay: ReplayClass
    payload: type[BaseModel]


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
    - ``find_<kind>(self, payload: Model, operation: PlannedOperation) -> Receipt | None``, for kinds of class
      ``lookup`` only, and required there: searches the remote by ``operation.key``.

    What an adapter says in an error goes into journals and to people. URLs, queries and
    ``host:port`` are cut out of it; leaving out the rest that is nobody's business (tokens,
    payloads) is the adapter's duty.

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
        cls.kinds = {kind.name: kind for kind in _kinds_of(cls)}

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Validate everything that can be validated before a side effect, and return what will be issued.

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
            ConflictError: Somebody else changed what it was to change.
            NotReady: Nothing was sent, since e.g. credentials are missing or were refused.
            InvalidInput: The planned payload does not fit this version of the adapter. Nothing was
                sent.
        """
        receipt: Receipt = self._call(_EMIT, operation)
        return receipt

    def find(self, operation: PlannedOperation) -> Receipt | None:
        """Search the remote for an operation of class ``lookup``; None if it surely is not there.

        Raises:
            TransientError: The remote could not be searched.
        """
        found: Receipt | None = self._call("find_", operation)
        return found

    def payload_of(self, operation: PlannedOperation) -> BaseModel:
        """Return a planned operation's payload as the model that its ``emit_<kind>`` takes.

        Raises:
            InvalidInput: It does not fit this version of the adapter.
        """
        return _validated(self._kind(operation).payload, operation)

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
        planner = getattr(self, f"plan_{kind.name}", None)
        if planner is not None:
            model = _payload_model(planner)
            planned: PlannedOperation = planner(_validated(model, operation), operation)
        else:
            payload = _validated(kind.payload, operation)
            planned = PlannedOperation(
                id=operation.id,
                kind=operation.kind,
                key=operation.key,
                payload=payload.model_dump(mode="json", by_alias=True, round_trip=True),
                replay=kind.replay,
            )
        if planned.replay is not kind.replay:
            raise TypeError(f"plan_{kind.name} says {planned.replay}, but emit_{kind.name} is {kind.replay}")
        # What emit would refuse must be found out now, before anything is durable or sent.
        _validated(kind.payload, planned)
        return planned

    def _call(self, verb: str, operation: PlannedOperation) -> Any:
        kind = self._kind(operation)
        method = getattr(self, verb + kind.name)
        return method(_validated(kind.payload, operation), operation)


def _kinds_of(cls: type[Adapter]) -> list[Kind]:
    kinds = []
    for attribute in dir(cls):
        if not attribute.startswith(_EMIT):
            continue
        method = inspect.getattr_static(cls, attribute)
        replay = getattr(method, "__writeahead_replay__", None)
        if replay is None:
            raise TypeError(f"{cls.__name__}.{attribute} has no replay class: decorate it with @emits(...)")
        name = attribute.removeprefix(_EMIT)
        if replay is ReplayClass.LOOKUP and not hasattr(cls, f"find_{name}"):
            raise TypeError(f"{cls.__name__}.{attribute} is of class lookup, so it needs a find_{name}")
        kinds.append(Kind(name, replay, _payload_model(method)))
    return kinds


def _payload_model(method: Callable[..., Any]) -> type[BaseModel]:
    model = typing.get_type_hints(method).get("payload")
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise TypeError(f"{method.__qualname__} must annotate its parameter 'payload' with a pydantic model")
    return model


def _validated(model: type[BaseModel], operation: KeyedOperation | PlannedOperation) -> BaseModel:
    # As JSON, which is what it comes as from an artifact: a strict model takes its dates from
    # there.
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
