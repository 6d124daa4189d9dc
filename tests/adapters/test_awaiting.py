"""Async methods of adapters under the synchronous functions: their loop, and what ends them."""

import asyncio
import contextvars
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.support.async_crm import AsyncCrmAdapter
from tests.support.crm import serving
from tests.support.processes import child_environment
from tests.support.remotes import operations
from tests.support.worlds import World
from writeahead import Adapter, PlannedOperation, Receipt, emits, write_back
from writeahead.adapters import awaiting, limits
from writeahead.adapters.awaiting import awaited
from writeahead.adapters.base import TransactionalAdapter
from writeahead.adapters.limits import current_limits
from writeahead.errors import Applied, TransientError
from writeahead.model import BlockReason, KeyedOperation, RunStatus
from writeahead.stores.memory import MemoryStore


@dataclass
class Line:
    text: str


class Coroutines(Adapter):
    """Its emit methods do what a test says: ``act(operation)`` is a coroutine function."""

    name = "coroutines"
    request_lifetime = 60.0

    def __init__(self, act):
        self.act = act

    @emits("create_with_key")
    async def emit_row(self, payload: Line, operation: PlannedOperation) -> Receipt | None:
        return await self.act(operation)

    @emits("unprovable")
    async def emit_mail(self, payload: Line, operation: PlannedOperation) -> Receipt | None:
        return await self.act(operation)


def acting(act):
    world = World()
    world.adapter = Coroutines(act)
    return world


@pytest.fixture(autouse=True)
def quick_and_quiet(monkeypatch, caplog):
    """A loop logs what goes wrong in its callbacks, and goes on."""
    monkeypatch.setattr(limits, "POLL", 0.01)
    yield
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


# The loop.


def run_here(adapter, session_id, *kinds):
    return write_back(operations(*kinds), session_id=session_id, store=MemoryStore(), adapter=adapter)


def test_a_client_is_kept_between_operations_runs_and_threads():
    with serving() as crm, closing(AsyncCrmAdapter(crm.url)) as adapter:
        reports = [run_here(adapter, "s1", "row", "row"), run_here(adapter, "s2", "row")]
        thread = threading.Thread(target=lambda: reports.append(run_here(adapter, "s3", "row", "mail")))
        thread.start()
        thread.join()
        assert [report.error for report in reports] == [None] * 3
        assert sorted(crm.effects.values()) == [1] * 5


def test_a_synchronous_run_inside_a_running_loop():
    async def notebook():
        with serving() as crm, closing(AsyncCrmAdapter(crm.url)) as adapter:
            return run_here(adapter, "s1", "row")

    assert asyncio.run(notebook()).ok


def test_a_run_that_would_wait_for_itself_says_what_to_do():
    inner = Coroutines(None)

    async def nested(operation):
        inner.act = nothing
        run_here(inner, "s2", "row")

    world = acting(nested)
    with pytest.raises(RuntimeError, match=r"await writeahead\.awrite_back"):
        world.run("mail")
    # It may have sent something before that.
    assert world.resume().block_reason is BlockReason.OUTCOME_UNKNOWN


async def nothing(operation):
    await asyncio.sleep(0)


def test_context_variables_and_limits_reach_a_coroutine():
    trace, found = contextvars.ContextVar("trace"), []

    async def act(operation):
        await asyncio.sleep(0)
        found.append((trace.get(), current_limits().stop, current_limits().time_left()))
        trace.set("changed")

    world = acting(act)
    world.stop = threading.Event()
    trace.set("here")
    assert world.run("row").ok
    assert found == [("here", world.stop, world.policy.run_limit)]
    assert trace.get() == "here"


def test_a_forked_child_has_a_loop_of_its_own():
    # Not a child of this process, which may have threads of any kind.
    code = """
import os, warnings
from tests.adapters.test_awaiting import acting, nothing
assert acting(nothing).run("row").ok
warnings.simplefilter("ignore", DeprecationWarning)
child = os.fork()
if not child:
    os._exit(0 if acting(nothing).run("row").ok else 1)
assert os.waitpid(child, 0)[1] == 0
assert acting(nothing).run("row").ok
"""
    command = [sys.executable, "-W", "error", "-c", code]
    subprocess.run(command, check=True, timeout=60, env=child_environment())


AT_THE_END = """
import asyncio
from tests.adapters.test_awaiting import acting

async def numbers():
    try:
        while True:
            yield 1
    finally:
        await asyncio.sleep(0)
        print("generator", flush=True)

async def act(operation):
    global kept, task
    kept = numbers()
    await anext(kept)
    task = asyncio.create_task(left_behind())
    await asyncio.sleep(0)

async def left_behind():
    try:
        await asyncio.Event().wait()
    finally:
        print("task", flush=True)

assert acting(act).run("row").ok
"""


def test_the_loop_is_ended_with_the_process():
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", AT_THE_END]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, env=child_environment()
    )
    assert (done.stdout.split(), done.stderr) == (["task", "generator"], "")


def test_a_synchronous_adapter_loads_no_asyncio():
    code = """
import sys
from tests.support.remotes import Remote, RemoteAdapter, operations
from writeahead import write_back
from writeahead.stores.memory import MemoryStore
adapter = RemoteAdapter(Remote())
assert write_back(operations("create"), session_id="s1", store=MemoryStore(), adapter=adapter).ok
print("asyncio" in sys.modules)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=child_environment())
    assert done.stdout == "False\n"


# What may be awaited.


class Later:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return Receipt(remote_id="later")


def wrapped(method):
    def call(self, payload: Line, operation: PlannedOperation):
        return method(self, payload, operation)

    return call


class EveryWay(TransactionalAdapter):
    name = "every-way"

    def __init__(self):
        self.did = []

    async def plan_row(self, payload: Line, operation: KeyedOperation) -> PlannedOperation:
        await asyncio.sleep(0)
        self.did.append("plan")
        return PlannedOperation(
            id=operation.id, kind="row", key=operation.key, payload={"text": payload.text}, replay="lookup"
        )

    @emits("lookup")
    @wrapped
    async def emit_row(self, payload, operation):
        await asyncio.sleep(0)
        self.did.append("emit")
        return Receipt(remote_id="wrapped")

    async def find_row(self, payload: Line, operation: PlannedOperation) -> Receipt | None:
        await asyncio.sleep(0)
        self.did.append("find")
        return None

    @emits("upsert")
    def emit_later(self, payload: Line, operation: PlannedOperation) -> Later:
        return Later()

    async def transact(self, operations):
        await asyncio.sleep(0)
        return [Receipt(remote_id="all") for _ in operations]


def test_any_method_may_return_what_is_awaited():
    world = World()
    world.adapter = adapter = EveryWay()
    report = world.run("row", "later")
    assert [receipt.remote_id for receipt in report.receipts.values()] == ["wrapped", "later"]
    assert adapter.find(report.operations[0]) is None
    assert adapter.did == ["plan", "emit", "find"]
    report = world.run("later", "later", session_id="s2", atomic=True)
    assert [receipt.remote_id for receipt in report.receipts.values()] == ["all", "all"]


@pytest.mark.parametrize("verb", ["plan", "emit", "find"])
def test_a_verb_itself_can_not_be_a_coroutine(verb):
    async def call(self, operation): ...

    with pytest.raises(TypeError, match=rf"Crm\.{verb} can't be async: make async what it calls, {verb}_<"):
        type("Crm", (Adapter,), {"name": "crm", verb: call})


def generates():
    yield Receipt()


async def generates_later():
    yield Receipt()


@pytest.mark.parametrize("generator", [generates, generates_later])
def test_a_generator_is_no_receipt_wherever_it_comes_from(generator):
    world = World()
    world.adapter = adapter = EveryWay()
    adapter.emit_later = lambda payload, operation: generator()
    with pytest.raises(TypeError, match="returned no Receipt for 1-later"):
        world.run("later")
    adapter.plan_row = lambda payload, operation: generator()
    with pytest.raises(TypeError, match="plan_row returned no PlannedOperation for 1-row"):
        world.run("row", session_id="s2")


def test_a_search_that_finds_no_receipt_is_not_believed(world_after_lost_lookup):
    """It would count as found, and the operation would be lost."""
    world, adapter = world_after_lost_lookup
    adapter.find_row = lambda payload, operation: generates()
    with pytest.raises(TypeError, match="found neither a Receipt nor None for 1-row"):
        world.resume()
    del adapter.find_row
    assert world.resume().ok
    assert adapter.did == ["plan", "find", "emit"]


@pytest.fixture
def world_after_lost_lookup():
    world, adapter = World(), EveryWay()
    world.adapter = adapter

    async def lost(payload, operation):
        raise TransientError("reset", applied=Applied.UNKNOWN, retry_after=10_000)

    adapter.emit_row = lost
    assert world.run("row").status is RunStatus.RESUME_NEEDED
    del adapter.emit_row
    world.clock.advance(20_000)
    return world, adapter


# What ends a coroutine.


def test_a_stop_ends_a_request_under_way_after_a_moment(monkeypatch):
    monkeypatch.setattr(limits, "STOP_GRACE", 0.0)
    world = World()
    world.stop = threading.Event()
    with serving() as crm, closing(AsyncCrmAdapter(crm.url)) as world.adapter:
        crm.hold = True
        watcher = threading.Thread(target=lambda: (crm.arrived.acquire(), world.stop.set()))
        watcher.start()
        report = world.run("row", "mail")
        watcher.join()
        assert (report.status, report.emitted) == (RunStatus.RESUME_NEEDED, ())
        assert list(crm.requests) == ["PUT /row"]
        world.stop, crm.hold = None, False
        report = world.resume()
        assert report.receipts["1-row"].outcome == "already_applied"
        assert list(crm.effects.values()) == [1, 1]


def test_a_request_that_answers_within_the_moment_counts():
    world = acting(None)
    world.stop = threading.Event()

    async def act(operation):
        world.stop.set()
        await asyncio.sleep(0)
        return Receipt(remote_id="in time")

    world.adapter.act = act
    report = world.run("mail", "mail")
    assert (report.status, report.receipts["1-mail"].remote_id) == (RunStatus.RESUME_NEEDED, "in time")


async def forever(operation):
    await asyncio.Event().wait()


@pytest.mark.parametrize(("kind", "status"), [("row", RunStatus.RESUME_NEEDED), ("mail", RunStatus.BLOCKED)])
def test_the_limit_of_a_run_ends_a_request(kind, status):
    world = acting(None)

    async def act(operation):
        world.clock.advance(world.policy.run_limit)
        await forever(operation)

    world.adapter.act = act
    report = world.run(kind)
    assert (report.status, report.error) == (status, "the request was cancelled")
    assert world.resume().status is status or kind == "row"


def test_a_request_that_goes_on_after_it_was_cancelled(monkeypatch):
    monkeypatch.setattr(awaiting, "_CANCEL_GRACE", 0.01)
    release, world = threading.Event(), acting(None)

    async def act(operation):
        world.clock.advance(world.policy.run_limit)
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    world.adapter.act = act
    report = world.run("mail")
    release.set()
    assert (report.block_reason, report.error) == (
        BlockReason.OUTCOME_UNKNOWN,
        "the request went on after a cancel",
    )


def test_what_a_cancelled_request_says_of_itself_counts():
    world = acting(None)

    async def act(operation):
        world.clock.advance(world.policy.run_limit)
        try:
            await forever(operation)
        except asyncio.CancelledError:
            raise TransientError("not sent yet", applied=Applied.NO) from None

    world.adapter.act = act
    report = world.run("mail")
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "not sent yet")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, GeneratorExit])
def test_what_a_coroutine_raises_is_raised_by_the_run_and_its_loop_goes_on(error):
    async def act(operation):
        await asyncio.sleep(0)
        raise error

    world = acting(act)
    with pytest.raises(error):
        world.run("row")
    assert world.json("s1/journal/000001.json")["status"] == "resume_needed"
    with pytest.raises(error):
        world.run("mail", session_id="s2")
    assert world.json("s2/journal/000002.json")["block_reason"] == "outcome_unknown"
    world.adapter.act = nothing
    assert world.resume().ok


def test_a_coroutine_that_cancels_itself_is_no_cancelled_caller():
    async def act(operation):
        raise asyncio.CancelledError

    report = acting(act).run("mail")
    assert (report.block_reason, report.error) == (BlockReason.OUTCOME_UNKNOWN, "the request was cancelled")


def on_loop(loop):
    """A context whose coroutines run on a loop."""
    with awaiting.coroutines_on(loop):
        return contextvars.copy_context()


def test_a_task_that_is_cancelled_before_its_first_step():
    async def act(operation):
        raise AssertionError

    async def main():
        loop = asyncio.get_running_loop()
        create = loop.create_task

        def cancelled(coroutine):
            loop.create_task = create
            task = create(coroutine)
            task.cancel()
            return task

        loop.create_task = cancelled
        return await loop.run_in_executor(None, on_loop(loop).run, acting(act).run, "mail")

    report = asyncio.run(main())
    assert (report.block_reason, report.error) == (BlockReason.OUTCOME_UNKNOWN, "the request was cancelled")


def test_an_interrupt_of_the_thread_that_waits_ends_the_request(monkeypatch):
    begun, ended = threading.Event(), threading.Event()

    async def act(operation):
        begun.set()
        try:
            await forever(operation)
        finally:
            ended.set()

    def interrupted(self):
        begun.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr(limits.Deadline, "time_left", interrupted)
    world = acting(act)
    with pytest.raises(KeyboardInterrupt):
        world.run("row")
    assert ended.is_set()
    assert world.json("s1/journal/000001.json")["error"] == "stopped by KeyboardInterrupt"


def test_a_loop_that_is_closed_under_a_request():
    loop = asyncio.new_event_loop()
    loop.close()
    report = on_loop(loop).run(acting(nothing).run, "mail")
    assert (report.status, report.error) == (
        RunStatus.RESUME_NEEDED,
        "the run ended before the request was begun",
    )


def test_awaited_returns_what_needs_no_waiting():
    assert awaited(7) == 7
    assert awaited(asyncio.sleep(0, 8)) == 8
