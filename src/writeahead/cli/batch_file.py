"""The FILE of ``writeahead run --batch``: a session a line (https://jsonlines.org), as a stream."""

import os
import queue
import stat
import threading
from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple, Self

from writeahead.adapters.limits import POLL
from writeahead.cli.session_file import session_of_line
from writeahead.errors import InvalidInput
from writeahead.protocol.batch import BatchItem
from writeahead.protocol.encoding import MAX_ARTIFACT_BYTES

__all__ = ["BatchFile"]

# A plan is larger than the session it is made from, and no plan may be larger than that.
_LONGEST = MAX_ARTIFACT_BYTES
_PIECE = 1024 * 1024
# Lines that are read before they are asked for: each may have the size above.
_AHEAD = 4
_BOM = b"\xef\xbb\xbf"


class _Line(NamedTuple):
    number: int
    content: bytes | None  # None if it is too long


class BatchFile:
    """The sessions of a file, in order, for a batch to take.

    A thread reads it, since the next line of a pipe can be long in coming: what is under way must
    be told of meanwhile, and Ctrl-C must work.

    Args:
        name: Its name, or ``-`` for stdin.

    Attributes:
        shown: Its name in messages.
        is_live: Whether it is no file on a disk, but what another program may still write to.

    Raises:
        InvalidInput: There is no such file. Whether it can be read shows when its lines are taken.
    """

    def __init__(self, name: str) -> None:
        self.shown = "stdin" if name == "-" else name
        # By number: at exit, Python would wait in vain for a thread that reads from `sys.stdin`.
        # See cpython issue 86883.
        self._file: int | str = 0 if name == "-" else name
        try:
            mode = os.stat(self._file).st_mode  # noqa: PTH116 - a number has no path
        except FileNotFoundError:
            raise InvalidInput(f"{self.shown}: there is no such file") from None
        except OSError as error:
            raise InvalidInput(f"{self.shown}: can't be read: {error.strerror}") from None
        self.is_live = not stat.S_ISREG(mode)
        self._lines: queue.Queue[_Line | OSError | None] = queue.Queue(_AHEAD)
        self._next: _Line | None = None
        self._is_at_end = False
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._read, name="writeahead-batch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()

    def take(self) -> BatchItem | None:
        """See `BatchSource`."""
        # The next line of a file on a disk comes at once.
        self._look(POLL if self.is_live else None, wait=not self.is_live)
        line, self._next = self._next, None
        return None if line is None else _item(line)

    def wait(self, seconds: float) -> bool:
        """See `BatchSource`."""
        self._look(seconds, wait=seconds > 0)
        return not self._is_at_end

    def count(self) -> int:
        """How many lines it has; 0 where that can't be known before they are taken."""
        if self.is_live or self._file == 0:
            return 0
        with self._opened() as file:
            count, end = 0, b"\n"
            while piece := file.read(_PIECE):
                count, end = count + piece.count(b"\n"), piece[-1:]
        return count + (end != b"\n")

    def _look(self, seconds: float | None, *, wait: bool) -> None:
        if self._next is not None or self._is_at_end:
            return
        try:
            found = self._lines.get(wait, seconds)
        except queue.Empty:
            return
        if isinstance(found, OSError):
            self._is_at_end = True
            raise InvalidInput(f"{self.shown}: can't be read: {found.strerror}")
        self._next, self._is_at_end = found, found is None

    def _opened(self) -> BufferedReader:
        return open(self._file, "rb", closefd=self._file != 0)

    def _read(self) -> None:
        try:
            with self._opened() as file:
                for line in _lines(file):
                    if not self._put(line):
                        return
            self._put(None)
        except OSError as error:
            self._put(error)

    def _put(self, found: _Line | OSError | None) -> bool:
        while not self._closed.is_set():
            try:
                self._lines.put(found, timeout=POLL)
            except queue.Full:
                continue
            return True
        return False


def _lines(file: BufferedReader) -> Iterator[_Line]:
    """Read the lines that are not blank, with their numbers."""
    number = 0
    while line := file.readline(_LONGEST + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) > _LONGEST and line[-1:] != b"\n":
            while line[-1:] not in (b"\n", b""):
                line = file.readline(_PIECE)
            yield _Line(number, None)
        elif line.strip():
            yield _Line(number, line.rstrip(b"\r\n"))


def _item(line: _Line) -> BatchItem:
    if line.content is None:
        problem = f"longer than {_LONGEST // _PIECE} MiB, which is more than a session can have"
        return BatchItem(line.number, problem=problem)
    try:
        session = session_of_line(line.content)
    except InvalidInput as error:
        return BatchItem(line.number, problem=" ".join(str(error).split()))
    return BatchItem(line.number, session.session_id, session.operations, session.identity, session.namespace)
