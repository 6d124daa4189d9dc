"""The command that resumes all unfinished sessions of a store."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from rich.console import Console

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status
from writeahead.cli.output import Answer, report_document
from writeahead.cli.signals import stop_on_signals
from writeahead.cli.streams import printable
from writeahead.errors import ResumeError, StoreError
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import read_session
from writeahead.protocol.sweep import SweepAction, SweepResult, sweep, sweep_step, unfinished_sessions
from writeahead.stores.base import ArtifactStore

__all__ = ["sweep_sessions"]

_WORST_FIRST = (ExitCode.FAILED, ExitCode.BLOCKED, ExitCode.LATER)


@options.with_context(adapter=True)
def sweep_sessions(*, write: options.WriteOption = False, context: CommandContext) -> Answer:
    """Resume every session that needs it.

    Without --write, show what would be done.
    """
    opened = context.store(writing=write)
    if not write:
        return _sweep_preview(opened, context)
    codes: list[int] = []

    def results() -> Iterator[SweepResult]:
        with context.adapter() as opened_adapter, stop_on_signals() as stop:
            for result in sweep(opened, opened_adapter, policy=context.settings.policy, stop=stop):
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


def _sweep_document(result: SweepResult) -> dict[str, Any]:
    report = report_document(result.report) if result.report else None
    return {"session_id": result.session_id, "note": result.note, "error": result.error, "report": report}
