"""The options that commands share. Each stands here once, with its help text."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand

from writeahead.cli.completion import adapter_names, session_ids
from writeahead.cli.context import CommandContext
from writeahead.cli.output import Answer
from writeahead.errors import InvalidInput

__all__ = [
    "AdapterOption",
    "AssumeCommand",
    "ConcurrencyOption",
    "IntervalOption",
    "JsonLinesOption",
    "JsonOption",
    "LimitOption",
    "MaxTimeOption",
    "MissingOkOption",
    "QuietOption",
    "SessionArgument",
    "StoreOption",
    "WriteOption",
    "seconds_of",
    "with_context",
]

SessionArgument: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="SESSION_ID", show_default=False, help="The session's id.", autocompletion=session_ids
    ),
]
JsonOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")
]
MissingOkOption: TypeAlias = Annotated[
    bool, typer.Option("--missing-ok", help="Take a store that is not there for an empty one.")
]
WriteOption: TypeAlias = Annotated[
    bool, typer.Option("--write", help="Send the writes. Without it, only show what would be sent.")
]
ConcurrencyOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--concurrency", metavar="N", help="How many sessions at once, at most; 1 by default."),
]
LimitOption: TypeAlias = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Try so many sessions, at most.")
]
MaxTimeOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--max-time", metavar="TIME", help="End after this time, such as 90s, 5m or 1h."),
]
JsonLinesOption: TypeAlias = Annotated[
    bool, typer.Option("--json-lines", help="Print a line of JSON for each session, then the totals.")
]
IntervalOption: TypeAlias = Annotated[
    str, typer.Option("--interval", metavar="TIME", help="How long from one look to the next: 5s.")
]
QuietOption: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on stderr.")]

StoreOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="Where artifacts are kept: a folder or s3://bucket/prefix."),
]
AdapterOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        metavar="NAME|module:factory",
        help="The adapter for the remote system, e.g. dataverse, or your own.",
        autocompletion=adapter_names,
    ),
]
_CONFIG = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The settings file; by default writeahead.toml."),
]
# The flags that are fields of `RunPolicy`, under the fields' names.
_POLICY: dict[str, Any] = {
    "attempts": Annotated[
        int | None, typer.Option("--attempts", metavar="N", help="Attempts per operation, at most.")
    ],
    "run_limit": Annotated[
        float | None,
        typer.Option("--run-limit", metavar="SECONDS", help="Time limit for the whole run."),
    ],
    "lease": Annotated[
        float | None,
        typer.Option(
            "--lease", metavar="SECONDS", help="How long after its last journal entry a run owns the session."
        ),
    ],
    "journal_interval": Annotated[
        float | None,
        typer.Option(
            "--journal-interval",
            metavar="SECONDS",
            help="How long receipts may wait for the next journal entry; 0: none waits.",
        ),
    ],
    "max_in_flight": Annotated[
        int | None,
        typer.Option(
            "--max-in-flight", metavar="N", help="Independent operations that may be under way at once."
        ),
    ],
    # As earlier versions said it; for one version more.
    "journal": Annotated[str | None, typer.Option("--journal", hidden=True)],
    "wait_initial": Annotated[
        float | None,
        typer.Option("--wait-initial", metavar="SECONDS", help="Wait before the second attempt."),
    ],
    "wait_max": Annotated[
        float | None,
        typer.Option("--wait-max", metavar="SECONDS", help="Longest wait between two attempts."),
    ],
    "waits": Annotated[
        str | None,
        typer.Option(
            "--waits",
            metavar="SECONDS,...",
            help="The waits between attempts, such as 1,5,15, in place of the two above.",
        ),
    ],
    "retry_after_max": Annotated[
        float | None,
        typer.Option(
            "--retry-after-max",
            metavar="SECONDS",
            help="The longest Retry-After that is waited for; a longer one ends the run for now.",
        ),
    ],
}

_Command: TypeAlias = Callable[..., Answer]


def seconds_of(given: str | None, flag: str) -> float | None:
    """Read a length of time: a number of seconds, or one with a unit.

    Raises:
        InvalidInput: It is none.
    """
    if given is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)([smh]?)", given.strip())
    if found is None or float(found[1]) <= 0:
        raise InvalidInput(f"{flag} {given}: write a length of time above 0, such as 90, 90s, 5m or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def with_context(
    *, store: bool = True, adapter: bool = False, policy: bool = False, checked: bool = True
) -> Callable[[_Command], _Command]:
    """Give a command the shared options, which reach it as the one argument ``context``.

    Args:
        store: Whether the command has ``--store``.
        adapter: Whether it has ``--adapter``.
        policy: Whether it has the flags of `RunPolicy`.
        checked: Whether wrong settings are an error, or for the command to look at.

    Returns:
        A decorator. It also adds ``--config``, and ``--json``, which `dispatch` looks at.
    """
    before = ({"store": StoreOption} if store else {}) | ({"adapter": AdapterOption} if adapter else {})
    after = (_POLICY if policy else {}) | {"config": _CONFIG}

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_flags(**given: Any) -> Answer:
            del given["as_json"]
            flags = {name: given.pop(name) for name in (*before, *after)}
            return command(**given, context=CommandContext(checked=checked, **flags))

        # What Typer reads instead of the wrapper's own.
        parameters = _parameters(command, before, after)
        with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {item.name: item.annotation for item in parameters}
        return with_flags

    return decorate


def _parameters(
    command: _Command, before: Mapping[str, Any], after: Mapping[str, Any]
) -> list[inspect.Parameter]:
    """Return the command's own parameters between the shared ones, without ``context``."""
    own = [item for name, item in inspect.signature(command).parameters.items() if name != "context"]
    return [
        *(item for item in own if item.kind is not inspect.Parameter.KEYWORD_ONLY),
        *(_flag(name, annotation) for name, annotation in before.items()),
        *(item for item in own if item.kind is inspect.Parameter.KEYWORD_ONLY),
        *(_flag(name, annotation) for name, annotation in after.items()),
        _flag("as_json", JsonOption, default=False),
    ]


def _flag(name: str, annotation: Any, *, default: Any = None) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


class AssumeCommand(TyperCommand):
    """A command whose ``--assume`` takes two values each time: ``--assume applied 3-mail``.

    Typer has no lists of pairs, so the two become one, ``applied=3-mail``, before they are parsed.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `typer.core.TyperCommand`."""
        joined: list[str] = []
        rest = iter(args)
        for argument in rest:
            joined.append(argument)
            if argument == "--assume":
                decision, operation = f"{next(rest, '')}=", next(rest, "")
                # An option in the operation's place stays an option, so that the message is about
                # --assume.
                joined += [decision, operation] if operation.startswith("-") else [decision + operation]
        return super().parse_args(ctx, joined)
