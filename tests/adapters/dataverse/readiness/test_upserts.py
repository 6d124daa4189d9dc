"""What a new row needs, where it is an upsert that makes it."""

from dataclasses import replace

import pytest

from tests.support.dataverse_backdoor import environ_of
from tests.support.dataverse_rows import DEFAULT
from writeahead import write_back
from writeahead.adapters.dataverse import adapter_from_settings
from writeahead.model import BlockReason, RunStatus
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator
from writeahead.stores.memory import MemoryStore

TABLE = """
[tables.account]
entity_set = "accounts"
key = "accountid"
columns = ["name", "telephone1"]
alternate_keys = [["accountnumber"]]
"""
GUARDED = TABLE + 'guarded = ["donotphone"]\n'
UPSERT = {"table": "account", "key": {"accountnumber": "A-1"}, "columns": {"telephone1": "+49 30 901820"}}


@pytest.fixture
def run(tmp_path):
    """Run one upsert against an environment where accounts need a name and a number."""
    accounts = DEFAULT_SCHEMA.get("accounts")
    needed = {
        name: replace(accounts.columns[name], required="ApplicationRequired")
        for name in ("name", "accountnumber")
    }
    schema = DEFAULT_SCHEMA.with_tables(replace(accounts, columns={**accounts.columns, **needed}))
    settings = Settings(client_secret="planted-client-secret", schema=schema)
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as sim:

        def write(tables, **columns):
            path = tmp_path / "mapping.toml"
            path.write_text(DEFAULT + tables)
            payload = {**UPSERT, "columns": {**UPSERT["columns"], **columns}}
            environ = environ_of(sim)
            with adapter_from_settings(environ=environ, timeout=5, mapping=path, readiness="full") as adapter:
                return write_back(
                    [{"kind": "upsert_row", "payload": payload}],
                    session_id="s",
                    store=MemoryStore(),
                    adapter=adapter,
                )

        write.sim = sim
        yield write


def test_an_upsert_that_is_a_create_needs_what_a_create_needs(run):
    report = run(GUARDED)
    assert (report.status, report.block_reason, report.error) == (
        RunStatus.BLOCKED,
        BlockReason.NOT_READY,
        "operation 1-upsert_row: table accounts: column name requires a value",
    )
    assert run.sim.requests(method="PATCH") == []
    report = run(GUARDED, name="Ada Ltd")
    assert (report.status, report.warnings) == (RunStatus.COMPLETED, ())
    assert [row["name"] for row in run.sim.rows("accounts")] == ["Ada Ltd"]


def test_an_upsert_of_a_row_that_is_there_does_not(run):
    run.sim.seed("accounts", {"name": "Ada Ltd", "accountnumber": "A-1"})
    report = run(GUARDED)
    assert (report.status, report.warnings) == (RunStatus.COMPLETED, ())
    [row] = run.sim.rows("accounts")
    assert row["telephone1"] == "+49 30 901820"


@pytest.mark.parametrize("is_there", [True, False])
def test_where_planning_does_not_look_it_warns(run, is_there):
    if is_there:
        run.sim.seed("accounts", {"name": "Ada Ltd", "accountnumber": "A-1"})
    report = run(TABLE)
    assert report.status is RunStatus.COMPLETED
    assert report.warnings == ("1-upsert_row: a new row would have no value in name, which is required",)
    assert run(TABLE, name="Ada").warnings == ()
