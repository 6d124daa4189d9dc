"""A session's history along a time axis: lanes by owner, and long gaps made short."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby, pairwise, zip_longest
from math import ceil

from writeahead.protocol.schema import Event, Holder, JournalEntry, PlannedWriteback
from writeahead.report.html.views import Gap, Lane, Mark, Tick, Timeline, visible

__all__ = ["Past", "Scale", "lane_names", "timeline"]

# A gap is long if it lasts longer than this many times all the shorter ones together; of those
# there have to be some.
_LONG, _SHORTER = 3.0, 2
# Seconds; a shorter gap is drawn as it was.
_NEVER_LONG = 2.0
# Seconds; labels of an axis that is shorter have milliseconds.
_PRECISE = 4.0
# Of the axis: a long gap, and all of them.
_GAP, _GAPS = 0.1, 0.5
# Marks of one kind that are closer than this are drawn as one; and so are receipts.
_CLOSE, _CLOSE_RECEIPTS = 1 / 90, 1 / 250
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_OPERATORS = {Event.UNBLOCKED, Event.ABANDONED}


@dataclass(frozen=True)
class Past:
    """What a session's artifacts tell of its history.

    Attributes:
        plan: The plan, if it reads.
        history: The journal entries, oldest first.
        confirmed: When the receipts came.
        completed_at: When the final artifact was written, by its owner's clock.
        now: The present, if the session is not at its end.
    """

    plan: PlannedWriteback | None
    history: Sequence[JournalEntry] = ()
    confirmed: Sequence[datetime] = ()
    completed_at: datetime | None = None
    now: datetime | None = None

    @property
    def owners(self) -> list[str]:
        """Each owner, in order of appearance."""
        named = ([self.plan.owner] if self.plan else []) + [entry.owner for entry in self.history]
        return list(dict.fromkeys(named))


class Scale:
    """Where each moment is on an axis from 0 to 1.

    Args:
        moments: What is drawn on it, in any order; at least two that differ.
    """

    def __init__(self, moments: Iterable[datetime]) -> None:
        self._moments = sorted(set(moments))
        lengths = [(after - before).total_seconds() for before, after in pairwise(self._moments)]
        limit = _limit(lengths)
        self._is_long = [length >= limit for length in lengths]
        count = sum(self._is_long)
        width = min(_GAP, _GAPS / count) if count else 0.0
        rest = sum(length for length, is_long in zip(lengths, self._is_long, strict=True) if not is_long)
        places = [0.0]
        for length, is_long in zip(lengths, self._is_long, strict=True):
            places.append(places[-1] + (width if is_long else length / rest * (1 - count * width)))
        self._places = dict(zip(self._moments, places, strict=True))

    def __call__(self, at: datetime) -> float:
        """The place of one of its moments."""
        return round(min(self._places[at], 1.0), 4)

    def gaps(self) -> Iterator[Gap]:
        """What is drawn shorter than it was."""
        for (before, after), is_long in zip(pairwise(self._moments), self._is_long, strict=True):
            if is_long:
                yield Gap(start=self(before), end=self(after), text=_length(after - before))

    def ticks(self) -> Iterator[Tick]:
        """Labels: where a stretch begins or ends, and round times in between."""
        precise = (self._moments[-1] - self._moments[0]).total_seconds() < _PRECISE
        day = None
        for at, x in self._labelled():
            text = f"{at:%H:%M:%S}" + (f".{at.microsecond // 1000:03}" if precise else "")
            if at.date() != day:
                day, text = at.date(), f"{at:%d %b} {text}"
            yield Tick(x=x, text=text)

    def _labelled(self) -> Iterator[tuple[datetime, float]]:
        yield self._moments[0], 0.0
        begin = self._moments[0]
        for (before, after), is_long in zip(pairwise(self._moments), self._is_long, strict=True):
            if is_long:
                yield from self._between(begin, before)
                yield after, self(after)
                begin = after
        last = self._moments[-1]
        yield from self._between(begin, last)
        if begin != last:
            yield last, self(last)

    def _between(self, begin: datetime, end: datetime) -> Iterator[tuple[datetime, float]]:
        seconds = (end - begin).total_seconds()
        x0, x1 = self(begin), self(end)
        wanted = int((x1 - x0) * 6)
        if wanted < 2 or seconds < 2:  # noqa: PLR2004 - less has no room for a label
            return
        longest = _STEPS[-1] * ceil(seconds / wanted / _STEPS[-1])
        step = next((step for step in _STEPS if seconds / step <= wanted), longest)
        offset = step - begin.timestamp() % step
        while offset < seconds:
            yield begin + timedelta(seconds=offset), round(x0 + offset / seconds * (x1 - x0), 4)
            offset += step


def _limit(lengths: Sequence[float]) -> float:
    """From which length on a gap is long."""
    shorter = 0.0
    for count, length in enumerate(sorted(lengths)):
        if count >= _SHORTER and length >= _NEVER_LONG and length > _LONG * shorter > 0:
            return length
        shorter += length
    return float("inf")


def lane_names(past: Past) -> Mapping[str, str]:
    """What each owner is called: its process where that is known, or its random id."""
    holders: dict[str, Holder] = {}
    if past.plan and past.plan.holder:
        holders[past.plan.owner] = past.plan.holder
    events: dict[str, set[Event]] = {}
    for entry in past.history:
        events.setdefault(entry.owner, set()).add(entry.event)
        if entry.holder:
            holders.setdefault(entry.owner, entry.holder)
    names = {}
    for owner in past.owners:
        holder = holders.get(owner)
        name = f"{holder.host}, process {holder.pid}" if holder else f"run {owner[:8]}"
        is_operator = owner in events and events[owner] <= _OPERATORS
        names[owner] = visible("operator" if is_operator else name)
    return names


@dataclass
class _Owner:
    """What one owner did, and when."""

    role: str
    happened: list[tuple[datetime, str, str]] = field(default_factory=list)
    waits: list[tuple[datetime, datetime]] = field(default_factory=list)
    receipts: list[datetime] = field(default_factory=list)

    @property
    def moments(self) -> list[datetime]:
        return [*(at for at, _, _ in self.happened), *self.receipts, *(end for _, end in self.waits)]


def timeline(past: Past) -> Timeline | None:
    """Lay out a session's history.

    Returns:
        The drawing; None if there are no two moments to be drawn.
    """
    owners = _owners(past)
    moments = {at for owner in owners.values() for at in owner.moments}
    if past.now and moments and past.now > max(moments):
        moments.add(past.now)
    if len(moments) < 2:  # noqa: PLR2004 - a single moment has no axis
        return None
    scale, names = Scale(moments), lane_names(past)
    lanes = tuple(_lane(names[name], owner, scale) for name, owner in owners.items())
    return Timeline(
        lanes=lanes,
        gaps=tuple(scale.gaps()),
        ticks=tuple(scale.ticks()),
        now=scale(past.now) if past.now in moments else None,
        summary=_summary(past, lanes, min(moments), max(moments)),
    )


def _owners(past: Past) -> dict[str, _Owner]:
    owners: dict[str, _Owner] = {}
    if past.plan:
        owners[past.plan.owner] = _Owner("run", [(past.plan.created_at, "planned", "planned")])
    before: JournalEntry | None = None
    for entry in past.history:
        if entry.owner not in owners:
            owners[entry.owner] = _Owner(_role(entry, before, planned=past.plan is not None))
        about = ", ".join(
            filter(None, (entry.operation, entry.status, entry.block_reason, entry.error, entry.reason))
        )
        event = f"ended_{entry.status}" if entry.event is Event.ENDED else entry.event.value
        owners[entry.owner].happened.append((entry.at, event, about))
        before = entry
    _add_waits(past, owners)
    for at in past.confirmed:
        if owner := _owner_at(owners, at):
            owner.receipts.append(at)
    if past.completed_at and owners:
        last = list(owners.values())[-1]
        last.happened.append((past.completed_at, "completed", "final artifact"))
    return owners


def _role(entry: JournalEntry, before: JournalEntry | None, *, planned: bool) -> str:
    if entry.event in _OPERATORS:
        return "operator"
    if before is None:
        return "takeover" if planned else "run"
    return "resume" if before.event in (Event.ENDED, Event.UNBLOCKED) else "takeover"


def _add_waits(past: Past, owners: Mapping[str, _Owner]) -> None:
    """A wait lasts until the next entry, or the session's end; one that goes on, until now."""
    for entry, after in zip_longest(past.history, past.history[1:]):
        if entry.event is Event.WAITING:
            end = after.at if after else past.completed_at or past.now or entry.not_before
            if end and end > entry.at:
                owners[entry.owner].waits.append((entry.at, end))


def _owner_at(owners: Mapping[str, _Owner], at: datetime) -> _Owner | None:
    """The owner that had the session at a moment."""
    began = [owner for owner in owners.values() if owner.role != "operator" and owner.happened]
    had = [owner for owner in began if owner.happened[0][0] <= at]
    return had[-1] if had else began[0] if began else None


def _lane(name: str, owner: _Owner, scale: Scale) -> Lane:
    return Lane(
        name=name,
        role=owner.role,
        start=scale(min(owner.moments)),
        end=scale(max(owner.moments)),
        marks=tuple(_marks(owner, scale)),
        waits=tuple((scale(begin), scale(end)) for begin, end in owner.waits),
        receipts=tuple(_binned(owner.receipts, scale)),
    )


def _marks(owner: _Owner, scale: Scale) -> Iterator[Mark]:
    """One for each event; those of a kind that would lie upon each other are one."""
    kept: dict[str, list[list[tuple[datetime, str]]]] = {}
    for at, event, about in owner.happened:
        groups = kept.setdefault(event, [])
        if groups and scale(at) - scale(groups[-1][0][0]) < _CLOSE:
            groups[-1].append((at, about))
        else:
            groups.append([(at, about)])
    for event, groups in kept.items():
        for group in groups:
            (first, about), last = group[0], group[-1][0]
            if len(group) > 1:
                about = f"{len(group)} times, until {last:%H:%M:%S}Z"
            said = f"{first:%Y-%m-%d %H:%M:%S}Z {event.replace('_', ' ')}: {about}"
            yield Mark(x=scale(first), event=event, text=visible(said))


def _binned(receipts: Sequence[datetime], scale: Scale) -> Iterator[tuple[float, int]]:
    places = sorted(round(scale(at) / _CLOSE_RECEIPTS) for at in receipts)
    for place, group in groupby(places):
        yield round(min(place * _CLOSE_RECEIPTS, 1.0), 4), len(list(group))


def _summary(past: Past, lanes: Sequence[Lane], first: datetime, last: datetime) -> str:
    roles = [lane.role for lane in lanes]
    parts = [f"{first:%Y-%m-%d %H:%M:%S}Z to {last:%Y-%m-%d %H:%M:%S}Z", _times(len(lanes), "owner")]
    parts += [_times(roles.count(role), role) for role in ("resume", "takeover") if role in roles]
    parts.append(_times(len(past.history), "journal entry", "journal entries"))
    parts.append(_times(len(past.confirmed), "receipt"))
    parts.append("completed" if past.completed_at else "no final artifact")
    return ", ".join(parts)


def _times(count: int, one: str, several: str | None = None) -> str:
    return f"{count} {one if count == 1 else several or one + 's'}"


def _length(length: timedelta) -> str:
    seconds = length.total_seconds()
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
