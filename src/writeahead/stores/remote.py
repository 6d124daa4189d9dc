"""What stores behind a network client share: retries, proof of writes, settled creates."""

import hashlib
import logging
import re
from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from writeahead._retrying import retried
from writeahead.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    OutcomeUnknown,
    StoreError,
    Unavailable,
)
from writeahead.stores.base import MAX_KEY_BYTES, ArtifactStore, ObjectInfo, StoredObject, key_problem
from writeahead.stores.client_logs import readable_on_the_way
from writeahead.telemetry import log

__all__ = ["OUT_OF_ORDER", "RemoteStore", "RequestFailed", "checked_prefix", "is_key"]

_log = logging.getLogger(__name__)

ATTEMPTS = 4
# Seconds.
WAIT_INITIAL = 0.1
WAIT_MAX = 2.0

OUT_OF_ORDER = "the server does not list in the order of keys, or does not heed where to begin"

_PREFIX_SEGMENT = re.compile(r"[\w!'()*+,.:=@-]+")
# S3 and its like allow 1024 bytes for a key: what our own keys leave of that.
_MAX_PREFIX_BYTES = 1024 - MAX_KEY_BYTES - 1

_T = TypeVar("_T")


def is_key(name: str) -> bool:
    """Whether an object can be one of ours, unlike a console's "folder/"."""
    return key_problem(name) is None


def checked_prefix(place: str, prefix: str) -> str:
    """What stands before every key, with its ``/`` if there is anything.

    Args:
        place: What an error calls the place, e.g. ``s3://bucket``.
        prefix: Without ``/`` at either end; at most 123 bytes.

    Raises:
        InvalidInput: This can't be a prefix.
    """
    parts = prefix.split("/") if prefix else []
    if any(part in (".", "..") or not _PREFIX_SEGMENT.fullmatch(part) for part in parts):
        raise InvalidInput(f"store {place}/...: the prefix has an empty, '.', '..' or odd segment")
    if len(prefix.encode()) > _MAX_PREFIX_BYTES:
        raise InvalidInput(f"store {place}/...: the prefix has more than {_MAX_PREFIX_BYTES} bytes")
    return f"{prefix}/" if prefix else ""


class RequestFailed(Exception):
    """One request failed.

    Args:
        error: What to raise if it is not tried again.
        detail: What happened, in one line, without hosts, queries and server messages.
        status: The HTTP status; None if there was no answer, or the client does not tell.
        retry: Whether another attempt may fare better.
        unknown: Whether the request may have taken effect.
        absent: Whether the object is not there, while its bucket may be.
        foreign: Whether it was answered by something that is no store.
    """

    def __init__(
        self,
        error: type[StoreError],
        detail: str,
        *,
        status: int | None = None,
        retry: bool = False,
        unknown: bool = False,
        absent: bool = False,
        foreign: bool = False,
    ) -> None:
        self.error = error
        self.detail = detail
        self.status = status
        self.retry = retry
        self.unknown = unknown
        self.absent = absent
        self.foreign = foreign
        super().__init__(detail)


class RemoteStore(ArtifactStore):
    """A store whose verbs are requests that raise `RequestFailed`, and are sent by `_retried`."""

    # A store without credentials: whatever a bucket's policy says, an artifact needs an owner.
    _anonymous: bool = False
    _warned: bool = False

    def _warn_once(self, endpoint: str | None) -> None:
        """Log a warning if others can read what goes to this server."""
        if not self._warned and (warning := readable_on_the_way(endpoint)):
            self._warned = True
            _log.warning("store %s: %s", self.name, warning)

    def _renew(self) -> bool:
        """Look for credentials anew, since they were refused; whether there are others now."""
        return False

    @abstractmethod
    def _read(self, key: str) -> StoredObject:
        """One request for an object; raises `RequestFailed`."""

    def _get(self, key: str) -> StoredObject:
        return self._retried("get", key, lambda: self._read(key))

    def _settle(self, key: str, data: bytes) -> ObjectInfo:
        """The info of the object that a create was refused for, if it holds exactly ``data``.

        It does so where an earlier attempt of this very create was applied and its reply lost.
        """
        try:
            held = self._read(key)
        except RequestFailed as failure:
            if failure.absent:
                raise RequestFailed(
                    Unavailable, "others keep creating and deleting it", retry=True
                ) from failure
            detail = f"the key is taken, and reading it back failed: {failure.detail}"
            raise RequestFailed(failure.error, detail, retry=failure.retry, unknown=True) from failure
        if held.data != data:
            raise AlreadyExists(self.name, "put", key, "the key holds other bytes")
        return held.info

    def _proved(self, stored: ObjectInfo, data: bytes, md5: str | None = None) -> ObjectInfo:
        """The info of a write that was answered by success: its ETag proves it, or reading it back.

        An ETag is the MD5 of the bytes but for some kinds of encryption and some servers. A login
        page or a console answers success as well, and stores nothing.
        """
        if stored.etag == (md5 or hashlib.md5(data, usedforsecurity=False).hexdigest()):
            return stored
        try:
            held = self._read(stored.key)
        except RequestFailed as failure:
            detail = f"success was answered without proof, and reading it back failed: {failure.detail}"
            raise RequestFailed(
                Unavailable if failure.absent else failure.error,
                detail,
                retry=failure.retry or failure.absent,
                unknown=True,
            ) from failure
        if held.data != data:
            detail = "success was answered without proof, and the key holds other bytes"
            raise RequestFailed(Unavailable, detail, unknown=True)
        return held.info

    def _require_gone(self, key: str) -> None:
        """Look whether a delete was done whose answer does not prove it."""
        try:
            self._read(key)
        except RequestFailed as failure:
            if failure.absent:
                return
            detail = f"success was answered without proof, and looking for it failed: {failure.detail}"
            raise RequestFailed(failure.error, detail, unknown=True) from failure
        detail = "success was answered without proof, and it is still there"
        raise RequestFailed(Unavailable, detail, unknown=True)

    def _retried(self, verb: str, key: str, attempt: Callable[[], _T], *, writes: bool = False) -> _T:
        """Run one verb in the only retry loop. Every `RequestFailed` ends here as a StoreError."""
        if writes and self._anonymous:
            raise AccessDenied(self.name, verb, key, "opened with anonymous=true, so it can only be read")
        unknown = renewed = False

        def again(error: BaseException) -> bool:
            nonlocal unknown, renewed
            if not isinstance(error, RequestFailed):
                return False
            unknown = unknown or (writes and error.unknown)
            if error.error is AccessDenied and not renewed:
                renewed = True
                return self._renew()
            return error.retry

        def tell(state: RetryCallState) -> None:
            failure = state.outcome.exception() if state.outcome else None
            log.STORE.debug(
                "retried",
                store=self.name,
                verb=verb,
                key=key,
                attempt=state.attempt_number,
                wait=state.upcoming_sleep,
                http_status=failure.status if isinstance(failure, RequestFailed) else None,
                error=failure.error if isinstance(failure, RequestFailed) else failure,
            )

        def loop() -> Retrying:
            return Retrying(
                before_sleep=tell,
                stop=stop_after_attempt(ATTEMPTS),
                wait=wait_exponential(WAIT_INITIAL, WAIT_MAX) + wait_random(0, WAIT_INITIAL),
                retry=retry_if_exception(again),
                reraise=True,
            )

        try:
            return retried(attempt, loop, RequestFailed)
        except RequestFailed as failure:
            if unknown:
                detail = f"it may or may not have happened; at last: {failure.detail}"
                raise OutcomeUnknown(self.name, verb, key, detail) from failure
            raise failure.error(self.name, verb, key, failure.detail) from failure
