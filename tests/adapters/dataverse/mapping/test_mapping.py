"""Mapping files: the default one fits; a mistake is named with file, table and field."""

import json
import tomllib
from importlib import resources

import pytest

from writeahead.adapters.dataverse import DataverseAdapter, load_mapping
from writeahead.adapters.dataverse.mapping.payloads import INPUTS
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation
from writeahead.simulators.dataverse import DEFAULT_SCHEMA

KEY = "0f8b3f0e-52c5-5d0c-9a53-5b0b3a1c7d11"
DEFAULT = (resources.files("writeahead.adapters.dataverse") / "default_mapping.toml").read_text()
NOT_MAPPED = {"task": {"phone_number"}}  # the simulator's task has no such column


def keyed(kind, payload):
    return KeyedOperation(session_id="s", id=f"1-{kind}", kind=kind, key=KEY, payload=payload)


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return written


@pytest.mark.parametrize("kind", INPUTS)
def test_the_default_mapping_knows_every_field(kind):
    table = load_mapping().kinds[kind]
    fields = set(INPUTS[kind].model_fields) - {"row_id", "clear"}
    assert set(table.fields()) == fields - NOT_MAPPED.get(kind, set())


@pytest.mark.parametrize("kind", INPUTS)
def test_the_default_mapping_fits_the_simulators_tables(kind):
    table = load_mapping().kinds[kind]
    actual = DEFAULT_SCHEMA.get(table.entity_set)
    assert actual is not None
    assert actual.primary_key == table.key
    assert set(table.written()) | set(table.guarded) <= set(actual.properties)
    for option in table.options.values():
        assert set(option.values.values()) <= {*actual.properties[option.column].options, True, False}
    for types in table.lookups.values():
        for lookup in types.values():
            assert lookup.entity_set in actual.navigations[lookup.navigation].targets


def test_an_own_mapping_decides_what_is_written(write):
    mapping = load_mapping(write(DEFAULT.replace('subject = "subject"', 'subject = "my_title"')))
    adapter = DataverseAdapter(None, None, mapping=mapping)
    planned = adapter.plan_task(INPUTS["task"](subject="x"), keyed("task", {}))
    assert planned.payload["columns"] == {
        "my_title": "x",
        "wa_sessionid": "s",
        "wa_operationid": "1-task",
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('subject = "subject"\n', "", ["kinds.phone_call_activity.columns", "'subject'"]),
        ('entity_set = "tasks"\n', "", ["[kinds.task]", "entity_set"]),
        ('entity_set = "tasks"\n', 'entity_set = "../tasks"\n', ["[kinds.task]", "entity_set"]),
        ('operation = "wa_lastoperation"', 'x = "wa_lastoperation"', ["update.marker", "x: "]),
        ('entity_set = "tasks"\n', 'entity_set = "tasks-"\n', ["[kinds.task]", "entity_set"]),
        ('due = "scheduledend"', 'do = "scheduledend"', ["[kinds.task]", "'do'", "due"]),
        ('due = "scheduledend"', 'due = "subject"', ["[kinds.task]", "'subject'", "twice"]),
        ('due = "scheduledend"', "due = 3", ["[kinds.task.columns]", "due"]),
        ('due = "scheduledend"', 'priority = "scheduledend"', ["[kinds.task]", "'priority'", "twice"]),
        ('due = "scheduledend"', 'due = "wa_operationid"', ["[kinds.task]", "'wa_operationid'", "twice"]),
        ("low = 0", 'low = "0"', ["kinds.task.options.priority.values", "low"]),
        ("guarded = [", "unguarded = [", ["[kinds.queue_status_update]", "unguarded"]),
        ("[kinds.task]", "[kinds.tusk]", ["kinds.tusk", "task"]),
        ("[kinds.task]", 'other = 1\n[kinds.task]\nguarded = ["x"]', ["other"]),
        ("[kinds.task]\n", '[kinds.task]\nguarded = ["x"]\n', ["[kinds.task]", "guarded"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_table_and_field(write, old, new, words):
    assert old in DEFAULT
    path = write(DEFAULT.replace(old, new, 1))
    with pytest.raises(InvalidInput) as caught:
        load_mapping(path)
    assert all(word in str(caught.value) for word in [str(path), *words]), str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_updating_kind_must_guard_something(write):
    text = DEFAULT.replace('guarded = ["statecode"', 'guarded = [] # ["statecode"')
    with pytest.raises(InvalidInput, match="needs guarded"):
        load_mapping(write(text))


@pytest.mark.parametrize("text", ["[kinds.task", "kinds = 3", "", "x = 1\n", "\x00"])
def test_a_file_that_is_no_mapping(write, text):
    path = write(text)
    with pytest.raises(InvalidInput) as caught:
        load_mapping(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidInput, match=r"missing\.toml.*No such file"):
        load_mapping(tmp_path / "missing.toml")


def test_a_byte_order_mark_is_no_part_of_the_file(write):
    assert load_mapping(write("\ufeff" + DEFAULT)).kinds == load_mapping(None).kinds


def test_a_file_that_is_nested_too_deeply_is_named(write):
    with pytest.raises(InvalidInput, match="nested too deeply"):
        load_mapping(write("x = " + "[" * 100_000))


def test_a_file_that_is_a_picture(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(InvalidInput, match="not TOML"):
        load_mapping(path)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"phone_number": "1"}, ["'phone_number'", "[kinds.task.columns]", "1-task"]),
        ({"regarding": {"type": "lead", "id": KEY}}, ["[kinds.task.lookups.regarding.lead]"]),
    ],
)  # fmt: skip
def test_a_field_that_is_needed_and_not_mapped(adapter, payload, words):
    with pytest.raises(InvalidInput) as caught:
        adapter.plan([keyed("task", {"subject": "s", **payload})])
    assert all(word in str(caught.value) for word in ["default_mapping.toml", *words]), str(caught.value)


def test_a_kind_that_is_needed_and_not_mapped(write):
    text = DEFAULT[: DEFAULT.index("[kinds.task]")]
    adapter = DataverseAdapter(None, None, mapping=write(text))
    with pytest.raises(InvalidInput, match=r"mine\.toml has no table \[kinds\.task\], which 1-task needs"):
        adapter.plan([keyed("task", {"subject": "s"})])


def test_a_plan_made_by_a_wider_mapping_is_refused(adapter, write, sim):
    [planned] = adapter.plan([keyed("task", {"subject": "s", "email": "a@example.com"})])
    narrow = DataverseAdapter(
        sim.url, sim.issue_token, mapping=write(DEFAULT.replace('email = "wa_email"\n', "", 1))
    )
    with pytest.raises(InvalidInput, match=r"wa_email.*mine\.toml"):
        narrow.emit(planned)
    assert sim.requests(method="PATCH") == []


def test_the_default_mapping_is_toml_that_survives_a_round_trip():
    assert json.dumps(tomllib.loads(DEFAULT))
