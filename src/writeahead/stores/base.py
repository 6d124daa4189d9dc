"""The interface of every artifact store, and the rules that hold for all of them.

A backend is a subclass that implements five private verbs; the public ones validate keys first, so
that no backend can forget to.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import final

from writeahead.errors import InvalidInput, InvalidKey, NotFound, Unsupported
from writeahead.stores.check import StoreCheck, check_store
from writeahead.telemetry.store_calls import listed, observed

__all__ = ["ArtifactStore", "ObjectInfo", "StoreCheck", "StoredObject", "require_store"]

# The largest object of a store: twice the largest artifact. No store reads more into memory.
MAX_OBJECT_BYTES = 128 * 1024 * 1024
MAX_KEY_BYTES = 900
MAX_SEGMENT_BYTES = 255

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9._/-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object.

    Attributes:
        key: The object's key.
        size: Its length in bytes.
        last_modified: When it was written, by the store's clock; None where the store did not say.
        etag: The store's opaque version, unquoted; None where it has none.
        version: From a put, its id in a bucket that keeps the old versions of its objects; S3 says
            ``null`` where versions are suspended. None where there are none, or the store did not
            say.
    """

    key: str
    size: int
    last_modified: datetime | None = None
    etag: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes and its info, both from one request."""

    data: bytes
    info: ObjectInfo


class ArtifactStore(ABC):
    """A place for artifacts: a folder, a bucket, a dict.

    Keys are ``/``-separated segments of ``[A-Za-z0-9._-]``, at most 255 bytes a segment and 900 in
    all; no segment is empty, ``.`` or ``..``. Every verb raises `InvalidKey` for anything else,
    `AccessDenied` if the store refuses the caller, `Unavailable` if it can't be reached after the
    store's own bounded retries, and `NotFound` if the bucket itself is missing.

    A store may be used from threads, after a fork and inside a running event loop. It is
    synchronous: from asyncio, use ``asyncio.to_thread``.
    """

    is_local: bool = False
    """Whether no verb sends a request over a network, so that one look more costs nothing."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What errors and reports call this store: its URL, without credentials."""

    @final
    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> ObjectInfo:
        """Write an object, atomically; it is durable when this returns.

        - ``if_absent=False``: replaces what was there.
        - ``if_absent=True``: settled. It returns if, and only if, the object now holds exactly
          ``data``, also if another client wrote it.

        Raises:
            AlreadyExists: With ``if_absent``, the key holds anything else.
            OutcomeUnknown: The write was sent, and its outcome could not be found out.
            Unsupported: With ``if_absent``, this store has no atomic create; or ``data`` has more
                than 128 MiB. Nothing was written.
        """
        self._require_key("put", key)
        self._require_size("put", key, len(data))
        verb = "create" if if_absent else "put"
        return observed(self, verb, key, lambda: self._put(key, bytes(data), if_absent=if_absent))

    @final
    def get(self, key: str) -> StoredObject:
        """Read an object: the newest bytes that any process had put when the call began.

        Raises:
            NotFound: There is no such object.
            Unsupported: It has more than 128 MiB; no more than that is read.
        """
        self._require_key("get", key)
        return observed(self, "get", key, lambda: self._get(key))

    @final
    def head(self, key: str) -> ObjectInfo | None:
        """Tell an object's info without its bytes; None if there is no such object.

        None may also mean that the bucket is missing, where a server does not tell; every other
        verb raises `NotFound` then.
        """
        self._require_key("head", key)
        return observed(self, "head", key, lambda: self._head(key))

    @final
    def list(self, prefix: str = "", *, start_after: str | None = None) -> Iterator[ObjectInfo]:
        """Stream the objects whose key begins with ``prefix``, in the order of their keys' bytes.

        ``prefix`` need not end at a ``/``. ``start_after`` leaves out every key up to and including
        it. Memory does not grow with the number of keys, but for the names in one folder: about
        100 bytes each. Errors are raised while iterating.

        Raises:
            Unsupported: The server lists in another order, so that a listing from a key on could
                leave out others.
        """
        self._require_prefix(prefix)
        if start_after is not None:
            self._require_prefix(start_after)
        return listed(self, prefix, self._in_order(prefix, self._list(prefix, start_after)))

    @final
    def delete(self, key: str) -> None:
        """Remove an object; deleting what is absent is no error.

        Only puts are durable: after a power cut a deleted object may be there again.

        Raises:
            OutcomeUnknown: The request was sent, and its outcome could not be found out.
        """
        self._require_key("delete", key)
        observed(self, "delete", key, lambda: self._delete(key))

    def exists(self) -> bool:
        """Tell whether the store's place is there; the first put makes a folder.

        Raises:
            StoreError: As `list`, but for `NotFound`.
        """
        try:
            next(self.list(), None)
        except NotFound:
            return False
        return True

    def check(self) -> StoreCheck:
        """Prove this very store by trying it, under keys of its own that are removed afterwards.

        A step for an operator or a deployment, never part of a run. Returns one result for each
        promise. A store whose ``ok`` is False must not be used.
        """
        return check_store(self)

    @abstractmethod
    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo: ...

    @abstractmethod
    def _get(self, key: str) -> StoredObject: ...

    @abstractmethod
    def _head(self, key: str) -> ObjectInfo | None: ...

    @abstractmethod
    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]: ...

    @abstractmethod
    def _delete(self, key: str) -> None: ...

    def _in_order(self, prefix: str, listing: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        # Keys are ASCII, so the order of strings is the order of bytes.
        last = ""
        for info in listing:
            if info.key <= last:
                detail = f"the server lists {info.key} after {last}, which is not the order of their bytes"
                raise Unsupported(self.name, "list", prefix, detail)
            last = info.key
            yield info

    def _require_key(self, operation: str, key: str) -> None:
        problem = key_problem(key)
        if problem is not None:
            raise InvalidKey(self.name, operation, key, problem)

    def _require_size(self, operation: str, key: str, size: int) -> None:
        if size > MAX_OBJECT_BYTES:
            raise Unsupported(self.name, operation, key, too_large(size))

    def _require_prefix(self, prefix: str) -> None:
        segments = prefix.split("/")
        complete = segments[:-1]
        if not _PREFIX.fullmatch(prefix) or any(part in ("", ".", "..") for part in complete):
            raise InvalidKey(
                self.name,
                "list",
                prefix,
                "a prefix is the beginning of a key: [A-Za-z0-9._-] between slashes",
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


def require_store(store: object) -> None:
    """Refuse what is no store, such as its URL.

    Raises:
        InvalidInput: It is none.
    """
    if not isinstance(store, ArtifactStore):
        raise InvalidInput(f"store: give what writeahead.open_store returns, not a {type(store).__name__}")


def too_large(size: int) -> str:
    """What is wrong with an object of this size."""
    return f"the object has {size} bytes, more than the {MAX_OBJECT_BYTES} of any of ours"


def key_problem(key: str) -> str | None:
    """What is wrong with a key; None if nothing is."""
    if not key:
        return "a key can't be empty"
    if len(key) > MAX_KEY_BYTES:
        return f"a key has at most {MAX_KEY_BYTES} bytes"
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            return "no segment of a key may be empty, '.' or '..'"
        if not _SEGMENT.fullmatch(segment):
            return "a key's segments are made of A-Z a-z 0-9 . _ -"
        if len(segment) > MAX_SEGMENT_BYTES:
            return f"a segment of a key has at most {MAX_SEGMENT_BYTES} bytes"
    return None
