"""Prove a store by trying it: what `ArtifactStore.check` does.

A check needs no more of a store than its verbs, so this module does not import the stores' base.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from typing import Protocol

from writeahead.errors import AlreadyExists, InvalidKey, NotFound, Unsupported

__all__ = ["CheckResult", "StoreCheck", "StoreVerbs", "check_prefix", "check_store"]

# See `_Trial._race` for the arithmetic.
_RACERS = 8
_RACES = 30
# Names that tell a listing in byte order from one by folder, by locale or without case. No two of
# them differ in case only, which is tried by itself.
_LISTED = ("B", "a-b", "a.b", "a/b", "a0", "a_b", "c")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One promise that was put to the test.

    Attributes:
        promise: Its name, e.g. ``one winner``.
        tried: What the check did.
        seen: What the store answered, in one line.
        ok: Whether the promise holds.
    """

    promise: str
    tried: str
    seen: str
    ok: bool


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """The outcome of `ArtifactStore.check`: one result for each promise."""

    store: str
    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """True only if a run on this store would be safe."""
        return all(result.ok for result in self.results)


class _Written(Protocol):
    @property
    def version(self) -> str | None: ...


class _Held(Protocol):
    @property
    def data(self) -> bytes: ...


class _Listed(Protocol):
    @property
    def key(self) -> str: ...


class StoreVerbs(Protocol):
    """What a check asks of a store: see `ArtifactStore` for what each verb promises."""

    @property
    def name(self) -> str:
        """What the results call the store."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> _Written:
        """Write an object."""

    def get(self, key: str) -> _Held:
        """Read an object."""

    def list(self, prefix: str = "", *, start_after: str | None = None) -> Iterable[_Listed]:
        """List the objects below a prefix."""

    def delete(self, key: str) -> None:
        """Remove an object."""


def check_prefix() -> str:
    """A fresh prefix for the objects of one check, with its ``/``."""
    return f".check-{secrets.token_hex(8)}/"


def check_store(store: StoreVerbs, prefix: str | None = None) -> StoreCheck:
    """Put every promise that a run relies on to the test, on the store itself.

    Args:
        store: The store to prove. It is written to.
        prefix: Where the check's objects go, `check_prefix` by default. They are removed again,
            also when the check fails.

    Returns:
        One result a promise, each with what was tried and what was seen. A store that breaks a
        promise does not raise: its result is not ``ok``. One that ignores or lacks If-None-Match is
        named ``Unsupported`` there.

    Raises:
        StoreError: The store could not be tried: `AccessDenied`, `Unavailable`, `NotFound` for a
            bucket ...
    """
    trial = _Trial(store, prefix or check_prefix())
    try:
        results = trial.run()
    except BaseException:
        # The first error is the one to be told.
        with contextlib.suppress(Exception):
            trial.clean_up()
        raise
    trial.clean_up()
    return StoreCheck(store.name, results)


class _Trial:
    """The steps of one check, each with its own keys."""

    def __init__(self, store: StoreVerbs, prefix: str) -> None:
        self._store = store
        self._prefix = prefix
        self._keys: list[str] = []
        self._data = bytes(range(256)) + secrets.token_bytes(64)
        self._keeps_versions = False

    def run(self) -> tuple[CheckResult, ...]:
        created, replaced, deleted, small, large = map(
            self._key, ("created", "replaced", "deleted", "cased/a", "cased/A")
        )
        listed = [self._key(f"listed/{name}") for name in _LISTED]
        race = f"create each of {_RACES} objects from {_RACERS} threads at once"
        return (
            _tried("create", "create an object", lambda: self._create(created)),
            _tried("read back", "read it", lambda: self._read_back(created)),
            _tried("settled create", "create it again with the same bytes", lambda: self._repeat(created)),
            _tried("refused create", "create it again with other bytes", lambda: self._refuse(created)),
            _tried("overwrite", "replace an object, and read it", lambda: self._replace(replaced)),
            _tried("case", "write beside it to a key in another case", lambda: self._tell_case(small, large)),
            _tried("versions", "look whether a put made a version", self._tell_versions),
            _tried("one winner", race, self._race),
            _tried("list", "list by prefix, and from each key on", lambda: self._list(listed)),
            _tried("delete", "delete an object twice, and look for it", lambda: self._delete(deleted)),
        )

    def clean_up(self) -> None:
        for key in self._keys:
            self._store.delete(key)

    def _key(self, name: str) -> str:
        key = self._prefix + name
        self._keys.append(key)
        return key

    def _bytes(self, key: str) -> bytes | None:
        try:
            return self._store.get(key).data
        except NotFound:
            return None

    def _create(self, key: str) -> tuple[bool, str]:
        version = self._store.put(key, self._data, if_absent=True).version
        self._keeps_versions = version not in (None, "null")
        return True, "created"

    def _read_back(self, key: str) -> tuple[bool, str]:
        held = self._bytes(key)
        if held is None:
            return False, "it is not there"
        return held == self._data, "the same bytes" if held == self._data else "other bytes"

    def _repeat(self, key: str) -> tuple[bool, str]:
        self._store.put(key, self._data, if_absent=True)
        return True, "accepted: it holds these bytes"

    def _refuse(self, key: str) -> tuple[bool, str]:
        try:
            self._store.put(key, b"other", if_absent=True)
        except AlreadyExists:
            kept = self._bytes(key) == self._data
            return kept, "refused, and unchanged" if kept else "refused, but changed"
        where = "in a bucket with versions or object lock" if self._keeps_versions else "here"
        return False, f"Unsupported: accepted; this store ignores If-None-Match {where}: creates overwrite"

    def _replace(self, key: str) -> tuple[bool, str]:
        self._store.put(key, b"old")
        self._store.put(key, self._data)
        return self._read_back(key)

    def _tell_case(self, small: str, large: str) -> tuple[bool, str]:
        """Where names are compared without case, two sessions may share one object unnoticed."""
        self._store.put(small, b"small")
        try:
            self._store.put(large, b"large")
        except InvalidKey:
            return True, "refused, and no harm done: keys can't differ in case only here"
        if self._bytes(small) == b"large":
            return False, "Unsupported: the same object; ids that differ in case only would be one session"
        return True, "another object"

    def _tell_versions(self) -> tuple[bool, str]:
        """Versions are no fault: a server that heeds the condition does so with them, too."""
        if self._keeps_versions:
            return True, "yes: the bytes of what is deleted or replaced stay until their versions are removed"
        return True, "no"

    def _race(self) -> tuple[bool, str]:
        """Race to create one object after the other, on connections that are open already.

        A server that is not atomic shows it by two winners, though not in every race: on OpenStack
        Swift's s3api, 44 of 100 races through s3fs and 43 of 100 through obstore had one winner.
        `_RACES` races miss it with a probability of 0.44**30 = 2e-11. A server that shows itself in
        37 of 100 races is missed less than once in a million checks (0.63**30 = 9.6e-7). A window
        that is too short to be hit is not found by any number of races: see docs/stores.md.
        """
        start = Barrier(_RACERS)

        def warm(_: int) -> None:
            start.wait()
            self._bytes(f"{self._prefix}raced-00")

        def race(key: str, number: int) -> bytes | None:
            mine = b"racer %d" % number
            start.wait()
            try:
                self._store.put(key, mine, if_absent=True)
            except AlreadyExists:
                return None
            return mine

        with ThreadPoolExecutor(_RACERS) as pool:
            list(pool.map(warm, range(_RACERS)))
            for number in range(_RACES):
                key = self._key(f"raced-{number:02d}")
                winners = [mine for mine in pool.map(partial(race, key), range(_RACERS)) if mine is not None]
                if len(winners) != 1:
                    return False, f"Unsupported: {len(winners)} of {_RACERS} won; creates are not atomic here"
                if self._bytes(key) != winners[0]:
                    return False, "one won, but other bytes are there"
        return True, "one won each race, and its bytes are there"

    def _list(self, keys: list[str]) -> tuple[bool, str]:
        for key in reversed(keys):
            self._store.put(key, b"")
        expected = sorted(keys)
        stem = f"{self._prefix}listed/"
        if (listed := self._keys_of(stem)) != expected:
            wrong = "not in the order of their bytes" if sorted(listed) == expected else "not all, or others"
            return False, f"Unsupported: {wrong}"
        if self._keys_of(f"{stem}a") != [key for key in expected if key.startswith(f"{stem}a")]:
            return False, "Unsupported: a prefix that ends within a name is not heeded"
        for number, key in enumerate(expected):
            if self._keys_of(stem, key) != expected[number + 1 :]:
                name = key.removeprefix(stem)
                return False, f"Unsupported: from {name} on, not all that is after it, or more"
        return True, "all of them, in the order of their bytes"

    def _keys_of(self, prefix: str, start_after: str | None = None) -> list[str]:
        return [info.key for info in self._store.list(prefix, start_after=start_after)]

    def _delete(self, key: str) -> tuple[bool, str]:
        self._store.put(key, b"")
        self._store.delete(key)
        self._store.delete(key)
        if self._bytes(key) is not None:
            return False, "it can still be read"
        if key in self._keys_of(key):
            return False, "it is still listed"
        return True, "gone"


def _tried(promise: str, tried: str, step: Callable[[], tuple[bool, str]]) -> CheckResult:
    try:
        ok, seen = step()
    except Unsupported as error:
        ok, seen = False, f"Unsupported: {error.detail}"
    except AlreadyExists as error:
        ok, seen = False, f"refused: {error.detail}"
    return CheckResult(promise, tried, seen, ok)
