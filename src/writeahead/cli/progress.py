"""What a run tells while it runs, on stderr: one line that changes on a terminal, else a log."""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from writeahead.cli.render import shown_time
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

__all__ = ["progress_shown"]

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

    def show(self, event: Progress) -> None:
        if isinstance(event, Ended):
            # The report comes next, and a sweep's next session begins a new line.
            self.clear()
            return
        line = Text(printable(_described(event)), no_wrap=True, overflow="ellipsis")
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
