"""``remaining``: what it prints can be corrected, and run under a new id."""

import json

import pytest


def blocked(cli, remote, *kinds, **more):
    remote.answers = [201, 400]
    file = cli.session(*kinds, **more)
    assert cli("run", file, "--write", "-q").code == 1
    remote.requests.clear()
    return file


def test_a_corrected_payload_is_written_under_a_new_id(cli, remote):
    blocked(cli, remote, "row", "row", "row")
    cli("abandon", "s1", "--reason", "a wrong text")
    done = cli("remaining", "s1", "--as", "s2")
    assert (done.code, done.err) == (0, "")
    session = done.json
    assert [operation["id"] for operation in session["operations"]] == ["2-row", "3-row"]
    session["operations"][0]["payload"]["text"] = "right"
    report = cli("run", cli.file(json.dumps(session), "fixed.json"), "--write", "--json", "-q")
    assert (report.code, report.json["session_id"], report.json["status"]) == (0, "s2", "completed")
    assert remote.requests == ["PUT /row"] * 2
    plan = json.loads(cli.bytes_in_store()["s2/planned-writeback.json"])
    assert plan["operations"][0]["payload"]["text"] == "right"


def test_without_a_new_id_the_file_can_t_be_run_by_accident(cli, remote):
    blocked(cli, remote, "row", "row")
    cli("abandon", "s1", "--reason", "x")
    file = cli.file(cli("remaining", "s1").out, "fixed.json")
    done = cli("run", file, "--write")
    assert done.code == 2
    assert "<a new session id>" in done.err
    assert remote.requests == []


def test_what_is_uncertain_is_on_stderr_and_in_the_document(cli, remote):
    remote.answers = [0]
    cli("run", cli.session("mail", "row"), "--write", "-q")
    done = cli("remaining", "s1", "--as", "s2")
    assert done.code == 0
    assert [operation["id"] for operation in done.json["operations"]] == ["1-mail", "2-row"]
    lines = done.err.splitlines()
    assert lines[0].startswith("warning: 1-mail may have been sent, ")
    assert lines[1].startswith("warning: session s1 can still be resumed")
    document = cli("remaining", "s1", "--as", "s2", "--json").json
    assert document["session"] == done.json
    assert list(document["attempted"]) == ["1-mail"]
    assert [f"warning: {warning}" for warning in document["warnings"]] == lines


def test_the_file_that_was_run_keeps_its_namespace(cli, remote):
    file = blocked(cli, remote, "row", "row", namespace="tenant-1")
    cli("abandon", "s1", "--reason", "x")
    assert "namespace" in cli("remaining", "s1", "--as", "s2").err
    done = cli("remaining", "s1", file, "--as", "s2")
    assert (done.err, done.json["namespace"]) == ("", "tenant-1")
    assert set(done.json) == {"session_id", "operations", "namespace"}


def test_any_character_of_a_payload_survives_the_terminal(cli, remote):
    text = 'Zoë \u2028 \x1b[31m "quoted" [bold]'
    operations = [{"kind": "row", "payload": {"text": text}}]
    remote.answers = [400]
    file = cli.file(json.dumps({"session_id": "s1", "operations": operations}))
    cli("run", file, "--write", "-q")
    done = cli("remaining", "s1")
    assert done.out.isascii()
    assert "\x1b" not in done.out
    assert done.json["operations"][0]["payload"]["text"] == text


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["done"], 2, "done is completed: nothing is missing"),
        (["gone"], 3, "session gone: neither"),
        (["s1", "--as", "s1"], 2, "choose another one"),
        (["s1", "--as", "../x"], 2, "../x"),
        (["s1", "gone.json"], 2, "gone.json: there is no such file"),
        (["s1", "done.json"], 2, "done.json: it is the file of session done, not of s1"),
        (["s1", "changed.json"], 2, "s1 was planned from another request"),
    ],
)
def test_what_can_t_be_answered_is_refused_and_stdout_stays_empty(cli, remote, arguments, code, said):
    blocked(cli, remote, "row", "row")
    cli("run", cli.session("row", session_id="done", name="done.json"), "--write", "-q")
    cli.session("row", "mail", name="changed.json")
    before = cli.bytes_in_store()
    done = cli("remaining", *arguments)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert cli.bytes_in_store() == before
