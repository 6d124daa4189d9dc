"""``owner_from``: the owner of a new row is read from the row that it points to."""

import json

import pytest

from writeahead import RunPolicy, resume_session
from writeahead.adapters.dataverse import DataverseAdapter, load_mapping
from writeahead.errors import InvalidInput
from writeahead.model import RunStatus
from writeahead.protocol.planning import keyed_operations
from writeahead.simulators.dataverse import APPLICATION_USER, HUMAN_USER, Settings, Simulator

TEAM = "7ea00000-0000-4000-8000-000000000001"
DEFAULT = "7ea00000-0000-4000-8000-000000000002"
QUEUE = "d0000000-0000-4000-8000-000000000001"
OTHER = "d0000000-0000-4000-8000-000000000002"
ACCOUNT = "b1000000-0000-4000-8000-000000000001"
GONE = "b1000000-0000-4000-8000-0000000000ff"
MAPPING = """
[kinds.task]
entity_set = "tasks"
key = "activityid"
marker = { session = "wa_sessionid", operation = "wa_operationid" }
columns = { subject = "subject" }
owner_from = "regarding"

[kinds.task.lookups.regarding]
contact = { navigation = "regardingobjectid_contact_task", entity_set = "contacts" }
queue_row = { navigation = "regardingobjectid_wa_callqueue_task", entity_set = "wa_callqueues" }

[kinds.task.lookups.owner]
user = { navigation = "ownerid", entity_set = "systemusers" }
team = { navigation = "ownerid", entity_set = "teams" }

[tables.contact]
entity_set = "contacts"
key = "contactid"
columns = ["lastname"]
owner_from = "parentcustomerid_account"

[tables.contact.lookups]
ownerid = { entity_sets = ["systemusers", "teams"], column = "ownerid" }
parentcustomerid_account = ["accounts"]

[tables.account]
entity_set = "accounts"
key = "accountid"
marker = { session = "emailaddress1", operation = "telephone1" }
columns = ["name"]
lookups = { ownerid = { entity_sets = ["systemusers", "teams"], column = "ownerid" } }
"""
WITH_DEFAULT = f"""{MAPPING}
[default_owner]
type = "team"
id = "{DEFAULT}"
"""


@pytest.fixture
def sim(tmp_path):
    with Simulator(tmp_path / "crm.sqlite") as running:
        running.seed("teams", {"teamid": TEAM, "name": "Desk"})
        running.seed("teams", {"teamid": DEFAULT, "name": "Default"})
        owned(running, "wa_callqueues", {"wa_callqueueid": QUEUE, "wa_name": "planted-name"}, team=TEAM)
        owned(running, "wa_callqueues", {"wa_callqueueid": OTHER}, user=HUMAN_USER)
        owned(running, "accounts", {"accountid": ACCOUNT, "name": "planted-name"}, user=HUMAN_USER)
        yield running


def owned(sim, entity_set, columns, team=None, user=None):
    owner = f"/teams({team})" if team else f"/systemusers({user})"
    return sim.seed(entity_set, {**columns, "ownerid@odata.bind": owner})


@pytest.fixture
def mapping_text():
    return WITH_DEFAULT


@pytest.fixture
def environ(environ):
    return {**environ, "DATAVERSE_READINESS": "full"}


def task(row=QUEUE, type_="queue_row", **more):
    return {
        "kind": "task",
        "payload": {"subject": "planted-subject", "regarding": {"type": type_, "id": row}, **more},
    }


def contact(account=ACCOUNT, **columns):
    lookup = {"parentcustomerid_account": {"entity_set": "accounts", "id": account}}
    return {
        "kind": "create_row",
        "payload": {"table": "contact", "columns": {"lastname": "a", **lookup, **columns}},
    }


def owners(sim, entity_set="tasks"):
    return [row["_ownerid_value"] for row in sim.rows(entity_set)]


def reads(sim, path):
    return len(sim.requests(method="GET", path=path))


@pytest.mark.parametrize("readiness", ["full", "off"])
@pytest.mark.parametrize("atomic", [False, True])
def test_a_team_or_a_user_is_the_owner_that_the_other_row_has(run, sim, readiness, atomic):
    operations = [task(), task(OTHER), task(QUEUE), contact()]
    report = run(*operations, readiness=readiness, atomic=atomic)
    assert report.status is RunStatus.COMPLETED
    assert not report.warnings
    assert sorted(owners(sim)) == sorted([TEAM, HUMAN_USER, TEAM])
    assert owners(sim, "contacts") == [HUMAN_USER]
    # Each row is read once.
    assert reads(sim, f"wa_callqueues({QUEUE})") == reads(sim, f"wa_callqueues({OTHER})") == 1


def test_an_owner_that_is_named_comes_first(run, sim):
    user = {"type": "user", "id": HUMAN_USER}
    named = {"ownerid": {"entity_set": "teams", "id": TEAM}}
    assert run(task(owner=user), contact(**named)).status is RunStatus.COMPLETED
    assert (owners(sim), owners(sim, "contacts")) == ([HUMAN_USER], [TEAM])
    assert reads(sim, "wa_callqueues*") == reads(sim, "accounts*") == 0


def test_without_the_field_it_is_as_without_owner_from(run, sim):
    plain = {"kind": "task", "payload": {"subject": "a"}}
    run(plain)
    run(plain, session="s2", text=MAPPING)
    assert sorted(owners(sim)) == sorted([DEFAULT, APPLICATION_USER])


def gone(sim):
    sim.delete("wa_callqueues", QUEUE)


def unreadable(sim):
    sim.faults.add("status", method="GET", path="wa_callqueues(*", status=403, code="0x80040220")


def disabled(sim):
    sim.edit("systemusers", HUMAN_USER, {"isdisabled": True})
    sim.edit("wa_callqueues", QUEUE, {"ownerid@odata.bind": f"/systemusers({HUMAN_USER})"})


def ownerless(sim):
    sim.edit("wa_callqueues", QUEUE, {"ownerid": None})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (gone, "the row that regarding points to is not there"),
        (unreadable, "the row that regarding points to can't be read"),
        (ownerless, "the row that regarding points to has no owner"),
        (disabled, "its owner: the user is disabled"),
    ],
)
def test_a_row_that_gives_no_owner(run, sim, tmp_path, change, said):
    change(sim)
    if change is gone:
        # The service would refuse to point to it: it is gone only after it was read.
        sim.faults.add("status", method="GET", path="wa_callqueues(*", status=404, times=1)
        sim.seed("wa_callqueues", {"wa_callqueueid": QUEUE})
    report = run(task())
    assert report.status is RunStatus.COMPLETED
    assert owners(sim) == [DEFAULT]
    assert sum(said in line and "the default owner gets it" in line for line in report.warnings) == 1
    plan = json.loads((tmp_path / "store/s1/planned-writeback.json").read_text())
    assert said in plan["operations"][0]["warnings"][0]
    assert "planted" not in "".join(report.warnings)


@pytest.mark.parametrize("readiness", ["full", "off"])
def test_without_a_default_owner_all_gaps_are_told_at_once(run, sim, readiness):
    report = run(task(GONE), contact(GONE), task(), text=MAPPING, readiness=readiness)
    assert report.status is RunStatus.BLOCKED
    said = report.error
    assert "operation 1-task: the row that regarding points to is not there" in said
    assert "operation 2-create_row: the row that parentcustomerid_account points to is not there" in said
    assert "3-task" not in said
    assert sim.requests(method="PATCH") == []


def test_gaps_of_owners_and_of_definitions_come_together(run):
    report = run(task(GONE, subject="x" * 200), contact(GONE, lastname="x" * 51), text=MAPPING)
    said = report.error
    assert "operation 1-task: the row that regarding points to is not there" in said
    assert "column lastname holds 50 characters" in said


def test_an_owner_that_the_mapping_does_not_take(run, sim):
    users = WITH_DEFAULT.replace('team = { navigation = "ownerid", entity_set = "teams" }', "")
    report = run(task(), text=users)
    assert "has an owner that the mapping's lookups do not take" in report.error
    assert sim.requests(method="PATCH") == []


def test_a_row_without_an_owner_column(run, sim):
    text = WITH_DEFAULT.replace('["accounts"]', '["accounts", "teams"]')
    lookup = {"parentcustomerid_account": {"entity_set": "teams", "id": TEAM}}
    report = run(contact(**lookup), text=text, readiness="off", dry_run=True)
    assert "the row that parentcustomerid_account points to can't be read" in " ".join(report.warnings)


def test_a_row_that_cannot_be_read_now_is_no_gap(run, sim):
    sim.faults.add("status", method="GET", path="wa_callqueues(*", status=503, times=9)
    report = run(task(), policy=RunPolicy(attempts=1))
    assert report.status is RunStatus.BLOCKED
    assert owners(sim) == []
    sim.faults.clear()
    assert run(task()).status is RunStatus.COMPLETED
    assert owners(sim) == [TEAM]


@pytest.mark.parametrize("atomic", [False, True])
def test_a_resume_keeps_to_the_owner_that_was_planned(run, sim, adapter_with, store, atomic):
    sim.faults.add("drop", method="PATCH", path="tasks(*", apply=False, times=1)
    sim.faults.add("drop", method="POST", path="$batch", apply=False, times=1)
    report = run(task(), policy=RunPolicy(attempts=1), atomic=atomic)
    assert report.status is RunStatus.RESUME_NEEDED
    sim.edit("wa_callqueues", QUEUE, {"ownerid@odata.bind": f"/systemusers({HUMAN_USER})"})
    done = resume_session("s1", store=store, adapter=adapter_with())
    assert done.status is RunStatus.COMPLETED
    assert owners(sim) == [TEAM]
    assert reads(sim, "wa_callqueues(*") == 1


@pytest.mark.parametrize("atomic", [False, True])
def test_a_lost_reply_writes_one_row(run, sim, adapter_with, store, atomic):
    sim.faults.add("drop", method="PATCH", path="tasks(*", apply=True, times=1)
    sim.faults.add("drop", method="POST", path="$batch", apply=True, times=1)
    assert run(task(), policy=RunPolicy(attempts=1), atomic=atomic).status is RunStatus.RESUME_NEEDED
    done = resume_session("s1", store=store, adapter=adapter_with())
    assert done.status is RunStatus.COMPLETED
    assert owners(sim) == [TEAM]


def test_a_plan_with_an_owner_of_another_table_is_not_carried_out(sim, adapter_with):
    adapter = adapter_with()
    (planned,) = adapter.plan(keyed_operations("s1", [task()]))
    assert planned.payload["columns"]["ownerid@odata.bind"] == f"/teams({TEAM})"
    columns = {**planned.payload["columns"], "ownerid@odata.bind": f"/wa_callqueues({QUEUE})"}
    with pytest.raises(InvalidInput, match="ownerid"):
        adapter.emit(planned.model_copy(update={"payload": {**planned.payload, "columns": columns}}))
    assert owners(sim) == []


def test_a_row_that_the_session_itself_makes_or_assigns(run, sim):
    made = keyed_operations("s1", [{"kind": "create_row", "payload": {"table": "account", "columns": {}}}])
    team = {"ownerid": {"entity_set": "teams", "id": TEAM}}
    account = {"kind": "create_row", "payload": {"table": "account", "columns": {"name": "a", **team}}}
    assign = {"kind": "update_row", "payload": {"table": "account", "row_id": ACCOUNT, "columns": team}}
    # The owner of the second contact's account changes in between.
    report = run(account, contact(made[0].key), contact(), assign, contact())
    assert report.status is RunStatus.COMPLETED
    assert sorted(owners(sim, "contacts")) == sorted([TEAM, HUMAN_USER, TEAM])
    assert not report.warnings


def test_an_assignment_that_preserve_leaves_out_changes_no_owner(run, sim):
    team = {"ownerid": {"entity_set": "teams", "id": TEAM}}
    assign = {"kind": "update_row", "payload": {"table": "account", "row_id": ACCOUNT, "columns": team}}
    text = WITH_DEFAULT.replace('columns = ["name"]', 'columns = ["name"]\npreserve = ["ownerid"]')
    assert run(assign, contact(), text=text).status is RunStatus.COMPLETED
    assert (owners(sim, "accounts"), owners(sim, "contacts")) == ([HUMAN_USER], [HUMAN_USER])


def test_a_dry_run_without_credentials_says_that_it_was_not_read(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(WITH_DEFAULT)
    with DataverseAdapter(None, None, mapping=path) as adapter:
        (planned,) = adapter.preview(keyed_operations("s1", [task()]))
    assert "who owns the row that regarding points to" in planned.warnings[-1]
    assert "ownerid@odata.bind" not in planned.payload["columns"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"regarding"', '"regards"', r"[kinds.task] owner_from is 'regards', which is not in lookups"),
        ('"regarding"', '"owner"', "which is the owner itself"),
        ('"regarding"', '"subject"', "which is not in lookups; there are regarding"),
        (
            '= "parentcustomerid_account"',
            '= "wa_nothing"',
            (
                "[tables.contact] owner_from is 'wa_nothing', which is not in lookups;"
                " there are parentcustomerid_account"
            ),
        ),
        (
            'ownerid = { entity_sets = ["systemusers", "teams"], column = "ownerid" }\nparent',
            "parent",
            "[tables.contact] owner_from needs lookups.ownerid",
        ),
    ],
)
def test_a_mapping_that_names_what_there_is_not(tmp_path, old, new, said):
    path = tmp_path / "mapping.toml"
    path.write_text(WITH_DEFAULT.replace(old, new))
    with pytest.raises(InvalidInput) as refused:
        load_mapping(path)
    assert said in str(refused.value)


def test_the_kind_that_creates_nothing_takes_none(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(
        'kinds.queue_status_update = { entity_set = "wa_callqueues", key = "wa_callqueueid",'
        ' guarded = ["statecode"], owner_from = "regarding",'
        ' marker = { session = "wa_lastsession", operation = "wa_lastoperation" },'
        ' options = { status = { column = "wa_status", values = { done = 1 } } } }'
    )
    with pytest.raises(InvalidInput, match="owner_from is 'regarding', which is not in lookups"):
        load_mapping(path)


def test_the_doctor_finds_rows_that_no_one_owns(adapter_with):
    text = WITH_DEFAULT.replace('["accounts"]', '["accounts", "teams"]')
    found = [item.text for item in adapter_with(text).doctor()]
    told = [text for text in found if "which parentcustomerid_account may point to" in text]
    assert [text.split(",")[0] for text in told] == ["rows of teams"]
    assert "have no owner" in told[0]


def test_the_doctor_finds_owners_that_may_not_be_read(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(WITH_DEFAULT)
    settings = Settings(withheld_privileges=["prvReadAccount", "prvReadWa_callqueue"])
    with (
        Simulator(tmp_path / "other.sqlite", settings=settings) as sim,
        DataverseAdapter(sim.url, sim.issue_token, mapping=path) as adapter,
    ):
        found = {item.subject for item in adapter.doctor() if item.level == "problem"}
    assert {
        "privileges on accounts [tables.contact, owner_from]",
        "privileges on wa_callqueues [kinds.task, owner_from]",
    } <= found
