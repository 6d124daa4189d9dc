"""The answer to ``--version``."""

from writeahead import __version__
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.streams import write_guarded

__all__ = ["print_version"]


def print_version() -> int:
    """Print the version on stdout; return the exit code."""
    return write_guarded(lambda: print(f"writeahead {__version__}"), lambda: ExitCode.OK)  # noqa: T201
