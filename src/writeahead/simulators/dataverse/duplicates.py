"""Duplicate detection: rows that a rule takes for the same, refused where the client asks for it.

Source: "Detect duplicate data using the Web API", learn.microsoft.com
(power-apps/developer/data-platform/webapi): only with ``MSCRM.SuppressDuplicateDetection: false``.
"""

from collections.abc import Mapping, Sequence

from writeahead.simulators.dataverse.keys import key_query
from writeahead.simulators.dataverse.messages import ApiRequest
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.record import Record
from writeahead.simulators.dataverse.records import Records

__all__ = ["Duplicates"]


class Duplicates:
    """Refuses duplicates.

    Args:
        records: The rows.
        rules: By entity set, the properties that make two rows duplicates.
    """

    def __init__(self, records: Records, rules: Mapping[str, Sequence[str]]) -> None:
        self._records = records
        self._rules = rules

    def refuse(self, request: ApiRequest, record: Record) -> None:
        """Look for a duplicate of a row that was just written.

        Raises:
            ODataError: 500: there is one, and the client asks; the caller rolls back.
        """
        names = self._rules.get(record.table.entity_set, ())
        values = {name: record.columns.get(name) for name in names}
        asked = request.headers.get("mscrm.suppressduplicatedetection", "").strip().lower() == "false"
        if not asked or not values or None in values.values():
            return
        alike = self._records.select(record.table, key_query(values, record.table))
        if any(other.id != record.id for other in alike):
            raise ODataError(
                500,
                ErrorCode.DUPLICATE_RECORDS_FOUND,
                "A record was not created or updated because a duplicate of the current record already "
                "exists.",
            )
