"""Rows by alternate keys of each type that a key may have, against the simulator's rows."""

from dataclasses import replace

import httpx
import pytest

from tests.support.dataverse_backdoor import environ_of
from writeahead.adapters.dataverse import PermanentDataverseError, adapter_from_settings
from writeahead.errors import InvalidInput, NotReady
from writeahead.model import KeyedOperation
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Column, Kind, Settings, Simulator
from writeahead.simulators.dataverse.schema import AlternateKey

TOKEN = "token-of-keys"
ROW = "c1000000-0000-4000-8000-000000000001"
OTHER = "c2000000-0000-4000-8000-000000000001"
COLUMNS = {
    "wa_text": Column(kind=Kind.STRING, max_length=40),
    "wa_number": Column(kind=Kind.INTEGER, minimum=-(2**31)),
    "wa_rate": Column(kind=Kind.DECIMAL),
    "wa_choice": Column(kind=Kind.PICKLIST, options={1: "one", 2: "two"}),
    "wa_day": Column(kind=Kind.DATETIME),
}
MAPPING = """
[tables.account]
entity_set = "accounts"
key = "accountid"
columns = ["name"]
alternate_keys = [
    ["wa_text"], ["wa_number"], ["wa_rate"], ["wa_choice"], ["wa_day"],
    ["_primarycontactid_value", "wa_text"],
]
"""
DAY = "2026-01-05"
STORED = {
    "wa_text": "O'Neil (ä), b=c",
    "wa_number": -7,
    "wa_rate": 0.0000001,
    "wa_choice": 2,
    "wa_day": f"{DAY}T00:00:00Z",
}
CONTACT = {"primarycontactid@odata.bind": f"/contacts({OTHER})"}


@pytest.fixture
def sim(tmp_path):
    accounts = DEFAULT_SCHEMA.get("accounts")
    names = [(name,) for name in COLUMNS] + [("primarycontactid", "wa_text")]
    keys = {f"key{number}": AlternateKey(key) for number, key in enumerate(names)}
    table = replace(accounts, columns={**accounts.columns, **COLUMNS}, keys=keys)
    chosen = Settings(static_tokens=[TOKEN], schema=DEFAULT_SCHEMA.with_tables(table))
    with Simulator(tmp_path / "crm.sqlite", settings=chosen) as running:
        running.seed("contacts", {"contactid": OTHER})
        running.seed("accounts", {"accountid": ROW, "name": "before", **STORED, **CONTACT})
        yield running


def write(sim, tmp_path, key, readiness="full"):
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    payload = {"table": "account", "key": key, "columns": {"name": "after"}}
    asked = KeyedOperation(session_id="s", id="1", kind="upsert_row", key=OTHER, payload=payload)
    environ = environ_of(sim)
    with adapter_from_settings(environ=environ, timeout=5, readiness=readiness, mapping=path) as adapter:
        [planned] = adapter.plan([asked])
        return adapter.emit(planned)


@pytest.mark.parametrize(
    "key",
    [
        *({name: STORED[name]} for name in ("wa_text", "wa_number", "wa_rate", "wa_choice")),
        {"_primarycontactid_value": OTHER.upper(), "wa_text": STORED["wa_text"]},
    ],
)
def test_a_row_is_found_by_a_key_of_each_type(sim, tmp_path, key):
    assert write(sim, tmp_path, key).remote_id == ROW
    assert sim.row("accounts", ROW)["name"] == "after"
    assert sim.count("accounts") == 1


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ({"wa_text": 5}, "key column wa_text is of type String, and the value of the key is not"),
        ({"wa_number": "-7"}, "key column wa_number is of type Integer"),
        ({"wa_choice": "two"}, "key column wa_choice is of type Picklist"),
        ({"wa_choice": True}, "key column wa_choice is of type Picklist"),
        ({"wa_rate": "planted"}, "key column wa_rate is of type Decimal"),
        ({"wa_day": DAY}, "key column wa_day is a date, and how one stands in a URL is not documented"),
    ],
)
def test_a_value_of_another_type_is_refused_while_planning(sim, tmp_path, key, said):
    with pytest.raises(NotReady) as caught:
        write(sim, tmp_path, key)
    assert f"operation 1: table accounts: {said}" in str(caught.value)
    assert "planted" not in str(caught.value)
    assert sim.requests(method="PATCH") == []


def test_without_the_check_the_service_refuses_a_date(sim, tmp_path):
    with pytest.raises(PermanentDataverseError):
        write(sim, tmp_path, {"wa_day": DAY}, readiness="off")
    with pytest.raises(InvalidInput, match="has a character that Dataverse takes in no key"):
        write(sim, tmp_path, {"wa_day": f"{DAY}T00:00:00Z"}, readiness="off")
    with httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        quoted = http.get(f"accounts(wa_day='{DAY}')")
        timed = http.get(f"accounts(wa_day={DAY}T00%3A00%3A00Z)")
    assert (quoted.status_code, timed.status_code) == (400, 400)
    assert sim.count("accounts") == 1
    assert sim.row("accounts", ROW)["name"] == "before"
