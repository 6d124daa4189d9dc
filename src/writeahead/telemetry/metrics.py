"""Metrics by OpenTelemetry's API: https://opentelemetry.io/docs/specs/otel/metrics/api/.

As for spans, the API is used if the program has loaded it. No attribute has an id, whose values
would be without number.
"""

import contextlib
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from writeahead.model import RunReport
from writeahead.telemetry.tracing import error_type

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram

__all__ = ["counted", "ended", "is_on", "timed"]

# Seconds: from one request on loopback to a Retry-After of minutes.
_BOUNDARIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class _Instruments(NamedTuple):
    duration: "Histogram"
    attempts: "Counter"
    runs: "Counter"


_NOTHING = contextlib.nullcontext()
# By the provider that made them, of which a program has one.
_made: tuple[object, _Instruments] | None = None


def is_on() -> bool:
    """Whether the program has loaded the API."""
    return "opentelemetry.metrics" in sys.modules


def timed(kind: str | None, adapter: str) -> AbstractContextManager[None]:
    """Measure how long it takes until an operation is confirmed, or given up.

    Args:
        kind: The operation's kind; None for a transaction.
        adapter: The adapter's name.
    """
    return _recorded(kind, adapter, is_timed=True) if is_on() else _NOTHING


def counted(kind: str | None, adapter: str) -> AbstractContextManager[None]:
    """Count a request, with what it failed by. Arguments as for `timed`."""
    return _recorded(kind, adapter, is_timed=False) if is_on() else _NOTHING


@contextlib.contextmanager
def _recorded(kind: str | None, adapter: str, *, is_timed: bool) -> Iterator[None]:
    begun, error = perf_counter(), None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        _record(perf_counter() - begun if is_timed else None, kind, adapter, error)


def ended(report: RunReport, adapter: str) -> None:
    """Count a run by how it ended."""
    if not is_on():
        return
    about = {"writeahead.adapter.name": adapter, "writeahead.status": str(report.status)}
    if report.block_reason:
        about["writeahead.block_reason"] = str(report.block_reason)
    with contextlib.suppress(Exception):
        _instruments().runs.add(1, about)


def _record(seconds: float | None, kind: str | None, adapter: str, error: BaseException | None) -> None:
    with contextlib.suppress(Exception):
        about: dict[str, Any] = {"writeahead.adapter.name": adapter}
        if kind is not None:
            about["writeahead.operation.kind"] = kind
        if error is not None:
            about["error.type"] = error_type(error)
        if seconds is None:
            _instruments().attempts.add(1, about)
        else:
            _instruments().duration.record(seconds, about)


def _instruments() -> _Instruments:
    global _made  # noqa: PLW0603 - one for the process
    from opentelemetry.metrics import get_meter, get_meter_provider

    provider = get_meter_provider()
    if _made is None or _made[0] is not provider:
        meter = get_meter("writeahead")
        duration = meter.create_histogram(
            "writeahead.operation.duration",
            unit="s",
            description="Time until an operation is confirmed or given up, with its attempts and waits.",
            explicit_bucket_boundaries_advisory=_BOUNDARIES,
        )
        attempts = meter.create_counter(
            "writeahead.operation.attempts", unit="{attempt}", description="Requests to the remote."
        )
        runs = meter.create_counter(
            "writeahead.runs", unit="{run}", description="Runs and resumes, by how they ended."
        )
        _made = (provider, _Instruments(duration, attempts, runs))
    return _made[1]
