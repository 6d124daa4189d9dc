"""The command that resumes all unfinished sessions of a store."""

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status
from writeahead.cli.output import Answer, report_document
from writeahead.cli.signals import stop_on_signals
from writeahead.cli.streams import printable
from writeahead.errors import InvalidInput, ResumeError, StoreError
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import Session, read_session
from writeahead.protocol.sweep import (
    OnOwn,
    SweepAction,
    SweepResult,
    candidates,
    lost_marker,
    sweep,
    sweep_step,
)
from writeahead.stores.base import ArtifactStore

__all__ = ["sweep_sessions"]

_WORST_FIRST = (ExitCode.FAILED, ExitCode.BLOCKED, ExitCode.LATER)


@options.with_context(adapter=True)
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
    codes: list[int] = []

    def results() -> Iterator[SweepResult]:
        adapter = context.adapter() if needs_adapter else contextlib.nullcontext()
        with adapter as opened_adapter, stop_on_signals() as stop:
            for result in sweep(
                opened,
                opened_adapter,
                policy=context.settings.policy,
                on_own=on_own,
                scan=scan,
                stop=stop,
            ):
                codes.append(_sweep_code(result))
                yield result
            if stop.is_set():
                codes.append(ExitCode.LATER)

    found = results()

    def show(console: Console) -> None:
        result = None
        try:
            for result in found:
                render.show_sweep_result(console, result)
        finally:
            # A reader of the output that leaves early must not end the sweep.
            deque(found, maxlen=0)
        if result is None:
            render.show_none(console, opened.name, "open")

    return Answer(
        lambda: {"store": opened.name, "sessions": [_sweep_document(result) for result in found]},
        show,
        lambda: next((code for code in _WORST_FIRST if code in codes), ExitCode.OK),
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
                session = read_session(store, found.session_id)
            except (ResumeError, StoreError) as error:
                yield found.session_id, f"leave it: {error}"
                continue
            if found.is_marked:
                yield found.session_id, _step(session)
            elif lost_marker(session):
                yield found.session_id, f"restore its marker, then {_step(session)}"

    def _step(session: Session) -> str:
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


def _sweep_document(result: SweepResult) -> dict[str, Any]:
    report = report_document(result.report) if result.report else None
    return {
        "session_id": result.session_id,
        "note": result.note,
        "error": result.error,
        "restored": result.restored,
        "report": report,
    }
