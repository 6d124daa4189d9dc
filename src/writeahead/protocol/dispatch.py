"""Where the sessions of a sweep are worked on: in the caller's thread, in threads, elsewhere."""

import contextvars
import functools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import NamedTuple, ParamSpec, Self, TypeVar

from writeahead.errors import InvalidInput
from writeahead.protocol.finding import Found
from writeahead.protocol.progress import OnProgress, Progress
from writeahead.protocol.settling import Settled, Settler

__all__ = ["Bounds", "Dispatch", "InThreads", "one_at_a_time", "require_threads"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Bounds(NamedTuple):
    """How many sessions at once, how many in all, and whether to wait for what is not due.

    See `writeahead.sweep`.
    """

    concurrency: int
    limit: int | None
    until_done: bool

    @classmethod
    def checked(cls, concurrency: int, limit: int | None, *, until_done: bool) -> Self:
        """Take what a caller gave.

        Raises:
            InvalidInput: A number is out of its range.
        """
        for name, number in (("concurrency", concurrency), ("limit", limit)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise InvalidInput(f"{name}: give a whole number of 1 or more, not {number!r}")
        return cls(concurrency, limit, until_done)


class Dispatch(ABC):
    """Begins the work on sessions. The sweep decides which one is next, and how many are begun."""

    @abstractmethod
    def begin(self, found: Found) -> "Future[Settled | None]":
        """Begin the work on a session; what it comes to is in the future."""

    @abstractmethod
    def withdraw(self, future: "Future[Settled | None]") -> bool:
        """Take back what was begun, after a stop.

        Returns:
            Whether it is not waited for any more. If False, it will be done soon, or is asked for
            again.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Release what was opened for this sweep; nothing is under way any more."""


class InThreads(Dispatch):
    """Works in this process. The store and the adapter are shared by the threads.

    Args:
        settler: Does the work.
        concurrency: How many threads there are without an executor; 1 for the caller's thread.
        executor: The caller's pool of threads, which is not shut down.
    """

    def __init__(self, settler: Settler, concurrency: int, executor: Executor | None) -> None:
        self._settler = settler
        self._own_pool: ThreadPoolExecutor | None = None
        if executor is None and concurrency > 1:
            executor = self._own_pool = ThreadPoolExecutor(concurrency, "writeahead-sweep")
        self._executor = executor or _Inline()

    def begin(self, found: Found) -> "Future[Settled | None]":
        """See `Dispatch`."""
        # The adapter's coroutines run on the loop that is known in this context.
        context = contextvars.copy_context()
        return self._executor.submit(context.run, self._settler.settle, found)

    def withdraw(self, future: "Future[Settled | None]") -> bool:
        """See `Dispatch`. What a busy executor has not begun yet need not be begun any more."""
        return future.cancel()

    def close(self) -> None:
        """See `Dispatch`."""
        if self._own_pool is not None:
            self._own_pool.shutdown()


class _Inline(Executor):
    """Runs what it is given at once, in the caller's thread; an interrupt gets out."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """See `concurrent.futures.Executor`."""
        done: Future[_T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def require_threads(executor: object) -> None:
    """Refuse what can't run a sweep in this process.

    Raises:
        InvalidInput: It is no executor, or one of processes.
    """
    if executor is None:
        return
    if not isinstance(executor, Executor):
        raise InvalidInput(f"executor: give a concurrent.futures.Executor, not a {type(executor).__name__}")
    # By name: to import the class would load multiprocessing.
    if any(kind.__module__ == "concurrent.futures.process" for kind in type(executor).__mro__):
        raise InvalidInput(
            "executor: a store and an adapter can't be sent to a process: give a ThreadPoolExecutor, or"
            " take writeahead.engines.sweep_items, or submit writeahead.resume_item to it"
        )


def one_at_a_time(call: OnProgress) -> OnProgress:
    """Let threads call a function by turns."""
    lock = threading.Lock()

    @functools.wraps(call)
    def locked(event: Progress) -> None:
        with lock:
            # Returned, since one that is async by mistake is noticed by what it returns.
            return call(event)

    return locked
