"""The contract holds a store to durability that is durable by other means than a folder."""

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support import sqlite_store
from tests.support.sqlite_store import TABLE, from_url
from writeahead.testing import StoreContract
from writeahead.testing.store_contract.syscalls import why_untraceable

ROOT = Path(__file__).parents[2]


class Database:
    """An SQLite database, seen through bare sqlite3."""

    def __init__(self, folder, **pragmas):
        self.path = folder / "objects.db"
        options = "&".join(f"{pragma}={value}" for pragma, value in pragmas.items())
        self.url = f"sqlite://{self.path}?{options}"
        self.files = [self.path.with_name(self.path.name + end) for end in ("", "-journal", "-wal")]
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(f"PRAGMA journal_mode={pragmas['journal_mode']}")
            connection.execute(TABLE)

    def open(self):
        return from_url(self.url)

    def do(self, statement, values=()):
        with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def read(self, key):
        return next((data for (data,) in self.do("SELECT data FROM objects WHERE key = ?", (key,))), None)

    def write(self, key, data):
        self.do("REPLACE INTO objects VALUES (?, ?, 0)", (key, data))

    def fill(self, prefix, count):
        with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
            rows = [(f"{prefix}{number:06d}", b"filled") for number in range(count)]
            connection.executemany("INSERT INTO objects VALUES (?, ?, 0)", rows)

    def keys(self):
        return [key for (key,) in self.do("SELECT key FROM objects ORDER BY key")]


@pytest.fixture
def _installed(tmp_path_factory, monkeypatch):
    """The store, as an installed package offers it to other processes."""
    site = tmp_path_factory.mktemp("site")
    metadata = site / "sqlite_plug-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sqlite-plug\nVersion: 1\n")
    points = f"[writeahead.stores]\nsqlite = {sqlite_store.__name__}:from_url\n"
    (metadata / "entry_points.txt").write_text(points)
    path = [str(site), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


@pytest.mark.usefixtures("_installed")
class TestSqliteStore(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {
        "wire": "no HTTP is spoken",
        "links": "an object is a row",
    }

    @pytest.fixture
    def backdoor(self, tmp_path):
        return Database(tmp_path, journal_mode="wal", synchronous="full")


# https://www.sqlite.org/pragma.html#pragma_synchronous: OFF only hands the bytes to the operating
# system; NORMAL may lose a transaction in WAL mode; EXTRA alone syncs the folder of a journal that
# it removed.
@pytest.mark.usefixtures("_installed")
@pytest.mark.skipif(why_untraceable() is not None, reason=f"{why_untraceable()}")
@pytest.mark.parametrize(
    ("mode", "synchronous", "gap"),
    [
        ("wal", "off", "what was written to .*-wal was not synced"),
        ("wal", "normal", "what was written to .*-wal was not synced"),
        ("wal", "full", None),
        ("delete", "off", "what was written to .*objects.db was not synced"),
        ("delete", "full", "the folder of .*-journal was not synced after that name changed"),
        ("delete", "extra", None),
    ],
)
def test_the_durability_test_finds_what_sqlite_does_not_sync(
    tmp_path, tmp_path_factory, mode, synchronous, gap
):
    def put():
        backdoor = Database(tmp_path, journal_mode=mode, synchronous=synchronous)
        StoreContract().test_a_power_cut_after_a_put_takes_nothing(
            backdoor, tmp_path_factory, "a/b", if_absent=True
        )

    if gap is None:
        put()
    else:
        with pytest.raises(AssertionError, match=gap):
            put()
