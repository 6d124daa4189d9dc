"""A file that a command writes for its user: whole or not at all, and never over another."""

import contextlib
import os
import secrets
import stat
from pathlib import Path

from writeahead.errors import InvalidInput

__all__ = ["refuse_existing", "write_new_file"]

# Others may read it, and no one but its owner may change it.
_MODE = 0o644


def refuse_existing(path: Path, *, force: bool) -> None:
    """Check that a file may be written, before any work is done for it.

    Raises:
        InvalidInput: It exists and ``force`` is not set, or it is no file, or its folder can't be
            searched.
    """
    try:
        is_other = path.exists() and not path.is_file()
    except OSError as error:
        raise InvalidInput(f"{path}: can't be written: {error.strerror}") from None
    if is_other:
        raise InvalidInput(f"{path}: this is no file; name another one")
    if os.path.lexists(path) and not force:
        raise InvalidInput(f"{path}: the file exists: name another file, or add --force")


def write_new_file(path: Path, text: str, *, force: bool, mode: int = _MODE) -> None:
    """Write a file. A reader sees all of it or none, and so does who comes after a power cut.

    Args:
        path: Where. A link is followed.
        text: What.
        force: Whether it replaces a file that exists. That one's permissions are kept, but for
            those of others to write.
        mode: The permissions of a file that did not exist.

    Raises:
        InvalidInput: As `refuse_existing`, also for a file that appeared meanwhile; or it can't be
            written.
    """
    refuse_existing(path, force=force)
    target = path.resolve()
    whole = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        _write(whole, text.encode(), stat.S_IMODE(target.stat().st_mode) & ~0o022 if path.exists() else mode)
        try:
            if not force:
                target.open("x").close()  # not by a link, which some file systems lack
            whole.replace(target)
        finally:
            whole.unlink(missing_ok=True)
    except FileExistsError:
        refuse_existing(path, force=False)
    except OSError as error:
        raise InvalidInput(f"{path}: can't be written: {error.strerror}") from None


def _write(path: Path, data: bytes, mode: int) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(file)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
