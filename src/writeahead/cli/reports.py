"""What a command answers about one session that it ran, resumed or decided about."""

from writeahead.cli import render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status
from writeahead.cli.output import Answer, report_document
from writeahead.model import RunReport
from writeahead.report.page import next_step

__all__ = ["answer_of"]


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
