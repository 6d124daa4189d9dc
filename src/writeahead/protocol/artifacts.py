"""Three functions for an orchestrator of your own: planned, final, and load for a replay."""

import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

from writeahead._roundtrip import difference_of
from writeahead.errors import AlreadyExists, CorruptArtifact, PlanConflict, ResumeError
from writeahead.protocol.encoding import decode, encode_model, is_ours, require_size
from writeahead.protocol.keys import FINAL, PLANNED, final_key, planned_key, require_session_id
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject

__all__ = [
    "ReplayArtifact",
    "load_replay_artifact",
    "no_session",
    "write_planned_writeback_artifact",
    "write_writeback_artifact",
]

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ReplayArtifact(Generic[M]):
    """What `load_replay_artifact` found: the artifact's name, and its content as your model."""

    name: str
    model: M


def write_planned_writeback_artifact(store: ArtifactStore, session_id: str, model: BaseModel) -> ObjectInfo:
    """Write ``planned-writeback.json``, before the first side effect. Durable when it returns.

    The model's JSON is written as it is, in the canonical encoding. Writing the same again is no
    error.

    Raises:
        PlanConflict: The session already has another plan. Nothing was changed.
        InvalidInput: The session id or the model can't be used.
        StoreError: As `ArtifactStore.put`.
    """
    key = planned_key(require_session_id(session_id))
    try:
        return store.put(key, encode_model(model), if_absent=True)
    except AlreadyExists:
        pass
    stored = store.get(key)
    if _is_same(stored, model):
        return stored.info
    raise PlanConflict(
        f"session {session_id} already has another plan ({key}): resume that one; a session id names one"
        " unit of work"
    )


def write_writeback_artifact(store: ArtifactStore, session_id: str, model: BaseModel) -> ObjectInfo:
    """Write ``writeback.json``, once every side effect is confirmed. Durable when it returns.

    The model's JSON is written as it is, in the canonical encoding. Writing the same again is no
    error.

    Raises:
        AlreadyExists: The session already has another final artifact. Nothing was changed.
        InvalidInput: The session id or the model can't be used.
        StoreError: As `ArtifactStore.put`.
    """
    key = final_key(require_session_id(session_id))
    try:
        return store.put(key, encode_model(model), if_absent=True)
    except AlreadyExists:
        stored = store.get(key)
        if _is_same(stored, model):
            return stored.info
        raise


def load_replay_artifact(store: ArtifactStore, session_id: str, model_type: type[M]) -> ReplayArtifact[M]:
    """Load what a session is replayed from: the plan, or the final artifact if there is no plan.

    Raises:
        ResumeError: There is neither; or the model's JSON differs from what was written, since the
            model has changed; or, as `CorruptArtifact`, the one found can't be read and stays as
            is.
        InvalidInput: The session id can't be used.
        StoreError: As `ArtifactStore.head` and `ArtifactStore.get`.
    """
    require_session_id(session_id)
    for name in (PLANNED, FINAL):
        key = f"{session_id}/{name}"
        info = store.head(key)
        if info is None:
            continue
        require_size(info.size, key)
        found = store.get(key)
        model = decode(found.data, model_type, key=key)
        difference = _difference(found.data, model)
        if difference:
            raise ResumeError(
                f"{key}: this version of {model_type.__name__} would not replay what was planned:"
                f" {difference}; resume it with the version that wrote it"
            )
        return ReplayArtifact(name, model)
    raise no_session(store, session_id)


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
