"""A batch in a process that is killed, then the same batch again, on the Dataverse simulator."""

import json
import signal
import subprocess
import sys

import pytest

from tests.support.processes import child_environment, finished
from writeahead.cli import main
from writeahead.simulators.dataverse import Simulator

FLAGS = ["run", "--batch", "batch.jsonl", "--write", "--quiet", "--json-lines", "--concurrency", "4"]
FLAGS += ["--store", "./artifacts", "--adapter", "dataverse"]
SUBJECTS = [f"call {number:02}" for number in range(12)]


@pytest.fixture
def simulator(tmp_path, monkeypatch):
    with Simulator(tmp_path / "crm.sqlite") as running:
        settings = running.settings
        for name, value in {
            "URL": running.url,
            "AUTHORITY": running.url,
            "TENANT_ID": settings.tenant_id,
            "CLIENT_ID": settings.client_id,
            "CLIENT_SECRET": settings.client_secret,
        }.items():
            monkeypatch.setenv(f"DATAVERSE_{name}", value)
        yield running


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [
        {
            "session_id": subject.replace(" ", "-"),
            "operations": [{"kind": "task", "payload": {"subject": f"{subject}, {part}"}} for part in "ab"],
        }
        for subject in SUBJECTS
    ]
    (tmp_path / "batch.jsonl").write_text("\n".join(map(json.dumps, lines)))
    started = []

    def batch():
        process = subprocess.Popen(
            [sys.executable, "-m", "writeahead", *FLAGS],
            env=child_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield batch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_batch_that_is_killed_is_finished_by_the_same_batch(simulator, start, capsys):
    # From the 9th on, a write takes effect, and its sender is killed before it is told.
    held = simulator.faults.add("delay", method="PATCH", path="tasks(*", skip=8, times=None, delay_after=600)
    process = start()
    while simulator.count("tasks") < 10:
        assert process.poll() is None, process.communicate()
    process.kill()
    code, out, _ = finished(process)
    done = [json.loads(line)["report"]["status"] for line in out.splitlines()]
    assert code == -signal.SIGKILL
    assert set(done) <= {"completed"}
    assert len(done) < len(SUBJECTS)
    simulator.faults.remove(held)

    before = simulator.last_sequence()
    code, (out, err) = main(FLAGS), capsys.readouterr()
    assert (code, err) == (0, "")
    totals = json.loads(out.splitlines()[-1])["totals"]
    assert sum(totals.values()) == len(SUBJECTS)
    assert totals["no_resume_needed"] >= len(done)
    # The truth is the remote's: each row once.
    rows = sorted(row["subject"] for row in simulator.rows("tasks"))
    assert rows == sorted(f"{subject}, {part}" for subject in SUBJECTS for part in "ab")
    sent = len(simulator.requests(method="PATCH", after=before))
    print(f"killed after {len(done)} sessions; the second batch sent {sent} writes")
