"""Damaged, foreign and hostile artifacts: each is found, named, left as it is, and harmless."""

import dataclasses
import json
import os
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.invariants import POLICY, hours_later
from tests.support.remotes import Meets, Remote, RemoteAdapter, operations
from writeahead import RunPolicy, resume_session, write_back
from writeahead.errors import CorruptArtifact, InvalidInput, NewerArtifact, ResumeError, WriteaheadError
from writeahead.model import BlockReason, RunStatus
from writeahead.protocol.encoding import MAX_ARTIFACT_BYTES, decode, digest_of, encode, encode_model
from writeahead.protocol.finding import State, find_sessions
from writeahead.protocol.schema import AbandonedPlan, Event, JournalEntry, PlannedWriteback, Writeback
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import unblock_session
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing import TracingStore, WrapperStore

FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"
PLAN, FINAL = "s1/planned-writeback.json", "s1/writeback.json"
ONCE = RunPolicy(attempts=1, clock_skew=0, journal_interval=0)


def objects(store):
    return {key: held.data for key, held in store._objects.items()}


def finished(store, session_id="s1"):
    write_back(
        operations("create", "upsert"), session_id=session_id, store=store, adapter=RemoteAdapter(Remote())
    )


def parked(store, session_id="s1", remote=None):
    """A session with a plan and a journal of two entries, to be resumed."""
    remote = remote or Remote()
    remote.script["2-upsert"] = [Meets.UNAVAILABLE]
    report = write_back(
        operations("create", "upsert"),
        session_id=session_id,
        store=store,
        adapter=RemoteAdapter(remote),
        policy=ONCE,
    )
    assert report.status is RunStatus.RESUME_NEEDED
    return remote


def abandoned(store):
    store.put(".open/s1", b"")
    store.put(PLAN, encode_model(AbandonedPlan(session_id="s1", abandoned_at=datetime.now(UTC))))


ARTIFACTS = {
    "plan": (parked, PLAN, PlannedWriteback),
    "journal entry": (parked, "s1/journal/000002.json", JournalEntry),
    "final": (finished, FINAL, Writeback),
    "tombstone": (abandoned, PLAN, AbandonedPlan),
}


def damaged(data: bytes):
    """Every truncation but the one of the last newline, and every flip of one bit."""
    for length in range(len(data) - 1):
        yield data[:length]
    for place in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[place] ^= 1 << bit
            yield bytes(flipped)


@pytest.fixture(params=ARTIFACTS)
def artifact(request):
    make, key, model = ARTIFACTS[request.param]
    store = MemoryStore()
    make(store)
    return store, key, model


def test_every_truncation_and_every_bit_flip_of_each_artifact(artifact):
    store, key, model = artifact
    data = store.get(key).data
    intact = decode(data, model, key=key)
    found_out = refused = 0
    for variant in damaged(data):
        try:
            assert decode(variant, model, key=key) == intact
        except CorruptArtifact as error:
            found_out += key in str(error) and "\n" not in str(error)
            refused += 1
    assert found_out == refused
    print(f"{found_out} found out of {9 * len(data) - 1}")
    assert len(data) > 150
    assert found_out > 8 * len(data)


@pytest.mark.timeout(600)
def test_a_resume_of_a_damaged_session_changes_nothing(artifact):
    store, key, model = artifact
    data = store.get(key).data
    intact = decode(data, model, key=key)
    variants = list(damaged(data))
    for variant in variants if FULL else variants[:: len(variants) // 150]:
        try:
            if decode(variant, model, key=key) == intact:
                continue
        except CorruptArtifact:
            pass
        store.put(key, variant)
        before = objects(store)
        remote = Remote()
        with pytest.raises(ResumeError):
            resume_session(
                "s1", store=store, adapter=RemoteAdapter(remote), policy=ONCE, clock=hours_later(1)
            )
        assert remote.requests == []
        assert objects(store) == before


def sealed(document):
    """With a right checksum, so that what is behind it is reached."""
    fields = {name: value for name, value in document.items() if name != "checksum"}
    return encode(fields | {"checksum": digest_of(fields)})


def foreign(store, key):
    """What others could leave at an artifact's key."""
    document = json.loads(store.get(key).data)
    deep = b"[" * 200_000
    yield "empty", b""
    yield "JSON of somebody else", b'{"name": "package", "version": "1.0.0"}'
    yield "no object", b"[1, 2]"
    yield "a number", b"1e400"
    yield "not a number", b"NaN"
    yield "null", b"null"
    yield "UTF-16", json.dumps(document).encode("utf-16")
    yield "a BOM", b"\xef\xbb\xbf" + encode(document)
    yield "bytes", bytes(range(256))
    yield "deep lists", deep
    yield "deep lists, closed", deep + b"]" * 200_000
    yield "deep objects", b'{"a":' * 100_000
    yield "deep inside", encode(document)[:-3] + b', "payload": ' + deep + b"]" * 200_000 + b"}"
    yield "a huge number", b'{"version": ' + b"9" * 100_000 + b"}"
    yield "a lone surrogate", b'{"format": "\\ud800"}'
    yield "too large", b" " * (MAX_ARTIFACT_BYTES + 1)
    yield "a field more", encode(document | {"unheard_of": 1})
    for version in ("1", "2", 0, -1, 1.0, 2.0, True, None, [2]):
        yield f"version {version!r}", sealed(document | {"version": version})
    yield "no version", sealed({name: value for name, value in document.items() if name != "version"})
    yield "no checksum", encode({name: value for name, value in document.items() if name != "checksum"})
    other = MemoryStore()
    for make in (parked, finished):
        make(other, "s2")
    for name, held in objects(other).items():
        if held:
            yield f"of another session: {name}", held


def test_foreign_bytes_at_each_artifact(artifact):
    store, key, _ = artifact
    right = store.get(key).data
    tried = 0
    for name, data in foreign(store, key):
        if data == right:
            continue
        store.put(key, data)
        remote = Remote()
        means = {"store": store, "adapter": RemoteAdapter(remote), "policy": ONCE, "clock": hours_later(1)}
        try:
            _is_refused(store, key, data, means)
            summaries = list(find_sessions(store))
            assert [found.session_id for found in summaries] == ["s1"]
        except BaseException as error:
            error.add_note(name)
            raise
        assert remote.requests == []
        assert store.get(key).data == data
        tried += 1
    print(f"{tried} foreign contents")


def _is_refused(store, key, data, means):
    if key == FINAL and is_of_another_program(data):
        report = resume_session("s1", **means)
        assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
        return
    with pytest.raises(ResumeError) as caught:
        resume_session("s1", **means)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    [result] = list(sweep(store, means["adapter"], clock=hours_later(1))) or [None]
    if result is not None:
        assert result.error or "of an orchestrator of its own" in result.note


def is_of_another_program(data):
    """JSON without the seal that each artifact of ours has."""
    try:
        document = json.loads(data.decode(), parse_constant=float)
    except (ValueError, RecursionError):
        return False
    return document == document and "checksum" not in str(document) and "session_id" not in str(document)  # noqa: PLR0124 - NaN is no JSON


def test_a_newer_version_is_left_alone_and_says_so(artifact):
    store, key, model = artifact
    document = json.loads(store.get(key).data) | {"version": 3, "unheard_of": {"a": 1}}
    store.put(key, encode(document))
    before = objects(store)
    with pytest.raises(NewerArtifact, match="upgrade"):
        decode(store.get(key).data, model, key=key)
    with pytest.raises(NewerArtifact, match="upgrade"):
        resume_session("s1", store=store, adapter=RemoteAdapter(Remote()), clock=hours_later(1))
    results = list(sweep(store, RemoteAdapter(Remote()), clock=hours_later(1)))
    assert objects(store) == before
    assert all("upgrade" in result.error for result in results)


def test_a_journal_without_its_plan_is_no_run_that_died_early():
    """Somebody has removed the plan: what was applied must not be forgotten for it."""
    store = MemoryStore()
    remote = parked(store)
    store.delete(PLAN)
    before, requests = objects(store), list(remote.requests)
    means = {"store": store, "adapter": RemoteAdapter(remote), "clock": hours_later(1)}
    with pytest.raises(
        CorruptArtifact, match=r"^s1/planned-writeback\.json: missing, though the session has a journal"
    ):
        resume_session("s1", **means)
    with pytest.raises(CorruptArtifact, match="missing"):
        unblock_session("s1", store=store, reason="?")
    [result] = sweep(store, means["adapter"], clock=hours_later(1))
    [listed] = find_sessions(store)
    assert "missing" in result.error
    assert "missing" in listed.note
    assert (objects(store), remote.requests) == (before, requests)


@pytest.mark.parametrize("kinds", [["lookup"], ["mail"], ["create", "mail"]])
@pytest.mark.parametrize("left", ["final", "journal"])
def test_a_repeat_after_a_removed_plan_has_no_second_effect(kinds, left):
    """A final, or a journal, still tells that the session has been at it."""
    store, remote = MemoryStore(), Remote()
    asked = operations(*kinds, "create")
    if left == "journal":
        remote.script[f"{len(asked)}-create"] = [Meets.REJECTED]
    means = {"store": store, "adapter": RemoteAdapter(remote), "session_id": "s1"}
    write_back(asked, clock=hours_later(0), **means)
    requests = list(remote.requests)
    for info in list(store.list("s1/")):
        if info.key == PLAN or (left == "final" and info.key != FINAL):
            store.delete(info.key)
    report = write_back(asked, clock=hours_later(1), **means)
    assert report.status is (RunStatus.NO_RESUME_NEEDED if left == "final" else RunStatus.BLOCKED)
    assert remote.requests == requests


class FarAway(WrapperStore):
    """A store where each look is a request."""

    is_local = False


@pytest.mark.parametrize(
    ("kinds", "lists"), [(["mail"], 1), (["lookup", "mail"], 1), (["create", "update", "upsert"], 0)]
)
def test_a_run_looks_for_its_past_only_where_it_matters(kinds, lists):
    inner, remote = FarAway(MemoryStore()), Remote()
    asked = operations(*kinds)
    means = {"adapter": RemoteAdapter(remote), "session_id": "s1"}
    store = TracingStore(inner)
    write_back(asked, store=store, clock=hours_later(0), **means)
    assert (store.count()["list"], store.count()["head"]) == (lists, 0)
    for info in list(inner.list("s1/")):
        if info.key != FINAL:
            inner.delete(info.key)
    requests = list(remote.requests)
    report = write_back(asked, store=inner, clock=hours_later(1), **means)
    if lists:
        assert (report.status, remote.requests) == (RunStatus.NO_RESUME_NEEDED, requests)
    else:
        assert remote.requests == requests * 2


@pytest.mark.parametrize("marker", [True, False])
def test_a_damaged_final_with_a_marker_is_listed_with_reason(marker):
    """Without one it is listed unread: a request for each completed session would be dear."""
    store = MemoryStore()
    finished(store)
    store.put(FINAL, b"{")
    if marker:
        store.put(".open/s1", b"")
    [listed] = find_sessions(store)
    assert (listed.status, listed.note is None) == ((None, False) if marker else (RunStatus.COMPLETED, True))
    with pytest.raises(CorruptArtifact, match="writeback"):
        resume_session("s1", store=store, adapter=RemoteAdapter(Remote()))


def test_a_file_of_the_last_year_that_there_is_hides_nothing(monkeypatch):
    store = MemoryStore()
    remote = parked(store)
    last = datetime.max.replace(tzinfo=UTC)
    key = "s1/journal/000002.json"
    entry = decode(store.get(key).data, JournalEntry, key=key)
    claimed = entry.model_copy(
        update={"event": Event.CLAIMED, "status": None, "number": 3, "lease_seconds": 600}
    )
    store.put("s1/journal/000003.json", encode_model(claimed))
    listing = MemoryStore._list

    def late(self, prefix, start_after):
        for info in listing(self, prefix, start_after):
            yield dataclasses.replace(info, last_modified=last)

    monkeypatch.setattr(MemoryStore, "_list", late)
    for state in (None, State.OPEN):
        assert [found.status for found in find_sessions(store, state)] == [RunStatus.IN_PROGRESS]
    [result] = sweep(store, RemoteAdapter(remote))
    assert (result.error, result.report.status) == (None, RunStatus.IN_PROGRESS)


def test_a_hundred_megabytes_do_not_stop_the_others(tmp_path):
    store = LocalStore(tmp_path)
    parked(store, "a")
    remote = parked(store, "c")
    parked(store, "b")
    with (tmp_path / "b" / "planned-writeback.json").open("r+b") as file:
        file.truncate(100 * 1024 * 1024)
    results = {found.session_id: found for found in sweep(store, RemoteAdapter(remote), clock=hours_later(1))}
    assert "larger than any artifact" in results["b"].error
    assert results["a"].report.status is results["c"].report.status is RunStatus.COMPLETED


def test_one_bad_session_never_hides_the_others():
    store = MemoryStore()
    names = []
    for number, (_, data) in enumerate(foreign(_with_plan(), PLAN)):
        bad, good = f"n{number:02d}-bad", f"n{number:02d}-good"
        parked(store, bad)
        parked(store, good)
        names += [bad, good]
        key = "planned-writeback.json" if number % 2 else "journal/000001.json"
        if not number % 2:
            store.delete(f"{bad}/journal/000002.json")
        store.put(f"{bad}/{key}", data)
    listed = {found.session_id: found for found in find_sessions(store)}
    assert list(listed) == names
    assert all(found.note for name, found in listed.items() if name.endswith("bad"))
    swept = {found.session_id: found for found in sweep(store, RemoteAdapter(Remote()), policy=POLICY)}
    assert sorted(swept) == names
    for name, found in swept.items():
        if name.endswith("good"):
            assert found.report.status is RunStatus.COMPLETED
        else:
            assert found.error
    # A second sweep has nothing but the bad ones to say.
    again = list(sweep(store, RemoteAdapter(Remote()), policy=POLICY))
    assert sorted(found.session_id for found in again) == names[::2]


def _with_plan():
    store = MemoryStore()
    parked(store)
    return store


@pytest.mark.parametrize("odd", ["-x", "_", ".DS_Store", "a/b", "x" * 129])
def test_a_marker_that_names_no_session_never_hides_the_others(odd):
    store = MemoryStore()
    parked(store, "good")
    store.put(f".open/{odd}", b"")
    store.put(f".blocked/{odd}", b"")
    listed = [found.session_id for found in find_sessions(store)]
    assert "good" in listed
    assert "good" in [found.session_id for found in find_sessions(store, State.OPEN)]
    swept = {found.session_id: found for found in sweep(store, RemoteAdapter(Remote()), clock=hours_later(1))}
    assert swept["good"].report.status is RunStatus.COMPLETED


def test_a_sweep_goes_on_behind_a_marker_that_names_no_session():
    store = MemoryStore()
    for odd in ("-x", "_", ".DS_Store", "a/b", "x" * 129):
        store.put(f".open/{odd}", b"")
    parked(store, "zz")
    results = {
        found.session_id: found for found in sweep(store, RemoteAdapter(Remote()), clock=hours_later(1))
    }
    assert results["zz"].report.status is RunStatus.COMPLETED
    assert all(found.error for name, found in results.items() if name != "zz")


def test_a_stray_folder_never_hides_the_others():
    store = MemoryStore()
    parked(store, "good")
    store.put("_trash/notes.txt", b"")
    store.put("-x/planned-writeback.json", b"{}")
    store.put("zz", b"a file")
    assert "good" in [found.session_id for found in find_sessions(store)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
MANY = settings(
    max_examples=20_000 if FULL else 100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.timeout(3000)
@MANY
@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")))
def test_made_up_bytes_are_corrupt_or_nothing_worse(data):
    for _, key, model in ARTIFACTS.values():
        with pytest.raises(CorruptArtifact):
            decode(data, model, key=key)


@pytest.mark.timeout(3000)
@MANY
@given(name=st.text(min_size=1, max_size=12), value=JSON, which=st.sampled_from(list(ARTIFACTS)), d=st.data())
def test_made_up_fields_are_corrupt_or_make_the_same_bytes(name, value, which, d):
    make, key, model = ARTIFACTS[which]
    store = MemoryStore()
    make(store)
    document = json.loads(store.get(key).data)
    del document["checksum"]
    field = d.draw(st.sampled_from([*document, name]))
    document[field] = value
    try:
        data = sealed(document)
    except (InvalidInput, UnicodeEncodeError):
        return
    try:
        read = decode(data, model, key=key)
    except CorruptArtifact:
        return
    assert decode(encode_model(read), model, key=key) == read


@pytest.mark.timeout(3000)
@MANY
@given(value=JSON, which=st.sampled_from(list(ARTIFACTS)), d=st.data())
def test_a_resume_of_made_up_fields_ends_as_documented(value, which, d):
    make, key, _ = ARTIFACTS[which]
    store = MemoryStore()
    make(store)
    document = json.loads(store.get(key).data)
    del document["checksum"]
    document[d.draw(st.sampled_from(list(document)))] = value
    try:
        store.put(key, sealed(document))
    except (InvalidInput, UnicodeEncodeError):
        return
    try:
        report = resume_session("s1", store=store, adapter=RemoteAdapter(Remote()), clock=hours_later(1))
    except WriteaheadError:
        return
    assert report.status in RunStatus
