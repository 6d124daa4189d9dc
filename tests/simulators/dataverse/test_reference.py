"""The standard tables are as Microsoft publishes them: data, loaded into the schema."""

import json
import re
from importlib import resources

import pytest

from tests.simulators.dataverse.test_metadata import get
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Kind

FILES = {
    file.name.removesuffix(".json"): json.loads(file.read_text(encoding="utf-8"))
    for file in resources.files("writeahead.simulators.dataverse.reference").iterdir()
    if file.name.endswith(".json")
}
WRITABLE = (True, True)
CREATE_ONLY = (True, False)
UPDATE_ONLY = (False, True)
READ_ONLY = (False, False)


def test_the_tables_that_are_published():
    assert set(FILES) == {
        "account",
        "activitypointer",
        "contact",
        "incident",
        "phonecall",
        "queueitem",
        "task",
    }


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_says_where_it_comes_from_and_what_it_leaves_out(name):
    source = FILES[name]["source"]
    assert source["page"].endswith("learn.microsoft.com")
    assert source["path"].endswith(f"/{name}.md")
    assert re.fullmatch(r"[0-9a-f]{40}", source["commit"])
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", source["date"])
    assert FILES[name]["left_out"]


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_published_column_is_in_the_definition(http, name):
    found = get(http, f"EntityDefinitions(LogicalName='{name}')", expand="Attributes")
    served = {item["LogicalName"]: item for item in found["Attributes"]}
    for column, facts in FILES[name]["columns"].items():
        item = served[column]
        assert item["AttributeType"] == facts["type"].replace("Image", "Virtual"), column
        assert item["RequiredLevel"]["Value"] == facts.get("required", "None"), column
        if DEFAULT_SCHEMA.get(found["EntitySetName"]).columns[column].kind is not Kind.OTHER:
            flags = (facts.get("create", True), facts.get("update", True))
            assert (item["IsValidForCreate"], item["IsValidForUpdate"]) == flags, column


@pytest.mark.parametrize(
    ("table", "column", "expected", "flags"),
    [
        ("phonecall", "subject", ("String", "ApplicationRequired"), WRITABLE),
        ("phonecall", "activityid", ("Uniqueidentifier", "SystemRequired"), CREATE_ONLY),
        ("phonecall", "scheduleddurationminutes", ("Integer", "None"), READ_ONLY),
        ("phonecall", "statecode", ("State", "SystemRequired"), UPDATE_ONLY),
        ("phonecall", "activitytypecode", ("EntityName", "SystemRequired"), READ_ONLY),
        ("task", "subject", ("String", "ApplicationRequired"), WRITABLE),
        ("activitypointer", "ownerid", ("Owner", "SystemRequired"), CREATE_ONLY),
        ("queueitem", "queueid", ("Lookup", "ApplicationRequired"), CREATE_ONLY),
        ("queueitem", "workeridtype", ("EntityName", "ApplicationRequired"), WRITABLE),
        ("queueitem", "title", ("String", "None"), READ_ONLY),
        ("contact", "lastname", ("String", "ApplicationRequired"), WRITABLE),
        ("contact", "firstname", ("String", "Recommended"), WRITABLE),
        ("contact", "parentcustomerid", ("Customer", "None"), WRITABLE),
        ("account", "name", ("String", "ApplicationRequired"), WRITABLE),
        ("incident", "customerid", ("Customer", "SystemRequired"), WRITABLE),
        ("incident", "ticketnumber", ("String", "None"), CREATE_ONLY),
    ],
)
def test_what_the_pages_say(http, table, column, expected, flags):
    path = f"EntityDefinitions(LogicalName='{table}')/Attributes(LogicalName='{column}')"
    item = get(http, path)
    assert (item["AttributeType"], item["RequiredLevel"]["Value"]) == expected
    assert (item["IsValidForCreate"], item["IsValidForUpdate"]) == flags


def test_parties_are_published_as_required():
    columns = FILES["phonecall"]["columns"]
    assert [columns[name]["required"] for name in ("from", "to")] == ["ApplicationRequired"] * 2


@pytest.mark.parametrize(
    ("column", "targets"),
    [
        ("regardingobjectid", {"account", "contact", "knowledgearticle", "wa_callqueue"}),
        ("from", {"account", "contact", "systemuser"}),
    ],
)
def test_a_lookup_names_the_tables_it_is_published_with(http, column, targets):
    path = f"EntityDefinitions(LogicalName='phonecall')/Attributes(LogicalName='{column}')"
    item = get(http, f"{path}/Microsoft.Dynamics.CRM.LookupAttributeMetadata", select="Targets")
    assert targets <= set(item["Targets"])


def test_ownership_is_as_published(http):
    for table, ownership in (("contact", "UserOwned"), ("queueitem", "None"), ("team", "OrganizationOwned")):
        found = get(http, f"EntityDefinitions(LogicalName='{table}')", select="OwnershipType")
        assert found["OwnershipType"] == ownership


def test_a_required_level_binds_apps_and_not_the_web_api(sim, http):
    assert http.post("contacts", json={"firstname": "Ada"}).status_code == 204
    assert sim.rows("contacts")[0]["lastname"] is None


def test_amounts_of_published_columns_are_kept(sim, http):
    amounts = {"creditlimit": 1000.129, "address1_latitude": 52.1234567, "entityimage": "AAAA"}
    assert http.post("accounts", json=amounts).status_code == 204
    [row] = sim.rows("accounts")
    assert (row["creditlimit"], row["address1_latitude"]) == (1000.13, 52.12346)
    # What is left out: the amount in the base currency, and images.
    assert (row["creditlimit_base"], row["entityimage"]) == (None, None)
    assert http.post("accounts", json={"creditlimit": -1}).status_code == 400


def test_what_the_system_requires_a_new_row_must_have(sim, http):
    account = sim.seed("accounts", {"name": "Ada & Co"})
    reply = http.post("incidents", json={"title": "No dial tone"})
    assert (reply.status_code, sim.count("incidents")) == (400, 0)
    customer = {"customerid_account@odata.bind": f"/accounts({account})"}
    assert http.post("incidents", json=customer).status_code == 204
    assert sim.rows("incidents")[0]["_customerid_value"] == account


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_activity_pointers_have_a_definition_and_no_rows(http, method):
    reply = http.request(method, "activitypointers", json={} if method == "POST" else None)
    assert reply.status_code == 501
    assert "activitypointers" in reply.json()["error"]["message"]


def test_the_default_state_comes_from_the_page(sim, http):
    case = {"customerid_account@odata.bind": f"/accounts({sim.seed('accounts')})"}
    for entity_set, status in (("tasks", 2), ("phonecalls", 1), ("incidents", 1)):
        row = sim.seed(entity_set, case if entity_set == "incidents" else None)
        assert (sim.row(entity_set, row)["statecode"], sim.row(entity_set, row)["statuscode"]) == (0, status)
    assert http.patch(f"incidents({row})", json={"statecode": 1}).status_code == 204
    assert sim.row("incidents", row)["statuscode"] == 5
