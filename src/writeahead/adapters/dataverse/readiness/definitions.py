"""Whether an environment can take what is planned, by its own table definitions.

All gaps are named at once, before anything is persisted or sent. Only the tables that a session
writes are looked at, so a mapping may know more than one environment has.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from writeahead.adapters.dataverse.readiness.cache import MAX_AGE, TimedCache
from writeahead.adapters.dataverse.readiness.checks import (
    WriteRequirements,
    gaps_of,
    plain_columns,
    set_lookups,
)
from writeahead.adapters.dataverse.readiness.metadata import TableDefinition, logical_names, read_tables
from writeahead.adapters.dataverse.readiness.parties import ACTIVITY_PARTIES, ADDRESS
from writeahead.adapters.dataverse.webapi.client import DataverseClient
from writeahead.adapters.dataverse.webapi.errors import PermanentDataverseError
from writeahead.errors import InvalidInput, NotReady

__all__ = ["Definitions"]


@dataclass(frozen=True)
class _Known:
    """A definition, and the columns whose lengths and options were read with it."""

    columns: frozenset[str]
    table: TableDefinition | None


class Definitions:
    """Compares planned writes with live table definitions. Safe to share between threads.

    Args:
        client: Of the environment.
        max_age: Seconds that a definition is trusted for.
        monotonic: Seconds on a clock that is never set; for tests.
    """

    def __init__(
        self,
        client: DataverseClient,
        *,
        max_age: float = MAX_AGE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._tables = TimedCache[_Known](max_age, monotonic)
        self._names = TimedCache[str | None](max_age, monotonic)

    def require(self, writes: Sequence[WriteRequirements]) -> dict[str, TableDefinition]:
        """Check planned writes.

        Returns:
            The definitions of their tables, by entity set.

        Raises:
            NotReady: Some can't be carried out; it names every gap.
            TransientDataverseError: The definitions could not be read now.
        """
        gaps, is_fresh, tables = self._gaps(writes)
        if gaps and not is_fresh:
            # An administrator may have fixed it since it was read.
            self._tables.clear()
            self._names.clear()
            gaps, _, tables = self._gaps(writes)
        if gaps:
            raise NotReady(*dict.fromkeys(gaps))
        return tables

    def _gaps(
        self, writes: Sequence[WriteRequirements]
    ) -> tuple[list[str], bool, dict[str, TableDefinition]]:
        """All gaps, whether all that they rest on was read just now, and the tables there are."""
        columns: dict[str, set[str]] = {}
        for write in writes:
            columns.setdefault(write.entity_set, set()).update(plain_columns(write.columns))
        targets = {target for write in writes for _, target in set_lookups(write.columns)}
        targets |= {party.entity_set for write in writes for party in write.parties.given if party.entity_set}
        for given in (given for write in writes for given in write.parties.given):
            asked = columns.setdefault(ACTIVITY_PARTIES, set())
            asked |= {ADDRESS} if given.address is not None else set()

        def read(missing: Collection[str]) -> dict[str, _Known]:
            # With what was known before: two sorts of session must not take turns at reading.
            wanted = {name: columns[name] | self._known_columns(name) for name in missing}
            found = read_tables(self._client, wanted)
            return {name: _Known(frozenset(wanted[name]), found.get(name)) for name in missing}

        def read_names(missing: Collection[str]) -> dict[str, str | None]:
            return dict.fromkeys(missing) | logical_names(self._client, missing)

        try:
            tables, is_fresh = self._tables.fetch(
                columns, read, lambda name, known: columns[name] <= known.columns
            )
            names, are_fresh = self._names.fetch(targets, read_names)
        except (PermanentDataverseError, InvalidInput) as error:
            raise NotReady(
                f"the table definitions can't be read: {error}: let the application read them, or set"
                ' readiness = "off"'
            ) from None
        there = {name: known.table for name, known in tables.items() if known.table is not None}
        activity_party = tables[ACTIVITY_PARTIES].table if ACTIVITY_PARTIES in tables else None
        gaps = [
            gap
            for write in writes
            for gap in gaps_of(write, tables[write.entity_set].table, names, activity_party)
        ]
        return gaps, is_fresh and are_fresh, there

    def _known_columns(self, name: str) -> frozenset[str]:
        known = self._tables.peek(name)
        return known.columns if known else frozenset()
