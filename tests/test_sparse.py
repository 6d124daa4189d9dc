"""Fields that are left out while they are unset, on every pydantic alike."""

import json
import pickle
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from writeahead._sparse import LeftOut, Sparse, is_none, is_unset


class Part(Sparse):
    name: str
    note: Annotated[str | None, LeftOut(is_none)] = None
    turn: Annotated[int, LeftOut(is_unset)] = Field(default=0, ge=0)


class Larger(Part):
    more: Annotated[dict[str, int], LeftOut(is_unset)] = Field(default_factory=dict)
    parts: tuple[Part, ...] = ()


class Outer(BaseModel):
    parts: list[Part]


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({}, {}),
        ({"note": None, "turn": 0}, {}),
        ({"note": ""}, {"note": ""}),
        ({"note": "x", "turn": 2}, {"note": "x", "turn": 2}),
    ],
)
def test_what_is_unset_is_in_no_dump_at_any_depth(fields, written):
    part, written = Part(name="a", **fields), {"name": "a", **written}
    for dumped in (
        part.model_dump(),
        part.model_dump(mode="json"),
        json.loads(part.model_dump_json()),
        Outer(parts=[part]).model_dump(mode="json")["parts"][0],
        json.loads(Outer(parts=[part]).model_dump_json())["parts"][0],
        Larger(name="b", parts=(part,)).model_dump(mode="json")["parts"][0],
    ):
        assert dumped == written
    assert Part.model_validate(written) == part


def test_a_subclass_leaves_out_its_own_and_what_it_inherits():
    assert Larger(name="a").model_dump() == {"name": "a", "parts": ()}
    whole = {"name": "a", "note": "n", "turn": 1, "more": {"x": 1}, "parts": ()}
    assert Larger(**whole).model_dump() == whole
    # As a field of the base's type, it is written as the base.
    assert Outer(parts=[Larger(**whole)]).model_dump()["parts"] == [{"name": "a", "note": "n", "turn": 1}]


def test_bounds_beside_the_mark_hold():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Part(name="a", turn=-1)


def test_what_a_dump_is_asked_to_leave_out_is_left_out():
    part = Part(name="a", note="n", turn=1)
    assert part.model_dump(exclude={"note"}) == {"name": "a", "turn": 1}
    assert part.model_dump(include={"note"}) == {"note": "n"}


def test_the_json_schema_has_every_field():
    for mode in ("validation", "serialization"):
        assert list(Part.model_json_schema(mode=mode)["properties"]) == ["name", "note", "turn"]


def test_the_order_the_copy_and_the_pickle_are_those_of_any_model():
    part = Part(name="a", turn=1)
    assert list(part.model_dump()) == ["name", "turn"]
    assert part.model_copy(update={"turn": 0}).model_dump() == {"name": "a"}
    assert pickle.loads(pickle.dumps(part)) == part
