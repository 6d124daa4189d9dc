"""The command that removes the artifacts of sessions that ended long ago."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console

from writeahead.cli import options, render_many
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.output import Answer
from writeahead.cli.signals import stop_on_signals
from writeahead.errors import InvalidInput
from writeahead.model import in_words
from writeahead.protocol.pruning import YOUNGEST, PruneResult, prune
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store

__all__ = ["age_of", "prune_sessions"]

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d{1,6})([hdw])", re.ASCII)


@options.with_context()
def prune_sessions(
    *,
    older_than: Annotated[
        str,
        typer.Option("--older-than", metavar="AGE", help="How long ago they must have ended: 12h, 90d, 52w."),
    ],
    archive: Annotated[
        str | None,
        typer.Option("--archive", metavar="URL", help="First copy what is to be kept to this store."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="End after so many sessions.")
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Do it. Without it, only show what would be done.")
    ] = False,
    missing_ok: options.MissingOkOption = False,
    context: CommandContext,
) -> Answer:
    """Remove the artifacts of sessions that ended long ago.

    Only of completed and abandoned ones. A tombstone stays of each, so that its id stays closed.
    """
    age = age_of(older_than)
    store = context.existing_store(missing_ok=missing_ok, writing=write)
    kept = _opened(archive)
    totals: Counter[str] = Counter()
    stopped = False

    def results() -> Iterator[PruneResult]:
        nonlocal stopped
        with stop_on_signals() as stop:
            for result in prune(store, age, archive=kept, dry_run=not write, limit=limit, stop=stop):
                word = "failed" if result.error else "sessions"
                totals.update({word: 1, "objects": result.objects, "bytes": result.size})
                yield result
            stopped = stop.is_set()

    def show(console: Console) -> None:
        for result in results():
            render_many.show_prune_result(console, result)
        render_many.show_prune_totals(console, store.name, totals, stopped=stopped, done=write)

    def document() -> dict[str, Any]:
        return {
            "store": store.name,
            "sessions": [_document(result) for result in results()],
            "totals": {word: totals[word] for word in ("sessions", "failed", "objects", "bytes")},
            "written": write,
            "stopped": stopped,
        }

    def exit_code() -> ExitCode:
        if totals["failed"]:
            return ExitCode.FAILED
        return ExitCode.LATER if stopped else ExitCode.OK

    return Answer(document, show, exit_code)


def _opened(archive: str | None) -> ArtifactStore | None:
    try:
        return open_store(archive) if archive is not None else None
    except InvalidInput as error:
        raise InvalidInput(f"--archive: {error}") from error


def age_of(given: str) -> timedelta:
    """Read an age such as 90d.

    Raises:
        InvalidInput: It is none, or too short.
    """
    found = _AGE.fullmatch(given)
    if found is None:
        raise InvalidInput(
            f"--older-than: {given!r} is no age: write a whole number and h, d or w, such as 12h, 90d or 52w"
        )
    age = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if age < YOUNGEST:
        raise InvalidInput(f"--older-than: {given} is too short: 1h at least")
    return age


def _document(result: PruneResult) -> dict[str, Any]:
    document = asdict(result)
    return document | {
        name: in_words(value) for name, value in document.items() if isinstance(value, datetime)
    }
