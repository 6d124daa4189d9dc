"""A power cut after any call of a whole session, on a disk that reorders and loses unsynced writes.

What is left is laid out, and brought to its end as after a kill: see
    ``tests/support/invariants.py`` for what must hold.
"""

import contextlib
import os
from collections import Counter

import pytest

from tests.support.invariants import POLICY, hours_later
from tests.support.powerloss_environment import Environment
from tests.support.pruned import ENDED, closed, pruned
from tests.support.remotes import Remote as NumberedRemote
from tests.support.weak_disk import Recorder, lay_out, states_after
from writeahead.errors import WriteaheadError
from writeahead.protocol import runner
from writeahead.protocol.sweep import sweep
from writeahead.stores import durable
from writeahead.stores.local import LocalStore


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch):
    monkeypatch.setattr(durable, "sync", lambda file: None)


@pytest.fixture
def stage(tmp_path):
    stage = Environment(tmp_path)
    with stage.recorder.recording():
        yield stage
    stage.recorder.close()
    stage.adapter.close()


@pytest.mark.parametrize("interval", [0, 3600], ids=["at-once", "interval"])
def test_a_session_outlives_a_power_cut(stage, interval):
    stage.run(interval)
    events = len(stage.recorder.events)
    ends = stage.cut_everywhere()
    print(f"{events} events, {ends.total()} states: {dict(ends)}")
    assert ends["nothing planned"]
    assert ends["completed"]
    assert ends["no_resume_needed"]


def test_a_run_in_a_tombstones_place_outlives_a_power_cut(stage):
    """Only puts are durable: a deleted marker or tombstone may be there again."""
    stage.run_in_a_tombstones_place()
    ends = stage.cut_everywhere()
    print(f"{ends.total()} states: {dict(ends)}")
    assert {"nothing planned", "abandoned", "completed", "no_resume_needed"} <= ends.keys()


def test_a_deleted_marker_comes_back(stage):
    """What the tests of this file lean on: no sync follows a delete."""
    stage.run()
    *_, last = (number for number, event in enumerate(stage.recorder.events) if event.kind == "unlink")
    assert stage.recorder.events[last].name == "s1"
    assert {event.kind for event in stage.recorder.events[last + 1 :]} == {"note"}
    found = set()
    for number, tree in enumerate(states_after(stage.recorder.events)):
        place = stage.folder / f"left-{number}"
        lay_out(tree, place)
        assert (place / "s1/writeback.json").exists()
        found.add((place / ".open/s1").exists())
    assert found == {True, False}


def _cut_while_pruned(folder, state):
    """Every state that a power cut may leave a session in while it is pruned."""
    remote, recorder, known = NumberedRemote(), Recorder(folder / "store"), set()
    with recorder.recording(), contextlib.closing(recorder):
        ENDED[state](LocalStore(recorder.root), remote)
        begun = len(recorder.events)
        pruned(LocalStore(recorder.root))
        for number in range(begun, len(recorder.events) + 1):
            known |= states_after(recorder.events[:number])
    return remote, known


@pytest.mark.parametrize("state", ENDED)
def test_a_prune_outlives_a_power_cut(tmp_path, state):
    """Any of its deletes may be undone. What was put before them is there."""
    remote, trees = _cut_while_pruned(tmp_path, state)
    left = set()
    for number, tree in enumerate(trees):
        place = tmp_path / f"left-{number}"
        lay_out(tree, place)
        names = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
        left.add(frozenset(name for name in names if not name.startswith((".", "s1/~"))))
        store = LocalStore(place)
        closed(store, remote, state)
        pruned(store)
        closed(store, remote, state)
    print(f"{len(trees)} states, {len(left)} sets of names")
    # The final artifact, or the newest entry, alone beside the tombstone, and without the others.
    assert {"s1/planned-writeback.json", "s1/pruned"} in left
    assert len(left) > 5


def test_a_planted_prune_without_a_sync_of_the_tombstone_is_found(tmp_path, monkeypatch):
    put = LocalStore._put

    def unsynced(self, key, data, *, if_absent):
        with monkeypatch.context() as patch:
            if b"pruned_at" in data:
                patch.setattr(durable, "sync", lambda file: None)
            return put(self, key, data, if_absent=if_absent)

    monkeypatch.setattr(LocalStore, "_put", unsynced)
    with pytest.raises((AssertionError, WriteaheadError)):
        test_a_prune_outlives_a_power_cut(tmp_path, "completed")


@pytest.mark.parametrize("planted", ["no sync of files", "no sync of folders"])
def test_a_planted_bug_is_found(stage, planted):
    stage.run()
    events = stage.recorder.events
    files = {event.other for event in events if event.kind == "make" and not event.mode}
    stage.recorder.events = [
        event
        for event in events
        if not (event.kind == "sync" and (event.inode in files) == (planted == "no sync of files"))
    ]
    with pytest.raises(AssertionError, match=r"after \d+ events"):
        stage.cut_everywhere()


@pytest.mark.parametrize("looks", [False, True])
def test_a_run_pays_nothing_for_what_others_may_have_left(stage, monkeypatch, looks):
    """A run syncs what it read before it writes.

    Where it looks for its own past, that is its folder, which the journal's folder needs synced.
    """
    if not looks:
        # As for a plan that holds nothing but operations with a key or a version.
        monkeypatch.setattr(runner, "_has_a_past", lambda store, plan: False)
    counts = []
    for number in range(2):
        place = Environment(stage.folder / f"run-{number}")
        with place.recorder.recording():
            place.run()
        counts.append(sum(event.kind == "sync" for event in place.recorder.events))
        place.recorder.close()
        place.adapter.close()
        monkeypatch.setattr(durable.SeenFolders, "make_durable", lambda self: None)
    assert counts[0] == counts[1]


NAMED = ["s1", "planned-writeback.json", "000001.json", "000003.json", "writeback.json"]


@pytest.mark.parametrize("name", NAMED)
def test_a_sweep_after_a_killed_run_outlives_a_power_cut(stage, name):
    """A run was killed after the link of an artifact and before the sync of its folder."""
    events, ends = _killed_then_swept(stage, name)
    print(f"{name}: {events} events, {ends.total()} states: {dict(ends)}")
    assert ends.total() > 5


@pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="takes a minute or two")
@pytest.mark.timeout(900)
def test_a_sweep_after_a_kill_at_any_call_outlives_a_power_cut(stage):
    stage.run()
    ends = Counter()
    for kills in range(len(stage.recorder.events)):
        ends += _swept_after(stage, kills)[1]
    print(f"{kills + 1} kills, {ends.total()} states: {dict(ends)}")
    assert ends.total() > 1000


@pytest.mark.parametrize(
    ("name", "says"),
    [("000003.json", "missing from the journal"), ("writeback.json", "it can't be found any more")],
)
def test_what_was_only_seen_is_not_relied_on(stage, monkeypatch, name, says):
    """Planted: what another process left unsynced is built on as it is."""
    monkeypatch.setattr(durable.SeenFolders, "make_durable", lambda self: None)
    with pytest.raises(AssertionError, match=says):
        _killed_then_swept(stage, name)


def _killed_then_swept(stage, name):
    stage.run()
    return _swept_after(stage, next(n for n, e in enumerate(stage.recorder.events) if name in _given(e)) + 1)


def _swept_after(stage, kill):
    """The number of events, and the end, if the power is cut after the sweep of a killed run."""
    again = Environment(stage.folder / f"again-{kill}")
    with again.recorder.recording(), contextlib.closing(again.recorder), contextlib.closing(again.adapter):
        with again.recorder.killed_after(kill):
            again.run()
        means = {"store": LocalStore(again.recorder.root), "adapter": again.adapter, "policy": POLICY}
        for found in sweep(clock=hours_later(1), **means):
            again.recorder.note(("returned", str(found.report and found.report.status)))
        return len(again.recorder.events), again.cut_everywhere(first=kill)


def _given(event):
    return {"link": event.name, "rename": event.new}.get(event.kind, "").split()
