"""Sessions as earlier versions wrote them: never changed, and resumed by every later version."""

import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.invariants import hours_later
from tests.support.processes import child_environment
from tests.support.remotes import ALL, Remote, RemoteAdapter, TransactionalRemoteAdapter, operations
from writeahead import ResumeError, RunPolicy, prune, resume_session, write_back
from writeahead.errors import InvalidInput, PlanConflict
from writeahead.model import BlockReason, RunStatus, idempotency_key
from writeahead.protocol.encoding import VERSION, artifact_type, decode, encode_model, is_abandoned, is_pruned
from writeahead.protocol.finding import find_sessions, unfinished_sessions
from writeahead.protocol.schema import AbandonedPlan, JournalEntry, PlannedWriteback, PrunedPlan, Writeback
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import unblock_session
from writeahead.stores.local import LocalStore

HERE = Path(__file__).parent
# What the remote had applied by then, by session, of each folder.
EXPECTED = {path.parent: json.loads(path.read_text()) for path in sorted(HERE.glob("*/expected.json"))}
SETS = list(EXPECTED)
WHERE = {name: folder for folder, sessions in EXPECTED.items() for name in sessions}
# Sessions of these folders are named by their stories alone; all others, ``v2-parked``.
UNPREFIXED = ("v1", "v1-atomic")
KINDS = ("create", "upsert", "update", "lookup", "mail")
IDS = [f"{number}-{kind}" for number, kind in enumerate(KINDS, start=1)]
POLICY = RunPolicy(clock_skew=0, run_limit=3000, wait_initial=0)
# What each resume must send. A search is no request.
SENT = {
    "parked": IDS[2:],
    "parked-batched": IDS[2:],
    "parked-lookup-unknown": IDS[4:],
    "parked-retry-after": IDS,
    "unblocked": IDS[2:],
    "unblocked-assumed": [],
    "in-progress-planned": IDS,
    "in-progress": IDS[2:],
    "in-progress-claimed": IDS[2:],
    "two-stops": ["2-upsert", "4-lookup"],
    "dead-among-others": ["4-lookup", "5-mail"],
}
BLOCKED = {
    "blocked-conflict": (BlockReason.CONFLICT_DETECTED, IDS[2:]),
    "blocked-rejected": (BlockReason.REJECTED, IDS[1:]),
    "blocked-unknown": (BlockReason.OUTCOME_UNKNOWN, []),
    "in-progress-announced": (BlockReason.OUTCOME_UNKNOWN, IDS[4:]),
}


def story_of(name):
    folder = WHERE[name].name
    return name if folder in UNPREFIXED else name.removeprefix(f"{folder}-")


def of_each_version(*stories):
    """Runs a test on each folder's session of each story."""
    return pytest.mark.parametrize("name", [name for name in WHERE if story_of(name) in stories])


@pytest.fixture
def golden(tmp_path):
    """Makes a copy of a session's store, and a remote that had applied what the real one had."""

    def copy(name):
        shutil.copytree(WHERE[name] / name, tmp_path / name)
        return LocalStore(tmp_path / name), Remote(effects=list(EXPECTED[WHERE[name]][name]))

    return copy


def resume(name, store, remote, hours=2):
    adapter = RemoteAdapter(remote)
    return resume_session(name, store=store, adapter=adapter, policy=POLICY, clock=hours_later(hours))


def test_no_session_hides_one_of_another_version():
    assert {folder.name for folder in SETS} >= set(UNPREFIXED)
    assert len(WHERE) == sum(len(sessions) for sessions in EXPECTED.values())


@pytest.mark.parametrize("folder", ["v2", "v2-atomic", "v2-deltas", "v2-independent", "v3-pruned"])
def test_new_golden_sessions_hide_none_that_exist(tmp_path, folder):
    made = tmp_path / folder
    subprocess.run([sys.executable, HERE / "make_golden.py", made], check=True, env=child_environment())
    sessions = set(json.loads((made / "expected.json").read_text()))
    stories = {story_of(name) for name in EXPECTED[HERE / folder]}
    assert sessions == {f"{folder}-{story}" for story in stories}
    assert sessions == {path.name for path in made.iterdir() if path.is_dir()}
    others = {name for name in WHERE if WHERE[name].name != folder}
    assert not sessions & others


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.name)
def test_not_one_byte_has_changed(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    held = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert held == {path: digest for digest, path in (line.split("  ") for line in lines)}
    assert len(held) > 3 * len(EXPECTED[folder])


def test_each_artifact_is_read_and_written_again_the_same():
    """Byte by byte; of an older version, all but the version and the checksum.

    A journal entry may be written shorter than it was.
    """
    seen = Counter()
    for path in itertools.chain.from_iterable(one.rglob("*/*.json") for one in SETS):
        key = str(path).split("/golden/")[1].split("/", 2)[2]
        data = path.read_bytes()
        model = artifact_type(key)
        if model is PlannedWriteback and is_abandoned(data, key=key):
            model = AbandonedPlan
        elif model is PlannedWriteback and is_pruned(data, key=key):
            model = PrunedPlan
        again = encode_model(decode(data, model, key=key))
        if model is JournalEntry:
            assert decode(again, model, key=key) == decode(data, model, key=key)
            assert len(again) <= len(data)
            seen[model] += 1
            continue
        assert _unversioned(again) == _unversioned(data)
        assert again == data or json.loads(data)["version"] < VERSION
        seen[model] += 1
    assert set(seen) == {PlannedWriteback, JournalEntry, Writeback, AbandonedPlan, PrunedPlan}


def _unversioned(data):
    return {name: value for name, value in json.loads(data).items() if name not in ("version", "checksum")}


@of_each_version(*SENT)
def test_what_can_be_resumed_is(golden, name):
    store, remote = golden(name)
    _complete(name, store, remote, SENT[story_of(name)])


@of_each_version(*BLOCKED)
def test_what_is_blocked_says_why_and_goes_on_when_unblocked(golden, name):
    store, remote = golden(name)
    reason, sent = BLOCKED[story_of(name)]
    report = resume(name, store, remote)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, reason)
    assert report.error
    assert remote.requests == []
    assume = {}
    if reason is BlockReason.OUTCOME_UNKNOWN:
        was_applied = remote.count(idempotency_key(name, "5-mail")) == 1
        assume = {"5-mail": "applied" if was_applied else "not-applied"}
    unblock_session(name, store=store, reason="looked it up", assume=assume, clock=hours_later(2))
    _complete(name, store, remote, sent)


def _complete(name, store, remote, sent):
    assert list(unfinished_sessions(store)) == [name]
    report = resume(name, store, remote)
    assert report.status is RunStatus.COMPLETED, report.error
    assert remote.requests == sent
    assert [remote.count(idempotency_key(name, one)) for one in IDS] == [1] * 5
    assert list(unfinished_sessions(store)) == []


@of_each_version("two-blocked")
def test_of_several_stops_each_is_named_and_decided(golden, name):
    store, remote = golden(name)
    report = resume(name, store, remote)
    assert [(stop.operation, stop.block_reason) for stop in report.stops] == [
        ("2-upsert", BlockReason.REJECTED),
        ("5-mail", BlockReason.OUTCOME_UNKNOWN),
    ]
    unblock_session(name, store=store, reason="its cause is gone", clock=hours_later(2))
    report = resume(name, store, remote, hours=3)
    assert (report.status, report.operation, report.emitted) == (RunStatus.BLOCKED, "5-mail", ("2-upsert",))
    assume = {"5-mail": "applied"}
    unblock_session(name, store=store, reason="looked it up", assume=assume, clock=hours_later(3))
    _complete(name, store, remote, ["2-upsert"])


@of_each_version("final")
def test_what_is_complete_stays_so(golden, name):
    store, remote = golden(name)
    report = resume(name, store, remote)
    assert report.status is RunStatus.NO_RESUME_NEEDED
    assert [report.receipts[one].outcome for one in IDS] == ["applied"] * 5
    assert remote.requests == []
    adapter = RemoteAdapter(remote)
    again = write_back(operations(*KINDS), session_id=name, store=store, adapter=adapter)
    assert again.status is RunStatus.NO_RESUME_NEEDED


@of_each_version("in-progress")
def test_a_live_owner_is_left_alone(golden, name):
    store, remote = golden(name)
    # A checkout's files are as new as a live owner's.
    newest = max((Path(store.name.removeprefix("file://")) / name / "journal").iterdir())
    newest.touch()
    assert resume(name, store, remote, hours=0).status is RunStatus.IN_PROGRESS
    assert remote.requests == []


@of_each_version("abandoned")
def test_what_was_abandoned_stays_so(golden, name):
    store, remote = golden(name)
    with pytest.raises(ResumeError, match="abandoned"):
        resume(name, store, remote)
    assert remote.requests == []


@of_each_version("abandoned")
def test_the_id_of_what_was_abandoned_works_again(golden, name):
    store, remote = golden(name)
    assert write_back(
        operations(*KINDS), session_id=name, store=store, adapter=RemoteAdapter(remote), clock=hours_later(2)
    ).ok
    assert remote.requests == IDS


@of_each_version("renewed")
def test_what_got_a_new_key_is_sent_under_it(golden, name):
    store, remote = golden(name)
    report = resume(name, store, remote)
    assert (report.ok, remote.requests) == (True, IDS[1:])
    receipt = report.receipts["2-upsert"]
    assert (receipt.generation, remote.count(receipt.remote_id)) == (1, 1)
    assert remote.count(idempotency_key(name, "2-upsert")) == 0


@of_each_version("given-up")
def test_what_was_given_up_stays_so(golden, name):
    store, remote = golden(name)
    report = resume(name, store, remote)
    assert (report.status, list(report.receipts)) == (RunStatus.ABANDONED, IDS[:2])
    assert remote.requests == []
    assert [found.session_id for found in find_sessions(store, "abandoned")] == [name]


@of_each_version("marker-only")
def test_a_marker_without_a_plan_is_swept(golden, name):
    store, remote = golden(name)
    [result] = sweep(store, RemoteAdapter(remote), policy=POLICY, clock=hours_later(2))
    assert "abandoned" in result.note
    assert list(unfinished_sessions(store)) == []


@of_each_version("dry-run")
def test_a_dry_run_cannot_be_resumed(golden, name):
    store, remote = golden(name)
    assert list(find_sessions(store)) == []
    with pytest.raises(ResumeError, match="neither"):
        resume(name, store, remote)
    assert remote.requests == []


PRUNED = {"gone": RunStatus.NO_RESUME_NEEDED, "gone-abandoned": RunStatus.ABANDONED}
PRUNED["gone-halfway"] = PRUNED["gone"]


@of_each_version(*PRUNED)
def test_what_was_pruned_stays_closed(golden, name):
    store, remote = golden(name)
    means = {"store": store, "adapter": RemoteAdapter(remote), "clock": hours_later(2)}
    assert resume(name, store, remote).status is PRUNED[story_of(name)]
    assert write_back(operations(*KINDS), session_id=name, **means).status is PRUNED[story_of(name)]
    with pytest.raises(PlanConflict):
        write_back(operations("create"), session_id=name, **means)
    list(prune(store, timedelta(hours=1), dry_run=False, clock=hours_later(200_000)))
    assert [info.key for info in store.list()] == [f"{name}/planned-writeback.json", f"{name}/pruned"]
    assert [found.session_id for found in find_sessions(store, "pruned")] == [name]
    assert remote.requests == []


# Transactions, and plans with warnings.

WARNING = ("1-create: an odd number",)


def resume_atomic(name, store, remote):
    adapter = TransactionalRemoteAdapter(remote)
    return resume_session(name, store=store, adapter=adapter, policy=POLICY, clock=hours_later(2))


@of_each_version("atomic-unknown", "atomic-parked", "atomic-blocked")
def test_a_transaction_is_resumed_as_one(golden, name):
    store, remote = golden(name)
    with pytest.raises(InvalidInput, match="no transactions"):
        resume(name, store, remote)
    if story_of(name) == "atomic-blocked":
        assert resume_atomic(name, store, remote).block_reason is BlockReason.CONFLICT_DETECTED
        unblock_session(name, store=store, reason="looked it up", clock=hours_later(2))
    report = resume_atomic(name, store, remote)
    assert (report.status, report.warnings) == (RunStatus.COMPLETED, WARNING)
    assert remote.requests == [ALL]
    assert [remote.count(idempotency_key(name, one)) for one in IDS] == [1, 1, 1, 0, 0]
    outcome = "already_applied" if story_of(name) == "atomic-unknown" else "applied"
    assert {receipt.outcome for receipt in report.receipts.values()} == {outcome}


@of_each_version("atomic-final")
def test_a_finished_transaction_stays_so(golden, name):
    store, remote = golden(name)
    report = resume_atomic(name, store, remote)
    assert (report.status, remote.requests) == (RunStatus.NO_RESUME_NEEDED, [])


@of_each_version("warned-parked")
def test_a_plan_with_a_warning_keeps_it(golden, name):
    store, remote = golden(name)
    _complete(name, store, remote, IDS[2:])
