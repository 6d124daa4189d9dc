"""From what a caller asks for to what will be issued."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from writeahead._validation import Invalid, validated
from writeahead.adapters.base import Adapter, TransactionalAdapter, require_baseline_is_read
from writeahead.errors import AdapterError, InvalidInput
from writeahead.model import KeyedOperation, Operation, PlannedOperation, ReplayClass, idempotency_key
from writeahead.protocol.context import HeldBack, RunContext
from writeahead.protocol.encoding import MAX_ARTIFACT_BYTES, MAX_RECEIPT_BYTES, digest_of, encode_model
from writeahead.protocol.keys import require_session_id
from writeahead.protocol.progress import SessionProgress, WaitReason
from writeahead.protocol.references import planned_with_references, reads_receipts, require_earlier
from writeahead.protocol.retry import with_retries
from writeahead.protocol.schema import PlannedWriteback

__all__ = ["encode_finishable", "keyed_operations", "plan_operations", "request_digest", "require_atomic"]


def keyed_operations(
    session_id: str, operations: Iterable[Operation | Mapping[str, Any]], *, namespace: str = ""
) -> list[KeyedOperation]:
    """Give each operation its id and its idempotency key.

    Raises:
        InvalidInput: An id is used twice, an operation is malformed, or there are none.
    """
    require_session_id(session_id)
    keyed: dict[str, KeyedOperation] = {}
    for position, given in enumerate(operations, start=1):
        operation = _as_operation(given, position)
        operation_id = operation.id or f"{position}-{operation.kind}"
        if operation_id in keyed:
            raise InvalidInput(f"operation id {operation_id!r} is used twice: give each operation its own")
        keyed[operation_id] = KeyedOperation(
            session_id=session_id,
            id=operation_id,
            kind=operation.kind,
            key=idempotency_key(session_id, operation_id, namespace=namespace),
            payload=operation.payload,
            baseline=operation.baseline,
            independent=operation.independent,
        )
    if not keyed:
        raise InvalidInput(f"session {session_id} has no operations: there is nothing to write")
    return list(keyed.values())


def _as_operation(given: Operation | Mapping[str, Any], position: int) -> Operation:
    if isinstance(given, Operation):
        return given
    try:
        operation = validated(lambda: Operation.model_validate(given))
    except InvalidInput as error:
        raise InvalidInput(f"operation {position}: {error}") from None
    if isinstance(operation, Invalid):
        raise InvalidInput(f"operation {position}: {operation.line()}")
    return operation


def request_digest(
    keyed: Sequence[KeyedOperation], *, atomic: bool, identity: JsonValue, namespace: str
) -> str:
    """What tells a repeat of a request from another one under the same session id.

    Args:
        keyed: The operations, as they were asked for.
        atomic: As for `write_back`.
        identity: As for `write_back`.
        namespace: As for `write_back`.
    """
    if identity is not None:
        # Without it, the keys of the operations hold the namespace.
        return digest_of({"identity": identity, "atomic": atomic, "namespace": namespace})
    # A baseline is what the caller saw, and not what it asks for: when it loads the row again for a
    # repeat, the request is the same.
    request = [_as_requested(operation) for operation in keyed]
    return digest_of({"atomic": request} if atomic else request)


def _as_requested(operation: KeyedOperation) -> dict[str, Any]:
    request = dict(vars(operation))
    del request["baseline"]
    if not operation.independent:
        del request["independent"]  # as of earlier versions
    return request


def plan_operations(
    keyed: Sequence[KeyedOperation], context: RunContext, *, dry_run: bool = False
) -> list[PlannedOperation]:
    """Have the adapter plan, under the retry policy; for a dry run, only preview.

    Raises:
        InvalidInput: The operations can't be used, or the adapter planned others than it was asked
        to. NotReady, AdapterError: As `Adapter.plan`.
    """
    progress, numbers = context.progress(keyed[0].session_id, keyed), itertools.count(1)
    ask = context.adapter.preview if dry_run else context.adapter.plan
    progress.planning()

    def attempt(asked: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        _wait_for_remote(context, progress, asked)
        number = next(numbers)
        try:
            with context.call_limits():
                planned = ask(asked)
        except AdapterError as error:
            context.told(error)
            progress.failed((), number, error, writes=False)
            raise
        if getattr(ask, "__func__", None) is Adapter.plan:
            return planned
        # An adapter that overrides `plan` may not have done it.
        return [context.adapter.as_issued(item) for item in planned]

    def sleep(seconds: float) -> None:
        progress.waiting((), seconds)
        context.sleep(seconds)

    def plan(asked: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        return with_retries(
            lambda: attempt(asked),
            policy=context.policy,
            clock=context.clock,
            time_left=context.time_left,
            sleep=sleep,
        )

    require_earlier(keyed)
    for item in keyed:
        # Not left to the adapter alone, which may plan by itself and not look.
        if (kind := context.adapter.kinds.get(item.kind)) is not None:
            require_baseline_is_read(kind, item)
    _require_receipts(keyed, context.adapter)
    planned = planned_with_references(keyed, plan)
    if [(item.id, item.kind, item.key) for item in planned] != [(x.id, x.kind, x.key) for x in keyed]:
        raise InvalidInput(f"adapter {context.adapter.name!r} planned other operations than it was asked to")
    return [_as_independent(item, asked=x.independent) for item, x in zip(planned, keyed, strict=True)]


def _as_independent(planned: PlannedOperation, *, asked: bool) -> PlannedOperation:
    """Adapters plan what is sent; in which order is the caller's word."""
    if planned.independent is asked:
        return planned
    return planned.model_copy(update={"independent": asked})


def _wait_for_remote(context: RunContext, progress: SessionProgress, asked: Sequence[KeyedOperation]) -> None:
    """Wait as long as the remote has asked any session, unless it is not asked now."""

    def sleep(seconds: float) -> None:
        progress.waiting((), seconds, WaitReason.RETRY_AFTER)
        context.sleep(seconds)
        if context.stopped:
            raise HeldBack(seconds, context.clock.now())

    if context.adapter.reads_to_plan(asked):
        context.wait_for_remote(context.time_left, sleep)


def _require_receipts(keyed: Sequence[KeyedOperation], adapter: Adapter) -> None:
    """Refuse a reference to an operation whose emit method says that it returns nothing."""
    silent = {item.id: item.kind for item in keyed if _is_silent(adapter, item.kind)}
    for item in keyed:
        for name in sorted(reads_receipts(item.payload) & silent.keys()):
            raise InvalidInput(
                f"operation {item.id}: it refers to the receipt of {name}, and emit_{silent[name]} says"
                " that it returns None: have it return a Receipt with the field"
            )


def _is_silent(adapter: Adapter, name: str) -> bool:
    kind = adapter.kinds.get(name)
    return kind is not None and not kind.has_receipt


def require_atomic(adapter: Adapter, operations: Sequence[PlannedOperation]) -> None:
    """Refuse what can't be issued as one transaction.

    Raises:
        InvalidInput: The adapter has no transactions or not for these operations, or an operation
            is of a class that has none.
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
        if reads_receipts(operation.payload):
            raise InvalidInput(
                f"operation {operation.id} refers to a receipt, which one transaction does not have yet: plan"
                " the session without atomic"
            )
    adapter.require_transaction(operations)


def encode_finishable(plan: PlannedWriteback) -> bytes:
    """Encode a plan, unless its final artifact could be too large.

    Raises:
        InvalidInput: It is, if every receipt is as large as a receipt can be.
    """
    data = encode_model(plan)
    size = len(data) + len(plan.operations) * MAX_RECEIPT_BYTES
    if size > MAX_ARTIFACT_BYTES:
        raise InvalidInput(
            f"session {plan.session_id}: {len(plan.operations)} operations need up to {size} bytes in the"
            f" final artifact, with their receipts, and it has at most {MAX_ARTIFACT_BYTES}: make it"
            " several sessions"
        )
    return data
