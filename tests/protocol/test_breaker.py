"""The circuit breaker alone: what opens, keeps open and closes it, with many under way."""

from datetime import timedelta

import pytest

from tests.support.remotes import Remote, RemoteAdapter
from writeahead.protocol.breaker import Breaker, Verdict


@pytest.fixture
def breaker(clock):
    return Breaker(clock)


def wait_of(breaker, clock):
    return breaker.probe_at - clock.now()


def opened(breaker, *, under_way=3):
    """A remote that was there, and goes down while so many sessions are under way."""
    assert breaker.admit()
    breaker.over(Verdict.UP)
    for _ in range(under_way):
        assert breaker.admit()
    for _ in range(under_way):
        breaker.over(Verdict.DOWN)
    assert breaker.is_open


def test_at_first_no_more_pass_than_may_fail(breaker):
    assert [breaker.admit() for _ in range(5)] == [True, True, True, False, False]
    breaker.over(Verdict.DOWN)
    assert not breaker.has_room
    breaker.over(Verdict.NOTHING)
    assert breaker.admit()
    assert not breaker.admit()
    breaker.over(Verdict.UP)
    assert all(breaker.admit() for _ in range(100))


def test_a_success_between_failures_keeps_it_closed(breaker):
    for verdict in [Verdict.DOWN, Verdict.DOWN, Verdict.UP] * 3:
        assert breaker.admit()
        breaker.over(verdict)
    assert not breaker.is_open


def test_many_failures_at_once_are_one_outage(breaker, clock):
    opened(breaker, under_way=32)
    assert wait_of(breaker, clock) == timedelta(seconds=5)


def test_one_probe_at_a_time_and_each_failure_doubles_the_wait(breaker, clock):
    opened(breaker)
    waits = []
    for _ in range(9):
        assert not breaker.admit()
        waits.append(wait_of(breaker, clock).total_seconds())
        clock.advance(waits[-1])
        assert (breaker.admit(), breaker.admit()) == (True, False)
        breaker.over(Verdict.DOWN)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    clock.advance(300)
    assert breaker.admit()
    breaker.over(Verdict.UP)
    assert not breaker.is_open
    opened(breaker)
    assert wait_of(breaker, clock) == timedelta(seconds=5)


def test_a_probe_that_finds_nothing_out_leaves_its_place(breaker, clock):
    opened(breaker)
    clock.advance(5)
    assert breaker.admit()
    breaker.over(Verdict.NOTHING)
    assert breaker.is_open
    assert breaker.admit()


def test_what_the_remote_asked_for_holds_all_back_and_is_no_failure(clock):
    adapter = RemoteAdapter(Remote())
    breaker = Breaker(clock, adapter)
    assert breaker.admit()
    breaker.over(Verdict.UP)
    clock.waits.tell(adapter, 900, clock.monotonic())
    assert breaker.is_open
    assert not breaker.has_room
    assert not breaker.admit()
    assert wait_of(breaker, clock) == timedelta(seconds=900)
    clock.advance(900)
    assert not breaker.is_open
    assert all(breaker.admit() for _ in range(9))


def test_of_two_waits_the_longer_one_counts(clock):
    adapter = RemoteAdapter(Remote())
    breaker = Breaker(clock, adapter)
    opened(breaker)
    clock.waits.tell(adapter, 900, clock.monotonic())
    assert wait_of(breaker, clock) == timedelta(seconds=900)
    clock.advance(900)
    # The breaker is open as before: one probe.
    assert (breaker.admit(), breaker.admit()) == (True, False)


def test_one_that_was_under_way_and_succeeds_closes_it(breaker):
    assert breaker.admit()
    breaker.over(Verdict.UP)
    for _ in range(4):
        assert breaker.admit()
    for verdict in (Verdict.DOWN, Verdict.DOWN, Verdict.DOWN, Verdict.UP):
        breaker.over(verdict)
    assert not breaker.is_open
