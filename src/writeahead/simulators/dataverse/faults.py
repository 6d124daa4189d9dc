"""Faults on demand: what goes wrong, for which requests, how many times."""

import dataclasses
import email.utils
import fnmatch
import itertools
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse.editor import Edit
from writeahead.simulators.dataverse.messages import API_ROOT, ApiResponse, json_response
from writeahead.simulators.dataverse.odata import ErrorCode, error_body
from writeahead.simulators.dataverse.tokens import login_error

__all__ = ["Fault", "FaultAction", "Faults"]

_TOO_MANY = 429
_UNAVAILABLE = 503
_LOWEST, _HIGHEST = 200, 599
_LIMIT_MESSAGE = "Number of requests exceeded the limit of 6000 over time window of 300 seconds."
_PARTIAL = b'{"@odata.context":"http://'


class FaultAction(StrEnum):
    """What a fault does to a request."""

    STATUS = "status"
    """An error response with a status, a code and a message, with Retry-After if asked for."""
    DROP = "drop"
    """The connection is closed (FIN) without a reply."""
    RESET = "reset"
    """The connection is reset (RST) without a reply."""
    CUT = "cut"
    """The reply's head promises more bytes than follow, then the connection is closed."""
    NOT_JSON = "not_json"
    """The reply's body is a page of HTML, as of a gateway."""
    WRONG_SCHEMA = "wrong_schema"
    """The reply's body is JSON, of a shape that the Web API never sends."""
    DELAY = "delay"
    """The right reply, late."""
    EDIT = "edit"
    """The right reply, while another user edits a row."""


_RIGHT = {FaultAction.DELAY, FaultAction.EDIT}
_APPLIES = {FaultAction.CUT, FaultAction.NOT_JSON, FaultAction.WRONG_SCHEMA} | _RIGHT

_TYPES: dict[str, Any] = {
    "method": str,
    "path": str,
    "times": int | None,
    "skip": int,
    "apply": bool | None,
    "status": int | None,
    "code": str | None,
    "message": str | None,
    "retry_after": int | float | None,
    "delay_before": int | float,
    "delay_after": int | float,
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    Args:
        action: What happens.
        method: The method of matching requests; ``*`` for any.
        path: The path of matching requests, with ``*`` and ``?`` as in file names: below the
            service root (``tasks*``, ``wa_callqueues(*)``), or the whole path if it begins with a
            slash (``/*/oauth2/v2.0/token``).
        times: How many matching requests it affects; None for all from then on.
        skip: How many matching requests pass first.
        apply: Whether the request is carried out although the reply is spoilt. None means no for
            ``status``, ``drop`` and ``reset``, and yes for the others.
        status: The reply's status. None means 503 for ``status``, and the right one for the others.
        code: Dataverse's error code, for ``status``; None for the usual one. One of Entra ID's,
            such as ``AADSTS90033``, gives the reply the form of the token endpoint.
        message: Dataverse's message, for ``status``; None for the usual one.
        retry_after: Seconds, sent as Retry-After.
        retry_after_as: ``seconds`` or ``date``, the two forms of Retry-After.
        delay_before: Seconds to wait before the request is carried out.
        delay_after: Seconds to wait between that and the reply.
        edit_before: What another user does right before the request is carried out: an `Edit`,
            or a mapping of its fields. It goes with every action, and so does ``edit_after``.
        edit_after: What another user does right after it, before the reply.

    Raises:
        InvalidInput: The values contradict each other.
    """

    action: FaultAction
    method: str = "*"
    path: str = "*"
    times: int | None = 1
    skip: int = 0
    apply: bool | None = None
    status: int | None = None
    code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    retry_after_as: str = "seconds"
    delay_before: float = 0.0
    delay_after: float = 0.0
    edit_before: Edit | None = None
    edit_after: Edit | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "action", _action(self.action))
        object.__setattr__(self, "edit_before", Edit.of(self.edit_before))
        object.__setattr__(self, "edit_after", Edit.of(self.edit_after))
        for name, kinds in _TYPES.items():
            if not isinstance(getattr(self, name), kinds):
                raise InvalidInput(f"fault: {name} is {getattr(self, name)!r}, which is of the wrong type")
        self._require_values()
        self._require_effect()

    def _require_values(self) -> None:
        if self.status is not None and not _LOWEST <= self.status <= _HIGHEST:
            raise InvalidInput(f"fault: status is {self.status}: give {_LOWEST} to {_HIGHEST}")
        if self.times is not None and self.times < 1:
            raise InvalidInput(f"fault: times is {self.times}: give 1 or more, or None for all")
        if min(self.skip, self.delay_before, self.delay_after, self.retry_after or 0) < 0:
            raise InvalidInput("fault: skip, retry_after, delay_before and delay_after can't be negative")
        if self.retry_after_as not in ("seconds", "date"):
            raise InvalidInput(f"fault: retry_after_as is {self.retry_after_as!r}: give 'seconds' or 'date'")

    def _require_effect(self) -> None:
        if self.action is FaultAction.DELAY and not (self.delay_before or self.delay_after):
            raise InvalidInput("fault: a delay needs delay_before or delay_after, in seconds")
        if self.action is FaultAction.EDIT and not (self.edit_before or self.edit_after):
            raise InvalidInput("fault: an edit needs edit_before or edit_after")
        if self.action in _RIGHT and self.apply is False:
            raise InvalidInput(
                f"fault: a request with {self.action} is always applied: use 'drop' or 'status' instead"
            )

    @classmethod
    def from_json(cls, content: Any) -> "Fault":
        """Read a fault from JSON of the same field names.

        Raises:
            InvalidInput: The content is not a fault.
        """
        if not isinstance(content, Mapping):
            raise InvalidInput("fault: a JSON object is needed, with at least an action")
        try:
            return cls(**content)
        except TypeError as error:
            raise InvalidInput(f"fault: {str(error).removeprefix('Fault.__init__() ')}") from None

    def as_json(self) -> dict[str, Any]:
        """Return the fault in the form that `from_json` reads."""
        return dataclasses.asdict(self)

    @property
    def applies(self) -> bool:
        """Whether the request is carried out."""
        return self.action in _APPLIES if self.apply is None else self.apply

    @property
    def label(self) -> str:
        """The fault's name in the request log, e.g. ``status 503`` or ``drop after applying``."""
        what = (
            f"status {self.status or _UNAVAILABLE}" if self.action is FaultAction.STATUS else str(self.action)
        )
        return f"{what} after applying" if self.applies and self.action not in _RIGHT else what

    def matches(self, method: str, path: str) -> bool:
        """Return whether the fault matches a request; ``path`` is the whole path."""
        if self.method not in ("*", method):
            return False
        if not self.path.startswith("/"):
            if not path.startswith(API_ROOT):
                return False
            path = path.removeprefix(API_ROOT)
        return fnmatch.fnmatchcase(path, self.path)

    def spoil(self, reply: ApiResponse | None) -> ApiResponse:
        """Return the spoilt reply; ``reply`` is None if the request was not carried out."""
        if self.action is FaultAction.STATUS:
            return self._error()
        if self.action in _RIGHT and reply is not None:
            return reply
        # Only a body can be spoilt, so a reply without one gets a status that allows it.
        right = 200 if reply is None or not reply.body else reply.status
        status = self.status or right
        if self.action is FaultAction.NOT_JSON:
            page = b"<!DOCTYPE html><html><body><h1>Service</h1></body></html>"
            return ApiResponse(status=status, headers={"Content-Type": "text/html"}, body=page)
        if self.action is FaultAction.WRONG_SCHEMA:
            return json_response(status, {"odata.metadata": "minimal", "d": {"results": 7}})
        headers = {"Content-Type": "application/json"} if reply is None else reply.headers
        return ApiResponse(status=status, headers=headers, body=(reply and reply.body) or _PARTIAL * 4)

    def _error(self) -> ApiResponse:
        status = self.status or _UNAVAILABLE
        if self.code is not None and self.code.startswith("AADSTS"):
            refused = login_error(status, self.code)
            return dataclasses.replace(refused, headers={**refused.headers, **self._retry_after()})
        if status == _TOO_MANY:
            code, message = ErrorCode.NUMBER_OF_REQUESTS_EXCEEDED.value, _LIMIT_MESSAGE
        else:
            code, message = "", "The service is temporarily unavailable."
        body = error_body(
            code if self.code is None else self.code, message if self.message is None else self.message
        )
        return json_response(status, body, self._retry_after())

    def _retry_after(self) -> dict[str, str]:
        if self.retry_after is None:
            return {}
        if self.retry_after_as == "seconds":
            return {"Retry-After": f"{math.ceil(self.retry_after)}"}
        # Rounded up: a date holds whole seconds, and must not be earlier than asked for.
        until = math.ceil(time.time() + self.retry_after)
        return {"Retry-After": email.utils.formatdate(until, usegmt=True)}


@dataclass
class _Armed:
    number: int
    fault: Fault
    skip: int
    left: int | None


class Faults:
    """The faults of one running simulator. They live in memory: a restart forgets them.

    Safe between threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._armed: list[_Armed] = []

    def add(self, action: FaultAction | str, **fields: Any) -> int:
        """Arm a fault; if several match a request, the one that was armed first applies.

        Args:
            action: What happens.
            **fields: The other fields of `Fault`.

        Returns:
            Its number, for `remove`.

        Raises:
            InvalidInput: A field or action is unknown, or values contradict each other.
        """
        return self.arm(Fault.from_json({"action": action, **fields}))

    def arm(self, fault: Fault) -> int:
        """Arm a fault, and return its number."""
        with self._lock:
            armed = _Armed(next(self._numbers), fault, fault.skip, fault.times)
            self._armed.append(armed)
            return armed.number

    def remove(self, number: int) -> bool:
        """Disarm one fault; return False if it was no longer armed."""
        with self._lock:
            before = len(self._armed)
            self._armed = [armed for armed in self._armed if armed.number != number]
            return len(self._armed) < before

    def clear(self) -> None:
        """Disarm every fault."""
        with self._lock:
            self._armed.clear()

    def pending(self) -> list[dict[str, Any]]:
        """The armed faults, with their numbers and how many requests they will still affect."""
        with self._lock:
            return [
                {**armed.fault.as_json(), "number": armed.number, "skip": armed.skip, "times": armed.left}
                for armed in self._armed
            ]

    def take(self, method: str, path: str) -> Fault | None:
        """Count a request, and return the fault that applies to it; None if it may pass."""
        with self._lock:
            met: Fault | None = None
            for armed in self._armed:
                if not armed.fault.matches(method, path):
                    continue
                if armed.skip:
                    armed.skip -= 1
                elif met is None:
                    met = armed.fault
                    armed.left = None if armed.left is None else armed.left - 1
            self._armed = [armed for armed in self._armed if armed.left != 0]
            return met


def _action(action: str) -> FaultAction:
    try:
        return FaultAction(action)
    except ValueError:
        known = ", ".join(FaultAction)
        raise InvalidInput(f"fault: unknown action {action!r}: give one of {known}") from None
