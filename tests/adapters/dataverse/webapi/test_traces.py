"""How a refusal is found in the service's logs, and the service's words if they are asked for."""

import pickle
import re

import httpx
import pytest

from tests.adapters.dataverse.webapi.test_batch import batch, error, part
from tests.support.dataverse_backdoor import environ_of
from tests.support.scripted_server import CLOSE, TOKEN, refused, reply
from writeahead import Operation, RunPolicy, open_store, write_back
from writeahead.adapters.dataverse import DataverseClient, adapter_from_settings
from writeahead.adapters.dataverse.webapi.client import Part
from writeahead.errors import InvalidInput, NotReady, PermanentError, TransientError
from writeahead.model import RunStatus

ROW = "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11"
ID, OTHER = "8fd35fd6-5329-4bd5-a1b7-757f91822322", "11111111-2222-4333-8444-555555555555"
GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
ONCE = RunPolicy(attempts=1)


def patch(client):
    return client.patch("tasks", ROW, {"subject": "x"})


def change_set(client):
    return client.change_set([Part("tasks", ROW, {"subject": "x"}, create_only=True)])


def failure(client, action=patch):
    with pytest.raises((TransientError, PermanentError, NotReady)) as caught:
        action(client)
    return caught.value


def client_of(headers, status=400, service_text=False, body=None):
    content = {"error": {"code": "", "message": "m"}} if body is None else body

    def answer(request):
        return httpx.Response(status, headers=headers, json=content)

    return DataverseClient(
        "https://host.example",
        lambda: "t",
        transport=httpx.MockTransport(answer),
        service_text=service_text,
    )


# ---- ids


@pytest.mark.parametrize(
    "headers",
    [
        [("REQ_ID", ID)],
        [("req_id", ID.upper())],
        [("x-ms-service-request-id", ID)],
        [("x-ms-service-request-id", OTHER), ("x-ms-service-request-id", ID)],
        [("x-ms-service-request-id", f"{OTHER}, {ID}")],
        [("x-ms-service-request-id", OTHER), ("REQ_ID", f" {ID} ")],
        [("x-ms-service-request-id", ID), ("REQ_ID", "planted 7")],
    ],
)
def test_the_services_id_is_in_the_error(headers):
    caught = failure(client_of(headers))
    assert caught.trace.request_id == ID
    assert str(caught).endswith(f": HTTP 400, request id {ID}")
    assert str(pickle.loads(pickle.dumps(caught))) == str(caught)
    assert OTHER not in str(caught)


@pytest.mark.parametrize(
    "value", ["planted", f"{ID}0", f"{{{ID}}}", f"{ID} planted", f"{ID}, planted", ID.replace("-", ""), ""]
)
def test_what_is_no_guid_is_dropped(value):
    caught = failure(client_of([("REQ_ID", value), ("x-ms-service-request-id", value)]))
    assert caught.trace.request_id == ""
    assert "planted" not in str(caught) + repr(vars(caught))


def test_each_request_has_an_id_of_ours_and_an_unanswered_one_is_told_by_it(server, client):
    server.script = [CLOSE, refused(503), reply(204)]
    unanswered, unnamed = failure(client), failure(client)
    patch(client)
    sent = [request.headers["x-ms-client-request-id"] for request in server.requests]
    assert str(unanswered).endswith(f": RemoteProtocolError, client request id {sent[0]}")
    assert str(unnamed).endswith(f": HTTP 503, client request id {sent[1]}")
    assert len({*sent, ID}) == 4


@pytest.mark.parametrize("number", [1, None])
def test_a_part_of_a_batch_is_told_by_the_id_of_the_batch(server, client, number):
    answer = batch([part(400, error("0x80040265"), number=number, X_MS_Service_Request_Id=OTHER)])
    server.script = [answer.replace(b"\r\n", f"\r\nx-ms-service-request-id: {ID}\r\n".encode(), 1)]
    caught = failure(client, change_set)
    assert caught.part == (0 if number else None)
    assert str(caught).endswith(f"refused it, request id {ID}")


def test_a_body_that_can_t_be_read_is_told_by_its_id(server, client):
    server.script = [reply(200, b"<html>", x_ms_service_request_id=ID)]
    assert str(failure(client)).endswith(f"request id {ID}")


def test_a_token_that_is_refused(server, client):
    server.script = [reply(401, b"", x_ms_service_request_id=ID)]
    caught = failure(client)
    assert type(caught) is NotReady
    assert ID in str(caught)


def test_it_is_in_the_report_and_the_journal(sim, adapter, tmp_path):
    sim.faults.add("status", method="PATCH", status=403, code="0x80040220", message="planted-message")
    store = open_store(str(tmp_path / "artifacts"))
    task = Operation(kind="task", payload={"subject": "x"})
    report = write_back([task], session_id="s1", store=store, adapter=adapter, policy=ONCE)
    [request] = sim.requests(method="PATCH")
    assert f"HTTP 403, 0x80040220, the application lacks a privilege, request id {request.request_id}" in (
        report.error
    )
    kept = b"".join(path.read_bytes() for path in (tmp_path / "artifacts").rglob("*") if path.is_file())
    assert request.request_id.encode() in kept
    assert b"planted-message" not in kept


def test_a_sign_in_that_is_refused_has_entras_ids(sim):
    environ = {**environ_of(sim), "DATAVERSE_CLIENT_SECRET": "planted-secret"}
    with adapter_from_settings(environ=environ) as adapter, pytest.raises(NotReady) as caught:
        adapter.plan([])
    assert re.search(rf"AADSTS7000215, trace_id {GUID}, correlation_id {GUID}\)", str(caught.value))
    assert "planted" not in str(caught.value)


# ---- the service's own words


TEXT = 'Plug-in says: "planted-value"\r\n  of\u202e Ada\x00 ' + "x" * 400


def test_the_words_are_left_out_unless_they_are_asked_for():
    body = {"error": {"code": "0x80040265", "message": TEXT}}
    assert "planted" not in str(failure(client_of([], body=body)))
    caught = failure(client_of([("REQ_ID", ID)], body=body, service_text=True))
    said = str(caught)
    assert "which may hold data of records" in said
    assert 'Plug-in says: "planted-value" of Ada x' in said
    assert said.isprintable()
    assert len(caught.trace.text) == 300
    assert caught.trace.text.endswith("x...")
    assert said.index(ID) < said.index("planted")


@pytest.mark.parametrize("body", [{"error": {"code": "", "message": 7}}, {"error": 1}, [], {"message": "m"}])
def test_a_body_without_words_says_none(body):
    assert "words" not in str(failure(client_of([], body=body, service_text=True)))


def test_the_words_of_a_part_are_shown_too(server):
    server.script = [batch([part(400, error("0x80040265", "planted"), number=1)])]
    client = DataverseClient(server.url, lambda: TOKEN, timeout=5, service_text=True)
    assert "'planted'" in str(failure(client, change_set))
    client.close()


@pytest.mark.parametrize(("value", "shown"), [("true", True), ("1", True), ("false", False), (None, False)])
def test_the_setting(sim, tmp_path, value, shown):
    sim.faults.add("status", method="PATCH", status=400, code="0x80040265", message="their words")
    environ = {**environ_of(sim), **({"DATAVERSE_SERVICE_TEXT": value} if value else {})}
    task = Operation(kind="task", payload={"subject": "x"})
    with adapter_from_settings(environ=environ) as adapter:
        report = write_back(
            [task], session_id="s1", store=open_store(str(tmp_path / "a")), adapter=adapter, policy=ONCE
        )
    assert report.status is RunStatus.BLOCKED
    assert ("their words" in report.error) is shown


def test_a_setting_that_can_t_be_used():
    with pytest.raises(InvalidInput, match="DATAVERSE_SERVICE_TEXT must be true or false"):
        adapter_from_settings(environ={"DATAVERSE_SERVICE_TEXT": "planted"})
