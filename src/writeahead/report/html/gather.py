"""Reading a store for the HTML report. One session that can't be read hides no other."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from writeahead.errors import ResumeError, StoreError
from writeahead.protocol.finding import Found, SessionSummary, State, all_sessions, marked_sessions
from writeahead.protocol.messages import one_line
from writeahead.report.html.rows import row_of
from writeahead.report.html.views import Report, SessionRow, Unread, moment, visible
from writeahead.report.page import SessionPage, read_whole
from writeahead.stores.base import ArtifactStore

__all__ = ["COMPLETED", "LIMIT", "Wanted", "gather"]

# Of the completed sessions, the newest so many are read, unless they are asked for.
COMPLETED = 20
LIMIT = 1000
# A store that fails for so many sessions in a row is asked no more.
_GIVE_UP = 3

_NextStep: TypeAlias = Callable[[SessionPage], str | None]


@dataclass(frozen=True)
class Wanted:
    """Which sessions the report is about, and how much of them.

    Attributes:
        session_ids: These alone, if any is named.
        state: Those in this state; None: all that are not at their end, and the newest completed.
        limit: So many sessions are read, at most.
        with_payloads: Whether payloads and the values of receipts come into the report.
        concurrency: How many sessions are read at once.
    """

    session_ids: Sequence[str] = ()
    state: State | None = None
    limit: int = LIMIT
    with_payloads: bool = False
    concurrency: int = 1

    def in_words(self) -> str:
        """Which sessions, for the head of the page."""
        if self.session_ids:
            return f"{len(self.session_ids)} by name"
        return f"state {self.state}" if self.state else "all"


def gather(
    store: ArtifactStore,
    wanted: Wanted,
    *,
    now: datetime,
    clock_skew: float,
    version: str,
    next_step: _NextStep,
) -> Report:
    """Read sessions of a store for the report, and change nothing.

    It costs one listing of the store, or of the markers alone for an open state. Each session that
    is read costs a listing, two heads and about four reads, and one more for each journal entry.

    Args:
        store: Where the artifacts are.
        wanted: Which sessions.
        now: The wall clock's time.
        clock_skew: Seconds that two machines' clocks may be apart.
        version: The version of writeahead, for the page.
        next_step: Says what to do next about a session; None if there is nothing to do.

    Raises:
        InvalidInput: A session id can't be used.
        StoreError: The store can't be listed.
    """
    listed = _listed(store, wanted)
    reading = _Reading(store, wanted, now, clock_skew, next_step)
    rows = list(reading.rows(listed.names))
    unread = [
        *reading.unread(len(listed.names)),
        *(_not_read(state, count, wanted) for state, count in listed.left.items() if count),
    ]
    return Report(
        store=visible(store.name),
        made_at=moment(now) or "",
        version=version,
        asked=wanted.in_words(),
        with_payloads=wanted.with_payloads,
        sessions=tuple(sorted(rows, key=_urgency)),
        unread=tuple(unread),
        failed=reading.failed,
    )


def _urgency(row: SessionRow) -> int:
    """Those that need a decision come first; else as they were read."""
    return ("decision", "work", "").index(row.needs)


@dataclass(frozen=True)
class _Listed:
    """What a listing found: sessions to be read, in order, and how many others of a state."""

    names: Sequence[str]
    left: dict[str, int] = field(default_factory=dict)


def _listed(store: ArtifactStore, wanted: Wanted) -> _Listed:
    if wanted.session_ids:
        return _Listed(list(dict.fromkeys(wanted.session_ids)))
    ended = wanted.state in (None, State.COMPLETED, State.ABANDONED, State.PRUNED)
    if not ended:
        return _Listed(_in_order(marked_sessions(store)))
    newest: list[tuple[datetime, str]] = []
    most = wanted.limit if wanted.state is State.COMPLETED else COMPLETED if wanted.state is None else 0
    completed, pruned, others = 0, [], []
    for found in all_sessions(store):
        if found.is_final and not found.is_marked:
            completed += 1
            heapq.heappush(newest, (found.final_at or datetime.min.replace(tzinfo=UTC), found.session_id))
            if len(newest) > most:
                heapq.heappop(newest)
        elif found.is_pruned and not found.is_marked:
            pruned.append(found.session_id)
        else:
            others.append(found)
    last = [name for _, name in sorted(newest, reverse=True)]
    if wanted.state is State.COMPLETED:
        return _Listed(last, {"completed": completed - len(last)})
    if wanted.state is State.PRUNED:
        return _Listed(pruned)
    if wanted.state is State.ABANDONED:
        return _Listed(_in_order(others))
    left = {"completed": completed - len(last), "pruned": len(pruned)}
    return _Listed([*_in_order(others), *last], left)


def _in_order(found: Iterator[Found] | Sequence[Found]) -> list[str]:
    """Those that wait for an operator first, then unfinished ones, then those without a marker."""
    ranked = sorted(found, key=lambda one: 2 if not one.is_marked else 1 if one.is_open else 0)
    return [one.session_id for one in ranked]


def _not_read(state: str, count: int, wanted: Wanted) -> Unread:
    if state == "completed" and wanted.state is State.COMPLETED:
        return Unread(count=count, state=state, why="The newest are on the page. More: --limit.")
    why = {
        "completed": "The newest are on the page. More: --state completed, or a session's id.",
        "pruned": "Their artifacts were removed after their end. See them: --state pruned.",
    }
    return Unread(count=count, state=state, why=why[state])


@dataclass
class _Reading:
    """The sessions as they are read."""

    store: ArtifactStore
    wanted: Wanted
    now: datetime
    clock_skew: float
    next_step: _NextStep
    failed: bool = False
    _tried: int = 0
    _failures: int = 0
    _reason: str = ""

    def rows(self, names: Sequence[str]) -> Iterator[SessionRow]:
        """Read them in order, until there are enough, or the store fails time and again."""
        count = 0
        with ThreadPoolExecutor(self.wanted.concurrency) as pool:
            while self._tried < len(names) and count < self.wanted.limit and self._failures < _GIVE_UP:
                size = min(self.wanted.concurrency, self.wanted.limit - count)
                some = names[self._tried : self._tried + size]
                self._tried += len(some)
                for row, failure in pool.map(self._read, some):
                    self._note(row, failure)
                    if row is not None:
                        count += 1
                        yield row

    def unread(self, count: int) -> Iterator[Unread]:
        """What was left, of so many."""
        left = count - self._tried
        if left and self._failures >= _GIVE_UP:
            yield Unread(count=left, state="unread", why=f"The store failed: {self._reason}")
        elif left:
            yield Unread(count=left, state="unread", why=f"The limit is {self.wanted.limit}. More: --limit.")

    def _note(self, row: SessionRow | None, failure: StoreError | None) -> None:
        self._failures = self._failures + 1 if failure else 0
        if failure:
            self._reason = visible(one_line(failure))
        missing = row is not None and row.state == "missing"
        self.failed = self.failed or missing or failure is not None

    def _read(self, name: str) -> tuple[SessionRow | None, StoreError | None]:
        """Read a session; None if it is not wanted, and what the store said if it failed."""
        try:
            page, readable = read_whole(self.store, name, now=self.now, clock_skew=self.clock_skew)
        except StoreError as error:
            return _failed(name, "unreadable", error), error
        except ResumeError as error:
            # One that was not named is gone since it was listed.
            return (_failed(name, "missing", error) if self.wanted.session_ids else None), None
        state = None if self.wanted.session_ids else self.wanted.state
        summary = SessionSummary(name, page.status, own=page.own, pruned_at=page.pruned_at)
        if state is not None and not summary.matches(state):
            return None, None
        step = self.next_step(page)
        return row_of(page, readable, step, now=self.now, with_payloads=self.wanted.with_payloads), None


def _failed(name: str, state: str, error: Exception) -> SessionRow:
    return SessionRow(id=name, state=state, needs="decision", error=visible(one_line(error)))
