"""A session as it is read from a store: sizes before bytes, and times as the store keeps them."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.remotes import Meets
from tests.support.worlds import World
from writeahead import RunPolicy, load_replay_artifact
from writeahead.errors import CorruptArtifact
from writeahead.model import RunStatus
from writeahead.protocol.encoding import MAX_ARTIFACT_BYTES
from writeahead.protocol.finding import all_sessions, find_sessions
from writeahead.protocol.schema import PlannedWriteback
from writeahead.protocol.session import read_stored
from writeahead.protocol.sweep import sweep
from writeahead.report.page import read_page
from writeahead.stores.base import ObjectInfo
from writeahead.testing import TracingStore, WrapperStore


class Huge(WrapperStore):
    """A listing says that an object has 6 GB; reading it would use up the memory."""

    def __init__(self, store, key):
        super().__init__(store)
        self.key = key

    def _large(self, info):
        return ObjectInfo(info.key, 6 * 10**9, info.last_modified) if info.key == self.key else info

    def _list(self, prefix, start_after):
        return map(self._large, super()._list(prefix, start_after))

    def _head(self, key):
        info = super()._head(key)
        return info and self._large(info)

    def _get(self, key):
        if key == self.key:
            raise MemoryError
        return super()._get(key)


@pytest.mark.parametrize("key", ["s1/planned-writeback.json", "s1/journal/000002.json", "s1/writeback.json"])
def test_what_is_larger_than_any_artifact_is_not_read(key):
    world = World(RunPolicy(attempts=1, clock_skew=0, journal_interval=0))
    world.remote.script["2-create"] = [Meets.UNAVAILABLE]
    world.run("create", "create")
    world.run("create", session_id="s2")
    world.store.put(".open/s1", b"")
    if key.endswith("s1/writeback.json"):
        world.store.put(key, b"{}")
    world.store = Huge(world.store, key)
    with pytest.raises(CorruptArtifact, match=rf"^{key}: larger than any artifact \(6000000000 bytes\)"):
        read_stored(world.store, "s1")
    listed = {found.session_id: found for found in find_sessions(world.store)}
    assert "larger than any" in listed["s1"].note
    assert listed["s2"].status is RunStatus.COMPLETED
    (result,) = sweep(world.store, world.adapter, clock=world.clock)
    assert "larger than any" in result.error
    page = read_page(world.store, "s1", now=world.clock.now(), clock_skew=0)
    assert "larger than any" in page.problem


def test_an_old_entry_that_is_too_large_hides_no_session():
    world = World(RunPolicy(attempts=1, clock_skew=0, journal_interval=0))
    world.remote.script["2-create"] = [Meets.UNAVAILABLE]
    world.run("create", "create")
    world.store = Huge(world.store, "s1/journal/000001.json")
    page = read_page(world.store, "s1", now=world.clock.now(), clock_skew=0)
    assert [entry.number for entry in page.history] == [2]
    assert page.status is RunStatus.RESUME_NEEDED


def test_an_own_plan_that_is_too_large_is_not_read():
    world = World()
    world.store.put("s1/planned-writeback.json", b"{}")
    world.store = Huge(world.store, "s1/planned-writeback.json")
    with pytest.raises(CorruptArtifact, match="larger than any artifact"):
        load_replay_artifact(world.store, "s1", PlannedWriteback)


def test_reading_an_own_plan_costs_two_requests():
    world = World()
    world.run("create")
    world.store = TracingStore(world.store)
    load_replay_artifact(world.store, "s1", PlannedWriteback)
    assert [call.verb for call in world.store.calls] == ["list", "get"]


def test_an_artifact_of_the_largest_size_is_read():
    assert MAX_ARTIFACT_BYTES == 64 * 1024 * 1024


class WholeSeconds(WrapperStore):
    """A store whose times have no fraction, as S3's Last-Modified: cut, not rounded."""

    def _list(self, prefix, start_after):
        for info in super()._list(prefix, start_after):
            yield ObjectInfo(info.key, info.size, info.last_modified.replace(microsecond=0))


def test_a_lease_does_not_end_early_on_a_store_of_whole_seconds():
    world = World(RunPolicy(attempts=1, clock_skew=0, lease=600))
    world.run("create", "create", session_id="s1")
    world.store.delete("s1/writeback.json")
    truth = read_stored(world.store, "s1").lease_ends
    cut = read_stored(WholeSeconds(world.store), "s1").lease_ends
    assert truth <= cut <= truth + timedelta(seconds=1)
    assert cut.microsecond == 0


def test_a_time_with_a_fraction_is_taken_as_it_is():
    world = World()
    world.run("create")
    world.store.delete("s1/writeback.json")
    written = next(iter(world.store.list("s1/"))).last_modified
    if written.microsecond:
        assert read_stored(world.store, "s1").written_at == written
    assert datetime.max.replace(tzinfo=UTC) > written


def test_a_listing_says_when_each_final_artifact_was_written():
    world = World()
    world.run("create")
    world.remote.script["1-create"] = [Meets.REJECTED]
    world.run("create", session_id="s2")
    written = world.store.head("s1/writeback.json").last_modified
    found = {one.session_id: (one.is_final, one.final_at) for one in all_sessions(world.store)}
    assert found == {"s1": (True, written), "s2": (False, None)}
