"""Stores around a store: `TracingStore` keeps what was asked of it, `FaultyStore` fails on demand.

    store = FaultyStore(TracingStore(MemoryStore()))
    store.fail("create", "*/planned-writeback.json", StoreFault.lost_reply())

`WrapperStore` is the base of both, and of a wrapper of your own. A wrapper keeps the name of the
store that it wraps, so that errors read as they would without it. The verbs of a wrapper are
``put``, ``create`` (a put with ``if_absent``), ``get``, ``head``, ``list`` (its key is the prefix)
and ``delete``.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Self, TypeVar

from writeahead.errors import AccessDenied, InvalidInput, OutcomeUnknown, StoreError, Unavailable
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject

__all__ = ["FaultyStore", "StoreCall", "StoreFault", "TracingStore", "WrapperStore"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_WRITES = ("put", "create", "delete")
_VERBS = ("*", "get", "head", "list", *_WRITES)


class WrapperStore(ArtifactStore):
    """A store that passes every verb on to another store.

    A subclass overrides `_around`, which every verb goes through, or the verbs that it changes:
    ``_put``, ``_get``, ``_head``, ``_list``, ``_delete``.

    Args:
        store: The store to wrap.

    Attributes:
        wrapped: That store.
    """

    def __init__(self, store: ArtifactStore) -> None:
        self.wrapped = store

    @property
    def name(self) -> str:
        """The name of the store that is wrapped."""
        return self.wrapped.name

    @property
    def is_local(self) -> bool:  # type: ignore[override] # a wrapper has none of its own
        """As the store that is wrapped."""
        return self.wrapped.is_local

    def exists(self) -> bool:
        """See `ArtifactStore.exists`."""
        return self.wrapped.exists()

    def _around(self, verb: str, key: str, call: Callable[[], _T]) -> _T:  # noqa: ARG002 - for subclasses
        """Carry out one call of the wrapped store.

        Args:
            verb: ``put``, ``create``, ``get``, ``head``, ``list`` or ``delete``.
            key: The key; the prefix of a ``list``.
            call: Calls the wrapped store. For ``list`` it returns the iterator, whose requests are
                sent later, while it is iterated.

        Returns:
            What the caller of the verb gets.
        """
        return call()

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        verb = "create" if if_absent else "put"
        return self._around(verb, key, lambda: self.wrapped.put(key, data, if_absent=if_absent))

    def _get(self, key: str) -> StoredObject:
        return self._around("get", key, lambda: self.wrapped.get(key))

    def _head(self, key: str) -> ObjectInfo | None:
        return self._around("head", key, lambda: self.wrapped.head(key))

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        # Inside the generator: a listing happens when it is iterated.
        yield from self._around("list", prefix, lambda: self.wrapped.list(prefix, start_after=start_after))

    def _delete(self, key: str) -> None:
        self._around("delete", key, lambda: self.wrapped.delete(key))


@dataclass(frozen=True, slots=True)
class StoreCall:
    """One call of a store: its verb, key or prefix, and the name of the error it raised."""

    verb: str
    key: str
    error: str | None = None


class TracingStore(WrapperStore):
    """Passes every verb on, and keeps what was asked of the store: for request budgets.

    Each call is also logged, at level DEBUG, by the logger ``writeahead.testing.decorators``.

    Attributes:
        calls: Every call since the start or the last `clear`, in the order in which they ended. A
            listing counts when its iteration begins; an error in its middle is not seen here.
    """

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(store)
        self.calls: list[StoreCall] = []

    def count(self) -> Counter[str]:
        """How many calls there were, by verb."""
        return Counter(call.verb for call in self.calls)

    def clear(self) -> None:
        """Forget what was seen."""
        self.calls.clear()

    def _around(self, verb: str, key: str, call: Callable[[], _T]) -> _T:
        try:
            result = call()
        except BaseException as error:
            self._note(StoreCall(verb, key, type(error).__name__))
            raise
        self._note(StoreCall(verb, key))
        return result

    def _note(self, call: StoreCall) -> None:
        self.calls.append(call)  # atomic, so that threads need no lock
        _log.debug("%s %s %r: %s", self.name, call.verb, call.key, call.error or "done")


@dataclass(frozen=True, slots=True)
class StoreFault:
    """What goes wrong with one call.

    Attributes:
        applied: Whether the wrapped store gets the call. If it then raises by itself, that error is
            raised.
        error: Makes what is raised, from the store's name, the operation and the key; None raises
            nothing.
        delay: Seconds to wait before anything else.
    """

    applied: bool
    error: Callable[[str, str, str], BaseException] | None = None
    delay: float = 0.0

    @classmethod
    def lost_reply(cls) -> Self:
        """Applied, and its reply lost: `OutcomeUnknown` from a write, else `Unavailable`."""

        def error(store: str, operation: str, key: str) -> StoreError:
            kind = OutcomeUnknown if operation in _WRITES else Unavailable
            return kind(store, operation, key, "a planned fault: the reply was lost")

        return cls(applied=True, error=error)

    @classmethod
    def unsent(cls) -> Self:
        """The call is not applied, but the caller can't know: `OutcomeUnknown` from a write."""
        return cls(applied=False, error=cls.lost_reply().error)

    @classmethod
    def unavailable(cls) -> Self:
        """The store surely did nothing, and may later: `Unavailable`."""
        return cls(applied=False, error=_raising(Unavailable, "a planned fault: come back later"))

    @classmethod
    def access_denied(cls) -> Self:
        """The store refuses the caller: `AccessDenied`."""
        return cls(applied=False, error=_raising(AccessDenied, "a planned fault: refused"))

    @classmethod
    def disk_full(cls) -> Self:
        """What `LocalStore` makes of ENOSPC: `Unavailable`, nothing was changed."""
        return cls(applied=False, error=_raising(Unavailable, "No space left on device; nothing was changed"))

    @classmethod
    def slow(cls, seconds: float) -> Self:
        """The call takes this much longer, and works."""
        return cls(applied=True, delay=seconds)

    @classmethod
    def crash(cls, when: Literal["before", "after"], error: BaseException) -> Self:
        """``error`` is raised before or after the call is applied, as when a process ends.

        Give a `BaseException` that nothing catches on its way, for example ``KeyboardInterrupt()``.
        """
        return cls(applied=when == "after", error=lambda *_: error)


def _raising(kind: type[StoreError], detail: str) -> Callable[[str, str, str], StoreError]:
    def error(store: str, operation: str, key: str) -> StoreError:
        return kind(store, operation, key, detail)

    return error


@dataclass(slots=True)
class _Plan:
    verb: str
    key: str
    fault: StoreFault
    skip: int
    left: int | None

    def due(self, verb: str, key: str) -> bool:
        if self.left == 0 or self.verb not in ("*", verb) or not fnmatchcase(key, self.key):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


class FaultyStore(WrapperStore):
    """Passes every verb on, except where a fault was planned with `fail`."""

    def __init__(self, store: ArtifactStore) -> None:
        super().__init__(store)
        self._plans: list[_Plan] = []
        self._lock = threading.Lock()

    def fail(self, verb: str, key: str, fault: StoreFault, *, times: int | None = 1, skip: int = 0) -> None:
        """Plan a fault.

        Of several that fit a call, the one planned first that is not used up is taken.

        Args:
            verb: One of ``put``, ``create``, ``get``, ``head``, ``list``, ``delete``; ``*`` is any.
            key: Which keys, or prefixes for ``list``: a pattern of `fnmatch`, whose ``*`` takes
                ``/`` too.
            fault: What goes wrong.
            times: For how many calls; None is for ever.
            skip: How many calls that fit are let through first.

        Raises:
            InvalidInput: There is no such verb: the fault would never come.
        """
        if verb not in _VERBS:
            raise InvalidInput(f"fault for {verb!r}: the verbs are {', '.join(_VERBS)}")
        with self._lock:
            self._plans.append(_Plan(verb, key, fault, skip, times))

    @property
    def pending(self) -> int:
        """How many faults are still to come; those for ever do not count. A test can expect 0."""
        with self._lock:
            return sum(plan.left or 0 for plan in self._plans)

    def heal(self) -> None:
        """Drop every fault that is planned."""
        with self._lock:
            self._plans.clear()

    def _around(self, verb: str, key: str, call: Callable[[], _T]) -> _T:
        with self._lock:
            fault = next((plan.fault for plan in self._plans if plan.due(verb, key)), None)
        if fault is None:
            return call()
        if fault.delay:
            time.sleep(fault.delay)
        operation = "put" if verb == "create" else verb
        if not fault.applied and fault.error is not None:
            raise fault.error(self.name, operation, key)
        result = call()
        if fault.error is not None:
            raise fault.error(self.name, operation, key)
        return result
