"""All operations of a session in one transaction: what is sent, and what a refusal means."""

import itertools
import json
import re

import pytest

from tests.adapters.dataverse.webapi.test_batch import batch, error, part
from tests.support.scripted_server import CLOSE, TOKEN, refused, reply
from writeahead.adapters.dataverse import (
    DataverseAdapter,
    PermanentDataverseError,
    TransientDataverseError,
)
from writeahead.adapters.dataverse.webapi.errors import RowNotFound
from writeahead.errors import Applied, ConflictError, InvalidInput, NotReady
from writeahead.model import KeyedOperation, ReplayClass, idempotency_key

QUEUE = "d0000000-0000-4000-8000-000000000001"
SESSION = "planted-session"
CALL, TASK = (idempotency_key(SESSION, name) for name in ("1-phone_call_activity", "3-task"))
GUARDED = {
    "statecode": 0,
    "wa_status": 100000000,
    "wa_attempts": 1,
    "wa_nextattempton": None,
    "wa_donotcall": False,
    "wa_email": "planted-email",
}
FOREIGN = {"wa_lastsession": None, "wa_lastoperation": None}
OURS = {"wa_lastsession": SESSION, "wa_lastoperation": "2-queue_status_update"}
LATER = {"wa_lastsession": SESSION, "wa_lastoperation": "4-queue_status_update"}


def keyed(number, kind, payload):
    name = f"{number}-{kind}"
    key = idempotency_key(SESSION, name)
    return KeyedOperation(session_id=SESSION, id=name, kind=kind, key=key, payload=payload)


def queue_row(marker=FOREIGN, etag='W/"41"', **changed):
    row = {"@odata.etag": etag, "wa_callqueueid": QUEUE, **GUARDED, **marker, **changed}
    return reply(200, row)


def activity(key, session=SESSION, operation=None, etag='W/"7"', **more):
    # Created after every plan, unless a test says otherwise.
    row = {"createdon": "2999-01-01T00:00:00Z", "wa_sessionid": session, "wa_operationid": operation, **more}
    return reply(200, {"@odata.etag": etag, "activityid": key, **row})


MISSING = refused(404, "0x80040217")
CALL_IS_OURS = activity(CALL, operation="1-phone_call_activity")
TASK_IS_OURS = activity(TASK, operation="3-task")


def written(count=3):
    return batch([part(204, number=n, ETag=f'W/"{n}"') for n in range(1, count + 1)])


def refusal(number, status=412, code=""):
    return batch([part(status, error(code), number=number)], set_of=False)


@pytest.fixture
def adapter(server):
    with DataverseAdapter(server.url, lambda: TOKEN, timeout=5, readiness="off") as made:
        yield made


def planned(server, adapter, baseline=None, *, again=False):
    operations = [
        keyed(1, "phone_call_activity", {"subject": "planted-call"}),
        keyed(2, "queue_status_update", {"row_id": QUEUE, "status": "callback_requested", "attempts": 2}),
        keyed(3, "task", {"subject": "planted-task"}),
    ]
    if again:
        operations.append(
            keyed(4, "queue_status_update", {"row_id": QUEUE, "status": "completed", "attempts": 2})
        )
    server.script = [baseline or queue_row()]
    made = adapter.plan(operations)
    server.requests.clear()
    return made


@pytest.fixture
def operations(server, adapter):
    return planned(server, adapter)


def batches(server):
    """The conditions and contents of each batch that was sent, by what it was."""
    found = []
    for request in server.requests:
        if request.path.endswith("/$batch"):
            lines = request.body.decode().split("\r\n")
            requests = [re.search(r"v9.2/(\w+)\(", line)[1] for line in lines if line.startswith("PATCH ")]
            conditions = [line for line in lines if line.startswith("If-")]
            contents = [json.loads(line) for line in lines if line.startswith("{")]
            found.append((requests, conditions, contents))
    return found


def reads(server):
    return [request.path.rpartition("/")[2] for request in server.requests if request.method == "GET"]


def test_everything_goes_in_one_request(server, adapter, operations):
    server.script = [written()]
    receipts = adapter.transact(operations)
    assert [(r.outcome, r.remote_id, r.remote_version) for r in receipts] == [
        ("applied", CALL, 'W/"1"'),
        ("applied", QUEUE, 'W/"2"'),
        ("applied", TASK, 'W/"3"'),
    ]
    [(tables, conditions, contents)] = batches(server)
    assert tables == ["phonecalls", "wa_callqueues", "tasks"]
    assert conditions == ["If-None-Match: *", 'If-Match: W/"41"', "If-None-Match: *"]
    assert contents == [operation.payload["columns"] for operation in operations]
    assert len(server.requests) == 1


def test_two_updates_of_a_row_check_it_once(server, adapter):
    operations = planned(server, adapter, again=True)
    server.script = [written(4)]
    assert [receipt.outcome for receipt in adapter.transact(operations)] == ["applied"] * 4
    [(_, conditions, _)] = batches(server)
    assert conditions == ["If-None-Match: *", 'If-Match: W/"41"', "If-None-Match: *", "If-Match: *"]


@pytest.mark.parametrize("number", [None, 1, 2, 3])
def test_one_row_of_ours_proves_that_all_were_written(server, adapter, operations, number):
    server.script = [refusal(number), CALL_IS_OURS]
    receipts = adapter.transact(operations)
    assert [receipt.outcome for receipt in receipts] == ["already_applied"] * 3
    assert [receipt.remote_id for receipt in receipts] == [CALL, QUEUE, TASK]
    assert receipts[0].remote_version == 'W/"7"'
    assert reads(server) == [f"phonecalls({CALL})"]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_for_any_reason_may_have_met_what_is_ours(server, adapter, operations, status):
    """A duplicate rule, say, that our own row of an earlier attempt offends."""
    server.script = [refusal(1, status), CALL_IS_OURS]
    assert {receipt.outcome for receipt in adapter.transact(operations)} == {"already_applied"}


def test_other_rows_are_looked_at_where_the_first_is_unmarked(server, adapter, operations):
    """The call was deleted and the queue row taken by another session since."""
    foreign = {"wa_lastsession": "another", "wa_lastoperation": "1-x"}
    server.script = [refusal(1), MISSING, queue_row(foreign, 'W/"99"'), TASK_IS_OURS]
    receipts = adapter.transact(operations)
    assert [receipt.outcome for receipt in receipts] == ["already_applied"] * 3
    assert receipts[2].remote_version == 'W/"7"'


def test_a_row_under_our_guid_proves_the_transaction(server, adapter, operations):
    server.script = [refusal(1), activity(CALL, "another", "1-x")]
    assert {receipt.outcome for receipt in adapter.transact(operations)} == {"already_applied"}


def test_a_later_update_of_the_same_row_proves_it_too(server, adapter):
    operations = planned(server, adapter, again=True)
    server.script = [refusal(2), MISSING, queue_row(LATER, 'W/"43"', wa_status=100000002, wa_attempts=2)]
    receipts = adapter.transact(operations)
    assert [receipt.outcome for receipt in receipts] == ["already_applied"] * 4


def test_a_new_version_without_a_guarded_change_is_no_conflict(server, adapter, operations):
    server.script = [refusal(2), MISSING, queue_row(etag='W/"42"'), MISSING, written()]
    assert [receipt.outcome for receipt in adapter.transact(operations)] == ["applied"] * 3
    first, second = batches(server)
    assert first[1] == ["If-None-Match: *", 'If-Match: W/"41"', "If-None-Match: *"]
    assert second[1] == ["If-None-Match: *", 'If-Match: W/"42"', "If-None-Match: *"]
    assert (first[0], first[2]) == (second[0], second[2])


def test_a_row_that_keeps_changing(server, adapter, operations):
    server.script = [refusal(2), MISSING, queue_row(etag='W/"42"'), MISSING]
    server.script += [refusal(2), MISSING, queue_row(etag='W/"43"'), MISSING]
    with pytest.raises(ConflictError, match="keeps changing"):
        adapter.transact(operations)
    assert len(batches(server)) == 2


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([MISSING, queue_row(etag='W/"42"', wa_attempts=7), MISSING], ["2-queue", "wa_attempts"]),
        (
            [MISSING, queue_row(etag='W/"42"', wa_email="x", wa_donotcall=True), MISSING],
            ["wa_donotcall, wa_email"],
        ),
        ([MISSING, MISSING, MISSING], ["2-queue_status_update", "gone"]),
        ([activity(CALL, None), queue_row(), MISSING], ["1-phone_call", "not written by this operation"]),
        ([MISSING, queue_row(), activity(TASK, None)], ["3-task", "not written by this operation"]),
        (
            [activity(CALL, None), queue_row(etag='W/"42"', wa_attempts=7), activity(TASK, None)],
            ["1-phone_call", "2-queue", "3-task"],
        ),
    ],
)
def test_a_conflict_names_operations_and_columns_not_values(server, adapter, operations, rows, words):
    server.script = [refusal(2), *rows]
    with pytest.raises(ConflictError) as caught:
        adapter.transact(operations)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert not re.search("planted-(?!session)", message)
    assert len(batches(server)) == 1


@pytest.mark.parametrize("status", [400, 500])
def test_a_key_that_is_taken_is_a_conflict_however_it_is_refused(server, adapter, operations, status):
    """SAP CAP answers 400 or 500. An update that has changed meanwhile is not what was refused."""
    rows = [activity(CALL, None), queue_row(etag='W/"42"', wa_attempts=7), MISSING]
    server.script = [refusal(1, status), *rows]
    with pytest.raises(ConflictError) as caught:
        adapter.transact(operations)
    assert "1-phone_call_activity" in str(caught.value)
    assert "wa_attempts" not in str(caught.value)
    server.script = [refusal(2, status), MISSING, queue_row(etag='W/"42"', wa_attempts=7), MISSING]
    with pytest.raises((PermanentDataverseError, TransientDataverseError), match=str(status)):
        adapter.transact(operations)


def test_an_obstacle_that_is_gone_is_worth_another_attempt(server, adapter, operations):
    server.script = [refusal(1), MISSING, queue_row(), MISSING, written()]
    assert [receipt.outcome for receipt in adapter.transact(operations)] == ["applied"] * 3
    first, second = batches(server)
    assert first == second


@pytest.mark.parametrize("number", [None, 1, 3])
@pytest.mark.parametrize("code", ["", "0x80040237"])
def test_a_refusal_that_no_row_explains_twice_is_for_good(server, adapter, operations, number, code):
    nothing = [refusal(number, code=code), MISSING, queue_row(), MISSING]
    server.script = nothing * 2
    with pytest.raises(PermanentDataverseError, match="must be unique") as caught:
        adapter.transact(operations)
    assert len(batches(server)) == 2
    named = {None: "POST", 1: "operation 1-phone_call_activity: PATCH", 3: "operation 3-task: PATCH"}
    assert str(caught.value).startswith(named[number])


def test_a_lookup_that_points_to_nothing_is_no_conflict(server, adapter, operations):
    server.script = [refusal(1, 404, "0x80040217"), MISSING, queue_row(), MISSING]
    with pytest.raises(RowNotFound, match="operation 1-phone_call_activity: PATCH"):
        adapter.transact(operations)


@pytest.mark.parametrize("number", [3, None])
def test_a_refusal_names_its_operation_where_the_answer_tells(server, adapter, operations, number):
    server.script = [refusal(number, 500, "0x80040333"), MISSING, queue_row(), MISSING]
    with pytest.raises(PermanentDataverseError) as caught:
        adapter.transact(operations)
    assert str(caught.value).startswith("operation 3-task: PATCH" if number else "POST /api/data/v9.2/$batch")
    assert "duplicate" in str(caught.value)
    assert len(batches(server)) == 1


@pytest.mark.parametrize(
    ("answer", "applied"),
    [
        (CLOSE, Applied.UNKNOWN),
        (reply(200, b"<html>"), Applied.UNKNOWN),
        (refusal(1, 503), Applied.UNKNOWN),
        (refusal(1, 502, "0x80044150"), Applied.UNKNOWN),
        (reply(200, b"{}"), Applied.UNKNOWN),
    ],
)
def test_after_an_unknown_outcome_the_next_attempt_finds_out(server, adapter, operations, answer, applied):
    server.script = [answer]
    with pytest.raises(TransientDataverseError) as caught:
        adapter.transact(operations)
    assert caught.value.applied is applied
    assert reads(server) == []  # too early: it could still take effect
    server.script = [refusal(1), CALL_IS_OURS]
    assert {receipt.outcome for receipt in adapter.transact(operations)} == {"already_applied"}


def test_a_500_may_stand_for_a_key_that_is_taken(server, adapter, operations):
    """SAP CAP answers so, each time."""
    server.script = [refusal(1, 500), CALL_IS_OURS]
    assert {receipt.outcome for receipt in adapter.transact(operations)} == {"already_applied"}
    server.script = [refusal(1, 500), MISSING, queue_row(), MISSING]
    with pytest.raises(TransientDataverseError) as caught:
        adapter.transact(operations)
    assert (caught.value.status, caught.value.applied) == (500, Applied.UNKNOWN)


@pytest.mark.parametrize("position", range(3))
def test_a_read_back_that_fails_leaves_it_open(server, adapter, operations, position):
    server.script = [refusal(2), *[MISSING, queue_row(etag='W/"42"'), MISSING][:position], refused(503)]
    with pytest.raises(TransientDataverseError) as caught:
        adapter.transact(operations)
    assert caught.value.applied is Applied.UNKNOWN
    assert len(batches(server)) == 1


def test_a_read_back_that_is_forbidden_leaves_the_refusal(server, adapter, operations):
    server.script = [refusal(2, 400), refused(403)]
    with pytest.raises(PermanentDataverseError) as caught:
        adapter.transact(operations)
    assert caught.value.status == 400


@pytest.mark.parametrize("marker", [OURS, LATER])
def test_nothing_is_sent_again_after_artifacts_were_lost(server, adapter, marker):
    baseline = queue_row(marker, wa_status=100000003, wa_attempts=2)
    operations = planned(server, adapter, baseline, again=marker is LATER)
    server.script = [activity(CALL, subject="planted-call"), activity(TASK, subject="planted-task")]
    assert {receipt.outcome for receipt in adapter.transact(operations)} == {"already_applied"}
    assert batches(server) == []


def test_a_row_that_was_planned_with_other_content_is_a_conflict(server, adapter):
    operations = planned(server, adapter, queue_row(OURS, wa_status=100000003, wa_attempts=2))
    server.script = [activity(CALL, subject="planted-call"), activity(TASK, subject="planted-other")]
    with pytest.raises(ConflictError, match="with other content: subject") as caught:
        adapter.transact(operations)
    assert batches(server) == []
    assert "planted" not in str(caught.value)


def test_a_plan_without_a_time_believes_the_rows_that_it_finds(server, adapter):
    operations = planned(server, adapter, queue_row(OURS, wa_status=100000003, wa_attempts=2))
    bare = [
        item.model_copy(update={"precondition": None}) if item.replay is ReplayClass.CREATE_WITH_KEY else item
        for item in operations
    ]
    assert {receipt.outcome for receipt in adapter.transact(bare)} == {"already_applied"}
    assert server.requests == []


@pytest.mark.parametrize(("subject", "conflict"), [("planted-call", False), ("planted-other", True)])
def test_a_witness_that_is_older_than_the_plan(server, adapter, operations, subject, conflict):
    """Another store had a session of this id: its change set is there, and is not this plan's."""
    old = {"createdon": "2001-01-01T00:00:00Z", "operation": "1-phone_call_activity"}
    server.script = [
        refusal(1),
        activity(CALL, **old),
        activity(CALL, subject=subject, **old),
        activity(TASK, subject="planted-task"),
    ]
    if conflict:
        with pytest.raises(ConflictError, match="with other content: subject"):
            adapter.transact(operations)
    else:
        assert {receipt.outcome for receipt in adapter.transact(operations)} == {"already_applied"}
    assert len(batches(server)) == 1


def test_planned_again_with_other_content_is_a_conflict(server, adapter):
    operations = planned(server, adapter, queue_row(OURS, wa_status=100000003, wa_attempts=5))
    with pytest.raises(ConflictError, match="wa_attempts"):
        adapter.transact(operations)
    assert server.requests == []


def test_a_token_that_is_refused(server, adapter, operations):
    server.script = [refused(401)]
    with pytest.raises(NotReady):
        adapter.transact(operations)


@pytest.mark.parametrize("change", [{"entity_set": "accounts"}, {"row_id": QUEUE}, {"columns": {"a": 1}}])
def test_a_plan_that_was_tampered_with_is_not_sent(server, adapter, operations, change):
    bad = operations[0].model_copy(update={"payload": {**operations[0].payload, **change}})
    with pytest.raises(InvalidInput):
        adapter.transact([bad, *operations[1:]])
    assert server.requests == []


def test_every_order_of_the_same_operations(server, adapter, operations):
    """The order is the caller's; each row keeps its own condition."""
    kept = {
        "phonecalls": "If-None-Match: *",
        "wa_callqueues": 'If-Match: W/"41"',
        "tasks": "If-None-Match: *",
    }
    for order in itertools.permutations(operations):
        server.requests.clear()
        server.script = [written()]
        receipts = adapter.transact(order)
        [(tables, conditions, _)] = batches(server)
        assert conditions == [kept[table] for table in tables]
        assert [receipt.remote_id for receipt in receipts] == [
            operation.payload["row_id"] for operation in order
        ]
