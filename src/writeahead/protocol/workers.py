"""Where many sessions are worked on: in the caller's thread, in threads, elsewhere."""

import contextvars
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Generic, ParamSpec, TypeVar

from writeahead.errors import InvalidInput
from writeahead.protocol.settling import Settled

__all__ = ["InThreads", "Workers", "require_threads"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Item = TypeVar("_Item")


class Workers(ABC, Generic[_Item]):
    """Begin the work on items, each of which stands for a session.

    `writeahead.protocol.dispatch` decides which one is next, and how many are begun.
    """

    @abstractmethod
    def begin(self, item: _Item) -> "Future[Settled | None]":
        """Begin the work on an item; what it comes to is in the future."""

    @abstractmethod
    def withdraw(self, future: "Future[Settled | None]") -> bool:
        """Take back what was begun, after a stop.

        Returns:
            Whether it is not waited for any more. If False, it will be done soon, or is asked for
            again.
        """

    def close(self) -> None:
        """Release what was opened for them; nothing is under way any more."""


class InThreads(Workers[_Item]):
    """Work in this process. The store and the adapter are shared by the threads.

    Args:
        settle: Does the work.
        concurrency: How many threads there are without an executor; 1 for the caller's thread.
        executor: The caller's pool of threads, which is not shut down.
    """

    def __init__(
        self, settle: Callable[[_Item], Settled | None], concurrency: int, executor: Executor | None
    ) -> None:
        self._settle = settle
        self._own_pool: ThreadPoolExecutor | None = None
        if executor is None and concurrency > 1:
            executor = self._own_pool = ThreadPoolExecutor(concurrency, "writeahead-sweep")
        self._executor = executor or _Inline()

    def begin(self, item: _Item) -> "Future[Settled | None]":
        """See `Workers`."""
        # The adapter's coroutines run on the loop that is known in this context.
        context = contextvars.copy_context()
        return self._executor.submit(context.run, self._settle, item)

    def withdraw(self, future: "Future[Settled | None]") -> bool:
        """See `Workers`. What a busy executor has not begun yet need not be begun any more."""
        return future.cancel()

    def close(self) -> None:
        """See `Workers`."""
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
    """Refuse what can't run sessions in this process.

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
