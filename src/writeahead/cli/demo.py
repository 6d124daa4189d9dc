"""The command that shows the main job on a simulated remote system."""

from typing import Annotated

import typer
from rich.console import Console

from writeahead.cli.options import JsonOption
from writeahead.cli.output import Answer

__all__ = ["demo"]


def demo(
    *,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL|s3",
            help="Keep the artifacts there; s3 starts a server for the demo. By default a temporary folder.",
        ),
    ] = None,
    _json: JsonOption = False,
) -> Answer:
    """Watch a run fail half-way and be resumed.

    The third write to a simulated CRM fails until all attempts are used up. Then a new process
    resumes the session.
    """
    from writeahead.demo import run_demo

    quiet = Console(quiet=True)
    return Answer(lambda: run_demo(quiet, store=store), lambda console: run_demo(console, store=store))
