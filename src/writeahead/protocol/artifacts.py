"""Three functions for an orchestrator of your own: planned, final, and load for a replay.

Its sessions are found as those of `writeahead.write_back` are: by a marker. A checksum beside the
plan tells whether someone edited it.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from writeahead._roundtrip import difference_of
from writeahead.errors import AlreadyExists, CorruptArtifact, PlanConflict, ResumeError, StoreError
from writeahead.protocol.encoding import (
    decode,
    encode_model,
    is_abandoned,
    is_foreign,
    is_ours,
    is_pruned,
)
from writeahead.protocol.keys import (
    FINAL,
    PLANNED,
    blocked_key,
    checksum_key,
    final_key,
    open_key,
    planned_key,
    require_session_id,
)
from writeahead.protocol.messages import one_line, when_pruned
from writeahead.protocol.own_plans import checksum_file, is_own_plan, require_checksum
from writeahead.protocol.schema import PrunedPlan
from writeahead.protocol.session import (
    entry_numbers,
    listed_and_read,
    objects_of,
    read_artifact,
    require_tombstone,
)
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject, require_store

__all__ = [
    "FinalInfo",
    "ReplayArtifact",
    "load_replay_artifact",
    "no_session",
    "remove_markers",
    "write_planned_writeback_artifact",
    "write_writeback_artifact",
]

M = TypeVar("M", bound=BaseModel)
_GIVEN_UP = "was abandoned by an operator: give the work another id if it is to be done all the same"


@dataclass(frozen=True, slots=True)
class ReplayArtifact(Generic[M]):
    """What `load_replay_artifact` found.

    Attributes:
        name: The artifact's name: ``planned-writeback.json`` or ``writeback.json``.
        model: Its content as your model.
        finished: Whether there is a final artifact: then all is done, and nothing must be sent.
    """

    name: str
    model: M
    finished: bool


@dataclass(frozen=True, slots=True)
class FinalInfo(ObjectInfo):
    """What `write_writeback_artifact` says of the final artifact that the session has now.

    Attributes:
        earlier: Whether it is one that was there before, with other content than yours. It stands,
            and yours was not written.
    """

    earlier: bool = False


def write_planned_writeback_artifact(store: ArtifactStore, session_id: str, model: BaseModel) -> ObjectInfo:
    """Write ``planned-writeback.json``, before the first side effect. Durable when it returns.

    The model's JSON is written as it is, in the canonical encoding. Before it come its sha256, in a
    file beside it that ``sha256sum -c`` reads, and the marker by which ``list`` and ``sweep`` find
    the session. Writing the same again is no error.

    Raises:
        PlanConflict: The session already has another plan, or was abandoned or pruned. Nothing was
            changed.
        CorruptArtifact: It has a plan that was altered since it was written, and stays as it is.
        InvalidInput: The session id or the model can't be used.
        StoreError: As `ArtifactStore.put`.
    """
    require_store(store)
    key = planned_key(require_session_id(session_id))
    data = encode_model(model)
    digest = hashlib.sha256(data).hexdigest()
    checksum = checksum_key(session_id, digest)
    # In this order: a marker without a checksum is of a run of `write_back`.
    if not is_ours(type(model)):
        _put_checksum(store, session_id, digest)
    store.put(open_key(session_id), b"")
    try:
        return store.put(key, data, if_absent=True)
    except AlreadyExists:
        stored = store.get(key)
    if is_pruned(stored.data, key=key):
        if not is_ours(type(model)):
            store.delete(checksum)
        remove_markers(store, session_id, was_blocked=False)
        raise PlanConflict(f"{_pruned(stored.data, key)}; a session id names one unit of work")
    found = {stored.info.key: stored.info, **objects_of(store, session_id)}
    require_tombstone(session_id, found)
    if final_key(session_id) in found:
        remove_markers(store, session_id, was_blocked=False)
    if checksum in found and not _tells_of_an_edit(checksum, stored, found):
        store.delete(checksum)
        del found[checksum]
    if _was_given_up(session_id, stored.data, found):
        remove_markers(store, session_id, was_blocked=False)
        raise PlanConflict(f"session {session_id} {_GIVEN_UP}")
    if _is_same(stored, model):
        return stored.info
    if _may_be_own(stored):
        require_checksum(session_id, stored.data, found)
    raise PlanConflict(
        f"session {session_id} already has another plan ({key}): resume that one; a session id names one"
        " unit of work"
    )


def _tells_of_an_edit(checksum: str, plan: StoredObject, found: Mapping[str, ObjectInfo]) -> bool:
    """Whether a checksum that does not fit the plan may be that of the plan before it was edited.

    A plan never changes, so it may also be that of one that was not written, since another plan was
    there. Then it was put just now, and is newer than the plan.
    """
    fitting = checksum_key(plan.info.key.partition("/")[0], hashlib.sha256(plan.data).hexdigest())
    if fitting in found or _is_newer(found[checksum], found[plan.info.key]):
        return False
    return _may_be_own(plan)


def _is_newer(one: ObjectInfo, other: ObjectInfo) -> bool:
    moments = one.last_modified, other.last_modified
    return None not in moments and moments[0] > moments[1]  # type: ignore[operator] # neither is None


def _may_be_own(plan: StoredObject) -> bool:
    try:
        return is_foreign(plan.data, key=plan.info.key, beside_own=True)
    except CorruptArtifact:
        return True


def write_writeback_artifact(store: ArtifactStore, session_id: str, model: BaseModel) -> FinalInfo:
    """Write ``writeback.json``, once every side effect is confirmed. Durable when it returns.

    The model's JSON is written as it is, in the canonical encoding; then the session's marker goes.
    A session has one final artifact: one that is there already stands, and what is returned says
    whether its content is another, as after a resume that wrote other timestamps.

    Raises:
        InvalidInput: The session id or the model can't be used.
        StoreError: As `ArtifactStore.put`.
    """
    require_store(store)
    key = final_key(require_session_id(session_id))
    earlier = False
    try:
        info = store.put(key, encode_model(model), if_absent=True)
    except AlreadyExists:
        stored = store.get(key)
        info, earlier = stored.info, not _is_same(stored, model)
    remove_markers(store, session_id, was_blocked=False)
    return FinalInfo(info.key, info.size, info.last_modified, info.etag, info.version, earlier)


def remove_markers(store: ArtifactStore, session_id: str, *, was_blocked: bool) -> tuple[str, ...]:
    """Remove a completed session's markers; return what went wrong.

    The session is complete whatever happens to a marker: a sweep removes what stays behind.
    """
    try:
        store.delete(open_key(session_id))
        if was_blocked:
            store.delete(blocked_key(session_id))
    except StoreError as error:
        return (f"a marker stays behind: {one_line(error)}",)
    return ()


def load_replay_artifact(store: ArtifactStore, session_id: str, model_type: type[M]) -> ReplayArtifact[M]:
    """Load what a session is replayed from: the plan, or the final artifact if there is no plan.

    Look at ``finished`` before you send: a finished session has its plan still.

    Raises:
        ResumeError: There is neither; or an operator abandoned the session; or it was pruned; or
            the model's JSON differs from what was written, since the model has changed; or, as
            `CorruptArtifact`, the one found can't be read, or was altered since it was written, and
            stays as it is.
        InvalidInput: The session id can't be used.
        StoreError: As `ArtifactStore.list` and `ArtifactStore.get`.
    """
    return listed_and_read(lambda: _replay_artifact(store, session_id, model_type))


def _replay_artifact(store: ArtifactStore, session_id: str, model_type: type[M]) -> ReplayArtifact[M]:
    found = objects_of(store, session_id)
    for name in (PLANNED, FINAL):
        key = f"{session_id}/{name}"
        if key not in found:
            continue
        data = read_artifact(store, found[key])
        if name == PLANNED and is_pruned(data, key=key):
            if final_key(session_id) in found:
                continue  # written since: it says what was done
            raise ResumeError(_pruned(data, key))
        if name == PLANNED:
            require_tombstone(session_id, found)
            _require_plan(session_id, data, found)
        model = decode(data, model_type, key=key)
        difference = _difference(data, model)
        if difference:
            raise ResumeError(
                f"{key}: this version of {model_type.__name__} would not replay what was planned:"
                f" {difference}; resume it with the version that wrote it"
            )
        return ReplayArtifact(name, model, finished=final_key(session_id) in found)
    raise no_session(store, session_id)


def _pruned(data: bytes, key: str) -> str:
    tombstone = decode(data, PrunedPlan, key=key)
    return f"session {tombstone.session_id} {when_pruned(tombstone.status, tombstone.pruned_at)}"


def _require_plan(session_id: str, data: bytes, found: Collection[str]) -> None:
    require_checksum(session_id, data, found)
    if is_abandoned(data, key=planned_key(session_id)):
        raise ResumeError(f"session {session_id} was abandoned before it had a plan: run it again")
    if final_key(session_id) not in found and _was_given_up(session_id, data, found):
        raise ResumeError(f"session {session_id} {_GIVEN_UP}")


def _put_checksum(store: ArtifactStore, session_id: str, digest: str) -> None:
    key = checksum_key(session_id, digest)
    try:
        store.put(key, checksum_file(digest), if_absent=True)
    except AlreadyExists:
        if store.get(key).data == checksum_file(digest, abandoned=True):
            raise PlanConflict(f"session {session_id} {_GIVEN_UP}") from None
        raise CorruptArtifact(f"{key}: altered: it holds no checksum; it was left as it is") from None


def _was_given_up(session_id: str, data: bytes, found: Collection[str]) -> bool:
    """Whether an operator abandoned a session of an own orchestrator: that is its only entry."""
    has_journal = bool(entry_numbers(session_id, found))
    return has_journal and is_own_plan(session_id, data, found, has_journal=True)


def _difference(data: bytes, model: BaseModel) -> str | None:
    """What a caller's model would lose or add; ours are held to the plan right before each send."""
    return None if is_ours(type(model)) else difference_of(json.loads(data), model)


def _is_same(stored: StoredObject, model: BaseModel) -> bool:
    """Whether an artifact holds this model in other bytes: earlier versions did not order sets."""
    try:
        found = decode(stored.data, type(model), key=stored.info.key)
    except CorruptArtifact:
        return False
    # A model that has lost a field would not show it.
    return found == model and _difference(stored.data, found) is None


def no_session(store: ArtifactStore, session_id: str) -> ResumeError:
    """The error for a session that a store does not hold."""
    return ResumeError(f"session {session_id}: neither {PLANNED} nor {FINAL} is in {store.name}")
