"""What OpenTelemetry measures of runs: how long, how often, and how they ended."""

import contextlib

import pytest

pytest.importorskip("opentelemetry.sdk.metrics", reason="the SDK is in the group test")

from opentelemetry import metrics
from opentelemetry.metrics import _internal
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.support.remotes import Meets, TransactionalRemoteAdapter
from tests.support.worlds import World
from writeahead import RunPolicy, sweep
from writeahead.model import RunStatus
from writeahead.testing import ManualClock

TRANSIENT, PERMANENT = "writeahead.errors.TransientError", "writeahead.errors.PermanentError"


@pytest.fixture
def measured(monkeypatch):
    """The points of our metrics so far: {(name, sorted attributes without their prefix): count}."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    # Not by `set_meter_provider`, which counts once and for all tests of the process.
    monkeypatch.setattr(_internal, "_METER_PROVIDER", provider)
    assert metrics.get_meter_provider() is provider

    def read():
        data = reader.get_metrics_data()
        scopes = [scope for one in data.resource_metrics for scope in one.scope_metrics] if data else []
        found = {}
        for metric in (metric for scope in scopes for metric in scope.metrics):
            for point in metric.data.data_points:
                about = sorted(
                    f"{name.removeprefix('writeahead.')}={value}" for name, value in point.attributes.items()
                )
                key = (metric.name.removeprefix("writeahead."), metric.unit, " ".join(about))
                found[key] = point.count if hasattr(point, "count") else point.value
        return found

    return read


def test_a_run_is_measured(measured):
    world = World(RunPolicy(wait_initial=0.5))
    world.remote.script["1-create"] = [Meets.UNAVAILABLE]
    world.run("create", "update")
    about = "adapter.name=remote"
    assert measured() == {
        ("operation.duration", "s", f"{about} operation.kind=create"): 1,
        ("operation.duration", "s", f"{about} operation.kind=update"): 1,
        ("operation.attempts", "{attempt}", f"{about} error.type={TRANSIENT} operation.kind=create"): 1,
        ("operation.attempts", "{attempt}", f"{about} operation.kind=create"): 1,
        ("operation.attempts", "{attempt}", f"{about} operation.kind=update"): 1,
        ("runs", "{run}", f"{about} status=completed"): 1,
    }


@pytest.mark.parametrize(
    ("kind", "meets", "error", "end"),
    [
        ("create", Meets.REJECTED, PERMANENT, "block_reason=rejected status=blocked"),
        ("mail", Meets.LOST_REPLY, TRANSIENT, "block_reason=outcome_unknown status=blocked"),
        ("create", Meets.RETRY_AFTER, TRANSIENT, "status=resume_needed"),
        ("create", Meets.BUG, "RuntimeError", "status=resume_needed"),
    ],
)
def test_a_run_that_does_not_complete_is_counted_by_its_reason(measured, kind, meets, error, end):
    world = World()
    world.remote.script[f"1-{kind}"] = [meets]
    with contextlib.suppress(RuntimeError):
        world.run(kind)
    about = f"adapter.name=remote error.type={error} operation.kind={kind}"
    ends = sorted(["adapter.name=remote", *end.split(" ")])
    assert measured() == {
        ("operation.duration", "s", about): 1,
        ("operation.attempts", "{attempt}", about): 1,
        ("runs", "{run}", " ".join(ends)): 1,
    }


def test_a_transaction_is_one_measurement(measured):
    world = World()
    world.adapter = TransactionalRemoteAdapter(world.remote)
    world.run("create", "update", atomic=True)
    assert measured()["operation.attempts", "{attempt}", "adapter.name=remote"] == 1


def test_a_look_at_a_session_that_waits_is_no_run(measured):
    world = World()
    world.remote.script["1-create"] = [Meets.RETRY_AFTER]
    world.run("create")
    world.clock = ManualClock()  # as in another process, which the remote has told nothing
    for _ in range(3):
        list(sweep(world.store, world.adapter, policy=world.policy, clock=world.clock))
    runs = {key: count for key, count in measured().items() if key[0] == "runs"}
    assert sum(runs.values()) == 1


def test_sessions_make_no_more_series(measured):
    world = World()
    for number in range(20):
        world.run("create", session_id=f"s{number}")
    assert sorted(measured().values()) == [20, 20, 20]


def test_a_meter_that_fails_harms_no_run(monkeypatch):
    def broken():
        raise RuntimeError("planted")

    monkeypatch.setattr("writeahead.telemetry.metrics._instruments", broken)
    assert World().run("create", "mail").status is RunStatus.COMPLETED
