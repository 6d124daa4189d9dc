"""A power cut after any call of a session on a real file system, whose image is copied and mounted.

The copy holds what the file system had handed to its disk by then, and nothing of what it still
kept in memory. Mounting it replays the journal, as after a power cut.
"""

import contextlib
import os
import shutil
import stat
import subprocess
from collections import Counter
from typing import NamedTuple

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


class FileSystem(NamedTuple):
    """How it is made and mounted; commits come from fsync alone: others would tear a copy."""

    make: tuple[str, ...]
    options: str
    size: int
    package: str


FILE_SYSTEMS = {
    "ext4": FileSystem(("mkfs.ext4", "-q", "-F"), "loop,commit=600", 8 * 2**20, "e2fsprogs"),
    "xfs": FileSystem(("mkfs.xfs", "-q", "-f"), "loop,nouuid", 320 * 2**20, "xfsprogs"),
    "btrfs": FileSystem(("mkfs.btrfs", "-q", "-f"), "loop,commit=600", 128 * 2**20, "btrfs-progs"),
}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def mounted(name, image, point):
    point.mkdir(exist_ok=True)
    done = run("mount", "-t", name, "-o", FILE_SYSTEMS[name].options, image, point)
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

    def __init__(self, folder, name, image, mount) -> None:
        self.name, self.image, self.mount = name, image, mount
        super().__init__(folder)

    def leave(self):
        """Unmount it: btrfs tells no copy from its original while that is there."""
        self.recorder.close()
        self.mount.close()

    def new_recorder(self, root):
        return Filmed(root, self.image, self.image.with_suffix(".film"))


@pytest.fixture(params=FILE_SYSTEMS)
def stage(request, tmp_path):
    kind = FILE_SYSTEMS[request.param]
    if os.geteuid() != 0 or not shutil.which(kind.make[0]):
        pytest.skip(f"it takes root and {kind.make[0]} (Debian: {kind.package})")
    image = tmp_path / "disk.img"
    image.write_bytes(b"")
    os.truncate(image, kind.size)
    run(*kind.make, image).check_returncode()
    with contextlib.ExitStack() as mount:
        disk = mount.enter_context(mounted(request.param, image, tmp_path / "disk"))
        os.sync()
        stage = FilmedStage(disk / "top", request.param, image, mount)
        os.sync()
        yield stage
        stage.leave()
        stage.adapter.close()


def cut_everywhere(stage, tmp_path):
    """Mount the image as it was after each call, and see what can be made of it."""
    ends = Counter()
    state, returned = Remote().state(), None
    events = list(stage.recorder.events)
    stage.recorder.filming = False
    stage.leave()
    for number, event in enumerate(events, start=1):
        if event.kind == "note":
            what, value = event.note
            state, returned = (value, returned) if what == "remote" else (state, value)
        image = stage.recorder.film / f"{number}.img"
        with mounted(stage.name, image, tmp_path / "copy") as disk:
            place = Folder(disk / "top" / "store")
            ends[judge(stage, place, state, returned, f"after {number} events")] += 1
        image.unlink()
    return ends


@pytest.mark.parametrize("interval", [0, 3600], ids=["at-once", "interval"])
def test_a_session_outlives_a_power_cut(stage, tmp_path, interval):
    with stage.recorder.recording():
        stage.run(interval)
    ends = cut_everywhere(stage, tmp_path)
    print(f"{stage.name}, interval {interval} s: {ends.total()} images: {dict(ends)}")
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
