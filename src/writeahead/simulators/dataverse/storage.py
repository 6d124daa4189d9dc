"""The one SQLite file: its tables, how it is opened, how a transaction runs.

Write-ahead logging with ``synchronous=NORMAL``: a commit survives ``kill -9`` of the process,
though the last ones may be lost when the machine itself goes down
(sqlite.org/pragma.html#pragma_synchronous).
"""

import contextlib
import json
import secrets
import sqlite3
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse.values import now

__all__ = [
    "APPLICATION_USER",
    "COLLATION",
    "HUMAN_USER",
    "create_database",
    "open_database",
    "setting",
    "transaction",
]

APPLICATION_USER = "a0000000-0000-4000-8000-000000000001"
"""The system user of every request over HTTP; it owns each row that names no other owner."""
HUMAN_USER = "a0000000-0000-4000-8000-000000000002"
"""The system user of `SimulatorDatabase.edit` and `delete`, which change rows meanwhile."""

COLLATION = "dataverse"
"""How texts compare: without case and accents, as in an environment whose language is English
("Language collations", learn.microsoft.com, 1033: _CI_AI)."""

_FORMAT = "2"
_TABLES = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE version (latest INTEGER NOT NULL);
CREATE TABLE rows (
    entity_set TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (entity_set, id)
) WITHOUT ROWID;
CREATE TABLE requests (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    query TEXT NOT NULL,
    if_match TEXT,
    if_none_match TEXT,
    prefer TEXT,
    body TEXT,
    fault TEXT,
    status INTEGER,
    applied INTEGER NOT NULL DEFAULT 0,
    received_at REAL NOT NULL,
    applied_at REAL,
    answered_at REAL,
    batch INTEGER
);
"""
_USERS = (
    (APPLICATION_USER, {"fullname": "writeahead (application)", "applicationid": APPLICATION_USER}),
    (HUMAN_USER, {"fullname": "Hanna Human", "firstname": "Hanna", "lastname": "Human"}),
)
# Row versions of a real organization are large from the start, so they can't pass for a count.
_FIRST_VERSION = 1_000_000


def open_database(path: Path) -> sqlite3.Connection:
    """Open a simulator's database, which must exist.

    Raises:
        InvalidInput: It does not exist, or is not a simulator's database.
    """
    try:
        connection = _connect(path, mode="rw")
    except sqlite3.DatabaseError:
        raise InvalidInput(f"{path} is not a simulator database: start a simulator with it first") from None
    try:
        _require_format(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def create_database(path: Path) -> sqlite3.Connection:
    """Open a simulator's database, and create it if the file does not exist or is empty.

    Raises:
        InvalidInput: The file can't be created, or holds something else.
    """
    try:
        connection = _connect(path, mode="rwc")
    except sqlite3.DatabaseError as error:
        raise InvalidInput(f"the simulator can't use {path} as its database: {error}") from None
    try:
        # Another program's database must stay as it is, journal mode and all.
        if not _is_empty(connection):
            _require_format(connection, path)
        connection.execute("PRAGMA journal_mode=WAL")
        with transaction(connection):
            if _is_empty(connection):
                _fill(connection)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise InvalidInput(f"the simulator can't use {path} as its database: {error}") from None
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a transaction under the write lock, so that what it reads stays true until its end."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def setting(connection: sqlite3.Connection, name: str) -> str:
    """A value that was fixed when the database was made, such as the organization's id."""
    (value,) = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return str(value)


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=30.0, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.create_collation(COLLATION, _compare)
    try:
        connection.execute("PRAGMA synchronous=NORMAL")
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _compare(one: str, other: str) -> int:
    first, second = _folded(one), _folded(other)
    return (first > second) - (first < second)


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _is_empty(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None


def _require_format(connection: sqlite3.Connection, path: Path) -> None:
    try:
        found = connection.execute("SELECT value FROM settings WHERE name = 'format'").fetchone()
    except sqlite3.DatabaseError:
        found = None
    if found is None or found[0] != _FORMAT:
        raise InvalidInput(
            f"{path} is not a simulator database of this version: give another file, which need not exist"
        )


def _fill(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.strip().split(";\n"):
        connection.execute(statement)
    connection.executemany(
        "INSERT INTO settings VALUES (?, ?)",
        [
            ("format", _FORMAT),
            # Tokens are signed with it, so they outlive a restart, and other simulators refuse
            # them.
            ("token_key", secrets.token_hex(32)),
            ("organization_id", "a0000000-0000-4000-8000-000000000003"),
            ("business_unit_id", "a0000000-0000-4000-8000-000000000004"),
        ],
    )
    connection.execute("INSERT INTO version VALUES (?)", (_FIRST_VERSION + len(_USERS),))
    moment = now()
    for number, (user, columns) in enumerate(_USERS, start=1):
        body = json.dumps({**columns, "isdisabled": False, "createdon": moment, "modifiedon": moment})
        connection.execute(
            "INSERT INTO rows VALUES ('systemusers', ?, ?, ?)", (user, _FIRST_VERSION + number, body)
        )
