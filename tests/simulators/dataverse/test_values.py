"""What is stored of a value that fits, and which values do not fit."""

import re
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_UP

import httpx
import pytest

from tests.simulators.dataverse.conftest import TOKEN
from tests.support.dataverse_values import COLUMNS, schema_of
from writeahead.simulators.dataverse import Settings, Simulator


@pytest.fixture
def with_columns(tmp_path):
    """A simulator with a column of each sort, and a client of it."""
    opened = []

    def make(**other):
        settings = Settings(static_tokens=[TOKEN], schema=schema_of(**other))
        sim = Simulator(tmp_path / "crm.sqlite", settings=settings).start()
        client = httpx.Client(base_url=sim.api_url, headers={"Authorization": f"Bearer {TOKEN}"})
        opened.extend([sim.stop, client.close])
        return sim, client

    yield make
    for close in reversed(opened):
        close()


@pytest.mark.parametrize(
    ("column", "sent", "stored"),
    [
        # The example of "Data Validation and Default Values".
        ("wa_amount", 11.3456, 11.35),
        ("wa_amount", 99.995, 100.0),
        ("wa_amount", 5, 5.0),
        ("wa_amount", -0.125, -0.12),
        ("wa_price", 99.95, 100.0),
        ("wa_rate", 0.12345, 0.123),
        ("wa_ratio", 1 / 3, 0.3333),
        ("wa_day", "2026-03-05", "2026-03-05"),
        ("wa_localday", "2026-03-05T10:00:00+01:00", "2026-03-05T09:00:00Z"),
        ("wa_checkin", "2026-03-05T15:00:00Z", "2026-03-05T15:00:00Z"),
        # No source: an offset counts where there are no time zones.
        ("wa_checkin", "2026-03-05T15:00:00+02:00", "2026-03-05T13:00:00Z"),
        # The example of "Choices columns".
        ("wa_topics", "1, 9", "1,9"),
        ("wa_topics", "9,1,9", "1,9"),
        ("wa_topics", "12,2", "2,12"),
        ("wa_topics", "", None),
        ("wa_motto", "two \r\nlines ", "two \r\nlines "),
    ],
)
def test_what_is_stored_of_a_value(with_columns, column, sent, stored):
    sim, http = with_columns()
    assert http.post("phonecalls", json={column: sent}).status_code == 204
    [row] = sim.rows("phonecalls")
    assert row[column] == stored
    assert http.get("phonecalls", params={"$select": column}).json()["value"][0][column] == stored


def test_an_amount_is_shown_with_its_fraction(with_columns):
    """As text, since 5 and 5.0 are one number to a test."""
    _, http = with_columns()
    assert http.post("phonecalls", json={"wa_amount": 5, "wa_rate": 7}).status_code == 204
    shown = http.get("phonecalls?$select=wa_amount,wa_rate").text
    assert re.findall(r'"wa_\w+": ?([\d.]+)', shown) == ["5.0", "7.0"]


@pytest.mark.parametrize(
    ("column", "sent", "code", "words"),
    [
        ("wa_amount", "99", "0x80048d19", "'Edm.Decimal'"),
        ("wa_amount", True, "0x80048d19", "'Edm.Decimal'"),
        ("wa_ratio", "1", "0x80048d19", "'Edm.Double'"),
        ("wa_rate", 100.5, "0x80040203", "outside the valid range"),
        ("wa_rate", -1, "0x80040203", "outside the valid range"),
        ("wa_day", "2026-03-05T00:00:00Z", "0x80048d19", "'Edm.Date'"),
        ("wa_day", "2026-02-30", "0x80048d19", "'Edm.Date'"),
        ("wa_day", "1752-12-31", "0x80040203", "outside the valid range"),
        ("wa_localday", "2026-03-05", "0x80048d19", "'Edm.DateTimeOffset'"),
        ("wa_checkin", "2026-03-05T15:00:00", "0x80048d19", "'Edm.DateTimeOffset'"),
        ("wa_localday", "1752-12-31T00:00:00Z", "0x80040203", "outside the valid range"),
        ("wa_topics", "1,999", "0x8004431a", "Accepted Values: 1,2,9,12"),
        ("wa_topics", "1,abc", "0x80048d19", "'Edm.String'"),
        ("wa_topics", [1, 9], "0x80048d19", "'Edm.String'"),
        ("wa_topics", 1, "0x80048d19", "'Edm.String'"),
    ],
)
def test_a_value_that_does_not_fit(with_columns, column, sent, code, words):
    sim, http = with_columns()
    reply = http.post("phonecalls", json={column: sent})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)
    assert words in reply.json()["error"]["message"]
    assert sim.count("phonecalls") == 0


def test_at_most_150_options_are_chosen(with_columns):
    options = {number: str(number) for number in range(151)}
    sim, http = with_columns(wa_topics=replace(COLUMNS["wa_topics"], options=options))
    for chosen, status in ((150, 204), (151, 400)):
        topics = ",".join(map(str, range(chosen)))
        assert http.post("phonecalls", json={"wa_topics": topics}).status_code == status
    assert sim.count("phonecalls") == 1


def test_what_no_source_says_can_be_chosen(with_columns):
    sim, http = with_columns(
        wa_amount=replace(COLUMNS["wa_amount"], rounding=ROUND_HALF_UP),
        wa_motto=replace(COLUMNS["wa_motto"], keeps=str.strip),
        wa_checkin=replace(
            COLUMNS["wa_checkin"],
            keeps=lambda value: datetime.fromisoformat(value).strftime("%Y-%m-%dT%H:%M:%SZ"),
        ),
    )
    row = {"wa_amount": 0.125, "wa_motto": " x ", "wa_checkin": "2026-03-05T15:00:00+02:00"}
    assert http.post("phonecalls", json=row).status_code == 204
    [stored] = sim.rows("phonecalls")
    assert (stored["wa_amount"], stored["wa_motto"]) == (0.13, "x")
    assert stored["wa_checkin"] == "2026-03-05T15:00:00Z"


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("wa_day eq 2026-03-05", 1),
        ("wa_day eq 2026-03-06", 0),
        ("wa_amount eq 100", 1),
        ("wa_topics eq '1,9'", 1),
    ],
)
def test_they_can_be_filtered_by(with_columns, condition, found):
    _, http = with_columns()
    http.post("phonecalls", json={"wa_day": "2026-03-05", "wa_amount": 99.995, "wa_topics": "9,1"})
    assert len(http.get("phonecalls", params={"$filter": condition}).json()["value"]) == found


@pytest.mark.parametrize(
    ("cast", "column", "expected"),
    [
        ("Money", "wa_amount", {"Precision": 2, "PrecisionSource": 0, "MaxValue": 922337203685477}),
        ("Money", "wa_price", {"Precision": 2, "PrecisionSource": 2}),
        ("Decimal", "wa_rate", {"Precision": 3, "MinValue": 0, "MaxValue": 100}),
        ("Double", "wa_ratio", {"Precision": 4, "MinValue": -1e11}),
        ("DateTime", "wa_day", {"Format": "DateOnly", "DateTimeBehavior": {"Value": "DateOnly"}}),
        ("DateTime", "wa_localday", {"Format": "DateOnly", "DateTimeBehavior": {"Value": "UserLocal"}}),
    ],
)
def test_their_definitions(with_columns, cast, column, expected):
    _, http = with_columns()
    path = (
        "EntityDefinitions(LogicalName='phonecall')/Attributes"
        f"/Microsoft.Dynamics.CRM.{cast}AttributeMetadata"
    )
    reply = http.get(path, params={"$select": ",".join(["LogicalName", *expected])})
    assert reply.status_code == 200, reply.text
    found = {item["LogicalName"]: item for item in reply.json()["value"]}[column]
    assert {name: found[name] for name in expected} == expected


def test_the_definition_of_a_column_of_several_options(with_columns):
    _, http = with_columns()
    path = "EntityDefinitions(LogicalName='phonecall')/Attributes"
    [topics] = [item for item in http.get(path).json()["value"] if item["LogicalName"] == "wa_topics"]
    assert topics["AttributeType"] == "Virtual"
    assert topics["AttributeTypeName"] == {"Value": "MultiSelectPicklistType"}
    cast = f"{path}/Microsoft.Dynamics.CRM.MultiSelectPicklistAttributeMetadata"
    [found] = http.get(cast, params={"$expand": "OptionSet,GlobalOptionSet"}).json()["value"]
    assert [item["Value"] for item in found["OptionSet"]["Options"]] == [1, 2, 9, 12]
