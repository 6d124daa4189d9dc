"""The spans of a test, kept in memory by OpenTelemetry's SDK."""

import pytest


@pytest.fixture
def spans(monkeypatch):
    """The spans that ended since the test began, in the order in which they began."""
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the SDK is in the group test")
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # Not by `set_tracer_provider`, which counts once and for all tests of the process.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return lambda: sorted(exporter.get_finished_spans(), key=lambda span: span.start_time)


def drawn(spans, *, without=("writeahead.store",)):
    """Spans as a tree of lines: name, kind, error.type if it failed."""
    shown = [span for span in spans if not span.name.startswith(without)]
    ids = {span.context.span_id for span in shown}
    lines = []

    def draw(parent, depth):
        for span in shown:
            above = span.parent.span_id if span.parent and span.parent.span_id in ids else None
            if above == parent:
                failed = "" if span.status.is_unset else f" !{span.attributes.get('error.type', 'error')}"
                kind = " client" if span.kind.name == "CLIENT" else ""
                lines.append("  " * depth + span.name + kind + failed)
                draw(span.context.span_id, depth + 1)

    draw(None, 0)
    return lines


@pytest.fixture
def tree(spans):
    """Draws the spans so far."""
    return lambda **how: drawn(spans(), **how)
