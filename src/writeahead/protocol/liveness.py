"""Whether the process that holds a lease is provably dead, so that no run has to wait for it."""

import errno
import os
import socket
import sys
from functools import lru_cache
from pathlib import Path

from writeahead.protocol.schema import Holder

__all__ = ["is_dead", "this_process"]

# The 22nd field, counted from the state, which is the 3rd and comes after the name: proc(5).
_START_TIME = 22 - 3


def this_process() -> Holder | None:
    """Identify this process for ever; None where the system offers no way to."""
    return _process(os.getpid())


@lru_cache(maxsize=1)
def _process(pid: int) -> Holder | None:
    try:
        return Holder(
            host=socket.gethostname()[:255],
            boot_id=_boot_id(),
            pid_namespace=_pid_namespace(),
            pid=pid,
            started=_started(pid),
        )
    except (OSError, IndexError, ValueError):
        return None


def is_dead(holder: Holder | None) -> bool:
    """Whether a process surely does not run any more; False where that can't be known.

    Its number must count in our namespace, under the same running kernel. Then it is dead if there
    is no such process, or one that started at another time.
    """
    if holder is None:
        return False
    try:
        if (holder.boot_id, holder.pid_namespace) != (_boot_id(), _pid_namespace()):
            return False
    except OSError:
        return False
    try:
        return _started(holder.pid) != holder.started or _is_zombie(holder.pid)
    except (FileNotFoundError, ProcessLookupError):
        return not _exists(holder.pid)
    except (OSError, IndexError, ValueError):
        return False


def _exists(pid: int) -> bool:
    """Whether there is such a process, also where /proc hides it (hidepid: proc(5))."""
    try:
        # Signal 0 is not sent, only checked: kill(2). Other numbers stand for groups.
        os.kill(max(pid, 1), 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _boot_id() -> str:
    """Tell one run of a kernel from another.

    Raises:
        OSError: This is not Linux. What is below /proc elsewhere may be anything; and on Windows
            ``os.kill(pid, 0)`` would end the process, by the documentation of `os.kill`.
    """
    if sys.platform != "linux":
        raise FileNotFoundError(errno.ENOENT, "only Linux has a boot_id")
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> str:
    return _stat(pid)[_START_TIME].decode("ascii")


def _is_zombie(pid: int) -> bool:
    """Whether it was killed, and its parent has not waited for it yet; no thread of it runs on."""
    return _stat(pid)[0] == b"Z" and len(list(Path(f"/proc/{pid}/task").iterdir())) == 1


def _stat(pid: int) -> list[bytes]:
    # The process's name, in brackets, may hold anything.
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
