"""What careless adapters, models and settings must not be able to do to a session."""

from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, computed_field, field_serializer

from tests.support.remotes import Meets, RemoteAdapter, Text, operations
from writeahead import (
    Operation,
    PlannedOperation,
    Receipt,
    RunPolicy,
    emits,
    load_replay_artifact,
    resume_session,
    write_back,
    write_planned_writeback_artifact,
)
from writeahead.errors import (
    AccessDenied,
    AdapterError,
    Applied,
    InvalidInput,
    PermanentError,
    TransientError,
    Unavailable,
)
from writeahead.model import BlockReason, KeyedOperation, ReplayClass, RunStatus
from writeahead.protocol.sweep import State, find_sessions, sweep
from writeahead.protocol.unblocking import unblock_session


@pytest.fixture
def run(store, adapter, clock):
    def call(*kinds):
        return write_back(operations(*kinds), session_id="s1", store=store, adapter=adapter, clock=clock)

    call.clock = clock
    return call


@pytest.fixture
def resume(store, adapter, clock):
    return lambda: resume_session("s1", store=store, adapter=adapter, clock=clock)


def names(store):
    return [info.key for info in store.list()]


class Rebel(RemoteAdapter):
    """Its planner names another replay class than its emit method."""

    def plan_mail(self, payload: Text, operation: KeyedOperation) -> PlannedOperation:
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=payload.model_dump(),
            replay=ReplayClass.UPSERT,
        )


def test_a_planner_cannot_name_another_replay_class_than_its_emit_method(store, remote):
    with pytest.raises(TypeError, match="unprovable"):
        write_back(operations("mail"), session_id="s1", store=store, adapter=Rebel(remote))
    assert names(store) == []


class Relaxed(RemoteAdapter):
    @emits("upsert")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        raise AssertionError(operation.id)


def test_a_plan_is_not_carried_out_under_other_rules_than_it_was_made_for(run, store, remote, clock):
    remote.script["1-mail"] = [Meets.UNAVAILABLE] * 4
    run("mail")
    with pytest.raises(InvalidInput, match="unprovable"):
        resume_session("s1", store=store, adapter=Relaxed(remote), clock=clock)


class Strict(BaseModel):
    row_id: str = Field(alias="rowId")
    at: datetime
    places: tuple[str, ...] = ()

    model_config = ConfigDict(strict=True, extra="forbid")

    @computed_field
    def loud(self) -> str:
        return self.row_id.upper()


STRICT = Strict(rowId="r1", at=datetime(2026, 1, 1, tzinfo=UTC), places=("a",))


class StrictAdapter(RemoteAdapter):
    @emits("upsert")
    def emit_strict(self, payload: Strict, operation: PlannedOperation) -> Receipt:
        self.remote.effects.append(payload.row_id)
        return Receipt()


def test_payload_models_with_aliases_strict_dates_and_computed_fields_come_through(store, remote):
    report = write_back(
        [Operation(kind="strict", payload=STRICT)],
        session_id="s1",
        store=store,
        adapter=StrictAdapter(remote),
    )
    assert report.status is RunStatus.COMPLETED
    assert remote.effects == ["r1"]


def test_own_models_with_aliases_strict_dates_and_computed_fields_read_back(store):
    write_planned_writeback_artifact(store, "s1", STRICT)
    assert load_replay_artifact(store, "s1", Strict).model == STRICT


class OneWay(BaseModel):
    name: str

    @field_serializer("name")
    def _length(self, name: str) -> int:
        return len(name)


def test_a_model_that_does_not_read_back_is_refused_before_it_is_written(store):
    with pytest.raises(InvalidInput, match="name"):
        write_planned_writeback_artifact(store, "s1", OneWay(name="a"))
    assert names(store) == []


@pytest.mark.parametrize(
    "said",
    [
        "HTTPSConnectionPool(host='crm.secret.example', port=443): Max retries: url: /x?token=planted",
        "PUT https://crm.secret.example/rows?sig=planted failed",
        "GET /rows?$filter=n eq 'planted'&sig=planted",
        "wss://crm.secret.example/x#tok=planted",
        "Connection refused: crm.secret.example:443",
    ],
)
def test_hosts_and_queries_in_an_adapters_message_reach_nobody(run, store, adapter, said):
    def fail(payload, operation):
        raise TransientError(said, applied=Applied.NO)

    adapter.emit_create = fail
    report = run("create")
    everything = report.model_dump_json() + "".join(store.get(name).data.decode() for name in names(store))
    assert "planted" not in everything
    assert "secret.example" not in everything


def refuse(store, part, error):
    """Let the store refuse every put of a key with ``part`` in it; return what mends it."""
    put = store._put

    def refusing(key, data, *, if_absent):
        if part in key:
            raise error("memory", "put", key, "refused")
        return put(key, data, if_absent=if_absent)

    store._put = refusing
    return lambda: setattr(store, "_put", put)


def test_a_receipt_outlives_a_final_that_could_not_be_put(run, resume, store, remote):
    mend = refuse(store, "/writeback.json", AccessDenied)
    assert run("mail").status is RunStatus.RESUME_NEEDED
    mend()
    assert resume().status is RunStatus.COMPLETED
    assert remote.requests == ["1-mail"]


def test_a_receipt_that_json_cannot_hold_still_counts(run, adapter):
    adapter.emit_mail = lambda payload, operation: Receipt(remote_id="\ud800")
    report = run("mail")
    assert report.status is RunStatus.COMPLETED
    assert report.receipts["1-mail"].remote_id is None


class CrmError(AdapterError):
    """An adapter's author may well think that this is what one is for."""


@pytest.mark.parametrize("kind", [AdapterError, CrmError, RuntimeError])
def test_an_error_of_an_adapters_own_leaves_the_outcome_unknown(run, resume, adapter, store, kind):
    remote, clock = adapter.remote, run.clock
    for name in ("lookup", "mail"):
        emit = getattr(adapter, f"emit_{name}")

        def lose(payload, operation, emit=emit):
            emit(payload, operation)
            raise kind("the reply was lost")

        setattr(adapter, f"emit_{name}", lose)
        with pytest.raises(kind):
            run("lookup", "mail") if name == "lookup" else resume()
        setattr(adapter, f"emit_{name}", emit)
        clock.elapsed += 3600
    assert resume().block_reason is BlockReason.OUTCOME_UNKNOWN
    assert remote.requests == ["1-lookup", "2-mail"]
    unblock_session("s1", store=store, reason="found", assume={"2-mail": "applied"})
    assert resume().status is RunStatus.COMPLETED
    assert remote.requests == ["1-lookup", "2-mail"]


@pytest.mark.parametrize("said", ["\ud800 planted", "planted \udfff"])
def test_words_that_json_cannot_hold_still_end_a_session(run, adapter, store, said):
    def refuse(payload, operation):
        raise PermanentError(said)

    adapter.emit_create = refuse
    report = run("create")
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert names(store) == [".blocked/s1", "s1/journal/000001.json", "s1/planned-writeback.json"]
    assert b"planted" in store.get("s1/journal/000001.json").data


def test_what_a_search_finds_may_have_an_id_that_json_cannot_hold(run, adapter, remote):
    remote.script["1-lookup"] = [Meets.LOST_REPLY]
    adapter.find_lookup = lambda payload, operation: Receipt(remote_id="\ud800")
    report = run("lookup", "create")
    assert (report.status, report.receipts["1-lookup"].remote_id) == (RunStatus.COMPLETED, None)


@pytest.mark.parametrize("field", ["lease", "run_limit", "wait_initial", "wait_max", "clock_skew"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300, -1.0])
def test_a_policy_takes_no_times_beyond_reason(field, value):
    with pytest.raises(ValidationError, match=field):
        RunPolicy(**{field: value})


@pytest.mark.parametrize("seconds", [1e300, float("inf"), float("nan"), -5.0])
def test_an_absurd_retry_after_is_no_crash(run, adapter, seconds):
    def fail(payload, operation):
        raise TransientError("PUT /rows: 503", applied=Applied.NO, retry_after=seconds)

    adapter.emit_mail = fail
    assert run("mail").status is RunStatus.RESUME_NEEDED


def test_a_plan_too_large_leaves_no_marker(run, store, monkeypatch):
    monkeypatch.setattr("writeahead.protocol.artifacts.MAX_ARTIFACT_BYTES", 1000)
    with pytest.raises(InvalidInput, match="several sessions"):
        run(*["create"] * 10)
    assert names(store) == []


def test_a_blocked_run_says_so_even_if_its_marker_could_not_be_set(run, store, remote):
    refuse(store, ".blocked/", Unavailable)
    remote.script["1-create"] = [Meets.REJECTED]
    report = run("create")
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert "marker" in report.warnings[0]
    assert ".open/s1" in names(store)


def test_both_markers_go_also_when_the_unblocked_session_needs_a_second_resume(
    run, resume, store, remote, clock
):
    remote.script["1-create"] = [Meets.REJECTED, *[Meets.UNAVAILABLE] * 4]
    run("create")
    unblock_session("s1", store=store, reason="mended", clock=clock)
    assert resume().status is RunStatus.RESUME_NEEDED
    assert resume().status is RunStatus.COMPLETED
    assert not [name for name in names(store) if name.startswith(".")]


def test_what_the_adapter_refuses_before_sending_is_journaled_and_resumable(run, resume, adapter):
    def refuse_payload(payload, operation):
        raise InvalidInput("operation 1-mail: the mapping does not approve column x")

    emit, adapter.emit_mail = adapter.emit_mail, refuse_payload
    report = run("mail")
    assert report.status is RunStatus.RESUME_NEEDED
    assert "mapping" in report.error
    adapter.emit_mail = emit
    assert resume().status is RunStatus.COMPLETED


def test_the_limit_on_the_run_includes_planning(run, adapter, clock, remote):
    plan = adapter.plan

    def plan_slowly(keyed):
        clock.elapsed += 299
        return plan(keyed)

    adapter.plan = plan_slowly
    remote.script["1-create"] = [Meets.UNAVAILABLE]
    assert run("create").status is RunStatus.RESUME_NEEDED


def test_files_of_others_among_the_sessions_hide_nothing(run, store, remote, clock):
    remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    run("create")
    store.put(".open/.DS_Store", b"")
    store.put("_tmp/planned-writeback.json", b"")
    for state in (State.OPEN, None):
        assert [summary.session_id for summary in find_sessions(store, state, clock=clock)] == ["s1"]


def test_a_sweep_names_and_leaves_alone_what_another_adapter_planned(run, store, remote, clock):
    remote.script["1-create"] = [Meets.UNAVAILABLE] * 4
    run("create")

    class Other(RemoteAdapter):
        name = "other"

    (result,) = sweep(store, Other(remote), clock=clock)
    assert "'remote'" in result.note
    assert result.error is None
