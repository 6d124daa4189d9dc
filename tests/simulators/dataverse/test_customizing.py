"""What organizations add: a plug-in, rules against duplicates. sqlite3 reads the truth."""

import contextlib
import sqlite3

import httpx
import pytest

from writeahead.simulators.dataverse import Settings, Simulator

TOKEN = "token-of-the-tests"
ROW = "11111111-2222-4333-8444-555555555555"
ASKED = {"MSCRM.SuppressDuplicateDetection": "false"}


@contextlib.contextmanager
def running(tmp_path, **settings):
    with (
        Simulator(tmp_path / "crm.sqlite", settings=Settings(static_tokens=[TOKEN], **settings)) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http,
    ):
        yield sim, http


def stored(sim, entity_set):
    """The version and the columns of every row as SQLite has them."""
    with contextlib.closing(sqlite3.connect(sim.path)) as connection:
        sql = "SELECT id, version, body FROM rows WHERE entity_set = ?"
        return {row_id: (version, body) for row_id, version, body in connection.execute(sql, (entity_set,))}


def batch(*lines):
    parts = "".join(
        f"--c\r\nContent-Type: application/http\r\nContent-ID: {n}\r\n\r\n{line} HTTP/1.1\r\n\r\n{{}}\r\n"
        for n, line in enumerate(lines, 1)
    )
    body = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{parts}--c--\r\n--b--\r\n"
    return {"content": body, "headers": {"Content-Type": "multipart/mixed; boundary=b"}}


def test_a_plug_in_changes_the_version_after_the_reply(tmp_path):
    with running(tmp_path, plugin_tables=["tasks"]) as (sim, http):
        for _ in "ab":
            reply = http.patch(
                f"tasks({ROW})", json={"subject": "x"}, headers={"Prefer": "return=representation"}
            )
            told = reply.json()["@odata.etag"]
            [(version, _)] = stored(sim, "tasks").values()
            # Between the two there may be those of the activity's parties.
            assert int(told.strip('W/"')) < version
        before = stored(sim, "tasks")
        reply = http.patch(f"tasks({ROW})", json={"subject": "y"}, headers={"If-Match": told})
        assert reply.status_code == 412
        assert stored(sim, "tasks") == before
        # Other tables are left alone, and so is the log: the plug-in sends no requests.
        reply = http.post("phonecalls", json={}, headers={"Prefer": "return=representation"})
        [(version, _)] = stored(sim, "phonecalls").values()
        assert reply.json()["@odata.etag"] == f'W/"{version}"'
        assert len(sim.requests()) == 4


def test_a_plug_in_runs_after_the_whole_change_set(tmp_path):
    with running(tmp_path, plugin_tables=["tasks"]) as (sim, http):
        assert (
            http.post("$batch", **batch(f"PATCH tasks({ROW})", "POST tasks", "DELETE $2")).status_code == 200
        )
        [(version, _)] = stored(sim, "tasks").values()
        with contextlib.closing(sqlite3.connect(sim.path)) as connection:
            (latest,) = connection.execute("SELECT latest FROM version").fetchone()
        assert version == latest
        before = stored(sim, "tasks")
        reply = http.post("$batch", **batch(f"PATCH tasks({ROW})", f"PATCH tasks({ROW[:-1]}) "))
        assert reply.status_code == 400
        assert stored(sim, "tasks") == before


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        (ASKED, True),
        ({"mscrm.suppressduplicatedetection": "False"}, True),
        ({"MSCRM.SuppressDuplicateDetection": "true"}, False),
        ({}, False),
    ],
)
def test_duplicates_are_refused_where_the_client_asks(tmp_path, headers, refused):
    rules = {"contacts": ["emailaddress1"]}
    with running(tmp_path, duplicate_rules=rules) as (sim, http):
        sim.seed("contacts", {"emailaddress1": "a@example.com"})
        other = sim.seed("contacts", {"emailaddress1": "b@example.com"})
        before = stored(sim, "contacts")
        for method, path in [
            ("POST", "contacts"),
            ("PATCH", f"contacts({ROW})"),
            ("PATCH", f"contacts({other})"),
        ]:
            reply = http.request(method, path, json={"emailaddress1": "A@example.com"}, headers=headers)
            assert reply.status_code == (500 if refused else 204)
            if refused:
                assert reply.json()["error"] == {
                    "code": "0x80040333",
                    "message": "A record was not created or updated because a duplicate of the current "
                    "record already exists.",
                }
        assert (stored(sim, "contacts") == before) is refused


def test_what_is_no_duplicate_is_let_through(tmp_path):
    rules = {"contacts": ["emailaddress1", "lastname"]}
    with running(tmp_path, duplicate_rules=rules) as (sim, http):
        sim.seed("contacts", {"emailaddress1": "a@example.com", "lastname": "A"})
        for columns in (
            {"emailaddress1": "a@example.com", "lastname": "B"},
            {"emailaddress1": "a@example.com"},
            {"lastname": "A"},
            {"lastname": "A"},
        ):
            assert http.post("contacts", json=columns, headers=ASKED).status_code == 204
        own = next(iter(stored(sim, "contacts")))
        assert http.patch(f"contacts({own})", json={"description": "x"}, headers=ASKED).status_code == 204
        assert http.post("tasks", json={}, headers=ASKED).status_code == 204
