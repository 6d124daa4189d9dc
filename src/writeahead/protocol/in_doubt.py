"""Which operations may have been sent although no receipt confirms them."""

from datetime import datetime

from writeahead.model import ReplayClass
from writeahead.protocol.session import StoredSession

__all__ = ["in_doubt", "silently_sent"]


def in_doubt(session: StoredSession, now: datetime) -> dict[str, datetime]:
    """Operations without a receipt that may have been sent, and when at the latest.

    These are what the newest entry says, and what a silent owner may have sent since.
    """
    found = dict(session.entry.attempted) if session.entry and not session.final else {}
    for name, latest in silently_sent(session, now).items():
        found[name] = max(latest, found.get(name, latest))
    return found


def silently_sent(session: StoredSession, now: datetime) -> dict[str, datetime]:
    """What an owner that has not given the session up may have sent without an entry.

    That is all but unprovable operations, which it announces. The moment is its last one: the end
    of its lease, or now if it is surely dead.
    """
    if session.plan is None or session.lease_ends is None:
        return {}
    latest = min(now, session.lease_ends) if session.owner_is_dead else session.lease_ends
    return {
        operation.id: latest
        for operation in session.plan.operations
        if operation.id not in session.receipts and operation.replay is not ReplayClass.UNPROVABLE
    }
