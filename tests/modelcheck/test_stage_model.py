"""Every state of operations under way at once keeps every promise; each planted bug breaks one.

With ``WRITEAHEAD_DEPTH=2`` more operations and two owners at once are explored.
"""

import os

import pytest

from tests.support.protocol_model import CREATE, LOOKUP, UNPROVABLE, Broken, explore
from tests.support.stage_model import StageBug, StageModel

DEPTH = int(os.environ.get("WRITEAHEAD_DEPTH", "1"))
MODELS = [
    StageModel(((UNPROVABLE, LOOKUP), (CREATE,)), owners=1),
    StageModel(((LOOKUP, LOOKUP),), owners=2),
]
MORE = [
    StageModel(((LOOKUP, CREATE),), owners=2),
    StageModel(((UNPROVABLE, UNPROVABLE),), owners=2),
    StageModel(((UNPROVABLE, LOOKUP), (CREATE,)), owners=2),
    StageModel(((UNPROVABLE, UNPROVABLE, LOOKUP), (CREATE,)), owners=1),
]


def named(model):
    return f"{model.stages}-{model.owners}"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", MODELS + (MORE if DEPTH > 1 else []), ids=named)
def test_operations_under_way_at_once_keep_every_promise(model):
    seen = explore(model)
    print(f"{seen.states} states, {seen.steps} steps")
    assert not seen.found, seen.found
    assert seen.states > 500, "the model has lost its moving parts"
    assert seen.dead_end(lambda state: state.final) is None, "no operator could ever bring it to its end"


PAIR = ((UNPROVABLE, UNPROVABLE),)
PLANTED = [
    (StageBug.PRESUMES_FIRST, ((LOOKUP, LOOKUP),), Broken.DOUBLED_LOOKUP),
    (StageBug.EARLIER_ENTRY, PAIR, Broken.DOUBLED_UNPROVABLE),
    (StageBug.LOST_RECEIPT, PAIR, Broken.NEEDLESS_QUESTION),
    (StageBug.TWO_STEPS, PAIR, Broken.DOUBLED_UNPROVABLE),
    (StageBug.EARLY_STAGE, ((CREATE, CREATE), (CREATE,)), Broken.OUT_OF_ORDER),
    (StageBug.SENDS_UNDECIDED, PAIR, Broken.DOUBLED_UNPROVABLE),
    (StageBug.FORGETS_UNDECIDED, PAIR, Broken.DOUBLED_UNPROVABLE),
]


@pytest.mark.parametrize(("bug", "stages", "broken"), PLANTED)
def test_a_planted_bug_is_found(bug, stages, broken):
    seen = explore(StageModel(stages, owners=1, bug=bug), until=broken)
    assert broken in seen.found, f"{bug.value}: nothing in {seen.states} states"
    print(f"{bug.value} => {broken.value}, {seen.states} states:", *seen.found[broken], sep="\n    ")


def test_every_planted_bug_is_caught():
    assert {bug for bug, *_ in PLANTED} == set(StageBug)
