"""What a command does about many sessions: a line each while it goes on, or one JSON document."""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from writeahead.cli import render
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.output import report_document
from writeahead.protocol.sweep import SweepResult

__all__ = ["Results"]

_WORST_FIRST = (ExitCode.FAILED, ExitCode.USAGE, ExitCode.BLOCKED, ExitCode.LATER)


class Results:
    """Results as they come, and what they amount to.

    Args:
        results: Does the work; with each result comes the exit code that it would have alone.

    Attributes:
        stopped: Whether a signal ended the work early. ``results`` sets it.
        totals: How many results there were of each kind: a status, ``error``, or ``-`` for a note.
    """

    def __init__(self, results: Iterator[tuple[SweepResult, ExitCode]]) -> None:
        self._results = results
        self._codes: set[ExitCode] = set()
        self.stopped = False
        self.totals: Counter[str] = Counter()

    def show(self, console: Console) -> None:
        """Print a line for each. A reader of the output that leaves early must not end the work."""
        rest = self._counted()
        try:
            for result in rest:
                render.show_sweep_result(console, result)
        finally:
            deque(rest, maxlen=0)

    def documents(self) -> list[dict[str, Any]]:
        """Return a JSON document for each."""
        return [_document(result) for result in self._counted()]

    def exit_code(self) -> ExitCode:
        """Return the worst of their exit codes; a stop is work that is left."""
        codes = self._codes | ({ExitCode.LATER} if self.stopped else set())
        return next((code for code in _WORST_FIRST if code in codes), ExitCode.OK)

    def _counted(self) -> Iterator[SweepResult]:
        for result, code in self._results:
            self._codes.add(code)
            self.totals[render.word_of(result)] += 1
            yield result


def _document(result: SweepResult) -> dict[str, Any]:
    report = report_document(result.report) if result.report else None
    return {
        "session_id": result.session_id,
        "note": result.note,
        "error": result.error,
        "restored": result.restored,
        "report": report,
    }
