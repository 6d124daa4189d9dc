"""What commands about one session print as text."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from writeahead.cli.lines import (
    STATUS_WIDTH,
    STYLES,
    UNPLANNED,
    aligned,
    print_line,
    print_pair,
    print_rows,
    shown_time,
    style_of,
    text_of,
)
from writeahead.model import RunReport, RunStatus, Stop
from writeahead.protocol.schema import JournalEntry
from writeahead.report.page import ArtifactLine, SessionPage
from writeahead.report.session import OperationLine, Session, operation_lines
from writeahead.stores.base import StoreCheck

__all__ = [
    "show_check",
    "show_file",
    "show_next_step",
    "show_page",
    "show_report",
    "show_settings",
    "show_simulator",
]


def show_report(console: Console, report: RunReport, *, next_step: str | None) -> None:
    """Show the result of a run."""
    _headline(console, report.session_id, report.status.value, report.block_reason)
    if report.status is RunStatus.PLANNED:
        print_rows(
            console,
            [
                [item.id, item.kind, item.replay.value, "independent" if item.independent else ""]
                for item in report.operations
            ],
        )
    else:
        _operations(console, operation_lines(report.operations, report.receipts, report.attempted))
    for warning in report.warnings:
        print_pair(console, "warning", warning)
    _stops(console, report.stops)
    _ending(console, report.error, next_step)


def show_page(console: Console, page: SessionPage, *, next_step: str | None) -> None:
    """Show all that a store holds of a session."""
    status = page.status or ("unreadable" if page.way_out else UNPLANNED)
    _headline(console, page.session_id, status, page.block_reason)
    if page.own:
        print_line(console, f"  of an orchestrator of its own, planned {shown_time(page.planned_at)}")
    if page.adapter:
        planned = f", planned {shown_time(page.planned_at)}" if page.planned_at else ""
        print_line(
            console, f"  adapter {page.adapter}{planned}{', as one transaction' if page.atomic else ''}"
        )
    if page.pruned_at:
        print_line(console, f"  pruned {shown_time(page.pruned_at)}: its payloads and receipts are gone")
    _section(console, "operations", _operation_rows(page.operations))
    for warning in page.warnings:
        print_pair(console, "warning", warning)
    _section(console, "history", [_entry_row(entry) for entry in page.history])
    _section(console, "artifacts", [_artifact_row(item) for item in page.artifacts])
    _stops(console, page.stops)
    _ending(console, page.problem or page.error, next_step)
    _section(console, "what to do", [[f"{number}. {step}"] for number, step in enumerate(page.way_out, 1)])


def show_entry(console: Console, entry: JournalEntry, confirmed: Sequence[str]) -> None:
    """Show a journal entry, and which operations it is the first to confirm."""
    about = [_entry_row(entry)[-1], f"confirmed {', '.join(confirmed)}" if confirmed else ""]
    parts = [f"{entry.number}", shown_time(entry.at), entry.event.value, *filter(None, about)]
    print_line(console, "  ", "  ".join(parts))


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
    print_line(
        console, shown_time(now), "  ", (status.ljust(STATUS_WIDTH), style_of(status)), cells, f"  {note}"
    )


def change_row(session: Session) -> tuple[str, str, str, str]:
    """Return its status in a word, how many operations are confirmed, its id and what is wrong."""
    status = session.status.value if session.status else "unreadable"
    count = f"{len(session.receipts)}/{len(session.operations)}" if session.operations else "-"
    reason = f"{session.block_reason.value}: " if session.block_reason else ""
    is_over = session.status in (RunStatus.COMPLETED, RunStatus.IN_PROGRESS)
    note = session.problem or ("" if is_over else session.error) or ""
    return status, count, session.session_id, f"{reason}{note}"


def show_check(console: Console, check: StoreCheck) -> None:
    """Show each promise of a store, what was tried and what happened."""
    for result in check.results:
        word = "holds" if result.ok else "fails"
        print_line(console, (word, STYLES[word]), f"  {result.promise}: {result.tried}: {result.seen}")
    verdict = "safe to use" if check.ok else "must not be used"
    print_line(console, f"{check.store}: {verdict}")


def show_findings(console: Console, findings: Iterable[tuple[str, str, str]], *, ok: bool) -> None:
    """Show what was looked at: how much it matters, what it is about, and what was found."""
    for level, subject, text in findings:
        print_line(console, (level, STYLES.get(level, "")), f"  {subject}: {text}")
    print_line(console, "a run would find what it needs" if ok else "a run would fail")


def show_next_step(console: Console, step: str) -> None:
    """Show what to do next."""
    _ending(console, None, step)


def show_file(console: Console, path: Path, *, next_step: str | None = None) -> None:
    """Say that a file was written."""
    print_line(console, f"wrote {path}")
    _ending(console, None, next_step)


def show_settings(
    console: Console, lines: Iterable[tuple[str, object, str]], problems: Iterable[str]
) -> None:
    """Show each setting with its value and its source, and what is wrong."""
    print_rows(console, [[name, _value(value), source] for name, value, source in lines])
    for problem in problems:
        print_pair(console, "error", problem)


def show_simulator(console: Console, url: str, db: str, environment: Mapping[str, str]) -> None:
    """Show a simulator's URL, and the environment variables for writing to it."""
    print_line(console, f"Dataverse simulator on {url}, database {db}. Ctrl-C stops it. To write to it:")
    for name, value in environment.items():
        print_line(console, f"  export {name}={value}")


def _headline(console: Console, session_id: str, status: str, reason: str | None) -> None:
    print_line(
        console,
        (session_id, "bold"),
        "  ",
        (status, STYLES.get(status, "")),
        f" ({reason})" if reason else "",
    )


def _operations(console: Console, lines: Iterable[OperationLine]) -> None:
    print_rows(console, _operation_rows(lines))


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
        print_pair(console, "stop", f"{stop.operation}: {stop.status}{reason}{when}: {stop.error}")


def _ending(console: Console, error: str | None, next_step: str | None) -> None:
    if error:
        print_pair(console, "error", error)
    if next_step:
        print_pair(console, "next", next_step)


def _section(console: Console, title: str, rows: Sequence[Sequence[str]]) -> None:
    """Show rows below a title, on a terminal as a tree; nothing if there are none."""
    if rows and console.is_terminal:
        tree = Tree(Text(title, "bold"))
        for parts in aligned(rows):
            tree.add(text_of(parts[1:]))
        console.print(tree, soft_wrap=True)
    elif rows:
        print_line(console, title)
        print_rows(console, rows)


def _value(value: object) -> str:
    """Return a setting's value in the words of TOML, but for the quotes."""
    if value is None:
        return "-"
    return value if value and isinstance(value, str) else json.dumps(value)
