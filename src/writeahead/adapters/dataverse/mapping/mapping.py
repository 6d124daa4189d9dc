"""The mapping from fields to columns. `mapping_file` reads it, `tables` are its parts."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from writeahead.adapters.dataverse.mapping.approval import Approval
from writeahead.adapters.dataverse.mapping.free_texts import require_lengths
from writeahead.adapters.dataverse.mapping.owner_from import owner_row
from writeahead.adapters.dataverse.mapping.payloads import Party, PartyWrite, Reference, RowWrite
from writeahead.adapters.dataverse.mapping.tables import (
    DeclaredTable,
    DefaultOwner,
    KindTable,
    Table,
    Unknown,
    bind_of,
)
from writeahead.adapters.dataverse.webapi.names import Scalar, row_reference
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation

__all__ = ["NOT_COLUMNS", "TableMapping"]

# Fields that steer an operation rather than being written.
NOT_COLUMNS = {"row_id", "clear"}


class TableMapping:
    """A mapping file that has been read and checked.

    Args:
        name: The file, for messages.
        kinds: Kind of operation to table.
        tables: What operations on any table may touch.
        default_owner: The owner of new rows that name none.
        approval: What the file says of its approval.
        unknown_columns: What becomes of a field or column that is given and not mapped.
    """

    def __init__(
        self,
        name: str,
        kinds: Mapping[str, KindTable],
        tables: Mapping[str, DeclaredTable] | None = None,
        default_owner: DefaultOwner | None = None,
        *,
        approval: Approval | None = None,
        unknown_columns: Unknown = "refuse",
    ) -> None:
        self.name = name
        self.kinds = kinds
        self.tables = tables or {}
        self.default_owner = default_owner
        self.approval = approval or Approval()
        self.unknown_columns = unknown_columns

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def table(self, kind: str, operation_id: str) -> KindTable:
        """Return the table of a kind.

        Raises:
            InvalidInput: The mapping has none.
        """
        table = self.kinds.get(kind)
        if table is None:
            raise InvalidInput(f"mapping {self.name} has no table [kinds.{kind}], which {operation_id} needs")
        return table

    def sections(self) -> list[str]:
        """Every name that `named` knows."""
        return [*(f"kinds.{kind}" for kind in self.kinds), *(f"tables.{name}" for name in self.tables)]

    def named(self, name: str) -> Table | None:
        """Return ``kinds.<kind>`` or ``tables.<name>``; None if there is none."""
        section, _, rest = name.partition(".")
        found: Mapping[str, Table] = {"kinds": self.kinds, "tables": self.tables}.get(section, {})
        return found.get(rest)

    def declared(self, name: str, operation_id: str) -> DeclaredTable:
        """Return a table that operations on any table may touch.

        Raises:
            InvalidInput: The mapping has none of this name.
        """
        table = self.tables.get(name)
        if table is None:
            raise InvalidInput(
                f"mapping {self.name} has no table [tables.{name}], which {operation_id} needs: declare what"
                " may be written to it"
            )
        return table

    def owner_of(self, table: Table) -> DefaultOwner | None:
        """The owner of a table's new rows that name none."""
        return table.default_owner or self.default_owner

    def drops_unknown(self, table: Table) -> bool:
        """Whether what is given and not mapped is left out, rather than refused."""
        return (table.unknown_columns or self.unknown_columns) == "drop"

    def left_out(self, kind: str, operation_id: str, fields: BaseModel) -> list[str]:
        """The fields of a payload that have a value and are left out, since they are not mapped."""
        table = self.table(kind, operation_id)
        if not self.drops_unknown(table):
            return []
        given = [field for field in type(fields).model_fields if getattr(fields, field) is not None]
        mapped = {*table.fields(), *NOT_COLUMNS}
        return [field for field in (*given, *getattr(fields, "clear", ())) if field not in mapped]

    def write(self, operation: KeyedOperation, row_id: str, fields: BaseModel) -> RowWrite:
        """Translate a caller's payload.

        Args:
            operation: The operation; it becomes the row's marker.
            row_id: The row to write.
            fields: The payload; what is None in it is left alone.

        Raises:
            InvalidInput: A field or label that is used is not mapped, or a text is too long.
        """
        kind, operation_id = operation.kind, operation.id
        table = self.table(kind, operation_id)
        require_lengths(kind, table, operation_id, fields)
        columns: dict[str, Scalar] = {}
        left_out = self.left_out(kind, operation_id, fields)
        parties: list[PartyWrite] = []
        for field in type(fields).model_fields:
            value = getattr(fields, field)
            if field in NOT_COLUMNS or field in left_out or value is None:
                continue
            if isinstance(value, Party):
                parties.append(self._party(kind, operation_id, field, value))
                continue
            name, scalar = self._column(kind, operation_id, field, value, fields)
            columns[name] = scalar
        for field in getattr(fields, "clear", ()):
            if field in left_out:
                continue
            columns[self._plain_column(kind, operation_id, field)] = None
        default = self.owner_of(table)
        names_none = getattr(fields, "owner", False) is None and owner_row(table, columns) is None
        if names_none and default and "owner" in table.lookups:
            owner = Reference(type=default.type, id=default.id)
            name, scalar = self._column(kind, operation_id, "owner", owner, fields)
            columns[name] = scalar
        columns.update(table.mark(operation.session_id, operation_id))
        return RowWrite(entity_set=table.entity_set, row_id=row_id, columns=columns, parties=tuple(parties))

    def _party(self, kind: str, operation_id: str, field: str, party: Party) -> PartyWrite:
        parties = self.kinds[kind].parties
        mapped = parties.by_field().get(field) if parties else None
        where = f"kinds.{kind}.parties.{field}"
        if mapped is None:
            raise self._gap(f"[{where}]", operation_id)
        if party.address is not None:
            if not mapped.unresolved:
                raise self._gap(f"unresolved = true in [{where}]", operation_id)
            return PartyWrite(role=mapped.role, address=party.address)
        row = mapped.types.get(party.type or "")
        if row is None:
            raise self._gap(f"type {party.type!r} in [{where}]", operation_id)
        return PartyWrite(role=mapped.role, entity_set=row.entity_set, id=party.id)

    def _column(
        self, kind: str, operation_id: str, field: str, value: Any, fields: BaseModel
    ) -> tuple[str, Scalar]:
        table = self.kinds[kind]
        if isinstance(value, Reference):
            lookup = table.lookups.get(field, {}).get(value.type)
            if lookup is None:
                raise self._gap(f"[kinds.{kind}.lookups.{field}.{value.type}]", operation_id)
            return bind_of(lookup), row_reference(lookup.entity_set, value.id)
        if field in table.options:
            option = table.options[field]
            if value not in option.values:
                known = ", ".join(sorted(option.values))
                raise InvalidInput(
                    f"operation {operation_id}: {field} has a label that mapping {self.name} does not know;"
                    f" [kinds.{kind}.options.{field}] has {known}"
                )
            return option.column, option.values[value]
        as_json: Scalar = fields.model_dump(mode="json", include={field})[field]
        return self._plain_column(kind, operation_id, field), as_json

    def _plain_column(self, kind: str, operation_id: str, field: str) -> str:
        table = self.kinds[kind]
        if field in table.options:
            return table.options[field].column
        if field not in table.columns:
            raise self._gap(f"field {field!r} in [kinds.{kind}.columns]", operation_id)
        return table.columns[field]

    def _gap(self, what: str, operation_id: str) -> InvalidInput:
        return InvalidInput(
            f"mapping {self.name} has no {what}, which {operation_id} needs: add it, or leave the field out"
        )
