"""From arguments to an exit code: run a command, print its answer or its failure."""

import io
import os
import sys
import traceback
from typing import Any

import typer

from writeahead.cli.app import app
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of, lines_of
from writeahead.cli.output import Answer, print_answer
from writeahead.cli.streams import print_failure, say, write_guarded

__all__ = ["dispatch"]

# Typer has a click of its own in some versions, and uses the public one in others.
_UsageError = typer.BadParameter.__bases__[0]


def dispatch(arguments: list[str]) -> int:
    """Run the command that the arguments name; print its answer; return the exit code."""
    as_json = "--json" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal's encoding lacks must not turn an answer into a failure.
            stream.reconfigure(errors="backslashreplace")
    try:
        if not arguments or "--help" in arguments:
            # The one text that click prints by itself.
            return write_guarded(lambda: _invoke(arguments or ["--help"]), lambda: ExitCode.OK)
        answer = _invoke(arguments)
        if isinstance(answer, Answer):
            return print_answer(answer, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: every failure has its line and its exit code
        return _fail(error, as_json=as_json)
    return int(answer or 0)


def _invoke(arguments: list[str]) -> Any:
    # Not `app(arguments)`: it would take a broken pipe of any kind for one of stdout, and exit.
    command = typer.main.get_command(app)
    try:
        with command.make_context("writeahead", arguments) as context:
            return command.invoke(context)
    except typer.Exit as end:
        return end.exit_code


def _fail(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, _UsageError):
        code, kind, lines = ExitCode.USAGE, "UsageError", _usage_lines(error)
    else:
        code, kind, lines = exit_code_of(error), type(error).__name__, lines_of(error)
    if os.environ.get("WRITEAHEAD_DEBUG") == "1":
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line)
    return print_failure(lines, kind, code, as_json=as_json)


def _usage_lines(error: Any) -> list[str]:
    message = " ".join(error.format_message().split())
    command = error.ctx.command_path if error.ctx else "writeahead"
    return [f"error: {message}", f"See '{command} --help'."]
