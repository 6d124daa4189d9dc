"""Files and folders that outlive a power cut: the system calls that a folder's store is made of.

What each call promises is in the POSIX texts of fsync, rename and link; why all of them are needed:
https://lwn.net/Articles/457667/. Everything here raises `OSError`.

``portable.py`` has the same functions for a system without these calls. This module can't be loaded
there.
"""

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from writeahead.stores.portable import OtherCaseError, UndecidedError, read_file, write_all
from writeahead.stores.single_flight import once

# For type checkers: the rest of this module is not for Windows.
assert sys.platform != "win32", "stores/portable.py is for Windows"

__all__ = [
    "Folder",
    "OtherCaseError",
    "SeenFolders",
    "UndecidedError",
    "close_folder",
    "confirm_folder",
    "enter_folder",
    "file_status",
    "give_name",
    "is_folder",
    "make_folder",
    "native",
    "open_file",
    "open_folder",
    "read_file",
    "remove_name",
    "remove_temporary",
    "status",
    "sync_name",
    "sync_object",
    "write_file",
]

Folder: TypeAlias = int

# Seconds. A name that another process gave, and was killed before it synced it, is on the disk by
# then: Linux writes what is dirty after 30 seconds.
_WRITTEN_BACK_AFTER = 600.0
# From how many folders on it is cheaper to sync all file systems at once; more are not remembered.
_SYNC_ALL_FROM = 64
# Instead of their names; no name of ours has such a letter.
_EVERY = ("*",)
# A folder is made with the sticky bit, which goes once its own name is synced: who finds it set
# can't rely on its maker, who may have been killed.
_NEW_FOLDER = stat.S_ISVTX | 0o700

# A call on a network folder may take effect, and its answer be lost.
_ANSWER_LOST = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET, errno.ENOTCONN}

_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_FOLDER_BELOW = _FOLDER | os.O_NOFOLLOW
# O_NONBLOCK: opening a stray FIFO must not hang.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


if sys.platform == "darwin":
    import fcntl

    def sync(file: int) -> None:
        """Put a file's bytes, or a folder's names, on the disk itself."""
        # On macOS fsync stops at the drive's cache: see its fsync(2).
        try:
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in {errno.ENOTSUP, errno.EINVAL, errno.ENOTTY}:
                raise
            os.fsync(file)
else:

    def sync(file: int) -> None:
        """Put a file's bytes, or a folder's names, on the disk itself."""
        os.fsync(file)


class SeenFolders:
    """Folders that were read while new or changing, to be synced before anything builds on them.

    The process that gave the names there may have been killed before its own sync.

    Args:
        root: What the names of the folders are below.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: dict[tuple[str, ...], float] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, folder: Folder, names: Sequence[str]) -> None:
        """Remember an open folder that was just read; ``names`` lead to it from the root."""
        if abs(time.time() - os.fstat(folder).st_mtime) >= _WRITTEN_BACK_AFTER:
            return
        now = time.monotonic()
        if _EVERY in self._seen:
            self._seen[_EVERY] = now
            return
        self._seen[tuple(names)] = now
        if len(self._seen) > _SYNC_ALL_FROM:
            # A listing of everything may read a million. What it stands for is forgotten last.
            held = list(self._seen.items())
            self._seen[_EVERY] = now
            for one, seen in held:
                self._forget(one, seen)

    def make_durable(self) -> None:
        """Sync what was noted, each once; a run that reads nothing pays nothing.

        Threads that come at the same time share the work, and each waits for all of it.
        """
        held = list(self._seen.items())
        # What was read longer ago is on the disk by itself.
        since = time.monotonic() - _WRITTEN_BACK_AFTER
        recent = [names for names, seen in held if seen > since]
        if _EVERY in recent:
            os.sync()
            recent = []
        for names, seen in held:
            if names not in recent:
                self._forget(names, seen)
        busy = [names for names in recent if not self._make_one_durable(names, wait=False)]
        for names in busy:
            self._make_one_durable(names, wait=True)

    def sync(self, names: Sequence[str], folder: Folder) -> None:
        """Sync an open folder for a reason of the caller's, and need not do so again."""
        key = tuple(names)
        seen = self._seen.get(key)
        sync(folder)
        self._forget(key, seen)

    def _make_one_durable(self, names: tuple[str, ...], *, wait: bool) -> bool:
        """Sync a folder by one thread; False if another one does so, and is not waited for."""

        def is_due() -> bool:
            # In this order: another thread may put the name of all in the place of this one.
            return names in self._seen or _EVERY in self._seen

        def work() -> None:
            seen = self._seen.get(names)
            self._sync(names)
            self._forget(names, seen)

        return once((id(self), names), is_due, work, wait=wait)

    def _forget(self, names: tuple[str, ...], seen: float | None) -> None:
        # Not if another thread has read it meanwhile.
        if self._seen.get(names) is seen:
            self._seen.pop(names, None)

    def _sync(self, names: Sequence[str]) -> None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            folder = open_folder(self._root.joinpath(*names))
            try:
                sync(folder)
            finally:
                os.close(folder)


def native(path: Path) -> Path:
    """The path in the form that the calls take: as it is."""
    return path


def open_folder(path: str | os.PathLike[str]) -> Folder:
    """Open a folder; links on the way to it are followed."""
    return os.open(path, _FOLDER)


def close_folder(folder: Folder) -> None:
    """Close a folder."""
    os.close(folder)


def confirm_folder(folder: Folder, path: Path) -> None:
    """Sync the name of an open folder at a path, if its maker may have been killed before that."""
    if is_new(os.fstat(folder)):
        make_folder(Path(os.path.realpath(path)))


def enter_folder(
    parent: Folder, name: str, *, make: bool, sync_parent: Callable[[Folder], None] | None = None
) -> Folder:
    """Open a folder by its name in another one, which is no link; make it, durably, if asked to.

    ``sync_parent`` syncs the other one, where that is to be noted.
    """
    try:
        folder = os.open(name, _FOLDER_BELOW, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
        # Where another process is faster it may not have come to its sync yet.
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _NEW_FOLDER, dir_fd=parent)
        folder = os.open(name, _FOLDER_BELOW, dir_fd=parent)
        new = True
    except NotADirectoryError:
        # Linux says ENOTDIR for a link, too, where POSIX has ELOOP.
        if stat.S_ISLNK(status(parent, name).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None
        raise
    else:
        new = make and is_new(os.fstat(folder))
    try:
        if new:
            (sync_parent or sync)(parent)
            _mark_synced(folder)
    except BaseException:
        os.close(folder)
        raise
    return folder


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it, durably.

    Args:
        path: Its last part is no link; see `os.path.realpath`.

    Raises:
        FileExistsError: A file is there.
        NotADirectoryError: A link is there.
    """
    with contextlib.suppress(FileNotFoundError):
        if is_new(path.parent.stat()):
            make_folder(path.parent)
    try:
        path.mkdir(_NEW_FOLDER)
    except FileExistsError:
        if not path.is_dir():
            raise
    except FileNotFoundError:
        make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            path.mkdir(_NEW_FOLDER)
    parent = open_folder(path.parent)
    try:
        sync(parent)
        folder = os.open(path.name, _FOLDER_BELOW, dir_fd=parent)
    finally:
        os.close(parent)
    try:
        _mark_synced(folder)
    finally:
        os.close(folder)


def is_new(found: os.stat_result) -> bool:
    """Whether a folder was made by us, and its name perhaps never synced: see `_NEW_FOLDER`."""
    marked = bool(found.st_mode & stat.S_ISVTX) and not found.st_mode & 0o077
    return marked and found.st_uid == os.geteuid()


def _mark_synced(folder: Folder) -> None:
    found = os.fstat(folder)
    # A sticky bit that is not ours stays. So does ours where it may not be changed: it then costs a
    # sync for each put, and is as safe.
    if is_new(found):
        with contextlib.suppress(PermissionError):
            os.fchmod(folder, stat.S_IMODE(found.st_mode) & ~stat.S_ISVTX)


def write_file(folder: Folder, name: str, data: bytes) -> os.stat_result:
    """Write a new file and sync its bytes; its name is not synced, nor a file without bytes."""
    file = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
    try:
        write_all(file, data)
        if data:
            sync(file)
        return os.fstat(file)
    finally:
        os.close(file)


def give_name(folder: Folder, temporary: str, name: str, *, replace: bool) -> None:
    """Give a file its name: by a rename, or by a link, which refuses to replace.

    Raises:
        FileExistsError: Without ``replace``, the name is taken.
        UndecidedError: See there.
        OSError: The name was not given.
    """
    call = os.rename if replace else os.link
    try:
        call(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in _ANSWER_LOST or not _was_named(folder, temporary, name, replace=replace):
            raise


def _was_named(folder: Folder, temporary: str, name: str, *, replace: bool) -> bool:
    source = _inode(folder, temporary)
    # A rename that was done leaves no name behind; a link is a second name.
    return source is None if replace else source is not None and source == _inode(folder, name)


def remove_name(folder: Folder, name: str) -> None:
    """Remove a file.

    Raises:
        UndecidedError: See there.
        OSError: It was not removed.
    """
    try:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno not in _ANSWER_LOST or _inode(folder, name) is not None:
            raise


def _inode(folder: Folder, name: str) -> tuple[int, int] | None:
    try:
        found = status(folder, name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UndecidedError(error.errno, error.strerror) from error
    return found.st_dev, found.st_ino


def remove_temporary(folder: Folder, name: str) -> None:
    """Remove a temporary file."""
    os.unlink(name, dir_fd=folder)


def sync_name(folder: Folder, name: str) -> None:
    """Put a name on the disk itself: by its folder."""
    del name
    sync(folder)


def sync_object(folder: Folder, name: str, file: int) -> None:
    """Sync an open file and its name, which another process may have been killed before."""
    sync(file)
    sync_name(folder, name)


def status(folder: Folder, name: str) -> os.stat_result:
    """The status of what has a name; of a link itself."""
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a listing is a folder, and no link to one."""
    return entry.is_dir(follow_symlinks=False)


def file_status(folder: Folder, name: str) -> os.stat_result:
    """A file's status; EISDIR for what is no file, ELOOP for a link."""
    found = status(folder, name)
    if stat.S_ISREG(found.st_mode):
        return found
    code = errno.ELOOP if stat.S_ISLNK(found.st_mode) else errno.EISDIR
    raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def open_file(folder: Folder, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """A file, open for reading: its bytes and status are of one moment, even if it is replaced."""
    file = os.open(name, _FILE, dir_fd=folder)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        yield file, found
    finally:
        os.close(file)
