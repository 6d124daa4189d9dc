"""From the JSON that a client sends for one column to what is stored, or Dataverse's refusal.

Sources, learn.microsoft.com: "Data Validation and Default Values" (previous versions: too many
decimals are rounded, and are no error), "MoneyAttributeMetadata.PrecisionSource Property",
"Behavior and format of the date and time column" (DateOnly is Edm.Date, nothing is earlier than
1753), "Choices columns" (a text of comma-separated values, at most 150). That a moment for Edm.Date
is refused: microsoft/PowerPlatform-DataverseServiceClient, issue 80.
"""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.schema import Column, Kind, Table

__all__ = ["guid", "now", "stored_value"]

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CHOSEN = re.compile(r"\s*-?\d{1,10}\s*(,\s*-?\d{1,10}\s*)*", re.ASCII)
_MOST_CHOSEN = 150
_EARLIEST = 1753


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
    if value is None or (value == "" and column.kind in _TEXTS):
        return None
    stored = _CHECKS[column.kind](table, name, column, value)
    return column.keeps(value) if column.keeps else stored


_TEXTS = {Kind.STRING, Kind.MEMO, Kind.MULTI_SELECT_PICKLIST}


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
        raise _out_of_range(table, name)
    return value


def _amount(table: Table, name: str, column: Column, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(column, value)
    if column.minimum is not None and value < column.minimum:
        raise _out_of_range(table, name)
    if column.maximum is not None and value > column.maximum:
        raise _out_of_range(table, name)
    digits = column.other_precision if column.precision_source else column.precision
    if digits is None:
        return float(value)
    step = Decimal(1).scaleb(-digits)
    return float(Decimal(repr(value)).quantize(step, rounding=column.rounding, context=Context(prec=400)))


def _boolean(_table: Table, _name: str, column: Column, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(column, value)
    return value


def _option(table: Table, name: str, column: Column, value: Any) -> int:
    number = _integer(table, name, column, value)
    _require_option(table, name, column, number)
    return number


def _require_option(table: Table, name: str, column: Column, number: int) -> None:
    if number not in column.options:
        accepted = ",".join(map(str, column.options))
        raise ODataError(
            400,
            ErrorCode.PICKLIST_VALUE_OUT_OF_RANGE,
            f"A validation error occurred. The value {number} of '{name}' on record of type "
            f"'{table.logical_name}' is outside the valid range. Accepted Values: {accepted}",
        )


def _choices(table: Table, name: str, column: Column, value: Any) -> str:
    """Several options as one text; shown without blanks, and in the order of their values.

    Microsoft's example sends "1, 9" and reads "1,9". That the order is that of the values is what
    all its examples have, and is written nowhere.
    """
    if not isinstance(value, str) or not _CHOSEN.fullmatch(value):
        raise _wrong_type(column, value)
    numbers = sorted({int(part) for part in value.split(",")})
    for number in numbers:
        _require_option(table, name, column, number)
    if len(numbers) > _MOST_CHOSEN:
        raise _out_of_range(table, name)
    return ",".join(map(str, numbers))


def _datetime(table: Table, name: str, column: Column, value: Any) -> str:
    if column.behavior == "DateOnly":
        return _date(table, name, column, value)
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _wrong_type(column, value) from None
    if moment.tzinfo is None:
        raise _wrong_type(column, value)
    if moment.year < _EARLIEST:
        raise _out_of_range(table, name)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _date(table: Table, name: str, column: Column, value: Any) -> str:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise _wrong_type(column, value)
    try:
        day = date.fromisoformat(value)
    except ValueError:
        raise _wrong_type(column, value) from None
    if day.year < _EARLIEST:
        raise _out_of_range(table, name)
    return value


def _guid(_table: Table, _name: str, column: Column, value: Any) -> str:
    try:
        return guid(value)
    except (TypeError, ValueError, AttributeError):
        raise _wrong_type(column, value) from None


def _out_of_range(table: Table, name: str) -> ODataError:
    return ODataError(
        400,
        ErrorCode.INVALID_ARGUMENT,
        f"A validation error occurred. The value of '{name}' on record of type "
        f"'{table.logical_name}' is outside the valid range.",
    )


def _wrong_type(column: Column, value: Any) -> ODataError:
    # Dataverse repeats the literal; so does this, as clients must cope with messages that hold
    # their data.
    return ODataError(
        400,
        ErrorCode.PAYLOAD_INVALID,
        f"Error identified in Payload provided by the user. Cannot convert the literal '{value}' "
        f"to the expected type '{column.edm}'.",
    )


_CHECKS: dict[Kind, Callable[[Table, str, Column, Any], Any]] = {
    Kind.STRING: _text,
    Kind.MEMO: _text,
    Kind.INTEGER: _integer,
    Kind.BIGINT: _integer,
    Kind.DECIMAL: _amount,
    Kind.DOUBLE: _amount,
    Kind.MONEY: _amount,
    Kind.BOOLEAN: _boolean,
    Kind.DATETIME: _datetime,
    Kind.UNIQUEIDENTIFIER: _guid,
    Kind.LOOKUP: _guid,
    Kind.PICKLIST: _option,
    Kind.MULTI_SELECT_PICKLIST: _choices,
    Kind.STATE: _option,
    Kind.STATUS: _option,
}
