r"""The calls of ``durable.py`` by what every system has: paths, and files alone to sync.

`LocalStore` takes these where a system can't open folders, as Windows can't. A folder is its path
here. What differs from POSIX, and where it is said:

- No call makes a name durable. A file is synced again under its new name, as PostgreSQL's
  ``durable_rename`` does (its src/common/file_utils.c, src/backend/storage/file/fd.c); Microsoft
  promises no more of FlushFileBuffers than the file's own bytes and metadata. FlushFileBuffers
  needs a handle that may write: learn.microsoft.com, "FlushFileBuffers function".
- A file that another program holds open can be neither replaced nor removed, by ERROR_ACCESS_DENIED
  or ERROR_SHARING_VIOLATION, for as long as it does: virus scanners, indexers and our own readers,
  since Python opens files without FILE_SHARE_DELETE (golang/go issue 32088 tells of all of them,
  untitaker/python-atomicwrites issue 52 of the first). So each call is repeated for a few seconds.
- ``os.link`` is CreateHardLink, which NTFS has and FAT has not: learn.microsoft.com,
  "CreateHardLinkW function".
- Names are compared without case. What differs in case only is absent, and can't be made: see
  `OtherCaseError`.
- Without `\\?\` before it a path has at most 260 characters, and names such as CON, nul.txt or
  "a." mean something else: learn.microsoft.com, "Naming Files, Paths, and Namespaces".
- Links are looked for before a folder or file is used, by its path. Another program may put one
  there between the two.

Everything here raises `OSError`.
"""

import contextlib
import errno
import ntpath
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from writeahead._retrying import retried

if TYPE_CHECKING:
    from tenacity import Retrying

__all__ = [
    "Folder",
    "OtherCaseError",
    "SeenFolders",
    "UndecidedError",
    "close_folder",
    "confirm_folder",
    "enter_folder",
    "file_status",
    "give_name",
    "is_folder",
    "make_folder",
    "native",
    "open_file",
    "open_folder",
    "read_file",
    "remove_name",
    "remove_temporary",
    "status",
    "sync_name",
    "sync_object",
    "write_all",
    "write_file",
]

_T = TypeVar("_T")

Folder: TypeAlias = Path

# Seconds. Together with `_ATTEMPTS` this gives a program that holds a file three seconds.
WAIT_INITIAL = 0.01
_WAIT_MAX = 0.5
_ATTEMPTS = 12

# ERROR_SHARING_VIOLATION and ERROR_LOCK_VIOLATION of winerror.h.
_HELD = (32, 33)
# A replacement or removal is refused by ERROR_ACCESS_DENIED, too.
_HELD_PERHAPS = (5, *_HELD)
# ERROR_UNEXP_NET_ERR, ERROR_NETNAME_DELETED, ERROR_SEM_TIMEOUT and ERROR_CONNECTION_ABORTED: a call
# on a share may have taken effect all the same.
_ANSWER_LOST = (59, 64, 121, 1236)
# Of a reparse point that stands for another file or folder, as links and junctions do, and cloud
# placeholders do not: learn.microsoft.com, "IsReparseTagNameSurrogate macro".
_NAME_SURROGATE = 0x20000000
# Windows otherwise translates line ends.
_BINARY: int = getattr(os, "O_BINARY", 0)
# A file that is replaced again and again between a look at it and its opening.
_OPEN_ROUNDS = 10


class UndecidedError(OSError):
    """A call failed, and whether it took effect can't be seen either."""


class OtherCaseError(OSError):
    """The name is taken in another case, and this file system can't tell the two apart."""


class SeenFolders:
    """Nothing: see the POSIX one. A folder that can't be synced need not be remembered."""

    def __init__(self, root: Path) -> None:
        del root

    def note(self, folder: Folder, names: Sequence[str]) -> None:
        """Do nothing."""

    def make_durable(self) -> None:
        """Do nothing."""

    def sync(self, names: Sequence[str], folder: Folder) -> None:
        """Do nothing."""


def native(path: Path) -> Path:
    """The path in the form that takes any name and length; an absolute one."""
    if isinstance(path, PureWindowsPath):
        return Path(_extended(ntpath.abspath(path)))
    return path


def _extended(path: str) -> str:
    if path.startswith(("\\\\?\\", "\\\\.\\")):
        return path
    if path.startswith("\\\\"):
        return "\\\\?\\UNC\\" + path[2:]
    return "\\\\?\\" + path


def _patiently(call: Callable[[], _T], *, held: Sequence[int] = _HELD) -> _T:
    """Call a function, again and again for a while if permission is denied.

    Args:
        call: The function.
        held: The Windows error codes that mean, at last, that another program holds the file.

    Raises:
        UndecidedError: The answer of a network folder was lost.
        OSError: EBUSY for one of these codes; else what the last call raised.
    """
    try:
        return retried(call, _loop, PermissionError)
    except OSError as error:
        code = getattr(error, "winerror", None)
        if code in _ANSWER_LOST:
            raise UndecidedError(error.errno, error.strerror) from error
        if code in held:
            raise OSError(errno.EBUSY, "another program holds the file open") from error
        raise


def _loop() -> "Retrying":
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    return Retrying(
        retry=retry_if_exception_type(PermissionError),
        wait=wait_exponential(multiplier=WAIT_INITIAL, max=_WAIT_MAX),
        stop=stop_after_attempt(_ATTEMPTS),
        reraise=True,
    )


def open_folder(path: str | os.PathLike[str]) -> Folder:
    """A folder; links on the way to it are followed."""
    folder = Path(path)
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return folder


def close_folder(folder: Folder) -> None:
    """Do nothing: a path is not open."""


def confirm_folder(folder: Folder, path: Path) -> None:
    """Do nothing: the name of a folder can't be synced."""


def enter_folder(
    parent: Folder, name: str, *, make: bool, sync_parent: Callable[[Folder], None] | None = None
) -> Folder:
    """A folder by its name in another one, which is no link; made, if asked to, and not synced.

    Raises:
        OtherCaseError: It was to be made, and is there in another case.
    """
    del sync_parent
    path = parent / name
    if make:
        with contextlib.suppress(FileExistsError):
            _patiently(lambda: path.mkdir(0o700))
        _refuse_other_case(path)
    found = _status_of_very(path)
    if _is_link(found):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return path


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it.

    Raises:
        FileExistsError: A file is there.
    """
    try:
        path.mkdir(0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
    except FileNotFoundError:
        # A drive that is not there has no folder above it.
        if path.parent == path:
            raise
        make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            path.mkdir(0o700)


def write_file(folder: Folder, name: str, data: bytes) -> os.stat_result:
    """Write a new file and sync its bytes; not one without bytes."""
    file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
    try:
        write_all(file, data)
        if data:
            os.fsync(file)
        return os.fstat(file)
    finally:
        os.close(file)


def write_all(file: int, data: bytes) -> None:
    """Write all bytes to an open file."""
    # A write may take less than it was given. EINTR is dealt with by Python (PEP 475).
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def give_name(folder: Folder, temporary: str, name: str, *, replace: bool) -> None:
    """Give a file its name: by a replacement, or by a link, which refuses to replace.

    Raises:
        FileExistsError: Without ``replace``, the name is taken.
        IsADirectoryError: With ``replace``, by a folder.
        OtherCaseError: It is taken in another case.
        UndecidedError: See there.
        OSError: The name was not given.
    """
    source, target = folder / temporary, folder / name
    _refuse_other_case(target)
    if not replace:
        _patiently(lambda: os.link(source, target))
        return
    # Windows says "access is denied" for a folder, too.
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(target.lstat().st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    _patiently(lambda: source.replace(target), held=_HELD_PERHAPS)


def remove_name(folder: Folder, name: str) -> None:
    """Remove a file.

    Raises:
        UndecidedError: See there.
        OSError: It was not removed.
    """
    _patiently((folder / name).unlink, held=_HELD_PERHAPS)


def remove_temporary(folder: Folder, name: str) -> None:
    """Remove a temporary file; one that can't be removed stays, for a later listing to remove.

    After a link it has another name, and any reader of that name holds it open, too.
    """
    with contextlib.suppress(OSError):
        _patiently((folder / name).unlink)


def sync_name(folder: Folder, name: str) -> None:
    """Sync a file again under its new name, which is all that can be done: see above."""
    with contextlib.suppress(FileNotFoundError):
        file = _patiently(lambda: os.open(folder / name, os.O_RDWR | _BINARY))
        try:
            os.fsync(file)
        finally:
            os.close(file)


def sync_object(folder: Folder, name: str, file: int) -> None:
    """Sync the bytes and the name of an object that another process may not have synced."""
    del file  # open for reading, which is not enough
    sync_name(folder, name)


def status(folder: Folder, name: str) -> os.stat_result:
    """The status of what a listing has named; of a link itself."""
    return (folder / name).lstat()


def _status_of_very(path: Path) -> os.stat_result:
    """The status of what has just this name, of a link itself.

    Raises:
        FileNotFoundError: There is nothing, or only something whose name differs in case.
    """
    found = path.lstat()
    if not _is_link(found) and _other_case(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return found


def _refuse_other_case(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if not _is_link(path.lstat()) and (other := _other_case(path)):
            raise OtherCaseError(errno.EEXIST, f"{other} is there")


def _other_case(path: Path) -> str | None:
    """The name of what is there, as its folder has it, if that differs in case; else None.

    Some file systems can't tell it, such as those of RAM disks: `check_store` finds these.
    """
    try:
        name = Path(os.path.realpath(path)).name
    except OSError:
        return None
    return name if name != path.name and name.lower() == path.name.lower() else None


def _is_link(found: os.stat_result) -> bool:
    """Whether this is a symbolic link, or a junction, which Python does not call one."""
    tag: int = getattr(found, "st_reparse_tag", 0)
    return stat.S_ISLNK(found.st_mode) or bool(tag & _NAME_SURROGATE)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a listing is a folder, and no link to one."""
    return entry.is_dir(follow_symlinks=False) and not _is_link(entry.stat(follow_symlinks=False))


def file_status(folder: Folder, name: str) -> os.stat_result:
    """A file's status; EISDIR for what is no file, ELOOP for a link."""
    found = _status_of_very(folder / name)
    if stat.S_ISREG(found.st_mode) and not _is_link(found):
        return found
    code = errno.ELOOP if _is_link(found) else errno.EISDIR
    raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def open_file(folder: Folder, name: str) -> Iterator[tuple[int, os.stat_result]]:
    """A file, open for reading: its bytes and status are of one moment, even if it is replaced."""
    file, found = _opened(folder, name)
    try:
        yield file, found
    finally:
        os.close(file)


def _opened(folder: Folder, name: str) -> tuple[int, os.stat_result]:
    path = folder / name
    for _ in range(_OPEN_ROUNDS):
        seen = file_status(folder, name)
        file = _patiently(lambda: os.open(path, os.O_RDONLY | _BINARY))
        try:
            found = os.fstat(file)
            # What was looked at is what was opened, and no link that took its place.
            if os.path.samestat(seen, found):
                return file, found
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    raise OSError(errno.EBUSY, "the file is replaced again and again")


def read_file(file: int, size: int) -> bytes:
    """All bytes of an open file of ``size`` bytes, which stays open."""
    parts = []
    # A read may give less than it was asked for; an empty one is the end.
    while part := os.read(file, size + 1):
        parts.append(part)
    return b"".join(parts)
