"""What the failures of an S3 request mean; see `writeahead.stores.s3`.

Read from the status, the error code and the exception's type, never from a message: compatible
servers leave those empty. Sources: "Error responses" in AWS's S3 API reference; for 412 and 409
after If-None-Match, "How to prevent object overwrites with conditional writes" in its user guide.
"""

import asyncio
import re
from http import HTTPStatus

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from writeahead.errors import AccessDenied, InvalidKey, NotFound, StoreError, Unavailable, Unsupported
from writeahead.stores.remote import RequestFailed

__all__ = ["CLIENT_ERRORS", "failure_of"]

# All that the client raises for a request. aiohttp's own come out while a body is read; OSErrors
# are s3fs's translations of ClientError, and time-outs. Anything else is a bug, and is left to be
# seen.
CLIENT_ERRORS = (
    BotoCoreError,
    ClientError,
    ResponseParserError,
    aiohttp.ClientError,
    asyncio.TimeoutError,
    asyncio.IncompleteReadError,
    OSError,
)

_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError)
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
_ELSEWHERE = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"}
# Our body was damaged on its way, or did not come in time; the server threw it away.
_DAMAGED = {"BadDigest", "IncompleteBody", "RequestTimeout", "XAmzContentSHA256Mismatch"}
# By these a server says that it has not begun. A 503 without one may come from something in front
# of the server, which can't know whether it had.
_NOT_BEGUN = {"SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded"}
# Refusals that may pass. 409 (ConditionalRequestConflict, OperationAborted): others were at it.
_PASSING = {HTTPStatus.CONFLICT, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_REDIRECTION, _CLIENT_ERROR = 3, 4
_CODE = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)


def failure_of(method: str, error: BaseException) -> RequestFailed:
    """Classify what one S3 call raised.

    Args:
        method: botocore's name of the call, e.g. ``put_object``.
        error: One of `CLIENT_ERRORS`.
    """
    # s3fs turns a ClientError into an OSError that knows less, and keeps the original as its cause.
    answer = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(answer, ClientError):
        status = int(answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = str(answer.response.get("Error", {}).get("Code", ""))
        # What is no code may be anything: it is not passed on.
        return _answered(method, status, code if _CODE.fullmatch(code) else "")
    if isinstance(error, ProfileNotFound):
        return RequestFailed(
            AccessDenied, "the profile is not in the AWS configuration files; check its name"
        )
    if isinstance(error, _NO_CREDENTIALS):
        return RequestFailed(
            AccessDenied, "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give a profile"
        )
    return _unanswered(error)


def _unanswered(error: BaseException) -> RequestFailed:
    on_the_wire = isinstance(error, HTTPClientError | BotoConnectionError)
    if isinstance(error, BotoCoreError) and not on_the_wire:
        # Before anything was sent: parameters or configuration that botocore refuses.
        return RequestFailed(Unsupported, f"the S3 client refused the request ({type(error).__name__})")
    inner = getattr(error, "kwargs", {}).get("error") if on_the_wire else error
    what = type(inner if inner is not None else error).__name__
    # A connection that was never made has carried nothing. Every other failure may have come after
    # the server had all it needed, also what aiobotocore calls EndpointConnectionError.
    not_sent = isinstance(inner, aiohttp.ClientConnectorError) or isinstance(
        error, ConnectTimeoutError | ProxyConnectionError
    )
    if not_sent:
        return RequestFailed(Unavailable, f"no connection to the server ({what})", retry=True)
    return RequestFailed(Unavailable, f"the connection failed ({what})", retry=True, unknown=True)


def _answered(method: str, status: int, code: str) -> RequestFailed:
    said = f"the server answered {status}" + (f" {code}" if code and code != str(status) else "")
    if status == HTTPStatus.NOT_FOUND or code == "NoSuchBucket":
        return _missing(method, code, status)
    error, advice = _refusal(status, code) or (Unavailable, "")
    retry = error is Unavailable
    return RequestFailed(
        error, said + advice, status=status, retry=retry, unknown=retry and not _is_no(status, code)
    )


def _refusal(status: int, code: str) -> tuple[type[StoreError], str] | None:
    """What to raise, and what to say behind the answer, where another attempt would be refused as well."""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or code in _EXPIRED:
        return AccessDenied, "; check the credentials and their permissions"
    if status == HTTPStatus.NOT_IMPLEMENTED or code == "NotImplemented":
        return Unsupported, ": it can't do what writeahead needs"
    if status // 100 == _REDIRECTION or code in _ELSEWHERE:
        return NotFound, ": the bucket is in another region; set region="
    if code == "KeyTooLongError":
        return InvalidKey, ""
    if status // 100 == _CLIENT_ERROR and status not in _PASSING and code not in _DAMAGED:
        return Unsupported, "; check the endpoint and the bucket's settings"
    return None


def _is_no(status: int, code: str) -> bool:
    """Whether a failure that may pass surely left everything as it was."""
    return status in _PASSING or code in _NOT_BEGUN or code in _DAMAGED


def _missing(method: str, code: str, status: int) -> RequestFailed:
    if code == "NoSuchBucket" or method in ("put_object", "list_objects_v2"):
        return RequestFailed(
            NotFound, "there is no such bucket; create it, or correct its name", status=status
        )
    return RequestFailed(NotFound, "there is no such object", status=status, absent=True)
