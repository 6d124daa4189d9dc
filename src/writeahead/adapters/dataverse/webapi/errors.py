"""From Dataverse's replies to errors: by the error code first, by the HTTP status second.

A code is more exact than a status: duplicate detection, for one, is sent as 500. The service leaves
the code empty more often than not, and then the status decides. Message texts are never looked at,
nor passed on: they may hold what is in a record.

Sources, all on learn.microsoft.com:

- "Compose HTTP requests and handle errors": statuses, the shape of an error, codes "frequently
  empty".
- "Web service error codes": names and values.
- "Detect duplicate data using the Web API": 0x80040333, seen with status 500 and with 412.
- "Troubleshoot Dataverse bulk operation errors": 0x80044150 (SQL 1205, a deadlock), 0x80044151 (SQL
  time-out), 0x80040255 (the transaction was rolled back by a deadlock).
- "Service protection API limits": 0x80072321, 0x80072322, 0x80072326, status 429.
- "Perform conditional operations using the Web API": 412, and 404 for ``If-Match: *`` on a missing
  row.
- "Reduce potential data loss using optimistic concurrency": 0x80060882, 0x8006088d.
- "Troubleshoot Dataverse Web API client errors": 0x8006088a, the URL names no table.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any, cast

from writeahead.errors import Applied, PermanentError, TransientError

__all__ = [
    "NO_SUCH_TABLE",
    "PermanentDataverseError",
    "Precondition",
    "PreconditionFailed",
    "RowNotFound",
    "TransientDataverseError",
    "error_code",
    "is_throttled",
    "no_such_table",
    "refusal",
]

DUPLICATE_DETECTED = "0x80040333"
DUPLICATE_ALTERNATE_KEY = "0x80060892"
DUPLICATE_KEY = "0x80040237"
VERSION_MISMATCH = "0x80060882"
CONCURRENCY_NOT_ENABLED = "0x8006088d"
DOES_NOT_EXIST = "0x80040217"
NO_ROW_WITH_KEY = "0x80060891"
NO_SUCH_TABLE = "0x8006088a"

_SQL_TROUBLE = {"0x80044150", "0x80044151", "0x80040255"}
_THROTTLED = {"0x80072321", "0x80072322", "0x80072326"}
_NOT_FOUND = {DOES_NOT_EXIST, NO_ROW_WITH_KEY}

_HEX_CODE = re.compile(r"0x[0-9a-fA-F]{8}")
_DECIMAL_CODE = re.compile(r"-[0-9]{10}")
# Permanent whatever the status.
_REFUSALS = {
    DUPLICATE_DETECTED: "a duplicate detection rule refused it",
    DUPLICATE_ALTERNATE_KEY: "another row has the same alternate key",
    CONCURRENCY_NOT_ENABLED: "optimistic concurrency is not enabled for the table",
    NO_SUCH_TABLE: "there is no such table; check the mapping",
}


class Precondition(StrEnum):
    """The condition of a request on its row."""

    ABSENT = "If-None-Match"
    VERSION = "If-Match"


class _DataverseError:
    """What both kinds of error carry: the request without host, query and body, and what came back.

    ``part`` is the index of the part of a change set that it is about, if that is known.
    """

    method: str
    path: str
    status: int | None
    code: str
    part: int | None = None

    def _describe(self, method: str, path: str, status: int | None, code: str, detail: str) -> str:
        self.method, self.path, self.status, self.code = method, path, status, code
        said = [f"HTTP {status}"] if status is not None else []
        said += [code] if code else []
        said += [detail] if detail else []
        return f"{method} {path}: {', '.join(said)}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross process boundaries, and theirs is made of one argument.
        error = cast("Exception", self)
        return _restored, (type(self), error.args, error.__dict__)


def _restored(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class TransientDataverseError(_DataverseError, TransientError):
    """A request failed in a way that may pass.

    Args:
        method: Of the request.
        path: Its path, without the query.
        status: The HTTP status; None if no whole response came.
        code: Dataverse's own error code, ``0x`` and eight digits, or empty.
        detail: What happened, in our words.
        applied: Whether the request may have taken effect.
        retry_after: Seconds that the service asked to wait.
    """

    def __init__(
        self,
        method: str,
        path: str,
        status: int | None = None,
        code: str = "",
        detail: str = "",
        *,
        applied: Applied = Applied.UNKNOWN,
        retry_after: float | None = None,
    ) -> None:
        message = self._describe(method, path, status, code, detail)
        super().__init__(message, applied=applied, retry_after=retry_after)


class PermanentDataverseError(_DataverseError, PermanentError):
    """Dataverse refuses a request, now and later. Args: as `TransientDataverseError`."""

    def __init__(
        self, method: str, path: str, status: int | None = None, code: str = "", detail: str = ""
    ) -> None:
        super().__init__(self._describe(method, path, status, code, detail))


class PreconditionFailed(PermanentDataverseError):
    """The row exists (``If-None-Match: *``), or has another version than expected (``If-Match``).

    Only what was sent can fail: a 412 to a request without a precondition is a
        `PermanentDataverseError`.
    """


class RowNotFound(PermanentDataverseError):
    """There is no such row, or no row that a lookup in the request points to."""


def no_such_table(error: RowNotFound) -> PermanentDataverseError:
    """The error for a 404 that turns out to be about the whole table, though it has no code."""
    detail = _REFUSALS[NO_SUCH_TABLE]
    return PermanentDataverseError(error.method, error.path, error.status, NO_SUCH_TABLE, detail)


def error_code(body: bytes) -> str:
    """The code in an error's body, as ``0x`` and eight lower-case digits; empty if there is none.

    Nothing else that a body may hold is let through, for it may be the text of a record.
    """
    return _code(_error_object(body) or {})


def is_throttled(status: int | None, code: str) -> bool:
    """Whether the service refused a request because there were too many."""
    return code in _THROTTLED or status == HTTPStatus.TOO_MANY_REQUESTS


def refusal(
    method: str,
    path: str,
    status: int,
    body: bytes,
    *,
    retry_after: float | None = None,
    precondition: Precondition | None = None,
) -> TransientDataverseError | PermanentDataverseError:
    """Make the error that a response other than 2xx and 401 stands for.

    Args:
        method: Of the request.
        path: Its path, as it may be shown.
        status: Of the response.
        body: Of the response, whatever it is.
        retry_after: Seconds that the response asks to wait.
        precondition: The condition of the request on its row.
    """
    error = _error_object(body)
    refused = _Refused(
        (method, path, status, _code(error or {})), error is not None, retry_after, precondition
    )
    return refused.by_code() or refused.by_status()


@dataclass(frozen=True, slots=True)
class _Refused:
    """A response that is no success; ``genuine`` if it has the form of Dataverse's own."""

    request: tuple[str, str, int, str]
    genuine: bool
    retry_after: float | None
    precondition: Precondition | None

    def by_code(self) -> TransientDataverseError | PermanentDataverseError | None:
        code = self.request[-1]
        if code in _THROTTLED:
            return self._transient(Applied.NO)
        if code in _SQL_TROUBLE:
            return self._transient()
        if code in _REFUSALS:
            return PermanentDataverseError(*self.request, _REFUSALS[code])
        if code in _NOT_FOUND:
            return RowNotFound(*self.request)
        if code in {VERSION_MISMATCH, DUPLICATE_KEY}:
            return (PreconditionFailed if self._is_of_precondition() else PermanentDataverseError)(
                *self.request
            )
        return None

    def by_status(self) -> TransientDataverseError | PermanentDataverseError:
        status = self.request[2]
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return self._transient(Applied.NO)
        if _is_transient(status):
            # A 503 too: a gateway may answer it for a server that is still at work.
            return self._transient()
        if status == HTTPStatus.NOT_FOUND:
            # A gateway's own, or another server's, must not look like a row that is not there.
            detail = "the answer is none of Dataverse's; check DATAVERSE_URL"
            return RowNotFound(*self.request) if self.genuine else self._transient(detail=detail)
        if status == HTTPStatus.PRECONDITION_FAILED and self.precondition is not None:
            return PreconditionFailed(*self.request)
        return PermanentDataverseError(*self.request)

    def _is_of_precondition(self) -> bool:
        """Whether a code is about the precondition that was sent.

        0x80040237 is "a SQL integrity violation": of the row's own key if absence was demanded and
        the status says so, else of any unique column.
        """
        _, _, status, code = self.request
        if code == VERSION_MISMATCH:
            return self.precondition is not None
        return self.precondition is Precondition.ABSENT and status == HTTPStatus.PRECONDITION_FAILED

    def _transient(self, applied: Applied = Applied.UNKNOWN, detail: str = "") -> TransientDataverseError:
        # A read takes effect nowhere.
        known = Applied.NO if self.request[0] == "GET" else applied
        return TransientDataverseError(*self.request, detail, applied=known, retry_after=self.retry_after)


def _error_object(body: bytes) -> Mapping[str, Any] | None:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return None
    error = content.get("error") if isinstance(content, Mapping) else None
    return error if isinstance(error, Mapping) else None


def _code(error: Mapping[str, Any]) -> str:
    code = error.get("code")
    text = str(code) if isinstance(code, str | int) else ""
    if _HEX_CODE.fullmatch(text):
        return text.lower()
    if _DECIMAL_CODE.fullmatch(text):  # the same code as a signed 32-bit number
        return f"0x{int(text) & 0xFFFFFFFF:08x}"
    return ""


def _is_transient(status: int) -> bool:
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return True
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR and status != HTTPStatus.NOT_IMPLEMENTED
