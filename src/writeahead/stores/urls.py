"""Store URLs: what all backends read of them in the same way."""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath, PureWindowsPath
from urllib.parse import parse_qsl, unquote, urlsplit

from writeahead.errors import InvalidInput

__all__ = [
    "StoreUrl",
    "absolute",
    "checked_endpoint",
    "checked_host",
    "client_of",
    "folder_of",
    "parse_store_url",
    "scheme_of",
    "truth",
]

# A scheme has two characters or more, so that a drive letter is not taken for one.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(//)?")
# Buckets and containers alike; each service has narrower rules of its own.
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", re.ASCII)
_ENDPOINT = re.compile(r"https?://[^/@?#]+/?", re.ASCII)
_ENDPOINT_WITH_PATH = re.compile(r"https?://[^@?#]+", re.ASCII)


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


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return a folder's path, taken from the working directory if it is relative.

    Raises:
        InvalidInput: There is no working directory any more, or the path has a null character.
    """
    if "\0" in os.fspath(path):
        raise InvalidInput("store: a folder's path can't have a null character")
    try:
        return Path(path).absolute()
    except FileNotFoundError as error:
        raise InvalidInput(
            "store: the working directory is gone, and this path is relative to it; give an absolute one"
        ) from error


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
    """The value of a store URL's option ``client``: the client library to use."""
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
    # A folder's name may be of any bytes; `Path.as_uri` writes them as they are.
    path = unquote(parts.path, errors="surrogateescape")
    return StoreUrl(scheme, unquote(parts.netloc), path, dict(pairs))


def folder_of(url: StoreUrl, flavour: type[PurePath] = PurePath) -> str:
    """The path of the folder that a ``file`` URL names, as `pathlib.PurePath.as_uri` writes it.

    Args:
        url: On Windows ``file:///C:/x`` names a drive, and ``file://server/share/x`` a host: RFC
            8089, appendix E.
        flavour: Whose paths: this system's.

    Raises:
        InvalidInput: The path is not absolute, or is on another host where a path can't name one.
    """
    host = "" if url.host == "localhost" else url.host
    windows = issubclass(type(flavour()), PureWindowsPath)
    path = f"//{host}{url.path}" if host else url.path.removeprefix("/") if windows else url.path
    # A host alone, without a share, is absolute for some versions of pathlib.
    unfit = bool(host) and not (windows and url.path.strip("/"))
    if unfit or not flavour(path).is_absolute():
        example = "file:///C:/x" if windows else "file:///var/lib/x"
        raise InvalidInput(f"store file://...: give an absolute path with three slashes, {example}")
    return path


def checked_host(scheme: str, host: str) -> str:
    """Return the name of a bucket or container, or refuse what can't be one.

    Raises:
        InvalidInput: It has other characters, fewer than 3, or more than 255.
    """
    what = "container" if scheme == "az" else "bucket"
    if not host:
        raise InvalidInput(f"store {scheme}://...: give a {what}'s name, {scheme}://{what}/prefix")
    if not _HOST.fullmatch(host):
        raise InvalidInput(
            f"store {scheme}://...: this can't be a {what}'s name; "
            "one has at least 3 characters of A-Z a-z 0-9 . _ - and begins and ends with a letter or digit"
        )
    return host


def checked_endpoint(scheme: str, url: str | None, *, path: bool = False) -> str | None:
    """Return a server's URL as it was given, or refuse what can't be one.

    Args:
        scheme: The store's, for the error.
        url: ``http(s)://host:port``; None for the service's own server.
        path: Whether a path may follow.

    Raises:
        InvalidInput: It has another scheme, credentials, a query, or a path where none may follow.
    """
    if url is not None and not (_ENDPOINT_WITH_PATH if path else _ENDPOINT).fullmatch(url):
        form = "http(s)://host:port/path" if path else "http(s)://host:port, without credentials or a path"
        raise InvalidInput(f"store {scheme}://...: endpoint_url is {form}")
    return url


def truth(scheme: str, name: str, text: str) -> bool:
    """Return what ``true`` and ``false`` say.

    Raises:
        InvalidInput: The option ``name`` is neither.
    """
    if text not in ("true", "false"):
        raise InvalidInput(f"store {scheme}://...: {name} is true or false")
    return text == "true"
