"""The obstore stores: the contract kit on those available here, and this client's traps."""

import os
import secrets
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import obstore.store
import pytest

from tests.support.s3_proxy import S3Proxy, answer, reset_mid_body
from tests.support.s3_server import RawBucket
from writeahead.errors import (
    AccessDenied,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
    Unsupported,
)
from writeahead.stores.obstore import ObstoreStore
from writeahead.stores.obstore_clients import Connection
from writeahead.stores.registry import open_store
from writeahead.testing import StoreContract

pytestmark = pytest.mark.usefixtures("short_waits")

FORK = {"fork": "obstore's threads do not outlive a fork; a child is told so at once"}
NO_FILES = {"links": "there is no file system", "durability": "its server keeps the files"}


class Bucket(RawBucket):
    """A part of a bucket, seen through plain HTTP."""

    @property
    def url(self):
        return f"s3://{self.name}/{self.prefix}?client=obstore&endpoint_url={self.server}"

    def open(self):
        return open_store(self.url)

    def open_at(self, server):
        return open_store(f"s3://{self.name}/{self.prefix}?client=obstore&endpoint_url={server}")


class Memory:
    """obstore's memory store, seen through its own functions: there is no other way in."""

    url = "memory://not-used"

    def __init__(self):
        self.client = obstore.store.MemoryStore()

    def open(self):
        return ObstoreStore(lambda: Connection(self.client), "memory://obstore")

    def read(self, key):
        try:
            return self.client.get(key).bytes().to_bytes()
        except FileNotFoundError:
            return None

    def write(self, key, data):
        self.client.put(key, data)

    def fill(self, prefix, count):
        for number in range(count):
            self.write(f"{prefix}{number:06d}", b"filled")

    def keys(self):
        return sorted(item["path"] for item in self.client.list().collect())


class TestObstoreS3(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {**FORK, **NO_FILES}

    @pytest.fixture
    def backdoor(self, s3_bucket):
        # Neither of these is below the prefix, though both begin like it.
        s3_bucket.write("team=a/service", b"not ours")
        s3_bucket.write("team=a/service-2/a", b"not ours")
        return Bucket(s3_bucket.server, s3_bucket.name, "team=a/service/")


class TestObstoreMemory(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {
        **FORK,
        **NO_FILES,
        "durability": "a memory store ends with its process",
        "wire": "no HTTP is spoken",
        "processes": "a memory store is its process's own",
    }

    @pytest.fixture
    def backdoor(self):
        return Memory()


@pytest.fixture
def store(s3_proxy: S3Proxy, s3_bucket: RawBucket):
    return open_store(f"s3://{s3_bucket.name}?client=obstore&endpoint_url={s3_proxy.url}")


def verbs(proxy: S3Proxy) -> list[str]:
    return [request.verb for request in proxy.requests]


# What each verb costs.


def test_a_listing_may_begin_inside_a_segment_in_obstore(store, s3_proxy, s3_bucket):
    s3_bucket.fill("a", 1500)
    s3_bucket.fill("b", 3)
    s3_bucket.fill("c", 1500)
    assert [info.key for info in store.list("b")] == ["b000000", "b000001", "b000002"]
    assert s3_proxy.count() == {"LIST": 1}


# Its own retries are off: ours are all that is on the wire.


def test_a_listing_goes_on_after_a_failure_in_its_middle(store, s3_proxy, s3_bucket):
    s3_bucket.fill("many/", 2500)
    listing = store.list("many/")
    seen = [next(listing).key]
    s3_proxy.fault("LIST", reset_mid_body())
    seen += [info.key for info in listing]
    assert seen == [f"many/{number:06d}" for number in range(2500)]


# Settled creates.


@pytest.mark.parametrize("status", [409, 304])
def test_a_key_that_obstore_calls_taken_is_tried_again(store, s3_proxy, s3_bucket, status):
    s3_proxy.fault("PUT", answer(status))
    store.put("a", b"1", if_absent=True)
    assert verbs(s3_proxy) == ["PUT", "GET", "PUT"]
    assert s3_bucket.read("a") == b"1"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answer(500), OutcomeUnknown),
        (answer(502), OutcomeUnknown),
        (answer(503), OutcomeUnknown),
        (answer(503, "SlowDown"), Unavailable),
        (answer(400), Unsupported),
        (answer(400, "RequestTimeout"), Unavailable),
        (answer(400, "ExpiredToken"), AccessDenied),
        (answer(405), Unsupported),
        (answer(501), Unsupported),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_an_answer_means_the_same_as_through_s3fs(store, s3_proxy, fault, error):
    calls = [("PUT", error, lambda: store.put("a", b"1", if_absent=True))]
    read = Unavailable if error is OutcomeUnknown else error
    calls += [("GET", read, lambda: store.get("a")), ("LIST", read, lambda: list(store.list()))]
    for verb, expected, call in calls:
        s3_proxy.fault(verb, fault, times=4)
        with pytest.raises(expected, match=fault.name.removeprefix("answer ")):
            call()
        s3_proxy.clear()


# Errors that do not pass, and what errors say.


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (answer(403, "AccessDenied"), AccessDenied),
        (answer(403), AccessDenied),
        (answer(401), AccessDenied),
        (answer(404, "NoSuchBucket"), NotFound),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_refusals_are_classified_and_not_repeated(store, s3_proxy, fault, error):
    for verb, call in [("PUT", lambda: store.put("a", b"1")), ("GET", lambda: store.get("a"))]:
        s3_proxy.clear()
        s3_proxy.fault(verb, fault)
        with pytest.raises(error):
            call()
        assert s3_proxy.count() == {verb: 1}


def test_a_folder_s_path_is_not_in_an_error(tmp_path):
    client = obstore.store.LocalStore(tmp_path)
    store = ObstoreStore(lambda: Connection(client), "file:///somewhere")
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(OutcomeUnknown) as caught:
        store.put("a/b", b"", if_absent=True)
    assert str(tmp_path) not in str(caught.value)


# Google Cloud Storage and Azure: what is sent. No server of theirs is here.


@pytest.mark.parametrize(
    ("scheme", "condition"),
    [("gs", ("x-goog-if-generation-match", "0")), ("az", ("if-none-match", "*"))],
)
@pytest.mark.parametrize("if_absent", [False, True])
def test_a_create_carries_its_condition(s3_proxy, monkeypatch, scheme, condition, if_absent):
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "planted")
    monkeypatch.setenv("AZURE_STORAGE_TOKEN", "planted")
    account = "&account=me" if scheme == "az" else ""
    store = open_store(f"{scheme}://bucket/p?endpoint_url={s3_proxy.url}{account}")
    s3_proxy.fault("PUT", answer(403))
    with pytest.raises(AccessDenied):
        store.put("a", b"1", if_absent=if_absent)
    (request,) = s3_proxy.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert (condition in headers.items()) == if_absent
    assert urllib.parse.unquote(request.path) == "/bucket/p/a"


# Where it runs.


def _fork(work):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        # The default, which ends the process also where Python can run no handler.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(30)
        code = 0 if work() else 2
    finally:
        os._exit(code)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_at_once(store, s3_bucket):
    store.put("a", b"1")

    def use():
        for call in (lambda: store.get("a"), lambda: list(store.list()), lambda: store.put("b", b"")):
            with pytest.raises(Unsupported, match="forked"):
                call()
        return True

    assert _fork(use) == 0
    assert s3_bucket.keys() == ["a"]


def test_a_store_opened_before_a_fork_works_after_it(s3_bucket):
    url = f"s3://{s3_bucket.name}?client=obstore&endpoint_url={s3_bucket.server}"
    program = f"""
import os
from writeahead.stores.registry import open_store
store = open_store({url!r})
child = os.fork()
store.put("child" if child == 0 else "parent", b"1")
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert s3_bucket.keys() == ["child", "parent"]


# Listings of what is not ours.


def test_keys_of_others_that_are_no_keys_of_ours_are_not_listed(store, s3_bucket):
    for key in ("a%20b", "both", "both-", "empty", "ours"):
        s3_bucket.write(key, b"1" if key != "empty" else b"")
    for key in ("both/", "folder/", "ours/"):
        s3_bucket.write(key, b"")
    assert [info.key for info in store.list()] == ["both", "both-", "empty", "ours"]


@pytest.mark.parametrize("key", ["x//y", "x/../y", "./x"])
def test_a_name_that_this_client_can_t_read_is_said(store, s3_bucket, key):
    s3_bucket.write(key, b"1")
    with pytest.raises(Unsupported, match="name this client can't read"):
        list(store.list())


def test_a_listing_out_of_order_is_refused(tmp_path):
    client = obstore.store.LocalStore(tmp_path)
    store = ObstoreStore(lambda: Connection(client), "file:///somewhere")
    for number in range(50):
        store.put(f"{secrets.token_hex(4)}/{number}", b"")
    with pytest.raises(Unsupported, match="order"):
        list(store.list())


# URLs.


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://bucket?client=boto", "unknown client; known: obstore, s3fs"),
        ("s3://bucket?client=obstore&color=red", "unknown option 'color'"),
        ("s3://b?client=obstore", "bucket"),
        ("s3://bucket/a/../b?client=obstore", "prefix"),
        ("s3://bucket?client=obstore&profile=nobody", "profile"),
        ("gs://", "give a bucket's name"),
        ("az://", "give a container's name"),
        ("az://ab?account=me", "can't be a container's name; one has at least 3 characters"),
        ("gs://bucket?color=red", "unknown option"),
        ("gs://bucket/a//b", "prefix"),
        ("gs://bucket?anonymous=yes", "true or false"),
        ("az://container?account=me&endpoint_url=ftp://x", "endpoint_url"),
        ("az://container", "account="),
        ("az://container?client=obstore", "unknown option"),
    ],
)
def test_urls_that_are_refused(url, says, monkeypatch, s3_server):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(InvalidInput, match=says):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("gs://bucket/team=a/x?anonymous=true", "gs://bucket/team=a/x"),
        ("az://container/x?account=me&anonymous=true", "az://container/x"),
        ("s3://bucket/x/?client=obstore", "s3://bucket/x"),
    ],
)
def test_names_have_no_options(url, name):
    assert open_store(url).name == name


@pytest.mark.parametrize("url", ["gs://bucket?anonymous=true", "az://box?account=me&anonymous=true"])
def test_an_anonymous_store_refuses_to_write(url):
    store = open_store(url)
    for call in (lambda: store.put("a", b""), lambda: store.delete("a")):
        with pytest.raises(AccessDenied, match="anonymous"):
            call()


def test_a_local_store_of_obstore_has_no_url():
    with pytest.raises(InvalidInput, match="unknown option 'client'"):
        open_store(f"{Path('/tmp').as_uri()}?client=obstore")
