"""Reading and changing a simulator's database directly. This needs no running server."""

import contextlib
import fnmatch
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse.messages import API_ROOT
from writeahead.simulators.dataverse.odata import ODataError
from writeahead.simulators.dataverse.query import Query
from writeahead.simulators.dataverse.records import Records
from writeahead.simulators.dataverse.requestids import request_id
from writeahead.simulators.dataverse.schema import Schema, Table
from writeahead.simulators.dataverse.storage import APPLICATION_USER, HUMAN_USER, open_database, transaction
from writeahead.simulators.dataverse.tables import DEFAULT_SCHEMA
from writeahead.simulators.dataverse.values import guid

__all__ = ["LoggedRequest", "SimulatorDatabase"]


@dataclass(frozen=True, kw_only=True)
class LoggedRequest:
    """One request that arrived, and its outcome.

    Attributes:
        sequence: Grows with every request, over restarts.
        method: Such as ``PATCH``.
        path: The whole path, without the query.
        query: The query string, still encoded.
        if_match: The header, or None; likewise ``if_none_match`` and ``prefer``.
        body: The request's body; None for token requests, which hold a secret.
        fault: The fault applied to it, e.g. ``status 503`` or ``drop after applying``, or None.
        status: The reply's status; None if there was no reply, or not yet.
        applied: Whether it changed a row.
        batch: For a request within a batch: the sequence of the batch, which is logged before its
            parts. A part that was not reached, or was rolled back with another one, has no status.
        received_at: Seconds since 1970, as are ``applied_at`` and ``answered_at``, which may be
            None.
    """

    sequence: int
    method: str
    path: str
    query: str
    if_match: str | None
    if_none_match: str | None
    prefer: str | None
    body: str | None
    fault: str | None
    status: int | None
    applied: bool
    received_at: float
    applied_at: float | None
    answered_at: float | None
    batch: int | None = None

    @property
    def resource(self) -> str:
        """The path below the service root, such as ``tasks(<guid>)``; the whole path elsewhere."""
        return self.path.removeprefix(API_ROOT)

    @property
    def request_id(self) -> str:
        """The id that the reply had in ``REQ_ID``, if it was the Web API's."""
        return request_id(self.sequence)


class SimulatorDatabase:
    """The database file of a simulator that runs in any process, or no longer runs.

    Every call opens the file again, so it can be used from threads and after a fork.

    Args:
        path: The database file.
        schema: The tables, if not the default ones.
    """

    def __init__(self, path: str | Path, schema: Schema = DEFAULT_SCHEMA) -> None:
        self.path = Path(path)
        self._schema = schema

    def rows(self, entity_set: str) -> list[dict[str, Any]]:
        """All rows of a table as the Web API shows them, with ``@odata.etag``, by version."""
        table = self._table(entity_set)
        with self._open() as connection:
            records = Records(connection, self._schema).select(table, Query(order_by="version"))
        return [{**record.body(), **record.columns} for record in records]

    def row(self, entity_set: str, row_id: str) -> dict[str, Any] | None:
        """One row, or None if no row has this id."""
        table = self._table(entity_set)
        with self._open() as connection:
            record = Records(connection, self._schema).find(table, _guid(row_id))
        return None if record is None else {**record.body(), **record.columns}

    def count(self, entity_set: str) -> int:
        """The number of rows of a table. A new database holds two systemusers and nothing else."""
        table = self._table(entity_set)
        with self._open() as connection:
            (number,) = connection.execute(
                "SELECT count(*) FROM rows WHERE entity_set = ?", (table.entity_set,)
            ).fetchone()
        return int(number)

    def requests(
        self, *, method: str = "*", path: str = "*", after: int = 0, applied: bool | None = None
    ) -> list[LoggedRequest]:
        """The request log, oldest first: all requests but those that program faults.

        Args:
            method: Only requests of this method.
            path: Only requests whose path matches, with ``*`` and ``?`` as in file names: the whole
                path, or the part below the service root.
            after: Only requests of a greater sequence number.
            applied: Only requests that did (True) or did not (False) change a row.
        """
        with self._open() as connection:
            found = connection.execute(
                "SELECT * FROM requests WHERE sequence > ? ORDER BY sequence", (after,)
            ).fetchall()
        logged = [LoggedRequest(**{**row, "applied": bool(row["applied"])}) for row in map(dict, found)]
        return [
            request
            for request in logged
            if method in ("*", request.method)
            and (fnmatch.fnmatchcase(request.path, path) or fnmatch.fnmatchcase(request.resource, path))
            and applied in (None, request.applied)
        ]

    def last_sequence(self) -> int:
        """The number of the newest request, for ``requests(after=...)``; 0 if none has arrived."""
        with self._open() as connection:
            (number,) = connection.execute("SELECT coalesce(max(sequence), 0) FROM requests").fetchone()
        return int(number)

    def seed(self, entity_set: str, columns: Mapping[str, Any] | None = None, *, keep: bool = False) -> str:
        """Insert a row without a request.

        Args:
            entity_set: The table.
            columns: Its columns, as a client would send them; the primary key may be among them.
            keep: Whether an existing row of this primary key stays as it is.

        Returns:
            The row's id.

        Raises:
            InvalidInput: The row does not fit its table, or its id is taken.
        """
        table, columns = self._table(entity_set), columns or {}
        with self._writing(APPLICATION_USER) as records:
            key = columns.get(table.primary_key) if keep else None
            held = records.find(table, _guid(key)) if isinstance(key, str) else None
            return (held or records.create(table, None, columns)).id

    def edit(self, entity_set: str, row_id: str, columns: Mapping[str, Any]) -> str:
        """Change a row, as another user does at the same time.

        Returns:
            The row's new ETag.

        Raises:
            InvalidInput: The row does not exist, or the change does not fit its table.
        """
        with self._writing(HUMAN_USER) as records:
            record = records.get(self._table(entity_set), _guid(row_id))
            return records.update(record, columns).etag

    def delete(self, entity_set: str, row_id: str) -> None:
        """Delete a row, as another user does.

        Raises:
            InvalidInput: The row does not exist.
        """
        with self._writing(HUMAN_USER) as records:
            records.delete(records.get(self._table(entity_set), _guid(row_id)))

    def _table(self, entity_set: str) -> Table:
        table = self._schema.get(entity_set)
        if table is None:
            known = ", ".join(table.entity_set for table in self._schema)
            raise InvalidInput(f"the simulator has no table {entity_set!r}, only {known}")
        return table

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(open_database(self.path)) as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self, user: str) -> Iterator[Records]:
        with self._open() as connection:
            try:
                with transaction(connection):
                    yield Records(connection, self._schema, user)
            except ODataError as error:
                raise InvalidInput(error.message) from None


def _guid(text: str) -> str:
    try:
        return guid(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is no GUID") from None
