"""What the process's exit code says."""

from enum import IntEnum

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """What the process's exit code says."""

    OK = 0
    BLOCKED = 1
    USAGE = 2
    FAILED = 3
    LATER = 75  # EX_TEMPFAIL of sysexits.h: run it again later
    INTERRUPTED = 130  # 128 + SIGINT, as shells count
