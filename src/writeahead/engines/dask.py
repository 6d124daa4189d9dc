"""Dask: a cluster that is there, or a local one of worker processes, for `sweep_items`.

Facts of Dask 2026.8 that this relies on, from its documentation and its code:

- A task whose worker is lost is sent to another one. After ``allowed-failures`` (3) of that, its
  future has ``KilledWorker``. Every task at the lost worker counts, those in its queue too.
- A worker that says nothing for ``worker-ttl`` (5 minutes) counts as lost, while it may be at work.
- The nanny of a local worker starts it again, but not if it died while it was starting. Then
  ``cluster.scale`` starts another, once the lost one is forgotten (``lost-worker-timeout``, 15 s).
- Cancelling a future does not end what runs already. ``Client.run`` reaches a worker while it does.
- A ``pure`` task of the same arguments is not run again while its result is held.
"""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

__all__ = ["DaskWorkers", "dask_setup", "dask_workers"]

# Seconds to wait for a scheduler.
_CONNECT = 10
# Seconds between two looks at the workers of a local cluster.
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
        size = sum(client.nthreads().values())
        # Each look at a session is a new task, though its arguments are those of an earlier one.
        yield DaskWorkers(client.get_executor(pure=False), _Broadcast(client), max(size, 1))


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
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(cluster, processes, over), daemon=True)
    keeper.start()
    stack.callback(keeper.join)
    stack.callback(over.set)
    return client


def _keep(cluster: "LocalCluster", processes: int, over: threading.Event) -> None:
    """Replace workers that are lost for good: a session can kill each one that begins it."""
    while not over.wait(_LOOK):
        cluster.scale(processes)


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
