"""The command that resumes all unfinished sessions of a store."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.engine import EngineOption, SchedulerOption, require_fitting, sweeps_on_engine
from writeahead.cli.output import Answer
from writeahead.cli.progress import runs_shown
from writeahead.cli.rounds import Rounds, Tools
from writeahead.cli.signals import stop_on_signals
from writeahead.cli.streams import print_json_line, printable
from writeahead.errors import InvalidInput, ResumeError, StoreError
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import StoredSession, read_stored
from writeahead.protocol.settling import OnOwn
from writeahead.protocol.steps import SweepAction, lost_marker, sweep_step
from writeahead.protocol.sweep import SweepResult, sweep
from writeahead.protocol.turns import candidates
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
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            metavar="N",
            help="How many sessions at once, at most; by default 1, or as many as an engine's workers can.",
        ),
    ] = None,
    limit: options.LimitOption = None,
    max_time: options.MaxTimeOption = None,
    until_done: Annotated[
        bool,
        typer.Option("--until-done", help="Wait for what has to wait, until only blocked ones are left."),
    ] = False,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="TIME", help="Sweep again each time so much has passed: 60s."),
    ] = None,
    json_lines: options.JsonLinesOption = False,
    engine: EngineOption = None,
    scheduler: SchedulerOption = None,
    missing_ok: options.MissingOkOption = False,
    quiet: options.QuietOption = False,
    context: CommandContext,
) -> Answer:
    """Resume every session that needs it.

    Without --write, show what would be done.
    """
    seconds = options.seconds_of(every, "--every")
    if seconds is not None and (until_done or not write):
        raise InvalidInput(
            "--every repeats what --write does: " + ("add --write" if not write else "leave out --until-done")
        )
    require_fitting(engine, scheduler, own)
    opened = context.existing_store(missing_ok=missing_ok, writing=write)
    if not write:
        return _sweep_preview(opened, context, scan=scan, as_lines=json_lines)
    how: dict[str, Any] = {
        "policy": context.settings.policy,
        "scan": scan,
        "limit": limit,
        "max_time": options.seconds_of(max_time, "--max-time"),
        "until_done": until_done,
    }

    @contextlib.contextmanager
    def begin() -> Iterator[Tools]:
        # On an engine the signals come first: its start takes seconds.
        if engine:
            with (
                stop_on_signals() as stop,
                sweeps_on_engine(context, scheduler, concurrency) as begun,
                runs_shown(quiet=quiet) as shown,
            ):
                yield Tools(functools.partial(begun, stop=stop, **how), stop, shown)
            return
        with (
            _sweeps_here(opened, context, own, 1 if concurrency is None else concurrency) as begun,
            stop_on_signals() as stop,
            runs_shown(quiet=quiet) as shown,
        ):
            on_progress = shown.on_progress
            yield Tools(functools.partial(begun, stop=stop, on_progress=on_progress, **how), stop, shown)

    rounds = Rounds(opened.name, begin, seconds)
    return Answer(rounds.document, rounds.show_lines if json_lines else rounds.show, rounds.exit_code)


@contextlib.contextmanager
def _sweeps_here(
    opened: ArtifactStore, context: CommandContext, own: str | None, concurrency: int
) -> Iterator[Callable[..., Generator[SweepResult, None, bool]]]:
    on_own = _function(own, context) if own else None
    # With --own, an adapter is needed for the other sessions only.
    needs_adapter = own is None or context.settings.adapter is not None
    with context.adapter() if needs_adapter else contextlib.nullcontext() as adapter:
        yield functools.partial(sweep, opened, adapter, on_own=on_own, concurrency=concurrency)


def _function(name: str, context: CommandContext) -> OnOwn:
    found = context.loaded(name, "--own")
    if not callable(found):
        raise InvalidInput(f"--own {name}: it can't be called: name a function of store and session id")
    return found


def _sweep_preview(store: ArtifactStore, context: CommandContext, *, scan: bool, as_lines: bool) -> Answer:
    def steps() -> Iterator[tuple[str, str]]:
        return _steps(store, scan=scan, clock_skew=context.settings.policy.clock_skew)

    def documents() -> Iterator[dict[str, str]]:
        return ({"session_id": session_id, "step": step} for session_id, step in steps())

    def show(console: Console) -> None:
        step = None
        for session_id, step in steps():
            console.print(printable(f"{session_id}  {step}"))
        if step is None:
            render.show_none(console, store.name, "open")
        else:
            console.print("Nothing was done. Add --write to do it.")

    def show_lines(_console: Console) -> None:
        for document in documents():
            print_json_line({"type": "session", **document})

    return Answer(
        lambda: {"store": store.name, "sessions": list(documents())},
        show_lines if as_lines else show,
    )


def _steps(store: ArtifactStore, *, scan: bool, clock_skew: float) -> Iterator[tuple[str, str]]:
    """What would be done about each session."""

    def step_of(session: StoredSession) -> str:
        action, note = sweep_step(session, now=Clock().now(), clock_skew=clock_skew)
        return f"leave it: {note}" if action in (SweepAction.SKIP, SweepAction.WAIT) else note

    for found in candidates(store, scan=scan):
        try:
            session = read_stored(store, found.session_id)
        except (ResumeError, StoreError) as error:
            yield found.session_id, f"leave it: {error}"
            continue
        if found.is_marked:
            yield found.session_id, step_of(session)
        elif lost_marker(session):
            yield found.session_id, f"restore its marker, then {step_of(session)}"
