"""A remote as a plain list of what it applied, with one kind of operation for each replay class.

What an operation meets is programmed beforehand: `Remote.script["1-create"] = [Meets.UNAVAILABLE,
    ...]`.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto

from pydantic import BaseModel, ConfigDict, Field, computed_field

from writeahead import Adapter, PlannedOperation, Receipt, emits
from writeahead.adapters.base import TransactionalAdapter
from writeahead.errors import Applied, ConflictError, PermanentError, TransientError
from writeahead.model import Assume

# What a transaction is called in scripts and requests.
ALL = "all"


class Meets(Enum):
    """What happens to one request."""

    UNAVAILABLE = auto()  # refused before it took effect
    LOST_REQUEST = auto()  # never arrived, and the sender can't know
    LOST_REPLY = auto()  # took effect, and the sender can't know
    REJECTED = auto()
    CONFLICT = auto()
    BUG = auto()  # the adapter raises against its contract
    INTERRUPT = auto()
    RETRY_AFTER = auto()  # refused, with a wait of an hour


@dataclass
class Remote:
    """Truth: every effect, in order, by idempotency key; and every request, by operation id."""

    effects: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    script: dict[str, list[Meets]] = field(default_factory=dict)

    def count(self, key: str) -> int:
        return Counter(self.effects)[key]


class Text(BaseModel):
    text: str


class RemoteAdapter(Adapter):
    name = "remote"
    request_lifetime = 60.0

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    def _send(self, operation: PlannedOperation, *, proved: bool) -> Receipt:
        remote = self.remote
        remote.requests.append(operation.id)
        script = remote.script.get(operation.id)
        meets = script.pop(0) if script else None
        _fail_before(meets)
        known = proved and operation.key in remote.effects
        if not known:
            remote.effects.append(operation.key)
        if meets is Meets.LOST_REPLY:
            raise TransientError("POST /rows: connection reset", applied=Applied.UNKNOWN)
        return Receipt(remote_id=operation.key, outcome="already_applied" if known else "applied")

    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=True)

    @emits("upsert")
    def emit_upsert(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=True)

    @emits("conditional_update")
    def emit_update(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=True)

    @emits("lookup")
    def emit_lookup(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=False)

    def find_lookup(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        self.remote.searches.append(operation.id)
        if operation.key not in self.remote.effects:
            return None
        return Receipt(remote_id=operation.key, outcome="already_applied")

    @emits("unprovable")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation, proved=False)


class TransactionalRemoteAdapter(RemoteAdapter, TransactionalAdapter):
    """The remote takes all or nothing, and recognizes a second transaction of the same keys."""

    def transact(self, operations):
        remote = self.remote
        remote.requests.append(ALL)
        script = remote.script.get(ALL)
        meets = script.pop(0) if script else None
        _fail_before(meets)
        known = operations[0].key in remote.effects
        if not known:
            remote.effects += [operation.key for operation in operations]
        if meets is Meets.LOST_REPLY:
            raise TransientError("POST /$batch: connection reset", applied=Applied.UNKNOWN)
        outcome = "already_applied" if known else "applied"
        return [Receipt(remote_id=operation.key, outcome=outcome) for operation in operations]


def _fail_before(meets: Meets | None) -> None:
    match meets:
        case Meets.UNAVAILABLE:
            raise TransientError("POST /rows: 503", applied=Applied.NO)
        case Meets.RETRY_AFTER:
            raise TransientError("POST /rows: 429", applied=Applied.NO, retry_after=3600)
        case Meets.LOST_REQUEST:
            raise TransientError("POST /rows: timeout", applied=Applied.UNKNOWN)
        case Meets.REJECTED:
            raise PermanentError("POST /rows: 400")
        case Meets.CONFLICT:
            raise ConflictError("PATCH /rows: another user wrote it")
        case Meets.BUG:
            raise RuntimeError("token=planted-secret")
        case Meets.INTERRUPT:
            raise KeyboardInterrupt


def found_out(was_applied: bool) -> Assume:
    """What an operator says who has looked."""
    return Assume.APPLIED if was_applied else Assume.NOT_APPLIED


def operations(*kinds: str) -> list[dict[str, object]]:
    """Operations of these kinds, with payloads that differ."""
    return [{"kind": kind, "payload": {"text": f"{n} {kind}"}} for n, kind in enumerate(kinds, start=1)]


class Strict(BaseModel):
    row_id: str = Field(alias="rowId")
    at: datetime
    places: tuple[str, ...] = ()

    model_config = ConfigDict(strict=True, extra="forbid")

    @computed_field
    def loud(self) -> str:
        return self.row_id.upper()


STRICT = Strict(rowId="r1", at=datetime(2026, 1, 1, tzinfo=UTC), places=("a",))
