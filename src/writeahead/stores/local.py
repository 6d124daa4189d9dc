"""A store in a folder: bare system calls, because an object must be durable once `put` returns.

A put writes a temporary file in the object's own folder, syncs it, gives it the object's name by an
atomic rename (or link, which refuses to replace), and syncs the folder. The calls are in
``durable.py``, and for a system that lacks them in ``portable.py``.
"""

import contextlib
import errno
import os
import re
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from writeahead.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidKey,
    NotFound,
    OutcomeUnknown,
    StoreError,
    Unavailable,
    Unsupported,
)
from writeahead.stores.base import MAX_KEY_BYTES, ArtifactStore, ObjectInfo, StoreCheck, StoredObject
from writeahead.stores.check import check_prefix, check_store
from writeahead.stores.urls import absolute, folder_of, parse_store_url

if sys.platform != "win32" and os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY"):
    from writeahead.stores import durable as calls
else:
    # With --platform win32 mypy holds the class to these, and otherwise to the others.
    from writeahead.stores import portable as calls  # type: ignore[no-redef,unused-ignore]

__all__ = ["LocalStore"]

# No key may hold "~", so a temporary file can neither be listed nor take an object's name.
_TEMPORARY = "~writeahead-"
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)
_LEFT_BEHIND = re.compile(r"~writeahead-[0-9a-f]{16}", re.ASCII)
# Seconds. No put takes as long; one that was suspended meanwhile fails, and says that nothing was
# changed.
_STALE_AFTER = 3600.0
# How many files of a folder a listing looks at before it gives the first of them.
_PAGE = 4096
# A create that finds the key taken, and then finds it free again, starts over; this often at most.
_CREATE_ROUNDS = 10

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}
_NO_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}
_NO_FOLDER_SYNC = "this filesystem can't sync folders, so no put is durable; use another"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


class LocalStore(ArtifactStore):
    """Objects as files below a folder: the key is the path.

    - The folder is made by the first put. Files are made with mode 0600, folders with 0700.
    - A delete is not synced: after a power cut the object may be there again.
    - A put that is killed leaves a file named ``~writeahead-...`` behind. A listing that meets one
      that is older than an hour removes it.
    - Symbolic links below the root are never followed: reading or writing through one is
      `AccessDenied`, wherever it points, and a listing does not show it. The root itself may be
      reached through links.
    - A name can't be both an object and a folder: with ``a`` stored, putting ``a/b`` is
      `InvalidKey`.
    - Where the system can't open folders, as Windows can't, a name is not durable, and more is
      different: see ``docs/stores.md``.
    - The filesystem must have hard links; without them ``put(if_absent=True)`` is `Unsupported`,
      since POSIX has no other atomic create of a file together with its contents.

    Args:
        root: The folder. A relative path is taken from the working directory of this moment.

    Raises:
        InvalidInput: The path is relative, and the working directory is gone.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        path = absolute(root)
        self._name = path.as_uri()
        self._root = calls.native(path)
        self._seen = calls.SeenFolders(self._root)

    is_local = True

    @property
    def name(self) -> str:
        """The folder as a ``file://`` URL."""
        return self._name

    def exists(self) -> bool:
        """See `ArtifactStore.exists`."""
        return os.path.lexists(self._root)

    def check(self) -> StoreCheck:
        """See `ArtifactStore.check`; the folders that the check needed go, too."""
        prefix = check_prefix()
        try:
            return check_store(self, prefix)
        finally:
            for folder, _, _ in os.walk(self._root / prefix, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        *folders, name = key.split("/")
        with self._folder("put", key, folders) as folder:
            temporary = _TEMPORARY + os.urandom(8).hex()
            try:
                info = _info(key, calls.write_file(folder, temporary, data))
                if if_absent:
                    return self._create(folder, temporary, name, info, data)
                self._publish(folder, temporary, name, key, if_absent=False)
            except BaseException:
                with contextlib.suppress(OSError):
                    calls.remove_temporary(folder, temporary)
                raise
            return info

    def _create(
        self, folder: calls.Folder, temporary: str, name: str, info: ObjectInfo, data: bytes
    ) -> ObjectInfo:
        for _ in range(_CREATE_ROUNDS):
            try:
                self._publish(folder, temporary, name, info.key, if_absent=True)
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):
                    held = self._settle(folder, name, info.key, data)
                    calls.remove_temporary(folder, temporary)
                    return held
            else:
                return info
        raise Unavailable(
            self.name, "put", info.key, "others keep creating and deleting it; nothing was changed"
        )

    def _publish(self, folder: calls.Folder, temporary: str, name: str, key: str, *, if_absent: bool) -> None:
        """Give a synced temporary file its name, durably: the only place where an object gets one.

        Raises:
            FileExistsError: With ``if_absent``, the name is taken; the temporary file is still
                there.
            OSError: The name was not given.
            OutcomeUnknown: It was given, but a power cut might still take it back.
        """
        try:
            calls.give_name(folder, temporary, name, replace=not if_absent)
        except calls.UndecidedError as error:
            raise OutcomeUnknown(
                self.name, "put", key, f"its effect could not be seen ({_reason(error)})"
            ) from error
        except OSError as error:
            if not if_absent or error.errno not in _NO_LINKS:
                raise
            detail = "this filesystem has no hard links, so no atomic create; use another"
            raise Unsupported(self.name, "put", key, detail) from error
        try:
            if if_absent:
                calls.remove_temporary(folder, temporary)
            calls.sync_name(folder, name)
        except OSError as error:
            if error.errno in _NO_SYNC:
                raise Unsupported(self.name, "put", key, f"written, but {_NO_FOLDER_SYNC}") from error
            detail = f"written, but its folder could not be synced ({_reason(error)})"
            raise OutcomeUnknown(self.name, "put", key, detail) from error

    def _settle(self, folder: calls.Folder, name: str, key: str, data: bytes) -> ObjectInfo:
        """The info of the object that took the name first, if it holds exactly ``data``."""
        with calls.open_file(folder, name) as (file, status):
            if status.st_size != len(data) or calls.read_file(file, status.st_size) != data:
                raise AlreadyExists(self.name, "put", key, "the key holds other bytes")
            # Its writer may have died before this.
            calls.sync_object(folder, name, file)
        return _info(key, status)

    def _get(self, key: str) -> StoredObject:
        *folders, name = key.split("/")
        with self._folder("get", key, folders) as folder, calls.open_file(folder, name) as (file, status):
            self._require_size("get", key, status.st_size)
            data = calls.read_file(file, status.st_size)
        return StoredObject(data, _info(key, status))

    def _head(self, key: str) -> ObjectInfo | None:
        *folders, name = key.split("/")
        try:
            with self._folder("head", key, folders) as folder:
                return _info(key, calls.file_status(folder, name))
        except NotFound:
            return None

    def _delete(self, key: str) -> None:
        *folders, name = key.split("/")
        with contextlib.suppress(NotFound), self._folder("delete", key, folders) as folder:
            calls.file_status(folder, name)
            try:
                calls.remove_name(folder, name)
            except calls.UndecidedError as error:
                detail = f"its effect could not be seen ({_reason(error)})"
                raise OutcomeUnknown(self.name, "delete", key, detail) from error

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        *folders, stem = prefix.split("/")
        return self._walk(prefix, folders, stem, start_after or "")

    def _walk(self, prefix: str, folders: Sequence[str], stem: str, after: str) -> Iterator[ObjectInfo]:
        """The objects below ``folders`` whose name begins with ``stem``."""
        for page in self._pages(prefix, folders, stem, after):
            for found in page:
                if isinstance(found, ObjectInfo):
                    yield found
                else:
                    yield from self._walk(prefix, (*folders, found), "", after)

    def _pages(
        self, prefix: str, folders: Sequence[str], stem: str, after: str
    ) -> Iterator[Sequence[ObjectInfo | str]]:
        """The objects and folders in one folder, in the order of keys.

        Its names are read once, and held. It is not held open from one page to the next, since a
        listing may be left at any time.
        """
        base = "".join(f"{name}/" for name in folders)
        names: Sequence[str] | None = None
        done = 0
        while names is None or done < len(names):
            try:
                with self._folder("list", prefix, folders) as folder:
                    if names is None:
                        names = _names(folder, base, stem, after)
                    page = _found(folder, base, names[done : done + _PAGE])
            except NotFound:
                return
            yield page
            done += _PAGE

    @contextlib.contextmanager
    def _folder(self, verb: str, key: str, folders: Sequence[str]) -> Iterator[calls.Folder]:
        """Hold a folder open, one name after the other so that no link is followed; a put makes it.

        Every OSError that leaves the block becomes one of our errors.
        """
        try:
            folder = self._open_root(verb, key)
            try:
                for depth, name in enumerate(folders):
                    sync = partial(self._seen.sync, folders[:depth])
                    inner = calls.enter_folder(folder, name, make=verb == "put", sync_parent=sync)
                    outer, folder = folder, inner
                    calls.close_folder(outer)
                if verb in ("put", "delete"):
                    self._seen.make_durable()
                try:
                    yield folder
                finally:
                    # Not earlier: what was read last would be no part of a sync that another thread
                    # makes meanwhile.
                    if verb in ("get", "head", "list"):
                        self._seen.note(folder, folders)
            finally:
                calls.close_folder(folder)
        except StoreError:
            raise
        except OSError as error:
            raise self._translated(verb, key, error) from error

    def _open_root(self, verb: str, key: str) -> calls.Folder:
        try:
            try:
                root = calls.open_folder(self._root)
            except FileNotFoundError:
                if verb != "put":
                    raise
            else:
                if verb == "put":
                    calls.confirm_folder(root, self._root)
                return root
            calls.make_folder(self._root)
            return calls.open_folder(self._root)
        except (NotADirectoryError, FileExistsError) as error:
            raise Unsupported(
                self.name, verb, key, "a file is where the store's folder should be; choose another path"
            ) from error

    def _translated(self, verb: str, key: str, error: OSError) -> StoreError:
        reason = _reason(error)
        what, detail = _Verdict(Unavailable, f"{reason}; nothing was changed")
        if isinstance(error, calls.OtherCaseError):
            what, detail = (
                InvalidKey,
                f"{error.strerror}, and this filesystem can't tell upper from lower case",
            )
        elif error.errno in _FULL:
            detail = f"the disk is full or the quota used up ({reason}); nothing was changed"
        elif error.errno in _DENIED:
            what, detail = AccessDenied, f"{reason}; check the folder's owner, mode and mount"
        elif error.errno in _NO_SYNC:
            what, detail = Unsupported, f"{reason}: {_NO_FOLDER_SYNC}"
        elif error.errno == errno.ELOOP:
            what, detail = AccessDenied, "a symbolic link is in the way; links in a store are not followed"
        elif error.errno == errno.ENAMETOOLONG:
            what, detail = InvalidKey, "a name is too long for this filesystem"
        elif error.errno in _ABSENT and verb != "put":
            what, detail = NotFound, "there is no such object"
        elif error.errno in _ABSENT and error.errno != errno.ENOENT:
            what, detail = InvalidKey, "an object and a folder can't have the same name in a folder store"
        elif error.errno == errno.ENOENT:
            detail = "the store's folder or a file in it was removed meanwhile; nothing was changed"
        return what(self.name, verb, key, detail)


class _Verdict(NamedTuple):
    error: type[StoreError]
    detail: str


def _names(folder: calls.Folder, base: str, stem: str, after: str) -> Sequence[str]:
    """The names in a folder that a listing asks for, in order, with a ``/`` behind one of a folder.

    That stands exactly where keys below it go on, so their order is that of the keys.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            order = _order(entry, folder)
            if order and order.startswith(stem) and _is_after(base + order, after):
                names.append(order)
    names.sort()
    # Some file systems tell of a name twice that is replaced meanwhile.
    return [order for order, _ in groupby(names)]


def _found(folder: calls.Folder, base: str, names: Sequence[str]) -> Sequence[ObjectInfo | str]:
    """What has these names of a listing; not what has gone meanwhile."""
    found: list[ObjectInfo | str] = []
    for order in names:
        if order.endswith("/"):
            found.append(order[:-1])
        else:
            with contextlib.suppress(FileNotFoundError):
                found.append(_info(base + order, calls.status(folder, order)))
    return found


def _order(entry: os.DirEntry[str], folder: calls.Folder) -> str:
    """The entry's name, with a ``/`` behind it for a folder; empty for what is no part of a key."""
    if not _SEGMENT.fullmatch(entry.name):
        if _LEFT_BEHIND.fullmatch(entry.name):
            _remove_if_stale(entry, folder)
        return ""
    if calls.is_folder(entry):
        return entry.name + "/"
    return entry.name if entry.is_file(follow_symlinks=False) else ""


def _remove_if_stale(entry: os.DirEntry[str], folder: calls.Folder) -> None:
    # A reader without write permission can list the folder all the same.
    with contextlib.suppress(OSError):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > _STALE_AFTER:
            calls.remove_temporary(folder, entry.name)


def _is_after(key: str, after: str) -> bool:
    """Whether ``key``, or for a folder any key below it, comes behind ``after``."""
    return len(key) <= MAX_KEY_BYTES and (key > after or (key.endswith("/") and after.startswith(key)))


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    try:
        modified = datetime.fromtimestamp(status.st_mtime, UTC)
    except (ValueError, OverflowError, OSError):
        modified = None  # a file may be of the year 30000; it must not hide the others
    return ObjectInfo(key, status.st_size, modified)


def _reason(error: OSError) -> str:
    # Not str(error): that holds paths.
    return (error.strerror or type(error).__name__).lower()


def from_url(url: str) -> LocalStore:
    """Open ``file:///absolute/path``.

    Raises:
        InvalidInput: See `folder_of`.
    """
    return LocalStore(folder_of(parse_store_url(url)))
