"""Service protection by counting: too many requests in a window, or at the same time, get 429.

Source: "Service protection API limits", learn.microsoft.com
(power-apps/developer/data-platform/api-limits): per user and web server 6,000 requests in a sliding
window of 300 seconds, 1,200 seconds of execution in it, and 52 at a time; the codes and messages;
Retry-After in seconds; the two headers of what is left. It says also that the wait "will be
extended" for a client that keeps sending, but not by how much. Choices of this simulator are: that
extension, the wait after too many requests at the same time, one web server for all, the time that
a request takes here as its execution time, the form of what is left of it (seconds), and that
refused requests are not counted. A batch is one request.
"""

import contextlib
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse.messages import ApiResponse, json_response
from writeahead.simulators.dataverse.odata import ErrorCode, error_body

__all__ = ["Protection", "ServiceLimits"]

_TOO_MANY = 429


@dataclass(frozen=True, kw_only=True)
class ServiceLimits:
    """What one user may ask for; more is refused.

    The adapter's limits of the same name are another thing: how much a client asks for. The two
    share no code, so that each tests the other.

    Args:
        requests: How many requests there may be in a window.
        window: Seconds.
        execution: How many seconds the requests of a window may take together.
        concurrent: How many requests may be carried out at the same time, including those that a
            fault delays.
        penalty: Seconds that are added to the wait by each request that comes before its end.
        concurrent_wait: Seconds of Retry-After after too many requests at the same time.
        clock: Returns seconds; for tests.

    Raises:
        InvalidInput: A number is too small.
    """

    requests: int = 6000
    window: float = 300.0
    execution: float = 1200.0
    concurrent: int = 52
    penalty: float = 5.0
    concurrent_wait: float = 1.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        if self.requests < 1 or self.concurrent < 1:
            raise InvalidInput("service limits: requests and concurrent must be 1 or more")
        if self.window <= 0 or self.execution <= 0 or self.penalty < 0 or self.concurrent_wait < 0:
            raise InvalidInput(
                "service limits: window and execution must be above 0, penalty and concurrent_wait not below"
            )


class Protection:
    """Counts the requests of one user.

    Args:
        limits: None for no limits.
        parallelism: How many requests at once it recommends; None for no recommendation.
    """

    def __init__(self, limits: ServiceLimits | None, parallelism: int | None = None) -> None:
        self._limits = limits
        self._parallelism = parallelism
        self._present = 0
        self._admitted: deque[float] = deque()
        # The end and the duration of each request.
        self._spent: deque[tuple[float, float]] = deque()
        # No request is admitted before that time.
        self._resting_until = -math.inf

    @contextlib.contextmanager
    def request(self) -> Iterator[ApiResponse | None]:
        """Admit a request while the context lasts; yield the response if it is refused."""
        refused = self._refusal(self._limits) if self._limits else None
        if refused is not None:
            yield refused
            return
        self._present += 1
        began = self._limits.clock() if self._limits else 0.0
        try:
            yield None
        finally:
            self._present -= 1
            if self._limits:
                ended = self._limits.clock()
                self._spent.append((ended, ended - began))

    def with_remaining(self, reply: ApiResponse) -> ApiResponse:
        """Return the reply with headers of what is left in this window: requests and seconds."""
        if self._parallelism is not None:
            reply = replace(reply, headers={**reply.headers, "x-ms-dop-hint": f"{self._parallelism}"})
        if self._limits is None:
            return reply
        left = {
            "burst": f"{max(0, self._limits.requests - len(self._admitted))}",
            "time": f"{max(0.0, self._limits.execution - self._execution()):,.2f}",
        }
        headers = {f"x-ms-ratelimit-{name}-remaining-xrm-requests": value for name, value in left.items()}
        return replace(reply, headers={**reply.headers, **headers})

    def _execution(self) -> float:
        return sum(duration for _, duration in self._spent)

    def _refusal(self, limits: ServiceLimits) -> ApiResponse | None:
        now = limits.clock()
        while self._admitted and self._admitted[0] <= now - limits.window:
            self._admitted.popleft()
        while self._spent and self._spent[0][0] <= now - limits.window:
            self._spent.popleft()
        if now < self._resting_until:
            self._resting_until += limits.penalty
        elif len(self._admitted) >= limits.requests:
            self._resting_until = self._admitted[0] + limits.window
        elif self._execution() >= limits.execution:
            self._resting_until = self._spent[0][0] + limits.window
            return self._too_slow(limits, self._resting_until - now)
        elif self._present >= limits.concurrent:
            return _refused(
                ErrorCode.NUMBER_OF_CONCURRENT_REQUESTS_EXCEEDED,
                f"Number of concurrent requests exceeded the limit of {limits.concurrent}.",
                limits.concurrent_wait,
            )
        else:
            self._admitted.append(now)
            return None
        return _refused(
            ErrorCode.NUMBER_OF_REQUESTS_EXCEEDED,
            f"Number of requests exceeded the limit of {limits.requests} over time window of "
            f"{limits.window:g} seconds.",
            self._resting_until - now,
        )

    @staticmethod
    def _too_slow(limits: ServiceLimits, wait: float) -> ApiResponse:
        return _refused(
            ErrorCode.EXECUTION_TIME_EXCEEDED,
            f"Combined execution time of incoming requests exceeded limit of {limits.execution * 1000:,.0f}  "
            f"milliseconds over time window of {limits.window:g} seconds. Decrease number of concurrent "
            "requests or reduce the duration of requests and try again later.",
            wait,
        )


def _refused(code: ErrorCode, message: str, wait: float) -> ApiResponse:
    return json_response(_TOO_MANY, error_body(code, message), {"Retry-After": f"{math.ceil(wait)}"})
