"""A store in an SQLite database: durable by other means than a folder, for tests of the store kit.

``sqlite:///path?journal_mode=delete&synchronous=extra`` opens it; each option is a PRAGMA.
"""

import os
import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from writeahead.errors import AlreadyExists, NotFound
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject

TABLE = "CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, data BLOB, at REAL) WITHOUT ROWID"
PAGE = 1000


class SqliteStore(ArtifactStore):
    def __init__(self, path, **pragmas):
        self._path, self._pragmas = Path(path), pragmas
        self._own = threading.local()

    @property
    def name(self):
        return self._path.as_uri().replace("file:", "sqlite:")

    @property
    def _connection(self):
        # One for each thread and process; autocommit, so that each statement is a transaction.
        if getattr(self._own, "pid", None) != os.getpid():
            self._own.connection = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            for pragma, value in self._pragmas.items():
                self._own.connection.execute(f"PRAGMA {pragma}={value}")
            self._own.connection.execute(TABLE)
            self._own.pid = os.getpid()
        return self._own.connection

    def _put(self, key, data, *, if_absent):
        verb = "INSERT OR IGNORE" if if_absent else "REPLACE"
        now = datetime.now(UTC).timestamp()
        done = self._connection.execute(f"{verb} INTO objects VALUES (?, ?, ?)", (key, data, now))
        if not done.rowcount:
            held = self._get(key)
            if held.data != data:
                raise AlreadyExists(self.name, "put", key, "the key holds other bytes")
            return held.info
        return ObjectInfo(key, len(data), datetime.fromtimestamp(now, UTC))

    def _rows(self, condition, *values):
        query = f"SELECT key, length(data), at, data FROM objects WHERE {condition} ORDER BY key LIMIT {PAGE}"
        return self._connection.execute(query, values).fetchall()

    def _get(self, key):
        for _, size, at, data in self._rows("key = ?", key):
            return StoredObject(data, ObjectInfo(key, size, datetime.fromtimestamp(at, UTC)))
        raise NotFound(self.name, "get", key, "there is no such object")

    def _head(self, key):
        rows = self._rows("key = ?", key)
        return ObjectInfo(key, rows[0][1], datetime.fromtimestamp(rows[0][2], UTC)) if rows else None

    def _list(self, prefix, start_after):
        after = start_after or ""
        while rows := self._rows("key > ? AND substr(key, 1, ?) = ?", after, len(prefix), prefix):
            for key, size, at, _ in rows:
                yield ObjectInfo(key, size, datetime.fromtimestamp(at, UTC))
            after = rows[-1][0]

    def _delete(self, key):
        self._connection.execute("DELETE FROM objects WHERE key = ?", (key,))


def from_url(url):
    parts = urlsplit(url)
    return SqliteStore(parts.path, **dict(parse_qsl(parts.query)))
