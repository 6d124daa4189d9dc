"""Names and canonical encoding of the artifacts, and the planned-then-final lookup.

Artifacts are data: nothing in one is imported, evaluated, or used as a host to send to.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from writeahead._validation import Invalid, validated
from writeahead.errors import (
    AlreadyExists,
    CorruptArtifact,
    InvalidInput,
    NewerArtifact,
    NotFound,
    PlanConflict,
    ResumeError,
)
from writeahead.model import (
    ID_PATTERN,
    AbandonedPlan,
    JournalEntry,
    PlannedOperation,
    PlannedWriteback,
    Writeback,
)
from writeahead.stores.base import ArtifactStore, ObjectInfo

__all__ = [
    "BLOCKED_PREFIX",
    "FINAL",
    "MAX_ARTIFACT_BYTES",
    "OPEN_PREFIX",
    "PLANNED",
    "ReplayArtifact",
    "blocked_key",
    "decode",
    "digest_of",
    "digest_of_operations",
    "dry_run_key",
    "encode",
    "encode_model",
    "final_key",
    "is_session_id",
    "journal_key",
    "journal_prefix",
    "load_replay_artifact",
    "open_key",
    "planned_key",
    "require_session_id",
    "write_planned_writeback_artifact",
    "write_writeback_artifact",
]

PLANNED = "planned-writeback.json"
FINAL = "writeback.json"
OPEN_PREFIX = ".open/"
BLOCKED_PREFIX = ".blocked/"
MAX_ARTIFACT_BYTES = 64 * 1024 * 1024

_VERSION = 1
_FORMATS: Mapping[type[BaseModel], str] = {
    PlannedWriteback: "writeahead/planned-writeback",
    AbandonedPlan: "writeahead/abandoned",
    JournalEntry: "writeahead/journal-entry",
    Writeback: "writeahead/writeback",
}
_SESSION_ID = re.compile(ID_PATTERN.removesuffix("$") + r"\Z", re.ASCII)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ReplayArtifact(Generic[M]):
    """What `load_replay_artifact` found: the artifact's name, and its content as the caller's model."""

    name: str
    model: M


def is_session_id(name: str) -> bool:
    """Tell whether a name can be a session's id."""
    return _SESSION_ID.match(name) is not None


def require_session_id(session_id: str) -> str:
    """Return the session id if it is one.

    Raises:
        InvalidInput: It is not 1 to 128 of ``[A-Za-z0-9._-]`` with an alphanumeric first.
    """
    if not isinstance(session_id, str) or not is_session_id(session_id):
        shown = str(session_id)
        shown = shown if len(shown) <= 40 else f"{shown[:40]}... ({len(shown)} characters)"  # noqa: PLR2004
        raise InvalidInput(
            f"session id {shown!r}: use 1 to 128 of A-Z a-z 0-9 . _ - and begin with a letter or a digit"
        )
    return session_id


def planned_key(session_id: str) -> str:
    """Where a session's plan is."""
    return f"{session_id}/{PLANNED}"


def final_key(session_id: str) -> str:
    """Where a session's final artifact is."""
    return f"{session_id}/{FINAL}"


def journal_prefix(session_id: str) -> str:
    """What the keys of a session's journal begin with."""
    return f"{session_id}/journal/"


def journal_key(session_id: str, number: int) -> str:
    """Where a session's journal entry of this number is."""
    return f"{journal_prefix(session_id)}{number:06d}.json"


def open_key(session_id: str) -> str:
    """Where the marker of an unfinished session is."""
    return f"{OPEN_PREFIX}{session_id}"


def blocked_key(session_id: str) -> str:
    """Where the marker of a session that waits for a person is."""
    return f"{BLOCKED_PREFIX}{session_id}"


def dry_run_key(session_id: str) -> str:
    """Where a dry run leaves its plan; no resume ever looks there."""
    return f".dry-run/{session_id}/{PLANNED}"


def encode(document: Any) -> bytes:
    """Encode JSON canonically: UTF-8, sorted keys, 2-space indent, LF, one newline at the end.

    Raises:
        InvalidInput: The document holds what JSON or UTF-8 can't: NaN, an infinity, a lone
            surrogate.
    """
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2, sort_keys=True)
        return text.encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"an artifact must be JSON in UTF-8: {error.__class__.__name__}") from None


def digest_of(document: Any) -> str:
    """Return the sha256, in hex, of a JSON document in its canonical encoding."""
    return hashlib.sha256(encode(document)).hexdigest()


def digest_of_operations(operations: Sequence[PlannedOperation]) -> str:
    """Return the digest that a plan carries and its final repeats."""
    fields = set(PlannedOperation.model_fields)
    return digest_of([operation.model_dump(mode="json", include=fields) for operation in operations])


def encode_model(model: BaseModel) -> bytes:
    """Encode one of our artifacts with format, version and checksum; any other model as its own JSON.

    Raises:
        InvalidInput: It is larger than 64 MiB, or holds what JSON can't.
    """
    name = _FORMATS.get(type(model))
    if name is None:
        data = _encode_own(model)
    else:
        document = model.model_dump(mode="json") | {"format": name, "version": _VERSION}
        # Encoded once. A raw newline can't be inside a string, so only the outermost object has
        # this line.
        text = encode(document | {"checksum": ""})
        digest = hashlib.sha256(text.replace(b'\n  "checksum": "",\n', b"\n", 1)).hexdigest()
        data = text.replace(b'\n  "checksum": ""', b'\n  "checksum": "%b"' % digest.encode(), 1)
    # A plan's final is larger, and must still fit.
    limit = MAX_ARTIFACT_BYTES // 2 if isinstance(model, PlannedWriteback) else MAX_ARTIFACT_BYTES
    if len(data) > limit:
        raise InvalidInput(
            f"this artifact has at most {limit} bytes, not {len(data)}: make it several sessions"
        )
    return data


def _encode_own(model: BaseModel) -> bytes:
    data = encode(model.model_dump(mode="json", by_alias=True, round_trip=True))
    read_back = validated(lambda: type(model).model_validate_json(data))
    if isinstance(read_back, Invalid):
        raise InvalidInput(
            f"{type(model).__name__} does not read back what it writes: {_places(read_back)};"
            " nothing was written"
        )
    return data


def decode(data: bytes, model_type: type[M], *, key: str) -> M:
    """Read an artifact's bytes as a model.

    Raises:
        CorruptArtifact: They are not that: truncated, altered, foreign, or of another session.
        NewerArtifact: They were written by a newer version.
    """
    name = _FORMATS.get(model_type)
    document = _parse(data, key)
    if name is None:
        return _validate(lambda: model_type.model_validate_json(data), model_type, key)
    fields = _unseal(document, name, key)
    model = _validate(lambda: model_type.model_validate(fields), model_type, key)
    _require_consistent(model, key)
    return model


def is_abandoned(data: bytes, *, key: str) -> bool:
    """Tell whether the bytes at a plan's key are a tombstone."""
    document = _parse(data, key)
    return isinstance(document, dict) and document.get("format") == _FORMATS[AbandonedPlan]


def write_planned_writeback_artifact(store: ArtifactStore, session_id: str, model: BaseModel) -> ObjectInfo:
    """Write ``planned-writeback.json``: call it before the first side effect. Durable when it returns.

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
        raise PlanConflict(
            f"session {session_id} already has another plan ({key}): resume it, or use a new session id"
        ) from None


def write_writeback_artifact(store: ArtifactStore, session_id: str, model: BaseModel) -> ObjectInfo:
    """Write ``writeback.json``: call it when every side effect is confirmed. Durable when it returns.

    The model's JSON is written as it is, in the canonical encoding. Writing the same again is no
    error.

    Raises:
        AlreadyExists: The session already has another final artifact. Nothing was changed.
        InvalidInput: The session id or the model can't be used.
        StoreError: As `ArtifactStore.put`.
    """
    return store.put(final_key(require_session_id(session_id)), encode_model(model), if_absent=True)


def load_replay_artifact(store: ArtifactStore, session_id: str, model_type: type[M]) -> ReplayArtifact[M]:
    """Load what a session can be replayed from: the plan, or the final artifact where there is no plan.

    Raises:
        ResumeError: There is neither; or, as `CorruptArtifact`, the one found can't be read and
            stays as is.
        InvalidInput: The session id can't be used.
        StoreError: As `ArtifactStore.get`.
    """
    require_session_id(session_id)
    for name in (PLANNED, FINAL):
        key = f"{session_id}/{name}"
        try:
            found = store.get(key)
        except NotFound:
            continue
        return ReplayArtifact(name, decode(found.data, model_type, key=key))
    raise no_session(store, session_id)


def no_session(store: ArtifactStore, session_id: str) -> ResumeError:
    """The error for a session that a store does not hold."""
    return ResumeError(f"session {session_id}: neither {PLANNED} nor {FINAL} is in {store.name}")


def _parse(data: bytes, key: str) -> Any:
    if len(data) > MAX_ARTIFACT_BYTES:
        raise CorruptArtifact(f"{key}: larger than any artifact ({len(data)} bytes)")
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise CorruptArtifact(
            f"{key}: truncated or altered: not JSON in UTF-8; it was left as it is"
        ) from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _unseal(document: Any, expected: str, key: str) -> dict[str, Any]:
    if not isinstance(document, dict) or document.get("format") != expected:
        raise CorruptArtifact(f"{key}: not a {expected} artifact; it was left as it is")
    version = document.get("version")
    if isinstance(version, int) and version > _VERSION:
        raise NewerArtifact(
            f"{key}: written by a newer version of writeahead (format version {version}, this one knows"
            f" {_VERSION}): upgrade; it was left as it is"
        )
    fields = dict(document)
    checksum = fields.pop("checksum", None)
    try:
        intact = checksum == digest_of(fields)
    except InvalidInput:
        intact = False
    if not intact:
        raise CorruptArtifact(f"{key}: altered: its checksum does not match; it was left as it is")
    if type(version) is not int or version != _VERSION:
        raise CorruptArtifact(f"{key}: its format version is none that there ever was; it was left as it is")
    del fields["format"], fields["version"]
    return fields


def _validate(validate: Callable[[], M], model_type: type[M], key: str) -> M:
    try:
        found = validated(validate)
    except RecursionError:
        raise CorruptArtifact(f"{key}: does not fit {model_type.__name__}: nested too deeply") from None
    if isinstance(found, Invalid):
        raise CorruptArtifact(f"{key}: does not fit {model_type.__name__}: {_places(found)}")
    return found


def _places(invalid: Invalid) -> str:
    """Name the fields that are wrong, not what they hold."""
    return ", ".join(problem.where("the whole") for problem in invalid.problems)[:300]


def _require_consistent(model: BaseModel, key: str) -> None:
    """Hold an artifact against the key that it was found at, and its digest against its operations."""
    session_id = getattr(model, "session_id", None)
    if key.removeprefix(".dry-run/").split("/")[0] != session_id:
        raise CorruptArtifact(f"{key}: belongs to another session; it was left as it is")
    if isinstance(model, PlannedWriteback) and model.digest != digest_of_operations(model.operations):
        raise CorruptArtifact(f"{key}: its operations do not match its digest; it was left as it is")
    if isinstance(model, Writeback) and model.plan_digest != digest_of_operations(model.operations):
        raise CorruptArtifact(f"{key}: its operations do not match its digest; it was left as it is")
