"""Stores through obstore, the Python face of Rust's object_store: S3, Google Cloud Storage, Azure Blob.

What this client is like, as tried with obstore 0.12, and what follows from it:

- It retries by itself, ten times; here it may not, and `RemoteStore` does.
- It reports 409 and 304 to a create as "already exists", as it does 412. After a 409 nothing may be
  there (github.com/apache/arrow-rs-object-store/pull/852), so each of them is read back and
  compared.
- 401, 403, 404, 409, 412 and 304 have a type of error each, but not from a listing. All else is one
  type: it may pass, so it is tried again; a write may have taken effect, so it ends as
  `OutcomeUnknown`. A server that lacks conditions (501) ends so, too, and not as `Unsupported`.
- Its messages hold URLs, paths and the server's words. None of that is passed on.
- It lists by whole path segments, and fails where a name has an empty, a ``.`` or a ``..`` segment.
  It drops the ``/`` behind a name, so that an object without bytes may be one that is none of ours:
  it is looked for.
- Its threads do not outlive a fork: a child that goes on after its parent used it would wait for
  ever.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    NotModifiedError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from writeahead.errors import AccessDenied, NotFound, Unavailable, Unsupported
from writeahead.stores.base import ObjectInfo, StoredObject
from writeahead.stores.remote import KEY, RemoteStore, RequestFailed

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import ObjectStore

__all__ = ["ObstoreStore"]

_CLIENT_ERRORS = (BaseError, FileNotFoundError)
_PAGE = 1000

# For the eyes only: nothing is decided by it. It comes before anything that the server said.
_STATUS = re.compile(r"status code: (\d{3})", re.ASCII)
# What keys are made of, in order, and something before it.
_ALPHABET = ",-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

# The process in which obstore's threads, which are one set for all stores, were started.
_process: int | None = None


class ObstoreStore(RemoteStore):
    """Objects of one of obstore's stores, below a prefix. The bucket must exist.

    Args:
        client: obstore's store, with its own retries off.
        name: What errors call this store.
        prefix: What stands before every key, with its ``/`` if there is anything.
        storage_class: For each object; by default the bucket's.
        tags: For each object.
        anonymous: Whether ``client`` sends no credentials, so that this store can only be read.
    """

    def __init__(
        self,
        client: "ObjectStore",
        name: str,
        prefix: str = "",
        *,
        storage_class: str | None = None,
        tags: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> None:
        self._client = client
        self._name = name
        self._base = prefix
        self._attributes: Attributes = {"Storage-Class": storage_class} if storage_class else {}
        self._tags = dict(tags or {})
        self._anonymous = anonymous

    @property
    def name(self) -> str:
        """The URL, without options."""
        return self._name

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        def attempt() -> ObjectInfo:
            _require_own_process()
            try:
                answer = obstore.put(
                    self._client,
                    self._base + key,
                    data,
                    mode="create" if if_absent else "overwrite",
                    use_multipart=False,
                    attributes=self._attributes or None,
                    tags=self._tags or None,
                )
            except _CLIENT_ERRORS as error:
                if if_absent and isinstance(error, AlreadyExistsError):
                    return self._settle(key, data)
                raise _failure("put", error) from error
            return ObjectInfo(key, len(data), None, _unquoted(answer["e_tag"]), answer["version"])

        return self._retried("put", key, attempt, writes=True)

    def _read(self, key: str) -> StoredObject:
        _require_own_process()
        try:
            answer = obstore.get(self._client, self._base + key)
            return StoredObject(answer.bytes().to_bytes(), _info(key, answer.meta))
        except _CLIENT_ERRORS as error:
            raise _failure("get", error) from error

    def _head(self, key: str) -> ObjectInfo | None:
        def attempt() -> ObjectInfo | None:
            _require_own_process()
            try:
                return _info(key, obstore.head(self._client, self._base + key))
            except FileNotFoundError:
                return None
            except _CLIENT_ERRORS as error:
                raise _failure("head", error) from error

        return self._retried("head", key, attempt)

    def _delete(self, key: str) -> None:
        def attempt() -> None:
            _require_own_process()
            try:
                obstore.delete(self._client, self._base + key)
            except FileNotFoundError:
                return
            except _CLIENT_ERRORS as error:
                raise _failure("delete", error) from error

        self._retried("delete", key, attempt, writes=True)

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        start = max(_just_before(prefix), start_after or "")
        last = ""
        folder = (self._base + prefix).rpartition("/")[0]
        pages: Iterator[Any] | None = None

        def next_page() -> list[Any]:
            nonlocal pages
            _require_own_process()
            try:
                if pages is None:
                    offset = self._base + max(start, last) if start or last else None
                    pages = iter(obstore.list(self._client, folder or None, offset=offset, chunk_size=_PAGE))
                return list(next(pages, ()))
            except _CLIENT_ERRORS as error:
                pages = None  # begun again where this one ended
                raise _failure("list", error) from error

        while page := self._retried("list", prefix, next_page):
            for item in page:
                key = str(item["path"]).removeprefix(self._base)
                if not item["size"] and (key == last or self._size(key) != 0):
                    continue  # a console's "folder/", which this client tells of as "folder"
                if key <= last:
                    detail = "the server does not list in the order of keys, or does not heed where to begin"
                    raise Unsupported(self.name, "list", prefix, detail)
                last = key
                if key > prefix and not key.startswith(prefix):
                    return
                # It takes "a/", where to begin, for "a": some come too early.
                if key > start and key.startswith(prefix) and KEY.fullmatch(key):
                    yield _info(key, item)

    def _size(self, key: str) -> int | None:
        held = self._head(key)
        return None if held is None else held.size


def _just_before(prefix: str) -> str:
    """A path before all that begins with ``prefix``; what begins with a shorter one is mostly before it."""
    if not prefix or prefix.endswith("/"):
        return ""  # whole segments are the client's business
    before = _ALPHABET[_ALPHABET.index(prefix[-1]) - 1]
    return f"{prefix[:-1]}{before}~"


def _require_own_process() -> None:
    global _process  # noqa: PLW0603 - as the threads that it is about
    if _process is None:
        _process = os.getpid()
    elif _process != os.getpid():
        raise RequestFailed(
            Unsupported,
            "obstore was in use before this process was forked: start processes by spawn, or use client=s3fs",
        )


def _failure(verb: str, error: BaseException) -> RequestFailed:  # noqa: PLR0911 - a table
    """Classify by the type of the error alone; see the module's text."""
    if isinstance(error, FileNotFoundError):
        if verb == "put":
            return RequestFailed(NotFound, "there is no such bucket; create it, or correct its name")
        return RequestFailed(NotFound, "there is no such object, or no such bucket", absent=True)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return RequestFailed(AccessDenied, "the server refused; check the credentials and their permissions")
    if isinstance(error, AlreadyExistsError):
        return RequestFailed(Unavailable, "the server answered that others were at it", retry=True)
    if isinstance(error, InvalidPathError):
        return RequestFailed(Unsupported, "the place holds an object whose name this client can't read")
    if isinstance(error, NotSupportedError | PreconditionError | NotModifiedError):
        return RequestFailed(
            Unsupported, f"the server can't do what writeahead needs ({type(error).__name__})"
        )
    status = _STATUS.search(str(error))
    what = f"the server answered {status[1]}" if status else f"the request failed ({type(error).__name__})"
    return RequestFailed(Unavailable, what, retry=True, unknown=True)


def _info(key: str, meta: Mapping[str, Any]) -> ObjectInfo:
    modified: datetime = meta["last_modified"]
    return ObjectInfo(key, meta["size"], modified.astimezone(UTC), _unquoted(meta["e_tag"]))


def _unquoted(etag: str | None) -> str | None:
    return etag.strip('"') if etag else None
