"""The functions for asyncio: the loop goes on, a cancelled run ends well, and nothing is lost."""

import asyncio
import contextvars
import gc
import inspect
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing

import pytest
from pydantic import BaseModel

import writeahead
from tests.support.async_crm import AsyncCrmAdapter, arrival
from tests.support.crm import serving
from tests.support.invariants import hours_later
from tests.support.processes import child_environment
from tests.support.remotes import Meets, Remote, RemoteAdapter, operations
from writeahead import (
    Adapter,
    PlannedOperation,
    RunPolicy,
    aresume_session,
    asweep,
    awrite_back,
    emits,
    open_store,
    resume_session,
    sweep,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.adapters import limits
from writeahead.errors import InvalidInput, PlanConflict, ResumeError, Unavailable
from writeahead.model import RunStatus
from writeahead.protocol.session import read_stored
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock, WrapperStore

ALL = ["write_back", "resume_session", "sweep"]


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "writeahead-run"]


@pytest.fixture(autouse=True)
def no_thread_is_left_and_nothing_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(limits, "POLL", 0.01)
    yield
    assert threads() == []
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.fixture
def crm():
    with serving() as crm:
        yield crm


@pytest.fixture
def store():
    return MemoryStore()


def begin(store, adapter, *kinds, session_id="s1", **more):
    return awrite_back(operations(*kinds), session_id=session_id, store=store, adapter=adapter, **more)


def status_of(store, session_id="s1"):
    return read_stored(store, session_id).status(hours_later(0).now(), 0)


# The form.


@pytest.mark.parametrize("name", ALL)
def test_the_two_forms_of_a_function_have_the_same_parameters(name):
    synchronous, asynchronous = getattr(writeahead, name), getattr(writeahead, f"a{name}")
    assert inspect.signature(asynchronous) == inspect.signature(synchronous)
    assert asynchronous.__name__ == f"a{name}"
    assert asynchronous.__doc__.startswith(f"Do the same as `{name}` on asyncio: see `writeahead.aio`.")
    assert synchronous.__doc__ in asynchronous.__doc__
    is_right = inspect.isasyncgenfunction if name == "sweep" else inspect.iscoroutinefunction
    assert is_right(asynchronous)


def test_wrong_arguments_are_what_they_are_without_asyncio(store):
    async def main():
        with pytest.raises(TypeError, match="zork"):
            await begin(store, RemoteAdapter(Remote()), "create", zork=1)
        with pytest.raises(InvalidInput, match="no operations"):
            await begin(store, RemoteAdapter(Remote()))

    asyncio.run(main())


# The loop.


def test_coroutines_run_on_the_callers_loop_in_its_context(crm, store):
    trace, seen = contextvars.ContextVar("trace"), []

    def look():
        seen.append((asyncio.get_running_loop(), threading.current_thread(), trace.get()))

    async def main():
        trace.set("here")
        adapter = AsyncCrmAdapter(crm.url, look)
        async with aclosing(adapter):
            report = await begin(store, adapter, "row", "mail")
        assert report.ok, report.error
        assert seen == [(asyncio.get_running_loop(), threading.current_thread(), "here")] * 2

    asyncio.run(main())


class GatedStore(WrapperStore):
    """Waits in a put of the plan until the test lets it go on."""

    def __init__(self, inner):
        super().__init__(inner)
        self.inside, self.go_on = threading.Semaphore(0), threading.Event()

    def _around(self, verb, key, call):
        if key.endswith("planned-writeback.json") and verb == "create":
            self.inside.release()
            self.go_on.wait()
        return call()


async def until(semaphore):
    """Wait for another thread without holding up the loop."""
    with ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, semaphore.acquire)


def test_the_loop_goes_on_while_a_store_is_slow():
    store = GatedStore(MemoryStore())

    async def main():
        run = asyncio.create_task(begin(store, RemoteAdapter(Remote()), "create"))
        await until(store.inside)
        # Here the thread waits for the loop.
        store.go_on.set()
        return await run

    assert asyncio.run(main()).ok


def test_many_runs_at_once_need_no_executor(crm):
    held = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        loop.run_in_executor(None, held.wait)
        async with aclosing(AsyncCrmAdapter(crm.url)) as adapter:
            runs = [begin(MemoryStore(), adapter, "row", "mail", session_id=f"s{n}") for n in range(20)]
            reports = await asyncio.gather(*runs)
        held.set()
        assert all(report.ok for report in reports)

    asyncio.run(main())
    assert list(crm.effects.values()) == [1] * 40


def test_a_clock_of_the_callers_is_slept_on(store):
    remote, clock = Remote(), ManualClock()
    remote.script["1-create"] = [Meets.UNAVAILABLE] * 2
    assert asyncio.run(begin(store, RemoteAdapter(remote), "create", clock=clock)).ok
    assert clock.slept == [1, 2]


# Errors.


def test_a_resume_and_its_errors(store):
    remote = Remote()
    remote.script["1-create"] = [Meets.UNAVAILABLE]
    policy = RunPolicy(attempts=1)

    async def main():
        adapter = RemoteAdapter(remote)
        with pytest.raises(ResumeError):
            await aresume_session("s1", store=store, adapter=adapter)
        report = await begin(store, adapter, "create", policy=policy)
        assert report.status is RunStatus.RESUME_NEEDED
        with pytest.raises(PlanConflict):
            await begin(store, adapter, "create", "mail")
        return await aresume_session("s1", store=store, adapter=adapter)

    assert asyncio.run(main()).ok
    assert len(remote.effects) == 1


@pytest.mark.parametrize("error", [StopIteration, KeyboardInterrupt, SystemExit, RuntimeError])
def test_what_an_adapter_raises_is_raised(store, error):
    class Broken(RemoteAdapter):
        def emit(self, operation):
            raise error

    async def main():
        # Python makes a RuntimeError of a StopIteration that leaves a coroutine: PEP 479.
        with pytest.raises(RuntimeError if error is StopIteration else error):
            await begin(store, Broken(Remote()), "create")

    asyncio.run(main())
    assert status_of(store) is RunStatus.RESUME_NEEDED


# Cancelling.


def test_a_cancelled_run_ends_its_request_and_can_be_resumed(crm, store, monkeypatch):
    monkeypatch.setattr(limits, "STOP_GRACE", 0.0)
    crm.hold = True

    async def main():
        async with aclosing(AsyncCrmAdapter(crm.url)) as adapter:
            run = asyncio.create_task(begin(store, adapter, "row", "row"))
            await arrival(crm)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert threads() == []
            assert status_of(store) is RunStatus.RESUME_NEEDED
            assert crm.requests == ["PUT /row"]
            crm.hold = False
            return await aresume_session("s1", store=store, adapter=adapter)

    report = asyncio.run(main())
    assert report.ok
    assert list(crm.effects.values()) == [1, 1]
    assert report.receipts["1-row"].outcome == "already_applied"


def test_a_request_that_is_answered_after_a_cancel_counts(crm, store):
    crm.hold = True

    async def main():
        async with aclosing(AsyncCrmAdapter(crm.url)) as adapter:
            run = asyncio.create_task(begin(store, adapter, "row", "mail"))
            await arrival(crm)
            run.cancel()
            await asyncio.sleep(0)
            crm.go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await run

    asyncio.run(main())
    assert list(read_stored(store, "s1").receipts) == ["1-row"]
    assert crm.requests == ["PUT /row"]


def test_a_run_that_is_cancelled_again_and_again_is_waited_for():
    store = GatedStore(MemoryStore())

    async def main():
        run = asyncio.create_task(begin(store, RemoteAdapter(Remote()), "create"))
        await until(store.inside)
        for _ in range(3):
            run.cancel()
            await asyncio.sleep(0)
            assert not run.done()
        store.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert threads() == []

    asyncio.run(main())
    assert status_of(store) is RunStatus.RESUME_NEEDED


@pytest.mark.parametrize("how", ["timeout", "wait_for", "group"])
def test_the_ways_of_asyncio_to_cancel(how):
    store = GatedStore(MemoryStore())

    async def letting_go():
        await until(store.inside)
        asyncio.get_running_loop().call_later(0.05, store.go_on.set)

    async def main():
        run = begin(store, RemoteAdapter(Remote()), "create")
        if how == "group":
            async with asyncio.TaskGroup() as group:
                group.create_task(run)
                await letting_go()
                raise ZeroDivisionError
        helper = asyncio.create_task(letting_go())
        if how == "wait_for":
            await asyncio.wait_for(run, 0.01)
        async with asyncio.timeout(0.01):
            try:
                await run
            finally:
                await helper

    with pytest.raises(ExceptionGroup if how == "group" else TimeoutError) as caught:
        asyncio.run(main())
    if how == "group":
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
    assert status_of(store) is RunStatus.RESUME_NEEDED


def test_a_callers_stop_ends_a_run_without_an_error(store):
    remote, stop = Remote(), threading.Event()
    remote.script["1-create"] = [Meets.UNAVAILABLE] * 4

    class Stopping(RemoteAdapter):
        def emit(self, operation):
            threading.Thread(target=stop.set).start()
            return super().emit(operation)

    policy = RunPolicy(wait_initial=3600, wait_max=3600, run_limit=8000, lease=10_000)
    report = asyncio.run(begin(store, Stopping(remote), "create", stop=stop, policy=policy))
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "stopped by a signal or by the caller")
    assert remote.requests == ["1-create"]


def test_a_cancelled_run_leaves_the_callers_stop_as_it_is():
    store, stop = GatedStore(MemoryStore()), threading.Event()

    async def main():
        run = asyncio.create_task(begin(store, RemoteAdapter(Remote()), "create", stop=stop))
        await until(store.inside)
        run.cancel()
        await asyncio.sleep(0)
        store.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert not stop.is_set()
    assert status_of(store) is RunStatus.RESUME_NEEDED


def test_a_program_that_ends_before_its_run(crm, store):
    crm.hold = True

    async def main():
        run = asyncio.create_task(begin(store, AsyncCrmAdapter(crm.url), "row", "row"))
        await arrival(crm)
        return run

    assert asyncio.run(main()).cancelled()
    assert status_of(store) is RunStatus.RESUME_NEEDED
    assert crm.requests == ["PUT /row"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_loop_that_dies_under_a_run(crm, store):
    crm.hold = True
    loop = asyncio.new_event_loop()
    policy = RunPolicy(attempts=1)
    run = loop.create_task(begin(store, AsyncCrmAdapter(crm.url), "row", "row", policy=policy))
    run._log_destroy_pending = False
    loop.run_until_complete(arrival(crm))
    (thread,) = threads()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    thread.join()
    assert status_of(store) is RunStatus.RESUME_NEEDED
    assert "the request was under way when its event loop was closed" in read_stored(store, "s1").entry.error
    assert crm.requests == ["PUT /row"]
    del run, loop
    gc.collect()


# Sweeping.


def unfinished(store, *names):
    remote = Remote()
    remote.script["1-create"] = [Meets.UNAVAILABLE] * len(names)
    for name in names:
        write_back(
            operations("create"),
            session_id=name,
            store=store,
            adapter=RemoteAdapter(remote),
            policy=RunPolicy(attempts=1),
        )
    return remote


def test_a_sweep_streams_its_results(store):
    remote = unfinished(store, "s1", "s2", "s3")

    async def main():
        found = []
        async for result in asweep(store, RemoteAdapter(remote)):
            found.append(result.session_id)
            assert len(remote.effects) == len(found)
        return found

    # Which one comes first is a matter of chance.
    assert sorted(asyncio.run(main())) == ["s1", "s2", "s3"]


def test_a_sweep_that_is_closed_early_resumes_no_other_session(store):
    remote = unfinished(store, "s1", "s2", "s3")

    async def main():
        async with aclosing(asweep(store, RemoteAdapter(remote))) as results:
            async for _ in results:
                break
        assert [result async for result in results] == []

    asyncio.run(main())
    assert len(remote.effects) == 1
    # Which one comes first is a matter of chance.
    assert sorted(status_of(store, name) for name in ("s1", "s2", "s3")) == [
        RunStatus.COMPLETED,
        RunStatus.RESUME_NEEDED,
        RunStatus.RESUME_NEEDED,
    ]


def test_a_sweep_that_is_cancelled_ends_its_session(crm, store, monkeypatch):
    monkeypatch.setattr(limits, "STOP_GRACE", 0.0)
    crm.answers = [503, 503]
    with closing(AsyncCrmAdapter(crm.url)) as adapter:
        for name in ("s1", "s2"):
            write_back(
                operations("row"),
                session_id=name,
                store=store,
                adapter=adapter,
                policy=RunPolicy(attempts=1),
            )
    crm.hold = True

    async def main():
        async def sweeping():
            async with aclosing(AsyncCrmAdapter(crm.url)) as adapter:
                return [result async for result in asweep(store, adapter)]

        run = asyncio.create_task(sweeping())
        await arrival(crm)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(main())
    assert crm.requests == ["PUT /row"] * 3
    assert {status_of(store, name) for name in ("s1", "s2")} == {RunStatus.RESUME_NEEDED}


def test_a_sweep_of_a_store_that_can_not_be_listed():
    class Unlistable(WrapperStore):
        def _around(self, verb, key, call):
            raise Unavailable(self.name, verb, key)

    async def main():
        with pytest.raises(Unavailable):
            await anext(asweep(Unlistable(MemoryStore()), RemoteAdapter(Remote())))

    asyncio.run(main())


# A process that is killed.

KILLED = """
import asyncio, sys
from tests.support.async_crm import AsyncCrmAdapter
from tests.support.remotes import operations
from writeahead import awrite_back, open_store
store, url = sys.argv[1:]
asyncio.run(awrite_back(operations("row", "row", "mail"), session_id="s1", store=open_store(store),
                        adapter=AsyncCrmAdapter(url)))
"""


class HeldFrom:
    """True from a request on."""

    def __init__(self, crm, number):
        self.crm, self.number = crm, number

    def __bool__(self):
        return len(self.crm.requests) >= self.number


@pytest.mark.parametrize("applied", [1, 2, 3])
def test_a_kill_during_an_async_request_then_resumed(tmp_path, crm, applied):
    url = tmp_path.as_uri()
    crm.hold = HeldFrom(crm, applied)
    command = [sys.executable, "-c", KILLED, url, crm.url]
    with subprocess.Popen(command, env=child_environment()) as child:
        for _ in range(applied):
            crm.arrived.acquire()
        child.send_signal(signal.SIGKILL)
    crm.go_on.set()
    crm.hold = False
    with closing(AsyncCrmAdapter(crm.url)) as adapter:
        report = resume_session("s1", store=open_store(url), adapter=adapter, clock=hours_later(1))
    if applied == 3:
        assert report.block_reason == "outcome_unknown"
    else:
        assert report.ok, report.error
    assert list(crm.effects.values()) == [1, 1, 1]


class Forgotten(Adapter):
    """Forgets to await what it began."""

    name = "forgotten"

    @emits("upsert")
    async def emit_create(self, payload: dict, operation: PlannedOperation) -> None:
        self.task = asyncio.create_task(asyncio.sleep(3600))


def test_a_task_that_an_emitter_leaves_behind_is_the_callers(store):
    adapter = Forgotten()

    async def main():
        assert (await begin(store, adapter, "create")).ok
        assert not adapter.task.done()

    asyncio.run(main())
    assert adapter.task.cancelled()


class Note(BaseModel):
    text: str = "call back"


@pytest.mark.parametrize("swept_by", ["sweep", "asweep"])
def test_the_program_of_an_own_session_may_be_async(swept_by):
    store, clock, loops = MemoryStore(), ManualClock(), []
    write_planned_writeback_artifact(store, "s1", Note())
    clock.elapsed += 3600

    async def on_own(store, session_id):
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())
        write_writeback_artifact(store, session_id, Note())

    async def swept():
        found = [result async for result in asweep(store, on_own=on_own, clock=clock)]
        assert loops == [asyncio.get_running_loop()]
        return found

    if swept_by == "asweep":
        (result,) = asyncio.run(swept())
    else:
        (result,) = sweep(store, on_own=on_own, clock=clock)
    assert result.report.status is RunStatus.COMPLETED


def test_a_stop_ends_the_program_of_an_own_session(monkeypatch):
    monkeypatch.setattr(limits, "STOP_GRACE", 0.1)
    store, clock, begun = MemoryStore(), ManualClock(), threading.Event()
    write_planned_writeback_artifact(store, "s1", Note())
    clock.elapsed += 3600

    async def on_own(store, session_id):
        begun.set()
        await asyncio.sleep(60)

    async def cancelled():
        run = asyncio.create_task(anext(asweep(store, on_own=on_own, clock=clock)))
        await asyncio.to_thread(begun.wait)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    asyncio.run(asyncio.wait_for(cancelled(), 20))
