"""What a check says of a store that keeps its promises, and of each that breaks one."""

import random
from collections import Counter
from dataclasses import replace
from threading import Lock

import pytest

from writeahead.errors import AccessDenied, AlreadyExists, InvalidKey, Unavailable, Unsupported
from writeahead.stores import check
from writeahead.stores.check import check_prefix, check_store
from writeahead.stores.memory import MemoryStore

KEPT = [
    ("create", "create an object", "created", True),
    ("read back", "read it", "the same bytes", True),
    ("settled create", "create it again with the same bytes", "accepted: it holds these bytes", True),
    ("refused create", "create it again with other bytes", "refused, and unchanged", True),
    ("overwrite", "replace an object, and read it", "the same bytes", True),
    ("case", "write beside it to a key in another case", "another object", True),
    ("versions", "look whether a put made a version", "no", True),
    (
        "one winner",
        "create each of 30 objects from 8 threads at once",
        "one won each race, and its bytes are there",
        True,
    ),
    ("list", "list by prefix, and from each key on", "all of them, in the order of their bytes", True),
    ("delete", "delete an object twice, and look for it", "gone", True),
]


def told(outcome):
    return [(one.promise, one.tried, one.seen, one.ok) for one in outcome.results]


def test_a_store_that_keeps_every_promise():
    store = MemoryStore()
    store.put("before/me", b"1")
    outcome = check_store(store)
    assert (outcome.store, told(outcome)) == (store.name, KEPT)
    assert outcome.ok
    assert list(store._objects) == ["before/me"]


def test_the_objects_of_a_check_are_below_its_prefix():
    class Spy(MemoryStore):
        def _put(self, key, data, *, if_absent):
            keys.add(key)
            return super()._put(key, data, if_absent=if_absent)

    keys: set[str] = set()
    check_store(Spy(), "mine/")
    names = [
        "created",
        "deleted",
        "replaced",
        "cased/a",
        "cased/A",
        *(f"raced-{number:02d}" for number in range(30)),
    ]
    names += [f"listed/{name}" for name in ("B", "a-b", "a.b", "a/b", "a0", "a_b", "c")]
    assert sorted(keys) == sorted(f"mine/{name}" for name in names)
    first, second = check_prefix(), check_prefix()
    assert first != second
    assert first.startswith(".check-")
    assert (len(first), first[-1]) == (24, "/")
    keys.clear()
    check_store(Spy())
    assert len({key.split("/")[0] for key in keys}) == 1
    assert all(key.startswith(".check-") for key in keys)


class Loses(MemoryStore):
    """Takes an object, and has nothing."""

    def _put(self, key, data, *, if_absent):
        found = super()._put(key, data, if_absent=if_absent)
        if key.endswith(("/created", "/replaced")):
            self._delete(key)
        return found


class Alters(MemoryStore):
    """Keeps other bytes than it was given, the second time."""

    def _put(self, key, data, *, if_absent):
        data = b"altered" if key.endswith("/replaced") and len(data) > 10 else data
        return super()._put(key, data, if_absent=if_absent)


class Ignores(MemoryStore):
    """Knows no If-None-Match."""

    def _put(self, key, data, *, if_absent):
        return super()._put(key, data, if_absent=False)


class RefusesItsOwn(MemoryStore):
    """Refuses to create again what is there with the same bytes."""

    def _put(self, key, data, *, if_absent):
        if if_absent and key in self._objects:
            raise AlreadyExists(self.name, "put", key, "it is there")
        return super()._put(key, data, if_absent=if_absent)


class RefusesAndChanges(MemoryStore):
    """Says no, and writes all the same."""

    def _put(self, key, data, *, if_absent):
        if if_absent and data == b"other":
            super()._put(key, data, if_absent=False)
            raise AlreadyExists(self.name, "put", key, "it is there")
        return super()._put(key, data, if_absent=if_absent)


class LetsTwoWin(MemoryStore):
    """Two of those who race are told that they have won."""

    def __init__(self) -> None:
        super().__init__()
        self.won, self.lock = 0, Lock()

    def _put(self, key, data, *, if_absent):
        if key.endswith("/raced-29"):
            with self.lock:
                self.won += 1
                if self.won == 2:
                    return super()._put(key, data, if_absent=False)
        return super()._put(key, data, if_absent=if_absent)


class SmallWindow(MemoryStore):
    """Not atomic, though only in a share of the races: two win those whose key is drawn."""

    def __init__(self, seed, share) -> None:
        super().__init__()
        self.chance, self.share, self.lock = random.Random(seed), share, Lock()
        self.creates, self.drawn = Counter(), {}

    def _put(self, key, data, *, if_absent):
        with self.lock:
            if if_absent and "/raced-" in key:
                self.drawn.setdefault(key, self.chance.random() < self.share)
                self.creates[key] += 1
                if_absent = not (self.drawn[key] and self.creates[key] == 2)
            return super()._put(key, data, if_absent=if_absent)


class KeepsALosersBytes(MemoryStore):
    def _put(self, key, data, *, if_absent):
        found = super()._put(key, data, if_absent=if_absent)
        if "/raced-" in key:
            super()._put(key, b"a loser's", if_absent=False)
        return found


class ListsBackwards(MemoryStore):
    def _list(self, prefix, start_after):
        return iter(list(super()._list(prefix, start_after))[::-1])


class ListsTooMuch(MemoryStore):
    def _list(self, prefix, start_after):
        return super()._list("", start_after)


class StartsAtTheBeginning(MemoryStore):
    def _list(self, prefix, start_after):
        return super()._list(prefix, None)


class WalksFolders(MemoryStore):
    """Lists a folder where its name stands, ``a/b`` before ``a-b``: SeaweedFS does."""

    def _list(self, prefix, start_after):
        def walked(key):
            return key.replace("/", "\0")

        found = sorted(super()._list(prefix, None), key=lambda info: walked(info.key))
        return (info for info in found if walked(info.key) > walked(start_after or ""))


class LosesBehindAFolder(WalksFolders):
    """The same, where what is listed happens to be in order: only ``start_after`` shows it."""

    def _list(self, prefix, start_after):
        return iter(sorted(super()._list(prefix, start_after), key=lambda info: info.key))


class IgnoresCase(MemoryStore):
    def _list(self, prefix, start_after):
        return iter(sorted(super()._list(prefix, start_after), key=lambda info: info.key.lower()))


class OneForAllCases(MemoryStore):
    """As most folders of macOS: the first name is kept, and any case of it is the same."""

    def _stored(self, key):
        return next((held for held in self._objects if held.lower() == key.lower()), key)

    def _put(self, key, data, *, if_absent):
        return super()._put(self._stored(key), data, if_absent=if_absent)

    def _get(self, key):
        return super()._get(self._stored(key))


class RefusesOtherCases(OneForAllCases):
    def _put(self, key, data, *, if_absent):
        if self._stored(key) != key:
            raise InvalidKey(self.name, "put", key, f"{self._stored(key)} is there")
        return super()._put(key, data, if_absent=if_absent)


class ListsByFolder(MemoryStore):
    """Takes a prefix for a folder."""

    def _list(self, prefix, start_after):
        return super()._list(prefix, start_after) if prefix.endswith("/") else iter(())


class KeepsVersions(MemoryStore):
    """A bucket with versions, which heeds the condition."""

    def _put(self, key, data, *, if_absent):
        return replace(super()._put(key, data, if_absent=if_absent), version="v1")


class VersionsWithoutCondition(KeepsVersions):
    """A bucket with versions, which ignores the condition: Ceph's does."""

    def _put(self, key, data, *, if_absent):
        return super()._put(key, data, if_absent=False)


class DeletesNothing(MemoryStore):
    def _delete(self, key):
        if not key.endswith("/deleted"):
            super()._delete(key)


class ListsWhatIsGone(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.gone = []

    def _delete(self, key):
        if key.endswith("/deleted"):
            self.gone += [info for info in super()._list(key, None) if info.key == key]
        super()._delete(key)

    def _list(self, prefix, start_after):
        gone = [info for info in self.gone if info.key.startswith(prefix)] if not start_after else []
        return iter(sorted([*super()._list(prefix, start_after), *gone[:1]], key=lambda info: info.key))


class HasNoCreate(MemoryStore):
    def _put(self, key, data, *, if_absent):
        if if_absent:
            raise Unsupported(self.name, "put", key, "there is no atomic create")
        return super()._put(key, data, if_absent=False)


NO_CREATE = "Unsupported: there is no atomic create"
IGNORES = "Unsupported: accepted; this store ignores If-None-Match here: creates overwrite"
VERSIONED = IGNORES.replace("here", "in a bucket with versions or object lock")
EIGHT_WON = "Unsupported: 8 of 8 won; creates are not atomic here"
DISORDER = "Unsupported: the server lists {} after {}, which is not the order of their bytes"


@pytest.mark.parametrize(
    ("store", "broken"),
    [
        (Loses, {"read back": "it is not there", "overwrite": "it is not there", "refused create": IGNORES}),
        (Alters, {"overwrite": "other bytes"}),
        (
            Ignores,
            {
                "refused create": IGNORES,
                "one winner": EIGHT_WON,
            },
        ),
        (RefusesItsOwn, {"settled create": "refused: it is there"}),
        (RefusesAndChanges, {"refused create": "refused, but changed"}),
        (LetsTwoWin, {"one winner": "Unsupported: 2 of 8 won; creates are not atomic here"}),
        (KeepsALosersBytes, {"one winner": "one won, but other bytes are there"}),
        (VersionsWithoutCondition, {"refused create": VERSIONED, "one winner": EIGHT_WON}),
        (ListsBackwards, {"list": DISORDER.format("a_b", "c")}),
        (ListsTooMuch, {"list": "Unsupported: not all, or others"}),
        (StartsAtTheBeginning, {"list": "Unsupported: from B on, not all that is after it, or more"}),
        (WalksFolders, {"list": DISORDER.format("a-b", "a/b")}),
        (LosesBehindAFolder, {"list": "Unsupported: from a-b on, not all that is after it, or more"}),
        (IgnoresCase, {"list": DISORDER.format("B", "a_b")}),
        (ListsByFolder, {"list": "Unsupported: a prefix that ends within a name is not heeded"}),
        (
            OneForAllCases,
            {"case": "Unsupported: the same object; ids that differ in case only would be one session"},
        ),
        (DeletesNothing, {"delete": "it can still be read"}),
        (ListsWhatIsGone, {"delete": "it is still listed"}),
        (
            HasNoCreate,
            dict.fromkeys(("create", "settled create", "refused create", "one winner"), NO_CREATE)
            | {"read back": "it is not there"},
        ),
    ],
)
def test_a_broken_promise_is_told_and_no_other(store, broken):
    outcome = check_store(store(), ".check/")
    seen = {one.promise: one.seen.replace(".check/listed/", "") for one in outcome.results if not one.ok}
    assert seen == broken
    assert [(one.promise, one.tried) for one in outcome.results] == [row[:2] for row in KEPT]
    assert not outcome.ok


@pytest.mark.parametrize("error", [AccessDenied, Unavailable])
@pytest.mark.parametrize("cleans", [True, False])
def test_a_store_that_can_not_be_tried_is_an_error(error, cleans):
    class Fails(MemoryStore):
        def _put(self, key, data, *, if_absent):
            if key.endswith("/listed/a0"):
                raise error(self.name, "put", key, "planted")
            return super()._put(key, data, if_absent=if_absent)

        def _delete(self, key):
            if not cleans:
                raise Unavailable(self.name, "delete", key, "not this one")
            super()._delete(key)

    store = Fails()
    with pytest.raises(error, match="planted"):
        check_store(store)
    assert (not store._objects) is cleans


def test_what_can_not_be_tidied_up_is_an_error():
    class Fails(MemoryStore):
        def _delete(self, key):
            if key.endswith("/created"):
                raise AccessDenied(self.name, "delete", key, "planted")
            super()._delete(key)

    with pytest.raises(AccessDenied, match="planted"):
        check_store(Fails())


def test_each_racer_has_bytes_of_its_own(monkeypatch):
    monkeypatch.setattr(check, "_RACERS", 3)
    raced = set()

    class Spy(MemoryStore):
        def _put(self, key, data, *, if_absent):
            raced.update([data] if key.endswith("/raced-00") else [])
            return super()._put(key, data, if_absent=if_absent)

    assert check_store(Spy()).ok
    assert raced == {b"racer 0", b"racer 1", b"racer 2"}


def test_a_window_that_shows_in_some_races_is_found():
    """Swift's shows in 56 of 100 races. One race would miss 44 of these 100 stores."""
    assert [seed for seed in range(100) if check_store(SmallWindow(seed, 0.56)).ok] == []


def test_enough_races_for_less_than_one_miss_in_a_million():
    assert (1 - 0.37) ** check._RACES < 1e-6


def test_a_store_that_refuses_the_other_case_is_safe():
    outcome = check_store(RefusesOtherCases())
    assert outcome.ok
    assert [one.seen for one in outcome.results if one.promise == "case"] == [
        "refused, and no harm done: keys can't differ in case only here"
    ]


def test_suspended_versions_are_none():
    class Suspended(MemoryStore):
        def _put(self, key, data, *, if_absent):
            return replace(super()._put(key, data, if_absent=if_absent), version="null")

    assert told(check_store(Suspended())) == KEPT


def test_versions_are_told_and_are_no_fault():
    outcome = check_store(KeepsVersions())
    assert outcome.ok
    assert [one.seen for one in outcome.results if one.promise == "versions"] == [
        "yes: the bytes of what is deleted or replaced stay until their versions are removed"
    ]


def test_the_races_are_run_on_connections_that_are_open():
    """Each racer reads once before the first race."""

    class Spy(MemoryStore):
        def _get(self, key):
            steps.append(("get", key))
            return super()._get(key)

        def _put(self, key, data, *, if_absent):
            steps.append(("put", key))
            return super()._put(key, data, if_absent=if_absent)

    steps = []
    check_store(Spy(), "c/")
    raced = [verb for verb, key in steps if key == "c/raced-00"]
    assert raced[:8] == ["get"] * 8
    assert raced.count("put") == 8
