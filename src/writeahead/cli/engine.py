"""Sweeps on an engine: its flags, and what they begin."""

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator
from enum import StrEnum
from typing import Annotated, TypeAlias

import typer

from writeahead.cli.context import CommandContext
from writeahead.engines import sweep_items
from writeahead.errors import InvalidInput
from writeahead.protocol.sweep import SweepResult

__all__ = ["Engine", "EngineOption", "SchedulerOption", "require_fitting", "sweeps_on_engine"]


class Engine(StrEnum):
    """What can resume the sessions of a sweep in place of this process."""

    DASK = "dask"


EngineOption: TypeAlias = Annotated[
    Engine | None,
    typer.Option("--engine", help="Resume the sessions in the workers of this engine."),
]
SchedulerOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="The engine's scheduler, such as tcp://host:8786; by default one on this machine.",
    ),
]


def require_fitting(engine: Engine | None, scheduler: str | None, own: str | None) -> None:
    """Refuse flags that do not go together.

    Raises:
        InvalidInput: They do not.
    """
    if engine is None and scheduler is not None:
        raise InvalidInput("--scheduler is of an engine: add --engine dask")
    if engine is not None and own is not None:
        raise InvalidInput("--own runs in this process: sweep such sessions without --engine")


@contextlib.contextmanager
def sweeps_on_engine(
    context: CommandContext, scheduler: str | None, concurrency: int | None
) -> Iterator[Callable[..., Generator[SweepResult, None, bool]]]:
    """Yield what begins a sweep on the workers, given the other options of `sweep_items`.

    Args:
        context: Names the store and the adapter; the workers open them.
        scheduler: See `writeahead.engines.dask.dask_workers`.
        concurrency: How many sessions at once; None for as many as the workers can.

    Raises:
        InvalidInput: The workers could not reach the store; the engine is not installed, or its
            scheduler can't be reached.
    """
    url, spec = context.shared_store(), context.adapter_spec()
    from writeahead.engines.dask import dask_workers

    with dask_workers(scheduler, concurrency=concurrency) as workers:
        yield functools.partial(
            sweep_items,
            url,
            spec,
            executor=workers.executor,
            broadcast=workers.broadcast,
            concurrency=concurrency or workers.size,
        )
