"""writeahead sweep --engine dask, with real workers: `nox -s engines` runs it.

The remote kills a worker when it has applied that worker's request, and before it answers. It can't
tell a second e-mail from the first.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.support.engines import (
    ADAPTER,
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

pytest.importorskip("distributed", reason="Dask is not installed: see `nox -s engines`")

NAMES = [f"s{number:02}" for number in range(24)]
LEASE = 15
AFTER_LEASE = 30  # seconds, within which all is done


@pytest.fixture
def remote():
    with serve() as running:
        yield running


@pytest.fixture
def folder(tmp_path, remote):
    """A working directory with settings, and sessions that need a resume."""
    settings = f'store = "./store"\nadapter = "{ADAPTER}"\n[adapters."{ADAPTER}"]\nurl = "{remote.url}"\n'
    (tmp_path / "writeahead.toml").write_text(settings)
    park(tmp_path / "store", remote.url, NAMES)
    return tmp_path


@pytest.fixture
def start(folder):
    processes = Processes(folder)
    yield processes
    processes.close()


@pytest.fixture
def sweep(start):
    def begin(*flags):
        command = [sys.executable, "-W", "error", "-m", "writeahead", "sweep", "--write", "--engine", "dask"]
        return start(*command, "--lease", LEASE, "--json-lines", *flags)

    return begin


def finished(process, seconds=300):
    out, _ = process.communicate(timeout=seconds)
    lines = [json.loads(line) for line in out.splitlines()]
    return process.returncode, lines[:-1], lines[-1] if lines else None


@pytest.mark.parametrize("at", [at_request(7), at_mail], ids=["7th request", "an e-mail"])
def test_a_worker_of_a_local_cluster_is_killed(folder, remote, sweep, at):
    killer = Killer(remote, kill_pid, at)
    process = sweep("--concurrency", "4", "--until-done")
    assert killer.killed.wait(120), process.log.read_text()
    code, _, totals = finished(process, LEASE + AFTER_LEASE)
    blocked = judge(folder / "store", remote, NAMES, most_blocked=2)  # what was under way at one worker
    assert code == (1 if blocked else 0)
    assert blocked >= (at is at_mail)
    assert sum(totals["totals"].values()) == len(NAMES)
    assert len(killer.pids) >= 2
    print(f"all done {time.monotonic() - killer.killed_at:.0f} s after the kill, {totals['totals']}")


def _scheduler(start):
    address = f"tcp://127.0.0.1:{free_port()}"
    tool = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    return address, start(*tool, "--host", "127.0.0.1", "--port", address.rpartition(":")[2])


def _worker(start, address, name, *before):
    tool = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
    return start(*before, *tool, "--nthreads", "2", "--name", name, TEST_WORKER=name)


def _wait_for_workers(address, count):
    from distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(count, timeout=120)


@pytest.mark.skipif(not can_unshare(), reason="it takes unshare(1), and the right to use it")
@pytest.mark.parametrize("at", [at_request(7), at_mail], ids=["7th request", "an e-mail"])
def test_a_worker_of_another_machine_is_killed(folder, remote, start, sweep, at):
    # Each worker has process ids of its own, as on a machine of its own: no other one can tell that
    # it is dead, so the lease counts.
    address, _ = _scheduler(start)
    apart = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    workers = {name: _worker(start, address, name, *apart) for name in ("one", "two")}
    _wait_for_workers(address, 2)
    killer = Killer(remote, lambda headers: workers[headers["X-Worker"]].kill(), at)
    process = sweep("--scheduler", address, "--until-done")
    assert killer.killed.wait(120), process.log.read_text()
    code, sessions, totals = finished(process, LEASE + AFTER_LEASE)
    blocked = judge(folder / "store", remote, NAMES, most_blocked=2)
    assert code == (1 if blocked else 0)
    assert blocked >= (at is at_mail)
    # The one that came again had to wait.
    assert "in_progress" in {line["report"]["status"] for line in sessions if line["again"]}
    print(f"all done {time.monotonic() - killer.killed_at:.0f} s after the kill, {totals['totals']}")


def test_a_session_that_kills_each_of_its_workers_is_given_up(folder, remote, sweep):
    poison, honest, kills = [], remote.answer, []

    def answer(method, path, headers, body):
        reply = honest(method, path, headers, body)
        poison[:] = poison or [path]
        if path == poison[0]:
            kills.append(headers["X-Pid"])
            kill_pid(headers)
        return reply

    remote.answer = answer
    code, sessions, totals = finished(sweep("--concurrency", "1", "--until-done"))
    assert len(kills) == len(set(kills)) == 4  # Dask's allowed-failures, and the one too many
    (given_up,) = [line for line in sessions if line["error"]]
    assert "KilledWorker" in given_up["error"]
    assert (code, totals["totals"]) == (3, {"completed": len(NAMES) - 1, "error": 1})
    remote.answer = honest
    here = [sys.executable, "-m", "writeahead", "sweep", "--write"]
    assert subprocess.run(here, cwd=folder, env=child_environment(), check=False).returncode == 0
    judge(folder / "store", remote, NAMES, most_blocked=0)


def test_an_interrupt_of_the_terminal_ends_all_and_leaves_nothing_in_doubt(folder, remote, sweep):
    honest, arrived, go_on, pids = remote.answer, threading.Semaphore(0), threading.Event(), set()

    def answer(method, path, headers, body):
        pids.add(int(headers["X-Pid"]))
        arrived.release()
        go_on.wait(60)
        return honest(method, path, headers, body)

    remote.answer = answer
    process = sweep("--concurrency", "4")
    for _ in range(3):
        assert arrived.acquire(timeout=120), process.log.read_text()
    os.killpg(process.pid, signal.SIGINT)  # all of them get it, as by Ctrl-C
    go_on.set()
    code, sessions, totals = finished(process)
    assert (code, totals["stopped"]) == (75, True)
    assert "Traceback" not in process.log.read_text()
    assert {line["report"]["status"] for line in sessions} <= {"completed", "resume_needed"}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    # No lease is waited for.
    here = [sys.executable, "-m", "writeahead", "sweep", "--write", "--json-lines"]
    done = subprocess.run(
        here, cwd=folder, env=child_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    judge(folder / "store", remote, NAMES, most_blocked=0)


def test_workers_that_know_nothing_of_an_interrupt_are_told(folder, remote, start, sweep):
    address, _ = _scheduler(start)
    workers = [_worker(start, address, name) for name in ("one", "two")]
    _wait_for_workers(address, 2)
    honest, arrived = remote.answer, threading.Semaphore(0)

    def answer(method, path, headers, body):
        arrived.release()
        return 503, b"{}"

    remote.answer = answer
    process = sweep("--scheduler", address, "--waits", "500", "--run-limit", "2000", "--lease", "2000")
    for _ in range(3):
        assert arrived.acquire(timeout=120), process.log.read_text()
    process.send_signal(signal.SIGTERM)
    code, sessions, _ = finished(process, 60)  # and not 500 s
    assert code == 75
    assert {line["report"]["status"] for line in sessions} == {"resume_needed"}
    assert all(worker.poll() is None for worker in workers)
    remote.answer = honest
    code, _, _ = finished(sweep("--scheduler", address))
    assert code == 0
    judge(folder / "store", remote, NAMES, most_blocked=0)


def test_a_killed_driver_takes_its_workers_along_and_loses_nothing(folder, remote, sweep):
    processes = []
    killer = Killer(remote, lambda headers: processes[0].kill(), at_request(9))
    processes.append(sweep("--concurrency", "4"))
    assert killer.killed.wait(120)
    processes[0].communicate(timeout=60)  # its output is closed by the last of its workers
    here = [sys.executable, "-m", "writeahead", "sweep", "--write", "--until-done"]
    code = subprocess.run(here, cwd=folder, env=child_environment(), timeout=120, check=False).returncode
    judge(folder / "store", remote, NAMES, most_blocked=4)
    assert code in (0, 1)  # a worker may have blocked its session itself, before


def test_a_scheduler_that_is_not_there_is_said_in_one_line(folder, remote, sweep):
    process = sweep("--scheduler", f"tcp://127.0.0.1:{free_port()}")
    process.communicate(timeout=120)
    assert process.returncode == 2
    assert "no scheduler answers there" in process.log.read_text()
    assert remote.requests == []


def test_a_scheduler_that_dies_ends_the_sweep_with_an_error(folder, remote, start, sweep):
    address, scheduler = _scheduler(start)
    _worker(start, address, "one")
    _wait_for_workers(address, 1)
    killer = Killer(remote, lambda headers: scheduler.kill(), at_request(9))
    process = sweep("--scheduler", address)
    assert killer.killed.wait(120), process.log.read_text()
    code, _, _ = finished(process, 120)
    assert code == 3, process.log.read_text()
    said = process.log.read_text()
    assert "the engine takes no work any more" in said
    assert "Traceback" not in said
    here = [sys.executable, "-m", "writeahead", "sweep", "--write", "--until-done"]
    code = subprocess.run(here, cwd=folder, env=child_environment(), timeout=120, check=False).returncode
    judge(folder / "store", remote, NAMES, most_blocked=2)
    assert code in (0, 1)  # a worker may have blocked its session itself, before
