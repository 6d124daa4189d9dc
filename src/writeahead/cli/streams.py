"""Writing to stdout and stderr, in whatever state they are: closed, full, or without a reader."""

import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO, cast

from writeahead.cli.exit_code import ExitCode

__all__ = [
    "occupy_closed_descriptors",
    "print_failure",
    "print_json",
    "print_json_line",
    "printable",
    "say",
    "write_guarded",
]

# Windows has EINVAL for a pipe without a reader: cpython issue 79935.
_READER_LEFT = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}


def occupy_closed_descriptors() -> None:
    """Open ``/dev/null`` as each standard stream that the process was started without.

    Otherwise the next file that is opened, perhaps an artifact, gets the number 1 or 2. What is
    then written to that stream ends up in the file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one


def say(line: str) -> None:
    """Print a line to stderr, if stderr is open and can be written to."""
    # print() takes stdout instead of a stream that is None.
    if sys.stderr is None or sys.stderr.closed:
        return
    try:
        print(printable(line), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        _silence(sys.stderr)


def printable(text: str) -> str:
    """Replace control characters, since messages repeat what files and remotes say."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def print_json(document: Any, exit_code: Callable[[], int]) -> int:
    """Print one JSON document on stdout; return the exit code.

    It is ASCII, so that any payload can be parsed, whatever the terminal's encoding is.
    """
    return write_guarded(lambda: print(json.dumps(document, indent=2, ensure_ascii=True)), exit_code)  # noqa: T201


def print_json_line(document: Any) -> None:
    """Print one JSON document on a line of stdout, at once, in ASCII."""
    print(json.dumps(document, ensure_ascii=True), flush=True)  # noqa: T201


def print_failure(lines: Sequence[str], kind: str, code: int, *, as_json: bool) -> int:
    """Print the lines of an error to stderr, and with ``--json`` a document to stdout.

    Args:
        lines: The error, and perhaps what to do about it.
        kind: The name of the error's class.
        code: The exit code.
        as_json: Whether ``--json`` was given.

    Returns:
        The exit code.
    """
    for line in lines:
        say(line)
    if as_json:
        return print_json({"error": lines[0].removeprefix("error: "), "type": kind}, lambda: code)
    return code


def write_guarded(write: Callable[[], object], exit_code: Callable[[], int]) -> int:
    """Write to stdout, and return the exit code.

    A reader that left early does not change the exit code. Output that can't be written for another
    reason, such as a full disk, turns success into a failure.

    Args:
        write: Prints to `sys.stdout`. Errors that are not about stdout are the caller's.
        exit_code: Called after that.
    """
    stdout = sys.stdout
    if stdout is None:
        write()
        return exit_code()
    guarded = _Stdout(stdout)
    try:
        with contextlib.redirect_stdout(cast(TextIO, guarded)):
            write()
        guarded.flush()
    except _OutputFailedError as failed:
        _silence(stdout)
        if failed.reason.errno not in _READER_LEFT:
            say(f"error: the output can't be written: {failed.reason.strerror}")
            return exit_code() or ExitCode.FAILED
    return exit_code()


class _OutputFailedError(Exception):
    def __init__(self, reason: OSError) -> None:
        self.reason = reason
        super().__init__(reason)


class _Stdout:
    """Stdout with its own error class, since a writer may raise OSError for another reason."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise _OutputFailedError(error) from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise _OutputFailedError(error) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _silence(stream: TextIO) -> None:
    """Send what is still buffered to ``/dev/null``, so that the last flush can't fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
