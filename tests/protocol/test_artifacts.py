import json
import re

import pytest
from pydantic import BaseModel, ConfigDict, create_model, field_serializer, model_validator

from tests.support.remotes import STRICT, Remote, RemoteAdapter, Strict, operations
from tests.support.worlds import names
from writeahead import (
    ResumeError,
    load_replay_artifact,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.errors import CorruptArtifact, InvalidInput, NewerArtifact, PlanConflict
from writeahead.protocol import encoding
from writeahead.protocol.encoding import decode, digest_of, encode, encode_model, is_abandoned
from writeahead.protocol.keys import require_session_id
from writeahead.protocol.schema import PlannedWriteback, Writeback

PLANNED, FINAL = "s1/planned-writeback.json", "s1/writeback.json"


class Mine(BaseModel):
    name: str
    amount: float = 1.5


@pytest.fixture
def finished(store):
    write_back(operations("create"), session_id="s1", store=store, adapter=RemoteAdapter(Remote()))
    return store


def test_own_models_are_written_in_the_canonical_encoding(store):
    write_planned_writeback_artifact(store, "s1", Mine(name="Zoë"))
    assert store.get(PLANNED).data == '{\n  "amount": 1.5,\n  "name": "Zoë"\n}\n'.encode()


def test_writing_the_same_again_is_no_error_and_anything_else_is(store):
    write_planned_writeback_artifact(store, "s1", Mine(name="a"))
    write_planned_writeback_artifact(store, "s1", Mine(name="a"))
    with pytest.raises(PlanConflict, match="s1"):
        write_planned_writeback_artifact(store, "s1", Mine(name="b"))


def test_the_first_final_stands_and_the_second_call_says_so(store):
    first = write_writeback_artifact(store, "s1", Mine(name="a"))
    again = write_writeback_artifact(store, "s1", Mine(name="a"))
    other = write_writeback_artifact(store, "s1", Mine(name="b"))
    assert (first.earlier, again.earlier, other.earlier) == (False, False, True)
    assert first.etag == again.etag == other.etag
    assert store.get(FINAL).data == encode({"amount": 1.5, "name": "a"})


GOOD_PLAN = encode({"amount": 1.5, "name": "planned"})
GOOD_FINAL = encode({"amount": 1.5, "name": "final"})
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
        (None, None, "session s1: neither planned-writeback.json nor writeback.json"),
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


def test_an_artifact_that_does_not_fit_is_named_without_content(store):
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
    document = json.loads(finished.get(PLANNED).data) | {"version": 3, "unheard_of": True}
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


# Limits, and messages that name the culprit.


def test_an_artifact_may_be_as_large_as_the_limit_and_no_larger(store, monkeypatch):
    data = encode_model(Mine(name="a"))
    monkeypatch.setattr(encoding, "MAX_ARTIFACT_BYTES", len(data))
    write_planned_writeback_artifact(store, "s1", Mine(name="a"))
    assert load_replay_artifact(store, "s1", Mine).model == Mine(name="a")
    with pytest.raises(
        InvalidInput, match=rf"at most {len(data)} bytes, not {len(data) + 1}: make it several"
    ):
        write_planned_writeback_artifact(store, "s2", Mine(name="ab"))
    store.put("s2/planned-writeback.json", encode({"name": "ab", "amount": 1.5}))
    with pytest.raises(CorruptArtifact, match=rf"^s2/planned.*larger than any .*\({len(data) + 1} bytes\)"):
        load_replay_artifact(store, "s2", Mine)


@pytest.mark.parametrize(
    ("session_id", "shown"),
    [
        ("a/b", "'a/b'"),
        ("/" * 40, f"'{'/' * 40}'"),
        ("/" * 41, f"'{'/' * 40}... (41 characters)'"),
        (7, "'7'"),
    ],
)
def test_a_bad_session_id_is_shown_as_far_as_it_helps(session_id, shown):
    with pytest.raises(InvalidInput, match=rf"^session id {re.escape(shown)}: use 1 to 128 of"):
        require_session_id(session_id)


def test_what_is_no_json_is_called_by_its_type_alone():
    with pytest.raises(InvalidInput, match=r"^an artifact must be JSON in UTF-8: TypeError$"):
        encode({"a": object()})


class OneWay(BaseModel):
    amounts: list[int]

    @field_serializer("amounts")
    def _in_words(self, amounts: list[int]) -> list[str]:
        return ["planted" for _ in amounts]


class Whole(BaseModel):
    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _not_twice(self) -> "Whole":
        if self.model_extra:
            raise ValueError("planted")
        return self


def test_a_model_that_can_t_be_read_back_names_its_fields(store):
    with pytest.raises(
        InvalidInput, match=r"^OneWay does not .*: amounts\.0, amounts\.1; nothing was written$"
    ) as caught:
        write_planned_writeback_artifact(store, "s1", OneWay(amounts=[1, 2]))
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("model", [Mine, Whole])
def test_content_that_does_not_fit_is_named_by_its_places(store, model):
    store.put(PLANNED, encode({"extra": "planted"}))
    places = "name" if model is Mine else "the whole"
    with pytest.raises(CorruptArtifact, match=rf"^{PLANNED}: does not fit {model.__name__}: {places}$"):
        load_replay_artifact(store, "s1", model)


def test_not_all_places_are_named_where_there_are_many(store):
    many = create_model("Many", **{f"field_{number:03}": (int, ...) for number in range(100)})
    store.put(PLANNED, b"{}")
    with pytest.raises(CorruptArtifact) as caught:
        load_replay_artifact(store, "s1", many)
    assert len(str(caught.value)) == len(f"{PLANNED}: does not fit Many: ") + 300


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "writeahead/other"}, "not a writeahead/planned-writeback artifact"),
        (
            {"version": 3},
            r"newer version of writeahead \(format version 3, this one reads up to 2\): upgrade",
        ),
        ({"version": 99, "format": "writeahead/other"}, "not a writeahead/planned-writeback artifact"),
        ({"version": "2"}, "altered: its checksum does not match"),
        ({"version": 0}, "altered: its checksum does not match"),
        ({"checksum": None}, "altered: its checksum does not match"),
        ({"owner": "\\ud800"}, "altered: its checksum does not match"),
    ],
)
def test_what_is_wrong_with_an_artifact_is_said_with_its_key(finished, change, says):
    document = json.loads(finished.get(PLANNED).data) | change
    data = json.dumps(document).replace("\\\\", "\\").encode()
    with pytest.raises(CorruptArtifact, match=rf"^{PLANNED}: .*{says}"):
        decode(data, PlannedWriteback, key=PLANNED)


def test_a_checksum_that_is_missing_is_no_checksum(finished):
    document = json.loads(finished.get(PLANNED).data)
    del document["checksum"]
    with pytest.raises(CorruptArtifact, match="its checksum does not match"):
        decode(encode(document), PlannedWriteback, key=PLANNED)


@pytest.mark.parametrize("data", [b"{", b"\xff", b"[1, NaN]"])
def test_what_lies_at_a_plan_s_key_is_named_if_it_is_no_json(data):
    with pytest.raises(CorruptArtifact, match=rf"^{PLANNED}: truncated or altered"):
        is_abandoned(data, key=PLANNED)


@pytest.mark.parametrize(
    ("data", "told"), [(b"[]", False), (b"{}", False), (b'{"format": "writeahead/abandoned"}', True)]
)
def test_a_tombstone_is_known_by_its_format(data, told):
    assert is_abandoned(data, key=PLANNED) is told


def test_own_models_may_have_aliases_and_computed_fields(store):
    write_planned_writeback_artifact(store, "s1", STRICT)
    assert load_replay_artifact(store, "s1", Strict).model == STRICT


class LengthOfName(BaseModel):
    name: str

    @field_serializer("name")
    def _length(self, name: str) -> int:
        return len(name)


def test_a_model_that_does_not_read_back_is_refused(store):
    with pytest.raises(InvalidInput, match="name"):
        write_planned_writeback_artifact(store, "s1", LengthOfName(name="a"))
    assert names(store) == []


def test_a_damaged_plan_is_named_with_its_key(world):
    world.run("create")
    key = "s1/planned-writeback.json"
    plan = decode(world.store.get(key).data, PlannedWriteback, key=key)
    with pytest.raises(CorruptArtifact, match=f"{key}: its operations do not match its digest"):
        decode(encode_model(plan.model_copy(update={"digest": "0" * 64})), PlannedWriteback, key=key)
    with pytest.raises(CorruptArtifact, match=f"{key}: does not fit PlannedWriteback: lease_seconds"):
        decode(encode_model(plan.model_copy(update={"lease_seconds": -7.0})), PlannedWriteback, key=key)
    with pytest.raises(CorruptArtifact, match=f"{key}: not a writeahead/planned-writeback artifact"):
        decode(encode({"a": 1}), PlannedWriteback, key=key)
    older = {**world.json(key), "version": 0}
    older["checksum"] = digest_of({name: value for name, value in older.items() if name != "checksum"})
    with pytest.raises(CorruptArtifact, match=f"{key}: unknown format version"):
        decode(encode(older), PlannedWriteback, key=key)


def test_a_final_whose_operations_are_not_the_plan_s_says_so(world):
    world.run("create")
    key = "s1/writeback.json"
    final = decode(world.store.get(key).data, Writeback, key=key)
    with pytest.raises(CorruptArtifact, match=f"{key}: its operations do not match its digest"):
        decode(encode_model(final.model_copy(update={"plan_digest": "0" * 64})), Writeback, key=key)


def test_an_own_model_that_is_nested_too_deeply_is_named():
    class Tree(BaseModel):
        inner: "Tree | None" = None

        @model_validator(mode="before")
        @classmethod
        def climb(cls, value: object) -> object:
            raise RecursionError

    with pytest.raises(
        CorruptArtifact, match=r"s1/planned-writeback.json: does not fit Tree: nested too deeply"
    ):
        decode(b"{}", Tree, key="s1/planned-writeback.json")
