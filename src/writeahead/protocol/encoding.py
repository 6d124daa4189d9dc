"""The bytes of an artifact: canonical JSON, sealed by a checksum, and read back without trust.

Artifacts are data: nothing in one is imported, evaluated, or used as a host to send to.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel

from writeahead._roundtrip import json_of
from writeahead._validation import Invalid, validated
from writeahead.errors import CorruptArtifact, InvalidInput, NewerArtifact
from writeahead.model import PlannedOperation
from writeahead.protocol.keys import DRY_RUN_PREFIX, FINAL, PLANNED
from writeahead.protocol.schema import (
    AbandonedPlan,
    JournalEntry,
    PlannedWriteback,
    PrunedPlan,
    Writeback,
    document_of_receipt,
)

__all__ = [
    "MAX_ARTIFACT_BYTES",
    "MAX_RECEIPT_BYTES",
    "VERSION",
    "artifact_type",
    "decode",
    "digest_of",
    "digest_of_operations",
    "encode",
    "encode_model",
    "is_abandoned",
    "is_foreign",
    "is_ours",
    "is_pruned",
    "require_size",
]

MAX_ARTIFACT_BYTES = 64 * 1024 * 1024
# So that a plan's final artifact can be known to fit before anything is sent.
MAX_RECEIPT_BYTES = 4 * 1024

# Raised by the rule in docs/decisions/0009. Every version from 1 on is read for ever.
VERSION = 2
_FORMATS: Mapping[type[BaseModel], str] = {
    PlannedWriteback: "writeahead/planned-writeback",
    AbandonedPlan: "writeahead/abandoned",
    PrunedPlan: "writeahead/planned-writeback",
    JournalEntry: "writeahead/journal-entry",
    Writeback: "writeahead/writeback",
}

# What only some versions of writeahead know at a plan's key is a plan of a higher version, so that
# the others say "upgrade", so that no operator restores the plan that was there.
_VERSIONS: Mapping[type[BaseModel], int] = {PrunedPlan: 3}

# Bytes; a tombstone holds an id, digests and moments.
_LARGEST_TOMBSTONE = 4096
_ZEROS = "0" * 64
# What each artifact of ours has besides its fields. A flipped bit spoils one of the three names.
_SEAL = ("format", "version", "checksum")
_OUR_FORMAT = b'\n  "format": "writeahead/'
_PRUNED_AT = b'\n  "pruned_at": "'
_CHECKSUM_LINE = b'\n  "checksum": "%b",\n'
_CHECKSUM = re.compile(rb'\n  "checksum": "([0-9a-f]{64})",\n')
# What is wrong with a sealed artifact only if it is newer: a field, an event or a status unknown
# here.
_NEWER_KINDS = frozenset({"extra_forbidden", "enum", "literal_error"})

_CANONICAL = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE

M = TypeVar("M", bound=BaseModel)


def artifact_type(key: str) -> type[BaseModel] | None:
    """Return the model of the artifact at a key; None for what is no artifact of ours.

    A plan's key may hold a tombstone instead: see `is_abandoned` and `is_pruned`.
    """
    name = key.removeprefix(DRY_RUN_PREFIX).partition("/")[2]
    if name.startswith("journal/"):
        return JournalEntry
    types: dict[str, type[BaseModel]] = {PLANNED: PlannedWriteback, FINAL: Writeback}
    return types.get(name)


def is_ours(model_type: type[BaseModel]) -> bool:
    """Whether artifacts of this model are sealed ones of ours, rather than a caller's own JSON."""
    return model_type in _FORMATS


def encode(document: Any) -> bytes:
    """Encode JSON canonically: UTF-8, sorted keys, 2-space indent, LF, one newline at the end.

    Byte by byte what Python's json writes, which digests are made of; `_brief` is for all else.

    Raises:
        InvalidInput: The document holds what JSON or UTF-8 can't: NaN, an infinity, a lone
            surrogate.
    """
    try:
        if _is_plain(document):
            return _brief(document)
    except RecursionError:
        pass
    return _encode(document)


def _is_plain(value: Any) -> bool:
    """Whether orjson writes a value as Python's json does: it does not, of floats."""
    kind = type(value)
    if kind is dict:
        return all(type(name) is str and _is_plain(inside) for name, inside in value.items())
    if kind is list:
        return all(map(_is_plain, value))
    return kind is str or kind is int or kind is bool or value is None


def _brief(document: Any) -> bytes:
    """The same in a tenth of the time; floats come as orjson writes them, NaN as null."""
    try:
        return orjson.dumps(document, option=_CANONICAL)
    except orjson.JSONEncodeError:
        # Whole numbers beyond 64 bits, and what JSON can't hold. What wrote the error may hold the
        # document, too.
        pass
    return _encode(document)


def _encode(document: Any) -> bytes:
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2, sort_keys=True)
        return text.encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        # The error itself would be kept as the context of ours, and may hold the document.
        problem = type(error).__name__
    raise InvalidInput(f"an artifact must be JSON in UTF-8: {problem}")


def digest_of(document: Any) -> str:
    """Return the sha256, in hex, of a JSON document in its canonical encoding."""
    return hashlib.sha256(encode(document)).hexdigest()


def digest_of_operations(operations: Sequence[PlannedOperation]) -> str:
    """Return the digest that a plan carries and its final repeats."""
    return digest_of([_document_of(operation) for operation in operations])


def _document_of(operation: PlannedOperation) -> dict[str, Any]:
    """An operation as ``model_dump(mode="json")`` writes it; by hand, in a fraction of the time."""
    document: dict[str, Any] = {
        "id": operation.id,
        "kind": operation.kind,
        "key": operation.key,
        "payload": operation.payload,
        "precondition": operation.precondition,
        "replay": operation.replay.value,
    }
    if operation.warnings:
        document["warnings"] = list(operation.warnings)
    if operation.identity:
        document["identity"] = operation.identity
    if operation.independent:
        document["independent"] = True
    return document


def _operations_of(model: BaseModel) -> dict[str, Any]:
    """The field ``operations`` of an artifact that has it."""
    match model:
        case PlannedWriteback():
            return {"operations": [_document_of(item) for item in model.operations]}
        case Writeback():
            settled = [
                _document_of(item) | {"receipt": document_of_receipt(item.receipt)}
                for item in model.operations
            ]
            return {"operations": settled}
    return {}


def encode_model(model: BaseModel) -> bytes:
    """Encode one of our artifacts under format, version and checksum; a caller's model as its JSON.

    Raises:
        InvalidInput: It is larger than 64 MiB, holds what JSON can't, or does not read back as it
            is.
    """
    name = _FORMATS.get(type(model))
    data = encode(json_of(model)) if name is None else _sealed(model, name)
    if len(data) > MAX_ARTIFACT_BYTES:
        raise InvalidInput(
            f"an artifact has at most {MAX_ARTIFACT_BYTES} bytes, not {len(data)}: make it several sessions"
        )
    return data


def _sealed(model: BaseModel, name: str) -> bytes:
    document = model.model_dump(mode="json", exclude={"operations"}) | _operations_of(model)
    document |= {"format": name, "version": _VERSIONS.get(type(model), VERSION), "checksum": _ZEROS}
    text = _brief(document)
    before, _, after = text.partition(_CHECKSUM_LINE % _ZEROS.encode())
    digest = hashlib.sha256(before + b"\n" + after).hexdigest()
    return before + _CHECKSUM_LINE % digest.encode() + after


def decode(data: bytes, model_type: type[M], *, key: str) -> M:
    """Read an artifact's bytes as a model: first the size, then the checksum, then the fields.

    Raises:
        CorruptArtifact: They are not that: truncated, altered, foreign, or of another session.
        NewerArtifact: They were written by a newer version.
    """
    require_size(len(data), key)
    name = _FORMATS.get(model_type)
    if name is None:
        _parse(data, key)
        return _validate(lambda: model_type.model_validate_json(data), model_type, key)
    fields = _unseal(data, name, key, newest=_VERSIONS.get(model_type, VERSION))
    model = _validate(lambda: model_type.model_validate(fields), model_type, key, sealed=True)
    _require_consistent(model, key)
    return model


def require_size(size: int, key: str) -> None:
    """Refuse what is larger than any artifact, from a listing's size, before it is read.

    Raises:
        CorruptArtifact: It is.
    """
    if size > MAX_ARTIFACT_BYTES:
        raise CorruptArtifact(f"{key}: larger than any artifact ({size} bytes); it was left as it is")


def is_abandoned(data: bytes, *, key: str) -> bool:
    """Tell whether the bytes at a plan's key are the tombstone of a run that had no plan."""
    if len(data) > _LARGEST_TOMBSTONE:
        return False
    document = _parse(data, key)
    return isinstance(document, dict) and document.get("format") == _FORMATS[AbandonedPlan]


def is_pruned(data: bytes, *, key: str) -> bool:
    """Tell whether the bytes at a plan's key are the tombstone of a session that was pruned."""
    # A caller's own plan need not be JSON of ours, so nothing else is parsed.
    if len(data) > _LARGEST_TOMBSTONE or _PRUNED_AT not in data or _OUR_FORMAT not in data:
        return False
    document = _parse(data, key)
    return document.get("format") == _FORMATS[PrunedPlan] and "pruned_at" in document


def is_foreign(data: bytes, *, key: str, beside_own: bool = False) -> bool:
    """Tell whether an artifact's bytes are JSON that writeahead did not write.

    Args:
        data: The bytes.
        key: Where they are.
        beside_own: Whether they are of a session whose models are a caller's own. These may have
            fields such as ``format`` and ``version``, too.

    Raises:
        CorruptArtifact: They are not JSON.
    """
    if _OUR_FORMAT in data:
        return False  # without parsing it twice
    document = _parse(data, key)
    if not isinstance(document, dict):
        return True
    is_sealed = not beside_own and sum(name in document for name in _SEAL) >= 2  # noqa: PLR2004
    return document.get("format") not in _FORMATS.values() and not is_sealed


def _parse(data: bytes, key: str) -> Any:
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        pass  # its error holds the document
    raise CorruptArtifact(f"{key}: truncated or altered: not JSON in UTF-8; it was left as it is")


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _unseal(data: bytes, expected: str, key: str, *, newest: int) -> dict[str, Any]:
    """The fields under a seal that holds. Linear in the bytes: hashed once, parsed once."""
    intact = _is_intact(data)
    document = _parse(data, key)
    if not isinstance(document, dict) or document.get("format") != expected:
        raise CorruptArtifact(f"{key}: not a {expected} artifact; it was left as it is")
    version = document.pop("version", None)
    if isinstance(version, int) and version > newest:
        raise NewerArtifact(
            f"{key}: written by a newer version of writeahead (format version {version}, this one reads up"
            f" to {newest}): upgrade; it was left as it is"
        )
    checksum = document.pop("checksum", None)
    if not intact and not (version == 1 and _is_intact_version_1(document, checksum)):
        raise CorruptArtifact(f"{key}: altered: its checksum does not match; it was left as it is")
    if type(version) is not int or version < 1:
        raise CorruptArtifact(f"{key}: unknown format version; it was left as it is")
    del document["format"]
    return document


def _is_intact(data: bytes) -> bool:
    """Whether the bytes without the line of the checksum have that checksum.

    A raw newline can't be inside a JSON string, so only the outermost object has such a line.
    """
    found = _CHECKSUM.search(data)
    if found is None:
        return False
    hashed = hashlib.sha256(data[: found.start()])
    hashed.update(b"\n")
    hashed.update(data[found.end() :])
    return hashed.hexdigest().encode() == found[1]


def _is_intact_version_1(document: Mapping[str, Any], checksum: object) -> bool:
    """Version 1 allowed other white space: see docs/decisions/0001."""
    try:
        return checksum == digest_of({**document, "version": 1})
    except InvalidInput:
        return False


def _validate(validate: Callable[[], M], model_type: type[M], key: str, *, sealed: bool = False) -> M:
    try:
        found = validated(validate)
    except RecursionError:
        raise CorruptArtifact(f"{key}: does not fit {model_type.__name__}: nested too deeply") from None
    if not isinstance(found, Invalid):
        return found
    places = ", ".join(problem.where("the whole") for problem in found.problems)[:300]
    if sealed and all(problem.kind in _NEWER_KINDS for problem in found.problems):
        raise NewerArtifact(
            f"{key}: written by a newer version of writeahead (unknown here: {places}): upgrade; it was left"
            " as it is"
        )
    raise CorruptArtifact(f"{key}: does not fit {model_type.__name__}: {places}")


def _require_consistent(model: BaseModel, key: str) -> None:
    """Compare an artifact with its key, and its digest with its operations."""
    session_id = getattr(model, "session_id", None)
    if key.removeprefix(DRY_RUN_PREFIX).split("/")[0] != session_id:
        raise CorruptArtifact(f"{key}: belongs to another session; it was left as it is")
    digest = getattr(model, "digest", None) or getattr(model, "plan_digest", None)
    operations = getattr(model, "operations", None)
    if operations is not None and digest != digest_of_operations(operations):
        raise CorruptArtifact(f"{key}: its operations do not match its digest; it was left as it is")
