"""Time at the remote: keys that it forgets, and upserts that land late."""

from datetime import timedelta

import pytest
from pydantic import BaseModel

from tests.support.worlds import World
from writeahead import Operation, PlannedOperation, Receipt, RunPolicy, emits
from writeahead.adapters.base import Adapter
from writeahead.errors import Applied, TransientError
from writeahead.model import BlockReason, RunStatus

HOUR = timedelta(hours=1)
POLICY = RunPolicy(attempts=1, clock_skew=5, lease=600, run_limit=86_400)


class Text(BaseModel):
    text: str = ""


class Service:
    """Remembers a key for an hour, then makes a second effect of it. What it applied, and when."""

    def __init__(self, clock):
        self.clock, self.keys, self.effects, self.requests = clock, {}, [], []
        self.meets = []

    def create(self, key):
        self.requests.append(key)
        meets = self.meets.pop(0) if self.meets else None
        if meets == "busy":
            raise TransientError("429", applied=Applied.NO, retry_after=30)
        if meets == "lost request":
            raise TransientError("timeout", applied=Applied.UNKNOWN)
        seen = self.keys.get(key)
        if seen is None or self.clock.now() - seen >= HOUR:
            self.keys[key] = self.clock.now()
            self.effects.append(key)
        if meets == "lost reply":
            raise TransientError("timeout", applied=Applied.UNKNOWN)
        if meets == "crash":
            raise KeyboardInterrupt


class Charges(Adapter):
    name = "charges"
    request_lifetime = 60.0

    def __init__(self, service):
        self.service = service

    @emits("create_with_key", key_valid_for=HOUR)
    def emit_charge(self, payload: Text, operation: PlannedOperation) -> Receipt:
        self.service.create(operation.key)
        return Receipt(remote_id=operation.key)


class SearchedCharges(Charges):
    def find_charge(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        self.service.requests.append("find")
        return Receipt(outcome="already_applied") if operation.key in self.service.effects else None


@pytest.fixture
def world():
    world = World(POLICY)
    world.service = Service(world.clock)
    world.adapter = Charges(world.service)
    return world


def charge(world, *meets, count=1):
    world.service.meets = list(meets)
    return world.run_operations([Operation(kind="charge")] * count)


def test_a_key_that_is_still_known_settles_a_lost_reply(world):
    assert charge(world, "lost reply").status is RunStatus.RESUME_NEEDED
    world.clock.advance(3000)
    assert world.resume().ok
    assert len(world.service.effects) == 1


def test_a_key_that_may_be_forgotten_is_not_sent_again(world):
    charge(world, "lost reply")
    world.clock.advance(3600)
    report = world.resume()
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.OUTCOME_UNKNOWN)
    assert "forgotten its key" in report.error
    assert len(world.service.effects) == len(world.service.requests) == 1


def test_a_key_counts_as_forgotten_a_margin_early(world):
    """A request that is sent just before it arrives after: 5 s of skew, 60 s for the way."""
    charge(world, "lost reply")
    world.clock.advance(3600 - 64)
    assert world.resume().status is RunStatus.BLOCKED


def test_the_age_of_a_key_runs_from_the_first_attempt(world):
    charge(world, "lost reply")
    for _ in range(3):
        world.service.meets = ["lost request"]
        world.clock.advance(1100)
        report = world.resume(now="trying")
    assert report.status is RunStatus.RESUME_NEEDED
    world.clock.advance(400)
    assert world.resume(now="trying").block_reason is BlockReason.OUTCOME_UNKNOWN
    assert len(world.service.effects) == 1


def test_a_sure_failure_starts_no_age(world):
    charge(world, "busy")
    world.clock.advance(7200)
    assert world.resume().ok
    assert len(world.service.effects) == 1


def test_a_silent_owner_may_have_sent_from_the_plan_on(world):
    world.service.meets = ["crash"]
    with pytest.raises(KeyboardInterrupt):
        world.run_operations([Operation(kind="charge")])
    # What the interrupt journaled is what a killed process would not have.
    for info in list(world.store.list("s1/journal/")):
        world.store.delete(info.key)
    world.clock.advance(3600)
    assert world.resume().block_reason is BlockReason.OUTCOME_UNKNOWN
    assert len(world.service.effects) == 1


def test_a_forgotten_key_is_searched_where_that_is_possible(world):
    world.adapter = SearchedCharges(world.service)
    charge(world, "lost reply")
    world.clock.advance(7200)
    report = world.resume()
    assert report.ok
    assert report.receipts["1-charge"].outcome == "already_applied"
    assert (len(world.service.effects), world.service.requests[1:]) == (1, ["find"])


def test_what_a_search_does_not_find_is_sent(world):
    world.adapter = SearchedCharges(world.service)
    charge(world, "lost request")
    world.clock.advance(7200)
    assert world.resume().ok
    assert world.service.requests[1:] == ["find", world.service.effects[0]]


class Rows(Adapter):
    """Upserts rows by name; a lost request lands when the test says so."""

    name = "rows"

    def __init__(self, meets):
        self.meets, self.rows, self.late, self.sent = list(meets), {}, [], []

    @emits("upsert", settles_after=timedelta(seconds=90))
    def emit_row(self, payload: Text, operation: PlannedOperation) -> Receipt:
        self.sent.append(payload.text)
        if self.meets and self.meets.pop(0) == "late":
            self.late.append(payload.text)
            raise TransientError("timeout", applied=Applied.UNKNOWN)
        self.rows["a"] = payload.text
        return Receipt()


def rows(*texts):
    return [Operation(kind="row", payload={"text": text}) for text in texts]


def test_an_upsert_waits_until_an_earlier_one_can_not_land_any_more():
    world = World(RunPolicy(attempts=2, wait_initial=1, run_limit=3600))
    world.adapter = Rows(["late"])
    assert world.run_operations(rows("one", "two")).ok
    assert world.adapter.sent == ["one", "one", "two"]
    assert sum(world.clock.slept) >= 90


def test_an_upsert_that_met_nothing_unknown_does_not_wait():
    world = World()
    world.adapter = Rows([])
    assert world.run_operations(rows("one", "two")).ok
    assert world.clock.slept == []


def test_a_wait_for_a_late_upsert_that_does_not_fit_parks_the_session():
    world = World(RunPolicy(attempts=2, wait_initial=1, run_limit=60))
    world.adapter = Rows(["late"])
    report = world.run_operations(rows("one", "two"))
    assert report.status is RunStatus.RESUME_NEEDED
    assert report.not_before is not None
    assert world.resume().status is RunStatus.RESUME_NEEDED
    assert world.adapter.sent == ["one", "one"]
    world.clock.advance(95)
    assert world.resume().ok
    assert world.adapter.sent == ["one", "one", "two"]


def test_a_key_that_expires_is_not_harmless_without_its_plan(world):
    assert charge(world).ok
    world.store.delete("s1/planned-writeback.json")
    world.clock.advance(7200)
    assert charge(world).ok
    assert len(world.service.effects) == 1
