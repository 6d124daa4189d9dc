"""Small traps of the command line that once caught somebody."""

import json

import pytest


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["unblock", "s1", "--reason", "x", "--assume", "applied", "--store", "st"], "--assume"),
        (["unblock", "s1", "--reason", "x", "--assume"], "--assume"),
    ],
)
def test_an_assumption_without_an_operation_is_named(cli, arguments, names):
    done = cli(*arguments)
    assert done.code == 2
    assert names in done.err


@pytest.mark.parametrize(
    "line", ["mapping = 3", "url = 5", "timeout = [1]", "timeout = true", 'environ = "x"', "client_id = 1"]
)
def test_a_setting_of_the_wrong_type_is_named(cli, tmp_path, line):
    session = tmp_path / "session.json"
    session.write_text('{"session_id": "s1", "operations": [{"kind": "task", "payload": {"subject": "x"}}]}')
    config = tmp_path / "settings.toml"
    config.write_text(f"[adapters.dataverse]\n{line}\n")
    done = cli(
        "run",
        str(session),
        "--store",
        str(tmp_path / "st"),
        "--adapter",
        "dataverse",
        "--config",
        str(config),
    )
    assert done.code == 2, done.err
    assert "bug" not in done.err


def test_a_number_too_large_for_json_is_named_with_its_file(cli, tmp_path):
    session = tmp_path / "session.json"
    session.write_text('{"session_id": "s1", "operations": [{"kind": "task", "payload": {"x": 1e400}}]}')
    done = cli("run", str(session), "--store", str(tmp_path / "st"), "--adapter", "dataverse")
    assert done.code == 2
    assert "1e400" in done.err


def test_payloads_are_printed_by_a_dry_run_only(cli):
    session = cli.session("row")
    assert "1 row" in json.dumps(cli("run", session, "--json").json["operations"][0]["payload"])
    assert "payload" not in cli("run", session, "--write", "--json").json["operations"][0]
