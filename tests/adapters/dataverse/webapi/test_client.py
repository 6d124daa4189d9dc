"""What each answer, and each way of not answering, is made of. Over real sockets, byte for byte."""

import os
import pickle
import signal
import socket
import threading

import httpx
import pytest

from tests.support.scripted_server import CLOSE, RESET, SILENCE, TOKEN, cut, refused, reply
from writeahead.adapters.dataverse import DataverseClient, TransientDataverseError
from writeahead.adapters.dataverse.webapi.protection import Protection, ServiceLimits
from writeahead.errors import Applied, InvalidInput, NotReady, PermanentError, TransientError

ROW = "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11"
PATH = f"/api/data/v9.2/tasks({ROW})"
NO, UNKNOWN = Applied.NO, Applied.UNKNOWN


def patch(client, **kwargs):
    return client.patch("tasks", ROW, {"subject": "planted-subject"}, **kwargs)


def failure(client, action=patch):
    with pytest.raises((TransientError, PermanentError)) as caught:
        action(client)
    return caught.value


def get(client):
    return client.get_row("tasks", ROW, ["subject"])


def test_a_create_as_it_goes_over_the_wire(server, client):
    server.script = [reply(204, ETag='W/"7"')]
    assert patch(client, create_only=True) == 'W/"7"'
    [request] = server.requests
    assert (request.method, request.path, request.query) == ("PATCH", PATH, "")
    assert request.json == {"subject": "planted-subject"}
    assert request.headers["if-none-match"] == "*"
    assert "if-match" not in request.headers
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept"] == "application/json"
    assert request.headers["odata-version"] == request.headers["odata-maxversion"] == "4.0"


def test_an_update_carries_the_version(server, client):
    server.script = [reply(204)]
    assert patch(client, if_match='W/"41"') is None
    assert server.requests[0].headers["if-match"] == 'W/"41"'
    assert "if-none-match" not in server.requests[0].headers


def test_a_row_in_the_answer_tells_its_version(server, client):
    server.script = [reply(200, {"@odata.etag": 'W/"8"', "subject": "x"})]
    assert patch(client, if_match='W/"7"') == 'W/"8"'


def test_reading_a_row(server, client):
    server.script = [
        reply(200, {"@odata.context": "x", "@odata.etag": 'W/"3"', "subject": "s", "_a_value": 1})
    ]
    row = client.get_row("tasks", ROW.upper(), ["subject", "_a_value"])
    assert row is not None
    assert (row.etag, row.columns) == ('W/"3"', {"subject": "s", "_a_value": 1})
    assert (server.requests[0].path, server.requests[0].query) == (PATH, "%24select=subject%2C_a_value")


def test_a_missing_row(server, client):
    # Without a code it could be the table that is missing, so that is looked up, once.
    server.script = [refused(404), reply(200, {"value": []}), refused(404), refused(404, "0x80040217")]
    assert [get(client) for _ in "123"] == [None, None, None]
    assert [request.path for request in server.requests] == [PATH, PATH.partition("(")[0], PATH, PATH]


@pytest.mark.parametrize("code", ["", "0x8006088a", "0x80060888"])
def test_a_missing_table_is_no_missing_row(server, client, code):
    server.script = [refused(404, code), refused(404, code)]
    assert "no such table" in str(failure(client, get))
    assert len(server.requests) == (1 if code == "0x8006088a" else 2)


@pytest.mark.parametrize("answer", [refused(400), refused(403, "0x80048306")])
def test_a_table_that_answers_otherwise_is_there(server, client, answer):
    server.script = [refused(404), answer]
    assert get(client) is None


def test_a_table_that_can_t_be_looked_up_now_may_be_later(server, client):
    server.script = [refused(404), refused(503), refused(404), reply(200, {"value": []})]
    with pytest.raises(TransientDataverseError):
        get(client)
    assert get(client) is None


def test_a_space_in_a_query_is_no_plus(server, client):
    server.script = [reply(200, {"value": []})]
    assert client.query("tasks", select=["subject"], where="subject eq 'a + b'", top=2) == []
    sent = server.requests[0].query
    assert "%24filter=subject%20eq%20%27a%20%2B%20b%27" in sent
    assert "+" not in sent


def test_a_query(server, client):
    server.script = [reply(200, {"value": [{"@odata.etag": 'W/"3"', "subject": "s"}]})]
    [row] = client.query("tasks", select=["subject"], where="subject eq 's'", top=2)
    assert row.columns == {"subject": "s"}
    assert httpx.QueryParams(server.requests[0].query) == httpx.QueryParams(
        {"$select": "subject", "$filter": "subject eq 's'", "$top": "2"}
    )


def test_a_post(server, client):
    server.script = [reply(204)]
    client.post("tasks", {"subject": "s"})
    assert (server.requests[0].method, server.requests[0].path) == ("POST", "/api/data/v9.2/tasks")


@pytest.mark.parametrize("status", [408, 500, 503])
def test_a_read_takes_effect_nowhere(server, client, status):
    server.script = [refused(status)]
    assert failure(client, get).applied is NO


@pytest.mark.parametrize(("status", "applied"), [(429, NO), (503, UNKNOWN)])
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry_After": "17"},
        {"Retry_After": "Thu, 01 Jan 2026 00:00:17 GMT", "Date": "Thu, 01 Jan 2026 00:00:00 GMT"},
    ],
)
def test_retry_after_in_both_forms(server, client, status, applied, headers):
    server.script = [refused(status, **headers)]
    caught = failure(client)
    assert (caught.retry_after, caught.applied) == (17.0, applied)


WHOLE = reply(200, {"@odata.etag": 'W/"3"', "subject": "s"})


@pytest.mark.parametrize(
    "action",
    [
        RESET,
        CLOSE,
        cut(WHOLE, 30),
        cut(WHOLE, len(WHOLE) - 5),
        b"this is no HTTP\r\n\r\n",
        reply(200, b'{"a": '),
    ],
    ids=["reset", "closed", "cut in the head", "cut in the body", "no HTTP", "half JSON"],
)
def test_no_whole_answer_may_have_been_applied(server, client, action):
    server.script = [action]
    caught = failure(client)
    assert isinstance(caught, TransientDataverseError)
    assert caught.applied is UNKNOWN
    server.script = [action]
    caught = failure(client, get)
    assert isinstance(caught, TransientDataverseError)
    assert caught.applied is NO


def test_a_page_that_says_200_is_no_proof_of_a_write(server, client):
    server.script = [reply(200, b"<html>Sign in to the guest network</html>")]
    assert failure(client).applied is UNKNOWN


def test_an_answer_in_no_known_encoding(server, client):
    server.script = [reply(200, b"not gzip", Content_Encoding="gzip")]
    assert failure(client).applied is UNKNOWN


def test_a_port_that_is_not_listened_on():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = DataverseClient(f"http://127.0.0.1:{port}", lambda: TOKEN)
    caught = failure(client)
    assert (type(caught), caught.applied) == (TransientDataverseError, NO)


def test_silence_ends_at_the_limit(server):
    client = DataverseClient(server.url, lambda: TOKEN, timeout=0.2)
    server.script = [SILENCE]
    caught = failure(client)
    assert caught.applied is UNKNOWN
    assert "ReadTimeout" in str(caught)
    client.close()


def test_a_body_that_trickles_ends_at_the_limit_too(server):
    client = DataverseClient(server.url, lambda: TOKEN, timeout=0.3)
    server.script = [("dribble", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")]
    assert "ReadTimeout" in str(failure(client))
    client.close()


class Tokens:
    def __init__(self, *tokens):
        self.tokens = list(tokens)
        self.discarded = []

    def __call__(self):
        return self.tokens[0]

    def discard(self, token):
        self.discarded.append(token)
        self.tokens.pop(0)


def test_401_renews_the_token_once(server):
    tokens = Tokens("old", "new")
    client = DataverseClient(server.url, tokens)
    server.script = [refused(401), reply(204)]
    patch(client, create_only=True)
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer old", "Bearer new"]
    assert server.requests[0].body == server.requests[1].body
    assert server.requests[1].headers["if-none-match"] == "*"
    assert tokens.discarded == ["old"]
    client.close()


def test_a_slot_is_free_while_the_token_is_renewed(server):
    protection = Protection(ServiceLimits(concurrent=1))
    renewed = []

    class Renewing(Tokens):
        def discard(self, token):
            with protection.slot(0):
                renewed.append(token)
            super().discard(token)

    client = DataverseClient(server.url, Renewing("old", "new"), protection=protection)
    server.script = [refused(401), reply(204)]
    patch(client)
    assert renewed == ["old"]
    assert len(server.requests) == 2
    client.close()


def test_401_twice_is_not_ready(server):
    client = DataverseClient(server.url, Tokens("old", "new", "newer"))
    server.script = [refused(401), refused(401), reply(204)]
    with pytest.raises(NotReady, match=r"PATCH /api/data/v9\.2/tasks\(.*401"):
        patch(client)
    assert len(server.requests) == 2
    client.close()


def test_a_source_that_repeats_a_refused_token_is_given_up(server, client):
    server.script = [refused(401), reply(204)]
    with pytest.raises(NotReady):
        patch(client)
    assert len(server.requests) == 1


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ü", None, b"bytes"])
def test_an_unusable_token_is_never_sent(server, token):
    client = DataverseClient(server.url, lambda: token)
    with pytest.raises(NotReady) as caught:
        patch(client)
    assert not token or str(token) not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize(
    ("entity_set", "row_id"),
    [
        ("../x", ROW),
        ("http://evil.example/tasks", ROW),
        ("//evil.example", ROW),
        ("tasks?x", ROW),
        ("tasks\n", ROW),
        ("tasks-", ROW),
        ("", ROW),
        ("tasks", "x"),
        ("tasks", f"{ROW}/x"),
        ("tasks", f"{ROW})/contacts({ROW}"),
        ("tasks", f"{ROW}\n"),
        ("tasks", f"{{{ROW}}}"),
        ("tasks", "name='x'"),
    ],
)
def test_what_is_no_name_and_no_guid_is_never_sent(server, client, entity_set, row_id):
    for action in (
        lambda: client.patch(entity_set, row_id, {"subject": "s"}),
        lambda: client.get_row(entity_set, row_id, ["subject"]),
    ):
        with pytest.raises(InvalidInput):
            action()
    assert server.requests == []


@pytest.mark.parametrize("etag", ["*", "", '"a", "b"', '"a"\r\nX: y', "a"])
def test_what_is_no_etag_is_never_sent(server, client, etag):
    with pytest.raises(InvalidInput):
        patch(client, if_match=etag)
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://org.crm.dynamics.com",
        "org.crm.dynamics.com",
        "https://",
        "https://user:pass@org.crm.dynamics.com",
        "https://org.crm.dynamics.com/?secret=1",
        "https://org.crm.dynamics.com/#x",
        "https://org.crm.dynamics.com/somewhere",
        "ftp://org.crm.dynamics.com",
        "http://127.0.0.1.evil.example",
        "https://[",
        "",
        None,
    ],
)
def test_a_url_that_is_no_environment(url):
    with pytest.raises(InvalidInput) as caught:
        DataverseClient(url, lambda: TOKEN)
    assert "pass" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["", "/", "/api/data/v9.2", "/api/data/v9.2/"])
def test_the_web_api_endpoint_will_do_as_well(path):
    seen = []

    def handle(request):
        seen.append(str(request.url))
        return httpx.Response(204)

    client = DataverseClient(
        f"https://org.crm.dynamics.com{path}", lambda: TOKEN, transport=httpx.MockTransport(handle)
    )
    patch(client)
    assert seen == [f"https://org.crm.dynamics.com{PATH}"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/data/v9.1", "names v9.1 of the Web API, and writeahead speaks v9.2"),
        ("/api/data/v9.0/", "names v9.0 of"),
        ("/api/data/v10.0", "names v10.0 of"),
        ("/api/data", "names no version of"),
        ("/PlantedOrg", "looks like an organization on-premises"),
        ("/PlantedOrg/", "looks like an organization on-premises"),
        ("/PlantedOrg/api/data/v9.2", "looks like an organization on-premises"),
        ("/main.aspx", "is the address of a page"),
        ("/XRMServices/2011/Organization.svc", "is the address of a page or of another service"),
        ("/api/data/v9.2/planted", "must have no path"),
        ("//", "must have no path"),
    ],
)
def test_a_path_is_refused_with_what_is_wrong_and_the_right_form(path, said):
    with pytest.raises(InvalidInput) as caught:
        DataverseClient(f"https://org-of-ours.crm.dynamics.com{path}", lambda: TOKEN)
    assert str(caught.value).startswith(f"DATAVERSE_URL {said}")
    assert str(caught.value).endswith(": give the environment alone, as in https://org.crm.dynamics.com")
    assert "lanted" not in str(caught.value)
    assert "org-of-ours" not in str(caught.value)


def test_many_threads_share_a_client(server, client):
    server.script = [reply(204) for _ in range(40)]
    failures = []

    def work():
        try:
            for _ in range(5):
                patch(client)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(server.requests) == 40


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_speak_on_its_parents_connections(server, client):
    server.script = [reply(204, ETag=f'W/"{number}"') for number in range(4)]
    assert patch(client) == 'W/"0"'
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs must not outlive the test
        os._exit(0 if patch(client) == 'W/"1"' else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert patch(client) == 'W/"2"'
    ports = [request.peer for request in server.requests]
    assert ports[0] == ports[2] != ports[1]


@pytest.mark.parametrize("status", [400, 429])
def test_an_error_survives_the_way_to_another_process(server, client, status):
    server.script = [refused(status, "0x80072322" if status == 429 else "", Retry_After="3")]
    caught = failure(client)
    copied = pickle.loads(pickle.dumps(caught))
    assert (type(copied), str(copied), vars(copied)) == (type(caught), str(caught), vars(caught))
