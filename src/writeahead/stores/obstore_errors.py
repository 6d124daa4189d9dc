"""What obstore's exceptions mean; see `writeahead.stores.obstore`.

401, 403, 404, 409, 412 and 304 have a type of error each, but not from a listing; all else is one
type. More is only in the part of the text behind ``Debug source:``, which is the structure of the
error as Rust prints it, one field a line, with what the server said as one escaped line. The
status, the error code and the kind of a failed connection are read from there, field by field; the
words of the server are not.
"""

import re

from obstore.exceptions import (
    AlreadyExistsError,
    InvalidPathError,
    NotModifiedError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from writeahead.errors import AccessDenied, NotFound, Unavailable, Unsupported
from writeahead.stores.aws_settings import NO_CREDENTIALS
from writeahead.stores.obstore_clients import NOWHERE
from writeahead.stores.remote import RequestFailed
from writeahead.stores.s3_answers import Answer, answered, not_s3

__all__ = ["failure_of"]

_INNER = re.compile(r"^\s*inner: (\w+)", re.MULTILINE | re.ASCII)
_STATUS = re.compile(r"^\s*status: (\d{3}),$", re.MULTILINE | re.ASCII)
_KIND = re.compile(r"^\s*kind: (\w+),$", re.MULTILINE | re.ASCII)
_BODY = re.compile(r'^\s*body: Some\(\s*"(.*)",$', re.MULTILINE)
_ELEMENT = re.compile(r"<(Code|Region|ServerTime)>([^<>]{1,64})</\1>")
_REDIRECTED = re.compile(rf"^\s*{re.escape(NOWHERE)},$", re.MULTILINE)
_METADATA = re.compile(r"^\s*http://169\.254\.", re.MULTILINE)
_TLS = re.compile(r"^\s*error: (InvalidCertificate|InvalidMessage|AlertReceived)\(", re.MULTILINE)


def failure_of(verb: str, error: BaseException) -> RequestFailed:
    """Classify what one call raised.

    Args:
        verb: The store's verb.
        error: What obstore raised.
    """
    debug = str(error).rpartition("\n\nDebug source:\n")[2]
    inner = _INNER.search(debug)
    if isinstance(error, InvalidPathError):
        return RequestFailed(Unsupported, "the place holds an object whose name this client can't read")
    if isinstance(error, AlreadyExistsError):
        detail = "the server answered that another request for the key was under way"
        return RequestFailed(Unavailable, detail, retry=True)
    if inner is not None and inner[1] == "Status" and (status := _STATUS.search(debug, inner.end())):
        return _answered(verb, int(status[1]), debug)
    return _by_structure(inner, debug) or _by_type(verb, error)


def _answered(verb: str, status: int, debug: str) -> RequestFailed:
    body = _BODY.search(debug)
    elements = dict(_ELEMENT.findall(body[1] if body else ""))
    failure = answered(verb, Answer(status, elements.get("Code", ""), {}, elements))
    if failure.absent and "Code" not in elements:
        # This client's answers to a missing bucket and to a missing object look the same.
        failure.detail = "there is no such object, or no such bucket"
    return failure


def _by_structure(inner: re.Match[str] | None, debug: str) -> RequestFailed | None:  # noqa: PLR0911 - a table
    if "InvalidListResponse {" in debug:
        return not_s3("no ListBucketResult")
    if re.search(r"^\s*source: Missing(Etag|ContentLength|LastModified)\b", debug, re.MULTILINE):
        return not_s3("no ETag, Last-Modified or Content-Length")
    if _METADATA.search(debug):
        return RequestFailed(AccessDenied, NO_CREDENTIALS)
    if inner is None:
        return None
    if inner[1] == "BareRedirect" or _REDIRECTED.search(debug):
        detail = "the server redirected, and redirects are not followed; set region= to the bucket's region, "
        return RequestFailed(NotFound, detail + "or correct endpoint_url")
    kind = _KIND.search(debug, inner.end())
    if inner[1] == "Http" and kind is not None and kind[1] == "Connect":
        if _TLS.search(debug):
            return RequestFailed(
                Unavailable,
                "no connection to the server: its certificate is not trusted, or it does not speak TLS; name "
                "its CA in AWS_CA_BUNDLE, or correct endpoint_url",
            )
        return RequestFailed(Unavailable, "no connection to the server", retry=True)
    return None


def _by_type(verb: str, error: BaseException) -> RequestFailed:
    if isinstance(error, FileNotFoundError):
        if verb == "put":
            return RequestFailed(NotFound, "there is no such bucket; create it, or correct its name")
        return RequestFailed(NotFound, "there is no such object, or no such bucket", absent=True)
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return RequestFailed(AccessDenied, "the server refused; check the credentials and their permissions")
    if isinstance(error, NotSupportedError | PreconditionError | NotModifiedError):
        return RequestFailed(
            Unsupported, f"the server can't do what writeahead needs ({type(error).__name__})"
        )
    return RequestFailed(
        Unavailable, f"the request failed ({type(error).__name__})", retry=True, unknown=True
    )
