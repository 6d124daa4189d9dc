"""The command that writes a store's sessions as one HTML file."""

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from writeahead._extras import requires_extra
from writeahead.cli import options, render
from writeahead.cli.completion import session_ids as known_ids
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.new_file import refuse_existing, write_new_file
from writeahead.cli.output import Answer
from writeahead.cli.reports import next_step_of
from writeahead.errors import InvalidInput
from writeahead.protocol.dispatch import Bounds
from writeahead.protocol.finding import State
from writeahead.protocol.retry import Clock
from writeahead.report.html.gather import LIMIT, Wanted, gather
from writeahead.report.html.rows import is_marked

__all__ = ["html_report"]

_STDOUT = "-"
# Payloads are as secret in this file as in the artifacts.
_MODES = {True: 0o600, False: 0o644}


@options.with_context()
def html_report(
    session_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SESSION_ID]...",
            show_default=False,
            help="These sessions only.",
            autocompletion=known_ids,
        ),
    ] = None,
    *,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="The file to write or replace; - is stdout.")
    ] = None,
    state: Annotated[
        State | None, typer.Option("--state", help="Only sessions in this state, as for list.")
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=1, help="Read so many sessions, at most.", show_default=True
        ),
    ] = LIMIT,
    with_payloads: Annotated[
        bool,
        typer.Option("--with-payloads", help="Put payloads and the values of receipts into the file, too."),
    ] = False,
    concurrency: options.ConcurrencyOption = None,
    missing_ok: options.MissingOkOption = False,
    context: CommandContext,
) -> Answer:
    """Write the sessions of a store as one HTML page.

    The page needs no network. By default it has every session that is not at its end, and the
    newest 20 completed ones; of the others it has the number. That costs one listing of the store
    (of the markers alone with --state open). Each session on the page costs a listing and about six
    requests, and one more for each of its journal entries.
    """
    if html is None:
        raise InvalidInput("name the file to write: --html report.html, or --html - for stdout")
    bounds = Bounds(1 if concurrency is None else concurrency, limit)
    path = None if html == _STDOUT else Path(html)
    if path:
        refuse_existing(path, force=True)
    with requires_extra("the HTML report", "report"):
        from writeahead.report.html.render import render as render_html
    store = context.existing_store(missing_ok=missing_ok)
    report = gather(
        store,
        Wanted(session_ids or (), state, limit, with_payloads, bounds.concurrency),
        now=Clock().now(),
        clock_skew=context.settings.policy.clock_skew,
        version=version("writeahead"),
        next_step=lambda page: next_step_of(page, context, marked=is_marked(page)),
    )
    text = render_html(report)
    if path:
        write_new_file(path, text, force=True, mode=_MODES[with_payloads])

    def show(console: Console) -> None:
        if path:
            render.show_file(console, path)
        else:
            console.file.write(text + "\n")

    return Answer(
        lambda: {
            "file": path and str(path),
            "sessions": len(report.sessions),
            "unread": sum(one.count for one in report.unread),
            "html": None if path else text,
        },
        show,
        lambda: ExitCode.FAILED if report.failed else ExitCode.OK,
    )
