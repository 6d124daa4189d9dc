"""A power cut after any call of a session on a real ext4: its image is copied unsynced and mounted.

The copy holds what the file system had handed to its disk by then, and nothing of what it still
kept in memory. Mounting it replays the journal, as after a power cut.
"""

import contextlib
import os
import shutil
import stat
import subprocess
from collections import Counter

import pytest

from tests.support.invariants import Folder
from tests.support.powerloss_environment import Environment, judge
from tests.support.reference_remote import Remote
from tests.support.weak_disk import Recorder

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("WRITEAHEAD_TESTS") != "full", reason="takes a minute: WRITEAHEAD_TESTS=full runs it"
    ),
    pytest.mark.timeout(900),
]
# Commits of the journal come from fsync alone: one that came by itself while a copy is made would
# tear it.
OPTIONS = "loop,commit=600"
SIZE = 8 * 2**20


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def mounted(image, point):
    point.mkdir(exist_ok=True)
    done = run("mount", "-t", "ext4", "-o", OPTIONS, image, point)
    if done.returncode != 0:
        pytest.skip(f"an image can't be mounted here: {done.stderr.strip()}")
    try:
        yield point
    finally:
        run("umount", point).check_returncode()


class Filmed(Recorder):
    """Really syncs, and copies the image after each call."""

    def __init__(self, root, image, film) -> None:
        super().__init__(root)
        self.image, self.film = image, film
        self.synced, self.filming = {"file", "folder"}, True
        film.mkdir()

    def _sync(self, file):
        kind = "folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"
        if kind in self.synced:
            os.fsync(file)
        super()._sync(file)

    def _add(self, kind, inode, **more):
        super()._add(kind, inode, **more)
        if inode >= 0:
            self.copy()

    def note(self, what):
        super().note(what)
        self.copy()

    def copy(self):
        if not self.filming:
            return
        to = self.film / f"{len(self.events)}.img"
        run("cp", "--sparse=always", self.image, to).check_returncode()


class FilmedStage(Environment):
    """A stage on an image of its own."""

    def __init__(self, folder, image) -> None:
        self.image = image
        super().__init__(folder)

    def new_recorder(self, root):
        return Filmed(root, self.image, self.image.with_suffix(".film"))


@pytest.fixture
def stage(tmp_path):
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("it takes root and mkfs.ext4 (Debian: e2fsprogs)")
    image = tmp_path / "disk.img"
    image.write_bytes(b"")
    os.truncate(image, SIZE)
    run("mkfs.ext4", "-q", "-F", image).check_returncode()
    with mounted(image, tmp_path / "disk") as disk:
        os.sync()
        stage = FilmedStage(disk / "top", image)
        os.sync()
        yield stage
        stage.recorder.close()
        stage.adapter.close()


def cut_everywhere(stage, tmp_path):
    """Mount the image as it was after each call, and see what can be made of it."""
    ends = Counter()
    state, returned = Remote().state(), None
    events = list(stage.recorder.events)
    stage.recorder.filming = False
    for number, event in enumerate(events, start=1):
        if event.kind == "note":
            what, value = event.note
            state, returned = (value, returned) if what == "remote" else (state, value)
        image = stage.recorder.film / f"{number}.img"
        with mounted(image, tmp_path / "copy") as disk:
            place = Folder(disk / "top" / "store")
            ends[judge(stage, place, state, returned, f"after {number} events")] += 1
        image.unlink()
    return ends


@pytest.mark.parametrize("interval", [0, 3600], ids=["at-once", "interval"])
def test_a_session_on_ext4_outlives_a_power_cut(stage, tmp_path, interval):
    with stage.recorder.recording():
        stage.run(interval)
    ends = cut_everywhere(stage, tmp_path)
    print(f"ext4, interval {interval} s: {ends.total()} images: {dict(ends)}")
    assert ends["nothing planned"]
    assert ends["completed"]
    assert ends["no_resume_needed"]


@pytest.mark.parametrize("left_out", ["file", "folder"])
def test_a_sync_that_is_left_out_is_found(stage, tmp_path, left_out):
    stage.recorder.synced.discard(left_out)
    with stage.recorder.recording():
        stage.run()
    with pytest.raises(AssertionError, match=r"after \d+ events"):
        cut_everywhere(stage, tmp_path)
