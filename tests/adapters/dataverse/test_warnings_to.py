"""Warnings of a plan in a column of the row, judged by the rows themselves."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.adapters.dataverse.test_binding import at
from tests.support.dataverse_rows import (
    CONTACT,
    DEFAULT,
    ROW,
    emit_change_set,
    emit_each,
    emit_without_replies,
    keyed,
    plan,
    sent,
)
from writeahead import RunPolicy, resume_session, write_back
from writeahead.adapters.dataverse import load_mapping
from writeahead.adapters.dataverse.mapping.own_columns import WarningsColumn
from writeahead.errors import ConflictError, InvalidInput, NotReady
from writeahead.model import Operation, RunStatus
from writeahead.stores.memory import MemoryStore

TABLES = """
[tables.person]
entity_set = "contacts"
key = "contactid"
columns = ["firstname", "lastname", "telephone1", "mobilephone"]
phones = ["telephone1"]
preserve = ["telephone1"]
warnings_to = { column = "description", length = 2000 }

[tables.row]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", operation = "wa_lastoperation" }
columns = ["wa_name", "wa_attempts", "wa_phonenumber"]
phones = ["wa_phonenumber"]
warnings_to = { column = "wa_notes", length = 4000 }
"""
MAPPING = DEFAULT.replace(
    "[kinds.phone_call_activity]\n", '[kinds.phone_call_activity]\nwarnings_to = "subcategory"\n'
).replace("[kinds.task]\n", '[kinds.task]\nwarnings_to = "subcategory"\n')
ODD = "telephone1 is no number in international format (+, country code, 7 to 15 digits)"
KEPT = "telephone1 has a value, and is left as it is"
ONCE = RunPolicy(wait_initial=0, wait_max=0, attempts=1)


@pytest.fixture
def mapping_text():
    return MAPPING + TABLES


@pytest.fixture
def sim(sim):
    sim.seed("contacts", {"contactid": CONTACT, "firstname": "Ada", "telephone1": "theirs"})
    sim.seed("wa_callqueues", {"wa_callqueueid": ROW, "wa_name": "Ada", "wa_notes": "before"})
    return sim


def person(**columns):
    return "create_row", {"table": "person", "columns": columns}


def update(table, row_id, **columns):
    return "update_row", {"table": table, "row_id": row_id, "columns": columns}


def with_columns(operation, **columns):
    payload = {**operation.payload, "columns": {**operation.payload["columns"], **columns}}
    return operation.model_copy(update={"payload": payload})


# ---- what is written


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_warnings_are_part_of_the_planned_write(sim, adapter, emit):
    planned = plan(adapter, person(lastname="x", telephone1="030 planted", mobilephone="1"))
    assert planned[0].warnings == (ODD,)
    assert planned[0].payload["columns"]["description"] == ODD
    emit(adapter, planned)
    assert sim.row("contacts", planned[0].key)["description"] == ODD


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_without_warnings_the_column_is_left_alone(sim, adapter, emit):
    planned = plan(
        adapter, person(lastname="x", telephone1="+49 30 901820"), update("row", ROW, wa_name="ours")
    )
    assert [operation.warnings for operation in planned] == [(), ()]
    assert "description" not in planned[0].payload["columns"]
    emit(adapter, planned)
    assert sim.row("contacts", planned[0].key)["description"] is None
    assert sim.row("wa_callqueues", ROW)["wa_notes"] == "before"


def test_a_named_kind_has_warnings_too(sim, adapter):
    emit_each(
        adapter, plan(adapter, ("phone_call_activity", {"subject": "x", "phone_number": "030 planted"}))
    )
    [call] = sim.rows("phonecalls")
    assert call["subcategory"].startswith("phone_number is no number in international format")
    assert "planted" not in call["subcategory"]


def test_what_planning_finds_out_late_is_in_it(sim, adapter):
    [planned] = plan(adapter, update("person", CONTACT, telephone1="030", firstname="ours"))
    adapter.emit(planned)
    row = sim.row("contacts", CONTACT)
    assert (row["telephone1"], row["firstname"], row["description"]) == ("theirs", "ours", f"{ODD}; {KEPT}")


def test_the_check_of_owners_is_in_it(sim, adapter_with):
    default = sim.seed("teams", {"name": "Everybody"})
    gone = sim.seed("systemusers", {"fullname": "planted-name", "isdisabled": True})
    adapter = adapter_with(
        f'default_owner = {{ type = "team", id = "{default}" }}\n{MAPPING}', readiness="full"
    )
    payload = {"subject": "x", "owner": {"type": "user", "id": gone}}
    emit_each(adapter, plan(adapter, ("task", payload)))
    [task] = sim.rows("tasks")
    assert task["subcategory"] == "its owner: the user is disabled; the default owner gets it"


def test_where_nothing_else_is_written_no_warning_is(sim, adapter):
    planned = plan(adapter, update("person", CONTACT, telephone1="+49 30 901820"))
    assert planned[0].warnings == (KEPT,)
    assert emit_each(adapter, planned) == ["already_applied"]
    assert emit_change_set(adapter, planned) == ["already_applied"]
    assert sent(sim) == sim.requests(path="*batch") == []


def test_a_row_that_was_found_gets_those_of_its_update_only(sim, adapter_with):
    adapter = adapter_with(
        MAPPING + TABLES.replace("length = 2000 }", 'length = 2000 }\nfind_by = ["lastname"]')
    )
    sim.edit("contacts", CONTACT, {"lastname": "Unique"})
    payload = {"table": "person", "operation": "1-create_row", "columns": {"telephone1": "030"}}
    planned = plan(adapter, person(lastname="Unique"), ("update_row", payload))
    assert "description" not in planned[0].payload["columns"]
    assert emit_each(adapter, planned) == ["already_applied", "already_applied"]
    sim.edit("contacts", CONTACT, {"telephone1": None})
    planned = plan(adapter, person(lastname="Unique"), ("update_row", payload))
    assert emit_each(adapter, planned) == ["already_applied", "applied"]
    assert sim.row("contacts", CONTACT)["description"] == ODD


@pytest.mark.parametrize(
    ("warnings", "length", "text"),
    [
        (["a" * 20], 20, "a" * 20),
        (["a" * 21], 20, "a" * 17 + "..."),
        (["a" * 10, "b" * 10], 22, "a" * 10 + "; " + "b" * 10),
        (["😀" * 10], 20, "😀" * 10),
        (["😀" * 11], 20, "😀" * 8 + "..."),
        (["a" + "😀" * 10], 20, "a" + "😀" * 8 + "..."),
    ],
)
def test_a_text_is_cut_in_units_of_the_column(warnings, length, text):
    column = WarningsColumn(column="a", length=length)
    assert column.text(warnings) == text
    assert len(text.encode("utf-16-le")) <= 2 * length
    assert column.is_text(text, warnings)
    assert not column.is_text(text + "x", warnings)


# ---- no content, and no evidence


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("cleared", [True, False])
def test_a_lost_reply_is_settled_whatever_became_of_the_warnings(sim, adapter, atomic, applied, cleared):
    operations = [
        update("person", CONTACT, firstname="ours", telephone1="030"),
        update("row", ROW, wa_phonenumber="030"),
        person(lastname="x", telephone1="030"),
    ]
    store = MemoryStore()
    options = {"store": store, "adapter": adapter, "policy": ONCE}
    method, path = ("POST", "*batch") if atomic else ("PATCH", "*")
    sim.faults.add("drop", method=method, path=path, apply=applied)
    asked = [Operation(kind=kind, payload=payload) for kind, payload in operations]
    report = write_back(asked, session_id="s", atomic=atomic, **options)
    assert report.status is RunStatus.RESUME_NEEDED
    if cleared and applied:
        sim.edit("contacts", CONTACT, {"description": None})
    report = resume_session("s", **options)
    assert report.status is RunStatus.COMPLETED, report.error
    assert len(report.warnings) == 4
    row = sim.row("contacts", CONTACT)
    assert (row["firstname"], row["description"]) == (
        "ours",
        None if cleared and applied else f"{ODD}; {KEPT}",
    )
    assert "wa_phonenumber is no number" in sim.row("wa_callqueues", ROW)["wa_notes"]


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_an_edit_of_the_column_is_no_conflict(sim, adapter, emit):
    planned = plan(adapter, update("row", ROW, wa_phonenumber="030"), update("row", ROW, wa_name="ours"))
    assert all("wa_notes" not in operation.precondition["guarded"] for operation in planned)
    sim.edit("wa_callqueues", ROW, {"wa_notes": "theirs"})
    assert emit(adapter, planned) == ["applied", "applied"]
    row = sim.row("wa_callqueues", ROW)
    assert (row["wa_name"], row["wa_phonenumber"]) == ("ours", "030")


@pytest.mark.parametrize("other", [None, "edited"])
def test_a_session_that_is_planned_again_compares_content_without_warnings(sim, adapter, tmp_path, other):
    create = person(lastname="x", telephone1="030")
    emit_each(adapter, plan(adapter, create))
    [operation] = plan(adapter, create)
    sim.edit("contacts", operation.key, {"description": other})
    later = datetime.now(UTC) + timedelta(hours=1)
    with at(sim, later, tmp_path / "mine.toml") as again:
        assert emit_each(again, plan(again, create)) == ["already_applied"]
        # What is content is compared still.
        with pytest.raises(ConflictError, match="lastname"):
            emit_each(again, plan(again, person(lastname="other", telephone1="030")))


def test_a_completion_has_them_too(sim, adapter):
    table = (
        load_mapping()
        .kinds["phone_call_activity"]
        .model_copy(update={"warnings_to": WarningsColumn(column="subcategory")})
    )
    assert table.completing().note(["w"]) == {"subcategory": "w"}
    planned = plan(
        adapter,
        ("phone_call_activity", {"subject": "x", "phone_number": "030"}),
        ("complete_activity", {"operation": "1-phone_call_activity", "status": "made"}),
    )
    emit_without_replies(sim, adapter, planned)
    [call] = sim.rows("phonecalls")
    assert (call["statecode"], call["subcategory"][:12]) == (1, "phone_number")


# ---- a plan that was changed on disk, and a payload


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("text", ["planted", ODD + "; planted", None, "", 1])
def test_a_changed_plan_writes_no_other_warnings(sim, adapter, emit, text):
    planned = plan(adapter, person(lastname="x", telephone1="030"))
    with pytest.raises(InvalidInput) as caught:
        emit(adapter, [with_columns(planned[0], description=text)])
    assert "planted" not in str(caught.value)
    clean = plan(adapter, person(lastname="x"))
    with pytest.raises(InvalidInput, match="description"):
        emit(adapter, [with_columns(clean[0], description=ODD)])
    assert sent(sim) == sim.requests(path="*batch") == []


def test_a_plan_outlives_another_length(sim, adapter, adapter_with):
    planned = plan(adapter, person(lastname="x", telephone1="030"))
    shorter = adapter_with((MAPPING + TABLES).replace("length = 2000", "length = 20"))
    assert emit_each(shorter, planned) == ["applied"]
    planned = shorter.plan([keyed(*person(lastname="x", telephone1="030"), 2)])
    assert planned[0].payload["columns"]["description"] == ODD[:17] + "..."
    assert emit_each(adapter, planned) == ["applied"]


def test_no_payload_names_the_column(adapter):
    with pytest.raises(InvalidInput, match="description may not be written"):
        plan(adapter, person(lastname="x", description="planted"))


# ---- the mapping and the environment


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"description", length = 2000', '"lastname"', ["[tables.person]", "'lastname'", "twice"]),
        (
            '"description", length = 2000',
            '"description", length = 0',
            ["[tables.person.warnings_to]", "length"],
        ),
        ("length = 2000 }", 'length = "2000" }', ["[tables.person.warnings_to]", "length"]),
        (
            '{ column = "description", length = 2000 }',
            '"Description"',
            ["[tables.person.warnings_to]", "column"],
        ),
        ('{ column = "description", length = 2000 }', "3", ["[tables.person]", "warnings_to"]),
        ("length = 2000 }", 'length = 2000 }\nguarded = ["description"]', ["'description'", "guarded"]),
        ("length = 2000 }", 'length = 2000 }\nfind_by = ["description"]', ["'description'", "find_by"]),
        ('warnings_to = "subcategory"', 'warnings_to = "subject"', ["'subject'", "twice"]),
        ('warnings_to = "subcategory"', 'warnings_to = "wa_sessionid"', ["'wa_sessionid'", "twice"]),
    ],
)
def test_a_mistake_in_the_mapping_is_named(tmp_path, old, new, words):
    path, text = tmp_path / "mine.toml", MAPPING + TABLES
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InvalidInput) as caught:
        load_mapping(path)
    assert all(word in str(caught.value) for word in [str(path), *words]), str(caught.value)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ('{ column = "description", length = 2001 }', "description holds 2000 characters"),
        ('"wa_warnings"', "there is no column wa_warnings"),
        ('"donotemail"', "donotemail is of type Boolean"),
        ('"createdon"', "createdon"),
        ('{ column = "description", length = 2000 }', None),
    ],
)
def test_the_column_is_checked_before_there_are_warnings(adapter_with, column, said):
    text = TABLES.replace('{ column = "description", length = 2000 }', column)
    adapter = adapter_with(MAPPING + text, readiness="full")
    if said is None:
        assert emit_each(adapter, plan(adapter, person(lastname="x"))) == ["applied"]
        return
    with pytest.raises(NotReady, match=said):
        plan(adapter, person(lastname="x"))
