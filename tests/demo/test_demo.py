"""The demo as a user runs it, and that it fails if a claim does not hold."""

import json
import os
import subprocess
import sys

import pytest

from writeahead.cli import main
from writeahead.demo.environment import Environment
from writeahead.simulators.dataverse import Faults


@pytest.fixture
def demo(tmp_path):
    """Runs the demo in a process; what it leaves behind is in ``scratch``."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def demo(*arguments, **more):
        done = subprocess.run(
            [sys.executable, "-m", "writeahead", "demo", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(scratch), "COLUMNS": "100", **more},
            capture_output=True,
            text=True,
            check=False,
        )
        assert list(scratch.iterdir()) == []
        return done

    return demo


def sent(command):
    return [
        (request["method"], request["resource"].split("(")[0], request["status"], request["times"])
        for request in command["requests"]
    ]


@pytest.mark.parametrize("store", [[], ["--store", "s3"]], ids=["local", "s3"])
def test_the_main_job(demo, store):
    # The caller's settings and credentials must not lead it astray.
    astray = {"WRITEAHEAD_STORE": "zork://x", "DATAVERSE_URL": "http://127.0.0.1:9", "AWS_PROFILE": "nobody"}
    done = demo(*store, "--json", **astray)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert facts["ok"] is True
    owner, definitions, *rest = sent(facts["run"])
    assert owner == ("GET", "systemusers", 200, 1)
    assert definitions[:3] == ("GET", "EntityDefinitions", 200)
    assert rest == [
        ("GET", "wa_callqueues", 200, 1),
        ("PATCH", "phonecalls", 204, 1),
        ("PATCH", "wa_callqueues", 204, 1),
        ("PATCH", "tasks", 503, 4),
    ]
    assert (facts["run"]["exit_code"], facts["run"]["status"]) == (75, "resume_needed")
    assert sent(facts["resume"]) == [("PATCH", "tasks", 204, 1)]
    assert facts["resume_again"]["requests"] == []
    assert {name: len(rows) for name, rows in facts["crm"].items()} == {
        "phone_calls": 1,
        "queue_transitions": 1,
        "tasks": 1,
    }
    assert f"{facts['session_id']}/writeback.json" in facts["artifacts"]["after_resume"]


@pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="WRITEAHEAD_TESTS=full runs it")
def test_the_text_fits_the_screen_and_a_named_store_is_kept(demo, tmp_path):
    store = tmp_path / "kept"
    done = demo("--store", store)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    for part in ("exit code 75", "resume_needed", "planned-writeback.json", "4 times", "one task", "All "):
        assert part in done.stdout
    assert "\x1b" not in done.stdout
    (session,) = (path for path in store.iterdir() if not path.name.startswith("."))
    assert (session / "writeback.json").exists()


def test_a_claim_that_does_not_hold_fails_the_demo(monkeypatch, capsys):
    monkeypatch.setattr(Faults, "clear", lambda self: 0)
    assert main(["demo"]) == 3
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == "error: this does not hold: exit code 0: completed"
    assert "All " not in out


def test_a_second_task_fails_the_demo(monkeypatch, capsys):
    run = Environment.run

    def run_and_double(self, *arguments):
        done = run(self, *arguments)
        if arguments[0] == "resume" and self.crm.count("tasks") == 1:
            self.crm.seed("tasks", {"subject": "a duplicate"})
        return done

    monkeypatch.setattr(Environment, "run", run_and_double)
    assert main(["demo", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"] == "this does not hold: one task"


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("memory://x", "the demo resumes in another process"),
        ("zork://x", "unknown scheme"),
    ],
)
def test_a_store_that_the_demo_can_not_use(capsys, store, message):
    assert main(["demo", "--store", store]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("store", "package"), [("kept", "uvicorn"), ("s3", "moto"), ("s3", "s3fs")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, store, package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"from writeahead.cli import main; sys.exit(main(['demo', '--store', {store!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert package in done.stderr
    assert 'pip install "writeahead[demo]"' in done.stderr
    assert len(done.stderr.splitlines()) == 1
