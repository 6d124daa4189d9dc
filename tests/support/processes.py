"""Processes that tests start."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def child_environment() -> dict[str, str]:
    """The environment of a child that imports ``tests.support`` and this very writeahead."""
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join(filter(None, (str(ROOT), inherited)))
    return {**os.environ, "PYTHONPATH": path}
