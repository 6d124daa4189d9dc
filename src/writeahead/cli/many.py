"""Commands on one session or on many: named, from a file, or chosen by how they stand.

One session that is named is dealt with at once. Of many, a command shows what it would do, and does
it with ``--write``. One bad session does not stop the others.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console

from writeahead.cli import render_many
from writeahead.cli.completion import session_ids
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of, lines_of
from writeahead.cli.output import Answer
from writeahead.cli.reports import answer_of
from writeahead.cli.results import Results
from writeahead.cli.session_file import read_lines
from writeahead.cli.signals import stop_on_signals
from writeahead.errors import InvalidInput, WriteaheadError
from writeahead.model import BlockReason, RunReport, RunStatus
from writeahead.protocol.finding import unfinished_sessions
from writeahead.protocol.keys import require_session_id
from writeahead.protocol.retry import Clock
from writeahead.protocol.session import StoredSession, read_stored
from writeahead.protocol.sweep import SweepResult
from writeahead.protocol.unblocking import existing_session
from writeahead.stores.base import ArtifactStore

__all__ = ["Selection", "Verb", "answer_of_selection", "with_selection"]

# What --where can ask for, and the words that each takes; None for any.
_CONDITIONS: Mapping[str, type[StrEnum] | None] = {
    "reason": BlockReason,
    "status": RunStatus,
    "adapter": None,
}
_FLAGS: Mapping[str, Any] = {
    "from_file": Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Read the ids from a file, one a line; - reads stdin."),
    ],
    "every": Annotated[
        bool, typer.Option("--all", help="Every unfinished session that this can be done to.")
    ],
    "where": Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="KEY=VALUE",
            help="With --all: only those with this reason, status or adapter. Can be repeated.",
        ),
    ],
    "write": Annotated[
        bool,
        typer.Option("--write", help="Do it to many sessions. Without it, only show what would be done."),
    ],
}
# With the exit code that it would have alone.
_Result: TypeAlias = tuple[SweepResult, ExitCode]
_IDS = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SESSION_ID",
        show_default=False,
        help="The session's id, or several.",
        autocompletion=session_ids,
    ),
]


@dataclass(frozen=True)
class Selection:
    """Which sessions a command is for.

    Attributes:
        ids: Those that were named, in order.
        every: Choose among all unfinished ones instead.
        where: What must be true of these: see ``--where``.
        write: Do it, rather than show it.
        is_listed: The names come from a file.
    """

    ids: tuple[str, ...] = ()
    every: bool = False
    where: Mapping[str, str] = field(default_factory=dict)
    write: bool = False
    is_listed: bool = False

    @property
    def only(self) -> str | None:
        """The one session that was named on the command line, which needs no preview."""
        is_one = len(self.ids) == 1 and not self.is_listed
        return self.ids[0] if is_one else None

    def matches(self, session: StoredSession, status: RunStatus) -> bool:
        """Whether the conditions hold."""
        entry = session.entry
        is_so = {
            "reason": entry.block_reason if entry else None,
            "status": status,
            "adapter": session.plan.adapter if session.plan else None,
        }
        return all(is_so[key] == value for key, value in self.where.items())


@dataclass(frozen=True)
class Verb:
    """What a command does to a session.

    Attributes:
        statuses: Which sessions ``--all`` means, unless ``--where`` says it.
        preview: Says in one line what it would do, without doing it; raises where it can't be done.
        begin: Opens what is needed to do it, given an event that ends the work; yields what does it
            to a session.
        exit_code: The exit code of a report.
    """

    statuses: tuple[RunStatus, ...]
    preview: Callable[[ArtifactStore, StoredSession], str]
    begin: Callable[[ArtifactStore, threading.Event], AbstractContextManager[Callable[[str], RunReport]]]
    exit_code: Callable[[RunReport], ExitCode] = lambda _: ExitCode.OK


def answer_of_selection(selection: Selection, context: CommandContext, verb: Verb) -> Answer:
    """Do something to the sessions of a selection, or show what would be done."""
    store = context.existing_store() if selection.every else context.store()
    if selection.only is None:
        return _answer_of_many(selection, store, context, verb)
    with stop_on_signals() as stop, verb.begin(store, stop) as carry_out:
        report = carry_out(selection.only)
    return answer_of(report, context, exit_code=verb.exit_code(report))


def _answer_of_many(
    selection: Selection, store: ArtifactStore, context: CommandContext, verb: Verb
) -> Answer:
    def preview(session_id: str) -> _Result:
        note = verb.preview(store, existing_session(store, session_id))
        return SweepResult(session_id, note=note), ExitCode.OK

    def results() -> Iterator[_Result]:
        chosen = _chosen(selection, store, context, verb)
        if not selection.write:
            yield from (_guarded(one, preview) for one in chosen)
            return
        with stop_on_signals() as stop, verb.begin(store, stop) as carry_out:

            def do(session_id: str) -> _Result:
                report = carry_out(session_id)
                return SweepResult(session_id, report=report), verb.exit_code(report)

            for one in chosen:
                if stop.is_set():
                    found.stopped = True
                    return
                yield _guarded(one, do)

    found = Results(results())

    def show(console: Console) -> None:
        found.show(console)
        render_many.show_totals(
            console, store.name, found.totals, stopped=found.stopped, done=selection.write
        )

    return Answer(
        lambda: {
            "store": store.name,
            "sessions": found.documents(),
            "totals": dict(found.totals),
            "written": selection.write,
            "stopped": found.stopped,
        },
        show,
        found.exit_code,
    )


def _chosen(
    selection: Selection, store: ArtifactStore, context: CommandContext, verb: Verb
) -> Iterator[str | _Result]:
    """The sessions of a selection. Of one that can't be read that is the result.

    It may not be meant, and it may be read the next time: so nothing must be done to it.
    """
    if not selection.every:
        yield from selection.ids
        return
    # All names first: what is done to a session changes the markers, which are what is listed.
    for session_id in list(unfinished_sessions(store)):
        try:
            session = read_stored(store, session_id)
        except WriteaheadError as error:
            yield _failed(session_id, error)
            continue
        status = session.status(Clock().now(), context.settings.policy.clock_skew)
        is_meant = "status" in selection.where or status in verb.statuses
        if session.plan and is_meant and selection.matches(session, status):
            yield session_id


def _guarded(chosen: str | _Result, do: Callable[[str], _Result]) -> _Result:
    if not isinstance(chosen, str):
        return chosen
    try:
        return do(chosen)
    except Exception as error:  # noqa: BLE001 - a bug that one session meets must not starve the others
        return _failed(chosen, error)


def _failed(session_id: str, error: Exception) -> _Result:
    message = lines_of(error)[0].removeprefix("error: ")
    return SweepResult(session_id, error=message), exit_code_of(error)


def with_selection(command: Callable[..., Answer]) -> Callable[..., Answer]:
    """Give a command the ids and the flags above, which reach it as the argument ``selection``."""

    @functools.wraps(command)
    def with_flags(ids: list[str] | None, **given: Any) -> Answer:
        flags = {name: given.pop(name) for name in _FLAGS}
        return command(selection=_selection(ids or [], **flags), **given)

    own = [item for name, item in inspect.signature(command).parameters.items() if name != "selection"]
    defaults = {"every": False, "write": False}
    with_flags.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter("ids", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=_IDS),
            *(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=defaults.get(name),
                    annotation=annotation,
                )
                for name, annotation in _FLAGS.items()
            ),
            *own,
        ]
    )
    return with_flags


def _selection(
    ids: list[str], *, from_file: str | None, every: bool, where: list[str] | None, write: bool
) -> Selection:
    ways = sum((bool(ids), from_file is not None, every))
    if ways != 1:
        ask = "name sessions, or read them --from FILE, or take --all"
        raise InvalidInput(f"{ask}: one of the three" if ways else ask)
    if where and not every:
        raise InvalidInput("--where chooses among --all: add --all, or leave it out")
    for session_id in ids:
        require_session_id(session_id)
    if from_file is not None:
        ids = _ids_from(from_file)
    # An id that is named twice is meant once.
    names = tuple(dict.fromkeys(ids))
    conditions = dict(map(_condition, where or []))
    return Selection(names, every, conditions, write, is_listed=from_file is not None)


def _ids_from(name: str) -> list[str]:
    ids = []
    for number, line in read_lines(name):
        try:
            ids.append(require_session_id(line))
        except InvalidInput as error:
            raise InvalidInput(f"{name}: line {number}: {error}") from None
    if not ids:
        raise InvalidInput(f"{name}: it names no session: write one id a line")
    return ids


def _condition(given: str) -> tuple[str, str]:
    key, _, value = given.partition("=")
    if key not in _CONDITIONS or not value:
        raise InvalidInput(f"--where: write KEY=VALUE, with a key of {', '.join(_CONDITIONS)}")
    words = _CONDITIONS[key]
    if words is not None and value not in tuple(words):
        raise InvalidInput(f"--where {key}: there is no {value!r}, only: {', '.join(words)}")
    return key, value
