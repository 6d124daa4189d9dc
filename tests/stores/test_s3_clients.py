"""What both S3 clients do alike on the wire, beyond what the contract asks of every backend."""

import pytest

from tests.support.s3_proxy import S3Proxy, after, answer, applied_then, lost_reply, reset_mid_body
from tests.support.s3_server import RawBucket
from writeahead.errors import AlreadyExists, NotFound, OutcomeUnknown, Unavailable, Unsupported
from writeahead.stores import remote
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store

pytestmark = pytest.mark.usefixtures("short_waits")

PASSING = [lost_reply(), reset_mid_body(), answer(500), answer(503, "SlowDown"), answer(429), answer(408)]


@pytest.fixture
def store(client, s3_proxy: S3Proxy, s3_bucket: RawBucket) -> ArtifactStore:
    return open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")


def verbs(proxy: S3Proxy) -> list[str]:
    return [request.verb for request in proxy.requests]


# What each verb costs.


def test_each_verb_is_one_request_of_its_kind(store, s3_proxy):
    for call, verb in [
        (lambda: store.put("a/b", b"1"), "PUT"),
        (lambda: store.put("a/c", b"1", if_absent=True), "PUT"),
        (lambda: store.put("a/large", b"1" * 6_000_000), "PUT"),
        (lambda: store.get("a/b"), "GET"),
        (lambda: store.head("a/b"), "HEAD"),
        (lambda: store.head("absent"), "HEAD"),
        (lambda: list(store.list("a/")), "LIST"),
        (lambda: store.delete("a/b"), "DELETE"),
        (lambda: store.delete("a/b"), "DELETE"),
    ]:
        s3_proxy.clear()
        call()
        assert verbs(s3_proxy) == [verb]


def test_a_listing_is_one_request_for_each_1000_keys(store, s3_proxy, s3_bucket):
    s3_bucket.fill("many/", 2500)
    next(store.list("many/"))
    assert s3_proxy.count() == {"LIST": 1}, "one that is left early asks for no more"
    assert len(list(store.list("many/"))) == 2500
    assert s3_proxy.count() == {"LIST": 1 + 3}


# Settled creates.


@pytest.mark.parametrize("fault", [lost_reply(), applied_then(500), applied_then(503)], ids=lambda f: f.name)
def test_a_create_that_was_applied_unheard_is_found_out(store, s3_proxy, s3_bucket, fault):
    s3_proxy.fault("PUT", fault)
    store.put("a", b"1", if_absent=True)
    assert verbs(s3_proxy) == ["PUT", "PUT", "GET"]
    assert [request.status for request in s3_proxy.requests][1] == 412
    assert s3_bucket.read("a") == b"1"


def test_412_with_an_error_code_is_compared_too(store, s3_bucket):
    s3_bucket.write("a", b"theirs")
    with pytest.raises(AlreadyExists, match="other bytes"):
        store.put("a", b"ours", if_absent=True)
    store.put("a", b"theirs", if_absent=True)


@pytest.mark.parametrize("code", ["", "ConditionalRequestConflict"])
def test_409_to_the_end_leaves_nothing_and_says_so(store, s3_proxy, s3_bucket, code):
    s3_proxy.fault("PUT", answer(409, code), times=4)
    with pytest.raises(Unavailable):
        store.put("a", b"1", if_absent=True)
    assert s3_bucket.keys() == []


def test_a_key_that_is_gone_when_read_back_is_created_again(store, s3_proxy, s3_bucket):
    s3_bucket.write("a", b"theirs")
    s3_proxy.fault("GET", after(lambda: s3_bucket.delete("a")))
    store.put("a", b"ours", if_absent=True)
    assert verbs(s3_proxy) == ["PUT", "GET", "PUT"]
    assert s3_bucket.read("a") == b"ours"


@pytest.mark.parametrize(
    "fault", [answer(403, "AccessDenied"), answer(503, "SlowDown")], ids=lambda f: f.name
)
def test_a_readback_that_fails_to_the_end_is_an_unknown_outcome(store, s3_proxy, s3_bucket, fault):
    s3_bucket.write("a", b"ours")
    s3_proxy.fault("GET", fault, times=4)
    with pytest.raises(OutcomeUnknown):
        store.put("a", b"ours", if_absent=True)


# The retries are ours: no client adds any.


@pytest.mark.parametrize("fault", PASSING, ids=lambda f: f.name)
def test_every_verb_outlasts_what_passes_in_as_few_requests(store, s3_proxy, s3_bucket, fault):
    s3_bucket.write("a", b"1")
    for verb in ("GET", "HEAD", "LIST", "PUT", "DELETE"):
        s3_proxy.fault(verb, fault, times=2)
    assert store.get("a").data == b"1"
    assert store.head("a").size == 1
    assert [info.key for info in store.list()] == ["a"]
    store.put("a", b"2")
    assert s3_bucket.read("a") == b"2"
    store.delete("a")
    assert s3_bucket.keys() == []
    assert s3_proxy.count() == {"GET": 3, "HEAD": 3, "LIST": 3, "PUT": 3, "DELETE": 3}


@pytest.mark.parametrize("fault", [lost_reply(), reset_mid_body(), answer(500)], ids=lambda f: f.name)
def test_no_hidden_retries_on_a_connection_that_was_in_use(store, s3_proxy, fault):
    store.put("a", b"1")
    for verb, error, call in [
        ("PUT", OutcomeUnknown, lambda: store.put("b", b"1", if_absent=True)),
        ("GET", Unavailable, lambda: store.get("a")),
        ("HEAD", Unavailable, lambda: store.head("a")),
        ("LIST", Unavailable, lambda: list(store.list())),
        ("DELETE", OutcomeUnknown, lambda: store.delete("a")),
    ]:
        s3_proxy.clear()
        s3_proxy.fault(verb, fault, times=remote.ATTEMPTS)
        with pytest.raises(error):
            call()
        assert s3_proxy.count() == {verb: remote.ATTEMPTS}


# A bucket that is not there, and a server that does not end its listing.


def test_a_missing_bucket_is_not_found_where_the_server_can_tell(client, s3_proxy):
    store = open_store(f"s3://no-such-bucket?client={client}&endpoint_url={s3_proxy.url}")
    calls = [lambda: store.put("a", b"1"), lambda: store.put("a", b"1", if_absent=True)]
    if client == "s3fs":
        calls += [lambda: store.get("a"), lambda: list(store.list()), lambda: store.delete("a")]
    for call in calls:
        with pytest.raises(NotFound, match="no such bucket"):
            call()
    with pytest.raises(NotFound):
        store.get("a")
    # S3's answer to a HEAD has no body, so that nothing tells a missing bucket from a missing
    # object.
    assert store.head("a") is None
    assert not store.exists()


PAGE = b"""<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
<Name>b</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys><KeyCount>1</KeyCount><IsTruncated>true</IsTruncated>%s
<Contents><Key>a</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"1"</ETag><Size>1</Size>
<StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"""


@pytest.mark.parametrize("token", [b"", b"<NextContinuationToken>same</NextContinuationToken>"])
def test_a_listing_that_goes_on_nowhere_is_an_error(client, s3_proxy, s3_bucket, token):
    store = open_store(f"s3://{s3_bucket.name}?client={client}&endpoint_url={s3_proxy.url}")
    s3_proxy.fault("LIST", answer(200, body=PAGE % token), times=9)
    if client == "obstore" and not token:
        # This client takes it for the end, and does not tell: see docs/stores.md.
        assert [info.key for info in store.list()] == ["a"]
        return
    with pytest.raises(Unsupported):
        list(store.list())
