"""kill -9 of a run and its resume on an S3 server: at each store call and HTTP exchange."""

import os
import secrets
import shutil
from collections import Counter

import pytest

from tests.support.invariants import Bucket, Invariants
from tests.support.kills import KILLED, judge, kill_at_each_system_call, whole_run
from tests.support.reference_remote import ReferenceAdapter, serve
from tests.support.s3_server import RawBucket

# The pairs take an hour: in parts, they can be shared out among processes.
PARTS = 16 if os.environ.get("WRITEAHEAD_TESTS") == "full" else 1


@pytest.fixture
def stage(s3_fork_server, s3_server):
    def new_bucket():
        raw = RawBucket(s3_server, f"bucket-{secrets.token_hex(6)}")
        raw.create()
        return Bucket(raw)

    with serve() as remote:
        adapter = ReferenceAdapter(remote.url)
        yield s3_fork_server, remote, adapter, new_bucket
        adapter.close()


@pytest.mark.timeout(3000)
def test_a_run_killed_at_each_step(stage, full, chance):
    fork_server, remote, adapter, new_bucket = stage
    steps = whole_run(fork_server, remote, new_bucket())
    assert sum(step == "before send PUT" for step in steps) >= 7
    outcomes = Counter()
    offset = chance.randrange(9)
    for deadly, step in enumerate(steps, start=1):
        if not full and deadly % 9 != offset:
            continue
        place = new_bucket()
        end, _ = fork_server("run", place.url, remote, deadly)
        assert end == KILLED, step
        outcomes[judge(place, remote, adapter, 1, step)] += 1
    print(f"{outcomes.total()} kills of {len(steps)}: {dict(outcomes)}")
    assert len(outcomes) > 1


@pytest.mark.timeout(6000)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_killed_run_and_its_killed_resume_at_a_step(stage, full, part, chance):
    fork_server, remote, adapter, new_bucket = stage
    steps = whole_run(fork_server, remote, new_bucket())
    outcomes = Counter()
    firsts = (
        range(1 + part, len(steps) + 1, PARTS) if full else sorted(chance.sample(range(9, len(steps)), 3))
    )
    for first in firsts:
        start = new_bucket()
        fork_server("run", start.url, remote, first)
        state = remote.state()
        if "s1/planned-writeback.json" not in start.objects():
            remote.forget()
            continue
        second = 0
        while True:
            second += 1 if full else chance.randrange(5, 50)
            place = new_bucket()
            place.copy(start)
            remote.restore(state)
            invariants = Invariants(place, remote)
            invariants.look()
            end, passed = fork_server("resume", place.url, remote, second, hours=1)
            where = f"{steps[first - 1]}, then {passed[-1]}"
            outcome = judge(place, remote, adapter, 2, where, invariants)
            if end != KILLED:
                assert end == 0
                break
            outcomes[outcome] += 1
    print(f"{outcomes.total()} pairs: {dict(outcomes)}")
    # A part has three or four runs, and there is hardly a step of a resume that is not killed.
    assert outcomes.total() >= (40 if full else 1)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is missing: apt-get install strace")
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("verb", ["run", "resume"])
def test_killed_at_each_system_call(stage, tmp_path, full, verb):
    """In each thread: one sends to S3, one to the remote. The disk plays no part."""
    fork_server, remote, adapter, new_bucket = stage
    log, network = tmp_path / "strace", "connect|sendto|recvfrom"
    calls = kill_at_each_system_call((fork_server, remote, adapter), new_bucket, log, full, verb, network)
    assert {"sendto", "recvfrom", "connect"} <= set(calls)
