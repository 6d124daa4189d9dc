"""The Dataverse adapter on the command line: gaps are named before the first request."""

import json
from importlib.resources import files
from pathlib import Path

import pytest

from writeahead.simulators.dataverse import Simulator

EXAMPLES = Path(__file__).parents[2] / "examples/sessions"
TABLES = ("phonecalls", "wa_callqueues", "tasks")


@pytest.fixture
def simulator(tmp_path):
    with Simulator(tmp_path / "crm.sqlite") as running:
        for entity_set, rows in json.loads((EXAMPLES / "seed.json").read_text()).items():
            for row in rows:
                running.seed(entity_set, row)
        yield running


@pytest.fixture
def credentials(monkeypatch, simulator):
    settings = simulator.settings
    for name, value in {
        "URL": simulator.url,
        "AUTHORITY": simulator.url,
        "TENANT_ID": settings.tenant_id,
        "CLIENT_ID": settings.client_id,
        "CLIENT_SECRET": settings.client_secret,
    }.items():
        monkeypatch.setenv(f"DATAVERSE_{name}", value)


def truth(cli, simulator):
    return cli.bytes_in_store(), [simulator.rows(table) for table in TABLES]


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*-*.json")))
def test_every_example_session_is_written(cli, simulator, credentials, name):
    done = cli("run", EXAMPLES / name, "--adapter", "dataverse", "--write", "--quiet", "--json")
    assert (done.code, done.err) == (0, "")
    kinds = [operation["kind"] for operation in json.loads((EXAMPLES / name).read_text())["operations"]]
    assert simulator.count("tasks") == kinds.count("task")
    assert simulator.count("phonecalls") == kinds.count("phone_call_activity")
    assert len(simulator.requests(method="PATCH", applied=True)) == len(kinds)


def test_no_credentials_with_write(cli, simulator, monkeypatch):
    for name in ("URL", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"DATAVERSE_{name}", raising=False)
    before = truth(cli, simulator)
    done = cli("run", EXAMPLES / "do-not-call.json", "--adapter", "dataverse", "--write", "--json")
    assert (done.code, done.json["status"], done.json["block_reason"]) == (1, "blocked", "not_ready")
    for name in ("URL", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        assert f"DATAVERSE_{name}" in done.json["error"]
    assert "environment" in done.json["error"]
    assert truth(cli, simulator) == before


def test_a_dry_run_without_credentials_plans_what_can_be_planned(cli, simulator, monkeypatch):
    for name in ("URL", "TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        monkeypatch.delenv(f"DATAVERSE_{name}", raising=False)
    done = cli("run", EXAMPLES / "do-not-call.json", "--adapter", "dataverse", "--json")
    assert (done.code, done.json["status"]) == (0, "planned")
    kinds = [item["kind"] for item in json.loads((EXAMPLES / "do-not-call.json").read_text())["operations"]]
    assert [item["kind"] for item in done.json["operations"]] == kinds
    assert len([line for line in done.json["warnings"] if "not checked, since" in line]) == len(kinds)
    assert simulator.requests() == []
    # What needs no environment is still found out.
    wrong = {"session_id": "s1", "operations": [{"kind": "phone_call_activity", "payload": {"subject": "x"}}]}
    refused = cli("run", cli.file(json.dumps(wrong)), "--adapter", "dataverse", "--json")
    assert (refused.code, refused.json["block_reason"]) == (1, "not_ready")
    assert "phone_number" in refused.json["error"]


def test_approve(cli, simulator, credentials, monkeypatch):
    file = cli.folder / "mapping.toml"
    text = (files("writeahead.adapters.dataverse") / "default_mapping.toml").read_text()
    file.write_text(text)
    monkeypatch.setenv("DATAVERSE_MAPPING", str(file))
    monkeypatch.setenv("DATAVERSE_REQUIRE_APPROVAL", "true")
    run = ("run", EXAMPLES / "do-not-call.json", "--adapter", "dataverse", "--json")
    assert cli(*run).json["status"] == "planned"
    refused = cli(*run, "--write")
    assert (refused.code, refused.json["block_reason"]) == (1, "not_ready")
    assert simulator.requests(method="PATCH") == []
    done = cli("dataverse", "approve", file, "--by", "Ada Okafor", "--json")
    assert (done.code, done.json["approved_by"]) == (0, "Ada Okafor")
    assert f'approved_sha256 = "{done.json["approved_sha256"]}"' in file.read_text()
    approved = file.read_bytes()
    assert cli("dataverse", "approve", file, "--by", "Ada Okafor").code == 0
    assert file.read_bytes() == approved
    assert cli(*run, "--write").json["status"] == "completed"
    assert cli("dataverse", "approve", cli.folder / "gone.toml", "--by", "Ada").code == 2


def test_doctor(cli, simulator, credentials, monkeypatch):
    found = cli("dataverse", "doctor", "--json")
    assert (found.code, found.json["ok"]) == (0, True)
    assert {item["level"] for item in found.json["findings"]} <= {"ok", "unknown", "warning"}
    rows = simulator.count("wa_callqueues")
    probed = cli("dataverse", "doctor", "--write-probe", "kinds.queue_status_update")
    assert probed.code == 0
    assert "a second create of the same GUID is refused" in probed.out
    assert probed.out.splitlines()[-1] == "a run would find what it needs"
    assert simulator.count("wa_callqueues") == rows
    assert cli("dataverse", "doctor", "--write-probe", "kinds.other").code == 2
    monkeypatch.delenv("DATAVERSE_CLIENT_SECRET")
    missing = cli("dataverse", "doctor")
    assert missing.code == 3
    assert "DATAVERSE_CLIENT_SECRET" in missing.out
    for output in (found, probed, missing):
        assert simulator.settings.client_secret not in output.out + output.err


def test_wrong_credentials_and_no_secret_in_the_output(cli, simulator, credentials, monkeypatch):
    monkeypatch.setenv("DATAVERSE_CLIENT_SECRET", "planted-secret")
    before = truth(cli, simulator)
    done = cli("run", EXAMPLES / "do-not-call.json", "--adapter", "dataverse", "--write")
    assert done.code == 1
    assert "planted-secret" not in done.out + done.err
    assert truth(cli, simulator) == before


def test_a_mapping_without_a_needed_field(cli, simulator, credentials, monkeypatch):
    text = (files("writeahead.adapters.dataverse") / "default_mapping.toml").read_text()
    (cli.folder / "mapping.toml").write_text(text.replace('do_not_call = "wa_donotcall"\n', ""))
    monkeypatch.setenv("DATAVERSE_MAPPING", "mapping.toml")
    before = truth(cli, simulator)
    done = cli("run", EXAMPLES / "do-not-call.json", "--adapter", "dataverse", "--write")
    assert done.code in (1, 2)
    assert "do_not_call" in done.out + done.err
    assert len((done.out + done.err).splitlines()) <= 3
    assert truth(cli, simulator) == before


def test_a_mapping_that_is_not_there(cli, simulator, credentials):
    with (cli.folder / "writeahead.toml").open("a") as settings:
        settings.write('[adapters.dataverse]\nmapping = "gone.toml"\n')
    before = truth(cli, simulator)
    done = cli("run", EXAMPLES / "do-not-call.json", "--adapter", "dataverse", "--write")
    assert done.code == 2
    assert "gone.toml" in done.err
    assert truth(cli, simulator) == before


def test_a_payload_of_the_wrong_shape(cli, simulator, credentials):
    session = {"session_id": "s1", "operations": [{"kind": "task", "payload": {"subjekt": "x"}}]}
    before = truth(cli, simulator)
    done = cli("run", cli.file(json.dumps(session)), "--adapter", "dataverse", "--write")
    assert done.code == 2
    assert "1-task" in done.err
    assert "subjekt" in done.err
    assert len(done.err.splitlines()) == 1
    assert truth(cli, simulator) == before


def test_no_secret_is_in_anything_that_is_written_or_printed(cli, simulator, credentials):
    simulator.faults.add("status", method="PATCH", path="tasks*", times=2)
    done = cli("run", EXAMPLES / "interested-callback.json", "--adapter", "dataverse", "--write")
    assert done.code == 75
    shown = cli("show", "interested-callback-0001", "--json")
    everything = done.out + done.err + shown.out + "".join(map(str, cli.bytes_in_store().values()))
    for secret in (simulator.settings.client_secret, simulator.url, "Bearer"):
        assert secret not in everything


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


def test_what_remains_needs_the_file_since_planning_translates(cli, simulator, credentials):
    name = EXAMPLES / "interested-callback.json"
    simulator.faults.add("status", method="PATCH", path="tasks*", status=400)
    assert cli("run", name, "--adapter", "dataverse", "--write", "-q").code == 1
    session_id = json.loads(name.read_text())["session_id"]
    cli("abandon", session_id, "--reason", "a wrong subject")
    # Rows of Dataverse are no tasks of a caller: the warning says so, and a run refuses them.
    done = cli("remaining", session_id, "--as", "again")
    assert "not what it was asked for" in done.err
    before = truth(cli, simulator)
    assert cli("run", cli.file(done.out, "rows.json"), "--adapter", "dataverse", "--write").code == 2
    assert truth(cli, simulator) == before

    done = cli("remaining", session_id, name, "--as", "again")
    assert (done.code, done.err) == (0, "")
    assert cli("run", cli.file(done.out, "fixed.json"), "--adapter", "dataverse", "--write", "-q").code == 0
    assert (simulator.count("tasks"), simulator.count("phonecalls")) == (1, 1)


def test_a_row_that_was_edited_since_it_was_loaded(cli, simulator, credentials):
    """The baseline stands beside the payload; what blocks the run is no session to unblock."""
    row_id = simulator.seed("wa_callqueues", {"wa_name": "Ada", "wa_donotcall": False})
    before = simulator.row("wa_callqueues", row_id)
    watched = ("statecode", "wa_status", "wa_attempts", "wa_nextattempton", "wa_donotcall", "wa_email")
    marker = ("wa_lastsession", "wa_lastoperation")
    baseline = {
        "etag": before["@odata.etag"],
        "columns": {name: before[name] for name in (*watched, *marker)},
    }
    payload = {"row_id": row_id, "status": "callback_requested"}
    operation = {"kind": "queue_status_update", "payload": payload, "baseline": baseline}
    session = cli.file(json.dumps({"session_id": "s1", "operations": [operation]}))
    simulator.edit("wa_callqueues", row_id, {"wa_donotcall": True})
    edited = truth(cli, simulator)
    for write in ([], ["--write"]):
        done = cli("run", session, "--adapter", "dataverse", "--json", *write)
        assert (done.code, done.json["status"], done.json["block_reason"]) == (
            1,
            "blocked",
            "conflict_detected",
        )
        assert "1-queue_status_update" in done.json["error"]
        assert done.json["error"].endswith("wa_donotcall")
        assert done.json["next_step"] == "settle the conflict, then run it again; nothing was sent"
    assert truth(cli, simulator) == edited
    simulator.edit("wa_callqueues", row_id, {"wa_donotcall": False})
    assert cli("run", session, "--adapter", "dataverse", "--write", "--quiet").code == 0
    shown = cli("show", "s1", "--json")
    assert shown.code == 0
    assert simulator.row("wa_callqueues", row_id)["wa_status"] == 100000003
