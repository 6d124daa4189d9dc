"""The rules of keys that hold for every store, and what is the memory store's own."""

import hashlib
import secrets
from datetime import UTC, datetime

import pytest

from writeahead.errors import AlreadyExists, InvalidInput, InvalidKey, NotFound
from writeahead.stores.base import ObjectInfo
from writeahead.stores.memory import MemoryStore, from_url


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def name():
    """A name that no test before has used, in this process or in one that it was forked from."""
    name = f"test-{secrets.token_hex(8)}"
    yield name
    MemoryStore._by_name.pop(name, None)


# Keys.

VERBS = {
    "put": lambda store, key: store.put(key, b"x"),
    "get": lambda store, key: store.get(key),
    "head": lambda store, key: store.head(key),
    "delete": lambda store, key: store.delete(key),
}

# 900 bytes, in segments of at most 255.
LONGEST = "/".join(["a" * 255, "b" * 255, "c" * 255, "d" * 132])


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "a key can't be empty"),
        (LONGEST + "e", "a key has at most 900 bytes"),
        ("a" * 256, "a segment of a key has at most 255 bytes"),
        ("/a", "no segment of a key may be empty, '.' or '..'"),
        ("a/", "no segment of a key may be empty, '.' or '..'"),
        ("a//b", "no segment of a key may be empty, '.' or '..'"),
        ("a/./b", "no segment of a key may be empty, '.' or '..'"),
        ("a/../b", "no segment of a key may be empty, '.' or '..'"),
        ("a b", "a key's segments are made of A-Z a-z 0-9 . _ -"),
        ("good/b\n", "a key's segments are made of A-Z a-z 0-9 . _ -"),
        ("é", "a key's segments are made of A-Z a-z 0-9 . _ -"),
    ],
)
def test_what_is_no_key_is_refused_by_each_verb_with_its_reason(store, verb, key, problem):
    with pytest.raises(InvalidKey) as caught:
        VERBS[verb](store, key)
    error = caught.value
    assert (error.store, error.operation, error.key) == ("memory://", verb, key)
    assert str(error).endswith(problem)
    assert list(store.list()) == []


@pytest.mark.parametrize("key", ["a", LONGEST, "a" * 255, "...", "a/.b/..c", "Az09._-"])
def test_what_is_a_key_is_taken(store, key):
    store.put(key, b"x")
    assert [info.key for info in store.list()] == [key]


@pytest.mark.parametrize("prefix", ["/", "a//", "./", "../a", "a/../", "a b", "é", "a\n"])
@pytest.mark.parametrize("given", ["prefix", "start_after"])
def test_what_begins_no_key_is_no_prefix(store, prefix, given):
    with pytest.raises(InvalidKey) as caught:
        store.list(**{given: prefix})
    error = caught.value
    assert (error.store, error.operation, error.key) == ("memory://", "list", prefix)
    assert "a prefix is the beginning of a key" in str(error)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b", "a/.", "a/..", ".", "..", ".open/"])
def test_whatever_a_key_may_begin_with_is_a_prefix(store, prefix):
    key = f"{prefix}a"
    store.put(key, b"x")
    assert [info.key for info in store.list(prefix)] == [key]


def test_a_store_shows_its_name(name):
    assert repr(MemoryStore.named(name)) == f"<MemoryStore memory://{name}>"


def test_a_put_keeps_what_the_caller_s_buffer_held_then(store):
    buffer = bytearray(b"then")
    store.put("a", buffer)
    buffer[:] = b"now!"
    assert store.get("a").data == b"then"


# The memory store.


@pytest.mark.parametrize("if_absent", [False, True])
def test_every_verb_tells_the_same_of_an_object(store, if_absent):
    before = datetime.now(UTC)
    info = store.put("a/b", b"data", if_absent=if_absent)
    assert before <= info.last_modified <= datetime.now(UTC)
    etag = hashlib.md5(b"data", usedforsecurity=False).hexdigest()
    assert info == ObjectInfo("a/b", 4, info.last_modified, etag)
    assert store.head("a/b") == info
    assert store.get("a/b").info == info
    assert list(store.list()) == [info]


def test_a_create_that_is_repeated_tells_of_the_first(store):
    first = store.put("a", b"x", if_absent=True)
    assert store.put("a", b"x", if_absent=True) == first


def test_what_can_t_be_done_names_store_verb_and_key(name):
    store = MemoryStore.named(name)
    store.put("a", b"x")
    with pytest.raises(AlreadyExists, match="the key holds other bytes") as taken:
        store.put("a", b"y", if_absent=True)
    assert (taken.value.store, taken.value.operation, taken.value.key) == (
        f"memory://{name}",
        "put",
        "a",
    )
    with pytest.raises(NotFound, match="there is no such object") as absent:
        store.get("b")
    assert (absent.value.store, absent.value.operation, absent.value.key) == (
        f"memory://{name}",
        "get",
        "b",
    )
    assert store.head("b") is None
    store.delete("b")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, ["a", "a/b", "a/c", "b"]),
        ({"prefix": "a"}, ["a", "a/b", "a/c"]),
        ({"prefix": "a/"}, ["a/b", "a/c"]),
        ({"start_after": "a"}, ["a/b", "a/c", "b"]),
        ({"prefix": "a", "start_after": "a/b"}, ["a/c"]),
        ({"start_after": "a/bb"}, ["a/c", "b"]),
        ({"start_after": "b"}, []),
    ],
)
def test_a_listing_is_in_order_and_begins_after(store, asked, found):
    for key in ("b", "a/c", "a", "a/b"):
        store.put(key, b"x")
    assert [info.key for info in store.list(**asked)] == found


def test_a_listing_may_be_read_while_the_store_changes(store):
    store.put("a", b"x")
    store.put("b", b"x")
    keys = []
    for info in store.list():
        keys.append(info.key)
        store.delete("b")
        store.put("c", b"x")
    assert keys == ["a"]


class LookedAt(str):
    """A key that counts how often it is looked at."""

    __slots__ = ()
    times = 0

    def startswith(self, *given):
        LookedAt.times += 1
        return super().startswith(*given)

    def __lt__(self, other):
        LookedAt.times += 1
        return super().__lt__(other)


def test_a_session_is_found_at_once_beside_any_number_of_others(store, monkeypatch):
    monkeypatch.setattr(LookedAt, "times", 0)
    for number in range(1000):
        for name in ("planned-writeback.json", "writeback.json", "journal/000001.json"):
            store.put(LookedAt(f"s{number:04d}/{name}"), b"")
    LookedAt.times = 0
    assert [info.key for info in store.list("s0500/journal/")] == ["s0500/journal/000001.json"]
    assert [info.key for info in store.list("s0500/", start_after="s0500/p")] == [
        "s0500/planned-writeback.json",
        "s0500/writeback.json",
    ]
    assert LookedAt.times <= 20


def test_a_list_of_everything_looks_at_each_key_a_few_times(store, monkeypatch):
    monkeypatch.setattr(LookedAt, "times", 0)
    keys = sorted(
        f"{name}{number}{end}" for name in "ab" for number in range(200) for end in ("", "/x", ".y/x")
    )
    for key in reversed(keys):
        store.put(LookedAt(key), b"")
    LookedAt.times = 0
    assert [info.key for info in store.list()] == keys
    assert LookedAt.times <= 5 * len(keys)


def test_one_name_is_one_store_and_no_name_a_private_one(name):
    named = MemoryStore.named(name)
    named.put("a", b"x")
    assert MemoryStore.named(name) is named
    assert from_url(f"memory://{name}") is named
    assert MemoryStore.named("test-another").head("a") is None
    assert MemoryStore().head("a") is None
    assert (named.name, MemoryStore().name) == (f"memory://{name}", "memory://")


@pytest.mark.parametrize("name", ["x" * 255, "A.b_c-9"])
def test_a_name_may_be_that(name):
    assert from_url(f"memory://{name}").name == f"memory://{name}"


@pytest.mark.parametrize("name", ["", "a/b", "x" * 256, "a b", "a\n", "a/"])
def test_what_is_no_name_is_refused_with_an_example(name):
    with pytest.raises(InvalidInput, match=r"^store memory://\.\.\.: give it a name .*memory://test$"):
        MemoryStore.named(name)


@pytest.mark.parametrize("url", ["memory://", "memory:///a", "memory://a/b"])
def test_a_url_has_a_name_and_no_more(url):
    with pytest.raises(InvalidInput, match="give it a name"):
        from_url(url)
