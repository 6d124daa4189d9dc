"""Each fault on the socket, and its effect on the rows. The client here is a bare socket."""

import email.utils
import json
import math
import socket
import threading
import time

import httpx
import pytest

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse import Fault

ROW = "11111111-2222-4333-8444-555555555555"
TOKEN = "token-of-the-tests"


def request_bytes(method, path, body):
    head = (
        f"{method} /api/data/v9.2/{path} HTTP/1.1\r\nHost: simulator\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return (head + body).encode()


def exchange(sim, method="PATCH", path=f"tasks({ROW})", body='{"subject":"x"}'):
    """Send one request; return all bytes received, and the end: 'closed' or 'reset'."""
    received = b""
    with socket.create_connection(("127.0.0.1", sim.port), timeout=30) as connection:
        connection.sendall(request_bytes(method, path, body))
        try:
            while chunk := connection.recv(65_536):
                received += chunk
        except ConnectionResetError:
            return received, "reset"
    return received, "closed"


def parsed(raw):
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def logged(sim):
    return [(request.fault, request.status, request.applied) for request in sim.requests()]


def test_without_a_fault(sim):
    raw, end = exchange(sim)
    assert (parsed(raw)[0], end) == (204, "closed")
    assert logged(sim) == [(None, 204, True)]
    assert sim.count("tasks") == 1


@pytest.mark.parametrize("status", [400, 408, 500, 503])
def test_status_before_applying_n_times(sim, status):
    sim.faults.add("status", status=status, times=2, code="0x80040333", message="no")
    for _ in range(2):
        found, _, body = parsed(exchange(sim)[0])
        assert found == status
        assert json.loads(body) == {"error": {"code": "0x80040333", "message": "no"}}
        assert sim.count("tasks") == 0
    assert parsed(exchange(sim)[0])[0] == 204
    assert sim.count("tasks") == 1
    assert logged(sim) == [(f"status {status}", status, False)] * 2 + [(None, 204, True)]


def test_an_environment_in_administration_mode(sim):
    """Refused until an administrator opens it again: here, until the faults are cleared."""
    control = f"{sim.url}/_simulator/faults"
    fault = {"action": "status", "status": 403, "code": "0x8004a113", "times": None}
    assert httpx.post(control, json=fault).status_code == 201
    for _ in range(3):
        status, _, body = parsed(exchange(sim)[0])
        assert (status, json.loads(body)["error"]["code"]) == (403, "0x8004a113")
    assert sim.count("tasks") == 0
    httpx.delete(control)
    assert parsed(exchange(sim)[0])[0] == 204


def test_status_after_applying(sim):
    sim.faults.add("status", status=500, apply=True)
    assert parsed(exchange(sim)[0])[0] == 500
    assert sim.count("tasks") == 1
    assert logged(sim) == [("status 500 after applying", 500, True)]


@pytest.mark.parametrize(("action", "end"), [("drop", "closed"), ("reset", "reset")])
@pytest.mark.parametrize("apply", [False, True])
def test_no_reply(sim, action, end, apply):
    sim.faults.add(action, apply=apply)
    assert exchange(sim) == (b"", end)
    assert sim.count("tasks") == int(apply)
    assert logged(sim) == [(f"{action} after applying" if apply else action, None, apply)]
    assert parsed(exchange(sim)[0])[0] == 204


@pytest.mark.parametrize("seconds", [0, 7, 2.2])
def test_retry_after_in_seconds(sim, seconds):
    sim.faults.add("status", status=429, retry_after=seconds)
    status, headers, body = parsed(exchange(sim)[0])
    assert (status, headers["retry-after"]) == (429, str(math.ceil(seconds)))
    assert json.loads(body)["error"]["code"] == "0x80072322"
    assert sim.count("tasks") == 0


def test_retry_after_as_a_date(sim):
    sim.faults.add("status", status=429, retry_after=30, retry_after_as="date")
    before = time.time()
    _, headers, _ = parsed(exchange(sim)[0])
    until = email.utils.parsedate_to_datetime(headers["retry-after"])
    assert headers["retry-after"].endswith(" GMT")
    # Never less than was asked for, and less than a second more than it took.
    assert before + 30 <= until.timestamp() <= time.time() + 31


@pytest.mark.parametrize("apply", [None, False])
def test_reply_cut_mid_body(sim, apply):
    sim.faults.add("cut", apply=apply)
    raw, end = exchange(sim)
    status, headers, body = parsed(raw)
    assert (status, end) == (200, "closed")
    assert 0 < len(body) < int(headers["content-length"])
    assert sim.count("tasks") == (0 if apply is False else 1)


def test_reply_with_a_body_of_its_own_is_cut_in_the_middle(sim):
    sim.seed("tasks", {"activityid": ROW, "subject": "x"})
    sim.faults.add("cut", method="GET")
    status, headers, body = parsed(exchange(sim, "GET", body="")[0])
    assert status == 200
    assert body.startswith(b'{"@odata.context"')
    assert len(body) == int(headers["content-length"]) // 2


@pytest.mark.parametrize("apply", [None, False])
def test_body_that_is_not_json(sim, apply):
    sim.faults.add("not_json", apply=apply, status=502)
    status, headers, body = parsed(exchange(sim)[0])
    assert (status, headers["content-type"]) == (502, "text/html")
    assert body.startswith(b"<!DOCTYPE html>")
    assert sim.count("tasks") == (0 if apply is False else 1)


def test_body_of_the_wrong_schema(sim):
    sim.seed("tasks", {"activityid": ROW})
    sim.faults.add("wrong_schema", method="GET")
    status, headers, body = parsed(exchange(sim, "GET", body="")[0])
    assert (status, headers["content-type"]) == (200, "application/json; odata.metadata=minimal")
    assert not {"value", "activityid", "@odata.etag"} & set(json.loads(body))


def test_delay_after_applying(sim):
    """The client gives up before the reply, and the row is there."""
    sim.faults.add("delay", delay_after=600)
    with socket.create_connection(("127.0.0.1", sim.port), timeout=30) as client:
        client.sendall(request_bytes("PATCH", f"tasks({ROW})", "{}"))
        while not sim.requests(applied=True):
            time.sleep(0.001)
        (request,) = sim.requests()
        assert (request.status, request.answered_at) == (None, None)
    assert sim.count("tasks") == 1


def test_delay_before_applying_ends_with_the_simulator(sim):
    """A request that still waits when the simulator stops was never applied, and gets no reply."""
    sim.faults.add("delay", delay_before=600)
    results = []
    client = threading.Thread(target=lambda: results.append(exchange(sim)))
    client.start()
    while not sim.requests():
        time.sleep(0.001)
    sim.stop()
    client.join()
    assert results == [(b"", "closed")]
    assert sim.count("tasks") == 0
    assert logged(sim) == [("delay", None, False)]


def test_delay_is_real_and_the_reply_is_right(sim):
    sim.faults.add("delay", delay_before=0.05, delay_after=0.05)
    assert parsed(exchange(sim)[0])[0] == 204
    (request,) = sim.requests()
    assert request.applied_at - request.received_at >= 0.05
    assert request.answered_at - request.applied_at >= 0.05


def test_others_are_answered_while_one_is_delayed(sim):
    sim.faults.add("delay", path="tasks(*", delay_before=600)
    client = threading.Thread(target=exchange, args=(sim,))
    client.start()
    while not sim.requests():
        time.sleep(0.001)
    assert parsed(exchange(sim, "POST", "phonecalls", "{}")[0])[0] == 204
    sim.stop()
    client.join()


def test_for_ever(sim):
    number = sim.faults.add("status", status=503, times=None)
    assert [parsed(exchange(sim)[0])[0] for _ in range(20)] == [503] * 20
    assert sim.faults.remove(number)
    assert not sim.faults.remove(number)
    assert parsed(exchange(sim)[0])[0] == 204


def test_the_nth_match_only(sim):
    sim.faults.add("status", status=503, skip=2, times=1)
    assert [parsed(exchange(sim)[0])[0] for _ in range(4)] == [204, 204, 503, 204]


def test_several_faults_in_a_row(sim):
    sim.faults.add("status", status=503)
    sim.faults.add("drop", apply=True)
    sim.faults.add("status", status=429)
    ends = [exchange(sim)[0] for _ in range(4)]
    assert [parsed(raw)[0] if raw else None for raw in ends] == [503, None, 429, 204]


@pytest.mark.parametrize(
    ("method", "path", "met"),
    [
        ("*", "*", True),
        ("PATCH", "tasks(*)", True),
        ("PATCH", f"tasks({ROW})", True),
        ("*", "/api/data/v9.2/tasks*", True),
        ("POST", "tasks(*)", False),
        ("*", "tasks", False),
        ("*", "phonecalls*", False),
        ("*", "/*/token", False),
    ],
)
def test_which_requests_are_met(sim, method, path, met):
    sim.faults.add("status", method=method, path=path)
    assert parsed(exchange(sim)[0])[0] == (503 if met else 204)


def test_the_token_endpoint_can_be_met(sim):
    sim.faults.add("not_json", path="/*/oauth2/v2.0/token", status=502)
    reply = httpx.post(sim.token_url, data={"grant_type": "client_credentials"})
    assert (reply.status_code, reply.headers["content-type"]) == (502, "text/html")


def test_programmed_over_http(sim):
    control = f"{sim.url}/_simulator/faults"
    created = httpx.post(control, json={"action": "status", "status": 503, "path": "tasks*", "times": 2})
    assert (created.status_code, created.json()) == (201, {"number": 1})
    assert parsed(exchange(sim)[0])[0] == 503
    (pending,) = httpx.get(control).json()
    assert (pending["number"], pending["action"], pending["times"]) == (1, "status", 1)
    assert httpx.delete(control).json() == []
    assert parsed(exchange(sim)[0])[0] == 204
    assert len(sim.requests()) == 2  # the control path is no part of the log


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": "explode"}, "unknown action 'explode': give one of status, drop"),
        ({"action": "status", "tims": 3}, "tims"),
        ({"action": "status", "times": 0}, "times is 0"),
        ({"action": "status", "skip": -1}, "can't be negative"),
        ({"action": "status", "retry_after_as": "moon"}, "'seconds' or 'date'"),
        ({"action": "delay"}, "delay_before or delay_after"),
        ({"action": "delay", "delay_before": 1, "apply": False}, "always applied"),
        ({}, "action"),
        ([], "JSON object"),
        ("x", "JSON object"),
        ({"action": "status", "times": "many"}, "times"),
        ({"action": "status", "status": 99}, "status is 99"),
    ],
)
def test_fault_that_makes_no_sense(sim, fields, message):
    with pytest.raises(InvalidInput, match=r"^fault: ") as raised:
        Fault.from_json(fields)
    assert message in str(raised.value)
    reply = httpx.post(f"{sim.url}/_simulator/faults", json=fields)
    assert (reply.status_code, reply.json()["error"]) == (400, str(raised.value))
    assert sim.faults.pending() == []


def test_control_body_that_is_not_json(sim):
    reply = httpx.post(f"{sim.url}/_simulator/faults", content=b"{")
    assert (reply.status_code, reply.json()) == (400, {"error": "fault: the body is not JSON"})
