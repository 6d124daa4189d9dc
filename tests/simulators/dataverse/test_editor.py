"""Edits by another user right before or after a request. sqlite3 reads the truth."""

import contextlib
import json
import sqlite3

import httpx
import pytest

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse import HUMAN_USER, Edit

ROW = "11111111-2222-4333-8444-555555555555"
PATH = f"tasks({ROW})"


def stored(sim):
    """The row's version and columns as SQLite has them."""
    with contextlib.closing(sqlite3.connect(sim.path)) as connection:
        sql = "SELECT version, body FROM rows WHERE entity_set = 'tasks' AND id = ?"
        found = connection.execute(sql, (ROW,)).fetchone()
    return None if found is None else (found[0], json.loads(found[1]))


def seeded(sim):
    sim.seed("tasks", {"activityid": ROW, "subject": "before"})
    return f'W/"{stored(sim)[0]}"'


def test_an_edit_before_a_request_takes_its_version_away(sim, http):
    etag = seeded(sim)
    sim.faults.add("edit", method="PATCH", edit_before=Edit(row=PATH, columns={"subject": "hers"}))
    reply = http.patch(PATH, json={"description": "ours"}, headers={"If-Match": etag})
    assert (reply.status_code, reply.json()["error"]["code"]) == (412, "0x80060882")
    version, row = stored(sim)
    assert (row["subject"], row.get("description")) == ("hers", None)
    assert row["_modifiedby_value"] == HUMAN_USER
    # Only the first of the requests met her.
    reply = http.patch(PATH, json={"description": "ours"}, headers={"If-Match": f'W/"{version}"'})
    assert reply.status_code == 204
    assert [logged.fault for logged in sim.requests()] == ["edit", None]


def test_an_edit_after_a_request_is_on_top_of_what_it_wrote(sim, http):
    etag = seeded(sim)
    sim.faults.add("edit", edit_after={"row": PATH, "columns": {"subject": "hers"}})
    headers = {"If-Match": etag, "Prefer": "return=representation"}
    reply = http.patch(PATH, json={"subject": "ours", "description": "ours"}, headers=headers)
    assert (reply.status_code, reply.json()["subject"]) == (200, "ours")
    version, row = stored(sim)
    assert (row["subject"], row["description"]) == ("hers", "ours")
    assert reply.json()["@odata.etag"] != f'W/"{version}"'


def test_the_nth_matching_request_meets_her(sim, http):
    seeded(sim)
    edit = {"row": PATH, "columns": {"subject": "hers"}}
    sim.faults.add("edit", method="GET", path="tasks(*", skip=2, edit_before=edit)
    subjects = [http.get(PATH).json()["subject"] for _ in range(4)]
    assert subjects == ["before", "before", "hers", "hers"]


def test_a_row_that_she_deletes_is_gone(sim, http):
    seeded(sim)
    sim.faults.add("edit", edit_before=Edit(row=PATH))
    assert http.patch(PATH, json={}, headers={"If-Match": "*"}).status_code == 404
    assert stored(sim) is None


@pytest.mark.parametrize("action", ["drop", "cut", "not_json"])
def test_an_edit_goes_with_another_fault(sim, http, action):
    seeded(sim)
    edit = {"row": PATH, "columns": {"subject": "hers"}}
    sim.faults.add(action, apply=True, edit_after=edit)
    with contextlib.suppress(httpx.TransportError):
        http.patch(PATH, json={"subject": "ours", "description": "ours"})
    _, row = stored(sim)
    assert (row["subject"], row["description"]) == ("hers", "ours")


def test_rows_are_named_by_alternate_keys_too(sim, http):
    sim.seed("accounts", {"accountnumber": "A"})
    sim.faults.add("edit", edit_before={"row": "accounts(accountnumber='A')", "columns": {"name": "hers"}})
    assert http.get("accounts(accountnumber='A')").json()["name"] == "hers"


def test_it_can_be_asked_for_from_outside(sim, http):
    seeded(sim)
    edit = {"row": PATH, "columns": {"subject": "hers"}}
    url = f"{sim.url}/_simulator/faults"
    assert httpx.post(url, json={"action": "edit", "edit_before": edit}).status_code == 201
    [armed] = httpx.get(url).json()
    assert (armed["edit_before"], armed["edit_after"]) == (edit, None)
    assert http.get(PATH).json()["subject"] == "hers"


@pytest.mark.parametrize("row", [PATH, "nowhere(1)", "tasks(5)"])
def test_an_edit_that_fails_is_an_error(sim, http, row):
    sim.faults.add("edit", edit_before={"row": row, "columns": {"subject": "x"}})
    reply = http.get("tasks")
    assert reply.status_code == 500
    assert "The simulator's editor can't edit" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "needs edit_before or edit_after"),
        ({"edit_before": {"row": "tasks"}}, "path of a row"),
        ({"edit_before": {"columns": {}}}, "give row"),
        ({"edit_before": {"row": PATH, "column": {}}}, "give row"),
        ({"edit_after": {"row": PATH, "columns": [1]}}, "columns by name"),
        ({"edit_after": "tasks"}, "give row"),
        ({"edit_after": {"row": PATH}, "apply": False}, "always applied"),
    ],
)
def test_edits_that_make_no_sense(sim, fields, words):
    with pytest.raises(InvalidInput, match=words):
        sim.faults.add("edit", **fields)
    assert sim.faults.pending() == []
