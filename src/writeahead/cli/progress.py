"""What a run tells while it runs, on stderr: one line that changes on a terminal, else a log."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from writeahead.cli.lines import shown_time
from writeahead.cli.streams import printable, say
from writeahead.errors import Applied
from writeahead.protocol.progress import (
    AttemptFailed,
    Confirmed,
    Ended,
    OnProgress,
    Planning,
    Progress,
    Sending,
    Waiting,
    WaitReason,
)
from writeahead.protocol.sweep import SweepResult

__all__ = ["RunsShown", "headline", "progress_shown", "runs_shown"]

# Seconds from which on their fractions are not shown.
_WHOLE = 10
_WHY = {
    WaitReason.BACKOFF: "before the next attempt",
    WaitReason.RETRY_AFTER: "as the remote asked",
    WaitReason.LATE_REQUEST: "as an earlier request could still take effect",
}


@contextlib.contextmanager
def progress_shown(*, quiet: bool) -> Iterator[OnProgress | None]:
    """Yield what shows the events of runs on stderr; None if it is to be quiet."""
    if quiet:
        yield None
        return
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if not _is_live(console):
        yield _log
        return
    status = _Status(console)
    try:
        yield status.show
    finally:
        status.clear()


class RunsShown:
    """Shows the runs of many sessions, some of them at the same time. Here it is a log, or nothing.

    Args:
        on_progress: Takes the events of the runs; None if it is to be quiet.
    """

    # Whether it says how far the work is.
    is_live = False

    def __init__(self, on_progress: OnProgress | None) -> None:
        self.on_progress = on_progress

    def begin(self) -> None:
        """Note that a new count begins."""

    def count(self, result: SweepResult) -> None:
        """Note that a session is done with."""

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Keep stderr quiet, and its terminal clean, while something else is printed."""
        yield


class _RunsOnTerminal(RunsShown):
    """One line at the bottom of a terminal: the count, the rate, the time left, the last event."""

    is_live = True

    def __init__(self, status: "_Status") -> None:
        super().__init__(self._show)
        self._status = status
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        self._began, self._done, self._found = time.monotonic(), 0, 0

    def count(self, result: SweepResult) -> None:
        self._done += not result.again
        self._found = result.found

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        with self._lock:  # threads of other runs wait that long
            self._status.clear()
            yield

    def _show(self, event: Progress) -> None:
        with self._lock:
            head = headline(self._done, self._found, time.monotonic() - self._began)
            self._status.show(event, head)


def headline(done: int, found: int, seconds: float) -> str:
    """How far it is: sessions done, sessions found, how many a second, and the time left.

    Where it is not known how many there are, there is no time left.
    """
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    if not found:
        return f"{done} sessions, {rate:.2g}/s; "
    left = timedelta(seconds=round(max(0, found - done) / rate))
    return f"{done} of {found} sessions, {rate:.2g}/s, {left} left; "


@contextlib.contextmanager
def runs_shown(*, quiet: bool) -> Iterator[RunsShown]:
    """Yield what shows on stderr what many runs do."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    if quiet or not _is_live(console):
        yield RunsShown(None if quiet else _log)
        return
    status = _Status(console)
    try:
        yield _RunsOnTerminal(status)
    finally:
        status.clear()


def _is_live(console: Console) -> bool:
    """Whether a line can be changed; FORCE_COLOR alone makes no terminal of a file."""
    is_open = sys.stderr is not None and not sys.stderr.closed
    return is_open and sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal


def _log(event: Progress) -> None:
    # What comes before and after, the command itself says.
    if not isinstance(event, Planning | Ended):
        say(f"{shown_time(event.at)} {_described(event)}")


class _Status:
    """One line at the bottom of a terminal. What failed stays above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def show(self, event: Progress, head: str = "") -> None:
        if isinstance(event, Ended):
            # The report comes next, and a sweep's next session begins a new line.
            self.clear()
            return
        # What failed stays, and how far the sweep was then is no part of it.
        head = "" if isinstance(event, AttemptFailed) else head
        line = Text(printable(head + _described(event)), no_wrap=True, overflow="ellipsis")
        if self._live is None:
            self._live = self._begun()
        if isinstance(event, AttemptFailed):
            self._console.print(line, soft_wrap=True)
        else:
            # The rest is drawn when the spinner turns: requests can be faster than a terminal.
            self._live.update(Spinner("line", line), refresh=isinstance(event, Waiting))

    def _begun(self) -> Live:
        # Not redirected: what a command answers belongs on stdout, not above this line.
        live = Live(console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False)
        live.start(refresh=True)
        # A second Ctrl-C exits at once, and would leave the terminal without a cursor.
        self._console.show_cursor()
        return live

    def clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _described(event: Progress) -> str:
    return f"{event.session_id}: {_place(event)}{_what(event)}"


def _place(event: Progress) -> str:
    if not event.operations:
        return "" if isinstance(event, Planning) else "planning: "
    one = len(event.operations) == 1
    about = event.operations[0] if one else f"{len(event.operations)} operations as one transaction"
    return f"{event.position}/{event.total} {about}: "


def _what(event: Progress) -> str:
    match event:
        case Planning():
            return f"planning {event.total} operations"
        case Sending():
            return "sending" if event.attempt == 1 else f"sending, attempt {event.attempt}"
        case AttemptFailed():
            unsure = "; it may have taken effect" if event.applied is Applied.UNKNOWN else ""
            return f"failed: {event.error}{unsure}"
        case Waiting():
            seconds = f"{event.seconds:.0f}" if event.seconds >= _WHOLE else f"{event.seconds:.2g}"
            return f"waiting {seconds} s, until {shown_time(event.until)}, {_WHY[event.reason]}"
        case Confirmed():
            return f"confirmed, {event.receipt.outcome}"
    return type(event).__name__
