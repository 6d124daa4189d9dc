"""Elastic tables as the documentation has them; sqlite3 reads the truth."""

import contextlib
import json
import sqlite3

import httpx
import pytest

from tests.simulators.dataverse.conftest import TOKEN
from tests.support.dataverse_elastic import READING
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator

ROW = "11111111-2222-4333-8444-555555555555"
OTHER = "21111111-2222-4333-8444-555555555555"
CONDITION = {"If-Match": "*"}


@pytest.fixture
def sim(tmp_path):
    settings = Settings(static_tokens=[TOKEN], schema=DEFAULT_SCHEMA.with_tables(READING))
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as running:
        yield running


def stored(sim, row_id=ROW):
    with contextlib.closing(sqlite3.connect(sim.path)) as connection:
        sql = "SELECT body FROM rows WHERE entity_set = 'wa_readings' AND id = ?"
        found = connection.execute(sql, (row_id,)).fetchone()
    if found is None:
        return None
    row = json.loads(found[0])
    return {name: row.get(name) for name in ("wa_sensor", "wa_value", "partitionid")}


def test_an_upsert_replaces_the_whole_row_and_an_update_does_not(sim, http):
    first = http.patch(f"wa_readings({ROW})", json={"wa_sensor": "roof", "wa_value": 1})
    assert (first.status_code, bool(first.headers["x-ms-session-token"])) == (204, True)
    assert http.patch(f"wa_readings({ROW})", json={"wa_value": 2}, headers=CONDITION).status_code == 204
    assert stored(sim) == {"wa_sensor": "roof", "wa_value": 2, "partitionid": ROW}
    assert http.patch(f"wa_readings({ROW})", json={"wa_value": 3}).status_code == 204
    assert stored(sim) == {"wa_sensor": None, "wa_value": 3, "partitionid": ROW}
    assert http.patch(f"wa_readings({OTHER})", json={"wa_value": 3}, headers=CONDITION).status_code == 404
    assert stored(sim, OTHER) is None


@pytest.mark.parametrize("condition", [{"If-None-Match": "*"}, {"If-Match": 'W/"1000007"'}])
def test_a_condition_of_which_nothing_is_documented_is_not_imitated(sim, http, condition):
    reply = http.patch(f"wa_readings({ROW})", json={"wa_value": 3}, headers=condition)
    assert reply.status_code == 501
    assert stored(sim) is None


def test_a_row_in_a_partition_is_told_by_both(sim, http):
    columns = {"wa_value": 1, "partitionid": "device-1"}
    assert http.patch(f"wa_readings({ROW})", json=columns).status_code == 204
    assert stored(sim)["partitionid"] == "device-1"
    for url, status in (
        (f"wa_readings({ROW})", 404),
        (f"wa_readings({ROW})?partitionId='device-1'", 200),
        (f"wa_readings(wa_readingid={ROW},partitionid='device-1')", 200),
        (f"wa_readings(wa_readingid={ROW},partitionid='device-2')", 404),
    ):
        assert http.get(url).status_code == status
    by_key = f"wa_readings(wa_readingid={ROW},partitionid='device-1')"
    assert http.patch(by_key, json={"wa_sensor": "x"}, headers=CONDITION).status_code == 204
    assert stored(sim) == {"wa_sensor": "x", "wa_value": 1, "partitionid": "device-1"}
    assert http.patch(f"wa_readings({ROW})", json={"wa_value": 9}).status_code == 501
    assert http.delete(f"wa_readings({ROW})").status_code == 404
    assert http.delete(by_key).status_code == 204
    assert stored(sim) is None


@pytest.mark.parametrize("withheld", ["prvCreateWa_reading", "prvWriteWa_reading"])
def test_an_upsert_needs_both_privileges(tmp_path, withheld):
    settings = Settings(
        static_tokens=[TOKEN], schema=DEFAULT_SCHEMA.with_tables(READING), withheld_privileges=[withheld]
    )
    with (
        Simulator(tmp_path / "other.sqlite", settings=settings) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http,
    ):
        sim.seed("wa_readings", {"wa_readingid": ROW, "wa_value": 1})
        for row in (ROW, OTHER):
            assert http.patch(f"wa_readings({row})", json={"wa_value": 2}).status_code == 403
        assert (stored(sim)["wa_value"], stored(sim, OTHER)) == (1, None)


def test_a_change_set_is_no_transaction(sim, http):
    lines = (f"PATCH wa_readings({ROW})", f"PATCH tasks({ROW})", f"PATCH nothings({ROW})")
    parts = "".join(
        f"--c\r\nContent-Type: application/http\r\nContent-ID: {n}\r\n\r\n{line} HTTP/1.1\r\n\r\n{{}}\r\n"
        for n, line in enumerate(lines, 1)
    )
    body = f"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n{parts}--c--\r\n--b--\r\n"
    reply = http.post("$batch", content=body, headers={"Content-Type": "multipart/mixed; boundary=b"})
    assert reply.status_code == 404
    assert stored(sim) is not None
    assert sim.count("tasks") == 0


def test_the_definition_says_what_it_is(http):
    found = http.get("EntityDefinitions?$select=TableType,EntitySetName&$expand=Keys").json()["value"]
    types = {item["EntitySetName"]: item["TableType"] for item in found}
    assert types["wa_readings"] == "Elastic"
    assert set(types.values()) == {"Standard", "Elastic"}
    [keys] = [item["Keys"] for item in found if item["EntitySetName"] == "wa_readings"]
    assert [key["KeyAttributes"] for key in keys] == [["wa_readingid", "partitionid"]]


def test_bulk_messages_are_not_imitated(sim, http):
    """On elastic tables some rows of a request may be written and others not."""
    target = {"@odata.type": "Microsoft.Dynamics.CRM.wa_reading", "wa_value": 1}
    for name in ("CreateMultiple", "UpdateMultiple", "UpsertMultiple", "DeleteMultiple"):
        path = f"wa_readings/Microsoft.Dynamics.CRM.{name}"
        assert http.post(path, json={"Targets": [target]}).status_code == 501
    assert sim.count("wa_readings") == 0


def test_a_partition_of_another_spelling_or_table_is_not_ignored(sim, http):
    http.patch(f"wa_readings({ROW})", json={"wa_value": 1})
    for path in (
        f"wa_readings({ROW})?partitionid='x'",
        "wa_readings?partitionId='x'",
        "tasks?partitionId='x'",
    ):
        assert http.get(path).status_code == 501
    assert http.delete(f"wa_readings({ROW})?partitionid='x'").status_code == 501
    assert sim.count("wa_readings") == 1
