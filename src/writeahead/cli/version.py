"""The answer to ``--version``."""

from importlib.metadata import PackageNotFoundError, version

from writeahead.cli.exit_code import ExitCode
from writeahead.cli.streams import say, write_guarded

__all__ = ["print_version"]


def print_version() -> int:
    """Print the version on stdout; return the exit code."""
    try:
        found = version("writeahead")
    except PackageNotFoundError:
        say("error: the version is unknown: the package metadata is missing; reinstall writeahead with pip")
        return ExitCode.FAILED
    return write_guarded(lambda: print(f"writeahead {found}"), lambda: ExitCode.OK)  # noqa: T201
