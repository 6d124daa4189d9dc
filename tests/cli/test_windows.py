"""Whole sessions on a system without POSIX's calls: see `tests.support.windows`."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support.processes import child_environment, finished
from tests.support.windows import environment


@pytest.fixture
def there(start, folder, tmp_path_factory):
    """Runs a command in a process on such a system; returns its exit code, stdout and stderr."""
    more = {} if os.name == "nt" else environment(tmp_path_factory.mktemp("site"), folder)

    def there(*arguments, **others):
        return start(*arguments, env=more, **others)

    return there


def test_a_session_is_run_resumed_listed_and_shown(there, cli, remote):
    remote.answers = [201, 503, 503]
    code, out, err = finished(there("run", cli.session("row", "row"), "--write", "--json", "--quiet"))
    assert (code, err, json.loads(out)["status"]) == (75, "", "resume_needed")
    assert finished(there("list", "--json"))[0] == 0
    code, out, err = finished(there("resume", "s1", "--json", "--quiet"))
    assert (code, err, json.loads(out)["status"]) == (0, "", "completed")
    assert sum(remote.effects.values()) == 2
    code, out, err = finished(there("show", "s1"))
    assert (code, err) == (0, "")
    assert "completed" in out
    assert (cli.store / "s1" / "writeback.json").is_file()
    assert all(b"\r" not in held for held in cli.bytes_in_store().values())


def test_a_killed_session_is_swept_up(there, cli, remote):
    remote.hold = True
    process = there("run", cli.session("row", "mail"), "--write", "--lease", 1, "--run-limit", 0.5)
    assert remote.arrived.acquire(timeout=60)
    process.kill()
    process.wait(60)
    remote.hold = False
    remote.go_on.set()
    # On this machine /proc tells that the owner is dead; on Windows nothing does.
    report = None
    while report is None:
        code, out, err = finished(there("sweep", "--write", "--json", "--quiet"))
        assert (code in (0, 75), err) == (True, "")
        report = json.loads(out)["sessions"][0]["report"]
    assert report["status"] == "completed"
    assert set(remote.effects.values()) == {1}
    assert len(remote.effects) == 2


def test_a_store_is_proved(there, cli):
    code, out, err = finished(there("check", "--store", cli.store, "--json"))
    assert (code, err) == (0, "")
    found = {one["promise"]: one["seen"] for one in json.loads(out)["results"]}
    refused = "refused, and no harm done: keys can't differ in case only here"
    assert found["case"] == (refused if os.name == "nt" else "another object")


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process there")
def test_a_signal_parks_the_session(there, cli, remote):
    """Its number comes through a socket, as Windows wants it."""
    remote.hold = True
    process = there("run", cli.session("row", "row"), "--write", "--json", "--quiet")
    assert remote.arrived.acquire(timeout=60)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("stopping after the request under way")
    remote.go_on.set()
    code, out, _ = finished(process)
    assert (code, json.loads(out)["status"]) == (75, "resume_needed")


def test_a_settings_file_may_name_code(there, cli, remote):
    """Its mode is 0666 there, also of a file that one user alone may write to."""
    code, out, err = finished(there("run", cli.session("row"), "--json"))
    assert (code, err, json.loads(out)["status"]) == (0, "", "planned")


CATCHES = """
import signal, sys
from writeahead.cli.signals import stop_on_signals
with stop_on_signals() as stop:
    signal.raise_signal(getattr(signal, sys.argv[1]))
    print(stop.wait(60))
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", *(["SIGBREAK"] if os.name == "nt" else [])])
def test_a_signal_is_caught(number):
    command = [sys.executable, "-c", CATCHES, number]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert done.stderr.startswith("stopping after the request under way")


PRINTS = """
import sys
from writeahead.cli.streams import write_guarded
sys.stdin.readline()
sys.exit(write_guarded(lambda: print("x" * 100_000), lambda: 7))
"""


def test_a_reader_that_left_early_changes_no_exit_code():
    """Windows says EINVAL where POSIX says EPIPE."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", PRINTS], env=child_environment(), **pipes)
    process.stdout.close()
    process.stdin.write(b"go on\n")
    process.stdin.close()
    assert (process.wait(60), process.stderr.read()) == (7, b"")
    process.stderr.close()
