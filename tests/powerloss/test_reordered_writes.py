"""A power cut after any call of a local store; the disk reorders and loses unsynced writes."""

import os
import shutil
from collections.abc import Sequence
from itertools import count
from pathlib import Path

import pytest

from tests.support.weak_disk import Event, Recorder, lay_out, states_after
from writeahead.errors import AlreadyExists, NotFound
from writeahead.stores import durable
from writeahead.stores.local import LocalStore

LARGE = bytes(range(256)) * 40


def put(key, data, *, if_absent=False):
    return "put", key, data, if_absent


def create(key, data):
    return put(key, data, if_absent=True)


def delete(key):
    return "delete", key, None, False


SCENARIOS = {
    "a put": [put("a/b", b"one")],
    "a create": [create("a/b", b"one")],
    "a put into the root": [put("b", b"one"), create("c", b"two")],
    "large bytes": [create("a/b", LARGE), put("a/c", LARGE)],
    "overwrites": [put("a/b", b"one"), put("a/b", b"two, and longer"), put("a/b", b"3")],
    "a create again, settled": [create("a/b", b"one"), create("a/b", b"one")],
    "a create again, refused": [create("a/b", b"one"), create("a/b", b"two")],
    "deletes": [put("a/b", b"one"), delete("a/b"), create("a/b", b"two"), delete("a/b"), delete("a/none")],
    "neighbours": [create("a/b", b"one"), create("a/c", b"two"), put("a/b", b"three"), delete("a/c")],
    "new folders": [create("x/y/z/b", b"one"), create("x/y/c", b"two"), put("x/w/d", b"three")],
    "markers": [
        create(".open/s", b""),
        create("s/plan", b"plan"),
        create("s/final", b"f"),
        delete(".open/s"),
    ],
}


def record(root: Path, steps, killed_after: int | None = None) -> Sequence[Event]:
    """The events of some steps, each in a process of its own; the first may be killed under way."""
    recorder = Recorder(root)
    with recorder.recording():
        for number, step in enumerate(steps):
            recorder.note(("begin", step))
            if number == 0 and killed_after is not None:
                with recorder.killed_after(killed_after):
                    carry_out(LocalStore(root), step)
                continue
            recorder.note(("end", step, carry_out(LocalStore(root), step)))
    recorder.close()
    return recorder.events


def carry_out(store, step):
    verb, key, data, if_absent = step
    try:
        if verb == "put":
            store.put(key, data, if_absent=if_absent)
        else:
            store.delete(key)
    except AlreadyExists:
        return False
    return True


def allowed(events: Sequence[Event]) -> dict[str, set[bytes | None]]:
    """What each key may hold: what was acknowledged last, and what was under way."""
    may: dict[str, set[bytes | None]] = {}
    for event in events:
        if event.kind != "note":
            continue
        phase, (verb, key, data, if_absent), *outcome = event.note
        if phase == "begin":
            held = may.setdefault(key, {None})
            may[key] = held if if_absent and None not in held else held | {data}
        elif outcome == [True] and verb == "put":
            # Only puts are durable: what was deleted may come back.
            may[key] = {data}
    return may


def check(store: LocalStore, may: dict[str, set[bytes | None]]) -> None:
    """Acknowledged writes are there and whole, nothing else is listed, taken keys stay taken."""
    held = {key: _bytes(store, key) for key in may}
    for key, data in held.items():
        assert data in may[key], f"{key} holds {data and data[:20]}"
    assert {info.key for info in store.list()} == {key for key, data in held.items() if data is not None}
    for key, data in held.items():
        if data is not None:
            with pytest.raises(AlreadyExists):
                store.put(key, b"another writer's", if_absent=True)
            store.put(key, data, if_absent=True)
        else:
            store.put(key, b"another writer's", if_absent=True)
            assert store.get(key).data == b"another writer's"


def _bytes(store: LocalStore, key: str) -> bytes | None:
    try:
        return store.get(key).data
    except NotFound:
        return None


def crash_everywhere(events: Sequence[Event], folder: Path, known: set | None = None) -> int:
    """Cut the power after each event, and check every state that may be left and is new.

    Returns how many there were.
    """
    numbers = count()
    known = set() if known is None else known
    before = len(known)
    for end in range(len(events) + 1):
        may = allowed(events[:end])
        for tree in states_after(events[:end]):
            case = tree, tuple(sorted((key, tuple(sorted(map(repr, data)))) for key, data in may.items()))
            if case in known:
                continue
            known.add(case)
            root = folder / str(next(numbers))
            lay_out(tree, root)
            try:
                check(LocalStore(root), may)
            except AssertionError as error:
                raise AssertionError(f"after {end} events, with {tree}: {error}") from error
            shutil.rmtree(root)
    return len(known) - before


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch):
    monkeypatch.setattr(durable, "sync", lambda file: None)


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_was_acknowledged_outlives_a_power_cut(tmp_path, name):
    events = record(tmp_path / "store", SCENARIOS[name])
    states = crash_everywhere(events, tmp_path)
    print(f"{name}: {len(events)} events, {states} states")
    assert states > len(SCENARIOS[name])


FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"
FIRST = [create("x/y/b", b"one"), *([put("x/y/b", b"one")] if FULL else [])]


@pytest.mark.parametrize("first", FIRST, ids=lambda step: "create" if step[-1] else "put")
@pytest.mark.parametrize(
    "second",
    [
        create("x/y/b", b"one"),
        create("x/y/b", b"two"),
        put("x/y/b", b"two"),
        create("x/y/c", b"two"),
        delete("x/y/b"),
    ],
    ids=["the same", "another create", "a put", "a neighbour", "a delete"],
)
def test_what_comes_after_a_killed_process_outlives_a_power_cut(tmp_path, first, second):
    """The first process left folders, names and bytes unsynced; the second one builds on them."""
    alone = len([event for event in record(tmp_path / "alone", [first]) if event.kind != "note"])
    known = set()
    for killed_after in range(alone):
        root = tmp_path / f"store-{killed_after}"
        events = record(root, [first, second], killed_after)
        crash_everywhere(events, tmp_path, known)
    print(f"{alone} kills, {len(known)} states")
    assert len(known) > alone


def test_a_folder_that_a_killed_process_made_is_not_relied_on(tmp_path, monkeypatch):
    """Planted: a folder that is there already is taken to be durable."""
    monkeypatch.setattr(durable, "is_new", lambda status: False)
    events = record(tmp_path / "store", [create("x/b", b"one"), create("x/c", b"two")], killed_after=1)
    with pytest.raises(AssertionError, match=r"after \d+ events"):
        crash_everywhere(events, tmp_path)


# Planted bugs: each is a store that leaves something out.


def no_sync_of_data(events):
    files = {event.other for event in events if event.kind == "make" and not event.mode}
    return [event for event in events if not (event.kind == "sync" and event.inode in files)]


def no_sync_of_the_folder(events):
    """The folder of the object; those that hold new folders are synced."""
    kept = []
    for number, event in enumerate(events):
        named = next(
            (e for e in reversed(events[:number]) if e.inode == event.inode and e.kind != "sync"), None
        )
        if event.kind == "sync" and named and named.kind in ("link", "unlink", "rename"):
            continue
        kept.append(event)
    return kept


def no_sync_of_new_ancestors(events):
    folders = {event.other for event in events if event.kind == "make" and event.mode}
    kept, new = [], set()
    for event in events:
        if event.kind == "make" and event.other in folders:
            new.add(event.inode)
        elif event.kind == "sync" and event.inode in new:
            new.discard(event.inode)
            continue
        kept.append(event)
    return kept


def named_before_the_sync(events):
    """The file is synced, but only once it has its name."""
    files = {event.other for event in events if event.kind == "make" and not event.mode}
    kept, late = [], []
    for event in events:
        if event.kind == "sync" and event.inode in files:
            late.append(event)
            continue
        kept.append(event)
        if event.kind in ("link", "rename"):
            kept += late
            late = []
    return kept


@pytest.mark.parametrize(
    "planted", [no_sync_of_data, no_sync_of_the_folder, no_sync_of_new_ancestors, named_before_the_sync]
)
@pytest.mark.parametrize("name", ["a create", "overwrites", "new folders"])
def test_a_planted_bug_is_found(tmp_path, planted, name):
    events = record(tmp_path / "store", SCENARIOS[name])
    broken = planted(events)
    assert broken != list(events)
    with pytest.raises(AssertionError, match=r"after \d+ events"):
        crash_everywhere(broken, tmp_path)
