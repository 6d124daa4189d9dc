"""A limit on requests at once that all processes of a machine keep together, through a folder.

from writeahead.adapters.shared_slots import SharedSlots

slots = SharedSlots("/var/lib/crm-limits", 8)
with slots.slot(timeout=5):
    http.post(...)          # 8 of these at once, in all processes that share the folder
"""

import contextlib
import os
import random
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from writeahead.adapters.file_locks import FileLocks, Held
from writeahead.adapters.limits import POLL, Deadline
from writeahead.errors import Applied, InvalidInput, TransientError

__all__ = ["SharedSlots"]

# Seconds between two looks for a free slot, on average.
_LOOK = 0.005
# Seconds that the threads of one process may pass a slot on, while other processes wait for one.
_TURN = 0.2


class _Slot(NamedTuple):
    held: Held
    since: float


class SharedSlots:
    """Slots for requests, each of which is a file that a process locks. Safe to share by threads.

    A process that dies frees its slots at once, whatever it dies of. Its last request may be under
    way at the server for a little longer: nothing on this side can count that.

    One process waits in front, and takes the next slot that is free; the others, and newcomers,
    come after it. So none waits for ever.

    All processes need the same folder and the same number; of several, the largest counts. The
    folder is one machine's: for several machines, divide the limit among them.

    Args:
        folder: Where the files are: see `FileLocks`.
        count: How many slots there are.

    Raises:
        InvalidInput: The count is no whole number above 0, or the folder can't be used.
    """

    def __init__(self, folder: str | os.PathLike[str], count: int) -> None:
        if type(count) is not int or count < 1:
            raise InvalidInput("the number of shared slots must be a whole number above 0")
        self._locks = FileLocks(Path(folder))
        self._count = count
        self._begin()
        _instances.add(self)

    @contextlib.contextmanager
    def slot(self, timeout: float | None = None) -> Iterator[None]:
        """Hold a slot while the block runs.

        Args:
            timeout: Seconds to wait for one; None waits as long as the run may last, and 5 seconds
                more once the run is asked to stop.

        Raises:
            TransientError: None became free in time, or the folder can't be used any more. Nothing
                was sent.
        """
        slot = self._take(Deadline() if timeout is None else Deadline(timeout))
        try:
            yield
        finally:
            self._give_back(slot)

    def _begin(self) -> None:
        """Begin without slots; in a fork, where those held are the parent's."""
        self._changed = threading.Condition()
        self._waiting = 0
        self._is_looking = False
        self._passed_on: list[_Slot] = []

    def _take(self, deadline: Deadline) -> _Slot:
        with self._changed:
            self._waiting += 1
        try:
            return self._passed_on_or_turn(deadline) or self._looked_for(deadline)
        finally:
            with self._changed:
                self._waiting -= 1
                if not self._waiting:
                    # It came as this thread gave up.
                    while self._passed_on:
                        self._free(self._passed_on.pop())

    def _passed_on_or_turn(self, deadline: Deadline) -> _Slot | None:
        """Wait for a slot of another thread, or until it is this thread's turn to look for one."""
        with self._changed:
            while True:
                if self._passed_on:
                    return self._passed_on.pop()
                if not self._is_looking:
                    self._is_looking = True
                    return None
                self._changed.wait(min(self._require_time(deadline), POLL))

    def _looked_for(self, deadline: Deadline) -> _Slot:
        """Look for a free slot until there is one, as the only thread of this process."""
        front: Held | None = None
        try:
            while True:
                front = front or self._locks.take("front")
                free = self._first_free() if front else None
                if free is not None:
                    return free
                with self._changed:
                    if self._passed_on:
                        return self._passed_on.pop()
                left = self._require_time(deadline)
                time.sleep(min(left, _LOOK * random.uniform(0.5, 1.5)))  # noqa: S311 - spreads waits
        except OSError as error:
            problem = self._locks.problem(error)
            raise TransientError(f"not sent: the shared slots: {problem}", applied=Applied.NO) from error
        finally:
            if front is not None:
                self._locks.free(front)
            with self._changed:
                self._is_looking = False
                self._changed.notify_all()

    def _first_free(self) -> _Slot | None:
        start = random.randrange(self._count)  # noqa: S311 - spreads looks
        for number in range(start, start + self._count):
            held = self._locks.take(f"slot-{number % self._count}")
            if held is not None:
                return _Slot(held, time.monotonic())
        return None

    def _require_time(self, deadline: Deadline) -> float:
        left = deadline.time_left()
        if left <= 0:
            message = f"not sent: each of {self._count} shared slots for requests is taken"
            raise TransientError(message, applied=Applied.NO)
        return left

    def _give_back(self, slot: _Slot) -> None:
        with self._changed:
            if self._waiting and time.monotonic() - slot.since < _TURN:
                self._passed_on.append(slot)
                self._changed.notify_all()
            else:
                self._free(slot)

    def _free(self, slot: _Slot) -> None:
        # The request is over; what closing a file says is no news of it.
        with contextlib.suppress(OSError):
            self._locks.free(slot.held)


_instances: "weakref.WeakSet[SharedSlots]" = weakref.WeakSet()


def _after_fork() -> None:
    for slots in _instances:
        slots._begin()  # noqa: SLF001


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
