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

    def ask(self, *, chance=0.0, own_wait=0.0, **policy):
        return with_retries(
            self.send,
            policy=RunPolicy(**policy),
            clock=ManualClock(chance=chance),
            own_wait=lambda: own_wait,
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


@pytest.mark.parametrize("chance", [0.0, 0.9])
def test_waits_that_were_given_are_kept_to_the_letter(chance):
    remote = Remote(*[busy()] * 3)
    assert remote.ask(waits=[1, 5, 15], chance=chance) == "done"
    assert (remote.sent, remote.slept) == (4, [1, 5, 15])


@pytest.mark.parametrize(
    ("attempts", "slept"), [({}, [1, 5]), ({"attempts": 2}, [1]), ({"attempts": 5}, [1, 5, 5, 5])]
)
def test_attempts_beside_waits_cut_them_or_repeat_the_last(attempts, slept):
    remote = Remote(*[busy()] * 9)
    with pytest.raises(TransientError):
        remote.ask(waits=[1, 5], **attempts)
    assert (remote.sent, remote.slept) == (len(slept) + 1, slept)


def test_retry_after_is_a_floor_under_waits_that_were_given_too():
    remote = Remote(busy(retry_after=3), busy(retry_after=3))
    assert remote.ask(waits=[1, 5], chance=0.5) == "done"
    # What many clients were told alike is spread, by up to the first of the waits.
    assert remote.slept == [3.5, 5]


def test_a_retry_after_beyond_the_longest_is_not_waited_for():
    for asked, sent in ((60, 2), (60.5, 1)):
        remote = Remote(busy(retry_after=asked))
        if sent == 1:
            with pytest.raises(TransientError):
                remote.ask(retry_after_max=60)
        else:
            assert remote.ask(retry_after_max=60) == "done"
        assert (remote.sent, remote.slept) == (sent, [60] * (sent - 1))


def test_no_retry_after_at_all_may_be_waited_for():
    remote = Remote(busy(), busy(retry_after=0.1))
    with pytest.raises(TransientError):
        remote.ask(retry_after_max=0)
    assert remote.slept == [1]


def test_a_wait_of_our_own_is_a_floor_and_no_retry_after():
    remote = Remote(busy())
    assert remote.ask(own_wait=90, retry_after_max=60) == "done"
    assert remote.slept == [90]


@pytest.mark.parametrize("wait", [float("inf"), float("nan"), 1e300, -1.0])
def test_a_policy_takes_no_waits_beyond_reason(wait):
    with pytest.raises(ValidationError, match="waits"):
        RunPolicy(waits=[1, wait])


def test_a_policy_with_waits_comes_back_from_its_dump():
    for policy in (RunPolicy(waits=[1, 5, 15]), RunPolicy(waits=(2.5,), attempts=7)):
        assert RunPolicy(**policy.model_dump()) == policy
        assert RunPolicy.model_validate_json(policy.model_dump_json()) == policy


@pytest.mark.parametrize("other", [{"wait_initial": 2}, {"wait_max": 2}])
def test_a_policy_has_waits_or_what_they_take_the_place_of(other):
    with pytest.raises(ValidationError, match="waits take the place of wait_initial and wait_max: leave"):
        RunPolicy(waits=[1], **other)


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


@pytest.mark.parametrize(
    "field", ["lease", "run_limit", "wait_initial", "wait_max", "retry_after_max", "clock_skew"]
)
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, -1.0])
def test_a_policy_takes_no_times_beyond_reason(field, value):
    with pytest.raises(ValidationError, match=field):
        RunPolicy(**{field: value})
