"""The command line: ``writeahead`` and ``python -m writeahead``.

`main` is all that others use. ``app`` holds the commands, which return an `Answer`; ``output`` and
``render`` say what a person and what a program reads of it; ``failures`` turns errors into lines
and exit codes.
"""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The arguments without the program's name; by default the process's.

    Returns:
        The exit code: 0 completed, nothing to do, or planned; 1 blocked; 2 wrong usage or input; 3
        failed; 75 (EX_TEMPFAIL of sysexits.h) to be run again later; 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        # Without the command line's libraries: this is how people and scripts ask whether we are
        # there.
        from importlib.metadata import version

        print(f"writeahead {version('writeahead')}")  # noqa: T201 - the command line prints
        return 0
    from writeahead.cli.dispatch import dispatch

    return dispatch(arguments)
