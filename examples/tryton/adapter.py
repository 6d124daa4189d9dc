"""Tryton over JSON-RPC: a small adapter, and the worked example of docs/adapters.md.

Tryton is a business system with weak keys. Few of its tables have a unique column, no request
carries a key of the caller's, and errors come as HTTP 200. So each kind is proved harmless as its
table allows:

    party           create_with_key     party.party: its column ``code`` is unique: it is our key
    address_update  conditional_update  party.address: the server compares ``_timestamp``
    note            lookup              ir.note: not unique, but its text can be searched for a key
    email           unprovable          ir.email: no place for a key that its reader would not see

Sources: trytond 8.2, model/modelsql.py (``_timestamp``), ir/email_.py, sendmail.py;
modules/party/party.py (``code_uniq``).
"""

from collections.abc import Iterable, Sequence
from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, StringConstraints

from tryton.rpc import Changed, Refused, Server
from writeahead.adapters.base import Adapter, emits, target_of
from writeahead.errors import ConflictError, InvalidInput, NotReady
from writeahead.model import KeyedOperation, PlannedOperation, Receipt, ReplayClass

__all__ = ["AddressBaseline", "AddressUpdate", "Email", "Note", "Party", "TrytonAdapter"]

Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\r\n]*$")]
# A record as Tryton's reference fields write it.
Record = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,127},[1-9][0-9]{0,17}$")]
_TIMEOUT = httpx.Timeout(connect=5.0, read=25.0, write=25.0, pool=5.0)


class _Input(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Party(_Input):
    """A party to create. Its code will be the operation's idempotency key."""

    name: Line


class AddressUpdate(_Input):
    """Lines of an address to set; what is None is left alone. All that are given are guarded."""

    address_id: int = Field(ge=1)
    attn: Line | None = None
    city: Line | None = None
    postal_code: Line | None = None

    def values(self) -> dict[str, JsonValue]:
        """The columns to write."""
        return self.model_dump(exclude={"address_id"}, exclude_none=True)


class Note(_Input):
    """A note to add to a record; ``about`` is one such as ``party.party,12``."""

    about: Record
    text: Text


class Email(_Input):
    """An e-mail to send, which is filed with a record."""

    about: Record
    to: Annotated[str, StringConstraints(pattern=r"^[^@\s,]+@[^@\s,]+$", max_length=200)]
    subject: Line
    body: Text


class AddressBaseline(_Input):
    """What an address was like when it was loaded, or when the plan was made.

    Attributes:
        timestamp: Its version, the ``_timestamp``.
        columns: Lines with their values.
    """

    timestamp: str = Field(min_length=1, max_length=64)
    columns: dict[Annotated[str, StringConstraints(pattern="^(attn|city|postal_code)$")], JsonValue]


class TrytonAdapter(Adapter):
    """Writes parties, addresses, notes and e-mails into one Tryton database.

    Args:
        url: The server, ``https://erp.example.com``; http is allowed for loopback hosts only.
        database: The database's name.
        user: Login of a user of its own: records made by this user are taken for this adapter's.
        password: Its password.
        timeout: Seconds for connecting, writing and each wait for data.

    Raises:
        InvalidInput: The URL or the database's name can't be used.
    """

    name = "tryton"
    # [request] timeout of the server is 60 seconds; the rest is for queues and proxies on the way.
    request_lifetime = 300.0

    def __init__(
        self,
        url: str,
        database: str,
        user: str,
        password: SecretStr,
        *,
        timeout: float | httpx.Timeout = _TIMEOUT,
    ) -> None:
        self._server = Server(url, database, user, password, httpx.Timeout(timeout))

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def target(self) -> str:
        """The server, the database and the user; a new password leaves it as it is."""
        return target_of(*self._server.account)

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Sign in, so that wrong credentials are found out now, and read the baselines.

        Raises: as `Adapter.plan`.
        """
        addresses = [item.payload.get("address_id") for item in operations if item.kind == "address_update"]
        for address in addresses:
            if addresses.count(address) > 1:
                # The second would meet what the first wrote, and take it for another user's edit.
                raise InvalidInput(f"party.address,{address} is updated twice in this session: make it one")
        self._server.sign_in()
        return super().plan(operations)

    # create_with_key: the server refuses a second one, and what is there tells who made it.

    def plan_party(self, payload: Party, operation: KeyedOperation) -> PlannedOperation:
        """Refuse an id that was used for another party: "it exists" would count as applied."""
        found = self._server.search("party.party", [["code", "=", operation.key]], ["name"])
        if found and found[0]["name"] != payload.name:
            raise ConflictError("party.party: a session of this id made another: give this one its own")
        return _planned(payload, operation, ReplayClass.CREATE_WITH_KEY)

    @emits(ReplayClass.CREATE_WITH_KEY)
    def emit_party(self, payload: Party, operation: PlannedOperation) -> Receipt:
        """Create the party. Raises: as `Adapter.emit`."""
        columns = {"name": payload.name, "code": operation.key}
        try:
            (made,) = self._server.write("party.party", "create", [columns])
        except Refused as refused:
            # The message is for users, in their language: what is there decides.
            found = self._server.search("party.party", [["code", "=", operation.key]], ["create_uid"])
            if not found:
                raise
            if found[0]["create_uid"] != self._server.user_id():
                raise ConflictError(f"{refused}: the code is taken by another user's party") from None
            return Receipt(remote_id=f"party.party,{found[0]['id']}", outcome="already_applied")
        return Receipt(remote_id=f"party.party,{made}")

    # conditional_update: guarded by the version that planning saw.

    def read_baseline(self, address_id: int) -> AddressBaseline | None:
        """Read what an address is like when it is loaded; None if it is not there.

        Raises: as `Adapter.plan`.
        """
        return self._address(address_id, ["attn", "city", "postal_code"])

    def plan_address_update(
        self, payload: AddressUpdate, operation: KeyedOperation, baseline: AddressBaseline | None = None
    ) -> PlannedOperation:
        """Read what the address is like now, and hold it against what the caller has loaded."""
        if not payload.values():
            raise InvalidInput(
                f"operation {operation.id}: there is nothing to set: give attn, city or postal_code"
            )
        now = self._address(payload.address_id, payload.values())
        record = f"operation {operation.id}: party.address,{payload.address_id}"
        if now is None and baseline is not None:
            raise ConflictError(f"{record} is gone since it was loaded")
        if now is None:
            raise NotReady(f"{record} does not exist")
        # Values as ours may be of an earlier run, whose plan was lost.
        if baseline is not None and now.columns != payload.values():
            changed = _changed(baseline, now)
            if changed:
                raise ConflictError(f"{record}: changed since it was loaded: {', '.join(changed)}")
        return _planned(payload, operation, ReplayClass.CONDITIONAL_UPDATE, now)

    @emits(ReplayClass.CONDITIONAL_UPDATE)
    def emit_address_update(self, payload: AddressUpdate, operation: PlannedOperation) -> Receipt:
        """Update the address if it is as the plan saw it. Raises: as `Adapter.emit`."""
        baseline = AddressBaseline.model_validate(operation.precondition)
        record = f"party.address,{payload.address_id}"
        timestamp = baseline.timestamp
        for _ in ("as planned", "rebased"):
            try:
                self._server.write(
                    "party.address",
                    "write",
                    [payload.address_id],
                    payload.values(),
                    context={"_timestamp": {record: timestamp}},
                )
            except (Changed, Refused) as refused:
                now = self._address(payload.address_id, payload.values())
                if now is None:
                    raise ConflictError(f"{record} is gone") from None
                if now.columns == payload.values():
                    return Receipt(remote_id=record, remote_version=now.timestamp, outcome="already_applied")
                changed = _changed(baseline, now)
                if changed:
                    # Some of it may be ours, by a request of unknown outcome: an operator decides.
                    raise ConflictError(f"{record}: changed since the plan: {', '.join(changed)}") from None
                if isinstance(refused, Refused):
                    raise
                timestamp = now.timestamp
            else:
                return Receipt(remote_id=record)
        raise ConflictError(f"{record}: another user keeps changing it")

    # lookup: sent at will, searched before it is sent again.

    @emits(ReplayClass.LOOKUP)
    def emit_note(self, payload: Note, operation: PlannedOperation) -> Receipt:
        """Add the note. Raises: as `Adapter.emit`."""
        columns = {"resource": payload.about, "message": _message(payload, operation)}
        (made,) = self._server.write("ir.note", "create", [columns])
        return Receipt(remote_id=f"ir.note,{made}")

    def find_note(self, payload: Note, operation: PlannedOperation) -> Receipt | None:
        """Search the record's notes for the operation's key. Raises: as `Adapter.find`."""
        domain = [["resource", "=", payload.about], ["message", "ilike", f"%{_reference(operation)}%"]]
        found = self._server.search("ir.note", domain, ["message"])
        if not found:
            return None
        wanted = _message(payload, operation).split()
        note = next((one["id"] for one in found if str(one["message"]).split() == wanted), None)
        if note is None:
            raise ConflictError("ir.note: a session of this id wrote other content: give this one its own")
        return Receipt(remote_id=f"ir.note,{note}", outcome="already_applied")

    # unprovable: never sent again after an attempt that may have been applied.

    @emits(ReplayClass.UNPROVABLE)
    def emit_email(self, payload: Email, operation: PlannedOperation) -> Receipt:
        """Send the e-mail; Tryton does so after its commit. Raises: as `Adapter.emit`."""
        model, record_id = payload.about.split(",")
        sent = self._server.write(
            "ir.email",
            "send",
            payload.to,
            "",
            "",
            payload.subject,
            payload.body,
            None,
            [model, int(record_id)],
        )
        return Receipt(remote_id=f"ir.email,{sent}")

    def _address(self, address_id: int, lines: Iterable[str]) -> AddressBaseline | None:
        columns = list(lines)
        domain = [["id", "=", address_id]]
        found = self._server.search("party.address", domain, ["_timestamp", *columns])
        if not found:
            return None
        return AddressBaseline(
            timestamp=found[0]["_timestamp"], columns={name: found[0][name] for name in columns}
        )


def _planned(
    payload: BaseModel,
    operation: KeyedOperation,
    replay: ReplayClass,
    baseline: AddressBaseline | None = None,
) -> PlannedOperation:
    return PlannedOperation(
        id=operation.id,
        kind=operation.kind,
        key=operation.key,
        payload=payload.model_dump(mode="json"),
        precondition=baseline.model_dump(mode="json") if baseline else None,
        replay=replay,
    )


def _changed(baseline: AddressBaseline, now: AddressBaseline) -> list[str]:
    """The lines that another version has otherwise, or that the baseline does not have at all."""
    if baseline.timestamp == now.timestamp:
        return []
    return [name for name, value in now.columns.items() if baseline.columns.get(name, ...) != value]


def _message(payload: Note, operation: PlannedOperation) -> str:
    return f"{payload.text}\n\n{_reference(operation)}"


def _reference(operation: PlannedOperation) -> str:
    return f"Reference: {operation.key}"
