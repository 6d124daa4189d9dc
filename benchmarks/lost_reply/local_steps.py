"""Kills this process at the nth local step: right before it changes what it keeps on disk.

A step is a file or folder of the scenario that is opened for writing, renamed, linked, removed or
made (Python's audit events), and each statement of SQLite that writes or commits. A contender
whose state is elsewhere counts its own, by `LocalSteps.passed`.
"""

import os
import re
import signal
import sqlite3
import sys

_CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|COMMIT)", re.IGNORECASE)


class LocalSteps:
    """Counts the local steps of this process.

    Args:
        folder: The scenario's; what happens elsewhere is no step.
        deadly: The step to die at, from 1; 0 for none.
    """

    def __init__(self, folder: str, deadly: int) -> None:
        self.folder, self.deadly, self.count = folder, deadly, 0

    def passed(self) -> None:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """Count from now on, until the process ends."""
        sys.addaudithook(self._audited)
        connect = sqlite3.connect

        def traced(*args, **kwargs):
            connection = connect(*args, **kwargs)
            connection.set_trace_callback(self._stated)
            return connection

        sqlite3.connect = sqlite3.dbapi2.connect = traced

    def _audited(self, event: str, args: tuple) -> None:
        if event == "open":
            is_change = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            is_change = event in _CHANGES
        if is_change and self._is_ours(args[0]):
            self.passed()

    def _is_ours(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        name = os.fsdecode(path)
        # Relative ones belong to an open folder; only the scenario's is open.
        return name.startswith(self.folder) or not name.startswith("/")

    def _stated(self, statement: str) -> None:
        if _WRITES.match(statement):
            self.passed()
