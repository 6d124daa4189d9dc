"""What is planned is what was asked for: a payload that would change is refused, by field."""

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretBytes,
    SecretStr,
    field_validator,
)

from tests.support.remotes import Remote, RemoteAdapter
from writeahead import (
    Adapter,
    Operation,
    PlannedOperation,
    Receipt,
    RunPolicy,
    WriteaheadError,
    emits,
    load_replay_artifact,
    write_back,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.errors import Applied, InvalidInput, PlanConflict, TransientError
from writeahead.protocol.encoding import digest_of, encode
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock


class Base(BaseModel):
    text: str = "x"


class Derived(Base):
    more: int = 2


class Secret(Base):
    password: SecretStr = SecretStr("planted")


class DeepSecret(Base):
    inner: list[dict[str, SecretBytes]] = Field(default_factory=lambda: [{"a": SecretBytes(b"planted")}])


class Excluded(Base):
    hidden: int = Field(default=1, exclude=True)


class Private(Base):
    _mine: int = PrivateAttr(default=0)


class Items(Base):
    items: list[Base] = Field(default_factory=list)


class Keys(Base):
    counts: dict[Any, int] = Field(default_factory=dict)


class Title(Base):
    name: str = "Smith"

    @field_validator("name")
    @classmethod
    def _polite(cls, name: str) -> str:
        return f"Mr {name}"


class Raw(Base):
    raw: bytes = b""


class Loose(Base):
    value: Any = None


class Tags(Base):
    tags: set[str] = Field(default_factory=set)
    pairs: frozenset[frozenset[int]] = frozenset()


def private():
    model = Private()
    model._mine = 7
    return model


REFUSED = {
    "a secret": (Secret(), r"Secret\.password: is a secret, .*by its environment"),
    "a deep secret": (DeepSecret(), r"DeepSecret\.inner\.0\.a: is a secret"),
    "an excluded field": (Excluded(hidden=2), r"Excluded\.hidden: is excluded"),
    "a private attribute": (private(), r"Private\._mine: is private"),
    "a subclass's field": (
        Items(items=[Derived()]),
        r"Items\.items\.0: would read back as Base, and it is Derived",
    ),
    "keys that collide": (Keys(counts={1: 1, "1": 2}), r"Keys\.counts: has keys"),
    "a validator that is not idempotent": (
        Title(name="Smith"),
        r"Title\.name: would read back as another str",
    ),
    "bytes that are not text": (Raw(raw=b"\xff"), r"Raw\.raw: can't be written as JSON"),
    "a set of any type": (Loose(value={1}), r"Loose\.value: would read back as list, and it is set"),
    "no number": (Loose(value=float("nan")), r"Loose\.value"),
}
KEPT = {
    "nothing set": (Excluded(), {"text": "x"}),
    "a private default": (Private(), {"text": "x"}),
    "a tuple": (Loose(value=(1, 2)), {"text": "x", "value": [1, 2]}),
    "text in bytes": (Raw(raw=b"a"), {"text": "x", "raw": "a"}),
    "keys that do not collide": (Keys(counts={"1": 2}), {"text": "x", "counts": {"1": 2}}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_operation_refuses_a_payload_that_changes(what):
    model, said = REFUSED[what]
    with pytest.raises(InvalidInput, match=said) as caught:
        Operation(kind="create", payload=model)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("write", [write_planned_writeback_artifact, write_writeback_artifact])
def test_an_artifact_function_refuses_a_model_that_changes(what, write):
    model, said = REFUSED[what]
    store = MemoryStore()
    with pytest.raises(InvalidInput, match=said):
        write(store, "s1", model)
    assert not list(store.list())


@pytest.mark.parametrize("what", KEPT)
def test_what_stays_the_same_is_kept(what):
    model, payload = KEPT[what]
    assert Operation(kind="create", payload=model).payload == payload


def test_an_operation_given_as_a_mapping_is_held_to_the_same():
    with pytest.raises(InvalidInput, match=r"^operation 1: .*Secret\.password: is a secret") as caught:
        write_back(
            [{"kind": "create", "payload": Secret()}],
            session_id="s1",
            store=MemoryStore(),
            adapter=RemoteAdapter(Remote()),
        )
    assert "planted" not in str(caught.value)


PRINT_TAGS = """
from tests.test_roundtrip import Tags
from writeahead import Operation
tags = {f"tag-{number}" for number in range(40)}
pairs = frozenset({frozenset({1, 2, 3}), frozenset({30, 4})})
print(Operation(kind="create", payload=Tags(tags=tags, pairs=pairs)).model_dump_json())
"""


def test_sets_come_in_one_order_in_every_process():
    orders = {
        subprocess.run(
            [sys.executable, "-c", PRINT_TAGS],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    (order,) = orders
    assert json.loads(order)["payload"]["pairs"] == [[1, 2, 3], [30, 4]]


@pytest.mark.parametrize("write", [write_planned_writeback_artifact, write_writeback_artifact])
def test_an_own_artifact_whose_sets_stand_in_another_order_is_the_same(write):
    store = MemoryStore()
    info = write(store, "s1", Tags(tags={"a", "b"}))
    data = store.get(info.key).data
    other = data.replace(b'"a",\n    "b"', b'"b",\n    "a"')
    assert other != data
    # As version 0.1 left it, which had no checksum.
    for found in list(store.list("s1/")):
        store.delete(found.key)
    store.put(info.key, other)
    assert not getattr(write(store, "s1", Tags(tags={"a", "b"})), "earlier", False)
    assert store.get(info.key).data == other
    if write is write_planned_writeback_artifact:
        with pytest.raises(PlanConflict):
            write(store, "s1", Tags(tags={"a", "c"}))
    else:
        assert write(store, "s1", Tags(tags={"a", "c"})).earlier
    assert store.get(info.key).data == other


def test_a_conflict_never_advises_a_new_id_while_a_session_is_open():
    store, adapter = MemoryStore(), RemoteAdapter(Remote())
    write_back(
        [Operation(kind="create", payload={"text": "a"})], session_id="s1", store=store, adapter=adapter
    )
    write_planned_writeback_artifact(store, "s2", Base())
    with pytest.raises(PlanConflict, match="was completed with other operations"):
        write_back(
            [Operation(kind="create", payload={"text": "b"})], session_id="s1", store=store, adapter=adapter
        )
    with pytest.raises(PlanConflict) as caught:
        write_planned_writeback_artifact(store, "s2", Base(text="other"))
    assert "new" not in str(caught.value)


class Named(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str


class Bag(Base):
    tags: frozenset[Named] = frozenset()
    groups: set[frozenset[str]] = Field(default_factory=set, alias="inGroups")


class Listed(RootModel[list[set[str]]]):
    pass


OF_SETS = [
    Listed([{"b", "a", "c"}]),
    Bag(tags=[Named(name=name) for name in "cab"], inGroups=[{"b", "a"}, {"d", "c"}]),
]


@pytest.mark.parametrize("model", OF_SETS)
def test_sets_of_anything_are_artifacts_in_one_order(model):
    store = MemoryStore()
    write_planned_writeback_artifact(store, "s1", model)
    assert load_replay_artifact(store, "s1", type(model)).model == model
    document = json.loads(store.get("s1/planned-writeback.json").data)
    if isinstance(document, list):
        assert document == [["a", "b", "c"]]
    else:
        assert document["tags"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}]
        assert document["inGroups"] == [["a", "b"], ["c", "d"]]


def test_a_model_that_lost_a_field_is_not_the_same_plan():
    class Noted(Base):
        note: str = ""

    store = MemoryStore()
    write_planned_writeback_artifact(store, "s1", Noted(note="call back"))
    with pytest.raises(PlanConflict):
        write_planned_writeback_artifact(store, "s1", Base())


def kept_by(error):
    """All that a reporter of errors can get out of an error and what it was raised from."""
    kept = []
    while error is not None:
        kept += [str(error), repr(vars(error)), repr(getattr(error, "object", "")), getattr(error, "doc", "")]
        error = error.__cause__ or error.__context__
    return " ".join(kept)


def test_no_error_keeps_what_could_not_be_written_or_read():
    store = MemoryStore()
    store.put("s1/planned-writeback.json", b'{"text": "planted')
    asked = [{"kind": "create", "payload": {"text": "planted\ud800"}}]
    adapter = RemoteAdapter(Remote())
    for call in (
        lambda: Operation(kind="create", payload=Raw(raw=b"planted\xff")),
        lambda: load_replay_artifact(store, "s1", Base),
        lambda: write_back(asked, session_id="s2", store=store, adapter=adapter),
    ):
        with pytest.raises(WriteaheadError) as caught:
            call()
        assert "planted" not in kept_by(caught.value).replace("planned", "")


class Tagged(Adapter):
    name = "tagged"

    def __init__(self, fails):
        self.fails, self.sent = fails, []

    @emits("upsert")
    def emit_row(self, payload: Tags, operation: PlannedOperation) -> Receipt:
        if self.fails:
            raise TransientError("503", applied=Applied.NO)
        self.sent.append(payload)
        return Receipt()


def as_version_1(store, tags):
    """Rewrite a plan as version 1 wrote it: with a set in the order of another process."""
    key = "s1/planned-writeback.json"
    document = json.loads(store.get(key).data)
    document["operations"][0]["payload"]["tags"] = tags
    document |= {"version": 1, "request_digest": "of another order"}
    document |= {"digest": digest_of(document["operations"])}
    for name in ("checksum", "holder", "target"):
        document.pop(name, None)
    document["checksum"] = digest_of(document)
    store.delete(key)
    for info in list(store.list("s1/journal/")):
        store.delete(info.key)
    store.put(key, encode(document))


@pytest.mark.parametrize(("tags", "is_same"), [(["b", "c", "a"], True), (["b", "c", "d"], False)])
def test_a_repeat_of_a_version_1_plan_compares_sets_unordered(tags, is_same):
    store, clock = MemoryStore(), ManualClock()
    row = Operation(kind="row", payload=Tags(tags={"a", "b", "c"}))
    means = {"session_id": "s1", "store": store, "policy": RunPolicy(attempts=1), "clock": clock}
    write_back([row], adapter=Tagged(fails=True), **means)
    as_version_1(store, tags)
    clock.advance(3600)
    adapter = Tagged(fails=False)
    if is_same:
        assert write_back([row], adapter=adapter, **means).ok
        assert adapter.sent == [Tags(tags={"a", "b", "c"})]
    else:
        with pytest.raises(PlanConflict):
            write_back([row], adapter=adapter, **means)
        assert adapter.sent == []


class Discounted(BaseModel):
    text: str
    # pydantic does not validate defaults: this one is written as 0, and read as Decimal("0").
    discount: Decimal = 0


class Invoices(Adapter):
    name = "invoices"

    def __init__(self):
        self.sent = []

    @emits("create_with_key")
    def emit_invoice(self, payload: Discounted, operation: PlannedOperation) -> Receipt:
        self.sent.append(payload)
        return Receipt()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("payload", [{"text": "x"}, {"text": "x", "discount": "1.50"}])
def test_a_default_of_another_form_is_planned_as_it_is_read(payload):
    adapter = Invoices()
    asked = [{"kind": "invoice", "payload": payload}]
    report = write_back(asked, session_id="s1", store=MemoryStore(), adapter=adapter)
    assert report.ok, report.error
    assert adapter.sent == [Discounted.model_validate(report.operations[0].payload)]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_an_own_plan_with_a_default_of_another_form_can_be_loaded():
    store = MemoryStore()
    write_planned_writeback_artifact(store, "s1", Discounted(text="x"))
    assert load_replay_artifact(store, "s1", Discounted).model == Discounted(text="x")


def test_a_models_own_equality_hides_no_loss():
    class Row(BaseModel):
        id: str
        note: str = Field(default="", exclude=True)

        def __eq__(self, other):
            return isinstance(other, Row) and self.id == other.id

        __hash__ = None

    with pytest.raises(InvalidInput, match=r"Row\.note: is excluded from JSON"):
        Operation(kind="row", payload=Row(id="1", note="must not be lost"))
