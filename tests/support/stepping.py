"""A world to step real runs in: a remote, a clock, a dated store, and what must hold of them.

`tests.support.actors` has the runs, `tests.support.schedules` their schedules.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel

from tests.support.journals import whole
from writeahead.adapters.base import TransactionalAdapter, emits
from writeahead.errors import Applied, ConflictError, PermanentError, TransientError
from writeahead.model import PlannedOperation, Receipt, RunPolicy
from writeahead.protocol.retry import Clock
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing import WrapperStore

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
SESSION = "s-1"
PLANNED = f"{SESSION}/planned-writeback.json"
LIFETIME = 300.0
# How long the remote remembers the keys of these kinds: less than a lease and a lifetime.
KEY_VALID_FOR = 1000.0
EXPIRING = ("charge", "bill")
# What leans on time; and what does no harm when it comes late: the remote knows it by key or
# version for ever.
TIMED = ("post", "row", *EXPIRING)
TIMELESS = ("create", "upsert", "edit", "transaction")
# Short waits, so that time passes in few jumps: a lease is over before any of them would matter.
POLICY = RunPolicy(
    attempts=2,
    wait_initial=1.0,
    wait_max=1.0,
    run_limit=5000.0,
    lease=600.0,
    clock_skew=5.0,
    journal_interval=0,
)
PAST_LEASE = POLICY.lease + POLICY.clock_skew + 1


class Violation(AssertionError):
    """A promise was broken; the message names it."""


class Text(BaseModel):
    text: str


@dataclass
class Remote:
    """What the other system holds: the truth about effects, by operation id."""

    effects: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    late: list[tuple[str, str, float]] = field(default_factory=list)
    # When it saw a key that it remembers for a while only, and whose value the one row holds.
    keys: dict[str, float] = field(default_factory=dict)
    row: str = ""

    def apply(self, kind: str, operation_id: str, now: float = 0.0) -> Receipt:
        if kind == "transaction":
            receipts = [self.apply(one.split("-")[1], one) for one in operation_id.split(" ")]
            assert len({receipt.outcome for receipt in receipts}) == 1, "a part of a transaction was there"
            return receipts[0]
        held = self.effects.get(operation_id, 0)
        if kind in EXPIRING:
            seen_at = self.keys.get(operation_id)
            if seen_at is not None and now < seen_at + KEY_VALID_FOR:
                return Receipt(remote_id=operation_id, outcome="already_applied")
            self.keys[operation_id] = now
        if kind in ("post", "mail", *EXPIRING):
            self.effects[operation_id] = held + 1
        elif kind in ("upsert", "row"):
            self.effects[operation_id] = 1
            self.row = operation_id if kind == "row" else self.row
        elif held:
            return Receipt(remote_id=operation_id, outcome="already_applied")
        else:
            self.effects[operation_id] = 1
        return Receipt(remote_id=operation_id)

    def found(self, operation_id: str) -> Receipt | None:
        is_there = self.effects.get(operation_id)
        return Receipt(remote_id=operation_id, outcome="already_applied") if is_there else None

    def land(self, index: int = 0, now: float = 0.0) -> None:
        kind, operation_id, _ = self.late.pop(index)
        self.apply(kind, operation_id, now)

    def copy(self) -> "Remote":
        return Remote(dict(self.effects), dict(self.versions), list(self.late), dict(self.keys), self.row)

    def state(self) -> tuple[object, ...]:
        """All but what is on its way."""
        return tuple(sorted(self.effects.items())), tuple(sorted(self.keys.items())), self.row


def answered(remote: Remote, kind: str, operation_id: str, outcome: str, now: float) -> Receipt:
    """What becomes of one request, and of the remote."""
    if outcome == "refused":
        raise PermanentError("400 Bad Request")
    if outcome == "conflict":
        raise ConflictError("412 Precondition Failed")
    if outcome == "not applied":
        raise TransientError("503 Service Unavailable", applied=Applied.NO)
    if outcome == "late":
        remote.late.append((kind, operation_id, now + LIFETIME))
        raise TransientError("read timeout")
    receipt = remote.apply(kind, operation_id, now)
    if outcome == "lost":
        raise TransientError("connection reset")
    return receipt


class SteppingAdapter(TransactionalAdapter):
    """One kind for each replay class. ``ask`` says what becomes of each request."""

    name: ClassVar[str] = "stepping"
    request_lifetime = LIFETIME
    thread_safe = True

    def __init__(self, remote: Remote, ask: Callable[[str], str], time: "Time") -> None:
        self.remote = remote
        self.ask = ask
        self.time = time

    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        ids = " ".join(operation.id for operation in operations)
        receipt = self._request("transaction", ids)
        return [receipt.model_copy(update={"remote_id": operation.id}) for operation in operations]

    def _send(self, operation: PlannedOperation) -> Receipt:
        return self._request(operation.kind, operation.id)

    def _request(self, kind: str, operation_id: str) -> Receipt:
        outcome = self.ask(f"send {operation_id}")
        return answered(self.remote, kind, operation_id, outcome, self.time.seconds)

    def _search(self, operation_id: str) -> Receipt | None:
        self.ask(f"find {operation_id}")
        return self.remote.found(operation_id)

    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("upsert")
    def emit_upsert(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("conditional_update")
    def emit_edit(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("lookup")
    def emit_post(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    def find_post(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        return self._search(operation.id)

    @emits("unprovable")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("create_with_key", key_valid_for=timedelta(seconds=KEY_VALID_FOR))
    def emit_charge(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("create_with_key", key_valid_for=timedelta(seconds=KEY_VALID_FOR))
    def emit_bill(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    def find_bill(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        return self.find_post(payload, operation)

    @emits("upsert", settles_after=timedelta(seconds=LIFETIME))
    def emit_row(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)


@dataclass
class Time:
    """True time, in seconds."""

    seconds: float = 0.0


class SteppedClock(Clock):
    """An actor's clocks: the wall clock is wrong by ``skew`` seconds, the monotonic one right."""

    def __init__(self, time: Time, skew: float = 0.0, sleep: Callable[[float], None] | None = None) -> None:
        self.time = time
        self.skew = skew
        self._sleep = sleep

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.time.seconds + self.skew)

    def monotonic(self) -> float:
        return self.time.seconds

    def random(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        if self._sleep:
            self._sleep(seconds)
        else:
            self.time.seconds += seconds


class TimedStore(WrapperStore):
    """A real store, dated by the world's time; it can be told to ignore If-None-Match."""

    def __init__(
        self, time: Time, inner: ArtifactStore | None = None, *, ignores_if_absent: bool = False
    ) -> None:
        super().__init__(inner or MemoryStore())
        self.time = time
        self.written: dict[str, datetime] = {}
        self.ignores_if_absent = ignores_if_absent
        self.look: Callable[[], dict[str, bytes]] | None = None

    @property
    def name(self) -> str:
        return "memory://stepped"

    def copy(self, time: Time) -> "TimedStore":
        twin = TimedStore(time, ignores_if_absent=self.ignores_if_absent)
        folders = self.wrapped._objects._folders.items()
        twin.wrapped._objects._folders = {first: dict(held) for first, held in folders}
        twin.written = dict(self.written)
        return twin

    @property
    def content(self) -> dict[str, bytes]:
        """The raw bytes by key, past every interface."""
        if self.look:
            return self.look()
        if isinstance(self.wrapped, LocalStore):
            root = Path(urlsplit(self.wrapped.name).path)
            return {
                str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()
            }
        folders = self.wrapped._objects._folders.values()
        return {key: held.data for folder in folders for key, held in folder.items()}

    def _dated(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, last_modified=self.written[info.key])

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        if self.ignores_if_absent and "/journal/" in key:
            if_absent = False
        info = super()._put(key, data, if_absent=if_absent)
        now = EPOCH + timedelta(seconds=self.time.seconds)
        if not if_absent:
            self.written[key] = now
        self.written.setdefault(key, now)
        return self._dated(info)

    def _get(self, key: str) -> StoredObject:
        held = super()._get(key)
        return StoredObject(held.data, self._dated(held.info))

    def _head(self, key: str) -> ObjectInfo | None:
        info = super()._head(key)
        return info and self._dated(info)

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        return iter([self._dated(info) for info in super()._list(prefix, start_after)])

    def _delete(self, key: str) -> None:
        super()._delete(key)
        self.written.pop(key, None)

    def undelete(self, held: StoredObject, written: datetime) -> None:
        """Have an object there again, as a power cut may."""
        self.wrapped._objects[held.info.key] = held
        self.written[held.info.key] = written


def written_once(content: Mapping[str, bytes]) -> dict[str, bytes]:
    """What may neither change nor go: all but markers, and a tombstone."""
    return {
        key: data
        for key, data in content.items()
        if not key.startswith(".") and not (key.endswith("/planned-writeback.json") and is_tombstone(data))
    }


@lru_cache(maxsize=4096)
def loaded(data: bytes) -> Any:
    """An artifact as JSON, not to be changed; schedules meet the same bytes again and again."""
    return json.loads(data)


def is_tombstone(data: bytes | None) -> bool:
    """Whether a sweep has put a tombstone in the plan's place."""
    return data is not None and loaded(data).get("format") == "writeahead/abandoned"


def is_pruned(data: bytes | None) -> bool:
    """Whether a prune has put its tombstone in the plan's place."""
    return data is not None and "pruned_at" in loaded(data)


def require(holds: bool, promise: str) -> None:
    if not holds:
        raise Violation(promise)


def check_promises(content: Mapping[str, bytes], remote: Remote, session_id: str = SESSION) -> None:
    """Hold raw bytes and effects of one session against what is promised at every moment."""
    for operation_id, count in remote.effects.items():
        require(count <= 1, f"DOUBLED: {operation_id} took effect {count} times")
    plan = content.get(f"{session_id}/planned-writeback.json")
    final = f"{session_id}/writeback.json" in content
    if plan is None:
        require(not remote.effects, "UNPLANNED_EFFECT")
        return
    operations = [operation["id"] for operation in loaded(plan).get("operations", [])]
    if not operations:
        require(not remote.effects, "UNPLANNED_EFFECT: the session was abandoned")
        return
    if final:
        missing = [name for name in operations if not remote.effects.get(name)]
        require(not missing, f"FINAL_TOO_EARLY: {missing}")
        rows = [name for name in operations if name.endswith("-row")]
        require(not rows or remote.row == rows[-1], f"STALE_ROW: it holds the value of {remote.row}")
        return
    entries = [content[key] for key in sorted(content) if key.startswith(f"{session_id}/journal/")]
    newest = loaded(entries[-1]) if entries else {}
    if newest.get("status") == "abandoned":
        said = whole({n: loaded(entry) for n, entry in enumerate(entries, start=1)}, len(entries))
        known = said["receipts"].keys() | said["attempted"].keys()
        unsaid = [name for name in remote.effects if name.endswith("mail") and name not in known]
        require(not unsaid, f"SENT_AFTER_END: {unsaid}")
        return
    require(not any(b'"status": "abandoned"' in entry for entry in entries), "RESURRECTED")
    marked = f".open/{session_id}" in content or f".blocked/{session_id}" in content
    require(marked, "HIDDEN: it is not final, and has no marker")
    if newest.get("status") == "blocked":
        require(newest.get("block_reason") is not None and newest.get("error"), "SILENT_BLOCK")
