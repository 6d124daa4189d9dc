"""What is wrong comes back as a value: nothing of what was validated is in it, or hangs on it."""

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from writeahead import Operation
from writeahead._validation import Invalid, Problem, validated
from writeahead.errors import InvalidInput, WriteaheadError
from writeahead.protocol.planning import keyed_operations


class Inner(BaseModel):
    count: int = Field(gt=0)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    inner: list[Inner] = []

    @field_validator("name")
    @classmethod
    def _no_dots(cls, value):
        if "." in value:
            raise ValueError("has a dot")
        return value


def test_what_is_valid_comes_back():
    assert validated(lambda: Outer.model_validate({"name": "a"})) == Outer(name="a")


def test_every_problem_with_its_place():
    given = {"name": "planted.", "inner": [{"count": 1}, {"count": "planted"}, {}], "more": "planted"}
    found = validated(lambda: Outer.model_validate(given))
    assert isinstance(found, Invalid)
    assert [(problem.place, problem.kind) for problem in found.problems] == [
        (("name",), "value_error"),
        (("inner", 1, "count"), "int_parsing"),
        (("inner", 2, "count"), "missing"),
        (("more",), "extra_forbidden"),
    ]
    line = found.line()
    assert line.startswith("name: Value error, has a dot; inner.1.count: ")
    assert "planted" not in line + repr(found)
    assert "\n" not in line


def test_a_whole_that_is_none():
    found = validated(lambda: Outer.model_validate("planted"))
    assert isinstance(found, Invalid)
    assert found.line("payload").startswith("payload: ")
    assert Problem((), "x", "y").where("it") == "it"


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError):
        validated(lambda: 1 / 0)


@pytest.mark.parametrize("operation", [{"kind": 7, "payload": "planted"}, {"planted": 1}, "planted"])
def test_nothing_hangs_on_the_error(operation):
    with pytest.raises((InvalidInput, WriteaheadError)) as caught:
        keyed_operations("session", [Operation(kind="a", payload={}), operation])
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
