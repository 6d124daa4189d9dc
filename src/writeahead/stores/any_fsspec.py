"""A store on any other filesystem of fsspec, ``fsspec+<scheme>://...``, where it can be proven.

Most of them can't create atomically. fsspec's own ``pipe_file(mode="create")`` looks whether the
file exists, and then writes it; a filesystem inherits that unless it has a create of its own. So
one that has none is refused when the store is opened, and one that has is put to the test by
`check_store` before its first put. See docs/decisions/0004-fsspec-only-where-proven.md.
"""

import inspect
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs
from fsspec.registry import get_filesystem_class
from fsspec.spec import AbstractFileSystem

from writeahead.errors import AccessDenied, InvalidInput, NotFound, Unavailable, Unsupported
from writeahead.stores.base import ObjectInfo, StoreCheck, StoredObject
from writeahead.stores.check import check_store
from writeahead.stores.remote import RemoteStore, RequestFailed, checked_prefix, is_key
from writeahead.stores.urls import parse_store_url

__all__ = ["AnyFsspecStore"]

# What we have ourselves, and better: with durability, or in one process only.
_OURS = {"file": "file://", "local": "file://", "memory": "memory://"}

# The URLs that have passed a check in this process. A sweep may open a store for each session.
_proven: set[str] = set()


class AnyFsspecStore(RemoteStore):
    """Objects in an fsspec filesystem. It has its own retries, so there are none of ours.

    A put costs one call of the filesystem. The first put to a URL in a process costs a whole check
    before it, of about 600 calls. A listing holds the infos of all objects below its folder in
    memory: fsspec has no listing that streams and is ordered.

    Args:
        scheme: fsspec's name of the filesystem.
        path: What follows ``scheme://``, without ``/`` at its end.
        proven: Whether the check has been passed already.

    Raises:
        Unsupported: The filesystem has no atomic create.
    """

    def __init__(self, scheme: str, path: str, *, proven: bool = False) -> None:
        self._url = f"{scheme}://{path}"
        self._name = f"fsspec+{self._url}"
        self._scheme, self._path = scheme, path
        self._proven = proven
        # By process: no client outlives a fork.
        self._opened: dict[int, tuple[AbstractFileSystem, str]] = {}
        if not _has_own_create(get_filesystem_class(scheme)):
            detail = "this filesystem has no atomic create (of fsspec's own, two at once may both win)"
            raise Unsupported(self._name, "check", "", detail)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    @property
    def name(self) -> str:
        """The URL."""
        return self._name

    def check(self) -> StoreCheck:
        """See `ArtifactStore.check`."""
        outcome = check_store(self._taken_as_proven())
        if outcome.ok:
            _proven.add(self._url)
        else:
            _proven.discard(self._url)
        self._proven = outcome.ok
        return outcome

    def _taken_as_proven(self) -> "AnyFsspecStore":
        return type(self)(self._scheme, self._path, proven=True)

    def _require_proof(self, key: str) -> None:
        # Two threads may both run it, which does no harm.
        if self._proven or self._url in _proven:
            return
        broken = [result for result in self.check().results if not result.ok]
        if broken:
            detail = "; ".join(f"{result.promise}: {result.seen}" for result in broken)
            raise Unsupported(self.name, "put", key, f"nothing was put, as the check failed: {detail}")

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        self._require_proof(key)

        def attempt() -> ObjectInfo:
            system, root = self._system()
            try:
                system.pipe_file(f"{root}/{key}", data, mode="create" if if_absent else "overwrite")
            except FileExistsError as error:
                if if_absent:
                    return self._settle(key, data)
                raise _failure(error) from error
            except Exception as error:
                raise _failure(error) from error
            return ObjectInfo(key, len(data))

        return self._retried("put", key, attempt, writes=True)

    def _read(self, key: str) -> StoredObject:
        system, root = self._system()
        try:
            data = bytes(system.cat_file(f"{root}/{key}"))
        except Exception as error:
            raise _failure(error) from error
        return StoredObject(data, ObjectInfo(key, len(data)))

    def _head(self, key: str) -> ObjectInfo | None:
        def attempt() -> ObjectInfo | None:
            system, root = self._system()
            try:
                info = system.info(f"{root}/{key}")
            except FileNotFoundError:
                return None
            except Exception as error:
                raise _failure(error) from error
            return _info(key, info) if info.get("type") == "file" else None

        return self._retried("head", key, attempt)

    def _delete(self, key: str) -> None:
        def attempt() -> None:
            system, root = self._system()
            try:
                system.rm_file(f"{root}/{key}")
            except FileNotFoundError:
                return
            except Exception as error:
                raise _failure(error) from error

        self._retried("delete", key, attempt, writes=True)

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        folder = prefix.rpartition("/")[0]

        def attempt() -> dict[str, ObjectInfo]:
            system, root = self._system()
            try:
                found = system.find(f"{root}/{folder}".rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
            except Exception as error:
                raise _failure(error) from error
            keys = {str(path).removeprefix(f"{root}/"): info for path, info in found.items()}
            return {key: _info(key, info) for key, info in keys.items() if is_key(key)}

        held = self._retried("list", prefix, attempt)
        after = start_after or ""
        for key in sorted(key for key in held if key.startswith(prefix) and key > after):
            yield held[key]

    def _system(self) -> tuple[AbstractFileSystem, str]:
        """The filesystem of this process, with nothing cached, and our root in it."""
        opened = self._opened.get(os.getpid())
        if opened is None:
            system, root = url_to_fs(self._url, skip_instance_cache=True, use_listings_cache=False)
            opened = self._opened.setdefault(os.getpid(), (system, str(root).rstrip("/")))
        opened[0].invalidate_cache()
        return opened


def _has_own_create(kind: type[AbstractFileSystem]) -> bool:
    """Whether a filesystem has a ``pipe_file`` that knows ``mode`` by name, and did not inherit it.

    One that takes it among ``**kwargs`` ignores it.
    """
    write = kind.pipe_file
    if issubclass(kind, AsyncFileSystem) and kind._pipe_file is not AsyncFileSystem._pipe_file:  # noqa: SLF001
        write = kind._pipe_file  # noqa: SLF001 - its public face is made from it, without a signature
    return write is not AbstractFileSystem.pipe_file and "mode" in inspect.signature(write).parameters


def _failure(error: Exception) -> RequestFailed:
    what = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return RequestFailed(NotFound, "there is no such object, or no such place", absent=True)
    if isinstance(error, PermissionError):
        return RequestFailed(
            AccessDenied, "the filesystem refused; check the credentials and their permissions"
        )
    if isinstance(error, IsADirectoryError):
        return RequestFailed(NotFound, "there is no such object, but a folder", absent=True)
    if isinstance(error, NotImplementedError | TypeError | ValueError):
        return RequestFailed(Unsupported, f"this filesystem can't do what writeahead needs ({what})")
    return RequestFailed(Unavailable, f"the filesystem failed ({what})", unknown=True)


def _info(key: str, info: dict[str, Any]) -> ObjectInfo:
    times = (info.get(name) for name in ("LastModified", "last_modified", "mtime", "created"))
    modified = next((time for time in times if isinstance(time, datetime)), None)
    return ObjectInfo(key, int(info.get("size") or 0), modified.astimezone(UTC) if modified else None)


def from_url(url: str) -> AnyFsspecStore:
    """Open ``fsspec+<scheme>://...``, configured by fsspec's own files and variables.

    Raises:
        InvalidInput: fsspec knows no such scheme, its package is not installed, or there are
            options.
        Unsupported: The filesystem has no atomic create.
    """
    parts = parse_store_url(url)
    scheme = parts.scheme.removeprefix("fsspec+")
    if scheme in _OURS:
        raise InvalidInput(f"store {parts.scheme}://...: use {_OURS[scheme]}, which promises more")
    try:
        get_filesystem_class(scheme or "-")  # without a name fsspec takes the local one
    except (ImportError, ValueError) as error:
        raise InvalidInput(
            f"store {parts.scheme}://...: fsspec knows no {scheme!r}, or its package is not installed"
        ) from error
    path = parts.path.strip("/")
    checked_prefix(f"{parts.scheme}://{parts.host}", path)
    return AnyFsspecStore(scheme, f"{parts.host}/{path}".rstrip("/"))
