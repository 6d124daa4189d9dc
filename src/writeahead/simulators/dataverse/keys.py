"""What stands in the parentheses of a row's URL: its GUID, or the columns of an alternate key.

Sources, learn.microsoft.com/power-apps/developer/data-platform: "Use an alternate key to reference
a record" (the message for a wrong key, the primary key by its name, lookups, the characters that no
request gets past), "Work with alternate keys" (uniqueness, nulls, the states of an index); OData
4.0 part 2, section 4.3.1 (a quote in a text is doubled). What is answered before the index is
Active is not documented: users report 400 as well as 404. Here it is the answer for an undeclared
key.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError
from writeahead.simulators.dataverse.query import Query, literal, sql_equals
from writeahead.simulators.dataverse.schema import AlternateKey, Kind, Table
from writeahead.simulators.dataverse.values import guid

__all__ = ["KEY_TEXT", "RowKey", "key_query", "parse_key", "unique_index_queries", "unique_queries"]

KEY_TEXT = r"(?:[^')]|'[^']*')*"
"""A key, for regular expressions: a parenthesis within quotes does not end it."""

_PAIR = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<literal>(?:'[^']*')+|[^',=]+)\s*(?:,|$)")
# ASP.NET refuses these in a path, encoded or not.
_DANGEROUS = re.compile(r"[/<>*%&:\\?+]")
_ACTIVE = "Active"
# Their key is ownerid, because both are owners.
_NOT_BY_NAME = {"systemuser", "team"}


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """The row that a URL names.

    Attributes:
        text: The key's text in the URL, decoded.
        id: The row's GUID; None if an alternate key is given.
        values: The properties of the alternate key.
    """

    text: str
    id: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def parse_key(table: Table, text: str) -> RowKey:
    """Read a key.

    Raises:
        ODataError: 400: it is neither a GUID nor an alternate key of the table, its index is not
            Active, or it has a character that no key may have.
    """
    if "=" not in text:
        return RowKey(text=text, id=_guid(text))
    found = _DANGEROUS.search(text)
    if found:
        raise ODataError(
            400,
            ErrorCode.NONE,
            f"A potentially dangerous Request.Path value was detected from the client ({found[0]}).",
        )
    pairs = dict(_pairs(text))
    if set(pairs) == {table.primary_key} and table.logical_name not in _NOT_BY_NAME:
        return RowKey(text=text, id=_guid(pairs[table.primary_key]))
    if not any(set(_names(table, key.columns)) == set(pairs) for key in _usable(table)):
        raise _no_key(table)
    values = {name: literal(name, table.properties[name], value) for name, value in pairs.items()}
    return RowKey(text=text, values=values)


def key_query(values: Mapping[str, Any], table: Table) -> Query:
    """The rows with these values; text compares without case, as SQL Server's does."""
    terms = [sql_equals(table, name) for name in values]
    return Query(where=" AND ".join(terms), parameters=tuple(values.values()), top=2)


def unique_queries(table: Table, columns: Mapping[str, Any]) -> Iterator[tuple[AlternateKey, Query]]:
    """Return a query for each enforced key, for the rows with the same values.

    Several rows may have a null in a column of the key.
    """
    for key in _usable(table):
        values = {name: columns.get(name) for name in _names(table, key.columns)}
        if None not in values.values():
            yield key, key_query(values, table)


def unique_index_queries(table: Table, columns: Mapping[str, Any]) -> Iterator[Query]:
    """Return a query for each unique index that is no alternate key, as `unique_queries`."""
    for index in table.unique:
        values = {name: columns.get(name) for name in _names(table, index)}
        if None not in values.values():
            yield key_query(values, table)


def _usable(table: Table) -> list[AlternateKey]:
    return [key for key in table.keys.values() if key.status == _ACTIVE]


def _names(table: Table, columns: Iterable[str]) -> list[str]:
    """The properties of a key's columns."""
    return [f"_{name}_value" if table.columns[name].kind is Kind.LOOKUP else name for name in columns]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _PAIR.match(text, at)
        if match is None:
            raise ODataError(400, ErrorCode.NONE, "Error in query syntax: the key is malformed.")
        yield match["name"], match["literal"].strip()
        at = match.end()


def _guid(text: str) -> str:
    try:
        return guid(text)
    except ValueError:
        raise ODataError(
            400, ErrorCode.NONE, f"Error in query syntax: '{text}' is no key of type Edm.Guid."
        ) from None


def _no_key(table: Table) -> ODataError:
    return ODataError(
        400,
        ErrorCode.NONE,
        f"The key in the request URI is not valid for resource '{table.type_name}'. Ensure that the names "
        "and number of key properties match the declared or alternate key properties for the resource "
        f"'{table.type_name}'.",
    )
