"""The example sessions over real HTTP, judged by the simulator's rows and its log of requests."""

import json

import pytest

from writeahead import RunPolicy, open_store, resume_session, write_back
from writeahead.model import RunStatus, idempotency_key

FAST = RunPolicy(wait_initial=0, wait_max=0)
WRITTEN = {  # phone calls, tasks
    "interested-callback": (1, 1),
    "email-captured": (1, 1),
    "needs-human-review": (1, 1),
    "do-not-call": (1, 0),
    "blocked-by-eligibility": (0, 0),
}


def row_id(number):
    return f"d0000000-0000-4000-8000-00000000000{number}"


@pytest.fixture
def load(sessions):
    return lambda name: json.loads((sessions / f"{name}.json").read_text())


def run(session, adapter, store, **kwargs):
    return write_back(
        session["operations"],
        session_id=session["session_id"],
        store=store,
        adapter=adapter,
        policy=FAST,
        **kwargs,
    )


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "artifacts"))


@pytest.mark.parametrize("name", WRITTEN)
def test_each_example_is_written_once(sim, adapter, store, load, name):
    session = load(name)
    report = run(session, adapter, store)
    assert report.status is RunStatus.COMPLETED, report.error
    assert (sim.count("phonecalls"), sim.count("tasks")) == WRITTEN[name]
    assert len(sim.requests(method="PATCH", applied=True)) == len(session["operations"])
    assert run(session, adapter, store).status is RunStatus.NO_RESUME_NEEDED
    assert len(sim.requests(method="PATCH")) == len(session["operations"])


def test_interested_callback_in_the_crm(sim, adapter, store, load):
    run(load("interested-callback"), adapter, store)
    session_id = "interested-callback-0001"
    [call], [task] = sim.rows("phonecalls"), sim.rows("tasks")
    queue = sim.row("wa_callqueues", row_id(1))
    assert call["activityid"] == idempotency_key(session_id, "1-phone_call_activity")
    assert call["wa_outcome"] == 100000000
    assert call["directioncode"] is True
    assert call["_regardingobjectid_value"] == "c0000000-0000-4000-8000-000000000001"
    assert (call["wa_sessionid"], call["wa_operationid"]) == (session_id, "1-phone_call_activity")
    assert task["scheduledend"] == "2026-03-05T09:00:00Z"
    assert task["prioritycode"] == 2
    assert task["_ownerid_value"] == "a0000000-0000-4000-8000-000000000002"
    assert (queue["wa_status"], queue["wa_attempts"]) == (100000003, 2)
    assert (queue["wa_lastsession"], queue["wa_lastoperation"]) == (session_id, "2-queue_status_update")


def test_email_captured_has_the_address_in_row_and_task(sim, adapter, store, load):
    run(load("email-captured"), adapter, store)
    [task] = sim.rows("tasks")
    assert task["wa_email"] == sim.row("wa_callqueues", row_id(2))["wa_email"] == "ben.okafor@example.com"


def test_needs_human_review_has_a_reason(sim, adapter, store, load):
    run(load("needs-human-review"), adapter, store)
    [task] = sim.rows("tasks")
    assert task["wa_reasoncode"] == 100000002
    assert task["_regardingobjectid_value"] == row_id(3)


def test_do_not_call_sets_its_columns_and_the_next_attempt(sim, adapter, store, load):
    sim.edit("wa_callqueues", row_id(4), {"wa_nextattempton": "2026-04-01T08:00:00Z"})
    run(load("do-not-call"), adapter, store)
    row = sim.row("wa_callqueues", row_id(4))
    assert row["wa_donotcall"] is True
    assert row["wa_donotcallon"] == "2026-03-02T10:31:00Z"
    assert row["wa_donotcallreason"]
    assert row["wa_nextattempton"] is None


def test_a_dry_run_sends_no_write_and_plans_the_same(sim, adapter, store, load):
    session = load("interested-callback")
    dry = run(session, adapter, store, dry_run=True)
    assert dry.status is RunStatus.PLANNED
    assert {request.method for request in sim.requests(path="*data*")} == {"GET"}
    wet = run(session, adapter, store)
    # All but when it was planned.
    shown, done = (
        [item.model_copy(update={"precondition": None}) for item in x.operations] for x in (dry, wet)
    )
    assert shown == done
    sent = [json.loads(request.body) for request in sim.requests(method="PATCH")]
    parties = [
        {
            "partyid_systemuser@odata.bind": "/systemusers(a0000000-0000-4000-8000-000000000002)",
            "participationtypemask": 1,
        },
        {
            "partyid_contact@odata.bind": "/contacts(c0000000-0000-4000-8000-000000000001)",
            "participationtypemask": 2,
        },
    ]
    assert sent[0].pop("phonecall_activity_parties") == parties
    assert sent == [operation.payload["columns"] for operation in wet.operations]
    paths = [request.resource for request in sim.requests(method="PATCH")]
    assert paths == [f"{o.payload['entity_set']}({o.payload['row_id']})" for o in wet.operations]


def test_resume_sends_only_what_is_missing(sim, adapter, store, load):
    session = load("interested-callback")
    fault = sim.faults.add("status", method="PATCH", path="tasks(*", status=503, times=None)
    report = run(session, adapter, store)
    assert (report.status, report.operation) == (RunStatus.RESUME_NEEDED, "3-task")
    assert sim.count("tasks") == 0
    sim.faults.remove(fault)
    before = sim.last_sequence()
    resumed = resume_session(session["session_id"], store=store, adapter=adapter, policy=FAST)
    assert resumed.status is RunStatus.COMPLETED
    assert [request.resource[:6] for request in sim.requests(method="PATCH", after=before)] == ["tasks("]
    assert (sim.count("phonecalls"), sim.count("tasks")) == (1, 1)
