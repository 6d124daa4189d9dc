"""Requests to the Web API and its responses, without the connection that carries them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from writeahead.simulators.dataverse.annotations import error_annotations
from writeahead.simulators.dataverse.odata import ODataError, error_body

__all__ = ["API_ROOT", "HEADERS", "ApiRequest", "ApiResponse", "error_response", "json_response"]

API_ROOT = "/api/data/v9.2/"
HEADERS = {"OData-Version": "4.0", "Content-Type": "application/json; odata.metadata=minimal"}
"""The headers of every response with a JSON body."""


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """A request, or a part of a batch.

    Args:
        method: In capitals.
        path: The path below the service root: ``phonecalls``, ``tasks(<guid>)``.
        query: The query string, still encoded.
        headers: By name in lower case.
        body: The body's bytes.
        root: The service root's URL, which responses name rows by.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    root: str = API_ROOT

    def header(self, name: str) -> str | None:
        """A conditional header; the literal ``null``, which some clients send, means none."""
        value = self.headers.get(name, "").strip()
        return None if value in ("", "null") else value


@dataclass(frozen=True, kw_only=True)
class ApiResponse:
    """A response, and the path of the row that the request made or changed, if any.

    ``rows`` has the paths of all of them, for a request that writes several.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    changed: bool = False
    row: str | None = None
    rows: Sequence[str] = ()


def json_response(
    status: int,
    content: Any,
    headers: Mapping[str, str] | None = None,
    *,
    changed: bool = False,
    rows: Sequence[str] = (),
) -> ApiResponse:
    """A response of the Web API with a JSON body."""
    body = json.dumps(content).encode()
    return ApiResponse(
        status=status, headers={**HEADERS, **(headers or {})}, body=body, changed=changed, rows=rows
    )


def error_response(error: ODataError, *, empty_code: bool = False, prefer: str = "") -> ApiResponse:
    """The response to a refused request; real codes are often empty.

    Args:
        error: Why it is refused.
        empty_code: Whether ``error.code`` is empty.
        prefer: The request's Prefer header, which may ask for annotations.
    """
    body = error_body("" if empty_code else error.code, error.message)
    body["error"] |= error_annotations(error.code, error.message, prefer)
    return json_response(error.status, body)
