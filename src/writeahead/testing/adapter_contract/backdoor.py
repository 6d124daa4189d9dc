"""What the adapter contract needs to know of a remote, from whoever has one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from writeahead.adapters.base import Adapter
from writeahead.model import KeyedOperation, Operation
from writeahead.protocol.retry import Clock

__all__ = ["RemoteBackdoor", "RemoteRow"]


@dataclass(frozen=True)
class RemoteRow:
    """One row, message or record of the remote.

    Attributes:
        id: As a receipt's ``remote_id`` would name it.
        content: What the operation wrote into it, without what differs from one session to the
            next: ids, versions, times, the mark of the session. Two operations of one kind must
            come to equal contents.
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
        """What is in the adapter's settings and must be in no message: passwords, tokens, tenant."""

    @property
    def operations(self) -> Mapping[str, Callable[[], Operation]]:
        """For each kind, what makes an operation that was never sent; rows that it needs are made by then."""

    def adapter(self, url: str, clock: Clock, /) -> Adapter:
        """A new adapter, as in a new process.

        Args:
            url: Where it sends: the server, through a proxy.
            clock: Passes hours in no time; for an adapter that keeps waits or expiries of its own.
                Others leave it alone.

        Returns:
            The adapter. It is closed by its ``close()``, if it has one.
        """

    def rows(self, operation: KeyedOperation) -> Sequence[RemoteRow]:
        """All rows that carry what this operation of this session wrote, or its key; each of them once."""

    def snapshot(self) -> object:
        """All that an operation could change; two of them are equal if nothing was changed."""

    def edit(self, operation: KeyedOperation, *, guarded: bool) -> Callable[[], bool]:
        """Change the row that an operation writes or has written, as a person would.

        Args:
            operation: Of any kind; its row is there.
            guarded: In a field that the plan's baseline guards; else in one that no operation
                writes.

        Returns:
            Tells whether that edit still stands.
        """

    def remove(self, operation: KeyedOperation) -> None:
        """Delete the row that an operation is to update, as a person would."""

    def take_key(self, operation: KeyedOperation) -> Callable[[], bool]:
        """Make a row of somebody else's that has the key which an operation is to create.

        Returns:
            Tells whether that row is there and as it was made.
        """
