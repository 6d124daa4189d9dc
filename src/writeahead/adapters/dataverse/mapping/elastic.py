"""What may be done to an elastic table: nothing but to replace whole rows, by `upsert_row`.

Sources, learn.microsoft.com: "Use Upsert to create or update a record" and "Use elastic tables
using code" (an upsert overwrites all of a row; GUID and ``partitionid`` identify a row, and the
body of an upsert has the latter), "Elastic tables for developers" (a read without a session token
may not show the latest write; a change set is no transaction). No page was found that says what
``If-None-Match: *`` or a version in ``If-Match`` does to an elastic table. So a create, an update
and a read-back prove nothing there, and are refused.
"""

from collections.abc import Mapping
from typing import Any

from writeahead.adapters.dataverse.mapping.payloads import RowWrite
from writeahead.adapters.dataverse.mapping.tables import DeclaredTable, Table
from writeahead.model import ReplayClass

__all__ = ["elastic_problem", "elastic_setting_problem", "replacement_warnings"]


# Of what a caller loaded, and of what planning saw.
_CONDITIONS = ("etag", "columns", "guarded", "absent")


def elastic_problem(
    table: Table, write: RowWrite, replay: ReplayClass, precondition: Mapping[str, Any] | None
) -> str | None:
    """Say why a write can't be made because its table is elastic; None if it can.

    Args:
        table: Of the mapping.
        write: The row.
        replay: How it is written.
        precondition: What the row must be like; of a plan, or what a caller has loaded.
    """
    if not table.replaces_rows():
        return None
    if replay is not ReplayClass.UPSERT:
        return "its table is elastic, where only upsert_row can be proved harmless to replay"
    if write.row_id is None:
        return "its table is elastic, where upsert_row must name the row by row_id"
    if any((precondition or {}).get(name) for name in _CONDITIONS):
        return "its table is elastic, where a row can't be held against a baseline: leave the baseline out"
    return None


def elastic_setting_problem(table: DeclaredTable) -> str | None:
    """Say which setting of an elastic table can't be kept; None if all can."""
    named = {
        "guarded": table.guarded,
        "preserve": table.preserve,
        "alternate_keys": table.alternate_keys,
        "completion": table.completion,
        "find_by": table.find_by,
    }
    unusable = [name for name, value in named.items() if value] if table.elastic else []
    if not unusable:
        return None
    return f"elastic tables take no conditions and no keys of their own: leave out {', '.join(unusable)}"


def replacement_warnings(table: Table) -> tuple[str, ...]:
    """Warn that columns which are not written are emptied."""
    if not table.replaces_rows():
        return ()
    return ("its table is elastic: the whole row is replaced, and columns that are not written are emptied",)
