"""Processes that tests start."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def child_environment(**more: str) -> dict[str, str]:
    """The environment of a child that imports the package and the tests of this very tree."""
    path = (str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", ""))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


def finished(process):
    """Wait for a process; return its exit code and what it printed on both streams."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def read_terminal(mine, theirs):
    """All that a pseudo-terminal gets from the processes that have its other end; it is closed."""
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(mine, 4096)
        except OSError:  # the other end is closed
            break
    os.close(mine)
    return shown
