"""The command that writes a settings file."""

import os
from pathlib import Path
from typing import Annotated

import typer

from writeahead.adapters.registry import adapter_factory, installed_adapters
from writeahead.cli import options, render
from writeahead.cli.context import import_from_here
from writeahead.cli.new_file import refuse_existing, write_new_file
from writeahead.cli.output import Answer
from writeahead.cli.settings import config_path
from writeahead.cli.settings_template import settings_template
from writeahead.report.page import quoted
from writeahead.stores.registry import open_store

__all__ = ["init"]


def init(
    *,
    store: options.StoreOption = None,
    adapter: options.AdapterOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The file to write; by default writeahead.toml."),
    ] = None,
    _json: options.JsonOption = False,
) -> Answer:
    """Write a settings file that explains itself.

    Every setting is there as a comment, with its default. What --store and --adapter name is set.
    """
    path, _ = config_path(config, os.environ)
    refuse_existing(path, force=force)
    if store:
        open_store(store)  # raises if the URL is wrong, and connects to nothing yet
    factory = None
    if adapter:
        import_from_here(adapter)
        factory = adapter_factory(adapter, source="--adapter")
    text = settings_template(
        store=store, adapter=adapter, factory=factory, installed=", ".join(sorted(installed_adapters()))
    )
    write_new_file(path, text, force=force)
    step = f"writeahead settings{f' --config {quoted(str(config))}' if config else ''}"
    return Answer(
        lambda: {"file": str(path), "next_step": step},
        lambda console: render.show_file(console, path, next_step=f"edit it, then see what counts: {step}"),
    )
