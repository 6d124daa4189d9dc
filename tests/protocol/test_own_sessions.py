"""Sessions of an orchestrator of its own: found, checked and resumed like any other."""

import hashlib
import subprocess

import pytest
from pydantic import BaseModel

from tests.support.remotes import Meets, Remote, RemoteAdapter, operations
from tests.support.worlds import names
from writeahead import (
    load_replay_artifact,
    resume_session,
    unblock_session,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.errors import CorruptArtifact, InvalidInput, PlanConflict, ResumeError, Unavailable
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.finding import State, find_sessions
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import abandon_session
from writeahead.report.page import read_page
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing import FaultyStore, ManualClock, StoreFault, TracingStore, WrapperStore

PLAN, FINAL = "s1/planned-writeback.json", "s1/writeback.json"


class Outcome(BaseModel):
    text: str
    at: int = 0


def planned(store, text="call back"):
    write_planned_writeback_artifact(store, "s1", Outcome(text=text))


def an_hour_later():
    clock = ManualClock()
    clock.elapsed += 3600
    return clock


def test_the_marker_and_the_checksum_come_before_the_plan():
    store = TracingStore(MemoryStore())
    planned(store)
    digest = hashlib.sha256(store.wrapped.get(PLAN).data).hexdigest()
    assert [(call.verb, call.key) for call in store.calls] == [
        ("create", f"s1/planned-writeback.sha256-{digest}"),
        ("put", ".open/s1"),
        ("create", PLAN),
    ]


def test_sha256sum_reads_the_checksum(tmp_path):
    planned(LocalStore(tmp_path))
    (name,) = (path.name for path in (tmp_path / "s1").glob("*.sha256-*"))
    check = ["sha256sum", "-c", name]
    assert subprocess.run(check, cwd=tmp_path / "s1", capture_output=True, check=False).returncode == 0
    (tmp_path / PLAN).write_text("{}")
    assert subprocess.run(check, cwd=tmp_path / "s1", capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("data", [b'{\n  "at": 0,\n  "text": "do not call"\n}\n', b"{", b"", b"[]", b"null"])
def test_an_edited_plan_is_not_replayed_and_stays_as_it_is(store, data):
    planned(store)
    store.put(PLAN, data)
    with pytest.raises(CorruptArtifact, match=rf"^{PLAN}: altered"):
        load_replay_artifact(store, "s1", Outcome)
    (listed,) = find_sessions(store)
    assert listed.status is None
    assert "altered" in listed.note
    (swept,) = sweep(store, on_own=lambda *_: pytest.fail("resumed"), clock=an_hour_later())
    assert "altered" in swept.error
    assert store.get(PLAN).data == data


def test_a_plan_of_a_run_that_died_before_it_was_written_is_no_obstacle(store):
    inner = FaultyStore(store)
    inner.fail("create", PLAN, StoreFault.unavailable(), times=None)
    with pytest.raises(Unavailable):
        planned(inner, "the first run's")
    planned(store, "the second run's")
    assert load_replay_artifact(store, "s1", Outcome).model.text == "the second run's"


def test_a_slow_writer_is_not_shut_out_by_a_sweep(store):
    """A tombstone at the plan's key would refuse each later run of this id."""
    inner = FaultyStore(store)
    inner.fail("create", PLAN, StoreFault.unavailable(), times=None)
    with pytest.raises(Unavailable):
        planned(inner)
    (swept,) = sweep(store, RemoteAdapter(Remote()), clock=an_hour_later())
    assert "no plan yet" in swept.note
    planned(store)
    assert load_replay_artifact(store, "s1", Outcome).model.text == "call back"
    assert ".open/s1" in names(store)


@pytest.mark.parametrize("finished", [False, True])
def test_a_plan_that_is_refused_leaves_nothing(store, finished):
    planned(store)
    if finished:
        write_writeback_artifact(store, "s1", Outcome(text="done"))
    before = names(store)
    with pytest.raises(PlanConflict):
        planned(store, "another")
    assert names(store) == before


def test_a_finished_session_says_so_and_has_no_marker(store):
    planned(store)
    assert not load_replay_artifact(store, "s1", Outcome).finished
    write_writeback_artifact(store, "s1", Outcome(text="done"))
    found = load_replay_artifact(store, "s1", Outcome)
    assert (found.name, found.model.text, found.finished) == ("planned-writeback.json", "call back", True)
    assert ".open/s1" not in names(store)


def test_a_final_whose_marker_stays_is_final_all_the_same(store):
    planned(store)
    inner = FaultyStore(store)
    inner.fail("delete", ".open/*", StoreFault.unavailable())
    write_writeback_artifact(inner, "s1", Outcome(text="done"))
    (listed,) = find_sessions(store)
    assert (listed.status, listed.own) == (RunStatus.COMPLETED, True)
    (swept,) = sweep(store, RemoteAdapter(Remote()))
    assert swept.note == "finished: its marker was removed"
    assert ".open/s1" not in names(store)


def test_an_open_session_is_listed_as_own(store):
    planned(store)
    write_planned_writeback_artifact(store, "s2", Outcome(text="other"))
    write_writeback_artifact(store, "s2", Outcome(text="other"))
    for state in (State.OPEN, State.OWN, State.RESUME_NEEDED):
        (listed,) = find_sessions(store, state)
        assert (listed.session_id, listed.status, listed.own) == ("s1", RunStatus.RESUME_NEEDED, True)
        assert listed.planned_at is not None
    assert [found.session_id for found in find_sessions(store, State.COMPLETED)] == ["s2"]


def test_a_sweep_resumes_what_no_program_is_at_work_on(store):
    planned(store)
    called = []

    def resume(given, session_id):
        called.append((given, session_id))
        found = load_replay_artifact(given, session_id, Outcome)
        write_writeback_artifact(given, session_id, found.model)

    (young,) = sweep(store, on_own=resume)
    assert (called, young.report.status) == ([], RunStatus.IN_PROGRESS)
    assert young.report.error == "its program, or another sweep, may be at work on it"
    assert young.report.not_before > ManualClock().now()
    (old,) = sweep(store, on_own=resume, clock=an_hour_later())
    assert called == [(store, "s1")]
    assert old.report.status is RunStatus.COMPLETED
    assert list(sweep(store, on_own=resume, clock=an_hour_later())) == []


def test_two_sweeps_do_not_resume_a_session_together(store):
    planned(store)
    called = []

    class Late(WrapperStore):
        """The marker, as it was put an hour before the first sweep."""

        def _head(self, key):
            found = super()._head(key)
            return found and type(found)(found.key, found.size, found.last_modified - hour)

    hour = an_hour_later().now() - ManualClock().now()

    def resume(given, session_id):
        # The other sweep comes meanwhile.
        called.extend(result.report.error for result in sweep(given.wrapped, on_own=resume))

    list(sweep(Late(store), on_own=resume))
    assert called == ["its program, or another sweep, may be at work on it"]


@pytest.mark.parametrize("error", [RuntimeError("secret"), SystemError(), ResumeError("gone")])
def test_a_program_that_fails_does_not_stop_the_sweep(store, error):
    planned(store)
    write_planned_writeback_artifact(store, "s2", Outcome(text="other"))

    def resume(given, session_id):
        if session_id == "s1":
            raise error
        write_writeback_artifact(given, session_id, Outcome(text="other"))

    first, second = sweep(store, on_own=resume, clock=an_hour_later())
    assert first.error.startswith("its program raised")
    assert "secret" not in first.error
    assert second.report.status is RunStatus.COMPLETED


def test_a_program_that_does_not_finish_leaves_it_open(store):
    planned(store)
    (swept,) = sweep(store, on_own=lambda *_: None, clock=an_hour_later())
    assert swept.report.status is RunStatus.RESUME_NEEDED
    assert ".open/s1" in names(store)


def test_a_sweep_with_nothing_to_resume_by_is_refused(store):
    with pytest.raises(InvalidInput, match="on_own"):
        sweep(store)


def test_a_sweep_without_an_adapter_leaves_the_sessions_of_adapters(store):
    remote = Remote()
    adapter = RemoteAdapter(remote)
    write_back(operations("create"), session_id="s1", store=store, adapter=adapter)
    store.delete(FINAL)
    store.put(".open/s1", b"")
    remote.requests.clear()
    (swept,) = sweep(store, on_own=lambda *_: pytest.fail("resumed"), clock=an_hour_later())
    assert "planned by adapter" in swept.note
    assert remote.requests == []


@pytest.mark.parametrize(
    "call",
    [
        lambda store: resume_session("s1", store=store, adapter=RemoteAdapter(Remote())),
        lambda store: unblock_session("s1", store=store, reason="?"),
    ],
)
def test_what_only_its_program_can_do_is_refused_with_words(store, call):
    planned(store)
    before = names(store)
    with pytest.raises(ResumeError, match="orchestrator of its own"):
        call(store)
    assert names(store) == before


def test_an_adapters_session_of_the_same_id_is_refused(store):
    planned(store)
    remote = Remote()
    with pytest.raises(PlanConflict, match="orchestrator of its own"):
        write_back(operations("create"), session_id="s1", store=store, adapter=RemoteAdapter(remote))
    assert remote.requests == []
    assert load_replay_artifact(store, "s1", Outcome).model.text == "call back"
    assert ".open/s1" in names(store)
    write_writeback_artifact(store, "s1", Outcome(text="done"))
    with pytest.raises(PlanConflict, match="orchestrator of its own"):
        write_back(operations("create"), session_id="s1", store=store, adapter=RemoteAdapter(remote))
    assert ".open/s1" not in names(store)


# Files of other programs in a session's folder.


@pytest.mark.parametrize("kinds", [["lookup"], ["mail"], ["create"]])
@pytest.mark.parametrize(
    "key", ["s1/notes.txt", "s1/journal/notes.json", "s1/journal/1.json", "s1/raw/a.wav"]
)
def test_files_of_others_in_the_folder_change_nothing(store, kinds, key):
    store.put(key, b"ours")
    report = write_back(operations(*kinds), session_id="s1", store=store, adapter=RemoteAdapter(Remote()))
    assert report.status is RunStatus.COMPLETED
    assert store.get(key).data == b"ours"


def test_a_folder_of_another_program_is_no_session(store):
    store.put("recordings/a.wav", b"")
    store.put("recordings/journal/notes.json", b"")
    assert list(find_sessions(store)) == []


def test_a_final_of_another_program_is_found_before_the_first_request(store):
    store.put(FINAL, b'{"status": "written by the host"}')
    remote = Remote()
    means = {"store": store, "adapter": RemoteAdapter(remote)}
    report = write_back(operations("create"), session_id="s1", **means)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert remote.requests == []
    for _ in range(2):
        report = resume_session("s1", **means)
        assert report.status is RunStatus.BLOCKED
    (listed,) = find_sessions(store)
    assert listed.status is RunStatus.BLOCKED
    assert "another program" in listed.note
    with pytest.raises(InvalidInput, match="move it elsewhere first"):
        unblock_session("s1", store=store, reason="looked")
    assert store.get(FINAL).data == b'{"status": "written by the host"}'

    store.delete(FINAL)
    unblock_session("s1", store=store, reason="moved it")
    assert resume_session("s1", **means).status is RunStatus.COMPLETED
    assert remote.requests == ["1-create"]


# Markers that were lost.


def test_a_scan_finds_what_has_lost_its_marker(store, clock):
    remote = Remote()
    adapter = RemoteAdapter(remote)
    planned(store)
    means = {"store": store, "adapter": adapter, "clock": clock}
    for name in ("done", "parked", "given-up"):
        write_back(operations("create"), session_id=name, **means)
        if name != "done":
            store.delete(f"{name}/writeback.json")
    abandon_session("given-up", store=store, reason="?", clock=clock)
    for info in list(store.list(".open/")):
        store.delete(info.key)
    assert list(sweep(store, adapter, clock=an_hour_later())) == []

    remote.requests.clear()
    swept = sweep(store, adapter, scan=True, clock=an_hour_later())
    results = {found.session_id: found for found in swept}
    assert set(results) == {"parked", "s1"}
    assert all(found.restored for found in results.values())
    assert results["parked"].report.status is RunStatus.COMPLETED
    assert names(store)[:1] == [".open/s1"]
    assert remote.requests == ["1-create"]


def test_a_scan_marks_a_blocked_session_as_blocked(store, clock):
    remote = Remote()
    remote.script["1-create"] = [Meets.REJECTED]
    adapter = RemoteAdapter(remote)
    write_back(operations("create"), session_id="stuck", store=store, adapter=adapter, clock=clock)
    store.delete(".blocked/stuck")
    (found,) = sweep(store, adapter, scan=True, clock=clock)
    assert (found.note, found.restored) == ("blocked: it waits for an operator", True)
    assert names(store)[0] == ".blocked/stuck"


def test_running_again_keeps_the_checksum_of_an_edited_plan(store):
    planned(store)
    edited = b'{\n  "at": 0,\n  "text": "do not call"\n}\n'
    store.put(PLAN, edited)
    for text in ("call back", "something else"):
        with pytest.raises(CorruptArtifact, match=rf"^{PLAN}: altered"):
            planned(store, text)
    with pytest.raises(CorruptArtifact, match=rf"^{PLAN}: altered"):
        load_replay_artifact(store, "s1", Outcome)
    assert store.get(PLAN).data == edited


@pytest.mark.parametrize("plan", [b'{"text": "call back"}', b'{"text": "call back", "at": 0}'])
def test_a_plan_of_version_0_1_in_other_bytes_stays_unchecked(store, plan):
    store.put(PLAN, plan)
    if b"at" in plan:
        planned(store)
        assert load_replay_artifact(store, "s1", Outcome).model == Outcome(text="call back")
    with pytest.raises(PlanConflict):
        planned(store, "something else")
    assert [key for key in names(store) if "sha256" in key] == []


def test_a_finished_session_whose_plan_was_edited_gets_no_marker(store):
    planned(store)
    write_writeback_artifact(store, "s1", Outcome(text="done"))
    store.put(PLAN, b"{}")
    with pytest.raises(CorruptArtifact):
        planned(store)
    assert ".open/s1" not in names(store)


class Sealed(BaseModel):
    """A model whose fields are called as what each artifact of writeahead has besides."""

    format: str = "pdf"
    version: int = 3
    checksum: str = ""


def test_an_own_model_may_have_a_format_and_a_version(store):
    write_planned_writeback_artifact(store, "s1", Sealed())
    assert [found.own for found in find_sessions(store, State.OPEN)] == [True]
    called = []
    list(sweep(store, on_own=lambda _, found: called.append(found), clock=an_hour_later()))
    assert called == ["s1"]
    write_writeback_artifact(store, "s1", Sealed(version=4))
    store.put(".open/s1", b"")
    (swept,) = sweep(store, on_own=lambda *_: None)
    assert swept.note == "finished: its marker was removed"
    page = read_page(store, "s1", now=ManualClock().now(), clock_skew=5)
    assert (page.status, [line.problem for line in page.artifacts]) == (RunStatus.COMPLETED, [None] * 3)


def test_an_edited_plan_with_a_format_and_a_version_keeps_its_checksum(store):
    write_planned_writeback_artifact(store, "s1", Sealed())
    store.put(PLAN, b'{"format": "pdf", "version": 4}')
    for _ in range(2):
        with pytest.raises(CorruptArtifact, match="altered"):
            write_planned_writeback_artifact(store, "s1", Sealed())


def test_a_session_behind_another_program_s_final_is_not_listed_as_completed(store):
    store.put(FINAL, b"{}")
    means = {"store": store, "adapter": RemoteAdapter(Remote())}
    write_back(operations("create"), session_id="s1", **means)
    store.delete(".blocked/s1")
    (found,) = sweep(**means, scan=True)
    assert (found.note, found.restored) == ("blocked: it waits for an operator", True)
    abandon_session("s1", store=store, reason="not needed any more")
    assert list(find_sessions(store, State.COMPLETED)) == []
    (listed,) = find_sessions(store, State.ABANDONED)
    assert listed.session_id == "s1"


# An operator ends one.


def test_an_own_session_can_be_abandoned(store):
    planned(store)
    assert abandon_session("s1", store=store, reason="?", dry_run=True).status is RunStatus.ABANDONED
    assert "s1/journal/000001.json" not in names(store)
    for _ in range(2):
        report = abandon_session("s1", store=store, reason="the customer called again")
        assert report.status is RunStatus.ABANDONED
    assert ".open/s1" not in names(store)
    (listed,) = find_sessions(store)
    assert (listed.status, listed.own) == (RunStatus.ABANDONED, True)
    assert list(find_sessions(store, State.OPEN)) == []
    assert (
        list(sweep(store, on_own=lambda *_: pytest.fail("resumed"), scan=True, clock=an_hour_later())) == []
    )
    with pytest.raises(ResumeError, match="abandoned by an operator"):
        load_replay_artifact(store, "s1", Outcome)
    for text in ("call back", "another"):
        with pytest.raises(PlanConflict, match="abandoned by an operator"):
            planned(store, text)
    assert ".open/s1" not in names(store)
    page = read_page(store, "s1", now=ManualClock().now(), clock_skew=5)
    assert (page.status, [entry.reason for entry in page.history]) == (
        RunStatus.ABANDONED,
        ["the customer called again"],
    )


def test_an_own_session_of_version_0_1_can_be_abandoned(store):
    store.put(PLAN, b'{"text": "call back"}')
    abandon_session("s1", store=store, reason="?")
    (listed,) = find_sessions(store)
    assert listed.status is RunStatus.ABANDONED
    with pytest.raises(ResumeError, match="abandoned by an operator"):
        load_replay_artifact(store, "s1", Outcome)


def test_a_final_that_comes_after_all_completes_it(store):
    planned(store)
    abandon_session("s1", store=store, reason="?")
    write_writeback_artifact(store, "s1", Outcome(text="done"))
    assert load_replay_artifact(store, "s1", Outcome).finished
    (listed,) = find_sessions(store)
    assert listed.status is RunStatus.COMPLETED
    with pytest.raises(InvalidInput, match="completed"):
        abandon_session("s1", store=store, reason="?")


def test_an_edited_plan_of_an_abandoned_session_is_found(store):
    planned(store)
    abandon_session("s1", store=store, reason="?")
    store.put(PLAN, b'{"text": "other"}')
    (listed,) = find_sessions(store)
    assert listed.status is None
    with pytest.raises(CorruptArtifact):
        load_replay_artifact(store, "s1", Outcome)


@pytest.mark.parametrize(
    "call",
    [
        lambda: write_planned_writeback_artifact("./artifacts", "s1", Outcome(text="x")),
        lambda: write_writeback_artifact("./artifacts", "s1", Outcome(text="x")),
        lambda: load_replay_artifact("./artifacts", "s1", Outcome),
        lambda: find_sessions("./artifacts"),
        lambda: sweep("./artifacts", RemoteAdapter(Remote())),
        lambda: write_back(
            operations("create"), session_id="s1", store="./artifacts", adapter=RemoteAdapter(Remote())
        ),
        lambda: resume_session("s1", store="./artifacts", adapter=RemoteAdapter(Remote())),
        lambda: unblock_session("s1", store="./artifacts", reason="?"),
    ],
)
def test_a_url_is_no_store(call):
    with pytest.raises(InvalidInput, match=r"give what writeahead\.open_store returns, not a str"):
        call()


def test_an_adapters_class_is_no_adapter(store):
    with pytest.raises(InvalidInput, match="give an instance of an Adapter, not the class RemoteAdapter"):
        write_back(operations("create"), session_id="s1", store=store, adapter=RemoteAdapter)
