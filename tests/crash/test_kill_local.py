"""kill -9 of a run and its resume on a folder: at each store call, HTTP exchange, system call."""

import itertools
import os
import shutil
from collections import Counter

import pytest

from tests.support.invariants import Folder, Invariants
from tests.support.kills import KILLED, judge, kill_at_each_system_call, kill_pairs_at_system_calls, whole_run
from tests.support.reference_remote import ReferenceAdapter, serve

FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"
# The pairs at system calls take twenty minutes: in parts, they can be shared out among processes.
PARTS = 4


@pytest.fixture
def stage(fork_server):
    with serve() as remote:
        adapter = ReferenceAdapter(remote.url)
        yield fork_server, remote, adapter
        adapter.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("interval", [0, 3600], ids=["at-once", "interval"])
def test_a_run_killed_at_each_step(stage, tmp_path, interval):
    fork_server, remote, adapter = stage
    steps = whole_run(fork_server, remote, Folder(tmp_path / "whole"), interval=interval)
    outcomes = Counter()
    for deadly, step in enumerate(steps, start=1):
        place = Folder(tmp_path / str(deadly))
        end, passed = fork_server("run", place.url, remote, deadly, interval=interval)
        assert (end, passed) == (KILLED, steps[:deadly])
        outcomes[judge(place, remote, adapter, 1, step)] += 1
    print(f"{len(steps)} kills: {dict(outcomes)}")
    assert len(outcomes) == 4


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("interval", [0, 3600], ids=["at-once", "interval"])
def test_a_killed_run_and_its_killed_resume_at_each_step(stage, tmp_path, full, chance, interval):
    fork_server, remote, adapter = stage
    steps = whole_run(fork_server, remote, Folder(tmp_path / "whole"), interval=interval)
    offset = chance.randrange(9)
    kills, outcomes = 0, Counter()
    for first, step in enumerate(steps, start=1):
        if not full and first % 9 != offset:
            continue
        start = Folder(tmp_path / f"{first}")
        fork_server("run", start.url, remote, first, interval=interval)
        state = remote.state()
        if not (start.path / "s1" / "planned-writeback.json").exists():
            remote.forget()
            continue
        second = 0
        while True:
            second += 1 if full else chance.randrange(1, 6)
            place = Folder(tmp_path / f"{first}-{second}")
            place.copy(start)
            remote.restore(state)
            invariants = Invariants(place, remote)
            invariants.look()
            end, passed = fork_server("resume", place.url, remote, second, hours=1, interval=interval)
            if end != KILLED:
                assert end == 0, passed
                judge(place, remote, adapter, 2, step, invariants)
                break
            kills += 1
            outcomes[judge(place, remote, adapter, 2, f"{step}, then {passed[-1]}", invariants)] += 1
            shutil.rmtree(place.path)
    print(f"{kills} pairs: {dict(outcomes)}")
    assert kills > (600 if full else 5)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: apt-get install strace")
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("verb", ["run", "resume"])
def test_killed_at_each_system_call(stage, tmp_path, full, verb):
    folders = (Folder(tmp_path / str(number)) for number in itertools.count())
    calls = kill_at_each_system_call(stage, lambda: next(folders), tmp_path / "strace", full, verb)
    assert {"openat", "write", "fsync", "linkat", "sendto", "recvfrom"} <= set(calls)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: apt-get install strace")
@pytest.mark.skipif(not FULL, reason="takes minutes: WRITEAHEAD_TESTS=full runs it")
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_killed_run_and_killed_resume_at_each_system_call(stage, tmp_path, part):
    folders = (Folder(tmp_path / str(number)) for number in itertools.count())
    outcomes, states = kill_pairs_at_system_calls(
        stage, lambda: next(folders), tmp_path / "strace", part, PARTS
    )
    print(f"{outcomes.total()} pairs from a part of {states} states: {dict(outcomes)}")
    assert outcomes.total() > 100
