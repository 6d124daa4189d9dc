"""The bounded retry policy: the only place where a request to a remote is repeated."""

import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from writeahead._retrying import retried
from writeahead.errors import TransientError
from writeahead.policy import RunPolicy
from writeahead.protocol.waits import RemoteWaits

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

__all__ = ["Clock", "spread", "with_retries"]

T = TypeVar("T")

_of_this_process = RemoteWaits()


class Clock:
    """Where time and chance come from; tests give their own.

    `now` is for people and for artifacts, `monotonic` for the leases of owners.
    """

    @property
    def waits(self) -> RemoteWaits:
        """What remotes asked this process to wait, on `monotonic`.

        A clock with a time of its own stands for a process of its own.
        """
        if type(self).monotonic is Clock.monotonic:
            return _of_this_process
        waits: RemoteWaits = vars(self).setdefault("_waits", RemoteWaits())
        return waits

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
    own_wait: Callable[[], float] = lambda: 0.0,
) -> T:
    """Call ``send`` until it succeeds, at most ``policy.attempts`` times.

    A remote's Retry-After is a floor under each wait, and so is ``own_wait()`` (seconds), for which
    nothing may be sent although no remote asked for it. A wait that is not shorter than
    ``time_left()`` (seconds) is not begun, nor one for a Retry-After beyond
    ``policy.retry_after_max``.

    Raises:
        TransientError: The last one, when the attempts or the time are used up.
    """
    return retried(send, lambda: _loop(policy, clock, time_left, sleep, own_wait), TransientError)


def _loop(
    policy: RunPolicy,
    clock: Clock,
    time_left: Callable[[], float],
    sleep: Callable[[float], None],
    own_wait: Callable[[], float],
) -> "Retrying":
    # Loaded here: it loads asyncio, which costs more than the rest of the core together.
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        wait_chain,
        wait_exponential,
        wait_fixed,
    )

    backoff: Callable[[RetryCallState], float]
    if policy.waits:
        # As tenacity has it, the last one comes again. Waits that were given are not jittered.
        backoff, jitter = wait_chain(*map(wait_fixed, policy.waits)), 0.0
    else:
        backoff = wait_exponential(multiplier=policy.wait_initial, max=policy.wait_max)
        jitter = 0.5

    def wait(state: "RetryCallState") -> float:
        floor = max(_asked(state), own_wait())
        chance = clock.random()
        return max(backoff(state) * (1 - chance * jitter), floor + chance * spread(policy) if floor else 0.0)

    def too_long(state: "RetryCallState") -> bool:
        longest = policy.retry_after_max
        return state.upcoming_sleep >= time_left() or (longest is not None and _asked(state) > longest)

    return Retrying(
        retry=retry_if_exception_type(TransientError),
        wait=wait,
        stop=lambda state: stop_after_attempt(policy.attempts)(state) or too_long(state),
        sleep=sleep,
        reraise=True,
    )


def spread(policy: RunPolicy) -> float:
    """Seconds over which those come back who were told the same time."""
    return policy.waits[0] if policy.waits else policy.wait_initial


def _asked(state: "RetryCallState") -> float:
    """The remote's Retry-After, in seconds."""
    error = state.outcome.exception() if state.outcome else None
    return (isinstance(error, TransientError) and error.retry_after) or 0.0
