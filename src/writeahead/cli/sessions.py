"""The commands about one session."""

from typing import Annotated

import typer

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status
from writeahead.cli.output import Answer, report_document
from writeahead.cli.session_file import read_session_file
from writeahead.cli.signals import stop_on_signals
from writeahead.errors import InvalidInput
from writeahead.model import RunReport
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.retry import Clock
from writeahead.protocol.runner import write_back
from writeahead.report.page import next_step, read_page

__all__ = ["answer_of", "require_reason", "resume", "run", "show"]


@options.with_context(adapter=True, policy=True)
def run(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The session as JSON; - reads stdin.")],
    *,
    write: options.WriteOption = False,
    atomic: Annotated[
        bool, typer.Option("--atomic", help="Use one transaction: all writes take effect, or none.")
    ] = False,
    context: CommandContext,
) -> Answer:
    """Plan the writes of a session and, with --write, send them."""
    session = read_session_file(file)
    artifacts = context.store(writing=write)
    with context.adapter() as opened, stop_on_signals() as stop:
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
        )
    return answer_of(report, context)


@options.with_context(adapter=True, policy=True)
def resume(
    session_id: options.SessionArgument,
    *,
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
    context: CommandContext,
) -> Answer:
    """Send the writes that a session still lacks.

    This needs no --write, because the plan was made by a run with --write.
    """
    for flag, reason in (("--take-over", take_over), ("--now", now)):
        if reason is not None:
            require_reason(flag, reason)
    artifacts = context.store()
    with context.adapter() as opened, stop_on_signals() as stop:
        report = resume_session(
            session_id,
            store=artifacts,
            adapter=opened,
            policy=context.settings.policy,
            take_over=take_over,
            now=now,
            stop=stop,
        )
    return answer_of(report, context)


@options.with_context()
def show(session_id: options.SessionArgument, *, context: CommandContext) -> Answer:
    """Show a session: operations, history, artifacts, next step."""
    page = read_page(
        context.store(), session_id, now=Clock().now(), clock_skew=context.settings.policy.clock_skew
    )
    last = page.history[-1] if page.history else None
    step = next_step(
        session_id,
        page.status,
        block_reason=page.block_reason,
        operation=last.operation if last else None,
        not_before=page.not_before,
        own=page.own,
        options=context.options(),
        resume_options=context.resume_options(page.adapter),
    )
    return Answer(
        lambda: {**page.model_dump(mode="json"), "next_step": step},
        lambda console: render.show_page(console, page, next_step=step),
        lambda: ExitCode.FAILED if page.problem else ExitCode.OK,
    )


def require_reason(flag: str, reason: str) -> None:
    """Refuse an empty reason: the journal keeps it for later readers.

    Raises:
        InvalidInput: It is empty.
    """
    if not reason.strip():
        raise InvalidInput(f"{flag}: say why, in a few words; it is kept in the journal")


def answer_of(report: RunReport, context: CommandContext, *, exit_code: ExitCode | None = None) -> Answer:
    """Make a report what a command answers, with the next step.

    Args:
        report: How the session stands.
        context: Names the flags that a next command needs.
        exit_code: By default the one of the report's status.
    """
    step = next_step(
        report.session_id,
        report.status,
        block_reason=report.block_reason,
        operation=report.operation,
        not_before=report.not_before,
        planned=bool(report.operations),
        options=context.options(),
        resume_options=context.resume_options(),
    )
    code = exit_code_of_status(report.status) if exit_code is None else exit_code
    return Answer(
        lambda: {**report_document(report), "next_step": step},
        lambda console: render.show_report(console, report, next_step=step),
        lambda: code,
    )
