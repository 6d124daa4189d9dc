"""A Retry-After that one session was told, and all others of the process for that target."""

import math
import os
import signal
import threading
import time
from collections import Counter
from datetime import timedelta

import httpx
import pytest
from pydantic import BaseModel

from tests.support.http_server import QuietHandler, serving
from tests.support.remotes import Remote, RemoteAdapter, TransactionalRemoteAdapter, operations
from writeahead import Adapter, RunPolicy, emits, resume_session, sweep, write_back
from writeahead.adapters.base import target_of
from writeahead.adapters.http import remote_errors, require_status
from writeahead.errors import Applied, NotReady, TransientError
from writeahead.model import Operation, RunStatus
from writeahead.protocol.batch import BatchItem, _was_tried, write_back_each
from writeahead.protocol.breaker import Breaker, Verdict, verdict_on
from writeahead.protocol.dispatch import Bounds
from writeahead.protocol.finding import Found
from writeahead.protocol.progress import Confirmed, Waiting, WaitReason
from writeahead.protocol.retry import Clock
from writeahead.protocol.settling import Settler
from writeahead.protocol.waits import LONGEST_SHARED, RemoteWaits
from writeahead.testing import ManualClock

ONCE = RunPolicy(attempts=1)
HOUR = 3600.0
NONE = -math.inf


class Crm(TransactionalRemoteAdapter):
    """Fails as it is told to, in any of its verbs."""

    def __init__(self, remote=None, target="crm-1"):
        super().__init__(remote or Remote())
        self.names = target
        self.fails = {}

    def target(self):
        return self.names

    def _meet(self, verb):
        if self.fails.get(verb):
            raise self.fails[verb].pop(0)

    def emit(self, operation):
        self._meet("emit")
        return super().emit(operation)

    def find_lookup(self, payload, operation):
        self._meet("find")
        return super().find_lookup(payload, operation)

    def transact(self, operations):
        self._meet("transact")
        return super().transact(operations)


class Reading(Crm):
    """Its planning reads the remote."""

    def plan(self, operations):
        self.remote.requests.append("plan")
        self._meet("plan")
        return super().plan(operations)


def busy(seconds=HOUR, **more):
    return TransientError("POST /rows: 429", applied=Applied.NO, retry_after=seconds, **more)


def told(clock, adapter, seconds=HOUR):
    clock.waits.tell(adapter, seconds, clock.monotonic())


@pytest.fixture
def run(store, clock):
    def run(adapter, *kinds, session_id="s1", policy=ONCE, **more):
        asked = operations(*(kinds or ("create",)))
        return write_back(
            asked, session_id=session_id, store=store, adapter=adapter, policy=policy, clock=clock, **more
        )

    return run


@pytest.fixture
def resume(store, clock):
    def resume(adapter, session_id="s1", policy=ONCE, **more):
        return resume_session(session_id, store=store, adapter=adapter, policy=policy, clock=clock, **more)

    return resume


def left(clock, adapter):
    return clock.waits.until(adapter, clock.monotonic()) - clock.monotonic()


# Who waits


def test_a_session_of_another_adapter_waits_before_it_sends(run, clock):
    first, second = Crm(), Crm()
    first.fails["emit"] = [busy(100)]
    seen = []
    assert run(first).status is RunStatus.RESUME_NEEDED
    report = run(second, session_id="s2", on_progress=seen.append)
    assert report.status is RunStatus.COMPLETED
    assert clock.elapsed == 100
    (waiting,) = [event for event in seen if isinstance(event, Waiting)]
    assert (waiting.seconds, waiting.reason) == (100, WaitReason.RETRY_AFTER)


def test_who_was_told_the_same_comes_back_apart(run, clock):
    told(clock, Crm(), 100)
    clock.chance = 0.5
    run(Crm(), policy=RunPolicy(wait_initial=8, wait_max=8))
    assert clock.slept == [104]


@pytest.mark.parametrize("verb", ["emit", "find", "transact", "plan"])
def test_each_verb_may_be_told(run, resume, clock, verb):
    adapter = Reading() if verb == "plan" else Crm()
    if verb == "find":
        adapter.fails["emit"] = [TransientError("POST /rows: reset", applied=Applied.UNKNOWN)]
        run(adapter, "lookup")
        clock.advance(2 * HOUR)
        adapter.fails["find"] = [busy()]
        report = resume(adapter)
    else:
        adapter.fails[verb] = [busy()]
        report = run(adapter, atomic=verb == "transact")
    assert report.not_before == clock.now() + timedelta(seconds=HOUR)
    assert left(clock, Crm()) == HOUR


@pytest.mark.parametrize(
    "other", [Crm(target="crm-2"), type("Other", (Crm,), {"name": "other"})()], ids=["target", "adapter"]
)
def test_another_remote_is_not_concerned(run, clock, other):
    told(clock, Crm())
    assert run(other).status is RunStatus.COMPLETED
    assert clock.slept == []


def test_an_adapter_without_a_target_is_one_by_itself(run, clock):
    first, second = RemoteAdapter(Remote()), RemoteAdapter(Remote())
    told(clock, first)
    assert run(second).status is RunStatus.COMPLETED
    assert run(first, session_id="s2").status is RunStatus.RESUME_NEEDED
    assert first.remote.requests == []


def test_an_adapter_that_can_t_be_hashed_and_one_that_is_gone():
    class Unhashable(RemoteAdapter):
        __hash__ = None

    waits, adapter = RemoteWaits(), Unhashable(Remote())
    waits.tell(adapter, 10, 0)
    assert waits.until(adapter, 0) == 10
    del adapter
    # The next ones get its address, sooner or later.
    assert {waits.until(Unhashable(Remote()), 0) for _ in range(100)} == {NONE}


def test_an_adapter_that_is_not_ready_has_no_target_yet(clock):
    class Missing(Crm):
        def target(self):
            raise NotReady("CRM_URL not set")

    adapter = Missing()
    told(clock, adapter)
    assert left(clock, adapter) == HOUR
    assert left(clock, Missing()) == NONE


def test_a_wait_about_one_row_is_that_sessions_own(run, clock):
    first = Crm()
    first.fails["emit"] = [busy(for_target=False)]
    assert run(first).not_before == clock.now() + timedelta(seconds=HOUR)
    assert run(Crm(), session_id="s2").status is RunStatus.COMPLETED


# How long


def test_it_ends_by_itself_and_a_shorter_one_does_not_end_it(clock):
    told(clock, Crm(), 100)
    told(clock, Crm(), 5)
    clock.advance(60)
    assert left(clock, Crm()) == 40
    clock.advance(40)
    assert left(clock, Crm()) == NONE


@pytest.mark.parametrize("seconds", [-1, 0, math.nan, -math.inf])
def test_what_is_no_wait_holds_nothing(run, clock, seconds):
    first = Crm()
    first.fails["emit"] = [busy(seconds)]
    run(first)
    assert run(Crm(), session_id="s2").status is RunStatus.COMPLETED
    assert clock.slept == []


@pytest.mark.parametrize("seconds", [1e12, math.inf])
def test_an_absurd_wait_holds_the_others_for_a_day(run, clock, seconds):
    first = Crm()
    first.fails["emit"] = [busy(seconds)]
    assert run(first).not_before == clock.now() + timedelta(days=30)
    report = run(Crm(), session_id="s2")
    assert report.not_before == clock.now() + timedelta(seconds=LONGEST_SHARED)


def test_a_longest_retry_after_counts_for_the_waits_of_others_too(run, clock):
    told(clock, Crm(), 100)
    adapter = Crm()
    report = run(adapter, policy=RunPolicy(retry_after_max=60))
    assert (report.status, adapter.remote.requests) == (RunStatus.RESUME_NEEDED, [])
    assert clock.slept == []


@pytest.mark.parametrize("adapter", [Crm(), Reading()], ids=["sending", "planning"])
def test_a_wait_that_grows_meanwhile_is_waited_for(run, clock, adapter):
    told(clock, Crm(), 20)

    def grow(event):
        if isinstance(event, Waiting) and len(clock.slept) == 0:
            told(clock, Crm(), 50)

    assert run(adapter, on_progress=grow).status is RunStatus.COMPLETED
    assert clock.slept == [20, 30]


def test_its_memory_is_bounded():
    waits = RemoteWaits()
    for number in range(1100):
        waits.tell(Crm(target=str(number)), 10 + number, 0)
    assert len(waits._until) == 1024
    assert waits.until(Crm(target="1099"), 0) == 1109
    waits.tell(Crm(target="new"), 10, 10_000)
    assert len(waits._until) == 1  # what is over is dropped


def test_a_clock_of_its_own_is_a_process_of_its_own():
    one, other = ManualClock(), ManualClock()
    told(one, Crm())
    assert left(other, Crm()) == NONE
    assert Clock().waits is Clock().waits
    assert Clock().waits is not one.waits


# What is not spent


def test_a_wait_that_is_too_long_sends_nothing_and_costs_no_turn(run, resume, store, clock):
    adapter = Crm()
    told(clock, Crm())
    policy = RunPolicy(attempts=1, max_turns=1)
    report = run(adapter, policy=policy)
    assert (report.status, report.not_before) == (
        RunStatus.RESUME_NEEDED,
        clock.now() + timedelta(seconds=HOUR),
    )
    for _ in range(20):
        clock.advance(HOUR)
        told(clock, Crm())
        before = [(info.key, store.get(info.key).data) for info in store.list()]
        report = resume(adapter, policy=policy)
        assert report.status is RunStatus.RESUME_NEEDED
        assert report.not_before == clock.now() + timedelta(seconds=HOUR)
        assert [(info.key, store.get(info.key).data) for info in store.list()] == before
    assert adapter.remote.requests == []
    clock.advance(HOUR)
    assert resume(adapter, policy=policy).status is RunStatus.COMPLETED


def test_a_wait_in_the_middle_keeps_the_receipts_and_costs_no_turn(run, resume, clock):
    adapter, policy = Crm(), RunPolicy(attempts=1, max_turns=1)

    def tell(event):
        if isinstance(event, Confirmed):
            told(clock, Crm())

    for number in (1, 2, 3):
        report = (run if number == 1 else resume)(
            adapter, *(["create"] * 4 if number == 1 else []), policy=policy, on_progress=tell
        )
        assert report.status is RunStatus.RESUME_NEEDED
        assert len(report.receipts) == len(adapter.remote.requests) == number
        assert report.not_before == clock.now() + timedelta(seconds=HOUR)
        clock.advance(HOUR)
    assert resume(adapter, policy=policy).status is RunStatus.COMPLETED


def test_a_wait_before_any_progress_costs_no_turn_either(run, resume, clock):
    adapter, policy = Crm(), RunPolicy(attempts=2, max_turns=1)
    adapter.fails["emit"] = [TransientError("POST /rows: 503", applied=Applied.NO) for _ in range(4)]

    def tell(event):
        if isinstance(event, Waiting) and event.reason is WaitReason.BACKOFF:
            told(clock, Crm())

    assert run(adapter, policy=policy, on_progress=tell).status is RunStatus.RESUME_NEEDED
    for _ in range(3):
        clock.advance(HOUR)
        report = resume(adapter, policy=policy, on_progress=tell)
        assert (report.status, report.block_reason) == (RunStatus.RESUME_NEEDED, None)
    assert adapter.fails["emit"] == []
    clock.advance(HOUR)
    assert resume(adapter, policy=policy).status is RunStatus.COMPLETED


def test_a_search_waits_as_well(run, resume, clock):
    adapter, searched = Crm(), []
    adapter.fails["emit"] = [TransientError("POST /rows: reset", applied=Applied.UNKNOWN)]
    run(adapter, "lookup")
    clock.advance(2 * HOUR)
    find = adapter.find
    adapter.find = lambda operation: searched.append(clock.elapsed) or find(operation)
    told(clock, Crm(), 100)
    assert resume(adapter).status is RunStatus.COMPLETED
    assert searched == [2 * HOUR + 100]


def test_a_session_that_lacks_nothing_but_its_end_is_not_held_back(run, resume, store, clock):
    adapter = Crm()
    put = store._put

    def refusing(key, data, *, if_absent):
        if key.endswith("writeback.json") and "planned" not in key:
            raise KeyboardInterrupt
        return put(key, data, if_absent=if_absent)

    store._put = refusing
    with pytest.raises(KeyboardInterrupt):
        run(adapter)
    store._put = put
    told(clock, Crm())
    assert resume(adapter).status is RunStatus.COMPLETED
    assert clock.slept == []


def test_no_attempt_is_spent_on_it(run, clock):
    told(clock, Crm(), 100)
    report = run(Crm())
    assert report.receipts["1-create"].attempts == 1


def test_it_says_nothing_about_the_remote(run, clock):
    told(clock, Crm())
    assert verdict_on(run(Crm())) is Verdict.NOTHING


# Planning


def test_planning_that_reads_waits_too(run, clock):
    told(clock, Reading(), 100)
    adapter = Reading()
    assert run(adapter).status is RunStatus.COMPLETED
    assert clock.slept == [100]


def test_planning_that_would_wait_too_long_leaves_nothing_and_is_not_blocked(run, store, clock):
    told(clock, Reading())
    adapter = Reading()
    report = run(adapter)
    assert (report.status, report.block_reason) == (RunStatus.RESUME_NEEDED, None)
    assert report.not_before == clock.now() + timedelta(seconds=HOUR)
    assert adapter.remote.requests == []
    assert list(store.list()) == []
    # No `--limit` of a batch counts it.
    assert not _was_tried(report)


def test_planning_without_a_request_makes_the_plan_durable_first(run, store, clock):
    told(clock, Crm())
    assert run(Crm()).status is RunStatus.RESUME_NEEDED
    assert store.head("s1/planned-writeback.json") is not None


def test_a_completed_session_is_found_complete_meanwhile(run, clock):
    adapter = Reading()
    run(adapter)
    told(clock, adapter)
    assert run(adapter).status is RunStatus.NO_RESUME_NEEDED
    assert adapter.remote.requests == ["plan", "1-create"]


def test_a_kind_that_plans_may_read():
    class Planning(RemoteAdapter):
        def plan_create(self, payload: dict, operation):
            raise NotImplementedError

    class Keyed(BaseModel):
        kind: str

    assert Planning(Remote()).reads_to_plan([Keyed(kind="upsert"), Keyed(kind="create")])
    assert not Planning(Remote()).reads_to_plan([Keyed(kind="upsert")])
    assert not RemoteAdapter(Remote()).reads_to_plan([Keyed(kind="create")])


# Stops and operators


@pytest.mark.parametrize("adapter", [Crm(), Reading()], ids=["sending", "planning"])
def test_a_stop_ends_the_wait_and_keeps_the_rest_of_it(run, clock, adapter):
    stop = threading.Event()
    told(clock, adapter, 100)

    def ask(event):
        if isinstance(event, Waiting):
            stop.set()

    report = run(adapter, stop=stop, on_progress=ask)
    assert report.status is RunStatus.RESUME_NEEDED
    assert adapter.remote.requests == []
    if not isinstance(adapter, Reading):
        assert report.not_before == clock.now() + timedelta(seconds=100)


def test_an_operator_need_not_wait_but_heeds_what_comes_after(run, resume, clock):
    adapter = Crm()
    told(clock, adapter)
    run(adapter, "create", "create")

    def tell(event):
        if isinstance(event, Confirmed):
            told(clock, adapter, 2 * HOUR)

    report = resume(adapter, now="they are back", on_progress=tell)
    assert report.status is RunStatus.RESUME_NEEDED
    assert adapter.remote.requests == ["1-create"]
    assert report.not_before == clock.now() + timedelta(seconds=2 * HOUR)


# Many sessions


def test_a_sweep_holds_all_back_and_none_is_lost(run, store, clock):
    first = Crm()
    first.fails["emit"] = [busy(20, for_target=False)] * 30
    for number in range(30):
        run(first, session_id=f"s{number}")
    clock.advance(60)
    told(clock, first)
    adapter = Crm(first.remote)
    results = list(sweep(store, adapter, clock=clock, policy=RunPolicy(max_turns=1)))
    assert Counter(result.left for result in results) == {"remote_down": 30}
    assert {result.not_before - clock.now() for result in results} == {timedelta(seconds=HOUR)}
    assert adapter.remote.requests == []
    began = clock.elapsed
    results = list(sweep(store, adapter, clock=clock, policy=RunPolicy(max_turns=1), until_done=True))
    assert {result.report.status for result in results} == {RunStatus.COMPLETED}
    assert clock.elapsed - began == HOUR
    assert set(Counter(first.remote.effects).values()) == {1}


class TickingClock(ManualClock):
    """Time passes between any two looks at it, as it does."""

    def monotonic(self):
        self.advance(1)
        return super().monotonic()


@pytest.mark.parametrize("work", ["sweep", "batch"])
def test_a_wait_that_ends_at_any_moment_leaves_no_session_behind(store, work):
    """It may end between a look at what can be begun and the next at how long to wait."""
    for seconds in range(1, 26):
        clock, adapter, name = TickingClock(), Crm(), f"s{seconds}"
        policy = RunPolicy(attempts=1, run_limit=600)
        told(clock, adapter, seconds)
        if work == "batch":
            source = Silent([BatchItem(1, name, (Operation(kind="create", payload={"text": "1"}),))])
            given = {"policy": policy, "bounds": Bounds(), "clock": clock}
            results = list(write_back_each(source, store=store, adapter=adapter, **given))
        else:
            parked = Crm(adapter.remote)
            parked.fails["emit"] = [TransientError("POST /rows: 503", applied=Applied.NO)]
            write_back(
                operations("create"),
                session_id=name,
                store=store,
                adapter=parked,
                policy=ONCE,
                clock=ManualClock(),
            )
            results = list(sweep(store, adapter, policy=policy, clock=clock))
        assert [one.report and one.report.status for one in results] == [RunStatus.COMPLETED], seconds


class Silent:
    """A source that has nothing for a while, before each of its items."""

    is_live = True

    def __init__(self, items):
        self.items, self.silent = list(items), 3

    def take(self):
        if self.silent or not self.items:
            return None
        self.silent = 3
        return self.items.pop(0)

    def wait(self, _seconds):
        self.silent = max(0, self.silent - 1)
        return bool(self.items)


def test_a_session_that_was_held_back_is_no_try(run, store, clock):
    """Another session may be told to wait after the breaker let this one pass."""
    first = Crm()
    first.fails["emit"] = [busy(20, for_target=False)]
    run(first)
    clock.advance(60)
    told(clock, first)
    settled = Settler(store, Crm(), ONCE, None, None, clock, None, Breaker(clock)).settle(
        Found("s1", is_marked=True, is_final=False)
    )
    assert settled.result.report.status is RunStatus.RESUME_NEEDED
    assert not settled.attempted
    assert verdict_on(settled.result.report) is Verdict.NOTHING


def test_an_item_comes_again_when_the_wait_is_over(run, store, clock):
    """As `resume_item` does it, whose breaker is of one session."""
    first = Crm()
    first.fails["emit"] = [busy(20, for_target=False)]
    run(first)
    clock.advance(60)
    told(clock, first)
    settler = Settler(store, Crm(), ONCE, None, None, clock, None, Breaker(clock))
    result = settler.settle(Found("s1", is_marked=True, is_final=False)).result
    assert result.report.status is RunStatus.RESUME_NEEDED
    assert result.not_before == clock.now() + timedelta(seconds=HOUR)


# Processes and servers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_heeds_it_and_is_not_stuck(clock):
    adapter = Crm()
    told(clock, adapter)
    with clock.waits._lock:  # of a thread that the child does not have
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            is_kept = left(clock, adapter) == HOUR
            told(clock, adapter, 2 * HOUR)
            os._exit(0 if is_kept else 1)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert left(clock, adapter) == HOUR


class Row(BaseModel):
    text: str


class HttpCrm(Adapter):
    """What an author writes: nothing in it is about the waits of others."""

    name = "http-crm"

    def __init__(self, url):
        self.http = httpx.Client(base_url=url)

    def target(self):
        return target_of(str(self.http.base_url))

    @emits("create_with_key")
    def emit_row(self, payload: Row, operation):
        with remote_errors("PUT /rows"):
            require_status(self.http.put(f"/rows/{operation.key}", json=payload.model_dump()), 201)


def test_a_real_server_gets_nothing_before_its_time(store):
    """Eight sessions in threads, each with an adapter of its own, on real time."""
    early, served, asked = [], [], []
    lock = threading.Lock()

    class Busy(QuietHandler):
        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                now = time.monotonic()
                refuse = not asked
                if refuse:
                    asked.append(now + 1)
                elif now < asked[0]:
                    early.append(self.path)
                else:
                    served.append(self.path)
            self.send_response(429 if refuse else 201)
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def write(number):
        adapter = HttpCrm(url)
        reports.append(
            write_back(
                [{"kind": "row", "payload": {"text": "x"}}],
                session_id=f"s{number}",
                store=store,
                adapter=adapter,
                policy=RunPolicy(wait_initial=0.01),
            )
        )
        adapter.http.close()

    reports = []
    with serving(Busy) as url:
        # The first one alone is told; the others begin once it knows.
        first = threading.Thread(target=write, args=[0])
        first.start()
        probe = HttpCrm(url)
        while not Clock().waits.until(probe, Clock().monotonic()) > 0:
            time.sleep(0.005)
        probe.http.close()
        others = [threading.Thread(target=write, args=[number]) for number in range(1, 8)]
        for thread in others:
            thread.start()
        for thread in (first, *others):
            thread.join()
    assert {report.status for report in reports} == {RunStatus.COMPLETED}
    assert early == []
    assert len(served) == len(set(served)) == 8
