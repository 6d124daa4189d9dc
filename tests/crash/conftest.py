"""Fixtures of the crash tests. WRITEAHEAD_TESTS=full (`nox -s crash`) makes them try every kill."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import child_environment


class ForkServer:
    """Runs jobs in children of a warmed-up process; see ``fork_server.py``."""

    def __init__(self, process, log: Path) -> None:
        self._process, self._log = process, log
        self.kills = 0

    def __call__(self, verb, store, remote, deadly=0, *, hours=0, interval=0, **more):
        """Run a job. Gives the child's end (a signal is negative) and the steps it passed."""
        self._log.write_text("")
        job = {"verb": verb, "store": store, "remote": remote.url, "deadly": deadly, "hours": hours}
        job |= {"interval": interval, "log": str(self._log)} | more
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        end = int(self._process.stdout.readline())
        self.kills += end == -9
        return end, self._log.read_text().splitlines()


def _forker(folder, *more):
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.fork_server", *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    ) as process:
        yield ForkServer(process, folder / "steps")
        process.stdin.close()


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory):
    yield from _forker(tmp_path_factory.mktemp("fork_server"))


@pytest.fixture(scope="module")
def s3_fork_server(tmp_path_factory, s3_server):
    yield from _forker(tmp_path_factory.mktemp("fork_server"), "s3")


@pytest.fixture(scope="session")
def full():
    """Whether to try everything, which takes minutes."""
    return os.environ.get("WRITEAHEAD_TESTS") == "full"
