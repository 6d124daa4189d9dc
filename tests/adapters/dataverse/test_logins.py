"""A login that fails for now: the session waits, and goes on."""

import pytest

from writeahead import RunPolicy, write_back
from writeahead.model import BlockReason, RunStatus
from writeahead.stores.memory import MemoryStore

TASK = {"kind": "task", "payload": {"subject": "Call back"}}
FAST = RunPolicy(attempts=3, wait_initial=0, wait_max=0)


@pytest.mark.parametrize("code", ["AADSTS90033", "AADSTS90006", "AADSTS90024"])
def test_a_login_that_is_refused_for_now_is_tried_again(sim, adapter, code):
    sim.faults.add("status", path="/*/oauth2/v2.0/token", status=400, code=code, times=2)
    report = write_back([TASK], session_id="s", store=MemoryStore(), adapter=adapter, policy=FAST)
    assert (report.status, report.error) == (RunStatus.COMPLETED, None)
    assert [request.status for request in sim.requests(path="*token")] == [400, 400, 200]
    assert sim.count("tasks") == 1


def test_a_login_that_is_refused_for_good_is_not(sim, adapter):
    sim.faults.add("status", path="/*/oauth2/v2.0/token", status=400, code="AADSTS700016", times=None)
    report = write_back([TASK], session_id="s", store=MemoryStore(), adapter=adapter, policy=FAST)
    assert report.block_reason is BlockReason.NOT_READY
    assert [request.status for request in sim.requests(path="*token")] == [400]
