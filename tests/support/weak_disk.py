"""A disk that is as weak as POSIX allows, and every state that a power cut may leave it in.

A program's calls are recorded while they are carried out (`Recorder`), as events on inodes. A power
cut after any of them leaves (`states_after`)

- of a file's bytes: what was there at its last fsync, or what was written since, or a half of that,
  or as many zeros (its length was written and its blocks were not); a file that was never synced
  may be empty;
- of a folder's names: those at its last fsync, and any subset of what was done since, in any order
  among different names. A rename may be there with its old name still in place;
- of a folder's mode: that of its last fsync, or a later one.

Nothing follows from anything else: a synced file whose name is in an unsynced folder is lost, a
synced folder whose own name is not, too. What POSIX promises is in fsync(3p); what real file
systems do, in "All File Systems Are Not Created Equal" (OSDI 2014, Pillai et al.).
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from writeahead.stores import durable

ROOT = 0


class Killed(BaseException):
    """The process is gone: with -9 nothing more is done, no cleaning up either."""


class Event(NamedTuple):
    """One change of an inode; ``other`` is another one, ``name`` a name in the folder ``inode``.

    Kinds: ``make`` and ``link`` (name for ``other``), ``rename`` (name to ``new``), ``unlink``,
    ``write``, ``mode``, ``sync``, and ``note`` for what a test wants to remember.
    """

    kind: str
    inode: int = -1
    name: str = ""
    new: str = ""
    other: int = -1
    data: bytes = b""
    mode: int = 0
    note: object = None


# A folder as (mode, {name: entry}), a file as its bytes.
Tree = tuple


class Recorder:
    """Carries out the os calls of a local store, and records those below a folder as events."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.events: list[Event] = []
        self._numbers = {root.stat().st_ino: ROOT}
        self._deadline: int | None = None
        self._kept: list[int] = []  # held open, so that no inode number is used twice

    def note(self, what: object) -> None:
        self.events.append(Event("note", note=what))

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within this block every change below the root is recorded."""
        calls = {name: getattr(self, f"_{name}") for name in ("open", "write", "link", "rename", "unlink")}
        calls |= {"mkdir": self._mkdir, "fchmod": self._fchmod}
        real = {name: getattr(os, name) for name in calls}
        self._real = real
        with patch.multiple(os, **calls), patch.object(durable, "sync", self._sync):
            yield

    @contextmanager
    def killed_after(self, events: int) -> Iterator[None]:
        """Within this block only so many events come to pass. The machine goes on."""
        self._deadline = len(self.events) + events
        try:
            yield
        except Killed:
            pass
        finally:
            self._deadline = None

    def _be_alive(self) -> None:
        if self._deadline is not None and len(self.events) >= self._deadline:
            raise Killed

    def close(self) -> None:
        while self._kept:
            os.close(self._kept.pop())

    def _add(self, kind: str, inode: int, **more) -> None:
        if inode >= 0:
            self.events.append(Event(kind, inode, **more))

    def _number(self, file: int) -> int:
        return self._numbers.get(os.fstat(file).st_ino, -1)

    def _folder(self, path, dir_fd) -> tuple[int, str]:
        """The number of a path's folder, and the name in it; -1 for what is not ours."""
        if dir_fd is not None:
            return self._number(dir_fd), str(path)
        path = Path(path).absolute()
        known = path.parent.exists()
        return (self._numbers.get(path.parent.stat().st_ino, -1) if known else -1), path.name

    def _new(self, path, dir_fd) -> int:
        held = self._real["open"](path, os.O_RDONLY, dir_fd=dir_fd)
        self._kept.append(held)
        self._numbers[os.fstat(held).st_ino] = len(self._numbers)
        return self._number(held)

    def _open(self, path, flags, mode=0o777, *, dir_fd=None):
        if flags & os.O_CREAT:
            self._be_alive()
        file = self._real["open"](path, flags, mode, dir_fd=dir_fd)
        if flags & os.O_CREAT:
            folder, name = self._folder(path, dir_fd)
            if folder >= 0:
                assert flags & os.O_EXCL, "the recorder knows new files only"
                self._add("make", folder, name=name, other=self._new(path, dir_fd), mode=0)
        return file

    def _mkdir(self, path, mode=0o777, *, dir_fd=None):
        self._be_alive()
        self._real["mkdir"](path, mode, dir_fd=dir_fd)
        folder, name = self._folder(path, dir_fd)
        if folder >= 0:
            self._add("make", folder, name=name, other=self._new(path, dir_fd), mode=mode)

    def _write(self, file, data):
        self._be_alive()
        written = self._real["write"](file, data)
        self._add("write", self._number(file), data=bytes(data[:written]))
        return written

    def _link(self, old, new, *, src_dir_fd=None, dst_dir_fd=None):
        self._be_alive()
        self._real["link"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        target = self._numbers.get(os.stat(new, dir_fd=dst_dir_fd).st_ino, -1)
        folder, name = self._folder(new, dst_dir_fd)
        self._add("link", folder, name=name, other=target)

    def _rename(self, old, new, *, src_dir_fd=None, dst_dir_fd=None):
        self._be_alive()
        folder, name = self._folder(old, src_dir_fd)
        to, new_name = self._folder(new, dst_dir_fd)
        assert folder == to, "the recorder knows renames in one folder only"
        target = os.stat(old, dir_fd=src_dir_fd).st_ino
        self._real["rename"](old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._add("rename", folder, name=name, new=new_name, other=self._numbers.get(target, -1))

    def _unlink(self, path, *, dir_fd=None):
        self._be_alive()
        folder, name = self._folder(path, dir_fd)
        self._real["unlink"](path, dir_fd=dir_fd)
        self._add("unlink", folder, name=name)

    def _fchmod(self, file, mode):
        self._be_alive()
        self._real["fchmod"](file, mode)
        self._add("mode", self._number(file), mode=mode)

    def _sync(self, file):
        self._be_alive()
        # The model is the disk: there is no need to wait for the real one.
        self._add("sync", self._number(file))


class _File:
    def __init__(self) -> None:
        self.durable = self.now = b""
        self.dirty = False

    def after(self, event: Event) -> None:
        if event.kind == "write":
            self.now += event.data
            self.dirty = True
        else:
            self.durable, self.dirty = self.now, False

    def left(self) -> Iterable[bytes]:
        """What its bytes may be after a power cut."""
        if not self.dirty:
            return (self.durable,)
        torn = self.now[: len(self.now) // 2]
        return {self.durable, torn, bytes(len(self.now)), self.now}


class _Folder:
    def __init__(self, mode: int) -> None:
        self.names: dict[str, int] = {}
        self.pending: list[Event] = []
        self.modes = {mode}
        self.mode = mode

    def after(self, event: Event) -> None:
        if event.kind == "mode":
            self.mode = event.mode
            self.modes.add(event.mode)
        elif event.kind == "sync":
            for done in self.pending:
                _apply(done, self.names, whole=True)
            self.pending, self.modes = [], {self.mode}
        else:
            self.pending.append(event)

    def left(self) -> Iterator[dict[str, int]]:
        """What its names may be after a power cut."""
        seen = set()
        for kept in _subsets(self.pending):
            for whole in product(*([True, False] if event.kind == "rename" else [True] for event in kept)):
                names = dict(self.names)
                for event, entire in zip(kept, whole, strict=True):
                    _apply(event, names, whole=entire)
                if (key := tuple(sorted(names.items()))) not in seen:
                    seen.add(key)
                    yield names


def _apply(event: Event, names: dict[str, int], *, whole: bool) -> None:
    if event.kind in ("make", "link"):
        names[event.name] = event.other
    elif event.kind == "unlink":
        names.pop(event.name, None)
    elif event.kind == "rename":
        names[event.new] = event.other
        if whole:
            names.pop(event.name, None)


def _subsets(events: Sequence[Event]) -> Iterator[tuple[Event, ...]]:
    for count in range(len(events) + 1):
        yield from combinations(events, count)


def states_after(events: Sequence[Event]) -> set[Tree]:
    """Every tree that may be there when the power comes back after these events."""
    inodes: dict[int, _File | _Folder] = {ROOT: _Folder(0o700)}
    for event in events:
        if event.kind == "note":
            continue
        if event.kind == "make":
            inodes[event.other] = _Folder(event.mode) if event.mode else _File()
        inodes[event.inode].after(event)
    return set(_trees(ROOT, inodes))


def _trees(number: int, inodes: dict[int, "_File | _Folder"]) -> Iterator[Tree]:
    inode = inodes[number]
    if isinstance(inode, _File):
        yield from inode.left()
        return
    for mode, names in product(inode.modes, inode.left()):
        for children in product(*(set(_trees(other, inodes)) for other in names.values())):
            yield mode, tuple(sorted(zip(names, children, strict=True)))


def lay_out(tree: Tree, path: Path) -> None:
    """Make a state real, in a folder that is not there yet."""
    mode, entries = tree
    path.mkdir()
    for name, entry in entries:
        if isinstance(entry, bytes):
            (path / name).write_bytes(entry)
        else:
            lay_out(entry, path / name)
    path.chmod(mode | stat.S_IRWXU)
