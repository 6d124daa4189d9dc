"""Limits that four real processes keep together; the server counts."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest

from tests.support import limited_workers
from tests.support.http_server import QuietHandler, serving
from tests.support.limited_workers import BURST, REQUESTS, SLOTS, WORKERS, LimitedCrm
from tests.support.processes import child_environment
from writeahead import open_store, sweep
from writeahead.model import RunStatus

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
VICTIM = 0


@contextmanager
def workers(*arguments):
    command = [sys.executable, limited_workers.__file__, *map(str, arguments)]
    process = subprocess.Popen(command, env=child_environment(), stdout=subprocess.PIPE, text=True)
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


class Counting:
    """The server's truth: what is under way, and what it has made."""

    def __init__(self):
        self.changed = threading.Condition()
        self.now = self.most = 0
        self.held = 0
        self.is_dead = False
        self.rows = Counter()
        self.requests = 0

    def serve(self, key, worker):
        with self.changed:
            self.requests += 1
            self.now += 1
            self.most = max(self.most, self.now)
            if worker == str(VICTIM) and not self.is_dead:
                self.held += 1
                self.changed.notify_all()
                self.changed.wait_for(lambda: self.is_dead, 60)
                self.rows[key] += 1
                return  # `kill` has counted it out
        time.sleep(0.01)  # the service at work
        with self.changed:
            self.rows[key] += 1
            self.now -= 1

    def kill(self, pid):
        """Kill the victim once it has all slots, so that no other process can go on."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.held == SLOTS, 60)
            # Its requests count as over from its death on. At the server they may last longer.
            self.now -= self.held
            os.kill(pid, signal.SIGKILL)
            self.is_dead = True
            self.changed.notify_all()


def handler_of(counting):
    class Handler(QuietHandler):
        def do_PUT(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            counting.serve(self.path, self.headers["X-Worker"])
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


def test_a_killed_process_frees_its_slots_and_never_more_than_so_many_are_under_way(tmp_path):
    counting, store = Counting(), open_store(tmp_path / "store")
    with serving(handler_of(counting)) as url:
        with workers("sessions", url, tmp_path / "limits", tmp_path / "store") as (process, pids):
            counting.kill(pids[VICTIM])
            codes = json.loads(process.stdout.readline())
        assert codes == [-signal.SIGKILL] + [0] * (WORKERS - 1)
        adapter = LimitedCrm(url, tmp_path / "limits")
        resumed = list(sweep(store, adapter, concurrency=2))
        adapter.http.close()
    assert {result.report.status for result in resumed} == {RunStatus.COMPLETED}
    assert counting.most == SLOTS
    # One row for each operation; only what the victim had under way was sent twice.
    assert len(counting.rows) == WORKERS * 6
    again = [key for key, count in counting.rows.items() if count > 1]
    assert len(again) <= SLOTS
    assert counting.requests == WORKERS * 6 + len(again)


@pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="WRITEAHEAD_TESTS=full runs it")
def test_four_processes_keep_to_one_rate(tmp_path):
    arrivals = []

    class Handler(QuietHandler):
        def do_PATCH(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            arrivals.append(time.monotonic())
            self.send_response(204)
            self.end_headers()

    began = time.monotonic()
    with serving(Handler) as url, workers("rate", url, tmp_path) as (process, _pids):
        assert json.loads(process.stdout.readline()) == [0] * WORKERS
    # A late arrival only makes the bound larger.
    refilled = (max(arrivals) - began) * (REQUESTS - BURST) / 300
    assert len(arrivals) in range(BURST, int(BURST + refilled) + 2)
    assert 2 * len(arrivals) < WORKERS * limited_workers.TRIES
