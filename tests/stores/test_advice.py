"""Errors say what helps: which clock, which permission, which region, which login. Both clients."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from botocore.exceptions import (
    ClientError,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from tests.support.s3_proxy import answer
from writeahead.errors import AccessDenied, NotFound, Unavailable
from writeahead.stores import remote
from writeahead.stores.registry import open_store
from writeahead.stores.s3_answers import Answer, answered
from writeahead.stores.s3_errors import failure_of
from writeahead.testing import http_proxy

CALLS = {
    "put": lambda store: store.put("a", b"1"),
    "get": lambda store: store.get("a"),
    "head": lambda store: store.head("a"),
    "list": lambda store: list(store.list()),
    "delete": lambda store: store.delete("a"),
}


@pytest.fixture
def store(client, s3_proxy, s3_bucket, monkeypatch):
    monkeypatch.setattr(remote, "WAIT_INITIAL", 0.001)
    return open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")


@pytest.mark.parametrize(
    ("verb", "permission"),
    [
        ("put", "s3:PutObject"),
        ("get", "s3:GetObject"),
        ("head", "s3:GetObject"),
        ("list", "s3:ListBucket"),
        ("delete", "s3:DeleteObject"),
    ],
)
def test_the_permission_that_is_missing_is_named(store, s3_proxy, verb, permission):
    s3_proxy.fault(lambda _: True, answer(403, "AccessDenied"), times=9)
    with pytest.raises(AccessDenied, match=re.escape(f"({permission})")):
        CALLS[verb](store)


SKEWED = "<Error><Code>RequestTimeTooSkewed</Code><ServerTime>%s</ServerTime></Error>"


@pytest.mark.parametrize(("hours", "says"), [(2, "s behind the server's"), (-2, "s ahead of the server's")])
@pytest.mark.parametrize("verb", ["put", "get", "list", "delete"])
def test_a_clock_that_is_wrong_is_named_and_by_how_much(store, s3_proxy, verb, hours, says):
    theirs = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    s3_proxy.fault(lambda _: True, http_proxy.answer(403, {}, (SKEWED % theirs).encode()), times=9)
    with pytest.raises(AccessDenied, match="set this machine's clock: it is 7[12][0-9]{2} " + says):
        CALLS[verb](store)


def test_a_refusal_without_a_body_tells_the_clock_by_its_date():
    date = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    assert "ahead of" in answered("head", Answer(403, "", {"date": date})).detail
    date = format_datetime(datetime.now(UTC) - timedelta(minutes=10), usegmt=True)
    assert "s3:GetObject" in answered("head", Answer(403, "", {"date": date})).detail


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}])
def test_a_clock_that_is_wrong_by_an_unknown_time(headers):
    failure = answered("put", Answer(403, "RequestTimeTooSkewed", headers, {"ServerTime": "noon"}))
    assert failure.error is AccessDenied
    assert "set this machine's clock: it differs too much" in failure.detail


@pytest.mark.parametrize(
    ("status", "code", "error", "says"),
    [
        (400, "ExpiredToken", AccessDenied, "the session token has expired, so renew"),
        (400, "InvalidToken", AccessDenied, "the session token is not accepted, so renew"),
        (403, "InvalidAccessKeyId", AccessDenied, "the access key or its secret is wrong"),
        (403, "SignatureDoesNotMatch", AccessDenied, "the access key or its secret is wrong"),
        (400, "KMS.DisabledException", AccessDenied, "400 KMS.DisabledException; check the KMS key"),
        (400, "KMS.NotFoundException", AccessDenied, "check the KMS key"),
        (400, "KMS.ThrottlingException", Unavailable, "400 KMS.ThrottlingException"),
        (400, "InvalidBucketName", NotFound, "correct the bucket's name"),
    ],
)
def test_codes_have_advice_that_fits(store, s3_proxy, status, code, error, says):  # noqa: PLR0917 - a table
    s3_proxy.fault("PUT", answer(status, code), times=9)
    with pytest.raises(error, match=re.escape(says)):
        store.put("a", b"1")


@pytest.mark.parametrize("code", ["a..b", ".a", "a.", "a.b.c", "KMS.Planted secret"])
def test_what_is_no_code_with_a_dot_is_not_passed_on(code):
    assert code not in answered("put", Answer(400, code)).detail


@pytest.mark.parametrize(
    "error",
    [
        UnauthorizedSSOTokenError(),
        SSOTokenLoadError(error_msg="planted"),
        TokenRetrievalError(provider="sso", error_msg="planted"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_expired_login_says_to_log_in(error):
    failure = failure_of("put_object", error)
    assert (failure.error, failure.retry, failure.unknown) == (AccessDenied, False, False)
    assert "run 'aws sso login'" in failure.detail
    assert "planted" not in failure.detail


@pytest.mark.parametrize("code", ["ExpiredTokenException", "InvalidIdentityToken", "AccessDenied"])
def test_a_token_that_sts_refuses_is_no_answer_of_the_store(code):
    said = {"Error": {"Code": code, "Message": "planted"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    failure = failure_of("put_object", ClientError(said, "AssumeRoleWithWebIdentity"))
    assert (failure.error, failure.retry, failure.unknown) == (AccessDenied, False, False)
    assert "refused when AssumeRoleWithWebIdentity" in failure.detail


# Other services.


@pytest.mark.parametrize("scheme", ["gs", "az"])
@pytest.mark.parametrize("fault", [answer(403), answer(404, "NoSuchBucket")], ids=lambda fault: fault.name)
def test_other_services_are_not_spoken_of_as_s3(s3_proxy, monkeypatch, scheme, fault):
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "planted")
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "planted")
    account = "&account=me" if scheme == "az" else ""
    other = open_store(f"{scheme}://place/p?endpoint_url={s3_proxy.url}{account}")
    s3_proxy.fault(lambda _: True, fault, times=99)
    with pytest.raises((AccessDenied, NotFound)) as caught:
        other.put("a", b"1")
    said = caught.value.detail
    assert not [word for word in ("s3:", "AWS", "S3") if word in said]
    assert ("container" in said) == (scheme == "az" and caught.type is NotFound)
    assert ("bucket" in said) == (scheme == "gs" and caught.type is NotFound)
