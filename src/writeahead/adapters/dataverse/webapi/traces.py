"""What finds a request in the service's logs, and the service's own words if they are asked for.

Dataverse names each request by a GUID, in ``REQ_ID`` and in ``x-ms-service-request-id``. The latter
may come twice, and the second one is then that of ``REQ_ID``. Each request of ours carries a GUID
in ``x-ms-client-request-id``, by which one without an answer can be found, too.

Sources: learn.microsoft.com, "Write Telemetry to your Application Insights resource using ILogger"
(both headers on a refusal; Application Insights finds a request by this id), "Use PowerShell and
Visual Studio Code with the Dataverse Web API" (the header twice); Microsoft's client for Python,
github.com/microsoft/PowerPlatform-DataverseClient-Python, sends ``x-ms-client-request-id`` with
each request. No page was found that says what Dataverse does with it; "Service request tracing",
learn.microsoft.com, says it of Dynamics 365 finance and operations, which logs it. "Microsoft
identity platform and the OAuth 2.0 client credentials flow": ``trace_id``, ``correlation_id``, and
both at the end of ``error_description``.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = [
    "CLIENT_REQUEST_ID",
    "NO_TRACE",
    "Trace",
    "new_client_request_id",
    "one_line",
    "request_id_in",
    "sign_in_ids",
    "sign_in_ids_in",
]

CLIENT_REQUEST_ID = "x-ms-client-request-id"
LONGEST_TEXT = 300

_OF_THE_REQUEST = "REQ_ID"
_OF_THE_SERVICE = "x-ms-service-request-id"
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_IDS_IN_TEXT = {
    "trace_id": re.compile(rf"\bTrace ID: ({_GUID.pattern})\b"),
    "correlation_id": re.compile(rf"\bCorrelation ID: ({_GUID.pattern})\b"),
}
_LONGEST_ERROR = 10_000


@dataclass(frozen=True, slots=True)
class Trace:
    """Where to look for a request, and what the service said of it.

    Attributes:
        request_id: The service's GUID for the request; empty if it gave none.
        client_request_id: The GUID that we gave it.
        text: The service's own words, in one line; empty unless they were asked for. They may hold
            what is in a record.
    """

    request_id: str = ""
    client_request_id: str = ""
    text: str = ""

    def shown(self) -> list[str]:
        """What a message says of it; our id only where the service gave none."""
        said = []
        if self.request_id:
            said.append(f"request id {self.request_id}")
        elif self.client_request_id:
            said.append(f"client request id {self.client_request_id}")
        if self.text:
            said.append(f"the service's words, which may hold data of records: {self.text!r}")
        return said


NO_TRACE = Trace()


def new_client_request_id() -> str:
    """A GUID for a request of ours."""
    return str(uuid.uuid4())


def request_id_in(headers: Mapping[str, str]) -> str:
    """The service's id of a request, in lower case; empty if no header holds a GUID.

    A header may hold anything, so what is no GUID is dropped.

    Args:
        headers: Of the response, by names in any case, as `httpx.Headers`.
    """
    for name in (_OF_THE_REQUEST, _OF_THE_SERVICE):
        last = headers.get(name, "").rpartition(",")[2]
        found = _guid(last)
        if found:
            return found
    return ""


def sign_in_ids(content: Mapping[str, object]) -> list[str]:
    """What Entra's support asks for, of the body of a refusal: named GUIDs, or nothing."""
    found = ((name, _guid(content.get(name))) for name in ("trace_id", "correlation_id"))
    return [f"{name} {value}" for name, value in found if value]


def sign_in_ids_in(text: str) -> list[str]:
    """The same ids out of an error's text, where Entra repeats them; nothing else of it."""
    found = ((name, _IDS_IN_TEXT[name].search(text[:_LONGEST_ERROR])) for name in _IDS_IN_TEXT)
    return [f"{name} {match[1].lower()}" for name, match in found if match]


def one_line(text: object) -> str:
    """A remote's text, fit to be shown: one line of printable characters, 300 at most."""
    if not isinstance(text, str):
        return ""
    # Long before it is looked at: it may be a megabyte.
    clean = "".join(char if char.isprintable() else " " for char in text[: 10 * LONGEST_TEXT])
    line = " ".join(clean.split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 3] + "..."


def _guid(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    return text.lower() if _GUID.fullmatch(text) else ""
