"""One backdoor, used by several threads, processes and instances at once, some of them killed."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from writeahead.errors import AlreadyExists
from writeahead.stores.base import ArtifactStore
from writeahead.testing.store_contract.backdoors import StoreBackdoor
from writeahead.testing.store_contract.part import ContractPart
from writeahead.testing.store_process import StoreProcess

__all__ = ["Sharing"]

_T = TypeVar("_T")

_RACERS = 8
_LINES = 20_000
_KILLS = 5


class Sharing(ContractPart):
    """Races, read-after-write, atomicity under SIGKILL, threads, fork, a running event loop."""

    # Races to create.

    def test_threads_race_to_create(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """Of several creates at once exactly one wins; the losers know, and its bytes are there."""
        for number in range(10):
            key = f"races/{number}"
            won = _in_threads(partial(_race, store, key))
            assert sorted(won) == [False] * (_RACERS - 1) + [True]
            assert backdoor.read(key) == b"racer %d" % won.index(True)

    def test_threads_race_with_the_same_bytes(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
        """All succeed: the object holds what each of them asked for."""
        assert _in_threads(lambda _: _create(store, "a/b", b"same")) == [True] * _RACERS
        assert backdoor.keys() == ["a/b"]

    def test_processes_race_to_create(self, backdoor: StoreBackdoor) -> None:
        """As among threads, so among processes."""
        self._need("processes")
        with contextlib.ExitStack() as stack:
            racers = [stack.enter_context(StoreProcess(backdoor.url)) for _ in range(4)]
            for racer in racers:
                assert racer.call("list", "")["value"] == []
            for number in range(10):
                key = f"races/{number}"
                for mine, racer in enumerate(racers):
                    racer.send("put", key, f"racer {mine}", if_absent=True)
                answers = [racer.receive().get("error") for racer in racers]
                assert sorted(map(str, answers)) == ["AlreadyExists"] * (len(racers) - 1) + ["None"]
                assert backdoor.read(key) == b"racer %d" % answers.index(None)

    # Read after write.

    def test_another_instance_sees_each_change_at_once(self, backdoor: StoreBackdoor) -> None:
        """No cache, no stale size, no shared client."""
        one, other = backdoor.open(), backdoor.open()
        _see_each_change(one.put, one.delete, other)

    def test_another_process_sees_each_change_at_once(self, backdoor: StoreBackdoor) -> None:
        """As between instances, so between processes, in both directions."""
        self._need("processes")
        with StoreProcess(backdoor.url) as process:

            def put(key: str, data: bytes) -> None:
                assert process.call("put", key, data.decode()) == {"value": None}

            def delete(key: str) -> None:
                assert process.call("delete", key) == {"value": None}

            store = backdoor.open()
            _see_each_change(put, delete, store)
            store.put("a/b", b"back")
            assert process.call("get", "a/b") == {"value": "back"}
            assert process.call("list", "a/") == {"value": ["a/b", "a/c"]}
            store.delete("a/b")
            assert process.call("get", "a/b") == {"error": "NotFound"}

    # Atomicity.

    def test_a_reader_never_sees_a_part(self, store: ArtifactStore) -> None:
        """While an object is replaced, each read gives old or new bytes, whole, with their size."""
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

    def test_a_kill_in_the_middle_of_a_put_leaves_old_or_new(self, backdoor: StoreBackdoor) -> None:
        """SIGKILL at any moment: the object is whole, and no part of it is listed."""
        self._need("processes")
        for number in range(_KILLS):
            with StoreProcess(backdoor.url) as process:
                process.send("put for ever", "a/b", "x" * _LINES)
                for _ in range(number + 1):
                    last = process.receive()["value"]
                process.kill()
                while answer := process.receive():
                    last = answer["value"]
            held = backdoor.read("a/b")
            assert held is not None
            lines = held.splitlines()
            assert len(lines) == _LINES
            assert len(set(lines)) == 1
            # What was answered is durable; one more may have been under way.
            assert int(lines[0]) in (last, last + 1)
            assert [info.key for info in backdoor.open().list()] == ["a/b"]

    # Where it runs.

    def test_inside_a_running_event_loop(self, store: ArtifactStore) -> None:
        """The verbs work where a loop runs, and from its threads."""

        async def use() -> bytes:
            store.put("a", b"1")
            await asyncio.gather(*(asyncio.to_thread(store.put, f"t/{n}", b"1") for n in range(_RACERS)))
            assert len(list(store.list("t/"))) == _RACERS
            return store.get("a").data

        assert asyncio.run(use()) == b"1"

    def test_threads_share_an_instance(self, backdoor: StoreBackdoor, store: ArtifactStore) -> None:
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
        assert len(backdoor.keys()) == 4 * _RACERS

    def test_a_forked_child_goes_on_with_the_instance(
        self, backdoor: StoreBackdoor, store: ArtifactStore
    ) -> None:
        """Both sides of a fork can use the store that the parent had in use."""
        self._need("fork")
        store.put("a", b"1")
        child = _fork(lambda: store.get("a").data == b"1" and store.put("child", b"1", if_absent=True))
        store.put("parent", b"1")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.get("child").data == b"1"
        assert backdoor.keys() == ["a", "child", "parent"]


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
    """Change an object on one side, and look after each change from the other."""
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


def _fork(work: Callable[[], object]) -> int:
    """Do the work in a forked child, which exits with 0 if the result is true; gives its id."""
    if sys.platform == "win32":
        raise AssertionError("the part fork is skipped there")
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
