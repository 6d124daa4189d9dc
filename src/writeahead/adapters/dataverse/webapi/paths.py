"""Where a request goes: paths below the service root, of names, ids and keys that were checked.

Sources on learn.microsoft.com: "Use an alternate key to reference a record" (the forms of a key,
and lookup columns by ``_<name>_value``), "Define alternate keys for a table" (characters that the
value of a key can't have in a URL), "Query data using the Web API" (``@odata.nextLink``). No page
was found with values of a key as parameters (``@p``), which would take all characters. OData 4.0,
part 2, section 2, "URL Components": quotes in a string are doubled, and a value is percent-encoded
after that.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias
from urllib.parse import quote, urlencode

import httpx

from writeahead.adapters.dataverse.webapi.names import (
    GUID,
    LOOKUP,
    Scalar,
    require_entity_set,
    require_guid,
    require_name,
)
from writeahead.errors import InvalidInput

__all__ = [
    "ResourcePath",
    "RowKey",
    "next_page",
    "query_string",
    "resource_path",
    "row_path",
    "selected",
    "table_path",
]

# A row: its GUID, or the columns of an alternate key with their values.
RowKey: TypeAlias = str | Mapping[str, Scalar]

# "Define alternate keys for a table": with one of these in a value, GET and PATCH don't work. A
# server in front may even answer 404, which would look like a row that is not there.
_NOT_IN_A_KEY = re.compile(r"[/<>*%&:\\?+#\x00-\x1f\x7f]")
_SEGMENT = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(\([A-Za-z0-9_=',-]{0,300}\))?"
_RESOURCE = re.compile(rf"(/{_SEGMENT}){{1,8}}")


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """What a request is sent to.

    Attributes:
        path: Below the service root, percent-encoded.
        shown: The same for messages: without the values of an alternate key, which are contents of
            a record.
    """

    path: str
    shown: str


def table_path(entity_set: str) -> ResourcePath:
    """A whole table.

    Raises:
        InvalidInput: ``entity_set`` is no name.
    """
    path = f"/{require_entity_set(entity_set)}"
    return ResourcePath(path, path)


def row_path(entity_set: str, key: RowKey) -> ResourcePath:
    """One row.

    Args:
        entity_set: The table's.
        key: The row's GUID, or the columns of an alternate key. A lookup column is named
            ``_<name>_value``, and its value is a GUID. Columns are sent in the order of their
            names.

    Raises:
        InvalidInput: A name, the GUID or a value can't be part of a URL. The message holds no
            value.
    """
    table = require_entity_set(entity_set)
    if isinstance(key, str):
        path = f"/{table}({require_guid(key)})"
        return ResourcePath(path, path)
    if not key:
        raise InvalidInput(f"{table}: an alternate key needs one column at least")
    names = sorted(key)
    parts = [f"{name}={_literal(table, name, key[name])}" for name in names]
    return ResourcePath(
        f"/{table}({','.join(parts)})", f"/{table}({','.join(f'{name}=...' for name in names)})"
    )


def resource_path(path: str) -> ResourcePath:
    """Any resource below the service root, such as ``/EntityDefinitions(LogicalName='task')``.

    Raises:
        InvalidInput: It is none, or has a host, a query, an escape or a traversal in it.
    """
    if not isinstance(path, str) or not _RESOURCE.fullmatch(path):
        raise InvalidInput("a path of the Web API must be of names and keys, such as /EntityDefinitions")
    return ResourcePath(path, path)


def next_page(root: httpx.URL, link: object) -> httpx.URL | None:
    """The URL of the next page; None if it is no link within the same service root.

    A token goes with every request, and a link may have come from anywhere.
    """
    try:
        url = root.copy_with(path=f"{root.path}/").join(link) if isinstance(link, str) else None
    except httpx.InvalidURL:
        return None
    if url is None or url.userinfo or url.fragment:
        return None
    same = (url.scheme, url.host, url.port) == (root.scheme, root.host, root.port)
    within = url.path.startswith(root.path + "/") and _RESOURCE.fullmatch(url.path.removeprefix(root.path))
    return url if same and within else None


def query_string(params: Mapping[str, str]) -> str:
    """Encode a query for a URL, a space as ``%20``.

    As ``+``, the usual form of HTML, it is no space in OData: a plus is one ("OData ABNF
    Construction Rules", RWS, docs.oasis-open.org). SAP CAP answers 400 for it, and so does Olingo
    (tuomur/python-odata, issue 23). Microsoft's own client for Python sends it to Dataverse.
    """
    return urlencode(params, quote_via=quote, safe="")


def selected(names: Sequence[str]) -> str:
    """The value of ``$select``. Raises InvalidInput: one is no column's name."""
    return ",".join(require_name(name.removeprefix("_")) and name for name in names)


def _literal(table: str, name: str, value: Scalar) -> str:
    if LOOKUP.fullmatch(name):
        if not isinstance(value, str) or not GUID.fullmatch(value):
            raise InvalidInput(f"{table}: the value of key column {name} must be a GUID")
        return value.lower()
    require_name(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        # Without an exponent: its plus is one of the characters that no key takes.
        return f"{Decimal(repr(value)):f}"
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"{table}: key column {name} has no value")
    if _NOT_IN_A_KEY.search(value):
        raise InvalidInput(
            f"{table}: the value of key column {name} has a character that Dataverse takes in no key:"
            r" one of / < > * % & : \ ? + # or a control character"
        )
    # Surrogates can't be encoded, and stand for no character.
    try:
        return quote("'" + value.replace("'", "''") + "'", safe="'")
    except UnicodeEncodeError:
        raise InvalidInput(f"{table}: the value of key column {name} is no text") from None
