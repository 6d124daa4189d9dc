"""What still reads of a session whose artifacts are damaged, and the way out."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from writeahead.errors import CorruptArtifact, NewerArtifact, NotFound
from writeahead.protocol.encoding import decode, is_abandoned, is_pruned
from writeahead.protocol.keys import (
    blocked_key,
    entry_number,
    final_key,
    journal_key,
    open_key,
    planned_key,
)
from writeahead.protocol.own_plans import is_others
from writeahead.protocol.schema import JournalEntry, PlannedWriteback, PrunedPlan, Writeback
from writeahead.protocol.session import StoredSession, entry_numbers, read_artifact
from writeahead.stores.base import ArtifactStore, ObjectInfo

__all__ = ["Readable", "read_each", "way_out"]


@dataclass
class Readable:
    """Each artifact of a session, read by itself.

    Attributes:
        session_id: The session.
        plan: The plan, if it reads.
        final: The final artifact, if it reads.
        entries: The journal entries that read, by number.
        problems: What is wrong with the others, by key; also of entries that are missing.
        needs_newer: Whether some of them were written by a newer version.
        pruned: The tombstone in the plan's place, if the session was pruned.
    """

    session_id: str
    plan: PlannedWriteback | None = None
    final: Writeback | None = None
    entries: dict[int, JournalEntry] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    needs_newer: bool = False
    pruned: PrunedPlan | None = None

    def session(self) -> StoredSession:
        """The newest state that can be told from what reads. It may be older than the truth."""
        chains = (self._chain(number) for number in sorted(self.entries, reverse=True))
        entries = next((chain for chain in chains if chain), ())
        return StoredSession(self.session_id, final=self.final, plan=self.plan, entries=entries)

    def _chain(self, number: int) -> Sequence[JournalEntry]:
        """An entry, the last, and those that it builds on; nothing if one of them does not read."""
        chain: list[JournalEntry] = []
        wanted: int | None = number
        while wanted is not None:
            entry = self.entries.get(wanted)
            if entry is None or (chain and wanted >= chain[0].number) or not self._belongs(entry):
                return ()
            chain.insert(0, entry)
            wanted = entry.base
        return chain

    def _belongs(self, entry: JournalEntry) -> bool:
        return self.plan is None or entry.plan_digest == self.plan.digest


def read_each(store: ArtifactStore, session_id: str, found: Mapping[str, ObjectInfo]) -> Readable:
    """Read each of a session's artifacts by itself. What can't be read hides nothing.

    Args:
        store: Where they are.
        session_id: The session.
        found: What is listed below it, by key.

    Raises:
        StoreError: As `ArtifactStore.get`.
    """
    readable = Readable(session_id)
    for info in found.values():
        try:
            _keep(readable, info.key, read_artifact(store, info), found)
        except NotFound:
            continue  # removed since it was listed
        except CorruptArtifact as error:
            readable.problems[info.key] = str(error)
            readable.needs_newer = readable.needs_newer or isinstance(error, NewerArtifact)
    if readable.final is None and readable.pruned is None:
        readable.problems |= _missing(session_id, found.keys())
    return readable


def way_out(readable: Readable) -> tuple[str, ...]:
    """What an operator can do about a session that can't be read, and what not, a step a line."""
    if readable.needs_newer:
        return ("upgrade writeahead: a newer version has written this session",)
    session_id = readable.session_id
    restore = (
        f"restore {', '.join(readable.problems)} from a copy that has the very bytes, such as a backup, or"
        " the version before in a versioned bucket; then the session goes on as if nothing had been"
    )
    by_hand = (
        "if there is no copy: find out at the remote what became of each operation that is not confirmed"
        f" here, do by hand what is missing, then delete {open_key(session_id)} and"
        f" {blocked_key(session_id)}, so that no sweep meets it again"
    )
    leave = (
        f"leave all of {session_id}/ where it is, and never use the id again: an artifact that is edited or"
        " deleted, or another run of the id, can send again what was sent"
    )
    if final_key(session_id) not in readable.problems:
        return restore, by_hand, leave
    completed = (
        f"{final_key(session_id)} is created only when every operation has a receipt, so most"
        " likely nothing is missing at the remote"
    )
    return completed, restore, by_hand, leave


def _keep(readable: Readable, key: str, data: bytes, found: Iterable[str]) -> None:
    """Read an artifact into its place.

    Raises:
        CorruptArtifact: It can't be read.
    """
    session_id = readable.session_id
    number = entry_number(session_id, key)
    if number is not None:
        entry = decode(data, JournalEntry, key=key)
        if entry.number != number:
            raise CorruptArtifact(f"{key}: belongs to another place; it was left as it is")
        readable.entries[number] = entry
    elif key not in (final_key(session_id), planned_key(session_id)) or is_others(data, key=key, found=found):
        return  # no artifact of ours
    elif key == final_key(session_id):
        readable.final = decode(data, Writeback, key=key)
    elif is_pruned(data, key=key):
        readable.pruned = decode(data, PrunedPlan, key=key)
    elif not is_abandoned(data, key=key):
        readable.plan = decode(data, PlannedWriteback, key=key)


def _missing(session_id: str, keys: AbstractSet[str]) -> dict[str, str]:
    """What a session with these keys must have had, and has not any more."""
    numbers = entry_numbers(session_id, keys)
    if not numbers:
        return {}
    wanted = [planned_key(session_id), *(journal_key(session_id, n) for n in range(1, numbers[-1]))]
    present = keys | {journal_key(session_id, number) for number in numbers}
    return {key: f"{key}: missing: it was removed" for key in wanted if key not in present}
