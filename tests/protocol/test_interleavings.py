"""The real runner: two runs through every schedule, three through a random sample.

Figures and the seed are printed at the end. ``WRITEAHEAD_DEPTH=2`` adds more sessions, a request
that goes wrong at every place of every schedule, and more samples; ``WRITEAHEAD_SEED`` repeats a
sample.
"""

import os
import threading
from collections.abc import Mapping

import pytest

from tests.support.actors import Run, Tools
from tests.support.exploring import explore, steered
from tests.support.planted_bugs import (
    with_a_takeover_that_forgets,
    with_an_abandoned_session_resumed,
    without_suspicion,
)
from tests.support.recoveries import resume
from tests.support.schedules import Scenario, World
from tests.support.stepping import (
    KEY_VALID_FOR,
    PAST_LEASE,
    PLANNED,
    POLICY,
    SESSION,
    SteppedClock,
    SteppingAdapter,
    Violation,
)
from writeahead.errors import Fenced, InvalidInput, NotFound, ResumeError
from writeahead.model import Receipt, RunPolicy, RunReport, RunStatus
from writeahead.protocol import emission, execution, journal, resuming, runner, session, settling, unblocking
from writeahead.protocol.encoding import encode_model
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.runner import write_back
from writeahead.protocol.schema import AbandonedPlan, Event
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import abandon_session, unblock_session

EVERY_OUTCOME = ("lost", "late", "not applied", "refused", "conflict")
DEPTH = int(os.environ.get("WRITEAHEAD_DEPTH", "1"))


@pytest.fixture(autouse=True)
def owners_are_named_by_their_thread(monkeypatch):
    for module in (runner, journal):
        monkeypatch.setattr(module, "new_owner", lambda: threading.current_thread().name)


def write(tools: Tools, *kinds: str, atomic: bool = False, policy: RunPolicy = POLICY) -> RunReport:
    operations = [{"kind": kind, "payload": {"text": "x"}} for kind in kinds]
    return write_back(
        operations,
        session_id=SESSION,
        store=tools.store,
        adapter=tools.adapter,
        policy=policy,
        clock=tools.clock,
        atomic=atomic,
    )


def ended(*kinds: str, atomic: bool = False):
    """A session whose first run met nothing but 503, so that all its operations remain."""

    def prepare(tools: Tools) -> None:
        busy = SteppingAdapter(tools.adapter.remote, lambda _: "not applied", tools.adapter.time)
        assert (
            write(Tools(tools.store, busy, tools.clock), *kinds, atomic=atomic).status
            is RunStatus.RESUME_NEEDED
        )

    return prepare


def nothing(tools: Tools) -> None:
    pass


def two_resumes(*kinds: str, **more: object) -> Scenario:
    return Scenario(ended(*kinds), {"A": resume, "B": resume}, **{"faults": min(1, DEPTH - 1), **more})


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kinds",
    [("create", "mail"), ("mail", "post")]
    + ([("post", "edit"), ("create", "upsert", "edit")] if DEPTH > 1 else []),
    ids="-".join,
)
def test_two_resumes_keep_every_promise_whatever_the_schedule(kinds):
    coverage = explore(two_resumes(*kinds))
    print(coverage)
    assert coverage.states > 500, "the schedules have lost their choices"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kinds",
    [("create", "mail", "upsert")]
    + ([("create", "upsert", "post"), ("mail", "mail"), ("row", "row")] if DEPTH > 1 else []),
    ids="-".join,
)
def test_two_resumes_whose_receipts_may_wait_keep_every_promise(kinds):
    waits = resume_with(policy=POLICY.model_copy(update={"journal_interval": 3600.0}))
    coverage = explore(Scenario(ended(*kinds), {"A": waits, "B": waits}, faults=min(1, DEPTH - 1)))
    print(coverage)
    assert coverage.states > 300, "the schedules have lost their choices"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "outcomes", "jumps"),
    [("mail", ("lost", "late"), 1), ("post", ("late",), 0)]
    + ([(kind, EVERY_OUTCOME, 1) for kind in ("mail", "post", "edit")] if DEPTH > 1 else []),
)
def test_two_resumes_keep_every_promise_with_failed_requests(kind, outcomes, jumps):
    print(explore(two_resumes(kind, faults=1, outcomes=outcomes, jumps=jumps)))


@pytest.mark.timeout(3600)
def test_two_resumes_of_a_transaction_keep_every_promise():
    runs = {"A": resume, "B": resume}
    outcomes = EVERY_OUTCOME if DEPTH > 1 else ("lost", "late")
    print(explore(Scenario(ended("create", "edit", atomic=True), runs, faults=1, outcomes=outcomes)))


@pytest.mark.timeout(3600)
def test_a_run_and_its_repeat_keep_every_promise():
    def run(tools: Tools) -> RunReport:
        return write(tools, "mail")

    print(explore(Scenario(nothing, {"A": run, "B": run}, faults=min(1, DEPTH - 1))))


def unblock(tools: Tools) -> RunReport | None:
    try:
        return unblock_session(SESSION, store=tools.store, reason="corrected", clock=tools.clock)
    except (InvalidInput, Fenced):
        return None  # it is not blocked yet, or somebody was faster


def refused_then_unblocked(**more: object) -> Scenario:
    """A resume that blocks the session, slowly; meanwhile an operator and another resume."""
    runs = {"A": resume, "person": unblock, "B": resume}
    return Scenario(ended("edit"), runs, **{"faults": 1, "jumps": 0, "outcomes": ("refused",), **more})


@pytest.mark.timeout(3600)
def test_an_unblock_during_the_blocking_run_loses_no_session():
    print(explore(refused_then_unblocked(jumps=min(1, DEPTH - 1))))


@pytest.mark.timeout(3600)
def test_an_unblock_that_removes_the_marker_hides_the_session(monkeypatch):
    honest = unblock_session

    def hasty(session_id, *, store, **more):
        report = honest(session_id, store=store, **more)
        store.delete(f".blocked/{session_id}")
        return report

    monkeypatch.setitem(globals(), "unblock_session", hasty)
    with pytest.raises(Violation, match="HIDDEN"):
        explore(refused_then_unblocked())


# -- a new run in a tombstone's place
# --------------------------------------------------------------------------------------------------


def tombstoned(tools: Tools) -> None:
    """A run died before its plan; a sweep put a tombstone, and left the marker."""
    tools.store.put(f".open/{SESSION}", b"")
    tombstone = AbandonedPlan(session_id=SESSION, abandoned_at=tools.clock.now())
    tools.store.put(PLANNED, encode_model(tombstone), if_absent=True)


def begin(*kinds: str) -> Run:
    """A run that may find the session's plan going and coming: it is to be run again then."""

    def run(tools: Tools) -> RunReport | None:
        try:
            return write(tools, *kinds)
        except (ResumeError, NotFound):
            return None

    return run


def sweep_all(tools: Tools) -> None:
    list(sweep(tools.store, tools.adapter, policy=POLICY, clock=tools.clock))


def replaced(runs: Mapping[str, Run], prepare: Run = tombstoned, **more: object) -> Scenario:
    return Scenario(prepare, runs, **{"faults": 0, "crashes": 0, "jumps": 0, "replaces": True, **more})


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["mail", "post"])
def test_a_new_run_and_a_slow_sweep_of_a_tombstone_keep_every_promise(kind):
    more = {"faults": 1, "outcomes": ("lost",), "jumps": 1} if DEPTH > 1 else {}
    coverage = explore(replaced({"A": begin(kind), "S": sweep_all}, **more))
    print(coverage)
    assert coverage.states > 100, "the schedules have lost their choices"


@pytest.mark.timeout(3600)
def test_a_slow_first_run_and_a_new_one_have_one_plan():
    """The first run is slow before its plan; a sweep takes it for dead meanwhile."""
    runs = {"W": begin("edit"), "S": sweep_all, "A": begin("edit")}
    with steered(replaced(runs, nothing)) as world:
        world.steer("W", "create")
        world.do(("jump",))
        world.steer("S", "delete")
        world.steer("A", "create")  # refused, once: by the tombstone
        world.steer("A", "list")
        world.steer("A", f"create {SESSION}/journal")  # its claim of the tombstone's place
        world.steer("A", f"create {SESSION}/planned")
        world.steer("W", "over")  # its plan lands, and its first entry is refused
        world.steer("A", "over")
        world.steer("S", "over")
        statuses = [world.actors[name].report.status for name in "WA"]
        assert statuses == [RunStatus.IN_PROGRESS, RunStatus.COMPLETED]
        assert world.actors["A"].report.emitted == ("1-edit",)
        world.check_recovery()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["mail", "post"])
def test_two_new_runs_in_a_tombstones_place_keep_every_promise(kind):
    print(explore(replaced({"A": begin(kind), "B": begin(kind)})))


def with_open_as_the_new_runs_marker(monkeypatch):
    monkeypatch.setattr(runner, "blocked_key", runner.open_key)


def with_a_sweep_that_takes_all_markers(monkeypatch):
    honest = execution.remove_markers
    monkeypatch.setattr(
        settling, "remove_markers", lambda store, name, was_blocked: honest(store, name, was_blocked=True)
    )


@pytest.mark.parametrize("plant", [with_open_as_the_new_runs_marker, with_a_sweep_that_takes_all_markers])
def test_a_marker_that_a_slow_sweep_takes_hides_the_session(plant, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(Violation, match="HIDDEN"):
        explore(replaced({"A": begin("mail"), "S": sweep_all}))


# -- an operator who abandons a session, or takes it over early
# --------------------------------------------------------------------------------------------------


def abandon(tools: Tools) -> RunReport | None:
    try:
        return abandon_session(SESSION, store=tools.store, reason="done by hand", clock=tools.clock)
    except (InvalidInput, Fenced, ResumeError):
        return None  # it is completed, another was faster, or there is no plan yet


def resume_with(**more: object) -> Run:
    return lambda tools: resume_session(
        SESSION, store=tools.store, adapter=tools.adapter, clock=tools.clock, **{"policy": POLICY, **more}
    )


def begin_with(*kinds: str, **policy: object) -> Run:
    return lambda tools: write(tools, *kinds, policy=POLICY.model_copy(update=policy))


def if_planned(run: Run) -> Run:
    def careful(tools: Tools) -> RunReport | None:
        try:
            return run(tools)
        except ResumeError:
            return None  # there is no plan yet

    return careful


take_over = resume_with(take_over="it hangs")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kinds", [("mail",), ("create", "mail"), ("post",)], ids="-".join)
def test_abandoning_a_session_of_a_live_owner_keeps_every_promise(kinds):
    runs = {"A": resume, "operator": abandon}
    faults = {"faults": 1, "outcomes": EVERY_OUTCOME if DEPTH > 1 else ("lost", "refused")}
    coverage = explore(Scenario(ended(*kinds), runs, jumps=min(1, DEPTH - 1), **faults))
    print(coverage)
    assert coverage.states > 100, "the schedules have lost their choices"


@pytest.mark.timeout(3600)
def test_abandoning_while_another_resumes_keeps_every_promise():
    runs = {"A": begin("mail"), "operator": abandon, "B": if_planned(resume)}
    print(explore(Scenario(nothing, runs, faults=0, jumps=min(1, DEPTH - 1))))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kinds", [("mail",), ("post",), ("row", "row")], ids="-".join)
def test_an_early_takeover_keeps_every_promise(kinds):
    runs = {"A": resume, "B": take_over}
    outcomes = ("lost", "late") if DEPTH > 1 else ("late",)
    faults = 1 if DEPTH > 1 or kinds == ("mail",) else 0
    print(explore(Scenario(ended(*kinds), runs, faults=faults, outcomes=outcomes)))


def with_an_abandonment_beside_the_journal(monkeypatch):
    class Beside(journal.Journal):
        def append(self, event: Event, **more: object) -> None:
            if event is not Event.ABANDONED:
                super().append(event, **more)

    monkeypatch.setattr(unblocking, "Journal", Beside)


def with_an_abandonment_that_forgets(monkeypatch):
    honest = journal.Journal.of.__func__

    def of(cls, *args, lease, **more):
        new = honest(cls, *args, lease=lease, **more)
        if not lease:
            new.attempted.clear()
        return new

    monkeypatch.setattr(journal.Journal, "of", classmethod(of))


@pytest.mark.parametrize(
    ("plant", "promise"),
    [
        (with_an_abandonment_beside_the_journal, "HIDDEN"),
        (with_an_abandonment_that_forgets, "SENT_AFTER_END"),
        (with_an_abandoned_session_resumed, "RESURRECTED"),
    ],
)
def test_a_wrong_abandonment_is_found(plant, promise, monkeypatch):
    scenario = Scenario(ended("mail"), {"A": resume, "operator": abandon, "B": resume}, faults=0, jumps=0)
    scenario.start()
    plant(monkeypatch)
    with pytest.raises(Violation, match=promise):
        explore(scenario)


def with_a_takeover_that_does_not_wait_for_the_lease(monkeypatch):
    honest = resuming._suspect_silent_owner

    def suspect(found, new, context):
        honest(found, new, context)
        new.attempted.update(dict.fromkeys(new.attempted, context.clock.now()))

    monkeypatch.setattr(resuming, "_suspect_silent_owner", suspect)


@pytest.mark.parametrize(
    ("plant", "kinds", "promise"),
    [
        (with_a_takeover_that_forgets, ("mail",), "DOUBLED"),
        (with_a_takeover_that_does_not_wait_for_the_lease, ("create", "post"), "DOUBLED"),
    ],
)
def test_a_wrong_takeover_is_found(plant, kinds, promise, monkeypatch):
    runs = {"A": begin_with(*kinds, journal_interval=3600.0, lease=900.0), "B": if_planned(take_over)}
    scenario = Scenario(nothing, runs, faults=0, jumps=0)
    plant(monkeypatch)
    with pytest.raises(Violation, match=promise):
        explore(scenario)


# -- single schedules, of what no short exploration reaches
# --------------------------------------------------------------------------------------------------


def tombstoned_long_ago(tools: Tools) -> None:
    tombstoned(tools)
    tools.clock.sleep(2 * PAST_LEASE)


def test_a_plan_is_as_old_as_itself_not_as_the_tombstone_before_it():
    """A resume lists the tombstone, and then reads the plan in its place."""
    with steered(replaced({"A": begin("post"), "B": resume}, tombstoned_long_ago)) as world:
        world.steer("A", "delete")
        world.steer("B", "get")
        world.steer("A", "send")
        world.steer("B", "over")
        world.steer("A", "over")


@pytest.mark.parametrize("kinds", [("create", "post"), ("create", "row", "row")], ids="-".join)
def test_a_silent_owner_of_a_short_lease_hides_no_longer_one(kinds):
    """A is slow under a long lease; B takes it over, and dies; C takes over from B."""
    runs = {
        "A": begin_with(*kinds, lease=7200.0, journal_interval=3600.0),
        "B": resume_with(take_over="it hangs"),
        "C": resume,
    }
    with steered(Scenario(nothing, runs)) as world:
        world.steer("A", "send 1-create")
        world.steer("B", "send")
        world.do(("jump",))
        world.steer("C", "over")
        world.steer("A", "send 3-row")  # or over, where there is none


def test_a_failure_of_ones_own_hides_no_later_request_of_another():
    """A is slow under a long lease; B takes it over; B's request never lands; C follows."""
    runs = {
        "A": begin_with("create", "bill", lease=7200.0, journal_interval=3600.0),
        "B": resume_with(take_over="it hangs", policy=POLICY.model_copy(update={"attempts": 1})),
        "C": resume_with(now="it is up again"),
    }
    with steered(Scenario(nothing, runs)) as world:
        world.steer("A", "send 1-create")
        world.meet("B", "send 2-bill", "late")
        world.steer("B", "over")
        world.do(("jump",))
        world.do(("jump",))  # the remote has forgotten the key, had it ever seen it
        world.steer("C", "over")
        world.do(("jump",))
        world.do(("jump",))  # and it has forgotten C's
        world.steer("A", "over")


@pytest.mark.parametrize(
    "kinds",
    [
        ("row", "row"),
        ("post",),
    ],
    ids="-".join,
)
def test_a_clock_within_the_allowance_waits_for_late_requests(kinds):
    """A's first request is late, and the next run's clock is ahead."""
    runs = {"A": begin_with(*kinds, attempts=1), "B": resume_with(now="it is up again")}
    with steered(Scenario(nothing, runs, skews={"B": POLICY.clock_skew})) as world:
        world.meet("A", "send", "late")
        world.steer("A", "over")
        world.steer("B", "over" if kinds == ("post",) else f"send 2-{kinds[-1]}")
        world.steer("B", "over")
        if world.remote.late:
            world.do(("land", "0"))
            world.check()


def test_a_final_of_a_slow_owner_does_not_cut_a_repeat_of_its_upserts_short():
    """A is slow before its final; B takes over, and dies after it sent the first upsert."""
    runs = {"A": begin_with("row", "row", journal_interval=3600.0), "B": resume}
    with steered(Scenario(nothing, runs)) as world:
        world.steer("A", f"create {SESSION}/writeback.json")
        world.do(("jump",))
        world.steer("B", "send 1-row")
        world.steer("A", "over")
        world.meet("B", "send 1-row", "ok")


def test_a_key_is_not_sent_so_late_that_the_request_could_outlive_it():
    """A's reply is lost; B's repeat is on its way until the remote has forgotten the key."""
    runs = {"A": begin_with("charge", attempts=1), "B": resume_with(now="it is up again")}
    with steered(Scenario(nothing, runs)) as world:
        world.meet("A", "send", "lost")
        world.steer("A", "over")
        world._pass(KEY_VALID_FOR - 2 * POLICY.clock_skew - POLICY.lease / 10)
        world.meet("B", "send", "late")
        world._pass(KEY_VALID_FOR + 1)
        if world.remote.late:
            world.do(("land", "0"))
        world.check()


@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="no sweep removes .blocked/ of a tombstone",
)
def test_a_run_that_died_in_a_tombstones_place_leaves_no_marker():
    with steered(replaced({"A": begin("mail")}, tombstoned_long_ago)) as world:
        world.steer("A", "delete")
        world.do(("jump",))
        tools = Tools(
            world.store, SteppingAdapter(world.remote, lambda _: "ok", world.time), SteppedClock(world.time)
        )
        sweep_all(tools)
        sweep_all(tools)
        assert not [key for key in world.store.content if key.startswith(".")]


def test_a_new_key_needs_a_known_outcome_of_a_silent_owner():
    """A dies with a request on its way; B's is refused; an operator gives a new key."""
    runs = {"A": begin("create"), "B": resume}
    with steered(Scenario(nothing, runs)) as world:
        world.steer("A", "send")
        world.do(("jump",))
        world.meet("B", "send", "refused")
        world.steer("B", "over")
        with pytest.raises(InvalidInput, match="a new key could apply it twice"):
            unblock_session(
                SESSION,
                store=world.store,
                reason="again",
                new_keys=["1-create"],
                clock=SteppedClock(world.time),
            )


@pytest.mark.timeout(3600)
def test_three_runs_keep_every_promise_in_a_random_sample(chance):
    steps = 0
    samples = 100 if DEPTH == 1 else 2000 * DEPTH
    for sample in range(samples):
        kinds = chance.sample(["create", "upsert", "edit", "post", "mail"], k=3)
        scenario = Scenario(
            ended(*kinds), dict.fromkeys("ABC", resume), faults=2, crashes=2, jumps=chance.randint(1, 3)
        )
        world = World(scenario)
        try:
            while choices := world.choices():
                world.do(chance.choice(choices))
                world.check()
                steps += 1
            world.check_recovery()
        except Violation as violation:
            head = f"sample {sample}, {kinds}: {violation}"
            pytest.fail("\n    ".join([head, *world.log]))
        finally:
            world.end()
    print(f"{samples} schedules, {steps} steps")


# -- clocks
# --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("skew", [3600.0, -3600.0], ids=["an-hour-fast", "an-hour-slow"])
def test_a_clock_an_hour_off_doubles_nothing_unprovable(skew):
    print(explore(two_resumes("mail", skews={"B": skew})))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("skew", [POLICY.clock_skew, -POLICY.clock_skew], ids=["fast", "slow"])
def test_a_clock_within_the_allowance_doubles_no_lookup(skew):
    print(explore(two_resumes("post", skews={"B": skew})))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("leap", [3600.0, -3600.0][:DEPTH])
def test_a_clock_leap_of_an_hour_doubles_nothing_unprovable(leap):
    print(explore(two_resumes("mail", leaps={"B": leap})))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("leap", [POLICY.clock_skew, -POLICY.clock_skew][:DEPTH])
def test_a_clock_leap_within_the_allowance_doubles_no_lookup(leap):
    print(explore(two_resumes("post", leaps={"B": leap})))


def test_a_clock_leap_of_an_hour_can_double_lookups_only():
    """What docs/protocol.md says is assumed of clocks."""
    with pytest.raises(Violation, match="DOUBLED: 1-post"):
        explore(two_resumes("post", leaps={"B": 3600.0}, faults=1))


# -- planted bugs
# --------------------------------------------------------------------------------------------


def without_announcement(monkeypatch):
    monkeypatch.setattr(emission.Emission, "_announce", lambda self, unit: None)


def without_lease(monkeypatch):
    monkeypatch.setattr(session.StoredSession, "lease_ends", None)
    monkeypatch.setattr(journal.Journal, "lease_left", lambda self: 1e9)


def with_a_hasty_search(monkeypatch):
    monkeypatch.setattr(SteppingAdapter, "request_lifetime", -2 * POLICY.lease)


def with_a_final_artifact_before_the_last_request(monkeypatch):
    honest = emission.Emission.send

    def send(self, unit):
        if unit[-1] is self.journal.plan.operations[-1]:
            self.journal.confirm(unit[-1].id, Receipt(), self.clock.now(), 1)
        else:
            honest(self, unit)

    monkeypatch.setattr(emission.Emission, "send", send)


def with_the_marker_gone_before_the_final_artifact(monkeypatch):
    honest = execution.Execution._finish

    def finish(self):
        execution.remove_markers(self.journal.store, SESSION, was_blocked=True)
        return honest(self)

    monkeypatch.setattr(execution.Execution, "_finish", finish)


def with_the_plan_after_the_first_request(monkeypatch):
    honest = runner._begin

    def late(context, plan, data):
        context.adapter._send(plan.operations[0])
        return honest(context, plan, data)

    monkeypatch.setattr(runner, "_begin", late)


@pytest.mark.parametrize(
    ("plant", "kind", "promise"),
    [
        (without_announcement, "mail", "DOUBLED"),
        (without_suspicion, "post", "DOUBLED"),
        (without_lease, "post", "DOUBLED"),
        (with_a_hasty_search, "post", "DOUBLED"),
        (with_a_final_artifact_before_the_last_request, "edit", "FINAL_TOO_EARLY"),
        (with_the_marker_gone_before_the_final_artifact, "edit", "HIDDEN"),
    ],
)
def test_a_planted_bug_is_found(plant, kind, promise, monkeypatch):
    scenario = two_resumes(kind, faults=1)
    scenario.start()  # by sound code: the bug is in the resumes
    plant(monkeypatch)
    with pytest.raises(Violation, match=promise) as found:
        explore(scenario)
    print(found.value)


def test_a_plan_that_comes_after_the_first_request_is_found(monkeypatch):
    with_the_plan_after_the_first_request(monkeypatch)
    with pytest.raises(Violation, match="UNPLANNED_EFFECT"):
        explore(Scenario(nothing, {"A": lambda tools: write(tools, "mail")}))


@pytest.mark.parametrize(("kinds", "promise"), [(("mail",), "DOUBLED|REWRITTEN")])
def test_a_store_that_ignores_if_none_match_is_found(kinds, promise):
    with pytest.raises(Violation, match=promise):
        explore(two_resumes(*kinds, ignores_if_absent=True))


def test_a_pause_after_the_lease_check_can_double_lookups_only():
    """Only the remote's help could close this gap; the lease's margin bounds it."""
    with pytest.raises(Violation, match="DOUBLED: 1-post"):
        explore(two_resumes("post", pauses_in_send=True, jumps=2))
