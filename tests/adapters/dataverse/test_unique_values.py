"""A value that another row has, in a unique index that the client can't see: never "try again".

Judged by the simulator's rows and request log. The index answers as one for a GUID does, so that
only the row tells: with codes, and with the empty ones that are frequent.
"""

import dataclasses

import pytest

from tests.support.dataverse_backdoor import environ_of
from tests.support.dataverse_rows import ACCOUNT, CONTACT, DEFAULT, ROW, TABLES, keyed, seed_rows
from writeahead import Operation, RunPolicy, open_store, resume_session, write_back
from writeahead.adapters.dataverse import PermanentDataverseError, adapter_from_settings
from writeahead.errors import ConflictError
from writeahead.model import BlockReason, RunStatus
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator

TAKEN = "planted-taken"
UNIQUE = {"accounts": ("name",), "contacts": ("description",), "wa_callqueues": ("wa_notes",)}
# By the table, for each with a marker, with guarded columns, and with neither.
COLUMN = {"account": "name", "contact": "description", "row": "wa_notes"}
SETS = {"account": "accounts", "contact": "contacts", "row": "wa_callqueues"}
THERE = {"account": ACCOUNT, "contact": CONTACT, "row": ROW}
FREE = "c9000000-0000-4000-8000-000000000009"
KEYS = {"account": {"accountnumber": "A-9"}, "row": {"wa_externalid": "X-9"}}
ONCE = RunPolicy(attempts=4, wait_initial=0, wait_max=0)
WRITES = [
    *(("create_row", table, {}) for table in COLUMN),
    *(("update_row", table, {"row_id": THERE[table]}) for table in COLUMN),
    *(("upsert_row", table, {"row_id": THERE[table]}) for table in COLUMN),
    *(("upsert_row", table, {"row_id": FREE}) for table in COLUMN),
    *(("upsert_row", table, {"key": KEYS[table]}) for table in KEYS),
]


def named(value):
    return " ".join(map(str, value)) if isinstance(value, tuple) else None


@pytest.fixture(params=[False, True], ids=["codes", "empty codes"])
def sim(request, tmp_path):
    tables = [
        dataclasses.replace(DEFAULT_SCHEMA.get(name), unique=(columns,)) for name, columns in UNIQUE.items()
    ]
    settings = Settings(empty_error_codes=request.param, schema=DEFAULT_SCHEMA.with_tables(*tables))
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as running:
        seed_rows(running)
        for table, column in COLUMN.items():
            running.seed(SETS[table], {column: TAKEN})
        yield running


@pytest.fixture
def adapter(sim, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(DEFAULT + TABLES)
    with adapter_from_settings(environ=environ_of(sim), timeout=5, mapping=path) as made:
        yield made


def planned(adapter, kind, table, where):
    payload = {"table": table, "columns": {COLUMN[table]: TAKEN}, **where}
    return adapter.plan([keyed(kind, payload)])[0]


def stored(sim):
    return {name: sim.rows(name) for name in UNIQUE}


def refused(action):
    with pytest.raises(PermanentDataverseError) as caught:
        action()
    assert "must be unique" in str(caught.value)
    assert "planted" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("write", WRITES, ids=named)
def test_it_is_refused_for_good(sim, adapter, write):
    operation = planned(adapter, *write)
    before = stored(sim)
    refused(lambda: adapter.emit(operation))
    assert stored(sim) == before
    assert 1 <= len(sim.requests(method="PATCH")) <= 2


@pytest.mark.parametrize("write", [write for write in WRITES if write[0] != "upsert_row"], ids=named)
def test_it_is_refused_for_good_in_a_transaction(sim, adapter, write):
    kind, table, where = write
    other = keyed("create_row", {"table": "contact", "columns": {"lastname": "x"}}, number=2)
    payload = {"table": table, "columns": {COLUMN[table]: TAKEN}, **where}
    operations = adapter.plan([keyed(kind, payload), other])
    before = stored(sim)
    with pytest.raises(PermanentDataverseError) as caught:
        adapter.transact(operations)
    assert "planted" not in str(caught.value)
    if kind == "create_row":
        assert "must be unique" in str(caught.value)
    assert stored(sim) == before
    assert 1 <= len(sim.requests(path="*$batch")) <= 2


@pytest.mark.parametrize("atomic", [False, True])
def test_the_session_is_rejected_and_a_resume_sends_nothing(sim, adapter, tmp_path, atomic):
    store = open_store(str(tmp_path / "artifacts"))
    asked = [Operation(kind="create_row", payload={"table": "account", "columns": {"name": TAKEN}})]
    report = write_back(asked, session_id="s1", store=store, adapter=adapter, policy=ONCE, atomic=atomic)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert "must be unique" in report.error
    assert len(sim.requests(method="PATCH")) == 2
    before = sim.last_sequence()
    resume_session("s1", store=store, adapter=adapter, policy=ONCE)
    assert [r for r in sim.requests(after=before) if r.method != "GET" and "token" not in r.path] == []


def test_a_row_that_is_gone_when_it_is_looked_for_is_none_of_it(sim, adapter):
    """Another user makes a row of this GUID, and removes it before it is read."""
    operation = planned(adapter, "create_row", "account", {})
    operation = operation.model_copy(
        update={"payload": {**operation.payload, "columns": {"name": "another name"}}}
    )
    sim.seed("accounts", {"accountid": operation.key})
    sim.faults.add("edit", method="PATCH", edit_after={"row": f"accounts({operation.key})"})
    assert adapter.emit(operation).outcome == "applied"
    assert sim.row("accounts", operation.key)["name"] == "another name"
    assert [r.status for r in sim.requests(method="PATCH")] == [412, 204]


def test_the_value_is_free_by_the_second_time(sim, adapter):
    [holder] = [row for row in sim.rows("accounts") if row["name"] == TAKEN]
    operation = planned(adapter, "update_row", "account", {"row_id": ACCOUNT})
    sim.faults.add(
        "edit",
        method="PATCH",
        edit_after={"row": f"accounts({holder['accountid']})", "columns": {"name": "x"}},
    )
    if sim.settings.empty_error_codes:
        assert adapter.emit(operation).outcome == "applied"
    else:  # the code says that it is not about the version
        refused(lambda: adapter.emit(operation))


def test_an_edit_in_between_is_a_conflict_all_the_same(sim, adapter):
    operation = planned(adapter, "update_row", "contact", {"row_id": CONTACT})
    sim.edit("contacts", CONTACT, {"donotphone": True})
    with pytest.raises(ConflictError, match="donotphone"):
        adapter.emit(operation)
