"""A clock for tests: no wait is real, and time passes only when a test or a sleep says so."""

from datetime import UTC, datetime, timedelta

from writeahead.protocol.retry import Clock

__all__ = ["ManualClock"]


class ManualClock(Clock):
    """A `Clock` whose time moves only by `advance` and by its sleeps, which end at once.

    Give it as ``clock=`` to `write_back`, `resume_session` and the others. One clock stands for one
    process: give a second one to what plays another process.

    Args:
        start: What the wall clock shows at first; timezone-aware. The default is the real time,
            because stores stamp what they hold with the real time.
        skew: Seconds by which the wall clock is wrong. The monotonic clock is right.
        chance: What `random` returns, at least 0 and less than 1; 0 for waits without jitter.

    Attributes:
        start: As given.
        elapsed: Seconds that have passed since then; what `monotonic` returns.
        skew: As given. Change it to let the wall clock leap.
        chance: As given.
        slept: The length of each sleep so far, in seconds.
    """

    def __init__(self, start: datetime | None = None, *, skew: float = 0.0, chance: float = 0.0) -> None:
        self.start = start or datetime.now(UTC)
        self.elapsed = 0.0
        self.skew = skew
        self.chance = chance
        self.slept: list[float] = []

    def advance(self, seconds: float) -> None:
        """Let this many seconds pass."""
        self.elapsed += seconds

    def now(self) -> datetime:
        """Return the wall clock's time: ``start``, and what has passed, and the skew."""
        return self.start + timedelta(seconds=self.elapsed + self.skew)

    def monotonic(self) -> float:
        """Return the seconds that have passed."""
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        """Note the wait, and let its time pass at once."""
        self.slept.append(seconds)
        self.advance(seconds)

    def random(self) -> float:
        """Return the fixed number."""
        return self.chance
