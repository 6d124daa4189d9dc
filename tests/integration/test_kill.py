"""kill -9 between any two steps of a run, then resume: nothing is lost, nothing doubled."""

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from tests.support.invariants import hours_later
from tests.support.processes import child_environment
from tests.support.reference_remote import ReferenceAdapter, serve
from writeahead import RunPolicy, open_store, resume_session
from writeahead.model import BlockReason, RunStatus, idempotency_key
from writeahead.protocol.finding import unfinished_sessions
from writeahead.protocol.sweep import sweep

FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"
POLICY = RunPolicy(clock_skew=0)
KEYS = [idempotency_key("s1", name) for name in ("1-create", "2-create", "3-mail")]


def child(store, remote, deadly=0):
    return subprocess.run(
        [sys.executable, "-m", "tests.support.kill_child", store, remote.url, str(deadly)],
        capture_output=True,
        text=True,
        check=False,
        env=child_environment(),
    )


def steps_of_a_whole_run(tmp_path):
    with serve() as remote:
        done = child(f"file://{tmp_path}/whole", remote)
    assert done.stdout.endswith("status completed\n"), done.stderr
    return done.stdout.splitlines()[:-1]


@pytest.mark.timeout(3000)
def test_killed_between_any_two_steps_then_resumed(tmp_path, chance):
    """Each process starts anew, as tests/crash spares itself at each of these steps."""
    steps = steps_of_a_whole_run(tmp_path)
    assert len(steps) >= 18
    every = range(1, len(steps) + 1)
    for deadly in every if FULL else chance.sample(every, 5):
        with serve() as remote:
            url = f"file://{tmp_path}/{deadly}"
            done = child(url, remote, deadly)
            assert done.returncode == -signal.SIGKILL
            assert done.stdout.splitlines() == steps[:deadly]
            with closing(ReferenceAdapter(remote.url)) as adapter:
                _resume_and_judge(open_store(url), remote, adapter, steps[deadly - 1])


def _resume_and_judge(store, remote, adapter, killed_at):
    acknowledged = "s1/planned-writeback.json" in [info.key for info in store.list()]
    final_there = store.head("s1/writeback.json") is not None
    if not acknowledged:
        list(sweep(store, adapter, policy=POLICY, clock=hours_later(1)))
        assert remote.requests == [], killed_at
        assert list(unfinished_sessions(store)) == []
        return
    assert final_there or list(unfinished_sessions(store)) == ["s1"], killed_at
    report = resume_session("s1", store=store, adapter=adapter, policy=POLICY, clock=hours_later(1))
    applied = [remote.effects[key] for key in KEYS]
    if report.status is RunStatus.BLOCKED:
        # The e-mail's fate can't be known: it was announced, and no receipt followed.
        assert report.block_reason is BlockReason.OUTCOME_UNKNOWN
        assert applied[:2] == [1, 1]
        assert applied[2] <= 1
        assert killed_at.startswith(
            (
                "after create s1/journal/000002",
                "before send POST",
                "after apply POST",
                "after reply POST",
                "before create s1/writeback",
            )
        )
    else:
        assert report.status in (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED), killed_at
        assert applied == [1, 1, 1], killed_at
        assert list(unfinished_sessions(store)) == []
