"""What the exceptions of s3fs, aiobotocore and botocore mean; see `writeahead.stores.s3`."""

import asyncio
from concurrent.futures import CancelledError

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
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from writeahead.errors import Unavailable, Unsupported
from writeahead.stores.aws_settings import credentials_failure
from writeahead.stores.remote import RequestFailed
from writeahead.stores.s3_answers import Answer, answered, not_s3

__all__ = ["failure_of"]

_OF_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
_VERBS = {
    "put_object": "put",
    "get_object": "get",
    "head_object": "head",
    "list_objects_v2": "list",
    "delete_object": "delete",
}
# botocore's names of the calls that a store makes; any other call was made to get credentials.
_CALLS = {"PutObject", "GetObject", "HeadObject", "ListObjectsV2", "DeleteObject"}


def failure_of(method: str, error: BaseException, *, sent: bool = True) -> RequestFailed:
    """Classify what one S3 call raised, by the exception's type.

    Args:
        method: botocore's name of the call, e.g. ``put_object``.
        error: What the client raised.
        sent: Whether any of the request may have left this process.
    """
    # s3fs turns a ClientError into an OSError that knows less, and keeps the original as its cause.
    answer = error if isinstance(error, ClientError) else error.__cause__
    if isinstance(answer, ClientError):
        return _refused(_VERBS[method], answer)
    if isinstance(error, _OF_CREDENTIALS):
        return credentials_failure(error)
    if isinstance(error, ResponseParserError):
        return not_s3("it can't be read as XML")
    return _unanswered(error, sent=sent)


def _refused(verb: str, error: ClientError) -> RequestFailed:
    said = error.response
    code = str(said.get("Error", {}).get("Code", ""))
    if error.operation_name not in _CALLS:
        return credentials_failure(error)
    metadata = said.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    headers = {str(name).lower(): str(value) for name, value in metadata.get("HTTPHeaders", {}).items()}
    elements = {name: value for name, value in said.get("Error", {}).items() if isinstance(value, str)}
    return answered(verb, Answer(status, code, headers, elements))


def _unanswered(error: BaseException, *, sent: bool) -> RequestFailed:  # noqa: PLR0911 - a table
    on_the_wire = isinstance(error, HTTPClientError | BotoConnectionError)
    if type(error).__name__.startswith("Login"):
        return credentials_failure(error)  # newer than the oldest botocore that is supported
    if isinstance(error, BotoCoreError) and not on_the_wire:
        # Before anything was sent: parameters or configuration that botocore refuses.
        return RequestFailed(Unsupported, f"the S3 client refused the request ({type(error).__name__})")
    inner = getattr(error, "kwargs", {}).get("error") if on_the_wire else error
    if isinstance(inner, RequestFailed):
        return inner
    what = type(inner if inner is not None else error).__name__
    if isinstance(error, SSLError) or isinstance(inner, aiohttp.ClientSSLError):
        return RequestFailed(
            Unavailable,
            f"no connection to the server ({what}): its certificate is not trusted, or it does not speak "
            "TLS; name its CA in AWS_CA_BUNDLE, or correct endpoint_url",
        )
    # A connection that was never made has carried nothing. Every other failure may have come after
    # the server had all it needed, also what aiobotocore calls EndpointConnectionError.
    if isinstance(inner, aiohttp.ClientConnectorError) or isinstance(
        error, ConnectTimeoutError | ProxyConnectionError
    ):
        return RequestFailed(Unavailable, f"no connection to the server ({what})", retry=True)
    if not sent:
        return _before_sending(inner if inner is not None else error, connecting=on_the_wire)
    if isinstance(inner, aiohttp.ClientError | asyncio.TimeoutError | OSError) or on_the_wire:
        return RequestFailed(Unavailable, f"the connection failed ({what})", retry=True, unknown=True)
    return RequestFailed(Unavailable, f"the S3 client failed ({what})", unknown=True)


def _before_sending(error: BaseException, *, connecting: bool) -> RequestFailed:
    """The failure of a request of which nothing has left this process."""
    what = type(error).__name__
    if isinstance(error, NotImplementedError):
        # fsspec.asyn.sync, called on the thread of its own event loop: gevent and eventlet make all
        # threads of a process one.
        return RequestFailed(
            Unsupported,
            "s3fs needs threads, which gevent or eventlet has replaced: use client=obstore, or don't patch "
            "threads",
        )
    if isinstance(error, TimeoutError):
        return RequestFailed(Unavailable, f"no connection to the server ({what})", retry=True)
    if isinstance(error, OSError) and connecting:
        return RequestFailed(Unavailable, f"the CA file can't be read ({what}): check AWS_CA_BUNDLE")
    if isinstance(error, RuntimeError | CancelledError) or connecting:
        return RequestFailed(Unavailable, f"the S3 client failed before it sent anything ({what})")
    # What is left comes before connecting: a credential_process that fails or prints nonsense.
    return credentials_failure(error)
