"""Service protection: one state for all clients of an environment, on real sockets."""

import contextlib
import gc
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.support.scripted_server import TOKEN, refused, reply
from writeahead.adapters.dataverse import DataverseClient, TransientDataverseError, adapter_from_settings
from writeahead.adapters.dataverse.webapi import protection as protection_module
from writeahead.adapters.dataverse.webapi.protection import (
    Protection,
    RateLimited,
    ServiceLimits,
    protection_of,
)
from writeahead.adapters.limits import call_limits
from writeahead.errors import Applied, InvalidInput, WriteaheadError
from writeahead.testing import ManualClock

ROW = "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11"


@pytest.fixture
def clock():
    return ManualClock()


def patch(client):
    return client.patch("tasks", ROW, {"subject": "planted-subject"}, create_only=True)


def not_sent(client):
    with pytest.raises(TransientDataverseError) as caught:
        patch(client)
    assert caught.value.applied is Applied.NO
    assert caught.value.status is None
    assert "not sent" in str(caught.value)
    return caught.value.retry_after


def sends(protection, at_most=10_000):
    """How many requests may be sent right now."""
    for count in range(at_most):
        try:
            with protection.slot(0):
                pass
        except RateLimited:
            return count
    return at_most


def client_of(server, clock=None, **kwargs):
    client = DataverseClient(server.url, lambda: TOKEN, **{"timeout": 5, **kwargs})
    if clock is not None:
        client._endpoint.protection._monotonic = clock.monotonic
    return client


def test_429_pauses_every_client_of_the_environment(server, clock):
    first, second = client_of(server, clock), client_of(server)
    server.script = [refused(429, "0x80072322", Retry_After="120"), reply(204), reply(204)]
    with pytest.raises(TransientDataverseError) as caught:
        patch(first)
    assert (caught.value.status, caught.value.retry_after) == (429, 120)
    assert not_sent(second) == 120
    clock.advance(119.5)
    assert not_sent(first) == 0.5
    assert len(server.requests) == 1
    clock.advance(0.5)
    patch(second)
    patch(first)
    assert len(server.requests) == 3


def test_reading_and_signing_on_wait_as_well(server, clock):
    client = client_of(server, clock)
    server.script = [refused(503, "0x80072326", Retry_After="7")]
    for _ in range(3):
        with pytest.raises(TransientDataverseError) as caught:
            client.query("tasks", select=["subject"], where="a eq 1", top=1)
        assert caught.value.retry_after == 7
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        refused(503, Retry_After="120"),  # one server in trouble, not the service's limits
        refused(400, Retry_After="120"),
        reply(204, Retry_After="120"),
    ],
)
def test_a_reply_that_asks_for_no_wait_pauses_nothing(server, clock, answer):
    client = client_of(server, clock)
    server.script = [answer, reply(204)]
    with contextlib.suppress(WriteaheadError):
        patch(client)
    patch(client)
    assert len(server.requests) == 2


def test_a_shorter_wait_does_not_end_a_longer_one(clock):
    protection = Protection(monotonic=clock.monotonic)
    protection.pause(100)
    protection.pause(5)
    clock.advance(50)
    with pytest.raises(RateLimited) as caught, protection.slot(None):
        pass
    assert caught.value.seconds == 50


def test_a_pause_reaches_those_who_wait_for_a_place():
    protection = Protection(ServiceLimits(concurrent=1))
    seen = []

    def wait_for_a_place():
        try:
            with protection.slot(None):
                seen.append("sent")
        except RateLimited as waiting:
            seen.append(waiting.seconds)

    with protection.slot(0):
        waiting = threading.Thread(target=wait_for_a_place)
        waiting.start()
        protection.pause(1000)
        waiting.join()
    assert len(seen) == 1
    assert 0 < seen[0] <= 1000


def test_another_environment_is_not_concerned(clock):
    one = protection_of("https://one.example")
    other = protection_of("https://two.example")
    one.pause(100)
    with other.slot(0):
        pass


def test_a_pause_outlives_the_client_that_was_seen(clock):
    root = "https://three.example"
    first = protection_of(root)
    first._monotonic = clock.monotonic
    first.pause(100)
    identity = id(first)
    del first
    gc.collect()
    again = protection_of(root)
    assert id(again) == identity
    with pytest.raises(RateLimited), again.slot(0):
        pass


def test_what_was_sent_outlives_the_client_that_sent_it(clock):
    root = "https://six.example"
    first = protection_of(root)
    first._monotonic = clock.monotonic
    assert sends(first) == 491
    del first
    gc.collect()
    assert sends(protection_of(root)) == 0


@pytest.mark.parametrize("headers", [{}, {"Retry_After": "0"}])
def test_a_429_without_a_time_pauses_all_clients_for_a_moment(server, clock, headers):
    first, second = client_of(server, clock), client_of(server)
    server.script = [refused(429, **headers), reply(204)]
    with pytest.raises(TransientDataverseError) as caught:
        patch(first)
    assert caught.value.retry_after == 5
    assert not_sent(second) == 5
    clock.advance(5)
    patch(second)


@pytest.mark.parametrize("requests", [1, 2, 100, 5900, 6000])
def test_no_five_minutes_see_more_requests_than_the_limit(clock, requests):
    protection = Protection(ServiceLimits(requests=requests), monotonic=clock.monotonic)
    sent = []
    for _ in range(200):  # ten minutes, with a request whenever there may be one
        sent += [clock.elapsed] * sends(protection)
        clock.advance(3.0)
    for start in range(1000, 1600, 3):
        assert len([moment for moment in sent if start <= moment < start + 300]) <= requests
    assert len(sent) >= requests


def test_a_request_without_a_free_slot_learns_when_to_retry(clock):
    protection = Protection(ServiceLimits(requests=60), monotonic=clock.monotonic)
    assert sends(protection) == 5
    with pytest.raises(RateLimited) as caught, protection.slot(1.0):
        pass
    assert caught.value.seconds is not None
    clock.advance(caught.value.seconds - 0.01)
    assert sends(protection) == 0
    clock.advance(0.01)
    assert sends(protection) == 1


def test_a_client_without_a_token_sends_nothing(server, clock):
    server.script = [reply(204)] * 9
    protection = Protection(ServiceLimits(requests=12), monotonic=clock.monotonic)
    client = client_of(server, protection=protection, timeout=httpx.Timeout(5, pool=0.1))
    patch(client)
    assert 20 < not_sent(client) < 30
    assert len(server.requests) == 1


def test_the_narrowest_limits_hold():
    root = "https://five.example"
    shared = protection_of(root, ServiceLimits(concurrent=9, requests=1000))
    assert protection_of(root, ServiceLimits(concurrent=20, requests=600)) is shared
    assert shared._limits == ServiceLimits(concurrent=9, requests=600)
    assert sends(shared) < 100


def test_narrower_limits_forget_nothing_that_was_sent(clock):
    root = "https://seven.example"
    shared = protection_of(root)
    shared._monotonic = clock.monotonic
    assert sends(shared) == 491
    protection_of(root, ServiceLimits(52, 5800))
    assert sends(shared) == 0
    clock.advance(3.0)
    assert 0 < sends(shared) < 60


@pytest.mark.parametrize(
    "wrong", [{"concurrent": 0}, {"concurrent": 1.5}, {"requests": -1}, {"requests": True}, {"requests": "9"}]
)
def test_what_is_no_limit(wrong):
    with pytest.raises(InvalidInput, match="service limit"):
        ServiceLimits(**wrong)


class Counting(ThreadingHTTPServer):
    """Holds each request until ``let_go`` is set, and counts them."""

    daemon_threads = True
    request_queue_size = 100

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Held)
        self.let_go = threading.Event()
        self.lock = threading.Lock()
        self.now = self.most = self.total = 0


class Held(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PATCH(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.now += 1
            self.server.total += 1
            self.server.most = max(self.server.most, self.server.now)
        self.server.let_go.wait(60)
        with self.server.lock:
            self.server.now -= 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("limit", "threads"), [(3, 12), (52, 80)])
def test_so_many_requests_and_no_more_are_under_way(limit, threads):
    """Two clients; the server lets go when all others wait for a slot."""
    server = Counting()
    running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    running.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    shared = protection_of(url, ServiceLimits(concurrent=limit))
    clients = [DataverseClient(url, lambda: TOKEN, timeout=60) for _ in range(2)]
    failures = []

    def work(number):
        try:
            patch(clients[number % 2])
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=[number]) for number in range(threads)]
    deadline = time.monotonic() + 60
    try:
        for worker in workers:
            worker.start()
        while server.now <= limit and time.monotonic() < deadline and not failures:
            if server.now == limit and len(shared._changed._waiters) == threads - limit:
                break
        under_way = server.now
    finally:
        server.let_go.set()
        for worker in workers:
            worker.join()
        server.shutdown()
        running.join()
        for client in clients:
            client.close()
        server.server_close()
    assert failures == []
    assert under_way == limit
    assert (server.most, server.total, server.now) == (limit, threads, 0)


def test_without_a_place_in_time_nothing_is_sent(server):
    protection = Protection(ServiceLimits(concurrent=1))
    client = client_of(server, protection=protection, timeout=httpx.Timeout(5, pool=0.05))
    server.script = [reply(204)]
    with protection.slot(0):
        assert not_sent(client) is None
    assert server.requests == []
    patch(client)


def test_no_request_waits_for_a_slot_beyond_the_run(server):
    """Without the run's limit it would wait for ever: the one slot stays taken."""
    protection = Protection(ServiceLimits(concurrent=1))
    client = client_of(server, protection=protection, timeout=httpx.Timeout(5, pool=None))
    with protection.slot(0), call_limits(lambda: 0.05, None):
        assert not_sent(client) is None
    assert server.requests == []


def test_a_request_that_fails_gives_its_place_back(server):
    protection = Protection(ServiceLimits(concurrent=1))
    client = client_of(server, protection=protection)
    server.script = [b"no HTTP\r\n\r\n", refused(400), reply(204)]
    for _ in range(2):
        with pytest.raises(Exception, match="PATCH"):
            patch(client)
    patch(client)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_places_of_its_own_and_heeds_what_was_asked(server, clock):
    client = client_of(server, clock, protection=protection_of(server.url, ServiceLimits(concurrent=1)))
    protection = client._endpoint.protection
    server.script = [reply(204), reply(204)]
    held, release = threading.Event(), threading.Event()

    def hold():
        with protection.slot(0), protection_module._registry, protection._changed:
            held.set()
            release.wait()

    holding = threading.Thread(target=hold)
    holding.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs must not outlive the test
        try:
            patch(client)
            protection.pause(60)
            with pytest.raises(TransientDataverseError):
                patch(client)
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    release.set()
    holding.join()
    assert os.waitstatus_to_exitcode(status) == 0
    patch(client)
    protection.pause(60)
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if not_sent(client) == 60 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(server.requests) == 2


def test_limits_come_from_settings(server):
    given = {"url": server.url, "token": lambda: TOKEN}
    environ = {"DATAVERSE_MAX_CONCURRENT": "40", "DATAVERSE_MAX_REQUESTS": "5000"}
    with adapter_from_settings(**given, environ=environ) as adapter:
        shared = protection_of(server.url)
        assert shared._limits == ServiceLimits(concurrent=40, requests=5000)
        with adapter_from_settings(**given, max_concurrent=7, environ={}):
            assert shared._limits == ServiceLimits(concurrent=7, requests=5000)
        assert adapter._client._endpoint.protection is shared


@pytest.mark.parametrize("name", ["DATAVERSE_MAX_CONCURRENT", "DATAVERSE_MAX_REQUESTS"])
@pytest.mark.parametrize("value", ["0", "-1", "planted", "1.5", " ", "9" * 20])
def test_limits_that_are_none(name, value):
    with pytest.raises(InvalidInput, match=name) as caught:
        adapter_from_settings(url="https://x.example", token=lambda: TOKEN, environ={name: value})
    assert "planted" not in str(caught.value)


def test_our_own_count_is_no_wait_of_the_whole_target(server, clock):
    protection = Protection(ServiceLimits(requests=12), monotonic=clock.monotonic)
    client = client_of(server, protection=protection, timeout=httpx.Timeout(5, pool=0.1))
    server.script = [reply(204)]
    patch(client)
    for pause, for_target in ((0, False), (60, True)):
        protection.pause(pause)
        with pytest.raises(TransientDataverseError) as caught:
            patch(client)
        assert caught.value.for_target is for_target
