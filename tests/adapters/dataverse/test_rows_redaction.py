"""Planted contents of records: no error of an operation on any table repeats a value."""

import logging

import httpx
import pytest

from tests.adapters.dataverse.test_redaction import ANSWERS, ERROR, HOST, KEY, answering, clean
from tests.support.dataverse_rows import DEFAULT, TABLES
from writeahead.adapters.dataverse import DataverseAdapter, load_mapping
from writeahead.errors import ConflictError, InvalidInput, WriteaheadError
from writeahead.model import KeyedOperation, PlannedOperation, ReplayClass, idempotency_key

STORED = {
    "@odata.etag": 'W/"2"',
    "contactid": KEY,
    "wa_callqueueid": KEY,
    "activityid": KEY,
    **dict.fromkeys(
        [
            "lastname",
            "description",
            "donotphone",
            "telephone1",
            "_parentcustomerid_value",
            "wa_notes",
            "wa_email",
            "wa_donotcall",
            "subject",
        ],
        "planted-stored-value",
    ),
    "statecode": 2,
    "statuscode": 3,
    "wa_lastsession": "planted-stored-value",
    "wa_lastoperation": "planted-stored-value",
    "wa_sessionid": "planted-stored-value",
    "wa_operationid": "planted-stored-value",
}
MARK = {"wa_lastsession": "s", "wa_lastoperation": "1-upsert_row"}


def planned(kind, replay, place, columns, precondition=None, **address):
    table, entity_set = place
    payload = {"entity_set": entity_set, "columns": columns, "table": table, **(address or {"row_id": KEY})}
    return PlannedOperation(
        id=f"1-{kind}", kind=kind, key=KEY, payload=payload, precondition=precondition, replay=replay
    )


GUARDED = {
    "donotphone": None,
    "telephone1": "planted-notes",
    "_parentcustomerid_value": None,
    "lastname": "planted-notes",
}
OPERATIONS = [
    planned(
        "update_row",
        ReplayClass.CONDITIONAL_UPDATE,
        ("tables.contact", "contacts"),
        {"lastname": "planted-subject"},
        {"etag": 'W/"1"', "guarded": GUARDED},
    ),
    planned(
        "upsert_row",
        ReplayClass.UPSERT,
        ("tables.row", "wa_callqueues"),
        {"wa_notes": "planted-notes", **MARK},
        {"guarded": {}, "absent": True},
        key={"wa_externalid": "planted-subject"},
    ),
    planned(
        "complete_activity",
        ReplayClass.CONDITIONAL_UPDATE,
        ("kinds.task", "tasks"),
        {"statecode": 1, "wa_sessionid": "s", "wa_operationid": "1-complete_activity"},
        {
            "guarded": {
                "subject": "planted-subject",
                "statecode": 0,
                "wa_sessionid": "s",
                "wa_operationid": "1-task",
            }
        },
    ),
]
PLAIN = [
    planned(
        "create_row",
        ReplayClass.CREATE_WITH_KEY,
        ("tables.contact", "contacts"),
        {"lastname": "planted-subject"},
    ),
    planned(
        "upsert_row",
        ReplayClass.UPSERT,
        ("tables.account", "accounts"),
        {"name": "planted-subject"},
        key={"accountnumber": "planted-subject"},
    ),
]


@pytest.fixture(autouse=True)
def all_logs(caplog):
    caplog.set_level(logging.DEBUG)


@pytest.fixture(scope="module")
def mapping(tmp_path_factory):
    path = tmp_path_factory.mktemp("mapping") / "mine.toml"
    path.write_text(DEFAULT + TABLES)
    return load_mapping(path)


@pytest.fixture
def adapter_for(mapping):
    return lambda handle: DataverseAdapter(
        f"https://{HOST}",
        lambda: "planted-token",
        transport=httpx.MockTransport(handle),
        mapping=mapping,
        readiness="off",
    )


def kind(operation):
    return operation.kind


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("operation", [*OPERATIONS, *PLAIN], ids=kind)
def test_emit(adapter_for, answer, operation, caplog):
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(ANSWERS[answer]).emit(operation)
    clean(caught.value, caplog)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("operation", [OPERATIONS[0], OPERATIONS[1], PLAIN[0]], ids=kind)
def test_read_back(adapter_for, answer, operation, caplog):
    def handle(request):
        return httpx.Response(412, json=ERROR) if request.method == "PATCH" else ANSWERS[answer](request)

    with pytest.raises(WriteaheadError) as caught:
        adapter_for(handle).emit(operation)
    clean(caught.value, caplog)


@pytest.mark.parametrize("operation", OPERATIONS, ids=kind)
def test_conflicts(adapter_for, operation, caplog):
    def handle(request):
        return (
            httpx.Response(412, json=ERROR) if request.method == "PATCH" else httpx.Response(200, json=STORED)
        )

    with pytest.raises(ConflictError) as caught:
        adapter_for(handle).emit(operation)
    clean(caught.value, caplog)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("create_row", {"table": "contact", "columns": {"lastname": ["planted-subject"]}}),
        (
            "create_row",
            {"table": "contact", "columns": {"lastname": {"id": "planted-subject", "table": "x"}}},
        ),
        ("create_row", {"table": "planted subject", "columns": {"lastname": "planted-subject"}}),
        ("create_row", {"table": "contact", "columns": {"other": "planted-subject"}}),
        ("update_row", {"table": "contact", "row_id": "planted-subject", "columns": {"lastname": "x"}}),
        ("update_row", {"table": "account", "key": {"name": "planted-subject"}, "columns": {"name": "x"}}),
        (
            "update_row",
            {"table": "account", "key": {"accountnumber": "planted-subject/"}, "columns": {"name": "x"}},
        ),
        (
            "upsert_row",
            {"table": "account", "key": {"accountnumber": None}, "columns": {"name": "planted-subject"}},
        ),
        ("complete_activity", {"table": "task", "row_id": KEY, "state": "planted-subject"}),
        ("complete_activity", {"table": "task", "row_id": KEY, "state": "planted_label"}),
    ],
)
def test_planning(adapter_for, kind, payload, caplog):
    operation = KeyedOperation(
        session_id="s", id="1", kind=kind, key=idempotency_key("s", "1"), payload=payload
    )
    with pytest.raises(InvalidInput) as caught:
        adapter_for(answering(404, json=ERROR)).plan([operation])
    clean(caught.value, caplog)
    assert "planted_label" not in str(caught.value)
