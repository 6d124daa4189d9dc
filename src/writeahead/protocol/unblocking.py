"""unblock_session(): an operator's decision on a session that waits for one."""

import warnings
from collections.abc import Mapping
from datetime import datetime

from writeahead.errors import InvalidInput
from writeahead.model import Assume, Receipt, RunReport, RunStatus
from writeahead.protocol.artifacts import no_session
from writeahead.protocol.journal import Journal, Session, read_session
from writeahead.protocol.keys import open_key
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import Event
from writeahead.stores.base import ArtifactStore

__all__ = ["unblock_session"]


def unblock_session(
    session_id: str,
    *,
    store: ArtifactStore,
    reason: str,
    assume: Mapping[str, Assume | str | bool] | None = None,
    clock: Clock | None = None,
) -> RunReport:
    """Let a blocked session be resumed, by an operator's decision.

    Args:
        session_id: The session.
        store: Where its artifacts are.
        reason: Why; it is kept in the journal.
        assume: What a person found out of operations without a receipt: True if it was applied, so
            that it is never sent again; False if it was not, so that it may be sent.
        clock: Where time comes from; for tests.

    Returns:
        A report with status ``resume_needed``: the session can be resumed now.

    Raises:
        InvalidInput: It is not blocked, an operation is unknown or confirmed already, or it waits
            for a decision on an operation of unknown outcome that ``assume`` does not give.
        Fenced: It was unblocked by another call at the same time.
        ResumeError: There is no such session, or it can't be read.
        StoreError: As the store's verbs.
    """
    clock = clock or Clock()
    session = read_session(store, session_id)
    if session == Session(session_id):
        raise no_session(store, session_id)
    # Where there is a final artifact neither of these was read.
    if session.plan is None or session.entry is None or session.entry.status is not RunStatus.BLOCKED:
        raise InvalidInput(f"session {session_id} is not blocked: there is nothing to unblock")
    journal = Journal.of(session, session.plan, store, clock, lease=0)
    _assume(journal, {name: _checked(name, value) for name, value in (assume or {}).items()}, clock.now())
    undecided = journal.undecided()
    if undecided:
        raise InvalidInput(
            f"session {session_id}: find out whether {undecided} took effect, then say --assume applied"
            f" {undecided} or --assume not-applied {undecided}"
        )
    journal.was_blocked = True
    journal.append(Event.UNBLOCKED, reason=reason)
    # .blocked/ stays until the session is final: see docs/decisions/0002.
    store.put(open_key(session_id), b"")
    return RunReport(
        session_id=session_id,
        status=RunStatus.RESUME_NEEDED,
        operations=session.plan.operations,
        receipts=journal.receipts,
    )


def _checked(operation_id: str, value: Assume | str | bool) -> Assume:
    if isinstance(value, bool):
        words = 'write "applied" or "not-applied" in place of True or False'
        warnings.warn(f"unblock_session(assume=...): {words}", DeprecationWarning, stacklevel=3)
        return Assume.APPLIED if value else Assume.NOT_APPLIED
    if value not in tuple(Assume):
        raise InvalidInput(f"operation {operation_id!r}: assume {' or '.join(Assume)}, not {value!r}")
    return Assume(value)


def _assume(journal: Journal, assume: Mapping[str, Assume], now: datetime) -> None:
    known = [operation.id for operation in journal.plan.operations]
    for operation_id in assume:
        if operation_id not in known:
            raise InvalidInput(f"there is no operation {operation_id!r} here, only: {', '.join(known)}")
        if operation_id in journal.receipts:
            raise InvalidInput(f"operation {operation_id!r} is confirmed already: leave it out")
    if journal.plan.atomic and assume and (len(assume) < len(known) or len(set(assume.values())) > 1):
        raise InvalidInput("it is one transaction: assume the same of each of its operations, or nothing")
    for operation_id, found in assume.items():
        journal.attempted.pop(operation_id, None)
        if found is Assume.APPLIED:
            journal.receipts[operation_id] = Receipt(outcome="assumed", confirmed_at=now)
