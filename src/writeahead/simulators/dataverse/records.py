"""Create, change, delete and read rows by the rules of their table, in the caller's transaction."""

import json
import re
import sqlite3
import uuid
from collections.abc import Mapping
from typing import Any

from writeahead.simulators.dataverse.keys import (
    KEY_TEXT,
    RowKey,
    key_query,
    parse_key,
    unique_index_queries,
    unique_queries,
)
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError, not_imitated
from writeahead.simulators.dataverse.ownership import owning_columns, require_owner
from writeahead.simulators.dataverse.parties import add_parties, nested_parties, remove_parties
from writeahead.simulators.dataverse.properties import (
    is_valid,
    joined,
    require_values,
    unknown_navigation,
    unknown_property,
)
from writeahead.simulators.dataverse.query import Query
from writeahead.simulators.dataverse.record import Record
from writeahead.simulators.dataverse.schema import PARTITION, Kind, Navigation, Schema, Table
from writeahead.simulators.dataverse.states import apply_state, require_open
from writeahead.simulators.dataverse.storage import APPLICATION_USER
from writeahead.simulators.dataverse.values import now, stored_value

__all__ = ["Records"]

_BIND = "@odata.bind"
# A path below the service root or a whole URL: both are allowed in a bind.
_REFERENCE = re.compile(rf"(?:.*/)?(?P<set>\w+)\((?P<key>{KEY_TEXT})\)")


class Records:
    """The rows of all tables.

    Args:
        connection: Of the database; the caller runs the transaction.
        schema: The tables there are.
        user: The system user that writes the rows.
    """

    def __init__(self, connection: sqlite3.Connection, schema: Schema, user: str = APPLICATION_USER) -> None:
        self._connection = connection
        self._schema = schema
        self._user = user

    def find(self, table: Table, row_id: str) -> Record | None:
        """Return the row with this id, or None."""
        found = self._connection.execute(
            "SELECT version, body FROM rows WHERE entity_set = ? AND id = ?", (table.entity_set, row_id)
        ).fetchone()
        return None if found is None else Record(table, row_id, found["version"], json.loads(found["body"]))

    def get(self, table: Table, row_id: str) -> Record:
        """Return the row with this id.

        Raises:
            ODataError: 404: the row does not exist.
        """
        record = self.find(table, row_id)
        if record is None:
            raise ODataError(
                404,
                ErrorCode.OBJECT_DOES_NOT_EXIST,
                f"{table.logical_name} With Id = {row_id} Does Not Exist",
            )
        return record

    def find_by(self, table: Table, key: RowKey) -> Record | None:
        """Return the row that a URL names, or None."""
        if key.id is not None:
            return self.find(table, key.id)
        return next(iter(self.select(table, key_query(key.values, table))), None)

    def get_by(self, table: Table, key: RowKey) -> Record:
        """Return the row that a URL names.

        Raises:
            ODataError: 404: the row does not exist.
        """
        if key.id is not None:
            return self.get(table, key.id)
        record = self.find_by(table, key)
        if record is None:
            raise ODataError(
                404,
                ErrorCode.RECORD_NOT_FOUND_BY_KEY,
                f"A record with the specified key values does not exist in {table.logical_name} entity",
            )
        return record

    def select(self, table: Table, query: Query) -> list[Record]:
        """Return the rows that match a query."""
        # Condition and order consist of names from the schema; values are parameters.
        sql = (
            f"SELECT id, version, body FROM rows WHERE entity_set = ? AND ({query.where}) "  # noqa: S608
            f"ORDER BY {query.order_by} LIMIT ?"
        )
        limit = -1 if query.top is None else query.top
        found = self._connection.execute(sql, (table.entity_set, *query.parameters, limit))
        return [Record(table, row["id"], row["version"], json.loads(row["body"])) for row in found]

    def create(self, table: Table, key: RowKey | None, payload: Mapping[str, Any]) -> Record:
        """Create a row. Its id comes from the key, else from the payload, else it is new.

        The payload's columns go before those of an alternate key, even if they differ: "Use Upsert
        to create or update a record", learn.microsoft.com.

        Raises:
            ODataError: 400 for a payload that does not fit, 404 for a bind to nothing, 412 for an
                id or an alternate key that is taken.
        """
        row_id = key.id if key else None
        payload, parties = nested_parties(table, payload)
        changes = {**(key.values if key else {}), **self._changes(table, payload, new=True)}
        given = changes.pop(table.primary_key, None)
        if row_id and given and given != row_id:
            raise _other_id()
        row_id = row_id or given or str(uuid.uuid4())
        self._require_free(table, row_id)
        columns = {
            name: column.default for name, column in table.properties.items() if column.default is not None
        }
        if "_ownerid_value" in table.properties:
            columns["_ownerid_value"] = self._user
        apply_state(table, columns, changes, new=True)
        moment = now()
        columns |= {"createdon": moment, "_createdby_value": self._user} | changes
        if table.elastic and columns.get(PARTITION) is None:
            columns[PARTITION] = row_id
        require_values(table, columns)
        record = self._store(table, row_id, columns, moment)
        add_parties(self, self._schema, record, parties)
        return record

    def update(self, record: Record, payload: Mapping[str, Any]) -> Record:
        """Change columns of a row. Its version grows even if no value changes, as in Dataverse.

        Raises:
            ODataError: 400 for a payload that does not fit, 404 for a bind to nothing, 412 for an
                alternate key that is taken.
        """
        if nested_parties(record.table, payload)[1]:
            raise not_imitated("parties in an update")
        changes = self._changes(record.table, payload, new=False)
        if changes.pop(record.table.primary_key, record.id) != record.id:
            raise _other_id()
        columns = dict(record.columns)
        require_open(record, changes)
        apply_state(record.table, columns, changes, new=False)
        updated = self._store(record.table, record.id, columns | changes, now())
        add_parties(self, self._schema, updated, [])
        return updated

    def delete(self, record: Record) -> None:
        """Remove a row."""
        self._connection.execute(
            "DELETE FROM rows WHERE entity_set = ? AND id = ?", (record.table.entity_set, record.id)
        )
        remove_parties(self, self._schema, record)

    def _store(self, table: Table, row_id: str, columns: dict[str, Any], moment: str) -> Record:
        columns |= {"modifiedon": moment, "_modifiedby_value": self._user, **joined(table, columns)}
        columns |= owning_columns(table, columns, self._has)
        self._require_unique(table, row_id, columns)
        (version,) = self._connection.execute(
            "UPDATE version SET latest = latest + 1 RETURNING latest"
        ).fetchone()
        self._connection.execute(
            "INSERT INTO rows VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET version = excluded.version, body = excluded.body",
            (table.entity_set, row_id, version, json.dumps(columns)),
        )
        return Record(table, row_id, version, columns)

    def _has(self, entity_set: str, row_id: str) -> bool:
        table = self._schema.get(entity_set)
        return table is not None and self.find(table, row_id) is not None

    def _require_free(self, table: Table, row_id: str) -> None:
        # Activities of all kinds share one table of GUIDs in Dataverse (activitypointer).
        shares = [other for other in self._schema if other.activity] if table.activity else [table]
        if any(self.find(other, row_id) for other in shares):
            raise _duplicate()

    def _require_unique(self, table: Table, row_id: str, columns: Mapping[str, Any]) -> None:
        for key, query in unique_queries(table, columns):
            if any(record.id != row_id for record in self.select(table, query)):
                names = ", ".join(key.columns)
                raise ODataError(
                    412,
                    ErrorCode.DUPLICATE_RECORD_ENTITY_KEY,
                    f"Entity Key violated. A record with the same value for {names} already exists. A "
                    "duplicate record cannot be created. Select one or more unique values and try again.",
                )
        for query in unique_index_queries(table, columns):
            if any(record.id != row_id for record in self.select(table, query)):
                # The same words and status as for a GUID that is taken.
                raise _duplicate()

    def _changes(self, table: Table, payload: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
        """Check and return the columns that a payload sets.

        What the table does not let a client set is left out without a word ("Column definitions";
        OData 4.0 part 1, sections 11.4.2 and 11.4.3).
        """
        changes = self._payload_values(table, payload, new=new)
        return {name: value for name, value in changes.items() if is_valid(table, name, new=new)}

    def _payload_values(self, table: Table, payload: Mapping[str, Any], *, new: bool) -> dict[str, Any]:
        changes = {}
        for name, value in payload.items():
            if name.endswith(_BIND):
                navigation = table.navigations.get(name.removesuffix(_BIND))
                if navigation is None:
                    raise unknown_navigation(table, name.removesuffix(_BIND))
                changes[navigation.property_name] = self._referenced(navigation, value)
            elif name in table.navigations and name not in table.properties:
                if value is not None:
                    raise not_imitated(f"deep insert ('{name}')")
                changes[table.navigations[name].property_name] = None
            elif "@" not in name:
                column = table.properties.get(name)
                if column is None:
                    raise unknown_property(table, name)
                valid = is_valid(table, name, new=new)
                if column.kind is Kind.LOOKUP and valid:
                    raise ODataError(
                        400,
                        ErrorCode.ODATA_QUERY_INVALID,
                        "CRM do not support direct update of Entity Reference properties, Use Navigation "
                        "properties instead.",
                    )
                if valid:
                    changes[name] = stored_value(table, name, column, value)
        return changes

    def _referenced(self, navigation: Navigation, value: Any) -> str | None:
        if value is None:
            return None
        match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if match is None or (target := self._schema.get(match["set"])) is None:
            raise ODataError(
                400,
                ErrorCode.PAYLOAD_INVALID,
                f"The value of '{navigation.name}{_BIND}' is no reference to a row, such as "
                f"/{navigation.targets[0]}(<guid>).",
            )
        if target.entity_set not in navigation.targets:
            raise ODataError(
                400,
                ErrorCode.PAYLOAD_INVALID,
                f"'{navigation.name}' refers to {' or '.join(navigation.targets)}, not to "
                f"{target.entity_set}.",
            )
        found = self.get_by(target, parse_key(target, match["key"]))
        require_owner(navigation, found)
        return found.id


def _duplicate() -> ODataError:
    return ODataError(412, ErrorCode.DUPLICATE_RECORD, "A record with matching key values already exists.")


def _other_id() -> ODataError:
    return ODataError(400, ErrorCode.INVALID_ARGUMENT, "The id in the payload is not the one in the URL.")
