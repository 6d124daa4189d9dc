"""The examples, run as a reader would: as scripts, in an empty folder."""

import json
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, folder):
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_quickstart_parks_and_resumes(tmp_path):
    assert run("quickstart.py", tmp_path) == [
        "run:    resume_needed 1-row 2-row",
        "resume: completed 3-row",
    ]
    final = json.loads((tmp_path / "artifacts/call-7/writeback.json").read_bytes())
    assert [operation["receipt"]["outcome"] for operation in final["operations"]] == ["applied"] * 3
    assert not list((tmp_path / "artifacts/.open").iterdir())


def test_sessions_share_a_loop_and_a_client(tmp_path):
    assert run("on_asyncio.py", tmp_path) == ["5 sessions completed, 10 rows"]


def test_the_quickstart_sends_nothing_when_it_runs_again(tmp_path):
    run("quickstart.py", tmp_path)
    before = contents(tmp_path)
    assert run("quickstart.py", tmp_path) == ["run:    no_resume_needed", "resume: no_resume_needed"]
    assert contents(tmp_path) == before


def test_an_own_orchestrator_needs_only_the_artifact_functions(tmp_path):
    assert run("own_orchestrator.py", tmp_path) == [
        "record: 503, rows in the CRM: 1",
        "resume: done, rows in the CRM: 2",
        "resume: session call-9: neither planned-writeback.json nor writeback.json",
    ]
    folder = tmp_path / "own-artifacts/call-8"
    # The plan's checksum is in the name of the file that holds it.
    names = sorted(path.name[:24] for path in folder.iterdir())
    assert names == ["planned-writeback.json", "planned-writeback.sha256", "writeback.json"]
    planned, final = (
        json.loads((folder / name).read_bytes()) for name in ("planned-writeback.json", "writeback.json")
    )
    assert planned.keys() == {"call", "writes"}
    assert [write["confirmed"] for write in planned["writes"]] == [False, False]
    assert [write["confirmed"] for write in final["writes"]] == [True, True]
    assert [write["key"] for write in final["writes"]] == [write["key"] for write in planned["writes"]]


def test_an_own_orchestrator_sends_nothing_when_it_runs_again(tmp_path):
    run("own_orchestrator.py", tmp_path)
    before = contents(tmp_path)
    assert run("own_orchestrator.py", tmp_path) == [
        "record: was done before",
        "resume: was done before, rows in the CRM: 0",
        "resume: session call-9: neither planned-writeback.json nor writeback.json",
    ]
    assert contents(tmp_path) == before
