"""What a plan for Dataverse is bound to: one environment, one account, one content under a GUID."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.dataverse_backdoor import environ_of
from writeahead import RunPolicy, resume_session, write_back
from writeahead.adapters.dataverse import ClientCredentials, DataverseAdapter, adapter_from_settings
from writeahead.errors import InvalidInput, NotReady
from writeahead.model import BlockReason, KeyedOperation, RunStatus, idempotency_key
from writeahead.simulators.dataverse import Settings, Simulator
from writeahead.stores.memory import MemoryStore

ONCE = RunPolicy(attempts=1)
TASKS = [{"kind": "task", "payload": {"subject": subject}} for subject in ("one", "two", "three")]
NEW_SECRET = "planted-new-secret"


def running(folder, name, secret="planted-client-secret", port=0):
    (folder / name).mkdir(exist_ok=True)
    return Simulator(folder / name / "crm.sqlite", port, settings=Settings(client_secret=secret))


def adapter_of(sim, **other):
    return adapter_from_settings(environ={**environ_of(sim), **other}, timeout=5)


def subjects(sim):
    return sorted(row["subject"] for row in sim.rows("tasks"))


def parked(sim, store):
    """A session that has written two tasks of three."""
    fault = sim.faults.add("status", method="PATCH", status=503, skip=2, times=None)
    with adapter_of(sim) as adapter:
        report = write_back(TASKS, session_id="s1", store=store, adapter=adapter, policy=ONCE)
    assert report.status is RunStatus.RESUME_NEEDED
    sim.faults.remove(fault)


def resume(sim, store, **other):
    with adapter_of(sim, **other) as adapter:
        return resume_session("s1", store=store, adapter=adapter, policy=ONCE)


def test_a_session_is_not_resumed_in_another_environment(tmp_path):
    store = MemoryStore()
    with running(tmp_path, "a") as a, running(tmp_path, "b") as b:
        parked(a, store)
        kept = [(info.key, store.get(info.key).data) for info in store.list()]
        with pytest.raises(InvalidInput, match="was planned for target"):
            resume(b, store)
        assert (subjects(a), subjects(b)) == (["one", "two"], [])
        assert b.requests() == []
        assert [(info.key, store.get(info.key).data) for info in store.list()] == kept
        assert resume(a, store).status is RunStatus.COMPLETED
        assert (subjects(a), subjects(b)) == (["one", "three", "two"], [])


def test_a_session_is_resumed_with_a_new_secret(tmp_path):
    store = MemoryStore()
    with running(tmp_path, "a") as sim:
        parked(sim, store)
    with running(tmp_path, "a", NEW_SECRET, sim.port) as sim:
        assert resume(sim, store).status is RunStatus.COMPLETED
        assert subjects(sim) == ["one", "three", "two"]


def test_another_application_or_tenant_is_another_target(sim):
    with adapter_of(sim) as adapter:
        target = adapter.target()
    for other in (
        {"DATAVERSE_CLIENT_ID": "00000000-0000-4000-8000-000000000009"},
        {"DATAVERSE_TENANT_ID": "00000000-0000-4000-8000-000000000009"},
        {"DATAVERSE_URL": "https://other.crm.dynamics.com"},
    ):
        with adapter_of(sim, **other) as adapter:
            assert adapter.target() != target


def test_what_changes_without_harm_leaves_the_target():
    def target(url="https://org.crm.dynamics.com", **changes):
        given = {"tenant_id": "ABCD", "client_id": "ef01", "client_secret": "planted", **changes}
        with DataverseAdapter(url, ClientCredentials(url=url, **given)) as adapter:
            return adapter.target()

    assert {
        target(client_secret=NEW_SECRET),
        target(tenant_id="abcd", client_id="EF01"),
        target(authority="https://login.example.com"),
        target("https://ORG.crm.dynamics.com:443/"),
        target("https://org.crm.dynamics.com/api/data/v9.2/"),
    } == {target()}


def test_a_source_of_tokens_has_its_environment_only():
    def target(token, url="https://org.crm.dynamics.com"):
        with DataverseAdapter(url, token) as adapter:
            return adapter.target()

    assert target(lambda: "planted-1") == target(lambda: "planted-2")
    assert target(lambda: "planted-1") != target(lambda: "planted-1", "https://other.crm.dynamics.com")


def test_settings_that_are_missing_are_named_before_a_resume(tmp_path):
    store = MemoryStore()
    with running(tmp_path, "a") as sim:
        parked(sim, store)
        entries = [info.key for info in store.list()]
        for name in ("DATAVERSE_URL", "DATAVERSE_CLIENT_SECRET"):
            with pytest.raises(NotReady, match=name):
                resume(sim, store, **{name: ""})
    assert [info.key for info in store.list()] == entries


def test_a_plan_holds_no_secret_and_no_host(tmp_path):
    store = MemoryStore()
    with running(tmp_path, "a") as sim:
        parked(sim, store)
        plan = store.get("s1/planned-writeback.json").data.decode()
        assert len(json.loads(plan)["target"]) == 16
        for word in (sim.url, sim.settings.tenant_id, sim.settings.client_id, sim.settings.client_secret):
            assert word not in plan


# ---- one content under a GUID


HOURS_LATER = timedelta(hours=8)


def at(sim, moment, mapping=None, readiness="off"):
    client = ClientCredentials(
        url=sim.url,
        tenant_id=sim.settings.tenant_id,
        client_id=sim.settings.client_id,
        client_secret=sim.settings.client_secret,
        authority=sim.url,
    )
    return DataverseAdapter(
        sim.url, client, mapping=mapping, timeout=5, readiness=readiness, now=lambda: moment
    )


def write(sim, payload, moment, store=None, **more):
    """One task, planned at a moment, by a process whose store may be empty."""
    with at(sim, moment) as adapter:
        return write_back(
            [{"kind": "task", "payload": payload}],
            session_id="s1",
            store=store or MemoryStore(),
            adapter=adapter,
            policy=ONCE,
            **more,
        )


@pytest.fixture
def now():
    return datetime.now(UTC)


REGARDING = {"regarding": {"type": "contact", "id": "c0000000-0000-4000-8000-000000000001"}}
TASK = {"subject": "call back", "due": "2026-03-05T09:00:00Z", "priority": "high", **REGARDING}


@pytest.mark.parametrize("atomic", [False, True])
def test_the_same_content_is_applied_already(sim, now, atomic):
    write(sim, TASK, now)
    report = write(sim, TASK, now + HOURS_LATER, atomic=atomic)
    assert [receipt.outcome for receipt in report.receipts.values()] == ["already_applied"]
    assert sim.count("tasks") == 1


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"subject": "planted-other"}, "subject"),
        ({"priority": "low"}, "prioritycode"),
        ({"regarding": {"type": "contact", "id": "c0000000-0000-4000-8000-000000000002"}}, "regarding"),
        ({"description": "planted-other"}, "description"),
    ],
)
def test_other_content_is_a_conflict(sim, now, change, named, atomic):
    write(sim, TASK, now)
    before = sim.rows("tasks")
    report = write(sim, {**TASK, **change}, now + HOURS_LATER, atomic=atomic)
    assert report.block_reason is BlockReason.CONFLICT_DETECTED
    assert "an earlier session of this id created it with other content" in report.error
    assert named in report.error
    assert "planted" not in report.error
    assert sim.rows("tasks") == before


@pytest.mark.parametrize("atomic", [False, True])
def test_an_edit_of_what_this_plan_created_is_no_conflict(sim, now, atomic):
    store = MemoryStore()
    method, path = ("POST", "*batch") if atomic else ("PATCH", "tasks(*")
    sim.faults.add("reset", method=method, path=path, apply=True)
    assert write(sim, TASK, now, store, atomic=atomic).status is RunStatus.RESUME_NEEDED
    [row] = sim.rows("tasks")
    sim.edit("tasks", row["activityid"], {"subject": "theirs", "wa_sessionid": "another"})
    with at(sim, now + HOURS_LATER) as adapter:
        report = resume_session("s1", store=store, adapter=adapter, policy=ONCE)
    assert [receipt.outcome for receipt in report.receipts.values()] == ["already_applied"]
    assert [row["subject"] for row in sim.rows("tasks")] == ["theirs"]


def test_what_was_edited_since_an_earlier_session_is_a_conflict(sim, now):
    """Whether the content was ours, no one can tell any more; nothing is lost by asking."""
    write(sim, TASK, now)
    [row] = sim.rows("tasks")
    sim.edit("tasks", row["activityid"], {"subject": "theirs"})
    assert write(sim, TASK, now + HOURS_LATER).block_reason is BlockReason.CONFLICT_DETECTED


@pytest.mark.parametrize(("late", "ours"), [(4, True), (8, False)])
def test_a_clock_that_is_wrong_by_a_little(sim, now, late, ours):
    write(sim, {"subject": "one"}, now)
    report = write(sim, {"subject": "two"}, now + timedelta(seconds=late))
    assert report.ok is ours


def test_a_plan_that_does_not_say_when_it_was_made(sim, now):
    """Plans of earlier versions are resumed as they were: a row under the GUID is ours."""
    operation_id = "1-task"
    key = idempotency_key("s1", operation_id)
    asked = KeyedOperation(session_id="s1", id=operation_id, kind="task", key=key, payload=TASK)
    write(sim, {"subject": "one"}, now)
    with at(sim, now + HOURS_LATER) as adapter:
        [planned] = adapter.plan([asked])
        assert planned.precondition["planned_at"]
        assert adapter.emit(planned.model_copy(update={"precondition": None})).outcome == "already_applied"
        for broken in (
            {},
            {"guarded": {}},
            {"guarded": {}, "absent": True},
            {**planned.precondition, "x": 1},
        ):
            with pytest.raises(InvalidInput, match="the precondition"):
                adapter.emit(planned.model_copy(update={"precondition": broken}))


@pytest.mark.parametrize("action", ["drop", "status", "not_json", "cut"])
def test_content_that_can_not_be_read_now(sim, now, action):
    write(sim, TASK, now)
    store = MemoryStore()
    sim.faults.add(action, method="GET", path="tasks(*", skip=1)
    assert write(sim, TASK, now + HOURS_LATER, store).status is RunStatus.RESUME_NEEDED
    assert write(sim, TASK, now + HOURS_LATER, store).ok


def test_content_that_may_not_be_read(sim, now):
    write(sim, TASK, now)
    sim.faults.add("status", method="GET", path="tasks(*", status=403, skip=1)
    report = write(sim, TASK, now + HOURS_LATER)
    assert (report.block_reason, sim.count("tasks")) == (BlockReason.CONFLICT_DETECTED, 1)


def test_planning_asks_for_no_more_than_before(sim, now):
    write(sim, TASK, now)
    assert [request.method for request in sim.requests(path="*data*")] == ["PATCH"]


TO_DO = """
[tables.todo]
entity_set = "tasks"
key = "activityid"
columns = ["subject", "description"]
"""


@pytest.fixture
def create(sim, tmp_path):
    """Create a row of a table that has no marker, with more in its mapping."""

    def write(columns, moment, store, declared="", readiness="off"):
        mapping = tmp_path / "mapping.toml"
        mapping.write_text(TO_DO + declared)
        create = {"kind": "create_row", "payload": {"table": "todo", "columns": columns}}
        with at(sim, moment, mapping, readiness) as adapter:
            return write_back([create], session_id="s1", store=store, adapter=adapter, policy=ONCE)

    return write


@pytest.mark.parametrize("hours", [0, 8])
@pytest.mark.parametrize(("subject", "ok"), [("one", True), ("two", False)])
def test_where_no_column_says_when_the_content_decides(create, now, hours, subject, ok):
    for store, wanted, moment in (
        (MemoryStore(), "one", now),
        (MemoryStore(), subject, now + timedelta(hours=hours)),
    ):
        report = create({"subject": wanted}, moment, store, "created = false")
    assert report.ok is ok


@pytest.mark.parametrize(("subject", "ok"), [("one", True), ("two", False)])
def test_a_table_without_a_marker(create, now, subject, ok):
    create({"subject": "one"}, now, MemoryStore())
    assert create({"subject": subject}, now + HOURS_LATER, MemoryStore()).ok is ok


def test_a_column_that_is_not_there_is_a_gap(sim, create, now):
    report = create({"subject": "one"}, now, MemoryStore(), 'created = "wa_madeon"', readiness="full")
    assert report.block_reason is BlockReason.NOT_READY
    assert "no column wa_madeon, which says when a row was created" in report.error
    assert sim.count("tasks") == 0
    assert create({"subject": "one"}, now, MemoryStore(), readiness="full").ok
