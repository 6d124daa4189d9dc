"""sweep_items: the bounds of a sweep, with workers that are sent data and may be lost."""

import multiprocessing
import pickle
import threading
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.engines import ADAPTER, judge, park
from tests.support.reference_remote import serve
from writeahead import RunPolicy, open_store
from writeahead.engines import sweep_items, sweeping
from writeahead.errors import InvalidInput, ResumeError, Unavailable
from writeahead.items import AdapterSpec, Opened, opened
from writeahead.model import RunStatus
from writeahead.protocol.breaker import Breaker
from writeahead.protocol.finding import Found, unfinished_sessions
from writeahead.protocol.retry import Clock
from writeahead.protocol.settling import Left
from writeahead.protocol.stopping import LinkedStop
from writeahead.testing import ManualClock, WrapperStore

ONCE = RunPolicy(attempts=1)
SECONDS = 60  # that a test waits for a thread; a failure only


class Workers(ThreadPoolExecutor):
    """Sends work and answers as bytes, as an engine does.

    ``meets``: what becomes of the next tasks.
    ``lost``: done, and the answer is lost for good; ``twice``: sent to two workers, as after the
    loss of one; ``silent``: no worker takes it; ``cancelled``: by the engine; ``closed``: it takes
    nothing more.
    """

    def __init__(self, size=4):
        super().__init__(size)
        self.meets = []
        self.under_way = self.most = 0
        self.lock = threading.Lock()

    def submit(self, fn, /, *args):
        sent = pickle.dumps((fn, args))
        meets = self.meets.pop(0) if self.meets else None
        if meets == "closed":
            raise ClosedError
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        if meets == "silent":
            return Future()
        if meets == "cancelled":
            gone = Future()
            gone.cancel()
            gone.set_running_or_notify_cancel()
            return gone
        return super().submit(self._run, sent, meets)

    def _run(self, sent, meets):
        try:
            for _ in range(2 if meets == "twice" else 1):
                fn, args = pickle.loads(sent)
                answer = pickle.dumps(fn(*args))
            if meets == "lost":
                raise KilledWorker(args)
            return pickle.loads(answer)
        finally:
            with self.lock:
                self.under_way -= 1


class ClosedError(Exception):
    """As a client says it that has lost its scheduler."""


class KilledWorker(Exception):
    """As Dask says it of a task that took several workers with it."""


@pytest.fixture
def remote():
    with serve() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def workers():
    with Workers() as pool:
        yield pool


@pytest.fixture
def swept(folder, remote, workers):
    def sweep(**options):
        given = {"executor": workers, "concurrency": 4, "policy": ONCE, **options}
        return sweep_items(str(folder), AdapterSpec(ADAPTER, {"url": remote.url}), **given)

    return sweep


def statuses(results):
    return Counter(
        result.report.status if result.report else result.left or result.error or result.status
        for result in results
    )


def open_ones(folder):
    return list(unfinished_sessions(open_store(folder)))


def test_workers_resume_all_and_no_more_at_once_than_asked_for(folder, remote, workers, swept):
    names = [f"s{number}" for number in range(12)]
    park(folder, remote.url, names)
    assert statuses(swept(concurrency=2)) == {RunStatus.COMPLETED: 12}
    assert workers.most <= 2
    assert judge(folder, remote, names, most_blocked=0) == 0


def test_processes_of_the_standard_library_will_do(folder, remote, swept):
    names = [f"s{number}" for number in range(4)]
    park(folder, remote.url, names, ("create",))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert statuses(swept(executor=pool, max_time=600)) == {RunStatus.COMPLETED: 4}
    judge(folder, remote, names, most_blocked=0, kinds=("create",))


def test_a_remote_that_is_down_costs_three_sessions_and_three_probes(folder, remote, swept):
    park(folder, remote.url, [f"s{number:02}" for number in range(20)], ("create",))
    remote.answer = lambda *_: remote.requests.append("") or (503, b"{}")
    clock = ManualClock()
    results = list(swept(clock=clock))
    assert statuses(results) == {RunStatus.RESUME_NEEDED: 6, Left.REMOTE_DOWN: 14}
    assert len(remote.requests) == 6
    assert clock.elapsed == 35


def test_a_limit_holds_and_says_what_is_left(folder, remote, swept):
    park(folder, remote.url, "abcdef", ("create",))
    assert statuses(swept(limit=2)) == {RunStatus.COMPLETED: 2, Left.LIMIT: 4}
    assert len(remote.requests) == len(remote.effects) == 2


def test_until_done_comes_back_to_what_failed_at_first(folder, remote, swept):
    park(folder, remote.url, "ab", ("create",))
    honest, answers = remote.answer, [(503, b"{}")] * 2
    remote.answer = lambda *request: answers.pop() if answers else honest(*request)
    policy = RunPolicy(attempts=1, waits=[0.01])
    results = list(swept(until_done=True, policy=policy))
    assert statuses(one for one in results if not one.again) == {RunStatus.COMPLETED: 2}
    assert set(remote.effects.values()) == {1}


@pytest.mark.parametrize("meets", ["lost", "cancelled"])
def test_what_the_engine_gives_up_is_an_error_and_holds_no_others_back(folder, remote, workers, swept, meets):
    names = [f"s{number}" for number in range(9)]
    park(folder, remote.url, names)
    workers.meets = [meets] * 4  # one more than may be under way before the remote has answered
    results = list(swept())
    given_up = [one for one in results if one.error]
    assert len(given_up) == 4
    what = "KilledWorker" if meets == "lost" else "CancelledError"
    assert {one.error for one in given_up} == {
        f"the engine gave it up: {what}; a later sweep goes on with it"
    }
    list(swept())
    assert judge(folder, remote, names, most_blocked=0) == 0
    assert open_ones(folder) == []


def test_an_engine_that_takes_nothing_more_ends_the_sweep(folder, remote, workers, swept):
    park(folder, remote.url, "abcd", ("create",))
    workers.meets = [None, "closed"]
    with pytest.raises(ResumeError, match="the engine takes no work any more: ClosedError"):
        list(swept(concurrency=1))
    assert len(open_ones(folder)) == 3
    list(swept())
    judge(folder, remote, "abcd", most_blocked=0, kinds=("create",))


def test_a_task_that_is_run_twice_sends_nothing_twice(folder, remote, workers, swept):
    park(folder, remote.url, "abc")
    workers.meets = ["twice"] * 3
    assert statuses(swept()) == {RunStatus.COMPLETED: 3}
    assert len(remote.requests) == 9
    judge(folder, remote, "abc", most_blocked=0)


# What a worker's process knows


def test_what_another_sweep_has_a_worker_wait_for_holds_the_rest_at_the_driver(folder, remote, swept):
    """The worker learned it from a session that this sweep knows nothing of."""
    park(folder, remote.url, [f"s{number:02}" for number in range(12)], ("create",))
    adapter = opened(folder.as_uri(), AdapterSpec(ADAPTER, {"url": remote.url})).adapter
    Clock().waits.tell(adapter, 3600, Clock().monotonic())
    results = list(swept(limit=5))
    assert remote.requests == []
    found = statuses(results)
    # Until a remote has first answered, three are under way. None of them was tried.
    assert found[Left.REMOTE_DOWN] >= 9
    assert found.total() == 12
    assert all(one.not_before - Clock().now() > timedelta(seconds=3500) for one in results)


def test_a_store_that_fails_right_after_the_look_is_no_loss_of_the_engine(folder, remote, monkeypatch):
    """A sweep with `until_done` comes back to the session then."""
    store = open_store(folder)
    store.put(".open/a", b"")
    looks = []

    class Failing(WrapperStore):
        def _head(self, key):
            looks.append(key)
            if len(looks) == 2:
                raise Unavailable(self.name, "head", key, "planted")
            return super()._head(key)

    spec = AdapterSpec(ADAPTER, {"url": remote.url})
    there = Opened(Failing(store), opened(folder.as_uri(), spec).adapter)
    monkeypatch.setattr(sweeping, "_opened", lambda item: there)
    item = sweeping._Item(folder.as_uri(), spec, ONCE, sweep="x")
    worked = sweeping._work_on(replace(item, found=Found("a", is_marked=True, is_final=False)))
    assert looks == [".open/a"] * 2
    assert worked.settled.is_store_down
    assert worked.settled.result.not_before is not None


@pytest.mark.parametrize("ends", ["answered", "given up", "refused"])
def test_who_has_an_answer_finds_its_place_free(folder, monkeypatch, ends):
    """Else a sweep whose last session has just ended finds no room for those that it held back."""
    breaker, answers, seen = Breaker(Clock()), [], []
    over = breaker.over

    def late(*told):
        seen.append(answers[0].done())
        over(*told)

    monkeypatch.setattr(breaker, "over", late)
    sent = Future()

    class One(ThreadPoolExecutor):
        def submit(self, fn, /, *args):
            return sent

    item = sweeping._Item(str(folder), AdapterSpec(ADAPTER), ONCE, sweep="x")
    with One(1) as pool:
        work = sweeping._AsItems(item, pool, None, breaker, LinkedStop(None, None))
        answers.append(work.begin(Found("a", is_marked=True, is_final=False)))
        if ends == "answered":
            sent.set_result(sweeping._Worked())
        else:
            sent.set_exception(KilledWorker() if ends == "given up" else InvalidInput("no adapter"))
    assert seen == [False]
    assert answers[0].done()


# A stop


def test_workers_are_told_of_a_stop_and_end_at_once(folder, remote, workers, swept):
    park(folder, remote.url, "abcdef", ("create",))
    stop, arrived = threading.Event(), threading.Semaphore(0)

    def refuse(*_):
        arrived.release()
        return 503, b"{}"

    def broadcast(function, argument):
        function(argument)

    remote.answer = refuse
    # Each would wait 500 s for its next attempt.
    policy = RunPolicy(wait_initial=500, wait_max=500, run_limit=2000, lease=2000)
    results = []
    swept = swept(policy=policy, stop=stop, broadcast=broadcast)
    sweeping = threading.Thread(target=lambda: results.extend(swept))
    sweeping.start()
    for _ in range(3):
        assert arrived.acquire(timeout=SECONDS)
    stop.set()
    sweeping.join(SECONDS)
    assert not sweeping.is_alive()
    assert statuses(results) == {RunStatus.RESUME_NEEDED: 3}
    assert workers.under_way == 0
    assert len(open_ones(folder)) == 6


def test_time_that_is_over_ends_the_runs_at_the_workers_too(folder, remote, workers, swept):
    park(folder, remote.url, "abcdef", ("create",))
    remote.answer = lambda *_: (503, b"{}")
    policy = RunPolicy(wait_initial=500, wait_max=500, run_limit=2000, lease=2000)
    # Nothing is broadcast: each worker knows how much time there is.
    results = statuses(swept(policy=policy, max_time=0.5))
    assert results.total() == 6
    assert set(results) <= {RunStatus.RESUME_NEEDED, Left.MAX_TIME}
    assert workers.under_way == 0


def test_a_worker_that_says_nothing_is_not_waited_for_for_ever(folder, remote, workers, swept, monkeypatch):
    monkeypatch.setattr(sweeping, "_GRACE", 0.01)
    park(folder, remote.url, "ab", ("create",))
    workers.meets, told = ["silent"] * 2, []
    results = swept(max_time=0.2, broadcast=lambda function, argument: told.append(argument))
    assert statuses(results) == {Left.MAX_TIME: 2}
    assert told
    assert open_ones(folder) == ["a", "b"]


def test_work_that_comes_after_the_stop_is_not_begun(folder, remote, swept):
    park(folder, remote.url, "ab", ("create",))
    broadcasts = []
    stop = threading.Event()

    class Late(Workers):
        """Its workers take the work up when they have been told to stop."""

        def _run(self, sent, meets):
            while not broadcasts:
                stop.set()
            return super()._run(sent, meets)

    def broadcast(function, argument):
        function(argument)
        broadcasts.append(argument)

    with Late() as pool:
        assert list(swept(executor=pool, stop=stop, broadcast=broadcast)) == []
    assert remote.requests == []


# What can't be


def test_a_store_in_memory_is_refused(workers):
    with pytest.raises(InvalidInput, match="no other process can reach it"):
        sweep_items("memory://here", ADAPTER, executor=workers)


def test_workers_that_can_not_open_the_adapter_end_the_sweep(folder, remote, workers):
    park(folder, remote.url, "abc", ("create",))
    with pytest.raises(InvalidInput, match=r"a worker refused its work: .*no_such_module"):
        list(sweep_items(str(folder), "no_such_module:make", executor=workers))
    assert (remote.requests, open_ones(folder)) == ([], ["a", "b", "c"])


def make_secret():
    raise RuntimeError("password=planted-secret")


def test_what_a_factory_raises_at_a_worker_is_not_told(folder, remote, workers):
    park(folder, remote.url, "a", ("create",))
    with pytest.raises(InvalidInput, match=r"the factory of adapter .* raised RuntimeError$") as caught:
        list(sweep_items(str(folder), "tests.engines.test_sweeping:make_secret", executor=workers))
    assert "planted" not in str(caught.value)


def test_workers_with_another_folder_under_this_url_end_the_sweep(
    folder, remote, workers, swept, monkeypatch
):
    elsewhere = folder.with_name("elsewhere")
    park(folder, remote.url, "abc", ("create",))
    there = sweeping._work_on

    def work(_, item):
        moved = sweeping.replace(item, store_url=elsewhere.as_uri())
        return ThreadPoolExecutor.submit(workers, there, moved)

    monkeypatch.setattr(workers, "submit", work)
    with pytest.raises(InvalidInput, match="give a store that all workers reach"):
        list(swept())
    assert remote.requests == []
    assert not elsewhere.exists()


@pytest.mark.parametrize(
    "wrong", [{"executor": ThreadPoolExecutor}, {"concurrency": 0}, {"limit": 0}, {"max_time": 0}]
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(swept, wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        swept(**wrong)
