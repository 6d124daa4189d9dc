"""`write_back`, `resume_session` and `sweep` for programs that run on asyncio.

Each is the synchronous function, in a thread of its own: there is one protocol. The event loop goes
on meanwhile, and runs the adapter's coroutines. Parameters, results and errors are those of the
synchronous function; what it calls back, it calls in that thread.

A call that is cancelled, by `asyncio.timeout` or a `asyncio.TaskGroup` for instance, asks the run
to stop, waits until it has ended, and is cancelled then. The request under way gets 5 seconds. The
session is left as ``resume_needed``, or complete if that was its last request.

Each call has a thread for as long as it takes; a semaphore of yours bounds how many there are at
once. asyncio only: trio, and anyio on top of it, are not supported.
"""

import contextlib
import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from writeahead.adapters.awaiting import coroutines_on
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.runner import write_back
from writeahead.protocol.stopping import LinkedStop
from writeahead.protocol.sweep import sweep

if TYPE_CHECKING:
    import asyncio

__all__ = ["aresume_session", "asweep", "awrite_back"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_C = TypeVar("_C", bound=Callable[..., Any])
_NO_MORE = object()


async def _in_thread(work: Callable[[], _T], stop: threading.Event) -> _T:
    """Do the work in a thread, with this context, and its coroutines on this loop.

    Not in the loop's own executor: that one has few threads, for work that ends soon.
    """
    # Loaded here: it costs more than the rest of this package, and who awaits has it.
    import asyncio
    from concurrent.futures import Future

    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            with coroutines_on(loop):
                outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is awaited
            outcome.set_exception(error)
        # No one waits any more where the loop was closed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    context = contextvars.copy_context()
    # A daemon: should the loop die under it, the program can end, as safely as by a kill.
    thread = threading.Thread(target=context.run, args=(run,), name="writeahead-run", daemon=True)
    thread.start()
    cancelled = await _wait_for(ended, stop)
    thread.join()
    if cancelled is None:
        return outcome.result()
    raise cancelled from outcome.exception()


async def _wait_for(ended: "asyncio.Event", stop: threading.Event) -> "asyncio.CancelledError | None":
    """Wait for the thread, cancelled or not; return what cancelled this call."""
    import asyncio

    cancelled = None
    while not ended.is_set():
        try:
            await ended.wait()
        except BaseException as error:
            stop.set()
            if not isinstance(error, asyncio.CancelledError):
                raise  # the coroutine is closed, and has no loop to wait on
            cancelled = error
    return cancelled


def _with_stop(options: Mapping[str, Any]) -> tuple[dict[str, Any], LinkedStop]:
    stop = LinkedStop(options.get("stop"), options.get("clock"))
    return {**options, "stop": stop}, stop


def _asynchronous(function: Callable[_P, _T]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Make the asynchronous form of a function."""

    @functools.wraps(function)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        options, stop = _with_stop(kwargs)
        return await _in_thread(functools.partial(function, *args, **options), stop)

    return _introduced(call)


def _asynchronous_each(function: Callable[_P, Iterator[_T]]) -> Callable[_P, AsyncGenerator[_T, None]]:
    """Make the asynchronous form of a generator: it works only while it is asked for its next."""

    @functools.wraps(function)
    async def call(*args: _P.args, **kwargs: _P.kwargs) -> AsyncGenerator[_T, None]:
        options, stop = _with_stop(kwargs)
        found = await _in_thread(functools.partial(function, *args, **options), stop)
        try:
            while (
                result := await _in_thread(functools.partial(next, found, _NO_MORE), stop)
            ) is not _NO_MORE:
                yield cast("_T", result)
        finally:
            # Where the loop is gone, the thread may still be in it; then its stop is set.
            with contextlib.suppress(ValueError):
                close = cast("Generator[_T]", found).close
                try:
                    # Runs that are under way end first, and their coroutines need this loop.
                    await _in_thread(close, stop)
                except RuntimeError:  # there is no loop to wait on
                    close()

    return _introduced(call)


def _introduced(call: _C) -> _C:
    """Give the asynchronous form of a function its own name, and its own beginning of the docs."""
    name = call.__name__
    call.__name__ = call.__qualname__ = f"a{name}"
    call.__module__ = __name__
    call.__doc__ = f"Do the same as `{name}` on asyncio: see `writeahead.aio`.\n\n    {call.__doc__}"
    return call


awrite_back = _asynchronous(write_back)
aresume_session = _asynchronous(resume_session)
asweep = _asynchronous_each(sweep)
