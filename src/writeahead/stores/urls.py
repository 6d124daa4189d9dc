"""Store URLs: what all backends read of them in the same way."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from writeahead.errors import InvalidInput

__all__ = ["StoreUrl", "client_of", "parse_store_url", "scheme_of"]

# A scheme has two characters or more, so that nobody's drive letter is taken for one.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL in parts, percent-decoded.

    Attributes:
        scheme: In lower case.
        host: What stands between ``//`` and the next ``/``, as it was written: bucket names keep
            their case.
        path: The rest, with its leading ``/`` if there is one.
        options: The query: each option at most once.
    """

    scheme: str
    host: str
    path: str
    options: Mapping[str, str] = field(default_factory=dict)


def scheme_of(url: str) -> str | None:
    """The scheme of a store URL in lower case; None if it is a plain path."""
    match = _SCHEME.match(url)
    if match is None:
        return None
    if match[2] is None:
        raise InvalidInput(
            f"store {match[0]!r}...: write {match[0]}// for a URL, or ./{match[0]} for a folder"
        )
    return match[1].lower()


def client_of(url: str) -> str | None:
    """The value of a store URL's option ``client``, which says by what library it is to be reached."""
    query = url.partition("#")[0].partition("?")[2]
    return dict(parse_qsl(query)).get("client")


def parse_store_url(url: str, *, options: Collection[str] = ()) -> StoreUrl:
    """Take a store URL apart, and refuse what a backend would otherwise have to ignore.

    Args:
        url: ``scheme://host/path?option=value``.
        options: The names that the backend understands.

    Raises:
        InvalidInput: An option is unknown or given twice, or the URL holds credentials or a
            fragment. The message never repeats an option's value nor credentials.
    """
    scheme = scheme_of(url) or ""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidInput(f"store {scheme}://...: this is no URL that can be read") from error
    if "@" in parts.netloc:
        raise InvalidInput(
            f"store {scheme}://...: credentials don't belong in a URL; use the environment or a profile"
        )
    if parts.fragment:
        raise InvalidInput(
            f"store {scheme}://...: '#' has no meaning here; write %23 if it is part of a name"
        )
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    names = [name for name, _ in pairs]
    for name in names:
        if name not in options:
            known = ", ".join(sorted(options)) or "none"
            raise InvalidInput(f"store {scheme}://...: unknown option {name!r}; known options: {known}")
        if names.count(name) > 1:
            raise InvalidInput(f"store {scheme}://...: option {name!r} is given twice")
    for name, value in pairs:
        if not value:
            raise InvalidInput(f"store {scheme}://...: option {name!r} has no value")
    return StoreUrl(scheme, unquote(parts.netloc), unquote(parts.path), dict(pairs))
