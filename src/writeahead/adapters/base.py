"""The interface of every adapter: two verbs, `Adapter.plan` and `Adapter.emit`.

Subclass `Adapter`, give each kind of operation a typed method ``emit_<kind>(self, payload,
operation)`` and say with `emits` how its replay is proved harmless. The base class does the rest.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, ClassVar

from writeahead._roundtrip import JsonType, difference_of, json_of
from writeahead._unread import unread_key
from writeahead._validation import Invalid
from writeahead.adapters.awaiting import awaited
from writeahead.adapters.kinds import BASELINE, EMIT, FIND, PLAN, Kind, emits, kinds_of
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation, PlannedOperation, Receipt

__all__ = ["Adapter", "Kind", "TransactionalAdapter", "emits", "require_baseline_is_read", "target_of"]


class Adapter(ABC):
    """What writeahead needs to know of a remote system.

    A subclass sets ``name`` and defines, for each kind of operation:

    - ``emit_<kind>(self, payload: Model, operation: PlannedOperation) -> Receipt``, decorated with
      `emits`: sends one request and returns its receipt, or None where the remote gives back
      nothing worth keeping. It never retries; it raises `TransientError`, `PermanentError` or
      `ConflictError`. ``operation.key`` is the idempotency key to give to the remote.
    - ``plan_<kind>(self, payload: Input, operation: KeyedOperation) -> PlannedOperation``,
      optional: turns what the caller asked for into what will be issued, reading baselines if there
      are any. Without it, the caller's payload, validated against the emit method's model, is what
      will be issued. With a third parameter, ``baseline: Baseline | None``, the kind takes one from
      the caller, who loaded the row before; a kind without it refuses one. A row that is not as
      that baseline says is a `ConflictError`.
    - ``find_<kind>(self, payload: Model, operation: PlannedOperation) -> Receipt | None``: searches
      the remote by ``operation.key``. Required for kinds of class ``lookup``; for a kind with
      ``key_valid_for`` it is asked once the key may have been forgotten.

    ``Model``, ``Input`` and ``Baseline`` are pydantic models, dataclasses, TypedDicts or dicts.
    What a type has no field for is refused before anything is written. Each of these methods may be
    ``async def``: see `writeahead.adapters.awaiting` for the event loop that runs it.

    The class is checked where it is defined: a missing name, a kind without a replay class, or a
    ``plan_`` or ``find_`` method of no kind is a TypeError.

    The message of an adapter's error goes into journals and reports. URLs, queries and
    ``host:port`` are cut out of it. The adapter must leave out all else that is secret or personal,
    such as tokens and payloads.

    Attributes:
        name: Stored in each plan; a plan is carried out only by an adapter of the same name.
        request_lifetime: Seconds after which a request that was sent can surely no longer take
            effect. Counts for kinds of class ``lookup``.
        thread_safe: Whether ``emit_<kind>`` and ``find_<kind>`` may be called from several threads
            at once. Without it, independent operations of a session are sent one after another. A
            sweep with ``concurrency`` calls an adapter so in any case.
    """

    name: ClassVar[str]
    request_lifetime: float = 300.0
    thread_safe: bool = False

    kinds: ClassVar[Mapping[str, Kind]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.kinds = kinds_of(cls)

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
        return hasattr(self, f"{FIND}{operation.kind}")

    def reads_to_plan(self, operations: Sequence[KeyedOperation]) -> bool:
        """Whether planning these may send requests; if not, it waits for no Retry-After.

        It may where a kind has a ``plan_<kind>``, or where the class plans in its own way.
        """
        own = type(self).plan is not Adapter.plan or type(self).preview is not Adapter.preview
        return own or any(hasattr(self, PLAN + operation.kind) for operation in operations)

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Validate all that can be validated before a side effect, and return what will be issued.

        Override it to check what is common to all operations, such as credentials, and call this.

        Raises:
            InvalidInput: An unknown kind, a payload or a baseline of the wrong shape, or a baseline
                for a kind that takes none.
            NotReady: The remote or the configuration is not ready; it names every gap.
            ConflictError: A row is not as the caller's baseline says, or a key is another user's.
            TransientError: The remote could not be read.
        """
        return [self._plan_one(operation) for operation in operations]

    def preview(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Plan for a dry run, which sends nothing; by default it is `plan`.

        Override it where something can be planned without the remote. What was not checked then
        becomes a warning of the operation. Raises: as `plan`.
        """
        return self.plan(operations)

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
        kind = self._kind(operation)
        receipt: Receipt | None = self._call(EMIT, kind.payload, operation)
        return Receipt() if receipt is None else receipt

    def find(self, operation: PlannedOperation) -> Receipt | None:
        """Search the remote for an operation that may have been sent; None if it is not there.

        Raises:
            TransientError: The remote could not be searched.
        """
        kind = self._kind(operation)
        found: Receipt | None = self._call(FIND, kind.found, operation)
        return found

    def payload_of(self, operation: PlannedOperation) -> Any:
        """Return a planned operation's payload in the type that its ``emit_<kind>`` takes.

        Raises:
            InvalidInput: It does not fit this version of the adapter, or this version would send
                something else than was planned. Nothing was sent.
        """
        kind = self._kind(operation)
        payload = _read(kind.payload, operation)
        difference = difference_of(operation.payload, payload, kind.payload)
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
        issued = _issued(kind, planned)
        return planned if issued == planned.payload else planned.model_copy(update={"payload": issued})

    def completed(self, planned: PlannedOperation) -> PlannedOperation:
        """Return an operation with the defaults that a planner of version 0.1 left out.

        Raises:
            InvalidInput: This version would lose or change a field that was planned.
        """
        kind = self._kind(planned)
        # A field that it would lose is found last, among all other differences.
        payload = {**_document(kind, _read(kind.payload, planned), planned), **planned.payload}
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
        require_baseline_is_read(kind, operation)
        if hasattr(self, PLAN + kind.name):
            planned = self._call(PLAN, kind.asked, operation, **_baseline(kind, operation))
            if not isinstance(planned, PlannedOperation):
                raise TypeError(f"{PLAN}{kind.name} returned no PlannedOperation for {operation.id}")
            return self.as_issued(planned)
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=_issued(kind, operation),
            replay=kind.replay,
        )

    def _call(
        self, verb: str, json_type: JsonType, operation: KeyedOperation | PlannedOperation, **more: Any
    ) -> Any:
        method = getattr(self, verb + operation.kind)
        payload = _read(json_type, operation)
        if verb == PLAN:
            _require_whole(json_type, operation, payload)
        return awaited(method(payload, operation, **more))


def target_of(*parts: str) -> str:
    """Return what stands for a remote in a plan: a hash of what identifies it, and of no secret."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def require_baseline_is_read(kind: Kind, operation: KeyedOperation) -> None:
    """Refuse a caller's baseline that its kind does not take.

    Raises:
        InvalidInput: The kind takes none.
    """
    if operation.baseline is not None and kind.baseline is None:
        raise InvalidInput(
            f"operation {operation.id} ({operation.kind}): this kind takes no baseline: leave it out"
        )


def _baseline(kind: Kind, operation: KeyedOperation) -> dict[str, Any]:
    """The parameter ``baseline`` of a planner that has one."""
    if kind.baseline is None:
        return {}
    if operation.baseline is None:
        return {BASELINE: None}
    where = f"operation {operation.id} ({operation.kind}): baseline of the wrong shape"
    value = kind.baseline.read(json.dumps(operation.baseline))
    if isinstance(value, Invalid):
        raise InvalidInput(f"{where}: {value.line(BASELINE)}")
    unread = unread_key(operation.baseline, value, kind.baseline)
    if unread is not None:
        raise InvalidInput(f"{where}: {unread}: {kind.baseline.name} has no such field")
    return {BASELINE: value}


def _issued(kind: Kind, operation: KeyedOperation | PlannedOperation) -> dict[str, Any]:
    """An operation's payload as its emit method will get it, unless a part of it would be lost."""
    payload = _read(kind.payload, operation)
    document = _document(kind, payload, operation)
    _require_whole(kind.payload, operation, payload, document)
    return document


def _document(kind: Kind, payload: Any, operation: KeyedOperation | PlannedOperation) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json_of(payload, kind.payload)
    except InvalidInput as error:
        raise InvalidInput(f"operation {operation.id} ({operation.kind}): {error}") from None
    return document


def _read(json_type: JsonType, operation: KeyedOperation | PlannedOperation) -> Any:
    # As JSON, the form in which it comes from an artifact: a strict model takes dates from there.
    payload = json_type.read(json.dumps(operation.payload))
    if isinstance(payload, Invalid):
        raise InvalidInput(
            f"operation {operation.id} ({operation.kind}): payload of the wrong shape:"
            f" {payload.line('payload')}"
        )
    return payload


def _require_whole(
    json_type: JsonType, operation: KeyedOperation | PlannedOperation, payload: Any, document: Any = None
) -> None:
    unread = unread_key(operation.payload, payload, json_type, document)
    if unread is not None:
        raise InvalidInput(
            f"operation {operation.id} ({operation.kind}): payload of the wrong shape: {unread}:"
            f" {json_type.name} has no such field, so it would be lost"
        )


class TransactionalAdapter(Adapter):
    """An adapter of a remote that can take a session's operations as one transaction."""

    def require_transaction(self, operations: Sequence[PlannedOperation]) -> None:
        """Refuse what the remote can't take as one transaction: too many operations, for one.

        It is asked once an atomic session is planned, before anything is persisted or sent, and
        asks nothing of the remote. By default nothing is refused.

        Raises:
            InvalidInput: They can't be one transaction; it says why.
        """
        del operations  # this class knows nothing of the remote's limits

    @abstractmethod
    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt] | Awaitable[list[Receipt]]:
        """Send all operations in one attempt: all of them take effect, or none.

        They are of the classes ``create_with_key``, ``upsert`` and ``conditional_update``. It never
        retries. Called again after an attempt of unknown outcome, it finds out whether that one
        took effect; it never sends a part of them.

        Returns:
            A receipt for each operation, in order; an empty one, and never None, where there is
            nothing to tell, since a None could also be a part that was left out. It may be
            ``async def``.

        Raises: as `Adapter.emit`. The message of an error names the operation at fault where that
            is known.
        """
