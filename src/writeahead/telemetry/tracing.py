"""Spans by OpenTelemetry's API: https://opentelemetry.io/docs/specs/otel/trace/api/.

The API is used if the program has loaded it, as any program has that configured tracing, or if
``OTEL_PYTHON_TRACER_PROVIDER`` names a provider. Else nothing is loaded, and no span is made.

A span's name has no id, and its attributes have no payload and no message. What fails has
``error.type``, a class or a reason, as the semantic conventions say:
https://opentelemetry.io/docs/specs/semconv/attributes-registry/error/.
"""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Self

from writeahead.model import RunReport, RunStatus

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext, Tracer

__all__ = ["NOTHING", "Traced", "UntoldSpans", "error_type", "is_on", "link", "load", "span", "traceparent"]

_NAME = "writeahead"
_ATTRIBUTES = {
    "session_id": "writeahead.session.id",
    "operation": "writeahead.operation.id",
    "operations": "writeahead.operation.count",
    "kind": "writeahead.operation.kind",
    "replay": "writeahead.operation.replay_class",
    "attempt": "writeahead.attempt",
    "owner": "writeahead.owner",
    "adapter": "writeahead.adapter.name",
    "status": "writeahead.status",
    "reason": "writeahead.block_reason",
    "concurrency": "writeahead.sweep.concurrency",
    "found": "writeahead.sweep.found",
    "store": "writeahead.store.name",
    "key": "writeahead.store.key",
    "objects": "writeahead.store.objects",
}
# https://www.w3.org/TR/trace-context/#traceparent-header-field-values
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_WANTS = "OTEL_PYTHON_TRACER_PROVIDER"


def is_on() -> bool:
    """Whether the program has loaded the API."""
    return "opentelemetry.trace" in sys.modules


def span(name: str, *, is_client: bool = False, **attributes: object) -> "Traced":
    """Make a span; it begins where its block does, below the current span.

    Args:
        name: Its name, without any id.
        is_client: Whether it waits for another system.
        attributes: By the keys of `_ATTRIBUTES`; those that are None are left out.
    """
    return Traced(name, attributes, is_client=is_client) if is_on() else NOTHING


def load() -> None:
    """Load the API where the environment names a provider, as a run or a sweep begins."""
    if not is_on() and _WANTS in os.environ:
        with contextlib.suppress(ImportError):
            import opentelemetry.trace  # noqa: F401


class Traced:
    """A span, from its beginning to its end. It never raises, whatever the program's SDK does.

    Args:
        name: See `span`, and so are the others.
        attributes: See there.
        is_client: See there.
    """

    def __init__(self, name: str, attributes: dict[str, object], *, is_client: bool = False) -> None:
        self._name, self._attributes, self._is_client = name, attributes, is_client
        self._span: Span | None = None
        self._inside: list[_Current] = []
        self._has_failed = False

    def begin(self) -> Self:
        """Begin, without being the current span."""
        with contextlib.suppress(Exception):
            from opentelemetry.trace import SpanKind

            kind = SpanKind.CLIENT if self._is_client else SpanKind.INTERNAL
            self._span = _tracer().start_span(self._name, kind=kind, attributes=_named(self._attributes))
        return self

    def inside(self) -> "_Current":
        """Be the current span in a block, in whatever thread."""
        return _Current(self._span)

    def __enter__(self) -> Self:
        self.begin()
        self._inside.append(self.inside())
        self._inside[-1].__enter__()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._inside.pop().__exit__()
        if error is not None:
            self.failed(error)
        self.end()

    def set(self, **attributes: object) -> None:
        """Add attributes."""
        with contextlib.suppress(Exception):
            if self._span is not None:
                self._span.set_attributes(_named(attributes))

    def failed(self, why: BaseException | str) -> None:
        """Note what went wrong; the first counts. A generator that is closed has not failed."""
        if isinstance(why, GeneratorExit) or self._has_failed:
            return
        self._has_failed = True
        with contextlib.suppress(Exception):
            from opentelemetry.trace import StatusCode

            if self._span is not None:
                self._span.set_attribute("error.type", why if isinstance(why, str) else error_type(why))
                self._span.set_status(StatusCode.ERROR)

    def ended(self, report: RunReport) -> RunReport:
        """Note how a run ended; return its report."""
        self.set(status=report.status, reason=report.block_reason)
        if report.status in (RunStatus.BLOCKED, RunStatus.RESUME_NEEDED):
            self.failed(report.block_reason or report.cause or report.status)
        return report

    def end(self, at: int | None = None) -> None:
        """End it, at a moment in nanoseconds since the epoch; by default now."""
        with contextlib.suppress(Exception):
            if self._span is not None:
                self._span.end(at)


class _Nothing(Traced):
    """No span, where there is no API to make one."""

    def begin(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def set(self, **attributes: object) -> None:
        pass

    def failed(self, why: BaseException | str) -> None:
        pass

    def ended(self, report: RunReport) -> RunReport:
        return report


class UntoldSpans:
    """Spans that are over and not ended yet: to end one may take as long as an exporter likes.

    A receipt must not wait for that.
    """

    def __init__(self) -> None:
        self._untold: list[tuple[Traced, int]] = []

    def keep(self, traced: Traced) -> AbstractContextManager[Traced]:
        """Begin a span, and keep it with the moment at which its block ended."""
        return _NO_BLOCK if traced is NOTHING else self._kept(traced)

    @contextlib.contextmanager
    def _kept(self, traced: Traced) -> Iterator[Traced]:
        with traced.begin().inside():
            try:
                yield traced
            except BaseException as error:
                traced.failed(error)
                raise
            finally:
                self._untold.append((traced, time.time_ns()))

    def tell(self) -> None:
        """End them."""
        while self._untold:
            traced, at = self._untold.pop(0)
            traced.end(at)


class _Current:
    """Makes a span the current one in a block."""

    def __init__(self, span: "Span | None") -> None:
        self._span = span
        self._token: Any = None

    def __enter__(self) -> None:
        with contextlib.suppress(Exception):
            if self._span is not None:
                from opentelemetry import context, trace

                self._token = context.attach(trace.set_span_in_context(self._span))

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            if self._token is not None:
                from opentelemetry import context

                context.detach(self._token)


def traceparent() -> str | None:
    """The current span as W3C's trace context writes it; None if there is no valid one."""
    if not is_on():
        return None
    with contextlib.suppress(Exception):
        found = _current()
        if found.is_valid:
            return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"
    return None


def link(parent: str | None) -> None:
    """Let the current span link to an earlier one; to itself it does not, nor to what is no span.

    Args:
        parent: What `traceparent` returned for that one, in this process or in another.
    """
    found = _TRACEPARENT.fullmatch(parent or "") if is_on() else None
    if found is None:
        return
    with contextlib.suppress(Exception):
        from opentelemetry.trace import SpanContext, TraceFlags, get_current_span

        trace_id, span_id, flags = (int(part, 16) for part in found.groups())
        earlier = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        if earlier.is_valid and _current().span_id != span_id:
            get_current_span().add_link(earlier)


def error_type(error: BaseException) -> str:
    """What failed, for ``error.type``: the class, unless the exception has an ``error_type``."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return str(getattr(error, "error_type", name))


def _current() -> "SpanContext":
    from opentelemetry.trace import get_current_span

    return get_current_span().get_span_context()


def _tracer() -> "Tracer":
    from opentelemetry.trace import get_tracer

    return get_tracer(_NAME)


def _named(attributes: dict[str, object]) -> dict[str, Any]:
    known = {_ATTRIBUTES[name]: value for name, value in attributes.items() if value is not None}
    # Enums of strings are written as plain strings.
    return {name: str(value) if isinstance(value, str) else value for name, value in known.items()}


NOTHING = _Nothing("", {})
_NO_BLOCK = contextlib.nullcontext(NOTHING)
