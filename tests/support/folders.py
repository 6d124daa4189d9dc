"""A folder as the place of a store, seen by other code than the store's."""

import os
from pathlib import Path

from writeahead.stores.base import ArtifactStore
from writeahead.stores.local import LocalStore


class Folder:
    """A folder, seen through pathlib."""

    def __init__(self, root: Path) -> None:
        self.root = self.folder = root
        self.url = root.as_uri()
        # Without this prefix CON is no file there, and a long path none either.
        self._seen = Path("\\\\?\\" + str(root.absolute())) if os.name == "nt" else root

    def open(self) -> ArtifactStore:
        return LocalStore(self.root)

    def read(self, key: str) -> bytes | None:
        path = self._seen / key
        return path.read_bytes() if path.is_file() else None

    def write(self, key: str, data: bytes) -> None:
        path = self._seen / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def fill(self, prefix: str, count: int) -> None:
        for number in range(count):
            self.write(f"{prefix}{number:06d}", b"filled")

    def keys(self) -> list[str]:
        paths = (path for path in self._seen.rglob("*") if not path.is_dir())
        return sorted(path.relative_to(self._seen).as_posix() for path in paths)
