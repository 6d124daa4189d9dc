"""Error messages, as they go into artifacts and to people."""

import re
from datetime import datetime

from writeahead.errors import AdapterError, InvalidInput, NotReady
from writeahead.model import RunStatus

__all__ = ["foreign_final", "one_line", "when_pruned"]

# What adapters' messages may hold from a client library, and what is left of it. A query takes the
# rest of the message with it, since its end can't be recognized.
_REDACTIONS = [
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s'\"?#]*", re.IGNORECASE), ""),
    (re.compile(r"\?[^\s=?]*=.*"), ""),
    (re.compile(r"#\S*=\S*"), ""),
    (re.compile(r"\bhost=(['\"]).*?\1"), "host"),
    (re.compile(r"\b[\w-]+(\.[\w-]+)+:\d+\b"), "host"),
]
_MAX_MESSAGE = 500


def one_line(error: BaseException) -> str:
    """Return a message fit for artifacts and people: one line, without hosts and query strings."""
    # Half a surrogate pair, which JSON from elsewhere may bring along, can be in no artifact.
    text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    if isinstance(error, AdapterError | NotReady | InvalidInput):
        for pattern, kept in _REDACTIONS:
            text = pattern.sub(kept, text)
    return text[:_MAX_MESSAGE]


def foreign_final(key: str) -> str:
    """Why a session can't be finished whose final artifact's key holds another program's file."""
    return f"{key} is a file of another program, where the final artifact goes: move it elsewhere"


def when_pruned(status: RunStatus, pruned_at: datetime) -> str:
    """What became of a session that was pruned, in words that follow its name."""
    return f"was {status}, and pruned at {pruned_at:%Y-%m-%d %H:%M:%SZ}: its payloads and receipts are gone"
