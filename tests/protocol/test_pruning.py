"""prune(): what goes and what stays, killed at each call, beside others at each call."""

import contextlib
import itertools
import json
import threading
from datetime import timedelta
from functools import partial

import pytest

from tests.support import pruned as support
from tests.support.pruned import (
    AGE,
    ENDED,
    OWN,
    POLICY,
    Died,
    Interrupting,
    Outcome,
    abandoned,
    blocked,
    closed,
    closed_own,
    completed,
    days_later,
    own_completed,
    parked,
    pruned,
    run,
)
from tests.support.remotes import Meets, Remote, RemoteAdapter, operations
from tests.support.worlds import names
from writeahead import (
    abandon_session,
    find_sessions,
    load_replay_artifact,
    prune,
    read_session,
    resume_session,
    sweep,
    unblock_session,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.errors import AccessDenied, CorruptArtifact, InvalidInput, NotFound, PlanConflict
from writeahead.model import RunStatus
from writeahead.protocol import journal, pruning
from writeahead.protocol.journal import Journal
from writeahead.protocol.session import read_stored, stored_in
from writeahead.report.page import read_page
from writeahead.report.remaining import remaining_operations
from writeahead.stores.base import ObjectInfo
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock, TracingStore

LEFT = ["s1/planned-writeback.json", "s1/pruned"]
PLAN, FINAL = LEFT[0], "s1/writeback.json"


def in_store(store):
    return {info.key: store.get(info.key).data for info in store.list()}


@pytest.mark.parametrize("state", ENDED)
def test_a_tombstone_stays_of_a_session_that_ended(store, remote, state):
    ENDED[state](store, remote)
    before = in_store(store)
    (result,) = pruned(store)
    assert names(store) == LEFT
    gone = before.keys() - set(LEFT)
    assert (result.session_id, result.status, result.objects) == ("s1", state, len(gone))
    assert result.size == sum(len(before[key]) for key in [*gone, PLAN])
    assert len(gone) >= 2
    tombstone = json.loads(store.get(PLAN).data)
    plan = json.loads(before[PLAN])
    assert tombstone["status"] == state
    assert [tombstone[name] for name in ("adapter", "request_digest")] == [
        plan[name] for name in ("adapter", "request_digest")
    ]
    assert b"text" not in b"".join(in_store(store).values())
    assert pruned(store) == []
    closed(store, remote, state)


@pytest.mark.parametrize("state", OWN)
def test_so_does_one_of_an_orchestrator_of_its_own(store, remote, state):
    OWN[state](store, remote)
    (result,) = pruned(store)
    assert (result.status, result.error) == (state.removeprefix("own "), None)
    assert names(store) == LEFT
    closed_own(store, result.status)
    assert names(store) == LEFT


def others(store, remote):
    """Sessions that must never be touched."""
    store.put(".open/marked", b"")
    list(sweep(store, RemoteAdapter(remote), policy=POLICY, clock=days_later(1)))
    assert b"abandoned_at" in store.get("marked/planned-writeback.json").data
    blocked(store, remote, "blocked")
    parked(store, remote, "parked")
    write_planned_writeback_artifact(store, "own", Outcome(text="call"))
    store.put(".open/dying", b"")
    store.put("notes/planned-writeback.txt", b"of another program")
    blocked(store, remote, "unblocked")
    unblock_session("unblocked", store=store, reason="seen", assume={"2-mail": "applied"})


def test_what_is_open_or_blocked_is_never_touched(store, remote):
    others(store, remote)
    before = in_store(store)
    assert pruned(store, clock=days_later(3650)) == []
    assert in_store(store) == before
    completed(store, remote)
    assert [result.session_id for result in pruned(store)] == ["s1"]
    assert {key: data for key, data in in_store(store).items() if key not in LEFT} == before


def test_a_planted_prune_of_blocked_ones_is_found(store, remote, monkeypatch):
    def lying(*given):
        session = stored_in(*given)
        object.__setattr__(session, "status", lambda *_: RunStatus.COMPLETED)
        return session

    monkeypatch.setattr(pruning, "stored_in", lying)
    with pytest.raises(AssertionError):
        test_what_is_open_or_blocked_is_never_touched(store, remote)


def test_it_is_dry_by_default(store, remote):
    completed(store, remote)
    before = in_store(store)
    (result,) = prune(store, AGE, clock=days_later())
    assert (result.objects, result.written) == (len(before) - 1, False)
    assert in_store(store) == before


def test_age_counts_from_the_end(store, remote):
    completed(store, remote)
    assert pruned(store, clock=days_later(89.9)) == []
    assert pruned(store, clock=days_later(90.1)) != []


def test_the_later_of_two_clocks_counts(store, remote):
    """The final artifact has the time of an owner whose clock is ahead of the store's."""
    run(store, remote, clock=days_later(50))
    assert pruned(store, clock=days_later(100)) == []
    assert len(pruned(store, clock=days_later(141))) == 1


@pytest.mark.parametrize("age", [timedelta(minutes=59), 7776000, None])
def test_an_age_that_can_not_be_used(store, age):
    with pytest.raises(InvalidInput, match="an hour or more"):
        prune(store, age)


def test_one_listing_finds_them_and_a_pruned_one_costs_no_request(store, remote):
    for number in range(3):
        completed(store, remote, f"a{number}")
    pruned(store)
    completed(store, remote)
    traced = TracingStore(store)
    assert len(pruned(traced)) == 1
    calls = [(call.verb, call.key) for call in traced.calls]
    assert calls[0] == ("list", "")
    deleted = [key for verb, key in calls if verb == "delete"]
    assert calls == [
        ("list", ""),
        ("get", FINAL),
        ("get", PLAN),
        ("put", PLAN),
        ("put", "s1/pruned"),
        *(("delete", key) for key in deleted),
    ]


def test_a_limit_and_a_stop(store, remote):
    for number in range(3):
        completed(store, remote, f"s{number}")
    assert [result.session_id for result in pruned(store, limit=2)] == ["s0", "s1"]
    stop = threading.Event()
    stop.set()
    assert pruned(store, stop=stop) == []
    assert [result.session_id for result in pruned(store, limit=2)] == ["s2"]


def test_one_bad_session_stops_no_other(store, remote):
    completed(store, remote, "s0")
    completed(store, remote)
    store.put("s0/writeback.json", store.get("s0/writeback.json").data.replace(b'"2-mail"', b'"2-nail"'))
    bad, good = pruned(store)
    assert (bad.session_id, good.session_id, good.error) == ("s0", "s1", None)
    assert "altered" in bad.error
    assert "s0/journal/000001.json" in names(store)


def test_a_plan_that_is_not_what_was_carried_out_stays(store, remote):
    completed(store, remote)
    store.delete(PLAN)
    assert pruned(store) == []  # without a plan, too
    store.delete(FINAL)
    for key in names(store):
        store.delete(key)
    run(store, remote, kinds=("create",))
    other = store.get(PLAN).data
    completed(other_store := MemoryStore(), remote)
    other_store.put(PLAN, other)
    (result,) = pruned(other_store)
    assert "not the plan that was carried out" in result.error


def test_another_programs_file_is_never_deleted(store, remote):
    abandoned(store, remote)
    store.put(FINAL, b"{}")
    (result,) = pruned(store)
    assert "another program" in result.error
    store.delete(FINAL)
    pruned(store)
    store.put(FINAL, b"{}")
    assert pruned(store) == []
    assert store.get(FINAL).data == b"{}"


def test_an_old_dry_run_and_a_marker_that_is_there_again_go_too(store, remote):
    asked = operations(*support.KINDS)
    write_back(asked, session_id="s1", store=store, adapter=RemoteAdapter(remote), dry_run=True)
    completed(store, remote)
    store.put(".open/s1", b"")
    store.put(".blocked/s1", b"")
    pruned(store)
    assert names(store) == LEFT


# Who meets a tombstone.


@pytest.fixture(params=ENDED)
def gone(request, store, remote):
    ENDED[request.param](store, remote)
    pruned(store)
    return request.param


def test_what_a_person_reads_of_it(store, gone):
    assert read_session(store, "s1").status == gone
    assert read_session(store, "s1").pruned_at
    page = read_page(store, "s1", now=ManualClock().now(), clock_skew=0)
    assert (page.status, page.problem, page.way_out) == (gone, None, ())
    assert list(find_sessions(store)) == []
    assert list(find_sessions(store, "completed")) == list(find_sessions(store, "abandoned")) == []
    (found,) = find_sessions(store, "pruned")
    assert (found.status, found.adapter) == (gone, "remote")
    assert found.pruned_at
    with pytest.raises(InvalidInput, match="pruned at"):
        remaining_operations(read_stored(store, "s1"), now=ManualClock().now(), clock_skew=0)


def test_what_an_operator_can_not_do_any_more(store, gone):
    with pytest.raises(InvalidInput, match="not blocked"):
        unblock_session("s1", store=store, reason="why")
    if gone == "completed":
        with pytest.raises(InvalidInput, match="is completed"):
            abandon_session("s1", store=store, reason="why")
    else:
        assert abandon_session("s1", store=store, reason="why").status == "abandoned"
    assert names(store) == LEFT


def test_a_repeat_says_that_receipts_are_gone(store, remote, gone):
    report = run(store, remote)
    assert (report.receipts, report.operations) == ({}, ())
    assert "payloads and receipts are gone" in report.warnings[0]


def test_another_remote_is_refused(store, remote, gone):
    class Elsewhere(RemoteAdapter):
        name = "elsewhere"

    with pytest.raises(PlanConflict, match="another request") as caught:
        run(store, remote, kinds=("create",))
    assert gone in str(caught.value)
    with pytest.raises(InvalidInput, match="was planned by adapter 'remote'"):
        write_back(operations(*support.KINDS), session_id="s1", store=store, adapter=Elsewhere(remote))
    assert names(store) == LEFT


def test_a_plan_that_comes_back_is_refused_by_all(store, remote):
    """As from a backup of some files: what would be sent was sent."""
    completed(store, remote)
    plan = store.get(PLAN).data
    pruned(store)
    store.put(PLAN, plan)
    means = {"store": store, "adapter": RemoteAdapter(remote)}
    sent = list(remote.requests)
    for call in (
        lambda: resume_session("s1", **means),
        lambda: run(store, remote),
        lambda: abandon_session("s1", store=store, reason="why"),
    ):
        with pytest.raises(CorruptArtifact, match="the session was pruned"):
            call()
    (result,) = sweep(policy=POLICY, clock=days_later(), **means)
    assert "was pruned" in result.error
    store.delete(PLAN)
    with pytest.raises(CorruptArtifact, match="the session was pruned"):
        resume_session("s1", **means)
    assert remote.requests == sent


def test_an_own_plan_that_comes_back_is_refused(store, remote):
    own_completed(store, remote)
    before = in_store(store)
    pruned(store)
    for key, data in before.items():
        if not key.endswith("/writeback.json"):
            store.put(key, data)
    with pytest.raises(CorruptArtifact, match="the session was pruned"):
        load_replay_artifact(store, "s1", Outcome)
    with pytest.raises(CorruptArtifact, match="the session was pruned"):
        write_planned_writeback_artifact(store, "s1", Outcome(text="another"))


def test_an_own_program_that_ends_late_is_completed(store, remote):
    OWN["own abandoned"](store, remote)
    pruned(store)
    write_writeback_artifact(store, "s1", Outcome(text="called"))
    assert load_replay_artifact(store, "s1", Outcome).finished
    assert pruned(store, clock=days_later(1)) == []
    assert len(pruned(store)) == 1
    assert names(store) == LEFT
    closed_own(store, "completed")


def test_a_plan_that_came_back_stops_a_prune_of_the_final_artifact_beside_it(store, remote):
    completed(store, remote)
    before = in_store(store)
    pruned(store)
    for key in (PLAN, FINAL):
        store.put(key, before[key])
    (result,) = pruned(store)
    assert "its tombstone is not there any more" in result.error
    assert store.get(FINAL).data == before[FINAL]


def test_the_final_artifact_of_a_late_owner_counts(store, remote):
    """An owner that was fenced by an abandonment may have had its last receipt already."""
    abandoned(store, remote)
    pruned(store)
    completed(other := MemoryStore(), remote)
    store.put(FINAL, other.get(FINAL).data)
    assert run(store, remote).status == "no_resume_needed"
    (found,) = find_sessions(store)
    assert found.status == "completed"
    pruned(store)
    assert names(store) == LEFT
    closed(store, remote, "completed")


# Killed at each call.


def kept(store, remote, state):
    closed_own(store, state.removeprefix("own ")) if state in OWN else closed(store, remote, state)


def is_tombstone(store):
    return b"pruned_at" in store.get(PLAN).data


def killed_everywhere(new_store, remote, state, **more):
    """Die before each call; what others do then sends nothing, and a second prune finishes."""
    for number in itertools.count(1):
        store, remote = new_store(), type(remote)()
        (ENDED | OWN)[state](store, remote)
        dying = Interrupting(store, number, lambda: (_ for _ in ()).throw(Died))
        with contextlib.suppress(Died):
            pruned(dying, **more)
            break
        if is_tombstone(store):
            if not any(key.endswith("/writeback.json") for key in names(store)):
                kept(store, remote, state)
        elif state not in OWN:
            closed(store, remote, state)
        pruned(store, **more)
        assert names(store) == LEFT, number
        kept(store, remote, state)
    return number


@pytest.mark.parametrize("state", ENDED | OWN)
def test_killed_at_each_call(remote, state):
    assert killed_everywhere(MemoryStore, remote, state) >= 7


@pytest.mark.parametrize("state", ENDED | OWN)
def test_killed_at_each_call_in_a_folder(remote, state, tmp_path):
    count = itertools.count()
    assert killed_everywhere(lambda: LocalStore(tmp_path / str(next(count))), remote, state) >= 7


class _DeletesFirst(pruning._Pruning):
    """Planted: nothing stands in the plan's place while the rest goes."""

    def _result(self, folder):
        end = self._end(folder) if PLAN in folder.found and "s1/pruned" not in folder.found else None
        if end:
            self._delete(end.delete)
        return super()._result(folder)


def test_planted_deletes_before_the_tombstone_are_found(remote, monkeypatch):
    monkeypatch.setattr(pruning, "_Pruning", _DeletesFirst)
    with pytest.raises(AssertionError):
        killed_everywhere(MemoryStore, remote, "completed")


class _NoTombstone(pruning._Pruning):
    """Planted: no tombstone at all."""

    def _end(self, folder):
        end = super()._end(folder)
        return end and pruning.replace(end, stands=True)


@pytest.mark.parametrize("state", ENDED)
def test_a_planted_missing_tombstone_is_found(remote, monkeypatch, state):
    monkeypatch.setattr(pruning, "_Pruning", _NoTombstone)
    with pytest.raises((AssertionError, CorruptArtifact)):
        killed_everywhere(MemoryStore, remote, state)


# What a power cut may leave: any subset of the deletes undone.


@pytest.mark.parametrize("state", ENDED)
def test_any_subset_of_the_deletes_may_be_undone(remote, state):
    store = MemoryStore()
    ENDED[state](store, remote)
    before = in_store(store)
    pruned(store)
    back = [key for key in before if key not in LEFT] + [".open/s1", ".blocked/s1"]
    for count in range(len(back) + 1):
        for subset in itertools.combinations(back, count):
            left = MemoryStore()
            for key, data in in_store(store).items():
                left.put(key, data)
            for key in subset:
                left.put(key, before.get(key, b""))
            closed(left, remote, state)
            pruned(left)
            assert names(left) == LEFT


# Beside others, each doing all of its work in the middle of the other's, before each call.


def _prune(store, remote):
    pruned(store)


def _sweep(store, remote):
    list(sweep(store, RemoteAdapter(remote), policy=POLICY, scan=True, clock=days_later()))


def _resume(store, remote):
    report = resume_session("s1", store=store, adapter=RemoteAdapter(remote), clock=days_later())
    assert report.status in ("no_resume_needed", "abandoned")


def _repeat(store, remote):
    assert run(store, remote, clock=days_later()).status in ("no_resume_needed", "abandoned")


def _abandon(store, remote):
    with contextlib.suppress(InvalidInput):
        abandon_session("s1", store=store, reason="why")


def beside(state, act, other):
    """Let one act in the middle of another, before each of its calls."""
    for number in itertools.count(1):
        store, remote = MemoryStore(), Remote()
        ENDED[state](store, remote)
        sent = list(remote.requests)
        between = Interrupting(store, number, partial(other, store, remote))
        act(between, remote)
        assert remote.requests == sent, number
        if between.count < number:
            return number
        closed(store, remote, state)
        pruned(store)
        assert names(store) == LEFT
        closed(store, remote, state)
    return None


@pytest.mark.parametrize("state", ENDED)
@pytest.mark.parametrize("other", [_prune, _sweep, _resume, _repeat, _abandon])
def test_beside_others(state, other):
    assert beside(state, _prune, other) > 5
    beside(state, other, _prune)


# A run that slept through it all. By default its limit of 300 seconds ends it, too.

PATIENT = POLICY.model_copy(update={"run_limit": 365 * 86_400.0})


class Sleeper(RemoteAdapter):
    """Its first operation takes a hundred days, in which others finish the session."""

    def __init__(self, remote, store, clock, meanwhile):
        super().__init__(remote)
        self.store, self.clock, self.meanwhile = store, clock, meanwhile

    def _send(self, operation, *, proved):
        receipt = super()._send(operation, proved=proved)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile:
            self.clock.advance(100 * 86_400)
            meanwhile(self.store, self.remote)
        return receipt


def finished_by_another(store, remote):
    means = {"store": store, "adapter": RemoteAdapter(remote), "policy": POLICY}
    assert resume_session("s1", clock=days_later(1), **means).status == "completed"
    assert len(pruned(store)) == 1


def given_up_by_another(store, remote):
    abandon_session("s1", store=store, reason="why", clock=days_later(1))
    assert len(pruned(store)) == 1


def sleeping(store, remote, meanwhile):
    """A run that sleeps in its first operation: what it comes to, and how many mails it sends."""
    clock = ManualClock()
    mails = []

    def counted(*given):
        meanwhile(*given)
        mails.append(remote.requests.count("2-mail"))

    report = write_back(
        operations(*support.KINDS),
        session_id="s1",
        store=store,
        adapter=Sleeper(remote, store, clock, counted),
        policy=PATIENT,
        clock=clock,
    )
    return report, remote.requests.count("2-mail") - mails[0]


@pytest.mark.parametrize("meanwhile", [finished_by_another, given_up_by_another])
def test_an_owner_that_slept_through_it_sends_nothing_more(store, remote, meanwhile):
    report, mails = sleeping(store, remote, meanwhile)
    assert (report.status, mails) == ("in_progress", 0)
    assert "was pruned" in report.error
    closed(store, remote, "completed" if meanwhile is finished_by_another else "abandoned")


@pytest.mark.parametrize("meanwhile", [finished_by_another, given_up_by_another])
def test_a_planted_owner_that_never_looks_again_is_found(store, remote, meanwhile, monkeypatch):
    monkeypatch.setattr(journal, "LOOK_AGAIN", float("inf"))
    _, mails = sleeping(store, remote, meanwhile)
    assert mails == 1


class Before(Interrupting):
    """Does something before the first call of a verb with a key."""

    def __init__(self, inner, verb, key, act):
        super().__init__(inner, -1, act)
        self.verb, self.key = verb, key

    def _around(self, verb, key, call):
        if (verb, key) == (self.verb, self.key) and self.act:
            act, self.act = self.act, None
            act()
        return call()


class After(Before):
    """Does something after that call."""

    def _around(self, verb, key, call):
        found = call()
        super()._around(verb, key, lambda: None)
        return found


def resumed_after_a_sleep(store, remote):
    """A resume that sleeps once it has read the session, while others finish it."""
    parked(store, remote)
    clock = days_later(1)

    def meanwhile():
        clock.advance(100 * 86_400)
        finished_by_another(store, remote)

    newest = read_stored(store, "s1").number
    slow = After(store, "get", f"s1/journal/{newest:06}.json", meanwhile)
    report = resume_session("s1", store=slow, adapter=RemoteAdapter(remote), policy=PATIENT, clock=clock)
    assert slow.act is None
    return report, remote.requests.count("2-mail") - 2


def test_a_resume_that_slept_before_its_claim_sends_nothing(store, remote):
    report, mails = resumed_after_a_sleep(store, remote)
    assert (report.status, mails) == ("in_progress", 0)
    closed(store, remote)


def test_a_planted_claim_without_a_second_look_is_found(store, remote, monkeypatch):
    monkeypatch.setattr(journal, "LOOK_AGAIN", float("inf"))
    assert resumed_after_a_sleep(store, remote)[1] == 1


@pytest.mark.parametrize("call", [("create", "s1/journal/000001.json"), ("delete", PLAN)])
def test_a_run_that_began_again_and_slept_sends_nothing(store, remote, call):
    store.put(".open/s1", b"")
    list(sweep(store, RemoteAdapter(remote), policy=POLICY, clock=days_later(1)))
    clock = days_later(1)

    def meanwhile():
        clock.advance(100 * 86_400)
        assert run(store, remote, clock=days_later(2)).status == "completed"
        assert len(pruned(store, clock=days_later(200))) == 1

    report = run(Before(store, *call, meanwhile), remote, clock=clock, policy=PATIENT)
    assert report.status in ("in_progress", "resume_needed")
    if call[0] == "create":
        closed(store, remote, clock=days_later(200))
    else:
        # It fell asleep between its check and the delete, which has no condition. The id is closed.
        with pytest.raises(CorruptArtifact, match="the session was pruned"):
            resume_session("s1", store=store, adapter=RemoteAdapter(remote), policy=POLICY)
    assert remote.requests.count("2-mail") == 1


def test_no_short_run_looks_again(store, remote):
    traced = TracingStore(store)
    run(traced, remote)
    assert not [call for call in traced.calls if call.key.endswith("/pruned")]


# The archive.


@pytest.mark.parametrize(("state", "reads"), [("completed", "completed"), ("abandoned", "abandoned")])
def test_the_archive_has_what_the_store_had(store, remote, state, reads):
    ENDED[state](store, remote)
    before, archive = in_store(store), MemoryStore()
    (result,) = pruned(store, archive=archive)
    expected = {FINAL} if state == "completed" else before.keys() - {".open/s1", ".blocked/s1"}
    assert in_store(archive) == {key: before[key] for key in expected}
    assert result.archived == len(expected)
    assert read_session(archive, "s1").status == reads
    assert names(store) == LEFT


@pytest.mark.parametrize("state", OWN)
def test_the_archive_of_an_own_one(store, remote, state):
    OWN[state](store, remote)
    archive = MemoryStore()
    pruned(store, archive=archive)
    assert read_session(archive, "s1").status == state.removeprefix("own ")


@pytest.mark.parametrize("state", ENDED)
def test_killed_at_each_call_of_the_archive(remote, state):
    """What is in an archive is complete, or no sweep of it sends anything."""
    for number in itertools.count(1):
        store, archive = MemoryStore(), MemoryStore()
        ENDED[state](store, remote)
        before = in_store(store)
        dying = Interrupting(archive, number, lambda: (_ for _ in ()).throw(Died))
        with contextlib.suppress(Died):
            pruned(store, archive=dying)
            break
        assert in_store(store) == before
        sent = list(remote.requests)
        list(sweep(archive, RemoteAdapter(remote), policy=POLICY, scan=True, clock=days_later()))
        assert remote.requests == sent
        pruned(store, archive=archive)
        assert read_session(archive, "s1").status == state
    assert number > 3


def test_a_conflict_in_the_archive_stops_that_session(store, remote):
    completed(store, remote)
    completed(store, remote, "s2")
    before, archive = in_store(store), MemoryStore()
    archive.put(FINAL, b"another")
    bad, good = pruned(store, archive=archive)
    assert (bad.session_id, good.session_id, good.error) == ("s1", "s2", None)
    assert f"{FINAL}: the archive has another one" in bad.error
    assert archive.get(FINAL).data == b"another"
    assert {key: data for key, data in in_store(store).items() if key.startswith("s1/")} == {
        key: data for key, data in before.items() if key.startswith("s1/")
    }


def test_a_planted_overwrite_of_the_archive_is_found(store, remote, monkeypatch):
    put = MemoryStore._put

    def overwriting(self, key, data, *, if_absent):
        return put(self, key, data, if_absent=False)

    monkeypatch.setattr(MemoryStore, "_put", overwriting)
    with pytest.raises((AssertionError, TypeError)):
        test_a_conflict_in_the_archive_stops_that_session(store, remote)


def test_the_archive_must_be_another_place(remote, tmp_path):
    store = LocalStore(tmp_path / "a")
    completed(store, remote)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    before = names(store)
    with pytest.raises(InvalidInput, match="archive: it is the store itself"):
        prune(store, AGE, archive=store)
    with pytest.raises(InvalidInput, match="archive: it is the same place"):
        pruned(store, archive=LocalStore(tmp_path / "b"))
    assert names(store) == before


def test_an_archive_may_refuse_deletes(store, remote):
    class WriteOnce(MemoryStore):
        def _delete(self, key):
            raise AccessDenied(self.name, "delete", key, "planted")

    completed(store, remote)
    archive = WriteOnce()
    assert [result.archived for result in pruned(store, archive=archive)] == [1]
    assert names(archive)[1:] == [FINAL]


def test_an_archive_that_fails_costs_nothing(store, remote):
    class Full(MemoryStore):
        def _put(self, key, data, *, if_absent):
            if key.startswith("."):
                return super()._put(key, data, if_absent=if_absent)
            raise NotFound(self.name, "put", key, "there is no such bucket")

    completed(store, remote)
    before = in_store(store)
    (result,) = pruned(store, archive=Full())
    assert result.error.startswith("archive: ")
    assert in_store(store) == before


def test_memory_stays_flat(remote):
    """A listing is never held as a whole."""

    class Endless(MemoryStore):
        def _list(self, prefix, start_after):
            for number in itertools.count():
                yield from (info for info in infos(f"s{number:09}"))

    def infos(session_id):
        if session_id.endswith("5"):
            yield ObjectInfo(f"{session_id}/journal/000001.json", 7)
        for key in ("planned-writeback.json", "pruned"):
            yield ObjectInfo(f"{session_id}/{key}", 0)

    found = prune(Endless(), AGE)
    assert [next(found).session_id for _ in range(3)] == [f"s{number:09}" for number in (5, 15, 25)]


def test_a_journal_of_a_read_session_knows_since_when(store, remote):
    parked(store, remote)
    session = read_stored(store, "s1")
    assert Journal.of(session, session.plan, store, ManualClock(), lease=1, known_at=-5).known_at == -5


def test_a_mail_that_may_have_been_sent_is_no_end(store, remote):
    remote.script["2-mail"] = [Meets.LOST_REPLY]
    run(store, remote)
    assert pruned(store) == []
