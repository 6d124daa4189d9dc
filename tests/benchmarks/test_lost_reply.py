"""The lost-reply benchmark: its judge finds what goes wrong, and its kills are real."""

import itertools
import os
from types import SimpleNamespace

import httpx
import pytest
from benchmarks.lost_reply.crm import ASKS, Conflict, Crm, NotApplied, Unknown, may_retry
from benchmarks.lost_reply.driver import Fault, Scenario, Stage, started
from benchmarks.lost_reply.remote import FAULTS, SETUPS, serving
from benchmarks.lost_reply.scenarios import at_exchanges

EMAIL = 4
FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture
def remote():
    with serving() as served:
        yield served


@pytest.fixture
def stage(remote, tmp_path):
    """A stage for a contender that is a function of this process."""

    def make(work, **options):
        def ask(*, url, setup, verb, **_):
            said, why = "done", ""
            try:
                said = work(Crm(url, setup), verb) or said
            except ASKS as error:
                said, why = "asks", f"{type(error).__name__}: {error}"
            return {"said": said, "why": why, "steps": 0}

        folders = (tmp_path / str(number) for number in itertools.count())

        def new_folder(_start=None):
            folder = next(folders)
            folder.mkdir()
            return folder

        contender = SimpleNamespace(ask=ask, new_folder=new_folder)
        return Stage(remote, contender, **options)

    return make


def all_three(crm, _verb=None):
    baseline = crm.baseline()
    crm.create("a key")
    crm.update(baseline)
    crm.email()


@pytest.mark.parametrize("setup", SETUPS)
def test_a_session_that_does_all_is_right(stage, setup):
    assert stage(all_three).play(Scenario(setup)).verdicts == {"right"}


def test_a_second_email_is_a_duplicate(stage):
    def work(crm, verb):
        all_three(crm)
        crm.email()

    assert stage(work).play(Scenario("key")).verdicts == {"duplicate"}


@pytest.mark.parametrize(("setup", "duplicates"), [("key", 0), ("search", 0), ("neither", 1)])
def test_a_create_again_is_a_duplicate_where_the_remote_can_not_tell(stage, setup, duplicates):
    def work(crm, verb):
        all_three(crm)
        crm.create("a key")

    assert stage(work).play(Scenario(setup)).duplicates == duplicates


def test_what_is_not_there_is_a_loss_only_if_it_is_said_to_be_done(stage):
    assert stage(lambda crm, verb: "done").play(Scenario("key")).losses == 3

    def asking(crm, verb):
        raise Unknown("?")

    assert stage(asking).play(Scenario("key")).verdicts == {"asks"}


def test_a_session_without_an_end_is_stuck(stage):
    verbs = []

    def work(crm, verb):
        verbs.append(verb)
        return "again"

    assert stage(work).play(Scenario("key")).verdicts == {"stuck"}
    assert verbs == ["run", *["recover"] * 6]


def test_an_edit_of_others_is_seen_to_be_overwritten(stage):
    def careless(crm, verb):
        crm.create("a key")
        crm.update(crm.baseline())
        crm.email()

    edited = Scenario("key", "before our update")
    assert stage(careless).play(edited).verdicts == {"overwritten"}
    assert stage(all_three).play(edited).verdicts == {"asks"}

    def twice(crm, verb):
        all_three(crm)
        crm.update(crm.baseline())

    assert "overwritten" in stage(twice).play(Scenario("key", "after our update")).verdicts


def test_what_lands_late_is_counted(stage):
    def work(crm, verb):
        try:
            all_three(crm)
        except Unknown:
            crm.email()

    outcome = stage(work).play(Scenario("key", first=Fault(EMAIL, "504, lands late")))
    assert (outcome.was_met, outcome.duplicates) == (True, 1)


def test_a_fault_that_no_exchange_meets_does_not_count(stage):
    assert not stage(all_three).play(Scenario("key", first=Fault(5, "503 with Retry-After"))).was_met


@pytest.mark.parametrize(
    ("fault", "raised", "emails"),
    [
        ("dropped before the effect", Unknown, 0),
        ("dropped after the effect", Unknown, 1),
        ("503 with Retry-After", NotApplied, 0),
        ("500 after the effect", Unknown, 1),
        ("504, lands late", Unknown, 0),
    ],
)
def test_what_the_client_makes_of_a_fault(remote, fault, raised, emails):
    remote.forget("key")
    remote.arm(1, fault)
    with pytest.raises(raised):
        Crm(f"{remote.url}/{remote.number}", "key").email()
    assert remote.truth.emails == emails


def test_a_request_of_an_earlier_scenario_is_refused(remote):
    url = f"{remote.url}/{remote.number}/emails"
    remote.forget("key")
    assert httpx.post(url, headers={"X-Pid": "0"}).status_code == 410
    assert remote.truth.emails == 0


@pytest.mark.parametrize(("setup", "contacts"), [("key", 1), ("search", 2), ("neither", 2)])
def test_only_one_set_up_knows_keys(remote, setup, contacts):
    remote.forget(setup)
    for _ in range(2):
        headers = {"X-Pid": "0", "Idempotency-Key": "a key"}
        httpx.post(f"{remote.url}/{remote.number}/contacts", json={}, headers=headers)
    assert len(remote.truth.contacts) == contacts


def test_what_can_not_be_proved_is_never_retried_by_anyone():
    assert not may_retry("email", "key")(Unknown())
    assert not may_retry("create", "neither")(Unknown())
    assert may_retry("create", "search")(Unknown())
    assert all(may_retry(step, "neither")(NotApplied()) for step in ("create", "update", "email"))
    assert not may_retry("update", "key")(Conflict())


@needs_fork
@pytest.mark.parametrize(
    ("name", "verdicts", "emails"), [("sidecar", {"duplicate"}, 2), ("writeahead_folder", {"asks"}, 1)]
)
def test_an_email_whose_sender_is_killed(remote, tmp_path, name, verdicts, emails):
    with started(name, tmp_path / name) as contender:
        stage = Stage(remote, contender, answers=True)
        whole = stage.play(Scenario("key"))
        assert (whole.verdicts, whole.said) == ({"right"}, "done")
        killed = stage.play(Scenario("key", first=Fault(EMAIL, "killed after the effect")))
        assert (killed.was_met, killed.verdicts, killed.said) == (True, verdicts, "done")
        # What was recorded is not sent again.
        assert remote.requests == ["GET deal", "POST contacts", "PATCH deal", *["POST emails"] * emails]
        last = stage.play(Scenario("key", first=Fault(step=whole.steps)))
        assert (last.was_met, last.rounds) == (True, 1)
        assert not stage.play(Scenario("key", first=Fault(step=whole.steps + 1))).was_met


@needs_fork
@pytest.mark.skipif(not FULL, reason="takes some seconds: WRITEAHEAD_TESTS=full runs it")
def test_every_fault_is_met_at_a_write(remote, tmp_path):
    with started("tenacity_alone", tmp_path / "tenacity") as contender:
        met = [scenario.first for scenario, _ in at_exchanges(Stage(remote, contender), Scenario("key"))]
    assert {fault.name for fault in met if fault.exchange == EMAIL} == set(FAULTS)
