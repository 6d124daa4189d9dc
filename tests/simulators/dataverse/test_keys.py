"""Alternate keys: they name rows and keep them unique. sqlite3 reads the truth."""

import contextlib
import dataclasses
import json
import sqlite3

import httpx
import pytest

from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator
from writeahead.simulators.dataverse.schema import AlternateKey

TOKEN = "token-of-the-tests"


def stored(sim, entity_set="accounts"):
    """Every row as SQLite has it, by its GUID."""
    with contextlib.closing(sqlite3.connect(sim.path)) as connection:
        found = connection.execute("SELECT id, body FROM rows WHERE entity_set = ?", (entity_set,))
        return {row_id: json.loads(body) for row_id, body in found}


@contextlib.contextmanager
def running(tmp_path, entity_set, **keys):
    """A simulator with other keys on a table, and a client of it."""
    table = dataclasses.replace(DEFAULT_SCHEMA.get(entity_set), keys=keys)
    settings = Settings(static_tokens=[TOKEN], schema=DEFAULT_SCHEMA.with_tables(table))
    with (
        Simulator(tmp_path / "other.sqlite", settings=settings) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http,
    ):
        yield sim, http


@pytest.mark.parametrize(
    ("number", "path"),
    [
        ("A-1", "accounts(accountnumber='A-1')"),
        ("O'Neil", "accounts(accountnumber='O''Neil')"),
        ("''", "accounts(accountnumber='''''')"),
        ("a (b), c=d", "accounts(accountnumber='a (b), c=d')"),
        ("Grün €", "accounts(accountnumber='Gr%C3%BCn%20%E2%82%AC')"),
        ("x#y", "accounts(accountnumber='x%23y')"),
        ("A-1", "accounts(%61ccountnumber=%27a-1%27)"),
    ],
)
def test_a_row_is_read_changed_and_deleted_by_its_alternate_key(sim, http, number, path):
    row_id = sim.seed("accounts", {"accountnumber": number, "name": "before"})
    other = sim.seed("accounts", {"accountnumber": "other"})
    assert http.get(path).json()["accountid"] == row_id
    assert http.patch(path, json={"name": "after"}).status_code == 204
    assert stored(sim)[row_id]["name"] == "after"
    assert http.delete(path).status_code == 204
    assert set(stored(sim)) == {other}


def test_an_upsert_by_alternate_key_creates_then_changes_one_row(sim, http):
    path = "accounts(accountnumber='O''Neil & co')".replace("&", "und").replace(" ", "%20")
    for name in ("first", "second"):
        reply = http.patch(path, json={"name": name})
        assert (reply.status_code, reply.headers["OData-EntityId"]) == (204, f"{sim.api_url}{path}")
        [row] = stored(sim).values()
        assert (row["name"], row["accountnumber"]) == (name, "O'Neil und co")


def test_the_key_in_the_body_counts_for_a_create_only(sim, http):
    sim.seed("accounts", {"accountnumber": "old"})
    assert http.patch("accounts(accountnumber='old')", json={"accountnumber": "x"}).status_code == 204
    assert [row["accountnumber"] for row in stored(sim).values()] == ["old"]
    assert http.patch("accounts(accountnumber='new')", json={"accountnumber": "y"}).status_code == 204
    assert sorted(row["accountnumber"] for row in stored(sim).values()) == ["old", "y"]


@pytest.mark.parametrize(
    ("seeded", "header", "expected"),
    [
        (False, {"If-Match": "*"}, (404, "0x80060891")),
        (False, {"If-None-Match": "*"}, (204, None)),
        (True, {"If-Match": "*"}, (204, None)),
        (True, {"If-Match": 'W/"1"'}, (412, "0x80060882")),
        (True, {"If-None-Match": "*"}, (412, "0x80040237")),
    ],
)
def test_conditions_hold_for_alternate_keys(sim, http, seeded, header, expected):
    status, code = expected
    if seeded:
        sim.seed("wa_callqueues", {"wa_externalid": "E1"})
    before = stored(sim, "wa_callqueues")
    reply = http.patch("wa_callqueues(wa_externalid='E1')", json={"wa_name": "x"}, headers=header)
    assert reply.status_code == status
    if code:
        assert reply.json()["error"]["code"] == code
        assert stored(sim, "wa_callqueues") == before
    else:
        [row] = stored(sim, "wa_callqueues").values()
        assert (row["wa_name"], row["wa_externalid"]) == ("x", "E1")


def test_a_missing_row_is_not_found(http):
    for method in ("GET", "DELETE"):
        reply = http.request(method, "accounts(accountnumber='none')")
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "0x80060891")


def test_a_second_row_of_the_same_key_is_refused(sim, http):
    sim.seed("accounts", {"accountnumber": "A"})
    other = sim.seed("accounts", {"accountnumber": "B"})
    guid = "11111111-2222-4333-8444-555555555555"
    before = stored(sim)
    for method, path in [
        ("POST", "accounts"),
        ("PATCH", f"accounts({guid})"),
        ("PATCH", f"accounts({other})"),
    ]:
        reply = http.request(method, path, json={"accountnumber": "a", "name": "x"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (412, "0x80060892")
    assert stored(sim) == before
    for _ in "ab":
        # Nulls are no values: there may be many.
        assert http.post("accounts", json={"accountnumber": None}).status_code == 204
    assert http.patch(f"accounts({other})", json={"accountnumber": "b"}).status_code == 204


def test_a_key_of_several_columns_needs_all_of_them_in_any_order(tmp_path):
    key = AlternateKey(("name", "primarycontactid", "donotphone"))
    with running(tmp_path, "accounts", both=key) as (sim, http):
        contact = sim.seed("contacts", {})
        path = f"accounts(donotphone=true,_primarycontactid_value={contact},name='x, y')"
        for _ in "ab":
            assert http.patch(path, json={"description": "z"}).status_code == 204
        [row] = stored(sim).values()
        assert (row["name"], row["_primarycontactid_value"], row["donotphone"]) == ("x, y", contact, True)
        assert http.get(path).json()["description"] == "z"
        assert http.get("accounts(name='x, y',donotphone=true)").status_code == 400


@pytest.mark.parametrize("status", ["Pending", "InProgress", "Failed"])
def test_a_key_without_an_active_index_has_no_effect(tmp_path, status):
    with running(tmp_path, "accounts", a=AlternateKey(("accountnumber",), status)) as (sim, http):
        sim.seed("accounts", {"accountnumber": "A"})
        for method in ("GET", "PATCH", "DELETE"):
            reply = http.request(method, "accounts(accountnumber='A')", json={})
            assert reply.status_code == 400
            assert "The key in the request URI is not valid" in reply.json()["error"]["message"]
        assert http.post("accounts", json={"accountnumber": "A"}).status_code == 204
        assert len(stored(sim)) == 2


@pytest.mark.parametrize(
    "key",
    [
        "name='x'",
        "accountnumber='x',name='y'",
        "accountnumber=5",
        "accountnumber=x",
        "accountnumber=",
        "='x'",
        "accountid='x'",
        "accountnumber='a%2Fb'",
        "accountnumber='a%26b'",
        "accountnumber='a%25b'",
        "accountnumber='a+b'",
    ],
)
def test_what_is_no_key_of_the_table_is_refused(sim, http, key):
    sim.seed("accounts", {"accountnumber": "x"})
    for method in ("GET", "PATCH", "DELETE"):
        assert http.request(method, f"accounts({key})", json={"name": "z"}).status_code == 400
    assert [row.get("name") for row in stored(sim).values()] == [None]


def test_the_primary_key_may_be_named_except_of_users_and_teams(sim, http):
    row_id = sim.seed("accounts", {})
    team = sim.seed("teams", {"name": "x"})
    assert http.get(f"accounts(accountid={row_id})").json()["accountid"] == row_id
    assert http.get(f"teams(teamid={team})").status_code == 400


def test_a_bind_by_alternate_key_points_to_the_row(sim, http):
    account = sim.seed("accounts", {"accountnumber": "O'Neil"})
    bind = "parentcustomerid_account@odata.bind"
    assert http.post("contacts", json={bind: "/accounts(accountnumber='O''Neil')"}).status_code == 204
    [row] = stored(sim, "contacts").values()
    assert row["_parentcustomerid_value"] == account
    reply = http.post("contacts", json={bind: "/accounts(accountnumber='none')"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "0x80060891")
    assert len(stored(sim, "contacts")) == 1


# ---- unique indexes that are no alternate keys


@contextlib.contextmanager
def with_index(tmp_path, *columns):
    """A simulator with a unique index on contacts, a row with the value "taken", and a client."""
    table = dataclasses.replace(DEFAULT_SCHEMA.get("contacts"), unique=(columns,))
    settings = Settings(static_tokens=[TOKEN], schema=DEFAULT_SCHEMA.with_tables(table))
    with (
        Simulator(tmp_path / "other.sqlite", settings=settings) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http,
    ):
        sim.seed("contacts", {"emailaddress1": "taken", "lastname": "Okafor"})
        yield sim, http


def test_a_unique_index_answers_as_for_a_guid_that_is_taken(tmp_path):
    with with_index(tmp_path, "emailaddress1") as (sim, http):
        other = sim.seed("contacts", {"emailaddress1": "free"})
        before = stored(sim, "contacts")
        fresh = "c9000000-0000-4000-8000-000000000009"
        taken = {"emailaddress1": "TAKEN"}
        replies = [
            http.post("contacts", json=taken),
            http.patch(f"contacts({fresh})", json=taken, headers={"If-None-Match": "*"}),
            http.patch(f"contacts({fresh})", json=taken),
            http.patch(f"contacts({other})", json=taken),
        ]
        for reply in replies:
            assert (reply.status_code, reply.json()["error"]["code"]) == (412, "0x80040237")
        assert stored(sim, "contacts") == before
        # It names no row, and no definition shows it.
        assert http.get("contacts(emailaddress1='taken')").status_code == 400
        assert http.get("EntityDefinitions(LogicalName='contact')/Keys").json()["value"] == []


def test_a_unique_index_holds_for_its_columns_together_and_lets_nulls_repeat(tmp_path):
    with with_index(tmp_path, "emailaddress1", "lastname") as (sim, http):
        for columns in ({"emailaddress1": "taken"}, {"emailaddress1": "taken"}, {"lastname": "Okafor"}):
            assert http.post("contacts", json=columns).status_code == 204
        both = {"emailaddress1": "taken", "lastname": "okafor"}
        assert http.post("contacts", json=both).status_code == 412
        assert len(stored(sim, "contacts")) == 4
