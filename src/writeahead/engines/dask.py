"""Dask: a cluster that is there, or a local one of worker processes, for `sweep_items`.

Facts of Dask 2026.8 that this relies on, from its documentation and its code:

- A task whose worker is lost is sent to another one. After ``allowed-failures`` (3) of that, its
  future has ``KilledWorker``. Every task at the lost worker counts, those in its queue too.
- A worker that says nothing for ``worker-ttl`` (5 minutes) counts as lost, while it may be at work.
- The nanny of a local worker starts it again, but not if it died while it was starting. Then
  ``cluster.scale`` starts another, once the lost one is forgotten (``lost-worker-timeout``, 15 s).
- A client whose scheduler is gone tries for its ``timeout`` to connect, then closes. What was
  submitted in that time is never heard of.
- Cancelling a future does not end what runs already. ``Client.run`` reaches a worker while it does.
- A ``pure`` task of the same arguments is not run again while its result is held.
"""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["DaskWorkers", "dask_setup", "dask_workers"]

# Seconds to wait for a scheduler.
_CONNECT = 10
# Seconds between two looks at a cluster.
_LOOK = 5.0


@dataclass(frozen=True)
class DaskWorkers:
    """Workers, as `writeahead.engines.sweep_items` takes them.

    Attributes:
        executor: Sends work to them.
        broadcast: Calls a function in each.
        size: How many tasks they can run at once.
    """

    executor: Executor
    broadcast: Callable[[Callable[[str], None], str], object]
    size: int


@contextlib.contextmanager
def dask_workers(scheduler: str | None = None, *, concurrency: int | None = None) -> Iterator[DaskWorkers]:
    """Connect to a cluster, or start one on this machine that ends with the block.

    Args:
        scheduler: The address of a scheduler, such as ``tcp://host:8786``. Its workers need
            writeahead, the adapter's module and its environment.
        concurrency: How many tasks a local cluster is for; by default one for each CPU.

    Raises:
        InvalidInput: The scheduler can't be reached, or Dask is not installed.
    """
    with requires_extra("--engine dask"):
        import distributed  # noqa: F401 - the first one of several imports of it
    with contextlib.ExitStack() as stack:
        if scheduler is None:
            client = _local(stack, concurrency or os.cpu_count() or 1)
        else:
            client = stack.enter_context(_connected(scheduler))
        executor = _Executor(client)
        _watch(stack, executor.look)
        size = sum(client.nthreads().values())
        yield DaskWorkers(executor, _Broadcast(client), max(size, 1))


def _local(stack: contextlib.ExitStack, concurrency: int) -> "Client":
    from distributed import Client, LocalCluster

    processes = min(concurrency, os.cpu_count() or 1)
    made = LocalCluster(
        n_workers=processes,
        threads_per_worker=math.ceil(concurrency / processes),
        processes=True,
        dashboard_address=None,
        host="127.0.0.1",
        preload=[__name__],
    )
    cluster = stack.enter_context(made)
    client = stack.enter_context(Client(cluster))
    # A session can kill each worker that begins it.
    _watch(stack, lambda: cluster.scale(processes))
    return client


def _watch(stack: contextlib.ExitStack, look: Callable[[], object]) -> None:
    """Call a function every few seconds, until the block ends."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK):
            look()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    stack.callback(watching.join)
    stack.callback(over.set)


def dask_setup(_worker: object) -> None:
    """Keep a Ctrl-C from a worker of a local cluster. Dask calls it when the worker starts.

    All processes of a terminal get it; the one that has the sweep stops the others' runs.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _connected(scheduler: str) -> "Client":
    from distributed import Client

    try:
        return Client(scheduler, timeout=_CONNECT)
    except (OSError, ValueError) as error:  # among them its own TimeoutError
        raise InvalidInput(
            f"--scheduler {scheduler}: no scheduler answers there ({type(error).__name__})"
        ) from error


class _Executor(Executor):
    """Sends work through a client, and notices when that has closed itself."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        # Each look at a session is a new task, though its arguments are those of an earlier one.
        self._inner = client.get_executor(pure=False)
        self._under_way: set[Future[Any]] = set()
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """See `concurrent.futures.Executor`."""
        sent: Future[Any] = self._inner.submit(fn, *args, **kwargs)
        with self._lock:
            self._under_way.add(sent)
        sent.add_done_callback(self._forget)
        return sent

    def _forget(self, sent: "Future[Any]") -> None:
        with self._lock:
            self._under_way.discard(sent)

    def look(self) -> None:
        """Give up what is under way if the client is closed: nothing will say more about it."""
        if self._client.status != "closed":
            return
        with self._lock:
            lost = list(self._under_way)
        for future in lost:
            with contextlib.suppress(InvalidStateError):  # it has just been done
                future.set_exception(BrokenExecutor("the client is closed"))


class _Broadcast:
    """Calls a function in each worker; does not wait for those that don't answer."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._under_way: threading.Thread | None = None

    def __call__(self, function: Callable[[str], None], argument: str) -> None:
        if self._under_way is not None and self._under_way.is_alive():
            return
        self._under_way = threading.Thread(target=self._run, args=(function, argument), daemon=True)
        self._under_way.start()

    def _run(self, function: Callable[[str], None], argument: str) -> None:
        # A scheduler that is gone has no workers to tell.
        with contextlib.suppress(Exception):
            self._client.run(function, argument, on_error="ignore")
