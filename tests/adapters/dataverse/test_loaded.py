"""Rows that a host loaded, and that others edit before the host writes: judged by the rows."""

import json

import pytest

from tests.support.dataverse_rows import ACCOUNT, CONTACT, DEFAULT, ROW, SESSION, TABLES, seed_rows
from writeahead import Operation, RunPolicy, open_store, resume_session, write_back
from writeahead.adapters.dataverse import RowBaseline, adapter_from_settings
from writeahead.adapters.dataverse.mapping.payloads import RowWrite
from writeahead.adapters.dataverse.mapping.plans import Draft
from writeahead.adapters.dataverse.readiness.gate import _requirements
from writeahead.errors import InvalidInput
from writeahead.model import BlockReason, ReplayClass, RunStatus

ONCE = RunPolicy(wait_initial=0, wait_max=0, attempts=1)
TASK = "b4000000-0000-4000-8000-000000000001"
CALL = {"row_id": ROW, "status": "callback_requested", "attempts": 2, "notes": "ours"}
MORE = """
[tables.todo]
entity_set = "tasks"
key = "activityid"
columns = ["subject", "description"]
completion = { state = { completed = 1 } }
"""
# A kind, its payload, the row, an edit of what is watched, and one of what is not.
KINDS = {
    "queue_status_update": (
        CALL,
        ("queue_status_update", ROW),
        {"wa_donotcall": True},
        {"wa_phonenumber": "+49 30 777"},
    ),
    "update_row": (
        {"table": "row", "row_id": ROW, "columns": {"wa_notes": "ours"}},
        ("row", ROW),
        {"wa_donotcall": True},
        {"wa_phonenumber": "+49 30 777"},
    ),
    "update_row without a marker": (
        {"table": "contact", "row_id": CONTACT, "columns": {"description": "ours"}},
        ("contact", CONTACT),
        {"donotphone": True},
        {"firstname": "theirs"},
    ),
    "update_row by a key": (
        {"table": "account", "key": {"accountnumber": "A-1"}, "columns": {"name": "ours"}},
        ("account", {"accountnumber": "A-1"}),
        {"name": "theirs"},
        {"telephone1": "+49 30 777"},
    ),
    "upsert_row": (
        {"table": "account", "row_id": ACCOUNT, "columns": {"name": "ours"}},
        ("account", ACCOUNT),
        {"name": "theirs"},
        {"telephone1": "+49 30 777"},
    ),
    "complete_activity": (
        {"table": "tables.todo", "row_id": TASK},
        ("todo", TASK),
        {"statecode": 2},
        {"subject": "theirs"},
    ),
}
WHERE = {ROW: "wa_callqueues", CONTACT: "contacts", ACCOUNT: "accounts", TASK: "tasks"}


@pytest.fixture
def mapping_text():
    return DEFAULT + TABLES + MORE


@pytest.fixture
def sim(sim):
    seed_rows(sim)
    sim.seed("tasks", {"activityid": TASK, "subject": "Call back"})
    return sim


def run(adapter, store, *operations, **options):
    return write_back(operations, session_id=SESSION, store=store, adapter=adapter, policy=ONCE, **options)


def how(report):
    return report.status, report.block_reason


CONFLICT = RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED


def written(sim):
    return sim.requests(method="PATCH") + sim.requests(path="*$batch")


def place(row):
    row_id = ACCOUNT if isinstance(row, dict) else row
    return WHERE[row_id], row_id


@pytest.fixture(params=KINDS)
def case(request, adapter, sim):
    """A kind whose row is loaded, with a function that edits the row."""
    payload, (name, row), watched, other = KINDS[request.param]
    baseline = adapter.read_baseline(name, row)
    operation = Operation(kind=request.param.split(" ")[0], payload=payload, baseline=baseline)
    entity_set, row_id = place(row)
    return operation, entity_set, row_id, watched, other


# ---- what others did between the load and the plan


@pytest.mark.parametrize("atomic", [False, True])
def test_an_edit_of_what_is_watched_is_a_conflict(sim, adapter, store, case, atomic):
    operation, entity_set, row_id, watched, _ = case
    sim.edit(entity_set, row_id, watched)
    before = sim.row(entity_set, row_id)
    report = run(adapter, store, operation, atomic=atomic)
    assert how(report) == CONFLICT
    assert next(iter(watched)) in report.error
    assert "theirs" not in report.error
    assert sim.row(entity_set, row_id) == before
    assert written(sim) == []
    assert list(store.list()) == []


@pytest.mark.parametrize("atomic", [False, True])
def test_an_edit_elsewhere_in_the_row_stands(sim, adapter, store, case, atomic):
    """Nothing of ours was sent yet, so it is written for the version that planning finds."""
    operation, entity_set, row_id, _, other = case
    sim.edit(entity_set, row_id, other)
    version = sim.row(entity_set, row_id)["@odata.etag"]
    assert run(adapter, store, operation, atomic=atomic).ok
    row = sim.row(entity_set, row_id)
    assert other.items() <= row.items()
    assert "ours" in row.values() or row["statecode"] == 1
    if not atomic:
        assert [request.if_match for request in sim.requests(method="PATCH")] == [version]


def test_a_row_that_is_gone_is_a_conflict(sim, adapter, store, case):
    operation, entity_set, row_id, *_ = case
    sim.delete(entity_set, row_id)
    report = run(adapter, store, operation)
    assert how(report) == CONFLICT
    assert "gone since it was loaded" in report.error
    assert written(sim) == []
    assert sim.row(entity_set, row_id) is None


def test_a_row_without_an_edit_is_written(sim, adapter, store, case):
    operation, *_ = case
    assert run(adapter, store, operation).ok
    assert [request.status for request in sim.requests(method="PATCH")] == [204]


def test_a_key_that_leads_to_another_row_is_a_conflict(sim, adapter, store):
    """The columns may all be alike; the row is another one."""
    payload, (name, key), *_ = KINDS["update_row by a key"]
    baseline = adapter.read_baseline(name, key)
    sim.edit("accounts", ACCOUNT, {"accountnumber": "A-2"})
    other = sim.seed("accounts", {"name": "Ada Ltd", "accountnumber": "A-1"})
    report = run(adapter, store, Operation(kind="update_row", payload=payload, baseline=baseline))
    assert how(report) == CONFLICT
    assert "accountid" in report.error
    assert sim.row("accounts", other)["name"] == "Ada Ltd"


def test_all_conflicts_of_a_session_are_named(sim, adapter, store):
    first, (one, row), *_ = KINDS["update_row"]
    second, (other, contact), *_ = KINDS["update_row without a marker"]
    asked = [
        Operation(kind="update_row", payload=first, baseline=adapter.read_baseline(one, row)),
        Operation(kind="update_row", payload=second, baseline=adapter.read_baseline(other, contact)),
    ]
    sim.edit("wa_callqueues", ROW, {"wa_donotcall": True})
    sim.delete("contacts", CONTACT)
    report = run(adapter, store, *asked)
    assert how(report) == CONFLICT
    assert "1-update_row: " in report.error
    assert "2-update_row: " in report.error


# ---- what a baseline must say


def update(**baseline):
    return Operation(kind="queue_status_update", payload=CALL, baseline=baseline)


def test_the_version_alone_will_do_while_it_is_the_same(sim, adapter, store):
    etag = sim.row("wa_callqueues", ROW)["@odata.etag"]
    assert run(adapter, store, update(etag=etag)).ok


def test_the_version_alone_makes_any_edit_a_conflict(sim, adapter, store):
    etag = sim.row("wa_callqueues", ROW)["@odata.etag"]
    sim.edit("wa_callqueues", ROW, {"wa_phonenumber": "+49 30 777"})
    report = run(adapter, store, update(etag=etag))
    assert how(report) == CONFLICT
    assert "the baseline lacks statecode, wa_attempts" in report.error
    assert written(sim) == []


def test_a_value_that_happens_to_be_ours_does_not_hide_an_edit(sim, adapter, store):
    """Without a marker, values tell of a run of ours only if all else is as it was loaded."""
    payload, *_ = KINDS["update_row without a marker"]
    etag = sim.row("contacts", CONTACT)["@odata.etag"]
    sim.edit("contacts", CONTACT, {"description": "ours", "donotphone": True})
    report = run(adapter, store, Operation(kind="update_row", payload=payload, baseline={"etag": etag}))
    assert how(report) == CONFLICT
    assert written(sim) == []


def test_columns_alone_will_do(sim, adapter, store):
    columns = adapter.read_baseline("queue_status_update", ROW).columns
    sim.edit("wa_callqueues", ROW, {"wa_phonenumber": "+49 30 777"})
    assert run(adapter, store, update(columns=columns)).ok


@pytest.mark.parametrize("edited", [False, True])
def test_columns_alone_must_be_all_that_are_watched(sim, adapter, store, edited):
    """Whether the row is as it was or not."""
    columns = dict(adapter.read_baseline("queue_status_update", ROW).columns)
    del columns["wa_donotcall"]
    if edited:
        sim.edit("wa_callqueues", ROW, {"wa_donotcall": True})
    with pytest.raises(InvalidInput, match=r"1-queue_status_update: the baseline .* lacks wa_donotcall,"):
        run(adapter, store, update(columns=columns))
    assert written(sim) == []


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ({}, "etag or columns must say"),
        ({"etag": "*"}, "shape: etag"),
        ({"etag": 'W/"1"', "columns": {"planted": 1}}, "does not know planted of wa_callqueues"),
        ({"etag": 'W/"1"', "planted": 1}, "planted"),
        ({"columns": {"wa_donotcall": ["theirs"]}}, r"columns\.wa_donotcall"),
    ],
)
def test_what_is_no_baseline_is_refused(adapter, store, baseline, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        run(adapter, store, update(**baseline))
    assert "theirs" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("create_row", {"table": "contact", "columns": {"lastname": "x"}}),
        ("phone_call_activity", {"subject": "x"}),
        ("task", {"subject": "x"}),
    ],
)
def test_who_creates_a_row_has_not_loaded_it(adapter, store, kind, payload):
    baseline = {"etag": 'W/"1"'}
    with pytest.raises(InvalidInput, match=f"1-{kind} .*takes no baseline"):
        run(adapter, store, Operation(kind=kind, payload=payload, baseline=baseline))


def test_a_row_of_the_session_itself_was_not_loaded(sim, adapter, store):
    create = Operation(kind="create_row", payload={"table": "row", "columns": {"wa_name": "x"}})
    payload = {"table": "row", "operation": "1-create_row", "columns": {"wa_notes": "y"}}
    asked = Operation(kind="update_row", payload=payload, baseline={"etag": 'W/"1"'})
    with pytest.raises(InvalidInput, match="2-update_row: the baseline is of a row that this session itself"):
        run(adapter, store, create, asked)
    assert written(sim) == []


# ---- one row, many operations


@pytest.mark.parametrize("edit", [None, {"subject": "theirs"}, {"statecode": 2}])
def test_each_operation_is_held_against_its_own(sim, adapter, store, edit):
    """One load serves them all: it tells what the row was like before the session."""
    tables = adapter._mapping.tables
    marked = tables["todo"].model_copy(update={"marker": adapter._mapping.kinds["task"].marker})
    adapter._mapping.tables = {**tables, "todo": marked}
    loaded = adapter.read_baseline("todo", TASK)
    if edit:
        sim.edit("tasks", TASK, edit)
    before = sim.row("tasks", TASK)
    columns = {"table": "todo", "row_id": TASK, "columns": {"subject": "ours"}}
    done = {"table": "tables.todo", "row_id": TASK}
    report = run(
        adapter,
        store,
        Operation(kind="update_row", payload=columns, baseline=loaded),
        Operation(kind="complete_activity", payload=done, baseline=loaded),
    )
    if edit:
        assert how(report) == CONFLICT
        assert f"{1 if 'subject' in edit else 2}-" in report.error
        assert sim.row("tasks", TASK) == before
    else:
        assert report.ok
        row = sim.row("tasks", TASK)
        assert (row["subject"], row["statecode"]) == ("ours", 1)


# ---- repeats, resumes, lost artifacts


def test_a_repeat_has_the_same_request_whatever_was_loaded(sim, adapter, store):
    payload, (name, row), *_ = KINDS["update_row without a marker"]
    loaded = adapter.read_baseline(name, row)

    def again(baseline):
        return run(adapter, store, Operation(kind="update_row", payload=payload, baseline=baseline))

    assert again(loaded).status is RunStatus.COMPLETED
    sim.edit("contacts", CONTACT, {"donotphone": True})
    # Whether planning takes it for a conflict (the second) or not.
    for baseline in (adapter.read_baseline(name, row), {"etag": loaded.etag}, None):
        assert again(baseline).status is RunStatus.NO_RESUME_NEEDED
    assert len(sim.requests(method="PATCH")) == 1


def test_the_baseline_that_was_planned_holds(sim, adapter, store):
    """A repeat with a newer one goes on with the plan, and an edit since then is still found."""
    loaded = adapter.read_baseline("queue_status_update", ROW)
    sim.faults.add("status", method="PATCH", status=503)
    first = run(adapter, store, update(**loaded.model_dump()))
    assert first.status is RunStatus.RESUME_NEEDED
    sim.edit("wa_callqueues", ROW, {"wa_donotcall": True})
    newer = adapter.read_baseline("queue_status_update", ROW)
    report = run(adapter, store, update(**newer.model_dump()))
    assert how(report) == CONFLICT
    assert "wa_donotcall" in report.error
    assert sim.row("wa_callqueues", ROW)["wa_notes"] is None


def test_a_resume_needs_no_baseline(sim, adapter, store):
    sim.faults.add("status", method="PATCH", status=503)
    run(adapter, store, update(**adapter.read_baseline("queue_status_update", ROW).model_dump()))
    report = resume_session(SESSION, store=store, adapter=adapter, policy=ONCE)
    assert report.ok
    assert sim.row("wa_callqueues", ROW)["wa_notes"] == "ours"


@pytest.mark.parametrize("what", ["queue_status_update", "update_row without a marker"])
def test_our_own_write_of_a_run_that_was_lost_is_no_edit(sim, adapter, store, tmp_path, what):
    payload, (name, row), *_ = KINDS[what]
    loaded = adapter.read_baseline(name, row)
    asked = Operation(kind=what.split(" ")[0], payload=payload, baseline=loaded)
    assert run(adapter, store, asked).ok
    assert run(adapter, open_store(str(tmp_path / "empty")), asked).ok


@pytest.mark.parametrize("edited", [False, True])
def test_a_part_of_a_run_that_was_lost_is_no_edit(sim, adapter, store, tmp_path, edited):
    """But what others have edited beside it is one."""
    loaded = adapter.read_baseline("row", ROW)

    def operation(text):
        payload = {"table": "row", "row_id": ROW, "columns": {"wa_notes": text}}
        return Operation(kind="update_row", payload=payload, baseline=loaded)

    sim.faults.add("status", method="PATCH", status=503, skip=1)
    assert run(adapter, store, operation("one"), operation("two")).status is RunStatus.RESUME_NEEDED
    if edited:
        sim.edit("wa_callqueues", ROW, {"wa_donotcall": True})
    report = run(adapter, open_store(str(tmp_path / "empty")), operation("one"), operation("two"))
    assert report.ok is not edited
    assert sim.row("wa_callqueues", ROW)["wa_notes"] == ("one" if edited else "two")
    if edited:
        assert "2-update_row" in report.error
        assert report.error.endswith("wa_donotcall")


def test_the_plan_keeps_the_version_that_was_read_at_planning(sim, adapter, store):
    loaded = adapter.read_baseline("queue_status_update", ROW)
    sim.edit("wa_callqueues", ROW, {"wa_phonenumber": "+49 30 777"})
    assert run(adapter, store, update(**loaded.model_dump()), dry_run=True).status is RunStatus.PLANNED
    [planned] = json.loads(store.get(f".dry-run/{SESSION}/planned-writeback.json").data)["operations"]
    assert planned["precondition"]["etag"] == sim.row("wa_callqueues", ROW)["@odata.etag"] != loaded.etag
    assert "baseline" not in planned


# ---- read_baseline


def test_a_baseline_is_read_by_one_request(sim, adapter):
    loaded = adapter.read_baseline("contact", CONTACT)
    assert isinstance(loaded, RowBaseline)
    assert len(sim.requests(path="*contacts*")) == 1
    assert loaded.etag == sim.row("contacts", CONTACT)["@odata.etag"]
    assert set(loaded.columns) == {
        "contactid",
        "donotphone",
        "telephone1",
        "_parentcustomerid_value",
        "firstname",
        "lastname",
        "description",
    }
    assert RowBaseline.model_validate_json(loaded.model_dump_json()) == loaded


def test_only_what_will_be_written_is_read_besides(adapter):
    names = ["description", "parentcustomerid_account"]
    loaded = adapter.read_baseline("contact", CONTACT, names)
    watched = {"contactid", "donotphone", "telephone1", "_parentcustomerid_value"}
    assert set(loaded.columns) == {*watched, "description"}


def test_a_row_that_is_not_there_has_no_baseline(adapter):
    assert adapter.read_baseline("contact", "b9000000-0000-4000-8000-000000000009") is None
    assert adapter.read_baseline("account", {"accountnumber": "A-9"}) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("planted", ROW), r"\[kinds.planted\] or \[tables.planted\]"),
        (("tables.planted", ROW), r"\[tables.planted\]"),
        (("contact", CONTACT, ["planted"]), "does not know planted of contacts"),
        (("account", {"name": "theirs"}), "name is no alternate key"),
        (("contact", "theirs"), "GUID"),
    ],
)
def test_what_can_not_be_read_is_refused(sim, adapter, arguments, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        adapter.read_baseline(*arguments)
    assert "theirs" not in str(caught.value)
    assert sim.requests(method="GET") == []


def test_a_name_of_two_tables_is_asked_for(adapter):
    adapter._mapping.tables = {**adapter._mapping.tables, "task": adapter._mapping.tables["todo"]}
    with pytest.raises(InvalidInput, match=r"say which, kinds\.task or tables\.task"):
        adapter.read_baseline("task", TASK)
    assert adapter.read_baseline("tables.task", TASK).columns["subject"] == "Call back"


def test_a_row_may_be_loaded_as_one_table_and_written_as_another(sim, adapter, store):
    loaded = adapter.read_baseline("queue_status_update", ROW).columns
    more = adapter.read_baseline("row", ROW).columns
    payload = KINDS["update_row"][0]
    asked = Operation(kind="update_row", payload=payload, baseline={"columns": {**loaded, **more}})
    assert run(adapter, store, asked).ok


# ---- with the readiness check


@pytest.mark.parametrize("loaded", [None, RowBaseline(etag='W/"1"')])
def test_an_upsert_of_a_loaded_row_makes_none(adapter, loaded):
    """So its columns need not be such as a new row may have."""
    write = RowWrite(entity_set="accounts", row_id=ACCOUNT, columns={"name": "ours"}, table="tables.account")
    table = adapter._mapping.tables["account"]
    needed = _requirements(Draft("1-upsert_row", table, write, ReplayClass.UPSERT, loaded=loaded))
    assert (needed.creates, needed.updates) == (loaded is None, True)


def test_a_loaded_row_passes_the_gate(environ, adapter, sim, store, tmp_path):
    loaded = adapter.read_baseline("queue_status_update", ROW)
    full = {**environ, "DATAVERSE_READINESS": "full"}
    with adapter_from_settings(environ=full, timeout=5, mapping=tmp_path / "mine.toml") as checked:
        assert run(checked, store, update(**loaded.model_dump())).ok
    assert sim.requests(method="PATCH")[0].if_match == loaded.etag
