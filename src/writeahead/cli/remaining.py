"""The command that prints what a session still lacks, as a session file."""

import json
from typing import Annotated, Any

import typer

from writeahead.cli import options
from writeahead.cli.context import CommandContext
from writeahead.cli.output import Answer
from writeahead.cli.session_file import SessionFile, read_session_file
from writeahead.cli.streams import say
from writeahead.errors import InvalidInput
from writeahead.model import in_words
from writeahead.protocol.keys import require_session_id
from writeahead.protocol.retry import Clock
from writeahead.protocol.unblocking import existing_session
from writeahead.report.remaining import Asked, Remaining, remaining_operations

__all__ = ["remaining"]

# No session can have it, so that a file in which it was left is refused.
_PLACEHOLDER = "<a new session id>"


@options.with_context()
def remaining(
    session_id: options.SessionArgument,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            show_default=False,
            help="The file that the session was run from: its payloads are taken, not the planned ones.",
        ),
    ] = None,
    *,
    new_id: Annotated[
        str | None, typer.Option("--as", metavar="NEW_ID", help="The id of the session to be.")
    ] = None,
    context: CommandContext,
) -> Answer:
    """Print a session file of what a session still lacks.

    Correct it, and run it under a new id. What is uncertain is said on stderr.
    """
    if new_id is not None and require_session_id(new_id) == session_id:
        raise InvalidInput("--as: it is the id of the session that was not completed: choose another one")
    given = _given(file, session_id)
    found = remaining_operations(
        existing_session(context.store(), session_id),
        now=Clock().now(),
        clock_skew=context.settings.policy.clock_skew,
        asked=Asked(given.operations, given.identity, given.namespace) if given else None,
    )
    for warning in found.warnings:
        say(f"warning: {warning}")
    session = _session_file(found, new_id, given)
    return Answer(
        lambda: {
            "session": session,
            "attempted": {name: in_words(at) for name, at in found.attempted.items()},
            "warnings": list(found.warnings),
        },
        lambda console: console.out(json.dumps(session, indent=2, ensure_ascii=True), highlight=False),
    )


def _given(file: str | None, session_id: str) -> SessionFile | None:
    if file is None:
        return None
    given = read_session_file(file)
    if given.session_id != session_id:
        raise InvalidInput(f"{file}: it is the file of session {given.session_id}, not of {session_id}")
    return given


def _session_file(found: Remaining, new_id: str | None, given: SessionFile | None) -> dict[str, Any]:
    more = given.model_dump(mode="json", include={"identity", "namespace"}) if given else {}
    return {
        "session_id": new_id or _PLACEHOLDER,
        "operations": [operation.model_dump(mode="json") for operation in found.operations],
        **{name: value for name, value in more.items() if value not in (None, "")},
    }
