"""Sessions as format version 1 wrote them: never changed, and resumed by every later version."""

import hashlib
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.support.invariants import hours_later
from tests.support.remotes import ALL, Remote, RemoteAdapter, TransactionalRemoteAdapter, operations
from writeahead import ResumeError, RunPolicy, resume_session, write_back
from writeahead.errors import InvalidInput
from writeahead.model import (
    AbandonedPlan,
    BlockReason,
    JournalEntry,
    PlannedWriteback,
    RunStatus,
    Writeback,
    idempotency_key,
)
from writeahead.protocol.artifacts import decode, encode_model, is_abandoned
from writeahead.protocol.sweep import find_sessions, sweep, unfinished_sessions
from writeahead.protocol.unblocking import unblock_session
from writeahead.stores.local import LocalStore

SETS = [Path(__file__).parent / name for name in ("v1", "v1-atomic")]
EXPECTED = {}
WHERE = {}
for folder in SETS:
    expected = json.loads((folder / "expected.json").read_text())
    EXPECTED |= expected
    WHERE |= dict.fromkeys(expected, folder)
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
}
BLOCKED = {
    "blocked-conflict": (BlockReason.CONFLICT_DETECTED, IDS[2:]),
    "blocked-rejected": (BlockReason.REJECTED, IDS[1:]),
    "blocked-unknown": (BlockReason.OUTCOME_UNKNOWN, []),
    "in-progress-announced": (BlockReason.OUTCOME_UNKNOWN, IDS[4:]),
}


@pytest.fixture
def golden(tmp_path):
    """Makes a copy of a session's store, and a remote that had applied what the real one had."""

    def copy(name):
        shutil.copytree(WHERE[name] / name, tmp_path / name)
        return LocalStore(tmp_path / name), Remote(effects=list(EXPECTED[name]))

    return copy


def resume(name, store, remote, hours=2):
    adapter = RemoteAdapter(remote)
    return resume_session(name, store=store, adapter=adapter, policy=POLICY, clock=hours_later(hours))


@pytest.mark.parametrize(
    ("folder", "files"), [(SETS[0], 60), (SETS[1], 15)], ids=lambda value: str(value)[-9:]
)
def test_not_one_byte_has_changed(folder, files):
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    held = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    }
    assert held == {path: digest for digest, path in (line.split("  ") for line in lines)}
    assert len(held) > files


def test_each_artifact_is_read_and_written_again_byte_by_byte():
    seen = Counter()
    for path in itertools.chain.from_iterable(one.rglob("*/*.json") for one in SETS):
        key = str(path).split("/golden/")[1].split("/", 2)[2]
        data = path.read_bytes()
        model = {"writeback.json": Writeback, "planned-writeback.json": PlannedWriteback}.get(
            path.name, JournalEntry
        )
        if model is PlannedWriteback and is_abandoned(data, key=key):
            model = AbandonedPlan
        assert encode_model(decode(data, model, key=key)) == data
        seen[model] += 1
    assert set(seen) == {PlannedWriteback, JournalEntry, Writeback, AbandonedPlan}


@pytest.mark.parametrize("name", SENT)
def test_what_can_be_resumed_is(golden, name):
    store, remote = golden(name)
    _complete(name, store, remote, SENT[name])


@pytest.mark.parametrize("name", BLOCKED)
def test_what_is_blocked_says_why_and_goes_on_when_unblocked(golden, name):
    store, remote = golden(name)
    reason, sent = BLOCKED[name]
    report = resume(name, store, remote)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, reason)
    assert report.error
    assert remote.requests == []
    assume = {}
    if reason is BlockReason.OUTCOME_UNKNOWN:
        assume = {"5-mail": remote.count(idempotency_key(name, "5-mail")) == 1}
    unblock_session(name, store=store, reason="looked it up", assume=assume, clock=hours_later(2))
    _complete(name, store, remote, sent)


def _complete(name, store, remote, sent):
    assert list(unfinished_sessions(store)) == [name]
    report = resume(name, store, remote)
    assert report.status is RunStatus.COMPLETED, report.error
    assert remote.requests == sent
    assert [remote.count(idempotency_key(name, one)) for one in IDS] == [1] * 5
    assert list(unfinished_sessions(store)) == []


def test_what_is_complete_stays_so(golden):
    store, remote = golden("final")
    report = resume("final", store, remote)
    assert report.status is RunStatus.NO_RESUME_NEEDED
    assert [report.receipts[one].outcome for one in IDS] == ["applied"] * 5
    assert remote.requests == []
    adapter = RemoteAdapter(remote)
    again = write_back(operations(*KINDS), session_id="final", store=store, adapter=adapter)
    assert again.status is RunStatus.NO_RESUME_NEEDED


def test_a_live_owner_is_left_alone(golden):
    store, remote = golden("in-progress")
    # A checkout's files are as new as a live owner's.
    (Path(store.name.removeprefix("file://")) / "in-progress/journal/000002.json").touch()
    assert resume("in-progress", store, remote, hours=0).status is RunStatus.IN_PROGRESS
    assert remote.requests == []


def test_what_was_abandoned_stays_so(golden):
    store, remote = golden("abandoned")
    with pytest.raises(ResumeError, match="abandoned"):
        resume("abandoned", store, remote)
    with pytest.raises(ResumeError, match="abandoned"):
        write_back(operations(*KINDS), session_id="abandoned", store=store, adapter=RemoteAdapter(remote))
    assert remote.requests == []


def test_a_marker_without_a_plan_is_swept(golden):
    store, remote = golden("marker-only")
    [result] = sweep(store, RemoteAdapter(remote), policy=POLICY, clock=hours_later(2))
    assert "abandoned" in result.note
    assert list(unfinished_sessions(store)) == []


def test_a_dry_run_cannot_be_resumed(golden):
    store, remote = golden("dry-run")
    assert list(find_sessions(store)) == []
    with pytest.raises(ResumeError, match="neither"):
        resume("dry-run", store, remote)
    assert remote.requests == []


# Transactions, and plans with warnings.

WARNING = ("1-create: an odd number",)


def resume_atomic(name, store, remote):
    adapter = TransactionalRemoteAdapter(remote)
    return resume_session(name, store=store, adapter=adapter, policy=POLICY, clock=hours_later(2))


@pytest.mark.parametrize("name", ["atomic-unknown", "atomic-parked", "atomic-blocked"])
def test_a_transaction_is_resumed_as_one(golden, name):
    store, remote = golden(name)
    with pytest.raises(InvalidInput, match="no transactions"):
        resume(name, store, remote)
    if name == "atomic-blocked":
        assert resume_atomic(name, store, remote).block_reason is BlockReason.CONFLICT_DETECTED
        unblock_session(name, store=store, reason="looked it up", clock=hours_later(2))
    report = resume_atomic(name, store, remote)
    assert (report.status, report.warnings) == (RunStatus.COMPLETED, WARNING)
    assert remote.requests == [ALL]
    assert [remote.count(idempotency_key(name, one)) for one in IDS] == [1, 1, 1, 0, 0]
    outcome = "already_applied" if name == "atomic-unknown" else "applied"
    assert {receipt.outcome for receipt in report.receipts.values()} == {outcome}


def test_a_finished_transaction_stays_so(golden):
    store, remote = golden("atomic-final")
    report = resume_atomic("atomic-final", store, remote)
    assert (report.status, remote.requests) == (RunStatus.NO_RESUME_NEEDED, [])


def test_a_plan_with_a_warning_keeps_it(golden):
    store, remote = golden("warned-parked")
    _complete("warned-parked", store, remote, IDS[2:])
