import json

import pytest
from pydantic import BaseModel

from remotes import Remote, RemoteAdapter, operations
from writeahead import (
    ResumeError,
    load_replay_artifact,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.artifacts import decode, encode
from writeahead.errors import AlreadyExists, CorruptArtifact, InvalidInput, NewerArtifact, PlanConflict
from writeahead.model import PlannedWriteback, Writeback
from writeahead.stores.memory import MemoryStore

PLANNED, FINAL = "s1/planned-writeback.json", "s1/writeback.json"


class Mine(BaseModel):
    name: str
    amount: float = 1.5


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def finished(store):
    write_back(operations("create"), session_id="s1", store=store, adapter=RemoteAdapter(Remote()))
    return store


def test_own_models_are_written_as_they_are_in_the_canonical_encoding(store):
    write_planned_writeback_artifact(store, "s1", Mine(name="Zoë"))
    assert store.get(PLANNED).data == '{\n  "amount": 1.5,\n  "name": "Zoë"\n}\n'.encode()


def test_writing_the_same_again_is_no_error_and_anything_else_is(store):
    for write, refused in [
        (write_planned_writeback_artifact, PlanConflict),
        (write_writeback_artifact, AlreadyExists),
    ]:
        write(store, "s1", Mine(name="a"))
        write(store, "s1", Mine(name="a"))
        with pytest.raises(refused, match="s1"):
            write(store, "s1", Mine(name="b"))


GOOD_PLAN = encode({"name": "planned"})
GOOD_FINAL = encode({"name": "final"})
BAD = b'{"name": "cut'


@pytest.mark.parametrize(
    ("planned", "final", "expected"),
    [
        (GOOD_PLAN, GOOD_FINAL, ("planned-writeback.json", "planned")),
        (GOOD_PLAN, None, ("planned-writeback.json", "planned")),
        (GOOD_PLAN, BAD, ("planned-writeback.json", "planned")),
        (None, GOOD_FINAL, ("writeback.json", "final")),
        (BAD, GOOD_FINAL, PLANNED),
        (BAD, None, PLANNED),
        (BAD, BAD, PLANNED),
        (None, BAD, FINAL),
        (None, None, "planned-writeback.json nor writeback.json"),
    ],
)
def test_planned_then_final_in_each_combination(store, planned, final, expected):
    for key, data in ((PLANNED, planned), (FINAL, final)):
        if data is not None:
            store.put(key, data)
    before = [(info.key, store.get(info.key).data) for info in store.list()]
    if isinstance(expected, tuple):
        found = load_replay_artifact(store, "s1", Mine)
        assert (found.name, found.model.name) == expected
    else:
        with pytest.raises(ResumeError, match=expected):
            load_replay_artifact(store, "s1", Mine)
    assert [(info.key, store.get(info.key).data) for info in store.list()] == before


def test_an_artifact_that_does_not_fit_the_model_is_named_without_its_content(store):
    store.put(PLANNED, b'{"name": {"secret": "planted"}}')
    with pytest.raises(CorruptArtifact, match=PLANNED) as caught:
        load_replay_artifact(store, "s1", Mine)
    assert "planted" not in str(caught.value)


def test_our_own_artifacts_load_through_the_same_function(finished):
    assert load_replay_artifact(finished, "s1", PlannedWriteback).model.session_id == "s1"
    finished.delete(PLANNED)
    assert load_replay_artifact(finished, "s1", Writeback).model.operations[0].id == "1-create"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_hold_is_refused_before_it_is_written(store, value):
    with pytest.raises(InvalidInput):
        write_planned_writeback_artifact(store, "s1", Mine(name="a", amount=value))
    with pytest.raises(InvalidInput):
        write_planned_writeback_artifact(store, "s1", Mine(name="\ud800"))
    assert list(store.list()) == []


@pytest.mark.parametrize("session_id", ["../s1", "", "a/b"])
def test_session_ids_are_checked_in_each_function(store, session_id):
    for call in (
        lambda: write_planned_writeback_artifact(store, session_id, Mine(name="a")),
        lambda: write_writeback_artifact(store, session_id, Mine(name="a")),
        lambda: load_replay_artifact(store, session_id, Mine),
    ):
        with pytest.raises(InvalidInput, match="session id"):
            call()


def test_encoding_is_canonical(finished):
    for key in (PLANNED, FINAL):
        data = finished.get(key).data
        assert data == encode(json.loads(data))
        assert data.endswith(b"}\n")
        assert b"\r" not in data


@pytest.mark.parametrize(("key", "model"), [(PLANNED, PlannedWriteback), (FINAL, Writeback)])
def test_every_truncation_and_every_bit_flip_is_found_out(finished, key, model):
    data = finished.get(key).data
    intact = decode(data, model, key=key)
    variants = [data[:length] for length in range(len(data) - 1)]
    variants += [
        data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]
        for position in range(len(data))
        for bit in range(8)
    ]
    unnoticed = [variant for variant in variants if not _is_refused(variant, model, key)]
    assert all(decode(variant, model, key=key) == intact for variant in unnoticed)
    assert len(unnoticed) < len(variants) / 20  # only white space may change without a change of value


def _is_refused(data, model, key):
    try:
        decode(data, model, key=key)
    except CorruptArtifact as error:
        return key in str(error)
    return False


def test_the_checksum_is_what_finds_a_changed_value(finished):
    document = json.loads(finished.get(PLANNED).data)
    document["lease_seconds"] = 1e9
    with pytest.raises(CorruptArtifact, match="checksum"):
        decode(encode(document), PlannedWriteback, key=PLANNED)


def test_a_newer_version_is_refused_and_says_so(finished):
    document = json.loads(finished.get(PLANNED).data) | {"version": 2, "unheard_of": True}
    with pytest.raises(NewerArtifact, match="upgrade"):
        decode(encode(document), PlannedWriteback, key=PLANNED)


def test_an_artifact_of_another_session_is_refused(finished):
    with pytest.raises(CorruptArtifact, match="another session"):
        decode(finished.get(PLANNED).data, PlannedWriteback, key="s2/planned-writeback.json")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"version": 1, "format": "writeahead/planned-writeback", "x": NaN}',
        b'{"x": ' + b"9" * 10_000 + b"}",
        b'"text"',
        b"\xef\xbb\xbf{}",
        b'{"format": "writeahead/writeback", "version": 1}',
    ],
    ids=["deep list", "deep object", "NaN", "huge number", "string", "BOM", "other format"],
)
def test_foreign_bytes_are_corrupt_not_a_crash(data):
    with pytest.raises(CorruptArtifact, match=PLANNED):
        decode(data, PlannedWriteback, key=PLANNED)
