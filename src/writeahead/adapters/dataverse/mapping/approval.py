"""Approving a mapping: a name and the digest of what was approved, in the file itself.

It says who looked at the file, and shows that it was changed since. It is no signature: those who
may write the file may also write an approval.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from writeahead.errors import InvalidInput

__all__ = ["APPROVAL_KEYS", "Approval", "approval_of", "approved_text"]

# Top-level keys of the file. The digest is over all others.
_BY, _DIGEST, _REQUIRED = "approved_by", "approved_sha256", "require_approval"
APPROVAL_KEYS = frozenset({_BY, _DIGEST, _REQUIRED})
_LINE = re.compile(rf"[ \t]*({_BY}|{_DIGEST})[ \t]*=")
_TABLE = re.compile(r"[ \t]*\[")
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Approval:
    """What a mapping file says of its approval.

    Attributes:
        required: Whether it may be written by only once it is approved.
        by: Who approved it; None without an approval.
        approved: The digest of what was approved.
        digest: The digest of what the file holds now: the sha256, in hex, of its content as JSON
            with sorted keys, without ``approved_by`` and ``approved_sha256``. Comments and the
            order of keys don't count.
    """

    required: bool = False
    by: str | None = None
    approved: str | None = None
    digest: str = ""

    def problem(self, name: str) -> str | None:
        """Why the file counts as not approved; None if it is approved.

        Args:
            name: The file, for the message.
        """
        how = f"look at it, then: writeahead dataverse approve {name} --by NAME"
        if self.by is None:
            return f"mapping {name} is not approved: {how}"
        if self.approved != self.digest:
            return f"mapping {name} was changed after {self.by} had approved it: {how}"
        return None


def approval_of(name: str, content: Mapping[str, Any]) -> Approval:
    """Read what a file says of its approval.

    Args:
        name: The file, for messages.
        content: What it holds.

    Raises:
        InvalidInput: A key of the approval is of the wrong type, or one of two is missing.
    """
    by, approved, required = content.get(_BY), content.get(_DIGEST), content.get(_REQUIRED, False)
    if type(required) is not bool:
        raise InvalidInput(f"mapping {name}: {_REQUIRED} must be true or false")
    for key, value in ((_BY, by), (_DIGEST, approved)):
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"mapping {name}: {key} must be a text")
    if (by is None) != (approved is None):
        raise InvalidInput(
            f"mapping {name}: {_BY} and {_DIGEST} come together: writeahead dataverse approve writes both"
        )
    rest = {key: value for key, value in content.items() if key not in (_BY, _DIGEST)}
    # What TOML has and JSON has not: dates, of which a mapping has none.
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, default=str)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Approval(required, by, approved, digest)


def approved_text(name: str, text: str, by: str) -> str:
    """Return a file's text with an approval; the rest of it stays as it is.

    Args:
        name: The file, for messages.
        text: What it holds.
        by: Who approves it.

    Raises:
        InvalidInput: ``by`` is empty, too long or more than one line; or the text is laid out so
            that the approval can't be put into it.
    """
    if not by.strip() or len(by) > _LONGEST_NAME or not by.isprintable():
        raise InvalidInput(f"--by must be a name in one line, of at most {_LONGEST_NAME} characters")
    content = tomllib.loads(text.removeprefix("\ufeff"))
    digest = approval_of(
        name, {key: value for key, value in content.items() if key not in (_BY, _DIGEST)}
    ).digest
    lines = text.splitlines(keepends=True)
    end = next((number for number, line in enumerate(lines) if _TABLE.match(line)), len(lines))
    newline = "\r\n" if any(line.endswith("\r\n") for line in lines) else "\n"
    added = [
        f"{_BY} = {json.dumps(by, ensure_ascii=False)}{newline}",
        f'{_DIGEST} = "{digest}"{newline}',
    ]
    head = [line for line in lines[:end] if not _LINE.match(line)]
    # Right after the keys of before, so that comments on the first table stay with it.
    position = max(
        (at + 1 for at, line in enumerate(head) if line.strip() and line.lstrip()[0] != "#"), default=0
    )
    if position == 0 and len(head) == end:
        added.append(newline)
    approved = "".join([*head[:position], *added, *head[position:], *lines[end:]])
    try:
        found = tomllib.loads(approved.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError:
        found = {}
    if found != {**content, _BY: by, _DIGEST: digest}:
        raise InvalidInput(
            f'mapping {name}: put these before its first table by hand: {_BY} = "...", {_DIGEST} = "{digest}"'
        )
    return approved
