"""What the adapter contract needs to know of a remote; the author of an adapter writes it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from writeahead.adapters.base import Adapter
from writeahead.model import KeyedOperation, Operation
from writeahead.protocol.retry import Clock

__all__ = ["RemoteBackdoor", "RemoteRow"]


@dataclass(frozen=True)
class RemoteRow:
    """One row, message or record of the remote.

    Attributes:
        id: As a receipt's ``remote_id`` would name it.
        content: What the operation wrote into it. Leave out what differs from one session to the
            next: ids, versions, times, the mark of the session. Two operations of one kind must
            have equal contents.
    """

    id: str
    content: Mapping[str, object]


class RemoteBackdoor(Protocol):
    """A remote system, reached around the adapter under test: with other code than its own."""

    @property
    def url(self) -> str:
        """The real server: plain HTTP, on loopback."""

    @property
    def secrets(self) -> Sequence[str]:
        """Parts of the adapter's settings that no message may show: passwords, tokens, tenant."""

    @property
    def operations(self) -> Mapping[str, Callable[[], Operation]]:
        """For each kind, a function that makes a new operation, and the rows that it needs."""

    def adapter(self, url: str, clock: Clock, /) -> Adapter:
        """A new adapter, as in a new process.

        Args:
            url: Where it sends: the server, through a proxy.
            clock: A clock whose hours pass in no time, for an adapter that has waits or expiries of
                its own. Other adapters ignore it.

        Returns:
            The adapter. The kit calls its ``close()``, if it has one.
        """

    def rotated(self, url: str, clock: Clock, /) -> Adapter:
        """The same as `adapter`, after the account's password, key or token was replaced."""

    def other_content(self, operation: Operation, /) -> Operation:
        """An operation of the same kind, and on the same row, that writes something else.

        Args:
            operation: One that ``operations`` has made.
        """

    def rows(self, operation: KeyedOperation) -> Sequence[RemoteRow]:
        """All rows that this operation of this session wrote, or that have its key; each once.

        It is called from several threads, also while a request waits for its answer.
        """

    def snapshot(self) -> object:
        """Everything that an operation could change; two snapshots are equal if nothing changed."""

    def edit(self, operation: KeyedOperation, *, guarded: bool) -> Callable[[], bool]:
        """Change the row that an operation writes or has written, as another user would.

        Args:
            operation: Of any kind; its row is there.
            guarded: Change a field that the plan's baseline guards; else one that no operation
                writes.

        Returns:
            A function that tells whether that edit is still there.
        """

    def baseline(self, operation: KeyedOperation) -> Mapping[str, JsonValue]:
        """What a caller would have loaded of the row that an operation is to update.

        Args:
            operation: Of a kind whose planner takes a baseline; its row is there, as it was made.
        """

    def remove(self, operation: KeyedOperation) -> None:
        """Delete the row that an operation is to update, as another user would."""

    def take_key(self, operation: KeyedOperation) -> Callable[[], bool]:
        """Make a row of another user with the key that an operation is to create.

        Returns:
            A function that tells whether that row is there, unchanged.
        """
