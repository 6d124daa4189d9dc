"""The real runner: two runs through every schedule, three through a random sample.

Figures and the seed are printed at the end. ``WRITEAHEAD_DEPTH=2`` adds more sessions, a request
that goes wrong at every place of every schedule, and more samples; ``WRITEAHEAD_SEED`` repeats a
sample.
"""

import os
import threading

import pytest

from tests.support.stepping import (
    POLICY,
    SESSION,
    Scenario,
    SteppingAdapter,
    Tools,
    Violation,
    World,
    explore,
    resume,
)
from writeahead.errors import Fenced, InvalidInput
from writeahead.model import Receipt, RunReport, RunStatus
from writeahead.protocol import emission, execution, journal, resuming, runner, session
from writeahead.protocol.runner import write_back
from writeahead.protocol.unblocking import unblock_session

EVERY_OUTCOME = ("lost", "late", "not applied", "refused", "conflict")
DEPTH = int(os.environ.get("WRITEAHEAD_DEPTH", "1"))


@pytest.fixture(autouse=True)
def owners_are_named_by_their_thread(monkeypatch):
    for module in (runner, journal):
        monkeypatch.setattr(module, "new_owner", lambda: threading.current_thread().name)


def write(tools: Tools, *kinds: str, atomic: bool = False) -> RunReport:
    operations = [{"kind": kind, "payload": {"text": "x"}} for kind in kinds]
    return write_back(
        operations,
        session_id=SESSION,
        store=tools.store,
        adapter=tools.adapter,
        policy=POLICY,
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
        return unblock_session(SESSION, store=tools.store, reason="mended", clock=tools.clock)
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


def without_suspicion(monkeypatch):
    monkeypatch.setattr(resuming, "_suspect_silent_owner", lambda *_: None)


def without_lease(monkeypatch):
    monkeypatch.setattr(session.Session, "lease_ends", None)
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

    def late(context, plan):
        operation = plan.operations[0]
        context.store.actor.world.remote.apply(operation.kind, operation.id)
        context.store.head("after-the-first-request")
        return honest(context, plan)

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
