"""Stores through obstore, the Python binding of Rust's object_store: S3, Google Cloud, Azure Blob.

What this client is like, as tried with obstore 0.12, and what follows from it:

- It retries by itself, ten times; here it may not, and `RemoteStore` does.
- It reports 409 and 304 to a create as "already exists", as it does 412. After a 409 nothing may be
  there (github.com/apache/arrow-rs-object-store/pull/852), so each of them is read back and
  compared.
- Its messages hold URLs, paths and the server's words. None of that is passed on; see
  ``obstore_errors.py``.
- It takes any XML for a listing, and a page of HTML for an empty one. So where a listing ends at
  once, or behind a full page, a key that can't be there is asked for: a store says 404.
- It does not tell whether a delete was answered as a store does. A store that has proved nothing
  yet is asked whether the object is gone.
- It follows redirects; see `only_to`.
- It lists by whole path segments, and fails where a name has an empty, a ``.`` or a ``..`` segment.
  It drops the ``/`` behind a name, so that an object without bytes may be one that is none of ours:
  it is looked for.
- Its threads do not outlive a fork: a child that goes on after its parent used it would wait for
  ever.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from writeahead.errors import AccessDenied, Unsupported
from writeahead.stores import base
from writeahead.stores.base import ObjectInfo, StoredObject
from writeahead.stores.obstore_clients import Connection
from writeahead.stores.obstore_errors import failure_of
from writeahead.stores.remote import OUT_OF_ORDER, RemoteStore, RequestFailed, is_key
from writeahead.stores.s3_answers import not_s3

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import ObjectStore

__all__ = ["ObstoreStore"]

_T = TypeVar("_T")
_PAGE = 1000
# When the last-modified time of an object is missing, this client says that it is this.
_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)

# What keys are made of, in order, and something before it.
_ALPHABET = ",-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

# The process in which obstore's threads, which are one set for all stores, were started.
_process: int | None = None


class ObstoreStore(RemoteStore):
    """Objects of one of obstore's stores, below a prefix. The bucket must exist.

    Args:
        connect: Makes a client, with its own retries off. It is called at the first request, and
            again when credentials have been refused. To be pickled it must be a function of a
            module, or a `functools.partial` of one.
        name: What errors call this store.
        prefix: What stands before every key, with its ``/`` if there is anything.
        storage_class: For each object; by default the bucket's.
        tags: For each object.
        anonymous: Whether the client sends no credentials, so that this store can only be read.
        proof: What an ETag looks like that proves a put, besides the MD5 of the object.
        words: What to say in place of S3's words in errors, for another service.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        name: str,
        prefix: str = "",
        *,
        storage_class: str | None = None,
        tags: Mapping[str, str] | None = None,
        anonymous: bool = False,
        proof: re.Pattern[str] | None = None,
        words: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._used: object = None
        self._answers = False
        self._name = name
        self._base = prefix
        self._attributes: Attributes = {"Storage-Class": storage_class} if storage_class else {}
        self._tags = dict(tags or {})
        self._anonymous = anonymous
        self._proof = proof
        self._words = dict(words)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None, "_used": None, "_answers": False}

    @property
    def name(self) -> str:
        """The URL, without options."""
        return self._name

    def _client(self) -> "ObjectStore":
        """The client, with credentials at hand; made where there is none yet.

        Raises:
            RequestFailed: There are no credentials, or this process was forked.
        """
        _require_own_process()
        connection = self._connection
        if connection is None:
            connection = self._connection = self._connected()
            self._warn_once(connection.endpoint)
        self._used = connection.credentials()
        return connection.client

    def _connected(self) -> Connection:
        """A new client. What its settings name was there when the store was opened, if not now."""
        try:
            return self._connect()
        except BaseError as error:
            detail = "the client refuses its settings: a file that they name may be gone; see docs/stores.md"
            raise RequestFailed(AccessDenied, detail) from error

    def _renew(self) -> bool:
        refused, self._connection = self._used, None
        self._client()
        return self._used != refused

    def _call(self, verb: str, call: Callable[["ObjectStore"], _T]) -> _T:
        """One request, or one page of a listing.

        Raises:
            RequestFailed: It failed.
            AlreadyExistsError: A create was refused.
        """
        client = self._client()
        try:
            return call(client)
        except RequestFailed:
            raise
        except Exception as error:
            if verb == "put" and isinstance(error, AlreadyExistsError):
                raise
            failure = failure_of(verb, error)
            for word, other in self._words.items():
                failure.detail = failure.detail.replace(word, other)
            raise failure from error

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        def attempt() -> ObjectInfo:
            try:
                answer = self._call(
                    "put",
                    lambda client: obstore.put(
                        client,
                        self._base + key,
                        data,
                        mode="create" if if_absent else "overwrite",
                        use_multipart=False,
                        attributes=self._attributes or None,
                        tags=self._tags or None,
                    ),
                )
            except AlreadyExistsError as error:
                if if_absent:
                    return self._settle(key, data)
                raise failure_of("put", error) from error
            except RequestFailed as failure:
                if not failure.foreign:
                    raise
                return self._proved(ObjectInfo(key, len(data)), data)
            stored = ObjectInfo(key, len(data), None, _unquoted(answer["e_tag"]), answer["version"])
            if self._proof is not None and self._proof.fullmatch(stored.etag or ""):
                return stored
            return self._proved(stored, data)

        return self._retried("put", key, attempt, writes=True)

    def _read(self, key: str) -> StoredObject:
        def read(client: "ObjectStore") -> StoredObject:
            answer = obstore.get(client, self._base + key)
            info = _info(key, answer.meta)
            if info.size > base.MAX_OBJECT_BYTES:
                raise RequestFailed(Unsupported, base.too_large(info.size))
            return StoredObject(answer.bytes().to_bytes(), info)

        held = self._call("get", read)
        self._answers = True
        return held

    def _head(self, key: str) -> ObjectInfo | None:
        def attempt() -> ObjectInfo | None:
            try:
                return self._call("head", lambda client: _info(key, obstore.head(client, self._base + key)))
            except RequestFailed as failure:
                if failure.absent:
                    return None
                raise

        return self._retried("head", key, attempt)

    def _delete(self, key: str) -> None:
        def attempt() -> None:
            try:
                self._call("delete", lambda client: obstore.delete(client, self._base + key))
            except RequestFailed as failure:
                if not failure.absent:
                    raise
            else:
                if not self._answers:
                    self._require_gone(key)

        self._retried("delete", key, attempt, writes=True)

    def _require_answers(self) -> None:
        """Require that the server reports an absent object as absent; a login page does not."""
        try:
            self._read(f".absent-{secrets.token_hex(8)}")
        except RequestFailed as failure:
            if failure.absent:
                self._answers = True
                return
            raise
        raise not_s3("it has an object of any name")

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        start = max(_just_before(prefix), start_after or "")
        last = ""
        for item in self._items(prefix, start):
            key = str(item["path"]).removeprefix(self._base)
            if not item["size"] and (key == last or self._size(key) != 0):
                continue  # a console's "folder/", which this client tells of as "folder"
            if key <= last:
                raise Unsupported(self.name, "list", prefix, OUT_OF_ORDER)
            last = key
            if key > prefix and not key.startswith(prefix):
                return
            # It takes "a/", where to begin, for "a": some come too early.
            if key > start and key.startswith(prefix) and is_key(key):
                yield _info(key, item)

    def _items(self, prefix: str, start: str) -> Iterator[Mapping[str, Any]]:
        """All that the client lists below the prefix's folder, behind ``start``."""
        folder = (self._base + prefix).rpartition("/")[0]
        pages: Iterator[Any] | None = None
        last, seen = "", 0

        def next_page() -> list[Any]:
            nonlocal pages

            def page_of(client: "ObjectStore") -> list[Any]:
                nonlocal pages
                if pages is None:
                    begin = max(start, last)
                    offset = self._base + begin if begin else None
                    pages = iter(obstore.list(client, folder or None, offset=offset, chunk_size=_PAGE))
                return list(next(pages, ()))

            try:
                page = self._call("list", page_of)
                if not page and not seen % _PAGE:
                    self._require_answers()
            except RequestFailed:
                pages = None  # begun again where this one ended
                raise
            return page

        while page := self._retried("list", prefix, next_page):
            seen += len(page)
            last = str(page[-1]["path"]).removeprefix(self._base)
            yield from page

    def _size(self, key: str) -> int | None:
        held = self._head(key)
        return None if held is None else held.size


def _just_before(prefix: str) -> str:
    """A path that sorts before everything that begins with ``prefix``, and close to it."""
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


def _info(key: str, meta: Mapping[str, Any]) -> ObjectInfo:
    modified: datetime = meta["last_modified"]
    if not meta["e_tag"] or modified == _NO_TIME:
        raise not_s3("no ETag, Last-Modified or Content-Length")
    return ObjectInfo(key, meta["size"], modified.astimezone(UTC), _unquoted(meta["e_tag"]))


def _unquoted(etag: str | None) -> str | None:
    return etag.strip('"') if etag else None
