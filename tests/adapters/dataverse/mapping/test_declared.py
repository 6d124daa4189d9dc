"""What a mapping says of declared tables beside their columns: labels, owners, what is left out."""

import json

import pytest

from writeahead import RunPolicy, resume_session
from writeahead.adapters.dataverse import load_mapping
from writeahead.errors import InvalidInput
from writeahead.model import RunStatus
from writeahead.protocol.planning import keyed_operations
from writeahead.simulators.dataverse import HUMAN_USER, Simulator

TEAM = "7ea00000-0000-4000-8000-000000000001"
OTHER_TEAM = "7ea00000-0000-4000-8000-000000000002"
MAPPING = f"""
unknown_columns = "drop"

[tables.task]
entity_set = "tasks"
key = "activityid"
marker = {{ session = "wa_sessionid", operation = "wa_operationid" }}
columns = ["subject", "description"]

[tables.task.options]
prioritycode = {{ low = 0, normal = 1, high = 2 }}

[tables.task.lookups]
ownerid = ["systemusers", "teams"]

[tables.task.default_owner]
type = "team"
id = "{TEAM}"

[tables.contact]
entity_set = "contacts"
key = "contactid"
columns = ["lastname"]
unknown_columns = "refuse"
lookups = {{ ownerid = ["systemusers", "teams"] }}

[kinds.task]
entity_set = "tasks"
key = "activityid"
marker = {{ session = "wa_sessionid", operation = "wa_operationid" }}
columns = {{ subject = "subject" }}

[default_owner]
type = "team"
id = "{OTHER_TEAM}"
"""


@pytest.fixture
def sim(tmp_path):
    with Simulator(tmp_path / "crm.sqlite") as running:
        running.seed("teams", {"teamid": TEAM, "name": "Desk"})
        running.seed("teams", {"teamid": OTHER_TEAM, "name": "Others"})
        yield running


@pytest.fixture
def mapping_text():
    return MAPPING


def create(table, **columns):
    return {"kind": "create_row", "payload": {"table": table, "columns": columns}}


def test_a_label_becomes_its_value(run, sim):
    assert run(create("task", subject="a", prioritycode="high")).status is RunStatus.COMPLETED
    assert run(create("task", subject="b", prioritycode=0), session="s2").status is RunStatus.COMPLETED
    assert {row["subject"]: row["prioritycode"] for row in sim.rows("tasks")} == {"a": 2, "b": 0}


@pytest.mark.parametrize("value", ["urgent", 7, True, 2.0])
def test_a_label_or_a_value_that_the_mapping_lacks_is_refused(run, sim, value):
    with pytest.raises(InvalidInput, match=r"1-create_row: prioritycode"):
        run(create("task", subject="a", prioritycode=value))
    assert sim.requests(method="PATCH") == []


def test_unknown_labels_name_the_known_ones(run):
    with pytest.raises(InvalidInput, match=r"\[tables\.task\.options\] has high, low, normal"):
        run(create("task", subject="a", prioritycode="urgent"))


def test_a_plan_with_another_value_than_a_label_has_is_not_carried_out(run, sim, adapter_with):
    sim.faults.add("status", method="PATCH", status=403, code="0x80040220", times=1)
    assert run(create("task", subject="a", prioritycode="high")).status is RunStatus.BLOCKED
    adapter = adapter_with(readiness="full")
    planned = adapter.plan([_keyed(create("task", subject="a", prioritycode="high"))])
    payload = {**planned[0].payload, "columns": {**planned[0].payload["columns"], "prioritycode": 3}}
    with pytest.raises(InvalidInput, match="prioritycode"):
        adapter.emit(planned[0].model_copy(update={"payload": payload}))
    assert sim.count("tasks") == 0


def _keyed(operation):
    return keyed_operations("s1", [operation])[0]


def test_a_tables_own_default_owner_comes_before_the_files(run, sim):
    run(create("task", subject="a"), create("contact", lastname="Okafor"))
    assert sim.rows("tasks")[0]["_ownerid_value"] == TEAM
    assert sim.rows("contacts")[0]["_ownerid_value"] == OTHER_TEAM


def test_it_replaces_an_owner_that_can_not_own(run, sim):
    sim.edit("systemusers", HUMAN_USER, {"isdisabled": True})
    owner = {"entity_set": "systemusers", "id": HUMAN_USER}
    report = run(create("task", subject="a", ownerid=owner), create("contact", lastname="b", ownerid=owner))
    assert report.status is RunStatus.COMPLETED
    assert sim.rows("tasks")[0]["_ownerid_value"] == TEAM
    assert sim.rows("contacts")[0]["_ownerid_value"] == OTHER_TEAM
    assert sum("the default owner gets it" in line for line in report.warnings) == 2


def test_unknown_columns_are_left_out_and_listed(run, sim, tmp_path):
    report = run(
        create("task", subject="a", wa_email="x@example.com", regardingobjectid_contact_task=_row()),
        {"kind": "task", "payload": {"subject": "b", "category": "c", "due": "2026-12-01T10:00:00Z"}},
    )
    assert report.status is RunStatus.COMPLETED
    for name in ("wa_email", "regardingobjectid_contact_task", "category", "due"):
        assert sum(f"{name} is not in the mapping, and is left out" in line for line in report.warnings) == 1
    # In the plan, too, and no value of them.
    plan = (tmp_path / "store/s1/planned-writeback.json").read_text()
    assert "wa_email is not in the mapping" in json.loads(plan)["operations"][0]["warnings"][0]
    assert "x@example.com" not in plan
    assert [row["wa_email"] for row in sim.rows("tasks")] == [None, None]


def _row():
    return {"entity_set": "contacts", "id": TEAM}


@pytest.mark.parametrize(
    "operation",
    [
        create("contact", lastname="a", firstname="b"),
        create("task", wa_email="x"),
        create("task", subject="a", ownerid={"entity_set": "contacts", "id": TEAM}),
    ],
    ids=["refused by the table", "nothing left", "a lookup to another table"],
)
def test_what_is_still_refused(run, sim, operation):
    with pytest.raises(InvalidInput):
        run(operation)
    assert sim.requests(method="PATCH") == []


def test_a_resume_writes_the_same(run, sim, adapter_with, store):
    sim.faults.add("drop", method="PATCH", apply=True, times=3)
    report = run(create("task", subject="a", prioritycode="high", other=1), policy=RunPolicy(attempts=1))
    assert report.status is RunStatus.RESUME_NEEDED
    sim.faults.clear()
    done = resume_session("s1", store=store, adapter=adapter_with(readiness="full"))
    assert done.status is RunStatus.COMPLETED
    assert [(row["subject"], row["prioritycode"]) for row in sim.rows("tasks")] == [("a", 2)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('unknown_columns = "drop"\n\n', 'unknown_columns = "ignore"\n\n', "unknown_columns must be"),
        ('"description"]', '"prioritycode"]', "has column 'prioritycode' twice: what is in options"),
        ("high = 2", 'high = "2"', "options.prioritycode.high"),
    ],
)
def test_a_mapping_that_can_not_be_used(tmp_path, old, new, said):
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING.replace(old, new))
    with pytest.raises(InvalidInput) as refused:
        load_mapping(path)
    assert said.split(".")[-1] in str(refused.value)
