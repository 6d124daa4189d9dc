"""The ids by which Dataverse's logs find a request, in the headers of every response.

Sources, learn.microsoft.com: "Use PowerShell and Visual Studio Code with the Dataverse Web API"
shows ``x-ms-service-request-id`` twice on one response; "Write Telemetry to your Application
Insights resource using ILogger" shows it beside ``REQ_ID`` with the same value, and finds a request
by it.
That ``REQ_ID`` is the second of two comes from traces that users published; no page says so.
"""

import uuid
from dataclasses import replace

from writeahead.simulators.dataverse.messages import ApiResponse

__all__ = ["request_id", "with_request_ids"]

_REQUESTS = uuid.UUID("5d3f4c57-6a2b-4f0e-8a58-1f6f0e7c2a11")


def request_id(sequence: int) -> str:
    """The id of a request of the log, so that a log that is read later has the same one."""
    return str(uuid.uuid5(_REQUESTS, str(sequence)))


def with_request_ids(response: ApiResponse, sequence: int) -> ApiResponse:
    """The response with its ids; that of the gateway in front comes first."""
    own = request_id(sequence)
    gateway = uuid.uuid5(_REQUESTS, f"gateway {sequence}")
    ids = {"x-ms-service-request-id": f"{gateway}, {own}", "REQ_ID": own}
    return replace(response, headers={**response.headers, **ids})
