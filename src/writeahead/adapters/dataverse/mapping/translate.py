"""From operations on declared tables, and from completions, to writes of rows."""

import re
from collections.abc import Iterable, Mapping, Sequence

from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.payloads import PartyWrite, RowWrite
from writeahead.adapters.dataverse.mapping.row_payloads import (
    CompleteActivity,
    CreateRow,
    RowParty,
    RowReference,
)
from writeahead.adapters.dataverse.mapping.tables import (
    DeclaredTable,
    KindTable,
    OptionSet,
    Table,
    are_some_of,
)
from writeahead.adapters.dataverse.webapi.names import BIND, Scalar, row_reference
from writeahead.adapters.dataverse.webapi.paths import row_path
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation, idempotency_key

__all__ = [
    "completion",
    "has_phone_format",
    "missing_numbers",
    "phone_warnings",
    "row_write",
    "table_of",
    "unmapped",
    "with_owner",
    "with_targets",
]

_OWNER = "ownerid"
COMPLETE = "complete_activity"
CALL = "phone_call_activity"
GENERIC = ("create_row", "update_row", "upsert_row")
# E.164: a plus, at most 15 digits, the first of them no zero. The minimum of 7 is our own guess.
_PHONE = re.compile(r"\+ ?[1-9](?:[ ().\-/]{0,3}[0-9]){6,14}")


def row_write(
    mapping: TableMapping,
    operation: KeyedOperation,
    name: str,
    given: Mapping[str, RowReference | Scalar],
    row: str | Mapping[str, Scalar],
    *,
    parties: Sequence[RowParty] = (),
) -> RowWrite:
    """Translate an operation on any table.

    Args:
        mapping: What may be written.
        operation: The operation; it becomes the row's marker.
        name: What the mapping calls the table.
        given: Columns and lookups.
        row: The row's GUID, or the columns of an alternate key with their values.
        parties: Of a new activity.

    Raises:
        InvalidInput: The table is not declared; a column, a label, the target of a lookup, a party
            or the key is not approved; or no column is left.
    """
    table = mapping.declared(name, operation.id)
    where = f"[tables.{name}]"
    columns: dict[str, Scalar] = {}
    left_out = unmapped(mapping, operation, name, given)
    for column, value in given.items():
        if column in left_out:
            continue
        if isinstance(value, RowReference):
            column, value = column + BIND, _target(mapping, operation, value)  # noqa: PLW2901
        elif isinstance(value, str) and column in table.options:
            value = _labelled(mapping, operation, name, column, value)  # noqa: PLW2901
        if column in table.own_columns() or not table.approves(column, value):
            raise InvalidInput(
                f"operation {operation.id}: {column} may not be written so: {where} of mapping {mapping.name}"
                " must have it in columns or lookups"
            )
        columns[column] = value
    # The owner may be the default one, which the payload does not name.
    if left_out and not set(columns) - {_OWNER + BIND}:
        raise InvalidInput(
            f"operation {operation.id}: nothing is left to write, for {where} of mapping {mapping.name} names"
            f" none of its columns"
        )
    columns |= table.mark(operation.session_id, operation.id)
    if isinstance(row, str):
        return RowWrite(
            entity_set=table.entity_set,
            row_id=row,
            columns=columns,
            table=f"tables.{name}",
            parties=_parties(mapping, operation, name, parties),
        )
    if not table.is_key(row):
        raise InvalidInput(
            f"operation {operation.id}: {', '.join(sorted(row))} is no alternate key that {where} of mapping"
            f" {mapping.name} has in alternate_keys"
        )
    repeated = sorted(set(row) & set(columns))
    if repeated:
        raise InvalidInput(
            f"operation {operation.id}: columns repeats {repeated[0]}, which is part of the key: leave it out"
        )
    row_path(table.entity_set, row)  # refuses what can't be part of a URL
    return RowWrite(entity_set=table.entity_set, key=dict(row), columns=columns, table=f"tables.{name}")


def unmapped(mapping: TableMapping, operation: KeyedOperation, name: str, given: Iterable[str]) -> list[str]:
    """The columns that are given and left out, since the mapping does not name them and says so.

    Raises:
        InvalidInput: The table is not declared.
    """
    table = mapping.declared(name, operation.id)
    return [column for column in given if not table.names(column)] if mapping.drops_unknown(table) else []


def _labelled(
    mapping: TableMapping, operation: KeyedOperation, name: str, column: str, label: str
) -> int | bool | str:
    values = mapping.declared(name, operation.id).options[column]
    if label not in values and are_some_of(label, values):
        return label  # several options
    if label not in values:
        raise InvalidInput(
            f"operation {operation.id}: {column} has a label that mapping {mapping.name} does not know;"
            f" [tables.{name}.options] has {', '.join(sorted(values))}"
        )
    return values[label]


def with_owner(
    mapping: TableMapping, operation: KeyedOperation, payload: CreateRow
) -> Mapping[str, RowReference | Scalar]:
    """The columns of a new row, with the default owner if none is named and one is possible.

    A row that has ``owner_from`` set gets its owner later: see `owner_from`.
    """
    table = mapping.declared(payload.table, operation.id)
    owner = mapping.owner_of(table)
    if owner is None or _OWNER in payload.columns or table.owner_from in payload.columns:
        return payload.columns
    reference = RowReference(entity_set=owner.entity_set, id=owner.id)
    if not table.approves(_OWNER + BIND, row_reference(owner.entity_set, owner.id)):
        return payload.columns
    return {**payload.columns, _OWNER: reference}


def completion(mapping: TableMapping, operation: KeyedOperation, payload: CompleteActivity) -> RowWrite:
    """Translate the completion of an activity into an update.

    Raises:
        InvalidInput: The mapping does not let rows of the table be completed, or does not know a
            label.
    """
    source = payload.table or ""
    if "." not in source:
        source = f"kinds.{source}" if source in mapping.kinds else f"tables.{source}"
    closing = _closing(mapping, source)
    if closing is None:
        raise InvalidInput(
            f"operation {operation.id}: mapping {mapping.name} has no [{source}.completion], which says what"
            " closes a row: add it"
        )
    columns: dict[str, Scalar] = {}
    for what, value in (("state", payload.state), ("status", payload.status)):
        if value is None:
            continue
        option = closing.options.get(what, OptionSet.model_construct(column="", values={}))
        number = value if value in option.values.values() else option.values.get(str(value))
        if number is None:
            raise InvalidInput(
                f"operation {operation.id}: {what} is none that mapping {mapping.name} has in"
                f" [{source}.completion]: {', '.join(sorted(option.values)) or 'there are none'}"
            )
        columns[option.column] = number
    columns |= closing.mark(operation.session_id, operation.id)
    row_id = payload.row_id or idempotency_key(operation.session_id, payload.operation or "")
    return RowWrite(entity_set=closing.entity_set, row_id=row_id, columns=columns, table=source)


def with_targets(
    operations: Sequence[KeyedOperation], creates: Mapping[str, str | None]
) -> list[KeyedOperation]:
    """Give operations on rows that the session itself creates the tables of those rows.

    Args:
        operations: Of the session, in order.
        creates: The kinds that create a row; the value is the payload's field with the table's
            name, or None where the kind is the name.

    Raises:
        InvalidInput: No operation before creates the row that one is about, or it is in another
            table.
    """
    tables: dict[str, tuple[str, str]] = {}
    found = []
    for operation in operations:
        if operation.kind in creates:
            field = creates[operation.kind]
            name = operation.payload.get(field) if field else operation.kind
            if isinstance(name, str):
                tables[operation.id] = name, f"{'tables' if field else 'kinds'}.{name}"
        target = operation.payload.get("operation")
        if operation.kind not in {COMPLETE, "update_row"} or target is None:
            found.append(operation)
            continue
        made = tables.get(target) if isinstance(target, str) else None
        if made is None:
            raise InvalidInput(
                f"operation {operation.id}: payload.operation must name one before it that creates a row"
            )
        if operation.payload.get("table", made[0]) not in made:
            raise InvalidInput(f"operation {operation.id}: the row that it names is not in its table")
        # A kind and a table may have the same name.
        table = made[operation.kind == COMPLETE]
        found.append(operation.model_copy(update={"payload": {**operation.payload, "table": table}}))
    return found


def table_of(mapping: TableMapping, kind: str, operation_id: str, write: RowWrite) -> Table | None:
    """Return the table that a planned write is approved by; None if the mapping has none.

    Raises:
        InvalidInput: The mapping has none for a named kind.
    """
    if kind == COMPLETE:
        return _closing(mapping, write.table or "")
    if kind in GENERIC:
        found = mapping.named(write.table or "")
        return found if isinstance(found, DeclaredTable) else None
    return mapping.table(kind, operation_id) if write.table is None else None


def has_phone_format(value: object) -> bool:
    """Whether this is a telephone number in E.164 format, with the usual separators."""
    return isinstance(value, str) and _PHONE.fullmatch(value.strip()) is not None


def phone_warnings(columns: Mapping[str, object]) -> tuple[str, ...]:
    """Warn of telephone numbers that are not in E.164 format; they are written as they are."""
    return tuple(
        f"{name} is no number in international format (+, country code, 7 to 15 digits)"
        for name, value in columns.items()
        if value is not None and not has_phone_format(value)
    )


def missing_numbers(kind: str, table: Table, write: RowWrite) -> tuple[str, ...]:
    """Name the telephone numbers that a write lacks: that of a call, and those it would empty."""
    if kind == CALL and isinstance(table, KindTable):
        column = table.columns.get("phone_number")
        missing = column is not None and not write.columns.get(column)
        return ("phone_number is missing: a call needs the number that was dialled",) if missing else ()
    phones = table.phones if isinstance(table, DeclaredTable) else ()
    return tuple(
        f"{name} is a telephone number, and is empty: leave it out, or give one"
        for name in phones
        if name in write.columns and not write.columns[name]
    )


def _closing(mapping: TableMapping, source: str) -> KindTable | None:
    table = mapping.named(source)
    return table.completing() if table else None


def _parties(
    mapping: TableMapping, operation: KeyedOperation, name: str, given: Sequence[RowParty]
) -> tuple[PartyWrite, ...]:
    approved = mapping.declared(name, operation.id).approved_parties()
    found: list[PartyWrite] = []
    for party in given:
        entity_set = party.entity_set
        if party.table is not None:
            entity_set = mapping.declared(party.table, operation.id).entity_set
        found.append(PartyWrite(role=party.role, entity_set=entity_set, id=party.id, address=party.address))
        if approved is None or not approved.approves(found[-1]):
            what = entity_set or "an address"
            raise InvalidInput(
                f"operation {operation.id}: {what} may not be a party of role {party.role!r}:"
                f" [tables.{name}.parties] of mapping {mapping.name} must approve it"
            )
        if found[-1] in found[:-1]:
            raise InvalidInput(f"operation {operation.id}: parties has one of role {party.role!r} twice")
    return tuple(found)


def _target(mapping: TableMapping, operation: KeyedOperation, reference: RowReference) -> str:
    entity_set = reference.entity_set
    if entity_set is None:
        entity_set = mapping.declared(reference.table or "", operation.id).entity_set
    return row_reference(entity_set, reference.id)
