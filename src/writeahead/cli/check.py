"""The command that proves a store."""

from dataclasses import asdict

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.output import Answer

__all__ = ["check"]


@options.with_context()
def check(*, context: CommandContext) -> Answer:
    """Test whether a store is safe to use."""
    found = context.store().check()
    return Answer(
        lambda: {
            "store": found.store,
            "ok": found.ok,
            "results": [asdict(result) for result in found.results],
        },
        lambda console: render.show_check(console, found),
        lambda: ExitCode.OK if found.ok else ExitCode.FAILED,
    )
