"""Which query options and headers of a request the simulator understands; all others are refused.

A request that means something else than what is done with it would pass a test by chance. So
whatever changes the meaning is imitated, answered as the real service answers it, or answered 501.

Sources: OData 4.0 part 1, section 6.2 (a service must fail a request with query options that it
does not understand), part 2, section 5.2 (custom options have neither ``$`` nor ``@`` before their
name); on learn.microsoft.com (power-apps/developer/data-platform) "Use OData to query data" (the
options that the service has, and those that it does not support; upper and lower case count in
their names), "Use optional parameters" (``tag``, ``partitionId``, the ``MSCRM.`` headers), "Compose
HTTP requests and handle errors" and "Impersonate another user using the Web API" (headers). The
error for an unknown option is reported in github.com/rappen/FetchXMLBuilder, issue 437, that for
``sql``, where an environment does not have it, in
github.com/microsoft/PowerPlatform-DataverseClient-Python, issue 74. No source was found for the
code of the latter, for an option that is given twice, and for headers of the ``MSCRM.`` kind that
do not exist.
"""

import re
import urllib.parse
from collections.abc import Collection

from writeahead.simulators.dataverse.messages import ApiRequest
from writeahead.simulators.dataverse.odata import ErrorCode, ODataError, not_imitated

__all__ = ["query_options", "require_understood"]

# What the service has, so that a refusal is the simulator's own.
_OF_DATAVERSE = {
    "$apply",
    "$count",
    "$deltatoken",
    "$expand",
    "$filter",
    "$orderby",
    "$select",
    "$skiptoken",
    "$top",
    "LabelLanguages",
    "fetchXml",
    "partitionId",
    "partitionid",
    "savedQuery",
    "userQuery",
}
# It goes to plug-ins, and changes nothing without one that reads it.
_WITHOUT_EFFECT = {"tag"}

_HEADERS = {
    "callerobjectid",
    "content-encoding",
    "content-range",
    "if-modified-since",
    "if-range",
    "if-unmodified-since",
    "odata-isolation",
    "range",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-ms-transfer-mode",
}
# As MSCRMCallerID, which impersonates a user, too.
_OWN_HEADERS = "mscrm"
_IMITATED_HEADERS = {"mscrm.suppressduplicatedetection"}
# Other annotations in the answer, or numbers as texts: OData JSON Format 4.0, sections 3.1 and 3.2.
_OTHER_FORMAT = re.compile(r"metadata=(?:full|none)|ieee754compatible=true", re.IGNORECASE)
_VERSION = "4.0"
# The forms of If-Match and If-None-Match that count, by method. No list has an ETag, so one is
# never found unchanged; a POST never changes a row, so "*" asks for nothing more.
_NONE, _ANY = re.compile(r"(?!)"), re.compile(r"\*")
_ONE, _ANY_OR_ONE = re.compile(r'(?:W/)?"[^"]*"'), re.compile(r"\*|[^,]+")
_IF_MATCH = {"PATCH": _ANY_OR_ONE, "DELETE": _ANY_OR_ONE}
_IF_NONE_MATCH = {"GET": _ONE, "POST": _ANY, "PATCH": _ANY}


def query_options(query: str, known: Collection[str]) -> dict[str, str]:
    """The options of a query string, decoded.

    Args:
        query: Still encoded.
        known: Those that mean something for this request.

    Raises:
        ODataError: 400 for an option that the service does not know, or one that is given twice;
            501 for one that is not imitated here.
    """
    options: dict[str, str] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        if name in _WITHOUT_EFFECT:
            continue
        if name not in known:
            raise _unknown(name)
        if name in options:
            raise ODataError(
                400,
                ErrorCode.ODATA_QUERY_INVALID,
                f"Query option '{name}' was specified more than once, but it must be specified at most once.",
            )
        options[name] = value
    return options


def require_understood(request: ApiRequest) -> None:
    """Refuse headers that would change what a request means.

    Preferences are not looked at: who does not know one ignores it (RFC 7240, section 2).

    Raises:
        ODataError: 501: there is one that is not imitated.
    """
    for name, value in request.headers.items():
        if name in _HEADERS or (name.startswith(_OWN_HEADERS) and name not in _IMITATED_HEADERS):
            raise not_imitated(f"the header {name}")
        other_format = name in ("accept", "content-type") and _OTHER_FORMAT.search(value)
        if other_format or (name == "odata-version" and value.strip() != _VERSION):
            raise not_imitated(f"the header {name}: {value}")
    for name, forms in (("if-match", _IF_MATCH), ("if-none-match", _IF_NONE_MATCH)):
        condition = request.header(name)
        if condition is not None and not forms.get(request.method, _NONE).fullmatch(condition):
            raise not_imitated(f"the header {name}: {condition} of a {request.method} request")


def _unknown(name: str) -> ODataError:
    if name in _OF_DATAVERSE:
        return not_imitated(f"the query option {name} for this request")
    if name.startswith("@"):
        return not_imitated("parameter aliases")
    if name == "sql":
        return ODataError(400, ErrorCode.NONE, "sql query parameter is not supported.")
    return ODataError(400, ErrorCode.NONE, f"The query parameter {name} is not supported")
