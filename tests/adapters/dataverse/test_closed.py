"""An environment that an administrator has closed: sessions wait, and a sweep completes them."""

import pytest

from tests.support.dataverse_rows import keyed
from writeahead import Operation, RunPolicy, sweep, write_back
from writeahead.adapters.dataverse import TransientDataverseError
from writeahead.adapters.dataverse.webapi.codes import ADMINISTRATION_WAIT
from writeahead.errors import Applied
from writeahead.model import BlockReason, RunStatus
from writeahead.testing import ManualClock

TASKS = [Operation(kind="task", payload={"subject": name}) for name in ("first", "second")]
CODES = ["0x8004a104", "0x8004a107", "0x8004a113", "0x8004b044"]


def closed(sim, code="0x8004a113", status=403, **fields):
    return sim.faults.add("status", status=status, code=code, times=None, **fields)


def a_sweep_completes(sim, adapter, store, clock):
    clock.advance(ADMINISTRATION_WAIT + 10)
    [result] = sweep(store, adapter, clock=clock)
    assert result.report.status is RunStatus.COMPLETED
    assert sorted(row["subject"] for row in sim.rows("tasks")) == ["first", "second"]


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("code", CODES)
def test_a_run_is_parked_and_a_sweep_completes_it(sim, adapter, store, code, atomic):
    clock = ManualClock()
    fault = closed(sim, code, skip=0 if atomic else 1)
    report = write_back(TASKS, session_id="s1", store=store, adapter=adapter, clock=clock, atomic=atomic)
    assert (report.status, report.block_reason) == (RunStatus.RESUME_NEEDED, None)
    assert report.not_before is not None
    assert (report.not_before - clock.now()).total_seconds() == pytest.approx(ADMINISTRATION_WAIT, abs=1)
    assert "administrator" in report.error
    assert clock.slept == []
    assert sim.count("tasks") == (0 if atomic else 1)

    before = sim.last_sequence()
    sweep(store, adapter, clock=clock)  # too early
    assert sim.requests(after=before) == []

    sim.faults.remove(fault)
    a_sweep_completes(sim, adapter, store, clock)


def test_it_stays_parked_for_as_long_as_it_is_closed(sim, adapter, store):
    clock = ManualClock()
    closed(sim)
    write_back(TASKS, session_id="s1", store=store, adapter=adapter, clock=clock)
    for _ in range(3):
        clock.advance(ADMINISTRATION_WAIT + 10)
        [result] = sweep(store, adapter, clock=clock)
        assert result.report.status is RunStatus.RESUME_NEEDED
        assert result.report.not_before > clock.now()


@pytest.mark.parametrize("applied", [False, True])
def test_a_full_storage_parks_and_what_was_written_all_the_same_is_found(sim, adapter, store, applied):
    clock = ManualClock()
    sim.faults.add("status", method="PATCH", status=400, code="0x80072325", apply=applied)
    report = write_back(TASKS, session_id="s1", store=store, adapter=adapter, clock=clock)
    assert report.status is RunStatus.RESUME_NEEDED
    assert report.not_before > clock.now()
    assert "make room" in report.error
    a_sweep_completes(sim, adapter, store, clock)


def test_planning_says_when_to_come_again(sim, adapter, store):
    clock = ManualClock()
    row_id = sim.seed("wa_callqueues", {"wa_name": "Ada"})
    closed(sim)
    asked = [Operation(kind="queue_status_update", payload={"row_id": row_id, "status": "completed"})]
    report = write_back(asked, session_id="s1", store=store, adapter=adapter, clock=clock)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.NOT_READY)
    assert "administration mode" in report.error
    assert report.not_before > clock.now()


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_the_status_does_not_matter_and_no_row_is_looked_for(sim, adapter, status):
    [planned] = adapter.plan([keyed("task", {"subject": "x"})])
    closed(sim, status=status)
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(planned)
    assert (caught.value.applied, caught.value.retry_after) == (Applied.NO, ADMINISTRATION_WAIT)
    assert sim.requests(method="GET") == []


def test_a_wait_that_the_service_asks_for_goes_first(sim, adapter):
    [planned] = adapter.plan([keyed("task", {"subject": "x"})])
    closed(sim, retry_after=77)
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(planned)
    assert caught.value.retry_after == 77


def test_a_plug_in_that_took_too_long_may_have_let_the_write_through(sim, adapter, store):
    policy = RunPolicy(attempts=2, wait_initial=0, wait_max=0)
    sim.faults.add("status", method="PATCH", status=400, code="0x80044172", apply=True)
    report = write_back(TASKS[:1], session_id="s1", store=store, adapter=adapter, policy=policy)
    assert report.status is RunStatus.COMPLETED
    assert sim.count("tasks") == 1
    assert [request.status for request in sim.requests(method="PATCH")] == [400, 412]


def test_a_plug_ins_own_refusal_is_final_whatever_its_status(sim, adapter, store):
    sim.faults.add("status", method="PATCH", status=500, code="0x80040265", times=None)
    report = write_back(TASKS[:1], session_id="s1", store=store, adapter=adapter)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert len(sim.requests(method="PATCH")) == 1
