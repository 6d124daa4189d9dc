"""A sweep of many sessions by several threads, beside the same requests without writeahead.

    python benchmarks/sweeping.py [--sessions N] [--seconds S] [--concurrency N ...] [--store KIND]
        [--engine ENGINE] [--client CLIENT] [--rounds N] [--folder FOLDER] [--json FILE]

Each session was killed right after its plan: nothing of its three operations is sent. The remote is
a process of its own that answers after 20 ms. "bare" posts the same, session by session, by the
same client in as many threads; sweep and bare take turns, so that other load affects both alike.
Efficiency is the time of bare over that of the sweep, the median of the rounds. The bound is what
the remote's 20 ms allow by themselves. CPU time of the process is what other load affects least.

What was swept is checked: no marker is left, every session has its final artifact, and the remote
has answered three requests for each.
"""

import argparse
import atexit
import contextlib
import functools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import httpx
from contenders import PAYLOADS
from pydantic import BaseModel
from rich import box
from rich.console import Console
from rich.table import Table
from session import MEMORY, filesystem, installed

from writeahead import Adapter, Operation, PlannedOperation, Receipt, emits, open_store, sweep, write_back
from writeahead.adapters.http import BoundedTransport, network_transport
from writeahead.engines import sweep_items
from writeahead.engines.dask import dask_workers
from writeahead.items import AdapterSpec
from writeahead.stores.memory import MemoryStore
from writeahead.testing import WrapperStore

HERE = Path(__file__).parent
REMOTE_SECONDS = 0.02
LEVELS = (1, 2, 4, 8, 16, 32, 64)
PACKAGES = ("writeahead", "httpx", "pydantic", "orjson")
AIM, AIM_UP_TO = 0.9, 32


def plain_client() -> httpx.Client:
    # Reading certificates, which are of no use here, would take longer than a session.
    return httpx.Client(
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=100), timeout=30, verify=False
    )


def bounded_client() -> httpx.Client:
    """The transport that the adapters of this project use."""
    return httpx.Client(transport=BoundedTransport(network_transport(verify=False)), timeout=30)


CLIENTS = {"httpx": plain_client, "bounded": bounded_client}


class Step(BaseModel):
    subject: str
    detail: str
    code: int


class Poster(Adapter):
    name = "poster"

    def __init__(self, url: str, client: str) -> None:
        self.url, self.client = url, CLIENTS[client]()

    @emits("create_with_key")
    def emit_step(self, payload: Step, operation: PlannedOperation) -> Receipt:
        return Receipt(remote_version=str(self.post(payload.model_dump(), operation.key)))

    def post(self, payload: dict, key: str) -> int:
        answer = self.client.post(self.url, json=payload, headers={"Idempotency-Key": key})
        answer.raise_for_status()
        return answer.status_code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


@dataclass(frozen=True)
class Work:
    """What an engine gets: all of it can be sent to another process, if the store is a folder."""

    store_url: str
    adapter: AdapterSpec
    session_ids: Sequence[str]


def by_threads(work: Work, concurrency: int) -> None:
    with Poster(**work.adapter.settings) as adapter:
        for result in sweep(open_store(work.store_url), adapter, concurrency=concurrency):
            if result.status != "completed":
                sys.exit(f"{result.session_id}: {result}")


@functools.cache
def dask_scheduler(workers: int, threads: int) -> str:
    """Start a cluster, whose workers find this module; it ends with this process."""
    from distributed import Client, LocalCluster

    os.environ["PYTHONPATH"] = str(HERE)
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=threads, dashboard_address=None, host="127.0.0.1"
    )
    atexit.register(cluster.close)
    with Client(cluster) as client:
        client.wait_for_workers(workers)
    return cluster.scheduler_address


def by_dask(workers: int, work: Work, concurrency: int) -> None:
    """So many worker processes, with as many threads in all. This one hands out the sessions."""
    scheduler = dask_scheduler(workers, -(-concurrency // workers))
    with dask_workers(scheduler) as dask:
        swept = sweep_items(
            work.store_url,
            work.adapter,
            executor=dask.executor,
            broadcast=dask.broadcast,
            concurrency=concurrency,
        )
        for result in swept:
            if result.status != "completed":
                sys.exit(f"{result.session_id}: {result}")


# How the sessions are resumed. It returns once all are at their end. Of Dask, the CPU is that of
# the process that hands them out, not that of the workers.
Engine = Callable[[Work, int], None]
ENGINES: dict[str, Engine] = {
    "threads": by_threads,
    "dask-1": functools.partial(by_dask, 1),
    "dask-2": functools.partial(by_dask, 2),
}


def bare(work: Work, concurrency: int) -> None:
    """The same requests by the same client in as many threads, and nothing else."""

    def session(_: str) -> None:
        for payload in PAYLOADS:
            adapter.post(payload, str(uuid.uuid4()))

    with Poster(**work.adapter.settings) as adapter, ThreadPoolExecutor(concurrency) as pool:
        for _ in pool.map(session, work.session_ids):
            pass


class Killed(BaseException):
    """The process ends here."""


class KilledAfterPlan(WrapperStore):
    """A store of a process that is killed as soon as the plan of a session is durable."""

    is_killed = False

    def _put(self, key, data, *, if_absent):
        if self.is_killed:
            raise Killed
        info = super()._put(key, data, if_absent=if_absent)
        self.is_killed = key.endswith("planned-writeback.json")
        return info

    def _delete(self, _key):
        raise Killed


def plan_sessions(folder: str, count: str) -> None:
    """Write what such processes leave; this one ends, too, so all their owners are dead."""
    adapter = Poster("http://127.0.0.1/", "httpx")
    operations = [Operation(kind="step", payload=payload) for payload in PAYLOADS]
    store = MemoryStore()
    for number in range(int(count)):
        with contextlib.suppress(Killed):
            write_back(
                operations, session_id=f"session-{number:06d}", store=KilledAfterPlan(store), adapter=adapter
            )
    for info in store.list():
        path = Path(folder) / info.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.get(info.key).data)


@contextlib.contextmanager
def stored(planned: Path, session_ids: Sequence[str], kind: str, folder: Path) -> Iterator[str]:
    """A store with these sessions, as they were planned; its URL."""
    place = Path(tempfile.mkdtemp(dir=folder))
    url = f"memory://{place.name}" if kind == "memory" else str(place)
    store = open_store(url)
    for session_id in session_ids:
        for key in (f".open/{session_id}", f"{session_id}/planned-writeback.json"):
            if kind == "memory":
                store.put(key, (planned / key).read_bytes())
                continue
            (place / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(planned / key, place / key)
    os.sync()
    try:
        yield url
    finally:
        for info in list(store.list()) if kind == "memory" else ():
            store.delete(info.key)
        shutil.rmtree(place)


def require_done(url: str, session_ids: Sequence[str]) -> None:
    keys = {info.key for info in open_store(url).list()}
    left = [key for key in keys if key.startswith(".")]
    lost = [name for name in session_ids if f"{name}/writeback.json" not in keys]
    if left or lost:
        sys.exit(f"not done: markers {left[:3]}, without a final artifact {lost[:3]}")


class Remote:
    """The server's process."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, str(HERE / "loopback.py"), str(REMOTE_SECONDS)]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.url = f"http://127.0.0.1:{self._process.stdout.readline().strip()}/"

    def so_far(self) -> tuple[int, float]:
        """How many requests it has answered, and its CPU seconds."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answered, cpu = self._process.stdout.readline().split()
        return int(answered), float(cpu)

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True)
class Timed:
    seconds: float
    cpu: float
    remote_cpu: float


def timed(call: Engine, work: Work, concurrency: int, remote: Remote) -> Timed:
    """Time one turn. The CPU is that of this process: all of its threads."""
    answered, remote_cpu = remote.so_far()
    started, cpu = time.perf_counter(), time.process_time()
    call(work, concurrency)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    now_answered, now_cpu = remote.so_far()
    requests = now_answered - answered
    if requests != len(PAYLOADS) * len(work.session_ids):
        sys.exit(f"{requests} requests for {len(work.session_ids)} sessions")
    return Timed(seconds, cpu, now_cpu - remote_cpu)


@dataclass(frozen=True)
class Level:
    """What was found with so many threads; per session, and in seconds."""

    concurrency: int
    sessions: int
    bound: float
    bare: Timed
    swept: Timed
    efficiency: float
    lowest: float
    highest: float


def measure(options: argparse.Namespace, concurrency: int, planned: Path, remote: Remote) -> Level:
    of_one = REMOTE_SECONDS * len(PAYLOADS)
    sessions = min(options.sessions, round(options.seconds * concurrency / of_one))
    if options.engine.startswith("dask"):
        workers = int(options.engine[-1])
        dask_scheduler(workers, -(-concurrency // workers))  # not while the time runs
    turns: dict[str, list[Timed]] = {"bare": [], "swept": []}
    step = max(1, sessions // options.rounds)
    for number in range(options.rounds):
        ids = [f"session-{one:06d}" for one in range(number * step, (number + 1) * step)]
        with stored(planned, ids, options.store, options.scratch) as url:
            work = Work(
                url, AdapterSpec("sweeping:Poster", {"url": remote.url, "client": options.client}), ids
            )
            calls = [("swept", ENGINES[options.engine]), ("bare", bare)]
            for name, call in calls if number % 2 else reversed(calls):
                turns[name].append(timed(call, work, concurrency, remote))
            require_done(url, ids)
    ratios = [one.seconds / other.seconds for one, other in zip(turns["bare"], turns["swept"], strict=True)]
    averages = {
        name: Timed(*(sum(getattr(one, part) for one in timings) / (step * options.rounds) for part in PARTS))
        for name, timings in turns.items()
    }
    return Level(
        concurrency,
        step * options.rounds,
        of_one / concurrency,
        efficiency=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        **averages,
    )


PARTS = ("seconds", "cpu", "remote_cpu")


def print_table(levels: Sequence[Level], environment: dict) -> None:
    console = Console(highlight=False, width=120)
    table = Table(box=box.SIMPLE)
    for heading in (
        "threads",
        "sessions",
        "bound /s",
        "bare /s",
        "sweep /s",
        "efficiency",
        "of the rounds",
        "bare CPU ms",
        "sweep CPU ms",
        "remote CPU ms",
    ):
        table.add_column(heading, justify="right")
    for one in levels:
        table.add_row(
            str(one.concurrency),
            f"{one.sessions:,}",
            *(f"{1 / seconds:.0f}" for seconds in (one.bound, one.bare.seconds, one.swept.seconds)),
            f"{one.efficiency:.2f}",
            f"{one.lowest:.2f}..{one.highest:.2f}",
            *(f"{1000 * cpu:.2f}" for cpu in (one.bare.cpu, one.swept.cpu, one.swept.remote_cpu)),
        )
    console.print(table)
    missed = [one.concurrency for one in levels if one.concurrency <= AIM_UP_TO and one.efficiency < AIM]
    console.print(
        f"The aim is {AIM} up to {AIM_UP_TO} threads. Missed with: {', '.join(map(str, missed)) or 'none'}."
    )
    console.print(", ".join(f"{name} {value}" for name, value in environment.items()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=1000, help="of each level, at most (default: 1000)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="the bound of a level, at most (default: 3)"
    )
    parser.add_argument("--concurrency", type=int, nargs="+", default=LEVELS, metavar="N")
    parser.add_argument("--store", choices=("folder", "memory"), default="folder")
    parser.add_argument("--engine", choices=ENGINES, default="threads")
    parser.add_argument("--client", choices=CLIENTS, default="httpx")
    parser.add_argument("--rounds", type=int, default=4, help="turns of each (default: 4)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on a real disk (default: .)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args()
    if options.store == "folder" and filesystem(options.folder)[0] in MEMORY:
        parser.error(f"--folder: {options.folder} is in memory; name one on a disk, or --store memory")
    return options


def main() -> None:
    options = arguments()
    remote = Remote()
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        options.scratch = Path(name).resolve()
        planned = options.scratch / "planned"
        command = [sys.executable, __file__, "plan", str(planned), str(options.sessions)]
        subprocess.run(command, check=True)
        levels = [measure(options, concurrency, planned, remote) for concurrency in options.concurrency]
    remote.close()
    kind, device = filesystem(options.folder)
    environment = {
        "engine": options.engine,
        "client": options.client,
        "store": options.store if options.store == "memory" else f"{kind} on {device}",
        "cores": os.cpu_count(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        **{name: installed(name) for name in PACKAGES},
    }
    print_table(levels, environment)
    if options.json:
        figures = {"levels": [asdict(one) for one in levels], "environment": environment}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["plan"]:
        plan_sessions(*sys.argv[2:])
    else:
        main()
