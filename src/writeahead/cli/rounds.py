"""Sweeps, one or one after the other, or a batch: what is shown, and the exit code."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from writeahead.cli import render, render_many
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of, exit_code_of_status, lines_of
from writeahead.cli.progress import RunsShown
from writeahead.cli.results import Results
from writeahead.cli.streams import print_json_line, say
from writeahead.errors import InvalidInput, StoreError
from writeahead.protocol.sweep import SweepResult

__all__ = ["Rounds", "Tools"]


@dataclass(frozen=True)
class Tools:
    """What sweeps, or a batch, work with.

    Attributes:
        work: Begins a sweep, or the batch.
        stop: Set by a signal.
        shown: Shows on stderr what goes on.
    """

    work: Callable[[], Generator[SweepResult, None, bool]]
    stop: threading.Event
    shown: RunsShown


@dataclass
class Rounds:
    """One sweep, or one every so many seconds until a signal comes; or a batch.

    Attributes:
        store: The store's name.
        begin: Opens what the work needs.
        every: Seconds from the begin of one to the begin of the next; None for one alone.
        advice: Says what to do next; None if there is nothing to do.
        source: Where the sessions of a batch are; None for a sweep, which finds them in the store.
    """

    store: str
    begin: Callable[[], AbstractContextManager[Tools]]
    every: float | None = None
    advice: Callable[[Results], str | None] = lambda _: None
    source: str | None = None
    _last: Results = field(default_factory=lambda: Results(iter(())))

    def document(self) -> dict[str, Any]:
        """Sweep once; return a JSON document.

        Raises:
            InvalidInput: There is no end, and so no one document.
        """
        if self.every is not None:
            raise InvalidInput("--every goes on until a signal comes: write --json-lines in place of --json")
        sessions = [one for _, found in self._results() for one in found.documents()]
        return {"store": self.store, "sessions": sessions, **self._totals()}

    def show(self, console: Console) -> None:
        """Sweep; print a line for each session that was not left, and the totals of each sweep."""
        for shown, found in self._results():
            found.show(console, around=shown.aside)
            if found.totals.total() > 1 or self.every is not None or found.stopped:
                render_many.show_sweep_totals(console, found.totals, found.reasons, stopped=found.stopped)
            elif not found.totals and found.failed is None:
                render_many.show_none(console, self.source or self.store, None if self.source else "open")
            if step := self.advice(found):
                render.show_next_step(console, step)

    def show_lines(self, _console: Console) -> None:
        """Sweep; print a line of JSON for each session, and one for the totals of each sweep."""
        for number, (shown, found) in enumerate(self._results(), start=1):
            for document in found.documents_as_they_come():
                _print_line({"type": "session", **document}, shown)
            totals = {"type": "totals", "round": number, "store": self.store, **self._totals()}
            _print_line(totals, shown)

    def exit_code(self) -> ExitCode:
        """Return that of the last sweep."""
        return self._last.exit_code()

    def _totals(self) -> dict[str, Any]:
        step = {} if self.source is None else {"next_step": self.advice(self._last)}
        return {**self._last.totals_document(), **step}

    def _results(self) -> Iterator[tuple[RunsShown, Results]]:
        with self.begin() as tools:
            while True:
                began = time.monotonic()
                self._last = found = Results(self._coded(tools))
                yield tools.shown, found
                if self.every is None or tools.stop.is_set():
                    return
                if tools.stop.wait(max(0.0, began + self.every - time.monotonic())):
                    return

    def _coded(self, tools: Tools) -> Iterator[tuple[SweepResult, ExitCode]]:
        found = self._last
        tools.shown.begin()
        is_through = False

        def results() -> Iterator[SweepResult]:
            nonlocal is_through
            is_through = yield from tools.work()

        try:
            for result in results():
                tools.shown.count(result)
                yield result, _code(result)
        except StoreError as error:
            if self.every is None:
                raise
            # The store may be back in the next round.
            for line in lines_of(error):
                say(line)
            found.failed = exit_code_of(error)
        # What was left with a word has its exit code from that.
        was_told = found.failed is not None or "left" in found.totals
        found.stopped = not is_through and (tools.stop.is_set() or not was_told)


def _print_line(document: dict[str, Any], shown: RunsShown) -> None:
    with shown.aside():
        print_json_line(document)


def _code(result: SweepResult) -> ExitCode:
    if result.refused:
        return ExitCode.USAGE
    if result.error:
        return ExitCode.FAILED
    if result.again:
        return ExitCode.OK  # another result follows
    if result.left:
        return ExitCode.LATER
    return exit_code_of_status(result.report.status) if result.report else ExitCode.OK
