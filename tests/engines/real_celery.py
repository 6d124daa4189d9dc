"""examples/engines/celery_app.py on Redis, with real workers: `nox -s engines` runs it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.engines import (
    Killer,
    Processes,
    at_mail,
    at_request,
    can_unshare,
    free_port,
    judge,
    kill_pid,
    park,
)
from tests.support.processes import child_environment
from tests.support.reference_remote import serve

pytest.importorskip("celery", reason="Celery is not installed: see `nox -s engines`")
if shutil.which("redis-server") is None:
    pytest.skip("there is no redis-server on this machine", allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "examples/engines"
NAMES = [f"s{number:02}" for number in range(24)]
LEASE = 15  # and Redis's visibility timeout
AFTER_LEASE = 30  # seconds, within which all is done


@pytest.fixture
def remote():
    with serve() as running:
        yield running


@pytest.fixture
def start(tmp_path):
    processes = Processes(tmp_path)
    yield processes
    processes.close()


@pytest.fixture
def environ(tmp_path, start, remote):
    """The environment of workers, and a Redis of their own."""
    port = free_port()
    start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path)
    return {
        "BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "VISIBILITY_TIMEOUT": str(LEASE),
        "WRITEAHEAD_STORE": (tmp_path / "store").as_uri(),
        "WRITEAHEAD_ADAPTER": "tests.support.engines:make_adapter",
        "CRM_URL": remote.url,
        "PYTHONPATH": os.pathsep.join((child_environment()["PYTHONPATH"], str(EXAMPLES))),
    }


@pytest.fixture
def worker(start, environ):
    def begin(name, *before, **more):
        tool = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--concurrency", "2"]
        return start(*before, *tool, "-n", f"{name}@test", **{**environ, "TEST_WORKER": name, **more})

    return begin


def send(environ, names):
    """Hand the sessions to Celery."""
    program = f"import celery_app; [celery_app.resume.delay(name) for name in {names!r}]"
    here = child_environment(**environ)
    subprocess.run([sys.executable, "-c", program], env=here, check=True, timeout=120)


def wait_until_done(store, seconds):
    """Until no session is open: each is finished, or waits for an operator."""
    ends = time.monotonic() + seconds
    while left := [path.name for path in (store / ".open").iterdir()]:
        assert time.monotonic() < ends, f"not done: {left}"
        time.sleep(0.1)


@pytest.mark.parametrize("at", [at_request(7), at_mail], ids=["7th request", "an e-mail"])
def test_a_process_of_the_pool_is_killed(tmp_path, remote, environ, worker, at):
    store = tmp_path / "store"
    park(store, remote.url, NAMES)
    killer = Killer(remote, kill_pid, at)
    send(environ, NAMES)
    process = worker("one")
    assert killer.killed.wait(120), process.log.read_text()
    wait_until_done(store, LEASE + AFTER_LEASE)
    blocked = judge(store, remote, NAMES, most_blocked=1)
    assert blocked >= (at is at_mail)
    assert process.poll() is None
    print(f"all done {time.monotonic() - killer.killed_at:.0f} s after the kill, {blocked} blocked")


@pytest.mark.skipif(not can_unshare(), reason="it takes unshare(1), and the right to use it")
@pytest.mark.parametrize("at", [at_request(7), at_mail], ids=["7th request", "an e-mail"])
def test_a_worker_of_another_machine_is_killed_as_a_whole(tmp_path, remote, environ, worker, at):
    store = tmp_path / "store"
    park(store, remote.url, NAMES)
    apart = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    workers = {}
    killer = Killer(remote, lambda headers: workers[headers["X-Worker"]].kill(), at)
    send(environ, NAMES)
    for name in ("one", "two"):
        workers[name] = worker(name, *apart)
    assert killer.killed.wait(120)
    wait_until_done(store, LEASE + AFTER_LEASE)
    blocked = judge(store, remote, NAMES, most_blocked=2)
    assert blocked >= (at is at_mail)
    print(f"all done {time.monotonic() - killer.killed_at:.0f} s after the kill, {blocked} blocked")


def test_a_session_that_is_not_due_comes_again_when_it_is(tmp_path, remote, environ, worker):
    store = tmp_path / "store"
    park(store, remote.url, NAMES[:4])
    honest, answers = remote.answer, [(503, b"{}")] * 12
    remote.answer = lambda *request: answers.pop() if answers else honest(*request)
    send(environ, NAMES[:4])
    worker("one")
    wait_until_done(store, 120)
    assert judge(store, remote, NAMES[:4], most_blocked=0) == 0


def test_rows_of_the_simulator_are_there_once(tmp_path, start, environ, worker):
    from writeahead import RunPolicy, open_store, write_back
    from writeahead.adapters.dataverse import adapter_from_settings
    from writeahead.simulators.dataverse import Simulator

    store = tmp_path / "store"
    with Simulator(tmp_path / "crm.sqlite") as sim:
        crm = {
            "DATAVERSE_URL": sim.url,
            "DATAVERSE_AUTHORITY": sim.url,
            "DATAVERSE_TENANT_ID": sim.settings.tenant_id,
            "DATAVERSE_CLIENT_ID": sim.settings.client_id,
            "DATAVERSE_CLIENT_SECRET": sim.settings.client_secret,
        }
        sim.faults.add("status", path="tasks*", status=503, times=len(NAMES))
        with adapter_from_settings(environ=crm) as adapter:
            for name in NAMES:
                tasks = [{"kind": "task", "payload": {"subject": f"{name} {n}"}} for n in range(2)]
                report = write_back(
                    tasks,
                    session_id=name,
                    store=open_store(store),
                    adapter=adapter,
                    policy=RunPolicy(attempts=1),
                )
                assert report.status == "resume_needed", report
        assert sim.count("tasks") == 0
        # One is applied, and its answer keeps its worker waiting until that is killed.
        sim.faults.add("delay", method="PATCH", path="tasks*", skip=9, delay_after=60)
        adapter_of = {"WRITEAHEAD_ADAPTER": "dataverse"}
        send({**environ, **crm, **adapter_of}, NAMES)
        process = worker("one", **crm, **adapter_of)
        before = sim.last_sequence()
        ends = time.monotonic() + 120
        while sim.faults.pending():
            assert time.monotonic() < ends, process.log.read_text()
            time.sleep(0.05)
        while len(sim.requests(method="PATCH", path="tasks*", applied=True)) < 10:
            assert time.monotonic() < ends
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        killed_at = time.monotonic()
        worker("two", **crm, **adapter_of)
        wait_until_done(store, LEASE + AFTER_LEASE)
        print(f"all done {time.monotonic() - killed_at:.0f} s after the kill")
        subjects = sorted(row["subject"] for row in sim.rows("tasks"))
        sent = sim.requests(method="PATCH", path="tasks*", after=before)
    assert subjects == sorted(f"{name} {n}" for name in NAMES for n in range(2))
    assert len(list(store.glob("*/writeback.json"))) == len(NAMES)
    assert len(sent) >= len(subjects)
