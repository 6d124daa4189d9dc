"""Each command, from what it is given to its exit code, its JSON and what is left in the store."""

import json
import os
import re
import socket
import time
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from writeahead import open_store, write_planned_writeback_artifact


def statuses(done):
    return {session["session_id"]: session["status"] for session in done.json["sessions"]}


def test_a_dry_run_is_the_default_and_sends_nothing(cli, remote):
    done = cli("run", cli.session("row", "row"), "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["status"] == "planned"
    assert "--write" in done.json["next_step"]
    assert remote.requests == []
    assert list(cli.bytes_in_store()) == [".dry-run/s1/planned-writeback.json"]


def test_write_sends_and_completes(cli, remote):
    done = cli("run", cli.session("row", "row"), "--write", "--json")
    assert done.code == 0
    report = done.json
    assert (report["session_id"], report["status"], report["next_step"]) == ("s1", "completed", None)
    assert report["emitted"] == ["1-row", "2-row"]
    assert report["receipts"]["1-row"]["outcome"] == "applied"
    assert remote.requests == ["PUT /row", "PUT /row"]
    assert "s1/writeback.json" in cli.bytes_in_store()


def test_a_dry_run_plans_the_very_payloads_that_are_sent(cli):
    file = cli.session("row", "row")
    dry = cli("run", file, "--json").json
    cli("run", file, "--write")
    plan = json.loads(cli.bytes_in_store()["s1/planned-writeback.json"])
    assert dry["operations"] == plan["operations"]


def test_the_session_can_come_from_stdin(cli, remote, monkeypatch):
    with cli.session("row").open("rb") as file:
        monkeypatch.setattr("sys.stdin", type("Stdin", (), {"buffer": file}))
        assert cli("run", "-", "--write").code == 0
    assert remote.requests == ["PUT /row"]


def test_an_exhausted_run_is_resumed_where_it_stopped(cli, remote):
    remote.answers = [201, 503, 503]
    done = cli("run", cli.session("row", "row"), "--write", "--json")
    assert (done.code, done.json["status"], done.json["operation"]) == (75, "resume_needed", "2-row")
    assert done.json["error"] == "PUT /row: 503"
    assert done.json["next_step"] == "writeahead resume s1"
    remote.requests.clear()

    done = cli("resume", "s1", "--json")
    assert (done.code, done.json["status"], done.json["emitted"]) == (0, "completed", ["2-row"])
    assert remote.requests == ["PUT /row"]

    done = cli("resume", "s1", "--json")
    assert (done.code, done.json["status"], done.json["emitted"]) == (0, "no_resume_needed", [])
    assert remote.requests == ["PUT /row"]


def test_the_text_says_what_happened_and_what_comes_next(cli, remote):
    remote.answers = [201, 503, 503]
    done = cli("run", cli.session("row", "row"), "--write", "--quiet", "--store", "./artifacts")
    assert done.out.splitlines() == [
        "s1  resume_needed",
        "  1-row  confirmed  applied",
        "  2-row  missing",
        "error: PUT /row: 503",
        "next: writeahead resume s1 --store ./artifacts",
    ]
    assert done.err == ""


def test_a_rejected_operation_blocks_until_it_is_unblocked(cli, remote):
    remote.answers = [400]
    done = cli("run", cli.session("row"), "--write", "--json")
    assert (done.code, done.json["status"], done.json["block_reason"]) == (1, "blocked", "rejected")
    assert cli("resume", "s1").code == 1
    assert remote.requests == ["PUT /row"]

    done = cli("unblock", "s1", "--reason", "the column was widened", "--json")
    assert (done.code, done.json["status"]) == (0, "resume_needed")
    assert cli("resume", "s1").code == 0
    assert sum(remote.effects.values()) == 1


def test_an_unknown_outcome_needs_a_decision(cli, remote):
    remote.answers = [0]
    done = cli("run", cli.session("mail", "row"), "--write", "--json")
    assert (done.code, done.json["block_reason"]) == (1, "outcome_unknown")
    assert "--assume applied|not-applied 1-mail" in done.json["next_step"]

    refused = cli("unblock", "s1", "--reason", "looked")
    assert refused.code == 2
    assert "--assume applied 1-mail" in refused.err

    page = cli("show", "s1", "--json").json
    assert page["operations"][0]["state"] == "attempted"
    assert page["operations"][0]["attempted_at"]

    done = cli("unblock", "s1", "--reason", "it is in the outbox", "--assume", "applied", "1-mail", "--json")
    assert (done.code, done.json["receipts"]["1-mail"]["outcome"]) == (0, "assumed")
    assert cli("resume", "s1").code == 0
    assert remote.requests == ["POST /mail", "PUT /row"]


@pytest.mark.parametrize(
    "assume",
    [
        ["perhaps", "1-mail"],
        ["applied"],
        ["applied", "9-mail"],
        ["applied", "1-mail", "--assume", "not-applied", "1-mail"],
    ],
)
def test_an_assumption_that_makes_no_sense_changes_nothing(cli, remote, assume):
    remote.answers = [0]
    cli("run", cli.session("mail"), "--write")
    before = cli.bytes_in_store()
    done = cli("unblock", "s1", "--reason", "looked", "--assume", *assume)
    assert done.code == 2
    assert 1 <= len(done.err.splitlines()) <= 2
    assert cli.bytes_in_store() == before


def test_show_has_operations_history_artifacts_and_next_step(cli, remote):
    remote.answers = [201, 503, 503]
    cli("run", cli.session("row", "row"), "--write", "--journal-interval", 0)
    page = cli("show", "s1", "--json").json
    assert (page["status"], page["adapter"], page["problem"]) == ("resume_needed", "crm", None)
    assert [line["state"] for line in page["operations"]] == ["confirmed", "missing"]
    assert [(entry["number"], entry["event"]) for entry in page["history"]] == [
        (1, "confirmed"),
        (2, "ended"),
    ]
    assert {item["key"]: item["size"] for item in page["artifacts"]} == {
        name: len(data) for name, data in cli.bytes_in_store().items()
    }
    assert page["next_step"] == "writeahead resume s1"
    text = cli("show", "s1").out
    assert "planned-writeback.json" in text
    assert "next: writeahead resume s1" in text


def test_list_filters_by_state(cli, remote):
    cli("run", cli.session("row", session_id="done"), "--write")
    remote.answers = [503, 503]
    cli("run", cli.session("row", session_id="later"), "--write")
    remote.answers = [400]
    cli("run", cli.session("row", session_id="stuck"), "--write")

    everything = {"done": "completed", "later": "resume_needed", "stuck": "blocked"}
    assert statuses(cli("list", "--json")) == everything
    assert statuses(cli("list", "--state", "open", "--json")) == {
        "later": "resume_needed",
        "stuck": "blocked",
    }
    for session_id, status in everything.items():
        done = cli("list", "--state", status, "--json")
        assert (done.code, statuses(done)) == (0, {session_id: status})


def test_list_says_age_last_error_and_next_step(cli, remote):
    remote.answers = [201, 503, 503]
    cli("run", cli.session("row", "row", session_id="later"), "--write")
    (listed,) = cli("list", "--json").json["sessions"]
    plan = json.loads(cli.bytes_in_store()["later/planned-writeback.json"])
    age = datetime.now(UTC) - datetime.fromisoformat(plan["created_at"])
    assert 0 <= listed["age"] <= age.total_seconds()
    assert (listed["confirmed"], listed["operations"], listed["operation"]) == (1, 2, "2-row")
    assert (listed["note"], listed["adapter"]) == ("PUT /row: 503", "crm")
    assert (listed["host"], listed["pid"]) == (None, None)  # its run gave it up
    assert listed["next_step"] == "writeahead resume later"
    first, second = cli("list").out.splitlines()
    assert re.fullmatch(r"resume_needed +1/2 +\d+s  later  PUT /row: 503", first)
    assert second.strip() == "next: writeahead resume later"


def test_a_session_without_a_plan_is_no_damaged_one(cli, remote):
    remote.answers = [400]
    cli("run", cli.session("row", session_id="torn"), "--write")
    (cli.store / "torn" / "planned-writeback.json").write_bytes(b"{")
    cli.store.joinpath(".open", "new").write_bytes(b"")  # a run that was killed before it planned
    listed = {line.split()[3]: line.split()[0] for line in cli("list").out.splitlines()}
    assert listed == {"new": "unplanned", "torn": "unreadable"}
    assert {name: cli("show", name).out.split()[1] for name in listed} == listed


def test_list_says_which_process_holds_a_session(cli, remote):
    cli("run", cli.session("row"), "--write")
    (cli.store / "s1/writeback.json").unlink()
    (cli.store / ".open/s1").touch()
    (listed,) = cli("list", "--json").json["sessions"]
    assert (listed["status"], listed["pid"]) == ("in_progress", os.getpid())
    assert listed["host"] == socket.gethostname()
    assert f"process {os.getpid()} on {listed['host']} holds the lease" in listed["note"]


OWN = """
from pydantic import BaseModel

from writeahead import load_replay_artifact, write_planned_writeback_artifact, write_writeback_artifact


class Outcome(BaseModel):
    text: str


def resume(store, session_id):
    found = load_replay_artifact(store, session_id, Outcome)
    write_writeback_artifact(store, session_id, found.model)


def fail(store, session_id):
    raise RuntimeError("secret")


no_function = 7
"""


@pytest.fixture
def own(cli):
    """A session of an orchestrator of its own, an hour old, and the module that resumes it."""
    name = f"own_{cli.folder.name}"
    cli.file(OWN, f"{name}.py")
    write_planned_writeback_artifact(open_store(cli.store), "call-8", Text(text="call back"))
    old = time.time() - 3600
    os.utime(cli.store / ".open/call-8", (old, old))
    return name


class Text(BaseModel):
    text: str


def test_an_own_session_is_listed_and_shown_as_such(cli, own):
    (listed,) = cli("list", "--state", "open", "--json").json["sessions"]
    assert (listed["status"], listed["own"]) == ("resume_needed", True)
    assert "writeahead sweep --own module:function --write" in listed["next_step"]
    assert cli("list").out.startswith("own ")
    shown = cli("show", "call-8")
    assert shown.code == 0
    assert "of an orchestrator of its own" in shown.out
    assert cli("show", "call-8", "--json").json["own"] is True
    assert cli("resume", "call-8").code == 3


def test_sweep_resumes_own_sessions_by_a_function(cli, own, remote):
    assert "call-8  resume it by the function of --own" in cli("sweep").out
    assert "orchestrator" in cli("sweep", "--write").out
    done = cli("sweep", "--write", "--own", f"{own}:fail")
    assert (done.code, "secret" in done.out) == (3, False)
    assert "its program raised RuntimeError" in done.out
    young = cli("sweep", "--write", "--own", f"{own}:resume")  # the failed one put its marker
    assert (young.code, young.out.startswith("in_progress")) == (75, True)
    old = time.time() - 3600
    os.utime(cli.store / ".open/call-8", (old, old))
    done = cli("sweep", "--write", "--own", f"{own}:resume", "--json")
    assert (done.code, done.json["sessions"][0]["report"]["status"]) == (0, "completed")
    assert "call-8/writeback.json" in cli.bytes_in_store()
    assert cli("list", "--state", "open", "--json").json["sessions"] == []
    assert remote.requests == []


@pytest.mark.parametrize(("name", "said"), [("no_function", "can't be called"), ("gone", "has no 'gone'")])
def test_a_function_that_is_none_is_a_usage_error(cli, own, name, said):
    done = cli("sweep", "--write", "--own", f"{own}:{name}")
    assert (done.code, said in done.err) == (2, True)
    assert "call-8/writeback.json" not in cli.bytes_in_store()


def test_sweep_scan_restores_lost_markers(cli, remote):
    remote.answers = [503, 503]
    cli("run", cli.session("row"), "--write")
    (cli.store / ".open/s1").unlink()
    assert cli("list", "--json").json["sessions"][0]["marked"] is False
    assert "its marker is lost, so no sweep sees it: writeahead sweep --scan --write" in cli("list").out
    assert "no open sessions" in cli("sweep").out
    assert "s1  restore its marker, then resume it" in cli("sweep", "--scan").out
    assert ".open/s1" not in cli.bytes_in_store()
    done = cli("sweep", "--scan", "--write", "--json")
    assert done.json["sessions"][0]["restored"] is True
    assert done.json["sessions"][0]["report"]["status"] == "completed"


def test_a_store_that_is_not_there_is_an_error_unless_it_may_be(cli):
    for command in (["list"], ["sweep"], ["sweep", "--write"], ["list", "--state", "open"]):
        done = cli(*command, "--store", "./artefacts")
        assert (done.code, "--missing-ok" in done.err) == (3, True)
        done = cli(*command, "--store", "./artefacts", "--missing-ok")
        assert (done.code, done.err) == (0, "")
    for command in (["unblock", "--all", "--reason", "?"], ["resume", "--all"]):
        done = cli(*command, "--store", "./artefacts")
        assert (done.code, "--missing-ok" in done.err) == (3, False)
    assert not (cli.folder / "artefacts").exists()


def test_sweep_shows_first_and_resumes_only_with_write(cli, remote):
    remote.answers = [503, 503]
    cli("run", cli.session("row", "row", session_id="later"), "--write")
    remote.answers = [400]
    cli("run", cli.session("row", session_id="stuck"), "--write")
    before, sent = cli.bytes_in_store(), list(remote.requests)

    done = cli("sweep", "--json")
    assert done.code == 0
    assert {item["session_id"]: item["step"].split(":")[0] for item in done.json["sessions"]} == {
        "later": "resume it",
        "stuck": "leave it",
    }
    assert (cli.bytes_in_store(), remote.requests) == (before, sent)

    done = cli("sweep", "--write", "--json")
    assert done.code == 0
    assert [item["report"] and item["report"]["status"] for item in done.json["sessions"]] == [
        "completed",
        None,
    ]
    assert len(remote.requests) == len(sent) + 2


def test_a_sweep_that_leaves_work_says_so_by_its_exit_code(cli, remote):
    for session_id in ("a", "b"):
        remote.answers = [503, 503]
        cli("run", cli.session("row", session_id=session_id), "--write")
    remote.answers = [503, 503, 400]
    done = cli("sweep", "--write", "--json")
    assert [item["report"]["status"] for item in done.json["sessions"]] == ["resume_needed", "blocked"]
    assert done.code == 1
    remote.answers = [503, 503]
    assert cli("sweep", "--write").code == 75

    (cli.store / "a" / "planned-writeback.json").write_bytes(b"{")
    done = cli("sweep", "--write", "--json")
    assert done.code == 3
    (error,) = [item["error"] for item in done.json["sessions"] if item["session_id"] == "a"]
    assert error.startswith("a/planned-writeback.json: truncated")


def test_check_has_a_line_for_each_promise(cli):
    done = cli("check", "--json")
    assert (done.code, done.json["ok"]) == (0, True)
    assert all(result["tried"] and result["seen"] for result in done.json["results"])
    lines = cli("check").out.splitlines()
    assert len(lines) == len(done.json["results"]) + 1
    assert all(line.startswith("holds  ") for line in lines[:-1])
    assert cli.bytes_in_store() == {}


def test_other_operations_under_the_same_id_are_refused(cli, remote):
    cli("run", cli.session("row"), "--write")
    before, sent = cli.bytes_in_store(), list(remote.requests)
    assert cli("run", cli.session("row"), "--write", "--json").json["status"] == "no_resume_needed"
    done = cli("run", cli.session("row", "row"), "--write", "--json")
    assert (done.code, done.json["type"]) == (2, "PlanConflict")
    assert "s1" in done.json["error"]
    assert (cli.bytes_in_store(), remote.requests) == (before, sent)


def test_policy_flags_reach_the_run(cli, remote):
    remote.answers = [503] * 5
    cli("run", cli.session("row"), "--write", "--attempts", 3, "--lease", 60, "--journal-interval", 0)
    assert len(remote.requests) == 3
    plan = json.loads(cli.bytes_in_store()["s1/planned-writeback.json"])
    assert plan["lease_seconds"] == 60


def test_an_empty_listing_says_so(cli):
    cli.store.mkdir()
    store = cli.store.as_uri()
    assert cli("list").out == f"no sessions in {store}\n"
    assert cli("list", "--state", "blocked").out == f"no blocked sessions in {store}\n"
    assert cli("sweep").out == cli("sweep", "--write").out == f"no open sessions in {store}\n"
    assert cli("list", "--json").json["sessions"] == []


def test_payloads_are_printed_by_a_dry_run_only(cli):
    session = cli.session("row")
    assert "1 row" in json.dumps(cli("run", session, "--json").json["operations"][0]["payload"])
    assert "payload" not in cli("run", session, "--write", "--json").json["operations"][0]


def test_a_journal_in_words_of_earlier_versions_runs_and_warns(cli, remote):
    remote.answers = [201, 503, 503]
    done = cli("run", cli.session("row", "row"), "--write", "--journal", "every")
    assert 'warning: --journal: journal = "every" goes in the next version' in done.err
    assert "s1/journal/000002.json" in cli.bytes_in_store()
    assert "--journal " not in cli("run", "--help").out
    assert "--journal-interval" in cli("run", "--help").out


def test_show_says_what_still_reads_of_a_damaged_session_and_what_to_do(cli, remote):
    remote.answers = [201, 400]
    cli("run", cli.session("row", "row"), "--write", "-q", "--journal-interval", 0)
    plan = cli.store / "s1" / "planned-writeback.json"
    plan.write_bytes(plan.read_bytes().replace(b"1 row", b"2 row"))
    refused = cli("resume", "s1")
    assert (refused.code, "'writeahead show'" in refused.err) == (3, True)

    done = cli("show", "s1", "--json")
    assert (done.code, done.json["status"], done.json["next_step"]) == (3, None, None)
    assert done.json["operations"][0]["receipt"]["outcome"] == "applied"
    assert [item["key"] for item in done.json["artifacts"] if item["problem"]] == [
        "s1/planned-writeback.json"
    ]
    lines = cli("show", "s1").out.splitlines()
    assert "  1-row  confirmed  applied" in lines
    (line,) = [line for line in lines if line.startswith("  s1/planned-writeback.json")]
    assert "damaged: altered: its checksum does not match" in line
    steps = lines[lines.index("what to do") + 1 :]
    assert [step[:5] for step in steps] == ["  1. ", "  2. ", "  3. "]


def test_a_dry_run_warns_where_its_session_is_there_already(cli):
    session = cli.session("row")
    assert cli("run", session, "--json").json["warnings"] == []
    cli("run", session, "--write")
    (warning,) = cli("run", session, "--json").json["warnings"]
    assert warning.startswith("session s1 is there already")
