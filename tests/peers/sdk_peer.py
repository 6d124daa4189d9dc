"""Microsoft's SDK for Python drives the simulator; what it wrote is read from the database.

For ``nox -s peers``: it needs ``PowerPlatform-Dataverse-Client``.
"""

import pytest
from PowerPlatform.Dataverse.core.errors import HttpError, MetadataError
from PowerPlatform.Dataverse.models import UpsertItem, col

from tests.peers.web_api_clients import TOKEN, Wire, microsofts_sdk, subjects
from writeahead.simulators.dataverse import Settings, Simulator

HARD = "O'Neil & S\u00f6hne 100% #1 + \U0001f4de"


@pytest.fixture
def sim(tmp_path):
    with Simulator(tmp_path / "crm.sqlite", settings=Settings(static_tokens=[TOKEN])) as running:
        yield running


@pytest.fixture
def wire(sim):
    with Wire(sim.url) as proxy:
        yield proxy


@pytest.fixture
def client(wire):
    with microsofts_sdk(wire.url) as sdk:
        yield sdk


def refused(call, status):
    with pytest.raises(HttpError) as caught:
        call()
    assert caught.value.status_code == status
    return str(caught.value)


def test_create_retrieve_update_delete(sim, client):
    row_id = client.records.create("task", {"Subject": HARD, "prioritycode": "High"})
    row = sim.row("tasks", row_id)
    # The name of a choice was looked up in the definitions.
    assert (row["subject"], row["prioritycode"]) == (HARD, 2)
    assert client.records.retrieve("task", row_id, select=["subject"])["subject"] == HARD
    client.records.update("task", row_id, {"subject": "changed"})
    assert sim.row("tasks", row_id)["subject"] == "changed"
    client.records.delete("task", row_id)
    assert sim.count("tasks") == 0
    assert client.records.retrieve("task", row_id) is None
    refused(lambda: client.records.update("task", row_id, {"subject": "made again"}), 404)
    refused(lambda: client.records.delete("task", row_id), 404)
    assert sim.count("tasks") == 0


def test_lookups_are_bound(sim, client):
    contact = sim.seed("contacts", {"lastname": "Okafor"})
    bind = "regardingobjectid_contact_task@odata.bind"
    row_id = client.records.create("task", {"subject": "x", bind: f"/contacts({contact})"})
    assert sim.row("tasks", row_id)["_regardingobjectid_value"] == contact


def test_many_at_once(sim, client):
    ids = client.records.create("task", [{"subject": HARD}, {"subject": "two"}])
    assert [sim.row("tasks", row_id)["subject"] for row_id in ids] == [HARD, "two"]
    client.records.update("task", ids, {"description": "all"})
    assert {row["description"] for row in sim.rows("tasks")} == {"all"}
    client.records.update("task", ids, [{"subject": "1"}, {"subject": "2"}])
    assert subjects(sim) == ["1", "2"]
    missing = ids[0].translate(str.maketrans("0123456789", "9876543210"))
    refused(lambda: client.records.update("task", [ids[0], missing], {"subject": "half"}), 404)
    refused(lambda: client.records.create("task", [{"subject": "half"}, {"nosuch": 1}]), 400)
    assert subjects(sim) == ["1", "2"]
    client.records.delete("task", ids, use_bulk_delete=False)
    assert sim.count("tasks") == 0


def test_upsert_by_alternate_key(sim, client):
    for name in ("first", "second"):
        client.records.upsert("account", [UpsertItem({"accountnumber": "A'1 \u00fc"}, {"name": name})])
        [row] = sim.rows("accounts")
        assert (row["accountnumber"], row["name"]) == ("A'1 \u00fc", name)
    several = [
        {"alternate_key": {"accountnumber": key}, "record": {"name": "both"}} for key in ("A'1 \u00fc", "A-2")
    ]
    client.records.upsert("account", several)
    assert [(row["name"]) for row in sim.rows("accounts")] == ["both", "both"]


def test_list_filter_order_and_top(sim, client):
    for number in range(3):
        sim.seed("tasks", {"subject": f"{number}", "prioritycode": number})
    found = client.records.list("task", filter="prioritycode eq 2", select=["subject"])
    assert [row["subject"] for row in found] == ["2"]
    found = client.records.list("task", orderby=["subject desc"], top=2, count=True)
    assert [row["subject"] for row in found] == ["2", "1"]
    query = client.query.builder("task").select("subject").where(col("subject") == "1")
    assert [row["subject"] for row in query.execute()] == ["1"]


def test_pages(sim, client, wire):
    for number in range(5):
        sim.seed("tasks", {"subject": f"{number}"})
    pages = list(client.records.list_pages("task", orderby=["subject"], page_size=2))
    assert [[row["subject"] for row in page] for page in pages] == [["0", "1"], ["2", "3"], ["4"]]
    assert len([sent for sent in wire.sent if sent.target.startswith("/api/data/v9.2/tasks")]) == 3


def test_definitions(sim, client):
    info = client.tables.get("task")
    assert (info["entity_set_name"], info["table_logical_name"]) == ("tasks", "task")
    names = {table["LogicalName"] for table in client.tables.list(select=["LogicalName"])}
    assert {"task", "account", "wa_callqueue"} <= names
    some = client.tables.list(filter="LogicalName eq 'task' or LogicalName eq 'team'")
    assert {table["EntitySetName"] for table in some} == {"tasks", "teams"}
    columns = client.tables.list_columns("task", filter="AttributeType eq 'State'")
    assert [column["LogicalName"] for column in columns] == ["statecode"]
    [key] = client.tables.get_alternate_keys("account")
    assert (key.key_attributes, key.status) == (["accountnumber"], "Active")
    assert client.tables.get("nosuch") is None
    with pytest.raises(MetadataError):
        client.records.create("nosuch", {"name": "x"})


def test_a_change_set(sim, client):
    gone = sim.seed("tasks", {"subject": "gone"})
    batch = client.batch.new()
    with batch.changeset() as changes:
        made = changes.records.create("contact", {"lastname": HARD})
        changes.records.create("task", {"subject": "new", "regardingobjectid_contact_task@odata.bind": made})
        changes.records.update("contact", made, {"firstname": "Ada"})
        changes.records.delete("task", gone)
    batch.records.list("task", filter="subject eq 'new'", select=["subject"])
    result = batch.execute()
    assert not result.has_errors
    [contact], [task] = sim.rows("contacts"), sim.rows("tasks")
    assert (contact["firstname"], contact["lastname"]) == ("Ada", HARD)
    assert (task["subject"], task["_regardingobjectid_value"]) == ("new", contact["contactid"])
    assert contact["contactid"] in {answer.entity_id for answer in result.responses}
    assert [row["subject"] for row in result.responses[-1].data["value"]] == ["new"]


def test_a_change_set_that_fails_writes_nothing(sim, client):
    batch = client.batch.new()
    with batch.changeset() as changes:
        changes.records.create("task", {"subject": "half"})
        changes.records.create("task", {"nosuch": 1})
    result = batch.execute()
    assert [answer.status_code for answer in result.failed] == [400]
    assert "nosuch" in result.failed[0].error_message
    assert sim.count("tasks") == 0


NOBODY = "00000000-0000-4000-8000-000000000000"


def mixed_batch(client, failing):
    batch = client.batch.new()
    batch.records.create("task", {"subject": "one"})
    failing(batch)
    batch.records.create("task", [{"subject": "two"}, {"subject": "three"}])
    batch.records.upsert("account", [UpsertItem({"accountnumber": "A-1"}, {"name": "x"})])
    batch.tables.get("task")
    return batch


def test_a_batch_goes_on_after_an_error(sim, client):
    batch = mixed_batch(client, lambda one: one.records.update("task", NOBODY, {"subject": "none"}))
    result = batch.execute(continue_on_error=True)
    assert [answer.status_code for answer in result.responses] == [204, 404, 200, 204, 200]
    assert subjects(sim) == ["one", "three", "two"]
    assert [row["name"] for row in sim.rows("accounts")] == ["x"]


def test_a_batch_ends_at_an_error(sim, client):
    result = mixed_batch(client, lambda one: one.records.create("task", {"nosuch": 1})).execute()
    assert [answer.status_code for answer in result.responses] == [204, 400]
    # The SDK reads the parts of an answer only if its status is 400, whatever it was that failed.
    batch = mixed_batch(client, lambda one: one.records.update("task", NOBODY, {"subject": "none"}))
    refused(batch.execute, 404)
    assert subjects(sim) == ["one", "one"]


def test_what_the_simulator_does_not_imitate_is_refused(sim, client):
    """Rather than answered with something else."""
    row_id = sim.seed("tasks", {"subject": "x"})
    message = refused(lambda: client.query.sql("SELECT subject FROM task"), 400)
    assert "sql query parameter is not supported." in message
    refused(lambda: client.records.delete("task", [row_id]), 501)
    refused(lambda: client.records.retrieve("task", row_id, expand=["ownerid"]), 501)
    refused(lambda: client.tables.create("new_Thing", {"new_Name": "string"}), 501)
    refused(lambda: client.tables.get_column("task", "subject", typed=True), 501)
    fetch = "<fetch><entity name='task'><attribute name='subject'/></entity></fetch>"
    refused(lambda: client.query.fetchxml(fetch).execute(), 501)
    assert subjects(sim) == ["x"]
