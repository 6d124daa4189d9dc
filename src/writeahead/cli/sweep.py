"""The command that resumes all unfinished sessions of a store."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer
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
from writeahead.errors import InvalidInput, ResumeError, StoreError
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import StoredSession, read_stored
from writeahead.protocol.settling import OnOwn, SweepAction, lost_marker, sweep_step
from writeahead.protocol.sweep import SweepResult, candidates, sweep
from writeahead.stores.base import ArtifactStore

__all__ = ["sweep_sessions"]


@options.with_context(adapter=True, policy=True)
def sweep_sessions(
    *,
    write: options.WriteOption = False,
    own: Annotated[
        str | None,
        typer.Option(
            "--own",
            metavar="module:function",
            help="Called with store and session id, to resume a session of an orchestrator of its own.",
        ),
    ] = None,
    scan: Annotated[
        bool,
        typer.Option("--scan", help="List the whole store, and restore the markers that were lost."),
    ] = False,
    missing_ok: options.MissingOkOption = False,
    quiet: options.QuietOption = False,
    context: CommandContext,
) -> Answer:
    """Resume every session that needs it.

    Without --write, show what would be done.
    """
    opened = context.existing_store(missing_ok=missing_ok, writing=write)
    if not write:
        return _sweep_preview(opened, context, scan=scan)
    on_own = _function(own, context) if own else None
    # With --own, an adapter is needed for the other sessions only.
    needs_adapter = own is None or context.settings.adapter is not None

    def results() -> Iterator[tuple[SweepResult, ExitCode]]:
        with (
            context.adapter() if needs_adapter else contextlib.nullcontext() as adapter,
            stop_on_signals() as stop,
            progress_shown(quiet=quiet) as on_progress,
        ):
            for result in sweep(
                opened,
                adapter,
                policy=context.settings.policy,
                on_own=on_own,
                scan=scan,
                stop=stop,
                on_progress=on_progress,
            ):
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


def _function(name: str, context: CommandContext) -> OnOwn:
    found = context.loaded(name, "--own")
    if not callable(found):
        raise InvalidInput(f"--own {name}: it can't be called: name a function of store and session id")
    return found


def _sweep_preview(store: ArtifactStore, context: CommandContext, *, scan: bool) -> Answer:
    def steps() -> Iterator[tuple[str, str]]:
        for found in candidates(store, scan=scan):
            try:
                session = read_stored(store, found.session_id)
            except (ResumeError, StoreError) as error:
                yield found.session_id, f"leave it: {error}"
                continue
            if found.is_marked:
                yield found.session_id, _step(session)
            elif lost_marker(session):
                yield found.session_id, f"restore its marker, then {_step(session)}"

    def _step(session: StoredSession) -> str:
        skew = context.settings.policy.clock_skew
        action, note = sweep_step(session, now=Clock().now(), clock_skew=skew)
        return f"leave it: {note}" if action in (SweepAction.SKIP, SweepAction.WAIT) else note

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
