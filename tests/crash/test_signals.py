"""SIGTERM and SIGINT at a run of the command line whose Dataverse does not answer in time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.invariants import hours_later
from writeahead import RunPolicy, open_store, resume_session
from writeahead.adapters.dataverse import adapter_from_settings
from writeahead.model import RunStatus, idempotency_key
from writeahead.simulators.dataverse import Settings, Simulator

SESSIONS = Path(__file__).parents[2] / "examples" / "sessions"
SESSION = "interested-callback-0001"
CALL = idempotency_key(SESSION, "1-phone_call_activity")
# Seconds for a request: enough for a busy machine to answer the others. The server is silent for
# much longer, so that no end can have waited for it.
TIMEOUT, SILENCE = 5, 600


_LONG = pytest.mark.skipif(
    os.environ.get("WRITEAHEAD_TESTS") != "full",
    reason="six seconds of waiting: WRITEAHEAD_TESTS=full runs it",
)


@pytest.fixture
def sim(tmp_path):
    with Simulator(tmp_path / "crm.sqlite", settings=Settings(client_secret="planted")) as running:
        for entity_set, rows in json.loads((SESSIONS / "seed.json").read_text()).items():
            for row in rows:
                running.seed(entity_set, row)
        yield running


@pytest.fixture
def settings(sim):
    return {
        "DATAVERSE_URL": sim.url,
        "DATAVERSE_AUTHORITY": sim.url,
        "DATAVERSE_TENANT_ID": sim.settings.tenant_id,
        "DATAVERSE_CLIENT_ID": sim.settings.client_id,
        "DATAVERSE_CLIENT_SECRET": "planted",
    }


@pytest.fixture
def run(sim, settings, tmp_path):
    """Starts a run, and returns once a request was applied and is not being answered."""
    started = []

    def start(method="PATCH", path="phonecalls(*"):
        fault = {"method": method, "path": path, "delay_after": SILENCE, "times": None}
        number = sim.faults.add("delay", **fault)
        process = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "writeahead",
                    "run",
                    SESSIONS / "interested-callback.json",
                    "--write",
                    "--quiet",
                ),
                *("--json", "--store", (tmp_path / "store").as_uri(), "--adapter", "dataverse"),
                *("--wait-initial", "0"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | settings | {"DATAVERSE_TIMEOUT": str(TIMEOUT)},
        )
        started.append(process)
        while not (sim.count("phonecalls") if method == "PATCH" else sim.requests(path=path)):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        return process, number

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def bring_to_its_end(sim, settings, tmp_path):
    sim.faults.clear()
    with adapter_from_settings(environ=settings) as adapter:
        report = resume_session(
            SESSION,
            store=open_store((tmp_path / "store").as_uri()),
            adapter=adapter,
            policy=RunPolicy(wait_initial=0),
            clock=hours_later(1),
        )
    assert report.status is RunStatus.COMPLETED, report.error
    assert report.receipts["1-phone_call_activity"].outcome == "already_applied"
    assert [row["activityid"] for row in sim.rows("phonecalls")] == [CALL]
    assert sim.count("tasks") == 1
    queue = sim.row("wa_callqueues", "d0000000-0000-4000-8000-000000000001")
    assert (queue["wa_lastsession"], queue["wa_attempts"]) == (SESSION, 2)


@pytest.mark.parametrize(
    "signals", [[signal.SIGTERM], [signal.SIGINT], pytest.param([signal.SIGTERM] * 3, marks=_LONG)]
)
def test_a_silent_request_is_abandoned_as_unknown(run, sim, settings, tmp_path, signals):
    process, _ = run()
    for number in signals:
        process.send_signal(number)
    out, err = process.communicate()
    report = json.loads(out)
    assert (process.returncode, report["status"]) == (75, "resume_needed"), err
    # After the signal no further attempt was made, and the one under way was not taken for a
    # failure.
    assert len(sim.requests(method="PATCH")) == 1
    [entry] = sorted((tmp_path / "store" / SESSION / "journal").iterdir())
    journal = json.loads(entry.read_bytes())
    assert (journal["event"], journal["status"]) == ("ended", "resume_needed")
    assert list(journal["attempted"]) == ["1-phone_call_activity"]
    assert (tmp_path / "store" / ".open" / SESSION).exists()
    bring_to_its_end(sim, settings, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=_LONG)])
def test_a_run_that_is_still_planning_writes_nothing(run, sim, tmp_path, number):
    process, _ = run("GET", "EntityDefinitions*")
    process.send_signal(number)
    out, err = process.communicate()
    report = json.loads(out)
    assert (process.returncode, report["status"]) == (75, "resume_needed"), err
    assert "run it again" in report["next_step"]
    assert sim.requests(method="PATCH") == []
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").iterdir())


def test_a_second_interrupt_exits_at_once_and_loses_nothing(run, sim, settings, tmp_path):
    process, _ = run()
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not (tmp_path / "store" / SESSION / "journal").exists()
    bring_to_its_end(sim, settings, tmp_path)
