"""Async methods of adapters: where their coroutines are run, and what ends them.

The protocol is synchronous, and waits in its own thread while a coroutine runs on an event loop in
another one:

- under `writeahead.awrite_back` and its like that is the caller's loop;
- else it is one loop of this process, in a thread of its own. It stays: an `httpx.AsyncClient` that
  an adapter keeps is bound to the loop that it was first used on, whatever thread and whichever run
  uses the adapter next. A synchronous call inside a running loop (a notebook) works, too, though it
  holds that loop up.

A coroutine sees the caller's context variables, and `current_limits`. The run's time limit cancels
it; so does a request to stop, after 5 more seconds. asyncio only: trio is not supported.
"""

import contextlib
import contextvars
import inspect
import os
import threading
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from writeahead.adapters import limits
from writeahead.errors import Applied, TransientError

if TYPE_CHECKING:
    import asyncio

__all__ = ["awaited", "coroutines_on"]

_T = TypeVar("_T")
# Seconds that a coroutine has to end once it was cancelled.
_CANCEL_GRACE = 5.0

_callers_loop: contextvars.ContextVar["asyncio.AbstractEventLoop"] = contextvars.ContextVar(
    "writeahead_callers_loop"
)


@contextlib.contextmanager
def coroutines_on(loop: "asyncio.AbstractEventLoop") -> Iterator[None]:
    """Have the coroutines of what is called inside run on a loop, which runs in another thread."""
    token = _callers_loop.set(loop)
    try:
        yield
    finally:
        _callers_loop.reset(token)


def awaited(value: _T | Awaitable[_T]) -> _T:
    """Return a value as it is, or what comes of it if it has to be awaited.

    An adapter may use it to close what it keeps: ``awaited(self._http.aclose())``.

    Raises:
        TransientError: The run's time limit or a stop ended it, or it was cancelled. It surely was
            not applied only where it was never begun.
        RuntimeError: This thread runs the loop that it would have to wait for.
        BaseException: As what was awaited.
    """
    given: Any = value
    if not inspect.isawaitable(given):
        plain: _T = given
        return plain
    loop = _callers_loop.get(None) or _own_loop()
    if _is_running_here(loop):
        _discard(given)
        # No error that says "nothing was sent": who calls this may have sent something.
        raise RuntimeError(
            "the event loop would wait for itself: in a coroutine, await writeahead.awrite_back,"
            " aresume_session or asweep in place of the synchronous ones"
        )
    call: _Call[_T] = _Call(loop, given)
    return call.result()


class _Call(Generic[_T]):
    """Something that is awaited on a loop in another thread."""

    def __init__(self, loop: "asyncio.AbstractEventLoop", value: Awaitable[_T]) -> None:
        from concurrent.futures import Future

        self._loop = loop
        self._value = value
        self._end: Future[_T] = Future()
        self._task: asyncio.Task[None] | None = None

    def result(self) -> _T:
        """Wait for it. Raises: as `awaited`."""
        from concurrent.futures import wait

        deadline = limits.Deadline()
        # It takes the context of this thread along, and so does the task that it makes.
        self._tell(self._begin)
        try:
            while not self._end.done():
                left = deadline.time_left()
                if left <= 0 or self._loop.is_closed():
                    self._break_off()
                    break
                wait([self._end], min(left, limits.POLL))
        except BaseException:
            # Ctrl-C in this thread: what is under way must not outlive the run.
            self._break_off()
            raise
        return self._outcome()

    def _begin(self) -> None:
        """Begin, in the thread of the loop, unless it is too late."""
        if self._end.set_running_or_notify_cancel():
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(lambda _task: self._never_ran())

    async def _run(self) -> None:
        # Nothing gets out of here: a KeyboardInterrupt would end the loop, and not the run.
        try:
            result = await self._value
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            self._end.set_exception(error)
        else:
            self._end.set_result(result)

    def _never_ran(self) -> None:
        """Make an end of a task that was cancelled before its first step."""
        if not self._end.done():
            _discard(self._value)
            self._end.set_exception(_cancelled()())

    def _break_off(self) -> None:
        from concurrent.futures import wait

        if self._end.cancel():
            _discard(self._value)
        elif not self._end.done() and not self._loop.is_closed():
            self._tell(lambda: self._task and self._task.cancel())
            wait([self._end], _CANCEL_GRACE)

    def _outcome(self) -> _T:
        if self._end.cancelled():
            raise TransientError("the run ended before the request was begun", applied=Applied.NO)
        if not self._end.done():
            what = "went on after a cancel"
            if self._loop.is_closed():
                what = "was under way when its event loop was closed"
            raise TransientError(f"the request {what}", applied=Applied.UNKNOWN)
        if isinstance(self._end.exception(), _cancelled()):
            raise TransientError("the request was cancelled", applied=Applied.UNKNOWN)
        return self._end.result()

    def _tell(self, callback: Any) -> None:
        # A loop that is closed is found while waiting.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)


def _cancelled() -> type[BaseException]:
    from asyncio import CancelledError

    return CancelledError


def _discard(value: object) -> None:
    """Close a coroutine that is not awaited: Python would warn of it."""
    if inspect.iscoroutine(value):
        value.close()


def _is_running_here(loop: "asyncio.AbstractEventLoop") -> bool:
    import asyncio

    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class _OwnLoop:
    """The loop of this process, in a thread of its own, from its first use to the end."""

    def __init__(self) -> None:
        import atexit
        import concurrent.futures

        begun: concurrent.futures.Future[None] = concurrent.futures.Future()
        # A daemon: a thread that is waited for at the end would never be told to end.
        self._thread = threading.Thread(
            target=self._run, args=(begun,), name="writeahead-emitters", daemon=True
        )
        self._thread.start()
        begun.result()
        atexit.register(self._end)

    def _run(self, begun: Any) -> None:
        import asyncio

        async def serve() -> None:
            self.loop = asyncio.get_running_loop()
            self._over = asyncio.Event()
            begun.set_result(None)
            await self._over.wait()

        # It cancels what was left, and ends asynchronous generators and the executor.
        asyncio.run(serve())

    def _end(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._over.set)
            self._thread.join(_CANCEL_GRACE)


_own: _OwnLoop | None = None
_own_lock = threading.Lock()
# Of parents of this process. They are kept as they are: to close one would take its file
# descriptors, which parent and child share, out of the parent's loop.
_inherited: list[_OwnLoop] = []


def _own_loop() -> "asyncio.AbstractEventLoop":
    global _own  # noqa: PLW0603 - one for the process
    with _own_lock:
        if _own is None:
            _own = _OwnLoop()
        return _own.loop


def _forget_own_loop() -> None:
    """Begin anew in a forked child, which has no thread but the one that forked."""
    global _own, _own_lock
    if _own is not None:
        _inherited.append(_own)
    _own, _own_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_own_loop)
