"""What commands about many sessions print as text: a line for each, and totals."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from rich.console import Console

from writeahead.cli.lines import STATUS_WIDTH, STYLES, UNPLANNED, print_line, shown_time
from writeahead.model import RunStatus
from writeahead.protocol.finding import SessionSummary
from writeahead.protocol.pruning import PruneResult
from writeahead.protocol.sweep import SweepResult

__all__ = [
    "show_none",
    "show_prune_result",
    "show_prune_totals",
    "show_summary",
    "show_sweep_result",
    "show_sweep_totals",
    "show_totals",
    "word_of",
]


def show_summary(console: Console, summary: SessionSummary, *, now: datetime, next_step: str | None) -> None:
    """Show one session of a list: its state, how much is done, its age, its last error."""
    status = summary.status or ("unreadable" if summary.unreadable else UNPLANNED)
    if summary.own and summary.status is RunStatus.RESUME_NEEDED:
        status = "own"
    count = f"{summary.confirmed}/{summary.operations}" if summary.operations else "-"
    age = _age(now - summary.planned_at) if summary.planned_at else "-"
    reason = f"{summary.block_reason.value}: " if summary.block_reason else ""
    print_line(
        console,
        (status.ljust(STATUS_WIDTH), STYLES.get(status, "")),
        f"  {count:>5}  {age:>4}  {summary.session_id}",
        (f"  {reason}{summary.note or ''}".rstrip(), "dim"),
    )
    if next_step:
        print_line(console, f"{' ' * STATUS_WIDTH}  next: {next_step}")


def show_sweep_result(console: Console, result: SweepResult) -> None:
    """Show what a sweep, or a batch, did about one session, in one line."""
    word = word_of(result)
    note = result.report.error if result.report else result.error or result.note
    print_line(
        console,
        (word.ljust(STATUS_WIDTH), STYLES.get(word, "red" if result.error else "")),
        "" if result.line is None else f"  line {result.line}",
        f"  {result.session_id}" if result.session_id else "",
        (f"  {note}" if note else "", "dim"),
        "  (its marker was lost, and is there again)" if result.restored else "",
    )


def word_of(result: SweepResult) -> str:
    """What became of a session, in one word.

    A status, ``error``, ``refused`` for a line of a batch, ``left``, or ``-`` for a note.
    """
    if result.report is not None:
        return result.report.status.value
    if result.left:
        return "left"
    if result.refused:
        return "refused"
    return "error" if result.error else "-"


def show_sweep_totals(
    console: Console,
    totals: Mapping[str, int],
    reasons: Mapping[tuple[str, str], int],
    *,
    stopped: bool,
) -> None:
    """Show how many sessions ended how, and why some are blocked or were left."""
    parts = []
    for word, count in totals.items():
        why = ", ".join(f"{reason} {some}" for (of, reason), some in reasons.items() if of == word)
        parts.append(f"{count} {'left alone' if word == '-' else word}{f' ({why})' if why else ''}")
    total = sum(totals.values())
    print_line(console, f"{total} session{'' if total == 1 else 's'}: {', '.join(parts)}")
    if stopped:
        print_line(console, "Stopped before the rest. Run it again to go on.")


def show_totals(
    console: Console, store: str, totals: Mapping[str, int], *, stopped: bool, done: bool
) -> None:
    """Show what was done about how many sessions, or what a preview found."""
    if not totals:
        print_line(console, f"no such sessions in {store}")
        return
    words = {"-": "done" if done else "to do"}
    counts = ", ".join(f"{count} {words.get(word, word)}" for word, count in totals.items())
    total = sum(totals.values())
    print_line(console, f"{total} session{'' if total == 1 else 's'}: {counts}")
    if stopped:
        print_line(console, "Stopped before the rest. Run it again to go on.")
    if not done:
        print_line(console, "Nothing was done. Add --write to do it.")


def show_prune_result(console: Console, result: PruneResult) -> None:
    """Show what was, or would be, removed of one session, in one line."""
    word = "error" if result.error else result.status.value if result.status else "pruned"
    ended = f", ended {shown_time(result.ended_at)}" if result.ended_at else ""
    archived = f", {result.archived} archived" if result.archived else ""
    note = result.error or f"{result.objects} objects, {result.size} bytes{ended}{archived}"
    style = "red" if result.error else STYLES.get(word, "")
    print_line(console, (word.ljust(STATUS_WIDTH), style), f"  {result.session_id}", (f"  {note}", "dim"))


def show_prune_totals(
    console: Console, store: str, totals: Mapping[str, int], *, stopped: bool, done: bool
) -> None:
    """Show how much was, or would be, removed."""
    if not totals:
        print_line(console, f"no session to prune in {store}")
    else:
        count, verb = totals.get("sessions", 0), "" if done else " would be"
        size = f"{totals['objects']} objects, {totals['bytes']} bytes"
        failed = f"; {totals['failed']} failed" if totals.get("failed") else ""
        print_line(console, f"{count} session{'' if count == 1 else 's'}{verb} pruned: {size}{failed}")
        if not done:
            print_line(console, "Nothing was done. Add --write to do it.")
    if stopped:
        print_line(console, "Stopped before the rest. Run it again to go on.")


def show_none(console: Console, store: str, state: str | None) -> None:
    """Say that a listing is empty, and name its store: it may not be the intended one."""
    print_line(console, f"no {f'{state} ' if state else ''}sessions in {store}")


def _age(age: timedelta) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = int(age.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"
