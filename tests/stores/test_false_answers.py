"""A server that is no S3 server, or not the right one: nothing it answers is believed or followed.

Both clients and every verb. The truth is what the other servers were asked, and what the bucket
holds.
"""

import hashlib
import re

import pytest

from tests.support.s3_proxy import S3Proxy, answer
from writeahead.errors import NotFound, OutcomeUnknown, StoreError, Unavailable, Unsupported
from writeahead.stores.registry import open_store
from writeahead.stores.s3_client import run
from writeahead.testing import http_proxy

pytestmark = pytest.mark.usefixtures("short_waits")

PAGE = b"<!DOCTYPE html><html><body>Log in</body></html>"
XHTML = b"<html><body><Name/>Log in</body></html>"
HEADERS = {"Content-Type": "text/html"}
STATIC = {**HEADERS, "ETag": '"5e8c-60"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
VERBS = {
    "put": lambda store: store.put("a", b"mine"),
    "create": lambda store: store.put("a", b"mine", if_absent=True),
    "get": lambda store: store.get("a"),
    "head": lambda store: store.head("a"),
    "list": lambda store: list(store.list()),
    "list below": lambda store: list(store.list("a/")),
    "delete": lambda store: store.delete("a"),
}
WRITES = {"put", "create", "delete"}


@pytest.fixture(params=VERBS)
def verb(request) -> str:
    return request.param


@pytest.fixture
def store(client, s3_proxy: S3Proxy, s3_bucket):
    return open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")


def always(proxy, fault):
    proxy.fault(lambda _: True, fault, times=1000)


@pytest.mark.parametrize(
    ("headers", "body"),
    [(HEADERS, PAGE), (HEADERS, XHTML), ({}, b""), (STATIC, PAGE)],
    ids=["page", "xhtml", "empty", "static page"],
)
def test_a_200_of_no_s3_server_is_not_believed(store, s3_proxy, verb, headers, body):
    if headers is STATIC and verb in ("get", "head"):
        pytest.skip("it has all that an object has; what an artifact holds is checked where it is read")
    always(s3_proxy, http_proxy.answer(200, headers, body))
    with pytest.raises(OutcomeUnknown if verb in WRITES else (Unsupported, Unavailable)):
        VERBS[verb](store)


def test_a_200_in_the_middle_of_a_listing_is_not_its_end(client, s3_proxy, s3_bucket):
    s3_bucket.fill("many/", 1500)
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")
    s3_proxy.fault("LIST", http_proxy.answer(200, HEADERS, XHTML), times=1000, skip=1)
    s3_proxy.fault("GET", http_proxy.answer(200, HEADERS, XHTML), times=1000)
    with pytest.raises((Unsupported, Unavailable)):
        list(store.list("many/"))


def test_success_for_a_put_that_was_not_done_is_found_out(store, s3_proxy, s3_bucket):
    """One page in place of the first answer; the server behind it is right again after that."""
    for verb, key in (("put", "a"), ("create", "b")):
        s3_proxy.fault("PUT", http_proxy.answer(200, HEADERS, PAGE))
        store.put(key, b"mine", if_absent=verb == "create")
        assert s3_bucket.read(key) == b"mine"


def test_an_etag_that_is_no_digest_is_proved_by_reading_back(store, s3_proxy, s3_bucket):
    s3_proxy.fault("PUT", http_proxy.applied_then(200, {"ETag": '"opaque-1"'}))
    assert store.put("a", b"mine", if_absent=True).size == 4
    assert [request.verb for request in s3_proxy.requests] == ["PUT", "GET"]
    assert s3_bucket.read("a") == b"mine"


def test_an_etag_of_another_object_is_not_believed(store, s3_proxy, s3_bucket):
    s3_bucket.write("a", b"theirs")
    theirs = hashlib.md5(b"theirs").hexdigest()
    always(s3_proxy, http_proxy.answer(200, {"ETag": f'"{theirs}"'}))
    with pytest.raises(OutcomeUnknown):
        store.put("a", b"mine")


def test_a_delete_without_proof_is_looked_for(client, s3_proxy, s3_bucket):
    s3_bucket.write("a", b"1")
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")
    s3_proxy.fault("DELETE", http_proxy.answer(200, HEADERS, PAGE))
    with pytest.raises(OutcomeUnknown, match="still there"):
        store.delete("a")
    s3_proxy.fault("DELETE", http_proxy.applied_then(200))
    store.delete("a")
    assert s3_bucket.read("a") is None


# Redirects.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_never_followed(store, s3_proxy, verb, status, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "planted-token")
    with S3Proxy("http://127.0.0.1:1") as elsewhere:
        url = elsewhere.url.replace("127.0.0.1", "localhost") + "/elsewhere"
        always(s3_proxy, http_proxy.answer(status, {"Location": url}))
        with pytest.raises(StoreError) as caught:
            VERBS[verb](store)
        assert elsewhere.requests == []
    assert "localhost" not in str(caught.value)


def test_a_redirect_after_a_new_connection_is_not_followed_either(s3_proxy, s3_bucket):
    """s3fs makes another client of botocore's when the connections of the one before are closed."""
    store = open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}")
    store.put("a", b"1")
    ((client,),) = store._clients.values()
    connected = client._s3
    run(client._s3creator.__aexit__, None, None, None, limit=60)
    run(client.set_session, True, limit=60)
    assert client._s3 is not connected
    s3_proxy.clear()
    always(s3_proxy, http_proxy.answer(301, {"x-amz-bucket-region": "eu-north-1"}))
    with pytest.raises(NotFound, match="set region=eu-north-1"):
        store.put("a", b"2")
    assert len(s3_proxy.requests) == 1


@pytest.mark.parametrize(
    ("url", "verbs"),
    [("gs://bucket?anonymous=true", VERBS.keys() - WRITES), ("az://box?account=acct", VERBS)],
)
def test_google_s_and_azure_s_clients_go_to_no_other_host(url, verbs, s3_proxy, monkeypatch):
    """A batch of Azure's deletes holds a signature in its body."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "cGxhbnRlZA==")
    with S3Proxy("http://127.0.0.1:1") as elsewhere:
        there = elsewhere.url.replace("127.0.0.1", "localhost") + "/elsewhere"
        always(s3_proxy, http_proxy.answer(307, {"Location": there}))
        store = open_store(f"{url}&endpoint_url={s3_proxy.url}")
        for verb in verbs:
            with pytest.raises(NotFound, match="redirects are not followed; correct endpoint_url"):
                VERBS[verb](store)
        assert s3_proxy.requests
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_port_is_never_followed(s3_proxy, s3_bucket, verb, status):
    """obstore can't be kept from it: see docs/stores.md."""
    store = open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}")
    with S3Proxy("http://127.0.0.1:1") as elsewhere:
        always(s3_proxy, http_proxy.answer(status, {"Location": f"{elsewhere.url}/elsewhere"}))
        with pytest.raises(NotFound, match="redirects are not followed"):
            VERBS[verb](store)
        assert elsewhere.requests == []
    assert len(s3_proxy.requests) == 1


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize("code", ["", "PermanentRedirect"])
def test_a_redirect_without_a_place_is_one_line(store, s3_proxy, verb, status, code):
    always(s3_proxy, answer(status, code))
    with pytest.raises(NotFound, match="set region="):
        VERBS[verb](store)
    assert len(s3_proxy.requests) == 1


WRONG_REGION = (
    b"<Error><Code>%s</Code><Region>eu-north-1</Region><Endpoint>planted.example</Endpoint></Error>"
)


@pytest.mark.parametrize(
    ("status", "code"), [(301, b"PermanentRedirect"), (400, b"AuthorizationHeaderMalformed")]
)
def test_the_region_to_set_is_named(client, store, s3_proxy, verb, status, code):  # noqa: PLR0917 - fixtures
    if (client, verb, status) == ("obstore", "head", 400):
        pytest.skip("the answer to a HEAD has no body, and this client does not tell its headers")
    headers = {"x-amz-bucket-region": "eu-north-1", "Location": "http://localhost:1/"}
    always(s3_proxy, http_proxy.answer(status, headers, WRONG_REGION % code))
    with pytest.raises(NotFound) as caught:
        VERBS[verb](store)
    said = str(caught.value)
    assert "set region=" in said
    assert "planted" not in said
    assert len(s3_proxy.requests) == 1


@pytest.mark.parametrize("verb", ["put", "create", "get", "list", "delete"])
def test_the_region_in_the_body_is_named(store, s3_proxy, verb):
    always(s3_proxy, http_proxy.answer(400, {}, WRONG_REGION % b"AuthorizationHeaderMalformed"))
    with pytest.raises(
        NotFound, match=re.escape("the bucket is in region eu-north-1; set region=eu-north-1")
    ):
        VERBS[verb](store)
    assert len(s3_proxy.requests) == 1
