"""The state of a rate limit in a file, for all processes of a machine: a store of pyrate-limiter.

bucket = StateBucket([Rate(100, 60_000, burst=10)], store=FileState("/var/lib/crm-limits"))
"""

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from pyrate_limiter import Decision, Rate, StateAlgorithm, StateStore

from writeahead.adapters.file_locks import FileLocks, Held
from writeahead.errors import Applied, TransientError

__all__ = ["FileState"]

# Bytes. It is written in one piece and in place, so that a full disk takes it as well.
_SIZE = 128
# Seconds to wait for others, each of which needs some microseconds.
_PATIENCE = 5.0
_LOOK = 0.001


class FileState(StateStore):
    """The state of one rate limit, in a folder that all processes of a machine share.

    It goes by the wall clock, which they have in common, and not by the times that a bucket is
    asked with. A state that can't be read, or that lies in the future because a clock was set,
    counts as one in which all is spent.

    Args:
        folder: Where the file is: see `FileLocks`.
        now: Returns the wall clock's seconds; for tests.

    Raises:
        InvalidInput: The folder can't be used.
    """

    def __init__(self, folder: str | os.PathLike[str], *, now: Callable[[], float] = time.time) -> None:
        self._locks = FileLocks(Path(folder))
        self._now = now

    def check(self, algorithm: StateAlgorithm, rates: list[Rate], now: int, weight: int) -> Decision:
        """See `StateStore`; ``now`` is not used.

        Raises:
            TransientError: The file can't be used any more. Nothing may be sent.
        """
        del now
        try:
            held = self._lock()
            try:
                return self._step(held, algorithm, rates, weight)
            finally:
                self._locks.free(held)
        except OSError as error:
            problem = self._locks.problem(error)
            raise TransientError(f"not sent: the shared rate limit: {problem}", applied=Applied.NO) from error

    def read(self, algorithm: StateAlgorithm, rates: list[Rate]) -> tuple[float, ...]:
        """See `StateStore`."""
        held = self._lock()
        try:
            return self._state(held, algorithm, rates, self._milliseconds())
        finally:
            self._locks.free(held)

    def reset(self) -> None:
        """See `StateStore`."""
        held = self._lock()
        try:
            os.ftruncate(held.descriptor, 0)
        finally:
            self._locks.free(held)

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)

    def _lock(self) -> Held:
        ends_at = time.monotonic() + _PATIENCE
        while (held := self._locks.take("rate")) is None:
            if time.monotonic() >= ends_at:
                raise TimeoutError(0, "another process holds its file")
            time.sleep(_LOOK * random.uniform(0.5, 1.5))  # noqa: S311 - spreads waits
        return held

    def _step(self, held: Held, algorithm: StateAlgorithm, rates: list[Rate], weight: int) -> Decision:
        now = self._milliseconds()
        before = self._state(held, algorithm, rates, now)
        after, decision = algorithm.step(rates, before, now, weight)
        data = json.dumps(after).encode().ljust(_SIZE)
        os.lseek(held.descriptor, 0, os.SEEK_SET)
        os.write(held.descriptor, data)
        return decision

    def _state(self, held: Held, algorithm: StateAlgorithm, rates: list[Rate], now: int) -> tuple[float, ...]:
        os.lseek(held.descriptor, 0, os.SEEK_SET)
        data = os.read(held.descriptor, _SIZE)
        if not data:
            return algorithm.initial(rates)
        largest = min(algorithm.max_weight(rate) for rate in rates)
        spent, _ = algorithm.step(rates, algorithm.initial(rates), now, largest)
        try:
            state = tuple(json.loads(data))
            is_usable = len(state) == len(rates) and all(
                0 <= one <= most for one, most in zip(state, spent, strict=True)
            )
        except (ValueError, TypeError):
            is_usable = False
        return state if is_usable else spent
