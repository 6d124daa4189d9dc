"""Rows that need no order, sent by one adapter from several threads to the simulator."""

import threading

from writeahead import Operation
from writeahead.model import RunStatus, idempotency_key

CALLS = 8
CALL = {"subject": "A call", "description": "text", "outcome": "interested_callback"}


def test_rows_are_sent_at_the_same_time_and_are_each_there_once(sim, adapter_with, run, monkeypatch):
    gather = threading.Barrier(CALLS)
    adapter = type(adapter_with())
    send = adapter.emit

    def together(self, operation):
        # All of them are under way: token, connections and definitions are asked for at once.
        gather.wait(timeout=30)
        return send(self, operation)

    monkeypatch.setattr(adapter, "emit", together)
    tasks = [
        Operation(kind="task", payload={"subject": f"call {n}"}, independent=True)
        for n in range(1, CALLS + 1)
    ]
    report = run(*tasks)
    assert report.status is RunStatus.COMPLETED, report.error
    rows = {row["activityid"]: row["subject"] for row in sim.rows("tasks")}
    assert rows == {idempotency_key("s1", f"{n}-task"): f"call {n}" for n in range(1, CALLS + 1)}
    assert len(sim.requests(method="PATCH", applied=True)) == CALLS


def test_a_write_of_a_row_waits_for_its_create(sim, run):
    create = Operation(kind="phone_call_activity", payload=CALL, id="c", independent=True)
    complete = Operation(
        kind="complete_activity", payload={"operation": "c", "status": "made"}, independent=True
    )
    report = run(create, complete, readiness="off")
    assert report.status is RunStatus.COMPLETED, report.error
    (row,) = sim.rows("phonecalls")
    assert row["statecode"] == 1
