"""Types of tables, and which of them can be written safely.

Sources, learn.microsoft.com: "EntityMetadata.TableType" and "TableTypeCode" (Standard, Virtual,
Elastic), "Create elastic tables using code" (a table is Standard if nothing is said). What is
different about elastic tables: `writeahead.adapters.dataverse.mapping.elastic`. A virtual table's
rows are in another system ("Get started with virtual tables"); no page was found that says what
conditions and row versions do there.
"""

from collections.abc import Iterator

__all__ = ["ELASTIC", "STANDARD", "table_type", "table_type_gaps"]

STANDARD, ELASTIC = "Standard", "Elastic"


def table_type(value: object) -> str:
    """The type that a definition names; Standard if it names none."""
    return value if isinstance(value, str) and value else STANDARD


def table_type_gaps(found: str, *, elastic: bool) -> Iterator[str]:
    """Say why a table can't be written, by its type.

    Args:
        found: Its type.
        elastic: Whether the mapping says that it is elastic.
    """
    if found == ELASTIC and not elastic:
        yield (
            "it is an elastic table: an upsert replaces the whole row there, and no other write can be proved"
            " harmless to replay; set elastic = true in the mapping if upsert_row may replace its rows"
        )
    elif found != ELASTIC and elastic:
        yield "it is no elastic table: leave elastic out of the mapping"
    elif found not in {STANDARD, ELASTIC}:
        # Not what it is called: that text is the remote's.
        what = "a virtual" if found == "Virtual" else "no standard"
        yield f"it is {what} table: what conditions and row versions do there is not documented"
