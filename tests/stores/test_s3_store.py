"""The S3 store against a real server, through a proxy that injects and counts."""

import base64
import hashlib
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest
from botocore.utils import parse_timestamp

from tests.support.s3_proxy import S3Proxy, answer, lost_reply, reset_mid_body
from tests.support.s3_server import RawBucket
from writeahead.errors import (
    AccessDenied,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    StoreError,
    Unavailable,
    Unsupported,
)
from writeahead.stores.base import ArtifactStore
from writeahead.stores.registry import open_store
from writeahead.stores.s3_client import _moment

pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def store(s3_proxy: S3Proxy, s3_bucket: RawBucket) -> ArtifactStore:
    return open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}")


def verbs(proxy: S3Proxy) -> list[str]:
    return [request.verb for request in proxy.requests]


# What each verb costs.


def test_a_put_carries_the_digest_of_its_body_and_no_trailers(store, s3_proxy):
    store.put("a", b"bytes", if_absent=True)
    (request,) = s3_proxy.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert request.body == b"bytes"
    assert headers["if-none-match"] == "*"
    assert headers["content-md5"] == base64.b64encode(hashlib.md5(b"bytes").digest()).decode()
    assert not {"x-amz-trailer", "transfer-encoding", "expect"} & headers.keys()


def test_a_listing_does_not_guess_at_each_time(store, s3_bucket, monkeypatch):
    """botocore leaves that to dateutil, which takes longer than all the rest of a listing."""
    s3_bucket.fill("many/", 5)
    monkeypatch.setattr("dateutil.parser.parse", lambda *_, **__: pytest.fail("slow"))
    now = datetime.now(UTC)
    assert all(abs(info.last_modified - now) < timedelta(minutes=5) for info in store.list())


@pytest.mark.parametrize(
    "given",
    [
        "2026-11-27T20:15:03.000Z",
        "2026-11-27T20:15:03Z",
        "2026-02-28T23:59:59.123456789Z",
        "2026-11-27T20:15:03.5+01:00",
        "2026-11-27T20:15:03.000",
        "20261127T201503Z",
        "Fri, 27 Nov 2026 20:15:03 GMT",
        "1795810503",
        1795810503,
    ],
)
def test_a_time_is_what_botocore_takes_it_for(given):
    assert (_moment(given), _moment(given).tzinfo is None) == (
        parse_timestamp(given),
        parse_timestamp(given).tzinfo is None,
    )


@pytest.mark.parametrize("given", ["", "2026-13-01T00:00:00Z", "2026-11-31T00:00:00.000Z", "yesterday"])
def test_what_is_no_time_is_no_answer_of_a_store(store, s3_proxy, given):
    head = f"<ListBucketResult><Name>b</Name><Contents><Key>a</Key><LastModified>{given}</LastModified>"
    tail = "<ETag>x</ETag><Size>1</Size></Contents></ListBucketResult>"
    s3_proxy.fault("LIST", answer(200, body=f"{head}{tail}".encode()), times=9)
    with pytest.raises(StoreError):
        list(store.list())


# Settled creates.


def test_409_settles_nothing_and_is_tried_again(store, s3_proxy, s3_bucket):
    s3_proxy.fault("PUT", answer(409, "ConditionalRequestConflict"))
    s3_proxy.fault("PUT", answer(409))
    store.put("a", b"1", if_absent=True)
    assert verbs(s3_proxy) == ["PUT", "PUT", "PUT"]
    assert s3_bucket.read("a") == b"1"


@pytest.mark.parametrize(
    "fault", [lost_reply(), reset_mid_body(), answer(500), answer(502)], ids=lambda f: f.name
)
@pytest.mark.parametrize("if_absent", [False, True])
def test_a_put_that_may_have_happened_ends_as_unknown(store, s3_proxy, fault, if_absent):
    s3_proxy.fault("PUT", fault)
    s3_proxy.fault("PUT", answer(503, "SlowDown"), times=3)
    with pytest.raises(OutcomeUnknown):
        store.put("a", b"1", if_absent=if_absent)
    assert s3_proxy.count() == {"PUT": 4}


def test_a_refusal_after_a_lost_reply_is_unknown_too(store, s3_proxy):
    s3_proxy.fault("PUT", lost_reply())
    s3_proxy.fault("PUT", answer(403, "AccessDenied"))
    with pytest.raises(OutcomeUnknown, match="403"):
        store.put("a", b"1")


@pytest.mark.parametrize("code", ["SlowDown", "ServiceUnavailable"])
def test_a_put_that_surely_did_not_happen_ends_as_unavailable(store, s3_proxy, s3_bucket, code):
    s3_proxy.fault("PUT", answer(503, code), times=4)
    with pytest.raises(Unavailable, match=f"503 {code}"):
        store.put("a", b"1", if_absent=True)
    assert s3_bucket.keys() == []


@pytest.mark.parametrize("fault", [answer(501), answer(501, "NotImplemented"), answer(400, "NotImplemented")])
def test_a_server_without_conditions_is_unsupported(store, s3_proxy, fault):
    s3_proxy.fault("PUT", fault)
    with pytest.raises(Unsupported):
        store.put("a", b"1", if_absent=True)
    assert s3_proxy.count() == {"PUT": 1}


# Whatever can pass is tried again.

PASSING = [lost_reply(), reset_mid_body(), answer(500), answer(503, "SlowDown"), answer(429), answer(408)]


def test_a_delete_whose_replies_are_lost_is_unknown(store, s3_proxy):
    s3_proxy.fault("DELETE", lost_reply(), times=4)
    with pytest.raises(OutcomeUnknown):
        store.delete("a")


def test_a_delete_answered_by_404_is_done(store, s3_proxy):
    s3_proxy.fault("DELETE", answer(404, "NoSuchKey"))
    store.delete("a")


def test_nobody_listening_is_unavailable(s3_server):
    with S3Proxy(s3_server) as proxy:
        url = proxy.url
    store = open_store(f"s3://bucket?endpoint_url={url}")
    with pytest.raises(Unavailable, match="no connection"):
        store.put("a", b"1", if_absent=True)


# Errors that do not pass.


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (answer(403, "AccessDenied"), AccessDenied, "permissions"),
        (answer(403), AccessDenied, "permissions"),
        (answer(401), AccessDenied, "credentials"),
        (answer(400, "ExpiredToken"), AccessDenied, "credentials"),
        (answer(403, "InvalidAccessKeyId"), AccessDenied, "credentials"),
        (answer(404, "NoSuchBucket"), NotFound, "bucket"),
        (answer(400, "InvalidArgument"), Unsupported, "400 InvalidArgument"),
        (answer(405), Unsupported, "405"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_refusals_are_classified_and_not_repeated(store, s3_proxy, fault, error, says):
    for verb, call in [
        ("PUT", lambda: store.put("a", b"1")),
        ("GET", lambda: store.get("a")),
        ("LIST", lambda: list(store.list("a"))),
        ("DELETE", lambda: store.delete("a")),
    ]:
        s3_proxy.clear()
        s3_proxy.fault(verb, fault)
        with pytest.raises(error, match=says) as caught:
            call()
        assert s3_proxy.count() == {verb: 1}
        assert_ours(caught.value, store, verb.lower())


def assert_ours(error: StoreError, store: ArtifactStore, verb: str) -> None:
    assert (error.store, error.operation, error.key) == (store.name, verb, "a")
    assert "\n" not in str(error)
    assert "127.0.0.1" not in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_missing_credentials_say_what_to_set(store, s3_proxy, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessDenied, match="AWS_ACCESS_KEY_ID"):
        store.put("a", b"1")
    assert s3_proxy.requests == []


def test_an_unknown_profile_is_named_as_the_problem(s3_proxy, s3_bucket):
    store = open_store(f"s3://{s3_bucket.name}?endpoint_url={s3_proxy.url}&profile=nobody")
    with pytest.raises(AccessDenied, match="profile"):
        store.put("a", b"1")


# The check.


def test_check_refuses_a_server_that_ignores_if_none_match(store, s3_proxy, s3_bucket):
    s3_proxy.ignore_conditions = True
    outcome = store.check()
    assert not outcome.ok
    broken = {result.promise: result.seen for result in outcome.results if not result.ok}
    assert broken.keys() == {"refused create", "one winner"}
    assert all(seen.startswith("Unsupported") for seen in broken.values())
    assert s3_bucket.keys() == []


def test_check_cleans_up_when_it_fails(store, s3_proxy, s3_bucket):
    s3_proxy.fault("LIST", answer(403, "AccessDenied"))
    with pytest.raises(AccessDenied):
        store.check()
    assert s3_bucket.keys() == []


# The client.


def test_keys_of_others_that_are_no_keys_of_ours_are_not_listed(store, s3_bucket):
    for key in ("folder/", "a%20b", "ours"):
        s3_bucket.write(key, b"1")
    assert [info.key for info in store.list()] == ["ours"]


def test_a_prefix_keeps_stores_apart(s3_proxy, s3_bucket):
    one = open_store(f"s3://{s3_bucket.name}/team=a/one?endpoint_url={s3_proxy.url}")
    two = open_store(f"s3://{s3_bucket.name}/team=a/on?endpoint_url={s3_proxy.url}")
    one.put("a", b"1")
    two.put("b", b"2")
    assert [info.key for info in one.list()] == ["a"]
    assert [info.key for info in two.list()] == ["b"]
    assert s3_bucket.keys() == ["team=a/on/b", "team=a/one/a"]
    assert one.name == f"s3://{s3_bucket.name}/team=a/one"


def test_many_threads_share_a_new_store(store, s3_bucket):
    start = threading.Barrier(8)

    def put(number: int) -> None:
        start.wait()
        store.put(f"key-{number}", b"1", if_absent=True)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert s3_bucket.keys() == [f"key-{number}" for number in range(8)]


def test_a_program_that_uses_a_store_ends_without_a_warning(s3_server, s3_bucket):
    program = f"""
import gc
from writeahead.stores.registry import open_store
for name in "ab":
    store = open_store("s3://{s3_bucket.name}?endpoint_url={s3_server}")
    store.put(name, b"1")
    del store
    gc.collect()
kept = open_store("s3://{s3_bucket.name}?endpoint_url={s3_server}")
kept.put("c", b"1")
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert s3_bucket.keys() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://key:secret@bucket/x", "credentials"),
        ("s3://bucket?endpoint_url=http://key:secret@host", "credentials"),
        ("s3://bucket?color=red", "unknown option 'color'"),
        ("s3://bucket?region=a&region=b", "twice"),
        ("s3://bucket?region=", "no value"),
        ("s3://", "bucket"),
        ("s3://b", "bucket"),
        ("s3://bucket/a/../b", "prefix"),
        ("s3://bucket/a//b", "prefix"),
        (f"s3://bucket/{'x' * 124}", "123 bytes"),
    ],
)
def test_urls_that_are_refused(url, says):
    with pytest.raises(InvalidInput, match=says) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


# What is asked for, and what is said of a failure.


def test_a_listing_is_asked_for_from_where_it_is_to_begin(store, s3_proxy, s3_bucket):
    for key in ("a", "b", "c"):
        s3_bucket.write(key, b"1")
    assert [info.key for info in store.list(start_after="a")] == ["b", "c"]
    (request,) = s3_proxy.requests
    assert request.query["start-after"] == "a"


@pytest.mark.parametrize(
    ("verb", "call"),
    [("head", lambda store: store.head("a/b")), ("list", lambda store: list(store.list("a/b")))],
)
def test_a_failure_names_store_verb_and_key(store, s3_proxy, s3_bucket, verb, call):
    s3_proxy.fault("HEAD" if verb == "head" else "LIST", answer(403, "AccessDenied"))
    with pytest.raises(AccessDenied) as caught:
        call(store)
    assert (caught.value.store, caught.value.operation, caught.value.key) == (store.name, verb, "a/b")


def test_a_page_that_is_cut_and_names_no_next_one_says_so(store, s3_proxy):
    page = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    s3_proxy.fault("LIST", answer(200, body=page))
    with pytest.raises(Unsupported) as caught:
        list(store.list("a/"))
    assert (caught.value.store, caught.value.operation, caught.value.key) == (store.name, "list", "a/")
    assert caught.value.detail == "the server says that its listing goes on, and not where"
