"""The list of survivors fits the code, and a mutant is found in it by its change."""

import ast
import tomllib
from pathlib import Path

import writeahead
from tests.mutation.survivors import LISTED, Change, changes, reasons

SOURCE = Path(writeahead.__file__).parent
# As mutmut writes a module: each function, and each mutant of it, by a name of its own.
MUTATED = '''
def x_wait__mutmut_orig(
    seconds: float,
) -> float:
    """Wait."""
    if seconds > 0:
        return seconds
    return 0.0


def x_wait__mutmut_1(
    seconds: float,
) -> float:
    """Wait."""
    if seconds >= 0:
        return seconds
    return 0.0


class Store:
    def xǁStoreǁ_put__mutmut_orig(self, key: str) -> None:
        self.send(
            key,
            "put",
        )

    def xǁStoreǁ_put__mutmut_12(self, key: str) -> None:
        self.send(
            key,
            )
'''


def test_a_mutant_is_told_by_what_it_changes():
    names = ["writeahead.retry.x_wait__mutmut_1", "writeahead.stores.base.xǁStoreǁ_put__mutmut_12"]
    assert list(changes(names, MUTATED).values()) == [
        Change("retry.wait", "if seconds > 0:", "if seconds >= 0:"),
        Change("stores.base.Store._put", '"put",', ""),
    ]


def test_what_is_listed_is_still_in_the_code():
    listed = reasons()
    assert listed
    gone = [change for change in listed if not _is_there(change)]
    assert not gone, "no longer in the code, so take it off the list"


def test_each_has_a_reason_and_stands_once():
    groups = tomllib.loads(LISTED.read_text())["group"]
    assert all(group["reason"].strip() for group in groups)
    assert len(reasons()) == sum(len(group["changes"]) for group in groups)


def _is_there(change):
    names = change.function.split(".")
    module, end = next(
        (path, end)
        for end in range(1, 4)
        if (path := SOURCE.joinpath(*names[:end]).with_suffix(".py")).is_file()
    )
    text = module.read_text()
    found = [ast.parse(text)]
    for name in names[end:]:
        found = [node for outer in found for node in outer.body if getattr(node, "name", None) == name]
    return any(change.was in _flat(ast.get_source_segment(text, node)) for node in found)


def _flat(text):
    return " ".join(line.strip() for line in text.splitlines())
