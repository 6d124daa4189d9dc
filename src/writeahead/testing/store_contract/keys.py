"""Which names an object can have, and how they are listed."""

import tracemalloc
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import ClassVar

import pytest

from writeahead.errors import InvalidKey, NotFound
from writeahead.stores.base import ArtifactStore, ObjectInfo
from writeahead.testing.store_contract.backdoors import StoreBackdoor
from writeahead.testing.store_contract.part import ContractPart, raised

__all__ = ["Keys"]

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
# In the order of their bytes; "/" comes behind "-" and "." and before digits and letters. No two
# differ in case only, which not every store has.
_LISTED = (
    "Q",
    "R/c",
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
_PREFIXES = ("", "Q", "a", "a-", "a-b.c", "a/", "a/b", "a/b.c/", "a/c/d/e", "a/c/d/e/", "b", "nothing/")
_START_AFTERS = (None, "", "Q", "a", "a-b.c/d", "a/", "a/b", "a/b.c/zz", "a/c/d", "b", "z")
# An ObjectInfo with its key takes more than 200 bytes.
_BYTES_PER_STREAMED_KEY = 100


class Keys(ContractPart):
    """Attacks by key, and listings: order, start, memory, and changes under way.

    Attributes:
        listed_keys: How many objects the test of a long listing makes; at least five pages of them.
    """

    listed_keys: ClassVar[int] = 10_000

    # Keys.

    def test_a_bad_key_is_refused_by_every_verb(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """Nothing is read, written or removed under a key that is none."""
        backdoor.write("a/b", b"1")
        for key in _BAD_KEYS:
            for call in (
                partial(store.put, key, b""),
                partial(store.put, key, b"", if_absent=True),
                partial(store.get, key),
                partial(store.head, key),
                partial(store.delete, key),
            ):
                error = raised(call)
                assert isinstance(error, InvalidKey), ascii(key)
                assert error.key == key
                assert len(str(error).splitlines()) == 1
        assert backdoor.keys() == ["a/b"]

    def test_a_bad_prefix_is_refused(self, store: ArtifactStore) -> None:
        """A prefix that no key can begin with is a mistake."""
        for prefix in _BAD_PREFIXES:
            with pytest.raises(InvalidKey):
                list(store.list(prefix))
            with pytest.raises(InvalidKey):
                list(store.list(start_after=prefix))

    def test_a_good_key_works_in_every_verb(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """Every key that the rules allow is an object like any other."""
        for key in _GOOD_KEYS:
            store.put(key, b"1", if_absent=True)
            assert backdoor.read(key) == b"1"
            assert store.get(key).info.key == key
            assert store.head(key) is not None
            assert [info.key for info in store.list()] == [key]
            store.delete(key)
            assert backdoor.keys() == []

    def test_keys_that_differ_in_case_never_share_an_object(
        self, backdoor: StoreBackdoor, store: ArtifactStore
    ) -> None:
        """Each is an object of its own; or the second is refused, and the first unchanged."""
        for one, other in (("Call-7/a", "call-7/a"), ("b/Call-8", "b/call-8")):
            store.put(one, b"1", if_absent=True)
            try:
                store.put(other, b"2", if_absent=True)
            except InvalidKey:
                with pytest.raises(InvalidKey):
                    store.put(other, b"2")
                with pytest.raises(NotFound):
                    store.get(other)
                assert store.head(other) is None
            else:
                assert store.get(other).data == b"2"
            listed = [info.key for info in store.list()]
            assert listed == [key for key in sorted((one, other)) if store.head(key)]
            store.delete(other)
            assert store.get(one).data == b"1"
            store.delete(one)
            assert backdoor.keys() == []

    # Listing.

    def test_list_gives_the_keys_of_a_prefix_in_order(
        self, backdoor: StoreBackdoor, store: ArtifactStore
    ) -> None:
        """For every prefix, in byte order, from ``start_after`` on, which need not be a key."""
        for key in reversed(_LISTED):
            backdoor.write(key, key.encode())
        for prefix, start_after in product(_PREFIXES, _START_AFTERS):
            expected = [key for key in _LISTED if key.startswith(prefix) and key > (start_after or "")]
            found = list(store.list(prefix, start_after=start_after))
            assert [info.key for info in found] == expected, (prefix, start_after)
            assert [info.size for info in found] == [len(key) for key in expected]

    def test_a_listing_streams(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """Thousands of objects, in order, in memory that does not grow with their number."""
        self._need("streaming")
        half = self.listed_keys // 2
        backdoor.fill("many/a/", half)
        backdoor.fill("many/b/", half)
        keys = [f"many/{part}/{number:06d}" for part in "ab" for number in range(half)]
        # Once for whatever is made by the first request only.
        assert [info.key for info in store.list("many/", start_after=keys[-3])] == keys[-2:]
        peak_of_half = _peak_memory(store.list("many/a/"), keys[:half])
        peak = _peak_memory(store.list("many/"), keys)
        assert (peak - peak_of_half) / half < _BYTES_PER_STREAMED_KEY

    def test_a_listing_that_is_left_or_changed_under_way(
        self, backdoor: StoreBackdoor, store: ArtifactStore
    ) -> None:
        """What stays is listed once, whatever changes meanwhile; a listing may be left early."""
        for number in range(20):
            backdoor.write(f"a/{number:02d}", b"")
        listing = store.list()
        seen = [next(listing).key, next(listing).key]
        store.delete("a/00")
        store.delete("a/19")
        store.put("b", b"")
        seen += [info.key for info in listing]
        assert seen == sorted(set(seen))
        assert {f"a/{number:02d}" for number in range(1, 19)} <= set(seen)
        next(store.list())


def _peak_memory(listing: Iterator[ObjectInfo], keys: Sequence[str]) -> int:
    """The most memory that was in use while a listing gave just these keys."""
    tracemalloc.start()
    try:
        for info, key in zip(listing, keys, strict=True):
            assert info.key == key
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
