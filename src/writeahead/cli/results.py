"""What a command does about many sessions: a line each while it goes on, or one JSON document."""

import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
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
        stopped: Whether the work ended early, without a word about the rest. ``results`` sets it.
        failed: The exit code of what ended the work as a whole, if anything did.
        totals: How many results there were of each kind: a status, ``error``, ``refused``,
            ``left``, or ``-`` for a note. A session that is come back to counts once, in the end.
        reasons: How many there were of each kind with each reason: why a session is blocked, or
            was left.
    """

    def __init__(self, results: Iterator[tuple[SweepResult, ExitCode]]) -> None:
        self._results = results
        self._codes: set[ExitCode] = set()
        self.stopped = False
        self.failed: ExitCode | None = None
        self.totals: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()

    def show(
        self,
        console: Console,
        *,
        around: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    ) -> None:
        """Print a line for each that was not left.

        A reader of the output that leaves early must not end the work.

        Args:
            console: Prints on stdout.
            around: What each line is printed in.
        """
        rest = self._counted()
        try:
            for result in rest:
                if not result.left:
                    with around():
                        render.show_sweep_result(console, result)
        finally:
            deque(rest, maxlen=0)

    def documents(self) -> list[dict[str, Any]]:
        """Return a JSON document for each."""
        return [_document(result) for result in self._counted() if not result.again]

    def documents_as_they_come(self) -> Iterator[dict[str, Any]]:
        """Stream them, and those that others will follow.

        A reader of the output that leaves early must not end the work.
        """
        rest = self._counted()
        try:
            yield from map(_document, rest)
        finally:
            deque(rest, maxlen=0)

    def totals_document(self) -> dict[str, Any]:
        """Return what they amount to, as JSON."""
        reasons: dict[str, dict[str, int]] = {}
        for (word, reason), count in self.reasons.items():
            reasons.setdefault(word, {})[reason] = count
        return {"totals": dict(self.totals), "reasons": reasons, "stopped": self.stopped}

    def exit_code(self) -> ExitCode:
        """Return the worst of their exit codes; a stop is work that is left."""
        codes = self._codes | ({ExitCode.LATER} if self.stopped else set())
        codes |= {self.failed} if self.failed else set()
        return next((code for code in _WORST_FIRST if code in codes), ExitCode.OK)

    def _counted(self) -> Iterator[SweepResult]:
        for result, code in self._results:
            if not result.again:
                self._codes.add(code)
                self._count(result)
            yield result

    def _count(self, result: SweepResult) -> None:
        word, reason = _word(result), result.left or result.block_reason
        if result.report is not None:
            reason = result.report.block_reason
        self.totals[word] += 1
        if reason:
            self.reasons[word, reason.value] += 1


def _word(result: SweepResult) -> str:
    """What it counts as: a note may be about a session whose status is known."""
    word = render.word_of(result)
    return result.status.value if word == "-" and result.status else word


def _document(result: SweepResult) -> dict[str, Any]:
    report = report_document(result.report) if result.report else None
    return {
        **({} if result.line is None else {"line": result.line, "refused": result.refused}),
        "session_id": result.session_id,
        "status": _word(result),
        "note": result.note,
        "error": result.error,
        "restored": result.restored,
        "left": result.left and result.left.value,
        "not_before": result.not_before and result.not_before.isoformat().replace("+00:00", "Z"),
        "again": result.again,
        "report": report,
    }
