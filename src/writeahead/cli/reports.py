"""What a command answers about a session, and what it says to do next."""

from writeahead.cli import render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status
from writeahead.cli.output import Answer, report_document
from writeahead.model import RunReport, RunStatus
from writeahead.protocol.finding import SessionSummary
from writeahead.report.page import next_step
from writeahead.report.session import Session

__all__ = ["answer_of", "next_step_of"]


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


def next_step_of(
    session: Session | SessionSummary, context: CommandContext, *, marked: bool = True
) -> str | None:
    """Say what to do next about a session that was read; None if there is nothing to do.

    Args:
        session: The session.
        context: Names the flags that a next command needs.
        marked: Whether its marker is there; a summary knows that by itself.
    """
    if session.status in (None, RunStatus.COMPLETED):
        return None
    is_open = session.status is not RunStatus.ABANDONED
    if isinstance(session, SessionSummary):
        marked = session.marked
    if is_open and not marked:
        scan = f"writeahead sweep {context.options()}".rstrip()
        return f"its marker is lost, so no sweep sees it: {scan} --scan --write"
    return next_step(
        session.session_id,
        session.status,
        block_reason=session.block_reason,
        operation=session.operation,
        not_before=session.not_before,
        planned=session.pruned_at is None,
        own=session.own,
        options=context.options(),
        resume_options=context.resume_options(session.adapter),
    )
