"""``shorten``: a text that is longer than its column is cut in the plan, and no other is."""

import json
from dataclasses import replace

import pytest

from writeahead import RunPolicy, open_store, resume_session, write_back
from writeahead.adapters.dataverse import DataverseAdapter, Task, load_mapping
from writeahead.adapters.dataverse.mapping.free_texts import cut
from writeahead.errors import InvalidInput, PlanConflict
from writeahead.model import RunStatus
from writeahead.protocol.planning import keyed_operations
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Column, Kind, Settings, Simulator

ACCOUNT = "b1000000-0000-4000-8000-000000000001"
PLANTED = "planted-text "
MAPPING = """
[kinds.task]
entity_set = "tasks"
key = "activityid"
marker = { session = "wa_sessionid", operation = "wa_operationid" }
columns = { subject = "subject", description = "description", category = "category", email = "wa_email" }
shorten = ["subject", "description"]

[tables.account]
entity_set = "accounts"
key = "accountid"
columns = ["name", "description", "accountnumber", "telephone1", "donotphone"]
shorten = ["name", "description"]
phones = ["telephone1"]
alternate_keys = [["accountnumber"]]
"""


@pytest.fixture
def sim(tmp_path):
    accounts = DEFAULT_SCHEMA.get("accounts")
    columns = {**accounts.columns, "name": Column(kind=Kind.STRING, max_length=20)}
    schema = DEFAULT_SCHEMA.with_tables(replace(accounts, columns=columns))
    with Simulator(tmp_path / "crm.sqlite", settings=Settings(schema=schema)) as running:
        running.seed("accounts", {"accountid": ACCOUNT, "name": "before"})
        yield running


@pytest.fixture
def mapping_text():
    return MAPPING


@pytest.fixture
def environ(environ):
    return {**environ, "DATAVERSE_READINESS": "full"}


def task(**fields):
    return {"kind": "task", "payload": {"subject": "a", **fields}}


def create(**columns):
    return {"kind": "create_row", "payload": {"table": "account", "columns": columns}}


def update(**columns):
    payload = {"table": "account", "row_id": ACCOUNT, "columns": columns}
    return {"kind": "update_row", "payload": payload}


def units(text):
    return len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize("atomic", [False, True])
def test_a_long_text_is_cut_to_what_its_column_holds(run, sim, tmp_path, atomic):
    long = PLANTED * 400
    report = run(
        task(subject=long, description=long), create(name=long), update(description=long), atomic=atomic
    )
    assert report.status is RunStatus.COMPLETED
    (row,) = sim.rows("tasks")
    assert row["subject"] == (PLANTED * 16)[:199].rstrip() + "…"
    assert row["description"] == (PLANTED * 160)[:1999].rstrip() + "…"
    names = {row["accountid"]: row["name"] for row in sim.rows("accounts")}
    assert names.pop(ACCOUNT) == "before"
    assert list(names.values()) == ["planted-text plante…"]
    assert len(sim.row("accounts", ACCOUNT)["description"]) <= 2000
    # Each is told, in the plan, too, and without the text.
    lines = [line for line in report.warnings if "is cut to the" in line]
    assert [line.split(": ")[-1] for line in lines] == [
        "subject is cut to the 200 characters that its column holds, of 5200",
        "description is cut to the 2000 characters that its column holds, of 5200",
        "name is cut to the 20 characters that its column holds, of 5200",
        "description is cut to the 2000 characters that its column holds, of 5200",
    ]
    assert "planted" not in "".join(report.warnings)
    plan = json.loads((tmp_path / "store/s1/planned-writeback.json").read_text())
    assert plan["operations"][0]["payload"]["columns"]["subject"] == row["subject"]
    assert len(plan["operations"][0]["warnings"]) == 2


def test_what_fits_is_left_as_it_is(run, sim):
    report = run(task(subject="x" * 200, description="😀" * 1000), create(name="x" * 20))
    assert report.status is RunStatus.COMPLETED
    assert not report.warnings
    (row,) = sim.rows("tasks")
    assert (row["subject"], row["description"]) == ("x" * 200, "😀" * 1000)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        (task(category="x" * 201), "payload.category: it holds 200 characters, and 201 are given"),
        (task(email="x" * 200 + "@x.de"), "at most 100 characters"),
    ],
)
def test_a_field_that_is_not_named_keeps_its_length(run, sim, operation, said):
    with pytest.raises(InvalidInput) as refused:
        run(operation)
    assert said in str(refused.value)
    assert "xxx" not in str(refused.value)
    assert sim.requests(method="PATCH") == []


def test_without_shorten_every_field_keeps_its_length(run):
    text = MAPPING.replace('shorten = ["subject", "description"]', "")
    with pytest.raises(InvalidInput) as refused:
        run(task(subject=PLANTED * 20, description="y" * 2001), text=text)
    assert str(refused.value) == (
        "operation 1-task: payload.subject: it holds 200 characters, and 260 are given; payload.description:"
        " it holds 2000 characters, and 2001 are given: shorten it, or name the field in shorten of"
        " [kinds.task]"
    )


def test_a_column_that_is_not_named_is_a_gap(run, sim):
    report = run(create(name="x" * 99, accountnumber="x" * 21))
    assert "column accountnumber holds 20 characters, and 21 are planned" in report.error
    assert "name" not in report.error.replace("accountnumber", "")
    assert sim.count("accounts") == 1


def test_a_value_that_is_no_text_is_not_cut(run, sim):
    text = MAPPING.replace('shorten = ["name"', 'shorten = ["name", "donotphone"')
    report = run(create(name="a", donotphone=True), text=text)
    assert report.status is RunStatus.COMPLETED
    assert (
        "column donotphone is of type Boolean" in run(create(donotphone="x"), text=text, session="s2").error
    )


def test_without_definitions_fields_have_their_own_length_and_columns_none(run, sim, tmp_path):
    report = run(task(subject=PLANTED * 20), create(description="x" * 1999), readiness="off")
    assert report.status is RunStatus.COMPLETED
    assert sim.rows("tasks")[0]["subject"] == (PLANTED * 16)[:199].rstrip() + "…"
    assert sum("subject is cut to the 200" in line for line in report.warnings) == 1
    # The service refuses a text that was not cut.
    assert run(create(name="x" * 99), readiness="off", session="s2").status is RunStatus.BLOCKED


def test_the_column_decides_and_not_the_field(run, sim):
    """The field category has 200 characters, its column 250, and the one for an address 100."""
    text = MAPPING.replace('["subject", "description"]', '["category"]')
    assert not run(task(category="x" * 240), text=text).warnings
    shorter = text.replace(', email = "wa_email"', "").replace('"category",', '"wa_email",')
    shorter = shorter.replace('category = "category"', 'category = "wa_email"')
    assert run(task(category="x" * 240), text=shorter, session="s2").status is RunStatus.COMPLETED
    rows = {row["category"] or row["wa_email"] for row in sim.rows("tasks")}
    assert rows == {"x" * 240, "x" * 99 + "…"}


def test_a_dry_run_without_credentials_shows_the_cut(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    with DataverseAdapter(None, None, mapping=path) as adapter:
        (planned,) = adapter.preview(keyed_operations("s1", [task(subject="x" * 300)]))
    assert planned.payload["columns"]["subject"] == "x" * 199 + "…"
    assert "subject is cut to the 200 characters that its column holds, of 300" in planned.warnings


@pytest.mark.parametrize("atomic", [False, True])
def test_a_lost_reply_and_a_resume_leave_the_planned_text(run, sim, adapter_with, store, atomic):
    sim.faults.add("drop", method="PATCH", apply=True, times=1)
    sim.faults.add("drop", method="POST", path="$batch", apply=True, times=1)
    long = PLANTED * 99
    report = run(task(subject=long), update(name=long), policy=RunPolicy(attempts=1), atomic=atomic)
    assert report.status is RunStatus.RESUME_NEEDED
    done = resume_session("s1", store=store, adapter=adapter_with())
    assert done.status is RunStatus.COMPLETED
    assert sim.count("tasks") == 1
    assert sim.row("accounts", ACCOUNT)["name"] == "planted-text plante…"


def test_a_repeat_is_the_same_request_and_another_text_is_not(run, sim):
    long = PLANTED * 99
    assert run(task(subject=long)).status is RunStatus.COMPLETED
    sent = len(sim.requests(method="PATCH"))
    assert run(task(subject=long)).status is RunStatus.NO_RESUME_NEEDED
    # Other words, of which the same would be sent.
    assert run(task(subject=long + "more")).status is RunStatus.NO_RESUME_NEEDED
    with pytest.raises(PlanConflict):
        run(task(subject="more" + long))
    assert len(sim.requests(method="PATCH")) == sent


def test_what_was_asked_for_is_told_whatever_was_cut_of_it(adapter_with, tmp_path):
    text = MAPPING.replace(', email = "wa_email"', "").replace('"category" }', '"wa_email" }')
    text = text.replace('["subject", "description"]', '["category"]')
    plans = []
    for readiness in ("full", "off"):
        store = open_store(str(tmp_path / readiness))
        adapter = adapter_with(text, readiness=readiness)
        write_back([task(category="x" * 300)], session_id="s1", store=store, adapter=adapter)
        plans.append(json.loads((tmp_path / readiness / "s1/planned-writeback.json").read_text()))
    cut_to = [len(plan["operations"][0]["payload"]["columns"]["wa_email"]) for plan in plans]
    assert cut_to == [100, 200]
    assert plans[0]["request_digest"] == plans[1]["request_digest"]


def test_a_plan_that_was_lost_meets_its_own_row(run, sim, tmp_path, adapter_with):
    assert run(task(subject=PLANTED * 99)).status is RunStatus.COMPLETED
    other = open_store(str(tmp_path / "other"))
    operations = [task(subject=PLANTED * 99)]
    again = write_back(operations, session_id="s1", store=other, adapter=adapter_with())
    assert again.status is RunStatus.COMPLETED
    assert sim.count("tasks") == 1


def test_the_next_operation_on_the_row_meets_the_text_as_it_was_cut(run, sim):
    text = f"{MAPPING}[kinds.task.completion]\nstate = {{ completed = 1 }}\n"
    close = {"kind": "complete_activity", "payload": {"operation": "1-task"}}
    assert run(task(subject=PLANTED * 99), close, text=text).status is RunStatus.COMPLETED
    assert sim.rows("tasks")[0]["statecode"] == 1


def test_a_preserved_column_is_left_as_it_is_and_not_cut(run, sim):
    text = MAPPING.replace("phones =", 'preserve = ["name"]\nphones =')
    report = run(update(name=PLANTED * 99, description="x"), text=text)
    assert report.status is RunStatus.COMPLETED
    assert sim.row("accounts", ACCOUNT)["name"] == "before"
    assert "is cut" not in "".join(report.warnings)


def test_the_warning_stands_in_the_row_where_warnings_do(run, sim):
    text = MAPPING.replace(
        "shorten = ", 'warnings_to = { column = "subcategory", length = 250 }\nshorten = ', 1
    )
    assert run(task(subject=PLANTED * 99), text=text).status is RunStatus.COMPLETED
    said = "subject is cut to the 200 characters that its column holds, of 1287"
    assert sim.rows("tasks")[0]["subcategory"] == said


def test_a_plan_with_another_text_is_sent_as_it_is_and_refused_by_the_service(sim, adapter_with):
    adapter = adapter_with()
    (planned,) = adapter.plan(keyed_operations("s1", [task(subject=PLANTED * 99)]))
    columns = {**planned.payload["columns"], "subject": "x" * 201}
    with pytest.raises(Exception, match="400"):
        adapter.emit(planned.model_copy(update={"payload": {**planned.payload, "columns": columns}}))
    assert sim.count("tasks") == 0


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdefg", 6, "abcde…"),
        ("abc defg", 5, "abc…"),
        ("abcdefg", 1, "…"),
        ("ab😀cd", 4, "ab…"),
        ("ab😀cd", 5, "ab😀…"),
        ("😀😀", 2, "…"),
        ("abce\u0301fgh", 5, "abc…"),
        ("ab👩\u200d👩\u200d👧cd", 7, "ab…"),
        ("ab👍🏽cdef", 6, "ab…"),
        ("a" + "\u0301" * 9, 5, "a" + "\u0301" * 3 + "…"),
        ("ab\ud83dcdef", 5, "ab\ud83dc…"),
    ],
)
def test_where_a_text_is_cut(text, most, expected):
    found = cut(text, most)
    assert found == expected
    assert len(found.encode("utf-16-le", "surrogatepass")) // 2 <= most


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '["subject",',
            '["subjekt",',
            "[kinds.task] shorten has 'subjekt', which is no free text; there are",
        ),
        ('["subject",', '["email",', "no free text; there are category, description, subject"),
        ('["subject", "description"]', '["category"]', None),
        ('["name", "description"]', '["nam"]', "[tables.account] shorten has 'nam', which is not in columns"),
        ('["name", "description"]', '["telephone1"]', "which is in phones"),
        ('["name", "description"]', '["accountnumber"]', "which is in alternate_keys"),
        (
            "phones =",
            'find_by = ["name"]\nphones =',
            "[tables.account] shorten has 'name', which is in find_by",
        ),
        ('shorten = ["subject"', 'find_by = ["subject"]\nshorten = ["subject"', "which is in find_by"),
        ('description = "description", ', "", "shorten has 'description', which is not in columns"),
    ],
)
def test_a_mapping_that_names_what_can_not_be_cut(tmp_path, old, new, said):
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING.replace(old, new))
    if said is None:
        load_mapping(path)
        return
    with pytest.raises(InvalidInput) as refused:
        load_mapping(path)
    assert said in str(refused.value)


def test_the_doctor_finds_a_column_that_is_no_text(adapter_with):
    text = MAPPING.replace('shorten = ["name"', 'shorten = ["name", "donotphone"')
    problems = [item.text for item in adapter_with(text).doctor() if item.level == "problem"]
    assert problems == ["column donotphone is no text, and can't be cut: take donotphone out of shorten"]


def test_a_payload_model_takes_a_longer_text(run, sim):
    payload = Task(subject=PLANTED * 99)
    assert run({"kind": "task", "payload": payload.model_dump(mode="json")}).status is RunStatus.COMPLETED
    assert units(sim.rows("tasks")[0]["subject"]) <= 200
