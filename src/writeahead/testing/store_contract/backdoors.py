"""What a backend's tests tell the contract of the place where its store keeps the objects."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from writeahead.stores.base import ArtifactStore

__all__ = ["FilesBackdoor", "FolderBackdoor", "ServedBackdoor", "StoreBackdoor"]


class StoreBackdoor(Protocol):
    """The place where a store keeps its objects, reached by other code than the store's own."""

    @property
    def url(self) -> str:
        """What `open_store` makes a store on this place of, in any process."""

    def open(self) -> ArtifactStore:
        """A new instance of the store on this place; two of them share nothing but the place."""

    def read(self, key: str) -> bytes | None:
        """The bytes at a key; None if there is no object."""

    def write(self, key: str, data: bytes) -> None:
        """Put bytes there, whatever is there already."""

    def fill(self, prefix: str, count: int) -> None:
        """Make ``count`` small objects whose keys are ``prefix`` and six digits from 000000 on."""

    def keys(self) -> Sequence[str]:
        """All that is there, even what is no object: a temporary file that stayed behind, say."""


@runtime_checkable
class ServedBackdoor(Protocol):
    """A place behind an HTTP server: what the part ``wire`` needs besides."""

    @property
    def server(self) -> str:
        """The server's URL: scheme ``http``, host and port."""

    def open_at(self, server: str) -> ArtifactStore:
        """A new instance of the store on this place, with its requests sent to another URL."""


@runtime_checkable
class FolderBackdoor(Protocol):
    """A place with a file for each object: what ``links`` and ``durability`` need besides."""

    @property
    def folder(self) -> Path:
        """The folder that holds each object at the path that is its key. It need not exist yet."""


@runtime_checkable
class FilesBackdoor(Protocol):
    """A place in files of many objects each, as a database: what ``durability`` needs besides."""

    @property
    def files(self) -> Sequence[Path]:
        """The files whose system calls are traced: a power cut must neither take nor restore any.

        For example an SQLite database and its write-ahead log. A file need not exist yet.
        """
