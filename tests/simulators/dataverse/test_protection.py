"""Service protection by counting, on the test's own clock. sqlite3 reads the truth."""

import contextlib
import sqlite3
import threading

import httpx
import pytest

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse import ServiceLimits, Settings, Simulator
from writeahead.testing import ManualClock

TOKEN = "token-of-the-tests"
REMAINING = "x-ms-ratelimit-burst-remaining-xrm-requests"
SECONDS = "x-ms-ratelimit-time-remaining-xrm-requests"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def limited(tmp_path, clock):
    """Three requests in 60 seconds, two at once, five seconds for each that comes too early."""
    limits = ServiceLimits(
        requests=3, window=60, concurrent=2, penalty=5, concurrent_wait=2, clock=clock.monotonic
    )
    settings = Settings(static_tokens=[TOKEN], limits=limits)
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as running:
        yield running


@pytest.fixture
def client(limited):
    with httpx.Client(base_url=limited.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as made:
        yield made


def count(sim):
    with contextlib.closing(sqlite3.connect(sim.path)) as connection:
        return connection.execute("SELECT count(*) FROM rows WHERE entity_set = 'tasks'").fetchone()[0]


def post(client):
    return client.post("tasks", json={"subject": "x"})


def refused(reply):
    assert reply.status_code == 429
    return reply.json()["error"]["code"], reply.headers["Retry-After"]


def test_requests_beyond_the_limit_wait_for_the_window_to_move(limited, client, clock):
    left = []
    for _ in range(3):
        reply = post(client)
        assert reply.status_code == 204
        left.append(reply.headers[REMAINING])
        clock.advance(10)
    assert left == ["2", "1", "0"]
    reply = post(client)
    assert refused(reply) == ("0x80072322", "30")
    assert reply.json()["error"]["message"] == (
        "Number of requests exceeded the limit of 3 over time window of 60 seconds."
    )
    assert count(limited) == 3
    clock.advance(30)
    assert post(client).status_code == 204
    assert refused(post(client)) == ("0x80072322", "10")
    assert count(limited) == 4
    assert [logged.status for logged in limited.requests()] == [204, 204, 204, 429, 204, 429]


def test_who_comes_too_early_waits_longer(limited, client, clock):
    for _ in range(3):
        post(client)
    assert refused(post(client)) == ("0x80072322", "60")
    clock.advance(58.5)
    assert refused(post(client)) == ("0x80072322", "7")
    assert refused(post(client)) == ("0x80072322", "12")
    clock.advance(11)
    # The window is long empty, but who was told to wait has to.
    assert refused(client.get("tasks")) == ("0x80072322", "6")
    clock.advance(6)
    assert post(client).status_code == 204
    assert count(limited) == 4


def test_too_many_at_once_are_refused_at_once(limited, client):
    arrived = 2
    limited.faults.add("delay", path="tasks", times=2, delay_before=30)
    ended = []

    def slow():
        with contextlib.suppress(httpx.TransportError):
            ended.append(httpx.post(f"{limited.api_url}tasks", json={}, headers=client.headers, timeout=30))

    threads = [threading.Thread(target=slow) for _ in range(arrived)]
    for thread in threads:
        thread.start()
    waiting = threading.Event()
    while len(limited.requests()) < arrived:
        waiting.wait(0.01)
    reply = client.get("WhoAmI")
    assert refused(reply) == ("0x80072326", "2")
    assert reply.json()["error"]["message"] == "Number of concurrent requests exceeded the limit of 2."
    limited.stop()
    for thread in threads:
        thread.join()
    assert ended == []


def test_requests_that_take_long_use_up_the_execution_time(tmp_path):
    times = iter([0, 0, 40, 100, 100, 120, 130, 130, 160.5])
    limits = ServiceLimits(window=60, execution=60, clock=lambda: next(times))
    settings = Settings(static_tokens=[TOKEN], limits=limits)
    with (
        Simulator(tmp_path / "crm.sqlite", settings=settings) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        # Each request looks three times: to be let in, when it begins, and at its end.
        assert client.get("WhoAmI").headers[SECONDS] == "20.00"
        # The first has left the window. The second takes 20 seconds, the third 30.5.
        assert client.get("WhoAmI").headers[SECONDS] == "40.00"
        assert client.get("WhoAmI").headers[SECONDS] == "9.50"


def test_who_used_up_the_execution_time_waits(tmp_path, clock):
    times = iter([0, 0, 70, 80, 81])
    limits = ServiceLimits(window=60, execution=60, clock=lambda: next(times))
    settings = Settings(static_tokens=[TOKEN], limits=limits)
    with (
        Simulator(tmp_path / "crm.sqlite", settings=settings) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as client,
    ):
        assert post(client).headers[SECONDS] == "0.00"
        reply = post(client)
        assert refused(reply) == ("0x80072321", "50")
        assert reply.json()["error"]["message"].startswith(
            "Combined execution time of incoming requests exceeded limit of 60,000  milliseconds over time"
        )
        assert reply.headers[SECONDS] == "0.00"
        assert count(sim) == 1


def test_those_that_are_done_are_not_there_at_once(client, clock):
    for _ in range(8):
        assert client.get("WhoAmI").status_code == 200
        clock.advance(60)


def test_a_batch_is_one_request(limited, client):
    single = (
        "--a\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        "POST tasks HTTP/1.1\r\n\r\n{}\r\n"
    )
    headers = {"Content-Type": "multipart/mixed; boundary=a"}
    reply = client.post("$batch", content=single * 5 + "--a--", headers=headers)
    assert (reply.status_code, reply.headers[REMAINING]) == (200, "2")
    assert count(limited) == 5


def test_only_requests_for_data_with_a_good_token_are_counted(limited, client):
    for _ in range(5):
        assert httpx.get(f"{limited.api_url}tasks").status_code == 401
        assert httpx.post(limited.token_url).status_code == 400
    assert REMAINING not in httpx.get(f"{limited.api_url}tasks").headers
    assert post(client).status_code == 204


def test_faults_are_for_requests_that_are_let_in(limited, client, clock):
    for _ in range(3):
        post(client)
    limited.faults.add("status", status=503)
    assert post(client).status_code == 429
    clock.advance(60)
    assert post(client).status_code == 503
    assert count(limited) == 3


def test_nothing_is_counted_unless_asked_for(http):
    assert REMAINING not in http.get("WhoAmI").headers


@pytest.mark.parametrize(
    "wrong", [{"requests": 0}, {"concurrent": 0}, {"window": 0}, {"execution": 0}, {"penalty": -1}]
)
def test_limits_that_make_no_sense(wrong):
    with pytest.raises(InvalidInput, match="service limits"):
        ServiceLimits(**wrong)
