"""Activity parties: made with their activity, listed in a table of their own."""

import json
import uuid

import pytest

from writeahead.simulators.dataverse import APPLICATION_USER, HUMAN_USER

CALL = "d0000000-0000-4000-8000-000000000001"
CREATE = {"If-None-Match": "*"}


def user(mask, row=HUMAN_USER):
    return {"partyid_systemuser@odata.bind": f"/systemusers({row})", "participationtypemask": mask}


def call(*parties):
    return {"subject": "A call", "phonecall_activity_parties": list(parties)}


def parties(sim, activity=CALL):
    """Role, row and address of each, as the database has them."""
    return {
        (row["participationtypemask"], row.get("_partyid_value"), row.get("addressused"))
        for row in sim.rows("activityparties")
        if row["_activityid_value"] == activity
    }


OWNER = (9, APPLICATION_USER, None)


def batch(*patches):
    parts = "".join(
        "--c\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
        f"Content-ID: {n}\r\n\r\nPATCH /api/data/v9.2/phonecalls({row}) HTTP/1.1\r\n"
        f"Content-Type: application/json\r\nIf-None-Match: *\r\n\r\n{body}\r\n"
        for n, (row, body) in enumerate(patches, 1)
    )
    body = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{parts}--c--\r\n--b--\r\n"
    return {"content": body, "headers": {"Content-Type": "multipart/mixed; boundary=b"}}


def test_parties_are_made_with_their_activity(sim, http):
    contact = sim.seed("contacts", {"lastname": "Lovelace"})
    to = {"partyid_contact@odata.bind": f"/contacts({contact})", "participationtypemask": 2}
    unresolved = {"addressused": "+4930", "participationtypemask": 2}
    made = http.patch(f"phonecalls({CALL})", json=call(user(1), to, unresolved), headers=CREATE)
    assert made.status_code == 204
    assert parties(sim) == {(1, HUMAN_USER, None), (2, contact, None), (2, None, "+4930"), OWNER}
    assert sim.count("activityparties") == 4
    # They come with no read of the activity, but can be listed by it.
    assert "phonecall_activity_parties" not in http.get("phonecalls").json()["value"][0]
    found = http.get(
        "activityparties",
        params={
            "$select": "participationtypemask,_partyid_value,addressused",
            "$filter": f"_activityid_value eq {CALL}",
        },
    ).json()["value"]
    assert {row["participationtypemask"] for row in found} == {1, 2, 9}
    again = http.patch(f"phonecalls({CALL})", json=call(user(1)), headers=CREATE)
    assert (again.status_code, sim.count("activityparties")) == (412, 4)


@pytest.mark.parametrize(
    ("entity_set", "payload", "expected"),
    [
        ("phonecalls", call({}), (400, "0x80048d19", "participationtypemask")),
        ("phonecalls", call("x"), (400, "0x80048d19", "participationtypemask")),
        ("phonecalls", call({"participationtypemask": True}), (400, "0x80048d19", "participationtypemask")),
        ("phonecalls", {"phonecall_activity_parties": {}}, (400, "0x80048d19", "no collection")),
        ("phonecalls", call(user(99)), (400, "0x8004431a", "participationtypemask")),
        ("phonecalls", call(user(3)), (400, "0x80040203", "participation type 3")),
        ("phonecalls", call(user(9)), (400, "0x80040203", "participation type 9")),
        ("phonecalls", call({"participationtypemask": 2}), (400, "0x80040203", "missing")),
        ("phonecalls", call(user(1, CALL)), (404, "0x80040217", "Does Not Exist")),
        (
            "phonecalls",
            call({"partyid_team@odata.bind": f"/teams({CALL})", "participationtypemask": 1}),
            (400, "0x80048d19", "partyid_team"),
        ),
        (
            "phonecalls",
            call({"addressused": "x" * 321, "participationtypemask": 2}),
            (400, "0x80044331", "'320'"),
        ),
        ("tasks", {"task_activity_parties": [user(1)]}, (400, "0x80040203", "participation type 1")),
        ("tasks", {"phonecall_activity_parties": [user(1)]}, (400, "0x0", "Invalid property")),
        # The columns of the definitions are no properties of the Web API.
        ("phonecalls", {"to": [user(2)]}, (400, "0x0", "Invalid property 'to'")),
    ],
)
def test_parties_that_do_not_fit(sim, http, entity_set, payload, expected):
    status, code, message = expected
    reply = http.post(entity_set, json=payload)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code), reply.text
    assert message in reply.json()["error"]["message"]
    assert (sim.count(entity_set), sim.count("activityparties")) == (0, 0)


@pytest.mark.parametrize("row", [HUMAN_USER, CALL])
def test_a_change_set_makes_all_parties_or_none(sim, http, row):
    bodies = [json.dumps(call(user(1, HUMAN_USER))), json.dumps(call(user(2, row)))]
    http.post("$batch", **batch(*zip([CALL, str(uuid.uuid4())], bodies, strict=True)))
    assert sim.count("phonecalls") == (2 if row == HUMAN_USER else 0)
    assert sim.count("activityparties") == (4 if row == HUMAN_USER else 0)


def test_the_platform_keeps_parties_of_its_own(sim, http):
    contact = sim.seed("contacts", {"lastname": "Lovelace"})
    regarding = {"regardingobjectid_contact_phonecall@odata.bind": f"/contacts({contact})"}
    http.patch(f"phonecalls({CALL})", json={**call(user(1)), **regarding})
    assert parties(sim) == {(1, HUMAN_USER, None), (8, contact, None), OWNER}
    changes = {
        "ownerid@odata.bind": f"/systemusers({HUMAN_USER})",
        "regardingobjectid_contact_phonecall": None,
    }
    assert http.patch(f"phonecalls({CALL})", json=changes).status_code == 204
    assert parties(sim) == {(1, HUMAN_USER, None), (9, HUMAN_USER, None)}
    assert http.delete(f"phonecalls({CALL})").status_code == 204
    assert sim.count("activityparties") == 0


def test_parties_are_listed_and_nothing_else(sim, http):
    http.patch(f"phonecalls({CALL})", json=call(user(1)))
    (party, _) = sim.rows("activityparties")
    path = f"activityparties({party['activitypartyid']})"
    for method, where in (("GET", path), ("PATCH", path), ("DELETE", path), ("POST", "activityparties")):
        reply = http.request(method, where, json=None if method in ("GET", "DELETE") else user(2))
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "0x80040800")
    assert sim.count("activityparties") == 2


def test_what_becomes_of_parties_in_an_update_is_not_known(sim, http):
    http.patch(f"phonecalls({CALL})", json=call(user(1)))
    assert http.patch(f"phonecalls({CALL})", json=call(user(2))).status_code == 501
    assert http.patch(f"phonecalls({CALL})", json={"subject": "x"}).status_code == 204
    assert parties(sim) == {(1, HUMAN_USER, None), OWNER}


def test_the_definitions_say_which_parties_there_are(http):
    found = http.get(
        "EntityDefinitions(LogicalName='phonecall')",
        params={"$expand": "Attributes($select=LogicalName,AttributeType,IsValidForCreate,RequiredLevel)"},
    ).json()
    columns = {item["LogicalName"]: item for item in found["Attributes"]}
    for name in ("from", "to", "subject"):
        assert columns[name]["RequiredLevel"]["Value"] == "ApplicationRequired"
        assert columns[name]["IsValidForCreate"]
    assert columns["from"]["AttributeType"] == columns["to"]["AttributeType"] == "PartyList"
    assert not columns["statecode"]["IsValidForCreate"]
    assert not columns["scheduleddurationminutes"]["IsValidForCreate"]
    lookups = http.get(
        "EntityDefinitions(LogicalName='phonecall')/Attributes/Microsoft.Dynamics.CRM.LookupAttributeMetadata",
        params={"$select": "LogicalName,Targets"},
    ).json()["value"]
    targets = {item["LogicalName"]: item["Targets"] for item in lookups}
    assert targets["to"] == ["account", "contact", "systemuser"]
    relations = http.get("EntityDefinitions(LogicalName='activityparty')/ManyToOneRelationships").json()[
        "value"
    ]
    names = {
        (
            item["ReferencingAttribute"],
            item["ReferencedEntity"],
            item["ReferencingEntityNavigationPropertyName"],
            item["ReferencedEntityNavigationPropertyName"],
        )
        for item in relations
    }
    assert {
        ("activityid", "phonecall", "activityid_phonecall", "phonecall_activity_parties"),
        ("partyid", "systemuser", "partyid_systemuser", "system_user_activity_parties"),
        ("partyid", "contact", "partyid_contact", "contact_activity_parties"),
    } <= names
