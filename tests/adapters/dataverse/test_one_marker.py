"""One marker column for both ids: what it holds, and what it proves (decision 7)."""

import hashlib
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.support.dataverse_rows import (
    DEFAULT,
    ROW,
    SESSION,
    emit_change_set,
    emit_each,
    emit_without_replies,
    keyed,
)
from writeahead import RunPolicy, resume_session, write_back
from writeahead.adapters.dataverse import adapter_from_settings, load_mapping
from writeahead.adapters.dataverse.mapping.own_columns import Marker
from writeahead.errors import ConflictError, InvalidInput, NotReady
from writeahead.model import Operation, RunStatus
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator
from writeahead.stores.memory import MemoryStore

ONE = 'marker = { session = "wa_sessionid" }'
TABLES = """
[tables.row]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", length = 128 }
columns = ["wa_name", "wa_attempts", "wa_notes"]
guarded = ["wa_donotcall"]
completion = { state = { inactive = 1 } }
"""
MAPPING = DEFAULT.replace('marker = { session = "wa_sessionid", operation = "wa_operationid" }', ONE) + TABLES
ONCE = RunPolicy(wait_initial=0, wait_max=0, attempts=1)


@pytest.fixture
def mapping_text():
    return MAPPING


@pytest.fixture
def sim(sim):
    sim.seed("wa_callqueues", {"wa_callqueueid": ROW, "wa_name": "Ada"})
    return sim


def update(number=1, **columns):
    return keyed("update_row", {"table": "row", "row_id": ROW, "columns": columns}, number)


# ---- what is written


def test_both_ids_stand_in_one_column(sim, adapter):
    planned = adapter.plan([update(wa_notes="ours"), keyed("task", {"subject": "x"}, 2)])
    emit_each(adapter, planned)
    assert sim.row("wa_callqueues", ROW)["wa_lastsession"] == f"{SESSION}/1-update_row"
    [task] = sim.rows("tasks")
    assert (task["wa_sessionid"], task["wa_operationid"]) == (f"{SESSION}/2-task", None)


@pytest.mark.parametrize(
    ("session", "operation", "length", "held"),
    [
        ("s", "1-task", 40, "s/1-task"),
        ("s" * 33, "1-task", 40, "s" * 33 + "/1-task"),
        ("s" * 34, "1-task", 40, "s" * 23 + "~"),
        ("s" * 128, "o" * 128, 257, "s" * 128 + "/" + "o" * 128),
        ("s" * 128, "o" * 128, 256, "s" * 128 + "~"),
    ],
)
def test_what_does_not_fit_is_told_by_a_digest(session, operation, length, held):
    found = Marker(session="a", length=length).mark(session, operation)["a"]
    if held.endswith("~"):
        held += hashlib.sha256(f"{session}/{operation}".encode()).hexdigest()[:16]
    assert found == held
    assert len(found) <= length


def test_two_operations_of_a_long_session_are_told_apart():
    marker = Marker(session="a", length=40)
    held = {marker.mark("s" * 128, f"{number}-task")["a"] for number in range(100)}
    assert len(held) == 100


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        ('{ session = "wa_sessionid", operation = "wa_operationid", length = 100 }', ["one column"]),
        ('{ session = "wa_sessionid", length = 39 }', ["length"]),
        ('{ session = "wa_sessionid", length = "100" }', ["length"]),
        ('{ operation = "wa_operationid" }', ["session"]),
        ('{ session = "subject" }', ["'subject'", "twice"]),
    ],
)
def test_a_mistake_in_the_marker_is_named(tmp_path, marker, words):
    path = tmp_path / "mine.toml"
    path.write_text(MAPPING.replace(ONE, f"marker = {marker}"))
    with pytest.raises(InvalidInput) as caught:
        load_mapping(path)
    assert all(word in str(caught.value) for word in [str(path), *words]), str(caught.value)


# ---- what it proves


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_is_settled_by_one_column(sim, adapter, atomic, applied):
    """Also where a later operation of the session, or an edit, has followed."""
    operations = [
        Operation(kind="update_row", payload={"table": "row", "row_id": ROW, "columns": {"wa_notes": note}})
        for note in ("first", "second")
    ]
    store = MemoryStore()
    sim.faults.add(
        "drop", method="POST" if atomic else "PATCH", apply=applied, path="*batch" if atomic else "*"
    )
    options = {"store": store, "adapter": adapter, "policy": ONCE}
    report = write_back(operations, session_id="s", atomic=atomic, **options)
    assert report.status is RunStatus.RESUME_NEEDED
    before = sim.row("wa_callqueues", ROW)["@odata.etag"]
    report = resume_session("s", **options)
    assert report.status is RunStatus.COMPLETED, report.error
    row = sim.row("wa_callqueues", ROW)
    assert (row["wa_notes"], row["wa_lastsession"]) == ("second", "s/2-update_row")
    if atomic and applied:
        assert row["@odata.etag"] == before


def test_the_mark_of_a_later_operation_proves_the_earlier_one(sim, adapter):
    planned = adapter.plan([update(wa_notes="first"), update(2, wa_notes="second")])
    assert emit_each(adapter, planned) == ["applied", "applied"]
    before = sim.row("wa_callqueues", ROW)
    assert emit_each(adapter, planned) == ["already_applied", "already_applied"]
    assert emit_change_set(adapter, planned) == ["already_applied", "already_applied"]
    assert sim.row("wa_callqueues", ROW) == before


@pytest.mark.parametrize(
    "theirs", [SESSION, f"{SESSION}/2-update_row", f"{SESSION}/1-update_row2", "other/1-update_row"]
)
@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_another_mark_is_none_of_ours(sim, adapter, emit, theirs):
    planned = adapter.plan([update(wa_notes="ours")])
    sim.edit("wa_callqueues", ROW, {"wa_lastsession": theirs, "wa_notes": "theirs"})
    with pytest.raises(ConflictError, match="wa_lastsession"):
        emit(adapter, planned)
    assert sim.row("wa_callqueues", ROW)["wa_notes"] == "theirs"


def test_a_create_and_its_completion(sim, adapter):
    planned = adapter.plan(
        [
            keyed("phone_call_activity", {"subject": "x", "phone_number": "+49 30 901820"}),
            keyed("complete_activity", {"operation": "1-phone_call_activity", "status": "made"}, 2),
        ]
    )
    emit_without_replies(sim, adapter, planned)
    [call] = sim.rows("phonecalls")
    assert (call["statecode"], call["wa_sessionid"]) == (1, f"{SESSION}/2-complete_activity")
    assert emit_each(adapter, planned) == ["already_applied", "already_applied"]
    assert emit_change_set(adapter, planned) == ["already_applied", "already_applied"]


def test_a_session_that_is_planned_again_finds_its_own_mark(sim, adapter):
    emit_each(adapter, adapter.plan([update(wa_notes="ours")]))
    before = sim.row("wa_callqueues", ROW)
    assert emit_each(adapter, adapter.plan([update(wa_notes="ours")])) == ["already_applied"]
    with pytest.raises(ConflictError, match="other content"):
        emit_each(adapter, adapter.plan([update(wa_notes="something else")]))
    assert sim.row("wa_callqueues", ROW) == before


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_plan_without_its_mark_is_refused(sim, adapter, emit):
    [planned] = adapter.plan([update(wa_notes="ours")])
    columns = {"wa_notes": "ours"}
    changed = planned.model_copy(update={"payload": {**planned.payload, "columns": columns}})
    with pytest.raises(InvalidInput, match="marker"):
        emit(adapter, [changed])
    guarded = {"wa_donotcall": False, "wa_notes": None}
    changed = planned.model_copy(update={"precondition": {**planned.precondition, "guarded": guarded}})
    with pytest.raises(InvalidInput, match="guards"):
        emit(adapter, [changed])
    assert sim.requests(method="PATCH") == []


# ---- the environment


@pytest.mark.parametrize(("length", "fits"), [(127, False), (128, True)])
def test_a_column_that_is_shorter_than_the_mapping_says_is_a_gap(environ, tmp_path, length, fits):
    queue = DEFAULT_SCHEMA.get("wa_callqueues")
    columns = {**queue.columns, "wa_lastsession": replace(queue.columns["wa_lastsession"], max_length=length)}
    settings = Settings(
        client_secret="planted-client-secret",
        schema=DEFAULT_SCHEMA.with_tables(replace(queue, columns=columns)),
    )
    path = tmp_path / "one.toml"
    path.write_text(MAPPING)
    with Simulator(tmp_path / "short.sqlite", settings=settings) as sim, ExitStack() as opened:
        here = {**environ, "DATAVERSE_URL": sim.url, "DATAVERSE_AUTHORITY": sim.url}
        adapter = opened.enter_context(
            adapter_from_settings(environ=here, timeout=5, mapping=path, readiness="full")
        )
        operation = keyed("create_row", {"table": "row", "columns": {"wa_name": "x"}}, "0123")
        if fits:
            assert emit_each(adapter, adapter.plan([operation])) == ["applied"]
        else:
            with pytest.raises(NotReady, match="wa_lastsession holds 127 characters, and 128 are"):
                adapter.plan([operation])
