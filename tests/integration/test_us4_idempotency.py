"""The main job over real HTTP, on each store: use up the retries, then resume what is missing."""

import contextlib
import json
import secrets
from datetime import UTC, datetime

import pytest

from tests.support.worlds import names
from writeahead import RunPolicy, open_store, resume_session, write_back
from writeahead.adapters.dataverse import DataverseAdapter
from writeahead.model import RunStatus
from writeahead.simulators.dataverse import HUMAN_USER, Simulator

ROW = "5f3c7f0e-6f3b-4e0e-9d38-0a8f3b6f1c11"
QUICK = RunPolicy(wait_initial=0.01, wait_max=0.02)
OPERATIONS = [
    {
        "kind": "phone_call_activity",
        "payload": {
            "subject": "Interested",
            "outcome": "interested_callback",
            "phone_number": "+49 30 901820",
            "caller": {"type": "user", "id": HUMAN_USER},
            "callee": {"address": "+49 30 901820"},
        },
    },
    {
        "kind": "queue_status_update",
        "payload": {"row_id": ROW, "status": "callback_requested", "attempts": 1},
    },
    {"kind": "task", "payload": {"subject": "Call back", "priority": "high"}},
]
MUTATING = {"POST", "PATCH", "PUT", "DELETE"}


@pytest.fixture
def crm(tmp_path):
    with Simulator(tmp_path / "crm.db") as simulator:
        simulator.seed("wa_callqueues", {"wa_callqueueid": ROW, "wa_name": "Ada"})
        yield simulator


@pytest.fixture
def adapter(crm):
    # One moment: two plans that are made in different seconds are the same otherwise.
    moment = datetime.now(UTC)
    with DataverseAdapter(crm.url, crm.issue_token, now=lambda: moment) as adapter:
        yield adapter


@pytest.fixture(params=["local", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        return open_store(f"file://{tmp_path}/artifacts")
    if request.param == "memory":
        return open_store(f"memory://{secrets.token_hex(8)}")
    bucket = request.getfixturevalue("s3_bucket")
    server = request.getfixturevalue("s3_server")
    return open_store(f"s3://{bucket.name}/artifacts?endpoint_url={server}&region=us-east-1")


def mutating(crm, since=0):
    return [
        f"{request.method} {request.resource}"
        for request in crm.requests()[since:]
        if request.method in MUTATING and "/oauth2/" not in request.path
    ]


def counts(crm):
    return {table: crm.count(table) for table in ("phonecalls", "wa_callqueues", "tasks")}


def test_us4_natural_transient_exhaust_yields_resume_needed(crm, adapter, store):
    crm.faults.add("status", method="PATCH", path="tasks*", times=None)
    report = write_back(OPERATIONS, session_id="s1", store=store, adapter=adapter, policy=QUICK)
    assert report.status is RunStatus.RESUME_NEEDED
    assert report.operation == "3-task"
    assert "503" in report.error
    assert "s1/planned-writeback.json" in names(store)
    assert "s1/writeback.json" not in names(store)
    assert len([line for line in mutating(crm) if "tasks" in line]) == QUICK.attempts
    assert counts(crm) == {"phonecalls": 1, "wa_callqueues": 1, "tasks": 0}

    crm.faults.clear()
    before = len(crm.requests())
    report = resume_session("s1", store=store, adapter=adapter, policy=QUICK)
    assert report.status is RunStatus.COMPLETED
    assert report.emitted == ("3-task",)
    assert "s1/writeback.json" in names(store)
    assert counts(crm) == {"phonecalls": 1, "wa_callqueues": 1, "tasks": 1}
    key = report.operations[2].key
    assert mutating(crm, before) == [f"PATCH tasks({key})"]
    assert len(crm.requests()) == before + 1

    before = len(crm.requests())
    report = resume_session("s1", store=store, adapter=adapter, policy=QUICK)
    assert report.status is RunStatus.NO_RESUME_NEEDED
    assert len(crm.requests()) == before
    (row,) = crm.rows("wa_callqueues")
    assert row["wa_attempts"] == 1
    assert not [name for name in names(store) if name.startswith(".")]


def test_the_plan_is_durable_before_any_remote_change(crm, adapter, store, monkeypatch):
    held = []
    emit = adapter.emit

    def look_first(operation):
        held.append((names(store), mutating(crm)))
        return emit(operation)

    monkeypatch.setattr(adapter, "emit", look_first)
    assert write_back(OPERATIONS, session_id="s1", store=store, adapter=adapter).status is RunStatus.COMPLETED
    first_names, first_requests = held[0]
    assert first_requests == []
    assert first_names == [".open/s1", "s1/planned-writeback.json"]


def test_writes_of_different_rows_need_no_journal(crm, adapter, store):
    policy = RunPolicy(journal_interval=3600)
    report = write_back(OPERATIONS, session_id="s1", store=store, adapter=adapter, policy=policy)
    assert report.status is RunStatus.COMPLETED
    assert names(store) == ["s1/planned-writeback.json", "s1/writeback.json"]


def test_the_receipt_of_a_row_is_journaled_before_it_is_written_again(crm, adapter, store):
    """A conditional update that is sent again after the next one would be a conflict."""
    policy = RunPolicy(journal_interval=3600)
    again = {"kind": "queue_status_update", "payload": {"row_id": ROW.upper(), "status": "completed"}}
    asked = [*OPERATIONS, again]
    report = write_back(asked, session_id="s1", store=store, adapter=adapter, policy=policy)
    assert report.status is RunStatus.COMPLETED
    (entry,) = [name for name in names(store) if "/journal/" in name]
    assert json.loads(store.get(entry).data)["operation"] == "3-task"


def test_a_dry_run_changes_nothing_and_plans_what_is_then_sent(crm, adapter, store):
    report = write_back(OPERATIONS, session_id="s1", store=store, adapter=adapter, dry_run=True)
    assert report.status is RunStatus.PLANNED
    assert mutating(crm) == []
    assert counts(crm) == {"phonecalls": 0, "wa_callqueues": 1, "tasks": 0}
    write_back(OPERATIONS, session_id="s1", store=store, adapter=adapter)
    dry = json.loads(store.get(".dry-run/s1/planned-writeback.json").data)
    real = json.loads(store.get("s1/planned-writeback.json").data)
    assert dry["operations"] == real["operations"]
    sent = [json.loads(request.body) for request in crm.requests() if request.method == "PATCH"]
    planned = dry["operations"][0]["payload"]["parties"]
    assert len(sent[0].pop("phonecall_activity_parties")) == len(planned) == 2
    assert [operation["payload"]["columns"] for operation in dry["operations"]] == sent


def test_a_reply_lost_on_every_operation_doubles_nothing(crm, adapter, store):
    for path in ("phonecalls*", "wa_callqueues*", "tasks*"):
        crm.faults.add("reset", method="PATCH", path=path, apply=True)
    report = write_back(OPERATIONS, session_id="s1", store=store, adapter=adapter, policy=QUICK)
    assert report.status is RunStatus.COMPLETED
    assert [receipt.outcome for receipt in report.receipts.values()] == ["already_applied"] * 3
    assert counts(crm) == {"phonecalls": 1, "wa_callqueues": 1, "tasks": 1}


def test_an_edit_between_run_and_resume_is_never_lost(crm, adapter, store):
    crm.faults.add("status", method="PATCH", path="wa_callqueues*", times=None)
    write_back(OPERATIONS, session_id="s1", store=store, adapter=adapter, policy=QUICK)
    crm.faults.clear()
    crm.edit("wa_callqueues", ROW, {"wa_donotcall": True})
    report = resume_session("s1", store=store, adapter=adapter, policy=QUICK)
    assert report.status is RunStatus.BLOCKED
    assert report.block_reason == "conflict_detected"
    assert "wa_donotcall" in report.error
    (row,) = crm.rows("wa_callqueues")
    assert row["wa_donotcall"] is True
    assert row["wa_attempts"] != 1
    with contextlib.suppress(KeyError):
        assert row["wa_lastsession"] is None
