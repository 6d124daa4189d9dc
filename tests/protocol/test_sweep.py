from datetime import timedelta

import pytest

from tests.support.remotes import Meets, RemoteAdapter, operations
from writeahead import write_back
from writeahead.errors import AccessDenied, AlreadyExists
from writeahead.model import RunStatus
from writeahead.protocol.encoding import decode
from writeahead.protocol.finding import State, find_sessions, unfinished_sessions
from writeahead.protocol.keys import planned_key
from writeahead.protocol.schema import AbandonedPlan
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import unblock_session
from writeahead.testing import ManualClock, WrapperStore


def run(store, adapter, clock, session_id, kind="create", *meets):
    adapter.remote.script[f"1-{kind}"] = list(meets)
    return write_back(operations(kind), session_id=session_id, store=store, adapter=adapter, clock=clock)


@pytest.fixture
def mixed(store, adapter, clock):
    """One session of each state, and what does not belong."""
    run(store, adapter, clock, "done")
    run(store, adapter, clock, "parked", "create", *[Meets.UNAVAILABLE] * 4)
    run(store, adapter, clock, "stuck", "mail", Meets.LOST_REPLY)
    store.put("broken/planned-writeback.json", b"{")
    store.put(".open/broken", b"")
    store.put(".open/empty", b"")
    run(store, adapter, clock, "dry", "create")
    store.put("notes/readme.txt", b"not a session")
    return store


def test_each_session_is_listed_under_its_state(mixed, clock):
    def ids(state):
        return [summary.session_id for summary in find_sessions(mixed, state, clock=clock)]

    assert ids(State.COMPLETED) == ["done", "dry"]
    assert ids(State.RESUME_NEEDED) == ["parked"]
    assert ids(State.BLOCKED) == ["stuck"]
    assert ids(State.OPEN) == ["broken", "empty", "parked", "stuck"]
    assert ids(None) == ["broken", "done", "dry", "parked", "stuck", "empty"]


def test_a_broken_session_is_listed_with_its_reason(mixed, clock):
    summaries = {summary.session_id: summary for summary in find_sessions(mixed, State.OPEN, clock=clock)}
    assert "planned-writeback.json" in summaries["broken"].note
    assert summaries["broken"].status is None
    assert summaries["parked"].note == "POST /rows: 503"


def test_finding_unfinished_sessions_touches_only_markers(mixed):
    class Spy(WrapperStore):
        def _list(self, prefix, start_after):
            assert prefix in (".open/", ".blocked/")
            return super()._list(prefix, start_after)

    assert list(unfinished_sessions(Spy(mixed))) == ["broken", "empty", "parked", "stuck"]


def test_one_bad_session_does_not_stop_a_sweep(mixed, adapter, remote, clock):
    remote.requests.clear()
    results = {result.session_id: result for result in sweep(mixed, adapter, clock=clock)}
    assert results["parked"].report.status is RunStatus.COMPLETED
    assert remote.requests == ["1-create"]
    assert "planned-writeback.json" in results["broken"].error
    assert "waits for an operator" in results["stuck"].note
    assert "no plan yet" in results["empty"].note
    assert mixed.get("broken/planned-writeback.json").data == b"{"


def test_an_adapter_bug_in_one_session_starves_no_others(store, adapter, remote, clock):
    for name in ("a", "b"):
        run(store, adapter, clock, name, "create", *[Meets.UNAVAILABLE] * 4)
    remote.script["1-create"] = [Meets.BUG]
    first, second = sweep(store, adapter, clock=clock)
    assert first.error == "unexpected RuntimeError: a bug in writeahead or in the adapter"
    assert second.report.status is RunStatus.COMPLETED


def test_the_marker_of_a_finished_session_is_removed(store, adapter, remote, clock):
    run(store, adapter, clock, "done")
    store.put(".open/done", b"")
    store.put(".blocked/done", b"")
    remote.requests.clear()
    assert [result.session_id for result in sweep(store, adapter, clock=clock)] == ["done"]
    assert list(unfinished_sessions(store)) == []
    assert remote.requests == []


def test_a_marker_without_a_plan_is_abandoned_after_a_lease(store, adapter, clock):
    store.put(".open/dead", b"")
    list(sweep(store, adapter, clock=clock))
    assert [info.key for info in store.list()] == [".open/dead"]
    clock.elapsed += 606
    list(sweep(store, adapter, clock=clock))
    assert [info.key for info in store.list()] == ["dead/planned-writeback.json"]
    tombstone = store.get("dead/planned-writeback.json")
    decode(tombstone.data, AbandonedPlan, key=tombstone.info.key)


def test_a_slow_writer_of_an_abandoned_session_is_refused(store, adapter, remote, clock):
    store.put(".open/slow", b"")
    late = ManualClock()
    late.elapsed += 606
    list(sweep(store, adapter, clock=late))
    tombstone = store.get(planned_key("slow")).data
    with pytest.raises(AlreadyExists):
        store.put(planned_key("slow"), b"the slow writer's plan", if_absent=True)
    assert store.get(planned_key("slow")).data == tombstone
    assert list(unfinished_sessions(store)) == []
    # Nothing was emitted, so the id can be used.
    assert run(store, adapter, clock, "slow").ok


def test_an_unblocked_session_is_swept(store, adapter, clock):
    run(store, adapter, clock, "stuck", "mail", Meets.LOST_REQUEST)
    unblock_session("stuck", store=store, reason="asked", assume={"1-mail": "not-applied"}, clock=clock)
    (result,) = sweep(store, adapter, clock=clock)
    assert result.report.status is RunStatus.COMPLETED
    assert list(unfinished_sessions(store)) == []


def test_a_session_in_progress_is_left_alone(store, adapter, remote, clock):
    run(store, adapter, clock, "s1", "create", *[Meets.UNAVAILABLE] * 4)
    store.delete("s1/journal/000001.json")  # as if its owner had been killed
    remote.requests.clear()
    (result,) = sweep(store, adapter, clock=clock)
    assert result.report.status is RunStatus.IN_PROGRESS
    assert result.report.not_before - clock.now() <= timedelta(seconds=606)
    assert remote.requests == []


def test_files_of_others_among_the_sessions_hide_nothing(run, store, remote, clock):
    remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    run("create")
    store.put(".open/.DS_Store", b"")
    store.put("_tmp/planned-writeback.json", b"")
    for state in (State.OPEN, None):
        assert [summary.session_id for summary in find_sessions(store, state, clock=clock)] == ["s1"]


def test_a_sweep_leaves_alone_what_another_adapter_planned(run, store, remote, clock):
    remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    run("create")

    class Other(RemoteAdapter):
        name = "other"

    (result,) = sweep(store, Other(remote), clock=clock)
    assert "'remote'" in result.note
    assert result.error is None


class RefusesDeletes(WrapperStore):
    def _delete(self, key):
        raise AccessDenied(self.name, "delete", key, "no s3:DeleteObject")


@pytest.mark.parametrize("what", ["finished", "died"])
def test_a_marker_that_can_not_be_removed_is_an_error(store, adapter, clock, what):
    if what == "finished":
        run(store, adapter, clock, "s1")
    store.put(".open/s1", b"")
    late = ManualClock()
    late.elapsed += 3600
    (result,) = sweep(RefusesDeletes(store), adapter, clock=late)
    assert "a marker stays behind" in result.error
    assert "no s3:DeleteObject" in result.error
    assert result.note is None
    assert list(unfinished_sessions(store)) == ["s1"]
