"""Table definitions, as a client reads them."""

from dataclasses import replace

import httpx
import pytest

from tests.simulators.dataverse.conftest import TOKEN
from tests.simulators.dataverse.test_batch import running
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator

PICKLIST = "Microsoft.Dynamics.CRM.PicklistAttributeMetadata"


def get(http, path, status=200, **options):
    answer = http.get(path, params={f"${name}": value for name, value in options.items()})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_definition_is_found_by_its_logical_name(http):
    task = get(
        http,
        "EntityDefinitions(LogicalName='task')",
        select="LogicalName,EntitySetName,PrimaryIdAttribute,IsOptimisticConcurrencyEnabled",
    )
    assert {name: value for name, value in task.items() if not name.startswith("@")} == {
        "MetadataId": task["MetadataId"],
        "LogicalName": "task",
        "EntitySetName": "tasks",
        "PrimaryIdAttribute": "activityid",
        "IsOptimisticConcurrencyEnabled": True,
    }


@pytest.mark.parametrize("by", ["LogicalName eq 'wa_callqueue'", "EntitySetName eq 'wa_callqueues'"])
def test_a_filter_finds_a_definition_with_its_parts(http, by):
    found = get(
        http,
        "EntityDefinitions",
        filter=by,
        select="LogicalName",
        expand="Attributes($select=LogicalName,AttributeType,IsValidForUpdate),ManyToOneRelationships,Keys",
    )
    (queue,) = found["value"]
    columns = {item["LogicalName"]: item for item in queue["Attributes"]}
    assert columns["wa_status"]["AttributeType"] == "Picklist"
    assert columns["ownerid"]["AttributeType"] == "Owner"
    assert columns["wa_callqueueid"]["IsValidForUpdate"] is False
    assert columns["createdon"]["IsValidForUpdate"] is False
    assert "RequiredLevel" not in columns["wa_status"]
    assert {
        (
            item["ReferencingAttribute"],
            item["ReferencedEntity"],
            item["ReferencingEntityNavigationPropertyName"],
        )
        for item in queue["ManyToOneRelationships"]
    } >= {("wa_contact", "contact", "wa_Contact"), ("ownerid", "owner", "ownerid")}
    assert get(http, "EntityDefinitions", filter="EntitySetName eq 'nothing'")["value"] == []


def test_columns_are_cast_to_their_type(http):
    lengths = get(
        http,
        "EntityDefinitions(LogicalName='task')/Attributes/Microsoft.Dynamics.CRM.StringAttributeMetadata",
        select="LogicalName,MaxLength",
    )
    assert {item["LogicalName"]: item["MaxLength"] for item in lengths["value"]}["subject"] == 200
    status = get(
        http,
        f"EntityDefinitions(LogicalName='wa_callqueue')/Attributes(LogicalName='wa_status')/{PICKLIST}",
        select="LogicalName",
        expand="OptionSet($select=Options),GlobalOptionSet",
    )
    options = status["OptionSet"]["Options"]
    assert [item["Value"] for item in options][:2] == [100000000, 100000001]
    assert options[0]["Label"]["UserLocalizedLabel"]["Label"] == "pending"
    assert status["GlobalOptionSet"] is None
    states = get(
        http,
        "EntityDefinitions(LogicalName='task')/Attributes/Microsoft.Dynamics.CRM.StatusAttributeMetadata",
        expand="OptionSet",
    )
    by_value = {item["Value"]: item["State"] for item in states["value"][0]["OptionSet"]["Options"]}
    assert by_value == {2: 0, 3: 0, 4: 0, 5: 1, 6: 2, 7: 0}
    direction = get(
        http,
        "EntityDefinitions(LogicalName='phonecall')/Attributes(LogicalName='directioncode')"
        "/Microsoft.Dynamics.CRM.BooleanAttributeMetadata",
        expand="OptionSet",
    )
    assert direction["OptionSet"]["TrueOption"]["Value"] == 1


def test_an_activity_calls_its_owner_by_a_name_of_its_own(http):
    found = get(http, "EntityDefinitions(LogicalName='phonecall')/ManyToOneRelationships")
    owner = [item for item in found["value"] if item["ReferencingAttribute"] == "ownerid"]
    assert [item["ReferencingEntityNavigationPropertyName"] for item in owner] == ["ownerid_phonecall"]


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("EntityDefinitions(LogicalName='nothing')", {}, 404),
        ("EntityDefinitions(LogicalName='task')/Attributes(LogicalName='nothing')", {}, 404),
        ("EntityDefinitions(LogicalName='task')", {"select": "Nothing"}, 400),
        ("EntityDefinitions(LogicalName='task')/Attributes", {"select": "MaxLength"}, 400),
        (
            "EntityDefinitions(LogicalName='task')/Attributes(LogicalName='prioritycode')",
            {"expand": "OptionSet"},
            400,
        ),
        ("EntityDefinitions", {"top": "1"}, 501),
        ("EntityDefinitions", {"filter": "startswith(LogicalName,'t')"}, 501),
        ("EntityDefinitions(LogicalName='task')/Privileges", {}, 501),
    ],
)
def test_what_is_not_there_or_not_imitated_is_refused(http, path, options, status):
    assert get(http, path, status, **options)["error"]["message"]


SYSTEM_REQUIRED = "Microsoft.Dynamics.CRM.AttributeRequiredLevel'SystemRequired'"


@pytest.mark.parametrize(
    ("path", "condition", "expected"),
    [
        ("EntityDefinitions", "IsPrivate eq false and (LogicalName eq 'task')", {"task"}),
        ("EntityDefinitions", "LogicalName eq 'task' or EntitySetName eq 'teams'", {"task", "team"}),
        ("EntityDefinitions", "IsPrivate eq true", set()),
        ("EntityDefinitions(LogicalName='task')/Attributes", "IsPrimaryId ne false", {"activityid"}),
        (
            "EntityDefinitions(LogicalName='task')/Attributes",
            "AttributeType eq Microsoft.Dynamics.CRM.AttributeTypeCode'State'",
            {"statecode"},
        ),
        (
            "EntityDefinitions(LogicalName='task')/Attributes",
            f"IsPrimaryId eq true and RequiredLevel/Value eq {SYSTEM_REQUIRED}",
            {"activityid"},
        ),
        ("EntityDefinitions(LogicalName='wa_callqueue')/Keys", "EntityKeyIndexStatus eq 'Failed'", set()),
    ],
)
def test_a_filter_on_definitions_is_applied(http, path, condition, expected):
    found = {item["LogicalName"] for item in get(http, path, filter=condition)["value"]}
    assert found == expected


def test_an_inner_filter_is_applied(http):
    inner = "$select=LogicalName;$filter=AttributeType eq Microsoft.Dynamics.CRM.AttributeTypeCode'State'"
    found = get(http, "EntityDefinitions(LogicalName='task')", expand=f"Attributes({inner})")
    assert [item["LogicalName"] for item in found["Attributes"]] == ["statecode"]


def test_a_definition_is_found_by_its_id(http):
    by_name = get(http, "EntityDefinitions(LogicalName='task')")
    assert get(http, f"EntityDefinitions({by_name['MetadataId']})")["LogicalName"] == "task"
    get(http, f"EntityDefinitions({by_name['MetadataId'][:-1]}x)", 501)
    get(http, "EntityDefinitions(00000000-0000-4000-8000-000000000000)", 404)


def test_definitions_never_come_in_pages(tmp_path):
    with running(tmp_path, page_size=1) as (_, http):
        reply = http.get("EntityDefinitions?$select=LogicalName", headers={"Prefer": "odata.maxpagesize=2"})
    assert len(reply.json()["value"]) == len(list(DEFAULT_SCHEMA))
    assert "@odata.nextLink" not in reply.json()


def test_definitions_are_those_of_the_given_schema(tmp_path):
    task = DEFAULT_SCHEMA.get("tasks")
    columns = {name: column for name, column in task.columns.items() if name != "wa_email"}
    schema = DEFAULT_SCHEMA.with_tables(replace(task, columns=columns, optimistic_concurrency=False))
    with (
        Simulator(tmp_path / "crm.sqlite", settings=Settings(static_tokens=[TOKEN], schema=schema)) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http,
    ):
        found = get(http, "EntityDefinitions(LogicalName='task')", expand="Attributes")
    assert found["IsOptimisticConcurrencyEnabled"] is False
    assert "wa_email" not in {item["LogicalName"] for item in found["Attributes"]}


def test_every_navigation_property_of_a_definition_can_be_bound(http, sim):
    rows = {}
    # The system requires a customer of a case.
    needed = {"incidents": {"customerid_account@odata.bind": f"/accounts({sim.seed('accounts')})"}}
    for table in DEFAULT_SCHEMA:
        columns = needed.get(table.entity_set, {})
        rows[table.logical_name] = (table.entity_set, sim.seed(table.entity_set, columns))
    rows["owner"] = rows["systemuser"]
    bound = 0
    for table in DEFAULT_SCHEMA:
        if table.list_only:
            continue
        path = f"EntityDefinitions(LogicalName='{table.logical_name}')/ManyToOneRelationships"
        for relation in get(http, path)["value"]:
            entity_set, row_id = rows[relation["ReferencedEntity"]]
            name = f"{relation['ReferencingEntityNavigationPropertyName']}@odata.bind"
            answer = http.post(
                table.entity_set, json={**needed.get(table.entity_set, {}), name: f"/{entity_set}({row_id})"}
            )
            assert answer.status_code == 204, (table.entity_set, name, answer.text)
            assert relation["ReferencedAttribute"] in ("ownerid", DEFAULT_SCHEMA.get(entity_set).primary_key)
            bound += 1
    assert bound > 20
