"""What counts as another user's edit of a row, and what only looks like one."""

from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.support.dataverse_rows import DEFAULT, emit_change_set, emit_each, plan
from writeahead.adapters.dataverse import adapter_from_settings
from writeahead.adapters.dataverse.mapping.payloads import Baseline
from writeahead.adapters.dataverse.rows import changed_columns
from writeahead.adapters.dataverse.webapi.client import Row
from writeahead.errors import ConflictError, InvalidInput, NotReady
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator
from writeahead.simulators.dataverse.schema import Column, Kind

ROW = "b3000000-0000-4000-8000-000000000001"
TABLES = """
[tables.marked]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", operation = "wa_lastoperation" }
columns = ["wa_name", "wa_notes", "wa_attempts"]

[tables.account]
entity_set = "accounts"
key = "accountid"
columns = ["name", "revenue", "description"]
alternate_keys = [["accountnumber"]]

[tables.task]
entity_set = "tasks"
key = "activityid"
columns = ["subject"]
completion = { state = { completed = 1 } }
"""


@pytest.fixture
def sim(tmp_path):
    accounts = DEFAULT_SCHEMA.get("accounts")
    columns = {**accounts.columns, "revenue": Column(kind=Kind.DECIMAL)}
    schema = DEFAULT_SCHEMA.with_tables(replace(accounts, columns=columns))
    settings = Settings(client_secret="planted-client-secret", schema=schema)
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as running:
        running.seed("wa_callqueues", {"wa_callqueueid": ROW, "wa_name": "Ada", "wa_notes": "before"})
        yield running


@pytest.fixture
def mapping_text():
    return DEFAULT + TABLES


def update(**columns):
    return "update_row", {"table": "marked", "row_id": ROW, "columns": columns}


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_an_edit_of_what_is_to_be_written_is_not_overwritten(sim, adapter, emit):
    """Also where the table has a marker, and the mapping guards nothing."""
    planned = plan(adapter, update(wa_notes="ours"))
    sim.edit("wa_callqueues", ROW, {"wa_notes": "a user's"})
    with pytest.raises(ConflictError, match="wa_notes") as caught:
        emit(adapter, planned)
    assert "person" not in str(caught.value)
    assert sim.row("wa_callqueues", ROW)["wa_notes"] == "a user's"


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_an_edit_of_an_unguarded_column_stands(sim, adapter, emit):
    planned = plan(adapter, update(wa_notes="ours"))
    sim.edit("wa_callqueues", ROW, {"wa_name": "a user's"})
    assert emit(adapter, planned) == ["applied"]
    row = sim.row("wa_callqueues", ROW)
    assert (row["wa_notes"], row["wa_name"]) == ("ours", "a user's")


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_what_an_earlier_operation_wrote_is_no_edit(sim, adapter, emit):
    """Not even if the service makes something else of the value."""
    planned = plan(adapter, update(wa_notes="first", wa_attempts=1), update(wa_notes="second"))
    assert set(planned[0].precondition["guarded"]) >= {"wa_notes", "wa_attempts"}
    assert set(planned[1].precondition["guarded"]) == {"wa_lastsession", "wa_lastoperation"}
    assert emit(adapter, planned) == ["applied"] * 2
    assert sim.row("wa_callqueues", ROW)["wa_notes"] == "second"


@pytest.mark.parametrize(
    "columns", [{"revenue": 1000}, {"revenue": 12.5}, {"description": ""}, {"description": None}]
)
def test_a_row_of_ones_own_is_as_it_was_left(sim, adapter, columns):
    planned = plan(
        adapter,
        ("create_row", {"table": "account", "columns": {"name": "Ada Ltd", **columns}}),
        ("update_row", {"table": "account", "operation": "1-create_row", "columns": {"name": "Ada plc"}}),
    )
    assert emit_each(adapter, planned) == ["applied"] * 2
    [row] = sim.rows("accounts")
    assert row["name"] == "Ada plc"
    assert isinstance(row["revenue"], float | None)


@pytest.mark.parametrize(
    ("written", "read", "same"),
    [
        (1000, 1000.0, True),
        (1, True, False),
        (0, None, False),
        ("", None, True),
        ("0", 0, False),
        ("2026-01-01T10:00:00.123Z", "2026-01-01T10:00:00Z", True),
        ("2026-01-01T11:00:00+01:00", "2026-01-01T10:00:00Z", True),
        ("2026-01-01T00:00:00Z", "2026-01-01", True),
        ("2026-01-01T10:00:00Z", "2026-01-01", False),
        ("2026-01-01", "2026-01-02", False),
        ("Ada", "ada", False),
        (" Ada\t\r\n", "Ada", True),
        ("two\r\nlines", "two\nlines", True),
        ("two\nlines", "two lines", False),
        (" ", None, True),
    ],
)
def test_a_value_is_compared_as_the_service_shows_it(written, read, same):
    changed = changed_columns(Row({"column": read}, 'W/"1"'), Baseline(guarded={"column": written}))
    assert changed == ([] if same else ["column"])


def test_a_create_in_a_table_named_like_a_kind_is_completed(sim, adapter):
    create = "create_row", {"table": "task", "columns": {"subject": "x"}}
    planned = plan(adapter, create, ("complete_activity", {"operation": "1-create_row"}))
    assert planned[1].payload["table"] == "tables.task"
    assert emit_each(adapter, planned) == ["applied"] * 2
    [row] = sim.rows("tasks")
    assert (row["statecode"], row["wa_sessionid"]) == (1, None)


def test_a_row_that_was_upserted_and_may_not_be_read_is_written(sim, adapter):
    key = {"accountnumber": "A-7"}
    [planned] = plan(adapter, ("upsert_row", {"table": "account", "key": key, "columns": {"name": "x"}}))
    sim.faults.add("status", method="GET", status=403)
    receipt = adapter.emit(planned)
    assert (receipt.outcome, receipt.remote_id) == ("applied", None)
    assert sim.count("accounts") == 1


def test_a_guarded_upsert_needs_row_versions_too(environ, tmp_path):
    queue = replace(DEFAULT_SCHEMA.get("wa_callqueues"), optimistic_concurrency=False)
    settings = Settings(client_secret="planted-client-secret", schema=DEFAULT_SCHEMA.with_tables(queue))
    path = tmp_path / "mine.toml"
    path.write_text(
        DEFAULT + TABLES.replace('columns = ["wa_name"', 'guarded = ["wa_email"]\ncolumns = ["wa_name"')
    )
    with Simulator(tmp_path / "other.sqlite", settings=settings) as running:
        there = {
            "DATAVERSE_URL": running.url,
            "DATAVERSE_AUTHORITY": running.url,
            "DATAVERSE_READINESS": "full",
        }
        payload = {"table": "marked", "row_id": ROW, "columns": {"wa_notes": "ours"}}
        with (
            adapter_from_settings(environ={**environ, **there}, timeout=5, mapping=path) as made,
            pytest.raises(NotReady, match="it has no optimistic concurrency"),
        ):
            plan(made, ("upsert_row", payload))


def give_away(sim, adapter, lookup):
    """Plan to give a row to one user, while it is given to another one."""
    update = {"table": "todo", "row_id": TASK, "columns": {"ownerid": lookup}}
    [planned] = plan(adapter, ("update_row", update))
    sim.edit("tasks", TASK, {"ownerid@odata.bind": f"/systemusers({THEIRS})"})
    return planned


OURS, THEIRS = (f"a0000000-0000-4000-8000-00000000000{n}" for n in (7, 8))
TASK = "b4000000-0000-4000-8000-000000000001"
TODO = """
[tables.todo]
entity_set = "tasks"
key = "activityid"
marker = { session = "wa_sessionid", operation = "wa_operationid" }
columns = ["subject"]

[tables.todo.lookups]
"""


@pytest.fixture
def to_do(sim, environ, tmp_path):
    """Makes an adapter by how the owner of a task is mapped."""
    for user in (OURS, THEIRS):
        sim.seed("systemusers", {"systemuserid": user})
    sim.seed("tasks", {"activityid": TASK, "subject": "s"})
    with ExitStack() as opened:

        def make(lookup):
            path = tmp_path / "todo.toml"
            path.write_text(f"{DEFAULT}{TODO}{lookup}\n")
            made = adapter_from_settings(environ=environ, timeout=5, mapping=path)
            return opened.enter_context(made)

        yield make


def test_an_edit_of_a_lookup_is_not_overwritten(sim, to_do):
    adapter = to_do('ownerid = { entity_sets = ["systemusers", "teams"], column = "ownerid" }')
    planned = give_away(sim, adapter, {"entity_set": "systemusers", "id": OURS})
    with pytest.raises(ConflictError, match="_ownerid_value"):
        adapter.emit(planned)
    assert sim.row("tasks", TASK)["_ownerid_value"] == THEIRS


def test_a_lookup_that_can_not_be_read_is_not_changed(sim, to_do):
    """Also where the table has a marker: it tells that the row was written, and not what."""
    with pytest.raises(InvalidInput, match="must name the lookup column that ownerid of tasks sets"):
        give_away(sim, to_do('ownerid = ["systemusers", "teams"]'), {"entity_set": "systemusers", "id": OURS})
    assert sim.requests(method="PATCH") == []


def test_a_lookup_that_can_not_be_read_may_be_created(sim, to_do):
    owner = {"entity_set": "systemusers", "id": OURS}
    create = {"table": "todo", "columns": {"subject": "new", "ownerid": owner}}
    [planned] = plan(to_do('ownerid = ["systemusers", "teams"]'), ("create_row", create))
    assert planned.precondition["guarded"] == {}


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("kind", ["update_row", "upsert_row"])
def test_an_edit_of_what_a_later_update_of_the_row_writes_stands(sim, adapter, emit, kind):
    """In a transaction all of them are refused, so it is not the first one's columns alone."""
    _, first = update(wa_attempts=2)
    planned = plan(adapter, (kind, first), update(wa_attempts=3), update(wa_notes="ours"))
    sim.edit("wa_callqueues", ROW, {"wa_notes": "a user's"})
    with pytest.raises(ConflictError, match="changed by another user: wa_notes"):
        emit(adapter, planned)
    assert sim.row("wa_callqueues", ROW)["wa_notes"] == "a user's"


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("kind", ["update_row", "upsert_row"])
def test_an_edit_of_what_none_of_several_updates_writes_stands(sim, adapter, emit, kind):
    _, first = update(wa_attempts=2)
    planned = plan(adapter, (kind, first), update(wa_attempts=3), update(wa_notes="ours"))
    sim.edit("wa_callqueues", ROW, {"wa_name": "a user's"})
    assert emit(adapter, planned) == ["applied"] * 3
    row = sim.row("wa_callqueues", ROW)
    assert (row["wa_name"], row["wa_attempts"], row["wa_notes"]) == ("a user's", 3, "ours")
