"""What a store asks of the kernel, read from strace, and whether that makes an object durable."""

import posixpath
import re
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

__all__ = ["CALLS", "Call", "durability_gaps", "read_calls", "why_untraceable"]

CALLS = (
    "write,pwrite64,writev,fsync,fdatasync,syncfs,sync,mkdir,mkdirat,link,linkat,rename,renameat,renameat2"
)
_LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
# A file descriptor with its path, `7</folder/file>`, or a quoted path.
_PATH = re.compile(r'(?:\d+|AT_FDCWD)<([^>]*)>|"((?:[^"\\]|\\.)*)"')
_KINDS = {
    "pwrite64": "write",
    "writev": "write",
    "fdatasync": "fsync",
    "syncfs": "sync",
    "mkdirat": "mkdir",
    "link": "name",
    "linkat": "name",
    "rename": "name",
    "renameat": "name",
    "renameat2": "name",
}


class Call(NamedTuple):
    """A system call that succeeded: ``write``, ``fsync``, ``sync``, ``mkdir`` or ``name``, and its paths.

    ``name`` is a link or a rename, of the first path to the second.
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
        calls.append(Call(kind, tuple(_paths(kind, found[2])), line))
    return calls


def durability_gaps(calls: Iterable[Call], path: str) -> list[str]:
    """What a power cut after these calls could take from an object that they put at ``path``.

    The rules are those of fsync(2), and of "Files are hard" (OSDI 2014, Pillai et al.): bytes are
    durable once their file is synced, a name once its folder is. A name given to bytes that are not
    yet durable may outlive them.

    Returns:
        A line for each gap; none where the object is safe.
    """
    unsynced: set[str] = set()
    unsynced_names: dict[str, set[str]] = {}
    named = False
    gaps = []
    for call in calls:
        if call.kind == "write":
            unsynced.add(call.paths[0])
        elif call.kind == "fsync":
            unsynced.discard(call.paths[0])
            unsynced_names.pop(call.paths[0], None)
        elif call.kind == "sync":
            unsynced.clear()
            unsynced_names.clear()
        elif call.kind == "mkdir":
            unsynced_names.setdefault(posixpath.dirname(call.paths[-1]), set()).add(call.paths[-1])
        elif call.kind == "name":
            old, new = call.paths[0], call.paths[-1]
            unsynced_names.setdefault(posixpath.dirname(new), set()).add(new)
            if new == path:
                named = True
                if old in unsynced:
                    gaps.append("the object got its name before its bytes were synced")
    if not named:
        gaps.append("no link or rename gave the object its name: a crash may leave a part of it")
    lost = [name for names in unsynced_names.values() for name in names if _is_above(name, path)]
    gaps += [f"the folder of {name} was not synced after it got its name" for name in sorted(lost)]
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
