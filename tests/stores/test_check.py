"""What a check says of a store that keeps its promises, and of each that breaks one."""

from threading import Lock

import pytest

from writeahead.errors import AccessDenied, AlreadyExists, Unavailable, Unsupported
from writeahead.stores import check
from writeahead.stores.check import check_prefix, check_store
from writeahead.stores.memory import MemoryStore

KEPT = [
    ("create", "create an object", "created", True),
    ("read back", "read it", "the same bytes", True),
    ("settled create", "create it again with the same bytes", "accepted: it holds these bytes", True),
    ("refused create", "create it again with other bytes", "refused, and unchanged", True),
    ("overwrite", "replace an object, and read it", "the same bytes", True),
    ("one winner", "create one object from 8 threads", "one won, and its bytes are there", True),
    ("list", "list by prefix, and from a key on", "all of them, in order", True),
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
    names = ["created", "deleted", "listed-a", "listed-b", "listed-c", "raced", "replaced"]
    assert sorted(keys) == [f"mine/{name}" for name in names]
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
        if key.endswith("/raced"):
            with self.lock:
                self.won += 1
                if self.won == 2:
                    return super()._put(key, data, if_absent=False)
        return super()._put(key, data, if_absent=if_absent)


class KeepsALosersBytes(MemoryStore):
    def _put(self, key, data, *, if_absent):
        found = super()._put(key, data, if_absent=if_absent)
        if key.endswith("/raced"):
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
IGNORES = "Unsupported: accepted; this store ignores If-None-Match: creates overwrite"


@pytest.mark.parametrize(
    ("store", "broken"),
    [
        (Loses, {"read back": "it is not there", "overwrite": "it is not there", "refused create": IGNORES}),
        (Alters, {"overwrite": "other bytes"}),
        (
            Ignores,
            {
                "refused create": IGNORES,
                "one winner": "Unsupported: 8 of 8 won; creates are not atomic here",
            },
        ),
        (RefusesItsOwn, {"settled create": "refused: it is there"}),
        (RefusesAndChanges, {"refused create": "refused, but changed"}),
        (LetsTwoWin, {"one winner": "Unsupported: 2 of 8 won; creates are not atomic here"}),
        (KeepsALosersBytes, {"one winner": "one won, but other bytes are there"}),
        (ListsBackwards, {"list": "not all objects of the prefix, or not in order"}),
        (ListsTooMuch, {"list": "not all objects of the prefix, or not in order"}),
        (StartsAtTheBeginning, {"list": "all, but start_after is not heeded"}),
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
    outcome = check_store(store())
    assert {one.promise: one.seen for one in outcome.results if not one.ok} == broken
    assert [(one.promise, one.tried) for one in outcome.results] == [row[:2] for row in KEPT]
    assert not outcome.ok


@pytest.mark.parametrize("error", [AccessDenied, Unavailable])
@pytest.mark.parametrize("cleans", [True, False])
def test_a_store_that_can_not_be_tried_is_an_error(error, cleans):
    class Fails(MemoryStore):
        def _put(self, key, data, *, if_absent):
            if key.endswith("/listed-a"):
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
            raced.update([data] if key.endswith("/raced") else [])
            return super()._put(key, data, if_absent=if_absent)

    assert check_store(Spy()).ok
    assert raced == {b"racer 0", b"racer 1", b"racer 2"}
