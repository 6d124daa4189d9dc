"""Valid and refused payloads and reads: types, option sets, lookups, states, filters."""

import dataclasses

import httpx
import pytest

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse import (
    APPLICATION_USER,
    HUMAN_USER,
    Column,
    Kind,
    Settings,
    Simulator,
    Table,
)
from writeahead.simulators.dataverse.tables import DEFAULT_SCHEMA

PENDING, DONE = 100_000_000, 100_000_002


@pytest.mark.parametrize(
    ("entity_set", "payload", "expected"),
    [
        ("tasks", {"nosuch": 1}, ("0x0", "Invalid property 'nosuch' was found in entity")),
        ("tasks", {"Subject": "x"}, ("0x0", "'Subject'")),
        ("tasks", {"subject": 5}, ("0x80048d19", "'Edm.String'")),
        ("tasks", {"subject": "x" * 201}, ("0x80044331", "maximum allowed length of '200'")),
        ("tasks", {"percentcomplete": "5"}, ("0x80048d19", "'Edm.Int32'")),
        ("tasks", {"percentcomplete": True}, ("0x80048d19", "'Edm.Int32'")),
        ("tasks", {"percentcomplete": 5.0}, ("0x80048d19", "'Edm.Int32'")),
        ("tasks", {"percentcomplete": 101}, ("0x80040203", "outside the valid range")),
        ("tasks", {"prioritycode": 9}, ("0x8004431a", "Accepted Values: 0,1,2")),
        ("tasks", {"scheduledend": "tomorrow"}, ("0x80048d19", "'Edm.DateTimeOffset'")),
        ("tasks", {"scheduledend": "2026-01-01T00:00:00"}, ("0x80048d19", "'Edm.DateTimeOffset'")),
        ("tasks", {"activityid": "7"}, ("0x80048d19", "'Edm.Guid'")),
        ("wa_callqueues", {"wa_donotcall": "yes"}, ("0x80048d19", "'Edm.Boolean'")),
        ("wa_callqueues", {"wa_status": 1}, ("0x8004431a", "'wa_status'")),
        ("tasks", {"_ownerid_value": HUMAN_USER}, ("0x80060888", "Navigation properties")),
        ("tasks", {"nosuch@odata.bind": "/contacts(1)"}, ("0x80048d19", "undeclared property 'nosuch'")),
        ("contacts", {"parentcustomerid@odata.bind": "/accounts(1)"}, ("0x80048d19", "'parentcustomerid'")),
        ("tasks", {"ownerid@odata.bind": HUMAN_USER}, ("0x80048d19", "no reference")),
        ("tasks", {"ownerid@odata.bind": f"/nosuch({HUMAN_USER})"}, ("0x80048d19", "no reference")),
        ("tasks", {"ownerid@odata.bind": f"/contacts({HUMAN_USER})"}, ("0x80048d19", "not to contacts")),
        ("tasks", {"statuscode": 5}, ("0x80048408", "not a valid status code")),
        ("phonecalls", {"phonecall_activity_parties": [{}]}, ("0x80048d19", "participationtypemask")),
    ],
)
def test_payload_that_does_not_fit(sim, http, entity_set, payload, expected):
    code, message = expected
    reply = http.post(entity_set, json=payload)
    assert reply.status_code == 400, reply.text
    assert reply.headers["content-type"].startswith("application/json")
    error = reply.json()["error"]
    assert error["code"] == code
    assert message.lower() in error["message"].lower()
    assert sim.count(entity_set) == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff", b'{"percentcomplete":NaN}'])
def test_body_that_is_no_json_object(sim, http, body):
    reply = http.post("tasks", content=body, headers={"Content-Type": "application/json"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "0x80048d19")
    assert sim.count("tasks") == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nosuch", 404, "0x8006088a"),
        ("GET", "Tasks", 404, "0x8006088a"),
        ("GET", f"tasks({HUMAN_USER})", 404, "0x80040217"),
        ("GET", "tasks(7)", 400, "0x0"),
        ("GET", "tasks?$select=nosuch", 400, "0x0"),
        ("GET", "tasks?$top=many", 400, "0x80060888"),
        ("GET", "tasks?$orderby=subject+sideways", 400, "0x80060888"),
        ("GET", "tasks?$expand=ownerid", 501, "0x0"),
        ("GET", "tasks(wa_sessionid='x')", 400, "0x0"),
        ("POST", "$batch", 400, "0x0"),
        ("GET", "$batch", 405, "0x0"),
        ("GET", "GlobalOptionSetDefinitions(Name='x')", 501, "0x0"),
        ("PATCH", "tasks", 405, "0x0"),
        ("PUT", f"tasks({HUMAN_USER})", 405, "0x0"),
        ("POST", "WhoAmI", 404, ""),
    ],
)
def test_resource_that_cannot_be_had(http, method, path, status, code):
    reply = http.request(method, path, json={} if method != "GET" else None)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_other_paths_are_named(sim):
    reply = httpx.get(f"{sim.url}/api/data/v8.0/tasks")
    assert reply.status_code == 404
    assert "/api/data/v8.0/tasks" in reply.json()["error"]["message"]


def test_a_new_row_has_its_system_columns(sim, http):
    row_id = http.post("phonecalls", json={"subject": "x"}).headers["OData-EntityId"][-37:-1]
    row = http.get(f"phonecalls({row_id})").json()
    assert (row["statecode"], row["statuscode"], row["prioritycode"]) == (0, 1, 1)
    assert row["_ownerid_value"] == row["_createdby_value"] == row["_modifiedby_value"] == APPLICATION_USER
    assert row["createdon"] == row["modifiedon"]
    assert row["createdon"].endswith("Z")
    assert (row["activityid"], row["directioncode"], row["description"]) == (row_id, True, None)


def test_what_a_client_cannot_set_is_dropped(sim, http):
    payload = {"createdon": "2001-01-01T00:00:00Z", "versionnumber": 7, "@odata.type": "x", "subject": "x"}
    assert http.post("tasks", json=payload).status_code == 204
    (row,) = sim.rows("tasks")
    assert not row["createdon"].startswith("2001")
    assert row["versionnumber"] > 7


@pytest.mark.parametrize(
    ("entity_set", "columns"),
    [
        ("tasks", {"statecode": 1}),
        ("wa_callqueues", {"statecode": 1}),
        ("contacts", {"lastusedincampaign": "2026-01-01T00:00:00Z"}),
        ("queueitems", {"title": "x"}),
        ("tasks", {"scheduleddurationminutes": 30}),
        ("contacts", {"fullname": "Ada Brandt"}),
    ],
)
def test_what_is_not_valid_for_create_is_dropped(sim, http, entity_set, columns):
    [name] = columns
    assert http.post(entity_set, json=columns).status_code == 204
    [row] = sim.rows(entity_set)
    assert row[name] == (0 if name == "statecode" else None)


def test_what_is_not_valid_for_update_is_dropped(sim, http):
    first, second = (sim.seed("queues", {"name": name}) for name in ("first", "second"))
    bind = {"queueid@odata.bind": f"/queues({first})", "priority": 1}
    assert http.post("queueitems", json=bind).status_code == 204
    [row] = sim.rows("queueitems")
    moved = {"queueid@odata.bind": f"/queues({second})", "importsequencenumber": 7, "priority": 2}
    assert http.patch(f"queueitems({row['queueitemid']})", json=moved).status_code == 204
    [after] = sim.rows("queueitems")
    assert (after["_queueid_value"], after["importsequencenumber"], after["priority"]) == (first, None, 2)


def test_a_contacts_full_name_is_made_of_its_names(sim, http):
    row = sim.seed("contacts", {"firstname": "Ada", "lastname": "Brandt"})
    assert sim.row("contacts", row)["fullname"] == "Ada Brandt"
    assert http.patch(f"contacts({row})", json={"firstname": None, "fullname": "x"}).status_code == 204
    assert http.get("contacts?$filter=fullname eq 'Brandt'").json()["value"][0]["contactid"] == row


@pytest.mark.parametrize("name", ["from", "to", "workeridtype"])
def test_what_is_in_definitions_alone_is_no_property(http, name):
    entity_set = "queueitems" if name == "workeridtype" else "phonecalls"
    reply = http.post(entity_set, json={name: "x"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "0x0")
    assert http.get(f"{entity_set}?$select={name}").status_code == 400


def test_lookups(sim, http):
    contact = sim.seed("contacts", {"lastname": "Lovelace"})
    team = sim.seed("teams", {"name": "Callers"})
    payload = {
        "regardingobjectid_contact_task@odata.bind": f"{sim.api_url}contacts({contact.upper()})",
        "ownerid@odata.bind": f"/teams({team})",
    }
    assert http.post("tasks", json=payload).status_code == 204
    (row,) = sim.rows("tasks")
    assert (row["_regardingobjectid_value"], row["_ownerid_value"]) == (contact, team)
    cleared = http.patch(f"tasks({row['activityid']})", json={"regardingobjectid_contact_task": None})
    assert cleared.status_code == 204
    assert sim.rows("tasks")[0]["_regardingobjectid_value"] is None


def test_bind_to_a_row_that_is_not_there(sim, http):
    reply = http.post("tasks", json={"ownerid@odata.bind": f"/teams({HUMAN_USER})"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "0x80040217")
    assert sim.count("tasks") == 0


def test_an_empty_text_is_stored_as_null(sim, http):
    row = sim.seed("tasks", {"subject": "x", "description": "x"})
    assert http.patch(f"tasks({row})", json={"subject": "", "description": ""}).status_code == 204
    assert (sim.row("tasks", row)["subject"], sim.row("tasks", row)["description"]) == (None, None)


def test_who_am_i_is_always_the_same(sim, http):
    told = http.get("WhoAmI").json()
    assert told["UserId"] == APPLICATION_USER
    assert told["@odata.context"].endswith("$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse")
    sim.stop()
    sim.start()
    assert http.get("WhoAmI").json() == told


def test_completing_a_call_is_an_update(sim, http):
    call = sim.seed("phonecalls", {"subject": "x"})
    assert http.patch(f"phonecalls({call})", json={"statuscode": 2}).status_code == 400
    assert http.patch(f"phonecalls({call})", json={"statecode": 1}).status_code == 204
    assert (sim.row("phonecalls", call)["statecode"], sim.row("phonecalls", call)["statuscode"]) == (1, 2)
    assert http.patch(f"phonecalls({call})", json={"statuscode": 4}).status_code == 204


def test_times_are_kept_in_utc_to_the_second(sim, http):
    http.post("tasks", json={"scheduledend": "2026-03-01T10:00:00.75+02:00"})
    assert sim.rows("tasks")[0]["scheduledend"] == "2026-03-01T08:00:00Z"


@pytest.fixture
def queue(sim):
    contact = sim.seed("contacts", {"lastname": "O'Brien"})
    for name, attempts in (("O'Brien", 1), ("Ada", 2), ("ada", 3)):
        sim.seed(
            "wa_callqueues",
            {
                "wa_name": name,
                "wa_attempts": attempts,
                "wa_donotcall": attempts == 3,
                "wa_status": DONE if attempts == 2 else PENDING,
                "wa_lastcallon": "2026-01-02T03:04:05Z" if attempts == 1 else None,
                "wa_Contact@odata.bind": f"/contacts({contact})" if attempts == 1 else None,
            },
        )
    return contact


@pytest.mark.parametrize(
    ("condition", "attempts"),
    [
        ("wa_name eq 'O''Brien'", [1]),
        ("wa_name eq 'ADA'", [2, 3]),
        ("wa_name eq ''", []),
        ("wa_attempts eq 2", [2]),
        ("wa_attempts eq -2", []),
        ("wa_donotcall eq true", [3]),
        ("wa_donotcall eq false and wa_status eq 100000000", [1]),
        ("(wa_donotcall eq false) and ((wa_status eq 100000002))", [2]),
        ("wa_lastcallon eq null", [2, 3]),
        ("wa_lastcallon eq 2026-01-02T04:04:05+01:00", [1]),
        ("_wa_contact_value eq {contact}", [1]),
        ("_wa_contact_value eq null", [2, 3]),
        ("wa_name eq 'Ada' and wa_name eq 'O''Brien'", []),
        ("wa_callqueueid eq 00000000-0000-4000-8000-000000000000", []),
        ("wa_name eq ') or (1 eq 1'", []),
        ("wa_name eq 'and'", []),
    ],
)
def test_filter(http, queue, condition, attempts):
    reply = http.get(
        "wa_callqueues",
        params={
            "$filter": condition.format(contact=queue),
            "$select": "wa_attempts",
            "$orderby": "wa_attempts asc",
        },
    )
    assert reply.status_code == 200, reply.text
    assert [row["wa_attempts"] for row in reply.json()["value"]] == attempts


@pytest.mark.parametrize(
    ("condition", "status"),
    [
        ("", 400),
        ("wa_name", 400),
        ("wa_name eq", 400),
        ("eq 'x'", 400),
        ("wa_name eq 'x", 400),
        ("wa_name = 'x'", 400),
        ("wa_name eq 'x' wa_attempts eq 1", 400),
        ("wa_name eq 'x' and", 400),
        ("(wa_name eq 'x'", 400),
        ("wa_name eq 'x')", 400),
        ("nosuch eq 'x'", 400),
        ("wa_name eq 5", 400),
        ("wa_attempts eq '5'", 400),
        ("wa_attempts eq five", 400),
        ("wa_donotcall eq 1", 400),
        ("_wa_contact_value eq 'x'", 400),
        ("wa_contact eq null", 400),
        ("wa_lastcallon eq 2026-13-01", 400),
        ("wa_name eq 'x'; DROP TABLE rows", 400),
        ("wa_name ne 'x'", 501),
        ("wa_name eq 'x' or wa_name eq 'y'", 501),
        ("not wa_donotcall", 501),
        ("contains(wa_name,'x')", 501),
    ],
)
def test_filter_that_cannot_be_read(http, queue, condition, status):
    reply = http.get("wa_callqueues", params={"$filter": condition})
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_order_and_top(http, queue):
    for way, attempts in (("asc", [1, 2, 3]), ("desc", [3, 2, 1])):
        reply = http.get(f"wa_callqueues?$orderby=wa_attempts {way}&$select=wa_attempts")
        assert [row["wa_attempts"] for row in reply.json()["value"]] == attempts
    reply = http.get("wa_callqueues?$orderby=wa_donotcall desc, wa_attempts  desc&$top=2&$select=wa_attempts")
    assert [row["wa_attempts"] for row in reply.json()["value"]] == [3, 2]
    assert http.get("wa_callqueues?$top=0").json()["value"] == []


def test_codes_can_be_empty_as_in_reality(tmp_path):
    settings = Settings(empty_error_codes=True, static_tokens=["t"])
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as sim:
        reply = httpx.get(f"{sim.api_url}nosuch", headers={"Authorization": "Bearer t"})
    assert reply.status_code == 404
    assert reply.json()["error"]["code"] == ""


HELP = "@Microsoft.PowerApps.CDS.HelpLink"
INNER = "@Microsoft.PowerApps.CDS.InnerError.Message"


@pytest.mark.parametrize(
    ("prefer", "annotations"),
    [
        ("", set()),
        ("return=representation", set()),
        ('odata.include-annotations="*"', {HELP, INNER}),
        ("odata.include-annotations=*, return=representation", {HELP, INNER}),
        ('odata.include-annotations="Microsoft.PowerApps.CDS.HelpLink"', {HELP}),
        ('odata.include-annotations="OData.Community.Display.V1.*,Microsoft.PowerApps.CDS.Inner*"', {INNER}),
        ('odata.include-annotations="Microsoft.PowerApps.CDS.ErrorDetails*"', set()),
    ],
)
def test_an_error_has_the_annotations_that_are_asked_for(http, prefer, annotations):
    error = http.get(f"tasks({HUMAN_USER})", headers={"Prefer": prefer}).json()["error"]
    assert set(error) == {"code", "message", *annotations}
    assert error.get(INNER, error["message"]) == error["message"]
    assert "%3a80040217&" in error.get(HELP, "%3a80040217&")


def test_a_table_can_be_added(tmp_path):
    table = Table(
        entity_set="wa_notes",
        logical_name="wa_note",
        primary_key="wa_noteid",
        primary_name="wa_text",
        columns={"wa_noteid": Column(kind=Kind.UNIQUEIDENTIFIER), "wa_text": Column(kind=Kind.MEMO)},
    )
    settings = Settings(schema=DEFAULT_SCHEMA.with_tables(table), static_tokens=["t"])
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as sim:
        headers = {"Authorization": "Bearer t"}
        assert httpx.post(f"{sim.api_url}wa_notes", json={"wa_text": "x"}, headers=headers).status_code == 204
        assert [row["wa_text"] for row in sim.rows("wa_notes")] == ["x"]


def test_seeding_is_checked_as_requests_are(sim):
    with pytest.raises(InvalidInput, match="nosuch"):
        sim.seed("tasks", {"nosuch": 1})
    with pytest.raises(InvalidInput, match="no table 'nosuch'"):
        sim.rows("nosuch")
    with pytest.raises(InvalidInput, match="Does Not Exist"):
        sim.edit("tasks", HUMAN_USER, {})
    with pytest.raises(InvalidInput, match="no GUID"):
        sim.delete("tasks", "7")
    assert sim.count("tasks") == 0


@pytest.mark.parametrize("table", list(DEFAULT_SCHEMA), ids=lambda table: table.entity_set)
def test_every_declared_table_is_sound(table):
    assert table.columns[table.primary_key].kind is Kind.UNIQUEIDENTIFIER
    assert table.primary_name in table.columns
    for column in table.columns.values():
        assert column.default is None or not column.options or column.default in column.options
        assert all(DEFAULT_SCHEMA.get(target) for target in column.navigation)
    if table.states:
        assert set(table.states) == set(table.columns["statecode"].options)
        paired = [status for statuses in table.states.values() for status in statuses]
        assert sorted(paired) == sorted(table.columns["statuscode"].options)


@pytest.mark.parametrize(
    ("text", "status"),
    [("\U0001f4de" * 100, 204), ("\U0001f4de" * 100 + "x", 400), ("\u00e9" * 200, 204)],
)
def test_lengths_are_counted_in_units_of_utf_16(sim, http, text, status):
    reply = http.post("tasks", json={"subject": text})
    assert reply.status_code == status
    if status == 400:
        assert reply.json()["error"]["code"] == "0x80044331"
    assert [row["subject"] for row in sim.rows("tasks")] == ([text] if status == 204 else [])


@pytest.mark.parametrize(
    ("closed_read_only", "columns", "status"),
    [
        (False, {"subject": "after"}, 204),
        (True, {"subject": "after"}, 400),
        (True, {"subject": "after", "statecode": 2, "statuscode": 3}, 400),
        (True, {"subject": "after", "statecode": 0, "statuscode": 1}, 204),
    ],
)
def test_a_closed_activity_may_refuse_changes(tmp_path, closed_read_only, columns, status):
    table = dataclasses.replace(DEFAULT_SCHEMA.get("phonecalls"), closed_read_only=closed_read_only)
    settings = Settings(static_tokens=["t"], schema=DEFAULT_SCHEMA.with_tables(table))
    with Simulator(tmp_path / "other.sqlite", settings=settings) as sim:
        row = sim.seed("phonecalls", {"subject": "before"})
        headers = {"Authorization": "Bearer t"}
        url = f"{sim.api_url}phonecalls({row})"
        closing = {"statecode": 1, "statuscode": 2}
        assert httpx.patch(url, json=closing, headers=headers).status_code == 204
        reply = httpx.patch(url, json=columns, headers=headers)
        assert reply.status_code == status
        if status == 400:
            assert reply.json()["error"]["message"] == "Cannot update Closed or Cancelled Activity"
        after = sim.row("phonecalls", row)
        assert after["subject"] == ("after" if status == 204 else "before")
        assert after["statecode"] == (columns.get("statecode", 1) if status == 204 else 1)


@pytest.mark.parametrize(("method", "status"), [("POST", 201), ("PATCH", 200)])
def test_a_representation_comes_with_its_version(sim, http, method, status):
    row = sim.seed("tasks", {}) if method == "PATCH" else None
    path = f"tasks({row})?$select=subject" if row else "tasks?$select=subject"
    prefer = {"Prefer": "return=representation"}
    reply = http.request(method, path, json={"subject": "x"}, headers=prefer)
    assert reply.status_code == status
    [stored] = sim.rows("tasks")
    assert reply.headers["ETag"] == reply.json()["@odata.etag"] == stored["@odata.etag"]
    assert reply.headers["Preference-Applied"] == "return=representation"
    assert "OData-EntityId" not in reply.headers
    assert {"subject", "activityid"} <= set(reply.json())
