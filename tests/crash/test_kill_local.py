"""kill -9 of a run and of its resume on a folder: at each store call, HTTP exchange and system call."""

import random
import re
import shutil
import signal
from collections import Counter

import pytest

from five_kinds import FiveKinds, serve
from witness import Folder, Witness, recover

KILLED = -signal.SIGKILL


@pytest.fixture
def stage(forker):
    with serve() as remote:
        adapter = FiveKinds(remote.url)
        yield forker, remote, adapter
        adapter.close()


def whole_run(forker, remote, place, **more):
    end, steps = forker("run", place.url, remote, **more)
    assert (end, steps[-1]) == (0, "status completed")
    remote.forget()
    return steps[:-1]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("journal", ["every", "batched"])
def test_a_run_killed_at_each_step(stage, tmp_path, journal):
    forker, remote, adapter = stage
    steps = whole_run(forker, remote, Folder(tmp_path / "whole"), journal=journal)
    outcomes = Counter()
    for deadly, step in enumerate(steps, start=1):
        place = Folder(tmp_path / str(deadly))
        end, passed = forker("run", place.url, remote, deadly, journal=journal)
        assert (end, passed) == (KILLED, steps[:deadly])
        outcomes[_judge(place, remote, adapter, 1, step)] += 1
    print(f"{len(steps)} kills: {dict(outcomes)}")
    assert len(outcomes) == 4


@pytest.mark.timeout(3000)
def test_a_resume_killed_at_each_step_of_a_run_that_was_killed_at_each_step(stage, tmp_path, full):
    forker, remote, adapter = stage
    steps = whole_run(forker, remote, Folder(tmp_path / "whole"))
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    kills, outcomes = 0, Counter()
    for first, step in enumerate(steps, start=1):
        if not full and first % 5 != seed % 5:
            continue
        start = Folder(tmp_path / f"{first}")
        forker("run", start.url, remote, first)
        state = remote.state()
        if not (start.path / "s1" / "planned-writeback.json").exists():
            remote.forget()
            continue
        second = 0
        while True:
            second += 1 if full else chance.randrange(1, 10)
            place = Folder(tmp_path / f"{first}-{second}")
            shutil.copytree(start.path, place.path)
            remote.restore(state)
            witness = Witness(place, remote)
            witness.look()
            end, passed = forker("resume", place.url, remote, second, hours=1)
            if end != KILLED:
                assert end == 0, passed
                _judge(place, remote, adapter, 2, f"seed {seed}: {step}", witness)
                break
            kills += 1
            outcomes[
                _judge(place, remote, adapter, 2, f"seed {seed}: {step}, then {passed[-1]}", witness)
            ] += 1
            shutil.rmtree(place.path)
    print(f"{kills} pairs, seed {seed}: {dict(outcomes)}")
    assert kills > 20


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: apt-get install strace")
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("verb", ["run", "resume"])
def test_killed_at_each_system_call(stage, tmp_path, full, verb):
    forker, remote, adapter = stage
    start = Folder(tmp_path / "start")
    if verb == "resume":
        # Killed when its second operation was applied, before the reply: nothing but the plan and one entry.
        _, steps = forker("run", Folder(tmp_path / "steps").url, remote)
        remote.forget()
        forker("run", start.url, remote, steps.index("after apply PUT /upsert") + 1)
    state = remote.state()

    def go(name, inject):
        place = Folder(tmp_path / name)
        if verb == "resume":
            shutil.copytree(start.path, place.path)
        remote.restore(state)
        remote.requests.clear()
        log = str(tmp_path / "strace")
        end, _ = forker(verb, place.url, remote, hours=1, inject=inject, strace_log=log)
        return place, end

    place, end = go("traced", "trace")
    assert end == 0
    calls = Counter(re.findall(r"^(\w+)\(", (tmp_path / "strace").read_text(), re.MULTILINE))
    assert {"openat", "write", "fsync", "linkat", "sendto", "recvfrom"} <= set(calls)
    tried = kills = 0
    for call, count in sorted(calls.items()):
        step = 1 if full else max(1, count // 2)
        for when in range(1, count + 1, step):
            place, end = go(f"{call}-{when}", f"{call}:when={when}")
            tried += 1
            kills += end == KILLED
            _judge(place, remote, adapter, 2, f"{call} {when}")
            shutil.rmtree(place.path, ignore_errors=True)
    # How often the network is read differs from run to run, so the last of those may not come.
    assert kills >= tried * 0.8
    print(f"{verb}: {kills} kills at {dict(calls)}")


def _judge(place, remote, adapter, hours, where, witness=None):  # noqa: PLR0917
    try:
        outcome = recover(place, remote, witness or Witness(place, remote), hours, adapter)
    except BaseException as error:
        error.add_note(f"killed at: {where}")
        raise
    remote.forget()
    return outcome
