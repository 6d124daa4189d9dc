"""From Dataverse's replies to errors: by the error code first, by the HTTP status second.

A code is more exact than a status: duplicate detection, for one, is sent as 500. The service leaves
the code empty more often than not, and then the status decides. Message texts are never looked at:
they may hold what is in a record, and are passed on to a caller only who asks for them.

The codes and what they mean are in `codes`. Sources, all on learn.microsoft.com:

- "Compose HTTP requests and handle errors": statuses, the shape of an error, codes "frequently
  empty".
- "Service protection API limits": status 429.
- "Perform conditional operations using the Web API": 412, and 404 for ``If-Match: *`` on a missing
  row.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Any, cast

from writeahead.adapters.dataverse.webapi.codes import (
    DUPLICATE_KEY,
    LATER,
    NO_SUCH_TABLE,
    NOT_FOUND,
    REFUSALS,
    THROTTLED,
    VERSION_MISMATCH,
)
from writeahead.adapters.dataverse.webapi.traces import NO_TRACE, Trace, one_line
from writeahead.errors import Applied, PermanentError, TransientError

__all__ = [
    "PermanentDataverseError",
    "Precondition",
    "PreconditionFailed",
    "RowNotFound",
    "TableNotFound",
    "TransientDataverseError",
    "error_code",
    "is_later",
    "is_throttled",
    "refusal",
    "value_taken",
]

_HEX_CODE = re.compile(r"0x[0-9a-fA-F]{8}")
_DECIMAL_CODE = re.compile(r"-[0-9]{10}")
# Of 0x80040237, and of a 412 that no condition on the row explains.
_TAKEN = "another row has the same value in a column, or in columns together, that must be unique"


class Precondition(StrEnum):
    """The condition of a request on its row."""

    ABSENT = "If-None-Match"
    VERSION = "If-Match"


class _DataverseError:
    """What both kinds of error carry: the request without host, query and body, and what came back.

    ``part`` is the index of the part of a change set that it is about, if that is known; ``trace``
    is what finds the request in the service's logs.
    """

    method: str
    path: str
    status: int | None
    code: str
    trace: Trace
    part: int | None = None

    def _describe(
        self, method: str, path: str, status: int | None, code: str, detail: str, *, trace: Trace
    ) -> str:
        self.method, self.path, self.status, self.code, self.trace = method, path, status, code, trace
        said = [f"HTTP {status}"] if status is not None else []
        said += [code] if code else []
        said += [detail] if detail else []
        return f"{method} {path}: {', '.join([*said, *trace.shown()])}"

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
        for_target: As for `TransientError`.
        trace: What finds the request in the service's logs.
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
        for_target: bool = True,
        trace: Trace = NO_TRACE,
    ) -> None:
        message = self._describe(method, path, status, code, detail, trace=trace)
        super().__init__(message, applied=applied, retry_after=retry_after, for_target=for_target)


class PermanentDataverseError(_DataverseError, PermanentError):
    """Dataverse refuses a request, now and later. Args: as `TransientDataverseError`."""

    def __init__(
        self,
        method: str,
        path: str,
        status: int | None = None,
        code: str = "",
        detail: str = "",
        *,
        trace: Trace = NO_TRACE,
    ) -> None:
        super().__init__(self._describe(method, path, status, code, detail, trace=trace))


class PreconditionFailed(PermanentDataverseError):
    """The row exists (``If-None-Match: *``), or has another version than expected (``If-Match``).

    Only what was sent can fail: a 412 to a request without a precondition is a
        `PermanentDataverseError`.
    """


class RowNotFound(PermanentDataverseError):
    """There is no such row, or no row that a lookup in the request points to."""


class TableNotFound(PermanentDataverseError):
    """The URL names no table of the environment."""

    @classmethod
    def of(cls, error: RowNotFound) -> "TableNotFound":
        """The error for a 404 without a code that turns out to be about the whole table."""
        detail = REFUSALS[NO_SUCH_TABLE]
        return cls(error.method, error.path, error.status, error.code, detail, trace=error.trace)


def error_code(body: bytes) -> str:
    """The code in an error's body, as ``0x`` and eight lower-case digits; empty if there is none.

    Nothing else that a body may hold is let through, for it may be the text of a record.
    """
    return _code(_error_object(body) or {})


def is_throttled(status: int | None, code: str) -> bool:
    """Whether the service refused a request because there were too many."""
    return code in THROTTLED or status == HTTPStatus.TOO_MANY_REQUESTS


def is_later(body: bytes) -> bool:
    """Whether an error's body has a code that stands for "later", whatever its status says."""
    return error_code(body) in LATER.keys() | THROTTLED


def value_taken(refused: PermanentDataverseError) -> PermanentDataverseError:
    """The error for a 412 that no condition on the row explains: another row has a value of it.

    Args:
        refused: What the service answered.
    """
    detail = f"{_TAKEN}: change the value, or update the row that has it"
    error = PermanentDataverseError(
        refused.method, refused.path, refused.status, refused.code, detail, trace=refused.trace
    )
    error.part = refused.part
    return error


def refusal(
    method: str,
    path: str,
    status: int,
    body: bytes,
    *,
    retry_after: float | None = None,
    precondition: Precondition | None = None,
    trace: Trace = NO_TRACE,
    service_text: bool = False,
) -> TransientDataverseError | PermanentDataverseError:
    """Make the error that a response other than 2xx and 401 stands for.

    Args:
        method: Of the request.
        path: Its path, as it may be shown.
        status: Of the response.
        body: Of the response, whatever it is.
        retry_after: Seconds that the response asks to wait.
        precondition: The condition of the request on its row.
        trace: What finds the request in the service's logs.
        service_text: Whether the error repeats the service's own words, which may hold what is in a
            record.
    """
    error = _error_object(body)
    if service_text and error is not None:
        trace = replace(trace, text=one_line(error.get("message")))
    refused = _Refused(
        (method, path, status, _code(error or {})), error is not None, retry_after, precondition, trace
    )
    return refused.by_code() or refused.by_status()


@dataclass(frozen=True, slots=True)
class _Refused:
    """A response that is no success; ``genuine`` if it has the form of Dataverse's own."""

    request: tuple[str, str, int, str]
    genuine: bool
    retry_after: float | None
    precondition: Precondition | None
    trace: Trace

    def by_code(self) -> TransientDataverseError | PermanentDataverseError | None:
        code = self.request[-1]
        if code in THROTTLED:
            return self._transient(Applied.NO)
        if code in LATER:
            later = LATER[code]
            return self._transient(later.applied, later.detail, later.wait)
        if code in REFUSALS:
            kind = TableNotFound if code == NO_SUCH_TABLE else PermanentDataverseError
            return self._permanent(REFUSALS[code], kind)
        if code in NOT_FOUND:
            return self._permanent(kind=RowNotFound)
        return self._of_precondition(code) if code in {VERSION_MISMATCH, DUPLICATE_KEY} else None

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
            return self._permanent(kind=RowNotFound) if self.genuine else self._transient(detail=detail)
        if status == HTTPStatus.PRECONDITION_FAILED:
            # Without a condition there is the second of its two reasons only, a duplicate.
            failed = self.precondition is not None
            return self._permanent(kind=PreconditionFailed) if failed else self._permanent(_TAKEN)
        return self._permanent()

    def _of_precondition(self, code: str) -> PermanentDataverseError:
        """The error of a code that may be about the precondition that was sent.

        0x80040237 is "a SQL integrity violation": of the row's own key if absence was demanded and
        the status says so, else of any unique column.
        """
        if code == VERSION_MISMATCH:
            return self._permanent(
                kind=PermanentDataverseError if self.precondition is None else PreconditionFailed
            )
        failed = self.request[2] == HTTPStatus.PRECONDITION_FAILED
        if failed and self.precondition is Precondition.ABSENT:
            return self._permanent(kind=PreconditionFailed)
        return self._permanent(_TAKEN)

    def _permanent(
        self, detail: str = "", kind: type[PermanentDataverseError] = PermanentDataverseError
    ) -> PermanentDataverseError:
        return kind(*self.request, detail, trace=self.trace)

    def _transient(
        self, applied: Applied = Applied.UNKNOWN, detail: str = "", wait: float | None = None
    ) -> TransientDataverseError:
        # A read takes effect nowhere.
        known = Applied.NO if self.request[0] == "GET" else applied
        asked = wait if self.retry_after is None else self.retry_after
        # A time of our own choice holds for one session. Others see for themselves: it may be over.
        by_service = self.retry_after is not None
        return TransientDataverseError(
            *self.request, detail, applied=known, retry_after=asked, for_target=by_service, trace=self.trace
        )


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
