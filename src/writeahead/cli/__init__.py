"""The command line: ``writeahead`` and ``python -m writeahead``.

`main` is all that others use. ``app`` lists the commands, which return an `Answer`; ``output`` and
``render`` print it for people or as JSON; ``failures`` turns errors into lines and exit codes.
Settings, flags and exit codes are known here only: the library below takes arguments, and raises.
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
    # Imports are late, so that `--version` is quick and works without the extra.
    from writeahead.cli.streams import occupy_closed_descriptors, print_failure

    arguments = list(sys.argv[1:] if argv is None else argv)
    occupy_closed_descriptors()
    if arguments == ["--version"]:
        from writeahead.cli.version import print_version

        return print_version()
    from writeahead._extras import requires_extra
    from writeahead.errors import InvalidInput

    try:
        with requires_extra("the command line", "cli"):
            from writeahead.cli.dispatch import dispatch
    except InvalidInput as error:
        return print_failure([f"error: {error}"], "InvalidInput", 2, as_json="--json" in arguments)
    return dispatch(arguments)
