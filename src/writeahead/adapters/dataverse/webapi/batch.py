"""A change set on the wire: several writes in one ``$batch`` request and one transaction.

Sources: "Execute batch operations using the Web API", learn.microsoft.com (1,000 requests at most,
responses in their order, all of a change set or nothing); OData 4.0, part 1, section 11.7 "Batch
Requests" (parts of type application/http in multipart/mixed, Content-ID, an absolute path with a
Host header, one error in the place of a change set that fails). Dataverse sends that error within a
200, or as the status of the whole, with parts or without; all of these are understood.
"""

import email
import email.policy
import json
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus
from typing import Any

import httpx

from writeahead.adapters.dataverse.webapi.errors import Precondition
from writeahead.adapters.dataverse.webapi.names import ETAG, require_etag
from writeahead.adapters.dataverse.webapi.paths import ResourcePath, RowKey, row_path
from writeahead.errors import InvalidInput

__all__ = ["MOST_PARTS", "Part", "PartAnswer", "PartResult", "answers", "encode", "in_order"]

MOST_PARTS = 1000

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})( [^\r\n]*)?\r?\n")
# It takes headers as they come; the newer policies stumble over malformed ones.
_MIME = email.policy.compat32


@dataclass(frozen=True, slots=True)
class Part:
    """One write of a change set; a PATCH, as `DataverseClient.patch` sends it.

    Attributes:
        entity_set: The table's.
        key: The row's GUID, or the columns of an alternate key with their values.
        columns: What to write.
        if_match: Write only if the row has this version.
        create_only: Create the row, or fail.
        update_only: Update the row in whatever version, or fail; for a row that an earlier part has
            checked.
    """

    entity_set: str
    key: RowKey
    columns: Mapping[str, Any]
    if_match: str | None = None
    create_only: bool = False
    update_only: bool = False

    def resource(self) -> ResourcePath:
        """Where it goes. Raises InvalidInput: as `row_path`."""
        return row_path(self.entity_set, self.key)

    def precondition(self) -> Precondition | None:
        """The condition on its row."""
        if self.create_only:
            return Precondition.ABSENT
        return Precondition.VERSION if self.update_only or self.if_match is not None else None


@dataclass(frozen=True, slots=True)
class PartResult:
    """What a part came to: the row's new version, if the response names it."""

    etag: str | None


@dataclass(frozen=True, slots=True)
class PartAnswer:
    """A response within a response, or the whole of one.

    Attributes:
        status: Of HTTP.
        content_id: Which part it answers, counted from 1; None if it does not say.
        headers: Of the answer.
        body: As it came.
    """

    status: int
    content_id: int | None
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    def etag(self) -> str | None:
        """The row's version, if it is named."""
        found = self.headers.get("etag")
        if found is None and self.body.strip():
            try:
                row = json.loads(self.body)
            except (ValueError, RecursionError):
                return None
            found = row.get("@odata.etag") if isinstance(row, Mapping) else None
        return found if isinstance(found, str) and ETAG.fullmatch(found) else None


def encode(root: httpx.URL, parts: Sequence[Part]) -> tuple[str, bytes]:
    """Make the content type and the body of a batch that is one change set.

    Raises:
        InvalidInput: There are no parts or too many, or one can't be sent.
    """
    if not 1 <= len(parts) <= MOST_PARTS:
        raise InvalidInput(f"a transaction must be of 1 to {MOST_PARTS} operations, not {len(parts)}")
    # Random, so that no content can hold them.
    batch, change_set = f"batch_{secrets.token_hex(16)}", f"changeset_{secrets.token_hex(16)}"
    host = root.netloc.decode("ascii")
    lines = [f"--{batch}", f"Content-Type: multipart/mixed; boundary={change_set}", ""]
    for number, part in enumerate(parts, start=1):
        lines += [
            f"--{change_set}",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: {number}",
            "",
            f"PATCH {root.path}{part.resource().path} HTTP/1.1",
            f"Host: {host}",
            "Accept: application/json",
            "Content-Type: application/json",
            *_condition(part),
            "",
            json.dumps(part.columns, allow_nan=False),
        ]
    lines += [f"--{change_set}--", f"--{batch}--", ""]
    return f"multipart/mixed; boundary={batch}", "\r\n".join(lines).encode("ascii")


def answers(content_type: str, body: bytes) -> list[PartAnswer] | None:
    """Take the answers out of a multipart body, whatever the depth that they are at.

    Returns:
        None if it is cut, or no multipart body of HTTP responses.
    """
    try:
        head = f"Content-Type: {content_type}\r\n\r\n".encode("ascii")
        message = email.message_from_bytes(head + body, policy=_MIME)
        return [_answer(part) for part in _leaves(message)] if message.is_multipart() else None
    except (ValueError, LookupError, RecursionError):
        return None


def in_order(found: Sequence[PartAnswer], count: int) -> list[PartResult] | None:
    """The results of so many parts, in order; None if there are others than that.

    Without Content-IDs the answers are in the order of the parts.
    """
    numbers = [answer.content_id for answer in found]
    named = any(number is not None for number in numbers)
    if len(found) != count or (named and {*numbers} != {*range(1, count + 1)}):
        return None
    return [PartResult(answer.etag()) for answer in sorted(found, key=lambda answer: answer.content_id or 0)]


def _condition(part: Part) -> list[str]:
    if part.create_only:
        return ["If-None-Match: *"]
    if part.if_match is not None:
        return [f"If-Match: {require_etag(part.if_match)}"]
    return ["If-Match: *"] if part.update_only else []


def _leaves(message: Message) -> Iterator[Message]:
    for part in message.walk():
        # A boundary that is not there, or not at the end: the rest was cut off.
        if part.defects:
            raise ValueError("not whole")
        if not part.is_multipart():
            yield part


def _answer(part: Message) -> PartAnswer:
    content = part.get_payload(decode=True)
    start = _STATUS_LINE.match(content) if isinstance(content, bytes) else None
    if part.get_content_type() != "application/http" or start is None or not isinstance(content, bytes):
        raise ValueError("no HTTP response")
    inner = email.message_from_bytes(content[start.end() :], policy=_MIME)
    body = inner.get_payload(decode=True)
    if inner.defects or not isinstance(body, bytes):
        raise ValueError("no HTTP response")
    name = str(part.get("Content-ID") or inner.get("Content-ID") or "").strip()
    return PartAnswer(
        status=int(start[1]),
        content_id=int(name) if re.fullmatch(r"[0-9]{1,4}", name) else None,
        headers=httpx.Headers([(key, str(value)) for key, value in inner.items()]),
        body=body,
    )
