"""What goes on in a session, or in all open ones, shown until it ends."""

import threading
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status, lines_of
from writeahead.cli.output import Answer
from writeahead.cli.reports import next_step_of
from writeahead.cli.signals import stop_on_signals
from writeahead.cli.streams import print_json_line, printable, say
from writeahead.errors import InvalidInput, StoreError
from writeahead.model import RunStatus, in_words
from writeahead.protocol.retry import Clock
from writeahead.report.following import Follower, Watcher
from writeahead.report.page import read_page
from writeahead.report.session import Session
from writeahead.stores.base import ArtifactStore

__all__ = ["answer_of_following", "watch"]

# Lines of a terminal that the table's frame takes.
_FRAME = 6


def answer_of_following(session_id: str, context: CommandContext, every: float) -> Answer:
    """Show a session, then each new journal entry until no run is active in it, then its end.

    Args:
        session_id: The session.
        context: Names the store.
        every: Seconds from one look to the next.
    """
    store, skew = context.store(), context.settings.policy.clock_skew
    code: int = ExitCode.OK

    def show(console: Console) -> None:
        nonlocal code
        with stop_on_signals() as stop:
            page = read_page(store, session_id, now=Clock().now(), clock_skew=skew)
            render.show_page(console, page, next_step=next_step_of(page, context))
            console.file.flush()
            if page.problem:
                code = ExitCode.FAILED
                return
            follower = Follower(store, session_id, clock_skew=skew)
            # What came between the two reads is told, too.
            follower.tell_from(page.history[-1].number if page.history else 0)
            _follow(console, follower, stop, every)
        last = follower.session()
        if page.status is RunStatus.IN_PROGRESS and not stop.is_set():
            render.show_end(console, last, next_step=next_step_of(last, context))
        if last.status is not None:
            code = exit_code_of_status(last.status)

    def document() -> dict[str, Any]:
        raise InvalidInput("--follow goes on until the session's run ends: leave out --json")

    return Answer(document, show, lambda: code)


def _follow(console: Console, follower: Follower, stop: threading.Event, every: float) -> None:
    confirmed = {*follower.session().receipts}
    while True:
        for entry in follower.look():
            render.show_entry(console, entry, [name for name in entry.receipts if name not in confirmed])
            console.file.flush()
            confirmed |= entry.receipts.keys()
        if not follower.is_active or stop.wait(every):
            return


@options.with_context()
def watch(
    *,
    interval: options.IntervalOption = "5s",
    json_lines: Annotated[
        bool, typer.Option("--json-lines", help="Print a line of JSON for each change.")
    ] = False,
    missing_ok: options.MissingOkOption = False,
    context: CommandContext,
) -> Answer:
    """Show all open sessions, and what changes, until Ctrl-C.

    On a terminal it is a table, else a line for each change.
    """
    every = options.seconds_of(interval, "--interval") or 0.0
    store = context.existing_store(missing_ok=missing_ok)
    watcher = Watcher(store, clock_skew=context.settings.policy.clock_skew)

    def show(console: Console) -> None:
        with stop_on_signals() as stop:
            if console.is_terminal and not json_lines and not console.is_dumb_terminal:
                _show_table(console, watcher, stop, every, store)
                return
            for session in _changes(watcher, stop, every):
                if json_lines:
                    print_json_line(_document(session, session.session_id in watcher.open, context))
                else:
                    render.show_change(console, session, Clock().now())
                    console.file.flush()

    def document() -> dict[str, Any]:
        raise InvalidInput("watch goes on until a signal comes: write --json-lines in place of --json")

    return Answer(document, show)


def _changes(watcher: Watcher, stop: threading.Event, every: float) -> Iterator[Session]:
    while True:
        try:
            yield from watcher.look()
        except StoreError as error:
            # The store may be back at the next look.
            for line in lines_of(error):
                say(line)
        if stop.wait(every):
            return


def _document(session: Session, is_open: bool, context: CommandContext) -> dict[str, Any]:  # noqa: FBT001 - one caller
    return {
        "type": "session",
        "session_id": session.session_id,
        "open": is_open,
        "status": session.status and session.status.value,
        "block_reason": session.block_reason and session.block_reason.value,
        "confirmed": len(session.receipts),
        "operations": len(session.operations),
        "operation": session.operation,
        "adapter": session.adapter,
        "error": session.problem or session.error,
        "not_before": in_words(session.not_before) if session.not_before else None,
        "next_step": next_step_of(session, context),
    }


def _show_table(
    console: Console, watcher: Watcher, stop: threading.Event, every: float, store: ArtifactStore
) -> None:
    problem = ""
    with Live(console=console, transient=False, auto_refresh=False, redirect_stderr=False) as live:
        # A second Ctrl-C exits at once, and would leave the terminal without a cursor.
        console.show_cursor()
        while True:
            try:
                for _ in watcher.look():
                    pass
                problem = ""
            except StoreError as error:
                problem = lines_of(error)[0]
            live.update(_table(watcher, store, problem, console.height - _FRAME), refresh=True)
            if stop.wait(every):
                return


# What needs an operator comes first.
_ORDER = (None, RunStatus.BLOCKED, RunStatus.RESUME_NEEDED, RunStatus.IN_PROGRESS)


def _table(watcher: Watcher, store: ArtifactStore, problem: str, most: int) -> Table:
    sessions = sorted(
        watcher.open.values(),
        key=lambda one: (_ORDER.index(one.status) if one.status in _ORDER else len(_ORDER), one.session_id),
    )
    more = len(sessions) - max(most, 1)
    caption = (
        f"{len(sessions)} open{f', {more} not shown' if more > 0 else ''}, {render.shown_time(Clock().now())}"
    )
    table = Table(
        title=Text(printable(store.name)),
        caption=Text(printable(problem or caption), "red" if problem else "dim"),
        box=box.SIMPLE,
    )
    for column in ("status", "done", "session", "note"):
        table.add_column(
            column, no_wrap=True, overflow="ellipsis", justify="right" if column == "done" else "left"
        )
    for session in sessions[: max(most, 1)]:
        status, count, name, note = render.change_row(session)
        table.add_row(
            Text(status, render.style_of(status)), count, Text(printable(name)), Text(printable(note))
        )
    return table
