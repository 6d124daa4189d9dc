"""Batches and change sets, written and read by hand. Truth is read from the file by sqlite3."""

import contextlib
import email
import json
import re
import sqlite3

import httpx
import pytest

from writeahead.simulators.dataverse import BatchErrors, Settings, Simulator

TOKEN = "token-of-the-tests"
ROWS = [f"11111111-2222-4333-8444-55555555555{n}" for n in range(3)]
ROOT = "/api/data/v9.2/"
TOO_LONG = {"subject": "x" * 201}


def part(method, url, payload=None, number=None, **headers):
    """A request within a batch; a header's name has _ for -."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    lines += [f"Content-ID: {number}"] if number else []
    lines += ["", f"{method} {url} HTTP/1.1", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", "" if payload is None else json.dumps(payload)])


def multipart(name, parts):
    return "".join(f"--{name}\r\n{content}\r\n" for content in parts) + f"--{name}--\r\n"


def change_set(*parts):
    return "Content-Type: multipart/mixed; boundary=changeset_b\r\n\r\n" + multipart("changeset_b", parts)


def send(http, *parts, **headers):
    body = multipart("batch_a", parts)
    sent = {"Content-Type": 'multipart/mixed; boundary="batch_a"', **headers}
    return http.post("$batch", content=body, headers=sent)


def read(reply):
    """The replies of a batch, in lists for change sets: status, Content-ID, headers and body."""
    head = f"Content-Type: {reply.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + reply.content)
    assert message.is_multipart()
    assert not message.defects

    def answer(item):
        if item.is_multipart():
            return [answer(inner) for inner in item.get_payload()]
        line, _, rest = item.get_payload().partition("\n")
        inner = email.message_from_string(rest)
        status = int(re.match(r"HTTP/1\.1 (\d+) \S", line)[1])
        return status, item["Content-ID"], dict(inner.items()), inner.get_payload().strip()

    return [answer(item) for item in message.get_payload()]


def statuses(answers):
    return [statuses(item) if isinstance(item, list) else item[0] for item in answers]


def stored(sim, entity_set="tasks"):
    """Every row as SQLite has it, by its GUID: its version and its columns."""
    with contextlib.closing(sqlite3.connect(sim.path)) as connection:
        found = connection.execute("SELECT id, version, body FROM rows WHERE entity_set = ?", (entity_set,))
        return {row_id: {"version": version, **json.loads(body)} for row_id, version, body in found}


@contextlib.contextmanager
def running(tmp_path, **settings):
    with (
        Simulator(tmp_path / "other.sqlite", settings=Settings(static_tokens=[TOKEN], **settings)) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http,
    ):
        yield sim, http


def test_a_change_set_writes_all_of_its_rows(sim, http):
    queue = sim.seed("wa_callqueues", {})
    etag = sim.row("wa_callqueues", queue)["@odata.etag"]
    reply = send(
        http,
        change_set(
            part("PATCH", f"{ROOT}tasks({ROWS[0]})", {"subject": "a"}, 1, If_None_Match="*"),
            part("PATCH", f"{ROOT}wa_callqueues({queue})", {"wa_name": "b"}, 2, If_Match=etag),
            part("PATCH", f"{sim.api_url}wa_callqueues({queue})", {"wa_attempts": 3}, 3, If_Match="*"),
            part("POST", "tasks", {"subject": "c"}, 4),
        ),
    )
    assert reply.status_code == 200
    [answers] = read(reply)
    assert [answer[:2] for answer in answers] == [(204, str(n)) for n in range(1, 5)]
    assert answers[0][2]["OData-EntityId"] == answers[0][2]["Location"] == f"{sim.api_url}tasks({ROWS[0]})"
    assert sorted(row["subject"] for row in stored(sim).values()) == ["a", "c"]
    [row] = stored(sim, "wa_callqueues").values()
    assert (row["wa_name"], row["wa_attempts"]) == ("b", 3)


FAILING = {
    "missing": (part("PATCH", f"{ROOT}tasks({ROWS[1]})", {}, 3, If_Match="*"), 404, "0x80040217"),
    "stale": (part("PATCH", f"{ROOT}tasks({ROWS[2]})", {}, 3, If_Match='W/"1"'), 412, "0x80060882"),
    "existing": (part("PATCH", f"{ROOT}tasks({ROWS[2]})", {}, 3, If_None_Match="*"), 412, "0x80040237"),
    "invalid": (part("POST", "tasks", TOO_LONG, 3), 400, "0x80044331"),
    "no JSON": (part("POST", "tasks", None, 3), 400, "0x80048d19"),
    "a GET": (part("GET", f"{ROOT}tasks", None, 3), 400, "0x0"),
    "a batch": (part("POST", f"{ROOT}$batch", {}, 3), 400, "0x0"),
    "no row yet": (part("PATCH", "$4", {}, 3), 400, "0x0"),
}


@pytest.mark.parametrize("name", FAILING)
def test_one_failure_takes_the_whole_change_set_back(sim, http, name):
    failing, status, code = FAILING[name]
    sim.seed("tasks", {"activityid": ROWS[2], "subject": "before"})
    before = stored(sim)
    good = [
        part("PATCH", f"{ROOT}tasks({ROWS[0]})", {"subject": "a"}, 1),
        part("PATCH", f"{ROOT}tasks({ROWS[2]})", {"subject": "b"}, 2),
    ]
    for position in range(3):
        reply = send(http, change_set(*good[:position], failing, *good[position:]))
        assert reply.status_code == status
        [(inner, content_id, headers, body)] = read(reply)
        assert (inner, content_id, json.loads(body)["error"]["code"]) == (status, None, code)
        assert ("malformed" in body) is (name in ("a GET", "a batch"))
        assert "REQ_ID" in headers
        assert stored(sim) == before


@pytest.mark.parametrize(
    ("errors", "status", "shape"),
    [
        (BatchErrors.STATUS, 400, [204, 400]),
        (BatchErrors.OK, 200, [204, 400]),
        (BatchErrors.NESTED, 400, [204, [400]]),
        (BatchErrors.BARE, 400, None),
    ],
)
def test_the_shapes_of_a_failure(tmp_path, errors, status, shape):
    with running(tmp_path, batch_errors=errors) as (sim, http):
        bad = change_set(part("POST", "tasks", {}, 1), part("POST", "tasks", TOO_LONG, 2))
        parts = [part("POST", "tasks", {"subject": "a"}), bad, part("POST", "tasks", {"subject": "never"})]
        reply = send(http, *parts)
        assert reply.status_code == status
        if shape is None:
            assert reply.json()["error"]["code"] == "0x80044331"
        else:
            assert statuses(read(reply)) == shape
        if errors is BatchErrors.NESTED:
            assert read(reply)[1][0][1] == "2"
        assert [row["subject"] for row in stored(sim).values()] == ["a"]


def test_the_parts_of_an_answer_are_as_published(sim, http):
    """The examples of "Execute batch operations using the Web API", header by header."""
    reply = send(
        http, part("PATCH", f"tasks({ROWS[0]})", {}), part("GET", "tasks"), part("POST", "tasks", TOO_LONG)
    )
    assert reply.status_code == 400
    assert re.match(rb"--batchresponse_[0-9a-f-]{36}\r\nContent-Type: application/http\r\n", reply.content)
    written, found, failed = (headers for _, _, headers, _ in read(reply))
    row = f"{sim.api_url}tasks({ROWS[0]})"
    assert written == {"OData-Version": "4.0", "OData-EntityId": row, "Location": row}
    minimal = "application/json; odata.metadata=minimal"
    assert found == {"OData-Version": "4.0", "Content-Type": f"{minimal}; odata.streaming=true"}
    assert set(failed) == {"REQ_ID", "Content-Type", "OData-Version"}
    assert failed["Content-Type"] == minimal
    assert json.loads(read(reply)[2][3]) == {
        "error": {
            "code": "0x80044331",
            "message": "A validation error occurred.  The length of the 'subject' attribute of the 'task' "
            "entity exceeded the maximum allowed length of '200'.",
        }
    }


def test_a_part_asks_for_annotations_itself(http):
    for prefer, named in ((None, False), ('odata.include-annotations="*"', True)):
        asked = {"Prefer": prefer} if prefer else {}
        reply = send(http, part("POST", "tasks", TOO_LONG, **asked))
        [(_, _, _, body)] = read(reply)
        assert ("@Microsoft.PowerApps.CDS.HelpLink" in json.loads(body)["error"]) is named


def test_a_batch_goes_on_past_errors_where_that_is_preferred(sim, http):
    bad = change_set(part("POST", "tasks", {"subject": "no"}, 1), part("POST", "tasks", TOO_LONG, 2))
    good = change_set(part("POST", "tasks", {"subject": "c"}, 1))
    parts = [part("POST", "tasks", TOO_LONG), part("POST", "tasks", {"subject": "b"}), bad, good]
    reply = send(http, *parts, Prefer="odata.continue-on-error")
    assert (reply.status_code, reply.headers["Preference-Applied"]) == (200, "odata.continue-on-error")
    assert statuses(read(reply)) == [400, 204, 400, [204]]
    assert sorted(row["subject"] for row in stored(sim).values()) == ["b", "c"]


def test_reads_outside_of_change_sets_see_earlier_writes(sim, http):
    path = f"{ROOT}tasks({ROWS[0]})?$select=subject"
    reply = send(
        http,
        part("GET", path),
        change_set(part("PATCH", f"tasks({ROWS[0]})", {"subject": "ü"}, 1)),
        part("GET", path),
        part("GET", f"{ROOT}tasks?$filter=subject%20eq%20'%C3%BC'"),
        Prefer="odata.continue-on-error",
    )
    answers = read(reply)
    assert statuses(answers) == [404, [204], 200, 200]
    assert json.loads(answers[2][3])["subject"] == "ü"
    assert [row["activityid"] for row in json.loads(answers[3][3])["value"]] == [ROWS[0]]


def test_rows_made_before_are_named_by_their_content_id(sim, http):
    reply = send(
        http,
        change_set(
            part("POST", "accounts", {"name": "before"}, "one"),
            part("POST", "contacts", {"parentcustomerid_account@odata.bind": "$one"}, 2),
            part("PATCH", "$one", {"name": "$2", "primarycontactid@odata.bind": "$2"}, 3),
            part("POST", "tasks", {"subject": "x"}, 4, Prefer="return=representation"),
            part("DELETE", "$4", None, 5),
        ),
    )
    assert reply.status_code == 200
    [account], [contact] = stored(sim, "accounts").items(), stored(sim, "contacts").items()
    assert (account[1]["name"], account[1]["_primarycontactid_value"]) == ("$2", contact[0])
    assert contact[1]["_parentcustomerid_value"] == account[0]
    assert stored(sim) == {}


def test_the_log_has_the_batch_and_its_parts(sim, http):
    good = change_set(part("PATCH", f"tasks({ROWS[0]})", {"subject": "a"}, 1, If_None_Match="*"))
    bad = change_set(
        part("POST", "tasks", {}, 1), part("POST", "tasks", TOO_LONG, 2), part("POST", "tasks", {}, 3)
    )
    send(http, good, part("GET", "tasks?$top=1"), bad, part("POST", "tasks", {}))
    batch, *parts = sim.requests()
    assert (batch.method, batch.resource, batch.status, batch.applied) == ("POST", "$batch", 400, True)
    assert batch.batch is None
    assert {logged.batch for logged in parts} == {batch.sequence}
    assert [(logged.method, logged.status, logged.applied) for logged in parts] == [
        ("PATCH", 204, True),
        ("GET", 200, False),
        ("POST", None, False),
        ("POST", 400, False),
        ("POST", None, False),
        ("POST", None, False),
    ]
    assert (parts[0].resource, parts[0].if_none_match) == (f"tasks({ROWS[0]})", "*")
    assert (parts[0].body, parts[1].query) == ('{"subject": "a"}', "$top=1")


def test_a_batch_whose_answer_is_lost_is_applied_all_the_same(sim, http):
    sim.faults.add("drop", path="$batch", apply=True)
    with pytest.raises(httpx.TransportError):
        send(http, change_set(part("POST", "tasks", {"subject": "a"}, 1)))
    assert [row["subject"] for row in stored(sim).values()] == ["a"]


def test_a_thousand_requests_are_taken_and_no_more(sim, http):
    many = [part("PATCH", f"tasks({ROWS[0]})", {}, n) for n in range(1, 1001)]
    assert send(http, change_set(*many, part("GET", "tasks"))).status_code == 400
    assert send(http, change_set(*many), part("GET", "tasks")).status_code == 400
    assert stored(sim) == {}
    assert send(http, change_set(*many)).status_code == 200
    assert len(stored(sim)) == 1


WRONG = {
    "no multipart": ("application/json", "{}"),
    "no boundary": ("multipart/mixed", multipart("batch_a", [part("GET", "tasks")])),
    "another boundary": ("multipart/mixed; boundary=b", multipart("a", [part("GET", "tasks")])),
    "cut": ("multipart/mixed; boundary=a", multipart("a", [part("POST", "tasks", {})])[:-6]),
    "empty": ("multipart/mixed; boundary=a", multipart("a", [])),
    "no request": (
        "multipart/mixed; boundary=a",
        multipart("a", ["Content-Type: application/http\r\n\r\nx"]),
    ),
    "no http": (
        "multipart/mixed; boundary=a",
        multipart("a", ["Content-Type: text/plain\r\n\r\nGET / HTTP/1.1"]),
    ),
    "a cut change set": (
        "multipart/mixed; boundary=a",
        multipart("a", [part("POST", "tasks", {}), change_set(part("POST", "tasks", {}))[:-6]]),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_batch_is_refused_as_a_whole(sim, http, name):
    content_type, body = WRONG[name]
    reply = http.post("$batch", content=body, headers={"Content-Type": content_type})
    assert (reply.status_code, "malformed" in reply.json()["error"]["message"]) == (400, True)
    assert stored(sim) == {}
    assert len(sim.requests()) == 1


def test_bare_line_feeds_are_understood(sim, http):
    body = multipart("a", [change_set(part("POST", "tasks", {"subject": "a"}, 1))]).replace("\r\n", "\n")
    reply = http.post("$batch", content=body, headers={"Content-Type": "multipart/mixed;boundary=a"})
    assert statuses(read(reply)) == [[204]]
    assert [row["subject"] for row in stored(sim).values()] == ["a"]


def test_a_batch_needs_a_token(sim):
    reply = httpx.post(f"{sim.api_url}$batch", content=multipart("a", []))
    assert reply.status_code == 401
