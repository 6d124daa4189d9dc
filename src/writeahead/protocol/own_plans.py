"""Plans of a caller's own orchestrator: what tells them from ours, and the checksum beside each."""

import hashlib
from collections.abc import Iterable, Sequence

from writeahead.errors import CorruptArtifact
from writeahead.protocol.encoding import is_foreign
from writeahead.protocol.keys import PLANNED, checksum_key, checksum_prefix, planned_key

__all__ = ["checksum_file", "checksums", "is_others", "is_own_plan", "require_checksum"]


def is_own_plan(session_id: str, data: bytes, found: Iterable[str], *, has_journal: bool) -> bool:
    """Whether a session's plan is a caller's own.

    Args:
        session_id: The session.
        data: The plan's bytes.
        found: The keys in the session's folder.
        has_journal: Whether it has entries. Beside an own plan that is one at most, of an operator
            who abandoned it; then a checksum has to fit.
    """
    if has_journal:
        return _fits(session_id, data, checksums(session_id, found))
    try:
        return is_others(data, key=planned_key(session_id), found=found)
    except CorruptArtifact:
        # Ours says so itself when it is decoded.
        return bool(checksums(session_id, found))


def is_others(data: bytes, *, key: str, found: Iterable[str]) -> bool:
    """Whether a plan or a final artifact is JSON that writeahead did not write.

    Args:
        data: Its bytes.
        key: Its key.
        found: The keys in the session's folder.

    Raises:
        CorruptArtifact: It is not JSON.
    """
    session_id = key.partition("/")[0]
    known = checksums(session_id, found)
    if key != planned_key(session_id):
        return is_foreign(data, key=key, beside_own=bool(known))
    return _fits(session_id, data, known) or is_foreign(data, key=key)


def require_checksum(session_id: str, data: bytes, found: Iterable[str]) -> None:
    """Refuse a plan of a caller's own that is not what was written.

    Args:
        session_id: The session.
        data: The plan's bytes.
        found: The keys in the session's folder. Version 0.1 wrote no checksum.

    Raises:
        CorruptArtifact: There are checksums, and none of them fits.
    """
    known = checksums(session_id, found)
    if known and not _fits(session_id, data, known):
        raise CorruptArtifact(
            f"{planned_key(session_id)}: altered: no checksum beside it fits; it was left as it is"
        )


def checksum_file(digest: str, *, abandoned: bool = False) -> bytes:
    """What stands in a checksum's file, as ``sha256sum -c`` reads it.

    A program that runs an abandoned session again creates this file first, and so finds out.
    """
    note = "# abandoned by an operator\n" if abandoned else ""
    return f"{digest}  {PLANNED}\n{note}".encode()


def checksums(session_id: str, found: Iterable[str]) -> list[str]:
    """The keys of the checksums beside a plan of a caller's own."""
    return [key for key in found if key.startswith(checksum_prefix(session_id))]


def _fits(session_id: str, data: bytes, known: Sequence[str]) -> bool:
    """Whether one of the checksums is that of these bytes; without any, nothing is hashed."""
    return bool(known) and checksum_key(session_id, hashlib.sha256(data).hexdigest()) in known
