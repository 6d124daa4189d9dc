"""resume_item: what an executor or an engine carries, in threads and in processes."""

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.support.reference_remote import ReferenceAdapter, serve
from tests.support.remotes import operations
from writeahead import Adapter, RunPolicy, items, open_store, resume_item, write_back
from writeahead.errors import Applied, InvalidInput, TransientError, Unavailable
from writeahead.items import AdapterSpec, Outcome
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.finding import unfinished_sessions
from writeahead.stores.local import LocalStore
from writeahead.testing import ManualClock

ADAPTER = "tests.support.reference_remote:ReferenceAdapter"


class DownAdapter(ReferenceAdapter):
    """Reaches nothing, so that its session is parked."""

    asks = None

    def _exchange(self, method, operation, headers, body):
        raise TransientError("PUT /create: 503", applied=Applied.NO, retry_after=self.asks)


@pytest.fixture
def remote():
    with serve() as running:
        yield running


@pytest.fixture
def url(tmp_path):
    return (tmp_path / "store").as_uri()


@pytest.fixture
def spec(remote):
    return AdapterSpec(ADAPTER, {"url": remote.url})


@pytest.fixture
def parked(url, remote):
    def park(*names, kind="create", asks=None):
        adapter = DownAdapter(remote.url)
        adapter.asks = asks
        for name in names:
            report = write_back(
                operations(kind),
                session_id=name,
                store=open_store(url),
                adapter=adapter,
                policy=RunPolicy(attempts=1),
            )
            assert report.status is RunStatus.RESUME_NEEDED
        adapter.close()

    return park


def _threads():
    return ThreadPoolExecutor(3)


def _processes():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("pool", [_threads, _processes])
def test_any_executor_carries_items(url, spec, remote, parked, pool):
    names = [f"s{number}" for number in range(6)]
    parked(*names)
    with pool() as executor:
        futures = [
            executor.submit(resume_item, url, spec, name, policy=RunPolicy(attempts=2)) for name in names
        ]
        outcomes = [future.result() for future in futures]
    assert [(outcome.session_id, outcome.status, outcome.is_done) for outcome in outcomes] == [
        (name, RunStatus.COMPLETED, True) for name in names
    ]
    assert set(remote.effects.values()) == {1}
    assert len(remote.effects) == 6
    assert list(unfinished_sessions(open_store(url))) == []


def test_an_item_that_is_delivered_again_sends_nothing(url, spec, remote, parked):
    parked("s1")
    assert resume_item(url, spec, "s1").is_done
    sent = len(remote.requests)
    assert resume_item(url, spec, "s1") == Outcome("s1", RunStatus.COMPLETED)
    assert len(remote.requests) == sent


def test_one_that_has_to_wait_says_until_when(url, spec, remote, parked):
    parked("told", asks=3600)
    outcome = resume_item(url, spec, "told")
    assert (outcome.status, outcome.is_done) == (RunStatus.RESUME_NEEDED, False)
    assert outcome.not_before - ManualClock().now() > timedelta(minutes=59)
    assert remote.requests == []
    later = ManualClock(outcome.not_before)
    assert resume_item(url, spec, "told", clock=later).status is RunStatus.COMPLETED


def test_one_that_another_run_is_at_is_looked_at_again_in_a_minute(url, spec, remote, parked, tmp_path):
    parked("held")
    (tmp_path / "store/held/journal/000001.json").unlink()  # as if this process were still at it
    outcome = resume_item(url, spec, "held")
    assert outcome.status is RunStatus.IN_PROGRESS
    assert outcome.not_before - ManualClock().now() <= timedelta(seconds=60)
    assert remote.requests == []


def test_one_that_fails_for_now_is_not_tried_again_at_once(url, remote, parked):
    parked("s1")
    nowhere = AdapterSpec("tests.test_items:DownAdapter", {"url": remote.url})
    outcome = resume_item(url, nowhere, "s1", policy=RunPolicy(attempts=1, wait_max=30))
    assert (outcome.status, outcome.error) == (RunStatus.RESUME_NEEDED, "PUT /create: 503")
    assert outcome.not_before > ManualClock().now() + timedelta(seconds=20)


def test_one_that_an_operator_must_look_at_is_done_with(url, spec, remote, parked, tmp_path):
    parked("mail", "bad", kind="mail")
    (tmp_path / "store/bad/planned-writeback.json").write_bytes(b"{")
    remote.answer = lambda *_: (400, b"{}")
    blocked = resume_item(url, spec, "mail")
    assert (blocked.status, blocked.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    again = resume_item(url, spec, "mail")
    assert (again.status, again.block_reason, again.is_done) == (blocked.status, blocked.block_reason, True)
    bad = resume_item(url, spec, "bad")
    assert (bad.status, bad.is_done) == (None, True)
    assert bad.error.startswith("bad/planned-writeback.json: truncated")


def test_a_store_that_fails_at_the_last_look_brings_the_item_again(url, spec, monkeypatch):
    open_store(url).put(".open/a", b"")
    head, looks = LocalStore._head, []

    def failing(store, key):
        looks.append(key)
        if len(looks) == 2:
            raise Unavailable(store.name, "head", key, "planted")
        return head(store, key)

    monkeypatch.setattr(LocalStore, "_head", failing)
    outcome = resume_item(url, spec, "a")
    assert looks == [".open/a"] * 2
    assert (outcome.error, outcome.is_done) == ("no plan yet: its run may be active", False)


def test_a_session_that_is_not_there_is_done_with(url, spec):
    assert resume_item(url, spec, "gone") == Outcome("gone", error="there is no such session")


def test_a_store_that_can_not_be_reached_is_tried_again(url, spec, parked, monkeypatch):
    parked("s1")

    def refuse(self, *args, **kwargs):
        raise Unavailable(self.name, "list", "s1/", "503")

    with monkeypatch.context() as broken:
        broken.setattr(LocalStore, "list", refuse)
        outcome = resume_item(url, spec, "s1")
    assert not outcome.is_done
    assert "503" in outcome.error


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("ftp://x", AdapterSpec(ADAPTER, {"url": "http://x"}), "s1"), "unknown scheme"),
        (("./x", "no-such-adapter", "s1"), "no-such-adapter"),
        (("./x", AdapterSpec(ADAPTER, {"url": object()}), "s1"), "must be JSON"),
        (("./x", ADAPTER, "../s1"), "session"),
    ],
)
def test_an_item_that_can_not_be_used_is_refused(given, says):
    with pytest.raises(InvalidInput, match=says):
        resume_item(*given)


def test_items_and_outcomes_cross_processes():
    spec = AdapterSpec(ADAPTER, {"url": "http://x"})
    outcome = Outcome("s1", RunStatus.BLOCKED, BlockReason.REJECTED, "400", ManualClock().now())
    for value in (resume_item, spec, outcome, RunPolicy(attempts=2)):
        assert pickle.loads(pickle.dumps(value)) == value


class Counting(Adapter):
    name = "counting"
    opened = 0
    closed = 0

    def __init__(self):
        type(self).opened += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        type(self).closed += 1


def test_an_adapter_is_opened_once_in_a_process(url, parked):
    parked("s1")
    for _ in range(3):
        resume_item(url, "tests.test_items:Counting", "s1")
    counting = items._cache[url, items._as_text(AdapterSpec("tests.test_items:Counting"))].adapter
    assert (type(counting).opened, type(counting).closed) == (1, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_worker_opens_its_own(url, spec, parked):
    parked("s1", "s2")
    resume_item(url, spec, "s1")
    parent = items._cache[url, items._as_text(spec)].adapter
    child = os.fork()
    if child == 0:
        code = 1
        try:
            done = resume_item(url, spec, "s2").status is RunStatus.COMPLETED
            code = 0 if done and items._cache[url, items._as_text(spec)].adapter is not parent else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
