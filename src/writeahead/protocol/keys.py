"""Where each artifact and marker of a session is, and what a session's id may be."""

import re

from writeahead.errors import InvalidInput
from writeahead.model import ID_PATTERN

__all__ = [
    "BLOCKED_PREFIX",
    "DRY_RUN_PREFIX",
    "FINAL",
    "OPEN_PREFIX",
    "PLANNED",
    "blocked_key",
    "checksum_key",
    "checksum_prefix",
    "dry_run_key",
    "entry_number",
    "final_key",
    "is_session_id",
    "journal_key",
    "journal_prefix",
    "open_key",
    "planned_key",
    "pruned_key",
    "require_session_id",
]

PLANNED = "planned-writeback.json"
FINAL = "writeback.json"
OPEN_PREFIX = ".open/"
BLOCKED_PREFIX = ".blocked/"
DRY_RUN_PREFIX = ".dry-run/"

# At least six digits, so that names sort as numbers up to a million entries; numbers count, not
# names.
_ENTRY = re.compile(r"(\d{6,9})\.json\Z", re.ASCII)
_SESSION_ID = re.compile(ID_PATTERN.removesuffix("$") + r"\Z", re.ASCII)


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


def pruned_key(session_id: str) -> str:
    """Where an empty object tells a listing that a session's plan is a `PrunedPlan`.

    It is put after that tombstone, and before anything is deleted.
    """
    return f"{session_id}/pruned"


def checksum_prefix(session_id: str) -> str:
    """What the keys of the checksums beside a plan of the caller's own begin with."""
    return f"{session_id}/planned-writeback.sha256-"


def checksum_key(session_id: str, digest: str) -> str:
    """Where the checksum of a plan of the caller's own is; its sha256 is in the name."""
    return f"{checksum_prefix(session_id)}{digest}"


def final_key(session_id: str) -> str:
    """Where a session's final artifact is."""
    return f"{session_id}/{FINAL}"


def journal_prefix(session_id: str) -> str:
    """What the keys of a session's journal begin with."""
    return f"{session_id}/journal/"


def journal_key(session_id: str, number: int) -> str:
    """Where a session's journal entry of this number is."""
    return f"{journal_prefix(session_id)}{number:06d}.json"


def entry_number(session_id: str, key: str) -> int | None:
    """The number of the journal entry at a key; None for what is no entry of this session."""
    prefix = journal_prefix(session_id)
    match = _ENTRY.match(key, len(prefix)) if key.startswith(prefix) else None
    return int(match[1]) if match else None


def open_key(session_id: str) -> str:
    """Where the marker of an unfinished session is."""
    return f"{OPEN_PREFIX}{session_id}"


def blocked_key(session_id: str) -> str:
    """Where the marker of a session that waits for an operator is."""
    return f"{BLOCKED_PREFIX}{session_id}"


def dry_run_key(session_id: str) -> str:
    """Where a dry run leaves its plan; no resume ever looks there."""
    return f"{DRY_RUN_PREFIX}{session_id}/{PLANNED}"
