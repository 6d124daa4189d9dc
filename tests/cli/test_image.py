"""The image: what the Dockerfile runs, as the first process of a namespace, as in a container."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.engines import can_unshare
from tests.support.processes import ROOT, child_environment, finished

needs_unshare = pytest.mark.skipif(not can_unshare(), reason="it takes unshare(1), and the right to use it")


def instructions(name):
    """What follows an instruction of the Dockerfile, once for each."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return [line.partition(" ")[2] for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def container(folder):
    """The image's own command, as process 1: no signal has a default action there."""
    (entry,), (command,) = map(instructions, ("ENTRYPOINT", "CMD"))
    inside = [sys.executable, "-W", "error", "-m", *json.loads(entry), *json.loads(command)]
    apart = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]
    process = subprocess.Popen(
        [*apart, *inside],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    yield process
    process.kill()
    process.communicate()


def stop(process):
    """Send the image's signal to process 1, from outside."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert f"\nNSpid:\t{child}\t1\n" in Path(f"/proc/{child}/status").read_text()
    (name,) = instructions("STOPSIGNAL")
    subprocess.run(["kill", "-s", str(int(signal.Signals[name])), child], check=True)


@pytest.fixture
def parked(cli, remote):
    for name in ("a", "b"):
        remote.answers = [503, 503]
        assert cli("run", cli.session("row", session_id=name), "--write").code == 75
    remote.requests.clear()
    remote.hold = True


@needs_unshare
def test_a_stop_in_a_sweep_lets_the_request_end_and_loses_nothing(parked, cli, remote, container):
    assert remote.arrived.acquire(timeout=60)
    stop(container)
    while not (line := container.stderr.readline()).startswith("stopping"):
        assert line
    remote.go_on.set()
    code, out, _ = finished(container)
    *each, totals = [json.loads(line) for line in out.splitlines()]
    assert (code, totals["stopped"]) == (75, True)
    assert [one["report"]["status"] for one in each] == ["completed"]
    assert list(remote.effects.values()) == [1]
    assert cli("sweep", "--write").code == 0
    assert sorted(remote.effects.values()) == [1, 1]


@needs_unshare
@pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="`nox -s crash` runs it")
def test_a_stop_between_sweeps_ends_it_with_success(parked, remote, container):
    remote.go_on.set()
    while json.loads(container.stdout.readline())["type"] != "totals":
        pass
    stop(container)
    assert finished(container)[:2] == (0, "")
    assert sorted(remote.effects.values()) == [1, 1]


def test_the_image_copies_what_the_ignore_file_lets_through():
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = {
        name for line in instructions("COPY") for name in shlex.split(line)[:-1] if "--from" not in line
    }
    assert copied == let_through
    assert all((ROOT / name).exists() for name in copied)
