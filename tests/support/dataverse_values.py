"""A schema whose phone calls have a column of each sort that a service makes something else of."""

from dataclasses import replace

from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Column, Kind, Schema

__all__ = ["COLUMNS", "schema_of"]

COLUMNS = {
    "wa_amount": Column(kind=Kind.MONEY, precision=2),
    "wa_price": Column(kind=Kind.MONEY, precision=2, precision_source=2, other_precision=0),
    "wa_rate": Column(kind=Kind.DECIMAL, precision=3, minimum=0, maximum=100),
    "wa_ratio": Column(kind=Kind.DOUBLE, precision=4),
    "wa_day": Column(kind=Kind.DATETIME, behavior="DateOnly", format="DateOnly"),
    "wa_localday": Column(kind=Kind.DATETIME, format="DateOnly"),
    "wa_checkin": Column(kind=Kind.DATETIME, behavior="TimeZoneIndependent"),
    "wa_topics": Column(
        kind=Kind.MULTI_SELECT_PICKLIST, options={1: "Price", 2: "Delivery", 9: "Other", 12: "Thanks"}
    ),
    "wa_motto": Column(kind=Kind.STRING, max_length=20),
}


def schema_of(**other: Column) -> Schema:
    """The default schema with these columns in ``phonecalls``; a keyword replaces or adds one.

    Nothing is required there: parties are the subject of other tests.
    """
    calls = DEFAULT_SCHEMA.get("phonecalls")
    assert calls is not None
    optional = {name: replace(column, required="None") for name, column in calls.columns.items()}
    return DEFAULT_SCHEMA.with_tables(replace(calls, columns={**optional, **COLUMNS, **other}))
