"""One Tryton database over JSON-RPC: its session, its requests, and what its errors mean.

Sources: trytond 8.2, protocols/jsonrpc.py (requests, and errors in the body), protocols/wrappers.py
(the session's header).
"""

import base64
import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from pydantic import SecretStr

from writeahead.adapters.http import Connections, applied_despite, retry_after_seconds, secure_url
from writeahead.errors import Applied, InvalidInput, NotReady, PermanentError, TransientError

__all__ = ["Changed", "Refused", "Server"]

_DATABASE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
_REFUSALS = {"UserError", "UserWarning"}


class Refused(PermanentError):
    """The server's own rules refused the request: a constraint, a missing right, a warning."""


class Changed(PermanentError):
    """The record has another ``_timestamp`` than the request named."""


@dataclass(frozen=True, slots=True)
class _Session:
    user_id: int
    header: str


class Server:
    """JSON-RPC with one database: one request a call. An expired session is renewed once."""

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
        """Close the connections."""
        self._connections.close()

    @property
    def account(self) -> tuple[str, str]:
        """What tells this database and its user from others; no secret is part of it."""
        return str(self._root.copy_with(path=self._path)), self._user

    def user_id(self) -> int:
        """Of the user who is signed in. Raises: as `sign_in`."""
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

        Raises: `Refused`, `Changed`, and as `Adapter.emit`.
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
        """Return a reply's result. Only an error's kind is kept: its text may be a record's."""
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
    failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED
    # Tryton answers with 200 alone. Other 2xx and 3xx come from a server in between, and say
    # nothing of the request.
    if status < HTTPStatus.BAD_REQUEST or status == HTTPStatus.REQUEST_TIMEOUT or failed:
        return TransientError(said, applied=applied, retry_after=wait)
    return PermanentError(said)


def _error(what: str, error: Any, applied: Applied) -> Exception:
    """Return the error for a reply with HTTP 200: the name of an exception and its arguments."""
    name = error[0] if isinstance(error, list) and error and isinstance(error[0], str) else ""
    if name == "ConcurrencyException":
        return Changed(f"{what}: ConcurrencyException")
    if name in _REFUSALS:
        return Refused(f"{what}: {name}")
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
