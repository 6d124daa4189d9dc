"""What may become part of a URL or a header. A plan is a file, and a file may have been tampered with."""

import re
from typing import Annotated, TypeAlias

import httpx
from pydantic import FiniteFloat, Strict, StrictBool, StrictInt, StrictStr

from writeahead.adapters.http import secure_url
from writeahead.errors import InvalidInput

__all__ = ["ETAG", "GUID", "Scalar", "require_etag", "require_guid", "require_name", "service_root"]

# What one column holds in JSON.
Scalar: TypeAlias = StrictStr | StrictBool | StrictInt | Annotated[FiniteFloat, Strict()] | None

WEB_API = "/api/data/v9.2"
_ENDPOINT = re.compile(r"/api/data/v9\.[0-9]/?")

NAME = re.compile(r"[a-z][a-z0-9_]{0,127}")
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
# RFC 9110, section 8.8.3. "*" is none: it would match whatever anybody has written since.
ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]*"')


def service_root(url: str) -> httpx.URL:
    """The root of the Web API of an environment.

    Raises:
        InvalidInput: The URL is none of an environment. The message does not repeat it.
    """
    root = secure_url(url, "DATAVERSE_URL")
    if root.path not in {"", "/"} and not _ENDPOINT.fullmatch(root.path):
        raise InvalidInput("DATAVERSE_URL must name the environment only: leave the path out")
    return root.copy_with(path=WEB_API)


def require_name(name: str) -> str:
    """Return an entity set's or column's logical name; it can be no path, host or expression.

    Raises:
        InvalidInput: It is none.
    """
    if not NAME.fullmatch(name):
        raise InvalidInput("a logical name must be of a-z, 0-9 and _, and begin with a letter")
    return name


def require_guid(value: str) -> str:
    """Return a row's id, in lower case.

    Raises:
        InvalidInput: It is no GUID.
    """
    if not GUID.fullmatch(value):
        raise InvalidInput("a row id must be a GUID, such as 00000000-0000-0000-0000-000000000001")
    return value.lower()


def require_etag(value: str) -> str:
    """Return the version of a row.

    Raises:
        InvalidInput: It is no entity tag.
    """
    if not ETAG.fullmatch(value):
        raise InvalidInput("the baseline holds no ETag")
    return value
