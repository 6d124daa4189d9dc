"""The options that commands share."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer
from typer.core import TyperCommand

__all__ = [
    "AdapterOption",
    "AssumeCommand",
    "AssumeOption",
    "AttemptsOption",
    "ConfigOption",
    "JournalOption",
    "JsonOption",
    "LeaseOption",
    "RunLimitOption",
    "SessionArgument",
    "StoreOption",
    "WaitInitialOption",
    "WaitMaxOption",
    "WriteOption",
]

_POLICY = "How hard to try"

SessionArgument: TypeAlias = Annotated[str, typer.Argument(metavar="SESSION_ID", show_default=False)]
StoreOption: TypeAlias = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="A folder, or e.g. s3://bucket/prefix.")
]
AdapterOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--adapter", metavar="NAME|module:factory", help="Whose system is written to."),
]
ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings, instead of writeahead.toml."),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")
]
WriteOption: TypeAlias = Annotated[
    bool, typer.Option("--write", help="Do it. Without this nothing is sent, and it is shown what would be.")
]
AtomicOption: TypeAlias = Annotated[
    bool, typer.Option("--atomic", help="As one transaction: all operations take effect, or none.")
]
AttemptsOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--attempts", metavar="N", help="Requests for one operation.", rich_help_panel=_POLICY),
]
RunLimitOption: TypeAlias = Annotated[
    float | None,
    typer.Option("--run-limit", metavar="SECONDS", help="The longest that all may take together."),
]
LeaseOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--lease", metavar="SECONDS", help="How long the run may stay silent before another takes over."
    ),
]
JournalOption: TypeAlias = Annotated[
    Literal["every", "batched"] | None,
    typer.Option("--journal", help="An entry after each operation, or receipts wait for the next entry."),
]
WaitInitialOption: TypeAlias = Annotated[
    float | None, typer.Option("--wait-initial", metavar="SECONDS", help="Wait before the second attempt.")
]
WaitMaxOption: TypeAlias = Annotated[
    float | None, typer.Option("--wait-max", metavar="SECONDS", help="The longest wait between two attempts.")
]
AssumeOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--assume",
        metavar="applied|not-applied OPERATION",
        help="What you found out about an operation. Can be given again for others.",
    ),
]


class AssumeCommand(TyperCommand):
    """A command whose ``--assume`` takes two values each time: ``--assume applied 3-mail``.

    Typer has no lists of pairs; so the two become one, ``applied=3-mail``, before they are parsed.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `typer.core.TyperCommand`."""
        joined: list[str] = []
        rest = iter(args)
        for argument in rest:
            joined.append(argument)
            if argument == "--assume":
                joined.append(f"{next(rest, '')}=")
                operation = next(rest, "")
                # An option where the operation should be stays one, so that the message is about
                # --assume.
                joined[-1:] = (
                    [joined[-1], operation] if operation.startswith("-") else [joined[-1] + operation]
                )
        return super().parse_args(ctx, joined)
