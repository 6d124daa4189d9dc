"""Lines of text as commands print them: aligned, in colour on a terminal only."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from writeahead.cli.streams import printable
from writeahead.model import RunStatus

__all__ = [
    "STATUS_WIDTH",
    "STYLES",
    "UNPLANNED",
    "Part",
    "aligned",
    "print_line",
    "print_pair",
    "print_rows",
    "shown_time",
    "style_of",
    "text_of",
]

STYLES = {
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
# A text, with a style or without one.
Part: TypeAlias = str | tuple[str, str]
UNPLANNED = "unplanned"  # no status: its run has not planned yet, or died before it did
STATUS_WIDTH = max(len(status.value) for status in RunStatus)


def print_line(console: Console, *parts: Part) -> None:
    """Print parts of text as one line."""
    if not console.is_terminal:
        # What it would print there, in a tenth of the time: a list may have a million lines.
        plain = "".join(part if isinstance(part, str) else part[0] for part in parts)
        console.file.write(printable(plain).rstrip() + "\n")
    else:
        console.print(text_of(parts))


def print_pair(console: Console, name: str, text: str) -> None:
    """Print a name, and what it stands for."""
    print_line(console, (f"{name}: ", "bold"), text)


def print_rows(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, aligned."""
    for parts in aligned(rows):
        print_line(console, *parts)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[list[Part]]:
    """Each row's cells with two spaces before each, padded to the width of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [(cell.ljust(width), STYLES.get(cell, "")) for cell, width in zip(row, widths, strict=True)]
        yield [part for cell in cells for part in ("  ", cell)]


def text_of(parts: Iterable[Part]) -> Text:
    """Return parts as a text for rich."""
    text = Text()
    for part in parts:
        content, style = (part, "") if isinstance(part, str) else part
        text.append(printable(content), style)
    text.rstrip()
    return text


def style_of(word: str) -> str:
    """Return the colour of a status."""
    return STYLES.get(word, "")


def shown_time(moment: datetime | None) -> str:
    """A moment, to the second; ``-`` if there is none."""
    return f"{moment:%Y-%m-%d %H:%M:%SZ}" if moment else "-"
