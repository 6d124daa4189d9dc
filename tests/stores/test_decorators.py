"""The wrappers pass every verb on, and do what they are for."""

import logging
from collections.abc import Mapping
from typing import ClassVar

import pytest

from writeahead.errors import AccessDenied, AlreadyExists, InvalidInput, NotFound, OutcomeUnknown, Unavailable
from writeahead.stores.base import ObjectInfo, StoredObject
from writeahead.stores.memory import MemoryStore
from writeahead.testing import FaultyStore, StoreCall, StoreContract, StoreFault, TracingStore, WrapperStore


class Wrapped:
    """A memory store behind every wrapper, seen through its dict."""

    def __init__(self):
        self.inner = MemoryStore()
        self.url = "memory://not-used"

    def open(self):
        return FaultyStore(TracingStore(WrapperStore(self.inner)))

    def read(self, key):
        return self.inner._objects[key].data if key in self.inner._objects else None

    def write(self, key, data):
        self.inner._objects[key] = StoredObject(data, ObjectInfo(key, len(data)))

    def fill(self, prefix, count):
        for number in range(count):
            self.write(f"{prefix}{number:06d}", b"filled")

    def keys(self):
        return sorted(self.inner._objects)


class TestWrappedStore(StoreContract):
    impossible: ClassVar[Mapping[str, str]] = {
        "wire": "no HTTP is spoken",
        "links": "there is no file system",
        "durability": "a memory store ends with its process",
        "processes": "a memory store is its process's own",
        "fork": "a fork copies a memory store; from then on there are two",
    }

    @pytest.fixture
    def backdoor(self):
        return Wrapped()


@pytest.fixture
def inner():
    return MemoryStore()


@pytest.fixture
def traced(inner):
    return TracingStore(inner)


@pytest.fixture
def store(inner):
    return FaultyStore(inner)


def held(store):
    return {info.key: store.get(info.key).data for info in store.list()}


def test_every_call_is_traced_with_its_error(traced, caplog):
    with caplog.at_level(logging.DEBUG, "writeahead.testing.decorators"):
        traced.put("a", b"1")
        traced.put("b", b"1", if_absent=True)
        with pytest.raises(AlreadyExists):
            traced.put("b", b"2", if_absent=True)
        traced.get("a")
        with pytest.raises(NotFound):
            traced.get("c")
        traced.head("a")
        list(traced.list("a"))
        traced.delete("a")
    expected = [
        StoreCall("put", "a"),
        StoreCall("create", "b"),
        StoreCall("create", "b", "AlreadyExists"),
        StoreCall("get", "a"),
        StoreCall("get", "c", "NotFound"),
        StoreCall("head", "a"),
        StoreCall("list", "a"),
        StoreCall("delete", "a"),
    ]
    assert traced.calls == expected
    assert traced.count() == {"put": 1, "create": 2, "get": 2, "head": 1, "list": 1, "delete": 1}
    assert len(caplog.records) == len(expected)
    assert caplog.records[2].getMessage() == "memory:// create 'b': AlreadyExists"
    traced.clear()
    assert not traced.calls


def test_a_listing_is_traced_when_it_begins(traced):
    listing = traced.list("a")
    assert not traced.calls
    list(listing)
    assert traced.count() == {"list": 1}


@pytest.mark.parametrize("verb", ["put", "create", "delete"])
@pytest.mark.parametrize(
    "planned",
    [
        (StoreFault.lost_reply(), True, OutcomeUnknown),
        (StoreFault.unsent(), False, OutcomeUnknown),
        (StoreFault.unavailable(), False, Unavailable),
        (StoreFault.access_denied(), False, AccessDenied),
        (StoreFault.disk_full(), False, Unavailable),
        (StoreFault.crash("before", KeyboardInterrupt()), False, KeyboardInterrupt),
        (StoreFault.crash("after", KeyboardInterrupt()), True, KeyboardInterrupt),
    ],
    ids=["lost", "unsent", "unavailable", "denied", "full", "crash before", "crash after"],
)
def test_a_failed_write_is_applied_or_not(store, inner, verb, planned):
    fault, applied, error = planned
    calls = {
        "put": lambda: store.put("a", b"new"),
        "create": lambda: store.put("a", b"new", if_absent=True),
        "delete": lambda: store.delete("a"),
    }
    before = {} if verb == "create" else {"a": b"old"}
    after = {} if verb == "delete" else {"a": b"new"}
    for key, data in before.items():
        inner.put(key, data)
    store.fail(verb, "*", fault)
    with pytest.raises(error) as caught:
        calls[verb]()
    assert held(inner) == (after if applied else before)
    if error is not KeyboardInterrupt:
        assert (caught.value.store, caught.value.key) == ("memory://", "a")
        assert caught.value.operation == ("delete" if verb == "delete" else "put")
    calls[verb]()
    assert held(inner) == after


@pytest.mark.parametrize("verb", ["get", "head", "list"])
def test_a_read_whose_reply_is_lost_is_unavailable(store, verb):
    store.put("a", b"1")
    store.fail(verb, "*", StoreFault.lost_reply())
    with pytest.raises(Unavailable):
        {"get": store.get, "head": store.head, "list": lambda key: list(store.list(key))}[verb]("a")


def test_faults_come_for_their_verb_and_key_as_often_as_planned(store, inner):
    store.fail("create", "s/*.json", StoreFault.unavailable(), times=2, skip=1)
    assert store.pending == 2
    store.put("s/1.json", b"", if_absent=True)
    store.put("s/2.json", b"")
    store.put("s/2.txt", b"", if_absent=True)
    for _ in range(2):
        with pytest.raises(Unavailable):
            store.put("s/deep/3.json", b"", if_absent=True)
    assert store.pending == 0
    store.put("s/deep/3.json", b"", if_absent=True)
    assert len(held(inner)) == 4


def test_a_fault_for_ever_ends_when_healed(store):
    store.fail("*", "a", StoreFault.unavailable(), times=None)
    for _ in range(3):
        with pytest.raises(Unavailable):
            store.put("a", b"")
    store.heal()
    store.put("a", b"")


def test_faults_come_in_the_order_of_their_plans(store):
    store.fail("get", "*", StoreFault.unavailable())
    store.fail("*", "*", StoreFault.access_denied())
    with pytest.raises(Unavailable):
        store.get("a")
    with pytest.raises(AccessDenied):
        store.get("a")
    with pytest.raises(NotFound):
        store.get("a")


def test_the_wrapped_store_s_own_error_comes_first(store, inner):
    inner.put("a", b"theirs")
    store.fail("create", "a", StoreFault.lost_reply())
    with pytest.raises(AlreadyExists):
        store.put("a", b"ours", if_absent=True)


def test_a_delay_delays_and_the_call_works(store, monkeypatch):
    slept = []
    monkeypatch.setattr("writeahead.testing.decorators.time.sleep", slept.append)
    store.fail("put", "*", StoreFault.slow(3.5))
    store.put("a", b"1")
    assert slept == [3.5]
    assert store.get("a").data == b"1"


def test_a_fault_that_could_never_come_is_refused(store):
    with pytest.raises(InvalidInput, match="'putt'"):
        store.fail("putt", "*", StoreFault.unavailable())


def test_check_sees_the_faults(store):
    assert store.check().ok
    store.fail("create", "*/refused", StoreFault.slow(0))
    store.fail("list", "*", StoreFault.unavailable())
    with pytest.raises(Unavailable):
        store.check()
