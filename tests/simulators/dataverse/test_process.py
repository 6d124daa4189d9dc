"""Start, stop, kill: the log and the rows outlive the process, and nothing is left behind."""

import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

import httpx
import pytest

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse import Settings, Simulator, SimulatorDatabase
from writeahead.simulators.dataverse.requestlog import RequestLog

TOKEN = "token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
SERVER = f"""
import sys
from writeahead.simulators.dataverse import Settings, serve
serve(sys.argv[1], int(sys.argv[2]), settings=Settings(static_tokens=[{TOKEN!r}]),
      on_ready=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


class Process:
    """`serve` in a process of its own, which is killed at the end if it still runs."""

    def __init__(self, path: Path, port: int = 0) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVER, path, str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = self.popen.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()

    def end(self, number: int) -> tuple[int, str, str]:
        self.popen.send_signal(number)
        out, err = self.popen.communicate(timeout=60)
        return self.popen.returncode, out, err

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def create(self, subject: str) -> httpx.Response:
        payload = {"subject": subject}
        return httpx.post(f"{self.url}/api/data/v9.2/tasks", json=payload, headers=HEADERS)


def test_killed_and_started_again(tmp_path):
    """What was answered before a kill is there after it; versions and numbers go on."""
    path = tmp_path / "crm.sqlite"
    truth = SimulatorDatabase(path)
    with Process(path) as first:
        for number in range(20):
            assert first.create(f"{number}").status_code == 204
        assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
        before = truth.rows("tasks")
        assert [row["subject"] for row in before] == [f"{number}" for number in range(20)]
    with Process(path, first.port) as second:
        assert second.port == first.port
        assert second.create("after").status_code == 204
        read = httpx.get(f"{second.url}/api/data/v9.2/tasks", headers=HEADERS).json()["value"]
        assert len(read) == 21
    assert truth.rows("tasks")[:20] == before
    assert truth.rows("tasks")[20]["versionnumber"] > before[-1]["versionnumber"]
    log = truth.requests()
    assert [request.sequence for request in log] == list(range(1, 23))
    assert [request.applied for request in log] == [True] * 21 + [False]


def test_killed_between_applying_and_answering(tmp_path):
    path = tmp_path / "crm.sqlite"
    truth = SimulatorDatabase(path)
    with Process(path) as server:
        fault = {"action": "delay", "delay_after": 600}
        assert httpx.post(f"{server.url}/_simulator/faults", json=fault).status_code == 201
        failures = []

        def create() -> None:
            try:
                server.create("x")
            except httpx.TransportError as error:
                failures.append(error)

        client = threading.Thread(target=create)
        client.start()
        while not truth.requests(applied=True):
            pass
        server.end(signal.SIGKILL)
        client.join()
    assert len(failures) == 1
    (request,) = truth.requests()
    assert (request.applied, request.status, request.answered_at) == (True, None, None)
    assert truth.count("tasks") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal(tmp_path, number):
    with Process(tmp_path / "crm.sqlite") as server, httpx.Client(headers=HEADERS) as client:
        # A connection that is kept alive must not hold it up.
        assert client.get(f"{server.url}/api/data/v9.2/WhoAmI").status_code == 200
        assert server.end(number) == (0, "ended\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["crm.sqlite"]


def test_truth_is_seen_and_changed_from_outside_while_it_runs(tmp_path):
    path = tmp_path / "crm.sqlite"
    with Process(path) as server:
        truth = SimulatorDatabase(path)
        task = truth.seed("tasks", {"subject": "seeded"})
        url = f"{server.url}/api/data/v9.2/tasks({task})"
        etag = httpx.get(url, headers=HEADERS).headers["ETag"]
        truth.edit("tasks", task, {"subject": "edited"})
        assert httpx.patch(url, json={}, headers={**HEADERS, "If-Match": etag}).status_code == 412
        assert httpx.get(url, headers=HEADERS).json()["subject"] == "edited"
        truth.delete("tasks", task)
        assert httpx.get(url, headers=HEADERS).status_code == 404


def test_started_again_in_process_on_the_same_port(sim, http):
    http.post("tasks", json={"subject": "x"})
    url = sim.url
    sim.stop()
    assert sim.count("tasks") == 1  # read without a server
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/")
    sim.start()
    assert sim.url == url
    assert http.get("tasks").json()["value"][0]["subject"] == "x"


def test_starting_and_stopping_twice_is_harmless(sim):
    sim.start()
    sim.stop()
    sim.stop()
    with pytest.raises(InvalidInput, match="not running"):
        sim.issue_token()


def test_nothing_is_left_behind(tmp_path):
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with Simulator(tmp_path / "0.sqlite"):
        pass
    threads, before = threading.active_count(), descriptors()
    for number in range(5):
        with Simulator(tmp_path / f"{number}.sqlite") as sim:
            httpx.get(f"{sim.api_url}WhoAmI")
    # Fewer is fine: what an earlier test left may end meanwhile.
    assert threading.active_count() <= threads
    assert descriptors() <= before


def test_a_client_that_never_finishes_does_not_hold_up_the_stop(sim):
    address = ("127.0.0.1", sim.port)
    with socket.create_connection(address) as idle, socket.create_connection(address) as half:
        half.sendall(b"POST /api/data/v9.2/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        httpx.get(f"{sim.url}/")  # by then both connections are known
        sim.stop()
        assert half.recv(1) == b""
        assert idle.recv(1) == b""
    assert [request.method for request in sim.requests()] == ["GET"]


def test_concurrent_creates_of_one_row_have_one_winner(sim):
    row = "11111111-2222-4333-8444-555555555555"
    barrier = threading.Barrier(8)
    statuses = []

    def create(number: int) -> None:
        with httpx.Client(headers={**HEADERS, "If-None-Match": "*"}) as client:
            barrier.wait()
            reply = client.patch(f"{sim.api_url}tasks({row})", json={"subject": f"{number}"})
            statuses.append(reply.status_code)

    clients = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert sorted(statuses) == [204] + [412] * 7
    assert len(sim.requests(applied=True)) == sim.count("tasks") == 1


def test_a_row_and_its_log_entry_are_one_transaction(sim, http, monkeypatch):
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("planted")

    monkeypatch.setattr(RequestLog, "applied", fail)
    assert http.post("tasks", json={}).status_code == 500
    assert sim.count("tasks") == 0
    monkeypatch.undo()
    assert http.post("tasks", json={}).status_code == 204


def test_the_log(sim, http):
    # As bytes: httpx writes JSON in another form from 0.28 on.
    body, prefer = '{"subject":"x"}', {"Prefer": "return=representation", "Content-Type": "application/json"}
    http.post("tasks?$select=subject", content=body, headers=prefer)
    http.patch("tasks(7)", json={}, headers={"If-Match": 'W/"1"', "If-None-Match": "*"})
    httpx.post(sim.token_url, data={"client_secret": "x"})
    httpx.get(f"{sim.url}/elsewhere")
    first, second, third, fourth = sim.requests()
    assert (first.method, first.path, first.query) == ("POST", "/api/data/v9.2/tasks", "$select=subject")
    assert (first.resource, first.prefer, first.if_match) == ("tasks", "return=representation", None)
    assert (first.body, first.status, first.applied, first.fault) == (body, 201, True, None)
    assert first.received_at <= first.applied_at <= first.answered_at
    assert (second.if_match, second.if_none_match, second.status) == ('W/"1"', "*", 400)
    assert (second.applied, second.applied_at) == (False, None)
    assert (third.path.endswith("/token"), third.body, fourth.status) == (True, None, 404)
    assert sim.requests(method="PATCH") == [second]
    assert sim.requests(path="tasks*") == [first, second]
    assert sim.requests(path="/*/token") == [third]
    assert sim.requests(after=second.sequence, applied=False) == [third, fourth]
    assert sim.last_sequence() == fourth.sequence


def test_port_in_use(sim, tmp_path):
    with pytest.raises(InvalidInput, match=f"can't listen on port {sim.port}: Address already in use"):
        Simulator(tmp_path / "other.sqlite", sim.port).start()
    with pytest.raises(InvalidInput, match="port 70000 does not exist"):
        Simulator(tmp_path / "other.sqlite", 70_000).start()


def test_file_that_is_no_database(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 100)
    with pytest.raises(InvalidInput, match=r"notes\.txt"):
        Simulator(path).start()
    assert path.read_text() == "not a database, " * 100


def test_database_of_another_program(tmp_path):
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(InvalidInput, match="give another file"):
        Simulator(path).start()
    assert path.read_bytes() == before


@pytest.mark.parametrize("path", ["missing/crm.sqlite", "."])
def test_database_that_cannot_be_made(tmp_path, path):
    with pytest.raises(InvalidInput, match="can't use"):
        Simulator(tmp_path / path).start()


def test_inspecting_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInput, match="start a simulator with it first"):
        SimulatorDatabase(tmp_path / "missing.sqlite").count("tasks")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["uvicorn", "starlette"])
def test_the_web_framework_is_needed_only_to_start(tmp_path, missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import writeahead.simulators.dataverse as simulator\n"
        "assert not {'starlette', 'uvicorn', 'httpx'} - {" + repr(missing) + "} & set(sys.modules)\n"
        "try:\n    simulator.Simulator(sys.argv[1]).start()\n"
        "except simulator.run.InvalidInput as error:\n    print(error)\n"
    )
    path = tmp_path / "crm.sqlite"
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert result.stdout == (
        f'the simulator: {missing} is not installed; run: python -m pip install "writeahead[simulator]"\n'
    )
    assert not path.exists()


def test_settings_do_not_leak_between_simulators(tmp_path):
    one = Settings(static_tokens=["one"])
    with Simulator(tmp_path / "1.sqlite", settings=one) as first, Simulator(tmp_path / "2.sqlite") as second:
        first.faults.add("status", times=None)
        assert httpx.get(f"{second.api_url}WhoAmI").status_code == 401
        assert first.url != second.url
