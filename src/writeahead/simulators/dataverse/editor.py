"""Edits by another user, right before or after a request, on demand."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse.keys import parse_key
from writeahead.simulators.dataverse.odata import ODataError
from writeahead.simulators.dataverse.records import Records
from writeahead.simulators.dataverse.schema import Schema
from writeahead.simulators.dataverse.storage import HUMAN_USER, transaction

__all__ = ["Edit", "Editor"]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What the other user does.

    Args:
        row: The row's path, e.g. ``wa_callqueues(<guid>)``.
        columns: The new values; None to delete the row.

    Raises:
        InvalidInput: The path names no row, or the columns are not a mapping.
    """

    row: str
    columns: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.row, str) or "(" not in self.row or not self.row.endswith(")"):
            raise InvalidInput("edit: row must be the path of a row, such as wa_callqueues(<guid>)")
        if self.columns is not None and not isinstance(self.columns, Mapping):
            raise InvalidInput("edit: columns must be the columns by name, or None to delete the row")

    @classmethod
    def of(cls, content: Any) -> "Edit | None":
        """An edit as it is, or from JSON of the same field names; None stays None.

        Raises:
            InvalidInput: The value is not an edit.
        """
        if content is None or isinstance(content, Edit):
            return content
        if not isinstance(content, Mapping) or not {"row"} <= set(content) <= {"row", "columns"}:
            raise InvalidInput("edit: give row, the path of a row, and columns, or no columns to delete it")
        return cls(**content)


class Editor:
    """Carries out edits.

    Args:
        connection: A connection to the database.
        schema: The tables and their columns.
    """

    def __init__(self, connection: sqlite3.Connection, schema: Schema) -> None:
        self._connection = connection
        self._schema = schema
        self._records = Records(connection, schema, HUMAN_USER)

    def carry_out(self, edit: Edit) -> None:
        """Change or delete the row, in its own transaction.

        Raises:
            ODataError: 500: the row does not exist, or the edit does not fit it. This error is for
                the test to see.
        """
        name, _, key = edit.row.removesuffix(")").partition("(")
        table = self._schema.get(name)
        if table is None:
            raise _failed(edit, "there is no such table")
        try:
            with transaction(self._connection):
                record = self._records.get_by(table, parse_key(table, key))
                if edit.columns is None:
                    self._records.delete(record)
                else:
                    self._records.update(record, edit.columns)
        except ODataError as error:
            raise _failed(edit, error.message) from None


def _failed(edit: Edit, why: str) -> ODataError:
    return ODataError(500, "", f"The simulator's editor can't edit {edit.row}: {why}")
