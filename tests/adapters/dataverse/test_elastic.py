"""Elastic tables: only whole rows are replaced there, and only where the mapping says so."""

import pytest

from tests.support.dataverse_backdoor import environ_of
from tests.support.dataverse_elastic import READING
from tests.support.worlds import names
from writeahead import write_back
from writeahead.adapters.dataverse import DataverseClient, adapter_from_settings, load_mapping
from writeahead.adapters.dataverse.readiness.discover import discover
from writeahead.adapters.dataverse.readiness.metadata import read_tables
from writeahead.errors import InvalidInput
from writeahead.model import BlockReason, KeyedOperation, RunStatus
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator
from writeahead.stores.memory import MemoryStore

ROW = "c1000000-0000-4000-8000-000000000001"
TOKEN = "token-of-elastic"
MAPPING = """
[tables.reading]
entity_set = "wa_readings"
key = "wa_readingid"
logical_name = "wa_reading"
columns = ["wa_sensor", "wa_value", "partitionid"]
"""
ELASTIC = f"{MAPPING}elastic = true\n"
ACCOUNT = """
[tables.account]
entity_set = "accounts"
key = "accountid"
columns = ["name"]
"""


@pytest.fixture
def sim(tmp_path):
    settings = Settings(static_tokens=[TOKEN], schema=DEFAULT_SCHEMA.with_tables(READING))
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as running:
        running.seed("wa_readings", {"wa_readingid": ROW, "wa_sensor": "planted-sensor", "wa_value": 1})
        yield running


@pytest.fixture
def run(sim, tmp_path):
    def go(mapping, *operations, readiness="full", **options):
        path = tmp_path / "mapping.toml"
        path.write_text(mapping)
        store = MemoryStore()
        settings = {"environ": environ_of(sim), "timeout": 5, "readiness": readiness, "mapping": path}
        with adapter_from_settings(**settings) as adapter:
            report = write_back(operations, session_id="s", store=store, adapter=adapter, **options)
        return report, store

    return go


def upsert(row_id=ROW, **columns):
    return {"kind": "upsert_row", "payload": {"table": "reading", "row_id": row_id, "columns": columns}}


OTHERS = [
    {"kind": "create_row", "payload": {"table": "reading", "columns": {"wa_value": 2}}},
    {"kind": "update_row", "payload": {"table": "reading", "row_id": ROW, "columns": {"wa_value": 2}}},
]


@pytest.mark.parametrize("operation", [upsert(wa_value=2), *OTHERS])
def test_a_table_that_turns_out_to_be_elastic_is_not_written(sim, run, operation):
    before = sim.rows("wa_readings")
    report, store = run(MAPPING, operation)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.NOT_READY)
    assert "table wa_readings: it is an elastic table: an upsert replaces the whole row" in report.error
    assert names(store) == []
    assert sim.rows("wa_readings") == before
    assert sim.requests(method="PATCH") == []


@pytest.mark.parametrize("readiness", ["full", "off"])
def test_a_declared_one_takes_upserts_that_replace_with_a_warning(sim, run, readiness):
    report, _ = run(ELASTIC, upsert(wa_value=2), readiness=readiness)
    assert report.status is RunStatus.COMPLETED
    [warning] = report.warnings
    assert warning.startswith("1-upsert_row: its table is elastic: the whole row is replaced")
    row = sim.row("wa_readings", ROW)
    assert (row["wa_sensor"], row["wa_value"]) == (None, 2)
    [request] = sim.requests(method="PATCH")
    assert (request.status, request.if_match, request.if_none_match) == (204, None, None)


def test_the_partition_goes_into_the_body(sim, run):
    other = ROW.replace("c1", "c2")
    report, _ = run(ELASTIC, upsert(other, wa_value=2, partitionid="device-1"))
    assert report.status is RunStatus.COMPLETED
    assert sim.row("wa_readings", other)["partitionid"] == "device-1"


@pytest.mark.parametrize("readiness", ["full", "off"])
@pytest.mark.parametrize("operation", OTHERS)
def test_a_declared_one_takes_nothing_else(sim, run, operation, readiness):
    with pytest.raises(InvalidInput, match="its table is elastic, where only upsert_row"):
        run(ELASTIC, operation, readiness=readiness)
    assert sim.requests(method="PATCH") == []


def test_a_transaction_is_refused_before_anything_is_persisted(sim, run):
    account = {"kind": "create_row", "payload": {"table": "account", "columns": {"name": "Ada"}}}
    with pytest.raises(
        InvalidInput, match=r"operation 2-upsert_row: its table is elastic, and Dataverse has"
    ):
        run(ELASTIC + ACCOUNT, account, upsert(wa_value=2), atomic=True)
    assert sim.requests(method="POST", path="$batch") == []
    assert sim.count("accounts") == 0


@pytest.mark.parametrize("operation", OTHERS)
def test_a_plan_is_held_against_a_mapping_that_was_changed_since(sim, tmp_path, operation):
    kind, payload = operation["kind"], operation["payload"]
    asked = KeyedOperation(session_id="s", id="1", kind=kind, key=ROW.replace("c1", "c3"), payload=payload)
    adapters = []
    for name, mapping in (("before", MAPPING), ("now", ELASTIC)):
        (tmp_path / name).write_text(mapping)
        settings = {"environ": environ_of(sim), "timeout": 5, "mapping": tmp_path / name}
        adapters.append(adapter_from_settings(**settings))
    before, now = adapters
    with before, now:
        [planned] = before.plan([asked])
        with pytest.raises(InvalidInput, match="its table is elastic"):
            now.emit(planned)
    assert sim.requests(method="PATCH") == []


@pytest.mark.parametrize(
    "setting", ['guarded = ["wa_value"]', 'preserve = ["wa_value"]', 'alternate_keys = [["wa_sensor"]]']
)
def test_what_an_elastic_table_can_t_keep_is_refused_in_the_mapping(run, setting):
    with pytest.raises(InvalidInput, match=rf"\[tables.reading\] elastic .*: leave out {setting.split()[0]}"):
        run(f"{ELASTIC}{setting}\n", upsert(wa_value=2))


def test_a_standard_table_is_not_elastic(run):
    named = {"table": "account", "row_id": ROW, "columns": {"name": "Ada"}}
    report, _ = run(f"{ACCOUNT}elastic = true\n", {"kind": "upsert_row", "payload": named})
    assert "table accounts: it is no elastic table: leave elastic out of the mapping" in report.error


def test_a_virtual_table_is_not_written(sim, run, monkeypatch):
    monkeypatch.setattr(
        "writeahead.adapters.dataverse.readiness.metadata.table_type", lambda _given: "Virtual"
    )
    operation = {"kind": "create_row", "payload": {"table": "account", "columns": {"name": "Ada"}}}
    report, _ = run(ACCOUNT, operation)
    assert "table accounts: it is a virtual table" in report.error
    assert sim.count("accounts") == 0


def test_discover_says_so(sim, tmp_path):
    client = DataverseClient(sim.url, lambda: TOKEN, timeout=5)
    try:
        assert read_tables(client, {"wa_readings": None})["wa_readings"].table_type == "Elastic"
        text = discover(client, {}, ["wa_reading"])
    finally:
        client.close()
    path = tmp_path / "draft.toml"
    path.write_text(text)
    table = load_mapping(path).tables["wa_reading"]
    assert table.elastic
    assert table.alternate_keys == ()
    assert {"partitionid", "ttlinseconds", "wa_value"} <= set(table.columns)


def test_a_row_that_was_loaded_is_not_replaced(sim, run):
    """What a version in If-Match does there is documented nowhere."""
    loaded = {**upsert(wa_value=2), "baseline": {"etag": 'W/"1"'}}
    with pytest.raises(InvalidInput, match=r"1-upsert_row: its table is elastic, .* baseline"):
        run(ELASTIC, loaded)
    assert sim.requests(method="PATCH") == []


def test_nor_by_a_plan_of_before_the_table_was_elastic(sim, tmp_path):
    adapters = []
    for name, mapping in (("before", MAPPING), ("now", ELASTIC)):
        (tmp_path / name).write_text(mapping)
        settings = {"environ": environ_of(sim), "timeout": 5, "mapping": tmp_path / name}
        adapters.append(adapter_from_settings(**settings))
    before, now = adapters
    with before, now:
        loaded = before.read_baseline("reading", ROW).model_dump(mode="json")
        payload = upsert(wa_value=2)["payload"]
        asked = KeyedOperation(
            session_id="s", id="1", kind="upsert_row", key=ROW, payload=payload, baseline=loaded
        )
        [planned] = before.plan([asked])
        with pytest.raises(InvalidInput, match="its table is elastic"):
            now.emit(planned)
    assert sim.requests(method="PATCH") == []
