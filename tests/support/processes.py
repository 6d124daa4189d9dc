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
