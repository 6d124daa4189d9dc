"""The commands by which an operator decides about one session: unblock and abandon."""

from typing import Annotated

import typer

from writeahead.cli import options
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.output import Answer
from writeahead.cli.sessions import answer_of, require_reason
from writeahead.errors import InvalidInput
from writeahead.model import Assume
from writeahead.protocol.unblocking import abandon_session, unblock_session

__all__ = ["abandon", "unblock"]


@options.with_context()
def unblock(
    session_id: options.SessionArgument,
    *,
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
    report = unblock_session(
        session_id,
        store=context.store(),
        reason=reason,
        assume=_assumed(assume or []),
        remote_ids=dict(map(_pair, remote_id or [])),
        new_keys=new_key or [],
    )
    # The decision is recorded, and that is all that this command is for.
    return answer_of(report, context, exit_code=ExitCode.OK)


@options.with_context()
def abandon(
    session_id: options.SessionArgument,
    *,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why it is given up; kept in the journal.")
    ],
    context: CommandContext,
) -> Answer:
    """End a session for good, without completing it."""
    require_reason("--reason", reason)
    report = abandon_session(session_id, store=context.store(), reason=reason)
    return answer_of(report, context, exit_code=ExitCode.OK)


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
