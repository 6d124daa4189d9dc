"""One session of three requests with durable state around them: writeahead beside others, in one run.

    python benchmarks/session.py [--rounds 60]

Contenders take turns, round by round, against one trivial server on loopback, with their state on one disk:

- writeahead, with ``journal="every"`` and ``journal="batched"``, on a local store;
- bare: the very same durable writes by bare ``os`` calls, and the same requests by the same client. No
  implementation of this protocol on a folder can be faster;
- DBOS (a workflow of three steps) on its SQLite system database;
- LangGraph (a graph of three nodes) with its SQLite saver and ``durability="sync"``.

fsync-type system calls are counted by strace in runs of their own, where strace is installed.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

import httpx
from pydantic import BaseModel

from writeahead import (
    Adapter,
    ArtifactStore,
    PlannedOperation,
    Receipt,
    RunPolicy,
    emits,
    open_store,
    write_back,
)
from writeahead.stores.base import ObjectInfo, StoredObject

SYNCS = "fsync,fdatasync,msync,sync_file_range"
SYNC_RUNS = (5, 25)
OPERATIONS = [{"kind": "row", "payload": {"text": f"{n}: what a call came to"}} for n in range(3)]
Session = Callable[[int], None]


def _serve(connection) -> None:
    """Answer every request with 204, on kept-alive connections."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = (
                    head.split(b"content-length:")[1].split(b"\r\n")[0] if b"content-length" in head else 0
                )
                await reader.readexactly(int(length))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        connection.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    asyncio.run(main())


@contextlib.contextmanager
def server() -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


class Row(BaseModel):
    text: str


class Rows(Adapter):
    name = "rows"

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    @emits("upsert")
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        self.client.put(f"/rows/{operation.key}", json={"text": payload.text}).raise_for_status()
        return Receipt(remote_id=operation.key)


def ours(folder: Path, client: httpx.Client, journal: str) -> Session:
    store, adapter = open_store(str(folder)), Rows(client)
    policy = RunPolicy(journal=journal)

    def session(number: int) -> None:
        report = write_back(OPERATIONS, session_id=f"s{number}", store=store, adapter=adapter, policy=policy)
        assert report.status == "completed", report

    return session


class Recorder(ArtifactStore):
    """Notes what a session writes, to be written again by bare calls."""

    name = "recorder"

    def __init__(self) -> None:
        self.steps: list[tuple[str, bytes | None, bool]] = []

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        self.steps.append((key, data, if_absent))
        return ObjectInfo(key, len(data))

    def _delete(self, key: str) -> None:
        self.steps.append((key, None, False))

    def _get(self, key: str) -> StoredObject:
        raise AssertionError(key)

    _head = _list = _get  # type: ignore[assignment]


class NoRequests(Rows):
    def __init__(self, steps: list) -> None:
        self.steps = steps

    @emits("upsert")
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        self.steps.append(("", payload.text.encode(), False))
        return Receipt(remote_id=operation.key)


def bare(folder: Path, client: httpx.Client, journal: str) -> Session:
    recorder = Recorder()
    write_back(
        OPERATIONS,
        session_id="SESSION",
        store=recorder,
        adapter=NoRequests(recorder.steps),
        policy=RunPolicy(journal=journal),
    )
    folder.mkdir()

    def session(number: int) -> None:
        for key, data, if_absent in recorder.steps:
            path = folder / key.replace("SESSION", f"s{number}")
            if not key:
                client.put(f"/rows/{number}", json={"text": str(data)}).raise_for_status()
            elif data is None:
                os.unlink(path)
                sync_folder(path.parent)
            else:
                bare_put(path, data, if_absent)

    return session


def bare_put(path: Path, data: bytes, if_absent: bool) -> None:
    try:
        os.mkdir(path.parent)
        sync_folder(path.parent.parent)
    except FileExistsError:
        pass
    temporary = f"{path}~"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(file, data)
    os.fsync(file)
    os.close(file)
    if if_absent:
        os.link(temporary, path)
        os.unlink(temporary)
    else:
        os.rename(temporary, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def dbos(folder: Path, client: httpx.Client) -> Session:
    from dbos import DBOS, SetWorkflowID

    folder.mkdir()
    DBOS(
        config={
            "name": "bench",
            "system_database_url": f"sqlite:///{folder}/dbos.sqlite",
            "log_level": "ERROR",
            "run_admin_server": False,
        }
    )

    @DBOS.step()
    def post(number: int, operation: dict) -> str:
        client.put(f"/rows/{number}", json=operation["payload"]).raise_for_status()
        return str(number)

    @DBOS.workflow()
    def workflow(number: int) -> list[str]:
        return [post(number, operation) for operation in OPERATIONS]

    DBOS.launch()

    def session(number: int) -> None:
        with SetWorkflowID(f"s{number}"):
            workflow(number)

    return session


class Written(TypedDict):
    done: list[str]


def langgraph(folder: Path, client: httpx.Client) -> Session:
    import sqlite3

    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    folder.mkdir()
    connection = sqlite3.connect(folder / "graph.sqlite", check_same_thread=False)
    graph = StateGraph(Written)

    def node(operation: dict) -> Callable[[Written], Written]:
        def post(state: Written) -> Written:
            client.put("/rows/1", json=operation["payload"]).raise_for_status()
            return {"done": [*state["done"], operation["payload"]["text"]]}

        return post

    names = ["one", "two", "three"]
    for name, operation in zip(names, OPERATIONS, strict=True):
        graph.add_node(name, node(operation))
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    compiled = graph.compile(checkpointer=SqliteSaver(connection))

    def session(number: int) -> None:
        compiled.invoke({"done": []}, {"configurable": {"thread_id": f"s{number}"}}, durability="sync")

    return session


CONTENDERS: dict[str, Callable[[Path, httpx.Client], Session]] = {
    "writeahead, every": lambda folder, client: ours(folder, client, "every"),
    "bare, every": lambda folder, client: bare(folder, client, "every"),
    "writeahead, batched": lambda folder, client: ours(folder, client, "batched"),
    "bare, batched": lambda folder, client: bare(folder, client, "batched"),
    "DBOS, SQLite": dbos,
    "LangGraph, SQLite, sync": langgraph,
}


def timed(rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    with scratch() as folder, server() as url, httpx.Client(base_url=url) as client:
        sessions = {name: make(folder / str(n), client) for n, (name, make) in enumerate(CONTENDERS.items())}
        for number in range(rounds + 3):  # the first three warm up
            for name, session in sessions.items():
                before = time.perf_counter()
                session(number)
                times[name].append(time.perf_counter() - before)
    return {name: values[3:] for name, values in times.items()}


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder beside this file: /tmp is no disk on many machines."""
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=Path(__file__).parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def only(name: str, sessions: int) -> None:
    with scratch() as folder, server() as url, httpx.Client(base_url=url) as client:
        session = CONTENDERS[name](folder / "0", client)
        for number in range(sessions):
            session(number)
        os._exit(_cleared(folder))  # DBOS has threads that would go on


def _cleared(folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    for child in multiprocessing.active_children():
        child.terminate()
    return 0


def syncs(name: str) -> float | None:
    """Count fsync-type calls a session: the difference between many sessions and few, so without set-up."""
    if not shutil.which("strace"):
        return None
    counts = []
    for sessions in SYNC_RUNS:
        with tempfile.NamedTemporaryFile("r") as log:
            command = [sys.executable, __file__, "--only", name, "--sessions", str(sessions)]
            subprocess.run(
                [
                    "strace",
                    "-f",
                    "-qq",
                    "-e",
                    f"trace={SYNCS}",
                    "-e",
                    "signal=none",
                    "-o",
                    log.name,
                    *command,
                ],
                check=True,
            )
            counts.append(sum("sync" in line and "resumed" not in line for line in log))
    return (counts[1] - counts[0]) / (SYNC_RUNS[1] - SYNC_RUNS[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--sessions", type=int, default=1, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        only(given.only, given.sessions)
    times = timed(given.rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = medians["writeahead, every"]
    figures = {}
    print(f"{'':24} {'median ms':>10} {'p10..p90 ms':>16} {'x writeahead':>13} {'syncs':>7}")
    for name, values in times.items():
        deciles = statistics.quantiles(values, n=10)
        count = syncs(name)
        figures[name] = {"median": medians[name], "ratio": medians[name] / base, "syncs": count}
        spread = f"{deciles[0] * 1e3:.1f}..{deciles[-1] * 1e3:.1f}"
        shown = "n/a" if count is None else f"{count:.1f}"
        print(f"{name:24} {medians[name] * 1e3:10.2f} {spread:>16} {medians[name] / base:13.2f} {shown:>7}")
    for journal in ("every", "batched"):
        ratio = medians[f"writeahead, {journal}"] / medians[f"bare, {journal}"]
        print(f"{journal}: {ratio:.2f} x the bare bound (aim: at most 1.25)")
    print(f"DBOS takes {medians['DBOS, SQLite'] / base:.2f} x as long (aim: at least 2.5)")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))
    os._exit(0)  # DBOS has threads that would go on


if __name__ == "__main__":
    main()
