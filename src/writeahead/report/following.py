"""What is new of a session, or of all open ones, since the last look."""

from collections.abc import Iterator
from dataclasses import replace

from writeahead.errors import NotFound, ResumeError, StoreError
from writeahead.model import RunPolicy, RunStatus
from writeahead.protocol.encoding import decode
from writeahead.protocol.finding import Found, marked_sessions
from writeahead.protocol.keys import final_key, journal_key
from writeahead.protocol.messages import one_line
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import JournalEntry
from writeahead.protocol.session import StoredSession, read_stored
from writeahead.report.session import Session, fields_of_history, fields_of_status
from writeahead.stores.base import ArtifactStore

__all__ = ["Follower", "Watcher"]

_DEFAULT_POLICY = RunPolicy()


class _Looker:
    def __init__(
        self,
        store: ArtifactStore,
        *,
        clock_skew: float = _DEFAULT_POLICY.clock_skew,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._skew = clock_skew
        self._clock = clock or Clock()

    def _is_active(self, stored: StoredSession) -> bool:
        return stored.status(self._clock.now(), self._skew) is RunStatus.IN_PROGRESS

    def _session(self, stored: StoredSession) -> Session:
        now = self._clock.now()
        return Session(
            session_id=stored.session_id,
            **fields_of_history(stored, stored.plan),
            **fields_of_status(stored, now, self._skew),
        )


class Follower(_Looker):
    """Follows one session while a run is active. It changes nothing.

    Args:
        store: Where its artifacts are.
        session_id: The session.
        clock_skew: Seconds that two machines' clocks may be apart; a lease counts as over after
            that.
        clock: Where time comes from; for tests.

    Raises:
        CorruptArtifact: What the store holds of it can't be read.
        StoreError: As the store's verbs. The same is true of the methods.
    """

    def __init__(
        self,
        store: ArtifactStore,
        session_id: str,
        *,
        clock_skew: float = _DEFAULT_POLICY.clock_skew,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(store, clock_skew=clock_skew, clock=clock)
        self._stored = read_stored(store, session_id)
        # The entries up to here have been told.
        self._told = self._stored.number

    def tell_from(self, number: int) -> None:
        """Tell of the entries after this one at the next look."""
        self._told = min(self._told, number)

    @property
    def is_active(self) -> bool:
        """Whether a run holds the session, or entries are still to be told, by what was read."""
        return self._told < self._stored.number or self._is_active(self._stored)

    def session(self) -> Session:
        """Return how it stands, by what was read so far."""
        return self._session(self._stored)

    def look(self) -> Iterator[JournalEntry]:
        """Stream the journal entries that are new since the last look.

        Without any it costs two requests, one at the journal's next number and one at the final
        artifact. With some it reads these, and the session again.
        """
        before, session_id = self._told, self._stored.session_id
        # Asked first: no entry comes after it.
        is_final = self._store.head(final_key(session_id)) is not None
        while entry := self._entry(self._told + 1):
            self._told = entry.number
            yield entry
        if self._told > before or is_final:
            self._stored = read_stored(self._store, session_id)
        else:
            # A copy asks the system again whether the owner's process is dead.
            self._stored = replace(self._stored)

    def _entry(self, number: int) -> JournalEntry | None:
        key = journal_key(self._stored.session_id, number)
        try:
            data = self._store.get(key).data
        except NotFound:
            return None
        return decode(data, JournalEntry, key=key)


class Watcher(_Looker):
    """Watches all sessions that have a marker. It changes nothing.

    Args:
        store: Where the sessions are.
        clock_skew: Seconds that two machines' clocks may be apart.
        clock: Where time comes from; for tests.

    Attributes:
        open: Every open session as the last look found it, by its id.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        clock_skew: float = _DEFAULT_POLICY.clock_skew,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(store, clock_skew=clock_skew, clock=clock)
        self.open: dict[str, Session] = {}
        self._read: dict[str, tuple[Found, StoredSession]] = {}

    def look(self) -> Iterator[Session]:
        """Stream the sessions that are new, that changed, or that are open no more.

        It costs a listing of each kind of marker, a request for each session that a run is active
        in or that needs one, at its journal's next number, and reads of what changed.

        Raises:
            StoreError: The markers can't be listed. A session that can't be read is told of, with
                its problem.
        """
        marked = {found.session_id: found for found in marked_sessions(self._store)}
        for session_id, found in marked.items():
            session = self._look_at(found)
            known = self.open.get(session_id)
            self.open[session_id] = session
            if known is None or _told(known) != _told(session):
                yield session
        for session_id in sorted(self.open.keys() - marked.keys()):
            self._read.pop(session_id, None)
            last = self._look_at(Found(session_id, is_marked=False, is_final=False))
            del self.open[session_id]
            self._read.pop(session_id, None)
            yield last

    def _look_at(self, found: Found) -> Session:
        try:
            if (stored := self._unchanged(found)) is None:
                stored = read_stored(self._store, found.session_id)
        except (ResumeError, StoreError) as error:
            self._read.pop(found.session_id, None)
            return Session(session_id=found.session_id, problem=one_line(error))
        self._read[found.session_id] = found, stored
        return self._session(stored)

    def _unchanged(self, found: Found) -> StoredSession | None:
        """What was read of a session earlier, if that is still all that there is."""
        then, stored = self._read.get(found.session_id, (None, None))
        if stored is None or then != found or not stored.is_planned:
            return None
        if found.is_open and self._store.head(journal_key(found.session_id, stored.number + 1)) is not None:
            return None
        return replace(stored)


def _told(session: Session) -> tuple[object, ...]:
    """What of a session is a change when it is another."""
    return session.status, session.block_reason, session.error, len(session.receipts), session.problem
