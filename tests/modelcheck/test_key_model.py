"""Every state of a key that expires keeps every promise; each planted bug doubles an effect."""

import pytest

from tests.support.key_model import KeyBug, KeyModel
from tests.support.protocol_model import Broken, explore


@pytest.mark.parametrize("searches", [False, True])
def test_a_create_is_not_applied_twice_though_the_remote_forgets_its_key(searches):
    seen = explore(KeyModel(searches))
    print(f"{seen.states} states, {seen.steps} steps")
    assert not seen.found, seen.found
    assert seen.states > 10_000, "the model has lost its moving parts"
    assert any(state.final and state.now > 6 for state in seen.numbers), "no key has ever expired"


@pytest.mark.parametrize("bug", KeyBug)
def test_a_planted_bug_doubles_an_effect(bug):
    searches = bug is KeyBug.HASTY_SEARCH
    seen = explore(KeyModel(searches, bug), until=Broken.DOUBLED_KEYED)
    assert Broken.DOUBLED_KEYED in seen.found, f"{bug.value}: nothing in {seen.states} states"
    print(f"{bug.value}, {seen.states} states:", *seen.found[Broken.DOUBLED_KEYED], sep="\n    ")
