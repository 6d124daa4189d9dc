"""A stored row, and what a client sees of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from writeahead.simulators.dataverse.schema import Kind, Table

__all__ = ["Record"]


@dataclass(frozen=True)
class Record:
    """A stored row."""

    table: Table
    id: str
    version: int
    columns: Mapping[str, Any]

    @property
    def etag(self) -> str:
        """The row's version as the Web API shows it: a weak entity tag."""
        return f'W/"{self.version}"'

    @property
    def path(self) -> str:
        """The row's path below the service root."""
        return f"{self.table.entity_set}({self.id})"

    def body(self, select: Iterable[str] | None = None) -> dict[str, Any]:
        """The row's JSON; the primary key is always in it, columns without a value are null."""
        own = {**self.columns, self.table.primary_key: self.id, "versionnumber": self.version}
        if select is None:
            # Activity parties come back by $expand only.
            names: Iterable[str] = (
                name for name, column in self.table.properties.items() if column.kind is not Kind.PARTYLIST
            )
        else:
            names = dict.fromkeys([*select, self.table.primary_key])
        return {"@odata.etag": self.etag, **{name: own.get(name) for name in names}}
