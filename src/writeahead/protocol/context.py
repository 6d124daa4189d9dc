"""What one run works with: the same for planning, sending and ending."""

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from writeahead.adapters.base import Adapter
from writeahead.adapters.limits import call_limits
from writeahead.errors import AdapterError, Applied, InvalidInput, TransientError
from writeahead.model import KeyedOperation, PlannedOperation, RunPolicy, RunReport, with_cause
from writeahead.protocol.progress import Observer, OnProgress, SessionProgress
from writeahead.protocol.retry import Clock, spread
from writeahead.protocol.session import after
from writeahead.stores.base import ArtifactStore, require_store
from writeahead.telemetry import metrics

__all__ = ["HeldBack", "RunContext", "require_means"]


class HeldBack(TransientError):
    """Nothing was sent, since the remote has asked this process to wait: maybe by another session.

    Args:
        wait: Seconds.
        not_before: When that is over.
    """

    def __init__(self, wait: float, not_before: datetime) -> None:
        self.not_before = not_before
        message = "not sent: the remote has asked this process to wait"
        super().__init__(message, applied=Applied.NO, retry_after=wait, for_target=False)


@dataclass(frozen=True)
class RunContext:
    """What a run works with.

    Attributes:
        store: Where the artifacts are.
        adapter: Plans and emits.
        policy: How hard to try.
        stop: Once set, nothing more is sent.
        clock: Where time comes from.
        deadline: When the whole run has to end, planning included, on the monotonic clock.
        observer: Is told what happens.
        unheeded: A wait of the remote's that is over by then is not heeded, on the monotonic clock:
            an operator decided so.
    """

    store: ArtifactStore
    adapter: Adapter
    policy: RunPolicy
    stop: threading.Event | None
    clock: Clock
    deadline: float
    observer: Observer = field(default_factory=lambda: Observer(None))
    unheeded: float = -math.inf

    @classmethod
    def begin(
        cls,
        store: ArtifactStore,
        adapter: Adapter,
        policy: RunPolicy,
        stop: threading.Event | None,
        clock: Clock | None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Self:
        """The context of a run that begins now."""
        clock = clock or Clock()
        deadline = clock.monotonic() + policy.run_limit
        return cls(store, adapter, policy, stop, clock, deadline, Observer(on_progress))

    @property
    def begun_at(self) -> float:
        """When the run began, on the monotonic clock."""
        return self.deadline - self.policy.run_limit

    def progress(
        self,
        session_id: str,
        operations: Sequence[KeyedOperation | PlannedOperation],
        owner: str | None = None,
    ) -> SessionProgress:
        """What tells the observer, and the log, about a session."""
        return SessionProgress(self.observer, self.clock, session_id, operations, owner)

    def ended(self, report: RunReport, *, is_look: bool = False) -> RunReport:
        """Tell how the run ended; return its report, with what went wrong with the telling.

        ``is_look``: it was none, since the session has to wait.
        """
        self.progress(report.session_id, report.operations).ended(report, is_look=is_look)
        if not is_look:
            metrics.ended(report, self.adapter.name)
        if not self.observer.warnings:
            return report
        warned = report.model_copy(update={"warnings": (*report.warnings, *self.observer.warnings)})
        return with_cause(warned, report.cause)  # which no copy has by itself

    @property
    def stopped(self) -> bool:
        """Whether the caller or a signal asked the run to stop."""
        return self.stop is not None and self.stop.is_set()

    def time_left(self) -> float:
        """Seconds until the run's limit; none once it was asked to stop."""
        return 0.0 if self.stopped else self.deadline - self.clock.monotonic()

    def told(self, error: AdapterError) -> None:
        """Keep what the remote asked for, for every session of this process."""
        if isinstance(error, TransientError) and error.retry_after and error.for_target:
            self.clock.waits.tell(self.adapter, error.retry_after, self.clock.monotonic())

    def held_until(self) -> float:
        """When the wait is over that the remote asked this process for, on the monotonic clock.

        It is minus infinity if there is nothing to wait for.
        """
        until = self.clock.waits.until(self.adapter, self.clock.monotonic())
        return until if until > self.unheeded else -math.inf

    def require_no_long_wait(self, until: float, time_left: float) -> None:
        """Refuse a wait of the remote's that this run must not wait for, as for a Retry-After.

        Args:
            until: When it is over, on the monotonic clock.
            time_left: Seconds that it must be shorter than.

        Raises:
            HeldBack: It is too long.
        """
        wait, longest = until - self.clock.monotonic(), self.policy.retry_after_max
        if wait > 0 and (wait >= time_left or (longest is not None and wait > longest)):
            raise HeldBack(wait, after(self.clock.now(), wait))

    def wait_for_remote(self, time_left: Callable[[], float], sleep: Callable[[float], None]) -> None:
        """Wait as long as the remote has asked any session of this process.

        Args:
            time_left: Returns the seconds that the wait must be shorter than.
            sleep: Waits; a stop may end it.

        Raises:
            HeldBack: It is too long.
        """
        heeded = -math.inf
        # What others are told meanwhile counts as well. A test's sleep need not take its time.
        while (until := self.held_until()) > heeded:
            self.require_no_long_wait(until, time_left())
            heeded = until
            sleep(until - self.clock.monotonic() + self.clock.random() * spread(self.policy))

    def call_limits(self) -> AbstractContextManager[None]:
        """What ends a request of the adapter that is under way: the run's limit, and a stop."""
        return call_limits(lambda: self.deadline - self.clock.monotonic(), self.stop)

    def sleep(self, seconds: float) -> None:
        """Wait, or return at once when asked to stop."""
        if self.stop is None:
            self.clock.sleep(seconds)
        else:
            self.stop.wait(seconds)


def require_means(store: object, adapter: object) -> None:
    """Refuse what a run can't work with, such as a store's URL, or an adapter's class.

    Raises:
        InvalidInput: One of the two is something else.
    """
    require_store(store)
    if not isinstance(adapter, Adapter):
        given = (
            f"the class {adapter.__name__}" if isinstance(adapter, type) else f"a {type(adapter).__name__}"
        )
        raise InvalidInput(f"adapter: give an instance of an Adapter, not {given}")
