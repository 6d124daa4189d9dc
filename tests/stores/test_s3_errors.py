"""What each answer of an S3 server, and each failure on the way to it, is taken for."""

import errno
from types import SimpleNamespace

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ProxyConnectionError,
    ReadTimeoutError,
    TokenRetrievalError,
)

from writeahead.errors import AccessDenied, InvalidKey, NotFound, Unavailable, Unsupported
from writeahead.stores.remote import RequestFailed
from writeahead.stores.s3_errors import failure_of

SECRET = "planted secret at https://bucket.example?X-Amz-Signature=1"


def answered(status, code="", method="put_object"):
    said = {"Error": {"Code": code, "Message": SECRET}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return failure_of(method, ClientError(said, "PutObject"))


def seen(failure):
    return failure.error, failure.retry, failure.unknown, failure.absent


@pytest.mark.parametrize(
    ("status", "code", "error", "advice"),
    [
        (401, "", AccessDenied, "check the credentials"),
        (403, "AccessDenied", AccessDenied, "check the credentials"),
        (400, "ExpiredToken", AccessDenied, "check the credentials"),
        (400, "TokenRefreshRequired", AccessDenied, "check the credentials"),
        (501, "", Unsupported, "it can't do what writeahead needs"),
        (400, "NotImplemented", Unsupported, "it can't do what writeahead needs"),
        (301, "PermanentRedirect", NotFound, "set region="),
        (307, "", NotFound, "set region="),
        (400, "AuthorizationHeaderMalformed", NotFound, "set region="),
        (400, "KeyTooLongError", InvalidKey, "400 KeyTooLongError"),
        (400, "InvalidRequest", Unsupported, "check the endpoint"),
        (400, "", Unsupported, "check the endpoint"),
        (405, "MethodNotAllowed", Unsupported, "check the endpoint"),
        (412, "PreconditionFailed", Unsupported, "412 PreconditionFailed"),
        (499, "", Unsupported, "check the endpoint"),
    ],
)
def test_a_refusal_that_would_come_again_is_final(status, code, error, advice):
    failure = answered(status, code)
    assert seen(failure) == (error, False, False, False)
    assert failure.status == status
    assert advice in failure.detail
    assert failure.detail.startswith(f"the server answered {status}")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "ConditionalRequestConflict"),
        (408, ""),
        (429, "TooManyRequests"),
        (503, "SlowDown"),
        (503, "ServiceUnavailable"),
        (500, "RequestLimitExceeded"),
        (400, "BadDigest"),
        (400, "IncompleteBody"),
        (400, "RequestTimeout"),
        (400, "XAmzContentSHA256Mismatch"),
    ],
)
def test_what_surely_did_not_happen_may_be_tried_again(status, code):
    failure = answered(status, code)
    assert seen(failure) == (Unavailable, True, False, False)
    assert failure.status == status
    assert failure.detail == f"the server answered {status} {code}".rstrip()


@pytest.mark.parametrize(
    ("status", "code"), [(500, "InternalError"), (502, ""), (503, ""), (504, ""), (200, "Slow")]
)
def test_a_server_that_broke_down_may_have_done_it(status, code):
    failure = answered(status, code)
    assert seen(failure) == (Unavailable, True, True, False)
    assert failure.status == status


@pytest.mark.parametrize("method", ["get_object", "head_object", "delete_object"])
@pytest.mark.parametrize("code", ["NoSuchKey", "404", ""])
def test_404_of_an_object_is_its_absence(method, code):
    failure = answered(404, code, method)
    assert seen(failure) == (NotFound, False, False, True)
    assert (failure.status, failure.detail) == (404, "there is no such object")


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        ("put_object", 404, ""),
        ("list_objects_v2", 404, ""),
        ("get_object", 404, "NoSuchBucket"),
        ("delete_object", 400, "NoSuchBucket"),
    ],
)
def test_a_missing_bucket_is_no_missing_object(method, status, code):
    failure = answered(status, code, method)
    assert seen(failure) == (NotFound, False, False, False)
    assert failure.status == status
    assert "no such bucket; create it" in failure.detail


@pytest.mark.parametrize("code", ["503", ""])
def test_a_status_is_said_once(code):
    assert answered(503, code).detail == "the server answered 503"


@pytest.mark.parametrize("code", ["<b>secret</b>", "a" * 65, "SlowDown at https://bucket", "Prêt"])
def test_what_is_no_code_is_not_passed_on(code):
    assert answered(503, code).detail == "the server answered 503"
    assert answered(503, "a" * 64).detail.endswith("a" * 64)


def test_an_answer_without_status_or_code_is_a_breakdown():
    failure = failure_of("put_object", ClientError({}, "PutObject"))
    assert seen(failure) == (Unavailable, True, True, False)
    assert failure.detail == "the server answered 0"


def test_the_answer_is_read_through_what_s3fs_makes_of_it():
    answer = ClientError(
        {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "PutObject"
    )
    translated = PermissionError(SECRET)
    translated.__cause__ = answer
    assert (failure_of("put_object", translated).error, failure_of("put_object", translated).status) == (
        AccessDenied,
        403,
    )


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ProfileNotFound(profile="staging"), "the profile is not in the AWS configuration files"),
        (NoCredentialsError(), "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        (PartialCredentialsError(provider="env", cred_var="x"), "set AWS_ACCESS_KEY_ID"),
        (CredentialRetrievalError(provider="sso", error_msg=SECRET), "set AWS_ACCESS_KEY_ID"),
        (TokenRetrievalError(provider="sso", error_msg=SECRET), "set AWS_ACCESS_KEY_ID"),
    ],
)
def test_who_has_no_credentials_is_told_what_to_set(error, says):
    failure = failure_of("put_object", error)
    assert seen(failure) == (AccessDenied, False, False, False)
    assert failure.status is None
    assert says in failure.detail


def test_what_the_client_refuses_was_never_sent():
    failure = failure_of("put_object", ParamValidationError(report=SECRET))
    assert seen(failure) == (Unsupported, False, False, False)
    assert failure.detail == "the S3 client refused the request (ParamValidationError)"


def connector_error():
    key = SimpleNamespace(host="bucket.example", port=443, ssl=True)
    return aiohttp.ClientConnectorError(key, OSError(errno.ECONNREFUSED, SECRET))


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (connector_error(), "ClientConnectorError"),
        (EndpointConnectionError(endpoint_url=SECRET, error=connector_error()), "ClientConnectorError"),
        (ConnectTimeoutError(endpoint_url=SECRET), "ConnectTimeoutError"),
        (ConnectTimeoutError(endpoint_url=SECRET, error=TimeoutError()), "TimeoutError"),
        (ProxyConnectionError(proxy_url=SECRET), "ProxyConnectionError"),
    ],
)
def test_a_connection_that_was_never_made_has_carried_nothing(error, named):
    failure = failure_of("put_object", error)
    assert seen(failure) == (Unavailable, True, False, False)
    assert failure.detail == f"no connection to the server ({named})"


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (
            EndpointConnectionError(endpoint_url=SECRET, error=aiohttp.ServerDisconnectedError()),
            "ServerDisconnectedError",
        ),
        (HTTPClientError(error=aiohttp.ClientPayloadError(SECRET)), "ClientPayloadError"),
        (ReadTimeoutError(endpoint_url=SECRET), "ReadTimeoutError"),
        (aiohttp.ClientPayloadError(SECRET), "ClientPayloadError"),
        (TimeoutError(SECRET), "TimeoutError"),
        (OSError(errno.ECONNRESET, SECRET), "ConnectionResetError"),
    ],
)
def test_a_connection_that_broke_may_have_carried_all(error, named):
    failure = failure_of("put_object", error)
    assert seen(failure) == (Unavailable, True, True, False)
    assert failure.status is None
    assert failure.detail == f"the connection failed ({named})"


def test_no_failure_repeats_a_message():
    for error in (
        connector_error(),
        ReadTimeoutError(endpoint_url=SECRET),
        ParamValidationError(report=SECRET),
    ):
        assert "secret" not in str(failure_of("put_object", error))


def test_a_failure_reads_as_what_happened():
    assert str(RequestFailed(Unavailable, "it broke")) == "it broke"
