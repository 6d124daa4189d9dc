"""What commands print as text: a few aligned lines, in colour on a terminal only."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from writeahead.cli.streams import printable
from writeahead.model import RunReport, RunStatus, Stop
from writeahead.protocol.finding import SessionSummary
from writeahead.protocol.pruning import PruneResult
from writeahead.protocol.schema import JournalEntry
from writeahead.protocol.sweep import SweepResult
from writeahead.report.page import ArtifactLine, SessionPage
from writeahead.report.session import OperationLine, Session, operation_lines
from writeahead.stores.base import StoreCheck

__all__ = [
    "show_check",
    "show_file",
    "show_next_step",
    "show_none",
    "show_page",
    "show_prune_result",
    "show_prune_totals",
    "show_report",
    "show_settings",
    "show_simulator",
    "show_summary",
    "show_sweep_result",
    "show_sweep_totals",
    "show_totals",
    "shown_time",
    "word_of",
]

_STYLES = {
    "completed": "green",
    "no_resume_needed": "green",
    "confirmed": "green",
    "holds": "green",
    "resume_needed": "yellow",
    "attempted": "yellow",
    "blocked": "red",
    "fails": "red",
    "unreadable": "red",
    "own": "yellow",
    "in_progress": "cyan",
    "planned": "cyan",
    "abandoned": "red",
    "unplanned": "cyan",
}
_UNPLANNED = "unplanned"  # no status: its run has not planned yet, or died before it did
# A text, with a style or without one.
_Part: TypeAlias = str | tuple[str, str]
_STATUS_WIDTH = max(len(status.value) for status in RunStatus)


def show_report(console: Console, report: RunReport, *, next_step: str | None) -> None:
    """Show the result of a run."""
    _headline(console, report.session_id, report.status.value, report.block_reason)
    if report.status is RunStatus.PLANNED:
        _rows(
            console,
            [
                [item.id, item.kind, item.replay.value, "independent" if item.independent else ""]
                for item in report.operations
            ],
        )
    else:
        _operations(console, operation_lines(report.operations, report.receipts, report.attempted))
    for warning in report.warnings:
        _pair(console, "warning", warning)
    _stops(console, report.stops)
    _ending(console, report.error, next_step)


def show_page(console: Console, page: SessionPage, *, next_step: str | None) -> None:
    """Show all that a store holds of a session."""
    status = page.status or ("unreadable" if page.way_out else _UNPLANNED)
    _headline(console, page.session_id, status, page.block_reason)
    if page.own:
        _line(console, f"  of an orchestrator of its own, planned {shown_time(page.planned_at)}")
    if page.adapter:
        planned = f", planned {shown_time(page.planned_at)}" if page.planned_at else ""
        _line(console, f"  adapter {page.adapter}{planned}{', as one transaction' if page.atomic else ''}")
    if page.pruned_at:
        _line(console, f"  pruned {shown_time(page.pruned_at)}: its payloads and receipts are gone")
    _section(console, "operations", _operation_rows(page.operations))
    for warning in page.warnings:
        _pair(console, "warning", warning)
    _section(console, "history", [_entry_row(entry) for entry in page.history])
    _section(console, "artifacts", [_artifact_row(item) for item in page.artifacts])
    _stops(console, page.stops)
    _ending(console, page.problem or page.error, next_step)
    _section(console, "what to do", [[f"{number}. {step}"] for number, step in enumerate(page.way_out, 1)])


def show_entry(console: Console, entry: JournalEntry, confirmed: Sequence[str]) -> None:
    """Show a journal entry, and which operations it is the first to confirm."""
    about = [_entry_row(entry)[-1], f"confirmed {', '.join(confirmed)}" if confirmed else ""]
    parts = [f"{entry.number}", shown_time(entry.at), entry.event.value, *filter(None, about)]
    _line(console, "  ", "  ".join(parts))


def show_end(console: Console, session: Session, *, next_step: str | None) -> None:
    """Show how a session stands that was shown before: status, operations, next step."""
    _headline(console, session.session_id, change_row(session)[0], session.block_reason)
    _operations(console, session.operations)
    _stops(console, session.stops)
    _ending(console, session.problem or session.error, next_step)


def show_change(console: Console, session: Session, now: datetime) -> None:
    """Show how a session stands, in one line."""
    status, count, session_id, note = change_row(session)
    cells = f"  {count:>5}  {session_id}"
    _line(console, shown_time(now), "  ", (status.ljust(_STATUS_WIDTH), style_of(status)), cells, f"  {note}")


def change_row(session: Session) -> tuple[str, str, str, str]:
    """Return its status in a word, how many operations are confirmed, its id and what is wrong."""
    status = session.status.value if session.status else "unreadable"
    count = f"{len(session.receipts)}/{len(session.operations)}" if session.operations else "-"
    reason = f"{session.block_reason.value}: " if session.block_reason else ""
    is_over = session.status in (RunStatus.COMPLETED, RunStatus.IN_PROGRESS)
    note = session.problem or ("" if is_over else session.error) or ""
    return status, count, session.session_id, f"{reason}{note}"


def style_of(word: str) -> str:
    """Return the colour of a status."""
    return _STYLES.get(word, "")


def show_summary(console: Console, summary: SessionSummary, *, now: datetime, next_step: str | None) -> None:
    """Show one session of a list: its state, how much is done, its age, its last error."""
    status = summary.status or ("unreadable" if summary.unreadable else _UNPLANNED)
    if summary.own and summary.status is RunStatus.RESUME_NEEDED:
        status = "own"
    count = f"{summary.confirmed}/{summary.operations}" if summary.operations else "-"
    age = _age(now - summary.planned_at) if summary.planned_at else "-"
    reason = f"{summary.block_reason.value}: " if summary.block_reason else ""
    _line(
        console,
        (status.ljust(_STATUS_WIDTH), _STYLES.get(status, "")),
        f"  {count:>5}  {age:>4}  {summary.session_id}",
        (f"  {reason}{summary.note or ''}".rstrip(), "dim"),
    )
    if next_step:
        _line(console, f"{' ' * _STATUS_WIDTH}  next: {next_step}")


def show_sweep_result(console: Console, result: SweepResult) -> None:
    """Show what a sweep, or a batch, did about one session, in one line."""
    word = word_of(result)
    note = result.report.error if result.report else result.error or result.note
    _line(
        console,
        (word.ljust(_STATUS_WIDTH), _STYLES.get(word, "red" if result.error else "")),
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
    _line(console, f"{total} session{'' if total == 1 else 's'}: {', '.join(parts)}")
    if stopped:
        _line(console, "Stopped before the rest. Run it again to go on.")


def show_totals(
    console: Console, store: str, totals: Mapping[str, int], *, stopped: bool, done: bool
) -> None:
    """Show what was done about how many sessions, or what a preview found."""
    if not totals:
        _line(console, f"no such sessions in {store}")
        return
    words = {"-": "done" if done else "to do"}
    counts = ", ".join(f"{count} {words.get(word, word)}" for word, count in totals.items())
    total = sum(totals.values())
    _line(console, f"{total} session{'' if total == 1 else 's'}: {counts}")
    if stopped:
        _line(console, "Stopped before the rest. Run it again to go on.")
    if not done:
        _line(console, "Nothing was done. Add --write to do it.")


def show_prune_result(console: Console, result: PruneResult) -> None:
    """Show what was, or would be, removed of one session, in one line."""
    word = "error" if result.error else result.status.value if result.status else "pruned"
    ended = f", ended {shown_time(result.ended_at)}" if result.ended_at else ""
    archived = f", {result.archived} archived" if result.archived else ""
    note = result.error or f"{result.objects} objects, {result.size} bytes{ended}{archived}"
    style = "red" if result.error else _STYLES.get(word, "")
    _line(console, (word.ljust(_STATUS_WIDTH), style), f"  {result.session_id}", (f"  {note}", "dim"))


def show_prune_totals(
    console: Console, store: str, totals: Mapping[str, int], *, stopped: bool, done: bool
) -> None:
    """Show how much was, or would be, removed."""
    if not totals:
        _line(console, f"no session to prune in {store}")
    else:
        count, verb = totals.get("sessions", 0), "" if done else " would be"
        size = f"{totals['objects']} objects, {totals['bytes']} bytes"
        failed = f"; {totals['failed']} failed" if totals.get("failed") else ""
        _line(console, f"{count} session{'' if count == 1 else 's'}{verb} pruned: {size}{failed}")
        if not done:
            _line(console, "Nothing was done. Add --write to do it.")
    if stopped:
        _line(console, "Stopped before the rest. Run it again to go on.")


def show_check(console: Console, check: StoreCheck) -> None:
    """Show each promise of a store, what was tried and what happened."""
    for result in check.results:
        word = "holds" if result.ok else "fails"
        _line(console, (word, _STYLES[word]), f"  {result.promise}: {result.tried}: {result.seen}")
    verdict = "safe to use" if check.ok else "must not be used"
    _line(console, f"{check.store}: {verdict}")


def show_findings(console: Console, findings: Iterable[tuple[str, str, str]], *, ok: bool) -> None:
    """Show what was looked at: how much it matters, what it is about, and what was found."""
    for level, subject, text in findings:
        _line(console, (level, _STYLES.get(level, "")), f"  {subject}: {text}")
    _line(console, "a run would find what it needs" if ok else "a run would fail")


def show_none(console: Console, store: str, state: str | None) -> None:
    """Say that a listing is empty, and name its store: it may not be the intended one."""
    _line(console, f"no {f'{state} ' if state else ''}sessions in {store}")


def show_next_step(console: Console, step: str) -> None:
    """Show what to do next."""
    _ending(console, None, step)


def show_file(console: Console, path: Path, *, next_step: str | None = None) -> None:
    """Say that a file was written."""
    _line(console, f"wrote {path}")
    _ending(console, None, next_step)


def show_settings(
    console: Console, lines: Iterable[tuple[str, object, str]], problems: Iterable[str]
) -> None:
    """Show each setting with its value and its source, and what is wrong."""
    _rows(console, [[name, _value(value), source] for name, value, source in lines])
    for problem in problems:
        _pair(console, "error", problem)


def show_simulator(console: Console, url: str, db: str, environment: Mapping[str, str]) -> None:
    """Show a simulator's URL, and the environment variables for writing to it."""
    _line(console, f"Dataverse simulator on {url}, database {db}. Ctrl-C stops it. To write to it:")
    for name, value in environment.items():
        _line(console, f"  export {name}={value}")


def _headline(console: Console, session_id: str, status: str, reason: str | None) -> None:
    _line(
        console,
        (session_id, "bold"),
        "  ",
        (status, _STYLES.get(status, "")),
        f" ({reason})" if reason else "",
    )


def _operations(console: Console, lines: Iterable[OperationLine]) -> None:
    _rows(console, _operation_rows(lines))


def _operation_rows(lines: Iterable[OperationLine]) -> list[list[str]]:
    rows = []
    for line in lines:
        receipt = line.receipt
        detail = ""
        if receipt:
            tries = f", {receipt.attempts} attempts" if receipt.attempts and receipt.attempts > 1 else ""
            detail = f"{receipt.outcome}{tries}"
        elif line.state == "attempted":
            when = f", {shown_time(line.attempted_at)} at the latest" if line.attempted_at else ""
            detail = f"may have been sent{when}"
        rows.append([line.id, line.state, detail, "independent" if line.independent else ""])
    return rows


def _artifact_row(item: ArtifactLine) -> list[str]:
    size = "missing" if item.size is None else f"{item.size} bytes"
    problem = "" if item.problem is None else "damaged: " + item.problem.removeprefix(f"{item.key}: ")
    return [item.key, size, shown_time(item.last_modified), problem]


def _entry_row(entry: JournalEntry) -> list[str]:
    about = [[entry.operation, entry.status, entry.block_reason, entry.error, entry.reason]]
    if entry.stops:  # the fields of the entry itself are those of one of them
        about = [[stop.operation, stop.status, stop.block_reason, stop.error] for stop in entry.stops]
    told = (", ".join(str(part) for part in parts if part) for parts in about)
    return [f"{entry.number}", shown_time(entry.at), entry.event.value, "; ".join(told)]


def _stops(console: Console, stops: Sequence[Stop]) -> None:
    """Name each operation at which a run stopped; of a single one, the error and the step do."""
    for stop in stops if len(stops) > 1 else ():
        reason = f" ({stop.block_reason})" if stop.block_reason else ""
        when = f", not before {shown_time(stop.not_before)}" if stop.not_before else ""
        _pair(console, "stop", f"{stop.operation}: {stop.status}{reason}{when}: {stop.error}")


def _ending(console: Console, error: str | None, next_step: str | None) -> None:
    if error:
        _pair(console, "error", error)
    if next_step:
        _pair(console, "next", next_step)


def _section(console: Console, title: str, rows: Sequence[Sequence[str]]) -> None:
    """Show rows below a title, on a terminal as a tree; nothing if there are none."""
    if rows and console.is_terminal:
        tree = Tree(Text(title, "bold"))
        for parts in _aligned(rows):
            tree.add(_text(parts[1:]))
        console.print(tree, soft_wrap=True)
    elif rows:
        _line(console, title)
        _rows(console, rows)


def _rows(console: Console, rows: Sequence[Sequence[str]]) -> None:
    for parts in _aligned(rows):
        _line(console, *parts)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[list[_Part]]:
    """Each row's cells with two spaces before each, padded to the width of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [(cell.ljust(width), _STYLES.get(cell, "")) for cell, width in zip(row, widths, strict=True)]
        yield [part for cell in cells for part in ("  ", cell)]


def _pair(console: Console, name: str, text: str) -> None:
    _line(console, (f"{name}: ", "bold"), text)


def _line(console: Console, *parts: _Part) -> None:
    if not console.is_terminal:
        # What it would print there, in a tenth of the time: a list may have a million lines.
        plain = "".join(part if isinstance(part, str) else part[0] for part in parts)
        console.file.write(printable(plain).rstrip() + "\n")
    else:
        console.print(_text(parts))


def _text(parts: Iterable[_Part]) -> Text:
    text = Text()
    for part in parts:
        content, style = (part, "") if isinstance(part, str) else part
        text.append(printable(content), style)
    text.rstrip()
    return text


def _age(age: timedelta) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = int(age.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"


def _value(value: object) -> str:
    """Return a setting's value in the words of TOML, but for the quotes."""
    if value is None:
        return "-"
    return value if value and isinstance(value, str) else json.dumps(value)


def shown_time(moment: datetime | None) -> str:
    """A moment, to the second; ``-`` if there is none."""
    return f"{moment:%Y-%m-%d %H:%M:%SZ}" if moment else "-"
