"""An elastic table, for a schema."""

from writeahead.simulators.dataverse import Column, Kind, Table

__all__ = ["READING"]

READING = Table(
    entity_set="wa_readings",
    logical_name="wa_reading",
    primary_key="wa_readingid",
    primary_name="wa_sensor",
    elastic=True,
    columns={
        "wa_readingid": Column(kind=Kind.UNIQUEIDENTIFIER),
        "wa_sensor": Column(kind=Kind.STRING, max_length=100),
        "wa_value": Column(kind=Kind.INTEGER),
        "createdon": Column(kind=Kind.DATETIME, creatable=False, updatable=False),
    },
)
