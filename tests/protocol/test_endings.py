"""Every session can end: ids work again, turns are counted, and operators decide."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.remotes import Meets, RemoteAdapter, Text
from tests.support.worlds import World
from writeahead import (
    PlannedOperation,
    Receipt,
    RunPolicy,
    emits,
    open_store,
    resume_session,
    unblock_session,
)
from writeahead.errors import Applied, InvalidInput, PermanentError, ResumeError, TransientError, Unavailable
from writeahead.model import Assume, BlockReason, RunStatus
from writeahead.protocol import liveness
from writeahead.protocol.finding import State, find_sessions
from writeahead.protocol.liveness import is_dead, this_process
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import abandon_session
from writeahead.testing import ManualClock, WrapperStore

ONCE = RunPolicy(attempts=1, clock_skew=0)


def swept(world, hours=0.0):
    clock = ManualClock(start=world.clock.now() + timedelta(hours=hours))
    return list(sweep(world.store, world.adapter, policy=world.policy, clock=clock))


def parked(world, *kinds, meets=Meets.UNAVAILABLE):
    world.policy = ONCE
    world.remote.script["2-mail"] = [meets]
    return world.run(*(kinds or ("create", "mail")))


# An id that died before its plan.


def died_before_its_plan(world):
    world.store.put(".open/s1", b"")
    (result,) = swept(world, hours=1)
    assert "abandoned" in result.note
    assert world.json("s1/planned-writeback.json")["format"] == "writeahead/abandoned"
    assert world.names() == ["s1/planned-writeback.json"]


def test_an_id_whose_run_died_before_its_plan_works_again():
    world = World()
    died_before_its_plan(world)
    assert world.run("create").ok
    assert [name for name in world.names() if "/journal/" not in name] == [
        "s1/planned-writeback.json",
        "s1/writeback.json",
    ]
    assert world.json("s1/planned-writeback.json")["format"] == "writeahead/planned-writeback"


def test_a_sweep_that_read_the_tombstone_late_does_not_hide_the_session():
    """It deletes .open/ once the new run has its plan; .blocked/ still leads there."""
    world = World(ONCE)
    died_before_its_plan(world)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    world.run("create")
    assert ".blocked/s1" in world.names()
    world.store.delete(".open/s1")
    assert [found.session_id for found in find_sessions(world.store, "open")] == ["s1"]
    (result,) = swept(world)
    assert result.report.ok
    assert world.names()[0] == "s1/journal/000001.json"


def test_a_sweep_leaves_the_marker_of_a_run_that_begins_again():
    world = World()
    died_before_its_plan(world)
    world.store.put(".open/s1", b"")
    world.store.put(".blocked/s1", b"")
    swept(world)
    assert ".blocked/s1" in world.names()


class SlowWriter(WrapperStore):
    """The first run's plan lands once the tombstone is gone."""

    def __init__(self, inner, data):
        super().__init__(inner)
        self.data = data

    def _delete(self, key):
        super()._delete(key)
        if key == "s1/planned-writeback.json":
            self.wrapped.put(key, self.data, if_absent=True)


def test_a_slow_writers_plan_and_a_new_one_are_one():
    world, slow = World(ONCE), World(ONCE)
    slow.run("create")
    died_before_its_plan(world)
    data = slow.store.get("s1/planned-writeback.json").data
    world.store = SlowWriter(world.store, data)
    report = world.run("create")
    # The claim came first: the slow writer finds its first entry taken, and stops.
    assert report.ok
    assert world.remote.requests == ["1-create"]
    assert world.store.get("s1/planned-writeback.json").data == data


class Gone(BaseException):
    """The process is gone."""


class DiesBeforeItsDelete(WrapperStore):
    """A run dies between its claim and the delete of the tombstone."""

    def _delete(self, key):
        if key == "s1/planned-writeback.json":
            raise Gone
        super()._delete(key)


@pytest.mark.parametrize("claims", [1, 2, 3, 4])
def test_what_runs_with_other_plans_have_claimed_is_not_built_on(claims):
    world = World(ONCE.model_copy(update={"journal_interval": 0}))
    died_before_its_plan(world)
    honest = world.store
    for number in range(claims):
        world.store = DiesBeforeItsDelete(honest)
        with pytest.raises(Gone):
            world.run_operations([{"kind": "create", "payload": {"text": str(number)}}])
        world.clock.advance(3600)
    world.store = honest
    world.remote.script["3-create"] = [Meets.UNAVAILABLE]
    assert world.run(*["create"] * 6).status is RunStatus.RESUME_NEEDED
    assert world.resume().ok
    assert world.remote.requests == [f"{n}-create" for n in (1, 2, 3, 3, 4, 5, 6)]


# Turns.


def test_a_session_that_makes_no_progress_costs_less_and_less():
    world = World(ONCE)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 1000
    world.run("create")
    for _ in range(24 * 60):
        world.clock.advance(60)
        world.resume()
    assert len(world.remote.requests) < 40
    assert len([name for name in world.names() if "/journal/" in name]) < 80


def test_progress_lets_the_next_turn_begin_at_once():
    world = World(ONCE)
    for number in range(1, 6):
        world.remote.script[f"{number}-create"] = [Meets.UNAVAILABLE]
    report = world.run(*["create"] * 5)
    while not report.ok:
        assert report.not_before is None
        report = world.resume()
    assert len(world.remote.requests) == 10


def test_a_policy_may_give_up_after_turns():
    world = World(RunPolicy(attempts=1, clock_skew=0, max_turns=3))
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 10
    world.run("create")
    for _ in range(3):
        assert world.resume(now="trying").status is RunStatus.RESUME_NEEDED
    report = world.resume(now="trying")
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.GAVE_UP)
    assert len(world.remote.requests) == 4
    unblock_session("s1", store=world.store, reason="it is up", clock=world.clock)
    world.remote.script.clear()
    assert world.resume().ok


def test_a_policy_may_give_up_after_an_age():
    world = World(RunPolicy(attempts=1, clock_skew=0, max_age=3600))
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 10
    world.run("create")
    world.clock.advance(3601)
    assert world.resume().block_reason is BlockReason.GAVE_UP
    assert len(world.remote.requests) == 1


def test_a_kind_that_is_gone_blocks_with_that_reason():
    world = World(ONCE)
    world.remote.script["2-mail"] = [Meets.UNAVAILABLE]
    world.run("create", "mail")

    class Smaller(RemoteAdapter):
        pass

    Smaller.kinds = {name: kind for name, kind in RemoteAdapter.kinds.items() if name != "mail"}
    world.adapter = Smaller(world.remote)
    report = world.resume()
    assert (report.block_reason, report.operation) == (BlockReason.UNKNOWN_KIND, "2-mail")


@pytest.mark.parametrize(
    ("meets", "decide", "status"),
    [
        (Meets.REJECTED, unblock_session, RunStatus.RESUME_NEEDED),
        (Meets.REJECTED, abandon_session, RunStatus.ABANDONED),
    ],
)
def test_a_decision_can_be_tried_without_being_made(meets, decide, status):
    world = World()
    parked(world, meets=meets)
    before = {name: world.store.get(name).data for name in world.names()}
    report = decide("s1", store=world.store, reason="x", clock=world.clock, dry_run=True)
    assert (report.status, list(report.receipts)) == (status, ["1-create"])
    assert {name: world.store.get(name).data for name in world.names()} == before
    world.run("create", session_id="done")
    with pytest.raises(InvalidInput):
        decide("done", store=world.store, reason="x", clock=world.clock, dry_run=True)


# Abandoning.


def test_an_abandoned_session_is_never_completed():
    world = World()
    parked(world, meets=Meets.LOST_REPLY)
    report = abandon_session("s1", store=world.store, reason="done by hand", clock=world.clock)
    assert (report.status, report.ok) == (RunStatus.ABANDONED, False)
    assert list(report.receipts) == ["1-create"]
    assert list(report.attempted) == ["2-mail"]
    assert world.names()[0].startswith("s1/journal")
    entry = world.json(world.names()[-2])
    assert (entry["event"], entry["status"], entry["reason"]) == ("abandoned", "abandoned", "done by hand")
    before = list(world.remote.requests)
    assert world.resume().status is RunStatus.ABANDONED
    assert world.run("create", "mail").status is RunStatus.ABANDONED
    with pytest.raises(InvalidInput, match="not blocked"):
        unblock_session("s1", store=world.store, reason="x", clock=world.clock)
    assert abandon_session("s1", store=world.store, reason="again").status is RunStatus.ABANDONED
    assert world.remote.requests == before
    swept(world)
    assert world.remote.requests == before
    assert [found.session_id for found in find_sessions(world.store, "abandoned")] == ["s1"]
    assert list(find_sessions(world.store, "open")) == []


def test_abandoning_fences_a_live_owner():
    world = World()
    real = world.adapter._send

    def abandon_first(operation, *, proved):
        abandon_session("s1", store=world.store, reason="stop it", clock=world.clock)
        return real(operation, proved=proved)

    world.adapter._send = abandon_first
    report = world.run("create", "mail")
    assert report.status is RunStatus.IN_PROGRESS
    assert world.remote.requests == ["1-create"]
    assert world.resume().status is RunStatus.ABANDONED


def test_what_is_completed_or_not_there_can_not_be_abandoned():
    world = World()
    with pytest.raises(ResumeError, match="neither"):
        abandon_session("s1", store=world.store, reason="x")
    world.run("create")
    with pytest.raises(InvalidInput, match="completed"):
        abandon_session("s1", store=world.store, reason="x")


# Taking over, and not waiting.


def dies_at_mail(world):
    """A run that falls silent while it sends the mail: nothing journals its end."""

    class Silent(WrapperStore):
        def _put(self, key, data, *, if_absent):
            if b'"ended"' in data:
                raise Unavailable(self.name, "put", key, "gone")
            return super()._put(key, data, if_absent=if_absent)

    world.store = Silent(world.store)
    return world.store.wrapped


def test_an_operator_takes_a_session_over_before_its_lease_is_over():
    world = World(ONCE)
    inner = dies_at_mail(world)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    world.run("create", "create")
    world.store = inner
    held = world.resume()
    assert held.status is RunStatus.IN_PROGRESS
    assert f"process {os.getpid()} on" in held.error
    assert "holds the lease since" in held.error
    assert world.resume(take_over="I killed it").ok
    claim = world.json("s1/journal/000001.json")
    assert (claim["event"], claim["reason"]) == ("claimed", "I killed it")


def test_taking_over_does_not_double_what_can_not_be_proved():
    world = World(ONCE)
    inner = dies_at_mail(world)
    world.remote.script["1-mail"] = [Meets.LOST_REPLY]
    world.run("mail")
    world.store = inner
    report = world.resume(take_over="I killed it")
    assert report.block_reason is BlockReason.OUTCOME_UNKNOWN
    assert world.effects_of("1-mail") == 1
    last = [name for name in world.names() if "/journal/" in name][-1]
    assert (world.json(last)["event"], world.json(last)["reason"]) == ("ended", "I killed it")


def test_the_reason_of_a_takeover_is_kept_where_another_program_s_final_ends_it():
    world = World(ONCE)
    inner = dies_at_mail(world)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    world.run("create", "create")
    world.store = inner
    world.store.put("s1/writeback.json", b"{}")
    report = world.resume(take_over="I killed it")
    assert report.block_reason is BlockReason.CONFLICT_DETECTED
    assert world.json("s1/journal/000001.json")["reason"] == "I killed it"


def test_a_lookup_waits_for_the_lease_though_it_is_taken_over():
    world = World(RunPolicy(attempts=1, clock_skew=0, run_limit=60))
    inner = dies_at_mail(world)
    world.remote.script["1-lookup"] = [Meets.UNAVAILABLE]
    world.run("lookup")
    world.store = inner
    report = world.resume(take_over="I killed it")
    assert report.status is RunStatus.RESUME_NEEDED
    assert world.remote.requests == ["1-lookup"]
    # 600 s of lease, 60 s of a request's life.
    assert (report.not_before - world.clock.now()).total_seconds() == pytest.approx(660, abs=5)


def test_an_operator_does_not_wait_for_a_remote():
    world = World(RunPolicy(attempts=2, clock_skew=0))
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    assert world.run("create").not_before is not None
    assert world.resume().status is RunStatus.RESUME_NEEDED
    assert world.resume(now="they said it is up").ok
    assert world.json("s1/journal/000002.json")["reason"] == "they said it is up"


def test_a_process_is_dead_only_where_that_is_known():
    mine = this_process()
    if mine is None:
        pytest.skip("this system does not tell")
    assert not is_dead(mine)
    assert not is_dead(None)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        # Its own start time is not ours: a process of the same number that started at another time.
        assert is_dead(mine.model_copy(update={"pid": other.pid}))
        other.kill()
        # Killed, and not waited for: a zombie is there, and runs no more.
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(mine.model_copy(update={"pid": other.pid, "started": started(other.pid)}))
    assert is_dead(mine.model_copy(update={"pid": other.pid}))
    for elsewhere in ({"boot_id": "x"}, {"pid_namespace": "pid:[1]"}):
        assert not is_dead(mine.model_copy(update={"pid": other.pid, **elsewhere}))


def started(pid):
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()


def test_a_session_of_a_dead_process_is_resumed_at_once(tmp_path):
    code = """
import os, sys
from tests.support.remotes import Remote, RemoteAdapter, operations
from writeahead import open_store, write_back
class Dies(RemoteAdapter):
    def emit(self, operation):
        if operation.id == "2-create":
            os.kill(os.getpid(), 9)
        return super().emit(operation)
write_back(operations("create", "create"), session_id="s1", store=open_store(sys.argv[1]),
adapter=Dies(Remote()))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=False)
    assert done.returncode == -9
    world = World()
    report = resume_session("s1", store=open_store(str(tmp_path)), adapter=world.adapter)
    assert report.ok


# Waits, and what is known before them.


def test_a_process_killed_in_a_wait_after_a_sure_failure_blocks_nothing():
    class Killed(BaseException):
        pass

    class Clock(ManualClock):
        def sleep(self, seconds):
            raise Killed

    world = World(RunPolicy(attempts=3, wait_initial=5, clock_skew=0))
    world.remote.script["1-mail"] = [Meets.UNAVAILABLE]
    inner = dies_at_mail(world)
    world.clock = Clock()
    with pytest.raises(Killed):
        world.run("mail")
    world.store, world.clock = inner, ManualClock(start=world.clock.now() + timedelta(hours=1))
    newest = world.json("s1/journal/000002.json")
    assert (newest["event"], newest["attempted"]) == ("waiting", {})
    assert world.resume().ok
    assert world.effects_of("1-mail") == 1


def test_clients_that_failed_together_do_not_come_back_together():
    waits = []
    for chance in (0.0, 0.4, 0.8):
        world = World(RunPolicy(attempts=3, wait_initial=2, wait_max=60))
        world.clock.chance = chance
        world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 2
        world.run("create")
        waits.append([round(wait, 6) for wait in world.clock.slept])
    assert waits == [[2, 4], [1.6, 3.2], [1.2, 2.4]]


def test_a_wait_is_never_shorter_than_the_remote_asked_for():
    for chance in (0.0, 0.9):
        world = World(RunPolicy(attempts=2, wait_initial=2, run_limit=10_000, lease=20_000))
        world.clock.chance = chance
        world.remote.script["1-create"] = [Meets.RETRY_AFTER]
        assert world.run("create").ok
        assert world.clock.slept == [3600 + chance * 2]


# Decisions.


def test_an_assumption_is_a_word():
    world = World()
    parked(world, meets=Meets.LOST_REPLY)
    for wrong in ("yes", "APPLIED", 1, None):
        with pytest.raises(InvalidInput, match="assume applied or not-applied, not"):
            unblock_session("s1", store=world.store, reason="x", assume={"2-mail": wrong})
    decisions = {"2-mail": False}
    with pytest.warns(DeprecationWarning, match="in place of True or False"):
        unblock_session("s1", store=world.store, reason="x", assume=decisions, clock=world.clock)
    assert world.resume().ok
    assert world.effects_of("2-mail") == 2


def test_a_word_that_is_no_bool_is_not_taken_for_one():
    world = World()
    parked(world, meets=Meets.LOST_REQUEST)
    unblock_session("s1", store=world.store, reason="x", assume={"2-mail": "not-applied"}, clock=world.clock)
    assert world.resume().ok
    assert world.effects_of("2-mail") == 1


def test_an_assumed_receipt_has_the_remotes_id_and_says_who_decided():
    world = World()
    parked(world, meets=Meets.LOST_REPLY)
    with pytest.raises(InvalidInput, match="only if it is assumed as applied"):
        unblock_session("s1", store=world.store, reason="x", remote_ids={"2-mail": "m-1"})
    unblock_session(
        "s1",
        store=world.store,
        reason="x",
        assume={"2-mail": Assume.APPLIED},
        remote_ids={"2-mail": "m-1"},
        clock=world.clock,
    )
    receipt = world.resume().receipts["2-mail"]
    assert (receipt.outcome, receipt.remote_id) == ("assumed", "m-1")


def test_an_operator_gives_an_operation_a_new_key():
    """For a remote that answers a key for ever as it did first."""

    class Replays(RemoteAdapter):
        @emits("create_with_key")
        def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
            self.keys.append(operation.key)
            if operation.key == self.keys[0]:
                raise PermanentError("POST: 500, replayed")
            return Receipt(remote_id=operation.key)

    world = World(ONCE)
    world.adapter = Replays(world.remote)
    world.adapter.keys = []
    assert world.run("create").block_reason is BlockReason.REJECTED
    unblock_session("s1", store=world.store, reason="x", clock=world.clock)
    assert world.resume().block_reason is BlockReason.REJECTED
    unblock_session("s1", store=world.store, reason="x", new_keys=["1-create"], clock=world.clock)
    receipt = world.resume().receipts["1-create"]
    assert receipt.generation == 1
    assert receipt.remote_id == world.adapter.keys[-1] != world.adapter.keys[0]
    assert world.json("s1/writeback.json")["operations"][0]["key"] == world.adapter.keys[0]


def test_a_new_key_needs_an_outcome_that_is_known():
    world = World()
    parked(world, meets=Meets.LOST_REPLY)
    with pytest.raises(InvalidInput, match="a new key could apply it twice"):
        unblock_session("s1", store=world.store, reason="x", new_keys=["2-mail"])
    with pytest.raises(InvalidInput, match="confirmed already"):
        unblock_session("s1", store=world.store, reason="x", new_keys=["1-create"])


# An interrupt while an entry is on its way.


@pytest.mark.parametrize("landed", [True, False])
def test_an_entry_of_ones_own_is_no_other_owners(landed):
    class Interrupted(WrapperStore):
        left = 1

        def _put(self, key, data, *, if_absent):
            interrupt = self.left and b'"sending"' in data
            self.left = 0 if interrupt else self.left
            if not interrupt or landed:
                info = super()._put(key, data, if_absent=if_absent)
            if interrupt:
                raise KeyboardInterrupt
            return info

    world = World()
    world.store = Interrupted(world.store)
    with pytest.raises(KeyboardInterrupt):
        world.run("create", "mail")
    assert world.remote.requests == ["1-create"]
    assert world.resume().ok
    assert world.effects_of("2-mail") == 1


def test_a_state_that_there_is_not_is_named():
    world = World()
    with pytest.raises(InvalidInput, match=r"state 'opn': use one of open, resume_needed"):
        find_sessions(world.store, "opn")
    assert list(find_sessions(world.store, State.OPEN)) == list(find_sessions(world.store, "open")) == []


# A silent owner.


def killed_after_the_effect(world, kind):
    """Its lease runs out, and nothing in the journal tells what it sent."""
    world.policy = ONCE
    inner = dies_at_mail(world)
    world.remote.script[f"1-{kind}"] = [Meets.LOST_REPLY]
    world.run(kind)
    world.store = inner
    world.clock.advance(10_000)


def test_a_new_key_after_a_silent_owner_needs_a_decision():
    world = World()
    killed_after_the_effect(world, "create")
    world.remote.script["1-create"] = [Meets.REJECTED]
    assert world.resume().block_reason is BlockReason.REJECTED
    with pytest.raises(InvalidInput, match="may have been sent"):
        unblock_session("s1", store=world.store, reason="x", new_keys=["1-create"], clock=world.clock)


def test_a_kind_that_is_gone_for_a_while_forgets_no_attempt():
    world = World()
    killed_after_the_effect(world, "lookup")
    full = world.adapter

    class Smaller(RemoteAdapter):
        pass

    Smaller.kinds = {name: kind for name, kind in RemoteAdapter.kinds.items() if name != "lookup"}
    world.adapter = Smaller(world.remote)
    assert world.resume().block_reason is BlockReason.UNKNOWN_KIND
    unblock_session("s1", store=world.store, reason="x", clock=world.clock)
    world.adapter = full
    world.clock.advance(10_000)
    assert world.resume().ok
    assert world.effects_of("1-lookup") == 1


def test_abandoning_a_silent_owner_says_what_may_have_been_sent():
    world = World()
    killed_after_the_effect(world, "create")
    report = abandon_session("s1", store=world.store, reason="x", clock=world.clock)
    assert list(report.attempted) == ["1-create"]
    # Also for those who look later.
    assert list(world.json("s1/journal/000001.json")["attempted"]) == ["1-create"]


class BeginsAgainFirst(WrapperStore):
    """Another run of the id begins again, and completes, right before this one's delete."""

    def __init__(self, world, kind):
        super().__init__(world.store)
        self.world, self.kind = world, kind

    def _delete(self, key):
        if self.world.store is self and key == "s1/planned-writeback.json":
            self.world.store = self.wrapped
            assert self.world.run(self.kind).status is RunStatus.IN_PROGRESS
        super()._delete(key)


@pytest.mark.parametrize("kind", ["create", "lookup", "mail"])
def test_two_runs_that_begin_again_send_once(kind):
    world = World()
    died_before_its_plan(world)
    world.store = BeginsAgainFirst(world, kind)
    assert world.run(kind).ok
    assert world.effects_of(f"1-{kind}") == 1
    assert world.resume().ok


def test_a_short_wait_that_is_asked_for_grows_as_well():
    class Busy(RemoteAdapter):
        def emit(self, operation):
            self.remote.requests.append(operation.id)
            raise TransientError("429", applied=Applied.NO, retry_after=1)

    world = World(ONCE)
    world.adapter = Busy(world.remote)
    world.run("create")
    for _ in range(24 * 60):
        world.clock.advance(60)
        world.resume()
    assert len(world.remote.requests) < 40


def test_an_unblocked_session_may_be_old():
    world = World(RunPolicy(attempts=1, clock_skew=0, max_age=3600))
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    world.run("create")
    world.clock.advance(3601)
    assert world.resume().block_reason is BlockReason.GAVE_UP
    unblock_session("s1", store=world.store, reason="it is up", clock=world.clock)
    assert world.resume().ok


def test_a_repeat_of_an_abandoned_session_leaves_no_marker():
    world = World(ONCE)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    world.run("create")
    abandon_session("s1", store=world.store, reason="x", clock=world.clock)
    assert world.run("create").status is RunStatus.ABANDONED
    assert not [name for name in world.names() if name.startswith(".")]


def test_a_process_that_is_hidden_is_not_dead(monkeypatch):
    """Under hidepid, /proc has no entry for processes of other users."""
    mine = this_process()
    if mine is None:
        pytest.skip("this system does not tell")

    def hidden(pid):
        raise FileNotFoundError(pid)

    monkeypatch.setattr(liveness, "_stat", hidden)
    assert not is_dead(mine)
    with subprocess.Popen([sys.executable, "-c", ""]) as other:
        pass
    assert is_dead(mine.model_copy(update={"pid": other.pid}))


@pytest.mark.parametrize("reason", ["", "  "])
@pytest.mark.parametrize("name", ["take_over", "now"])
def test_a_wait_is_not_cut_short_without_a_reason(world, name, reason):
    world.run("create")
    with pytest.raises(InvalidInput, match=f"^{name}: say why"):
        world.resume(**{name: reason})
