"""Who else may write to the files and folders that a command takes code and settings from.

Windows has access control lists instead. There every file that may be written has mode 0666 (the
documentation of os.chmod), which says nothing of others, and nothing is looked for.
"""

import os
import stat
from pathlib import Path

from writeahead.errors import InvalidInput

__all__ = ["checked_code_source", "shared_folder"]


def checked_code_source(path: Path, mode: int) -> str | None:
    """Check the permissions of a settings file that names code to run.

    Args:
        path: The file.
        mode: Its mode bits.

    Returns:
        A warning if its group may write to it, which is common with a umask of 002.

    Raises:
        InvalidInput: Every user may write to it.
    """
    if _may_write(mode, stat.S_IWOTH):
        raise InvalidInput(
            f"settings {path}: the file names code to run, and every user may write to it: "
            f"run chmod o-w {path}, or name the adapter with --adapter"
        )
    if _may_write(mode, stat.S_IWGRP):
        return f"settings {path}: the file names code to run, and its group may write to it"
    return None


def shared_folder(folder: Path) -> str | None:
    """Return a warning if other users may put settings or code into a folder."""
    if not _may_write(folder.stat().st_mode, stat.S_IWOTH):
        return None
    return f"{folder}: other users may write to this folder, and settings and adapters are read from it"


def _may_write(mode: int, who: int) -> bool:
    return hasattr(os, "geteuid") and bool(mode & who)
