"""A batch of new sessions: which one is sent, what a remote or a store that is down costs."""

import json
import os
import threading
from collections import Counter

import pytest
from pydantic import BaseModel

from writeahead import Adapter, Receipt, RunPolicy, emits, sweep
from writeahead.cli.batch_file import BatchFile
from writeahead.errors import Applied, InvalidInput, TransientError, Unavailable
from writeahead.model import Operation, RunStatus
from writeahead.protocol.batch import BatchItem, _Ids, write_back_each
from writeahead.protocol.dispatch import Bounds
from writeahead.protocol.settling import Left
from writeahead.testing import WrapperStore

ONCE = RunPolicy(attempts=1)
SECONDS = 60  # that a test waits for a thread; a failure only


class Work(BaseModel):
    text: str


class Service(Adapter):
    """The remote and its adapter in one: what a session meets is a function of its name."""

    name = "service"

    def __init__(self):
        self.meet = self.plan_meets = lambda session: None
        self.plans, self.requests, self.effects = [], [], Counter()

    def plan(self, operations):
        self.plans.append(operations[0].session_id)
        self.plan_meets(operations[0].session_id)
        return super().plan(operations)

    @emits("create_with_key")
    def emit_work(self, payload: Work, operation):
        self.requests.append(payload.text)
        self.meet(payload.text)
        self.effects[operation.key] += 1
        return Receipt(remote_id=operation.key)


class Listed:
    """A source that has all its items at once."""

    is_live = False

    def __init__(self, items):
        self.items = list(items)

    def take(self):
        return self.items.pop(0) if self.items else None

    def wait(self, _seconds):
        return bool(self.items)


def item(line, session_id=None, text=None):
    session_id = session_id or f"s{line:03}"
    return BatchItem(line, session_id, (Operation(kind="work", payload={"text": text or session_id}),))


def down(_session):
    raise TransientError("POST /work: 503", applied=Applied.NO)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def batch(store, service, clock):
    """Runs a batch to its end; gives the results, and whether each session had its turn."""

    def run(items, *, store=store, concurrency=1, limit=None, max_time=None, **more):
        source = items if hasattr(items, "take") else Listed(items)
        given = {"adapter": service, "policy": ONCE, "clock": clock, **more}
        bounds = Bounds(concurrency, limit, max_time)
        found, results = write_back_each(source, store=store, bounds=bounds, **given), []
        while True:
            try:
                results.append(next(found))
            except StopIteration as end:
                return results, end.value

    return run


def words(results):
    return Counter(
        one.report.status if one.report else one.left or ("refused" if one.refused else "error")
        for one in results
    )


def sessions_in(store):
    return {info.key.removeprefix(".open/").split("/")[0] for info in store.list()}


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_remote_that_is_down_leaves_the_rest_as_if_it_had_not_been_asked_for(
    batch, store, service, clock, concurrency
):
    service.meet = down
    items = [item(line) for line in range(1, 101)]
    results, is_through = batch(items, concurrency=concurrency)
    assert words(results) == {RunStatus.RESUME_NEEDED: 6, Left.REMOTE_DOWN: 94}
    assert (len(service.requests), is_through) == (6, False)
    assert sorted(one.line for one in results) == list(range(1, 101))
    assert all(one.not_before > clock.now() for one in results if one.left)
    # What was planned is durable; of the rest there is nothing.
    assert sessions_in(store) == set(service.requests)
    service.meet = lambda session: None
    results, is_through = batch(items, concurrency=concurrency)
    assert (words(results), is_through) == ({RunStatus.COMPLETED: 100}, True)
    assert set(service.effects.values()) == {1}
    assert len(service.effects) == 100


def test_a_remote_that_is_down_while_planning_is_noticed_too(batch, store, service):
    service.plan_meets = down
    results, _ = batch([item(line) for line in range(1, 101)], concurrency=8)
    assert words(results) == {RunStatus.BLOCKED: 6, Left.REMOTE_DOWN: 94}
    assert len(service.plans) == 6
    assert list(store.list()) == []


class Broken(WrapperStore):
    def _around(self, verb, key, call):
        raise Unavailable(self.name, verb, key, "503")


class BrokenReads(WrapperStore):
    def _get(self, key):
        raise Unavailable(self.name, "get", key, "503")


def test_a_store_that_is_down_costs_three_sessions(batch, store, service):
    items = [item(line) for line in range(1, 101)]
    results, is_through = batch(items, store=Broken(store))
    assert (words(results), is_through) == ({"error": 3, Left.STORE_DOWN: 97}, False)
    assert service.requests == []
    service.meet = down
    batch(items[:10])
    service.requests.clear()
    found = list(sweep(BrokenReads(store), service, policy=ONCE))
    assert words(found) == {"error": 3, Left.STORE_DOWN: 3}


def test_the_first_of_two_with_one_id_is_sent_also_where_it_is_slow(store, service, clock):
    go_on = threading.Event()
    service.plan_meets = lambda session: go_on.wait(SECONDS)
    items = [item(1, "a", "first"), item(2, "a", "second"), item(3, "a", "first")]
    found = write_back_each(
        Listed(items), store=store, adapter=service, policy=ONCE, bounds=Bounds(3), clock=clock
    )
    second, third = sorted([next(found), next(found)], key=lambda one: one.line)
    assert second.refused
    assert "line 1 has session a, too, with other content" in second.error
    assert third.note == "the same session as line 1"
    go_on.set()
    [first] = found
    assert (first.line, first.status, service.requests) == (1, RunStatus.COMPLETED, ["first"])
    assert service.plans == ["a"]


def test_a_limit_counts_what_is_tried_and_not_what_is_done(batch, service):
    items = [item(line) for line in range(1, 8)]
    results, is_through = batch(items, limit=3)
    assert (words(results), is_through) == ({RunStatus.COMPLETED: 3, Left.LIMIT: 4}, False)
    results, _ = batch(items, limit=3)
    assert words(results) == {RunStatus.NO_RESUME_NEEDED: 3, RunStatus.COMPLETED: 3, Left.LIMIT: 1}
    assert batch(items, limit=3)[1] is True
    assert len(service.requests) == 7


def test_time_that_is_over_leaves_the_rest(batch, service, clock):
    service.meet = lambda session: clock.advance(4)
    results, is_through = batch([item(line) for line in range(1, 6)], max_time=10)
    assert (words(results), is_through) == ({RunStatus.COMPLETED: 3, Left.MAX_TIME: 2}, False)


def test_a_stop_says_nothing_of_the_rest(batch, service):
    stop = threading.Event()
    service.meet = lambda session: stop.set() if session == "s002" else None
    items = [item(line) for line in range(1, 6)]
    results, is_through = batch(items, stop=stop)
    assert (words(results), is_through) == ({RunStatus.COMPLETED: 2}, False)
    stop.clear()
    service.meet = lambda session: stop.set() if session == "s005" else None
    results, is_through = batch(items, stop=stop)
    assert words(results) == {RunStatus.NO_RESUME_NEEDED: 2, RunStatus.COMPLETED: 3}
    assert is_through is True


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    with BatchFile(f"/dev/fd/{reader}") as file, os.fdopen(writer, "wb", buffering=0) as end:

        def write(*numbers):
            for n in numbers:
                operation = {"kind": "work", "payload": {"text": f"s{n}"}}
                end.write(json.dumps({"session_id": f"s{n}", "operations": [operation]}).encode() + b"\n")

        yield file, write, end.close
    os.close(reader)


def test_what_is_done_is_told_while_the_next_line_is_awaited(store, service, pipe):
    file, write, _ = pipe
    stop = threading.Event()
    found = write_back_each(file, store=store, adapter=service, policy=ONCE, bounds=Bounds(3), stop=stop)
    for number in (1, 2):
        write(number)
        assert next(found).session_id == f"s{number}"
    stop.set()
    with pytest.raises(StopIteration) as end:
        next(found)
    assert end.value.value is False


def test_the_rest_of_a_pipe_is_told_after_a_limit_and_not_awaited_after_the_time(batch, pipe, clock, service):
    file, write, close = pipe
    write(1, 2, 3)
    # The writer has not ended, and may be long in coming to it.
    service.meet = lambda session: clock.advance(20)
    results, is_through = batch(file, max_time=10)
    assert (words(results)[RunStatus.COMPLETED], is_through) == (1, False)
    write(4, 5)
    close()
    results, is_through = batch(file, limit=1)
    assert results[-1].session_id == "s5"
    assert (words(results)[RunStatus.COMPLETED], results[-1].left, is_through) == (1, Left.LIMIT, False)


def test_a_full_disk_for_the_ids_is_said():
    ids = _Ids()
    ids._db.execute("PRAGMA max_page_count = 3")

    def fill():
        for line in range(1, 1000):
            assert ids.earlier(item(line), f"{line:064}") is None

    with pytest.raises(InvalidInput, match=r"can't be kept in a temporary file: .*full.*TMPDIR"):
        fill()
    ids.close()
