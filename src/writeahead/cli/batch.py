"""``writeahead run --batch``: the sessions of a file of JSON Lines."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from writeahead.cli.batch_file import BatchFile
from writeahead.cli.context import CommandContext
from writeahead.cli.output import Answer
from writeahead.cli.progress import runs_shown
from writeahead.cli.results import Results
from writeahead.cli.rounds import Rounds, Tools
from writeahead.cli.signals import stop_on_signals
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.batch import write_back_each
from writeahead.protocol.dispatch import Bounds

__all__ = ["BatchOptions", "answer_of_batch"]


@dataclass(frozen=True)
class BatchOptions:
    """The flags that a batch has in common with a single session, and how it is shown.

    Attributes:
        write: Send the writes.
        atomic: One transaction for each session.
        as_lines: Print lines of JSON.
        quiet: Show no progress.
    """

    write: bool
    atomic: bool
    as_lines: bool
    quiet: bool


def answer_of_batch(name: str, context: CommandContext, bounds: Bounds, how: BatchOptions) -> Answer:
    """Plan the sessions of a file and, where that is wanted, send them."""
    file = BatchFile(name)
    store = context.store(writing=how.write)

    @contextlib.contextmanager
    def begin() -> Iterator[Tools]:
        with (
            context.adapter() as adapter,
            file,
            stop_on_signals() as stop,
            runs_shown(quiet=how.quiet) as shown,
        ):
            work = functools.partial(
                write_back_each,
                file,
                store=store,
                adapter=adapter,
                policy=context.settings.policy,
                bounds=bounds,
                dry_run=not how.write,
                atomic=how.atomic,
                stop=stop,
                on_progress=shown.on_progress,
                found=file.count() if shown.is_live else 0,
            )
            yield Tools(work, stop, shown)

    rounds = Rounds(store.name, begin, advice=functools.partial(_next_step, context, how), source=file.shown)
    return Answer(rounds.document, rounds.show_lines if how.as_lines else rounds.show, rounds.exit_code)


def _next_step(context: CommandContext, how: BatchOptions, found: Results) -> str | None:
    """Say what finishes the rest; None if nothing is left, or if it waits for an operator."""
    totals = found.totals
    resumable = totals[RunStatus.RESUME_NEEDED] + totals[RunStatus.IN_PROGRESS]
    unplanned = totals["left"] + totals["error"] + found.reasons[RunStatus.BLOCKED, BlockReason.NOT_READY]
    again = "run the same command again; what is done is not sent twice"
    if not how.write:
        return "nothing was sent; run it again with --write" if totals[RunStatus.PLANNED] else None
    if found.stopped or unplanned:
        return again
    if resumable:
        return f"{again}. Or: writeahead sweep {context.resume_options()}".rstrip() + " --write"
    return None
