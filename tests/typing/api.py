# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedCallResult=false
"""The public names as a user's typed code has them: mypy and pyright check this file, strictly.

`assert_type` pins what comes out. A line with ``type: ignore`` must be an error, or the checkers
complain of the comment.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, assert_type

import pytest
from pydantic import BaseModel, JsonValue
from typing_extensions import TypedDict

from writeahead import (
    Adapter,
    ArtifactStore,
    Clock,
    Operation,
    PlannedOperation,
    Receipt,
    ReplayArtifact,
    ResumeError,
    RunPolicy,
    RunReport,
    Session,
    WriteaheadError,
    __version__,
    abandon_session,
    aresume_session,
    asweep,
    awrite_back,
    emits,
    find_sessions,
    load_replay_artifact,
    open_store,
    prune,
    read_session,
    resume_item,
    resume_session,
    sweep,
    unblock_session,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.adapters.base import TransactionalAdapter
from writeahead.errors import Applied, ConflictError, TransientError
from writeahead.items import AdapterSpec, Outcome
from writeahead.model import Assume, BlockReason, KeyedOperation, ReplayClass, RunStatus
from writeahead.protocol.artifacts import FinalInfo
from writeahead.protocol.finding import SessionSummary
from writeahead.protocol.progress import Ended, Progress, Waiting, WaitReason
from writeahead.protocol.pruning import PruneResult
from writeahead.protocol.settling import Left
from writeahead.protocol.sweep import SweepResult
from writeahead.stores.base import ObjectInfo, StoreCheck, StoredObject
from writeahead.stores.memory import MemoryStore
from writeahead.testing import (
    AdapterContract,
    Fault,
    FaultInjector,
    FaultyStore,
    HttpProxy,
    ManualClock,
    RemoteBackdoor,
    RemoteRow,
    SeenRequest,
    StoreBackdoor,
    StoreCall,
    StoreContract,
    StoreFault,
    TracingStore,
    WrapperStore,
)

# An adapter, and running it.


class Row(BaseModel):
    text: str


class Crm(Adapter):
    name = "crm"

    def __init__(self, url: str) -> None:
        self.url = url

    @emits("create_with_key")
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        if not payload.text:
            raise TransientError("PUT /rows: 503", applied=Applied.UNKNOWN, retry_after=7.5)
        return Receipt(remote_id=operation.key, remote_version="1")

    @emits(ReplayClass.LOOKUP)
    def emit_note(self, payload: Row, operation: PlannedOperation) -> Receipt:
        raise ConflictError("PUT /notes: another user wrote it")

    def find_note(self, payload: Row, operation: PlannedOperation) -> Receipt | None:
        return None


class Line(TypedDict):
    text: str


@dataclass
class Note:
    text: str
    urgent: bool = False


class AsyncCrm(Adapter):
    name = "async-crm"

    @emits("upsert")
    async def emit_line(self, payload: Line, operation: PlannedOperation) -> None: ...

    async def plan_note(
        self, payload: dict[str, Any], operation: KeyedOperation, baseline: Note | None = None
    ) -> PlannedOperation:
        assert_type(operation.baseline, dict[str, JsonValue] | None)
        return PlannedOperation(id="1", kind="note", key="k", payload=payload, replay=ReplayClass.LOOKUP)

    @emits("lookup")
    async def emit_note(self, payload: Note, operation: PlannedOperation) -> Receipt | None:
        return Receipt() if payload.urgent else None

    async def find_note(self, payload: Note, operation: PlannedOperation) -> Receipt | None:
        return None

    @emits("upsert")
    def emit_any(self, payload: Mapping[str, Any], operation: PlannedOperation) -> None: ...

    @emits("upsert")  # type: ignore[type-var]
    async def emit_text(self, payload: Line, operation: PlannedOperation) -> str:
        return "no receipt"


class AsyncBatches(AsyncCrm, TransactionalAdapter):
    async def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        return [Receipt() for _ in operations]


async def on_asyncio(
    store: ArtifactStore, crm: AsyncCrm, line: Line, planned: PlannedOperation
) -> AsyncIterator[SweepResult]:
    # A marked method keeps its own type.
    assert_type(await crm.emit_note(Note("x"), planned), Receipt | None)
    await crm.emit_line({"txet": "x"}, planned)  # type: ignore[typeddict-item]
    operations = [Operation(kind="line", payload=line), Operation(kind="note", payload=Note("x"))]
    report = await awrite_back(operations, session_id="s1", store=store, adapter=crm)
    assert_type(report, RunReport)
    assert_type(await aresume_session("s1", store=store, adapter=crm, policy=RunPolicy()), RunReport)
    results = asweep(store, crm)
    assert_type(results, AsyncGenerator[SweepResult, None])
    await awrite_back(operations, session_id="s1", store=store)  # type: ignore[call-arg]
    await aresume_session(7, store=store, adapter=crm)  # type: ignore[arg-type]
    return results


class Batches(Crm, TransactionalAdapter):
    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        return [Receipt(remote_id=operation.key) for operation in operations]


def emit(crm: Crm, operation: PlannedOperation) -> Receipt | None:
    # A marked method keeps its own type.
    assert_type(crm.emit_row(Row(text="x"), operation), Receipt)
    crm.emit_row("no row", operation)  # type: ignore[arg-type]
    assert_type(crm.plan([]), list[PlannedOperation])
    assert_type(crm.emit(operation), Receipt)
    return crm.find(operation)


def run(store: ArtifactStore) -> RunReport:
    operations: list[Operation | Mapping[str, Any]] = [
        Operation(kind="row", payload={"text": "x"}),
        {"kind": "row", "payload": Row(text="y")},
    ]
    report = write_back(operations, session_id="s1", store=store, adapter=Crm("http://crm"))
    assert_type(report, RunReport)
    assert_type(report.status, RunStatus)
    assert_type(report.block_reason, BlockReason | None)
    assert_type(report.not_before, datetime | None)
    assert_type(report.cause, BaseException | None)
    write_back(operations, session_id="s1", store=store)  # type: ignore[call-arg]
    return report


def watched(store: ArtifactStore) -> list[str]:
    seen: list[str] = []

    def on_progress(event: Progress) -> None:
        match event:
            case Waiting(seconds=seconds, until=until, reason=reason):
                assert_type(seconds, float)
                assert_type(until, datetime)
                assert_type(reason, WaitReason)
            case Ended():
                assert_type(event.status, RunStatus)
            case _:
                seen.extend(event.operations)

    report = resume_session("s1", store=store, adapter=Crm("http://crm"), on_progress=on_progress)
    assert_type(report.attempted, dict[str, datetime])
    list(sweep(store, Crm("http://crm"), on_progress=on_progress))
    with ThreadPoolExecutor() as pool:
        swept = sweep(store, Crm("http://crm"), executor=pool, concurrency=4, limit=10, max_time=60)
        assert_type(next(swept).left, Left | None)
        item = pool.submit(resume_item, "./store", AdapterSpec("crm", {"url": "http://crm"}), "s1")
        assert_type(item.result(), Outcome)
        assert_type(item.result().not_before, datetime | None)
    write_back([], session_id="s1", store=store, adapter=Crm("http://crm"), on_progress=seen)  # type: ignore[arg-type]
    return seen


def resume(store: ArtifactStore, clock: Clock) -> RunStatus | None:
    policy = RunPolicy(attempts=3, wait_initial=0.5, lease=600)
    assert_type(RunPolicy(waits=[1, 5, 15], retry_after_max=60).longest_wait, float)
    try:
        report = resume_session("s1", store=store, adapter=Batches("http://crm"), policy=policy, clock=clock)
    except ResumeError:
        return None
    except WriteaheadError as error:
        raise SystemExit(str(error)) from error
    return report.status


# The store alone, and one's own models in it.


def keep(data: bytes) -> ArtifactStore:
    store = open_store("memory://typed")
    assert_type(store, ArtifactStore)
    assert_type(store.put("a/b", data, if_absent=True), ObjectInfo)
    assert_type(store.get("a/b"), StoredObject)
    assert_type(store.head("a/b"), ObjectInfo | None)
    assert_type(store.list("a/"), Iterator[ObjectInfo])
    assert_type(store.check(), StoreCheck)
    store.put("a/b", "text")  # type: ignore[arg-type]
    store.delete("a/b")
    return store


def record(store: ArtifactStore) -> Row:
    assert_type(write_planned_writeback_artifact(store, "s2", Row(text="x")), ObjectInfo)
    assert_type(write_writeback_artifact(store, "s2", Row(text="x")), FinalInfo)
    found = load_replay_artifact(store, "s2", Row)
    assert_type(found, ReplayArtifact[Row])
    assert_type(found.finished, bool)
    write_writeback_artifact(store, "s2", {"text": "x"})  # type: ignore[arg-type]
    return found.model


# Tests of one's own.


def count_the_puts() -> int:
    traced = TracingStore(MemoryStore())
    faulty = FaultyStore(traced)
    faulty.fail("create", "*/planned-writeback.json", StoreFault.lost_reply(), times=None)
    clock = ManualClock(datetime(2030, 1, 1, tzinfo=UTC), skew=-5, chance=0.25)
    clock.advance(3600)
    assert_type(clock.random(), float)
    assert_type(clock.slept, list[float])
    resume(faulty, clock)
    assert_type(traced.calls, list[StoreCall])
    return traced.count()["put"]


def watch(url: str) -> list[SeenRequest]:
    with HttpProxy(url) as proxy:
        assert_type(proxy, HttpProxy)
        proxy.fault("POST", Fault("refused", forward=False, reset=True), times=2)
        proxy.fault(lambda request: request.status is None, Fault("seen", forward=True))
        return proxy.requests


def inject(url: str) -> None:
    faults = FaultInjector(MemoryStore())
    assert_type(faults.store, FaultyStore)
    assert_type(faults.proxy(url), HttpProxy)
    assert_type(faults.adapter(Crm(url)), Crm)
    faults.lost_reply(2, times=None)
    faults.unavailable(nth=2, retry_after=7)
    faults.lost_put(key="*/writeback.json")
    with faults.kill(nth=2, applied=False):
        faults.heal()
    assert_type(faults.pending, list[str])
    faults.close()


class CrmBackdoor:
    url = "http://127.0.0.1:8000"
    secrets: Sequence[str] = ("password",)

    @property
    def operations(self) -> Mapping[str, Callable[[], Operation]]:
        return {"row": lambda: Operation(kind="row", payload={"text": "x"})}

    def adapter(self, url: str, clock: Clock, /) -> Crm:
        return Crm(url)

    def rotated(self, url: str, clock: Clock, /) -> Crm:
        return Crm(url)

    def other_content(self, operation: Operation, /) -> Operation:
        return Operation(kind=operation.kind, payload={"text": "y"})

    def rows(self, operation: KeyedOperation) -> list[RemoteRow]:
        return [RemoteRow(operation.key, {"text": "x"})]

    def snapshot(self) -> object:
        return None

    def edit(self, operation: KeyedOperation, *, guarded: bool) -> Callable[[], bool]:
        return lambda: guarded

    def baseline(self, operation: KeyedOperation) -> dict[str, JsonValue]:
        return {"version": "1"}

    def remove(self, operation: KeyedOperation) -> None: ...

    def take_key(self, operation: KeyedOperation) -> Callable[[], bool]:
        return lambda: True


class TestCrm(AdapterContract):
    impossible: ClassVar = {"edit": "no one else writes into this CRM"}

    @pytest.fixture(scope="class")
    def backdoor(self) -> RemoteBackdoor:
        return CrmBackdoor()


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = path.as_uri()

    def open(self) -> ArtifactStore:
        return open_store(self.url)

    def read(self, key: str) -> bytes | None:
        return (self.path / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        (self.path / key).write_bytes(data)

    def fill(self, prefix: str, count: int) -> None: ...

    def keys(self) -> list[str]:
        return []


class TestFolder(StoreContract):
    impossible: ClassVar = {"wire": "no HTTP is spoken"}

    @pytest.fixture
    def backdoor(self, tmp_path: Path) -> StoreBackdoor:
        return Folder(tmp_path)


# All sessions of a store, and an operator's decisions.


def version() -> str:
    return assert_type(__version__, str)


def look_at(store: ArtifactStore) -> datetime | None:
    session = read_session(store, "s1", clock=Clock())
    assert_type(session, Session)
    assert_type(session.status, RunStatus | None)
    assert_type(session.receipts, dict[str, Receipt])
    assert_type(session.error, str | None)
    return session.not_before


def look_after(store: ArtifactStore) -> list[str]:
    names = [assert_type(found, SessionSummary).session_id for found in find_sessions(store, "open")]
    assert_type(prune(store, timedelta(days=90)), Iterator[PruneResult])
    for result in sweep(store, Crm("http://crm"), policy=RunPolicy(max_turns=5)):
        assert_type(result.report, RunReport | None)
    assert_type(abandon_session("s2", store=store, reason="asked"), RunReport)
    report = unblock_session("s1", store=store, reason="asked", assume={"1-row": Assume.APPLIED})
    unblock_session("s1", store=store, reason="asked", assume={"1-row": 7})  # type: ignore[dict-item]
    return [*names, assert_type(report.raise_for_status(), RunReport).session_id]


class Counting(WrapperStore):
    puts = 0

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        self.puts += 1
        return super()._put(key, data, if_absent=if_absent)


def request() -> Operation:
    Operation(kind="row", payload=7)  # type: ignore[arg-type]
    Operation(kind="row", baseline="1")  # type: ignore[arg-type]
    Operation(kind="row", payload=Row(text="x"), baseline=Note("seen"))
    return Operation(kind="row", payload=Row(text="x"), baseline={"etag": "1"})
