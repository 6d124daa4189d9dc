"""From arguments to an exit code: run a command, print its answer or its failure."""

import io
import os
import sys
import traceback
from typing import Any

import typer
from shellingham import ShellDetectionFailure  # with it Typer finds the shell

from writeahead.cli.app import app
from writeahead.cli.arguments import ValueMissingError, given_options
from writeahead.cli.completion import COMPLETION_VARIABLE, complete
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of, lines_of
from writeahead.cli.output import Answer, print_answer
from writeahead.cli.streams import print_failure, say, write_guarded
from writeahead.errors import InvalidInput

__all__ = ["dispatch"]

# What click prints by itself, where a command would return an `Answer`.
_PRINTED_BY_CLICK = {"--help", "--install-completion", "--show-completion"}
# Typer has a click of its own in some versions, and uses the public one in others.
_UsageError = typer.BadParameter.__bases__[0]


def dispatch(arguments: list[str]) -> int:
    """Run the command that the arguments name; print its answer; return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the terminal's encoding lacks must not turn an answer into a failure.
            stream.reconfigure(errors="backslashreplace")
    command = typer.main.get_command(app)
    if COMPLETION_VARIABLE in os.environ:
        return complete(command)
    given, missing = given_options(command, arguments)
    as_json = "--json" in given
    if missing:
        return _fail(missing, as_json=as_json)
    try:
        if not arguments or given & _PRINTED_BY_CLICK:
            return _let_click_print(command, arguments or ["--help"])
        answer = _invoke(command, arguments)
        return print_answer(answer, as_json=as_json) if isinstance(answer, Answer) else int(answer or 0)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last resort: every failure has its line and its exit code
        return _fail(error, as_json=as_json)


def _let_click_print(command: Any, arguments: list[str]) -> int:
    failed = False

    def show() -> None:
        nonlocal failed
        try:
            failed = bool(_invoke(command, arguments))
        except SystemExit as end:  # as the options about completion end
            failed = bool(end.code)
        except ShellDetectionFailure:  # later versions of Typer print it, and exit
            failed = True

    code = write_guarded(show, lambda: ExitCode.OK)
    if failed:
        raise InvalidInput("completion is for a shell that it is started from: bash, zsh, fish or PowerShell")
    return code


def _invoke(command: Any, arguments: list[str]) -> Any:
    # Not `app(arguments)`: it would take a broken pipe of any kind for one of stdout, and exit.
    try:
        with command.make_context("writeahead", arguments) as context:
            return command.invoke(context)
    except typer.Exit as end:
        return end.exit_code


def _fail(error: Exception, *, as_json: bool) -> int:
    if isinstance(error, (_UsageError, ValueMissingError)):
        code, kind, lines = ExitCode.USAGE, "UsageError", _usage_lines(error)
    else:
        code, kind, lines = exit_code_of(error), type(error).__name__, lines_of(error)
    if os.environ.get("WRITEAHEAD_DEBUG") == "1":
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line)
    return print_failure(lines, kind, code, as_json=as_json)


def _usage_lines(error: Any) -> list[str]:
    if isinstance(error, ValueMissingError):
        message, command = str(error), error.command
    else:
        message = " ".join(error.format_message().split())
        command = error.ctx.command_path if error.ctx else "writeahead"
    return [f"error: {message}", f"See '{command} --help'."]
