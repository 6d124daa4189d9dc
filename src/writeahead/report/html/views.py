"""What the HTML report shows, as data: texts that are fit to be seen, in the order of the page."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from writeahead.report.session import Line

__all__ = [
    "Artifact",
    "Gap",
    "History",
    "Lane",
    "Mark",
    "OperationRow",
    "Report",
    "SessionRow",
    "StepPart",
    "Tick",
    "Timeline",
    "Unread",
    "moment",
    "visible",
]

# Line breaks and tabs of a payload that is printed over several lines.
_LAYOUT = "\n"


def visible(text: str) -> str:
    """A text with each character that can't be seen written as its escape, as in JSON.

    Such are control characters, marks that turn the direction of a text, and halves of surrogate
    pairs. Line breaks stay.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _LAYOUT else _escape(char) for char in text)


def _escape(char: str) -> str:
    # As a pair of surrogates where it takes one: RFC 8259, section 7.
    return f"\\u{ord(char):04x}" if char.isascii() else json.dumps(char)[1:-1]


def moment(at: datetime | None) -> str | None:
    """A moment in UTC, to the second."""
    return f"{at:%Y-%m-%d %H:%M:%SZ}" if at else None


class StepPart(Line):
    """A part of a next step.

    Attributes:
        text: What it says.
        is_command: Whether it is a command.
        is_whole: Whether it is a whole command line, to be copied; else it names a command.
    """

    text: str
    is_command: bool = False
    is_whole: bool = False


class OperationRow(Line):
    """One operation.

    Attributes:
        id: Its id.
        state: ``confirmed``, ``attempted`` or ``missing``.
        kind: Its kind.
        replay: Its replay class.
        detail: What its receipt says without values, or when it may have been sent.
        independent: It needs no order.
        payload: What was planned, as JSON; only if values are shown.
        receipt: Its receipt, as JSON; only if values are shown.
    """

    id: str
    state: str
    kind: str | None = None
    replay: str | None = None
    detail: str = ""
    independent: bool = False
    payload: str | None = None
    receipt: str | None = None


class History(Line):
    """One entry of the journal, or the plan or the final artifact.

    Attributes:
        at: When.
        event: What.
        owner: The name of the lane that it is in.
        text: What it is about.
        values: What was about to be sent, as JSON; only if values are shown.
    """

    at: str
    event: str
    owner: str
    text: str = ""
    values: str | None = None


class Artifact(Line):
    """One object in the store; None as a size if it is missing."""

    key: str
    size: int | None = None
    at: str | None = None
    problem: str | None = None


class Mark(Line):
    """What happened at one place of a lane; ``x`` runs from 0 to 1."""

    x: float
    event: str
    text: str


class Lane(Line):
    """What one owner did.

    Attributes:
        name: Its process, or its random id.
        role: How it came to the session.
        start: Where it begins.
        end: Where it ends.
        marks: What happened.
        waits: From where to where it waited.
        receipts: How many receipts it got, by place.
    """

    name: str
    role: Literal["run", "resume", "takeover", "operator"]
    start: float
    end: float
    marks: tuple[Mark, ...] = ()
    waits: tuple[tuple[float, float], ...] = ()
    receipts: tuple[tuple[float, int], ...] = ()


class Gap(Line):
    """A stretch without an event that is drawn shorter than it was."""

    start: float
    end: float
    text: str


class Tick(Line):
    """A label of the time axis."""

    x: float
    text: str


class Timeline(Line):
    """A session's history along a time axis.

    Attributes:
        lanes: By owner, in order of appearance.
        gaps: What is drawn shorter than it was.
        ticks: Labels of the axis.
        now: Where the present is, if the session is not at its end.
        summary: All of it, in one sentence.
    """

    lanes: tuple[Lane, ...]
    gaps: tuple[Gap, ...] = ()
    ticks: tuple[Tick, ...] = ()
    now: float | None = None
    summary: str = ""


class SessionRow(Line):
    """One session.

    Attributes:
        id: The session's id.
        state: Its status; ``unreadable``, ``missing``, ``no_plan`` or ``pruned`` where it has none.
        needs: ``decision`` if an operator has to do something, ``work`` if a resume or a sweep can
            go on with it, or nothing.
        reason: Why it is blocked, as a code.
        why: Why it needs what it needs, in words.
        error: What the remote or the store said last.
        step: What to do next.
        way_out: What to do about a session that can't be read.
        facts: What else there is to say, as pairs of a name and a text.
        planned_at: When it was planned.
        confirmed: How many of its operations have a receipt.
        total: How many it has.
        stops: Each operation at which it stopped, where there are several.
        warnings: What planning found odd.
        operations: Its operations.
        history: Its history, oldest first.
        artifacts: Its objects in the store.
        timeline: Its history as a drawing, if there is more than one moment.
    """

    id: str
    state: str
    needs: Literal["decision", "work", ""] = ""
    reason: str | None = None
    why: str | None = None
    error: str | None = None
    step: tuple[StepPart, ...] = ()
    way_out: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    planned_at: str | None = None
    confirmed: int = 0
    total: int = 0
    stops: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    operations: tuple[OperationRow, ...] = ()
    history: tuple[History, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    timeline: Timeline | None = None


class Unread(Line):
    """Sessions that are on the page as a number only.

    Attributes:
        count: How many.
        state: Which.
        why: Why they were not read, and how to see them.
    """

    count: int
    state: str
    why: str


class Report(Line):
    """A store's sessions.

    Attributes:
        store: The store's name.
        made_at: When it was read.
        version: The version of writeahead that read it.
        asked: Which sessions were asked for, in words.
        with_payloads: Whether payloads and the values of receipts are in it.
        sessions: Those that were read, the ones that need a decision first.
        unread: Those that were not.
        failed: Whether the store failed, or lacked a session that was named.
    """

    store: str
    made_at: str
    version: str
    asked: str
    with_payloads: bool
    sessions: tuple[SessionRow, ...] = ()
    unread: tuple[Unread, ...] = ()
    failed: bool = False

    def counts(self) -> Sequence[tuple[str, int]]:
        """How many sessions there are of each state, read or not; the most urgent state first."""
        found: dict[str, int] = {}
        for state, count in (
            *((row.state, 1) for row in self.sessions),
            *((one.state, one.count) for one in self.unread),
        ):
            found[state] = found.get(state, 0) + count
        return [(state, found[state]) for state in _ORDER if state in found]


_ORDER = (
    "missing",
    "unreadable",
    "blocked",
    "resume_needed",
    "in_progress",
    "no_plan",
    "unread",
    "abandoned",
    "completed",
    "pruned",
)
