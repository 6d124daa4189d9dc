"""Prove a store by trying it: what `ArtifactStore.check` does.

A check needs no more of a store than its verbs, so this module does not import the stores' base.
"""

import contextlib
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Protocol

from writeahead.errors import AlreadyExists, NotFound, Unsupported

__all__ = ["CheckResult", "StoreCheck", "StoreVerbs", "check_prefix", "check_store"]

_RACERS = 8


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

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> object:
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

    def run(self) -> tuple[CheckResult, ...]:
        created, replaced, raced, deleted = map(self._key, ("created", "replaced", "raced", "deleted"))
        listed = [self._key(f"listed-{name}") for name in "bca"]
        return (
            _tried("create", "create an object", lambda: self._create(created)),
            _tried("read back", "read it", lambda: self._read_back(created)),
            _tried("settled create", "create it again with the same bytes", lambda: self._repeat(created)),
            _tried("refused create", "create it again with other bytes", lambda: self._refuse(created)),
            _tried("overwrite", "replace an object, and read it", lambda: self._replace(replaced)),
            _tried("one winner", f"create one object from {_RACERS} threads", lambda: self._race(raced)),
            _tried("list", "list by prefix, and from a key on", lambda: self._list(listed)),
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
        self._store.put(key, self._data, if_absent=True)
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
        return (
            False,
            "Unsupported: accepted; this store ignores If-None-Match: creates overwrite",
        )

    def _replace(self, key: str) -> tuple[bool, str]:
        self._store.put(key, b"old")
        self._store.put(key, self._data)
        return self._read_back(key)

    def _race(self, key: str) -> tuple[bool, str]:
        start = Barrier(_RACERS)

        def race(number: int) -> bytes | None:
            mine = b"racer %d" % number
            start.wait()
            try:
                self._store.put(key, mine, if_absent=True)
            except AlreadyExists:
                return None
            return mine

        with ThreadPoolExecutor(_RACERS) as pool:
            winners = [mine for mine in pool.map(race, range(_RACERS)) if mine is not None]
        if len(winners) != 1:
            return False, f"Unsupported: {len(winners)} of {_RACERS} won; creates are not atomic here"
        held = self._bytes(key) == winners[0]
        return held, "one won, and its bytes are there" if held else "one won, but other bytes are there"

    def _list(self, keys: list[str]) -> tuple[bool, str]:
        for key in keys:
            self._store.put(key, b"")
        expected = sorted(keys)
        stem = f"{self._prefix}listed-"
        if [info.key for info in self._store.list(stem)] != expected:
            return False, "not all objects of the prefix, or not in order"
        if [info.key for info in self._store.list(stem, start_after=expected[0])] != expected[1:]:
            return False, "all, but start_after is not heeded"
        return True, "all of them, in order"

    def _delete(self, key: str) -> tuple[bool, str]:
        self._store.put(key, b"")
        self._store.delete(key)
        self._store.delete(key)
        if self._bytes(key) is not None:
            return False, "it can still be read"
        if any(info.key == key for info in self._store.list(self._prefix)):
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
