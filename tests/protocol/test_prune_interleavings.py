"""A prune beside runs, resumes, sweeps, operators and other prunes, through every schedule.

The real code, stepped: see test_interleavings.py. Reads are steps here, since what they read may be
deleted; a listing is read in pages, between which others write and delete.
"""

import os
import threading
from dataclasses import replace

import pytest

from tests.support.actors import Run, Tools
from tests.support.exploring import explore, steered
from tests.support.prune_schedules import (
    FINAL,
    PAST_YOUNGEST,
    PRUNED,
    PruneScenario,
    PruneWorld,
    name_probes_by_thread,
    prune_all,
    repeat,
)
from tests.support.stepping import PLANNED, POLICY, SESSION, SteppingAdapter, Violation
from writeahead.errors import CorruptArtifact, Fenced, InvalidInput, ResumeError
from writeahead.model import RunReport, RunStatus
from writeahead.protocol import journal, pruning, runner, session
from writeahead.protocol.encoding import encode_model
from writeahead.protocol.finding import State, find_sessions
from writeahead.protocol.pruning import YOUNGEST, prune
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.schema import AbandonedPlan
from writeahead.protocol.session import StoredSession
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import abandon_session, unblock_session
from writeahead.report.page import read_page

# So many that the newest entry of an abandoned session builds on another one.
KINDS = ("create", "create", "upsert", "mail")
SKIPPED = "takes half a minute: WRITEAHEAD_DEPTH=2 runs it"
DEPTH = int(os.environ.get("WRITEAHEAD_DEPTH", "1"))


@pytest.fixture(autouse=True)
def nothing_is_random(monkeypatch):
    for module in (runner, journal):
        monkeypatch.setattr(module, "new_owner", lambda: threading.current_thread().name)
    name_probes_by_thread(monkeypatch)


# -- what a session is before
# --------------------------------------------------------------------------------------------------


def nothing(tools: Tools) -> None:
    pass


def completed(*kinds: str) -> Run:
    def prepare(tools: Tools) -> None:
        assert repeat(*kinds)(tools).status is RunStatus.COMPLETED

    return prepare


def parked(*kinds: str) -> Run:
    """The first run met 503 for its last operation."""

    def prepare(tools: Tools) -> None:
        def ask(step: str) -> str:
            return "not applied" if step.endswith(kinds[-1]) else "ok"

        busy = SteppingAdapter(tools.adapter.remote, ask, tools.adapter.time)
        report = repeat(*kinds)(Tools(tools.store, busy, tools.clock))
        assert report.status is RunStatus.RESUME_NEEDED

    return prepare


def abandoned(*kinds: str) -> Run:
    def prepare(tools: Tools) -> None:
        parked(*kinds)(tools)
        assert abandon(tools)

    return prepare


def blocked(*kinds: str) -> Run:
    def prepare(tools: Tools) -> None:
        refused = SteppingAdapter(tools.adapter.remote, lambda _: "refused", tools.adapter.time)
        assert repeat(*kinds)(Tools(tools.store, refused, tools.clock)).status is RunStatus.BLOCKED

    return prepare


def long_ago(state: Run) -> Run:
    def prepare(tools: Tools) -> None:
        state(tools)
        tools.clock.sleep(PAST_YOUNGEST)

    return prepare


def without_markers(state: Run) -> Run:
    """As in a copy that leaves out what begins with a dot."""

    def prepare(tools: Tools) -> None:
        state(tools)
        for key in [info.key for info in tools.store.list(".")]:
            tools.store.delete(key)

    return prepare


# -- who meets it
# --------------------------------------------------------------------------------------------------


def abandon(tools: Tools) -> RunReport | None:
    try:
        return abandon_session(SESSION, store=tools.store, reason="done by hand", clock=tools.clock)
    except (InvalidInput, Fenced):
        return None  # it is completed, or another was faster


def unblock(tools: Tools) -> RunReport | None:
    try:
        return unblock_session(SESSION, store=tools.store, reason="corrected", clock=tools.clock)
    except (InvalidInput, Fenced):
        return None


def resumed(**more: object) -> Run:
    def run(tools: Tools) -> RunReport:
        means = {"store": tools.store, "adapter": tools.adapter, "policy": POLICY, "clock": tools.clock}
        return resume_session(SESSION, **means, **more)

    return run


take_over = resumed(take_over="it hangs")


def sweep_all(tools: Tools) -> None:
    for result in sweep(tools.store, tools.adapter, policy=POLICY, clock=tools.clock, scan=True):
        assert result.error is None, result


def prune_later(tools: Tools) -> None:
    """Any earlier prune would find nothing that is old enough."""
    tools.clock.sleep(PAST_YOUNGEST)
    prune_all(tools)


def show(tools: Tools) -> None:
    page = read_page(tools.store, SESSION, now=tools.clock.now(), clock_skew=0)
    assert (page.status, page.problem) in (("completed", None), ("abandoned", None))


def find(tools: Tools) -> None:
    for found in find_sessions(tools.store, State.ABANDONED, clock=tools.clock):
        assert found.status in ("completed", "abandoned"), found


ENDED = {"completed": completed, "abandoned": abandoned}
OTHERS = {
    "prune": prune_all,
    "resume": resumed(),
    "repeat": None,
    "sweep": sweep_all,
    "abandon": abandon,
    "unblock": unblock,
    "show": show,
    "list": find,
}


def ended(state: str, *kinds: str, **runs: Run) -> PruneScenario:
    return PruneScenario(long_ago(ENDED[state](*kinds)), {"P": prune_all, **runs}, kinds=kinds, jumps=0)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("state", ENDED)
def test_a_prune_beside_another_keeps_every_promise(state, other):
    if state == "completed":
        kinds = ("mail",)
    elif other in ("show", "list") and DEPTH == 1:
        kinds = ("upsert", "mail")  # they read each entry, which are many schedules
    else:
        kinds = KINDS
    run = repeat(*kinds) if other == "repeat" else OTHERS[other]
    coverage = explore(ended(state, *kinds, other=run))
    print(coverage)
    assert coverage.states > 50, "the schedules have lost their choices"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("state", ENDED)
def test_deletes_that_a_power_cut_undoes_keep_every_promise(state):
    runs = {"R": repeat("mail")} if DEPTH > 1 else {"R": resumed()}
    print(explore(replace(ended(state, "mail", **runs), undoes=DEPTH)))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("state", ENDED)
def test_two_prunes_that_list_page_by_page_keep_every_promise(state):
    runs = {"Q": prune_all, "R": resumed()} if DEPTH > 1 else {"Q": prune_all}
    print(explore(replace(ended(state, "mail", **runs), page=3)))


# -- an owner that slept through the end of its session
# --------------------------------------------------------------------------------------------------


def if_planned(run: Run) -> Run:
    def careful(tools: Tools) -> RunReport | None:
        try:
            return run(tools)
        except ResumeError:
            return None  # there is no plan yet

    return careful


ENDS = {"taken over": if_planned(resumed(take_over="it hangs")), "abandoned": if_planned(abandon)}


def slept_through(by: str, *kinds: str, prepare: Run = nothing, **more: object) -> PruneScenario:
    owner = repeat(*kinds) if prepare is nothing else resumed()
    runs = {"A": owner, "B": ENDS[by], "P": prune_later}
    return PruneScenario(prepare, runs, kinds=kinds, deletes=False, jumps=0, **more)


IN_ITS_FIRST_REQUEST = {"lead": ("A", "send 1-create")}
BEFORE_ITS_LAST_ENTRY = {"lead": ("A", f"create {SESSION}/writeback.json")}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("by", "kinds", "asleep"),
    [
        ("abandoned", ("create", "mail"), IN_ITS_FIRST_REQUEST),
        ("taken over", ("mail",), BEFORE_ITS_LAST_ENTRY),
        *([("abandoned", ("mail",), BEFORE_ITS_LAST_ENTRY)] if DEPTH > 1 else []),
        *([("taken over", ("create", "mail"), IN_ITS_FIRST_REQUEST)] if DEPTH > 1 else []),
        *([(by, ("create", "post"), IN_ITS_FIRST_REQUEST) for by in ENDS] if DEPTH > 1 else []),
        *([(by, ("create", "mail"), {}) for by in ENDS] if DEPTH > 1 else []),
    ],
)
def test_an_owner_that_slept_through_it_keeps_every_promise(by, kinds, asleep):
    coverage = explore(slept_through(by, *kinds, **asleep))
    print(coverage)
    assert coverage.states > 100, "the schedules have lost their choices"


@pytest.mark.timeout(3600)
@pytest.mark.skipif(DEPTH == 1, reason=SKIPPED)
@pytest.mark.parametrize("kind", ["mail", "post", "create", "edit", "row"])
@pytest.mark.parametrize("by", ENDS)
def test_an_owner_that_slept_at_any_step_keeps_every_promise(by, kind):
    print(explore(slept_through(by, kind)))


@pytest.mark.timeout(3600)
@pytest.mark.skipif(DEPTH == 1, reason=SKIPPED)
@pytest.mark.parametrize("kinds", [("mail",), ("post",), ("create", "mail")], ids="-".join)
@pytest.mark.parametrize("by", ENDS)
def test_a_resume_that_slept_through_it_keeps_every_promise(by, kinds):
    print(explore(slept_through(by, *kinds, prepare=parked(*kinds))))


def test_a_run_in_a_tombstones_place_can_delete_that_of_a_prune():
    """The known gap: a delete has no condition. The session is refused by all from then on."""

    def tombstoned(tools: Tools) -> None:
        tools.store.put(f".open/{SESSION}", b"")
        tombstone = AbandonedPlan(session_id=SESSION, abandoned_at=tools.clock.now())
        tools.store.put(PLANNED, encode_model(tombstone), if_absent=True)

    runs = {"A": repeat("mail"), "B": repeat("mail"), "P": prune_later}
    with steered(PruneScenario(tombstoned, runs, kinds=("mail",), replaces=True)) as world:
        world.steer("A", f"delete {PLANNED}")
        world.do(("jump",))
        world.steer("B", "over")
        world.steer("P", "over")
        assert world.closed.status == "completed"
        with pytest.raises(Violation, match="REOPENED"):
            world.do(("go", "A", "ok"))
        means = {"store": world.store, "adapter": SteppingAdapter(world.remote, lambda _: "ok", world.time)}
        with pytest.raises(CorruptArtifact, match="the session was pruned"):
            resume_session(SESSION, **means)
        assert world.remote.effects == {"1-mail": 1}


# -- what is not at its end
# --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("state", [parked, blocked])
def test_what_is_open_or_blocked_is_never_pruned(state):
    runs = {"P": prune_all, "A": resumed(), "person": unblock}
    print(explore(PruneScenario(long_ago(state("mail")), runs, kinds=("mail",), jumps=0)))


def unmarked(**runs: Run) -> PruneScenario:
    lost = long_ago(without_markers(parked("mail")))
    return PruneScenario(lost, {"P": prune_all, **runs}, kinds=("mail",), is_unmarked=True, jumps=0)


def test_what_has_lost_its_marker_is_never_pruned():
    print(explore(unmarked(S=sweep_all)))


# -- the archive
# --------------------------------------------------------------------------------------------------


def archived(prepare: Run, **runs: Run) -> PruneScenario:
    stores = ("store", "archive")
    return PruneScenario(long_ago(prepare), runs, kinds=("mail",), stores=stores, deletes=False, jumps=0)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("state", ENDED)
def test_two_prunes_into_one_archive_keep_every_promise(state):
    scenario = archived(ENDED[state]("mail"), P=prune_all, Q=prune_all)
    if DEPTH == 1:
        last = FINAL if state == "completed" else PLANNED
        scenario = replace(scenario, lead=("Q", f"create {last}"))
    print(explore(scenario))


def test_another_content_in_the_archive_leaves_a_session_as_it_is():
    def prepare(tools: Tools) -> None:
        completed("mail")(tools)
        tools.archive.put(FINAL, b"another")

    def refused(tools: Tools) -> None:
        means = {"archive": tools.archive, "dry_run": False, "clock": tools.clock}
        (result,) = prune(tools.store, YOUNGEST, **means)
        assert "the archive has another one" in result.error

    with steered(archived(prepare, P=refused, Q=refused)) as world:
        before = world.store.content
        world.steer("P", "get")
        world.steer("Q", "over")
        world.steer("P", "over")
        assert world.store.content == before
        assert world.stores["archive"].content == {FINAL: b"another"}


# -- planted bugs
# --------------------------------------------------------------------------------------------------


class DeletesFirst(pruning._Pruning):
    """All goes before there is a tombstone; or the journal alone."""

    first = "/"

    def _result(self, folder):
        end = self._end(folder) if PRUNED not in folder.found else None
        self._delete({key: info for key, info in (end.delete if end else {}).items() if self.first in key})
        return super()._result(folder)


class JournalFirst(DeletesFirst):
    first = "/journal/"


class PrunedLast(pruning._Pruning):
    """The object that an owner looks for is put after the journal was deleted."""

    def _result(self, folder):
        end = self._end(folder) if PRUNED not in folder.found else None
        if end and not end.stands:
            self.store.put(PLANNED, encode_model(end.tombstone))
            self._delete(end.delete)
        return super()._result(folder)


class NoTombstone(pruning._Pruning):
    def _end(self, folder):
        end = super()._end(folder)
        return end and replace(end, stands=True)


class NoAge(pruning._Pruning):
    def __init__(self, store, archive, now, until, *, dry_run):
        super().__init__(store, archive, now, now, dry_run=dry_run)


class ArchivesLast(pruning._Pruning):
    def _archived(self, keys):
        kept = {key: self.store.get(key).data for key in keys}
        (folder,) = pruning.folders(self.store)
        self.store.put(PLANNED, encode_model(self._end(folder).tombstone))
        for key, data in kept.items():
            self.archive.put(key, data)
        return len(kept)


class ByMarkerAlone(pruning._Pruning):
    def _end(self, folder):
        with pytest.MonkeyPatch.context() as patch:
            if not folder.outside:
                patch.setattr(StoredSession, "status", lambda *_: RunStatus.ABANDONED)
            return super()._end(folder)


class Forgetful(pruning._Pruning):
    """A final artifact that came late is removed, and the tombstone still says abandoned."""

    def _tidied(self, folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pruning, "encode_model", lambda _: self.store.get(PLANNED).data)
            return super()._tidied(folder)


@pytest.mark.parametrize(
    ("planted", "scenario", "promise"),
    [
        (DeletesFirst, ended("abandoned", "mail", R=resumed()), "REWRITTEN"),
        (JournalFirst, ended("abandoned", "mail", R=resumed()), "REWRITTEN"),
        (PrunedLast, slept_through("taken over", "create", "mail", **IN_ITS_FIRST_REQUEST), "DOUBLED"),
        (PrunedLast, slept_through("abandoned", "create", "mail", **IN_ITS_FIRST_REQUEST), "SENT_AFTER"),
        (NoTombstone, ended("completed", "mail", R=resumed()), "PRUNE_FAILED"),
        (NoAge, ended("completed", "mail", R=resumed()), "PRUNED_YOUNG"),
        (ByMarkerAlone, unmarked(R=resumed()), "PRUNED_ALIVE"),
        (ArchivesLast, archived(completed("mail"), P=prune_all), "NOT_ARCHIVED"),
    ],
)
def test_a_planted_bug_is_found(planted, scenario, promise, monkeypatch):
    if planted is NoAge:
        scenario = replace(scenario, prepare=completed("mail"), _prepared=[])
    scenario.start()
    monkeypatch.setattr(pruning, "_Pruning", planted)
    with pytest.raises(Violation, match=promise):
        explore(scenario)


def test_a_late_final_artifact_that_the_next_prune_forgets_is_found(monkeypatch):
    monkeypatch.setattr(PruneWorld, "later", Forgetful)
    with pytest.raises(Violation, match="FORGOTTEN"):
        explore(slept_through("abandoned", "mail", **BEFORE_ITS_LAST_ENTRY))


@pytest.mark.parametrize(("by", "promise"), [("taken over", "DOUBLED"), ("abandoned", "SENT_AFTER")])
def test_an_owner_that_never_looks_again_is_found(by, promise, monkeypatch):
    monkeypatch.setattr(journal, "LOOK_AGAIN", float("inf"))
    with pytest.raises(Violation, match=promise):
        explore(slept_through(by, "create", "mail", **IN_ITS_FIRST_REQUEST))


@pytest.mark.parametrize("state", ENDED)
def test_one_listing_for_a_session_that_goes_is_found(state, monkeypatch):
    monkeypatch.setattr(session, "listed_and_read", lambda read: read())
    with pytest.raises(Violation, match="NotFound"):
        explore(ended(state, "mail", R=resumed()))
