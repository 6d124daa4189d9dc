"""The spans of runs, resumes and sweeps: names, kinds, parents, links, attributes, status."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.sdk.trace", reason="the SDK is in the group test")

from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.trace import SpanKind

from tests.support import async_crm, crm, leaky
from tests.support.processes import child_environment
from tests.support.remotes import Meets, TransactionalRemoteAdapter
from tests.support.worlds import World, held_by_another
from writeahead import RunPolicy, awrite_back, resume_session, sweep, write_back
from writeahead.errors import InvalidInput
from writeahead.model import RunStatus
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.telemetry import tracing
from writeahead.testing import FaultyStore, StoreFault

TRANSIENT, PERMANENT = "writeahead.errors.TransientError", "writeahead.errors.PermanentError"


def of_run(found):
    """The span, its attributes without the name they share."""
    [run] = [span for span in found if span.name in ("writeahead.run", "writeahead.resume")]
    return run, {name.removeprefix("writeahead."): value for name, value in run.attributes.items()}


def test_a_run_has_a_span_for_each_request_below_it(spans, tree):
    World().run("create", "update")
    assert tree() == [
        "writeahead.run",
        "  writeahead.emit create client",
        "  writeahead.emit update client",
    ]
    run, about = of_run(spans())
    assert run.parent is None
    assert (run.kind, run.status.is_unset) == (SpanKind.INTERNAL, True)
    assert about == {
        "session.id": "s1",
        "adapter.name": "remote",
        "operation.count": 2,
        "status": "completed",
    }
    [emit] = [span for span in spans() if span.name == "writeahead.emit create"]
    owner = emit.attributes["writeahead.owner"]
    assert dict(emit.attributes) == {
        "writeahead.session.id": "s1",
        "writeahead.operation.id": "1-create",
        "writeahead.operation.kind": "create",
        "writeahead.operation.replay_class": "create_with_key",
        "writeahead.attempt": 1,
        "writeahead.owner": owner,
    }


def test_each_call_of_the_store_has_a_span_in_its_place(tree, spans):
    World(RunPolicy()).run("create")
    assert tree(without=()) == [
        "writeahead.run",
        "  writeahead.store head",
        "  writeahead.store put",
        "  writeahead.store create",
        "  writeahead.emit create client",
        "  writeahead.store create",
        "  writeahead.store delete",
    ]
    [first, *_] = [span for span in spans() if span.name == "writeahead.store create"]
    assert dict(first.attributes) == {
        "writeahead.store.name": "memory://",
        "writeahead.store.key": "s1/planned-writeback.json",
    }


def test_each_attempt_is_a_span(tree, spans):
    world = World(RunPolicy(wait_initial=0.5))
    world.remote.script["1-create"] = [Meets.UNAVAILABLE, Meets.LOST_REPLY]
    world.run("create")
    assert tree() == [
        "writeahead.run",
        f"  writeahead.emit create client !{TRANSIENT}",
        f"  writeahead.emit create client !{TRANSIENT}",
        "  writeahead.emit create client",
    ]
    attempts = [span.attributes["writeahead.attempt"] for span in spans() if "emit" in span.name]
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize(
    ("meets", "request_error", "run_error"),
    [
        (Meets.REJECTED, PERMANENT, "rejected"),
        (Meets.CONFLICT, "writeahead.errors.ConflictError", "conflict_detected"),
        (Meets.RETRY_AFTER, TRANSIENT, TRANSIENT),
        (Meets.BUG, "RuntimeError", "RuntimeError"),
        (Meets.INTERRUPT, "KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_run_that_does_not_complete_has_the_reason(tree, spans, meets, request_error, run_error):
    world = World()
    world.remote.script["1-create"] = [meets]
    with contextlib.suppress(RuntimeError, KeyboardInterrupt):
        world.run("create")
    assert tree() == [f"writeahead.run !{run_error}", f"  writeahead.emit create client !{request_error}"]
    # What a remote said is in no span, nor what an exception holds.
    assert all(span.status.description is None and not span.events for span in spans())


def test_wrong_input_is_an_error_of_the_run(tree):
    with pytest.raises(InvalidInput):
        World().run_operations([])
    assert tree() == ["writeahead.run !writeahead.errors.InvalidInput"]


def test_a_transaction_is_one_request(tree, spans):
    world = World()
    world.adapter = TransactionalRemoteAdapter(world.remote)
    world.run("create", "update", atomic=True)
    assert tree() == ["writeahead.run", "  writeahead.transact client"]
    [transact] = [span for span in spans() if "transact" in span.name]
    assert transact.attributes["writeahead.operation.count"] == 2


def test_a_search_is_a_request_too(tree):
    world = World()
    world.remote.script["1-lookup"] = [Meets.LOST_REQUEST]
    world.run("lookup")
    assert tree() == [
        "writeahead.run",
        f"  writeahead.emit lookup client !{TRANSIENT}",
        "  writeahead.find lookup client",
        "  writeahead.emit lookup client",
    ]


def test_a_resume_links_to_the_run_and_is_no_child_of_it(tree, spans):
    world = World()
    held_by_another(world)
    [run] = [span for span in spans() if span.name == "writeahead.run"]
    world.clock.advance(1000)
    world.resume()
    [resume] = [span for span in spans() if span.name == "writeahead.resume"]
    assert (resume.parent, resume.context.trace_id == run.context.trace_id) == (None, False)
    [link] = resume.links
    assert (link.context.trace_id, link.context.span_id) == (run.context.trace_id, run.context.span_id)
    assert link.context.is_remote


def test_the_plan_keeps_the_run_and_a_final_does_not(spans):
    world = World()
    world.run("create")
    run, _ = of_run(spans())
    trace_id, span_id, flags = run.context.trace_id, run.context.span_id, run.context.trace_flags
    expected = f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"
    assert world.json("s1/planned-writeback.json")["traceparent"] == expected
    assert "traceparent" not in world.json("s1/writeback.json")


def test_the_trace_decides_nothing_about_a_repeat(spans):
    world = World()
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create")
    first, _ = of_run(spans())
    world.clock.advance(100)
    assert world.run("create").status is RunStatus.COMPLETED
    second = [span for span in spans() if span.name == "writeahead.run"][-1]
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert world.run("create").status is RunStatus.NO_RESUME_NEEDED


CHILD = """
import os, signal, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from tests.support.remotes import Remote, RemoteAdapter, operations
from writeahead import write_back
from writeahead.stores.local import LocalStore

trace.set_tracer_provider(TracerProvider())

class Killed(RemoteAdapter):
    def _send(self, operation, *, proved):
        print(trace.get_current_span().get_span_context().trace_id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

with trace.get_tracer("host").start_as_current_span("host"):
    adapter = Killed(Remote())
    write_back(operations("create"), session_id="s1", store=LocalStore(sys.argv[1]), adapter=adapter)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_a_resume_after_a_kill_links_to_the_dead_process(tmp_path, spans, tree):
    env = child_environment()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tmp_path], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    world = World()
    report = resume_session("s1", store=LocalStore(tmp_path), adapter=world.adapter)
    assert report.status is RunStatus.COMPLETED
    assert tree() == ["writeahead.resume", "  writeahead.emit create client"]
    run, _ = of_run(spans())
    assert [link.context.trace_id for link in run.links] == [int(done.stdout)]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_sweep_of_three_has_three_resumes_below_it(tree, spans, concurrency):
    world = World()
    ids = ("s1", "s2", "s3")
    for session_id in ids:
        world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
        world.run("create", session_id=session_id)
    runs = {s.attributes["writeahead.session.id"]: s for s in spans() if s.name == "writeahead.run"}
    world.clock.advance(100)
    host = trace.get_tracer("host")
    with host.start_as_current_span("host"):
        results = sweep(world.store, world.adapter, clock=world.clock, concurrency=concurrency)
        for _ in results:
            # The caller's own code is not below the sweep.
            assert trace.get_current_span().name == "host"
    below = [line for line in tree() if "run" not in line][-8:]
    assert below == [
        "host",
        "  writeahead.sweep",
        *("    writeahead.resume", "      writeahead.emit create client") * 3,
    ]
    resumes = [span for span in spans() if span.name == "writeahead.resume"]
    linked = {s.attributes["writeahead.session.id"]: s.links[0].context.span_id for s in resumes}
    assert linked == {session_id: run.context.span_id for session_id, run in runs.items()}
    [swept] = [span for span in spans() if span.name == "writeahead.sweep"]
    assert swept.attributes["writeahead.sweep.found"] == 3
    # The markers are listed below the sweep.
    listings = [s for s in spans() if s.parent and s.parent.span_id == swept.context.span_id]
    keys = [s.attributes["writeahead.store.key"] for s in listings if s.name == "writeahead.store list"]
    assert {".open/", ".blocked/"} < set(keys)


def test_a_sweep_that_is_left_early_has_an_end(tree):
    world = World()
    world.remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    world.run("create")
    results = sweep(world.store, world.adapter, clock=world.clock)
    next(results)
    results.close()
    assert "writeahead.sweep" in tree()


@pytest.fixture
def remote():
    HTTPXClientInstrumentor().instrument()
    try:
        with crm.serving() as server:
            yield server
    finally:
        HTTPXClientInstrumentor().uninstrument()


def test_the_spans_of_httpx_are_below_the_request_that_they_are_of(tree, remote):
    remote.answers = [503]
    asked = [{"kind": "row", "payload": {"text": "a"}}]
    policy = RunPolicy(wait_initial=0.01)
    write_back(asked, session_id="s1", store=MemoryStore(), adapter=crm.CrmAdapter(remote.url), policy=policy)
    assert tree() == [
        "writeahead.run",
        f"  writeahead.emit row client !{TRANSIENT}",
        "    PUT client !error",
        "  writeahead.emit row client",
        "    PUT client",
    ]


def test_so_they_are_on_asyncio_and_for_operations_at_once(tree, remote):
    async def main():
        adapter = async_crm.AsyncCrmAdapter(remote.url)
        asked = [{"kind": "row", "payload": {"text": "a"}}]
        with trace.get_tracer("host").start_as_current_span("host"):
            report = await awrite_back(asked, session_id="s1", store=MemoryStore(), adapter=adapter)
        await adapter.aclose()
        return report

    assert asyncio.run(main()).status is RunStatus.COMPLETED
    assert tree() == ["host", "  writeahead.run", "    writeahead.emit row client", "      PUT client"]


def test_operations_at_once_have_the_run_above_them(tree, remote):
    asked = [{"kind": "row", "payload": {"text": "a"}, "independent": True}] * 3
    policy = RunPolicy(max_in_flight=3)
    write_back(asked, session_id="s1", store=MemoryStore(), adapter=crm.CrmAdapter(remote.url), policy=policy)
    assert tree() == ["writeahead.run", *("  writeahead.emit row client", "    PUT client") * 3]


def test_a_receipt_is_on_record_before_an_exporter_is_told(monkeypatch):
    """An exporter may take as long as it likes, and a crash meanwhile must lose no receipt."""
    world, seen = World(), []
    end = tracing.Traced.end

    def told(self, at=None):
        if self._name == "writeahead.emit mail":
            seen.append([key for key in world.names() if "journal" in key])
        return end(self, at)

    monkeypatch.setattr(tracing.Traced, "end", told)
    world.run("mail", "create")
    # The announcement, and the receipt.
    assert seen == [["s1/journal/000001.json", "s1/journal/000002.json"]]


def test_no_span_holds_a_secret(spans):
    leaky.leak(MemoryStore())
    assert len(spans()) > 5
    assert [span.name for span in spans() if "planted-" in span.to_json()] == []


def test_an_sdk_that_fails_harms_no_run(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("planted")

    world = World()
    for name in ("_tracer", "_current", "_named"):
        monkeypatch.setattr(tracing, name, broken)
    assert world.run("create", "mail").status is RunStatus.COMPLETED
    assert len(world.remote.effects) == 2


@pytest.mark.parametrize(
    "given", ["", "00-0-0-0", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "x" * 10_000, "00-a\n"]
)
def test_a_plan_with_an_odd_trace_is_resumed_without_a_link(spans, given):
    with trace.get_tracer("host").start_as_current_span("host"):
        tracing.link(given)
    assert spans()[0].links == ()


def test_a_store_that_fails_is_an_error_of_its_call(tree):
    world = World()
    world.store = FaultyStore(world.store)
    world.store.fail("create", "*/planned-writeback.json", StoreFault.unavailable())
    with pytest.raises(OSError):
        world.run("create")
    unavailable = "writeahead.errors.Unavailable"
    assert tree(without=("writeahead.store put", "writeahead.store head")) == [
        f"writeahead.run !{unavailable}",
        f"  writeahead.store create !{unavailable}",
    ]


def test_an_api_without_an_sdk_leaves_the_plan_as_before():
    world = World()
    world.run("create")
    assert "traceparent" not in world.json("s1/planned-writeback.json")


def test_a_span_of_another_service_counts_without_an_sdk():
    """The API passes it on: the plan then links to what asked for the run."""
    context = trace.SpanContext(7, 5, is_remote=True, trace_flags=trace.TraceFlags(1))
    world = World()
    with trace.use_span(trace.NonRecordingSpan(context)):
        world.run("create")
    expected = f"00-{7:032x}-{5:016x}-01"
    assert world.json("s1/planned-writeback.json")["traceparent"] == expected


NAMED = """
import sys
from tests.support.worlds import World
World().run("create")
print("opentelemetry.trace" in sys.modules)
"""


@pytest.mark.skipif(os.environ.get("WRITEAHEAD_TESTS") != "full", reason="WRITEAHEAD_TESTS=full runs it")
def test_a_provider_that_the_environment_names_is_loaded():
    env = child_environment(OTEL_PYTHON_TRACER_PROVIDER="default_tracer_provider")
    done = subprocess.run([sys.executable, "-c", NAMED], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
