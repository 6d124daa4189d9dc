"""The command that resumes all unfinished sessions of a store."""

from collections.abc import Iterator

from rich.console import Console

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status
from writeahead.cli.output import Answer
from writeahead.cli.progress import progress_shown
from writeahead.cli.results import Results
from writeahead.cli.signals import stop_on_signals
from writeahead.cli.streams import printable
from writeahead.errors import ResumeError, StoreError
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import read_session
from writeahead.protocol.sweep import SweepAction, SweepResult, sweep, sweep_step, unfinished_sessions
from writeahead.stores.base import ArtifactStore

__all__ = ["sweep_sessions"]


@options.with_context(adapter=True)
def sweep_sessions(
    *, write: options.WriteOption = False, quiet: options.QuietOption = False, context: CommandContext
) -> Answer:
    """Resume every session that needs it.

    Without --write, show what would be done.
    """
    opened = context.store(writing=write)
    if not write:
        return _sweep_preview(opened, context)

    def results() -> Iterator[tuple[SweepResult, ExitCode]]:
        with (
            context.adapter() as adapter,
            stop_on_signals() as stop,
            progress_shown(quiet=quiet) as on_progress,
        ):
            policy = context.settings.policy
            for result in sweep(opened, adapter, policy=policy, stop=stop, on_progress=on_progress):
                yield result, _sweep_code(result)
            found.stopped = stop.is_set()

    found = Results(results())

    def show(console: Console) -> None:
        found.show(console)
        if not found.totals:
            render.show_none(console, opened.name, "open")

    return Answer(
        lambda: {"store": opened.name, "sessions": found.documents()},
        show,
        found.exit_code,
    )


def _sweep_preview(store: ArtifactStore, context: CommandContext) -> Answer:
    def steps() -> Iterator[tuple[str, str]]:
        for session_id in unfinished_sessions(store):
            try:
                session = read_session(store, session_id)
                skew = context.settings.policy.clock_skew
                action, note = sweep_step(session, now=Clock().now(), clock_skew=skew)
                left = action in (SweepAction.SKIP, SweepAction.WAIT)
                yield session_id, f"leave it: {note}" if left else note
            except (ResumeError, StoreError) as error:
                yield session_id, f"leave it: {error}"

    def show(console: Console) -> None:
        step = None
        for session_id, step in steps():
            console.print(printable(f"{session_id}  {step}"))
        if step is None:
            render.show_none(console, store.name, "open")
        else:
            console.print("Nothing was done. Add --write to do it.")

    return Answer(
        lambda: {
            "store": store.name,
            "sessions": [{"session_id": session_id, "step": step} for session_id, step in steps()],
        },
        show,
    )


def _sweep_code(result: SweepResult) -> ExitCode:
    if result.error:
        return ExitCode.FAILED
    return exit_code_of_status(result.report.status) if result.report else ExitCode.OK
