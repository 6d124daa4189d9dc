"""prune(): remove the artifacts of sessions that ended long ago. The ids stay closed.

See docs/decisions/0016. In this order, for one session after the other: what is to be kept goes to
the archive; a tombstone replaces the plan; an empty object tells listings so; the rest is deleted.
Only puts are durable, so a power cut may undo any of the deletes: the tombstone decides, whatever
is back.
"""

import contextlib
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from writeahead.errors import (
    AlreadyExists,
    CorruptArtifact,
    InvalidInput,
    NotFound,
    StoreError,
    WriteaheadError,
)
from writeahead.model import RunStatus
from writeahead.protocol.encoding import decode, encode_model, is_foreign, is_pruned
from writeahead.protocol.folders import Folder, folders
from writeahead.protocol.journal import LOOK_AGAIN
from writeahead.protocol.keys import final_key, planned_key, pruned_key
from writeahead.protocol.messages import foreign_final, one_line
from writeahead.protocol.retry import Clock
from writeahead.protocol.schema import PlannedWriteback, PrunedPlan
from writeahead.protocol.session import StoredSession, after, read_artifact, require_tombstone, stored_in
from writeahead.stores.base import ArtifactStore, ObjectInfo, require_store

__all__ = ["YOUNGEST", "PruneResult", "prune"]

# Until then a run that was suspended may not have looked again: see `journal.LOOK_AGAIN`. As much
# again is for clocks that differ.
YOUNGEST = timedelta(seconds=2 * LOOK_AGAIN)


@dataclass(frozen=True)
class PruneResult:
    """What was done, or would be done, about one session.

    Attributes:
        session_id: The session.
        status: How it ended: ``completed`` or ``abandoned``; None where that is not read again, or
            can't be.
        ended_at: When; None likewise.
        objects: How many objects are deleted. The plan is not: its tombstone stays.
        size: The bytes of these objects and of the plan.
        archived: How many objects the archive has of it, if there is one.
        written: Whether it was done.
        error: What went wrong. The session stays as it is, or is finished by another prune.
    """

    session_id: str
    status: RunStatus | None = None
    ended_at: datetime | None = None
    objects: int = 0
    size: int = 0
    archived: int = 0
    written: bool = False
    error: str | None = None


def prune(
    store: ArtifactStore,
    older_than: timedelta,
    *,
    archive: ArtifactStore | None = None,
    dry_run: bool = True,
    limit: int | None = None,
    stop: threading.Event | None = None,
    clock: Clock | None = None,
) -> Iterator[PruneResult]:
    """Remove the artifacts of completed and abandoned sessions. Streams results.

    Open and blocked sessions are never touched. One listing of the store finds the sessions, and
    memory does not grow with their number. What stays of each is a tombstone in the plan's place,
    and an empty object: the id can't be used again, and a repeat of the same request is still told
    that nothing is missing. One bad session never stops the others: its error is in its result.

    Args:
        store: Where the artifacts are.
        older_than: How long ago a session must have ended: by the store's clock, which wrote its
            last artifact, or by that artifact, whichever is later, against this machine's clock. At
            least an hour.
        archive: Another store, which gets the final artifact of a completed session, or plan and
            journal of an abandoned one, under the same keys before anything is overwritten.
        dry_run: Only tell what would be done.
        limit: End after so many sessions.
        stop: Once set, no further session is begun.
        clock: Where time comes from; for tests.

    Raises:
        InvalidInput: ``older_than`` or ``limit`` can't be used, or ``archive`` is the same place,
            which a dry run need not notice.
        StoreError: The store can't be listed.
    """
    require_store(store)
    if not isinstance(older_than, timedelta) or older_than < YOUNGEST:
        raise InvalidInput(
            "older_than: give a timedelta of an hour or more: a run that slept through the end of its session"
            " must have time to find out"
        )
    if limit is not None and limit < 1:
        raise InvalidInput("limit: how many sessions at most: 1 or more")
    if archive is not None:
        require_store(archive)
        if archive is store:
            raise InvalidInput("archive: it is the store itself: give another one")
    now = (clock or Clock()).now()
    pruning = _Pruning(store, archive, now, after(now, -older_than.total_seconds()), dry_run=dry_run)
    return pruning.results(limit, stop)


class _Outrun(Exception):
    """Another prune has put its tombstone since this one read the plan."""


@dataclass(frozen=True)
class _End:
    """An end that is long enough ago: the tombstone for it, and what is removed."""

    tombstone: PrunedPlan
    # Whether it stands in the plan's place already.
    stands: bool
    delete: Mapping[str, ObjectInfo]
    archive: Sequence[str]


@dataclass(frozen=True)
class _Pruning:
    store: ArtifactStore
    archive: ArtifactStore | None
    now: datetime
    # Later than this is too young.
    until: datetime
    dry_run: bool

    def results(self, limit: int | None, stop: threading.Event | None) -> Iterator[PruneResult]:
        if self.archive is not None and not self.dry_run:
            self._require_another_place(self.archive)
        count = 0
        for folder in folders(self.store):
            if stop and stop.is_set():
                return
            result = self._guarded(folder)
            if result is None:
                continue
            yield result
            count += result.error is None
            if count == limit:
                return

    def _require_another_place(self, archive: ArtifactStore) -> None:
        """Refuse an archive that is the store under another name: it would be deleted, too."""
        probe = f".prune-{uuid.uuid4().hex}"
        archive.put(probe, b"")
        try:
            is_same = self.store.head(probe) is not None
        finally:
            # An archive may be one that lets nothing be deleted: then this empty object stays.
            with contextlib.suppress(StoreError):
                archive.delete(probe)
        if is_same:
            raise InvalidInput("archive: it is the same place as the store: give another one")

    def _guarded(self, folder: Folder) -> PruneResult | None:
        try:
            return self._result(folder)
        except (NotFound, _Outrun):
            return None  # another prune has just removed it
        except WriteaheadError as error:
            return PruneResult(folder.session_id, error=one_line(error))

    def _result(self, folder: Folder) -> PruneResult | None:
        if planned_key(folder.session_id) not in folder.found or self._is_young(folder):
            return None
        if pruned_key(folder.session_id) in folder.found:
            return self._tidied(folder)
        end = self._end(folder)
        if end is None:
            return None
        plan = folder.found[planned_key(folder.session_id)]
        result = PruneResult(
            folder.session_id,
            end.tombstone.status,
            end.tombstone.ended_at,
            objects=len(end.delete),
            size=sum(info.size for info in end.delete.values()) + (0 if end.stands else plan.size),
        )
        if self.dry_run:
            return result
        archived = self._archived(end.archive)
        if not end.stands:
            self.store.put(plan.key, encode_model(end.tombstone))
        self.store.put(pruned_key(folder.session_id), b"")
        self._delete(end.delete)
        return replace(result, archived=archived, written=True)

    def _tidied(self, folder: Folder) -> PruneResult | None:
        """Remove what is left, or is there again, of a session that was pruned before."""
        rest = folder.leftovers | self._outside(folder)
        corrected = None
        if final_key(folder.session_id) in rest:
            tombstone = self._standing(folder)
            if self._is_of_others(folder, tombstone):
                del rest[final_key(folder.session_id)]
            elif tombstone.status is not RunStatus.COMPLETED:
                corrected = tombstone.model_copy(update={"status": RunStatus.COMPLETED})
        if not rest:
            return None
        result = PruneResult(
            folder.session_id, objects=len(rest), size=sum(info.size for info in rest.values())
        )
        if self.dry_run:
            return result
        archived = self._archived([key for key in (final_key(folder.session_id),) if key in rest])
        if corrected:
            # The final artifact came late, of an owner that had every receipt. It alone says so.
            self.store.put(planned_key(folder.session_id), encode_model(corrected))
        self._delete(rest)
        return replace(result, archived=archived, written=True)

    def _standing(self, folder: Folder) -> PrunedPlan:
        """The tombstone that an earlier prune put."""
        key = planned_key(folder.session_id)
        data = read_artifact(self.store, folder.found[key])
        if not is_pruned(data, key=key):
            require_tombstone(folder.session_id, folder.found)
        return decode(data, PrunedPlan, key=key)

    def _is_of_others(self, folder: Folder, tombstone: PrunedPlan) -> bool:
        """Whether the final artifact's key holds another program's file."""
        final = folder.found[final_key(folder.session_id)]
        return tombstone.adapter is not None and is_foreign(read_artifact(self.store, final), key=final.key)

    def _is_young(self, folder: Folder) -> bool:
        """Whether an object was written too late, by the store's clock; it costs no request."""
        moments = (info.last_modified for info in folder.leftovers.values())
        return any(moment is not None and moment > self.until for moment in moments)

    def _outside(self, folder: Folder) -> dict[str, ObjectInfo]:
        """Markers, which are there again, and an old dry run's plan."""
        return {
            info.key: info
            for info in folder.outside
            if info.last_modified is None or info.last_modified <= self.until
        }

    def _end(self, folder: Folder) -> _End | None:
        """The end of a session; None if it has none, or a late one."""
        session = stored_in(self.store, folder.session_id, folder.found)
        status = session.status(self.now, 0)
        if status not in (RunStatus.COMPLETED, RunStatus.ABANDONED):
            return None
        tombstone, stands = self._tombstone(folder, session, status)
        if tombstone is None or tombstone.ended_at > self.until:
            return None
        delete = folder.leftovers | self._outside(folder)
        final = final_key(folder.session_id)
        if session.has_foreign_final and not session.is_own:
            raise CorruptArtifact(foreign_final(final))
        kept = [*folder.journal_and_checksums, planned_key(folder.session_id)]
        if final in delete:
            kept = [final]
        elif stands:
            kept = []
        return _End(tombstone, stands, delete, kept)

    def _tombstone(
        self, folder: Folder, session: StoredSession, status: RunStatus
    ) -> tuple[PrunedPlan | None, bool]:
        """The tombstone for a session, and whether it stands in the plan's place."""
        if session.pruned:
            return session.pruned, True
        key = planned_key(folder.session_id)
        plan = session.plan
        if session.final:
            data = read_artifact(self.store, folder.found[key])
            if is_pruned(data, key=key):
                earlier = decode(data, PrunedPlan, key=key)
                now_known = earlier.model_copy(update={"status": status})
                return now_known, now_known == earlier
            plan = decode(data, PlannedWriteback, key=key)
            if plan.digest != session.final.plan_digest:
                raise CorruptArtifact(f"{key}: it is not the plan that was carried out; it was left as it is")
        ended_at = _ended_at(folder, session)
        if ended_at is None:
            return None, False
        return PrunedPlan(
            session_id=folder.session_id,
            status=status,
            ended_at=ended_at,
            pruned_at=self.now,
            adapter=plan.adapter if plan else None,
            request_digest=plan.request_digest if plan else None,
            target=plan.target if plan else None,
        ), False

    def _archived(self, keys: Sequence[str]) -> int:
        if self.archive is None:
            return 0
        for key in keys:
            data = self.store.get(key).data
            if is_pruned(data, key=key):
                raise _Outrun
            try:
                self.archive.put(key, data, if_absent=True)
            except AlreadyExists:
                raise CorruptArtifact(
                    f"{key}: the archive has another one under this key; nothing was changed"
                ) from None
            except NotFound as error:  # the bucket, which is no race with another prune
                raise InvalidInput(f"archive: {one_line(error)}") from None
        return len(keys)

    def _delete(self, found: Mapping[str, ObjectInfo]) -> None:
        for key in found:
            self.store.delete(key)


def _ended_at(folder: Folder, session: StoredSession) -> datetime | None:
    """When a session ended, the latest that is said; None if nothing says it."""
    moments = [info.last_modified for info in folder.leftovers.values()]
    if session.final:
        moments.append(session.final.completed_at)
    elif session.entry:
        moments.append(session.entry.at)
    return max((moment for moment in moments if moment is not None), default=None)
