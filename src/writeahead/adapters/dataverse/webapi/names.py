"""What may become part of a URL or a header: checked, since a plan may be tampered with."""

import re
from typing import Annotated, TypeAlias

import httpx
from pydantic import FiniteFloat, Strict, StrictBool, StrictInt, StrictStr

from writeahead.adapters.http import secure_url
from writeahead.errors import InvalidInput

__all__ = [
    "BIND",
    "ENTITY_SET",
    "ETAG",
    "GUID",
    "LOOKUP",
    "NAME",
    "Scalar",
    "environment_of",
    "guid_or_none",
    "referenced_row",
    "require_entity_set",
    "require_etag",
    "require_guid",
    "require_name",
    "row_reference",
    "service_root",
]

# A lookup is written as ``<navigation property>@odata.bind``: "Create a table row using the Web
# API", section "Associate table rows on create", learn.microsoft.com.
BIND = "@odata.bind"

# What one column holds in JSON.
Scalar: TypeAlias = StrictStr | StrictBool | StrictInt | Annotated[FiniteFloat, Strict()] | None

WEB_API = "/api/data/v9.2"
_OTHER_VERSION = re.compile(r"(/[^/]+)?/api/data(/(v[0-9]{1,2}\.[0-9]{1,2}))?/?")
_RIGHT_FORM = "give the environment alone, as in https://org.crm.dynamics.com"

NAME = re.compile(r"[a-z][a-z0-9_]{0,127}")
# A lookup column as it is read: "Use an alternate key to reference a record", learn.microsoft.com.
LOOKUP = re.compile(r"_[a-z][a-z0-9_]{0,127}_value")
# Unlike a logical name it may have capitals, which count: it is the table's LogicalCollectionName
# by default only ("Web API service documents", learn.microsoft.com), and OData
# tells upper from lower case in names.
ENTITY_SET = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_REFERENCE = re.compile(rf"/({ENTITY_SET.pattern})\((?i:({GUID.pattern}))\)")
# RFC 9110, section 8.8.3. "*" is none: it would match any version of the row.
ETAG = re.compile(r'(W/)?"[\x21\x23-\x7e]*"')


def service_root(url: str) -> httpx.URL:
    """The root of the Web API of an environment.

    The Web API endpoint that Power Apps shows under "Developer resources" will do as well ("Compose
    HTTP requests and handle errors", learn.microsoft.com), if it is of the version that is spoken
    here: later ones may differ.

    Raises:
        InvalidInput: It is not the URL of an environment. The message does not repeat it.
    """
    root = secure_url(url, "DATAVERSE_URL")
    if root.path not in {"", "/", WEB_API, f"{WEB_API}/"}:
        raise InvalidInput(f"DATAVERSE_URL {_problem_of_path(root.path)}: {_RIGHT_FORM}")
    return root.copy_with(path=WEB_API)


def _problem_of_path(path: str) -> str:
    """Say what a path makes of the URL of an environment; it is not repeated."""
    endpoint = _OTHER_VERSION.fullmatch(path)
    if endpoint and not endpoint[1]:
        version = endpoint[3] or "no version"
        return f"names {version} of the Web API, and writeahead speaks {WEB_API.rpartition('/')[2]}"
    if endpoint or re.fullmatch(r"/[A-Za-z0-9_-]+/?", path):
        # "OrganizationDetail.UrlName", learn.microsoft.com: the organization is part of the path
        # there, which no environment in the cloud has.
        return "looks like an organization on-premises (https://host/organization), which is not supported"
    if path.lower().endswith((".aspx", ".svc", ".asmx")):
        return "is the address of a page or of another service"
    return "must have no path"


def environment_of(url: str) -> str:
    """What tells an environment from all others: its URL, however it was written, without a path.

    Raises: as `service_root`.
    """
    return str(service_root(url).copy_with(path="/"))


def require_entity_set(name: str) -> str:
    """Return the name of an entity set; it can be no path, host or expression.

    Raises:
        InvalidInput: It is none.
    """
    return _required(ENTITY_SET, name, "an entity set's name must be of letters, 0-9 and _")


def require_name(name: str) -> str:
    """Return a table's or column's logical name; it can be no path, host or expression.

    Raises:
        InvalidInput: It is none.
    """
    return _required(NAME, name, "a logical name must be of a-z, 0-9 and _")


def _required(pattern: re.Pattern[str], name: str, rule: str) -> str:
    if not pattern.fullmatch(name):
        raise InvalidInput(f"{rule}, and begin with a letter")
    return name


def require_guid(value: str) -> str:
    """Return a row's id, in lower case.

    Raises:
        InvalidInput: It is no GUID.
    """
    if not GUID.fullmatch(value):
        raise InvalidInput("a row id must be a GUID, such as 00000000-0000-0000-0000-000000000001")
    return value.lower()


def guid_or_none(value: object) -> str | None:
    """Return a row's id as Dataverse gave it, in lower case; None if it is no GUID."""
    return value.lower() if isinstance(value, str) and GUID.fullmatch(value) else None


def row_reference(entity_set: str, row_id: str) -> str:
    """Return the value that points a lookup to a row."""
    return f"/{entity_set}({row_id})"


def referenced_row(value: object) -> tuple[str, str] | None:
    """Return the entity set and the id that the value of a lookup points to; None if it is none."""
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return (found[1], found[2].lower()) if found else None


def require_etag(value: str) -> str:
    """Return the version of a row.

    Raises:
        InvalidInput: It is no entity tag.
    """
    if not ETAG.fullmatch(value):
        raise InvalidInput("the baseline holds no ETag")
    return value
