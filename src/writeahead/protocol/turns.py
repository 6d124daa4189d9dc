"""Which sessions a sweep looks at, in which order, and when again."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from writeahead.model import RunPolicy, RunStatus
from writeahead.protocol.finding import Found, all_sessions, marked_sessions
from writeahead.protocol.session import after
from writeahead.protocol.settling import SweepResult
from writeahead.stores.base import ArtifactStore

__all__ = ["candidates", "in_turn", "next_look"]

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
# Seconds after which a session that another run is at is looked at again: it may be done, or dead.
_LOOK_AGAIN = 60.0


def candidates(store: ArtifactStore, *, scan: bool) -> Iterator[Found]:
    """Stream the sessions that a sweep looks at."""
    found = all_sessions(store) if scan else marked_sessions(store)
    return (one for one in found if one.is_marked or not (one.is_final or one.is_pruned))


def next_look(result: SweepResult, *, now: datetime, policy: RunPolicy) -> datetime | None:
    """When to look at a session again, as its result has it; None if that is at rest.

    At rest is what is completed, blocked or abandoned, what is not for this sweep, and an error of
    other kinds than a store that can't be reached.
    """
    status = result.report.status if result.report else None
    if status is RunStatus.IN_PROGRESS:
        soon = after(now, _LOOK_AGAIN)
        return min(result.not_before or soon, soon)
    if status is RunStatus.RESUME_NEEDED:
        return result.not_before or after(now, policy.longest_wait)
    return result.not_before


def in_turn(found: Iterable[Found], chance: Callable[[], float]) -> Iterator[Found]:
    """The oldest first, from a start by chance; those that have but a ``.blocked/`` marker last."""
    groups: tuple[list[Found], list[Found]] = ([], [])
    for one in found:
        groups[one.is_marked and not one.is_open].append(one)
    for group in groups:
        group.sort(key=lambda one: (one.marked_at or _LONG_AGO, one.session_id))
        start = int(chance() * len(group))
        yield from group[start:]
        yield from group[:start]
