"""Each cell of the matrix: method, precondition, state of the row. sqlite3 reads the truth."""

import json
import sqlite3
import uuid

import pytest

ROW = "11111111-2222-4333-8444-555555555555"
STALE = 'W/"1"'


def stored(sim, row_id=ROW):
    """The row as SQLite has it, without the simulator's own reader."""
    connection = sqlite3.connect(sim.path)
    try:
        found = connection.execute(
            "SELECT version, body FROM rows WHERE entity_set = 'tasks' AND id = ?", (row_id,)
        ).fetchone()
    finally:
        connection.close()
    return None if found is None else (found[0], json.loads(found[1]))


def seeded(sim):
    sim.seed("tasks", {"activityid": ROW, "subject": "before"})
    version, _ = stored(sim)
    return f'W/"{version}"'


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (204, "after", None)),
        ({"If-Match": "*"}, (404, None, "0x80040217")),
        ({"If-Match": STALE}, (404, None, "0x80040217")),
        ({"If-None-Match": "*"}, (204, "after", None)),
        ({"If-None-Match": "null"}, (204, "after", None)),
    ],
)
def test_patch_of_a_missing_row(sim, http, headers, expected):
    status, subject, code = expected
    reply = http.patch(f"tasks({ROW})", json={"subject": "after"}, headers=headers)
    assert reply.status_code == status
    found = stored(sim)
    assert (found[1]["subject"] if found else None) == subject
    if code:
        assert reply.json()["error"]["code"] == code
        assert "Does Not Exist" in reply.json()["error"]["message"]
    else:
        assert reply.content == b""
        assert reply.headers["OData-EntityId"] == f"{sim.api_url}tasks({ROW})"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (204, "after", None)),
        ({"If-Match": "*"}, (204, "after", None)),
        ({"If-Match": "current"}, (204, "after", None)),
        ({"If-Match": STALE}, (412, "before", "0x80060882")),
        ({"If-Match": "nonsense"}, (412, "before", "0x80060882")),
        ({"If-Match": "null"}, (204, "after", None)),
        ({"If-None-Match": "*"}, (412, "before", "0x80040237")),
        ({"If-None-Match": "null"}, (204, "after", None)),
    ],
)
def test_patch_of_an_existing_row(sim, http, headers, expected):
    status, subject, code = expected
    current = seeded(sim)
    before = stored(sim)
    headers = {name: current if value == "current" else value for name, value in headers.items()}
    reply = http.patch(f"tasks({ROW})", json={"subject": "after"}, headers=headers)
    assert reply.status_code == status
    version, columns = stored(sim)
    assert columns["subject"] == subject
    if code:
        assert reply.json()["error"]["code"] == code
        assert (version, columns) == before
    else:
        assert version > before[0]
        assert reply.headers["OData-EntityId"] == f"{sim.api_url}tasks({ROW})"


@pytest.mark.parametrize(
    ("header", "exists", "status"),
    [
        (None, False, 404),
        (None, True, 204),
        ("*", False, 404),
        ("*", True, 204),
        (STALE, False, 404),
        (STALE, True, 412),
        ("current", True, 204),
    ],
)
def test_delete(sim, http, header, exists, status):
    current = seeded(sim) if exists else None
    headers = {"If-Match": current if header == "current" else header} if header else {}
    assert http.delete(f"tasks({ROW})", headers=headers).status_code == status
    assert (stored(sim) is None) == (status != 412)


def test_both_headers_at_once_can_never_hold(sim, http):
    current = seeded(sim)
    headers = {"If-Match": current, "If-None-Match": "*"}
    assert http.patch(f"tasks({ROW})", json={"subject": "after"}, headers=headers).status_code == 412
    assert stored(sim)[1]["subject"] == "before"


def test_the_etag_of_one_read_is_the_condition_of_the_next_write(sim, http):
    seeded(sim)
    read = http.get(f"tasks({ROW})?$select=subject")
    etag = read.headers["ETag"]
    assert read.json()["@odata.etag"] == etag
    assert http.patch(f"tasks({ROW})", json={"subject": "1"}, headers={"If-Match": etag}).status_code == 204
    assert http.patch(f"tasks({ROW})", json={"subject": "2"}, headers={"If-Match": etag}).status_code == 412
    assert stored(sim)[1]["subject"] == "1"


def test_a_write_that_changes_no_value_still_makes_a_new_version(sim, http):
    before = seeded(sim)
    http.patch(f"tasks({ROW})", json={"subject": "before"})
    assert f'W/"{stored(sim)[0]}"' != before


def test_versions_grow_over_all_tables(sim, http):
    etags = [
        sim.row(entity_set, sim.seed(entity_set))["versionnumber"]
        for entity_set in ("tasks", "contacts", "phonecalls", "tasks")
    ]
    assert etags == sorted(set(etags))


def test_conditional_read(sim, http):
    etag = seeded(sim)
    unchanged = http.get(f"tasks({ROW})", headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    sim.edit("tasks", ROW, {"subject": "edited"})
    assert http.get(f"tasks({ROW})", headers={"If-None-Match": etag}).json()["subject"] == "edited"


def test_an_edit_in_between_makes_the_version_stale(sim, http):
    etag = seeded(sim)
    edited = sim.edit("tasks", ROW, {"subject": "by hand"})
    assert edited != etag
    reply = http.patch(f"tasks({ROW})", json={"subject": "after"}, headers={"If-Match": etag})
    assert reply.status_code == 412
    row = sim.row("tasks", ROW)
    assert row["subject"] == "by hand"
    assert row["_modifiedby_value"] != row["_createdby_value"]


def test_a_delete_in_between(sim, http):
    etag = seeded(sim)
    sim.delete("tasks", ROW)
    assert http.patch(f"tasks({ROW})", json={}, headers={"If-Match": etag}).status_code == 404
    assert sim.count("tasks") == 0


@pytest.mark.parametrize(
    "prefer", ["return=representation", 'odata.include-annotations="*",return=representation']
)
def test_representation_of_what_was_written(sim, http, prefer):
    headers = {"Prefer": prefer}
    created = http.post("tasks?$select=subject", json={"subject": "x"}, headers=headers)
    assert created.status_code == 201
    assert created.headers["Preference-Applied"] == "return=representation"
    assert "OData-EntityId" not in created.headers
    body = created.json()
    assert set(body) == {"@odata.context", "@odata.etag", "subject", "activityid"}
    updated = http.patch(f"tasks({body['activityid']})", json={"subject": "y"}, headers=headers)
    assert updated.status_code == 200
    assert updated.json()["subject"] == "y"
    assert http.patch(f"tasks({uuid.uuid4()})", json={}, headers=headers).status_code == 201


def test_create_with_an_id_of_ones_own_works_once(sim, http):
    assert http.post("tasks", json={"activityid": ROW}).status_code == 204
    again = http.post("tasks", json={"activityid": ROW})
    assert (again.status_code, again.json()["error"]["code"]) == (412, "0x80040237")
    assert sim.count("tasks") == 1


def test_activities_share_their_ids(sim, http):
    seeded(sim)
    reply = http.patch(f"phonecalls({ROW})", json={"subject": "x"}, headers={"If-None-Match": "*"})
    assert reply.status_code == 412
    assert sim.count("phonecalls") == 0
