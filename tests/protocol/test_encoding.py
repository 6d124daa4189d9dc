"""Encoded by orjson where that makes the same bytes, which digests of earlier versions need."""

import datetime as dt
import enum
import hashlib
import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from writeahead.errors import InvalidInput
from writeahead.model import PlannedOperation, ReplayClass
from writeahead.protocol.encoding import decode, digest_of, digest_of_operations, encode, encode_model
from writeahead.protocol.schema import (
    JournalEntry,
    PlannedWriteback,
    SettledOperation,
    StoredReceipt,
    Writeback,
    document_of_receipt,
)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=4), inside, max_size=4),
    max_leaves=20,
)


def by_python(document) -> bytes:
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2, sort_keys=True)
    return text.encode() + b"\n"


@given(DOCUMENTS)
def test_the_bytes_are_those_of_pythons_json(document):
    assert encode(document) == by_python(document)


EDGES = [1e16, 1e-5, 1e22, 5e-324, -0.0, 1.0, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**400]
EDGES += [
    '\x7f\x00\x1f\u2028\ud7ff\U0001f600"\\/',
    "",
    [],
    {},
    [[]],
    {"": {}},
    {"b": 1, "a": 2, "B": 3, "é": 4},
]


@pytest.mark.parametrize("document", EDGES, ids=lambda document: repr(document)[:20])
def test_the_edges_of_json_are_those_of_pythons(document):
    assert encode({"x": document}) == by_python({"x": document})
    assert digest_of([document]) == hashlib.sha256(by_python([document])).hexdigest()


def nested(depth):
    document = []
    for _ in range(depth):
        document = [document]
    return document


def test_a_depth_that_only_python_encodes():
    assert encode(nested(300)) == by_python(nested(300))


class Name(enum.StrEnum):
    ONE = "one"


@pytest.mark.parametrize(
    "document",
    [
        float("nan"),
        float("inf"),
        "\ud800",
        uuid.UUID(int=0),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        {1, 2},
        b"",
        nested(100_000),
    ],
    ids=lambda document: type(document).__name__,
)
def test_what_json_does_not_have_is_refused(document):
    """orjson writes some of it, and NaN as null."""
    for held in (document, [document], {"x": document}):
        with pytest.raises(InvalidInput, match="must be JSON in UTF-8"):
            encode(held)


def test_names_and_tuples_are_written_as_python_does():
    assert encode({"x": Name.ONE, "y": (1, 2), Name.ONE: 1}) == by_python({"x": "one", "y": [1, 2], "one": 1})


PAYLOADS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4), DOCUMENTS, max_size=4
)


@given(
    PAYLOADS,
    st.none() | PAYLOADS,
    st.sampled_from(ReplayClass),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=2),
    st.none() | st.just("0" * 64),
)
def test_a_digest_is_of_what_pydantic_dumps(payload, precondition, replay, warnings, identity):
    operation = PlannedOperation(
        id="1",
        kind="row",
        key="k",
        payload=payload,
        precondition=precondition,
        replay=replay,
        warnings=tuple(warnings),
        identity=identity,
    )
    expected = hashlib.sha256(by_python([operation.model_dump(mode="json")])).hexdigest()
    assert digest_of_operations([operation]) == expected


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


RECEIPTS = st.builds(
    StoredReceipt,
    remote_id=st.none() | TEXTS,
    remote_version=st.none() | TEXTS,
    outcome=st.sampled_from(["applied", "already_applied", "assumed"]),
    value=DOCUMENTS,
    confirmed_at=st.none() | st.datetimes(timezones=st.timezones()),
    attempts=st.none() | st.integers(0, 9),
    generation=st.integers(0, 3),
)


@given(RECEIPTS)
def test_an_artifact_holds_what_pydantic_dumps(receipt):
    assert document_of_receipt(receipt) == receipt.model_dump(mode="json")
    operation = SettledOperation(id="1", kind="row", key="k", payload={}, replay="upsert", receipt=receipt)
    final = Writeback(
        session_id="s1",
        adapter="a",
        plan_digest=digest_of_operations([operation]),
        completed_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        operations=(operation,),
    )
    written = json.loads(encode_model(final))
    seal = {"format", "version", "checksum"}
    assert {name: written[name] for name in written.keys() - seal} == json.loads(
        json.dumps(final.model_dump(mode="json"))
    )


@given(PAYLOADS)
def test_an_artifact_is_read_as_it_was_written(payload):
    operation = PlannedOperation(id="1", kind="row", key="k", payload=payload, replay=ReplayClass.UPSERT)
    moment = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    plan = PlannedWriteback(
        session_id="s1",
        adapter="a",
        created_at=moment,
        owner="o",
        lease_seconds=1e-7,
        request_digest="",
        digest=digest_of_operations([operation]),
        operations=(operation,),
    )
    key = "s1/planned-writeback.json"
    data = encode_model(plan)
    assert decode(data, PlannedWriteback, key=key) == plan
    assert list(json.loads(data)) == sorted(json.loads(data))
    assert data.endswith(b"\n}\n")


def test_the_fields_of_an_operation_are_all_in_its_digest():
    """A field that is added to operations must be added to the digest's document, too."""
    assert set(PlannedOperation.model_fields) == {
        *("id", "kind", "key", "payload", "precondition", "replay", "warnings", "identity"),
        "independent",
    }
    assert "operations" not in JournalEntry.model_fields
