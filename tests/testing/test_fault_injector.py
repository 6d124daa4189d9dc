"""Faults come at the write that was named, and a killed process has no effect any more."""

import threading

import httpx
import pytest

from tests.support.async_crm import AsyncCrmAdapter
from tests.support.crm import CrmAdapter, serving
from writeahead import PlannedOperation, Receipt, RunPolicy, resume_session, write_back
from writeahead.adapters.base import TransactionalAdapter
from writeahead.errors import Applied, OutcomeUnknown, TransientError
from writeahead.stores.memory import MemoryStore
from writeahead.testing import FaultInjector, ManualClock
from writeahead.testing.adapter_contract.process import Killed
from writeahead.testing.http_proxy import answer

ROW = {"kind": "row", "payload": {"text": "call back"}}
PLANNED = PlannedOperation(id="1", kind="row", key="k", payload={"text": "x"}, replay="create_with_key")


@pytest.fixture
def crm():
    with serving() as crm:
        yield crm


@pytest.fixture
def inner():
    return MemoryStore()


@pytest.fixture
def faults(inner):
    faults = FaultInjector(inner)
    yield faults
    faults.close()


@pytest.fixture(params=["proxy", "adapter"])
def adapter(request, crm, faults):
    """Both ways in which the faults reach an adapter."""
    if request.param == "proxy":
        return CrmAdapter(faults.proxy(crm.url).url)
    return faults.adapter(CrmAdapter(crm.url))


def run(adapter, faults, *operations, **settings):
    settings.setdefault("clock", ManualClock())
    return write_back(operations, session_id="s1", store=faults.store, adapter=adapter, **settings)


def put(url, key="1"):
    return httpx.put(f"{url}/row/{key}", content=b"{}", timeout=30, verify=False)


def held(inner):
    return {info.key: inner.get(info.key).data for info in inner.list()}


def test_each_fault_comes_at_the_write_that_it_names(crm, adapter, faults):
    faults.lost_reply(nth=2)
    faults.unavailable(nth=4, times=2)
    report = run(adapter, faults, ROW, ROW, ROW, policy=RunPolicy(attempts=3))
    assert (report.status, faults.pending) == ("completed", [])
    # The 2nd is applied, lost, and recognized by the 3rd; the 4th and 5th don't arrive.
    assert len(crm.requests) == 4
    assert set(crm.effects.values()) == {1}
    outcomes = [receipt.outcome for receipt in report.receipts.values()]
    assert outcomes == ["applied", "already_applied", "applied"]


def test_two_faults_count_the_same_writes(crm, adapter, faults):
    faults.lost_reply(nth=1)
    faults.unavailable(nth=2)
    assert run(adapter, faults, ROW).status == "completed"
    assert len(crm.requests) == 2  # the first and the third of three


def test_a_wait_that_the_remote_asks_for(crm, faults):
    faults.unavailable(times=2, retry_after=7)
    reply = put(faults.proxy(crm.url).url)
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "7")
    with pytest.raises(TransientError) as caught:
        faults.adapter(CrmAdapter(crm.url)).emit(PLANNED)
    assert (caught.value.applied, caught.value.retry_after) == (Applied.NO, 7)
    assert not crm.requests


def test_an_outage_lasts_until_it_is_healed(crm, adapter, faults):
    faults.unavailable(times=None)
    assert run(adapter, faults, ROW).status == "resume_needed"
    assert not crm.requests
    faults.heal()
    assert run(adapter, faults, ROW).status == "completed"


@pytest.mark.parametrize("applied", [False, True])
def test_a_killed_process_leaves_what_kill_9_leaves(crm, adapter, faults, monkeypatch, applied):
    at_death, inner, note = {}, faults.store.wrapped, faults.note

    def seen(fault):
        if fault:
            at_death.update(held(inner))
        note(fault)

    monkeypatch.setattr(faults, "note", seen)
    with faults.kill(nth=2, applied=applied):
        run(adapter, faults, ROW, ROW, ROW, policy=RunPolicy(journal_interval=0))
    assert held(inner) == at_death
    assert "s1/planned-writeback.json" in at_death
    assert "s1/journal/000001.json" in at_death
    assert len(crm.requests) == sum(crm.effects.values()) == (2 if applied else 1)


def test_a_lease_counts_after_a_kill_until_it_ends(crm, adapter, faults):
    clock = ManualClock()
    with faults.kill():
        run(adapter, faults, ROW, policy=RunPolicy(lease=3600), clock=clock)
    again = {"store": faults.store, "adapter": adapter, "clock": clock}
    clock.advance(3590)
    assert resume_session("s1", **again).status == "in_progress"
    clock.advance(20)
    assert resume_session("s1", **again).status == "completed"
    assert set(crm.effects.values()) == {1}


def test_a_kill_that_never_came_is_an_error(adapter, faults):
    with pytest.raises(AssertionError, match="write number 2 was not sent"), faults.kill(nth=2):
        run(adapter, faults, ROW)


def test_a_kill_hides_no_failed_assertion_and_no_other_error(adapter, faults):
    def fails_after_its_death():
        with faults.kill():
            with pytest.raises(Killed):
                run(adapter, faults, ROW)
            raise AssertionError("the test's")

    with pytest.raises(AssertionError, match="the test's"):
        fails_after_its_death()
    with pytest.raises(LookupError), faults.kill():
        raise LookupError
    # The process after it is alive.
    assert list(faults.store.list())


def test_a_dead_process_reads_nothing_either(crm, faults):
    proxy = faults.proxy(crm.url)
    with faults.kill():
        with pytest.raises(httpx.TransportError):
            put(proxy.url)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{proxy.url}/row/1")
        with pytest.raises(Killed):
            faults.store.head("a")
    assert [request.fault for request in proxy.requests] == ["kill", "dead"]


def test_reads_are_no_writes_and_a_fault_of_the_proxy_goes_first(crm, faults):
    proxy = faults.proxy(crm.url)
    faults.lost_reply()
    proxy.fault("PUT", answer(418))
    assert httpx.get(f"{proxy.url}/row/1").status_code == 501  # this remote knows no GET
    assert put(proxy.url).status_code == 418
    with pytest.raises(httpx.TransportError):
        put(proxy.url)
    assert crm.effects == {"1": 1}


def test_a_lost_put_of_the_plan(crm, inner, adapter, faults):
    faults.lost_put(key="*/planned-writeback.json")
    with pytest.raises(OutcomeUnknown):
        run(adapter, faults, ROW)
    assert "s1/planned-writeback.json" in held(inner)
    assert (faults.pending, crm.requests) == ([], [])


def test_the_second_put_of_three(inner, faults):
    faults.lost_put(2)
    faults.store.put("a", b"1", if_absent=True)
    with pytest.raises(OutcomeUnknown):
        faults.store.put("b", b"1", if_absent=True)
    faults.store.put("c", b"1", if_absent=True)
    assert sorted(held(inner)) == ["a", "b", "c"]


def test_what_never_came_is_pending(faults):
    faults.lost_reply(3)
    faults.lost_put()
    assert faults.pending == ["lost_reply(nth=3)", "a fault of the store"]
    faults.heal()
    assert faults.pending == []


def test_writes_count_from_1(faults):
    with pytest.raises(AssertionError, match="nth counts from 1"):
        faults.lost_reply(0)


class Both(CrmAdapter, TransactionalAdapter):
    async def transact(self, operations):
        return [self._send("PUT", operation) for operation in operations]


def test_a_transaction_is_one_write(crm, faults):
    adapter = faults.adapter(Both(crm.url))
    faults.lost_reply()
    assert run(adapter, faults, ROW, ROW, atomic=True).status == "completed"
    assert len(crm.requests) == 4
    faults.close()
    assert "transact" not in vars(adapter)


def test_an_adapter_of_coroutines(crm, faults):
    adapter = faults.adapter(AsyncCrmAdapter(crm.url))
    faults.lost_reply()
    report = run(adapter, faults, ROW)
    adapter.close()
    assert (report.status, len(crm.requests)) == ("completed", 2)


def test_an_adapter_is_as_it_was_in_the_end(crm, faults):
    adapter = faults.adapter(CrmAdapter(crm.url))
    faults.lost_reply()
    with pytest.raises(TransientError) as caught:
        adapter.emit(PLANNED)
    assert caught.value.applied is Applied.UNKNOWN
    faults.lost_reply()
    faults.close()
    assert adapter.emit(PLANNED) == Receipt(remote_id="k", outcome="already_applied")


def test_threads_meet_each_fault_once(crm, faults):
    proxy = faults.proxy(crm.url)
    faults.unavailable(nth=3, times=4)
    found = []
    threads = [
        threading.Thread(target=lambda key=key: found.append(put(proxy.url, key).status_code))
        for key in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [201] * 4 + [503] * 4
