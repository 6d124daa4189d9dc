"""The clock of tests, and the real one's chance."""

from datetime import UTC, datetime, timedelta

from tests.support.remotes import Meets, Remote, RemoteAdapter, operations
from writeahead import RunPolicy, write_back
from writeahead.protocol.retry import Clock
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock

START = datetime(2030, 1, 1, tzinfo=UTC)


def test_time_moves_only_when_it_is_moved():
    clock = ManualClock(START)
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    assert (clock.now(), clock.monotonic()) == (START, 0.0)
    clock.advance(5)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=5), 5.0)


def test_a_sleep_moves_both_clocks_and_is_kept():
    clock = ManualClock(START)
    clock.sleep(7200)
    clock.sleep(0.5)
    assert clock.slept == [7200, 0.5]
    assert (clock.now() - START, clock.monotonic()) == (timedelta(seconds=7200.5), 7200.5)


def test_a_skew_is_seen_on_the_wall_clock_alone():
    clock = ManualClock(START, skew=-86_400)
    clock.advance(1)
    assert (clock.now(), clock.monotonic()) == (START + timedelta(seconds=1 - 86_400), 1.0)


def test_it_starts_at_the_real_time():
    before = datetime.now(UTC)
    clock = ManualClock()
    assert before <= clock.now() <= datetime.now(UTC)


def test_chance_is_what_the_test_says():
    assert [ManualClock(chance=0.25).random() for _ in range(3)] == [0.25] * 3


def test_the_real_chance_is_between_0_and_1_and_not_fixed():
    drawn = [Clock().random() for _ in range(100)]
    assert all(0 <= number < 1 for number in drawn)
    assert len(set(drawn)) > 1


def test_the_waits_of_a_run_are_sleeps_of_its_clock():
    clock = ManualClock()
    report = write_back(
        operations("create"),
        session_id="s1",
        store=MemoryStore(),
        adapter=RemoteAdapter(Remote(script={"1-create": [Meets.UNAVAILABLE] * 3})),
        policy=RunPolicy(attempts=3, wait_initial=60, wait_max=600),
        clock=clock,
    )
    assert (report.status, clock.slept) == ("resume_needed", [60, 120])
