"""Proving on a row of its own that an environment keeps the conditions which replays rest on.

A row is made, changed and removed again. Plug-ins and flows on the table run, as for any row.
Sources, learn.microsoft.com: "Perform conditional operations using the Web API", "Execute batch
operations using the Web API" (a change set is carried out whole, or not at all).
"""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.readiness.findings import Finding, Level
from writeahead.adapters.dataverse.readiness.metadata import TableDefinition, read_tables
from writeahead.adapters.dataverse.readiness.table_types import ELASTIC
from writeahead.adapters.dataverse.webapi.client import DataverseClient, Part, Row
from writeahead.adapters.dataverse.webapi.errors import (
    PermanentDataverseError,
    PreconditionFailed,
    RowNotFound,
)
from writeahead.adapters.dataverse.webapi.names import Scalar
from writeahead.errors import AdapterError, InvalidInput, NotReady

__all__ = ["probe"]

_FIRST, _SECOND = "writeahead doctor", "writeahead doctor, again"


def probe(client: DataverseClient, table: Table) -> Iterator[Finding]:
    """Try the conditional requests on one new row, and remove it.

    Args:
        client: Of the environment.
        table: Of the mapping; a text column that it names is written.

    Yields:
        Findings, while they are made. The row is removed also where one of them is a problem, or
        the caller stops.

    Raises:
        InvalidInput: The table is not there or an elastic one, or the mapping names no text column
            that can be written. Nothing was sent.
        TransientDataverseError, PermanentDataverseError, NotReady: Its definition can't be read.
    """
    definition = read_tables(client, {table.entity_set: table.written()}).get(table.entity_set)
    column = _text_column(table, definition)
    trial = _Trial(client, table, column, str(uuid.uuid4()), str(uuid.uuid4()))
    try:
        yield from trial.findings()
    except (AdapterError, NotReady) as error:
        trial.is_unsure = True
        yield Finding(trial.subject, Level.UNKNOWN, f"it can't be carried out now: {error}")
    finally:
        left = trial.removed()
    yield left


def _text_column(table: Table, definition: TableDefinition | None) -> str:
    if definition is None:
        raise InvalidInput(
            f"the environment has no table {table.entity_set}: correct entity_set in the mapping"
        )
    if definition.table_type == ELASTIC:
        raise InvalidInput(
            f"{table.entity_set} is an elastic table: nothing rests on conditions there, so there is nothing"
            " to prove; name another table"
        )
    for name in table.written():
        column = definition.columns.get(name)
        fits = column is not None and (column.max_length or len(_SECOND)) >= len(_SECOND)
        if fits and column is not None and column.type == "String" and column.creatable and column.updatable:
            return name
    raise InvalidInput(f"the mapping names no text column of {table.entity_set} that can be written")


@dataclass
class _Trial:
    """One row under a GUID of its own, and a GUID under which there must never be one."""

    client: DataverseClient
    table: Table
    column: str
    row_id: str
    other_id: str
    # Whether a request may land after the row was removed.
    is_unsure: bool = False

    @property
    def subject(self) -> str:
        return f"write probe on {self.table.entity_set}"

    def findings(self) -> Iterator[Finding]:
        try:
            self._patch(_FIRST, create_only=True)
        except PermanentDataverseError as error:
            yield Finding(self.subject, Level.PROBLEM, f"a row can't be created: {error}")
            return
        yield self._ok("a row is created under a GUID of ours")
        yield self._refused(
            "a second create of the same GUID", lambda: self._patch(_SECOND, create_only=True)
        )
        row = self._row()
        if row is None or row.etag is None or row.columns.get(self.column) != _FIRST:
            yield Finding(
                self.subject, Level.PROBLEM, "the row does not read as it was written, or has no ETag"
            )
            return
        yield self._ok("it reads as it was written, and has a version")
        yield from self._versions(row.etag)

    def _versions(self, first: str) -> Iterator[Finding]:
        try:
            self._patch(_SECOND, if_match=first)
        except PermanentDataverseError as error:
            yield Finding(self.subject, Level.PROBLEM, f"a row can't be updated: {error}")
            return
        row = self._row()
        if row is None or row.etag in (None, first):
            yield Finding(self.subject, Level.PROBLEM, "an update leaves the version as it was")
            return
        yield self._ok("an update for the version that was read gives it another one")
        yield self._refused("an update for an older version", lambda: self._patch(_FIRST, if_match=first))
        yield self._refused("an update of a row that is not there", self._update_nothing)
        yield self._refused("a change set of which one part is refused", lambda: self._change_set(row))
        after = self._row()
        if after is None or after.columns.get(self.column) != _SECOND or self._row(self.other_id) is not None:
            yield Finding(
                self.subject, Level.PROBLEM, "a request that was refused was carried out, or in part"
            )
        else:
            yield self._ok("nothing that was refused was carried out")

    def removed(self) -> Finding:
        """Remove what was made."""
        try:
            for row_id in (self.row_id, self.other_id):
                self.client.delete(self.table.entity_set, row_id)
        except (AdapterError, NotReady) as error:
            return Finding(
                self.subject,
                Level.PROBLEM,
                f"the row {self.row_id} could not be removed, remove it by hand: {error}",
            )
        if self.is_unsure:
            text = f"removed, but a request may still land: look for the row {self.row_id} in some minutes"
            return Finding(self.subject, Level.WARNING, text)
        return self._ok("the row is removed")

    def _refused(self, what: str, send: Callable[[], None]) -> Finding:
        try:
            send()
        except (PreconditionFailed, RowNotFound):
            return self._ok(f"{what} is refused")
        except PermanentDataverseError as error:
            return Finding(self.subject, Level.WARNING, f"{what} is refused in an unknown way: {error}")
        return Finding(
            self.subject, Level.PROBLEM, f"{what} is carried out: replays are not safe in this environment"
        )

    def _patch(self, text: str, *, create_only: bool = False, if_match: str | None = None) -> None:
        columns: Mapping[str, Scalar] = {self.column: text}
        self.client.patch(
            self.table.entity_set, self.row_id, columns, create_only=create_only, if_match=if_match
        )

    def _update_nothing(self) -> None:
        part = Part(self.table.entity_set, self.other_id, {self.column: _FIRST}, update_only=True)
        self.client.change_set([part])

    def _change_set(self, row: Row) -> None:
        entity_set, columns = self.table.entity_set, {self.column: _FIRST}
        self.client.change_set(
            [
                Part(entity_set, self.row_id, columns, if_match=row.etag),
                Part(entity_set, self.row_id, columns, create_only=True),
            ]
        )

    def _row(self, row_id: str | None = None) -> Row | None:
        names = [self.table.key, self.column]
        return self.client.get_row(self.table.entity_set, row_id or self.row_id, names)

    def _ok(self, text: str) -> Finding:
        return Finding(self.subject, Level.OK, text)
