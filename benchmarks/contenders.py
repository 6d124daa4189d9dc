"""The contenders of session.py, one in each process: `python contenders.py NAME FOLDER URL`.

Each line on standard input is a session id: the contender runs that session and prints the seconds
it took. A session is three operations, each one POST. What a contender sets up once (connection,
schema, a first session) is not in those seconds.
"""

import sqlite3
import sys
import time
from collections.abc import Callable
from os import O_CREAT, O_EXCL, O_RDONLY, O_WRONLY, close, fsync, link, mkdir, rename, unlink
from os import open as open_file
from os import write as write_file
from pathlib import Path

import httpx

PAYLOADS = [
    {"subject": f"Step {number} of a call", "detail": "What was agreed on the phone. " * 4, "code": number}
    for number in (1, 2, 3)
]

Session = Callable[[str], object]


class Remote:
    """The bare client that all contenders use."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client()

    def post(self, payload: dict, key: str) -> int:
        answer = self.client.post(self.url, json=payload, headers={"Idempotency-Key": key})
        answer.raise_for_status()
        return answer.status_code


class SlowRemote(Remote):
    """A remote that is far away: each request takes so many seconds more."""

    SECONDS = 0.05

    def post(self, payload: dict, key: str) -> int:
        time.sleep(self.SECONDS)
        return super().post(payload, key)


def writeahead(folder: Path, remote: Remote, interval: float | None = None) -> Session:
    from writeahead.stores.local import LocalStore

    return _write_back(LocalStore(folder), remote, _policy(interval))


def _policy(interval: float | None):
    from writeahead import RunPolicy

    return RunPolicy() if interval is None else RunPolicy(journal_interval=interval)


# Seconds that a request to a store takes that is far away, and how many a session must wait for:
# marker, plan, final artifact, and the marker's end.
STORE_SECONDS, STORE_REQUESTS = 0.02, 4


def writeahead_far_away(_folder: Path, near: Remote) -> Session:
    from writeahead.stores.memory import MemoryStore
    from writeahead.testing import WrapperStore

    class SlowStore(WrapperStore):
        is_local = False  # each look is a request

        def _around(self, _verb, _key, call):
            time.sleep(STORE_SECONDS)
            return call()

    return _write_back(SlowStore(MemoryStore()), SlowRemote(near.url), _policy(None))


def bare_far_away(_folder: Path, near: Remote) -> Session:
    """What any session takes there: the posts, and the requests to the store."""
    remote = SlowRemote(near.url)

    def session(session_id: str) -> None:
        for _ in range(STORE_REQUESTS):
            time.sleep(STORE_SECONDS)
        for payload in PAYLOADS:
            remote.post(payload, session_id)

    return session


def _write_back(store, remote, policy) -> Session:
    from pydantic import BaseModel

    from writeahead import Adapter, Operation, PlannedOperation, Receipt, emits, write_back

    class Step(BaseModel):
        subject: str
        detail: str
        code: int

    class Poster(Adapter):
        name = "poster"

        @emits("create_with_key")
        def emit_step(self, payload: Step, operation: PlannedOperation) -> Receipt:
            return Receipt(remote_version=str(remote.post(payload.model_dump(), operation.key)))

    adapter = Poster()

    def session(session_id: str) -> None:
        operations = [Operation(kind="step", payload=payload) for payload in PAYLOADS]
        report = write_back(operations, session_id=session_id, store=store, adapter=adapter, policy=policy)
        if report.status != "completed":
            sys.exit(f"writeahead: {report.status}: {report.error}")

    return session


def bare(folder: Path, remote: Remote, interval: float | None = None) -> Session:
    """Repeat a session of writeahead by system calls: the same files, bytes, syncs and posts."""
    steps = _seen(folder.with_name(folder.name + "-seen"), remote, interval)
    for name in ("", ".open"):
        (folder / name).mkdir()

    def session(session_id: str) -> None:
        for verb, name, data in steps:
            path = f"{folder}/{name.replace(_SEEN, session_id)}"
            if verb == "post":
                remote.post(data, name)
                continue
            if verb == "delete":
                unlink(path)
                continue
            if verb == "mkdir":
                mkdir(path, 0o700)
            else:
                _write_file(path, data, replace=verb == "put")
            _sync_folder(path.rpartition("/")[0])

    return session


_SEEN = "session-000000"


def _seen(folder: Path, remote: Remote, interval: float | None) -> list[tuple[str, str, object]]:
    """Run one session of writeahead, and return what it did to the disk and to the remote."""
    from writeahead.stores.local import LocalStore

    steps: list[tuple[str, str, object]] = []
    made = {".", ".open"}

    class Recorder(LocalStore):
        def _put(self, key, data, *, if_absent):
            for parent in reversed(Path(key).parents):
                if str(parent) not in made:
                    made.add(str(parent))
                    steps.append(("mkdir", str(parent), None))
            steps.append(("create" if if_absent else "put", key, data))
            return super()._put(key, data, if_absent=if_absent)

        def _delete(self, key):
            steps.append(("delete", key, None))
            super()._delete(key)

    class Recording(Remote):
        def post(self, payload, key):
            steps.append(("post", key, payload))
            return super().post(payload, key)

    _write_back(Recorder(folder), Recording(remote.url), _policy(interval))(_SEEN)
    return steps


def _write_file(path: str, data: bytes, *, replace: bool) -> None:
    temporary = path + "~"
    file = open_file(temporary, O_WRONLY | O_CREAT | O_EXCL, 0o600)
    if data:
        write_file(file, data)
        fsync(file)
    close(file)
    if replace:
        rename(temporary, path)
    else:
        link(temporary, path)
        unlink(temporary)


def _sync_folder(path: str) -> None:
    folder = open_file(path, O_RDONLY)
    fsync(folder)
    close(folder)


def dbos(folder: Path, remote: Remote) -> Session:
    """A workflow of three steps, its system database in SQLite as DBOS sets it up."""
    from dbos import DBOS, SetWorkflowID

    folder.mkdir()
    DBOS(
        config={
            "name": "session",
            "system_database_url": f"sqlite:///{folder}/dbos.sqlite",
            "log_level": "ERROR",
        }
    )

    @DBOS.step()
    def post(payload: dict, key: str) -> int:
        return remote.post(payload, key)

    @DBOS.workflow()
    def three_steps(payloads: list[dict]) -> list[int]:
        return [post(payload, f"{DBOS.workflow_id}-{number}") for number, payload in enumerate(payloads)]

    DBOS.launch()

    def session(session_id: str) -> None:
        with SetWorkflowID(session_id):
            three_steps(PAYLOADS)

    return session


def langgraph(folder: Path, remote: Remote) -> Session:
    """A graph of three nodes with a checkpoint in SQLite after each (durability "sync")."""
    import operator
    from typing import Annotated, TypedDict

    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    class State(TypedDict):
        session_id: str
        payloads: list[dict]
        receipts: Annotated[list[int], operator.add]

    def node(number: int):
        def post(state: State) -> dict:
            return {"receipts": [remote.post(state["payloads"][number], f"{state['session_id']}-{number}")]}

        return post

    folder.mkdir()
    connection = sqlite3.connect(folder / "langgraph.sqlite", check_same_thread=False)
    builder = StateGraph(State)
    names = [f"step{number}" for number in range(len(PAYLOADS))]
    for number, name in enumerate(names):
        builder.add_node(name, node(number))
    for before, after in zip([START, *names], [*names, END], strict=True):
        builder.add_edge(before, after)
    graph = builder.compile(checkpointer=SqliteSaver(connection))

    def session(session_id: str) -> None:
        graph.invoke(
            {"session_id": session_id, "payloads": PAYLOADS, "receipts": []},
            {"configurable": {"thread_id": session_id}},
            durability="sync",
        )

    return session


FAR = ", far away"
CONTENDERS: dict[str, Callable[[Path, Remote], Session]] = {
    "writeahead": writeahead,
    "bare": bare,
    "writeahead, interval 0": lambda folder, remote: writeahead(folder, remote, 0),
    "bare, interval 0": lambda folder, remote: bare(folder, remote, 0),
    "DBOS": dbos,
    "LangGraph": langgraph,
    f"writeahead{FAR}": writeahead_far_away,
    f"bare{FAR}": bare_far_away,
}


def main(name: str, folder: str, url: str) -> None:
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    try:
        session = CONTENDERS[name](Path(folder), Remote(url))
    except ModuleNotFoundError as error:
        print(f"{error.name} is not installed", file=answers)
        return
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        session(line.strip())
        print(time.perf_counter() - started, file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
