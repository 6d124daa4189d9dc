"""What commands print as text: a few aligned lines, in colour on a terminal only."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from rich.console import Console
from rich.text import Text

from writeahead.cli.streams import printable
from writeahead.model import RunReport, RunStatus
from writeahead.protocol.finding import SessionSummary
from writeahead.protocol.schema import JournalEntry
from writeahead.protocol.sweep import SweepResult
from writeahead.report.page import OperationLine, SessionPage, operation_lines
from writeahead.stores.base import StoreCheck

__all__ = [
    "show_check",
    "show_none",
    "show_page",
    "show_report",
    "show_simulator",
    "show_summary",
    "show_sweep_result",
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
}
_STATUS_WIDTH = max(len(status.value) for status in RunStatus)


def show_report(console: Console, report: RunReport, *, next_step: str | None) -> None:
    """Show the result of a run."""
    _headline(console, report.session_id, report.status.value, report.block_reason)
    if report.status is RunStatus.PLANNED:
        _rows(
            console,
            [[line.id, line.kind, line.replay.value] for line in operation_lines(report.operations, report)],
        )
    else:
        _operations(console, operation_lines(report.operations, report))
    for warning in report.warnings:
        _pair(console, "warning", warning)
    _ending(console, report.error, next_step)


def show_page(console: Console, page: SessionPage, *, next_step: str | None) -> None:
    """Show all that a store holds of a session."""
    _headline(console, page.session_id, page.status.value if page.status else "unreadable", page.block_reason)
    if page.own:
        _line(console, f"  of an orchestrator of its own, planned {_time(page.planned_at)}")
    if page.adapter:
        planned = f", planned {_time(page.planned_at)}" if page.planned_at else ""
        _line(console, f"  adapter {page.adapter}{planned}{', as one transaction' if page.atomic else ''}")
    _section(console, "operations", bool(page.operations))
    _operations(console, page.operations)
    for warning in page.warnings:
        _pair(console, "warning", warning)
    _section(console, "history", bool(page.history))
    _rows(console, [_entry_row(entry) for entry in page.history])
    _section(console, "artifacts", bool(page.artifacts))
    _rows(
        console,
        [[item.key, f"{item.size} bytes", _time(item.last_modified)] for item in page.artifacts],
    )
    _ending(console, page.problem or page.error, next_step)


def show_summary(console: Console, summary: SessionSummary, *, now: datetime, next_step: str | None) -> None:
    """Show one session of a list: its state, how much is done, its age, its last error."""
    status = summary.status.value if summary.status else "unreadable"
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
    """Show what a sweep did about one session, in one line."""
    if result.report is None:
        word, note = ("error", result.error) if result.error else ("-", result.note)
    else:
        word, note = result.report.status.value, result.report.error
    _line(
        console,
        (word.ljust(_STATUS_WIDTH), _STYLES.get(word, "red" if result.error else "")),
        f"  {result.session_id}",
        (f"  {note}" if note else "", "dim"),
        "  (its marker was lost, and is there again)" if result.restored else "",
    )


def show_check(console: Console, check: StoreCheck) -> None:
    """Show each promise of a store, what was tried and what happened."""
    for result in check.results:
        word = "holds" if result.ok else "fails"
        _line(console, (word, _STYLES[word]), f"  {result.promise}: {result.tried}: {result.seen}")
    verdict = "safe to use" if check.ok else "must not be used"
    _line(console, f"{check.store}: {verdict}")


def show_none(console: Console, store: str, state: str | None) -> None:
    """Say that a listing is empty, and name its store: it may not be the intended one."""
    _line(console, f"no {f'{state} ' if state else ''}sessions in {store}")


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
    rows = []
    for line in lines:
        receipt = line.receipt
        detail = ""
        if receipt:
            tries = f", {receipt.attempts} attempts" if receipt.attempts and receipt.attempts > 1 else ""
            detail = f"{receipt.outcome}{tries}"
        elif line.attempted_at:
            detail = f"sent at {_time(line.attempted_at)}, outcome unknown"
        rows.append([line.id, line.state, detail])
    _rows(console, rows)


def _entry_row(entry: JournalEntry) -> list[str]:
    about = [entry.operation, entry.status, entry.block_reason, entry.error, entry.reason]
    return [
        f"{entry.number}",
        _time(entry.at),
        entry.event.value,
        ", ".join(str(part) for part in about if part),
    ]


def _ending(console: Console, error: str | None, next_step: str | None) -> None:
    if error:
        _pair(console, "error", error)
    if next_step:
        _pair(console, "next", next_step)


def _section(console: Console, title: str, wanted: bool) -> None:  # noqa: FBT001 - one caller, one meaning
    if wanted:
        _line(console, (title, "bold"))


def _rows(console: Console, rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [(cell.ljust(width), _STYLES.get(cell, "")) for cell, width in zip(row, widths, strict=True)]
        _line(console, *(part for cell in cells for part in ("  ", cell)))


def _pair(console: Console, name: str, text: str) -> None:
    _line(console, (f"{name}: ", "bold"), text)


def _line(console: Console, *parts: str | tuple[str, str]) -> None:
    text = Text()
    for part in parts:
        content, style = (part, "") if isinstance(part, str) else part
        text.append(printable(content), style)
    text.rstrip()
    console.print(text)


def _age(age: timedelta) -> str:
    """How long ago, in the largest unit that fits."""
    seconds = int(age.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{max(seconds, 0)}s"


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%SZ}" if moment else "-"
