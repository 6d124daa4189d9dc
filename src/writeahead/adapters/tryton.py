"""Tryton over JSON-RPC: a small adapter, and the worked example of docs/adapters.md.

Tryton is a business system with weak keys. Few of its tables have a unique column, no request carries a key
of the caller's, and errors come as HTTP 200. So each kind is proved harmless as its table allows:

    party            create_with_key      party.party: its column ``code`` is unique, and becomes our key
    address_update   conditional_update   party.address: the server compares ``_timestamp``
    note             lookup               ir.note: nothing is unique, but its text can be searched for our key
    email            unprovable           ir.email: no place for our key that a mail's reader would not see

Sources: trytond 8.2, protocols/jsonrpc.py (requests, and errors in the body), protocols/wrappers.py (the
session's header), model/modelsql.py (``_timestamp``), ir/email_.py, sendmail.py; modules/party/party.py
(``code_uniq``).
"""

import base64
import itertools
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue, SecretStr, StringConstraints

from writeahead.adapters.base import Adapter, emits
from writeahead.adapters.http import Connections, applied_despite, retry_after_seconds, secure_url
from writeahead.errors import Applied, ConflictError, InvalidInput, NotReady, PermanentError, TransientError
from writeahead.model import KeyedOperation, PlannedOperation, Receipt, ReplayClass

__all__ = ["AddressUpdate", "Email", "Note", "Party", "TrytonAdapter", "adapter_from_settings"]

Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\r\n]*$")]
# A record as Tryton's reference fields write it.
Record = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]{0,127},[1-9][0-9]{0,17}$")]
_DATABASE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
_TIMEOUT = httpx.Timeout(connect=5.0, read=25.0, write=25.0, pool=5.0)
_REFUSALS = {"UserError", "UserWarning"}


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


class _Baseline(_Input):
    """What an address was like when the plan was made."""

    timestamp: str = Field(min_length=1, max_length=64)
    columns: dict[str, JsonValue]


class _Refused(PermanentError):
    """The server's own rules refused the request: a constraint, a missing right, a warning."""


class _Changed(PermanentError):
    """The record has another ``_timestamp`` than the request named."""


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
        self._server = _Server(url, database, user, password, httpx.Timeout(timeout))

    def close(self) -> None:
        """Close the connections."""
        self._server.close()

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        """Sign in, so that wrong credentials are found out now, and read the baselines.

        Raises: as `Adapter.plan`.
        """
        addresses = [item.payload.get("address_id") for item in operations if item.kind == "address_update"]
        for address in addresses:
            if addresses.count(address) > 1:
                # The second would meet what the first wrote, and take it for somebody else's.
                raise InvalidInput(f"party.address,{address} is updated twice in this session: make it one")
        self._server.sign_in()
        return super().plan(operations)

    # create_with_key: the server refuses a second one, and what is there tells who made it.

    @emits(ReplayClass.CREATE_WITH_KEY)
    def emit_party(self, payload: Party, operation: PlannedOperation) -> Receipt:
        """Create the party. Raises: as `Adapter.emit`."""
        columns = {"name": payload.name, "code": operation.key}
        try:
            (made,) = self._server.write("party.party", "create", [columns])
        except _Refused as refused:
            # Not by the message, which is a person's and in their language: by what is there.
            found = self._server.search("party.party", [["code", "=", operation.key]], ["create_uid"])
            if not found:
                raise
            if found[0]["create_uid"] != self._server.user_id():
                raise ConflictError(f"{refused}: the code is taken by somebody else's party") from None
            return Receipt(remote_id=f"party.party,{found[0]['id']}", outcome="already_applied")
        return Receipt(remote_id=f"party.party,{made}")

    # conditional_update: guarded by the version that planning saw.

    def plan_address_update(self, payload: AddressUpdate, operation: KeyedOperation) -> PlannedOperation:
        """Read what the address is like now."""
        if not payload.values():
            raise InvalidInput(
                f"operation {operation.id}: there is nothing to set: give attn, city or postal_code"
            )
        baseline = self._address(payload)
        if baseline is None:
            raise NotReady(f"operation {operation.id}: party.address,{payload.address_id} does not exist")
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=payload.model_dump(mode="json"),
            precondition=baseline.model_dump(mode="json"),
            replay=ReplayClass.CONDITIONAL_UPDATE,
        )

    @emits(ReplayClass.CONDITIONAL_UPDATE)
    def emit_address_update(self, payload: AddressUpdate, operation: PlannedOperation) -> Receipt:
        """Update the address if it is as the plan saw it. Raises: as `Adapter.emit`."""
        baseline = _Baseline.model_validate(operation.precondition)
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
            except (_Changed, _Refused) as refused:
                now = self._address(payload)
                if now is None:
                    raise ConflictError(f"{record} is gone") from None
                if now.columns == payload.values():
                    return Receipt(remote_id=record, remote_version=now.timestamp, outcome="already_applied")
                changed = [name for name, value in baseline.columns.items() if now.columns[name] != value]
                if changed:
                    # Some of it may be ours, by a request of unknown outcome: a person can tell.
                    raise ConflictError(f"{record}: changed since the plan: {', '.join(changed)}") from None
                if isinstance(refused, _Refused):
                    raise
                timestamp = now.timestamp
            else:
                return Receipt(remote_id=record)
        raise ConflictError(f"{record}: somebody else keeps changing it")

    # lookup: sent at will, searched before it is sent again.

    @emits(ReplayClass.LOOKUP)
    def emit_note(self, payload: Note, operation: PlannedOperation) -> Receipt:
        """Add the note. Raises: as `Adapter.emit`."""
        columns = {"resource": payload.about, "message": f"{payload.text}\n\n{_reference(operation)}"}
        (made,) = self._server.write("ir.note", "create", [columns])
        return Receipt(remote_id=f"ir.note,{made}")

    def find_note(self, payload: Note, operation: PlannedOperation) -> Receipt | None:
        """Search the record's notes for the operation's key. Raises: as `Adapter.find`."""
        domain = [["resource", "=", payload.about], ["message", "ilike", f"%{_reference(operation)}%"]]
        found = self._server.search("ir.note", domain, ["id"])
        if not found:
            return None
        return Receipt(remote_id=f"ir.note,{found[0]['id']}", outcome="already_applied")

    # unprovable: never sent twice.

    @emits(ReplayClass.UNPROVABLE)
    def emit_email(self, payload: Email, operation: PlannedOperation) -> Receipt:  # noqa: ARG002 - no key to give
        """Have the e-mail sent, which Tryton does once it has committed. Raises: as `Adapter.emit`."""
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

    def _address(self, payload: AddressUpdate) -> _Baseline | None:
        columns = list(payload.values())
        domain = [["id", "=", payload.address_id]]
        found = self._server.search("party.address", domain, ["_timestamp", *columns])
        if not found:
            return None
        return _Baseline(timestamp=found[0]["_timestamp"], columns={name: found[0][name] for name in columns})


def _reference(operation: PlannedOperation) -> str:
    return f"Reference: {operation.key}"


@dataclass(frozen=True, slots=True)
class _Session:
    user_id: int
    header: str


class _Server:
    """JSON-RPC with one database: one request a call. A session that has expired is renewed once."""

    def __init__(
        self, url: str, database: str, user: str, password: SecretStr, timeout: httpx.Timeout
    ) -> None:
        self._root = secure_url(url, "TRYTON_URL")
        self._path = f"{self._root.path.rstrip('/')}/{_database(database)}/rpc/"
        self._user = user
        self._password = password
        self._connections = Connections(self._root, timeout)
        self._ids = itertools.count(1)
        self._session: _Session | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        self._connections.close()

    def user_id(self) -> int:
        return self.sign_in().user_id

    def sign_in(self, instead_of: _Session | None = None) -> _Session:
        """A session, which is asked for if there is none.

        Raises:
            NotReady: The credentials or the database are refused.
            TransientError: The server could not say.
        """
        with self._lock:
            if self._session is None or self._session is instead_of:
                self._session = self._log_in()
            return self._session

    def _log_in(self) -> _Session:
        parameters = {"password": self._password.get_secret_value()}
        reply = self._post("common.db.login", [self._user, parameters], None, Applied.NO)
        if reply.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND):
            raise NotReady(
                f"Tryton refuses the login with HTTP {reply.status_code}: check TRYTON_DATABASE, TRYTON_USER"
                " and TRYTON_PASSWORD"
            )
        user_id, token = self._result("login", reply, Applied.NO, _is_login)[:2]
        secret = base64.b64encode(f"{self._user}:{user_id}:{token}".encode()).decode()
        return _Session(user_id, f"Session {secret}")

    def write(
        self, model: str, method: str, *arguments: Any, context: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a method that changes something.

        Raises: `_Refused`, `_Changed`, and as `Adapter.emit`.
        """
        fits = _is_ids if method == "create" else _is_anything
        return self._call(model, method, [*arguments, dict(context or {})], Applied.UNKNOWN, fits)

    def search(self, model: str, domain: Sequence[Any], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Read records. Raises: as `Adapter.find`."""
        parameters = [list(domain), 0, None, None, list(columns), {"active_test": False}]
        wanted = {"id", *columns}
        found: list[dict[str, Any]] = self._call(
            model, "search_read", parameters, Applied.NO, lambda result: _is_rows(result, wanted)
        )
        return found

    def _call(
        self,
        model: str,
        method: str,
        parameters: Sequence[Any],
        applied: Applied,
        fits: Callable[[Any], bool],
    ) -> Any:
        session = self.sign_in()
        name = f"model.{model}.{method}"
        reply = self._post(name, parameters, session, applied)
        if reply.status_code == HTTPStatus.UNAUTHORIZED:
            # Surely not applied; sessions end after some minutes without a request.
            reply = self._post(name, parameters, self.sign_in(instead_of=session), applied)
        if reply.status_code == HTTPStatus.UNAUTHORIZED:
            raise NotReady(f"{model}.{method}: HTTP 401, a new session is refused, too")
        return self._result(f"{model}.{method}", reply, applied, fits)

    def _post(
        self, method: str, parameters: Sequence[Any], session: _Session | None, applied: Applied
    ) -> httpx.Response:
        body = {"id": next(self._ids), "method": method, "params": parameters}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if session is not None:
            headers["Authorization"] = session.header
        try:
            return self._connections.exchange(
                "POST",
                self._root.copy_with(path=self._path),
                headers=headers,
                content=json.dumps(body).encode(),
            )
        except (httpx.HTTPError, httpx.StreamError) as error:
            unsure = Applied.NO if applied is Applied.NO else applied_despite(error)
            failure = TransientError(f"{method}: {type(error).__name__}", applied=unsure)
        # Out of the except block, so that not even __context__ holds the request with its session.
        raise failure

    def _result(self, what: str, reply: httpx.Response, applied: Applied, fits: Callable[[Any], bool]) -> Any:
        """The result in a reply. Of an error only the kind is passed on: its words may be out of a record."""
        status = reply.status_code
        if status != HTTPStatus.OK:
            raise _refusal(f"{what}: HTTP {status}", status, reply.headers, applied)
        content = _json_object(reply.content)
        error = content.get("error")
        if error is not None:
            raise _error(what, error, applied)
        if "result" not in content or not fits(content["result"]):
            raise TransientError(f"{what}: the reply is cut, or none of Tryton's", applied=applied)
        return content["result"]


def _refusal(said: str, status: int, headers: Mapping[str, str], applied: Applied) -> Exception:
    wait = retry_after_seconds(headers)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return TransientError(said, applied=Applied.NO, retry_after=wait)
    if status == HTTPStatus.REQUEST_TIMEOUT or (status >= 500 and status != HTTPStatus.NOT_IMPLEMENTED):  # noqa: PLR2004
        return TransientError(said, applied=applied, retry_after=wait)
    return PermanentError(said)


def _error(what: str, error: Any, applied: Applied) -> Exception:
    """An error that came with HTTP 200: the name of an exception, and what it was made of."""
    name = error[0] if isinstance(error, list) and error and isinstance(error[0], str) else ""
    if name == "ConcurrencyException":
        return _Changed(f"{what}: ConcurrencyException")
    if name in _REFUSALS:
        return _Refused(f"{what}: {name}")
    if name == "LoginException":
        return NotReady(f"{what}: the user must log in with more than a password")
    # Any other exception of the server: mostly rolled back, but one may come after the commit.
    return TransientError(f"{what}: the server failed", applied=applied)


def _json_object(content: bytes) -> Mapping[str, Any]:
    try:
        parsed = json.loads(content)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, Mapping) else {}


def _is_anything(_result: Any) -> bool:
    return True


def _is_ids(result: Any) -> bool:
    return isinstance(result, list) and len(result) == 1 and type(result[0]) is int


def _is_rows(result: Any, columns: set[str]) -> bool:
    return isinstance(result, list) and all(isinstance(row, dict) and columns <= row.keys() for row in result)


def _is_login(result: Any) -> bool:
    return (
        isinstance(result, list)
        and len(result) >= 2  # noqa: PLR2004 - the user's id and the session's key
        and type(result[0]) is int
        and isinstance(result[1], str)
    )


def _database(name: str) -> str:
    if not re.fullmatch(_DATABASE, name):
        raise InvalidInput("TRYTON_DATABASE must be of letters, digits, '_', '.' and '-'")
    return name


def adapter_from_settings(
    *,
    url: str | None = None,
    database: str | None = None,
    user: str | None = None,
    password: SecretStr | None = None,
    environ: Mapping[str, str] = os.environ,
) -> TrytonAdapter:
    """Make a `TrytonAdapter`; this is the entry point ``tryton``.

    Args:
        url: The server; else ``TRYTON_URL``.
        database: Its name; else ``TRYTON_DATABASE``.
        user: The login; else ``TRYTON_USER``.
        password: Else ``TRYTON_PASSWORD``, where it is better off.
        environ: Where to look for what is not given.

    Raises:
        InvalidInput: A setting is missing or can't be used.
    """
    for name, value in {"url": url, "database": database, "user": user}.items():
        if not isinstance(value, str | None):
            raise InvalidInput(f"setting {name} must be text, not {type(value).__name__}")
    if not isinstance(password, SecretStr | None):
        raise InvalidInput("password is not for a settings file: put TRYTON_PASSWORD in the environment")
    given = {
        "TRYTON_URL": url,
        "TRYTON_DATABASE": database,
        "TRYTON_USER": user,
        "TRYTON_PASSWORD": password.get_secret_value() if password else None,
    }
    found = {name: value or environ.get(name, "") for name, value in given.items()}
    missing = [name for name, value in found.items() if not value]
    if missing:
        raise InvalidInput(f"{', '.join(missing)} not set: put them in the environment")
    return TrytonAdapter(
        found["TRYTON_URL"],
        found["TRYTON_DATABASE"],
        found["TRYTON_USER"],
        SecretStr(found["TRYTON_PASSWORD"]),
    )
