"""What a command answers, printed for people or as JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from writeahead.cli.exit_code import ExitCode
from writeahead.cli.streams import print_json, write_guarded
from writeahead.model import RunReport, RunStatus

__all__ = ["Answer", "print_answer", "report_document"]


@dataclass(frozen=True)
class Answer:
    """What a command answers.

    Attributes:
        document: Makes the JSON document of ``--json``.
        show: Prints the same for people.
        exit_code: Returns the process's exit code; called after one of the two.
    """

    document: Callable[[], Any]
    show: Callable[[Console], object]
    exit_code: Callable[[], int] = lambda: ExitCode.OK


def print_answer(answer: Answer, *, as_json: bool) -> int:
    """Print an answer on stdout; return the exit code."""
    if as_json:
        return print_json(answer.document(), answer.exit_code)
    # `soft_wrap`: a pipe has no width, and a long line is easier to search than a broken one.
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    return write_guarded(lambda: answer.show(console), answer.exit_code)


def report_document(report: RunReport) -> dict[str, Any]:
    """Return a report as JSON; payloads are in it for a dry run only."""
    document = report.model_dump(mode="json")
    if report.status is not RunStatus.PLANNED:
        for operation in document["operations"]:
            del operation["payload"], operation["precondition"]
    return document
