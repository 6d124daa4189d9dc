"""A system made as poor as Windows, and as strict, to try on Linux what is for Windows.

`take_away` removes what Windows has not. `Refusals` refuses below a folder what Windows refuses: to
open a folder, to take a folder's descriptor, to replace or remove a file that this process holds
open, to sync one that is open for reading; and, if asked to, to tell upper from lower case. Where
the rules are from is said in `writeahead.stores.portable`. ``nox -s wine`` tries the same on an
imitation that others wrote.

A child process gets all of it from `environment`, before it imports anything of the package.
"""

import contextlib
import errno
import importlib
import os
import stat
import sys
import threading
from pathlib import Path

from tests.support.processes import child_environment

# What a store could use of os here and has not there, by the documentation's "Availability"; and
# what the whole package could.
FILES = {
    "os": ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "sync", "fdatasync", "geteuid", "getuid", "fchmod")
}
TAKEN = {
    "os": (
        *(*FILES["os"], "O_CLOEXEC", "O_SYNC", "O_NOCTTY", "register_at_fork", "pread", "pwrite", "writev"),
        *("fork", "mkfifo", "mknod", "chown", "fchown", "lchown", "getgid", "getegid", "getgroups", "setuid"),
        *("setsid", "getpgid", "killpg", "nice", "uname", "statvfs", "fstatvfs", "sysconf", "wait", "wait4"),
        *("openpty", "fchdir", "set_blocking", "pipe2", "sched_getaffinity", "posix_fadvise", "sendfile"),
    ),
    "time": ("clock_gettime", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "CLOCK_REALTIME", "tzset"),
    "signal": (
        "SIGKILL",
        "SIGALRM",
        "SIGHUP",
        "SIGUSR1",
        "SIGCHLD",
        "SIGPIPE",
        "alarm",
        "setitimer",
        "pause",
    ),
    "socket": ("SO_REUSEPORT", "send_fds", "recv_fds"),
}
MODULES = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog", "posix")
# They look at the system when they are imported, and again later; they are not what is tried.
_OTHERS = ("asyncio", "logging", "multiprocessing", "random", "shutil", "subprocess", "tempfile", "zoneinfo")
_CHILD = "WRITEAHEAD_AS_ON_WINDOWS"
# MSVC's _O_BINARY. Linux ignores this bit.
O_BINARY = 0x8000


def take_away(names, delete, replace) -> None:
    """Remove what Windows has not.

    Args:
        names: `FILES` or `TAKEN`.
        delete: Called with a module and a name in it.
        replace: Called with a module, a name in it and its new value.
    """
    for module, taken in names.items():
        for name in taken:
            delete(importlib.import_module(module), name)
    for name in ("supports_dir_fd", "supports_fd"):
        replace(os, name, set())
    replace(os, "O_BINARY", O_BINARY)


def environment(folder: Path, root: Path, **more: str) -> dict[str, str]:
    """The environment of a child that finds itself on such a system.

    Args:
        folder: Where a file for it may be written.
        root: What the refusals hold below.
        more: Further variables.
    """
    (folder / "sitecustomize.py").write_text("from tests.support import windows\nwindows.become()\n")
    environ = child_environment(**{_CHILD: str(root)} | more)
    return environ | {"PYTHONPATH": f"{folder}{os.pathsep}{environ['PYTHONPATH']}"}


def become() -> None:
    """Make this process, which has imported nothing yet, one on such a system."""
    for name in _OTHERS:
        importlib.import_module(name)
    for name in MODULES:
        sys.modules[name] = None
    take_away(TAKEN, lambda module, name: vars(module).pop(name, None), setattr)
    Refusals(Path(os.environ[_CHILD])).install(setattr)


class Refusals:
    """The file calls of `os`, as strict as those of Windows below a folder.

    Args:
        root: The folder.
        case: Whether upper and lower case are told apart.
    """

    def __init__(self, root: Path, *, case: bool = True) -> None:
        self.root = str(root)
        self.case = case
        self.held: dict[int, tuple[tuple[int, int], int]] = {}
        self._lock = threading.RLock()
        self._real = {name: getattr(os, name) for name in (*_CALLS, "listdir")}
        self._realpath = os.path.realpath

    def install(self, replace) -> None:
        for name in _CALLS:
            replace(os, name, getattr(self, name))
        replace(os.path, "realpath", lambda path, **more: self._realpath(self._stored(path), **more))

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        path = self._path(path, dir_fd)
        with self._lock:
            if not self._ours(path):
                return self._real["open"](path, flags, mode)
            assert flags & O_BINARY, "line ends would be translated"
            if Path(path).is_dir():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            file = self._real["open"](path, flags, mode)
            self.held[file] = (self._identity(path), flags & os.O_ACCMODE)
            return file

    def close(self, file):
        with self._lock:
            self.held.pop(file, None)
            self._real["close"](file)

    def fsync(self, file):
        if self.held.get(file, (None, os.O_RDWR))[1] == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._real["fsync"](file)

    def replace(self, source, target, *, src_dir_fd=None, dst_dir_fd=None):
        source, target = self._path(source, src_dir_fd), self._path(target, dst_dir_fd)
        with self._lock:
            if self._ours(target):
                if Path(target).is_dir():
                    raise windows_error(5)
                self._refuse_held(source, 32)
                self._refuse_held(target, 5)
            self._real["replace"](source, target)

    def rename(self, source, target, *, src_dir_fd=None, dst_dir_fd=None):
        assert not self._ours(str(target)), "rename does not replace there, and does here"
        self._real["rename"](source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def link(self, source, target, *, src_dir_fd=None, dst_dir_fd=None, follow_symlinks=True):
        source, target = self._path(source, src_dir_fd), self._path(target, dst_dir_fd)
        with self._lock:
            self._real["link"](source, target)

    def unlink(self, path, *, dir_fd=None):
        path = self._path(path, dir_fd)
        with self._lock:
            if self._ours(path):
                self._refuse_held(path, 32)
            self._real["unlink"](path, dir_fd=dir_fd)

    def mkdir(self, path, mode=0o777, *, dir_fd=None):
        self._real["mkdir"](self._path(path, dir_fd), mode)

    def scandir(self, path="."):
        assert not isinstance(path, int), "a folder has no descriptor"
        return self._real["scandir"](self._stored(path))

    def stat(self, path, *, dir_fd=None, follow_symlinks=True):
        found = self._real["stat"](self._path(path, dir_fd), follow_symlinks=follow_symlinks)
        return self._mode_of_windows(path, found)

    def lstat(self, path, *, dir_fd=None):
        return self.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def fstat(self, file):
        found = self._real["fstat"](file)
        return self._mode_of_windows(self.root if file in self.held else "", found)

    def _mode_of_windows(self, path, found):
        if not self._ours(path) or stat.S_ISLNK(found.st_mode):
            return found
        mode = stat.S_IFMT(found.st_mode) | (0o777 if stat.S_ISDIR(found.st_mode) else 0o666)
        # By position, and the rest by name.
        named = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return os.stat_result((mode, *tuple(found)[1:]), named)

    def _path(self, path, dir_fd):
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        return self._stored(path)

    def _ours(self, path) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.root + os.sep)

    def _stored(self, path):
        """The path with each name below the root as it is stored, if case does not count."""
        if self.case or not self._ours(path):
            return path
        with contextlib.suppress(OSError):
            self._identity(path)
            return path
        found = Path(self.root)
        for name in Path(path).relative_to(self.root).parts:
            try:
                there = self._real["listdir"](found)
            except (FileNotFoundError, NotADirectoryError):
                there = []
            same = [one for one in there if one.lower() == name.lower()]
            found /= name if name in there or not same else same[0]
        return found

    def _identity(self, path):
        found = self._real["stat"](path, follow_symlinks=False)
        return found.st_dev, found.st_ino

    def _refuse_held(self, path, code) -> None:
        try:
            identity = self._identity(path)
        except FileNotFoundError:
            return
        if any(held == identity for held, _ in self.held.values()):
            raise windows_error(code)


_CALLS = ("open", "close", "fsync", "replace", "rename", "link", "unlink", "mkdir", "scandir", "stat")
_CALLS += ("lstat", "fstat")


def windows_error(code: int) -> PermissionError:
    """What Python makes of a Windows error code that is a refusal: 5, 32 or 33."""
    error = PermissionError(errno.EACCES, "access is denied")
    error.winerror = code
    return error
