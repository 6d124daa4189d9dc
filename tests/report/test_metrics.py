"""A store's metrics, read back by Prometheus's own parser."""

import json

import pytest

from tests.support.remotes import Meets
from tests.support.worlds import World
from writeahead.cli import main
from writeahead.protocol.finding import find_sessions
from writeahead.report.metrics import OpenSessions
from writeahead.stores.local import LocalStore
from writeahead.testing import TracingStore

parser = pytest.importorskip("prometheus_client.parser", reason="it is in the group test")

AGE = "writeahead_oldest_open_session_age_seconds"


def samples(text):
    """{(name, label's value): value}, and the stores that are named."""
    families = list(parser.text_string_to_metric_families(text))
    assert {family.type for family in families} == {"gauge"}
    assert all(family.documentation for family in families)
    found = [one for family in families for one in family.samples]
    values = {
        (one.name, value): one.value
        for one in found
        for label, value in one.labels.items()
        if label != "store"
    }
    return values, {one.labels["store"] for one in found}


def scraped(world, store=None):
    store = store or world.store
    found = OpenSessions.of(store.name, find_sessions(store, "open", clock=world.clock), world.clock.now())
    return samples(found.text())


def unlucky(world, session_id, *meets):
    world.remote.script["1-create"] = list(meets)
    world.run("create", session_id=session_id)


def test_what_is_open_is_counted_by_status_and_reason():
    world = World()
    unlucky(world, "done")
    unlucky(world, "refused", Meets.REJECTED)
    world.clock.advance(100)
    unlucky(world, "conflict", Meets.CONFLICT)
    unlucky(world, "old", Meets.RETRY_AFTER)
    world.clock.advance(11)
    unlucky(world, "young", Meets.RETRY_AFTER)
    world.store.put(".open/broken", b"")
    world.store.put("broken/planned-writeback.json", b"no artifact")
    values, stores = scraped(world)
    expected = {"resume_needed": 2, "in_progress": 0, "blocked": 2, "unknown": 1}
    reasons = {name for (metric, name) in values if metric == "writeahead_blocked_sessions"}
    assert {name: values["writeahead_open_sessions", name] for name in expected} == expected
    assert {name for name in reasons if values["writeahead_blocked_sessions", name]} == {
        "rejected",
        "conflict_detected",
    }
    assert (values[AGE, "resume_needed"], values[AGE, "blocked"]) == (11, 111)
    assert stores == {"memory://"}


def test_a_series_is_there_before_its_first_session():
    values, _ = scraped(World())
    # Else an alarm on a rise would miss the first one.
    assert {"rejected", "outcome_unknown", "gave_up"} < {name for _, name in values}
    assert set(values.values()) == {0}


def test_the_finished_sessions_cost_nothing():
    world = World()
    for number in range(20):
        unlucky(world, f"done{number}")
    unlucky(world, "open", Meets.RETRY_AFTER)
    store = TracingStore(world.store)
    scraped(world, store)
    assert [(call.verb, call.key) for call in store.calls] == [
        ("list", ".open/"),
        ("list", ".blocked/"),
        ("list", "open/"),
        ("get", "open/planned-writeback.json"),
        ("get", "open/journal/000001.json"),
    ]


def test_sessions_make_no_more_series():
    few, many = World(), World()
    unlucky(few, "s", Meets.RETRY_AFTER)
    for number in range(20):
        unlucky(many, f"s{number}", Meets.RETRY_AFTER)
    assert scraped(few)[0].keys() == scraped(many)[0].keys()


@pytest.mark.parametrize("name", ['quo"ted', "back\\slash", "new\nline", "\\n", "{a=1} 5", "ü \u2028"])
def test_a_label_holds_any_name_of_a_store(name):
    found = OpenSessions.of(name, [], World().clock.now())
    assert samples(found.text())[1] == {name}


def test_half_a_surrogate_pair_is_printed():
    assert "\\udcff" in OpenSessions.of("\udcff", [], World().clock.now()).text().encode().decode()


def test_the_command_prints_what_prometheus_reads(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "40")
    world = World()
    world.store = LocalStore(tmp_path / "store")
    unlucky(world, "refused", Meets.REJECTED)
    unlucky(world, "done")
    assert main(["metrics", "--store", str(tmp_path / "store")]) == 0
    values, stores = samples(capsys.readouterr().out)
    assert ("writeahead_open_sessions", "completed") not in values
    assert values["writeahead_blocked_sessions", "rejected"] == 1
    assert stores == {world.store.name}
    assert main(["metrics", "--store", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["blocked_sessions"]["rejected"] == 1


def test_a_store_that_is_not_there_is_no_empty_one(tmp_path, capsys):
    assert main(["metrics", "--store", str(tmp_path / "other")]) == 3
    out, err = capsys.readouterr()
    assert (out, bool(err)) == ("", True)
