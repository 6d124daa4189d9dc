"""``$filter`` on definitions: properties of primitive and of enumeration types.

Source: "Query table definitions using the Web API", learn.microsoft.com
(power-apps/developer/data-platform/webapi): enumerations are written with their type's name, and
``RequiredLevel/Value`` reaches into a complex type. Imitated are eq, ne, and, or and parentheses.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError, not_imitated

__all__ = ["matching"]

_Json = Mapping[str, Any]
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>(?:Microsoft\.Dynamics\.CRM\.\w+)?'(?:[^']|'')*')
      | (?P<number>-?\d+)(?![\w.-])
      | (?P<word>[A-Za-z_][\w/.]*)
      | (?P<mark>[()])
    )""",
    re.VERBOSE,
)
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}


def matching(items: Iterable[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    """The definitions that fulfil a condition.

    Args:
        items: As they are shown, with all properties.
        text: The value of ``$filter``.

    Raises:
        ODataError: 400 for an unknown property, 501 for a condition that is not imitated.
    """
    tokens = _tokens(text)
    return [item for item in items if _Condition(tokens, item).holds()]


class _Condition:
    """A recursive-descent parser that evaluates as it goes; ``and`` binds tighter than ``or``."""

    def __init__(self, tokens: list[tuple[str, str]], item: _Json) -> None:
        self._tokens = tokens
        self._item = item
        self._at = 0

    def holds(self) -> bool:
        found = self._any()
        if self._at < len(self._tokens):
            raise not_imitated("this $filter on definitions")
        return found

    def _any(self) -> bool:
        found = self._all()
        while self._takes("or"):
            found = self._all() or found
        return found

    def _all(self) -> bool:
        found = self._term()
        while self._takes("and"):
            found = self._term() and found
        return found

    def _term(self) -> bool:
        if self._takes("("):
            found = self._any()
            if not self._takes(")"):
                raise not_imitated("this $filter on definitions")
            return found
        value = self._property(self._next("word"))
        operator = self._next("word")
        if operator not in ("eq", "ne"):
            raise not_imitated(f"{operator!r} in a $filter on definitions")
        return bool((value == self._literal()) is (operator == "eq"))

    def _property(self, path: str) -> Any:
        value: Any = self._item
        for name in path.split("/"):
            if not isinstance(value, Mapping) or name not in value:
                raise ODataError(
                    400,
                    ErrorCode.ODATA_QUERY_INVALID,
                    f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.Metadata'.",
                )
            value = value[name]
        return value

    def _literal(self) -> Any:
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        self._at += 1
        if kind == "text":
            return text.partition("'")[2][:-1].replace("''", "'")
        if kind == "number":
            return int(text)
        if kind == "word" and text in _WORDS:
            return _WORDS[text]
        raise not_imitated("this $filter on definitions")

    def _next(self, kind: str) -> str:
        if self._at == len(self._tokens) or self._tokens[self._at][0] != kind:
            raise not_imitated("this $filter on definitions")
        self._at += 1
        return self._tokens[self._at - 1][1]

    def _takes(self, text: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at][1] == text
        self._at += found
        return found


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise not_imitated("this $filter on definitions")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens
