"""Values against the definitions of their columns: what does not fit, and what is stored."""

import pytest

from tests.support.dataverse_values import schema_of
from writeahead.adapters.dataverse import DataverseClient
from writeahead.adapters.dataverse.readiness.checks import WriteRequirements
from writeahead.adapters.dataverse.readiness.definitions import Definitions
from writeahead.adapters.dataverse.readiness.metadata import ColumnDefinition, read_tables
from writeahead.adapters.dataverse.readiness.values import problems_of, stored_value
from writeahead.errors import NotReady
from writeahead.simulators.dataverse import Settings, Simulator

TOKEN = "token-of-values"


@pytest.fixture(scope="module")
def columns(tmp_path_factory):
    """The definitions of the columns of phone calls, as the service has them."""
    settings = Settings(static_tokens=[TOKEN], schema=schema_of())
    with Simulator(tmp_path_factory.mktemp("values") / "crm.sqlite", settings=settings) as sim:
        client = DataverseClient(sim.url, lambda: TOKEN, timeout=5)
        found = read_tables(client, {"phonecalls": None})["phonecalls"].columns
        client.close()
    return found


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("wa_day", "2026-03-05", None),
        ("wa_day", "2026-03-05T00:00:00Z", "holds a date, such as 2026-03-05, and a moment is planned"),
        ("wa_day", "2026-02-30", "is of type DateTime"),
        ("wa_day", "1752-12-31", "holds nothing earlier than 1753"),
        ("wa_localday", "2026-03-05T00:00:00Z", None),
        ("wa_localday", "2026-03-05", "holds a moment, such as 2026-03-05T00:00:00Z, and a date is planned"),
        ("wa_checkin", "2026-03-05", "holds a moment"),
        ("scheduledstart", "9999-12-31T23:59:59-05:00", "is of type DateTime"),
        ("actualstart", "1752-12-31T00:00:00Z", "holds nothing earlier than 1753"),
        ("subject", "\U0001f4de" * 100, None),
        ("subject", "\U0001f4de" * 101, "holds 200 characters, and 202 are planned, since an emoji counts"),
        ("subject", "\ud83d" * 200, None),
        ("wa_topics", "1, 9", None),
        ("wa_topics", "", None),
        ("wa_topics", "9,-777", "has no such option"),
        ("wa_topics", "9,777", "has no such option"),
        ("wa_topics", "9,planted", "give their values as a list"),
        ("wa_topics", "9;1", "give their values as a list"),
        ("wa_topics", 9, "give their values as a list"),
        ("wa_amount", "99", "is of type Money"),
        ("wa_amount", 1e15, "holds -9.22337e+14 to 9.22337e+14"),
        ("wa_ratio", "1", "is of type Double"),
        ("wa_rate", 101, "holds 0 to 100"),
    ],
)
def test_a_value_that_does_not_fit(columns, column, value, problem):
    found = list(problems_of(value, columns[column]))
    assert len(found) == (problem is not None), found
    assert problem is None or problem in found[0]
    assert not {"planted", "777"} & set("".join(found).split())


def test_at_most_150_options():
    column = ColumnDefinition("MultiSelectPicklist", creatable=True, updatable=True, required="None")
    assert list(problems_of(",".join(map(str, range(150))), column)) == []
    [said] = problems_of(",".join(map(str, range(151))), column)
    assert said == "holds 150 options, and 151 are planned"


@pytest.mark.parametrize(
    ("column", "value", "forms"),
    [
        ("wa_amount", 99.99, None),
        ("wa_amount", 5, None),
        ("wa_amount", 99.994, {99.99}),
        ("wa_amount", 99.995, {99.99, 100.0}),
        ("wa_amount", -0.125, {-0.12, -0.13}),
        # 2.675 is a little less as a float; what is sent is these four digits.
        ("wa_amount", 2.675, {2.67, 2.68}),
        ("wa_amount", 1e-30, {0.0}),
        ("wa_price", 100, None),
        ("wa_price", 100.0, None),
        ("wa_price", 99.94, {100.0, 99.0, 99.9} - {99.0}),
        ("wa_rate", 0.12345, {0.123}),
        ("wa_ratio", 1 / 3, {0.3333}),
        ("wa_day", "2026-03-05", None),
        ("scheduledstart", "2026-03-05T10:00:00+01:00", None),
        ("scheduledstart", "2026-03-05T10:00:00.6Z", {"2026-03-05T10:00:00Z", "2026-03-05T10:00:01Z"}),
        ("wa_localday", "2026-03-05T23:00:00Z", {"2026-03-04", "2026-03-05", "2026-03-06"}),
        ("wa_localday", "9999-12-31T00:00:00Z", {"9999-12-30", "9999-12-31"}),
        ("scheduledstart", "9999-12-31T23:59:59.5Z", {"9999-12-31T23:59:59Z"}),
        ("wa_checkin", "2026-03-05T10:00:00Z", None),
        ("wa_checkin", "2026-03-05T10:00:00+02:00", {"2026-03-05T10:00:00Z"}),
        ("wa_topics", "1,9", None),
        ("wa_topics", "9, 1", {"1,9", "9,1"}),
        ("wa_topics", "12,2", {"2,12"}),
        ("wa_motto", "x ", None),
        ("subject", None, None),
    ],
)
def test_what_the_service_may_store(columns, column, value, forms):
    found = stored_value(column, value, columns[column])
    assert (set(found.forms) if found else None) == forms


@pytest.mark.parametrize(
    ("column", "value", "warning"),
    [
        ("wa_amount", 99.995, "wa_amount keeps 2 decimals, and more are planned: the service rounds it"),
        ("wa_price", 99.95, None),
        ("wa_price", 99.955, "wa_price keeps as many decimals as its currency or the organization has"),
        ("wa_checkin", "2026-03-05T10:00:00+02:00", "wa_checkin knows no time zones"),
        ("scheduledstart", "2026-03-05T10:00:00.6Z", "scheduledstart keeps whole seconds"),
        ("wa_localday", "2026-03-05T23:00:00Z", None),
        ("wa_topics", "9,1", None),
    ],
)
def test_it_is_said_where_that_is_not_what_was_asked_for(columns, column, value, warning):
    found = stored_value(column, value, columns[column])
    said = found.warning if found else None
    assert (said is None) == (warning is None)
    assert warning is None or said.startswith(warning)
    assert said is None or str(value) not in said


def test_a_column_of_several_options_is_told_from_other_virtual_ones(columns):
    assert columns["wa_topics"].type == "MultiSelectPicklist"
    assert list(columns["wa_topics"].options) == [1, 2, 9, 12]


def test_the_gate_refuses_what_is_no_option(tmp_path):
    settings = Settings(static_tokens=[TOKEN], schema=schema_of())
    write = WriteRequirements("1-x", "phonecalls", "activityid", {"wa_topics": "999,abc"}, updates=True)
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as sim:
        client = DataverseClient(sim.url, lambda: TOKEN, timeout=5)
        with pytest.raises(NotReady, match=r"column wa_topics holds several options: .* \[1, 9\]"):
            Definitions(client).require([write])
        client.close()
