"""Every error that writeahead raises on purpose.

WriteaheadError
├── InvalidInput (ValueError)         what the caller gave is wrong: ids, operations, URLs, settings
│   └── PlanConflict                  this session id was planned for another request
├── StoreError (OSError)              carries store, operation and key; errno is set
│   ├── NotFound (FileNotFoundError)
│   ├── AlreadyExists (FileExistsError)
│   ├── AccessDenied (PermissionError)
│   ├── InvalidKey (ValueError)
│   ├── Unavailable                   try again later
│   ├── OutcomeUnknown                a write may or may not have happened
│   └── Unsupported                   this store cannot do what writeahead needs
├── ResumeError                       there is nothing that can be resumed from
│   └── CorruptArtifact               an artifact is truncated, altered or foreign
│       └── NewerArtifact             an artifact was written by a newer version of writeahead
├── NotCompleted                      a run ended without completing its session
├── Fenced                            another owner has taken this session over
├── NotReady                          an adapter found, before any side effect, that it can't write
└── AdapterError                      what a remote said to one request
    ├── TransientError                worth another attempt; says whether it may have been applied
    ├── PermanentError                refused; another attempt would be refused as well
    └── ConflictError                 another writer changed what we meant to change
"""

import errno
import os
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "LONGEST_WAIT",
    "AccessDenied",
    "AdapterError",
    "AlreadyExists",
    "Applied",
    "ConflictError",
    "CorruptArtifact",
    "Fenced",
    "InvalidInput",
    "InvalidKey",
    "NewerArtifact",
    "NotCompleted",
    "NotFound",
    "NotReady",
    "OutcomeUnknown",
    "PermanentError",
    "PlanConflict",
    "ResumeError",
    "StoreError",
    "TransientError",
    "Unavailable",
    "Unsupported",
    "WriteaheadError",
]


class WriteaheadError(Exception):
    """The root: catch this to catch everything that writeahead raises on purpose."""


class InvalidInput(WriteaheadError, ValueError):
    """What the caller gave is wrong: the message says what, and what to do. Nothing was written."""


class PlanConflict(InvalidInput):
    """The session id has a plan already, for another request. Nothing was changed.

    Args:
        message: What differs, and what to do.
        report: How the session stands, as a `writeahead.RunReport`; None where it was not read.
    """

    def __init__(self, message: str, report: Any = None) -> None:
        self.report = report
        super().__init__(message)


class NotCompleted(WriteaheadError):
    """A run did not complete its session: see `writeahead.RunReport.raise_for_status`.

    Its ``__cause__`` is the exception that ended the run, if there was one.

    Args:
        report: How it ended, as a `writeahead.RunReport`.
    """

    def __init__(self, report: Any) -> None:
        self.report = report
        why = f": {report.error}" if report.error else ""
        super().__init__(f"session {report.session_id}: {report.status}{why}")

    def __reduce__(self) -> tuple[type["NotCompleted"], tuple[Any]]:
        return type(self), (self.report,)


class StoreError(WriteaheadError, OSError):
    """A store could not do something.

    It is an `OSError` with ``errno`` set, so that code which guards its file writes by
    ``except OSError`` is served as well. If a plan could not be written, that code must not go on
    to send: log the error and stop.

    Args:
        store: The store's name for itself, without credentials.
        operation: The verb that failed: ``put``, ``get``, ``head``, ``list``, ``delete`` or
            ``check``.
        key: The key or prefix that it was about.
        detail: What went wrong, in one line, without secrets.
    """

    _errno: ClassVar[int] = errno.EIO

    def __init__(self, store: str, operation: str, key: str, detail: str = "") -> None:
        self.store = store
        self.operation = operation
        self.key = key
        self.detail = " ".join(detail.split())
        message = f"{store}: {operation} {key!r}: {self.detail or type(self).__name__}"
        super().__init__(message)
        self.errno = self._errno
        self.strerror = self.detail or os.strerror(self._errno)

    # OSError's own looks at errno and strerror.
    def __str__(self) -> str:
        return str(self.args[0])

    def __reduce__(self) -> tuple[type["StoreError"], tuple[str, str, str, str]]:
        return type(self), (self.store, self.operation, self.key, self.detail)


class NotFound(StoreError, FileNotFoundError):
    """The key, the bucket or the folder is not there."""

    _errno = errno.ENOENT


class AlreadyExists(StoreError, FileExistsError):
    """A create was refused because the key holds something else."""

    _errno = errno.EEXIST


class AccessDenied(StoreError, PermissionError):
    """The store refused the caller: permissions or credentials."""

    _errno = errno.EACCES


class InvalidKey(StoreError, ValueError):
    """The key or prefix breaks the rules that hold for every store."""

    _errno = errno.EINVAL


class Unavailable(StoreError):
    """The store did not answer, or asked to come back later. Surely nothing was changed."""

    _errno = errno.EAGAIN


class OutcomeUnknown(StoreError):
    """A write was sent, and its effect could not be found out. Trying again is safe."""


class Unsupported(StoreError):
    """The store cannot do what writeahead needs, so it must not be used."""

    _errno = errno.ENOTSUP


class ResumeError(WriteaheadError):
    """Nothing can be resumed: the message names what is missing or wrong."""


class CorruptArtifact(ResumeError):
    """An artifact is truncated, altered or not ours. It is left as it is; the message names it."""


class NewerArtifact(CorruptArtifact):
    """An artifact was written by a newer version of writeahead: upgrade. It is left as it is."""


class Fenced(WriteaheadError):
    """Another owner has taken the session over, so this one has stopped. Nothing is lost."""


class NotReady(WriteaheadError):
    """An adapter can't write, and found out before any side effect.

    Args:
        *problems: One line for each gap; all of them at once, so that one round of fixing is
        enough.
    """

    def __init__(self, *problems: str) -> None:
        self.problems: Sequence[str] = problems
        super().__init__(*problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


class Applied(StrEnum):
    """Whether a request that failed may have taken effect on the remote."""

    NO = "no"
    UNKNOWN = "unknown"


# Seconds. Longer waits, leases and run limits than this are refused or cut: they overflow dates.
LONGEST_WAIT = 30 * 86_400.0


def _bounded(seconds: float) -> float:
    # What is no number compares false, and is no wait.
    return min(seconds, LONGEST_WAIT) if seconds > 0 else 0.0


class AdapterError(WriteaheadError):
    """What a remote said to one request. Messages must hold no host, query, token or payload.

    Raise one of the three below, or a class of your own below one: this one by itself tells nothing
    of what took effect, and counts as an unknown outcome.
    """


class TransientError(AdapterError):
    """The request failed in a way that may pass.

    Args:
        message: What happened, in one line.
        applied: Whether the request may have taken effect.
        retry_after: Seconds that the remote asked to wait. It is a floor: nothing is sent earlier.
            More than 30 days are taken for 30 days.
        for_target: Whether that holds for all that this process sends to the adapter's target, for
            a day at most. False where it is about one row or one method, or was not asked by the
            remote.
    """

    def __init__(
        self,
        message: str,
        *,
        applied: Applied = Applied.UNKNOWN,
        retry_after: float | None = None,
        for_target: bool = True,
    ) -> None:
        self.applied = applied
        self.for_target = for_target
        self.retry_after = None if retry_after is None else _bounded(retry_after)
        super().__init__(message)


class PermanentError(AdapterError):
    """The remote refused the request, surely did not apply it, and would refuse it again."""


class ConflictError(AdapterError):
    """The remote's record is not what was planned for: another user wrote it, or it is gone."""
