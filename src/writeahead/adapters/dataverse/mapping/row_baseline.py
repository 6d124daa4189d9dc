"""What a row was like when a caller loaded it, which can be long before the plan."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from writeahead.adapters.dataverse.mapping.mapping import TableMapping
from writeahead.adapters.dataverse.mapping.tables import Table
from writeahead.adapters.dataverse.webapi.names import ETAG, Scalar
from writeahead.errors import InvalidInput

__all__ = ["RowBaseline", "columns_to_load", "require_known", "table_to_load"]

_ReadName = Annotated[str, StringConstraints(pattern=r"^_?[a-z][a-z0-9_]{0,127}$")]


class RowBaseline(BaseModel):
    """A row as a caller has loaded it; `DataverseAdapter.read_baseline` makes one.

    Attributes:
        etag: Its version (``@odata.etag``); None if it is not known.
        columns: Columns with their values, as the Web API shows them: by logical name, a lookup as
            ``_<column>_value``. With the etag they may be left out: then a row of any other version
            is a conflict.

    Raises:
        pydantic.ValidationError: It says nothing, or a field can't be used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    etag: Annotated[str, StringConstraints(pattern=f"^{ETAG.pattern}$", max_length=200)] | None = None
    columns: dict[_ReadName, Scalar] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.etag is None and not self.columns:
            raise ValueError("etag or columns must say what the row was like")
        return self


def table_to_load(mapping: TableMapping, name: str) -> Table:
    """Return the table of a kind, or one that is declared.

    Args:
        mapping: Has both.
        name: ``queue_status_update``, ``contact``; ``kinds.task`` or ``tables.task`` where both are
            there.

    Raises:
        InvalidInput: The mapping has none of this name, or two.
    """
    qualified = [name] if "." in name else [f"kinds.{name}", f"tables.{name}"]
    found = [table for table in map(mapping.named, qualified) if table is not None]
    if not found:
        raise InvalidInput(f"mapping {mapping.name} has no [{'] or ['.join(qualified)}]: declare the table")
    if len(found) > 1:
        raise InvalidInput(f"mapping {mapping.name} has both: say which, {' or '.join(qualified)}")
    return found[0]


def columns_to_load(table: Table, names: Sequence[str] | None = None) -> list[str]:
    """The columns of a baseline, as they are read: the key, what is watched, what may be written.

    Args:
        table: Of the mapping.
        names: What is to be written, if that is known: columns and navigation properties. None for
            all that may be.

    Raises:
        InvalidInput: The mapping does not know a name.
    """
    closing = table.completing()
    watched = [table.key, *table.watched_columns(), *(closing.watched_columns() if closing else ())]
    known = {name: name for name in (*watched, *table.written())}
    for lookups in table.lookups_by_bind().values():
        if lookups[0].column:
            read = f"_{lookups[0].column}_value"
            known |= {read: read, lookups[0].navigation: read}
    if names is None:
        return list(dict.fromkeys([*watched, *known.values()]))
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise _unknown("", table.entity_set, unknown)
    return list(dict.fromkeys([*watched, *(known[name] for name in names)]))


def require_known(mapping: TableMapping, operation_id: str, entity_set: str, loaded: RowBaseline) -> None:
    """Refuse a column that no operation would watch, though the caller may count on it.

    Raises:
        InvalidInput: No table of the mapping has it; a row may be loaded as one and written as
            another.
    """
    tables = [*mapping.kinds.values(), *mapping.tables.values()]
    known = {x for table in tables if table.entity_set == entity_set for x in columns_to_load(table)}
    unknown = sorted(set(loaded.columns) - known)
    if unknown:
        raise _unknown(f"operation {operation_id}: the baseline: ", entity_set, unknown)


def _unknown(where: str, entity_set: str, names: Sequence[str]) -> InvalidInput:
    return InvalidInput(
        f"{where}the mapping does not know {', '.join(names)} of {entity_set}: put it in columns, or in"
        " guarded if it is only to be watched"
    )
