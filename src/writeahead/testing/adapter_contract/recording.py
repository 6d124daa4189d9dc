"""The adapter under test, with an ear at its mouth."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from writeahead.adapters.base import Adapter, TransactionalAdapter
from writeahead.errors import TransientError
from writeahead.model import KeyedOperation, PlannedOperation, Receipt
from writeahead.testing.adapter_contract.process import FaultProxy

__all__ = ["RecordingAdapter"]

_T = TypeVar("_T")


class RecordingAdapter(TransactionalAdapter):
    """The adapter under test; what it raises and how much it sends in one attempt is kept.

    It can do transactions if that adapter can.

    Args:
        inner: The adapter.
        wire: Where it sends.
        detour: Used instead of it for the first ``detours`` attempts at sending.
    """

    def __init__(
        self,
        inner: Adapter,
        wire: FaultProxy,
        detour: Adapter | None = None,
        *,
        detours: int = 0,
        plan: bool = False,
    ) -> None:
        self.inner = inner
        self._wire = wire
        self._detour = detour
        self._detours = detours
        self._plan_too = plan
        self.said: list[BaseException] = []
        self.waits: list[float | None] = []
        # Of one class for adapters of all names and kinds.
        setattr(self, "name", inner.name)  # noqa: B010 - see above
        setattr(self, "kinds", inner.kinds)  # noqa: B010 - see above
        self.request_lifetime = inner.request_lifetime
        self.chatty = 0

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """As the adapter does."""
        inner = self._next() if self._plan_too else self.inner
        return self._listen(lambda: inner.plan(operations))

    def emit(self, operation: PlannedOperation) -> Receipt:
        """As the adapter does."""
        inner = self._next()
        return self._listen(lambda: inner.emit(operation))

    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        """As the adapter does."""
        inner = self._next()
        assert isinstance(inner, TransactionalAdapter), "the kit asks no other for transactions"
        return self._listen(lambda: inner.transact(operations))

    def find(self, operation: PlannedOperation) -> Receipt | None:
        """As the adapter does."""
        return self._listen(lambda: self.inner.find(operation))

    def close(self) -> None:
        """Close what has a close."""
        for adapter in filter(None, (self.inner, self._detour)):
            close = getattr(adapter, "close", None)
            if close is not None:
                close()

    def _next(self) -> Adapter:
        if self._detour is None or self._detours < 1:
            return self.inner
        self._detours -= 1
        return self._detour

    def _listen(self, call: Callable[[], _T]) -> _T:
        before = len(self._wire.requests)
        try:
            return call()
        except BaseException as error:
            self.said.append(error)
            if isinstance(error, TransientError):
                # Now: the runner may make it longer.
                self.waits.append(error.retry_after)
            raise
        finally:
            sent = self._wire.requests[before:]
            busy = [position for position, one in enumerate(sent) if one.fault and one.status in (429, 503)]
            # Whoever was told to come back later must not ask again at once.
            self.chatty += len(sent) - 1 - busy[0] if busy else 0
