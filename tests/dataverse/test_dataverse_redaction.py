"""Planted secrets through every path of an error: none may be in a message, a repr, a traceback or a log."""

import logging
import traceback

import httpx
import pytest
from pydantic import SecretStr

from writeahead.adapters.dataverse import DataverseAdapter, adapter_from_settings
from writeahead.errors import WriteaheadError
from writeahead.model import KeyedOperation, PlannedOperation, ReplayClass

HOST = "planted-host.crm.dynamics.com"
TENANT = "planted-tenant"
SECRETS = [
    HOST,
    "planted-host",
    TENANT,
    "planted-client-id",
    "planted-client-secret",
    "planted-token",
    "planted-authority",
    "planted-subject",
    "planted@example.com",
    "planted-notes",
    "planted-remote-text",
    "planted-stored-value",
    "%24select",
]
KEY = "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11"
ENVIRON = {
    "DATAVERSE_URL": f"https://{HOST}",
    "DATAVERSE_TENANT_ID": TENANT,
    "DATAVERSE_CLIENT_ID": "planted-client-id",
    "DATAVERSE_CLIENT_SECRET": "planted-client-secret",
    "DATAVERSE_AUTHORITY": "https://planted-authority.example",
}
ERROR = {"error": {"code": "planted-remote-text", "message": "planted-remote-text"}}
ROW = {
    "@odata.etag": 'W/"1"',
    **dict.fromkeys(
        [
            "statecode",
            "wa_status",
            "wa_attempts",
            "wa_nextattempton",
            "wa_donotcall",
            "wa_email",
            "wa_lastsession",
        ],
        "planted-stored-value",
    ),
    "wa_lastoperation": None,
    "wa_callqueueid": KEY,
    "activityid": KEY,
    "wa_sessionid": "planted-stored-value",
    "wa_operationid": "planted-stored-value",
}
TASK = {"subject": "planted-subject", "email": "planted@example.com"}
UPDATE = {"row_id": KEY, "status": "blocked", "notes": "planted-notes"}


def raising(error):
    def handle(request):
        raise error("planted-remote-text", request=request)

    return handle


def answering(status, **kwargs):
    return lambda request: httpx.Response(status, **kwargs)


ANSWERS = {
    **{
        f"status {n}": answering(n, json=ERROR)
        for n in (302, 400, 401, 403, 404, 408, 412, 429, 500, 501, 503)
    },
    "no JSON": answering(200, content=b"planted-remote-text"),
    "other JSON": answering(200, json={"planted-remote-text": 1}),
    "duplicate": answering(500, json={"error": {"code": "0x80040333", "message": "planted-remote-text"}}),
    **{
        error.__name__: raising(error)
        for error in (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.ReadTimeout,
            httpx.ReadError,
            httpx.WriteError,
            httpx.RemoteProtocolError,
            httpx.LocalProtocolError,
            httpx.DecodingError,
            httpx.ProxyError,
        )
    },
}


def clean(error, caplog):
    """Assert that nothing that could be shown of an error holds a secret."""
    shown = [str(error), repr(error), "".join(traceback.format_exception(error)), caplog.text]
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        shown += [repr(vars(error)), repr(error.args)]
        error = error.__cause__ or error.__context__
    # A traceback quotes this file's lines, which hold no secret but name some.
    text = "\n".join(shown)
    for secret in SECRETS:
        assert secret not in text, secret


def planned(kind, columns, *, precondition=None):
    update = kind == "queue_status_update"
    return PlannedOperation(
        id=f"1-{kind}",
        kind=kind,
        key=KEY,
        payload={"entity_set": "wa_callqueues" if update else "tasks", "row_id": KEY, "columns": columns},
        precondition=precondition,
        replay=ReplayClass.CONDITIONAL_UPDATE if update else ReplayClass.CREATE_WITH_KEY,
    )


CREATE = planned(
    "task",
    {
        "subject": "planted-subject",
        "wa_email": "planted@example.com",
        "wa_sessionid": "s",
        "wa_operationid": "1-task",
    },
)
CHANGE = planned(
    "queue_status_update",
    {
        "wa_status": 100000006,
        "wa_notes": "planted-notes",
        "wa_lastsession": "s",
        "wa_lastoperation": "1-queue_status_update",
    },
    precondition={
        "etag": 'W/"1"',
        "guarded": {
            name: "planted-stored-value" if name != "wa_status" else 3
            for name in ROW
            if name.startswith(("wa_", "state"))
            and name not in ("wa_callqueueid", "wa_sessionid", "wa_operationid")
        },
        "later": [],
    },
)


@pytest.fixture(autouse=True)
def all_logs(caplog):
    caplog.set_level(logging.DEBUG)


def adapter_for(handle):
    return DataverseAdapter(f"https://{HOST}", lambda: "planted-token", transport=httpx.MockTransport(handle))


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("operation", [CREATE, CHANGE], ids=["create", "update"])
def test_emit(answer, operation, caplog):
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(ANSWERS[answer]).emit(operation)
    clean(caught.value, caplog)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("operation", [CREATE, CHANGE], ids=["create", "update"])
def test_read_back(answer, operation, caplog):
    def handle(request):
        return httpx.Response(412, json=ERROR) if request.method == "PATCH" else ANSWERS[answer](request)

    with pytest.raises(WriteaheadError) as caught:
        adapter_for(handle).emit(operation)
    clean(caught.value, caplog)


@pytest.mark.parametrize("operation", [CREATE, CHANGE], ids=["create", "update"])
def test_conflicts(operation, caplog):
    def handle(request):
        return httpx.Response(412, json=ERROR) if request.method == "PATCH" else httpx.Response(200, json=ROW)

    with pytest.raises(WriteaheadError) as caught:
        adapter_for(handle).emit(operation)
    assert type(caught.value).__name__ == "ConflictError"
    clean(caught.value, caplog)


@pytest.mark.parametrize("answer", ANSWERS)
def test_planning(answer, caplog):
    operation = KeyedOperation(
        session_id="s", id="1-queue_status_update", kind="queue_status_update", key=KEY, payload=UPDATE
    )
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(ANSWERS[answer]).plan([operation])
    clean(caught.value, caplog)


@pytest.mark.parametrize("answer", ANSWERS)
def test_signing_in(answer, caplog, monkeypatch):
    adapter = adapter_from_settings(environ=ENVIRON)
    adapter._client._wire._token._transport = httpx.MockTransport(ANSWERS[answer])
    operation = KeyedOperation(session_id="s", id="1-task", kind="task", key=KEY, payload=TASK)
    with pytest.raises(WriteaheadError) as caught:
        adapter.plan([operation])
    clean(caught.value, caplog)


@pytest.mark.parametrize(
    "payload",
    [
        {**TASK, "subject": ["planted-subject"]},
        {**TASK, "email": "planted-subject"},
        {**TASK, "due": "planted-subject"},
        {**TASK, "reason_code": "planted_subject"},
        {**TASK, "priority": "planted-subject"},
        {**TASK, "regarding": {"type": "contact", "id": "planted-subject"}},
        {**TASK, "regarding": "planted-subject"},
    ],
)
def test_wrong_payloads(payload, caplog):
    operation = KeyedOperation(session_id="s", id="1-task", kind="task", key=KEY, payload=payload)
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(answering(204)).plan([operation])
    clean(caught.value, caplog)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"DATAVERSE_URL": "http://planted-host.crm.dynamics.com"},
        {"DATAVERSE_URL": "https://planted-client-id:planted-client-secret@planted-host.crm.dynamics.com"},
        {"DATAVERSE_TENANT_ID": "planted-tenant/planted-subject"},
        {"DATAVERSE_AUTHORITY": "http://planted-authority.example"},
        {"DATAVERSE_TIMEOUT": "planted-notes"},
        {"DATAVERSE_CLIENT_SECRET": ""},
    ],
)
def test_wrong_settings(change, caplog):
    def start():
        adapter_from_settings(environ={**ENVIRON, **change}).plan([])

    with pytest.raises(WriteaheadError) as caught:
        start()
    clean(caught.value, caplog)


def test_representations():
    adapter = adapter_from_settings(environ=ENVIRON)
    shown = repr([adapter, adapter._client, adapter._client._wire._token, SecretStr("planted-token")])
    assert not [secret for secret in SECRETS if secret in shown]


def test_a_successful_write_is_not_logged_either(caplog):
    adapter_for(answering(204)).emit(CREATE)
    assert not [secret for secret in SECRETS if secret in caplog.text]


def test_nothing_of_it_is_logged_on_a_real_connection(sim, adapter, caplog):
    operation = KeyedOperation(session_id="s", id="1-task", kind="task", key=KEY, payload=TASK)
    [ready] = adapter.plan([operation])
    adapter.emit(ready)
    assert sim.count("tasks") == 1
    ours = [
        record for record in caplog.records if record.name.startswith(("httpx", "httpcore", "writeahead."))
    ]
    assert [record.getMessage() for record in ours if "_simulator" not in record.getMessage()] == []
