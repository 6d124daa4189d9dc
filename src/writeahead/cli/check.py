"""The commands that prove something: a store, and the whole on a remote that is simulated."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from writeahead.cli import options, render
from writeahead.cli.context import CommandContext
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.output import Answer, print_answer
from writeahead.cli.seed import put_in

__all__ = ["check", "demo", "simulate_dataverse"]

_DATABASE = Path("dataverse.sqlite")


def check(
    *,
    store: options.StoreOption = None,
    config: options.ConfigOption = None,
    _json: options.JsonOption = False,
) -> Answer:
    """Prove a store by trying what a run relies on."""
    found = CommandContext(config, store).store().check()
    return Answer(
        lambda: {
            "store": found.store,
            "ok": found.ok,
            "results": [asdict(result) for result in found.results],
        },
        lambda console: render.show_check(console, found),
        lambda: ExitCode.OK if found.ok else ExitCode.FAILED,
    )


def demo(
    *,
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL|s3", help="s3: a bucket on a server of its own."),
    ] = None,
    _json: options.JsonOption = False,
) -> Answer:
    """See the main job: a run fails half-way, and is resumed.

    The third write to a simulated CRM fails until the retries are used up; a new process resumes.
    """
    from writeahead.demo import run_demo

    quiet = Console(quiet=True)
    return Answer(lambda: run_demo(quiet, store=store), lambda console: run_demo(console, store=store))


def simulate_dataverse(
    *,
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="On loopback; 0 lets the system choose.")
    ] = 0,
    db: Annotated[Path, typer.Option("--db", metavar="FILE", help="Its SQLite file.")] = _DATABASE,
    seed: Annotated[
        str | None,
        typer.Option(
            "--seed",
            metavar="FILE",
            help="Rows to put in first, as JSON: entity set to rows. Those there already stay as they are.",
        ),
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Run a Dataverse Web API until SIGTERM or Ctrl-C."""
    from writeahead.simulators.dataverse import Settings, serve

    settings = Settings()

    def announce(url: str) -> None:
        if seed is not None:
            put_in(seed, db)
        environment = {
            "DATAVERSE_URL": url,
            "DATAVERSE_AUTHORITY": url,
            "DATAVERSE_TENANT_ID": settings.tenant_id,
            "DATAVERSE_CLIENT_ID": settings.client_id,
            "DATAVERSE_CLIENT_SECRET": settings.client_secret,
        }
        answer = Answer(
            lambda: {"url": url, "db": str(db), "environment": environment},
            lambda console: render.show_simulator(console, url, str(db), environment),
        )
        print_answer(answer, as_json=as_json)

    serve(db, port, settings=settings, on_ready=announce)
