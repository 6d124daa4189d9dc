"""What a store asks of the kernel, read from strace, and whether that makes an object durable."""

import posixpath
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable
from functools import cache
from typing import NamedTuple

__all__ = ["CALLS", "Call", "object_gaps", "read_calls", "unsynced", "why_untraceable"]

CALLS = (
    "write,pwrite64,writev,truncate,ftruncate,fsync,fdatasync,syncfs,sync,"
    "mkdir,mkdirat,open,openat,creat,link,linkat,rename,renameat,renameat2,unlink,unlinkat"
)
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
# A file descriptor with its path, `7</folder/file>`, or a quoted path.
_PATH = re.compile(r'(?:\d+|AT_FDCWD)<([^>]*)>|"((?:[^"\\]|\\.)*)"')
_KINDS = {
    "pwrite64": "write",
    "writev": "write",
    "truncate": "write",
    "ftruncate": "write",
    "fdatasync": "fsync",
    "syncfs": "sync",
    "mkdirat": "mkdir",
    "open": "make",
    "openat": "make",
    "creat": "make",
    "unlinkat": "unlink",
    "link": "name",
    "linkat": "name",
    "rename": "name",
    "renameat": "name",
    "renameat2": "name",
}


class Call(NamedTuple):
    """A system call that succeeded.

    Attributes:
        kind: ``write``, ``fsync``, ``sync``, ``mkdir``, ``make`` (a file is opened, and made if it
            is not there), ``name`` (a link or a rename, of the first path to the last) or
            ``unlink``.
        paths: The paths that it names.
        text: The line of the trace.
    """

    kind: str
    paths: tuple[str, ...]
    text: str


@cache
def why_untraceable() -> str | None:
    """Why system calls can't be seen here; None if they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run(  # noqa: S603 - the tool itself
        [strace, "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False
    )
    return None if tried.returncode == 0 else "strace may not trace here"


def read_calls(lines: Iterable[str]) -> list[Call]:
    """The calls of a trace that was written by ``strace -f -y -e trace=CALLS``."""
    calls = []
    for line in lines:
        found = _LINE.match(line)
        if found is None or int(found[3]) < 0:
            continue
        kind = _KINDS.get(found[1], found[1])
        if kind == "make" and found[1] != "creat" and "O_CREAT" not in found[2]:
            continue
        calls.append(Call(kind, tuple(_paths(kind, found[2])), line))
    return calls


class _Volatile:
    """What a power cut could take, after some calls.

    The rules are those of fsync(2), and of "Files are hard" (OSDI 2014, Pillai et al.): bytes are
    durable once their file is synced, a name once its folder is.

    Attributes:
        files: Files whose bytes are not synced.
        names: Names that came or went, and whose folders were not synced since.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.names: set[str] = set()

    def apply(self, call: Call) -> None:
        """Take note of a call."""
        match call.kind:
            case "write":
                self.files.add(call.paths[0])
            case "fsync":
                synced = call.paths[0]
                self.files.discard(synced)
                self.names = {name for name in self.names if posixpath.dirname(name) != synced}
            case "sync":
                self.files.clear()
                self.names.clear()
            case "name":
                old, new = call.paths[0], call.paths[-1]
                self.names.add(new)
                if old in self.files:
                    self.files.add(new)
            case "mkdir" | "make" | "unlink":
                self.names.add(call.paths[-1])

    def names_of(self, path: str) -> list[str]:
        """The unsynced names on the way to a file, its own among them."""
        return sorted(name for name in self.names if _is_above(name, path))


def object_gaps(calls: Iterable[Call], path: str) -> list[str]:
    """What a power cut after these calls could take from an object that they put at ``path``.

    The object is a file of its own. A name given to bytes that are not yet durable may outlive
    them, so the order counts, too.

    Returns:
        A line for each gap; none where the object is safe.
    """
    volatile = _Volatile()
    named = False
    gaps = []
    for call in calls:
        volatile.apply(call)
        if call.kind == "name" and call.paths[-1] == path:
            named = True
            if call.paths[0] in volatile.files:
                gaps.append("the object got its name before its bytes were synced")
    if not named:
        gaps.append("no link or rename gave the object its name: a crash may leave a part of it")
    gaps += [f"the folder of {name} was not synced after it got its name" for name in volatile.names_of(path)]
    return gaps


def unsynced(calls: Iterable[Call], files: Iterable[str], there: Collection[str]) -> list[str]:
    """What a power cut after these calls could take from files, or bring back.

    The files hold many objects, as a database does, and are written in backdoor: whether a crash
    between two of the calls leaves them whole is theirs to know, and is not looked at.

    Args:
        calls: What was done.
        files: The paths of the files.
        there: Those of them that existed before.

    Returns:
        A line for each gap; none where all of it is durable.
    """
    volatile = _Volatile()
    known = set(there)
    for call in calls:
        # To open a file with O_CREAT makes a name only if the file is not there yet.
        if call.kind == "make" and call.paths[-1] in known:
            continue
        volatile.apply(call)
        if call.kind == "make":
            known.add(call.paths[-1])
        elif call.kind == "unlink":
            known.discard(call.paths[-1])
    gaps = []
    for file in files:
        if file in volatile.files and file in known:
            gaps.append(f"what was written to {file} was not synced")
        gaps += [
            f"the folder of {name} was not synced after that name changed" for name in volatile.names_of(file)
        ]
    return gaps


def _is_above(name: str, path: str) -> bool:
    return path == name or path.startswith(f"{name}/")


def _paths(kind: str, arguments: str) -> Iterable[str]:
    base = ""
    for held, quoted in _PATH.findall(arguments):
        if held:
            base = held
        if held and kind in ("write", "fsync"):
            yield held
            return
        if quoted:
            yield posixpath.normpath(posixpath.join(base, quoted))
