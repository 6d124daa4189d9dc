"""Every outcome of a create and an update, judged by the simulator's rows and request log."""

import uuid

import pytest

from writeahead.adapters.dataverse import (
    PermanentDataverseError,
    TransientDataverseError,
    adapter_from_settings,
)
from writeahead.errors import Applied, ConflictError, InvalidInput, NotReady
from writeahead.model import KeyedOperation, idempotency_key

QUEUE = "d0000000-0000-4000-8000-000000000001"
CALLBACK, REVIEW, ATTEMPTS = 100000003, 100000004, 7
SESSION = "planted-session"


def keyed(kind, payload, number=1, session=SESSION):
    operation_id = f"{number}-{kind}"
    return KeyedOperation(
        session_id=session,
        id=operation_id,
        kind=kind,
        key=idempotency_key(session, operation_id),
        payload=payload,
    )


def update_of(status="callback_requested", number=1, session=SESSION, **fields):
    return keyed(
        "queue_status_update", {"row_id": QUEUE, "status": status, **fields}, number=number, session=session
    )


@pytest.fixture
def task(adapter):
    [planned] = adapter.plan([keyed("task", {"subject": "planted-subject"})])
    return planned


@pytest.fixture
def update(adapter):
    [planned] = adapter.plan([update_of(attempts=ATTEMPTS, notes="planted-notes")])
    return planned


def sent(sim, method="PATCH"):
    return [(request.status, request.applied) for request in sim.requests(method=method, path="*(*)")]


# ---- create


def test_create(sim, adapter, task):
    receipt = adapter.emit(task)
    assert (receipt.outcome, receipt.remote_id) == ("applied", task.key)
    assert sim.row("tasks", task.key)["subject"] == "planted-subject"
    [request] = sim.requests(method="PATCH")
    assert (request.if_none_match, request.if_match) == ("*", None)


def test_create_again_is_already_applied(sim, adapter, task):
    adapter.emit(task)
    version = sim.row("tasks", task.key)["@odata.etag"]
    receipt = adapter.emit(task)
    assert (receipt.outcome, receipt.remote_version) == ("already_applied", version)
    assert sim.count("tasks") == 1
    assert sent(sim) == [(204, True), (412, False)]


@pytest.mark.parametrize("action", ["drop", "reset", "cut", "not_json", "wrong_schema"])
def test_create_whose_reply_is_lost(sim, adapter, task, action):
    sim.faults.add(action, method="PATCH", apply=True)
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(task)
    assert caught.value.applied is Applied.UNKNOWN
    assert sim.count("tasks") == 1
    assert adapter.emit(task).outcome == "already_applied"
    assert sim.count("tasks") == 1


@pytest.mark.parametrize("action", ["drop", "reset", "status"])
def test_create_that_never_arrived(sim, adapter, task, action):
    sim.faults.add(action, method="PATCH", apply=False)
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(task)
    assert caught.value.applied is Applied.UNKNOWN
    assert adapter.emit(task).outcome == "applied"
    assert sim.count("tasks") == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_throttled(sim, adapter, task, form):
    sim.faults.add("status", method="PATCH", status=429, retry_after=4000, retry_after_as=form)
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(task)
    assert caught.value.applied is Applied.NO
    # A date holds whole seconds, and the server's Date header may be somewhat older than its
    # answer.
    assert 3900 <= caught.value.retry_after <= 4100
    assert sim.count("tasks") == 0


def test_a_create_whose_key_is_taken(sim, adapter, task):
    sim.seed("tasks", {"activityid": task.key, "subject": "theirs", "description": "planted-other"})
    with pytest.raises(ConflictError) as caught:
        adapter.emit(task)
    assert sim.row("tasks", task.key)["subject"] == "theirs"
    assert "theirs" not in str(caught.value)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("session", [SESSION, "another"])
def test_a_create_is_known_by_its_guid_after_other_writes(sim, adapter, task, session):
    """A later session completes a call; a resume of the first one meets its marker."""
    sim.faults.add("reset", method="PATCH", apply=True)
    with pytest.raises(TransientDataverseError):
        adapter.emit(task)
    sim.edit("tasks", task.key, {"wa_sessionid": session, "wa_operationid": "9-x", "subject": "theirs"})
    assert adapter.emit(task).outcome == "already_applied"
    assert (sim.count("tasks"), sim.row("tasks", task.key)["subject"]) == (1, "theirs")


def test_create_where_the_row_is_gone_when_it_is_read_back_is_sent_again(sim, adapter, task):
    sim.faults.add("status", method="PATCH", status=412)
    assert adapter.emit(task).outcome == "applied"
    assert sent(sim) == [(412, False), (204, True)]


@pytest.mark.parametrize(("status", "code"), [(400, ""), (500, "0x80040333"), (403, ""), (404, "")])
def test_a_refused_create_whose_row_is_there_after_all(sim, adapter, task, status, code):
    sim.faults.add("status", method="PATCH", status=status, code=code, apply=True)
    assert adapter.emit(task).outcome == "already_applied"
    assert sent(sim) == [(status, True)]


@pytest.mark.parametrize(("status", "code"), [(400, ""), (500, "0x80040333"), (403, ""), (501, "")])
def test_a_refused_create(sim, adapter, task, status, code):
    sim.faults.add("status", method="PATCH", status=status, code=code, message="planted-message")
    with pytest.raises(PermanentDataverseError) as caught:
        adapter.emit(task)
    assert "planted" not in str(caught.value)
    assert (sim.count("tasks"), len(sent(sim)), len(sent(sim, "GET"))) == (0, 1, 1)


def test_a_lookup_that_points_nowhere(sim, adapter):
    regarding = {"type": "contact", "id": str(uuid.uuid4())}
    [planned] = adapter.plan([keyed("task", {"subject": "s", "regarding": regarding})])
    with pytest.raises(PermanentDataverseError):
        adapter.emit(planned)
    assert sim.count("tasks") == 0


@pytest.mark.parametrize("action", ["drop", "status", "not_json", "cut", "wrong_schema"])
def test_a_read_back_that_fails_leaves_the_outcome_open(sim, adapter, task, action):
    adapter.emit(task)
    sim.faults.add(action, method="GET")
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(task)
    assert caught.value.applied is Applied.UNKNOWN
    assert adapter.emit(task).outcome == "already_applied"
    assert sim.count("tasks") == 1


def test_a_read_back_that_is_refused(sim, adapter, task):
    adapter.emit(task)
    sim.faults.add("status", method="GET", status=403)
    with pytest.raises(PermanentDataverseError, match="PATCH"):
        adapter.emit(task)


def test_create_with_an_expired_token(sim, adapter, task):
    sim.faults.add("status", method="PATCH", status=401)
    assert adapter.emit(task).outcome == "applied"
    assert sent(sim) == [(401, False), (204, True)]
    assert len(sim.requests(path="*/token")) == 2


def test_create_with_a_token_that_stays_refused(sim, adapter, task):
    sim.faults.add("status", method="PATCH", status=401, times=None)
    with pytest.raises(NotReady):
        adapter.emit(task)
    assert sent(sim) == [(401, False), (401, False)]


# ---- update


def test_update(sim, adapter, update):
    assert adapter.emit(update).outcome == "applied"
    row = sim.row("wa_callqueues", QUEUE)
    assert (row["wa_status"], row["wa_attempts"], row["wa_notes"]) == (CALLBACK, ATTEMPTS, "planted-notes")
    [request] = sim.requests(method="PATCH")
    assert request.if_match == update.precondition["etag"]
    assert request.if_none_match is None


def test_the_baseline_is_in_the_plan(sim, update):
    row = sim.row("wa_callqueues", QUEUE)
    assert update.precondition["etag"] == row["@odata.etag"]
    assert update.precondition["guarded"] == {
        name: row.get(name)
        for name in (
            "statecode",
            "wa_status",
            "wa_attempts",
            "wa_nextattempton",
            "wa_donotcall",
            "wa_email",
            "wa_notes",
            "wa_lastsession",
            "wa_lastoperation",
        )
    }


def test_update_again_is_already_applied(sim, adapter, update):
    adapter.emit(update)
    assert adapter.emit(update).outcome == "already_applied"
    assert sent(sim) == [(204, True), (412, False)]


def test_update_again_after_a_person_edited_what_it_wrote(sim, adapter, update):
    adapter.emit(update)
    sim.edit("wa_callqueues", QUEUE, {"wa_status": REVIEW})
    assert adapter.emit(update).outcome == "already_applied"
    assert sim.row("wa_callqueues", QUEUE)["wa_status"] == REVIEW


@pytest.mark.parametrize("action", ["drop", "reset", "cut", "not_json", "wrong_schema"])
def test_update_whose_reply_is_lost(sim, adapter, update, action):
    sim.faults.add(action, method="PATCH", apply=True)
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(update)
    assert caught.value.applied is Applied.UNKNOWN
    assert adapter.emit(update).outcome == "already_applied"
    assert [applied for _, applied in sent(sim)] == [True, False]


def test_an_edit_of_something_else_is_kept_and_built_upon(sim, adapter, update):
    etag = sim.edit("wa_callqueues", QUEUE, {"wa_name": "renamed"})
    assert adapter.emit(update).outcome == "applied"
    row = sim.row("wa_callqueues", QUEUE)
    assert (row["wa_name"], row["wa_status"]) == ("renamed", CALLBACK)
    assert [request.if_match for request in sim.requests(method="PATCH")] == [
        update.precondition["etag"],
        etag,
    ]


def test_a_version_that_grew_by_itself_is_rebased_on(sim, adapter, update):
    sim.edit("wa_callqueues", QUEUE, {})
    assert adapter.emit(update).outcome == "applied"
    assert sent(sim) == [(412, False), (204, True)]


def test_an_edit_of_guarded_columns_is_a_conflict(sim, adapter, update):
    sim.edit("wa_callqueues", QUEUE, {"wa_status": REVIEW, "wa_email": "planted@example.com"})
    with pytest.raises(ConflictError, match="wa_email, wa_status") as caught:
        adapter.emit(update)
    assert "planted" not in str(caught.value)
    row = sim.row("wa_callqueues", QUEUE)
    assert (row["wa_status"], row["wa_notes"]) == (REVIEW, None)
    assert sent(sim) == [(412, False)]


def test_another_sessions_write_is_a_conflict(sim, adapter, update):
    sim.edit("wa_callqueues", QUEUE, {"wa_lastsession": "other", "wa_lastoperation": update.id})
    with pytest.raises(ConflictError, match="wa_lastsession"):
        adapter.emit(update)


def test_a_row_that_keeps_changing_is_a_conflict(sim, adapter, update):
    for number in range(2):
        edit = {"row": f"wa_callqueues({QUEUE})", "columns": {"wa_name": f"renamed {number}"}}
        sim.faults.add("edit", method="PATCH", edit_before=edit)
    with pytest.raises(ConflictError, match="keeps changing"):
        adapter.emit(update)
    assert sent(sim) == [(412, False), (412, False)]


def test_a_rebase_whose_reply_was_a_412_though_it_was_applied(sim, adapter, update):
    sim.edit("wa_callqueues", QUEUE, {"wa_name": "renamed"})
    sim.faults.add("status", method="PATCH", status=412, apply=True, skip=1)
    assert adapter.emit(update).outcome == "already_applied"


def test_a_rebase_whose_reply_is_lost(sim, adapter, update):
    sim.edit("wa_callqueues", QUEUE, {"wa_name": "renamed"})
    sim.faults.add("drop", method="PATCH", apply=True, skip=1)
    with pytest.raises(TransientDataverseError):
        adapter.emit(update)
    assert adapter.emit(update).outcome == "already_applied"
    assert [applied for _, applied in sent(sim)] == [False, True, False]


def test_a_row_that_is_gone_is_a_conflict_and_not_made_again(sim, adapter, update):
    sim.delete("wa_callqueues", QUEUE)
    with pytest.raises(ConflictError, match="gone"):
        adapter.emit(update)
    assert sim.row("wa_callqueues", QUEUE) is None


def test_a_refused_update(sim, adapter, update):
    sim.faults.add("status", method="PATCH", status=400)
    with pytest.raises(PermanentDataverseError):
        adapter.emit(update)
    assert sim.row("wa_callqueues", QUEUE)["wa_status"] != CALLBACK


def test_an_update_planned_again_after_its_artifacts_were_lost(sim, adapter, update):
    adapter.emit(update)
    [planned] = adapter.plan([update_of(attempts=ATTEMPTS, notes="planted-notes")])
    assert adapter.emit(planned).outcome == "already_applied"
    assert sent(sim) == [(204, True)]


def test_a_second_update_of_one_row_builds_on_the_first(sim, adapter):
    first, second = adapter.plan([update_of(attempts=ATTEMPTS), update_of("needs_review", number=2)])
    assert adapter.emit(first).outcome == "applied"
    assert adapter.emit(second).outcome == "applied"
    row = sim.row("wa_callqueues", QUEUE)
    assert (row["wa_status"], row["wa_attempts"]) == (REVIEW, ATTEMPTS)


def test_the_first_of_two_updates_is_not_sent_over_the_second(sim, adapter):
    first, second = adapter.plan([update_of(attempts=ATTEMPTS), update_of("needs_review", number=2)])
    adapter.emit(first)
    adapter.emit(second)
    assert adapter.emit(first).outcome == "already_applied"
    assert adapter.emit(second).outcome == "already_applied"
    assert sim.row("wa_callqueues", QUEUE)["wa_status"] == REVIEW
    assert len([applied for _, applied in sent(sim) if applied]) == 2


def test_an_edit_between_two_updates_of_one_row_is_a_conflict(sim, adapter):
    first, second = adapter.plan([update_of(), update_of("needs_review", number=2)])
    adapter.emit(first)
    sim.edit("wa_callqueues", QUEUE, {"wa_attempts": 99})
    with pytest.raises(ConflictError, match="wa_attempts"):
        adapter.emit(second)


# ---- planning


def test_planning_sends_no_write(sim, adapter, task, update):
    assert {request.method for request in sim.requests(path="*data*")} == {"GET"}


def test_every_missing_row_is_named(sim, adapter):
    missing = [str(uuid.uuid4()) for _ in range(2)]
    operations = [
        keyed("queue_status_update", {"row_id": row, "status": "blocked"}, number=number)
        for number, row in enumerate(missing)
    ]
    with pytest.raises(NotReady) as caught:
        adapter.plan(operations)
    assert len(caught.value.problems) == 2
    assert all(row in str(caught.value) for row in missing)


@pytest.mark.parametrize("action", ["status", "drop", "not_json", "wrong_schema", "cut"])
def test_a_baseline_that_can_not_be_read_now(sim, adapter, action):
    sim.faults.add(action, method="GET")
    with pytest.raises(TransientDataverseError) as caught:
        adapter.plan([update_of()])
    assert caught.value.applied is Applied.NO
    assert adapter.plan([update_of()])[0].precondition


def test_a_baseline_that_may_not_be_read(sim, adapter):
    sim.faults.add("status", method="GET", status=403)
    with pytest.raises(NotReady, match="403"):
        adapter.plan([update_of()])


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"row_id": QUEUE, "status": "planted"}, ["status", "label", "pending"]),
        ({"row_id": "planted", "status": "blocked"}, ["row_id"]),
        ({"row_id": QUEUE, "status": "blocked", "planted": 1}, ["planted"]),
        ({"row_id": QUEUE}, ["status"]),
        ({"row_id": QUEUE, "status": "blocked", "email": "planted"}, ["email"]),
        ({"row_id": QUEUE, "status": "blocked", "notes": "x", "clear": ["notes"]}, ["cleared"]),
        (
            {"row_id": QUEUE, "status": "blocked", "next_attempt_at": "2026-01-01T10:00:00"},
            ["next_attempt_at"],
        ),
    ],
)
def test_a_payload_of_the_wrong_shape_causes_no_request(sim, adapter, payload, words):
    with pytest.raises(InvalidInput) as caught:
        adapter.plan([keyed("queue_status_update", payload)])
    assert all(word in str(caught.value) for word in ["1-queue_status_update", *words])
    assert sim.requests() == []


def test_a_label_is_not_repeated_in_the_message(adapter):
    with pytest.raises(InvalidInput) as caught:
        adapter.plan([keyed("queue_status_update", {"row_id": QUEUE, "status": "planted"})])
    assert "planted" not in str(caught.value).replace(SESSION, "")


def test_fields_that_are_not_given_are_left_alone(sim, adapter):
    [planned] = adapter.plan([update_of(email=None, notes=None)])
    assert set(planned.payload["columns"]) == {"wa_status", "wa_lastsession", "wa_lastoperation"}


def test_fields_to_be_cleared_become_null(sim, adapter):
    [planned] = adapter.plan([update_of(clear=["notes", "reason_code"])])
    columns = planned.payload["columns"]
    assert (columns["wa_notes"], columns["wa_reasoncode"]) == (None, None)


def test_wrong_credentials_are_found_while_planning(sim, environ):
    adapter = adapter_from_settings(environ={**environ, "DATAVERSE_CLIENT_SECRET": "wrong"})
    with pytest.raises(NotReady, match=r"invalid_client.*DATAVERSE_CLIENT_SECRET"):
        adapter.plan([keyed("task", {"subject": "s"})])
    assert sim.requests(path="*data*") == []


def test_missing_credentials_are_all_named_at_once(environ):
    adapter = adapter_from_settings(environ={"DATAVERSE_URL": environ["DATAVERSE_URL"]})
    with pytest.raises(NotReady) as caught:
        adapter.plan([keyed("task", {"subject": "s"})])
    for name in ("DATAVERSE_TENANT_ID", "DATAVERSE_CLIENT_ID", "DATAVERSE_CLIENT_SECRET"):
        assert name in str(caught.value)
    assert "DATAVERSE_URL" not in str(caught.value)


def test_a_resume_without_credentials_is_not_ready(task):
    adapter = adapter_from_settings(environ={})
    with pytest.raises(NotReady, match="DATAVERSE_URL"):
        adapter.emit(task)


# ---- what comes out of an artifact is not trusted


EVIL = [
    {"entity_set": "../x"},
    {"entity_set": "http://evil.example"},
    {"entity_set": "contacts"},
    {"entity_set": "wa_callqueues\n"},
    {"row_id": f"{QUEUE}/x"},
    {"row_id": "../../x"},
    {"row_id": f"{QUEUE})?x=("},
    {"row_id": ""},
    {"host": "evil.example"},
    {"columns": {}},
    {"columns": {"wa_status": CALLBACK}},  # no marker
    {"columns+": {"wa_name": "not mapped"}},
    {"columns+": {"wa_status": 100000099}},  # no such option
    {"columns+": {"wa_status": True}},
    {"columns+": {"wa_notes": {"deep": "insert"}}},
    {"columns+": {"wa_notes": ["x"]}},
    {"columns+": {"ownerid@odata.bind": f"/systemusers({QUEUE})"}},  # no lookup of this kind
    {"columns+": {"wa_callqueueid": QUEUE}},
]


@pytest.mark.parametrize("change", EVIL, ids=str)
def test_a_malicious_update_plan_is_refused_without_a_request(sim, adapter, update, change):
    _assert_refused(sim, adapter, update, change)


@pytest.mark.parametrize(
    "change",
    [
        {"entity_set": "../x"},
        {"row_id": QUEUE},  # not the operation's key
        {"columns+": {"prioritycode": True}},  # equal to 1, and no option
        {"columns+": {"regardingobjectid_contact_task@odata.bind": "http://evil.example/contacts(1)"}},
        {"columns+": {"regardingobjectid_contact_task@odata.bind": f"/../contacts({QUEUE})"}},
        {"columns+": {"regardingobjectid_contact_task@odata.bind": f"/accounts({QUEUE})"}},
        {"columns+": {"regardingobjectid_contact_task@odata.bind": f"/contacts({QUEUE})/x"}},
        {"columns+": {"regardingobjectid_contact_task@odata.bind": None}},
        {"columns+": {"regardingobjectid_lead_task@odata.bind": f"/leads({QUEUE})"}},
    ],
    ids=str,
)
def test_a_malicious_create_plan_is_refused_without_a_request(sim, adapter, task, change):
    _assert_refused(sim, adapter, task, change)


def _assert_refused(sim, adapter, planned, change):
    payload = dict(planned.payload)
    if "columns+" in change:
        payload["columns"] = {**payload["columns"], **change["columns+"]}
    else:
        payload |= change
    before = sim.last_sequence()
    with pytest.raises(InvalidInput, match=planned.id):
        adapter.emit(planned.model_copy(update={"payload": payload}))
    assert sim.last_sequence() == before


@pytest.mark.parametrize(
    "change",
    [
        None,
        {"etag": "*"},
        {"etag": ""},
        {"etag": 'W/"1"\r\nX-Evil: 1'},
        {"guarded": {}},
        {"guarded": {"wa_status": 1}},
        {"later": "x"},
        {"evil": 1},
    ],
    ids=str,
)
def test_a_malicious_precondition_is_refused_without_a_request(sim, adapter, update, change):
    precondition = None if change is None else {**update.precondition, **change}
    before = sim.last_sequence()
    with pytest.raises(InvalidInput, match=update.id):
        adapter.emit(update.model_copy(update={"precondition": precondition}))
    assert sim.last_sequence() == before


def test_a_key_that_is_no_guid_is_refused_without_a_request(sim, adapter, task):
    before = sim.last_sequence()
    with pytest.raises(InvalidInput):
        adapter.emit(task.model_copy(update={"key": "../x", "payload": {**task.payload, "row_id": "../x"}}))
    assert sim.last_sequence() == before
