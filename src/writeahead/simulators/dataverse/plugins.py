"""A plug-in that writes a row again after each write of a client, so that its version changes.

It does what an asynchronous step does ("Event framework", learn.microsoft.com,
power-apps/developer/data-platform): it runs once the client's transaction is committed, so no
answer shows the version that it leaves. Here it runs before that answer is sent.
"""

import sqlite3
from collections.abc import Collection, Iterable

from writeahead.simulators.dataverse.messages import ApiResponse
from writeahead.simulators.dataverse.records import Records
from writeahead.simulators.dataverse.schema import Schema
from writeahead.simulators.dataverse.storage import transaction
from writeahead.simulators.dataverse.values import guid

__all__ = ["Plugin"]


class Plugin:
    """Gives rows a new version after each write.

    Args:
        connection: Of the database.
        schema: The tables there are.
        entity_sets: The tables whose rows it writes.
    """

    def __init__(self, connection: sqlite3.Connection, schema: Schema, entity_sets: Collection[str]) -> None:
        self._connection = connection
        self._records = Records(connection, schema)
        self._tables = {table.entity_set: table for table in schema if table.entity_set in entity_sets}

    def after(self, replies: Iterable[ApiResponse]) -> None:
        """Write the rows of a committed transaction again."""
        for reply in replies:
            if reply.changed:
                for path in reply.rows or filter(None, [reply.row]):
                    self._write(path)

    def _write(self, path: str) -> None:
        entity_set, _, rest = path.partition("(")
        table = self._tables.get(entity_set)
        if table is None:
            return
        with transaction(self._connection):
            # A later request of the same change set may have deleted it.
            record = self._records.find(table, guid(rest.removesuffix(")")))
            if record is not None:
                self._records.update(record, {})
