"""The real runner: independent operations of one run through every schedule, of two in a sample.

After each step the run is killed, in a copy of its world, and the session recovered: so this is a
kill between any two steps, too. ``WRITEAHEAD_DEPTH=2`` adds operations, failures and samples.
"""

import os
import threading

import pytest

from tests.support.actors import Tools
from tests.support.recoveries import resume
from tests.support.stepping import POLICY, SESSION, Violation
from tests.support.strand_schedules import Scenario, World, explore
from tests.support.strands import in_strands
from writeahead.model import RunReport, RunStatus
from writeahead.protocol import journal, runner
from writeahead.protocol.runner import write_back
from writeahead.protocol.stages import SideBySide

DEPTH = int(os.environ.get("WRITEAHEAD_DEPTH", "1"))
UNSURE = ("lost", "late", "not applied", "refused")


@pytest.fixture(autouse=True)
def strands(monkeypatch):
    for module in (runner, journal):
        monkeypatch.setattr(module, "new_owner", lambda: threading.current_thread().name)
    monkeypatch.setattr(SideBySide, "_in_threads", in_strands)


def begin(*kinds: str, **policy: object):
    """A run of independent operations; a kind with a ``!`` needs its order."""
    asked = [
        {"kind": kind.strip("!"), "payload": {"text": "x"}, "independent": not kind.endswith("!")}
        for kind in kinds
    ]

    def run(tools: Tools) -> RunReport:
        return write_back(
            asked,
            session_id=SESSION,
            store=tools.store,
            adapter=tools.adapter,
            policy=POLICY.model_copy(update={"attempts": 1, **policy}),
            clock=tools.clock,
        )

    return run


def nothing(tools: Tools) -> None:
    pass


def alone(*kinds: str, interval: float = 0.0, **more: object) -> Scenario:
    options = {"faults": 0, "crashes": 0, "jumps": 0, "outcomes": UNSURE, **more}
    return Scenario(nothing, {"A": begin(*kinds, journal_interval=interval)}, **options)


# Kinds, failed requests, and the journal's interval.
SCHEDULED = [(("mail", "post"), 0, 0.0), (("post", "create", "create!"), 0, 3600.0)]
MORE = [
    (("mail", "mail"), 1, 0.0),
    (("mail", "post", "create!"), 1, 3600.0),
    (("mail", "create", "mail!"), 1, 3600.0),
    (("mail", "mail", "post"), 0, 0.0),
]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kinds", "faults", "interval"), SCHEDULED + (MORE if DEPTH > 1 else []), ids=str)
def test_operations_under_way_at_once_keep_every_promise(kinds, faults, interval):
    coverage = explore(alone(*kinds, interval=interval, faults=faults))
    print(coverage)
    assert coverage.states > 100, "the schedules have lost their choices"


def sampled(chance, scenario: Scenario, samples: int) -> int:
    """Follow schedules at random, and recover from some moment of each."""
    steps = 0
    for sample in range(samples):
        world = World(scenario)
        try:
            while choices := world.choices():
                world.do(chance.choice(choices))
                world.check()
                steps += 1
                if chance.random() < 0.05:
                    world.check_recovery()
            world.check_recovery()
        except Violation as violation:
            pytest.fail("\n    ".join([f"sample {sample}: {violation}", *world.log]))
        finally:
            world.end()
    return steps


def ended(*kinds: str):
    """A session of which each operation has met a 503, and nothing else."""

    def prepare(tools: Tools) -> None:
        tools.adapter.ask = lambda _: "not applied"
        assert begin(*kinds)(tools).status is RunStatus.RESUME_NEEDED

    return prepare


@pytest.mark.timeout(3600)
def test_two_owners_of_operations_under_way_at_once_keep_every_promise(chance):
    steps, samples = 0, 10 if DEPTH == 1 else 1000 * DEPTH
    for _ in range(samples):
        kinds = [chance.choice(["mail", "post", "create", "edit", "mail!", "create!"]) for _ in range(3)]
        runs = {"A": resume, "B": resume}
        scenario = Scenario(ended(*kinds), runs, faults=2, crashes=1, jumps=2, outcomes=UNSURE)
        steps += sampled(chance, scenario, 1)
    print(f"{samples} schedules, {steps} steps")


# -- planted bugs


def content_with_an_entry_begun_before(plant):
    """An announcement waits for the entry that is put, whatever that one holds."""
    honest = journal.Journal.include

    def include(self, event, *, operation):
        before = self._put
        with self._writer:
            if self._put > before:
                return
        honest(self, event, operation=operation)

    plant(journal.Journal, "include", include)


def with_a_receipt_in_two_steps(plant):
    honest = journal.Journal.confirm

    def confirm(self, operation_id, *args):
        self.attempted.pop(operation_id, None)
        self.store.head("between")
        honest(self, operation_id, *args)

    plant(journal.Journal, "confirm", confirm)


@pytest.mark.parametrize(
    ("bug", "kinds", "promise"),
    [
        (content_with_an_entry_begun_before, ("mail", "mail"), "DOUBLED"),
        (with_a_receipt_in_two_steps, ("mail", "mail"), "DOUBLED"),
    ],
)
def test_a_planted_bug_is_found(bug, kinds, promise, monkeypatch):
    bug(monkeypatch.setattr)
    with pytest.raises(Violation, match=promise) as found:
        explore(alone(*kinds))
    print(found.value)
