"""read_session: how a session stands, as a host's program reads it."""

import os

import pytest
from pydantic import BaseModel

from tests.support.remotes import Meets
from tests.support.worlds import World
from writeahead import RunPolicy, Session, read_session, write_planned_writeback_artifact
from writeahead.errors import CorruptArtifact, InvalidInput, ResumeError
from writeahead.model import BlockReason, RunStatus
from writeahead.testing import TracingStore


@pytest.fixture
def world():
    return World(RunPolicy(attempts=1, clock_skew=0))


def read(world, session_id="s1"):
    return read_session(world.store, session_id, clock=world.clock, clock_skew=0)


def test_a_finished_session_tells_its_receipts(world):
    world.run("create", "update")
    found = read(world)
    assert (found.status, found.error, found.not_before) == (RunStatus.COMPLETED, None, None)
    assert list(found.receipts) == ["1-create", "2-update"]
    assert {line.state for line in found.operations} == {"confirmed"}


def test_a_parked_session_tells_its_error_and_its_wait(world):
    world.remote.script["2-create"] = [Meets.RETRY_AFTER]
    report = world.run("create", "create")
    found = read(world)
    assert (found.status, found.operation) == (RunStatus.RESUME_NEEDED, "2-create")
    assert (found.error, found.not_before) == (report.error, report.not_before)
    assert list(found.receipts) == ["1-create"]
    assert [line.state for line in found.operations] == ["confirmed", "missing"]


def test_a_blocked_session_tells_its_reason(world):
    world.remote.script["1-mail"] = [Meets.LOST_REPLY]
    world.run("mail")
    found = read(world)
    assert (found.status, found.block_reason) == (RunStatus.BLOCKED, BlockReason.OUTCOME_UNKNOWN)
    assert found.operations[0].state == "attempted"


def test_an_active_session_tells_who_holds_it(world):
    world.run("create")
    world.store.delete("s1/writeback.json")
    found = read(world)
    assert (found.status, found.pid) == (RunStatus.IN_PROGRESS, os.getpid())
    assert found.not_before > world.clock.now()


def test_a_session_of_an_own_orchestrator_is_told_as_such(world):
    class Mine(BaseModel):
        text: str

    write_planned_writeback_artifact(world.store, "s1", Mine(text="x"))
    found = read(world)
    assert (found.own, found.status, found.operations) == (True, RunStatus.RESUME_NEEDED, ())


def test_what_can_not_be_read_is_an_error(world):
    with pytest.raises(ResumeError, match="holds nothing of it"):
        read(world)
    with pytest.raises(InvalidInput):
        read(world, "../s1")
    world.run("create")
    world.store.put("s1/writeback.json", b"{")
    with pytest.raises(CorruptArtifact, match=r"s1/writeback\.json"):
        read(world)


def test_a_marker_alone_is_no_plan_yet(world):
    world.store.put(".open/s1", b"")
    world.store.put("s1/notes.txt", b"of another program")
    with pytest.raises(ResumeError, match="holds nothing of it"):
        read(world)


def test_it_costs_one_listing_and_two_reads(world):
    world.remote.script["2-mail"] = [Meets.REJECTED]
    world.run("create", "mail")
    world.store = TracingStore(world.store)
    assert isinstance(read(world), Session)
    assert [call.verb for call in world.store.calls] == ["list", "get", "get"]
