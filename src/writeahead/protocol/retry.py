"""The bounded retry policy: the only place where a request to a remote is repeated."""

import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from writeahead._retrying import retried
from writeahead.errors import TransientError
from writeahead.model import RunPolicy

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

__all__ = ["Clock", "with_retries"]

T = TypeVar("T")


class Clock:
    """Where time and chance come from; tests give their own.

    `now` is for people and for artifacts, `monotonic` for the leases of owners.
    """

    def now(self) -> datetime:
        """Return the wall clock's time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never jump, and that pass during suspend where the system offers it.

        Linux stops CLOCK_MONOTONIC during suspend and keeps CLOCK_BOOTTIME going: clock_gettime(2).
        macOS keeps CLOCK_MONOTONIC going, and stops what Python's `time.monotonic` reads there:
        its clock_gettime(3). What Python reads on Windows goes on in sleep: learn.microsoft.com,
        "Windows Time".
        """
        for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC"):
            if sys.platform != "win32" and hasattr(time, name):
                return time.clock_gettime(getattr(time, name))
        return time.monotonic()

    def random(self) -> float:
        """Return a number from 0 up to, not including, 1, at random: the jitter of a wait."""
        return random.random()  # noqa: S311 - spreads waits, and protects nothing

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def with_retries(
    send: Callable[[], T],
    *,
    policy: RunPolicy,
    clock: Clock,
    time_left: Callable[[], float],
    sleep: Callable[[float], None],
) -> T:
    """Call ``send`` until it succeeds, at most ``policy.attempts`` times.

    A remote's Retry-After is a floor under each wait. A wait that is not shorter than
    ``time_left()`` (seconds) is not begun.

    Raises:
        TransientError: The last one, when the attempts or the time are used up.
    """
    return retried(send, lambda: _loop(policy, clock, time_left, sleep), TransientError)


def _loop(
    policy: RunPolicy, clock: Clock, time_left: Callable[[], float], sleep: Callable[[float], None]
) -> "Retrying":
    # Loaded here: it loads asyncio, which costs more than the rest of the core together.
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    backoff = wait_exponential(multiplier=policy.wait_initial, max=policy.wait_max)

    def wait(state: "RetryCallState") -> float:
        error = state.outcome.exception() if state.outcome else None
        floor = error.retry_after if isinstance(error, TransientError) else None
        chance = clock.random()
        return max(backoff(state) * (1 - chance / 2), floor + chance * policy.wait_initial if floor else 0.0)

    def out_of_time(state: "RetryCallState") -> bool:
        return state.upcoming_sleep >= time_left()

    return Retrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait,
        stop=lambda state: stop_after_attempt(policy.attempts)(state) or out_of_time(state),
        sleep=sleep,
        reraise=True,
    )
