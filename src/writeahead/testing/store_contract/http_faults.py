"""A store behind a failing HTTP server: what it says of an outcome is true."""

import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import ClassVar, NamedTuple

import pytest

from writeahead.errors import AlreadyExists, OutcomeUnknown, StoreError, Unavailable
from writeahead.stores.base import ArtifactStore
from writeahead.testing.http_proxy import (
    Answer,
    Fault,
    HttpProxy,
    SeenRequest,
    answer,
    applied_then,
    lost_reply,
    reset_mid_body,
    truncated,
)
from writeahead.testing.store_contract.backdoors import ServedBackdoor, StoreBackdoor
from writeahead.testing.store_contract.part import ContractPart, raised

__all__ = ["HttpFaults"]

# The errors have no body: a store has to read them by their status alone.
_PASSING = [
    lost_reply(),
    reset_mid_body(),
    applied_then(500),
    applied_then(503),
    answer(408),
    answer(429),
    answer(500),
    answer(503),
]
_TO_WRITES = [*_PASSING, applied_then(412), answer(409), answer(412)]
_TO_READS = [*_PASSING, truncated()]
_REFUSALS = (400, 401, 403, 404, 405, 409, 412, 500, 501, 503)
_FOR_EVER = 1_000
_TIMES = pytest.mark.parametrize("times", [1, _FOR_EVER], ids=["once", "for ever"])
_CONDITIONS = {"if-none-match", "if-match", "x-goog-if-generation-match"}
_PLANTED = b"<Error><Code>http://planted</Code><Message>planted secret</Message></Error>"


class _Wired(NamedTuple):
    """A store, the proxy that its requests go through, and the server's side of it."""

    store: ArtifactStore
    proxy: HttpProxy
    backdoor: StoreBackdoor

    def fail(self, fault: Fault, times: int, call: Callable[[], object]) -> StoreError | None:
        """The error that a call ends with whose first requests meet a fault; None if it returns."""
        self.proxy.fault(_any, fault, times=times)
        try:
            return _error_of(call)
        finally:
            self.proxy.clear()


class _Unconditional(HttpProxy):
    """A server that ignores conditions, as some do that predate them.

    Conditions are mostly signed, so that the server would refuse a request without them: what holds
    the key goes instead, before the server sees a request with a condition.
    """

    def __init__(self, upstream: str, backdoor: StoreBackdoor) -> None:
        super().__init__(upstream)
        self._place, self._store = backdoor, backdoor.open()
        self._one_at_a_time = threading.Lock()

    def forward(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if not _CONDITIONS & {name.lower() for name in headers}:
            return super().forward(method, target, headers, body)
        path = urllib.parse.unquote(urllib.parse.urlsplit(target).path)
        with self._one_at_a_time:
            for key in list(self._place.keys()):
                if path.endswith(f"/{key}"):
                    self._store.delete(key)
            return super().forward(method, target, headers, body)


class HttpFaults(ContractPart):
    """Lost replies, resets, refusals, cut bodies: each once, and for ever.

    Attributes:
        requests: How many requests each verb costs where nothing fails. ``refused`` is a create of
            what is there already.
    """

    requests: ClassVar[Mapping[str, int]] = {
        "put": 1,
        "create": 1,
        "refused": 2,
        "get": 1,
        "head": 1,
        "list": 1,
        "delete": 1,
    }

    @pytest.fixture
    def wired(self, backdoor: StoreBackdoor) -> Iterator[_Wired]:
        """The store under test, behind a proxy that fails on demand."""
        served = self._served(backdoor)
        with HttpProxy(served.server) as proxy:
            yield _Wired(served.open_at(proxy.url), proxy, backdoor)

    def test_each_verb_costs_what_it_may(self, wired: _Wired) -> None:
        """No hidden requests, and none that could be spared."""
        store, proxy, backdoor = wired
        backdoor.write("a/there", b"1")
        costs = {}
        for verb, call in (
            ("put", lambda: store.put("a/put", b"1")),
            ("create", lambda: store.put("a/new", b"1", if_absent=True)),
            ("refused", lambda: raised(lambda: store.put("a/there", b"2", if_absent=True))),
            ("get", lambda: store.get("a/there")),
            ("head", lambda: store.head("a/there")),
            ("list", lambda: list(store.list("a/"))),
            ("delete", lambda: store.delete("a/there")),
        ):
            proxy.clear()
            call()
            costs[verb] = len(proxy.requests)
        assert costs == self.requests

    @_TIMES
    def test_a_create_tells_the_truth(self, wired: _Wired, times: int) -> None:
        """If it returns, its bytes are there; if it says that nothing was done, nothing is."""
        for number, fault in enumerate(_TO_WRITES):
            key = f"a/{number}"
            error = wired.fail(fault, times, partial(wired.store.put, key, b"ours", if_absent=True))
            assert not isinstance(error, AlreadyExists), f"{fault.name}: the key was free"
            self._assert_true(fault, times, error, wired.backdoor.read(key), before=None, after=b"ours")

    @_TIMES
    def test_a_create_of_what_is_taken_never_succeeds(self, wired: _Wired, times: int) -> None:
        """The other's bytes stay, and the loser gets an error that fits."""
        wired.backdoor.write("a/b", b"theirs")
        for fault in _TO_WRITES:
            error = wired.fail(fault, times, lambda: wired.store.put("a/b", b"ours", if_absent=True))
            assert isinstance(error, AlreadyExists | OutcomeUnknown | Unavailable), fault.name
            assert wired.backdoor.read("a/b") == b"theirs", fault.name
            if self._outlasts(times):
                assert isinstance(error, AlreadyExists), fault.name

    def test_412_without_a_word_is_compared(self, wired: _Wired) -> None:
        """The bytes decide, not what the server says of them."""
        store, proxy, backdoor = wired
        backdoor.write("a/b", b"theirs")
        for data, outcome in ((b"theirs", type(None)), (b"ours", AlreadyExists)):
            proxy.fault(_any, answer(412))
            error = _error_of(partial(store.put, "a/b", data, if_absent=True))
            assert isinstance(error, outcome if self._outlasts(1) else outcome | OutcomeUnknown)
        assert backdoor.read("a/b") == b"theirs"

    @_TIMES
    def test_a_put_tells_the_truth(self, wired: _Wired, times: int) -> None:
        """The new bytes are there if it returns, the old ones if it says "nothing was changed"."""
        for fault in _PASSING:
            wired.backdoor.write("a/b", b"old")
            error = wired.fail(fault, times, lambda: wired.store.put("a/b", b"new"))
            self._assert_true(fault, times, error, wired.backdoor.read("a/b"), before=b"old", after=b"new")

    @_TIMES
    def test_a_delete_tells_the_truth(self, wired: _Wired, times: int) -> None:
        """It is gone if it returns, and there if it says that nothing was changed."""
        for fault in _PASSING:
            wired.backdoor.write("a/b", b"old")
            error = wired.fail(fault, times, lambda: wired.store.delete("a/b"))
            self._assert_true(fault, times, error, wired.backdoor.read("a/b"), before=b"old", after=None)

    @_TIMES
    def test_a_read_is_whole_or_fails(self, wired: _Wired, times: int) -> None:
        """A part is never taken for the whole object or listing, nor a failure for absence."""
        store, data = wired.store, b"0123456789" * 1000
        wired.backdoor.write("a/b", data)
        wired.backdoor.write("a/c", data)
        reads: tuple[tuple[Callable[[], object], object], ...] = (
            (lambda: store.get("a/b").data, data),
            (lambda: (head := store.head("a/b")) and head.size, len(data)),
            (lambda: [info.key for info in store.list("a/")], ["a/b", "a/c"]),
        )
        for fault, (read, expected) in product(_TO_READS, reads):
            found: list[object] = []
            error = wired.fail(fault, times, partial(_keep, found, read))
            if error is None:
                assert found == [expected], fault.name
            else:
                assert isinstance(error, Unavailable), (fault.name, error)
                assert not self._outlasts(times), (fault.name, error)

    def test_check_refuses_a_server_that_ignores_conditions(self, backdoor: StoreBackdoor) -> None:
        """Its creates overwrite, so it must never be used. The check says so, and cleans up."""
        served = self._served(backdoor)
        with _Unconditional(served.server, backdoor) as proxy:
            outcome = served.open_at(proxy.url).check()
        broken = {result.promise: result.seen for result in outcome.results if not result.ok}
        assert not outcome.ok
        assert broken.keys() == {"refused create", "one winner"}
        assert all(seen.startswith("Unsupported") for seen in broken.values())
        assert backdoor.keys() == []

    def test_no_error_says_where_or_what_the_server_said(self, wired: _Wired) -> None:
        """One line, with the store, the verb and the key; a server's words may hold anything."""
        store = wired.store
        calls: tuple[tuple[str, Callable[[], object]], ...] = (
            ("put", lambda: store.put("a", b"1")),
            ("get", lambda: store.get("a")),
            ("list", lambda: list(store.list("a"))),
            ("delete", lambda: store.delete("a")),
        )
        for status, (verb, call) in product(_REFUSALS, calls):
            error = wired.fail(answer(status, body=_PLANTED), _FOR_EVER, call)
            if error is None:
                # What is not there need not be deleted, and has nothing below it.
                assert (verb in ("delete", "list"), status) == (True, 404)
                continue
            assert (error.store, error.operation, error.key) == (store.name, verb, "a")
            assert len(str(error).splitlines()) == 1
            assert not [word for word in ("127.0.0.1", "anted", "http:") if word in str(error)]

    def _served(self, backdoor: StoreBackdoor) -> ServedBackdoor:
        served: ServedBackdoor = self._backdoor(backdoor, "wire", ServedBackdoor)
        return served

    def _outlasts(self, times: int) -> bool:
        return times == 1 and "retries" not in self.impossible

    def _assert_true(
        self,
        fault: Fault,
        times: int,
        error: StoreError | None,
        held: bytes | None,
        *,
        before: bytes | None,
        after: bytes | None,
    ) -> None:
        """See that what a write said is so, and that one failure was outlasted."""
        if error is None:
            assert held == after, fault.name
        elif isinstance(error, OutcomeUnknown):
            assert held in (before, after), fault.name
        else:
            assert isinstance(error, Unavailable), (fault.name, error)
            assert held == before, (fault.name, error)
        if self._outlasts(times):
            assert error is None, (fault.name, error)


def _keep(found: list[object], read: Callable[[], object]) -> None:
    found.append(read())


def _any(_: SeenRequest) -> bool:
    return True


def _error_of(call: Callable[[], object]) -> StoreError | None:
    try:
        call()
    except StoreError as error:
        return error
    return None
