"""A sweep of many sessions: turns, how many at once, how long, and a remote that is down."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta

import pytest
from pydantic import BaseModel

from writeahead import (
    Adapter,
    Clock,
    Receipt,
    RunPolicy,
    asweep,
    emits,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.adapters import limits
from writeahead.errors import Applied, InvalidInput, PermanentError, TransientError, Unavailable
from writeahead.model import RunStatus
from writeahead.protocol.finding import unfinished_sessions
from writeahead.protocol.settling import Left
from writeahead.protocol.sweep import sweep
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock, WrapperStore

ONCE = RunPolicy(attempts=1)
SECONDS = 60  # that a test waits for a thread; a failure only


class Work(BaseModel):
    session: str


class Service(Adapter):
    """The remote and its adapter in one: what each session meets is a function of its name."""

    name = "service"

    def __init__(self):
        self.meet = lambda session: None
        self.requests = []
        self.effects = Counter()
        self.lock = threading.Lock()
        self.at_once = self.most_at_once = 0

    @emits("create_with_key")
    def emit_work(self, payload: Work, operation):
        with self.lock:
            self.requests.append(payload.session)
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            self.meet(payload.session)
            with self.lock:
                self.effects[payload.session] += 1
        finally:
            with self.lock:
                self.at_once -= 1
        return Receipt(remote_id=operation.key)

    @emits("unprovable")
    def emit_mail(self, payload: Work, operation):
        return self.emit_work(payload, operation)


class AsyncService(Service):
    name = "service"

    @emits("create_with_key")
    async def emit_work(self, payload: Work, operation):
        return Service.emit_work(self, payload, operation)


def down(_session):
    raise TransientError("POST /work: 503", applied=Applied.NO)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def parked(store, service, clock):
    """Makes sessions that need a resume, the oldest first."""

    def park(*names):
        meet, service.meet = service.meet, down
        for name in names:
            plan(name)
        service.meet = meet
        service.requests.clear()

    def plan(name):
        operations = [{"kind": "work", "payload": {"session": name}}]
        report = write_back(
            operations, session_id=name, store=store, adapter=service, clock=clock, policy=ONCE
        )
        assert report.status is RunStatus.RESUME_NEEDED

    return park


def statuses(results):
    return Counter(result.report.status if result.report else result.left for result in results)


def bytes_of(store):
    return {info.key: store.get(info.key).data for info in store.list()}


def open_ones(store):
    return list(unfinished_sessions(store))


# Whose turn it is


class ChanceClock(ManualClock):
    """Its chance is a sequence that a seed gives; `fixed` makes each number the same."""

    def __init__(self, fixed=None):
        super().__init__()
        self._chances = random.Random(17)
        self._fixed = fixed

    def random(self):
        return self._chances.random() if self._fixed is None else self._fixed


@pytest.mark.parametrize("concurrency", [1, 2])
def test_slow_sessions_at_the_head_starve_no_others(store, service, parked, concurrency):
    slow, good = ["a-slow", "b-slow", "c-slow"], ["d", "e", "f", "g", "h"]
    parked(*slow, *good)

    def served(clock, sweeps):
        def meet(session):
            if session in slow:
                clock.sleep(100)
                down(session)

        service.meet = meet
        for _ in range(sweeps):
            options = {"clock": clock, "policy": ONCE, "max_time": 60, "concurrency": concurrency}
            list(sweep(store, service, **options))
        return sorted(service.effects)

    if concurrency == 1:
        assert served(ChanceClock(fixed=0.0), 10) == []  # as it was, each time from the oldest on
    assert served(ChanceClock(), 10) == good


def test_each_session_has_its_turn_once_the_oldest_first_from_some_start(store, service, parked, clock):
    names = ["c", "a", "d", "b"]
    parked(*names)
    clock.chance = 0.5
    results = list(sweep(store, service, clock=clock))
    assert [result.session_id for result in results] == service.requests == ["d", "b", "c", "a"]
    assert {result.found for result in results} == {4}


def test_blocked_sessions_come_after_the_others(store, service, parked, clock):
    parked("stuck", "later")

    def refuse(session):
        raise PermanentError("POST /work: 400")

    service.meet = refuse
    list(sweep(store, service, clock=clock, limit=1))
    service.meet = lambda session: None
    parked("newest")
    first, second, last = sweep(store, service, clock=clock)
    assert [first.session_id, second.session_id, last.session_id] == ["later", "newest", "stuck"]


def test_one_that_is_not_due_is_neither_sent_nor_counted(store, service, parked, clock):
    def later(session):
        raise TransientError("POST /work: 429", applied=Applied.NO, retry_after=3600, for_target=False)

    parked("told", "good-1", "good-2")
    service.meet = lambda session: later(session) if session == "told" else None
    list(sweep(store, service, clock=clock, limit=1))
    service.requests.clear()
    results = {result.session_id: result for result in sweep(store, service, clock=clock, limit=2)}
    assert service.requests == ["good-1", "good-2"]
    assert results["told"].report.status is RunStatus.RESUME_NEEDED
    assert results["told"].not_before > clock.now()


# How many, and how long


def test_a_limit_leaves_the_rest_as_it_is(store, service, parked, clock):
    parked(*"abcde")
    results = list(sweep(store, service, clock=clock, limit=2))
    assert statuses(results) == {RunStatus.COMPLETED: 2, Left.LIMIT: 3}
    assert service.requests == ["a", "b"]
    assert open_ones(store) == ["c", "d", "e"]
    assert statuses(sweep(store, service, clock=clock, limit=3)) == {RunStatus.COMPLETED: 3}


def test_a_limit_holds_for_what_is_under_way(store, service, parked):
    parked(*"abcdefgh")
    results = list(sweep(store, service, limit=5, concurrency=4))
    assert statuses(results) == {RunStatus.COMPLETED: 5, Left.LIMIT: 3}
    assert len(service.requests) == 5


def test_time_that_is_over_ends_the_run_under_way_and_leaves_the_rest(store, service, parked, clock):
    parked(*"abc")
    service.meet = lambda session: clock.sleep(40)
    results = list(sweep(store, service, clock=clock, max_time=60))
    # The second one was begun in time; its receipt came, and there was no more to send.
    assert statuses(results) == {RunStatus.COMPLETED: 2, Left.MAX_TIME: 1}
    service.meet = down
    before = clock.elapsed
    (last,) = sweep(
        store, service, clock=clock, max_time=60, policy=RunPolicy(wait_initial=500, wait_max=500)
    )
    assert last.report.status is RunStatus.RESUME_NEEDED
    assert clock.elapsed - before < 60
    assert service.effects == {"a": 1, "b": 1}


def test_a_stop_leaves_the_rest_without_a_word(store, service, parked, clock):
    stop = threading.Event()
    parked(*"abc")
    service.meet = lambda session: stop.set()
    assert [result.session_id for result in sweep(store, service, clock=clock, stop=stop)] == ["a"]
    assert open_ones(store) == ["b", "c"]
    assert list(sweep(store, service, clock=clock, stop=stop)) == []


@pytest.mark.parametrize("stop_at", ["a", "c", None])
def test_a_sweep_says_whether_each_had_its_turn(store, service, parked, clock, stop_at):
    stop = threading.Event()
    parked(*"abc")
    service.meet = lambda session: stop.set() if session == stop_at else None
    said = []

    def results():
        said.append((yield from sweep(store, service, clock=clock, stop=stop)))

    list(results())
    assert said == [stop_at != "a"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"concurrency": 1.5},
        {"limit": 0},
        {"max_time": 0},
        {"max_time": float("nan")},
        {"max_time": float("inf")},
        {"executor": ThreadPoolExecutor},
    ],
)
def test_a_number_that_makes_no_sense_is_refused(store, service, wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        sweep(store, service, **wrong)


def test_processes_are_refused_with_advice(store, service):
    with ProcessPoolExecutor(1) as pool, pytest.raises(InvalidInput, match="resume_item"):
        sweep(store, service, executor=pool)


# Several at once


def test_as_many_run_at_once_as_were_asked_for_and_no_more(store, service, parked):
    names = [f"s{number:02}" for number in range(13)]
    parked(*names)
    # Four must be in it at once for any to get out, once the remote has answered the first.
    together, first, gate = threading.Barrier(4), threading.Event(), threading.Lock()

    def one_first(session):
        with gate:
            alone = not first.is_set()
            if alone:
                first.set()
        if not alone:
            together.wait(SECONDS)

    service.meet = one_first
    results = list(sweep(store, service, concurrency=4))
    assert statuses(results) == {RunStatus.COMPLETED: 13}
    assert service.most_at_once == 4
    assert service.effects == dict.fromkeys(names, 1)
    assert open_ones(store) == []


def test_results_come_as_they_are_done(store, service, parked):
    parked("slow", "b", "c")
    go_on = threading.Event()
    service.meet = lambda session: go_on.wait(SECONDS) if session == "slow" else None
    found = sweep(store, service, concurrency=2, clock=ChanceClock(fixed=0.0))
    assert {next(found).session_id, next(found).session_id} == {"b", "c"}
    go_on.set()
    assert [result.session_id for result in found] == ["slow"]


def test_no_more_is_handed_to_an_executor_than_may_run(store, service, parked):
    class Pool(ThreadPoolExecutor):
        waiting = most = 0

        def submit(self, *args, **kwargs):
            future = super().submit(*args, **kwargs)
            with service.lock:
                self.waiting += 1
                self.most = max(self.most, self.waiting)
            future.add_done_callback(self.one_less)
            return future

        def one_less(self, _future):
            with service.lock:
                self.waiting -= 1

    parked(*"abcdefgh")
    with Pool(1) as pool:
        assert statuses(sweep(store, service, executor=pool, concurrency=3)) == {RunStatus.COMPLETED: 8}
        assert pool.most <= 3
        assert service.most_at_once == 1
        pool.submit(int)  # it was not shut down


def test_what_a_busy_executor_never_began_is_not_waited_for_after_a_stop(store, service, parked):
    parked(*"abc")
    stop, handed_over, go_on, results = threading.Event(), threading.Event(), threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            future = super().submit(*args, **kwargs)
            handed_over.set()
            return future

    with Pool(1) as pool:
        pool.submit(go_on.wait, SECONDS)
        handed_over.clear()
        swept = sweep(store, service, executor=pool, concurrency=2, stop=stop)
        sweeping = threading.Thread(target=lambda: results.extend(swept))
        sweeping.start()
        assert handed_over.wait(SECONDS)
        stop.set()
        sweeping.join(SECONDS)
        assert not sweeping.is_alive()
        go_on.set()
    assert (results, service.requests, open_ones(store)) == ([], [], ["a", "b", "c"])


def test_a_bug_that_one_session_meets_costs_that_session(store, service, parked):
    parked(*"abcdef")

    def meet(session):
        if session == "c":
            raise RuntimeError("secret=planted")

    service.meet = meet
    results = {result.session_id: result for result in sweep(store, service, concurrency=3)}
    assert results["c"].error == "unexpected RuntimeError: a bug in writeahead or in the adapter"
    assert open_ones(store) == ["c"]


def test_a_sweep_that_is_left_ends_what_is_under_way(store, service, parked):
    parked(*"abcdef")
    begun = threading.Semaphore(0)
    policy = RunPolicy(wait_initial=500, wait_max=500, run_limit=2000, lease=2000)

    def meet(session):
        if session != "a":
            begun.release()
            down(session)

    service.meet = meet
    found = sweep(store, service, policy=policy, concurrency=3, clock=_Real())
    assert next(found).session_id == "a"
    for _ in range(2):
        assert begun.acquire(timeout=SECONDS)
    found.close()  # it would wait 500 s for the next attempt
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("writeahead-sweep")]
    # Each was left as one that is resumed at once: no lease is waited for.
    service.meet = lambda session: None
    assert statuses(sweep(store, service)) == {RunStatus.COMPLETED: 5}
    assert service.effects == dict.fromkeys("abcdef", 1)


class _Real(Clock):
    """Real time, so that a wait is one that only a stop ends; the start is the oldest."""

    def random(self):
        return 0.0


def test_an_interrupt_in_one_run_ends_the_others_and_gets_out(store, service, parked):
    parked(*"abcd")

    def meet(session):
        if session == "b":
            raise KeyboardInterrupt
        down(session)

    service.meet = meet
    with pytest.raises(KeyboardInterrupt):
        list(
            sweep(store, service, policy=RunPolicy(wait_initial=0.01), concurrency=2, clock=ChanceClock(0.0))
        )
    service.meet = lambda session: None
    assert statuses(sweep(store, service)) == {RunStatus.COMPLETED: 4}


def test_progress_is_told_one_call_at_a_time(store, service, parked):
    parked(*"abcdef")
    inside, most, seen = [], [0], set()

    def on_progress(event):
        inside.append(event)
        most[0] = max(most[0], len(inside))
        seen.add(event.session_id)
        time.sleep(0)  # another thread may run here
        inside.pop()

    results = list(sweep(store, service, concurrency=4, on_progress=on_progress))
    assert (most[0], seen) == (1, set("abcdef"))
    assert not any(result.report.warnings for result in results)


def test_on_asyncio_the_coroutines_of_all_run_on_the_callers_loop(store, clock):
    import asyncio

    service = AsyncService()
    for name in "abcd":
        operations = [{"kind": "work", "payload": {"session": name}}]
        service.meet = down
        write_back(operations, session_id=name, store=store, adapter=service, clock=clock, policy=ONCE)
    threads = set()
    service.meet = lambda session: threads.add(threading.get_ident())

    async def main():
        found = [result async for result in asweep(store, service, concurrency=3)]
        return found, threading.get_ident()

    results, loop = asyncio.run(main())
    assert statuses(results) == {RunStatus.COMPLETED: 4}
    assert threads == {loop}


def test_an_asynchronous_sweep_that_is_left_cancels_what_is_under_way(store, clock, monkeypatch):
    import asyncio

    monkeypatch.setattr(limits, "STOP_GRACE", 0.01)
    service, seen = AsyncService(), []
    for name in "abc":
        operations = [{"kind": "work", "payload": {"session": name}}]
        service.meet = down
        write_back(operations, session_id=name, store=store, adapter=service, clock=clock, policy=ONCE)

    class Slow(AsyncService):
        @emits("create_with_key")
        async def emit_work(self, payload: Work, operation):
            if payload.session == "a":
                await begun.acquire()  # b and c are under way
                await begun.acquire()
                return Receipt(remote_id=operation.key)
            begun.release()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append(payload.session)
                raise

    async def main():
        nonlocal begun
        begun = asyncio.Semaphore(0)
        found = asweep(store, Slow(), concurrency=3, clock=ChanceClock(fixed=0.0))
        assert (await anext(found)).session_id == "a"
        await found.aclose()
        assert sorted(seen) == ["b", "c"]

    begun = None
    asyncio.run(main())
    assert statuses(sweep(store, service, policy=ONCE)) == {RunStatus.RESUME_NEEDED: 2}


def test_many_sessions_in_memory_cost_a_few_hundred_bytes_each():
    import tracemalloc

    store, clock = MemoryStore(), ManualClock()
    for number in range(2000):
        store.put(f".open/session-{number:06}", b"")
    found = sweep(store, Service(), clock=clock)
    tracemalloc.start()
    next(found)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f"{held / 2000:.0f} bytes a session")
    assert held / 2000 < 600


# A remote that is down


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_remote_that_is_down_costs_three_sessions_and_three_probes(
    store, service, parked, clock, concurrency
):
    names = [f"s{number:03}" for number in range(100)]
    parked(*names)
    before = bytes_of(store)
    service.meet = down
    began = clock.elapsed
    results = list(sweep(store, service, clock=clock, policy=ONCE, concurrency=concurrency))
    assert len(service.requests) <= 6
    assert statuses(results) == {RunStatus.RESUME_NEEDED: 6, Left.REMOTE_DOWN: 94}
    assert 35 <= clock.elapsed - began < 36
    spent = set(service.requests)
    left = [result for result in results if result.left]
    assert {result.session_id for result in left} == set(names) - spent
    assert all(result.not_before > clock.now() for result in left)
    # Nothing was written about the sessions that were left.
    changed = {key for key, data in bytes_of(store).items() if before.get(key) != data}
    assert {key.split("/")[0] for key in changed} == spent


def test_a_probe_that_succeeds_lets_the_rest_pass(store, service, parked, clock):
    parked(*"abcdefgh")
    service.meet = lambda session: down(session) if len(service.requests) <= 4 else None
    results = list(sweep(store, service, clock=clock, policy=ONCE))
    assert statuses(results) == {RunStatus.RESUME_NEEDED: 4, RunStatus.COMPLETED: 4}
    assert clock.slept == [5, 10]


def test_a_few_sessions_that_always_fail_keep_no_others_back(store, service, parked, clock):
    poison = set("abcde")
    parked(*"abcdefghij")
    service.meet = lambda session: down(session) if session in poison else None
    results = list(sweep(store, service, clock=clock, policy=ONCE))
    assert statuses(results) == {RunStatus.RESUME_NEEDED: 5, RunStatus.COMPLETED: 5}
    assert clock.slept == [5, 10, 20]


def test_refused_writes_are_answers_of_a_remote_that_is_there(store, service, parked, clock):
    def refuse(session):
        raise PermanentError("POST /work: 400")

    parked(*"abcdefgh")
    service.meet = refuse
    assert statuses(sweep(store, service, clock=clock)) == {RunStatus.BLOCKED: 8}
    assert clock.slept == []


def test_a_remote_that_answers_no_more_costs_an_operator_few_decisions(store, service, clock):
    """Each request to it may have taken effect, so each session of a bare POST is blocked."""

    def silent(session):
        raise TransientError("POST /mail: timeout", applied=Applied.UNKNOWN)

    service.meet = down
    for number in range(20):
        mail = [{"kind": "mail", "payload": {"session": f"s{number:02}"}}]
        write_back(mail, session_id=f"s{number:02}", store=store, adapter=service, clock=clock, policy=ONCE)
    service.requests.clear()
    service.meet = silent
    results = list(sweep(store, service, clock=clock, policy=ONCE))
    assert statuses(results) == {RunStatus.BLOCKED: 6, Left.REMOTE_DOWN: 14}
    assert len(service.requests) == 6


def test_what_the_remote_asked_for_is_not_undercut(store, service, parked, clock):
    def later(session):
        raise TransientError("POST /work: 429", applied=Applied.NO, retry_after=600)

    parked(*"abcdef")
    service.meet = later
    results = list(sweep(store, service, clock=clock, policy=ONCE))
    assert statuses(results) == {RunStatus.RESUME_NEEDED: 1, Left.REMOTE_DOWN: 5}
    assert service.requests == ["a"]
    assert clock.slept == []
    assert {result.not_before - clock.now() for result in results if result.left} == {timedelta(seconds=600)}


def test_sessions_of_an_own_orchestrator_go_on_while_the_remote_is_down(store, service, parked, clock):
    parked(*"abcdefgh")
    for name in ("own-1", "own-2"):
        write_planned_writeback_artifact(store, name, Work(session=name))
    clock.advance(3600)
    service.meet = down
    results = list(
        sweep(
            store,
            service,
            clock=clock,
            policy=ONCE,
            on_own=lambda store, name: write_writeback_artifact(store, name, Work(session=name)),
        )
    )
    assert statuses(results) == {
        RunStatus.RESUME_NEEDED: 6,
        RunStatus.COMPLETED: 2,
        Left.REMOTE_DOWN: 2,
    }


def test_own_sessions_that_fail_say_nothing_about_the_remote(store, service, parked, clock):
    for name in ("own-1", "own-2", "own-3", "own-4"):
        write_planned_writeback_artifact(store, name, Work(session=name))
    parked("z")
    clock.advance(3600)

    def fail(store, name):
        raise TransientError("its own remote is down")

    results = list(sweep(store, service, clock=clock, on_own=fail))
    assert len([result for result in results if result.error]) == 4
    assert service.effects == {"z": 1}
    assert clock.slept == []


# Until all is done


def test_until_done_waits_for_what_is_not_due(store, service, parked, clock):
    met = Counter()

    def meet(session):
        met[session] += 1
        if session == "told" and met[session] == 1:
            raise TransientError("POST /work: 429", applied=Applied.NO, retry_after=3600)
        if session == "bad":
            raise PermanentError("POST /work: 400")

    parked("told", "bad", "good")
    service.meet = meet
    began = clock.elapsed
    results = list(sweep(store, service, clock=clock, policy=ONCE, until_done=True))
    told = [(result.report.status, result.again) for result in results if result.session_id == "told"]
    assert told == [(RunStatus.RESUME_NEEDED, True), (RunStatus.COMPLETED, False)]
    assert open_ones(store) == ["bad"]
    assert 3600 <= clock.elapsed - began < 3700
    assert met == {"told": 2, "bad": 1, "good": 1}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_until_done_outlasts_an_outage(store, service, parked, clock, concurrency):
    names = [f"s{number:02}" for number in range(20)]
    parked(*names)
    back_at = clock.elapsed + 2 * 3600
    service.meet = lambda session: down(session) if clock.elapsed < back_at else None
    results = list(sweep(store, service, clock=clock, policy=ONCE, until_done=True, concurrency=concurrency))
    assert statuses(result for result in results if not result.again) == {RunStatus.COMPLETED: 20}
    assert service.effects == dict.fromkeys(names, 1)
    # Two hours, a probe every five minutes.
    assert len(service.requests) - 20 < 40


def test_until_done_sees_what_another_run_leaves(store, service, parked, clock):
    parked("held", "free")
    store.delete("held/journal/000001.json")  # as if its owner had been killed on another machine
    results = list(sweep(store, service, clock=clock, until_done=True))
    assert [result.report.status for result in results if result.session_id == "held"] == [
        RunStatus.IN_PROGRESS,
        RunStatus.COMPLETED,
    ]
    assert open_ones(store) == []


def test_until_done_outlasts_a_store_that_can_not_be_reached(store, service, parked, clock):
    parked("a", "b")
    refusals = ["once"]

    class Flaky(WrapperStore):
        def _get(self, key):
            if key.startswith("a/") and refusals:
                raise Unavailable(self.name, refusals.pop(), key, "503")
            return super()._get(key)

    flaky = Flaky(store)
    results = list(sweep(flaky, service, clock=clock, until_done=True))
    assert [(result.session_id, bool(result.error), result.again) for result in results] == [
        ("a", True, True),
        ("b", False, False),
        ("a", False, False),
    ]
    assert service.effects == {"a": 1, "b": 1}


def test_until_done_takes_what_comes_meanwhile(store, service, parked, clock):
    parked("first")

    def meet(session):
        service.meet = lambda session: None
        requests = list(service.requests)
        parked("second")
        service.requests[:] = requests

    service.meet = meet
    assert [result.session_id for result in sweep(store, service, clock=clock, until_done=True)] == [
        "first",
        "second",
    ]


def test_until_done_ends_with_its_time_and_its_limit(store, service, parked, clock):
    parked(*"abc")
    service.meet = down
    results = list(sweep(store, service, clock=clock, policy=ONCE, until_done=True, max_time=1000))
    assert statuses(result for result in results if not result.again) == {Left.MAX_TIME: 3}
    service.meet = lambda session: None
    results = list(sweep(store, service, clock=clock, policy=ONCE, until_done=True, limit=2))
    assert statuses(result for result in results if not result.again) == {
        RunStatus.COMPLETED: 2,
        Left.LIMIT: 1,
    }
