"""Independent operations on the command line: asked for in a file, and each stop named."""

import json

import pytest


@pytest.fixture
def stopped(cli, remote):
    """A session of four at two of which it stopped: one was refused, of one there was no answer."""
    kinds = ["row", "row", "mail", "row"]
    operations = [
        {"kind": kind, "payload": {"text": f"{n} {kind}"}, "independent": True}
        for n, kind in enumerate(kinds)
    ]
    file = cli.file(json.dumps({"session_id": "s1", "operations": operations}))
    remote.answers = [201, 400, 0]
    return cli("run", file, "--write", "--quiet", "--max-in-flight", 1)


def test_a_run_names_every_stop(stopped, remote):
    assert stopped.code == 1
    lines = [line.split() for line in stopped.out.splitlines()[1:5]]
    states = [("1-row", "confirmed"), ("2-row", "missing"), ("3-mail", "attempted"), ("4-row", "confirmed")]
    assert [(line[0], line[1], line[-1]) for line in lines] == [(*one, "independent") for one in states]
    assert "stop: 2-row: blocked (rejected): PUT /row: 400" in stopped.out
    assert "stop: 3-mail: blocked (outcome_unknown): POST /mail: " in stopped.out
    assert remote.requests == ["PUT /row", "PUT /row", "POST /mail", "PUT /row"]


def test_another_process_names_them_too(cli, stopped):
    shown, listed = cli("show", "s1"), cli("list")
    for stop in ("stop: 2-row: blocked (rejected)", "stop: 3-mail: blocked (outcome_unknown)"):
        assert stop in shown.out
    assert "2-row: PUT /row: 400; 3-mail: POST /mail: " in listed.out
    (session,) = cli("list", "--json").json["sessions"]
    told = [(stop["operation"], stop["block_reason"]) for stop in session["stops"]]
    assert told == [("2-row", "rejected"), ("3-mail", "outcome_unknown")]
    assert cli("show", "s1", "--json").json["stops"] == session["stops"]


def test_an_operator_decides_about_one_after_another(cli, stopped, remote):
    assert cli("unblock", "s1", "--reason", "the cause is gone").code == 0
    again = cli("resume", "s1", "--quiet")
    assert again.code == 1
    assert "may have been sent" in again.out
    refused = cli("unblock", "s1", "--reason", "well")
    assert refused.code == 2
    assert "find out whether 3-mail took effect" in refused.err
    assert cli("unblock", "s1", "--reason", "it is there", "--assume", "applied", "3-mail").code == 0
    assert cli("resume", "s1", "--quiet").code == 0
    assert remote.requests.count("POST /mail") == 1


def test_the_history_names_every_stop_also_after_a_decision(cli, stopped):
    assert cli("unblock", "s1", "--reason", "done by hand", "--assume", "applied", "2-row").code == 0
    (ended,) = [entry for entry in cli("show", "s1").out.splitlines() if " ended " in entry]
    assert "2-row, blocked, rejected, PUT /row: 400; 3-mail, blocked, outcome_unknown, POST /mail: " in ended


def test_what_remains_stays_independent(cli, stopped):
    session = cli("remaining", "s1", "--as", "s2", "--json").json["session"]
    assert [operation["independent"] for operation in session["operations"]] == [True, True]


def test_a_value_that_is_no_flag_is_refused(cli):
    operation = {"kind": "row", "payload": {"text": "x"}, "independent": "perhaps"}
    done = cli("run", cli.file(json.dumps({"session_id": "s1", "operations": [operation]})))
    assert done.code == 2
    assert "operation 1: independent" in done.err
