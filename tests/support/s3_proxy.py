"""`writeahead.testing.HttpProxy` in front of an S3 server.

    with S3Proxy("http://127.0.0.1:9000") as proxy:
        store = open_store(f"s3://bucket?endpoint_url={proxy.url}")
        proxy.fault("PUT", lost_reply())
        store.put("a", b"1", if_absent=True)
        assert proxy.count() == {"PUT": 2, "GET": 1}

Verbs are the HTTP methods, but for ``LIST``: a GET of a bucket.

Switches hold until they are turned off: ``ignore_conditions`` drops If-None-Match and If-Match
before the server sees them; ``empty_errors`` takes the body off every error answer, as strict
servers do; ``bare_etags`` takes the quotes off ETags; ``no_if_match`` answers 501 to every
If-Match.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from writeahead.testing import http_proxy
from writeahead.testing.http_proxy import (
    Answer,
    Fault,
    HttpProxy,
    SeenRequest,
    after,
    lost_reply,
    reset_mid_body,
    truncated,
)

__all__ = [
    "Answer",
    "Fault",
    "S3Proxy",
    "SeenRequest",
    "after",
    "answer",
    "applied_then",
    "lost_reply",
    "reset_mid_body",
    "truncated",
]

_XML = {"Content-Type": "application/xml"}


def answer(status: int, code: str = "", body: bytes | None = None) -> Fault:
    """The server gets nothing; the client gets this status, and S3's error body for a code."""
    name = f"answer {status} {code}".rstrip()
    return replace(http_proxy.answer(status, _XML, _error(code, body)), name=name)


def applied_then(status: int, code: str = "") -> Fault:
    """The server applies the request; the client gets this status all the same."""
    name = f"applied, then {status} {code}".rstrip()
    return replace(http_proxy.applied_then(status, _XML, _error(code, None)), name=name)


def _error(code: str, body: bytes | None) -> bytes:
    if body is not None:
        return body
    return f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode() if code else b""


class S3Proxy(HttpProxy):
    """See the module's text."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.ignore_conditions = False
        self.empty_errors = False
        self.bare_etags = False
        self.no_if_match = False

    def verb_of(self, method: str, path: str) -> str:
        return "LIST" if method == "GET" and path.count("/") == 1 else method

    def forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if self.no_if_match and any(name.lower() == "if-match" for name in headers):
            return Answer(501, _XML, _error("NotImplemented", None))
        if self.ignore_conditions:
            headers = {k: v for k, v in headers.items() if k.lower() not in {"if-none-match", "if-match"}}
        reply = super().forward(method, target, headers, body)
        if self.empty_errors and reply.status >= 400 and method != "HEAD":
            reply = replace(reply, body=b"")
        return _with_bare_etags(reply) if self.bare_etags else reply


def _with_bare_etags(reply: Answer) -> Answer:
    headers = {k: v.strip('"') if k.lower() == "etag" else v for k, v in reply.headers.items()}
    body = re.sub(rb'<ETag>(?:"|&quot;)(.*?)(?:"|&quot;)</ETag>', rb"<ETag>\1</ETag>", reply.body)
    return replace(reply, headers=headers, body=body)
