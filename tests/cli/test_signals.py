"""SIGTERM and Ctrl-C: the exit code, the request under way, and what a resume then does."""

import json
import signal
import subprocess

import pytest

from tests.support.processes import finished


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_request_end_and_parks_the_session(start, cli, remote, number):
    remote.hold = True
    process = start("run", cli.session("row", "row"), "--write", "--quiet", "--json")
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(number)
    assert process.stderr.readline().startswith("stopping after the request under way")
    remote.go_on.set()
    code, out, _ = finished(process)
    report = json.loads(out)
    assert (code, report["status"], report["emitted"]) == (75, "resume_needed", ["1-row"])
    newest = max((cli.store / "s1/journal").iterdir())
    assert json.loads(newest.read_bytes())["status"] == "resume_needed"
    assert len(remote.requests) == 1

    assert cli("resume", "s1").code == 0
    assert set(remote.effects.values()) == {1}
    assert len(remote.requests) == 2


def test_an_interrupt_that_the_parent_ignores_stays_ignored(start, cli, remote):
    """As for a job that a shell has put in the background, or that nohup protects."""
    remote.hold = True
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    process = start("run", cli.session("row", "row"), "--write", "--quiet", **ignoring)
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    remote.go_on.set()
    code, _, err = finished(process)
    assert (code, err) == (0, "")


def test_a_signal_ends_the_wait_for_the_next_attempt(start, cli, remote):
    remote.answers = [503]
    waits = ["--wait-initial", 600, "--wait-max", 600, "--run-limit", 5000, "--lease", 5000]
    process = start("run", cli.session("row"), "--write", "--json", *waits)
    # The server has answered when the plan's first request is in its log; then the process waits.
    while not remote.requests:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, out, _ = finished(process)
    assert (code, json.loads(out)["status"]) == (75, "resume_needed")


def test_a_signal_before_anything_was_sent(start, cli, remote):
    cli.adapter(
        "slow:Slow",
        "import sys\nfrom tests.support.crm import CrmAdapter\n\nclass Slow(CrmAdapter):\n"
        "    def plan(self, operations):\n        print('planning', file=sys.stderr, flush=True)\n"
        "        sys.stdin.readline()\n        return super().plan(operations)\n",
        remote.url,
    )
    process = start(
        "run", cli.session("row"), "--write", "--adapter", "slow:Slow", "--json", stdin=subprocess.PIPE
    )
    assert process.stderr.readline() == "planning\n"
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("stopping")
    code, out, _ = finished(process)
    assert (code, json.loads(out)["status"]) == (75, "resume_needed")
    assert remote.requests == []


def test_a_second_interrupt_exits_at_once_and_is_safe(start, cli, remote):
    remote.hold = True
    process = start("run", cli.session("row", "row"), "--write", "--quiet")
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith("stopping")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    remote.hold = False
    remote.go_on.set()

    # The process is gone, and on this machine that is known: no one waits for its lease.
    assert cli("resume", "s1", "--json").json["status"] == "completed"
    assert set(remote.effects.values()) == {1}
    assert len(remote.effects) == 2


def test_a_sweep_stops_between_sessions(start, cli, remote):
    for session_id in ("a", "b"):
        remote.answers = [503, 503]
        cli("run", cli.session("row", session_id=session_id), "--write")
    remote.requests.clear()
    remote.hold = True
    process = start("sweep", "--write", "--quiet", "--json")
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("stopping")
    remote.go_on.set()
    code, out, _ = finished(process)
    assert code == 75
    assert [item["report"]["status"] for item in json.loads(out)["sessions"]] == ["completed"]
    assert len(remote.requests) == 1
