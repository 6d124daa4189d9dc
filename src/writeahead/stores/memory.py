"""A store in this process's memory: for tests, demonstrations and dry runs."""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from writeahead.errors import AlreadyExists, InvalidInput, NotFound
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject
from writeahead.stores.urls import parse_store_url

__all__ = ["MemoryStore"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)


class MemoryStore(ArtifactStore):
    """Objects in a dict of this process, gone when the process ends.

    ``MemoryStore()`` is private to the code that holds it; `MemoryStore.named` gives all callers
    that ask for the same name the same store, so that a run and its resume meet. Pickled, a named
    store is the one of that name in the process that reads the pickle; a private one is a copy.

    There is no lock, and so none that a fork could leave locked: an object never changes once it is
    in the dict, and each verb touches the dict by one operation that the interpreter makes atomic.
    """

    _by_name: ClassVar[dict[str, Self]] = {}

    def __init__(self) -> None:
        self._objects: dict[str, StoredObject] = {}
        self._name = "memory://"

    @classmethod
    def named(cls, name: str) -> Self:
        """The store of this name: one per name and process.

        Raises:
            InvalidInput: The name is not 1 to 255 of ``[A-Za-z0-9._-]``.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput("store memory://...: give it a name of A-Z a-z 0-9 . _ -, e.g. memory://test")
        new = cls()
        new._name = f"memory://{name}"
        return cls._by_name.setdefault(name, new)

    def __reduce__(self) -> str | tuple[Any, ...]:
        name = self._name.removeprefix("memory://")
        return (type(self).named, (name,)) if name else super().__reduce__()

    is_local = True

    @property
    def name(self) -> str:
        """``memory://`` and the store's name, if it has one."""
        return self._name

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        new = StoredObject(data, ObjectInfo(key, len(data), datetime.now(UTC), etag))
        if not if_absent:
            self._objects[key] = new
            return new.info
        held = self._objects.setdefault(key, new)
        if held.data != data:
            raise AlreadyExists(self.name, "put", key, "the key holds other bytes")
        return held.info

    def _get(self, key: str) -> StoredObject:
        held = self._objects.get(key)
        if held is None:
            raise NotFound(self.name, "get", key, "there is no such object")
        return held

    def _head(self, key: str) -> ObjectInfo | None:
        held = self._objects.get(key)
        return None if held is None else held.info

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        # Keys are ASCII, so the order of strings is the order of bytes. dict.copy is atomic, and a
        # copy can't change under the iteration; it holds references, not objects.
        held = self._objects.copy()
        after = start_after or ""
        for key in sorted(key for key in held if key.startswith(prefix) and key > after):
            yield held[key].info

    def _delete(self, key: str) -> None:
        self._objects.pop(key, None)


def from_url(url: str) -> MemoryStore:
    """Open ``memory://name``.

    Raises:
        InvalidInput: There is no name, or more than a name.
    """
    parts = parse_store_url(url)
    return MemoryStore.named(parts.host + parts.path)
