"""A call that is created, then completed: two operations, judged by the simulator's rows."""

import json

import pytest

from tests.support.dataverse_rows import DEFAULT, ROW, SESSION, TABLES, keyed
from writeahead import RunPolicy, open_store, resume_session, write_back
from writeahead.adapters.dataverse import TransientDataverseError, adapter_from_settings
from writeahead.errors import ConflictError, InvalidInput
from writeahead.model import BlockReason, Operation, RunStatus, idempotency_key

FAST = RunPolicy(wait_initial=0, wait_max=0, attempts=2)
CALL = {"subject": "A call", "description": "planted-text", "outcome": "interested_callback"}
DECLARED = (
    TABLES
    + """
[tables.call]
entity_set = "phonecalls"
key = "activityid"
columns = ["subject", "description"]
completion = { state = { completed = 1 } }
"""
)


@pytest.fixture
def session(adapter):
    """A call and its completion, planned."""
    return adapter.plan(
        [
            keyed("phone_call_activity", CALL),
            keyed("complete_activity", {"operation": "1-phone_call_activity", "status": "made"}, 2),
        ]
    )


@pytest.fixture
def without_marker(environ, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(DEFAULT + DECLARED)
    with adapter_from_settings(environ=environ, timeout=5, mapping=path) as made:
        yield made


def state(sim, row_id):
    row = sim.row("phonecalls", row_id)
    return row["statecode"], row["statuscode"]


def test_a_call_is_created_open_and_completed_by_a_second_update(sim, adapter, session):
    create, complete = session
    adapter.emit(create)
    assert state(sim, create.key) == (0, 1)
    version = sim.row("phonecalls", create.key)["@odata.etag"]
    assert adapter.emit(complete).remote_id == create.key
    assert state(sim, create.key) == (1, 2)
    row = sim.row("phonecalls", create.key)
    assert (row["wa_sessionid"], row["wa_operationid"]) == (SESSION, "2-complete_activity")
    *_, last = sim.requests(method="PATCH")
    assert last.if_match == version
    assert set(json.loads(last.body)) == {"statecode", "statuscode", "wa_sessionid", "wa_operationid"}


def test_the_row_is_not_read_before_it_is_there(sim, session):
    assert sim.requests(path="*phonecalls(*") == []
    precondition = session[1].precondition
    assert precondition["etag"] is None
    assert precondition["guarded"]["statecode"] == 0
    assert precondition["guarded"]["wa_operationid"] == "1-phone_call_activity"


@pytest.mark.parametrize("applied", [True, False])
def test_a_completion_whose_reply_is_lost(sim, adapter, session, applied):
    create, complete = session
    adapter.emit(create)
    sim.faults.add("drop", method="PATCH", apply=applied)
    with pytest.raises(TransientDataverseError):
        adapter.emit(complete)
    assert adapter.emit(complete).outcome == ("already_applied" if applied else "applied")
    assert state(sim, create.key) == (1, 2)
    assert len(sim.requests(method="PATCH", applied=True)) == 2


def test_the_replayed_create_is_ours_after_the_completion(sim, adapter, session):
    for operation in session:
        adapter.emit(operation)
    before = sim.row("phonecalls", session[0].key)
    assert {adapter.emit(operation).outcome for operation in session} == {"already_applied"}
    assert sim.row("phonecalls", session[0].key) == before


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"statecode": 2, "statuscode": 3}, "statecode"),
        ({"description": "planted-edit"}, "description"),
        ({"wa_outcome": 100000003}, "wa_outcome"),
    ],
)
def test_a_person_who_closed_or_changed_it_is_a_conflict(sim, adapter, session, edit, named):
    create, complete = session
    adapter.emit(create)
    sim.edit("phonecalls", create.key, edit)
    before = sim.row("phonecalls", create.key)
    with pytest.raises(ConflictError, match=named) as caught:
        adapter.emit(complete)
    assert "planted-text" not in str(caught.value)
    assert "planted-edit" not in str(caught.value)
    assert sim.row("phonecalls", create.key) == before


def test_a_call_that_is_gone_is_a_conflict(sim, adapter, session):
    create, complete = session
    adapter.emit(create)
    sim.delete("phonecalls", create.key)
    with pytest.raises(ConflictError, match="gone"):
        adapter.emit(complete)
    assert sim.count("phonecalls") == 0


def test_a_call_of_another_session_is_completed_by_its_id(sim, adapter):
    row_id = sim.seed("phonecalls", {"subject": "x"})
    [complete] = adapter.plan(
        [keyed("complete_activity", {"table": "phone_call_activity", "row_id": row_id, "state": 2})]
    )
    assert complete.precondition["etag"]
    adapter.emit(complete)
    assert state(sim, row_id)[0] == 2


def test_without_a_marker(sim, without_marker):
    create, complete = without_marker.plan(
        [
            keyed("create_row", {"table": "call", "columns": {"subject": "x"}}),
            keyed("complete_activity", {"operation": "1-create_row"}, 2),
        ]
    )
    without_marker.emit(create)
    sim.faults.add("drop", method="PATCH", apply=True)
    with pytest.raises(TransientDataverseError):
        without_marker.emit(complete)
    assert [without_marker.emit(one).outcome for one in (create, complete)] == ["already_applied"] * 2
    assert state(sim, create.key)[0] == 1
    assert len(sim.requests(method="PATCH", applied=True)) == 2


def test_an_update_of_a_row_that_the_session_creates(sim, without_marker):
    create, update = without_marker.plan(
        [
            keyed("create_row", {"table": "contact", "columns": {"lastname": "x"}}),
            keyed(
                "update_row",
                {"table": "contact", "operation": "1-create_row", "columns": {"description": "y"}},
                2,
            ),
        ]
    )
    for _ in range(2):
        without_marker.emit(create)
        without_marker.emit(update)
    row = sim.row("contacts", create.key)
    assert (row["lastname"], row["description"]) == ("x", "y")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"operation": "9-nothing"}, "one before it that creates a row"),
        ({"operation": "1-queue_status_update"}, "one before it that creates a row"),
        ({}, "either operation or row_id"),
        ({"row_id": SESSION}, "row_id"),
        ({"row_id": ROW}, "table must say"),
        (
            {"row_id": ROW, "table": "queue_status_update"},
            "queue_status_update.completion",
        ),
        ({"row_id": ROW, "table": "task", "state": "lost"}, "canceled, completed"),
        ({"row_id": ROW, "table": "task", "status": 77}, "canceled, completed"),
    ],
)
def test_a_completion_that_can_not_be_planned(sim, adapter, payload, words):
    with pytest.raises(InvalidInput, match=words):
        adapter.plan([keyed("complete_activity", payload, 2)])
    assert sim.requests(method="PATCH") == []


@pytest.mark.parametrize(
    "columns", [{"description": "x"}, {"statecode": 0}, {"statecode": 1, "subject": "x"}]
)
def test_a_completion_that_was_tampered_with_is_refused(sim, adapter, session, columns):
    payload = session[1].payload
    mark = {name: value for name, value in payload["columns"].items() if name.startswith("wa_")}
    bad = session[1].model_copy(update={"payload": {**payload, "columns": {**mark, **columns}}})
    with pytest.raises(InvalidInput):
        adapter.emit(bad)
    assert sim.requests(method="PATCH") == []


# ---- whole sessions


def run(adapter, store, **kwargs):
    operations = [
        Operation(kind="phone_call_activity", payload=CALL),
        Operation(kind="complete_activity", payload={"operation": "1-phone_call_activity"}),
    ]
    return write_back(operations, session_id=SESSION, store=store, adapter=adapter, policy=FAST, **kwargs)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "artifacts"))


@pytest.mark.parametrize("options", [{}, {"atomic": True}])
def test_a_session_completes_its_call_once(sim, adapter, store, options):
    report = run(adapter, store, **options)
    assert report.status is RunStatus.COMPLETED, report.error
    [row] = sim.rows("phonecalls")
    assert row["statecode"] == 1
    assert run(adapter, store, **options).status is RunStatus.NO_RESUME_NEEDED


def test_a_session_whose_artifacts_are_lost_writes_nothing_twice(sim, adapter, store, tmp_path):
    run(adapter, store)
    before = sim.row("phonecalls", idempotency_key(SESSION, "1-phone_call_activity"))
    assert run(adapter, open_store(str(tmp_path / "others"))).status is RunStatus.COMPLETED
    assert sim.rows("phonecalls") == [before]


@pytest.mark.parametrize("edit", [{"statecode": 2, "statuscode": 3}, {"description": "planted-edit"}, None])
def test_an_edit_between_creation_and_resume_blocks_the_session(sim, adapter, store, edit):
    sim.faults.add("status", method="PATCH", skip=1, times=2, status=503)
    report = run(adapter, store)
    assert (report.status, report.operation) == (RunStatus.RESUME_NEEDED, "2-complete_activity")
    key = idempotency_key(SESSION, "1-phone_call_activity")
    if edit is None:
        sim.delete("phonecalls", key)
    else:
        sim.edit("phonecalls", key, edit)
    before = sim.rows("phonecalls")
    report = resume_session(SESSION, store=store, adapter=adapter, policy=FAST)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert next(iter(edit or {"gone": 1})) in report.error
    assert "planted" not in report.error.replace(SESSION, "")
    assert sim.rows("phonecalls") == before


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("status", [{}, {"status": 2}])
def test_a_lost_completion_of_a_row_that_was_there(sim, environ, tmp_path, applied, status):
    """Without a marker; the service sets the status of a state itself."""
    path = tmp_path / "mine.toml"
    path.write_text(DEFAULT + DECLARED.replace("completed = 1 }", "completed = 1 }, status = { made = 2 }"))
    call = sim.seed("phonecalls", {"subject": "theirs"})
    with adapter_from_settings(environ=environ, timeout=5, mapping=path) as adapter:
        [planned] = adapter.plan([keyed("complete_activity", {"table": "call", "row_id": call, **status})])
        sim.faults.add("drop", method="PATCH", apply=applied)
        with pytest.raises(TransientDataverseError):
            adapter.emit(planned)
        assert adapter.emit(planned).outcome == ("already_applied" if applied else "applied")
        assert adapter.transact([planned])[0].outcome == "already_applied"
    assert state(sim, call) == (1, 2)
    assert len(sim.requests(method="PATCH", applied=True)) == 1


def test_a_status_that_another_user_chose_is_no_part_of_ours(sim, environ, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(DEFAULT + DECLARED)
    call = sim.seed("phonecalls", {"subject": "theirs"})
    with adapter_from_settings(environ=environ, timeout=5, mapping=path) as adapter:
        [planned] = adapter.plan([keyed("complete_activity", {"table": "call", "row_id": call})])
        sim.edit("phonecalls", call, {"statecode": 2, "statuscode": 3})
        with pytest.raises(ConflictError, match="statecode, statuscode"):
            adapter.emit(planned)
    assert state(sim, call) == (2, 3)


# ---- what the mapping guards


@pytest.fixture(params=[True, False], ids=["marker", "no marker"])
def guarding(request, environ, tmp_path):
    path = tmp_path / "guarding.toml"
    marker = 'marker = { session = "wa_sessionid", operation = "wa_operationid" }' if request.param else ""
    path.write_text(f'{DEFAULT}{DECLARED}guarded = ["leftvoicemail"]\n{marker}\n')
    with adapter_from_settings(environ=environ, timeout=5, mapping=path) as made:
        yield made


@pytest.fixture
def there(sim):
    return sim.seed("phonecalls", {"subject": "theirs"})


@pytest.mark.parametrize("moment", ["since it was loaded", "since it was planned"])
def test_an_edit_of_a_guarded_column_stops_a_completion(sim, guarding, there, moment):
    loaded = guarding.read_baseline("call", there)
    asked = keyed("complete_activity", {"table": "tables.call", "row_id": there})
    if moment == "since it was loaded":
        asked = asked.model_copy(update={"baseline": loaded.model_dump(mode="json")})
        sim.edit("phonecalls", there, {"leftvoicemail": True})
        with pytest.raises(ConflictError, match="leftvoicemail"):
            guarding.plan([asked])
    else:
        [planned] = guarding.plan([asked])
        sim.edit("phonecalls", there, {"leftvoicemail": True})
        with pytest.raises(ConflictError, match="leftvoicemail"):
            guarding.emit(planned)
    assert state(sim, there) == (0, 1)


def test_a_completion_that_was_planned_before_it_watched_more(sim, guarding, there):
    [planned] = guarding.plan([keyed("complete_activity", {"table": "tables.call", "row_id": there})])
    guards = {
        name: value for name, value in planned.precondition["guarded"].items() if name != "leftvoicemail"
    }
    assert guards != planned.precondition["guarded"]
    earlier = planned.model_copy(update={"precondition": {**planned.precondition, "guarded": guards}})
    assert guarding.emit(earlier).outcome == "applied"
    assert state(sim, there) == (1, 2)
    less = {name: value for name, value in guards.items() if name != "statecode"}
    broken = planned.model_copy(update={"precondition": {**planned.precondition, "guarded": less}})
    with pytest.raises(InvalidInput, match="guards other columns"):
        guarding.emit(broken)
