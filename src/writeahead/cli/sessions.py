"""The commands about one session."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

import typer

from writeahead.cli import options, render
from writeahead.cli.batch import BatchOptions, answer_of_batch
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status
from writeahead.cli.following import answer_of_following
from writeahead.cli.many import Selection, Verb, answer_of_selection, with_selection
from writeahead.cli.output import Answer
from writeahead.cli.progress import progress_shown
from writeahead.cli.reports import answer_of, next_step_of
from writeahead.cli.session_file import read_session_file
from writeahead.cli.signals import stop_on_signals
from writeahead.errors import InvalidInput
from writeahead.model import RunReport, RunStatus
from writeahead.protocol.dispatch import Bounds
from writeahead.protocol.journal import require_reason
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.retry import Clock
from writeahead.protocol.runner import write_back
from writeahead.protocol.session import StoredSession
from writeahead.protocol.steps import sweep_step
from writeahead.report.page import read_page
from writeahead.stores.base import ArtifactStore

__all__ = ["resume", "run", "show"]


@options.with_context(adapter=True, policy=True)
def run(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The session as JSON; - reads stdin.")
    ] = None,
    *,
    write: options.WriteOption = False,
    atomic: Annotated[
        bool,
        typer.Option(
            "--atomic", help="One transaction for each session: all its writes take effect, or none."
        ),
    ] = False,
    batch: Annotated[
        str | None,
        typer.Option(
            "--batch", metavar="FILE.jsonl", help="A file with a session on each line; - reads stdin."
        ),
    ] = None,
    concurrency: options.ConcurrencyOption = None,
    limit: options.LimitOption = None,
    max_time: options.MaxTimeOption = None,
    json_lines: options.JsonLinesOption = False,
    quiet: options.QuietOption = False,
    context: CommandContext,
) -> Answer:
    """Plan the writes of a session and, with --write, send them.

    With --batch, of all sessions in a file of JSON Lines. A line that is wrong costs that line.
    """
    if (file is None) == (batch is None):
        ask = "name a FILE with a session, or give --batch FILE.jsonl with one on each line"
        raise InvalidInput(ask if file is None else f"{ask}: one of the two")
    if batch is not None:
        seconds = options.seconds_of(max_time, "--max-time")
        bounds = Bounds(1 if concurrency is None else concurrency, limit, seconds)
        how = BatchOptions(write=write, atomic=atomic, as_lines=json_lines, quiet=quiet)
        return answer_of_batch(batch, context, bounds, how)
    for_many = {
        "--concurrency": concurrency,
        "--limit": limit,
        "--max-time": max_time,
        "--json-lines": json_lines or None,
    }
    for flag, value in for_many.items():
        if value is not None:
            raise InvalidInput(f"{flag} is for many sessions: add --batch FILE.jsonl, or leave it out")
    assert file is not None
    session = read_session_file(file)
    artifacts = context.store(writing=write)
    with context.adapter() as opened, stop_on_signals() as stop, progress_shown(quiet=quiet) as on_progress:
        report = write_back(
            session.operations,
            session_id=session.session_id,
            store=artifacts,
            adapter=opened,
            policy=context.settings.policy,
            dry_run=not write,
            atomic=atomic,
            identity=session.identity,
            namespace=session.namespace,
            stop=stop,
            on_progress=on_progress,
        )
    return answer_of(report, context)


@options.with_context(adapter=True, policy=True)
@with_selection
def resume(
    *,
    selection: Selection,
    take_over: Annotated[
        str | None,
        typer.Option(
            "--take-over", metavar="REASON", help="Do not wait for the lease of a run that is gone; say why."
        ),
    ] = None,
    now: Annotated[
        str | None,
        typer.Option("--now", metavar="REASON", help="Do not wait as long as the remote asked; say why."),
    ] = None,
    quiet: options.QuietOption = False,
    context: CommandContext,
) -> Answer:
    """Send the writes that a session still lacks.

    One session that is named needs no --write, because its plan was made by a run with --write.
    """
    for flag, reason in (("--take-over", take_over), ("--now", now)):
        if reason is not None:
            require_reason(flag, reason)
    policy = context.settings.policy

    def preview(_store: ArtifactStore, session: StoredSession) -> str:
        return sweep_step(session, now=Clock().now(), clock_skew=policy.clock_skew)[1]

    @contextlib.contextmanager
    def begin(store: ArtifactStore, stop: threading.Event) -> Iterator[Callable[[str], RunReport]]:
        with context.adapter() as adapter, progress_shown(quiet=quiet) as on_progress:
            yield partial(
                resume_session,
                store=store,
                adapter=adapter,
                policy=policy,
                take_over=take_over,
                now=now,
                stop=stop,
                on_progress=on_progress,
            )

    verb = Verb((RunStatus.RESUME_NEEDED,), preview, begin, lambda report: exit_code_of_status(report.status))
    return answer_of_selection(selection, context, verb)


@options.with_context()
def show(
    session_id: options.SessionArgument,
    *,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what is new until no run is active in it.")
    ] = False,
    interval: options.IntervalOption = "1s",
    context: CommandContext,
) -> Answer:
    """Show a session: operations, history, artifacts, next step."""
    if follow:
        return answer_of_following(session_id, context, options.seconds_of(interval, "--interval") or 0.0)
    page = read_page(
        context.store(), session_id, now=Clock().now(), clock_skew=context.settings.policy.clock_skew
    )
    step = next_step_of(page, context)
    return Answer(
        lambda: {**page.model_dump(mode="json"), "next_step": step},
        lambda console: render.show_page(console, page, next_step=step),
        lambda: ExitCode.FAILED if page.problem else ExitCode.OK,
    )
