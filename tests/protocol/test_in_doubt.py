"""What may have been sent although no receipt says so, as a run, a resume and show tell it."""

from datetime import timedelta

import pytest

from tests.support.remotes import Meets
from tests.support.worlds import World, held_by_another, refuse
from writeahead.model import RunStatus
from writeahead.report.page import read_page
from writeahead.report.session import operation_lines
from writeahead.testing import FaultyStore, StoreFault


def page_of(world):
    return read_page(world.store, "s1", now=world.clock.now(), clock_skew=0)


def states(lines):
    return {line.id: line.state for line in lines}


def test_an_unknown_outcome_is_told_by_the_run_and_by_show_alike():
    world = World()
    world.remote.script["2-create"] = [Meets.LOST_REQUEST] * 4
    report = world.run("create", "create", "create")
    assert report.status is RunStatus.RESUME_NEEDED
    expected = {"1-create": "confirmed", "2-create": "attempted", "3-create": "missing"}
    assert states(operation_lines(report.operations, report.receipts, report.attempted)) == expected
    assert states(page_of(world).operations) == expected


def test_what_a_silent_owner_may_have_sent_is_told_without_an_entry():
    world = World()
    held_by_another(world, kinds=("create", "update", "mail"))
    expected = {"1-create": "confirmed", "2-update": "attempted", "3-mail": "missing"}
    page = page_of(world)
    assert page.status is RunStatus.IN_PROGRESS
    assert states(page.operations) == expected
    assert list(world.resume().attempted) == ["2-update"]
    # Its lease is over, and it has still not said anything.
    world.clock.advance(10_000)
    page = page_of(world)
    assert page.status is RunStatus.RESUME_NEEDED
    assert states(page.operations) == expected
    assert page.operations[1].attempted_at < world.clock.now() - timedelta(hours=2)


@pytest.mark.parametrize("fault", [StoreFault.unavailable(), StoreFault.lost_reply()])
def test_what_could_not_be_announced_was_not_sent(fault):
    world = World()
    world.store = FaultyStore(world.store)
    world.store.fail("create", "s1/journal/*", fault, times=None)
    report = world.run("mail")
    assert report.status is RunStatus.RESUME_NEEDED
    assert world.remote.requests == []
    assert report.attempted == {}


def test_a_fenced_owner_does_not_claim_to_have_sent():
    world = World()
    store = world.store

    def taken(name, data, *, if_absent, put=store._put):
        if name == "s1/journal/000001.json":
            put(name, b"another owner's", if_absent=False)
        return put(name, data, if_absent=if_absent)

    store._put = taken
    report = world.run("mail")
    assert (report.status, report.attempted) == (RunStatus.IN_PROGRESS, {})
    assert world.remote.requests == []


def test_a_run_that_can_t_journal_its_end_still_says_what_it_sent():
    world = World()
    refuse(world.store, "s1/journal/")
    world.remote.script["1-create"] = [Meets.LOST_REPLY] * 4
    assert list(world.run("create").attempted) == ["1-create"]
