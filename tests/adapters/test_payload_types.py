"""Payloads of any type that says its fields: what is planned is what was asked for, and is sent."""

import dataclasses
import functools
import sys
import typing
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Generic, NotRequired, TypeVar

import pydantic
import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, model_validator
from typing_extensions import TypedDict

from tests.support.worlds import World
from writeahead import Adapter, Operation, PlannedOperation, Receipt, emits
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation

T = TypeVar("T")


class Model(BaseModel):
    text: str
    due: date | None = None


@dataclass
class Plain:
    text: str
    due: date | None = None


@dataclass(frozen=True, slots=True)
class Slotted:
    text: str
    due: date | None = None


@pydantic.dataclasses.dataclass
class Pydantic:
    text: str
    due: date | None = None


class Typed(TypedDict):
    text: str
    due: NotRequired[date | None]


class Box(BaseModel, Generic[T]):
    text: T
    due: date | None = None


def adapter_of(annotation, planner=None, finder=None):
    """An adapter with one kind, whose payload is so annotated; ``sent`` has what its emit got."""

    class Rows(Adapter):
        name = "rows"

        def __init__(self):
            self.sent = []

        @emits("upsert")
        def emit_row(self, payload: annotation, operation: PlannedOperation) -> None:
            self.sent.append(payload)

        if planner:
            plan_row = planner
        if finder:
            find_row = finder

    return Rows()


def run(adapter, *payloads):
    world = World()
    world.adapter = adapter
    report = world.run_operations([{"kind": "row", "payload": payload} for payload in payloads])
    return world, report


TYPES = {
    "a model": (Model, Model(text="x", due=date(2030, 1, 2))),
    "a generic model": (Box[str], Box[str](text="x", due=date(2030, 1, 2))),
    "a dataclass": (Plain, Plain("x", date(2030, 1, 2))),
    "a frozen dataclass with slots": (Slotted, Slotted("x", date(2030, 1, 2))),
    "a dataclass of pydantic": (Pydantic, Pydantic("x", date(2030, 1, 2))),
    "a TypedDict": (Typed, {"text": "x", "due": date(2030, 1, 2)}),
    "annotated": (Annotated[Plain, "about it"], Plain("x", date(2030, 1, 2))),
    "one of two": (Plain | Typed, Plain("x", date(2030, 1, 2))),
    "a dict": (dict[str, Any], {"text": "x", "due": "2030-01-02"}),
    "a bare dict": (dict, {"text": "x", "due": "2030-01-02"}),
    "a mapping": (Mapping[str, Any], {"text": "x", "due": "2030-01-02"}),
}
DOCUMENT = {"text": "x", "due": "2030-01-02"}


@pytest.mark.parametrize("what", TYPES)
def test_a_payload_is_planned_as_json_and_sent_as_its_type(what):
    annotation, sent = TYPES[what]
    adapter = adapter_of(annotation)
    world, report = run(adapter, DOCUMENT)
    assert report.ok, report.error
    assert adapter.sent == [sent]
    assert type(adapter.sent[0]) is type(sent)
    assert world.json("s1/planned-writeback.json")["operations"][0]["payload"] == DOCUMENT


@pytest.mark.parametrize("what", ["a model", "a dataclass", "a frozen dataclass with slots"])
def test_a_caller_gives_a_value_of_fields(what):
    _, value = TYPES[what]
    assert Operation(kind="row", payload=value).payload == DOCUMENT
    adapter = adapter_of(type(value))
    assert run(adapter, value)[1].ok
    assert adapter.sent == [value]


# What would be lost or changed.


class Nested(BaseModel):
    rows: list[Typed]


@dataclass
class Renamed:
    text: Annotated[str, Field(alias="theText")] = ""


class TwoNames(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    text: str = Field(alias="theText")
    note: Any = Field(default=None, validation_alias=AliasChoices("note", "remark"))


class Translated(BaseModel):
    text: str = ""

    @model_validator(mode="before")
    @classmethod
    def _of_old(cls, given):
        return {"text": given["old"]} if "old" in given else given


class Careless(BaseModel):
    model_config = ConfigDict(extra="ignore")

    text: str


LOST = {
    "of a model": (Model, {"text": "x", "txet": 1}, "txet: Model has no such field"),
    "of a dataclass": (Plain, {"text": "x", "txet": 1}, "txet: Plain has no such field"),
    "of a dataclass of pydantic": (Pydantic, {"text": "x", "txet": None}, "txet: Pydantic has no such"),
    "of a TypedDict": (Typed, {"text": "x", "duee": 1}, "duee: Typed has no such field"),
    "deep inside": (Nested, {"rows": [{"text": "x"}, {"text": "y", "z": 1}]}, r"rows\.1\.z: Nested has"),
    "by a name that is not read": (Renamed, {"text": "x"}, "text: Renamed has no such field"),
}


@pytest.mark.parametrize("what", LOST)
def test_a_key_that_would_be_lost_is_named_before_anything_is_written(what):
    annotation, payload, said = LOST[what]
    adapter, world = adapter_of(annotation), World()
    world.adapter = adapter
    with pytest.raises(InvalidInput, match=said):
        world.run_operations([{"kind": "row", "payload": payload}])
    assert (world.names(), adapter.sent) == ([], [])


@pytest.mark.parametrize(
    ("annotation", "payload"),
    [
        (TwoNames, {"text": "x", "remark": {"a": 1}}),
        (TwoNames, {"theText": "x", "remark": None}),
        (Translated, {"old": "x"}),
        (Careless, {"text": "x", "more": 1}),
        (Renamed, {"theText": "x"}),
    ],
)
def test_a_key_that_is_read_under_another_name_is_not_lost(annotation, payload):
    adapter = adapter_of(annotation)
    world, report = run(adapter, payload)
    assert report.ok, report.error
    (sent,) = adapter.sent
    assert sent.text == "x"
    assert "planned" in " ".join(world.names())


def test_a_planner_that_plans_what_would_be_lost():
    def plan_row(self, payload: Model, operation: KeyedOperation) -> PlannedOperation:
        return PlannedOperation(
            id=operation.id, kind="row", key=operation.key, payload={"text": "x", "more": 1}, replay="upsert"
        )

    with pytest.raises(InvalidInput, match="more: Plain has no such field"):
        run(adapter_of(Plain, planner=plan_row), {"text": "x"})


@dataclass
class Secret:
    text: str
    password: SecretStr


@dataclass
class Computed:
    text: str
    size: int = field(init=False, default=0)

    def __post_init__(self):
        self.size = len(self.text)


@dataclass
class OfTwoKinds:
    text: str
    seed: InitVar[int] = 0


@dataclass
class Loose:
    value: Any


@dataclass
class Priced:
    price: Decimal
    tags: set[str] = field(default_factory=set)


@dataclass
class Excluded:
    text: str
    more: Annotated[int, Field(exclude=True)] = 0


def counted():
    value = Computed("x")
    value.size = 7
    return value


def with_more():
    value = Plain("x")
    value.more = 1
    return value


def wrong():
    return Plain(text="x", due="tomorrow")


REFUSED = {
    "a secret": (Secret("x", SecretStr("planted")), r"Secret\.password: is a secret"),
    "a field that is not given": (counted(), r"Computed\.size: would read back as another int"),
    "an attribute that is no field": (with_more(), r"Plain\.more: is no field"),
    "a wrong type": (wrong(), r"Plain does not read back what it writes: due"),
    "an excluded field": (Excluded("x", 7), r"Excluded\.more: would read back as another int"),
    "a set of any type": (Loose({1}), r"Loose\.value: would read back as list, and it is set"),
    "no number": (Loose(float("nan")), r"Loose\.value: (can't be written|would read back)"),
    "bytes": (Loose(b"\xff"), r"Loose\.value: can't be written"),
    "keys that collide": (Loose({1: 1, "1": 2}), r"Loose\.value: has keys"),
    "an own class": (Loose(object()), r"Loose\.value: can't be written"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_dataclass_that_would_change_is_refused_by_its_field(what):
    value, said = REFUSED[what]
    with pytest.raises(InvalidInput, match=said) as caught:
        Operation(kind="row", payload=value)
    assert "planted" not in str(caught.value)
    assert "tomorrow" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        (Computed("x"), {"text": "x", "size": 1}),
        (OfTwoKinds("x", 0), {"text": "x"}),
        (Priced(Decimal("1.50"), {"b", "a"}), {"price": "1.50", "tags": ["a", "b"]}),
        (Loose((1, 2)), {"value": [1, 2]}),
    ],
)
def test_a_dataclass_that_reads_back_the_same_is_kept(value, payload):
    assert Operation(kind="row", payload=value).payload == payload
    adapter = adapter_of(type(value))
    assert run(adapter, value)[1].ok
    assert dataclasses.asdict(adapter.sent[0]) == {
        **dataclasses.asdict(value),
        **({"value": [1, 2]} if isinstance(value, Loose) else {}),
    }


@dataclass
class Cached:
    text: str

    @functools.cached_property
    def size(self):
        return len(self.text)


def test_what_a_dataclass_has_computed_of_its_fields_is_not_lost():
    value = Cached("x")
    assert value.size == 1
    assert Operation(kind="row", payload=value).payload == {"text": "x"}


def test_what_a_mapping_can_not_hold_is_named():
    for payload in ({"a": float("nan")}, {"a": {1, 2}}, {"a": b"\xff"}, {"a": Plain("x")}):
        with pytest.raises(InvalidInput, match="a"):
            run(adapter_of(dict), payload)


# Planners and searches.


def test_a_planner_and_a_search_have_types_of_their_own():
    seen = []

    def plan_row(self, payload: Typed, operation: KeyedOperation) -> PlannedOperation:
        seen.append(payload)
        return PlannedOperation(
            id=operation.id, kind="row", key=operation.key, payload={"text": payload["text"]}, replay="upsert"
        )

    def find_row(self, payload: dict[str, Any], operation: PlannedOperation) -> Receipt | None:
        seen.append(payload)

    adapter = adapter_of(Plain, planner=plan_row, finder=find_row)
    _, report = run(adapter, {"text": "x"})
    assert adapter.sent == [Plain("x")]
    assert adapter.find(report.operations[0]) is None
    assert seen == [{"text": "x"}, {"text": "x", "due": None}]


class Parsed(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    text: str
    made: Any = None

    @model_validator(mode="after")
    def _made(self):
        self.made = object()
        return self


def test_what_only_a_planner_sees_need_not_be_json():
    def plan_row(self, payload: Parsed, operation: KeyedOperation) -> PlannedOperation:
        return PlannedOperation(
            id=operation.id, kind="row", key=operation.key, payload={"text": payload.text}, replay="upsert"
        )

    adapter = adapter_of(Plain, planner=plan_row)
    assert run(adapter, {"text": "x"})[1].ok
    assert adapter.sent == [Plain("x")]


class Tagged(BaseModel):
    tags: set[str]
    text: str = ""


def test_a_lost_key_is_found_beside_a_set():
    tags = [f"tag {number}" for number in range(50)]
    with pytest.raises(InvalidInput, match="txet: Tagged has no such field"):
        run(adapter_of(Tagged), {"tags": tags[::-1], "txet": "x"})


# What is wrong with an annotation is said where the class is defined.


class FromTyping(typing.TypedDict):
    text: str


@pytest.mark.parametrize("annotation", [int, str, list[Model], Model | None, Any, "Model | int", object])
def test_an_annotation_that_is_no_object_in_json(annotation):
    with pytest.raises(TypeError, match="must annotate its parameter 'payload' with a pydantic model, a"):
        adapter_of(annotation)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there, pydantic takes it")
def test_a_typed_dict_of_python_3_11():
    with pytest.raises(TypeError, match=r"FromTyping is a typing\.TypedDict.*take it from typing_extensions"):
        adapter_of(FromTyping)


def test_an_annotation_that_can_not_be_found():
    with pytest.raises(TypeError, match=r"'payload' with 'Nowhere', which is not to be found.*TYPE_CHECKING"):
        adapter_of("Nowhere")


def test_only_the_payload_has_to_be_found():
    class Rows(Adapter):
        name = "rows"

        @emits("upsert")
        def emit_row(self, payload: "Plain", operation: "OnlyForCheckers") -> "Receipt":  # noqa: F821
            return Receipt()

    assert list(Rows.kinds) == ["row"]


class Unfinished(BaseModel):
    later: "NotDefinedYet"  # noqa: F821


class Odd:
    pass


@dataclass
class OfOdd:
    odd: Odd


@pytest.mark.parametrize(("annotation", "said"), [(Unfinished, "not (fully )?defined"), (OfOdd, "Odd")])
def test_a_type_that_has_no_schema_is_named_before_anything_is_written(annotation, said):
    world = World()
    world.adapter = adapter_of(annotation)
    with pytest.raises(TypeError, match=rf"{annotation.__name__} can't be read from JSON: .*{said}"):
        world.run_operations([{"kind": "row", "payload": {}}])
    assert world.names() == []


def test_a_class_builds_nothing_where_it_is_defined(monkeypatch):
    def build(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("writeahead._roundtrip.TypeAdapter", build)
    assert list(adapter_of(Typed).kinds) == ["row"]


@pytest.mark.parametrize("prefix", ["emit", "plan", "find"])
def test_a_generator_is_refused_where_the_class_is_defined(prefix):
    def sync(self, payload: Plain, operation):
        yield Receipt()

    async def asynchronous(self, payload: Plain, operation):
        yield Receipt()

    def emit(self, payload: Plain, operation) -> Receipt: ...

    for method in (sync, asynchronous):
        methods = {"emit_row": emit, f"{prefix}_row": method}
        methods["emit_row"] = emits("upsert")(methods["emit_row"])
        with pytest.raises(TypeError, match="is a generator"):
            type("Rows", (Adapter,), {"name": "rows", **methods})


class Switched(BaseModel):
    status: str = "new"

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given):
        return {"status": "draft"} if "draft" in given else given


class Long(BaseModel):
    kind: typing.Literal["long"]
    text: str = Field(validation_alias=AliasChoices("t", "text"))


class Short(BaseModel):
    kind: typing.Literal["short"]


class Mixed(BaseModel):
    parts: list[Long | Short]


def test_a_key_that_only_has_to_be_there_is_read():
    adapter = adapter_of(Switched)
    run(adapter, {"draft": True})
    assert adapter.sent == [Switched(status="draft")]


def test_a_key_that_is_lost_in_another_type_of_item_is_named():
    parts = [{"kind": "long", "t": "x"}, {"kind": "short", "t": "x"}]
    with pytest.raises(InvalidInput, match=r"parts\.1\.t: Mixed has no such field"):
        run(adapter_of(Mixed), {"parts": parts})
