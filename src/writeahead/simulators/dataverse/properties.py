"""Which properties a payload may set, those that it can't, and those that a new row must have.

Source of what is dropped and what is required: "Column definitions", learn.microsoft.com: a value
for a column that is not valid for the operation is ignored; Dataverse requires a value for
SystemRequired columns of its own, and returns no error for ApplicationRequired ones. Source of the
two refusals of a name: "Troubleshoot Dataverse Web API client errors",
learn.microsoft.com/troubleshoot/power-platform/dataverse.
"""

from collections.abc import Mapping
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.schema import Table

__all__ = ["is_valid", "joined", "require_values", "unknown_navigation", "unknown_property"]


def is_valid(table: Table, name: str, *, new: bool) -> bool:
    """Whether a client may set a property; the primary key may always be there, as in the URL.

    Args:
        table: The row's table.
        name: The property.
        new: Whether the row is new.
    """
    column = table.properties[name]
    return name == table.primary_key or (column.creatable if new else column.updatable)


def joined(table: Table, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that the service makes of others, such as a contact's full name."""
    return {
        name: " ".join(columns[part] for part in column.joined if columns.get(part)) or None
        for name, column in table.columns.items()
        if column.joined
    }


def require_values(table: Table, columns: Mapping[str, Any]) -> None:
    """Refuse a new row without what Dataverse itself requires, such as the customer of a case.

    Raises:
        ODataError: 400. Its code and its message are choices: no source was found.
    """
    for name, column in table.properties.items():
        needed = column.required == "SystemRequired" and column.creatable and name != table.primary_key
        if needed and columns.get(name) is None:
            raise ODataError(400, ErrorCode.NONE, f"{table.logical_name}: {name} requires a value.")


def unknown_property(table: Table, name: str) -> ODataError:
    """A payload has a value for a property that its table does not have."""
    return ODataError(
        400,
        ErrorCode.NONE,
        "An error occurred while validating input parameters: Microsoft.Crm.CrmException: Invalid property "
        f"'{name}' was found in entity '{table.type_name}'. ---> Microsoft.OData.ODataException: Does not "
        "support untyped value in non-open type.",
    )


def unknown_navigation(table: Table, name: str) -> ODataError:
    """A payload binds a navigation property that its table does not have."""
    return ODataError(
        400,
        ErrorCode.PAYLOAD_INVALID,
        f"Error identified in Payload provided by the user for Entity :'{table.entity_set}'  ---->  "
        f"InnerException : Microsoft.OData.ODataException: An undeclared property '{name}' which only has "
        "property annotations in the payload but no property value was found in the payload.",
    )
