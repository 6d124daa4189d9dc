"""unblock_session() and abandon_session(): an operator's decisions on a session."""

import hashlib
import warnings
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from writeahead.errors import InvalidInput
from writeahead.model import Assume, BlockReason, Receipt, RunReport, RunStatus
from writeahead.protocol.artifacts import no_session, remove_markers
from writeahead.protocol.encoding import encode_model
from writeahead.protocol.in_doubt import silently_sent
from writeahead.protocol.journal import Ending, Journal, new_owner, require_reason
from writeahead.protocol.keys import checksum_key, final_key, journal_key, open_key, planned_key
from writeahead.protocol.messages import foreign_final
from writeahead.protocol.own_plans import checksum_file
from writeahead.protocol.references import ids_read
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import Event, JournalEntry
from writeahead.protocol.session import StoredSession, read_stored, require_ours
from writeahead.stores.base import ArtifactStore

__all__ = ["abandon_session", "existing_session", "unblock_session"]


def unblock_session(
    session_id: str,
    *,
    store: ArtifactStore,
    reason: str,
    assume: Mapping[str, Assume | str | bool] | None = None,
    remote_ids: Mapping[str, str] | None = None,
    new_keys: Collection[str] = (),
    clock: Clock | None = None,
    dry_run: bool = False,
) -> RunReport:
    """Let a blocked session be resumed, by an operator's decision.

    Args:
        session_id: The session.
        store: Where its artifacts are.
        reason: Why; it is kept in the journal.
        assume: What the operator found out, by operation id: `Assume.APPLIED` (``"applied"``), so
            that it is never sent again, or `Assume.NOT_APPLIED` (``"not-applied"``), so that it may
            be sent. True and False mean the same; they warn, and go in the next version.
        remote_ids: The remote's ids of operations that are assumed as applied, for their receipts.
        new_keys: Operations that are sent under a new idempotency key from now on, for a remote
            that replays its first refusal for ever. Only for an outcome that is known as not
            applied.
        clock: Where time comes from; for tests.
        dry_run: Find out whether that can be done, and write nothing.

    Returns:
        A report with status ``resume_needed``: the session can be resumed now.

    Raises:
        InvalidInput: It is not blocked, an operation is unknown or confirmed already, or it waits
            for decisions on unprovable operations alone, and ``assume`` gives none. Of several, one
            after the other may be decided.
        Fenced: It was unblocked by another call at the same time.
        ResumeError: There is no such session, or it can't be read.
        StoreError: As the store's verbs.
    """
    require_reason("reason", reason)
    clock = clock or Clock()
    known_at = clock.monotonic()
    session = existing_session(store, session_id)
    if session.plan is None or session.entry is None or session.entry.status is not RunStatus.BLOCKED:
        raise InvalidInput(f"session {session_id} is not blocked: there is nothing to unblock")
    if session.has_foreign_final:
        raise InvalidInput(f"session {session_id}: {foreign_final(final_key(session_id))} first")
    journal = Journal.of(session, session.plan, store, clock, lease=0, known_at=known_at)
    decisions = {name: _checked(name, value) for name, value in (assume or {}).items()}
    _assume(journal, decisions, remote_ids or {}, clock.now())
    for operation_id in new_keys:
        _renew_key(journal, operation_id, decisions)
    undecided = journal.undecided()
    # With others to send, it may be decided later: a resume leaves it alone. A session gives up
    # while there are others only.
    has_others = session.entry.block_reason is BlockReason.GAVE_UP or any(
        stop.operation not in undecided for stop in session.stops
    )
    if undecided and not has_others:
        raise InvalidInput(
            f"session {session_id}: find out whether {undecided[0]} took effect, then say --assume applied"
            f" {undecided[0]} or --assume not-applied {undecided[0]}"
        )
    if not dry_run:
        journal.was_blocked = True
        journal.turn = journal.idle = 0
        journal.append(Event.UNBLOCKED, reason=reason)
        # .blocked/ stays until the session is final: see docs/decisions/0002.
        store.put(open_key(session_id), b"")
    return _report(session_id, RunStatus.RESUME_NEEDED, journal)


def abandon_session(
    session_id: str, *, store: ArtifactStore, reason: str, clock: Clock | None = None, dry_run: bool = False
) -> RunReport:
    """End a session for good, by an operator's decision. It is never completed, and never resumed.

    A live owner is fenced: it stops at its next entry. If its final artifact comes all the same,
    every operation was confirmed, and the session is completed. Receipts so far are kept in the
    journal. Of an orchestrator of its own, `load_replay_artifact` refuses the session from then on.

    Args:
        session_id: The session.
        store: Where its artifacts are.
        reason: Why; it is kept in the journal.
        clock: Where time comes from; for tests.
        dry_run: Find out whether that can be done, and write nothing.

    Returns:
        A report with status ``abandoned``, the receipts so far, and as ``attempted`` what may have
        been sent besides.

    Raises:
        InvalidInput: It is completed.
        Fenced: Its owner was faster; call again.
        ResumeError: There is no such session, it has no plan yet, or it can't be read.
        StoreError: As the store's verbs.
    """
    require_reason("reason", reason)
    clock = clock or Clock()
    known_at = clock.monotonic()
    session = existing_session(store, session_id, or_own=True)
    if session.is_final:
        raise InvalidInput(f"session {session_id} is completed: there is nothing to abandon")
    if session.pruned:
        return RunReport(session_id=session_id, status=RunStatus.ABANDONED)
    if session.is_own and session.is_planned:
        return _abandon_own(session, store, reason, clock.now(), dry_run=dry_run)
    if session.plan is None:
        raise no_session(store, session_id)
    journal = Journal.of(session, session.plan, store, clock, lease=0, known_at=known_at)
    for operation_id, latest in silently_sent(session, clock.now()).items():
        # Once the session has ended, nothing else tells what its owner may have sent in silence.
        journal.suspect(operation_id, latest)
    if dry_run:
        return _report(session_id, RunStatus.ABANDONED, journal)
    is_abandoned = session.entry is not None and session.entry.status is RunStatus.ABANDONED
    if not is_abandoned:
        ending = Ending(RunStatus.ABANDONED, "abandoned by an operator")
        journal.append(Event.ABANDONED, ending=ending, reason=reason)
    warnings = remove_markers(store, session_id, was_blocked=True)
    return _report(session_id, RunStatus.ABANDONED, journal, warnings)


def _abandon_own(
    session: StoredSession, store: ArtifactStore, reason: str, now: datetime, *, dry_run: bool
) -> RunReport:
    """End a session of an orchestrator of its own: an entry is the only one of its journal."""
    session_id = session.session_id
    report = RunReport(session_id=session_id, status=RunStatus.ABANDONED)
    if dry_run or session.entry:
        return report
    digest = hashlib.sha256(store.get(planned_key(session_id)).data).hexdigest()
    # Also where version 0.1 wrote none: it tells such a plan from one of ours.
    store.put(checksum_key(session_id, digest), checksum_file(digest, abandoned=True))
    entry = JournalEntry(
        session_id=session_id,
        number=1,
        event=Event.ABANDONED,
        owner=new_owner(),
        at=now,
        lease_seconds=0,
        plan_digest=digest,
        status=RunStatus.ABANDONED,
        error="abandoned by an operator",
        reason=reason,
    )
    store.put(journal_key(session_id, 1), encode_model(entry), if_absent=True)
    warnings = remove_markers(store, session_id, was_blocked=False)
    return report.model_copy(update={"warnings": warnings})


def existing_session(store: ArtifactStore, session_id: str, *, or_own: bool = False) -> StoredSession:
    """Read a session that must be there.

    Args:
        store: Where its artifacts are.
        session_id: The session.
        or_own: Take one of an orchestrator of its own, too.

    Raises:
        ResumeError: The store holds nothing of it, or what it holds can't be read.
        InvalidInput: The session id can't be used.
        StoreError: As the store's verbs.
    """
    session = read_stored(store, session_id)
    if not or_own:
        require_ours(session)
    if session == StoredSession(session_id):
        raise no_session(store, session_id)
    return session


def _report(session_id: str, status: RunStatus, journal: Journal, warnings: Sequence[str] = ()) -> RunReport:
    return RunReport(
        session_id=session_id,
        status=status,
        operations=journal.plan.operations,
        receipts=dict(journal.receipts),
        attempted=dict(journal.attempted),
        warnings=tuple(warnings),
    )


def _renew_key(journal: Journal, operation_id: str, decisions: Mapping[str, Assume]) -> None:
    _require_open(journal, operation_id)
    if operation_id in journal.attempted and decisions.get(operation_id) is not Assume.NOT_APPLIED:
        raise InvalidInput(
            f"operation {operation_id!r} may have been sent: a new key could apply it twice. Find out whether"
            f" it took effect; if not, say --assume not-applied {operation_id} as well"
        )
    journal.generations[operation_id] = journal.generations.get(operation_id, 0) + 1


def _require_open(journal: Journal, operation_id: str) -> None:
    known = [operation.id for operation in journal.plan.operations]
    if operation_id not in known:
        raise InvalidInput(f"there is no operation {operation_id!r} here, only: {', '.join(known)}")
    if operation_id in journal.receipts:
        raise InvalidInput(f"operation {operation_id!r} is confirmed already: leave it out")


def _checked(operation_id: str, value: Assume | str | bool) -> Assume:  # noqa: FBT001 - one version more
    if isinstance(value, bool):
        words = 'write "applied" or "not-applied" in place of True or False'
        warnings.warn(f"unblock_session(assume=...): {words}", DeprecationWarning, stacklevel=3)
        return Assume.APPLIED if value else Assume.NOT_APPLIED
    if value not in tuple(Assume):
        raise InvalidInput(f"operation {operation_id!r}: assume {' or '.join(Assume)}, not {value!r}")
    return Assume(value)


def _require_ids_that_are_read(
    journal: Journal, assume: Mapping[str, Assume], remote_ids: Mapping[str, str]
) -> None:
    """Refuse to confirm an operation without the id that a later one refers to.

    It could not be given afterwards.
    """
    confirmed = {name for name, found in assume.items() if found is Assume.APPLIED}
    for operation in journal.plan.operations:
        if operation.id in confirmed or operation.id in journal.receipts:
            continue
        for name in sorted(ids_read(operation.payload) & confirmed - set(remote_ids)):
            raise InvalidInput(
                f"operation {operation.id!r} refers to the remote id of {name!r}: give that id, or say what"
                f" is true of {operation.id!r} as well"
            )


def _assume(
    journal: Journal, assume: Mapping[str, Assume], remote_ids: Mapping[str, str], now: datetime
) -> None:
    for operation_id in assume:
        _require_open(journal, operation_id)
    for operation_id in remote_ids:
        if assume.get(operation_id) is not Assume.APPLIED:
            raise InvalidInput(
                f"operation {operation_id!r} gets a remote id only if it is assumed as applied"
            )
    is_part = len(assume) < len(journal.plan.operations) or len(set(assume.values())) > 1
    if journal.plan.atomic and assume and is_part:
        raise InvalidInput("it is one transaction: assume the same of each of its operations, or nothing")
    _require_ids_that_are_read(journal, assume, remote_ids)
    for operation_id, found in assume.items():
        journal.attempted.pop(operation_id, None)
        journal.attempted_since.pop(operation_id, None)
        if found is Assume.APPLIED:
            receipt = Receipt(outcome="assumed", remote_id=remote_ids.get(operation_id))
            journal.confirm(operation_id, receipt, now, None)
