"""Query options of a read: ``$select``, ``$orderby``, ``$top``, and of ``$filter`` eq and and.

Which options a request may have at all: `understood`.

What OData has beyond that is refused with 501, so that a client can't come to rely on a filter that
was not applied. Grammar: OData 4.0 part 2, "URL Conventions", section 5.1.1; string comparison
ignores case as Dataverse's does (learn.microsoft.com, "Filter rows using OData"), and accents
("Language collations").
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError, not_imitated
from writeahead.simulators.dataverse.schema import Column, Kind, Table
from writeahead.simulators.dataverse.storage import COLLATION
from writeahead.simulators.dataverse.understood import query_options
from writeahead.simulators.dataverse.values import guid

__all__ = ["Query", "literal", "parse_query", "sql_equals"]

_OTHER_WORDS = {"or", "not", "ne", "gt", "ge", "lt", "le", "in", "add", "sub", "mul", "div", "mod", "has"}
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^']|'')*')
      | (?P<guid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?![\w-])
      | (?P<datetime>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?)(?![\w-])
      | (?P<number>-?\d+(?:\.\d+)?)(?![\w-])
      | (?P<word>[A-Za-z_][\w.]*)
      | (?P<mark>[(),])
    )""",
    re.VERBOSE,
)
_TEXTS = {Kind.STRING, Kind.MEMO, Kind.MULTI_SELECT_PICKLIST}
_AMOUNTS = {Kind.DECIMAL, Kind.DOUBLE, Kind.MONEY}
_NUMBERS = {Kind.INTEGER, Kind.BIGINT, *_AMOUNTS, Kind.PICKLIST, Kind.STATE, Kind.STATUS}
_GUIDS = {Kind.UNIQUEIDENTIFIER, Kind.LOOKUP}


@dataclass(frozen=True)
class Query:
    """A read's options, checked against the table, with conditions and order as SQL."""

    select: tuple[str, ...] | None = None
    where: str = "1"
    parameters: tuple[Any, ...] = ()
    order_by: str = "id"
    top: int | None = None
    count: bool = False
    skip_token: str | None = None


def parse_query(table: Table, query: str, known: Collection[str] = ("$select",)) -> Query:
    """Read the query string of a request for rows of a table.

    Args:
        table: The table.
        query: The query string, still encoded.
        known: The options that mean something for this request.

    Raises:
        ODataError: 400 for a malformed option or an unknown column, 501 for an option that is not
            imitated.
    """
    options = query_options(query, known)
    where, parameters = _Filter(table, options["$filter"]).compile() if "$filter" in options else ("1", [])
    return Query(
        select=_select(table, options.get("$select")),
        where=where,
        parameters=tuple(parameters),
        order_by=_order_by(table, options.get("$orderby")),
        top=_top(options.get("$top")),
        count=_flag(options.get("$count")),
        skip_token=options.get("$skiptoken"),
    )


def literal(name: str, column: Column, text: str) -> Any:
    """Return the stored form of a literal.

    Raises:
        ODataError: 400: the text is not a literal, or has another type than the column.
    """
    tokens = _tokens(text)
    if len(tokens) != 1:
        raise _syntax_error(f"the value of '{name}'")
    return _literal(name, column, *tokens[0])


def sql_equals(table: Table, name: str) -> str:
    """SQL that compares a property to a parameter."""
    collation = f" COLLATE {COLLATION}" if table.properties[name].kind in _TEXTS else ""
    return f"{_sql_name(table, name)} = ?{collation}"


def _select(table: Table, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(","))
    for name in names:
        _column(table, name)
    return names


def _order_by(table: Table, value: str | None) -> str:
    if value is None:
        return "id"
    terms = []
    for term in value.split(","):
        match = re.fullmatch(r"\s*(\S+)(?:\s+(asc|desc))?\s*", term)
        if match is None:
            raise _syntax_error(f"{term.strip()!r} in $orderby")
        name, direction = match.groups("asc")
        _column(table, name)
        terms.append(f"{_sql_name(table, name)} {direction}")
    return ", ".join([*terms, "id"])


def _top(value: str | None) -> int | None:
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ODataError(
            400, ErrorCode.ODATA_QUERY_INVALID, f"Invalid value '{value}' for $top query option found."
        )
    return int(value)


def _flag(value: str | None) -> bool:
    if value not in (None, "true", "false"):
        raise ODataError(
            400, ErrorCode.ODATA_QUERY_INVALID, f"Invalid value '{value}' for $count query option found."
        )
    return value == "true"


def _column(table: Table, name: str) -> Column:
    column = table.properties.get(name)
    if column is None or column.kind is Kind.PARTYLIST:
        raise ODataError(
            400, ErrorCode.NONE, f"Could not find a property named '{name}' on type '{table.type_name}'."
        )
    return column


def _sql_name(table: Table, name: str) -> str:
    if name == table.primary_key:
        return "id"
    if name == "versionnumber":
        return "version"
    # Safe to put into SQL: the name is one of the schema's.
    return f"json_extract(body, '$.\"{name}\"')"


def _syntax_error(where: str) -> ODataError:
    return ODataError(400, ErrorCode.ODATA_QUERY_INVALID, f"Syntax error at {where}.")


class _Filter:
    """A recursive-descent parser.

    condition := term ("and" term)*
    term := "(" condition ")" | name "eq" literal
    """

    def __init__(self, table: Table, text: str) -> None:
        self._table = table
        self._tokens = _tokens(text)
        self._at = 0
        self._parameters: list[Any] = []

    def compile(self) -> tuple[str, Sequence[Any]]:
        sql = self._condition()
        if self._at < len(self._tokens):
            raise _syntax_error(f"{self._tokens[self._at][1]!r} in $filter")
        return sql, self._parameters

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise _syntax_error("the end of $filter")
        self._at += 1
        kind, text = self._tokens[self._at - 1]
        if kind == "word" and text in _OTHER_WORDS:
            raise not_imitated(f"{text!r} in $filter")
        return kind, text

    def _condition(self) -> str:
        terms = [self._term()]
        while self._at < len(self._tokens) and self._tokens[self._at][1] != ")":
            word = self._next()
            if word != ("word", "and"):
                raise _syntax_error(f"{word[1]!r} in $filter: 'and' was expected")
            terms.append(self._term())
        return " AND ".join(terms)

    def _term(self) -> str:
        kind, text = self._next()
        if (kind, text) == ("mark", "("):
            inner = self._condition()
            if self._next() != ("mark", ")"):
                raise _syntax_error("an open parenthesis in $filter")
            return f"({inner})"
        if kind != "word":
            raise _syntax_error(f"{text!r} in $filter: a property was expected")
        if self._at < len(self._tokens) and self._tokens[self._at] == ("mark", "("):
            raise not_imitated(f"the function {text!r} in $filter")
        return self._comparison(text)

    def _comparison(self, name: str) -> str:
        column = _column(self._table, name)
        operator = self._next()
        if operator != ("word", "eq"):
            raise _syntax_error(f"{operator[1]!r} in $filter: an operator was expected")
        kind, text = self._next()
        if (kind, text) == ("word", "null"):
            return f"{_sql_name(self._table, name)} IS NULL"
        self._parameters.append(_literal(name, column, kind, text))
        return sql_equals(self._table, name)


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens = []
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise _syntax_error(f"position {at} of $filter")
        tokens.append((match.lastgroup, match.group(match.lastgroup)))
        at = match.end()
    return tokens


def _literal(name: str, column: Column, kind: str, text: str) -> Any:
    if kind == "string" and column.kind in _TEXTS:
        return text[1:-1].replace("''", "'")
    if kind == "guid" and column.kind in _GUIDS:
        return guid(text)
    if kind == "number" and column.kind in _NUMBERS:
        return float(text) if "." in text else int(text)
    if kind == "word" and text in ("true", "false") and column.kind is Kind.BOOLEAN:
        return text == "true"
    if kind == "datetime" and column.kind is Kind.DATETIME:
        return text if column.behavior == "DateOnly" else _moment(text)
    raise ODataError(
        400,
        ErrorCode.ODATA_QUERY_INVALID,
        f"A binary operator with incompatible types was detected. '{name}' is of type "
        f"'{column.edm}', the value {text} is not.",
    )


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _syntax_error(f"{text!r} in $filter") from None
    # A bare date means its midnight in UTC.
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
