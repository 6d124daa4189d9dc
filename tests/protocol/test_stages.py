"""Independent operations: sent at the same time, in stages, and each stop of them named."""

import asyncio
import contextvars
import signal
import threading
import time
from datetime import timedelta

import pytest

from tests.support.remotes import ALL, Meets, RemoteAdapter, Text, TransactionalRemoteAdapter
from tests.support.worlds import World, refuse, take_over
from writeahead import Operation, PlannedOperation, Receipt, RunPolicy, awrite_back, emits
from writeahead.adapters.limits import current_limits
from writeahead.errors import InvalidInput, PlanConflict, Unavailable
from writeahead.model import BlockReason, RunStatus, Stop, ref
from writeahead.protocol.journal import Journal
from writeahead.protocol.progress import Confirmed, Progress, Sending, Waiting, WaitReason
from writeahead.protocol.schema import Event
from writeahead.protocol.session import read_stored
from writeahead.protocol.stages import SideBySide
from writeahead.protocol.unblocking import unblock_session
from writeahead.report.session import read_session
from writeahead.testing import WrapperStore


class Crowd(RemoteAdapter):
    """Holds the first requests until ``size`` of them are there at once; 1 holds none.

    Then ``gathered`` is called, once.
    """

    thread_safe = True
    size = 1

    def __init__(self, remote):
        super().__init__(remote)
        self.lock = threading.Lock()
        self.under_way = self.most = 0
        self.gather, self.arrived, self.gathered = None, 0, lambda: None
        self.rows = {}

    def row_of(self, operation):
        return self.rows.get(operation.id)

    def _send(self, operation, *, proved):
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.gather = self.gather or threading.Barrier(self.size, self.gathered)
            self.arrived += 1
            is_held = self.arrived <= self.size
        try:
            if is_held:
                self.gather.wait(timeout=30)
            with self.lock:
                return super()._send(operation, proved=proved)
        finally:
            with self.lock:
                self.under_way -= 1


class Crowded(World):
    def __init__(self, **policy):
        super().__init__(RunPolicy(**{"journal_interval": 0, **policy}))
        self.adapter = Crowd(self.remote)

    def together(self, *kinds, **more):
        """A run of independent operations; a kind with a ``!`` needs its order."""
        return self.run_operations(asked(*kinds), **more)

    def entries(self):
        return [self.json(name) for name in self.names() if "/journal/" in name]

    def unblock(self, assume=None):
        return unblock_session("s1", store=self.store, reason="looked", assume=assume, clock=self.clock)


def asked(*kinds):
    return [
        Operation(kind=kind.strip("!"), payload={"text": f"{n} {kind}"}, independent=not kind.endswith("!"))
        for n, kind in enumerate(kinds, start=1)
    ]


@pytest.fixture
def world():
    return Crowded()


@pytest.mark.parametrize("kind", ["create", "upsert", "update", "lookup", "mail"])
def test_independent_operations_are_under_way_at_the_same_time(world, kind):
    world.adapter.size = 5
    report = world.together(*[kind] * 5)
    assert report.status is RunStatus.COMPLETED
    assert sorted(report.emitted) == sorted(world.remote.requests) == [f"{n}-{kind}" for n in range(1, 6)]
    assert world.adapter.most == 5
    keys = [operation["key"] for operation in world.json("s1/writeback.json")["operations"]]
    assert sorted(world.remote.effects) == sorted(keys)


def test_no_more_are_under_way_than_the_policy_allows(world):
    world.policy = RunPolicy(max_in_flight=2)
    world.adapter.size = 2
    assert world.together(*["create"] * 6).status is RunStatus.COMPLETED
    assert world.adapter.most == 2


def test_one_at_a_time_they_keep_the_plans_order(world):
    world.policy = RunPolicy(max_in_flight=1)
    world.together(*["create"] * 6)
    assert world.remote.requests == [f"{n}-create" for n in range(1, 7)]


def test_an_adapter_that_does_not_say_that_it_is_thread_safe_is_called_in_order(world):
    world.adapter = RemoteAdapter(world.remote)
    report = world.together("create", "create")
    assert world.remote.requests == ["1-create", "2-create"]
    (warning,) = report.warnings
    assert warning.startswith("adapter 'remote' does not say thread_safe")


def test_what_needs_its_order_comes_after_all_before_it_and_before_all_after_it(world):
    world.together("create", "create", "update!", "create", "create")
    order = world.remote.requests
    assert sorted(order[:2]) == ["1-create", "2-create"]
    assert order[2] == "3-update"
    assert sorted(order[3:]) == ["4-create", "5-create"]


def test_a_reference_waits_for_its_receipt(world):
    second = Operation(kind="mail", payload={"text": ref("1-create")}, independent=True)
    report = world.run_operations([*asked("create"), second])
    assert report.status is RunStatus.COMPLETED
    assert world.remote.requests == ["1-create", "2-mail"]
    sending = next(entry for entry in world.entries() if entry["event"] == "sending")
    assert sending["issued"] == {"text": report.receipts["1-create"].remote_id}


def test_each_announcement_with_a_reference_has_an_entry_of_its_own(world):
    mails = [Operation(kind="mail", payload={"text": ref("1-create")}, independent=True) for _ in range(4)]
    world.run_operations([*asked("create!"), *mails])
    sent = [(entry["operation"], entry["issued"]) for entry in world.entries() if entry["event"] == "sending"]
    assert sorted(name for name, issued in sent if issued) == [f"{n}-mail" for n in range(2, 6)]


def test_writes_of_one_row_keep_their_order(world):
    world.adapter.rows = {"1-upsert": "a", "2-upsert": "b", "3-update": "a", "4-upsert": "c"}
    world.together("upsert", "upsert", "update", "upsert")
    order = world.remote.requests
    assert sorted(order[:2]) == ["1-upsert", "2-upsert"]
    assert sorted(order[2:]) == ["3-update", "4-upsert"]


def test_what_was_confirmed_before_a_write_of_its_row_is_on_record_first(world):
    world.policy = RunPolicy(journal_interval=3600)
    world.adapter.rows = {"1-create": "a", "2-create": "b", "3-update": "a"}
    world.together("create", "create", "update", "create")
    (entry,) = world.entries()
    assert set(entry["receipts"]) == {"1-create", "2-create"}


# -- the journal that they share


class Held(WrapperStore):
    """Holds the first entry of a journal until it is told to go on."""

    def __init__(self, inner):
        super().__init__(inner)
        self.is_held, self.go_on = threading.Event(), threading.Event()

    def _around(self, verb, key, call):
        if verb == "create" and "/journal/" in key and not self.is_held.is_set():
            self.is_held.set()
            assert self.go_on.wait(30)
        return call()


class CountingLock:
    """A lock that tells how many wait for it."""

    def __init__(self):
        self.inner, self.counter = threading.Lock(), threading.Condition()
        self.asked = 0

    def __enter__(self):
        with self.counter:
            self.asked += 1
            self.counter.notify_all()
        self.inner.acquire()

    def __exit__(self, *_):
        self.inner.release()

    def until_asked(self, times):
        with self.counter:
            assert self.counter.wait_for(lambda: self.asked >= times, 30)


@pytest.fixture
def held(world):
    """A journal whose first entry is held, and the lock that guards it."""
    world.remote.script = {f"{n}-create": [Meets.REJECTED] for n in range(1, 6)}
    world.together(*["create"] * 5)
    world.unblock()
    store = Held(world.store)
    session = read_stored(store, "s1")
    journal = Journal.of(session, session.plan, store, world.clock, lease=60)
    journal._writer = CountingLock()
    # So the one after the next builds on it.
    assert journal.number == 2
    return journal


def announced(journal, name):
    def announce():
        with journal.lock:
            journal.attempted[name] = journal.clock.now()
        journal.include(Event.SENDING, operation=name)
        on_record[name] = read_stored(journal.store, "s1").entry.attempted.keys()

    on_record = {}
    thread = threading.Thread(target=announce)
    thread.start()
    return thread, on_record


def test_announcements_share_the_next_entry_and_not_the_one_that_was_begun(held):
    before = held.number
    first = announced(held, "1-create")
    held._writer.until_asked(1)
    assert held.store.is_held.wait(30)
    others = [announced(held, f"{n}-create") for n in range(2, 6)]
    held._writer.until_asked(5)
    held.store.go_on.set()
    for thread, on_record in (first, *others):
        thread.join()
        for name, names in on_record.items():
            assert name in names, "it would be sent, and no entry says so"
    assert held.number == before + 2


def test_a_receipt_that_comes_while_an_entry_is_put_is_in_the_next(held):
    held.confirm("1-create", Receipt(remote_id="r1"), held.clock.now(), 1)
    thread, _ = announced(held, "2-create")
    assert held.store.is_held.wait(30)
    held.confirm("3-create", Receipt(remote_id="r3"), held.clock.now(), 1)
    held.store.go_on.set()
    thread.join()
    assert held.waiting == ["3-create"]
    assert set(read_stored(held.store, "s1").receipts) == {"1-create"}
    held.append(Event.CONFIRMED)
    stored = read_stored(held.store, "s1")
    assert set(stored.receipts) == {"1-create", "3-create"}
    assert set(stored.entry.attempted) == {"2-create"}


def test_those_that_wait_for_an_entry_fail_with_it(held):
    refuse(held.store, "/journal/")
    failed = []

    def announce():
        try:
            held.include(Event.SENDING, operation="1-create")
        except Unavailable as error:
            failed.append(error)

    held._writer.inner.acquire()
    threads = [threading.Thread(target=announce) for _ in range(3)]
    for thread in threads:
        thread.start()
    held._writer.until_asked(3)
    held._writer.inner.release()
    for thread in threads:
        thread.join()
    assert len(failed) == 3
    assert len({id(error) for error in failed}) == 1, "a store that is down is asked once"


# -- stops


def test_a_refusal_of_one_does_not_stop_the_others_and_is_named(world):
    world.remote.script = {"2-create": [Meets.REJECTED], "4-update": [Meets.CONFLICT]}
    report = world.together("create", "create", "create", "update", "create", "create!")
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert (report.operation, report.error) == ("2-create", "POST /rows: 400")
    refused = Stop(operation="2-create", status="blocked", error="POST /rows: 400", block_reason="rejected")
    assert report.stops[0] == refused
    assert [(stop.operation, stop.block_reason) for stop in report.stops] == [
        ("2-create", BlockReason.REJECTED),
        ("4-update", BlockReason.CONFLICT_DETECTED),
    ]
    assert sorted(report.emitted) == ["1-create", "3-create", "5-create"]
    assert "6-create" not in world.remote.requests, "the next stage began before all were confirmed"
    stored = read_session(world.store, "s1", clock=world.clock)
    assert stored.stops == report.stops
    assert (stored.operation, stored.error) == (report.operation, report.error)
    world.unblock()
    assert world.resume().status is RunStatus.COMPLETED
    assert world.remote.requests.count("2-create") == 2
    assert world.remote.requests.count("1-create") == 1


def test_one_stop_leaves_the_entry_as_it_was(world):
    world.remote.script = {"1-create": [Meets.REJECTED]}
    report = world.together("create", "create")
    assert "stops" not in world.entries()[-1]
    assert read_session(world.store, "s1").stops == report.stops != ()


def test_as_long_as_one_can_go_on_the_session_is_to_be_resumed(world):
    world.remote.script = {"1-create": [Meets.REJECTED] * 2, "3-create": [Meets.UNAVAILABLE] * 4}
    report = world.together("create", "create", "create")
    assert (report.status, report.operation, report.block_reason) == (
        RunStatus.RESUME_NEEDED,
        "3-create",
        None,
    )
    assert [stop.status for stop in report.stops] == [RunStatus.BLOCKED, RunStatus.RESUME_NEEDED]
    again = world.resume()
    assert (again.status, again.operation) == (RunStatus.BLOCKED, "1-create")
    assert again.emitted == ("3-create",)
    world.unblock()
    assert world.resume().status is RunStatus.COMPLETED


def test_the_session_waits_for_the_earliest_stop(world):
    world.policy = RunPolicy(attempts=1)
    world.remote.script = {name: [Meets.LOST_REPLY] for name in ("1-lookup", "2-lookup")}
    send = world.adapter._send

    def later(operation, *, proved):
        if operation.id == "2-lookup":
            world.clock.elapsed += 30
        return send(operation, proved=proved)

    world.policy = RunPolicy(attempts=1, max_in_flight=1)
    world.adapter._send = later
    report = world.together("lookup", "lookup")
    first, second = [stop.not_before for stop in report.stops]
    assert second - first == timedelta(seconds=30)
    assert report.not_before == first
    assert world.json("s1/journal/000001.json")["stops"][1]["operation"] == "2-lookup"


def test_outcomes_that_are_unknown_are_decided_one_after_another(world):
    world.remote.script = {"1-mail": [Meets.LOST_REPLY], "3-mail": [Meets.LOST_REQUEST]}
    report = world.together("mail", "mail", "mail", "create!")
    assert [stop.operation for stop in report.stops] == ["1-mail", "3-mail"]
    assert report.block_reason is BlockReason.OUTCOME_UNKNOWN
    with pytest.raises(InvalidInput, match="find out whether 1-mail took effect"):
        world.unblock()
    world.unblock({"3-mail": "not-applied"})
    again = world.resume()
    assert (again.status, again.operation, again.emitted) == (RunStatus.BLOCKED, "1-mail", ("3-mail",))
    assert [stop.operation for stop in again.stops] == ["1-mail"]
    world.unblock({"1-mail": "applied"})
    assert world.resume().status is RunStatus.COMPLETED
    assert sorted(world.remote.requests) == ["1-mail", "2-mail", "3-mail", "3-mail", "4-create"]


def test_several_outcomes_can_be_decided_at_once(world):
    world.remote.script = {name: [Meets.LOST_REPLY] for name in ("1-mail", "2-mail")}
    world.together("mail", "mail")
    resumed = world.resume()  # as blocked as before
    assert [stop.operation for stop in resumed.stops] == ["1-mail", "2-mail"]
    world.unblock({"1-mail": "applied", "2-mail": "applied"})
    assert world.resume().status is RunStatus.COMPLETED
    assert len(world.remote.requests) == 2


def test_a_session_that_gave_up_can_go_on_with_what_needs_no_decision(world):
    world.policy = RunPolicy(max_in_flight=1, attempts=1, max_turns=1)
    world.remote.script = {"1-mail": [Meets.LOST_REQUEST], "2-create": [Meets.UNAVAILABLE] * 2}
    world.together("mail", "create")
    for _ in range(2):
        world.clock.elapsed += 3600
        report = world.resume()
    assert report.block_reason is BlockReason.GAVE_UP
    world.unblock()
    report = world.resume()
    assert (report.status, report.emitted, report.operation) == (RunStatus.BLOCKED, ("2-create",), "1-mail")
    with pytest.raises(InvalidInput, match="find out whether 1-mail took effect"):
        world.unblock()
    assert world.remote.requests.count("1-mail") == 1


def test_a_silent_owners_announcements_block_and_the_others_are_sent(world):
    """It died with two requests on their way, of which one was announced and never sent."""
    world.policy = RunPolicy(max_in_flight=1)
    world.remote.script = {"2-mail": [Meets.INTERRUPT]}
    with pytest.raises(KeyboardInterrupt):
        world.together("mail", "mail", "create", "create!")
    # As if it had been killed before its end.
    world.store.delete(max(name for name in world.names() if "/journal/" in name))
    world.clock.elapsed += 3600
    report = world.resume()
    assert (report.status, report.operation) == (RunStatus.BLOCKED, "2-mail")
    assert report.emitted == ("3-create",)
    assert "4-create" not in world.remote.requests
    assert world.remote.requests.count("2-mail") == 1


def test_a_retry_after_of_one_holds_for_the_others(world):
    world.policy = RunPolicy(max_in_flight=1)
    world.remote.script = {"2-create": [Meets.RETRY_AFTER]}
    report = world.together("create", "create", "create", "create")
    assert world.remote.requests == ["1-create", "2-create"]
    assert report.status is RunStatus.RESUME_NEEDED
    assert report.not_before == world.clock.now() + timedelta(hours=1)
    assert report.stops[0].operation == "2-create"


def test_a_retry_after_that_fits_is_waited_for_by_the_others(world):
    world.policy = RunPolicy(run_limit=7200, lease=7200, attempts=1, max_in_flight=1)
    world.remote.script = {"1-create": [Meets.RETRY_AFTER]}
    report = world.together("create", "create")
    assert report.emitted == ("2-create",)
    assert world.clock.slept == [3600]


def test_the_one_that_was_told_to_wait_is_what_the_session_stopped_at(world):
    world.policy = RunPolicy(max_in_flight=1)
    world.remote.script = {"2-create": [Meets.RETRY_AFTER]}
    report = world.together("create", "create", "create", "create")
    assert (report.operation, report.error) == ("2-create", "POST /rows: 429")
    assert world.entries()[-1]["error"] == "POST /rows: 429"


@pytest.mark.parametrize("kinds", [["create"], ["create", "create", "create"]])
def test_a_session_that_was_told_to_wait_spends_a_turn_alone_or_in_a_stage(world, kinds):
    world.policy = RunPolicy(max_in_flight=1, max_turns=3)
    world.remote.script = {"1-create": [Meets.RETRY_AFTER] * 10}
    report = world.together(*kinds)
    turns = 1
    while report.status is RunStatus.RESUME_NEEDED and turns < 10:
        world.clock.elapsed += 2 * 3600
        report, turns = world.resume(), turns + 1
    assert (report.block_reason, turns) == (BlockReason.GAVE_UP, 5)


def test_a_stage_that_waits_since_another_session_was_told_so_spends_no_turn(world):
    world.policy = RunPolicy(max_in_flight=1, max_turns=1, attempts=2)
    world.remote.script = {"1-mail": [Meets.UNAVAILABLE] * 4}

    def tell(event):
        if isinstance(event, Waiting) and event.reason is WaitReason.BACKOFF:
            world.clock.waits.tell(world.adapter, 3600, world.clock.monotonic())

    report = world.together("mail", "mail", "create", on_progress=tell)
    for _ in range(3):
        assert (report.status, report.block_reason) == (RunStatus.RESUME_NEEDED, None)
        # What was announced is taken back.
        assert (report.attempted, world.entries()[-1]["attempted"]) == ({}, {})
        world.clock.elapsed += 3600
        report = world.resume(on_progress=tell)
    assert len(world.remote.requests) == 4
    world.clock.elapsed += 3600
    assert world.resume().status is RunStatus.COMPLETED


def test_a_wait_that_is_too_long_breaks_off_nothing_that_is_under_way(world, monkeypatch):
    """The remote answers, and may just be slow; an e-mail that is broken off asks an operator."""
    world.policy = RunPolicy(max_in_flight=2, attempts=1)
    world.remote.script = {"2-create": [Meets.RETRY_AFTER]}
    send, end_run = world.adapter._send, SideBySide._end_run
    is_held_back, is_broken_off = threading.Event(), []

    def slow(operation, *, proved):
        if operation.id == "1-mail":
            assert is_held_back.wait(30)
            is_broken_off.append(current_limits().stopped())
        return send(operation, proved=proved)

    def ended(side, cause):
        try:
            return end_run(side, cause)
        finally:
            is_held_back.set()

    monkeypatch.setattr(SideBySide, "_end_run", ended)
    world.adapter._send = slow
    report = world.together("mail", "create", "create", "create")
    assert is_broken_off == [False]
    assert (report.emitted, report.operation) == (("1-mail",), "2-create")
    assert sorted(world.remote.requests) == ["1-mail", "2-create"]


def test_a_late_upsert_holds_no_sibling_up(world):
    """The adapter knows no rows, and the caller has said that they need no order."""

    class Settling(Crowd):
        @emits("upsert", settles_after=timedelta(seconds=60))
        def emit_upsert(self, payload: Text, operation: PlannedOperation) -> Receipt:
            slept[operation.id] = list(world.clock.slept)
            return self._send(operation, proved=True)

    slept = {}
    world.adapter = Settling(world.remote)
    world.policy = RunPolicy(max_in_flight=1, wait_initial=0)
    world.remote.script = {"1-upsert": [Meets.LOST_REQUEST]}
    world.together("upsert", "upsert", "upsert!")
    assert slept == {"1-upsert": [0], "2-upsert": [0], "3-upsert": [0, 65]}


# -- what ends the whole run


def test_a_bug_ends_the_run_and_keeps_what_was_confirmed(world):
    world.policy = RunPolicy(journal_interval=3600)
    world.adapter.size = 3
    world.remote.script = {"2-mail": [Meets.BUG]}
    with pytest.raises(RuntimeError, match="planted-secret"):
        world.together("create", "mail", "create", "create!")
    entry = world.entries()[-1]
    assert set(entry["receipts"]) == {"1-create", "3-create"}
    assert list(entry["attempted"]) == ["2-mail"]
    assert sorted(world.remote.requests) == ["1-create", "2-mail", "3-create"]
    assert (entry["status"], entry["block_reason"]) == ("blocked", "outcome_unknown")
    assert entry["error"] == "the adapter raised RuntimeError"


def test_after_a_bug_a_resume_sends_what_was_not_begun(world):
    world.policy = RunPolicy(max_in_flight=1)
    world.remote.script = {"2-mail": [Meets.BUG]}
    with pytest.raises(RuntimeError, match="planted-secret"):
        world.together("create", "mail", "create")
    entry = world.entries()[-1]
    assert (entry["status"], entry["error"]) == ("resume_needed", "the adapter raised RuntimeError")
    again = world.resume()
    assert (again.status, again.operation, again.emitted) == (RunStatus.BLOCKED, "2-mail", ("3-create",))


def test_an_owner_that_was_taken_over_sends_nothing_more(world):
    world.policy = RunPolicy(max_in_flight=1, journal_interval=0)
    send = world.adapter._send

    def slow(operation, *, proved):
        take_over(world)
        return send(operation, proved=proved)

    world.adapter._send = slow
    report = world.together("mail", "mail", "mail")
    assert report.status is RunStatus.IN_PROGRESS
    assert world.remote.requests == ["1-mail"]


def test_a_store_that_fails_ends_the_run(world):
    world.policy = RunPolicy(max_in_flight=1)
    heal = refuse(world.store, "/journal/")
    report = world.together("mail", "mail")
    assert (report.status, report.operation) == (RunStatus.RESUME_NEEDED, "1-mail")
    assert world.remote.requests == []
    heal()
    world.clock.elapsed += 3600
    assert world.resume().status is RunStatus.COMPLETED


def test_a_stop_lets_what_is_under_way_end_and_begins_no_more(world):
    world.stop = threading.Event()
    world.policy = RunPolicy(max_in_flight=2)
    world.adapter.size = 2
    world.adapter.gathered = world.stop.set
    report = world.together(*["create"] * 6)
    assert (report.status, report.error) == (RunStatus.RESUME_NEEDED, "stopped by a signal or by the caller")
    assert len(world.remote.requests) == len(report.emitted) == 2
    assert [stop.error for stop in report.stops] == [report.error]


class Interrupted:
    """Presses Ctrl-C while two requests are under way; they end once the run has heard of it."""

    def __init__(self, world, times):
        self.let_go, self.over = threading.Event(), []
        world.policy = RunPolicy(max_in_flight=2)
        world.adapter.size, world.adapter.gathered = 2, self.press
        self.send, world.adapter._send = world.adapter._send, self.held
        self.times = times

    def press(self):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def held(self, operation, *, proved):
        try:
            receipt = self.send(operation, proved=proved)
            until(current_limits().stopped)
            if self.times == 2 and operation.id == "1-mail":
                self.press()
            if self.times == 2:
                assert self.let_go.wait(30)
            return receipt
        finally:
            self.over.append(operation.id)


def until(condition):
    """Wait for what another thread does, in any time."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_interrupt_waits_for_what_is_under_way(world):
    Interrupted(world, 1)
    with pytest.raises(KeyboardInterrupt):
        world.together("mail", "mail", "mail")
    stored = read_stored(world.store, "s1")
    assert set(stored.receipts) == {"1-mail", "2-mail"}
    assert (stored.entry.status, stored.entry.error) == ("resume_needed", "stopped by KeyboardInterrupt")
    assert "3-mail" not in world.remote.requests
    world.adapter = Crowd(world.remote)
    assert world.resume().status is RunStatus.COMPLETED


def test_a_second_interrupt_waits_for_nothing(world):
    interrupted = Interrupted(world, 2)
    with pytest.raises(KeyboardInterrupt):
        world.together("mail", "mail", "mail")
    entry, names = read_stored(world.store, "s1").entry, world.names()
    assert set(entry.attempted) == {"1-mail", "2-mail"}
    assert (entry.event, entry.status) == ("ended", "resume_needed")
    interrupted.let_go.set()
    until(lambda: not any("writeahead-unit" in thread.name for thread in threading.enumerate()))
    assert world.names() == names, "a thread that was left has written after the end"
    world.adapter = Crowd(world.remote)
    report = world.resume()
    assert (report.status, report.emitted) == (RunStatus.BLOCKED, ("3-mail",))
    assert [stop.operation for stop in report.stops] == ["1-mail", "2-mail"]


def test_an_interrupt_that_leaves_nothing_but_unknown_outcomes_blocks_the_session(world):
    interrupted = Interrupted(world, 2)
    with pytest.raises(KeyboardInterrupt):
        world.together("mail", "mail")
    interrupted.let_go.set()
    entry = read_stored(world.store, "s1").entry
    assert (entry.status, entry.block_reason) == ("blocked", "outcome_unknown")
    assert [stop.operation for stop in entry.stops] == ["1-mail", "2-mail"]
    assert ".blocked/s1" in world.names()


def test_an_interrupt_gets_out_whatever_ended_the_run_before_it(world, monkeypatch):
    world.policy = RunPolicy(max_in_flight=2, attempts=1)
    world.remote.script = {"2-create": [Meets.RETRY_AFTER]}
    send, end_run = world.adapter._send, SideBySide._end_run
    ends = []

    def slow(operation, *, proved):
        if operation.id == "1-mail":
            until(current_limits().stopped)
        return send(operation, proved=proved)

    def ended(side, cause):
        ends.append(cause.error)
        if len(ends) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return end_run(side, cause)

    monkeypatch.setattr(SideBySide, "_end_run", ended)
    world.adapter._send = slow
    with pytest.raises(KeyboardInterrupt):
        world.together("mail", "create", "create")
    assert set(read_stored(world.store, "s1").receipts) == {"1-mail"}


def test_a_bug_gets_out_whatever_ended_the_run_before_it(world):
    world.policy = RunPolicy(max_in_flight=2)
    world.remote.script = {"2-create": [Meets.BUG]}
    refuse(world.store, "/journal/")
    send, put, arrived = world.adapter._send, world.store._put, threading.Event()

    def refusing(key, data, *, if_absent):
        # The announcement of the first one.
        assert "/journal/" not in key or arrived.wait(30)
        return put(key, data, if_absent=if_absent)

    def slow(operation, *, proved):
        arrived.set()
        until(current_limits().stopped)
        return send(operation, proved=proved)

    world.adapter._send, world.store._put = slow, refusing
    with pytest.raises(RuntimeError, match="planted-secret"):
        world.together("mail", "create", "create")
    assert world.remote.requests == ["2-create"]


# -- the caller, and the plan


def test_threads_see_the_callers_context(world):
    tenant = contextvars.ContextVar("tenant")
    tenant.set("t1")
    seen = []
    send = world.adapter._send

    def noting(operation, *, proved):
        seen.append(tenant.get(None))
        return send(operation, proved=proved)

    world.adapter._send = noting
    world.together("create", "create")
    assert seen == ["t1", "t1"]


def test_events_come_one_at_a_time(world):
    world.adapter.size = 4
    events: list[Progress] = []
    inside = threading.Lock()

    def watch(event):
        assert inside.acquire(blocking=False), "two events at once"
        events.append(event)
        time.sleep(0.005)  # so that another one would come meanwhile
        inside.release()

    report = world.together(*["create"] * 4, on_progress=watch)
    assert not report.warnings
    for kind in (Sending, Confirmed):
        positions = [event.position for event in events if isinstance(event, kind)]
        assert sorted(positions) == [1, 2, 3, 4]


def test_coroutines_are_under_way_at_once_on_the_callers_loop():
    class Async(Crowd):
        name = "async"

        @emits("create_with_key")
        async def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
            loops.add(asyncio.get_running_loop())
            await gather.wait()
            return Receipt(remote_id=operation.key)

    async def run():
        nonlocal gather
        gather = Gathering(5)
        return await awrite_back(
            asked(*["create"] * 5), session_id="s1", store=world.store, adapter=Async(world.remote)
        ), asyncio.get_running_loop()

    class Gathering:
        def __init__(self, size):
            self.left, self.all = size, asyncio.Event()

        async def wait(self):
            self.left -= 1
            if not self.left:
                self.all.set()
            await asyncio.wait_for(self.all.wait(), 30)

    world, loops, gather = Crowded(), set(), None
    report, loop = asyncio.run(run())
    assert report.status is RunStatus.COMPLETED
    assert loops == {loop}


def test_the_plan_says_what_is_independent_and_else_nothing(world):
    world.together("create", "create!")
    first, second = world.json("s1/planned-writeback.json")["operations"]
    assert first["independent"] is True
    assert "independent" not in second
    settled, other = world.json("s1/writeback.json")["operations"]
    assert settled["independent"] is True
    assert "independent" not in other


def test_it_is_the_callers_word_and_not_the_adapters(world):
    plan = world.adapter.plan
    world.adapter.plan = lambda operations: [
        item.model_copy(update={"independent": True}) for item in plan(operations)
    ]
    world.run("create")
    (operation,) = world.json("s1/planned-writeback.json")["operations"]
    assert "independent" not in operation


def test_a_repeat_that_marks_other_operations_is_another_request(world):
    world.remote.script = {"1-create": [Meets.REJECTED]}
    world.together("create", "create")
    again = asked("create!", "create!")
    with pytest.raises(PlanConflict, match="with other operations marked as independent"):
        world.run_operations(again)
    assert world.together("create", "create").status is RunStatus.BLOCKED


def test_in_a_transaction_it_changes_nothing(world):
    world.adapter = TransactionalRemoteAdapter(world.remote)
    world.remote.script = {ALL: [Meets.UNAVAILABLE] * 4}
    assert world.together("create", "create", atomic=True).stops == ()
    assert world.resume().status is RunStatus.COMPLETED
    assert world.remote.requests == [ALL] * 5


def test_a_plan_without_independent_operations_needs_no_thread(world, monkeypatch):
    monkeypatch.setattr(SideBySide, "run", None)
    assert world.run("create", "mail", "lookup").status is RunStatus.COMPLETED
