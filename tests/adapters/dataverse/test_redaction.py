"""Planted secrets on every path of an error: none is in a message, repr, traceback or log."""

import json
import logging
import pickle
import traceback

import httpx
import pytest
from pydantic import SecretStr

from tests.support.scripted_server import CLOSE, RESET, cut, reply
from writeahead.adapters.dataverse import DataverseAdapter, DataverseClient, adapter_from_settings
from writeahead.adapters.dataverse.webapi.client import Part
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
        ],
        "planted-stored-value",
    ),
    "wa_lastsession": None,
    "wa_lastoperation": None,
    "wa_callqueueid": KEY,
    "activityid": KEY,
    "wa_sessionid": None,
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
    shown = [caplog.text]
    seen, ahead = [], [error]
    while ahead:
        found = ahead.pop()
        if found is None or any(found is known for known in seen):
            continue
        seen.append(found)
        ahead += [found.__cause__, found.__context__]
        notes = getattr(found, "__notes__", [])
        shown += [str(found), repr(found), repr(vars(found)), repr(found.args), *map(str, notes)]
        # What a client library's error holds without showing it.
        assert not hasattr(found, "request")
        assert not hasattr(found, "response")
        shown.append(repr(pickle.dumps(found)))
        # A traceback, without the lines of this file that it would quote.
        shown += traceback.format_exception_only(found)
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


def adapter_for(handle, readiness="off"):
    return DataverseAdapter(
        f"https://{HOST}", lambda: "planted-token", transport=httpx.MockTransport(handle), readiness=readiness
    )


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


@pytest.mark.parametrize("readiness", ["full", "off"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_planning(answer, readiness, caplog):
    operation = KeyedOperation(
        session_id="s", id="1-queue_status_update", kind="queue_status_update", key=KEY, payload=UPDATE
    )
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(ANSWERS[answer], readiness).plan([operation])
    clean(caught.value, caplog)


@pytest.mark.parametrize("answer", ANSWERS)
def test_signing_in(answer, caplog, monkeypatch):
    adapter = adapter_from_settings(environ=ENVIRON)
    adapter._client._endpoint.auth._source._transport = httpx.MockTransport(ANSWERS[answer])
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


BATCH_TYPE = {"Content-Type": "multipart/mixed; boundary=planted-remote-text"}


def part_answer(status, body):
    head = "Content-Type: application/http\r\nContent-ID: 1\r\n\r\n"
    inner = f"HTTP/1.1 {status} planted-remote-text\r\nX-Planted: planted-stored-value\r\n\r\n{body}"
    boundary = "--planted-remote-text"
    return answering(
        200, content=f"{boundary}\r\n{head}{inner}\r\n{boundary}--\r\n".encode(), headers=BATCH_TYPE
    )


BATCH_ANSWERS = {
    **ANSWERS,
    **{f"part {n}": part_answer(n, json.dumps(ERROR)) for n in (400, 404, 409, 412, 429, 500, 503)},
    "part without JSON": part_answer(400, "planted-remote-text"),
    "cut": answering(200, content=b"--planted-remote-text\r\n", headers=BATCH_TYPE),
}


@pytest.mark.parametrize("answer", BATCH_ANSWERS)
def test_transact(answer, caplog):
    with pytest.raises(WriteaheadError) as caught:
        adapter_for(BATCH_ANSWERS[answer]).transact([CREATE, CHANGE])
    clean(caught.value, caplog)


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_follows_a_transaction_that_was_refused(answer, caplog):
    refusal = part_answer(412, json.dumps(ERROR))

    def handle(request):
        return refusal(request) if request.method == "POST" else ANSWERS[answer](request)

    with pytest.raises(WriteaheadError) as caught:
        adapter_for(handle).transact([CREATE, CHANGE])
    clean(caught.value, caplog)


def test_a_conflict_of_a_transaction(caplog):
    refusal = part_answer(412, json.dumps(ERROR))

    def handle(request):
        return refusal(request) if request.method == "POST" else httpx.Response(200, json=ROW)

    with pytest.raises(WriteaheadError) as caught:
        adapter_for(handle).transact([CREATE, CHANGE])
    assert type(caught.value).__name__ == "ConflictError"
    clean(caught.value, caplog)


BY_KEY = {"wa_number": "planted-subject", "wa_email": "planted@example.com"}
REQUESTS = {
    "get_row": lambda client: client.get_row("tasks", KEY, ["subject"]),
    "get_row by key": lambda client: client.get_row("tasks", BY_KEY, ["subject"]),
    "query": lambda client: client.query("tasks", select=["subject"], where="a eq 'planted-notes'", top=1),
    "get_json": lambda client: client.get_json("/teams", {"$filter": "name eq 'planted-notes'"}),
    "patch": lambda client: client.patch("tasks", KEY, {"subject": "planted-subject"}, if_match='W/"1"'),
    "patch by key": lambda client: client.patch("tasks", BY_KEY, {"subject": "planted-subject"}),
    "post": lambda client: client.post("tasks", {"subject": "planted-subject"}),
    "change_set": lambda client: client.change_set(
        [Part("tasks", BY_KEY, {"subject": "planted-subject"}), Part("tasks", KEY, {"a": "planted-notes"})]
    ),
}


def client_for(handle):
    return DataverseClient(f"https://{HOST}", lambda: "planted-token", transport=httpx.MockTransport(handle))


@pytest.mark.parametrize("answer", BATCH_ANSWERS)
@pytest.mark.parametrize("request_", REQUESTS)
def test_every_request(answer, request_, caplog):
    client = client_for(BATCH_ANSWERS[answer])
    try:
        REQUESTS[request_](client)
    except WriteaheadError as error:
        clean(error, caplog)
    else:
        # Other JSON is an answer to this one, and no row to the other.
        assert (answer, request_) in {
            ("other JSON", "get_json"),
            ("status 404", "get_row"),
            ("status 404", "get_row by key"),
        }
    assert not [secret for secret in SECRETS if secret in caplog.text]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda client: client.get_row("planted-subject", KEY, ["subject"]),
        lambda client: client.get_row("tasks", "planted-subject", ["subject"]),
        lambda client: client.get_row("tasks", {"wa_number": "planted-subject/"}, ["subject"]),
        lambda client: client.get_row("tasks", {"planted-subject": "x"}, ["subject"]),
        lambda client: client.get_row("tasks", {"_a_value": "planted-subject"}, ["subject"]),
        lambda client: client.get_row("tasks", KEY, ["planted-subject"]),
        lambda client: client.get_json("/planted-subject"),
        lambda client: client.get_json("https://planted-host.crm.dynamics.com/"),
        lambda client: client.patch("tasks", KEY, {}, if_match="planted-subject"),
        lambda client: client.change_set([Part("tasks", KEY, {}, if_match="planted-subject")]),
    ],
    ids=range(10),
)
def test_what_can_not_be_sent(wrong, caplog):
    with pytest.raises(WriteaheadError) as caught:
        wrong(client_for(answering(204)))
    clean(caught.value, caplog)


def test_a_link_to_another_host(caplog):
    link = "https://planted-authority.example/teams?$skiptoken=planted-remote-text"
    with pytest.raises(WriteaheadError) as caught:
        client_for(answering(200, json={"value": [], "@odata.nextLink": link})).get_json("/teams")
    clean(caught.value, caplog)


@pytest.mark.parametrize("request_", REQUESTS)
def test_what_is_not_sent_for_the_limits(request_, caplog):
    client = client_for(answering(429, json=ERROR, headers={"Retry-After": "60"}))
    for _ in ("told to wait", "waiting"):
        with pytest.raises(WriteaheadError) as caught:
            REQUESTS[request_](client)
        clean(caught.value, caplog)
    assert "not sent" in str(caught.value)


def test_a_server_in_trouble_on_a_real_connection(server, caplog):
    """With the client library's own errors and logs, as they are."""
    for action in (RESET, CLOSE, b"planted-remote-text\r\n\r\n", cut(reply(200, {"a": 1}), 40)):
        server.script = [action] * 9
        adapter = DataverseAdapter(server.url, lambda: "planted-token", timeout=5, readiness="off")
        for request in REQUESTS.values():
            with pytest.raises(WriteaheadError) as caught:
                request(adapter._client)
            clean(caught.value, caplog)
            assert f":{server.port}" not in caplog.text + str(caught.value)
            server.script = [action] * 9
        adapter.close()


@pytest.mark.parametrize("answer", ["status 401", "status 503", "ConnectError"])
def test_a_caller_that_notes_and_chains(answer, caplog):
    """Nothing hangs on an error's frames that a reporter would show: no request, no token."""
    try:
        try:
            adapter_for(ANSWERS[answer]).emit(CREATE)
        except WriteaheadError as error:
            error.add_note("seen")
            raise RuntimeError("reported") from error
    except RuntimeError as reported:
        clean(reported, caplog)


def test_representations():
    adapter = adapter_from_settings(environ=ENVIRON)
    shown = repr(
        [adapter, adapter._client, adapter._client._endpoint.auth._source, SecretStr("planted-token")]
    )
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
    messages = [record.getMessage() for record in ours]
    # httpx before 0.28 says how it checks certificates.
    harmless = ("_simulator", "load_ssl_context verify=")
    assert [message for message in messages if not any(part in message for part in harmless)] == []
