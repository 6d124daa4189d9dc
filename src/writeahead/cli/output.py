"""What a command answers, and how that gets to stdout and stderr."""

import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from rich.console import Console

from writeahead.cli.failures import ExitCode
from writeahead.model import RunReport, RunStatus

__all__ = ["Answer", "print_answer", "print_json", "printable", "report_document", "say"]


@dataclass(frozen=True)
class Answer:
    """What a command came to.

    Attributes:
        document: Makes the one JSON document of ``--json``.
        show: Prints the same for a person.
        exit_code: Tells the process's exit code, after one of the two.
    """

    document: Callable[[], Any]
    show: Callable[[Console], object]
    exit_code: Callable[[], int] = lambda: ExitCode.OK


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `_guarded`: rich's own would end the process with an exit code of its own."""
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError


def print_answer(answer: Answer, *, as_json: bool) -> int:
    """Print an answer on stdout; return the exit code."""
    if as_json:
        return print_json(answer.document(), answer.exit_code)
    # `soft_wrap`: a pipe has no width, and a long line is easier to search than a broken one.
    console = _Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    return _guarded(lambda: answer.show(console), answer.exit_code)


def print_json(document: Any, exit_code: Callable[[], int]) -> int:
    """Print one JSON document on stdout; return the exit code.

    It is ASCII: whatever the terminal's encoding is, and whatever a payload holds, it can be
        parsed.
    """
    return _guarded(lambda: print(json.dumps(document, indent=2, ensure_ascii=True)), exit_code)  # noqa: T201


def say(line: str) -> None:
    """Print a line to stderr. Nobody may be there to read it, and that changes nothing."""
    try:
        print(printable(line), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:
        _silence(sys.stderr)


def printable(text: str) -> str:
    """Replace what would steer a terminal: messages repeat what files and remotes say."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _guarded(write: Callable[[], object], exit_code: Callable[[], int]) -> int:
    """Write to stdout. A reader who left early changes nothing about what a command came to."""
    try:
        write()
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Errors of our own may be kinds of OSError, too; those are not about stdout.
        if type(error) not in (OSError, BrokenPipeError):
            raise
        _silence(sys.stdout)
        if error.errno != errno.EPIPE:
            say(f"error: the output can't be written: {error.strerror}")
            return exit_code() or ExitCode.FAILED
    return exit_code()


def _silence(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, so that the interpreter's own flush at the end can't fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def report_document(report: RunReport) -> dict[str, Any]:
    """Return a report as JSON for a program to read; payloads are in it for a dry run only."""
    document = report.model_dump(mode="json")
    if report.status is not RunStatus.PLANNED:
        for operation in document["operations"]:
            del operation["payload"], operation["precondition"]
    return document
