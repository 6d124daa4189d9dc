"""What one run works with: the same for planning, sending and ending."""

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Self

from writeahead.adapters.base import Adapter
from writeahead.adapters.limits import call_limits
from writeahead.errors import InvalidInput
from writeahead.model import KeyedOperation, PlannedOperation, RunPolicy, RunReport, with_cause
from writeahead.protocol.progress import Observer, OnProgress, SessionProgress
from writeahead.protocol.retry import Clock
from writeahead.stores.base import ArtifactStore, require_store

__all__ = ["RunContext", "require_means"]


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
    """

    store: ArtifactStore
    adapter: Adapter
    policy: RunPolicy
    stop: threading.Event | None
    clock: Clock
    deadline: float
    observer: Observer = field(default_factory=lambda: Observer(None))

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
        self, session_id: str, operations: Sequence[KeyedOperation | PlannedOperation]
    ) -> SessionProgress:
        """What tells the observer about a session."""
        return SessionProgress(self.observer, self.clock, session_id, operations)

    def ended(self, report: RunReport) -> RunReport:
        """Tell how the run ended; return its report, with what went wrong with the telling."""
        self.progress(report.session_id, report.operations).ended(report)
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
