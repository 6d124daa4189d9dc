"""What the answers of an S3 server mean, whichever client received them.

Read from the status, the error code and the elements of the error body, never from a message:
compatible servers leave messages empty. Sources: "Error responses" in AWS's S3 API reference; for
412 and 409 after If-None-Match, "How to prevent object overwrites with conditional writes" in its
user guide; for the permissions, "Required permissions for Amazon S3 API operations".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from writeahead.errors import AccessDenied, InvalidKey, NotFound, StoreError, Unavailable, Unsupported
from writeahead.stores.remote import RequestFailed

__all__ = ["PERMISSIONS", "Answer", "answered", "not_s3"]

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_BAD_TOKEN = {"InvalidToken", "InvalidClientTokenId", "InvalidIdentityToken"}
_BAD_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch"}
_ELSEWHERE = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
}
# Our body was damaged on its way, or did not come in time; the server threw it away.
_DAMAGED = {"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"}
# By these a server says that it has not begun. A 503 without one may come from something in front
# of the server, which can't know whether it had.
_NOT_BEGUN = {
    "KMS.ThrottlingException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "TooManyRequests",
}
# Refusals that may pass. 409 (ConditionalRequestConflict, OperationAborted): another request for
# the same key was under way.
_PASSING = {HTTPStatus.CONFLICT, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_REDIRECTION, _CLIENT_ERROR = 3, 4
_OF_REGION = "x-amz-bucket-region"
_CODE = re.compile(r"[A-Za-z0-9]{1,64}(\.[A-Za-z0-9]{1,64})?", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
PERMISSIONS = {
    "put": "s3:PutObject",
    "get": "s3:GetObject",
    "head": "s3:GetObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}
# Seconds. S3 refuses requests whose time differs by more than 15 minutes from its own.
_SKEW = 15 * 60


@dataclass(frozen=True, slots=True)
class Answer:
    """What an S3 server said, apart from an object's bytes.

    Attributes:
        status: The HTTP status.
        code: The error code of the body, as it came; empty if there is none.
        headers: By their names in lower case.
        error: Other elements of the error body, by name.
    """

    status: int
    code: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, str] = field(default_factory=dict)


def answered(verb: str, answer: Answer) -> RequestFailed:
    """Classify an answer that is no success.

    Args:
        verb: The store's verb: ``put``, ``get``, ``head``, ``list`` or ``delete``.
        answer: What the server said.
    """
    status = answer.status
    # What is no code may be anything: it is not passed on.
    code = answer.code if _CODE.fullmatch(answer.code) else ""
    said = f"the server answered {status}" + (f" {code}" if code and code != str(status) else "")
    if status == HTTPStatus.NOT_FOUND or code == "NoSuchBucket":
        return _missing(verb, code, status)
    error, advice = _refusal(verb, code, answer) or (Unavailable, "")
    retry = error is Unavailable
    return RequestFailed(
        error, said + advice, status=status, retry=retry, unknown=retry and not _is_no(status, code)
    )


def not_s3(what: str) -> RequestFailed:
    """A success that is not S3's, such as a login page: nothing may be concluded from it."""
    detail = f"the answer is not that of a store ({what}); check endpoint_url, its port and any proxy"
    return RequestFailed(Unsupported, detail, unknown=True, foreign=True)


def _refusal(  # noqa: PLR0911 - a table
    verb: str, code: str, answer: Answer
) -> tuple[type[StoreError], str] | None:
    """What to raise and to say where another attempt would be refused as well; None elsewhere."""
    status = answer.status
    if _is_elsewhere(verb, code, answer):
        return NotFound, _elsewhere(answer)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or code in _EXPIRED | _BAD_TOKEN:
        return AccessDenied, _denied(verb, code, answer)
    if status == HTTPStatus.NOT_IMPLEMENTED or code == "NotImplemented":
        return Unsupported, ": it can't do what writeahead needs"
    if code in _NOT_BEGUN:
        return None
    if code.startswith("KMS."):
        return AccessDenied, "; check the KMS key of the bucket or of sse_kms_key_id, and its permissions"
    if code == "KeyTooLongError":
        return InvalidKey, ""
    if code == "InvalidBucketName":
        return NotFound, "; correct the bucket's name"
    if status // 100 == _CLIENT_ERROR and status not in _PASSING and code not in _DAMAGED:
        return Unsupported, "; check the endpoint and the bucket's settings"
    return None


def _is_elsewhere(verb: str, code: str, answer: Answer) -> bool:
    if answer.status // 100 == _REDIRECTION or code in _ELSEWHERE:
        return True
    # The answer to a HEAD has no code.
    return verb == "head" and answer.status == HTTPStatus.BAD_REQUEST and _OF_REGION in answer.headers


def _elsewhere(answer: Answer) -> str:
    region = answer.headers.get(_OF_REGION) or answer.error.get("Region", "")
    if _REGION.fullmatch(region):
        return f": the bucket is in region {region}; set region={region}"
    return ", and redirects are not followed; set region= to the bucket's region, or correct endpoint_url"


def _denied(verb: str, code: str, answer: Answer) -> str:
    skew = _skew(answer)
    if code == "RequestTimeTooSkewed" or (skew is not None and abs(skew) > _SKEW):
        if skew is None or abs(skew) < 1:
            return "; set this machine's clock: it differs too much from the server's"
        behind = "behind" if skew < 0 else "ahead of"
        return f"; set this machine's clock: it is {abs(skew):.0f} s {behind} the server's"
    if code in _EXPIRED:
        return "; check the credentials: the session token has expired, so renew them"
    if code in _BAD_TOKEN:
        return "; check the credentials: the session token is not accepted, so renew them"
    if code in _BAD_KEY:
        return "; check the credentials: the access key or its secret is wrong"
    return f"; check the credentials and their permissions ({PERMISSIONS[verb]})"


def _skew(answer: Answer) -> float | None:
    """Seconds by which this machine's clock is ahead of the server's; None if that is unknown."""
    try:
        if "ServerTime" in answer.error:
            theirs = datetime.fromisoformat(answer.error["ServerTime"])
        else:
            theirs = parsedate_to_datetime(answer.headers["date"])
        return (datetime.now(UTC) - theirs.replace(tzinfo=theirs.tzinfo or UTC)).total_seconds()
    except (KeyError, ValueError):
        return None


def _is_no(status: int, code: str) -> bool:
    """Whether a failure that may pass surely left everything as it was."""
    return status in _PASSING or code in _NOT_BEGUN or code in _DAMAGED


def _missing(verb: str, code: str, status: int) -> RequestFailed:
    if code == "NoSuchBucket" or verb in ("put", "list"):
        return RequestFailed(
            NotFound, "there is no such bucket; create it, or correct its name", status=status
        )
    return RequestFailed(NotFound, "there is no such object", status=status, absent=True)
