"""The command that prints a store's metrics for Prometheus."""

from writeahead.cli import options
from writeahead.cli.context import CommandContext
from writeahead.cli.output import Answer
from writeahead.protocol.finding import State, find_sessions
from writeahead.protocol.retry import Clock
from writeahead.report.metrics import OpenSessions

__all__ = ["metrics"]


@options.with_context()
def metrics(*, missing_ok: options.MissingOkOption = False, context: CommandContext) -> Answer:
    """Print metrics of a store's open sessions for Prometheus."""
    opened, clock = context.existing_store(missing_ok=missing_ok), Clock()
    sessions = find_sessions(opened, State.OPEN, clock_skew=context.settings.policy.clock_skew, clock=clock)
    # All of it is found out before anything is printed: a part of it would be wrong.
    found = OpenSessions.of(opened.name, sessions, clock.now())
    return Answer(found.document, lambda console: console.out(found.text(), end="", highlight=False))
