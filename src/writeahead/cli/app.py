"""All the commands. Each returns an `Answer`, which is printed elsewhere.

The first line of a command's docstring is its line in ``writeahead --help``. It has at most 60
characters, because Click cuts longer lines off on a terminal of 80 columns.
"""

from typing import Annotated, Any

import typer

from writeahead.cli import options, sessions
from writeahead.cli.check import check
from writeahead.cli.dataverse import approve, discover, doctor
from writeahead.cli.decisions import abandon, unblock
from writeahead.cli.demo import demo
from writeahead.cli.following import watch
from writeahead.cli.html_report import html_report
from writeahead.cli.init import init
from writeahead.cli.listing import list_sessions
from writeahead.cli.metrics import metrics
from writeahead.cli.prune import prune_sessions
from writeahead.cli.remaining import remaining
from writeahead.cli.show_settings import settings
from writeahead.cli.simulate import simulate_dataverse
from writeahead.cli.sweep import sweep_sessions
from writeahead.cli.version import print_version

__all__ = ["app"]

_PLAIN: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
app = typer.Typer(**_PLAIN | {"add_completion": True})
_simulators = typer.Typer(**_PLAIN)
_environments = typer.Typer(**_PLAIN)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        raise typer.Exit(print_version())


@app.callback()
def _app(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """A write-ahead log for side effects on systems you don't own."""


@_simulators.callback()
def _simulate() -> None:
    """Run a simulated remote system on this machine."""


@_environments.callback()
def _dataverse() -> None:
    """Look at a Dataverse environment."""


app.command()(sessions.run)
app.command()(sessions.resume)
app.command("list")(list_sessions)
app.command()(sessions.show)
app.command("report")(html_report)
app.command()(watch)
app.command(cls=options.AssumeCommand)(unblock)
app.command()(abandon)
app.command()(remaining)
app.command()(metrics)
app.command("sweep")(sweep_sessions)
app.command("prune")(prune_sessions)
app.command()(check)
app.command()(init)
app.command()(settings)
app.command()(demo)
app.add_typer(_simulators, name="simulate")
_simulators.command("dataverse")(simulate_dataverse)
app.add_typer(_environments, name="dataverse")
_environments.command("approve")(approve)
_environments.command("discover")(discover)
_environments.command("doctor")(doctor)
