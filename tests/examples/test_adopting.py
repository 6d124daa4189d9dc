"""The small host before and after: what each leaves behind, and how many lines that took."""

import difflib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_crm import running

from tests.support.processes import child_environment

ADOPTING = Path(__file__).parents[2] / "examples/adopting"
README = Path(__file__).parents[2] / "README.md"
CALL = {"id": "call-7", "summary": "interested", "follow_up": "call back on Monday"}
ROWS = ["call back on Monday", "done", "interested"]
PORTS = ["with_artifacts", "with_write_back"]


@pytest.fixture
def host(tmp_path):
    """Runs the host as a program, in a folder with a call, beside a CRM."""
    (tmp_path / "call.json").write_text(json.dumps(CALL))
    with running() as crm:

        def run(name, *command):
            script = [ADOPTING / f"{name}.py", "call.json"]
            done = subprocess.run(
                [sys.executable, *(command or script)],
                cwd=tmp_path,
                env=child_environment(CRM_URL=crm.url, PYTHONPATH=str(ADOPTING)),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.stderr == ""
            return done.returncode, done.stdout.strip()

        yield run, crm, tmp_path / "artifacts/call-7"


def rows(crm):
    return sorted(json.loads(row) for row in crm.rows.values())


@pytest.mark.parametrize("name", ["before", *PORTS])
def test_the_host_writes_a_call(host, name):
    run, crm, folder = host
    assert run(name) == (0, "done")
    assert rows(crm) == ROWS
    assert (folder / "writeback.json").exists()


def test_before_a_run_that_fails_leaves_nothing(host):
    run, crm, folder = host
    crm.outage_after = 1
    assert run("before") == (75, "later: PUT /rows: HTTP 503")
    assert not folder.exists()


@pytest.mark.parametrize("name", PORTS)
def test_after_a_run_that_fails_goes_on_by_the_same_command(host, name):
    run, crm, folder = host
    crm.outage_after = 1
    assert run(name) == (75, "later: PUT /rows: HTTP 503")
    planned = json.loads((folder / "planned-writeback.json").read_bytes())
    assert "call back on Monday" in json.dumps(planned)
    crm.outage_after = None
    assert run(name) == (0, "done")
    assert rows(crm) == ROWS
    sent = len(crm.requests)
    assert run(name) == (0, "done")
    assert len(crm.requests) == sent


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("with_artifacts", ["--own", "with_artifacts:resume"]),
        ("with_write_back", ["--adapter", "with_write_back:Crm"]),
    ],
)
def test_after_a_run_that_fails_a_sweep_goes_on(host, name, options):
    run, crm, folder = host
    crm.outage_after = 1
    run(name)
    crm.outage_after = None
    # No run is at work on it: its marker is an hour old.
    old = time.time() - 3600
    os.utime(folder.parent / ".open/call-7", (old, old))
    sweep = ["-m", "writeahead", "sweep", "--store", "./artifacts", "--write", "--quiet"]
    code, _ = run(name, *sweep, *options)
    assert code == 0
    assert rows(crm) == ROWS
    assert (folder / "writeback.json").exists()


@pytest.mark.parametrize("name", ["before", *PORTS])
def test_a_refused_write_is_the_hosts_own_exception_still(host, name):
    run, crm, _ = host
    crm.put = lambda path, body: 422
    for _ in range(2):
        assert run(name) == (1, "look at it: PUT /rows: HTTP 422")


@pytest.mark.parametrize(
    ("name", "added", "removed"), [("with_artifacts", 25, 13), ("with_write_back", 32, 26)]
)
def test_what_a_port_takes(name, added, removed):
    before, after = (ADOPTING.joinpath(f"{one}.py").read_text().splitlines() for one in ("before", name))
    changed = [line[0] for line in difflib.ndiff(before, after) if line[0] in "+-"]
    print(f"{name}: {changed.count('+')} lines added, {changed.count('-')} removed")
    assert str(len(changed)) in README.read_text().partition("examples/adopting")[2][:300].split()
    assert changed.count("+") <= added
    assert changed.count("-") <= removed
