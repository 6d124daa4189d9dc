"""What stores behind a network client share, on one whose requests are scripted."""

import pytest
import tenacity.nap

from writeahead.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from writeahead.stores.base import ObjectInfo, StoredObject
from writeahead.stores.remote import ATTEMPTS, RemoteStore, RequestFailed, checked_prefix

BUSY = RequestFailed(Unavailable, "it is busy", retry=True)
LOST = RequestFailed(Unavailable, "the connection failed", retry=True, unknown=True)


class Scripted(RemoteStore):
    """Objects in a dict; `failures` come first, one a request, `late` ones after the effect."""

    def __init__(self):
        self.objects = {}
        self.failures = []
        self.requests = []
        self.late = []
        self.before_read = None

    @property
    def name(self):
        return "scripted://"

    def _request(self, verb, key):
        self.requests.append(f"{verb} {key}")
        if self.failures:
            failure = self.failures.pop(0)
            if failure:
                raise failure

    def _put(self, key, data, *, if_absent):
        def attempt():
            self._request("PUT", key)
            if if_absent and key in self.objects:
                return self._settle(key, data)
            self.objects[key] = data
            if self.late:
                raise self.late.pop(0)
            return ObjectInfo(key, len(data), etag="put")

        return self._retried("put", key, attempt, writes=True)

    def _read(self, key):
        if self.before_read:
            self.before_read()
        self._request("GET", key)
        if key not in self.objects:
            raise RequestFailed(NotFound, "there is no such object", absent=True)
        return StoredObject(self.objects[key], ObjectInfo(key, len(self.objects[key]), etag="read"))

    def _head(self, key):
        return self._retried("head", key, lambda: self._request("HEAD", key))

    def _list(self, prefix, start_after):
        yield from ()

    def _delete(self, key):
        self._retried("delete", key, lambda: self._request("DELETE", key), writes=True)


@pytest.fixture
def waits(monkeypatch):
    waits = []
    monkeypatch.setattr(tenacity.nap.time, "sleep", waits.append)
    return waits


@pytest.fixture
def store(waits):
    return Scripted()


def test_an_attempt_is_made_again_after_a_growing_wait(store, waits):
    store.failures = [BUSY] * 3
    store.put("a", b"x")
    assert store.objects == {"a": b"x"}
    assert store.requests == ["PUT a"] * ATTEMPTS == ["PUT a"] * 4
    # Doubled each time, and spread, so that many clients don't come back at once.
    assert all(least <= wait <= least + 0.1 for least, wait in zip([0.1, 0.2, 0.4], waits, strict=True))
    assert waits != [0.1, 0.2, 0.4]


def test_no_wait_is_longer_than_the_limit(store, waits, monkeypatch):
    monkeypatch.setattr("writeahead.stores.remote.ATTEMPTS", 9)
    store.failures = [BUSY] * 8
    store.put("a", b"x")
    assert 2.0 <= max(waits) <= 2.1


@pytest.mark.parametrize("verb", ["put", "get", "head", "delete"])
def test_a_budget_that_is_gone_says_what_happened_last_and_where(store, verb):
    store.failures = [*[RequestFailed(Unavailable, "it was busy", retry=True)] * 3, BUSY]
    with pytest.raises(Unavailable) as caught:
        getattr(store, verb)(*(("a", b"x") if verb == "put" else ("a",)))
    assert len(store.requests) == 4
    error = caught.value
    assert (error.store, error.operation, error.key) == ("scripted://", verb, "a")
    assert "it is busy" in str(error)
    assert isinstance(error.__cause__, RequestFailed)


def test_what_would_be_refused_again_is_not_sent_again(store, waits):
    store.failures = [RequestFailed(AccessDenied, "403")]
    with pytest.raises(AccessDenied, match="403"):
        store.put("a", b"x")
    assert store.requests == ["PUT a"]
    assert waits == []


def test_an_error_that_is_no_request_failure_is_raised(store):
    store.failures = [ZeroDivisionError("a bug")]
    with pytest.raises(ZeroDivisionError, match="a bug"):
        store.put("a", b"x")
    assert store.requests == ["PUT a"]


@pytest.mark.parametrize("last", [BUSY, RequestFailed(AccessDenied, "403")])
@pytest.mark.parametrize("verb", ["put", "delete"])
def test_a_write_that_may_have_happened_stays_unknown(store, verb, last):
    store.failures = [LOST, *[last] * 3]
    with pytest.raises(OutcomeUnknown) as caught:
        getattr(store, verb)(*(("a", b"x") if verb == "put" else ("a",)))
    error = caught.value
    assert (error.store, error.operation, error.key) == ("scripted://", verb, "a")
    assert f"it may or may not have happened; at last: {last.detail}" in str(error)
    assert error.__cause__ is last


def test_a_read_that_was_cut_is_only_unavailable(store):
    store.failures = [LOST] * 4
    with pytest.raises(Unavailable, match="the connection failed"):
        store.get("a")
    store.failures = [LOST] * 4
    with pytest.raises(Unavailable):
        store.head("a")


def test_a_later_success_settles_a_write_that_was_unknown(store):
    store.failures = [LOST]
    assert store.put("a", b"x").etag == "put"


def test_a_store_without_credentials_sends_no_write(store):
    store._anonymous = True
    for verb, write in {"put": lambda: store.put("a", b"x"), "delete": lambda: store.delete("a")}.items():
        with pytest.raises(AccessDenied, match="anonymous=true") as caught:
            write()
        assert (caught.value.store, caught.value.operation, caught.value.key) == ("scripted://", verb, "a")
    assert store.requests == []
    store.objects["a"] = b"x"
    assert store.get("a").data == b"x"


# A create that the server refuses.


def test_a_create_whose_own_reply_was_lost_succeeds(store):
    store.late = [LOST]
    assert store.put("a", b"x", if_absent=True) == ObjectInfo("a", 1, etag="read")
    assert store.requests == ["PUT a", "PUT a", "GET a"]


def test_a_create_of_a_taken_key_changes_nothing(store):
    store.objects["a"] = b"theirs"
    with pytest.raises(AlreadyExists, match="the key holds other bytes") as caught:
        store.put("a", b"ours", if_absent=True)
    assert (caught.value.store, caught.value.operation, caught.value.key) == ("scripted://", "put", "a")
    assert store.objects == {"a": b"theirs"}
    assert store.requests == ["PUT a", "GET a"]


def test_a_create_that_finds_the_holder_gone_is_made_again(store):
    store.objects["a"] = b"theirs"
    store.before_read = store.objects.clear
    store.put("a", b"ours", if_absent=True)
    assert store.objects == {"a": b"ours"}
    assert store.requests == ["PUT a", "GET a", "PUT a"]


def test_a_create_whose_holder_is_gone_each_time_was_refused(waits):
    class Crowded(Scripted):
        def _put(self, key, data, *, if_absent):
            return self._retried("put", key, lambda: self._settle(key, data), writes=True)

    crowded = Crowded()
    with pytest.raises(Unavailable, match="others keep creating and deleting it"):
        crowded.put("a", b"ours", if_absent=True)
    assert crowded.requests == ["GET a"] * 4
    assert len(waits) == 3


def test_a_create_that_can_t_be_read_back_is_unknown(store):
    store.objects["a"] = b"theirs"
    store.failures = [None, RequestFailed(AccessDenied, "403")]
    with pytest.raises(OutcomeUnknown, match="the key is taken, and reading it back failed: 403"):
        store.put("a", b"ours", if_absent=True)
    assert store.requests == ["PUT a", "GET a"]


def test_a_create_that_can_t_be_read_back_is_made_again(store):
    store.objects["a"] = b"ours"
    store.failures = [None, BUSY]
    assert store.put("a", b"ours", if_absent=True).etag == "read"
    assert store.requests == ["PUT a", "GET a", "PUT a", "GET a"]


# Prefixes.


@pytest.mark.parametrize("prefix", ["a", "team=a/service", "a.b/c-d/e_f", "x" * 123, "é/ü", "!'()*+,.:=@-"])
def test_a_prefix_gets_its_slash(prefix):
    assert checked_prefix("s3://bucket", prefix) == f"{prefix}/"


def test_no_prefix_is_none():
    assert checked_prefix("s3://bucket", "") == ""


@pytest.mark.parametrize(
    "prefix", ["/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a b", "a?b", "a#b", "a\\b"]
)
def test_an_odd_prefix_is_refused_with_the_place(prefix):
    with pytest.raises(
        InvalidInput, match=r"^store s3://bucket/\.\.\.: the prefix has an empty, '\.', '\.\.' or odd"
    ):
        checked_prefix("s3://bucket", prefix)


@pytest.mark.parametrize("prefix", ["x" * 124, "é" * 62])
def test_a_prefix_leaves_room_for_keys(prefix):
    # 1024 bytes are S3's limit, 900 ours, and one is the slash between.
    with pytest.raises(InvalidInput, match=r"^store s3://bucket/\.\.\.: .*more than 123 bytes"):
        checked_prefix("s3://bucket", prefix)
