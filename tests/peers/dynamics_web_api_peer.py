"""dynamics-web-api drives the simulator; what it wrote is read from the database.

For ``nox -s peers``: it needs node, and the package in the folder that
WRITEAHEAD_DYNAMICS_WEB_API names.
"""

import uuid

import pytest

from tests.peers.web_api_clients import TOKEN, NodeError, dynamics_web_api, subjects
from writeahead.simulators.dataverse import HUMAN_USER, Settings, Simulator

HARD = "O'Neil & S\u00f6hne 100% #1 + \U0001f4de"


@pytest.fixture(scope="module")
def sim(tmp_path_factory):
    file = tmp_path_factory.mktemp("simulator") / "crm.sqlite"
    with Simulator(file, settings=Settings(static_tokens=[TOKEN])) as running:
        yield running


@pytest.fixture(scope="module")
def node(sim):
    with dynamics_web_api(sim.url) as client:
        yield client


@pytest.fixture(autouse=True)
def empty(sim):
    """One process for all tests, since it takes a second to start; no rows are left over."""
    for entity_set, key in (("tasks", "activityid"), ("accounts", "accountid"), ("contacts", "contactid")):
        for row in sim.rows(entity_set):
            sim.delete(entity_set, row[key])


def task(sim, subject="x", **columns):
    return sim.seed("tasks", {"subject": subject, **columns})


def refused(call, status):
    with pytest.raises(NodeError) as caught:
        call()
    assert caught.value.status == status
    return str(caught.value)


def test_create_retrieve_update_delete(sim, node):
    row_id = node.call("create", {"collection": "tasks", "data": {"subject": HARD}})
    assert sim.row("tasks", row_id)["subject"] == HARD
    row = {"collection": "tasks", "key": row_id}
    assert node.call("retrieve", {**row, "select": ["subject"]})["subject"] == HARD
    node.call("update", {**row, "data": {"subject": "changed"}})
    assert sim.row("tasks", row_id)["subject"] == "changed"
    shown = node.call("update", {**row, "data": {"subject": "shown"}, "returnRepresentation": True})
    assert shown["subject"] == "shown"
    node.call("deleteRecord", row)
    assert sim.count("tasks") == 0
    refused(lambda: node.call("retrieve", row), 404)
    refused(lambda: node.call("update", {**row, "data": {"subject": "made again"}}), 404)
    assert sim.count("tasks") == 0


def test_a_row_that_is_shown_as_it_is_made(sim, node):
    data = {"lastname": HARD, "firstname": "Ada"}
    request = {"collection": "contacts", "data": data, "returnRepresentation": True, "select": ["lastname"]}
    made = node.call("create", request)
    assert made["lastname"] == sim.row("contacts", made["contactid"])["lastname"] == HARD
    assert "firstname" not in made


def test_conditions_of_an_upsert(sim, node):
    row = {"collection": "tasks", "key": str(uuid.uuid4())}
    assert node.call("upsert", {**row, "data": {"subject": "none"}, "ifmatch": "*"}) is None
    assert sim.count("tasks") == 0
    node.call("upsert", {**row, "data": {"subject": "made"}, "ifnonematch": "*"})
    assert node.call("upsert", {**row, "data": {"subject": "twice"}, "ifnonematch": "*"}) is None
    assert subjects(sim) == ["made"]
    node.call("upsert", {**row, "data": {"subject": "changed"}})
    assert subjects(sim) == ["changed"]


def test_conditions_on_a_version(sim, node):
    row = {"collection": "tasks", "key": task(sim)}
    etag = node.call("retrieve", {**row, "select": ["subject"]})["@odata.etag"]
    assert node.call("update", {**row, "data": {"subject": "first"}, "ifmatch": etag}) is not False
    assert node.call("update", {**row, "data": {"subject": "late"}, "ifmatch": etag}) is False
    assert node.call("deleteRecord", {**row, "ifmatch": etag}) is False
    assert subjects(sim) == ["first"]
    etag = node.call("retrieve", row)["@odata.etag"]
    assert node.call("retrieve", {**row, "ifnonematch": etag}) is None
    node.call("deleteRecord", {**row, "ifmatch": etag})
    assert sim.count("tasks") == 0


def test_alternate_keys(sim, node):
    row = {"collection": "accounts", "key": "accountnumber='A-1 \u00fc'"}
    for name in ("first", "second"):
        node.call("upsert", {**row, "data": {"name": name}})
        [stored] = sim.rows("accounts")
        assert (stored["accountnumber"], stored["name"]) == ("A-1 \u00fc", name)
    assert node.call("retrieve", {**row, "select": ["name"]})["name"] == "second"
    node.call("update", {**row, "data": {"name": "third"}})
    assert sim.rows("accounts")[0]["name"] == "third"
    node.call("deleteRecord", row)
    assert sim.count("accounts") == 0


def test_filter_order_top_and_count(sim, node):
    for number in range(3):
        task(sim, f"{number}", prioritycode=number)
    tasks = {"collection": "tasks", "select": ["subject"]}
    found = node.call("retrieveMultiple", {**tasks, "filter": "prioritycode eq 2", "count": True})
    assert ([row["subject"] for row in found["value"]], found["oDataCount"]) == (["2"], 1)
    found = node.call("retrieveMultiple", {**tasks, "orderBy": ["subject desc"], "top": 2})
    assert [row["subject"] for row in found["value"]] == ["2", "1"]
    assert node.call("count", {"collection": "tasks"}) == 3
    assert node.call("count", {"collection": "tasks", "filter": "prioritycode eq 1"}) == 1
    assert node.call("countAll", {"collection": "tasks"}) == 3


def test_pages(sim, node):
    for number in range(5):
        task(sim, f"{number} {HARD}")
    tasks = {"collection": "tasks", "select": ["subject"], "orderBy": ["subject"], "maxPageSize": 2}
    pages, link = [], None
    while not pages or link:
        page = node.call("retrieveMultiple", tasks, link)
        pages.append([row["subject"][0] for row in page["value"]])
        link = page.get("oDataNextLink")
    assert pages == [["0", "1"], ["2", "3"], ["4"]]
    found = node.call("retrieveAll", tasks)
    assert [row["subject"] for row in found["value"]] == subjects(sim)


def test_lookups(sim, node):
    contact = sim.seed("contacts", {"lastname": "Okafor"})
    data = {"subject": "x", "regardingobjectid_contact_task@odata.bind": f"contacts({contact})"}
    row_id = node.call("create", {"collection": "tasks", "data": data})
    assert sim.row("tasks", row_id)["_regardingobjectid_value"] == contact


def test_actions_and_functions(sim, node):
    kind = "Microsoft.Dynamics.CRM.task"
    targets = [{"subject": name, "@odata.type": kind} for name in ("one", "two")]
    action = {"collection": "tasks", "actionName": "Microsoft.Dynamics.CRM.CreateMultiple"}
    made = node.call("callAction", {**action, "action": {"Targets": targets}})
    assert [sim.row("tasks", row_id)["subject"] for row_id in made["Ids"]] == ["one", "two"]
    assert "UserId" in node.call("callFunction", "WhoAmI")


def test_definitions(node):
    found = node.call("retrieveEntities", {"select": ["LogicalName"], "filter": "IsPrivate eq false"})
    assert {"task", "account"} <= {table["LogicalName"] for table in found["value"]}
    table = {"key": "LogicalName='task'", "select": ["EntitySetName"]}
    assert node.call("retrieveEntity", table)["EntitySetName"] == "tasks"
    columns = {"entityKey": "LogicalName='task'", "filter": "LogicalName eq 'subject'"}
    assert [one["LogicalName"] for one in node.call("retrieveAttributes", columns)["value"]] == ["subject"]


def test_a_change_set(sim, node):
    """The second request binds the row that the first one makes."""
    row = {"collection": "tasks", "key": task(sim)}
    contact = {"collection": "contacts", "data": {"lastname": HARD}, "contentId": "1"}
    new = {"subject": "new", "regardingobjectid_contact_task@odata.bind": "$1"}
    answers = node.batch(
        ("create", contact),
        ("create", {"collection": "tasks", "data": new}),
        ("update", {**row, "data": {"subject": "changed"}}),
        ("retrieveMultiple", {"collection": "tasks", "filter": "subject eq 'new'"}),
        ("deleteRecord", row),
    )
    [stored], [made] = sim.rows("tasks"), sim.rows("contacts")
    assert (stored["subject"], stored["_regardingobjectid_value"]) == ("new", made["contactid"])
    assert made["lastname"] == HARD
    assert answers[:2] == [made["contactid"], stored["activityid"]]
    assert [one["activityid"] for one in answers[3]["value"]] == [stored["activityid"]]


@pytest.mark.parametrize(
    ("failing", "status"),
    [
        (("create", {"collection": "tasks", "data": {"nosuch": 1}}), 400),
        (("update", {"collection": "tasks", "key": HUMAN_USER, "data": {"subject": "none"}}), 404),
    ],
)
def test_a_change_set_that_fails_writes_nothing(sim, node, failing, status):
    new = {"collection": "tasks", "data": {"subject": "half"}}
    refused(lambda: node.batch(("create", new), failing), status)
    assert sim.count("tasks") == 0


def test_a_batch_without_a_change_set(sim, node):
    """One request is refused, and the others are carried out."""
    calls = [("create", {"collection": "tasks", "data": {"subject": name}}) for name in ("one", "two")]
    calls.insert(1, ("create", {"collection": "tasks", "data": {"nosuch": 1}}))
    listed = [{"call": name, "request": {**request, "inChangeSet": False}} for name, request in calls]
    node.call("batch", listed, {"continueOnError": True})
    assert subjects(sim) == ["one", "two"]


def test_what_the_simulator_does_not_imitate_is_refused(sim, node):
    row = {"collection": "tasks", "key": task(sim)}
    change = {**row, "data": {"subject": "changed"}}
    for name in ("impersonate", "impersonateAAD"):
        refused(lambda name=name: node.call("update", {**change, name: HUMAN_USER}), 501)
    for name in ("bypassCustomPluginExecution", "mergeLabels"):
        refused(lambda name=name: node.call("update", {**change, name: True}), 501)
    refused(lambda: node.call("updateSingleProperty", {**row, "fieldValuePair": {"subject": "x"}}), 501)
    tasks = {"collection": "tasks"}
    refused(lambda: node.call("retrieveMultiple", {**tasks, "apply": "groupby((subject))"}), 501)
    refused(lambda: node.call("retrieveMultiple", {**tasks, "savedQuery": HUMAN_USER}), 501)
    refused(lambda: node.call("retrieveMultiple", {**tasks, "queryParams": ["sql=SELECT"]}), 400)
    fetch = "<fetch><entity name='task'/></fetch>"
    refused(lambda: node.call("fetch", {**tasks, "fetchXml": fetch}), 501)
    assert subjects(sim) == ["x"]
