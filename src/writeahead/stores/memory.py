"""A store in this process's memory: for tests, demonstrations and dry runs."""

import hashlib
import re
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

from writeahead.errors import AlreadyExists, InvalidInput, NotFound
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject
from writeahead.stores.urls import parse_store_url

__all__ = ["MemoryStore"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)


class _Objects(MutableMapping[str, StoredObject]):
    """Objects by key, in one dict for each first segment, so that a session's are found at once.

    Such a dict stays once it is there. So each change is one operation of one dict, which the
    interpreter makes atomic.
    """

    def __init__(self) -> None:
        # By all that stands up to the first "/", which is included. So their order is that of keys.
        self._folders: dict[str, dict[str, StoredObject]] = {}

    def __getitem__(self, key: str) -> StoredObject:
        return self._folders[_folder_of(key)][key]

    def __setitem__(self, key: str, held: StoredObject) -> None:
        self._folders.setdefault(_folder_of(key), {})[key] = held

    def __delitem__(self, key: str) -> None:
        del self._folders[_folder_of(key)][key]

    def __iter__(self) -> Iterator[str]:
        for held in self._folders.copy().values():
            yield from held.copy()

    def __len__(self) -> int:
        return sum(map(len, self._folders.copy().values()))

    def take(self, key: str, held: StoredObject) -> StoredObject:
        """What holds the key: this, if it was free."""
        return self._folders.setdefault(_folder_of(key), {}).setdefault(key, held)

    def drop(self, key: str) -> None:
        """Remove an object, if it is there."""
        self._folders.get(_folder_of(key), {}).pop(key, None)

    def below(self, prefix: str, after: str) -> Iterator[StoredObject]:
        """What has a key that begins with ``prefix`` and comes behind ``after``, in order."""
        # Keys are ASCII, so the order of strings is the order of bytes. dict.copy is atomic, and a
        # copy can't change under the iteration; it holds references, not objects.
        first = _folder_of(prefix)
        folders = [first] if first.endswith("/") else sorted(self._folders.copy())
        for folder in folders:
            if folder.startswith(first) and (folder > after or after.startswith(folder)):
                held = self._folders.get(folder, {}).copy()
                for key in sorted(key for key in held if key.startswith(prefix) and key > after):
                    yield held[key]


def _folder_of(key: str) -> str:
    first, slash, _ = key.partition("/")
    return first + slash


class MemoryStore(ArtifactStore):
    """Objects in a dict of this process, gone when the process ends.

    ``MemoryStore()`` is private to the code that holds it; `MemoryStore.named` gives all callers
    that ask for the same name the same store, so that a run and its resume meet. Pickled, a named
    store is the one of that name in the process that reads the pickle; a private one is a copy.

    There is no lock, and so none that a fork could leave locked: an object never changes once it is
    there, and each change is one operation that the interpreter makes atomic.
    """

    _by_name: ClassVar[dict[str, Self]] = {}

    def __init__(self) -> None:
        self._objects = _Objects()
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
        held = self._objects.take(key, new)
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
        return (held.info for held in self._objects.below(prefix, start_after or ""))

    def _delete(self, key: str) -> None:
        self._objects.drop(key)


def from_url(url: str) -> MemoryStore:
    """Open ``memory://name``.

    Raises:
        InvalidInput: There is no name, or more than a name.
    """
    parts = parse_store_url(url)
    return MemoryStore.named(parts.host + parts.path)
