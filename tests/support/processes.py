"""Processes that tests start."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The package of this tree, and these tests, whatever is installed.
PYTHONPATH = f"{ROOT / 'src'}:{ROOT}"


def child_environment() -> dict[str, str]:
    """The environment of a child that imports ``tests.support`` and this very writeahead."""
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join(filter(None, (str(ROOT), inherited)))
    return {**os.environ, "PYTHONPATH": path}


def finished(process):
    """Wait for a process; return its exit code and what it printed on both streams."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err
