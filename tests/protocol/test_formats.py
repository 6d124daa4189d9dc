"""The fields of each artifact, pinned: what changes here follows docs/decisions/0009."""

import hashlib
import json
import re
from datetime import UTC, datetime

import pytest

from tests.support.remotes import Meets, Remote, RemoteAdapter, operations
from writeahead import RunPolicy, write_back
from writeahead.errors import CorruptArtifact, NewerArtifact
from writeahead.model import KeyedOperation, PlannedOperation, Receipt, Stop
from writeahead.protocol.encoding import (
    VERSION,
    artifact_type,
    decode,
    encode,
    encode_model,
    is_pruned,
)
from writeahead.protocol.schema import (
    AbandonedPlan,
    Event,
    JournalEntry,
    PlannedWriteback,
    PrunedPlan,
    SettledOperation,
    Writeback,
)
from writeahead.stores.memory import MemoryStore

OPERATION = {"id", "kind", "key", "payload", "precondition", "replay"}
RECEIPT = {"remote_id", "remote_version", "outcome", "confirmed_at", "attempts"}
VERSION_1 = {
    PlannedOperation: OPERATION | {"warnings"},
    SettledOperation: OPERATION | {"warnings", "receipt"},
    Receipt: RECEIPT,
    PlannedWriteback: {
        *("session_id", "adapter", "created_at", "owner", "lease_seconds", "request_digest", "digest"),
        *("operations", "atomic"),
    },
    AbandonedPlan: {"session_id", "abandoned_at"},
    JournalEntry: {
        *("session_id", "number", "event", "owner", "at", "lease_seconds", "plan_digest", "receipts"),
        *("attempted", "operation", "status", "block_reason", "error", "not_before", "reason", "was_blocked"),
    },
    Writeback: {"session_id", "adapter", "plan_digest", "completed_at", "operations"},
    Stop: set(),
}
# What version 2 added. Each is left out of an artifact while it is unset.
ADDED = {
    PlannedOperation: {"identity", "independent"},
    SettledOperation: {"identity", "independent"},
    Receipt: {"value", "generation"},
    PlannedWriteback: {"exact", "target", "holder", "traceparent"},
    JournalEntry: {
        *("attempted_since", "unsettled", "generations", "issued", "turn", "idle", "holder"),
        *("base", "removed", "stops"),
    },
    Stop: {"operation", "status", "error", "block_reason", "not_before"},
}


# A tombstone is a plan of version 3: what knows no pruning must say "upgrade".
VERSION_3 = {
    PrunedPlan: {
        *("session_id", "status", "ended_at", "pruned_at", "adapter", "request_digest", "target"),
    },
}


@pytest.mark.parametrize("model", VERSION_1, ids=lambda model: model.__name__)
def test_the_fields_of_an_artifact_are_these(model):
    assert set(model.model_fields) == VERSION_1[model] | ADDED.get(model, set())


def test_the_fields_of_a_tombstone_are_these():
    assert {model: set(model.model_fields) for model in VERSION_3} == VERSION_3


def pruned_plan():
    moment = datetime(2026, 11, 27, tzinfo=UTC)
    return PrunedPlan(session_id="s1", status="completed", ended_at=moment, pruned_at=moment)


def test_a_tombstone_is_a_plan_of_a_newer_version_to_all_that_read_plans():
    key, data = "s1/planned-writeback.json", encode_model(pruned_plan())
    assert json.loads(data)["version"] == 3
    assert decode(data, PrunedPlan, key=key) == pruned_plan()
    with pytest.raises(NewerArtifact, match=r"format version 3, this one reads up to 2\): upgrade"):
        decode(data, PlannedWriteback, key=key)
    with pytest.raises(NewerArtifact, match=r"zork.*upgrade"):
        decode(resealed(data, zork=1), PrunedPlan, key=key)
    with pytest.raises(NewerArtifact, match="reads up to 3"):
        decode(resealed(data, version=4), PrunedPlan, key=key)


def test_an_altered_tombstone_is_told_from_a_plan():
    key, data = "s1/planned-writeback.json", encode_model(pruned_plan())
    for position in range(len(data)):
        altered = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(CorruptArtifact):
            decode(altered, PrunedPlan if is_pruned(altered, key=key) else PlannedWriteback, key=key)


def test_a_callers_own_plan_is_no_tombstone():
    for own in (b'{"pruned_at": "x"}', b'{\n  "pruned_at": "x"\n}', b"not JSON", b""):
        assert not is_pruned(own, key="s1/planned-writeback.json")


def test_the_events_and_the_version_are_these():
    assert [event.value for event in Event] == [
        *("confirmed", "sending", "claimed", "ended", "unblocked"),
        *("waiting", "abandoned"),
    ]
    assert VERSION == 2


def test_the_operations_of_an_adapter_are_no_artifact():
    assert set(KeyedOperation.model_fields) == {
        *("session_id", "id", "kind", "key", "payload", "baseline", "independent"),
    }


def run(store):
    remote = Remote(script={"2-upsert": [Meets.UNAVAILABLE]})
    write_back(
        operations("create", "upsert"),
        session_id="s1",
        store=store,
        adapter=RemoteAdapter(remote),
        policy=RunPolicy(attempts=1, journal_interval=0),
    )
    return {info.key: store.get(info.key).data for info in store.list("s1/")}


def resealed(data, **changes):
    """The artifact with other fields under a checksum that fits, made without our encoder."""
    document = {**json.loads(data), **changes}
    lines = json.dumps(document, ensure_ascii=False, indent=2, sort_keys=True).encode() + b"\n"
    bare = re.sub(rb'  "checksum": ".*",\n', b"", lines)
    return lines.replace(json.loads(data)["checksum"].encode(), hashlib.sha256(bare).hexdigest().encode())


def test_the_checksum_is_that_of_the_bytes_without_its_line():
    for key, data in run(MemoryStore()).items():
        bare = re.sub(rb'  "checksum": "[0-9a-f]{64}",\n', b"", data, count=1)
        assert bare != data, key
        assert json.loads(data)["checksum"] == hashlib.sha256(bare).hexdigest()
        assert json.loads(data)["version"] == 2


NEWER = {
    "field": ("s1/planned-writeback.json", {"zork": 1}),
    "status": ("s1/journal/000002.json", {"status": "zork"}),
    "event": ("s1/journal/000002.json", {"event": "zork"}),
    "reason": ("s1/journal/000002.json", {"block_reason": "zork"}),
    "version": ("s1/planned-writeback.json", {"version": 3}),
}


@pytest.mark.parametrize("what", NEWER)
def test_what_is_unknown_under_a_fitting_checksum_is_newer(what):
    key, change = NEWER[what]
    data = run(MemoryStore())[key]
    with pytest.raises(NewerArtifact, match=rf"^{key}: written by a newer version .*upgrade"):
        decode(resealed(data, **change), artifact_type(key), key=key)
    assert decode(resealed(data), artifact_type(key), key=key)


def test_what_is_wrong_besides_is_corrupt():
    key = "s1/journal/000002.json"
    data = run(MemoryStore())[key]
    with pytest.raises(CorruptArtifact) as caught:
        decode(resealed(data, zork=1, number=-1), JournalEntry, key=key)
    assert type(caught.value) is CorruptArtifact


def test_an_unknown_field_without_its_checksum_is_corrupt():
    key = "s1/planned-writeback.json"
    document = {**json.loads(run(MemoryStore())[key]), "zork": 1}
    with pytest.raises(CorruptArtifact, match="checksum does not match") as caught:
        decode(encode(document), PlannedWriteback, key=key)
    assert type(caught.value) is CorruptArtifact


def test_other_white_space_is_harmless_in_version_1_only():
    document = {
        **AbandonedPlan(session_id="s1", abandoned_at=datetime.now(UTC)).model_dump(mode="json"),
        "format": "writeahead/abandoned",
    }
    key = "s1/planned-writeback.json"
    first = document | {"version": 1}
    first |= {"checksum": hashlib.sha256(encode(first)).hexdigest()}
    assert decode(json.dumps(first).encode(), AbandonedPlan, key=key)
    second = encode_model(AbandonedPlan(session_id="s1", abandoned_at=datetime.now(UTC)))
    assert decode(second, AbandonedPlan, key=key)
    with pytest.raises(CorruptArtifact, match="checksum does not match"):
        decode(second.replace(b"\n  ", b"\n\t"), AbandonedPlan, key=key)


@pytest.mark.parametrize(
    ("key", "model"),
    [
        ("s1/planned-writeback.json", PlannedWriteback),
        (".dry-run/s1/planned-writeback.json", PlannedWriteback),
        ("s1/journal/000001.json", JournalEntry),
        ("s1/writeback.json", Writeback),
        (".open/s1", None),
        ("s1/notes.txt", None),
    ],
)
def test_a_key_says_what_it_holds(key, model):
    assert artifact_type(key) is model
