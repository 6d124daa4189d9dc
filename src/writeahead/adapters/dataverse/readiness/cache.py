"""What was read from an environment, kept for a while."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

__all__ = ["MAX_AGE", "TimedCache"]

# Seconds; a change by an administrator shows that late.
MAX_AGE = 300.0

_V = TypeVar("_V")


class TimedCache(Generic[_V]):
    """Values by name, each trusted for a time. Safe to share between threads.

    There is no lock: two threads at once read the same, and a fork could inherit a lock that is
    held. `fetch` returns all that was asked for, since another thread may forget it meanwhile.

    Args:
        max_age: Seconds that a value is trusted for, counted from before it was read.
        monotonic: Seconds on a clock that is never set; for tests.
    """

    def __init__(self, max_age: float = MAX_AGE, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._max_age = max_age
        self._monotonic = monotonic
        self._values: dict[str, tuple[float, _V]] = {}

    def fetch(
        self,
        names: Collection[str],
        read: Callable[[Collection[str]], Mapping[str, _V]],
        suffices: Callable[[str, _V], bool] = lambda _name, _value: True,
    ) -> tuple[dict[str, _V], bool]:
        """Return values, reading those that are not known or too old.

        Args:
            names: Of the values.
            read: Returns the values of some names, all of them.
            suffices: Whether a value that is known can be used.

        Returns:
            The values by name, and whether all of them were read just now.

        Raises:
            Exception: What ``read`` raises.
        """
        since = self._monotonic()
        known = {name: value for name in names if (value := self._values.get(name))}
        found = {
            name: value
            for name, (read_at, value) in known.items()
            if since - read_at < self._max_age and suffices(name, value)
        }
        missing = [name for name in dict.fromkeys(names) if name not in found]
        if missing:
            values = read(missing)
            self._values.update({name: (since, value) for name, value in values.items()})
            found.update(values)
        return found, len(missing) == len(found)

    def peek(self, name: str) -> _V | None:
        """Return a value of any age; None if there is none."""
        known = self._values.get(name)
        return known[1] if known else None

    def forget(self, name: str) -> None:
        """Have a value read again."""
        self._values.pop(name, None)

    def clear(self) -> None:
        """Have all values read again."""
        self._values.clear()
