"""The command that lists the sessions of a store."""

from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.output import Answer
from writeahead.cli.reports import next_step_of
from writeahead.model import in_words
from writeahead.protocol.finding import SessionSummary, State, find_sessions
from writeahead.protocol.retry import Clock

__all__ = ["list_sessions"]


@options.with_context()
def list_sessions(
    *,
    state: Annotated[
        State | None,
        typer.Option(
            "--state",
            help="Only sessions in this state; open is every state but completed and abandoned, own is those"
            " of an orchestrator of its own; pruned ones are in no other list.",
        ),
    ] = None,
    missing_ok: options.MissingOkOption = False,
    context: CommandContext,
) -> Answer:
    """List the sessions of a store."""
    opened = context.existing_store(missing_ok=missing_ok)
    sessions = find_sessions(opened, state, clock_skew=context.settings.policy.clock_skew)
    now = Clock().now()

    def show(console: Console) -> None:
        summary = None
        for summary in sessions:
            render.show_summary(console, summary, now=now, next_step=next_step_of(summary, context))
        if summary is None:
            render.show_none(console, opened.name, state)

    def document() -> dict[str, Any]:
        return {"store": opened.name, "sessions": [_document(one, now, context) for one in sessions]}

    return Answer(document, show)


def _document(summary: SessionSummary, now: datetime, context: CommandContext) -> dict[str, Any]:
    age = (now - summary.planned_at).total_seconds() if summary.planned_at else None
    document = {field.name: getattr(summary, field.name) for field in fields(summary)}
    document["stops"] = [stop.model_dump(mode="json") for stop in summary.stops]
    times = {name: in_words(value) for name, value in document.items() if isinstance(value, datetime)}
    return {**document, **times, "age": age, "next_step": next_step_of(summary, context)}
