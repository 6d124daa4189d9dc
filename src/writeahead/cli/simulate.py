"""The commands that run a simulated remote system."""

from pathlib import Path
from typing import Annotated

import typer

from writeahead.cli import render
from writeahead.cli.options import JsonOption
from writeahead.cli.output import Answer, print_answer
from writeahead.cli.seed import load_seed

__all__ = ["simulate_dataverse"]

_DATABASE = Path("dataverse.sqlite")


def simulate_dataverse(
    *,
    port: Annotated[
        int, typer.Option("--port", metavar="N", help="The port on 127.0.0.1; 0 takes a free one.")
    ] = 0,
    db: Annotated[
        Path, typer.Option("--db", metavar="FILE", help="The SQLite file that holds its rows.")
    ] = _DATABASE,
    seed: Annotated[
        str | None,
        typer.Option(
            "--seed",
            metavar="FILE",
            help="Rows to start with: a JSON object of lists by entity set. Existing rows are kept.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a simulated Dataverse Web API until Ctrl-C or SIGTERM."""
    from writeahead.simulators.dataverse import Settings, serve

    settings = Settings()

    def announce(url: str) -> None:
        if seed is not None:
            load_seed(seed, db)
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
