"""From what a caller asks for to what will be issued."""

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from writeahead._validation import Invalid, validated
from writeahead.adapters.base import Adapter, TransactionalAdapter
from writeahead.adapters.limits import call_limits
from writeahead.errors import InvalidInput
from writeahead.model import (
    KeyedOperation,
    Operation,
    PlannedOperation,
    ReplayClass,
    RunPolicy,
    idempotency_key,
)
from writeahead.protocol.artifacts import require_session_id
from writeahead.protocol.retry import Clock, sleep_unless_stopped, with_retries

__all__ = ["keyed_operations", "plan_operations", "require_atomic"]


def keyed_operations(
    session_id: str, operations: Iterable[Operation | Mapping[str, Any]]
) -> list[KeyedOperation]:
    """Give each operation its id and its idempotency key.

    Raises:
        InvalidInput: An id is there twice, an operation is malformed, or there is none.
    """
    require_session_id(session_id)
    keyed: dict[str, KeyedOperation] = {}
    for position, given in enumerate(operations, start=1):
        operation = _as_operation(given, position)
        operation_id = operation.id or f"{position}-{operation.kind}"
        if operation_id in keyed:
            raise InvalidInput(f"operation id {operation_id!r} is there twice: give each operation its own")
        keyed[operation_id] = KeyedOperation(
            session_id=session_id,
            id=operation_id,
            kind=operation.kind,
            key=idempotency_key(session_id, operation_id),
            payload=operation.payload,
        )
    if not keyed:
        raise InvalidInput(f"session {session_id} has no operations: there is nothing to write")
    return list(keyed.values())


def _as_operation(given: Operation | Mapping[str, Any], position: int) -> Operation:
    if isinstance(given, Operation):
        return given
    operation = validated(lambda: Operation.model_validate(given))
    if isinstance(operation, Invalid):
        raise InvalidInput(f"operation {position}: {operation.line()}")
    return operation


def plan_operations(
    keyed: Sequence[KeyedOperation],
    *,
    adapter: Adapter,
    policy: RunPolicy,
    clock: Clock,
    stop: threading.Event | None,
    deadline: float,
) -> list[PlannedOperation]:
    """Have the adapter plan, under the retry policy.

    Raises:
        InvalidInput: The operations can't be used, or the adapter planned others than it was asked
        to. NotReady, AdapterError: As `Adapter.plan`.
    """

    def plan() -> list[PlannedOperation]:
        with call_limits(lambda: deadline - clock.monotonic(), stop):
            return adapter.plan(keyed)

    planned = with_retries(
        plan,
        policy=policy,
        time_left=lambda: 0.0 if stop and stop.is_set() else deadline - clock.monotonic(),
        sleep=lambda seconds: sleep_unless_stopped(seconds, clock, stop),
    )
    if [(item.id, item.kind, item.key) for item in planned] != [(x.id, x.kind, x.key) for x in keyed]:
        raise InvalidInput(f"adapter {adapter.name!r} planned other operations than it was asked to")
    return planned


def require_atomic(adapter: Adapter, operations: Iterable[PlannedOperation]) -> None:
    """Refuse what can't be issued as one transaction.

    Raises:
        InvalidInput: The adapter has no transactions, or an operation is of a class that has none.
    """
    if not isinstance(adapter, TransactionalAdapter):
        raise InvalidInput(
            f"adapter {adapter.name!r} has no transactions, which an atomic session needs: leave it out, or"
            " use one that has them"
        )
    for operation in operations:
        if operation.replay in (ReplayClass.LOOKUP, ReplayClass.UNPROVABLE):
            raise InvalidInput(
                f"operation {operation.id} is of class {operation.replay}, which can be in no transaction:"
                " plan the session without atomic, or make this one a session of its own"
            )
