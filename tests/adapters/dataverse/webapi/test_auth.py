"""Tokens: got once, kept until shortly before they end, and no secret in any message."""

import os
import signal
import threading
import urllib.parse

import pytest
from pydantic import SecretStr

from tests.support.scripted_server import CLOSE, SILENCE, cut, reply
from writeahead.adapters.dataverse import ClientCredentials, TransientDataverseError
from writeahead.errors import Applied, InvalidInput, NotReady
from writeahead.testing import ManualClock

SECRET = "planted-client-secret"
TENANT = "00000000-0000-4000-8000-00000000000a"
CLIENT = "planted-client-id"
URL = "https://org.crm.dynamics.com"


def token_reply(token, lifetime=3600):
    return reply(200, {"token_type": "Bearer", "expires_in": lifetime, "access_token": token})


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def credentials(server, clock):
    return ClientCredentials(
        url=URL,
        tenant_id=TENANT,
        client_id=CLIENT,
        client_secret=SECRET,
        authority=server.url,
        timeout=5,
        monotonic=clock.monotonic,
    )


def test_the_request_as_it_goes_over_the_wire(server, credentials):
    server.script = [token_reply("one")]
    assert credentials() == "one"
    [request] = server.requests
    assert (request.method, request.path, request.query) == ("POST", f"/{TENANT}/oauth2/v2.0/token", "")
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert dict(urllib.parse.parse_qsl(request.body.decode())) == {
        "grant_type": "client_credentials",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "scope": f"{URL}/.default",
    }


@pytest.mark.parametrize(("lifetime", "kept"), [(3600, 3300), ("3600", 3300), (1200, 1080), (10, 9)])
def test_a_token_is_kept_until_shortly_before_its_end(server, credentials, clock, lifetime, kept):
    server.script = [token_reply("one", lifetime), token_reply("two", lifetime)]
    assert credentials() == "one"
    clock.advance(kept - 0.001)
    assert credentials() == "one"
    clock.advance(0.001)
    assert credentials() == "two"


def test_a_discarded_token_is_replaced(server, credentials):
    server.script = [token_reply("one"), token_reply("two")]
    credentials.discard(credentials())
    assert credentials() == "two"
    credentials.discard("one")  # by a thread that was slow to notice
    assert credentials() == "two"
    assert len(server.requests) == 2


def test_threads_share_one_request(server, credentials):
    server.script = [token_reply("one")]
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(credentials())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["one"] * 8
    assert len(server.requests) == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_a_thread_waits_for_a_token(server):
    credentials = ClientCredentials(
        url=URL,
        tenant_id=TENANT,
        client_id=CLIENT,
        client_secret=SECRET,
        authority=server.url,
        timeout=1,
    )
    server.script = [SILENCE, token_reply("of the child")]
    failures = []

    def wait_for_a_token():
        try:
            credentials()
        except TransientDataverseError as error:
            failures.append(error)

    waiting = threading.Thread(target=wait_for_a_token)
    waiting.start()
    while not server.requests:  # the thread holds the lock by now
        pass
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs must not outlive the test
        os._exit(0 if credentials() == "of the child" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    waiting.join()
    assert len(failures) == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            401,
            {"error": "invalid_client", "error_codes": [7000215]},
            ["invalid_client", "AADSTS7000215", "the secret is wrong"],
        ),
        (
            400,
            {"error": "unauthorized_client", "error_codes": ["planted", True, 700016]},
            ["AADSTS700016", "check DATAVERSE_CLIENT_ID"],
        ),
        (400, {"error": "invalid_request", "error_codes": [1, 90002]}, ["check DATAVERSE_TENANT_ID"]),
        (401, {"error": "invalid_client", "error_codes": [7000222]}, ["the secret has expired"]),
        (401, {"error": "invalid_client"}, [": check DATAVERSE_TENANT_ID, DATAVERSE_CLIENT_ID and"]),
        (400, {"error": "planted-error"}, ["400"]),
        (404, b"planted", ["404"]),
        (302, b"", ["302"]),
    ],
)
def test_refused_credentials_are_not_ready(server, credentials, status, body, words):
    if isinstance(body, dict):
        body["error_description"] = "planted-description"
    server.script = [reply(status, body, Location="https://evil.example")]
    with pytest.raises(NotReady) as caught:
        credentials()
    assert all(word in str(caught.value) for word in [*words, "DATAVERSE_"])
    assert "planted" not in str(caught.value)
    assert TENANT not in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "action",
    [
        reply(429, Retry_After="9"),
        reply(503, Retry_After="9"),
        reply(500, {"error": "invalid_client"}),
        reply(400, {"error": "temporarily_unavailable", "error_codes": [90033]}),
        reply(400, {"error": "temporarily_unavailable"}),
        reply(400, {"error": "invalid_grant", "error_codes": [90024]}),
        reply(401, {"error": "planted", "error_codes": ["planted", 90006]}),
        reply(200, b"planted"),
        reply(200, {"access_token": 3, "expires_in": 5}),
        reply(200, {"access_token": "planted"}),
        reply(200, {"access_token": "planted", "expires_in": "soon"}),
        reply(200, {"access_token": "planted", "expires_in": -1}),
        CLOSE,
        cut(token_reply("planted"), 20),
        b"no HTTP\r\n\r\n",
    ],
)
def test_an_authority_in_trouble_is_temporary(server, credentials, action):
    server.script = [action, token_reply("one")]
    with pytest.raises(TransientDataverseError) as caught:
        credentials()
    assert caught.value.applied is Applied.NO
    assert "planted" not in str(caught.value)
    assert TENANT not in str(caught.value)
    if isinstance(action, bytes) and b"Retry-After" in action:
        assert caught.value.retry_after == 9.0
    assert credentials() == "one"


@pytest.mark.parametrize(
    "wrong",
    [
        {"tenant_id": "../x"},
        {"tenant_id": ""},
        {"tenant_id": "a/b"},
        {"authority": "http://login.example"},
        {"authority": "https://login.example/path"},
        {"authority": "https://user@login.example"},
        {"authority": "nonsense"},
        {"url": "http://org.example"},
    ],
)
def test_what_can_not_be_used(wrong):
    given = {"url": URL, "tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET, **wrong}
    with pytest.raises(InvalidInput):
        ClientCredentials(**given)


def test_the_secret_shows_nowhere(credentials, server):
    server.script = [token_reply("planted-token")]
    credentials()
    shown = f"{credentials!r} {credentials} {vars(credentials)!r}"
    assert SECRET not in shown
    assert "planted-token" not in shown
    assert SECRET not in repr(SecretStr(SECRET))
