"""All the commands. Each returns an `Answer`, which is printed elsewhere."""

from typing import Annotated, Any

import typer

from writeahead.cli import check, dataverse, options, sessions, sweep
from writeahead.cli.version import print_version

__all__ = ["app"]

_BARE: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,
}
app = typer.Typer(
    help="A write-ahead log for side effects on systems you don't own.",
    **_BARE,
)
simulate = typer.Typer(**_BARE)
app.add_typer(simulate, name="simulate", help="Run a remote system on loopback, to try things out.")


def _tell_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        raise typer.Exit(print_version())


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    """A write-ahead log for side effects on systems you don't own."""


app.command()(sessions.run)
app.command()(sessions.resume)
app.command("list")(sessions.list_sessions)
app.command()(sessions.show)
app.command(cls=options.AssumeCommand)(sessions.unblock)
app.command("sweep")(sweep.sweep_sessions)
app.command()(check.check)
app.command()(check.demo)


@simulate.callback()
def _simulate() -> None:
    """Run a remote system on loopback, to try things out."""


simulate.command("dataverse")(check.simulate_dataverse)

remote = typer.Typer(**_BARE)
app.add_typer(remote, name="dataverse", help="Look at a Dataverse environment.")


@remote.callback()
def _dataverse() -> None:
    """Look at a Dataverse environment."""


remote.command("discover")(dataverse.discover)
