"""kill -9 of a run and of its resume on a bucket of an S3 server: at each store call and HTTP exchange."""

import os
import random
import secrets
import signal
from collections import Counter

import pytest

from five_kinds import FiveKinds, serve
from s3_server import RawBucket
from witness import Bucket, Witness, recover

KILLED = -signal.SIGKILL
# The pairs take an hour: in parts, they can be shared out among processes.
PARTS = 16 if os.environ.get("WRITEAHEAD_TESTS") == "full" else 1


@pytest.fixture
def stage(s3_forker, s3_server):
    def new_bucket():
        raw = RawBucket(s3_server, f"bucket-{secrets.token_hex(6)}")
        raw.create()
        return Bucket(raw)

    with serve() as remote:
        adapter = FiveKinds(remote.url)
        yield s3_forker, remote, adapter, new_bucket
        adapter.close()


@pytest.mark.timeout(3000)
def test_a_run_killed_at_each_step(stage, full):
    forker, remote, adapter, new_bucket = stage
    steps = _whole_run(forker, remote, new_bucket())
    assert sum(step == "before send PUT" for step in steps) >= 8
    outcomes = Counter()
    seed = random.SystemRandom().randrange(9)
    for deadly, step in enumerate(steps, start=1):
        if not full and deadly % 9 != seed:
            continue
        place = new_bucket()
        end, _ = forker("run", place.url, remote, deadly)
        assert end == KILLED, step
        outcomes[_judge(place, remote, adapter, 1, step)] += 1
    print(f"{outcomes.total()} kills of {len(steps)}: {dict(outcomes)}")
    assert len(outcomes) > 1


@pytest.mark.timeout(6000)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_resume_killed_at_a_step_of_a_run_that_was_killed_at_a_step(stage, full, part):
    forker, remote, adapter, new_bucket = stage
    steps = _whole_run(forker, remote, new_bucket())
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    outcomes = Counter()
    firsts = (
        range(1 + part, len(steps) + 1, PARTS) if full else sorted(chance.sample(range(9, len(steps)), 3))
    )
    for first in firsts:
        start = new_bucket()
        forker("run", start.url, remote, first)
        objects, state = start.objects(), remote.state()
        if "s1/planned-writeback.json" not in objects:
            remote.forget()
            continue
        second = 0
        while True:
            second += 1 if full else chance.randrange(5, 50)
            place = new_bucket()
            for key, data in objects.items():
                place.raw.write(key, data)
            remote.restore(state)
            witness = Witness(place, remote)
            witness.look()
            end, passed = forker("resume", place.url, remote, second, hours=1)
            where = f"seed {seed}: {steps[first - 1]}, then {passed[-1]}"
            outcome = _judge(place, remote, adapter, 2, where, witness)
            if end != KILLED:
                assert end == 0
                break
            outcomes[outcome] += 1
    print(f"{outcomes.total()} pairs, seed {seed}: {dict(outcomes)}")
    assert outcomes or full


def _whole_run(forker, remote, place):
    end, steps = forker("run", place.url, remote)
    assert (end, steps[-1]) == (0, "status completed")
    remote.forget()
    return steps[:-1]


def _judge(place, remote, adapter, hours, where, witness=None):  # noqa: PLR0917
    try:
        outcome = recover(place, remote, witness or Witness(place, remote), hours, adapter)
    except BaseException as error:
        error.add_note(f"killed at: {where}")
        raise
    remote.forget()
    return outcome
