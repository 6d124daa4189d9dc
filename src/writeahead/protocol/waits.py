"""How long each remote has asked this process to wait: what one session is told holds for all.

RFC 6585, section 4 (429) leaves open whom a server counts; RFC 9110, section 10.2.3 has Retry-After
with 503 stand for the whole service. Services count by user, by application or by tenant, and some
by a method or a row as well (docs/decisions/0019). A wait that is too wide costs time only. One
that is too narrow has the next session refused as well, and with some services makes the wait
longer. So a wait is the whole target's, unless the adapter says otherwise.
"""

import math
import os
import threading
import weakref
from collections.abc import Hashable

from writeahead.adapters.base import Adapter
from writeahead.errors import NotReady

__all__ = ["LONGEST_SHARED", "RemoteWaits"]

# Seconds. Quotas of a day are the longest that services have; beyond that a header is wrong, and it
# must not stop what others send for weeks. The session that was told keeps all of its wait.
LONGEST_SHARED = 86_400.0
# Targets that are kept. Of more, those that have to wait the longest.
_MOST = 1024
# Seconds that a rounded moment may be off.
_ROUNDING = 1e-3


class RemoteWaits:
    """The waits of one process, by target. Threads may share it.

    A target is an adapter's name with `Adapter.target`; an adapter that names no target is one by
    itself. A wait ends by itself, and a fork keeps it.
    """

    def __init__(self) -> None:
        self._until: dict[Hashable, float] = {}
        self._lock = threading.Lock()
        _instances.add(self)

    def tell(self, adapter: Adapter, seconds: float, now: float) -> None:
        """Keep what a remote asked for; a longer wait that is kept stays.

        Args:
            adapter: Who was told.
            seconds: How long to wait. More than a day counts as a day.
            now: The monotonic clock.
        """
        remote = _remote_of(adapter)
        until = now + min(seconds, LONGEST_SHARED)
        with self._lock:
            self._until[remote] = max(until, self._until.get(remote, until))
            for known in [known for known, moment in self._until.items() if moment <= now]:
                del self._until[known]
            while len(self._until) > _MOST:
                del self._until[min(self._until, key=lambda known: self._until[known])]

    def until(self, adapter: Adapter, now: float) -> float:
        """Return when a wait is over, on the monotonic clock; minus infinity if there is none."""
        if not self._until:
            return -math.inf  # and the adapter is not asked for its target
        remote = _remote_of(adapter)
        with self._lock:
            moment = self._until.get(remote, -math.inf)
        return moment if moment - now > _ROUNDING else -math.inf

    def forget(self) -> None:
        """Forget all waits; for tests that share a process."""
        self._until.clear()


_instances: "weakref.WeakSet[RemoteWaits]" = weakref.WeakSet()


class _Itself:
    """An adapter as a key: it need not be hashable, and another one may get its id one day."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = weakref.ref(adapter)
        self._id = id(adapter)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        adapter = self._adapter()
        return isinstance(other, _Itself) and adapter is not None and adapter is other._adapter()


def _remote_of(adapter: Adapter) -> Hashable:
    try:
        target = adapter.target()
    except NotReady:  # settings are missing, and planning says so
        target = None
    return _Itself(adapter) if target is None else (adapter.name, target)


def _after_fork() -> None:
    # A thread that is not here may hold a lock. What was asked for holds here as well.
    for waits in _instances:
        waits._lock = threading.Lock()  # noqa: SLF001


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
