import threading

import pytest

from tests.support.remotes import Meets, RemoteAdapter, Text, operations
from writeahead import PlannedOperation, Receipt, RunPolicy, emits, resume_session, write_back
from writeahead.errors import (
    AlreadyExists,
    CorruptArtifact,
    InvalidInput,
    PlanConflict,
    ResumeError,
)
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.encoding import digest_of
from writeahead.protocol.unblocking import unblock_session
from writeahead.testing import FaultyStore, ManualClock, StoreFault


def test_a_run_without_trouble_leaves_plan_journal_and_final(world):
    report = world.run("create", "update", "upsert")
    assert report.status is RunStatus.COMPLETED
    assert report.emitted == ("1-create", "2-update", "3-upsert")
    assert world.remote.requests == ["1-create", "2-update", "3-upsert"]
    assert world.names() == [
        "s1/journal/000001.json",
        "s1/journal/000002.json",
        "s1/planned-writeback.json",
        "s1/writeback.json",
    ]
    plan, final = world.json("s1/planned-writeback.json"), world.json("s1/writeback.json")
    assert final["plan_digest"] == plan["digest"] == digest_of(plan["operations"])
    assert [operation["receipt"]["remote_id"] for operation in final["operations"]] == world.remote.effects


def test_waits_are_1_2_4_and_then_the_budget_is_gone(world):
    world.remote.script["2-create"] = [Meets.UNAVAILABLE] * 4
    report = world.run("create", "create", "create")
    assert report.status is RunStatus.RESUME_NEEDED
    assert (report.operation, report.emitted) == ("2-create", ("1-create",))
    assert world.clock.slept == [1, 2, 4]
    assert world.remote.requests == ["1-create"] + ["2-create"] * 4
    assert ".open/s1" in world.names()
    assert "s1/writeback.json" not in world.names()


def test_a_resume_sends_only_what_is_missing(world):
    world.remote.script["2-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create", "create", "create")
    world.remote.requests.clear()
    report = world.resume()
    assert report.status is RunStatus.COMPLETED
    assert world.remote.requests == list(report.emitted) == ["2-create", "3-create"]
    assert ".open/s1" not in world.names()
    again = world.resume()
    assert again.status is RunStatus.NO_RESUME_NEEDED
    assert world.remote.requests == ["2-create", "3-create"]


def test_retry_after_is_a_floor_that_parks_the_session(world):
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    report = world.run("create")
    assert report.status is RunStatus.RESUME_NEEDED
    assert (report.not_before - world.clock.now()).total_seconds() == pytest.approx(3600, abs=1)
    assert world.clock.slept == []
    world.remote.requests.clear()
    assert world.resume().status is RunStatus.RESUME_NEEDED
    assert world.remote.requests == []
    world.clock.elapsed += 3601
    assert world.resume().status is RunStatus.COMPLETED


def test_the_limit_on_the_whole_run_counts_over_all_operations(world):
    world.policy = RunPolicy(run_limit=10)
    for n in range(1, 6):
        world.remote.script[f"{n}-create"] = [Meets.UNAVAILABLE] * 2
    report = world.run(*["create"] * 5)
    assert report.status is RunStatus.RESUME_NEEDED
    assert world.clock.elapsed < 10


@pytest.mark.parametrize("kind", ["create", "upsert", "update"])
def test_provable_operations_survive_a_lost_reply(world, kind):
    world.remote.script[f"1-{kind}"] = [Meets.LOST_REPLY]
    report = world.run(kind)
    assert report.status is RunStatus.COMPLETED
    assert report.receipts[f"1-{kind}"].outcome == "already_applied"
    assert world.effects_of(f"1-{kind}") == 1


@pytest.mark.parametrize("meets", [Meets.LOST_REPLY, Meets.LOST_REQUEST])
def test_a_lookup_waits_for_the_request_lifetime_then_searches(world, meets):
    world.remote.script["1-lookup"] = [meets]
    report = world.run("lookup")
    assert report.status is RunStatus.COMPLETED
    assert world.clock.elapsed >= world.adapter.request_lifetime
    assert world.remote.searches == ["1-lookup"]
    assert world.effects_of("1-lookup") == 1


def test_a_lookup_that_cannot_wait_is_parked(world):
    world.policy = RunPolicy(run_limit=30)
    world.remote.script["1-lookup"] = [Meets.LOST_REPLY]
    report = world.run("lookup")
    assert report.status is RunStatus.RESUME_NEEDED
    assert report.not_before is not None
    world.clock.elapsed += 70
    assert world.resume().status is RunStatus.COMPLETED
    assert world.remote.requests == ["1-lookup"]
    assert world.effects_of("1-lookup") == 1


@pytest.mark.parametrize("meets", [Meets.LOST_REPLY, Meets.LOST_REQUEST])
def test_an_unprovable_operation_is_never_sent_twice(world, meets):
    world.remote.script["1-mail"] = [meets]
    report = world.run("mail", "create")
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.OUTCOME_UNKNOWN)
    assert world.resume().status is RunStatus.BLOCKED
    assert world.remote.requests == ["1-mail"]
    assert world.names()[0] == ".blocked/s1"
    assert ".open/s1" not in world.names()


def test_an_unprovable_one_is_sent_again_after_a_sure_failure(world):
    world.remote.script["1-mail"] = [Meets.UNAVAILABLE]
    assert world.run("mail").status is RunStatus.COMPLETED
    assert world.effects_of("1-mail") == 1
    events = [world.json(f"s1/journal/00000{number}.json")["event"] for number in (1, 2, 3)]
    assert events == ["sending", "waiting", "sending"]


def test_each_attempt_at_an_unprovable_operation_is_fenced(world):
    world.remote.script["1-mail"] = [Meets.UNAVAILABLE]
    clock_sleep = world.clock.sleep

    def lose_the_session_while_waiting(seconds):
        world.store.put("s1/journal/000003.json", b"another owner's", if_absent=True)
        clock_sleep(seconds)

    world.clock.sleep = lose_the_session_while_waiting
    assert world.run("mail").status is RunStatus.IN_PROGRESS
    assert world.remote.requests == ["1-mail"]
    assert world.effects_of("1-mail") == 0


def test_sure_failures_leave_an_unprovable_operation_resumable(world):
    world.remote.script["1-mail"] = [Meets.UNAVAILABLE] * 4
    assert world.run("mail").status is RunStatus.RESUME_NEEDED
    assert world.resume().status is RunStatus.COMPLETED
    assert world.effects_of("1-mail") == 1


def test_the_announcement_precedes_the_unprovable_request(world):
    seen = []
    emit = world.adapter.emit_mail
    world.adapter.emit_mail = lambda payload, operation: (
        seen.append(world.names()) or emit(payload, operation)
    )
    world.run("mail")
    assert "s1/journal/000001.json" in seen[0]


def test_a_person_decides_that_it_was_applied(world):
    world.remote.script["1-mail"] = [Meets.LOST_REPLY]
    world.run("mail", "create")
    with pytest.raises(InvalidInput, match="--assume applied"):
        unblock_session("s1", store=world.store, reason="asked", clock=world.clock)
    unblock_session("s1", store=world.store, reason="asked", assume={"1-mail": "applied"}, clock=world.clock)
    report = world.resume()
    assert report.status is RunStatus.COMPLETED
    assert report.receipts["1-mail"].outcome == "assumed"
    assert world.remote.requests == ["1-mail", "2-create"]
    assert not [key for key in world.names() if key.startswith(".")]


def test_a_person_decides_that_it_was_not_applied(world):
    world.remote.script["1-mail"] = [Meets.LOST_REQUEST]
    world.run("mail")
    unblock_session(
        "s1", store=world.store, reason="asked", assume={"1-mail": "not-applied"}, clock=world.clock
    )
    assert world.resume().status is RunStatus.COMPLETED
    assert world.effects_of("1-mail") == 1


@pytest.mark.parametrize(
    ("meets", "reason"),
    [(Meets.REJECTED, BlockReason.REJECTED), (Meets.CONFLICT, BlockReason.CONFLICT_DETECTED)],
)
def test_what_another_attempt_cannot_mend_blocks(world, meets, reason):
    world.remote.script["2-update"] = [meets]
    report = world.run("create", "update", "create")
    assert (report.status, report.block_reason, report.operation) == (RunStatus.BLOCKED, reason, "2-update")
    assert world.remote.requests == ["1-create", "2-update"]
    assert [key for key in world.names() if key.startswith(".")] == [".blocked/s1"]
    unblock_session("s1", store=world.store, reason="mended", clock=world.clock)
    assert world.resume().status is RunStatus.COMPLETED


def test_only_a_blocked_session_can_be_unblocked(world):
    world.run("create")
    with pytest.raises(InvalidInput, match="not blocked"):
        unblock_session("s1", store=world.store, reason="?", clock=world.clock)


def test_who_is_not_there_can_not_be_unblocked(world):
    with pytest.raises(ResumeError, match="session nosuch: neither planned-writeback"):
        unblock_session("nosuch", store=world.store, reason="?", clock=world.clock)
    world.store.put(".open/s1", b"")
    with pytest.raises(ResumeError, match="neither"):
        unblock_session("s1", store=world.store, reason="?", clock=world.clock)


def test_an_adapter_bug_is_journaled_without_its_message(world):
    world.remote.script["2-create"] = [Meets.BUG]
    with pytest.raises(RuntimeError):
        world.run("create", "create")
    assert b"planted-secret" not in b"".join(world.store.get(key).data for key in world.names())
    assert world.json("s1/journal/000002.json")["error"] == "the adapter raised RuntimeError"
    assert world.resume().status is RunStatus.COMPLETED


@pytest.mark.parametrize("meets", [Meets.BUG, Meets.INTERRUPT])
def test_an_interrupted_unprovable_request_blocks(world, meets):
    world.remote.script["1-mail"] = [meets]
    with pytest.raises((RuntimeError, KeyboardInterrupt)):
        world.run("mail")
    assert world.resume().block_reason is BlockReason.OUTCOME_UNKNOWN


def test_a_set_stop_event_ends_the_run_before_the_next_request(world):
    world.stop = threading.Event()
    emit = world.adapter.emit_create

    def stop_after_the_first(payload, operation):
        world.stop.set()
        return emit(payload, operation)

    world.adapter.emit_create = stop_after_the_first
    report = world.run("create", "create")
    assert report.status is RunStatus.RESUME_NEEDED
    assert report.emitted == ("1-create",)
    world.stop, world.adapter.emit_create = None, emit
    assert world.resume().status is RunStatus.COMPLETED


def test_a_live_owner_keeps_others_out_and_a_silent_one_does_not(world):
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]

    class Killed(BaseException):
        pass

    def die(seconds):
        raise Killed

    dying = ManualClock()
    dying.sleep = die
    store = world.store
    put = store._put

    def put_until_killed(key, data, *, if_absent):
        if b'"ended"' in data:
            raise Killed
        return put(key, data, if_absent=if_absent)

    store._put = put_until_killed
    with pytest.raises(Killed):
        write_back(operations("create"), session_id="s1", store=store, adapter=world.adapter, clock=dying)
    store._put = put
    report = world.resume()
    assert report.status is RunStatus.IN_PROGRESS
    assert report.not_before is not None
    world.clock.elapsed += 606
    assert world.resume().status is RunStatus.COMPLETED
    assert world.effects_of("1-create") == 1


def test_the_owner_stops_when_its_lease_is_nearly_over(world):
    world.policy = RunPolicy(lease=5, wait_initial=4, run_limit=1000)
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 3
    report = world.run("create")
    assert report.status is RunStatus.RESUME_NEEDED
    assert world.clock.elapsed <= 5


def test_an_owner_that_was_taken_over_stops_at_once(world):
    emit = world.adapter.emit_create

    def lose_the_session(payload, operation):
        world.store.put("s1/journal/000001.json", b"somebody else's", if_absent=True)
        return emit(payload, operation)

    world.adapter.emit_create = lose_the_session
    report = world.run("create", "create")
    assert report.status is RunStatus.IN_PROGRESS
    assert world.remote.requests == ["1-create"]


def test_the_same_session_again_behaves_as_a_resume(world):
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    assert world.run("create").status is RunStatus.RESUME_NEEDED
    assert world.run("create").status is RunStatus.COMPLETED
    assert world.run("create").status is RunStatus.NO_RESUME_NEEDED
    assert world.effects_of("1-create") == 1
    assert not [key for key in world.names() if key.startswith(".")]


@pytest.mark.parametrize("completed", [True, False])
def test_the_same_session_with_other_operations_is_refused(world, completed):
    if not completed:
        world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create")
    before = {key: world.store.get(key).data for key in world.names()}
    with pytest.raises(PlanConflict, match="other operations"):
        world.run("create", "create")
    assert {key: world.store.get(key).data for key in world.names()} == before


def test_a_dry_run_emits_nothing_and_plans_the_same(world):
    report = world.run("create", "mail", dry_run=True)
    assert report.status is RunStatus.PLANNED
    assert world.remote.requests == []
    assert world.names() == [".dry-run/s1/planned-writeback.json"]
    with pytest.raises(ResumeError):
        world.resume()
    world.run("create", "mail")
    dry, real = world.json(".dry-run/s1/planned-writeback.json"), world.json("s1/planned-writeback.json")
    assert dry["operations"] == real["operations"]
    assert dry["digest"] == real["digest"]


def test_nothing_to_resume_from_names_both_artifacts(world):
    with pytest.raises(
        ResumeError, match=r"session nobody: neither planned-writeback\.json nor writeback\.json"
    ):
        world.resume("nobody")


def test_the_final_dominates_whatever_else_lies_there(world):
    world.run("create", "create")
    world.store.put("s1/planned-writeback.json", b"not a plan")
    world.store.put("s1/journal/000009.json", b"not an entry")
    assert world.resume().status is RunStatus.NO_RESUME_NEEDED


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[]", b"null"])
@pytest.mark.parametrize("name", ["planned-writeback.json", "journal/000002.json"])
def test_a_damaged_artifact_is_named_and_left_as_it_is(world, name, damage):
    world.remote.script["2-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create", "create")
    world.store.put(f"s1/{name}", damage)
    world.remote.requests.clear()
    with pytest.raises(CorruptArtifact, match=name):
        world.resume()
    assert world.store.get(f"s1/{name}").data == damage
    assert world.remote.requests == []


def test_a_plan_is_carried_out_only_by_the_adapter_that_made_it(world):
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create")

    class Other(RemoteAdapter):
        name = "other"

    with pytest.raises(InvalidInput, match="'remote'"):
        resume_session("s1", store=world.store, adapter=Other(world.remote))


def test_a_store_failure_after_the_plan_is_resumable(world):
    world.store = FaultyStore(world.store)
    world.store.fail("create", "*journal*", StoreFault.disk_full(), times=None)
    report = world.run("create", "create")
    assert report.status is RunStatus.RESUME_NEEDED
    assert "No space left" in report.error
    assert report.not_before is not None
    world.store.heal()
    world.clock.elapsed += 700
    assert world.resume().status is RunStatus.COMPLETED
    assert world.effects_of("1-create") == world.effects_of("2-create") == 1


def test_a_final_that_a_zombie_wrote_is_success(world):
    emit = world.adapter.emit_create

    def zombie_finishes_first(payload, operation):
        receipt = emit(payload, operation)
        world.adapter.emit_create = emit
        world.clock.elapsed += 1000
        assert world.resume().status is RunStatus.COMPLETED
        world.clock.elapsed -= 1000
        return receipt

    world.adapter.emit_create = zombie_finishes_first
    assert world.run("create").status is RunStatus.COMPLETED
    assert world.effects_of("1-create") == 1


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([], "no operations"),
        ([{"kind": "create", "payload": {"text": "x"}, "id": "a"}] * 2, "'a'"),
        ([{"kind": "nothing"}], "no kind 'nothing'"),
        ([{"kind": "Bad Kind"}], "kind"),
        ([{"kind": "create", "payload": {"wrong": 1}}], "text"),
        ([{"kind": "create", "payload": [1]}], "payload"),
        ([{"payload": {}}], "kind"),
        ([{"kind": "create", "payload": {"text": "x"}, "extra": 1}], "extra"),
    ],
)
def test_bad_operations_are_refused_before_anything_is_written(world, given, names):
    with pytest.raises(InvalidInput, match=names):
        write_back(given, session_id="s1", store=world.store, adapter=world.adapter)
    assert world.names() == []
    assert world.remote.requests == []


@pytest.mark.parametrize("session_id", ["", "a/b", "..", ".x", "-x", "x" * 129, "a\n", "é", "a b", None, 5])
def test_bad_session_ids_are_refused(world, session_id):
    with pytest.raises(InvalidInput, match="session id"):
        world.run("create", session_id=session_id)
    with pytest.raises(InvalidInput, match="session id"):
        world.resume(session_id)
    assert world.names() == []


def test_already_exists_of_another_plan_never_counts_as_ours(world):
    emit = world.adapter.emit_create

    def foreign_final(payload, operation):
        world.store.put("s1/writeback.json", b"{}", if_absent=True)
        return emit(payload, operation)

    world.adapter.emit_create = foreign_final
    report = world.run("create")
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert report.error.startswith("s1/writeback.json is a file of another program")
    assert list(world.json("s1/journal/000001.json")["receipts"]) == ["1-create"]
    assert world.store.get("s1/writeback.json").data == b"{}"
    with pytest.raises(AlreadyExists):
        world.store.put("s1/writeback.json", b"other", if_absent=True)


def test_the_final_of_another_plan_is_named_and_left_as_it_is(world):
    world.run("update", session_id="s1")
    (other,) = [world.store.get("s1/writeback.json").data]
    for name in world.names():
        world.store.delete(name)
    emit = world.adapter.emit_create

    def foreign_final(payload, operation):
        world.store.put("s1/writeback.json", other)
        return emit(payload, operation)

    world.adapter.emit_create = foreign_final
    with pytest.raises(CorruptArtifact, match=r"^s1/writeback\.json: it is the end of another plan"):
        world.run("create")
    assert world.store.get("s1/writeback.json").data == other
    # Its receipt is not lost for it.
    assert list(world.json("s1/journal/000001.json")["receipts"]) == ["1-create"]


def test_a_session_that_is_complete_tells_what_it_came_to(world):
    world.run("create", "update")
    world.store = FaultyStore(world.store)
    world.store.fail("delete", ".open/*", StoreFault.unavailable())
    report = world.resume()
    assert (report.session_id, report.status) == ("s1", RunStatus.NO_RESUME_NEEDED)
    assert (
        [operation.id for operation in report.operations] == list(report.receipts) == ["1-create", "2-update"]
    )
    assert "a marker stays behind" in report.warnings[0]


def test_a_malformed_operation_is_named_without_its_values(world):
    given = [*operations("create"), {"kind": "create", "payload": "planted", "extra": "planted"}]
    with pytest.raises(InvalidInput, match=r"^operation 2: payload: .*; extra: ") as caught:
        write_back(given, session_id="s1", store=world.store, adapter=world.adapter)
    assert "planted" not in str(caught.value)
    with pytest.raises(InvalidInput, match=r"^operation 1: it: "):
        write_back([5], session_id="s1", store=world.store, adapter=world.adapter)


def test_an_adapter_that_plans_something_else_is_named(world):
    plan = world.adapter.plan
    world.adapter.plan = lambda keyed: plan(keyed)[:-1]
    with pytest.raises(
        InvalidInput, match=r"^adapter 'remote' planned other operations than it was asked to"
    ):
        world.run("create", "update")
    assert world.names() == []


def test_an_undecided_end_that_can_t_be_journaled_is_left(world):
    store = world.store = FaultyStore(world.store)
    store.fail("create", "s1/journal/000002.json", StoreFault.unavailable(), times=None)
    world.remote.script["1-mail"] = [Meets.LOST_REPLY]
    world.run("mail")
    world.clock.elapsed += 3600
    report = world.resume()
    assert (report.status, report.operation) == (RunStatus.RESUME_NEEDED, "1-mail")
    assert "come back later" in report.error
    assert world.remote.requests == ["1-mail"]


def test_a_session_that_has_only_a_plan_is_not_blocked(world):
    world.store = FaultyStore(world.store)
    world.store.fail("create", "*journal*", StoreFault.unavailable(), times=None)
    world.run("create", "create")
    with pytest.raises(InvalidInput, match="s1 is not blocked"):
        unblock_session("s1", store=world.store, reason="x", clock=world.clock)


class Relaxed(RemoteAdapter):
    @emits("upsert")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        raise AssertionError(operation.id)


def test_a_plan_of_another_replay_class_is_not_carried_out(run, store, remote, clock):
    remote.script["1-mail"] = [Meets.UNAVAILABLE] * 4
    run("mail")
    with pytest.raises(InvalidInput, match="unprovable"):
        resume_session("s1", store=store, adapter=Relaxed(remote), clock=clock)
