"""The commands by which an operator decides about sessions: unblock and abandon."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Annotated

import typer

from writeahead.cli import options
from writeahead.cli.context import CommandContext
from writeahead.cli.many import Selection, Verb, answer_of_selection, with_selection
from writeahead.cli.output import Answer
from writeahead.errors import InvalidInput
from writeahead.model import Assume, RunReport, RunStatus
from writeahead.protocol.journal import require_reason
from writeahead.protocol.session import StoredSession
from writeahead.protocol.unblocking import abandon_session, unblock_session
from writeahead.stores.base import ArtifactStore

__all__ = ["abandon", "unblock"]


@options.with_context()
@with_selection
def unblock(
    *,
    selection: Selection,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why it may go on; kept in the journal.")
    ],
    assume: Annotated[
        list[str] | None,
        typer.Option(
            "--assume",
            metavar="applied|not-applied OPERATION",
            help="Whether an operation of unknown outcome took effect. Can be repeated.",
        ),
    ] = None,
    remote_id: Annotated[
        list[str] | None,
        typer.Option(
            "--remote-id",
            metavar="OPERATION=ID",
            help="The remote's id of an operation that was applied. Can be repeated.",
        ),
    ] = None,
    new_key: Annotated[
        list[str] | None,
        typer.Option(
            "--new-key",
            metavar="OPERATION",
            help="Send it under a new idempotency key. Only if it was not applied. Can be repeated.",
        ),
    ] = None,
    context: CommandContext,
) -> Answer:
    """Decide that a blocked session may be resumed."""
    require_reason("--reason", reason)
    if remote_id and selection.only is None:
        raise InvalidInput("--remote-id: an id belongs to one session: name that one alone")
    decide = partial(
        unblock_session,
        reason=reason,
        assume=_assumed(assume or []),
        remote_ids=dict(map(_pair, remote_id or [])),
        new_keys=new_key or [],
    )
    return answer_of_selection(selection, context, _decision((RunStatus.BLOCKED,), "unblock it", decide))


@options.with_context()
@with_selection
def abandon(
    *,
    selection: Selection,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why it is given up; kept in the journal.")
    ],
    context: CommandContext,
) -> Answer:
    """End a session for good, without completing it."""
    require_reason("--reason", reason)
    # A run that is active may well complete its session: --where status=in_progress says otherwise.
    statuses = (RunStatus.BLOCKED, RunStatus.RESUME_NEEDED)
    decide = partial(abandon_session, reason=reason)
    return answer_of_selection(selection, context, _decision(statuses, "abandon it", decide))


def _decision(statuses: tuple[RunStatus, ...], what: str, decide: Callable[..., RunReport]) -> Verb:
    """A verb that records a decision, and that is all: it has no exit code but 0."""

    def preview(store: ArtifactStore, session: StoredSession) -> str:
        decide(session.session_id, store=store, dry_run=True)
        entry = session.entry
        found = (entry.block_reason or entry.status, entry.error) if entry else ()
        return ": ".join([what, *(str(part) for part in found if part)])

    return Verb(statuses, preview, lambda store, _: nullcontext(partial(decide, store=store)))


def _assumed(given: list[str]) -> dict[str, Assume]:
    assumed: dict[str, Assume] = {}
    for pair in given:
        word, _, operation = pair.partition("=")
        if word not in tuple(Assume) or not operation:
            raise InvalidInput(
                "--assume: write --assume applied OPERATION, or --assume not-applied OPERATION"
            )
        if assumed.setdefault(operation, Assume(word)) is not Assume(word):
            raise InvalidInput(f"--assume: {operation} can't be both applied and not-applied")
    return assumed


def _pair(given: str) -> tuple[str, str]:
    operation, separator, remote_id = given.partition("=")
    if not (operation and separator and remote_id):
        raise InvalidInput("--remote-id: write --remote-id OPERATION=ID")
    return operation, remote_id
