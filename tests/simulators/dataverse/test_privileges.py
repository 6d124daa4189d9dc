"""What the application may not do, and what tells of it. sqlite3 reads the truth."""

import pytest

from tests.simulators.dataverse.test_batch import change_set, part, read, running, send, stored
from tests.simulators.dataverse.test_metadata import get
from writeahead.simulators.dataverse import APPLICATION_USER

ROW = "11111111-2222-4333-8444-555555555555"
NEW = "21111111-2222-4333-8444-555555555555"
ALL = {f"prv{kind}Contact" for kind in ("Create", "Read", "Write", "Delete")}
HELD = f"systemusers({APPLICATION_USER})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()"


@pytest.mark.parametrize(
    ("withheld", "method", "path"),
    [
        ("prvReadContact", "GET", f"contacts({ROW})"),
        ("prvReadContact", "GET", "contacts"),
        ("prvReadContact", "GET", "contacts/$count"),
        ("prvCreateContact", "POST", "contacts"),
        ("prvCreateContact", "PATCH", f"contacts({NEW})"),
        ("prvWriteContact", "PATCH", f"contacts({ROW})"),
        ("prvDeleteContact", "DELETE", f"contacts({ROW})"),
    ],
)
def test_what_is_withheld_is_refused(tmp_path, withheld, method, path):
    body = {"lastname": "after"} if method in ("POST", "PATCH") else None
    with running(tmp_path, withheld_privileges=[withheld]) as (sim, http):
        sim.seed("contacts", {"contactid": ROW, "lastname": "before"})
        before = stored(sim, "contacts")
        reply = http.request(method, path, json=body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "0x80040220")
        assert withheld in reply.json()["error"]["message"]
        assert stored(sim, "contacts") == before
    # It is this one privilege that the request needs, and no other.
    with running(tmp_path, withheld_privileges=sorted(ALL - {withheld})) as (_, http):
        assert http.request(method, path, json=body).is_success


def test_all_activities_share_theirs_and_other_tables_have_their_own(tmp_path):
    with running(tmp_path, withheld_privileges=["prvCreateActivity"]) as (sim, http):
        answers = [http.post(name, json={}).status_code for name in ("tasks", "phonecalls", "contacts")]
        assert answers == [403, 403, 204]
        assert not stored(sim, "tasks") | stored(sim, "phonecalls")


def test_one_refusal_takes_the_whole_change_set_back(tmp_path):
    with running(tmp_path, withheld_privileges=["prvCreateAccount"]) as (sim, http):
        parts = [part("POST", name, {}, number) for number, name in enumerate(("contacts", "accounts"), 1)]
        [(status, *_)] = read(send(http, change_set(*parts)))
        assert (status, stored(sim, "contacts")) == (403, {})


def test_definitions_list_all_and_the_user_has_those_that_are_not_withheld(tmp_path):
    with running(tmp_path, withheld_privileges=["prvWriteContact"]) as (_, http):
        listed = {}
        for table in ("contact", "task", "phonecall"):
            found = get(http, f"EntityDefinitions(LogicalName='{table}')", select="Privileges")["Privileges"]
            listed[table] = {item["Name"]: item["PrivilegeId"] for item in found}
            if table == "contact":
                assert {item["PrivilegeType"] for item in found} >= {"Create", "Read", "Write", "Delete"}
        held = {item["PrivilegeName"]: item["PrivilegeId"] for item in get(http, HELD)["RolePrivileges"]}
    assert listed["task"] == listed["phonecall"]
    assert "prvDeleteActivity" in listed["task"]
    assert set(listed["contact"]) - set(held) == {"prvWriteContact"}
    assert held["prvReadContact"] == listed["contact"]["prvReadContact"]
    assert held["prvDeleteActivity"] == listed["task"]["prvDeleteActivity"]
