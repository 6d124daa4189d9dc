"""Everything that a store holds of each session, from one listing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from writeahead.protocol.keys import (
    BLOCKED_PREFIX,
    DRY_RUN_PREFIX,
    OPEN_PREFIX,
    checksum_prefix,
    entry_number,
    final_key,
    is_session_id,
    planned_key,
    pruned_key,
)
from writeahead.protocol.own_plans import checksums
from writeahead.stores.base import ArtifactStore, ObjectInfo

__all__ = ["Folder", "folders"]


@dataclass(frozen=True)
class Folder:
    """What a listing of a store has of one session.

    Attributes:
        session_id: The session.
        found: The artifacts in its folder, by key; files of others are left out.
        outside: Its markers, and what a dry run left.
    """

    session_id: str
    found: Mapping[str, ObjectInfo]
    outside: Sequence[ObjectInfo]

    @property
    def journal_and_checksums(self) -> list[str]:
        """The keys of both."""
        numbered = [key for key in self.found if entry_number(self.session_id, key) is not None]
        return [*checksums(self.session_id, self.found), *numbered]

    @property
    def leftovers(self) -> dict[str, ObjectInfo]:
        """All but the two objects that stay."""
        stay = (planned_key(self.session_id), pruned_key(self.session_id))
        return {key: info for key, info in self.found.items() if key not in stay}


def folders(store: ArtifactStore) -> Iterator[Folder]:
    """Stream what one listing of the store has of each session.

    Names that begin with a dot come first. Of these all are kept in memory: of unfinished sessions,
    and of dry runs.
    """
    outside: dict[str, list[ObjectInfo]] = {}
    for first, group in groupby(store.list(), key=lambda info: info.key.split("/")[0]):
        if first + "/" in (OPEN_PREFIX, BLOCKED_PREFIX, DRY_RUN_PREFIX):
            for info in group:
                outside.setdefault(info.key.split("/")[1], []).append(info)
        elif is_session_id(first):
            found = {info.key: info for info in group if _is_ours(first, info.key)}
            yield Folder(first, found, outside.pop(first, ()))


def _is_ours(session_id: str, key: str) -> bool:
    known = (planned_key(session_id), final_key(session_id), pruned_key(session_id))
    return (
        key in known
        or entry_number(session_id, key) is not None
        or key.startswith(checksum_prefix(session_id))
    )
