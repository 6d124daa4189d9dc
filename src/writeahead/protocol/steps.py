"""What a sweep does about a session, as it stands; nothing is done here."""

from datetime import datetime
from enum import StrEnum

from writeahead.model import RunStatus
from writeahead.protocol.keys import blocked_key, open_key
from writeahead.protocol.schema import PlannedWriteback
from writeahead.protocol.session import StoredSession

__all__ = ["SweepAction", "how_it_ended", "lost_marker", "sweep_step"]


class SweepAction(StrEnum):
    """What a sweep does about a session that has a marker."""

    TIDY = "tidy"
    ABANDON = "abandon"
    SKIP = "skip"
    WAIT = "wait"
    RESUME = "resume"
    RESUME_OWN = "resume_own"


def sweep_step(
    session: StoredSession, *, now: datetime, clock_skew: float, adapter: str | None = None
) -> tuple[SweepAction, str]:
    """Decide what a sweep does about a session that has a marker, and say it in one line.

    Args:
        session: As it was read.
        now: The wall clock's time.
        clock_skew: Seconds that two machines' clocks may be apart.
        adapter: The name of the adapter that sweeps; None to leave it out of the decision.
    """
    ended = how_it_ended(session)
    if ended:
        return SweepAction.TIDY, f"{ended}: remove its marker"
    if session.is_own:
        return _own_step(session)
    plan = session.plan
    if plan is None:
        note = "no plan yet: wait while its run may be active; later, mark it as abandoned"
        return SweepAction.ABANDON, note
    if adapter is not None and plan.adapter != adapter:
        return SweepAction.SKIP, f"planned by adapter {plan.adapter!r}: sweep it with that one"
    return _planned_step(session, plan, now, clock_skew)


def _own_step(session: StoredSession) -> tuple[SweepAction, str]:
    if session.is_planned:
        return (
            SweepAction.RESUME_OWN,
            "resume it by the function of --own, once its marker is older than a lease",
        )
    return SweepAction.SKIP, "no plan yet: its program is at work, or died before it sent anything"


def _planned_step(
    session: StoredSession, plan: PlannedWriteback, now: datetime, clock_skew: float
) -> tuple[SweepAction, str]:
    status, not_before = session.status(now, clock_skew), session.waits_until(now, clock_skew)
    if status is RunStatus.BLOCKED:
        return SweepAction.SKIP, "blocked: it waits for an operator"
    if not_before:
        what = "another run is active" if status is RunStatus.IN_PROGRESS else "it has to wait"
        return SweepAction.WAIT, f"{what}, until {not_before:%Y-%m-%d %H:%M:%SZ} at the latest"
    missing = len(plan.operations) - len(session.receipts)
    return SweepAction.RESUME, f"resume it: {missing} of {len(plan.operations)} operations are missing"


def how_it_ended(session: StoredSession) -> str | None:
    """How a session ended that nothing is left to do about; None for one that did not."""
    if session.pruned:
        return "pruned"
    if session.is_final:
        return "finished"
    if session.abandoned:
        return "abandoned before it emitted anything"
    was_given_up = session.entry is not None and session.entry.status is RunStatus.ABANDONED
    return "abandoned by an operator" if was_given_up else None


def lost_marker(session: StoredSession) -> str | None:
    """The key of the marker that a session without one should have; None if it needs none."""
    if how_it_ended(session) or not session.is_planned:
        return None
    is_blocked = session.entry is not None and session.entry.status is RunStatus.BLOCKED
    return blocked_key(session.session_id) if is_blocked else open_key(session.session_id)
