"""Which arguments are options, and which are values of options.

Click gives an option the next argument as its value, whatever that is, and means to:
https://github.com/pallets/click/issues/2307. So ``list --store --json`` would read a folder named
``--json``. Here, what looks like an option is one; ``--store=--json`` still names that folder.
"""

from collections.abc import Sequence
from typing import Any

__all__ = ["ValueMissingError", "given_options"]


class ValueMissingError(Exception):
    """An option stands where the value of another belongs.

    Attributes:
        command: The command with its path, e.g. ``writeahead list``.
    """

    def __init__(self, option: str, following: str, command: str) -> None:
        self.command = command
        super().__init__(
            f"Option '{option}' needs a value, but '{following}' follows. "
            f"If that is the value, write {option}={following}"
        )


def given_options(group: Any, arguments: Sequence[str]) -> tuple[set[str], ValueMissingError | None]:
    """Tell the options among the arguments from commands, values and what follows ``--``.

    Args:
        group: The click command that all commands are in.
        arguments: The arguments, without the program's name.

    Returns:
        The names of the options, known or not; and the first option without its value, if any.
    """
    found: set[str] = set()
    missing: ValueMissingError | None = None
    command, path = group, "writeahead"
    valued = _valued(command)
    rest = list(reversed(arguments))
    while rest:
        argument = rest.pop()
        if argument == "--":
            break
        if not argument.startswith("-") or argument == "-":
            inner = getattr(command, "commands", {}).get(argument)
            if inner is not None:
                command, path, valued = inner, f"{path} {argument}", _valued(inner)
            continue
        name, separator, _ = argument.partition("=")
        found.add(name)
        if name in valued and not separator and rest:
            if _looks_like_option(rest[-1]):
                missing = missing or ValueMissingError(name, rest[-1], path)
            else:
                rest.pop()
    return found, missing


def _valued(command: Any) -> set[str]:
    options = (item for item in command.params if item.param_type_name == "option" and not item.is_flag)
    return {name for option in options for name in option.opts}


def _looks_like_option(argument: str) -> bool:
    """Tell ``--store`` from a text such as ``-- see the ticket`` and from a number below 0."""
    name = argument.partition("=")[0]
    return name.startswith("--") and not any(map(str.isspace, name))
