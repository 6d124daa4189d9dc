"""What every artifact store promises, as tests that a backend inherits."""

import asyncio
import contextlib
import os
import pickle
import signal
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from typing import ClassVar, Protocol, TypeVar

import pytest

from writeahead.errors import AlreadyExists, InvalidKey, NotFound, StoreError
from writeahead.stores.base import ArtifactStore, ObjectInfo
from writeahead.testing.store_process import StoreProcess
from writeahead.testing.summary import PROPERTY

__all__ = ["StoreContract", "StorePlace"]

_T = TypeVar("_T")

_RACERS = 8
_ALL_BYTES = bytes(range(256))

_BAD_KEYS = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    "a/..",
    "~a",
    "a b",
    " a",
    "a\n",
    "a\0b",
    "a\\b",
    "..\\a",
    "C:a",
    "a%2e%2e",
    "a?b",
    "a#b",
    "a*",
    "\u00e4",
    "\uff0e\uff0e/a",  # full-width dots, which some normalisations turn into ".."
    "a\u2215b",  # a slash that is none
    "a\u200bb",  # a space that can't be seen
    "x" * 256,
    "/".join(["x" * 100] * 9),
)
_GOOD_KEYS = (
    ".open/session",
    "...",
    "a..b/..c",
    "-",
    "-rf",
    "_",
    "CON",
    "a.tmp",
    "index.html",
    "x" * 255,
    "/".join(["x" * 99] * 9),
    "/".join(["d"] * 40),
)
_BAD_PREFIXES = ("/", "//", "../", "a/../", "./", "a//b", "a b", "\u00e4", "*", "~")
# In the order of their bytes; "/" comes behind "-" and "." and before digits and letters.
_LISTED = (
    "A",
    "B/c",
    "a-b",
    "a-b.c/d",
    "a.b",
    "a/b",
    "a/b-c",
    "a/b.c/d",
    "a/c/d/e",
    "a0",
    "ab",
    "b",
    "b-/a",
    "c/x",
)
_PREFIXES = ("", "A", "a", "a-", "a-b.c", "a/", "a/b", "a/b.c/", "a/c/d/e", "a/c/d/e/", "b", "nothing/")
_START_AFTERS = (None, "", "A", "a", "a-b.c/d", "a/", "a/b", "a/b.c/zz", "a/c/d", "b", "z")
_HALF = 5_000
# An ObjectInfo with its key takes more than 200 bytes.
_BYTES_PER_STREAMED_KEY = 100
_LINES = 20_000
_KILLS = 5


class StorePlace(Protocol):
    """Where a store keeps its objects, reached around the store under test: with other code than its own."""

    @property
    def url(self) -> str:
        """What `open_store` makes a store on this place of, in any process."""

    def open(self) -> ArtifactStore:
        """A new instance of the store on this place; two of them share nothing but the place."""

    def read(self, key: str) -> bytes | None:
        """The bytes at a key; None if there is no object."""

    def write(self, key: str, data: bytes) -> None:
        """Put bytes there, whatever is there already."""

    def fill(self, prefix: str, count: int) -> None:
        """Make ``count`` small objects whose keys are ``prefix`` and six digits from 000000 on."""

    def keys(self) -> Sequence[str]:
        """All that is there, also what is no object: a temporary file that stayed behind shows here."""


class StoreContract:
    """The promises of `ArtifactStore`.

    A backend's tests subclass it, and give a fixture ``place``::

        class TestLocalStore(StoreContract):
            @pytest.fixture
            def place(self, tmp_path):
                return Folder(tmp_path)      # a StorePlace: new and empty for each test

    A backend that can't have something at all says so, with the reason, in ``impossible``; the tests of that
    part are then skipped with this reason. The parts are ``processes`` (one place for several processes),
    ``fork`` (an instance used on in a forked child) and ``streaming`` (a listing in bounded memory).
    """

    impossible: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture(autouse=True)
    def _named_in_the_summary(self, record_property: Callable[[str, object], None]) -> None:
        record_property(PROPERTY, type(self).__name__)

    @pytest.fixture
    def store(self, place: StorePlace) -> ArtifactStore:
        """The store under test."""
        return place.open()

    # The verbs.

    @pytest.mark.parametrize("data", [b"", b"x", _ALL_BYTES, _ALL_BYTES * 4097], ids=len)
    @pytest.mark.parametrize("if_absent", [False, True], ids=["put", "create"])
    def test_bytes_are_kept_exactly(
        self, place: StorePlace, store: ArtifactStore, data: bytes, *, if_absent: bool
    ) -> None:
        """What was put is what is there, and what is read."""
        store.put("a/b", data, if_absent=if_absent)
        assert place.read("a/b") == data
        assert store.get("a/b").data == data

    def test_a_put_replaces(self, place: StorePlace, store: ArtifactStore) -> None:
        """The new bytes are there, also where they are fewer."""
        store.put("a", b"long" * 1000)
        store.put("a", b"short")
        assert place.read("a") == b"short"
        assert place.keys() == ["a"]

    def test_what_others_wrote_is_read(self, place: StorePlace, store: ArtifactStore) -> None:
        """A store holds nothing that is not in its place."""
        assert store.head("a/b") is None
        assert list(store.list()) == []
        place.write("a/b", b"theirs")
        assert store.get("a/b").data == b"theirs"
        head = store.head("a/b")
        assert head is not None
        assert head.size == len(b"theirs")
        assert [info.key for info in store.list()] == ["a/b"]

    def test_verbs_agree_on_info(self, store: ArtifactStore) -> None:
        """put, get, head and list tell the same of an object, where they tell anything."""
        put = store.put("a/b", b"12345")
        listed = list(store.list())
        for info in (put, store.get("a/b").info, store.head("a/b"), *listed):
            assert info is not None
            assert (info.key, info.size) == ("a/b", 5)
            assert info.last_modified is None or info.last_modified.tzinfo is not None
            assert info.etag == put.etag
        assert len(listed) == 1

    def test_absent_is_not_found(self, store: ArtifactStore) -> None:
        """An absent object is NotFound for get, None for head, and nothing for list."""
        store.put("a/b", b"")
        for key in ("b", "a", "a/b/c", "a/bb"):
            with pytest.raises(NotFound):
                store.get(key)
            assert store.head(key) is None

    def test_an_empty_place(self, place: StorePlace, store: ArtifactStore) -> None:
        """Nothing is there before the first put, and looking makes nothing."""
        assert list(store.list()) == []
        assert list(store.list("a/")) == []
        assert store.head("a") is None
        store.delete("a/b")
        assert place.keys() == []

    def test_delete(self, place: StorePlace, store: ArtifactStore) -> None:
        """A deleted object is gone, its neighbours are not, and deleting it again is no error."""
        store.put("a/b", b"1")
        store.put("a/c", b"1")
        for _ in range(2):
            store.delete("a/b")
            assert place.read("a/b") is None
            assert store.head("a/b") is None
        assert place.keys() == ["a/c"]

    # Create-if-absent.

    def test_a_create_is_settled(self, place: StorePlace, store: ArtifactStore) -> None:
        """The same bytes are accepted again, whoever wrote them."""
        first = store.put("a/b", b"1", if_absent=True)
        again = store.put("a/b", b"1", if_absent=True)
        assert (first.key, first.size, first.etag) == (again.key, again.size, again.etag)
        place.write("theirs", b"2")
        assert store.put("theirs", b"2", if_absent=True).size == 1
        assert place.keys() == ["a/b", "theirs"]

    @pytest.mark.parametrize("held", [b"", b"1", b"12", b"2"], ids=repr)
    def test_a_create_is_refused(self, place: StorePlace, store: ArtifactStore, held: bytes) -> None:
        """Other bytes are refused, and those that are there stay."""
        place.write("a/b", held)
        with pytest.raises(AlreadyExists):
            store.put("a/b", b"new", if_absent=True)
        assert place.read("a/b") == held
        assert place.keys() == ["a/b"]

    def test_a_create_after_a_delete(self, place: StorePlace, store: ArtifactStore) -> None:
        """A key that was deleted is free."""
        store.put("a", b"1", if_absent=True)
        store.delete("a")
        store.put("a", b"2", if_absent=True)
        assert place.read("a") == b"2"

    def test_threads_race_to_create(self, place: StorePlace, store: ArtifactStore) -> None:
        """Of several creates at once exactly one wins; each loser knows, and the winner's bytes are there."""
        for number in range(10):
            key = f"races/{number}"
            won = _in_threads(partial(_race, store, key))
            assert sorted(won) == [False] * (_RACERS - 1) + [True]
            assert place.read(key) == b"racer %d" % won.index(True)

    def test_threads_race_with_the_same_bytes(self, place: StorePlace, store: ArtifactStore) -> None:
        """All succeed: the object holds what each of them asked for."""
        assert _in_threads(lambda _: _create(store, "a/b", b"same")) == [True] * _RACERS
        assert place.keys() == ["a/b"]

    def test_processes_race_to_create(self, place: StorePlace) -> None:
        """As among threads, so among processes."""
        self._need("processes")
        with contextlib.ExitStack() as stack:
            racers = [stack.enter_context(StoreProcess(place.url)) for _ in range(4)]
            for racer in racers:
                assert racer.call("list", "")["value"] == []
            for number in range(10):
                key = f"races/{number}"
                for mine, racer in enumerate(racers):
                    racer.send("put", key, f"racer {mine}", if_absent=True)
                answers = [racer.receive().get("error") for racer in racers]
                assert sorted(map(str, answers)) == ["AlreadyExists"] * (len(racers) - 1) + ["None"]
                assert place.read(key) == b"racer %d" % answers.index(None)

    # Read after write.

    def test_another_instance_sees_each_change_at_once(self, place: StorePlace) -> None:
        """No cache, no stale size, no shared client."""
        one, other = place.open(), place.open()
        _see_each_change(one.put, one.delete, other)

    def test_another_process_sees_each_change_at_once(self, place: StorePlace) -> None:
        """As between instances, so between processes, in both directions."""
        self._need("processes")
        with StoreProcess(place.url) as process:

            def put(key: str, data: bytes) -> None:
                assert process.call("put", key, data.decode()) == {"value": None}

            def delete(key: str) -> None:
                assert process.call("delete", key) == {"value": None}

            store = place.open()
            _see_each_change(put, delete, store)
            store.put("a/b", b"back")
            assert process.call("get", "a/b") == {"value": "back"}
            assert process.call("list", "a/") == {"value": ["a/b", "a/c"]}
            store.delete("a/b")
            assert process.call("get", "a/b") == {"error": "NotFound"}

    # Atomicity.

    def test_a_reader_never_sees_a_part(self, store: ArtifactStore) -> None:
        """While an object is replaced, each read gives the old bytes or the new, whole, with their size."""
        values = {b"a" * 300_000, b"b" * 10}
        store.put("a", b"b" * 10)
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                held = store.get("a")
                assert held.data in values
                assert held.info.size == len(held.data)

        with ThreadPoolExecutor(2) as pool:
            reader = pool.submit(read)
            try:
                for _ in range(20):
                    for value in sorted(values):
                        store.put("a", value)
            finally:
                done.set()
            reader.result()

    def test_a_kill_in_the_middle_of_a_put_leaves_old_or_new(self, place: StorePlace) -> None:
        """SIGKILL at any moment: the object is whole, and no part of it is listed."""
        self._need("processes")
        for number in range(_KILLS):
            with StoreProcess(place.url) as process:
                process.send("put for ever", "a/b", "x" * _LINES)
                for _ in range(number + 1):
                    last = process.receive()["value"]
                process.kill()
                while answer := process.receive():
                    last = answer["value"]
            held = place.read("a/b")
            assert held is not None
            lines = held.splitlines()
            assert len(lines) == _LINES
            assert len(set(lines)) == 1
            # What was answered is durable; one more may have been under way.
            assert int(lines[0]) in (last, last + 1)
            assert [info.key for info in place.open().list()] == ["a/b"]

    # Keys.

    def test_a_bad_key_is_refused_by_every_verb(self, place: StorePlace, store: ArtifactStore) -> None:
        """Nothing is read, written or removed under a key that is none."""
        place.write("a/b", b"1")
        for key in _BAD_KEYS:
            for call in (
                partial(store.put, key, b""),
                partial(store.put, key, b"", if_absent=True),
                partial(store.get, key),
                partial(store.head, key),
                partial(store.delete, key),
            ):
                error = _raised(call)
                assert isinstance(error, InvalidKey), ascii(key)
                assert error.key == key
                assert len(str(error).splitlines()) == 1
        assert place.keys() == ["a/b"]

    def test_a_bad_prefix_is_refused(self, store: ArtifactStore) -> None:
        """A prefix that no key can begin with is a mistake."""
        for prefix in _BAD_PREFIXES:
            with pytest.raises(InvalidKey):
                list(store.list(prefix))
            with pytest.raises(InvalidKey):
                list(store.list(start_after=prefix))

    def test_a_good_key_works_in_every_verb(self, place: StorePlace, store: ArtifactStore) -> None:
        """Every key that the rules allow is an object like any other."""
        for key in _GOOD_KEYS:
            store.put(key, b"1", if_absent=True)
            assert place.read(key) == b"1"
            assert store.get(key).info.key == key
            assert store.head(key) is not None
            assert [info.key for info in store.list()] == [key]
            store.delete(key)
            assert place.keys() == []

    # Listing.

    def test_list_gives_the_keys_of_a_prefix_in_order(self, place: StorePlace, store: ArtifactStore) -> None:
        """For every prefix, in the order of bytes, from ``start_after`` on, which need not be there."""
        for key in reversed(_LISTED):
            place.write(key, key.encode())
        for prefix, start_after in product(_PREFIXES, _START_AFTERS):
            expected = [key for key in _LISTED if key.startswith(prefix) and key > (start_after or "")]
            found = list(store.list(prefix, start_after=start_after))
            assert [info.key for info in found] == expected, (prefix, start_after)
            assert [info.size for info in found] == [len(key) for key in expected]

    def test_a_listing_streams(self, place: StorePlace, store: ArtifactStore) -> None:
        """10,000 objects: all of them, in order, in memory that does not grow with their number."""
        self._need("streaming")
        place.fill("many/a/", _HALF)
        place.fill("many/b/", _HALF)
        keys = [f"many/{half}/{number:06d}" for half in "ab" for number in range(_HALF)]
        # Once for whatever is made by the first request only.
        assert [info.key for info in store.list("many/", start_after=keys[-3])] == keys[-2:]
        half = _peak_memory(store.list("many/a/"), keys[:_HALF])
        whole = _peak_memory(store.list("many/"), keys)
        assert (whole - half) / _HALF < _BYTES_PER_STREAMED_KEY

    def test_a_listing_that_is_left_or_changed_under_way(
        self, place: StorePlace, store: ArtifactStore
    ) -> None:
        """What stays is listed once, whatever goes and comes meanwhile; a listing may be left early."""
        for number in range(20):
            place.write(f"a/{number:02d}", b"")
        listing = store.list()
        seen = [next(listing).key, next(listing).key]
        store.delete("a/00")
        store.delete("a/19")
        store.put("b", b"")
        seen += [info.key for info in listing]
        assert seen == sorted(set(seen))
        assert {f"a/{number:02d}" for number in range(1, 19)} <= set(seen)
        next(store.list())

    # Where it runs.

    def test_inside_a_running_event_loop(self, store: ArtifactStore) -> None:
        """The verbs work where a loop runs, and from its threads."""

        async def use() -> bytes:
            store.put("a", b"1")
            await asyncio.gather(*(asyncio.to_thread(store.put, f"t/{n}", b"1") for n in range(_RACERS)))
            assert len(list(store.list("t/"))) == _RACERS
            return store.get("a").data

        assert asyncio.run(use()) == b"1"

    def test_threads_share_an_instance(self, place: StorePlace, store: ArtifactStore) -> None:
        """Each thread gets its own answers."""

        def use(mine: int) -> bool:
            for number in range(5):
                key, data = f"{mine}/{number}", b"%d" % mine * 100
                store.put(key, data)
                assert store.get(key).data == data
                assert [info.key for info in store.list(f"{mine}/")] == [
                    f"{mine}/{n}" for n in range(number + 1)
                ]
            store.delete(f"{mine}/0")
            return True

        assert all(_in_threads(use))
        assert len(place.keys()) == 4 * _RACERS

    def test_a_forked_child_goes_on_with_the_instance(self, place: StorePlace, store: ArtifactStore) -> None:
        """Both sides of a fork can use the store that the parent had in use."""
        self._need("fork")
        store.put("a", b"1")
        child = _fork(lambda: store.get("a").data == b"1" and store.put("child", b"1", if_absent=True))
        store.put("parent", b"1")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.get("child").data == b"1"
        assert place.keys() == ["a", "child", "parent"]

    # Errors.

    def test_errors_say_which_store_verb_and_key(self, store: ArtifactStore) -> None:
        """Each is one line, is its built-in counterpart too, and survives pickling."""
        store.put("a/b", b"1")
        for call, verb, key, ours, counterpart in (
            (lambda: store.get("a/c"), "get", "a/c", NotFound, FileNotFoundError),
            (lambda: store.put("a/b", b"2", if_absent=True), "put", "a/b", AlreadyExists, FileExistsError),
            (lambda: store.head("../b"), "head", "../b", InvalidKey, ValueError),
            (lambda: list(store.list("../")), "list", "../", InvalidKey, ValueError),
            (lambda: store.delete(""), "delete", "", InvalidKey, ValueError),
        ):
            error = _raised(call)
            assert isinstance(error, ours)
            assert isinstance(error, counterpart)
            assert (error.store, error.operation, error.key) == (store.name, verb, key)
            assert error.detail
            assert len(str(error).splitlines()) == 1
            assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - it is our own

    def test_check_proves_the_store_and_leaves_nothing(self, place: StorePlace, store: ArtifactStore) -> None:
        """`check` finds every promise kept, and removes what it made."""
        place.write("a/b", b"1")
        outcome = store.check()
        assert [result for result in outcome.results if not result.ok] == []
        assert outcome.ok
        assert outcome.store == store.name
        assert place.keys() == ["a/b"]

    def _need(self, part: str) -> None:
        if part in self.impossible:
            pytest.skip(f"{part} declared impossible: {self.impossible[part]}")


def _create(store: ArtifactStore, key: str, data: bytes) -> bool:
    try:
        store.put(key, data, if_absent=True)
    except AlreadyExists:
        return False
    return True


def _race(store: ArtifactStore, key: str, mine: int) -> bool:
    return _create(store, key, b"racer %d" % mine)


def _in_threads(work: Callable[[int], _T]) -> list[_T]:
    """The results of ``work`` in threads that start together, by their number."""
    start = threading.Barrier(_RACERS)

    def run(number: int) -> _T:
        start.wait()
        return work(number)

    with ThreadPoolExecutor(_RACERS) as pool:
        return list(pool.map(run, range(_RACERS)))


def _see_each_change(
    put: Callable[[str, bytes], object], delete: Callable[[str], object], reader: ArtifactStore
) -> None:
    """Change an object by the one side, and look at it from the other after each change."""
    assert list(reader.list("a/")) == []
    for data in (b"one", b"a longer one", b""):
        put("a/b", data)
        assert reader.get("a/b").data == data
        head = reader.head("a/b")
        assert head is not None
        assert head.size == len(data)
        assert [(info.key, info.size) for info in reader.list("a/")] == [("a/b", len(data))]
    put("a/c", b"")
    assert [info.key for info in reader.list("a/")] == ["a/b", "a/c"]
    delete("a/b")
    assert reader.head("a/b") is None
    assert [info.key for info in reader.list("a/")] == ["a/c"]


def _peak_memory(listing: Iterator[ObjectInfo], keys: Sequence[str]) -> int:
    """The most memory that was in use while a listing gave just these keys."""
    tracemalloc.start()
    try:
        for info, key in zip(listing, keys, strict=True):
            assert info.key == key
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _raised(call: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        call()
    return caught.value


def _fork(work: Callable[[], object]) -> int:
    """Do the work in a forked child, which exits with 0 if the result is true; gives its id."""
    with warnings.catch_warnings():
        # Python warns, rightly, of a fork beside threads; that is what is tried here.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return child
    code = 1
    try:
        # A child that hangs must not outlive the test.
        signal.alarm(60)
        code = 0 if work() else 1
    finally:
        os._exit(code)
