"""What is wrong with an adapter's class is said where the class is defined."""

import pytest
from pydantic import BaseModel

from writeahead.adapters.base import Adapter, emits
from writeahead.model import Receipt


class Text(BaseModel):
    text: str


def emit(self, payload: Text, operation) -> Receipt:
    return Receipt()


def plan(self, payload: Text, operation):
    return None


def kind(replay):
    def emit_one(self, payload: Text, operation) -> Receipt:
        return Receipt()

    return emits(replay)(emit_one)


def define(**attributes):
    """An adapter with these attributes; what is None is left out."""
    parts = {"name": "crm", **attributes}
    return type("Crm", (Adapter,), {name: part for name, part in parts.items() if part is not None})


GOOD = {"emit_task": kind("upsert"), "emit_note": kind("lookup"), "find_note": plan, "plan_task": plan}


def test_a_class_that_is_complete():
    assert sorted(define(**GOOD).kinds) == ["note", "task"]


@pytest.mark.parametrize("name", ["plan_taks", "find_tasks", "plan_notes", "find_not"])
def test_a_method_of_no_kind_is_named_with_the_nearest_kind(name):
    prefix, _, misspelt = name.partition("_")
    nearest = "task" if misspelt.startswith("ta") else "note"
    with pytest.raises(TypeError, match=rf"Crm\.{name} is never called.*do you mean {prefix}_{nearest}\?"):
        define(**GOOD, **{name: plan})


def test_a_method_that_is_near_no_kind():
    with pytest.raises(TypeError, match=r"Crm\.find_customers is never called.*with _find_"):
        define(**GOOD, find_customers=plan)


def test_a_subclass_inherits_kinds_and_is_checked_too():
    base = define(**GOOD)
    assert sorted(type("Sub", (base,), {"plan_note": plan}).kinds) == ["note", "task"]
    with pytest.raises(TypeError, match=r"Sub\.plan_taks"):
        type("Sub", (base,), {"plan_taks": plan})


@pytest.mark.parametrize("name", [None, "", 7])
def test_a_class_with_kinds_needs_a_name(name):
    with pytest.raises(TypeError, match="Crm has no name"):
        define(**{**GOOD, "name": name})


def test_a_base_class_without_kinds_needs_no_name():
    assert define(name=None).kinds == {}


@pytest.mark.parametrize(
    ("replay", "said"), [("lookups", "not 'lookups'"), (emit, "not a function"), (None, "not a NoneType")]
)
def test_a_wrong_replay_class_names_the_five(replay, said):
    with pytest.raises(ValueError, match=said) as caught:
        emits(replay)
    for name in ("create_with_key", "upsert", "conditional_update", "lookup", "unprovable"):
        assert name in str(caught.value)


def test_a_kind_without_a_replay_class():
    with pytest.raises(TypeError, match=r"Crm\.emit_task has no replay class"):
        define(emit_task=emit)


def test_a_lookup_needs_a_find():
    with pytest.raises(TypeError, match="needs a find_note"):
        define(**{**GOOD, "find_note": None})


@pytest.mark.parametrize("method", ["emit_task", "plan_task"])
def test_a_method_needs_a_model_for_its_payload(method):
    def bare(self, payload, operation):
        return None

    with pytest.raises(TypeError, match="must annotate its parameter 'payload'"):
        define(**{**GOOD, method: emits("upsert")(bare)})


def test_a_method_that_can_not_be_called_is_refused():
    with pytest.raises(TypeError, match=r"emit_row must take \(self, payload, operation\)"):

        class NoOperation(Adapter):
            name = "crm"

            @emits("upsert")
            def emit_row(self, payload: dict): ...


def test_emits_on_what_is_no_kind_is_refused():
    with pytest.raises(TypeError, match=r"row is decorated with @emits, and names no kind: call it emit_row"):

        class NoPrefix(Adapter):
            name = "crm"

            @emits("upsert")
            def row(self, payload: dict, operation): ...
