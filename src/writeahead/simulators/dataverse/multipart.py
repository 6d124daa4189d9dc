"""The format of a batch: HTTP messages within multipart/mixed.

Sources: OData 4.0 part 1, section 11.7 "Batch Requests"; RFC 2046, section 5.1 (a line break before
a boundary belongs to the boundary); "Execute batch operations using the Web API",
learn.microsoft.com (power-apps/developer/data-platform/webapi), for the headers of the parts of an
answer.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from writeahead.simulators.dataverse.odata import ErrorCode, ODataError

__all__ = [
    "HttpRequest",
    "Item",
    "header_fields",
    "http_part",
    "joined",
    "malformed",
    "read_request",
    "split",
]

_BOUNDARY = re.compile(r"multipart/mixed\s*;.*?boundary=(?:\"([^\"]+)\"|([^\s;\"]+))", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\r?\n\r?\n|\A\r?\n|\r?\n\Z")
# The URL is all between the first space and the last one: Microsoft's own SDK for Python sends
# filters with spaces in them, and Microsoft's reader (github.com/OData/odata.net,
# ODataMultipartMixedBatchReader) takes a request line apart in this manner.
_REQUEST_LINE = re.compile(r"([A-Z]+) (\S(?:.*\S)?) HTTP/1\.1")


@dataclass(frozen=True)
class Item:
    """One part of a multipart body; names of headers are in lower case."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def content_type(self) -> str:
        """Return a header, or an empty text if it is missing."""
        return self.headers.get("content-type", "")


@dataclass(frozen=True)
class HttpRequest:
    """The request that a part holds; names of headers are in lower case."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


def split(content_type: str, body: bytes) -> list[Item]:
    """The parts of a multipart body.

    Raises:
        ODataError: 400: the body is not a batch, or its end is missing.
    """
    match = _BOUNDARY.match(content_type.strip())
    if match is None:
        raise malformed("a content type of multipart/mixed with a boundary is needed")
    boundary = re.escape((match[1] or match[2]).encode())
    # What stands before the first boundary or after the closing one is not a part.
    _, *pieces = re.split(rb"(?:\A|\r?\n)--" + boundary + rb"(?=--|[ \t]*\r?\n)", body)
    if not pieces or not pieces[-1].startswith(b"--"):
        raise malformed("the closing boundary is missing")
    return [_item(piece) for piece in pieces[:-1]]


def read_request(item: Item) -> HttpRequest:
    """The request that a part holds.

    Raises:
        ODataError: 400: the part holds no request.
    """
    if item.content_type.partition(";")[0].strip().lower() != "application/http":
        raise malformed("a part must be of type application/http")
    line, _, rest = item.body.lstrip(b"\r\n").partition(b"\n")
    match = _REQUEST_LINE.fullmatch(line.decode("latin-1").strip())
    if match is None:
        raise malformed("a part must begin with a request line")
    headers, body = _headers_and_body(rest)
    return HttpRequest(match[1], match[2], headers, body)


def header_fields(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers by name in lower case; several of one name are a list (RFC 9110, section 5.3)."""
    found: dict[str, str] = {}
    for name, value in pairs:
        before = found.get(name.lower())
        found[name.lower()] = value if before is None else f"{before}, {value}"
    return found


def http_part(status: int, headers: Mapping[str, str], body: bytes, content_id: str | None) -> bytes:
    """A response as a part of a multipart body."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    lines += [f"Content-ID: {content_id}"] if content_id else []
    lines += ["", f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def joined(name: str, parts: Sequence[bytes]) -> tuple[str, bytes]:
    """Return a multipart body and its content type; ``name`` is the start of the boundary."""
    boundary = f"{name}_{uuid.uuid4()}"
    head = f"--{boundary}\r\n".encode()
    body = b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    return f"multipart/mixed; boundary={boundary}", body


def malformed(why: str) -> ODataError:
    """A batch that can't be read."""
    return ODataError(400, ErrorCode.NONE, f"The batch request is malformed: {why}.")


def _item(piece: bytes) -> Item:
    # Drop the rest of the boundary's line.
    return Item(*_headers_and_body(piece.partition(b"\n")[2]))


def _headers_and_body(content: bytes) -> tuple[dict[str, str], bytes]:
    head, *rest = _BLANK_LINE.split(content, maxsplit=1)
    pairs = (line.partition(":") for line in head.decode("latin-1").splitlines() if line.strip())
    named = ((name.strip(), value.strip()) for name, _, value in pairs)
    return header_fields(named), b"".join(rest)
