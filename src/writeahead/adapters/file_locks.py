"""Locks on files in a folder, which all processes of a machine see.

The system frees the locks of a process that ends, however it ends: flock(2) ties them to what was
opened, and LockFileEx to the handle. A child of a fork closes its copies, so that it neither keeps
nor frees what its parent holds.
"""

import os
import stat
import threading
from pathlib import Path

from writeahead._extras import requires_extra
from writeahead.errors import InvalidInput

__all__ = ["FileLocks", "Held"]

_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class Held:
    """A lock that is held; ``descriptor`` is of its open file."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


class FileLocks:
    """The lock files of one folder. They are as open to other users as the folder is.

    Args:
        folder: Where they are; it is made if it is not there, for this user alone. No cleaner of
            temporary files may empty it.

    Raises:
        InvalidInput: The folder can't be used, or its file system does not lock. The message says
            what is wrong.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._mode = stat.S_IMODE(folder.stat().st_mode) & 0o666
            self._prove()
        except OSError as error:
            raise InvalidInput(f"limits can't be shared in {folder}: {self.problem(error)}") from error

    def problem(self, error: OSError) -> str:
        """Say what is wrong with the folder, in a few words."""
        return error.strerror or type(error).__name__

    def take(self, name: str) -> Held | None:
        """Lock a file of this name; None if it is locked already.

        Raises:
            OSError: It can't be opened or locked.
        """
        path = self._folder / name
        # A fork waits for this, so that no open file is unknown to the child.
        with _guard:
            descriptor = self._open(path)
            try:
                is_ours = _lock(descriptor) and _is_there(descriptor, path)
                if is_ours:
                    self._let_others_in(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if not is_ours:
                os.close(descriptor)
                return None
            held = Held(descriptor)
            _held.add(held)
            return held

    def free(self, held: Held) -> None:
        """Unlock a file; in a forked child this does nothing, since the lock is its parent's."""
        with _guard:
            if held not in _held:
                return
            _held.discard(held)
            try:
                _unlock(held.descriptor)
            finally:
                os.close(held.descriptor)

    def _open(self, path: Path) -> int:
        while True:
            try:
                # Without O_CREAT at first: in a folder with the sticky bit, Linux refuses that for
                # a file of another user (fs.protected_regular).
                return os.open(path, os.O_RDWR | _NO_LINK)
            except FileNotFoundError:
                try:
                    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _NO_LINK, self._mode)
                except FileExistsError:
                    continue

    def _let_others_in(self, descriptor: int) -> None:
        """Undo the umask, which would shut out other users of the folder."""
        if not hasattr(os, "fchmod"):
            return
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != self._mode:
            os.fchmod(descriptor, self._mode)

    def _prove(self) -> None:
        """Try it: some file systems take a lock without a word, and let the next one in as well."""
        first = self.take("proof")
        if first is None:
            return  # another process is trying the same
        try:
            second = self.take("proof")
            if second is not None:
                self.free(second)
                raise OSError(0, "its file system does not lock files: choose a folder on a local disk")
        finally:
            self.free(first)


def _lock(descriptor: int) -> bool:
    # Loaded here: without POSIX's calls or those of Windows it warns, also where nothing is shared.
    with requires_extra("limits that processes share"):
        from filelock import lock_descriptor
    return lock_descriptor(descriptor, blocking=False)


def _unlock(descriptor: int) -> None:
    from filelock import unlock_descriptor

    unlock_descriptor(descriptor)


def _is_there(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one of this name, and was not removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


_guard = threading.Lock()
_held: set[Held] = set()


def _before_fork() -> None:
    _guard.acquire()


def _after_fork_in_parent() -> None:
    _guard.release()


def _after_fork_in_child() -> None:
    # Closed, and not unlocked: that would unlock the parent's.
    for held in _held:
        os.close(held.descriptor)
    _held.clear()
    _guard.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
