"""kill -9 of an orchestrator of its own at each step, and what a sweep makes of it."""

import re
import signal
import subprocess
import sys

import pytest
from tiny_crm import running

from tests.support import own_child
from tests.support.invariants import hours_later
from tests.support.processes import ROOT, child_environment
from writeahead import open_store, write_planned_writeback_artifact
from writeahead.protocol.sweep import sweep

ROWS = ["call", "queue", "task"]


def run(folder, crm, deadly):
    command = [sys.executable, ROOT / "tests/support/own_child.py", folder.as_uri(), crm.url, str(deadly)]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    # Each run's plan has another checksum.
    return done.returncode, re.sub(r"sha256-\w+", "sha256", done.stdout).splitlines()


def files(folder):
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def swept(store, crm):
    def on_own(store, session_id):
        own_child.resume(store, session_id, crm.url)

    return list(sweep(store, on_own=on_own, clock=hours_later(1)))


@pytest.mark.timeout(300)
def test_an_own_orchestrator_killed_at_each_step_is_finished_by_a_sweep(tmp_path, full, chance):
    with running() as crm:
        whole, steps = run(tmp_path / "whole", crm, 0)
        assert (whole, sorted(crm.rows.values())) == (0, ROWS)
        assert len(steps) == 16
        offset = chance.randrange(4)
        for deadly, step in enumerate(steps, start=1):
            if not full and deadly % 4 != offset:
                continue
            crm.rows.clear()
            folder = tmp_path / str(deadly)
            end, passed = run(folder, crm, deadly)
            assert (end, passed) == (-signal.SIGKILL, steps[:deadly])
            store = open_store(folder)
            is_planned = "s1/planned-writeback.json" in files(folder)
            assert is_planned or not crm.rows, step
            swept(store, crm)
            if not is_planned:
                # The program runs it again, and its plan is another one by then.
                write_planned_writeback_artifact(store, "s1", own_child.new_outcome())
                swept(store, crm)
            assert sorted(crm.rows.values()) == ROWS, step
            assert "s1/writeback.json" in files(folder), step
            assert ".open/s1" not in files(folder), step
            assert swept(store, crm) == [], step
