"""From the JSON that a client sends for one column to what is stored, or Dataverse's refusal."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.schema import Column, Kind, Table

__all__ = ["guid", "now", "stored_value"]


def guid(text: str) -> str:
    """A GUID as it is stored: lower case, with hyphens.

    Raises:
        ValueError: The text is not a GUID.
    """
    parsed = uuid.UUID(text)
    # uuid.UUID takes braces, URNs and bare digits as well, which the Web API does not.
    if str(parsed) != text.lower():
        raise ValueError(text)
    return str(parsed)


def now() -> str:
    """The time of a write as Dataverse shows it: UTC, in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stored_value(table: Table, name: str, column: Column, value: Any) -> Any:
    """Check a value against its column.

    Raises:
        ODataError: 400: the value is of the wrong type, too long, too large or not in the
            option set.
    """
    # Dataverse has no empty texts.
    if value is None or (value == "" and column.kind in (Kind.STRING, Kind.MEMO)):
        return None
    return _CHECKS[column.kind](table, name, column, value)


def _text(table: Table, name: str, column: Column, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong_type(column, value)
    if column.max_length is not None and _units(value) > column.max_length:
        raise ODataError(
            400,
            ErrorCode.STRING_LENGTH_TOO_LONG,
            f"A validation error occurred.  The length of the '{name}' attribute of the "
            f"'{table.logical_name}' entity exceeded the maximum allowed length of '{column.max_length}'.",
        )
    return value


def _units(text: str) -> int:
    """The length as nvarchar counts it: a character beyond U+FFFF, e.g. an emoji, counts twice.

    Source: "nchar and nvarchar (Transact-SQL)", learn.microsoft.com.
    """
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _integer(table: Table, name: str, column: Column, value: Any) -> int:
    # JSON's true is an int to Python, and no number to OData.
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(column, value)
    low = column.minimum if column.minimum is not None else -(2**31)
    high = column.maximum if column.maximum is not None else 2**31 - 1
    if not low <= value <= high:
        raise ODataError(
            400,
            ErrorCode.INVALID_ARGUMENT,
            f"A validation error occurred. The value of '{name}' on record of type "
            f"'{table.logical_name}' is outside the valid range.",
        )
    return value


def _decimal(_table: Table, _name: str, column: Column, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(column, value)
    return float(value)


def _boolean(_table: Table, _name: str, column: Column, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(column, value)
    return value


def _option(table: Table, name: str, column: Column, value: Any) -> int:
    number = _integer(table, name, column, value)
    if number not in column.options:
        accepted = ",".join(map(str, column.options))
        raise ODataError(
            400,
            ErrorCode.PICKLIST_VALUE_OUT_OF_RANGE,
            f"A validation error occurred. The value {number} of '{name}' on record of type "
            f"'{table.logical_name}' is outside the valid range. Accepted Values: {accepted}",
        )
    return number


def _datetime(_table: Table, _name: str, column: Column, value: Any) -> str:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong_type(column, value) from None
    if moment.tzinfo is None:
        raise _wrong_type(column, value)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _guid(_table: Table, _name: str, column: Column, value: Any) -> str:
    try:
        return guid(value)
    except (TypeError, ValueError, AttributeError):
        raise _wrong_type(column, value) from None


def _parties(table: Table, name: str, column: Column, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong_type(column, value)
    for party in value:
        if not isinstance(party, dict) or not isinstance(party.get("participationtypemask"), int):
            raise ODataError(
                400,
                ErrorCode.PAYLOAD_INVALID,
                f"Each item of '{name}' on record of type '{table.logical_name}' needs a "
                "'participationtypemask' of type Edm.Int32.",
            )
    return value


def _wrong_type(column: Column, value: Any) -> ODataError:
    # Dataverse repeats the literal; so does this, as clients must cope with messages that hold
    # their data.
    return ODataError(
        400,
        ErrorCode.PAYLOAD_INVALID,
        f"Error identified in Payload provided by the user. Cannot convert the literal '{value}' "
        f"to the expected type '{column.kind.edm}'.",
    )


_CHECKS: dict[Kind, Callable[[Table, str, Column, Any], Any]] = {
    Kind.STRING: _text,
    Kind.MEMO: _text,
    Kind.INTEGER: _integer,
    Kind.BIGINT: _integer,
    Kind.DECIMAL: _decimal,
    Kind.BOOLEAN: _boolean,
    Kind.DATETIME: _datetime,
    Kind.UNIQUEIDENTIFIER: _guid,
    Kind.LOOKUP: _guid,
    Kind.PICKLIST: _option,
    Kind.STATE: _option,
    Kind.STATUS: _option,
    Kind.PARTYLIST: _parties,
}
