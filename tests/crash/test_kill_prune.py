"""kill -9 of a prune at each step, in a folder and in a bucket."""

import re
import secrets
import signal
import subprocess
import sys

import pytest

from tests.support.invariants import Bucket, Folder
from tests.support.processes import ROOT, child_environment
from tests.support.pruned import ENDED, closed, pruned
from tests.support.remotes import Remote
from tests.support.s3_server import RawBucket

LEFT = {"s1/planned-writeback.json", "s1/pruned"}


@pytest.fixture(params=["folder", "bucket"])
def new_place(request, tmp_path):
    if request.param == "folder":
        return lambda: Folder(tmp_path / secrets.token_hex(6))
    server = request.getfixturevalue("s3_server")

    def new_bucket():
        raw = RawBucket(server, f"bucket-{secrets.token_hex(6)}")
        raw.create()
        return Bucket(raw)

    return new_bucket


def prune(place, archive, deadly):
    command = [sys.executable, ROOT / "tests/support/prune_child.py", place.url, str(deadly), archive.url]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    return done.returncode, re.sub("prune-[0-9a-f]+", "prune-", done.stdout).splitlines()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("state", ENDED)
def test_a_prune_killed_at_each_step_is_finished_by_the_next(new_place, state, full, chance):
    def left_by(deadly):
        place, archive, remote = new_place(), new_place(), Remote()
        ENDED[state](place.open(), remote)
        before = place.objects()
        return (place, archive, remote, before, *prune(place, archive, deadly))

    place, _, _, _, end, steps = left_by(0)
    assert (end, place.objects().keys()) == (0, LEFT)
    assert len(steps) >= 14
    chosen = range(1, len(steps) + 1) if full else [chance.randrange(5, len(steps))]
    for deadly in chosen:
        place, archive, remote, before, end, passed = left_by(deadly)
        assert (end, passed) == (-signal.SIGKILL, steps[:deadly])
        store, step = place.open(), steps[deadly - 1]
        kept = archive.objects()
        if b"pruned_at" in place.objects()["s1/planned-writeback.json"]:
            assert kept, step
        closed(store, remote, state)
        pruned(store, archive=archive.open())
        assert place.objects().keys() == LEFT, step
        kept = {key: data for key, data in archive.objects().items() if not key.startswith(".prune-")}
        assert kept, step
        assert kept.items() <= before.items(), step
        closed(store, remote, state)
