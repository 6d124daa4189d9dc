"""What a column makes of a value, by its definition: whether it takes it, and what it stores.

Sources, learn.microsoft.com: "Web API Properties" (types), "Data Validation and Default Values"
(previous versions: of all that does not fit, too many decimals alone are no error but rounded),
"MoneyAttributeMetadata.PrecisionSource Property" (whose decimals count), "Behavior and format of
the date and time column" (DateOnly is a date in the Web API, the others are moments; nothing is
earlier than 1753), "Choices columns" (a text of comma-separated values, at most 150 of them),
"nchar and nvarchar (Transact-SQL)" (lengths).

No source says how a value in the middle of two is rounded, in which order choices are shown, what
becomes of an offset where there are no time zones, or which time of the day a user's date has. Each
of these is taken for ours, whichever the service chooses.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import Any

from writeahead.adapters.dataverse.mapping.free_texts import units
from writeahead.adapters.dataverse.mapping.plans import StoredValue
from writeahead.adapters.dataverse.readiness.metadata import ColumnDefinition
from writeahead.adapters.dataverse.webapi.names import Scalar

__all__ = ["problems_of", "stored_value"]

# Edm.Date and Edm.DateTimeOffset, with its offset: "OData JSON Format 4.01", section 7.1. Python
# takes more.
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,12})?)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_CHOSEN = re.compile(r"\s*-?\d{1,10}\s*(,\s*-?\d{1,10}\s*)*", re.ASCII)
_MOST_CHOSEN = 150
_EARLIEST = 1753
_LAST = datetime.max.replace(microsecond=0, tzinfo=UTC) - timedelta(seconds=1)
# Enough for every float with all its digits.
_EXACT = Context(prec=800)


def _is_date(value: object) -> bool:
    return isinstance(value, str) and bool(_DATE.fullmatch(value)) and _parsed(value) is not None


def _is_moment(value: object) -> bool:
    return isinstance(value, str) and bool(_MOMENT.fullmatch(value)) and _parsed(value) is not None


def _parsed(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
        # There is no year 10000, in UTC neither.
        return found.astimezone(UTC) if found.tzinfo else found
    except (ValueError, OverflowError):
        return None


# What the Web API takes for a column of each AttributeType ("Web API types and operations").
_TYPES: Mapping[str, Callable[[object], bool]] = {
    "String": lambda value: isinstance(value, str),
    "Memo": lambda value: isinstance(value, str),
    "Integer": lambda value: type(value) is int,
    "BigInt": lambda value: type(value) is int,
    "Boolean": lambda value: type(value) is bool,
    "DateTime": lambda value: _is_date(value) or _is_moment(value),
    "Decimal": lambda value: type(value) in (int, float),
    "Double": lambda value: type(value) in (int, float),
    "Money": lambda value: type(value) in (int, float),
}


def problems_of(value: Any, column: ColumnDefinition) -> Iterator[str]:
    """Say why a value does not fit into a column; the value is not repeated."""
    if column.type == "MultiSelectPicklist":
        yield from _problems_of_choices(value, column)
        return
    if column.type in _TYPES and not _TYPES[column.type](value):
        yield f"is of type {column.type}, and the planned value is not"
    elif column.type == "DateTime":
        yield from _problems_of_moment(value, column)
    elif type(value) in (int, float) and not column.minimum <= value <= column.maximum:
        yield f"holds {column.minimum:g} to {column.maximum:g}, and not what is planned"
    if column.max_length is not None and isinstance(value, str):
        yield from _problems_of_length(value, column.max_length)
    if column.options and not any(_same(value, known) for known in column.options):
        yield "has no such option as is planned: check the values in the mapping"


def _problems_of_length(value: str, most: int) -> Iterator[str]:
    length = units(value)
    if length > most:
        counted = ", since an emoji counts as two" if length != len(value) else ""
        yield f"holds {most} characters, and {length} are planned{counted}"


def _problems_of_moment(value: str, column: ColumnDefinition) -> Iterator[str]:
    if column.behavior == "DateOnly" and not _is_date(value):
        yield "holds a date, such as 2026-03-05, and a moment is planned: leave out the time"
    elif column.behavior not in (None, "DateOnly") and not _is_moment(value):
        yield "holds a moment, such as 2026-03-05T00:00:00Z, and a date is planned: add the time"
    elif int(value[:4]) < _EARLIEST:
        yield f"holds nothing earlier than {_EARLIEST}, and that is planned"


def _problems_of_choices(value: object, column: ColumnDefinition) -> Iterator[str]:
    if value == "":
        return  # as null: there are no empty texts
    if not isinstance(value, str) or not _CHOSEN.fullmatch(value):
        yield 'holds several options: give their values as a list, [1, 9], or as a text, "1,9"'
        return
    chosen = _chosen(value)
    if column.options and not all(number in column.options for number in chosen):
        yield "has no such option as is planned: check the values"
    if len(chosen) > _MOST_CHOSEN:
        yield f"holds {_MOST_CHOSEN} options, and {len(chosen)} are planned"


def stored_value(name: str, value: Any, column: ColumnDefinition) -> StoredValue | None:
    """Say what the service may make of a value that fits.

    Args:
        name: The column's, for the warning.
        value: What is written.
        column: The column's definition.

    Returns:
        None if the column reads then as what was written.
    """
    if column.type in ("Money", "Decimal", "Double") and type(value) in (int, float):
        found = _stored_amount(name, value, column)
    elif column.type == "DateTime" and column.behavior != "DateOnly" and _is_moment(value):
        found = _stored_moment(name, value, column)
    elif column.type == "MultiSelectPicklist" and isinstance(value, str) and _CHOSEN.fullmatch(value):
        found = StoredValue(_shown_choices(value, column))
    else:
        return None
    forms = tuple(form for form in dict.fromkeys(found.forms) if form != value)
    return StoredValue(forms, found.warning) if forms or found.warning else None


def _stored_amount(name: str, value: float, column: ColumnDefinition) -> StoredValue:
    exact = Decimal(repr(value))
    exponent = exact.normalize(_EXACT).as_tuple().exponent
    planned = max(0, -exponent) if isinstance(exponent, int) else 0
    is_own = column.type != "Money" or column.precision_source == 0
    if is_own and column.precision is not None:
        if planned <= column.precision:
            return StoredValue()
        warning = f"{name} keeps {column.precision} decimals, and more are planned: the service rounds it"
        return StoredValue(_rounded(exact, column.precision), warning)
    # The currency or the organization decides: any number of decimals is possible.
    forms = tuple(form for digits in range(planned) for form in _rounded(exact, digits))
    if column.precision is None or planned <= column.precision:
        return StoredValue(forms)
    return StoredValue(
        forms,
        f"{name} keeps as many decimals as its currency or the organization has: the service may round it",
    )


def _rounded(exact: Decimal, digits: int) -> tuple[float, ...]:
    """The number with so many decimals; two numbers if it is in the middle."""
    step = Decimal(1).scaleb(-digits)
    found = (exact.quantize(step, rounding, _EXACT) for rounding in (ROUND_HALF_UP, ROUND_HALF_DOWN))
    return tuple(float(number) for number in found)


def _stored_moment(name: str, value: str, column: ColumnDefinition) -> StoredValue:
    moment = datetime.fromisoformat(value)
    forms: list[Scalar] = []
    warning = None
    if moment.microsecond:
        whole = moment.replace(microsecond=0)
        forms += [_shown(whole), _shown(min(whole, _LAST) + timedelta(seconds=1))]
        warning = f"{name} keeps whole seconds, and a fraction is planned"
    if column.behavior == "TimeZoneIndependent" and moment.utcoffset():
        forms.append(_shown(moment.replace(tzinfo=UTC)))
        warning = (
            f"{name} knows no time zones, and what becomes of an offset is not documented: write it with Z"
        )
    if column.behavior == "UserLocal" and column.format == "DateOnly":
        # A time zone is up to 14 hours off. Some write the last day there is, for never.
        day = moment.astimezone(UTC).date().toordinal()
        days = range(day - 1, min(day + 1, date.max.toordinal()) + 1)
        forms += [date.fromordinal(number).isoformat() for number in days]
    return StoredValue(tuple(forms), warning)


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown_choices(value: str, column: ColumnDefinition) -> tuple[str, ...]:
    chosen = _chosen(value)
    by_definition = [number for number in column.options if number in chosen]
    return tuple(",".join(map(str, order)) for order in (sorted(chosen), chosen, by_definition) if order)


def _chosen(value: str) -> list[int]:
    return list(dict.fromkeys(int(part) for part in value.split(",")))


def _same(value: object, known: object) -> bool:
    return type(value) is type(known) and value == known
