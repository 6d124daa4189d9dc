"""The one retry policy, and where time comes from."""

import threading
import time
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from writeahead import RunPolicy
from writeahead.errors import Applied, PermanentError, TransientError
from writeahead.protocol.context import RunContext
from writeahead.protocol.retry import Clock, with_retries
from writeahead.testing import ManualClock


class Remote:
    """Fails as often as it is told, then answers."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.slept = []
        self.sent = 0
        self.left = 1e9

    def send(self):
        self.sent += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    def ask(self, **policy):
        return with_retries(
            self.send,
            policy=RunPolicy(**policy),
            clock=ManualClock(),
            time_left=lambda: self.left,
            sleep=self.slept.append,
        )


def busy(number=0, retry_after=None):
    return TransientError(f"busy {number}", applied=Applied.NO, retry_after=retry_after)


def test_waits_double_up_to_the_longest():
    remote = Remote(*[busy(number) for number in range(1, 9)])
    with pytest.raises(TransientError, match="busy 6"):
        remote.ask(attempts=6, wait_initial=1, wait_max=5)
    assert (remote.sent, remote.slept) == (6, [1, 2, 4, 5, 5])


def test_a_success_ends_it():
    assert Remote().ask() == "done"
    remote = Remote(busy(), busy())
    assert remote.ask(wait_initial=0.5) == "done"
    assert (remote.sent, remote.slept) == (3, [0.5, 1])


def test_one_attempt_is_one():
    remote = Remote(busy())
    with pytest.raises(TransientError):
        remote.ask(attempts=1)
    assert (remote.sent, remote.slept) == (1, [])


def test_what_another_attempt_cannot_mend_is_raised_at_once():
    for errors in ([PermanentError("no")], [busy(), PermanentError("no")]):
        remote = Remote(*errors)
        with pytest.raises(PermanentError, match="no"):
            remote.ask()
        assert remote.sent == len(errors)


def test_retry_after_is_a_floor_under_one_wait():
    remote = Remote(busy(retry_after=3), busy(retry_after=0.5), busy())
    assert remote.ask(wait_initial=1, wait_max=8) == "done"
    assert remote.slept == [3, 2, 4]


@pytest.mark.parametrize(("left", "slept"), [(2.0, []), (2.001, [2])])
def test_a_wait_as_long_as_the_time_left_is_not_begun(left, slept):
    remote = Remote(busy(retry_after=2), busy())
    remote.left = left
    with pytest.raises(TransientError):
        remote.ask(attempts=2)
    assert remote.slept == slept


def test_the_wall_clock_is_utc():
    before = datetime.now(UTC)
    now = Clock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def test_the_lease_clock_runs_while_the_machine_sleeps(monkeypatch):
    monkeypatch.setattr(time, "clock_gettime", lambda clock: {7: 700.0}[clock], raising=False)
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    assert Clock().monotonic() == 700.0


def test_the_lease_clock_without_boottime_is_posix_s_own(monkeypatch):
    """On macOS that one goes on in sleep, and Python's does not."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(time, "monotonic", lambda: 800.0)
    monkeypatch.setattr(time, "clock_gettime", {time.CLOCK_MONOTONIC: 900.0}.__getitem__)
    assert Clock().monotonic() == 900.0


def test_the_lease_clock_without_posix_s_clocks_is_python_s(monkeypatch):
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "clock_gettime"):
        monkeypatch.delattr(time, name, raising=False)
    monkeypatch.setattr(time, "monotonic", lambda: 800.0)
    assert Clock().monotonic() == 800.0


def test_a_clock_waits_as_long_as_it_is_told(monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    Clock().sleep(3)
    context(Clock(), None).sleep(4)
    assert waits == [3, 4]


def context(clock, stop):
    return RunContext.begin(None, None, RunPolicy(), stop, clock)


def test_a_wait_ends_when_told_to_stop_or_when_it_is_over():
    class NoClock(Clock):
        def sleep(self, seconds):
            raise AssertionError(seconds)

    stop = threading.Event()
    context(NoClock(), stop).sleep(0.001)
    stop.set()
    context(NoClock(), stop).sleep(3600)


@pytest.mark.parametrize("field", ["lease", "run_limit", "wait_initial", "wait_max", "clock_skew"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, -1.0])
def test_a_policy_takes_no_times_beyond_reason(field, value):
    with pytest.raises(ValidationError, match=field):
        RunPolicy(**{field: value})
