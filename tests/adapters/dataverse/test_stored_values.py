"""Sessions whose values the service stores as something else: they are ours, and edits are seen.

The rows in the simulator's database are the truth. What no source says (rounding in the middle, a
time zone, blanks) is tried in more than one way.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_DOWN, ROUND_HALF_UP

import pytest

from tests.support.dataverse_backdoor import environ_of
from tests.support.dataverse_rows import DEFAULT, ROW, keyed
from tests.support.dataverse_values import COLUMNS, schema_of
from writeahead import RunPolicy, resume_session, write_back
from writeahead.adapters.dataverse import TransientDataverseError, adapter_from_settings
from writeahead.errors import ConflictError, InvalidInput
from writeahead.model import BlockReason, RunStatus
from writeahead.simulators.dataverse import Settings, Simulator
from writeahead.stores.memory import MemoryStore

FAST = RunPolicy(wait_initial=0, wait_max=0, attempts=2)
ONCE = RunPolicy(attempts=1)
NAMES = json.dumps(["subject", *COLUMNS])
MARKER = 'marker = { session = "wa_sessionid", operation = "wa_operationid" }'
TABLE = """
[tables.call]
entity_set = "phonecalls"
key = "activityid"
columns = {names}
{more}
completion = {{ state = {{ completed = 1, canceled = 2 }} }}
"""
# Each is stored as something else.
CHANGED = {
    "wa_amount": 99.995,
    "wa_price": 99.95,
    "wa_rate": 0.12345,
    "wa_ratio": 0.333333,
    "wa_localday": "2026-03-05T15:00:00+01:00",
    "wa_checkin": "2026-03-05T15:00:00+02:00",
    "wa_topics": "9, 1",
    "wa_motto": "two \r\nlines ",
}
OTHER_KEEPS = {
    "wa_localday": lambda _value: "2026-03-04T23:00:00Z",
    "wa_checkin": lambda value: datetime.fromisoformat(value).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "wa_topics": lambda value: ",".join(part.strip() for part in value.split(",")),
    "wa_motto": lambda value: "\n".join(value.strip().splitlines()),
}
AS_DOCUMENTED = {}
OTHERWISE = {
    **{name: replace(COLUMNS[name], keeps=keeps) for name, keeps in OTHER_KEEPS.items()},
    "wa_amount": replace(COLUMNS["wa_amount"], rounding=ROUND_HALF_DOWN),
    "wa_price": replace(COLUMNS["wa_price"], rounding=ROUND_HALF_UP, other_precision=1),
}


@pytest.fixture
def world(tmp_path):
    """A simulator, and an adapter that holds plans against its definitions."""
    opened = []

    def make(*, more=MARKER, readiness="full", **columns):
        settings = Settings(client_secret="planted-client-secret", schema=schema_of(**columns))
        sim = Simulator(tmp_path / "crm.sqlite", settings=settings).start()
        path = tmp_path / "mapping.toml"
        path.write_text(DEFAULT + TABLE.format(names=NAMES, more=more))
        adapter = adapter_from_settings(environ=environ_of(sim), timeout=5, mapping=path, readiness=readiness)
        opened.extend([sim.stop, adapter.close])
        return sim, adapter

    yield make
    for close in reversed(opened):
        close()


def session_of(columns, then):
    create = {"kind": "create_row", "payload": {"table": "call", "columns": {"subject": "x", **columns}}}
    if then == "complete_activity":
        return [create, {"kind": then, "payload": {"operation": "1-create_row"}}]
    update = {"table": "call", "operation": "1-create_row", "columns": {"subject": "y", "wa_amount": 12.345}}
    return [create, {"kind": then, "payload": update}]


def write(adapter, operations, **options):
    options = {"store": MemoryStore(), "policy": FAST, **options}
    return write_back(operations, session_id="s", adapter=adapter, **options)


def call(sim):
    [row] = sim.rows("phonecalls")
    return row


def is_done(row, then):
    return row["statecode"] == 1 if then == "complete_activity" else row["subject"] == "y"


@pytest.mark.parametrize("columns", [AS_DOCUMENTED, OTHERWISE], ids=["as documented", "otherwise"])
@pytest.mark.parametrize("more", [MARKER, ""], ids=["marker", "no marker"])
@pytest.mark.parametrize("then", ["complete_activity", "update_row"])
@pytest.mark.parametrize("atomic", [False, True])
def test_our_own_value_is_no_edit(world, columns, more, then, atomic):
    sim, adapter = world(more=more, **columns)
    report = write(adapter, session_of(CHANGED, then), atomic=atomic)
    assert (report.status, report.error) == (RunStatus.COMPLETED, None)
    row = call(sim)
    assert is_done(row, then)
    assert row["wa_rate"] == 0.123
    assert row["wa_topics"] == ("9,1" if columns else "1,9")


@pytest.mark.parametrize("more", [MARKER, ""], ids=["marker", "no marker"])
@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_and_a_resume(world, more, lost, applied):
    sim, adapter = world(more=more)
    store = MemoryStore()
    sim.faults.add("drop", method="PATCH", skip=lost, apply=applied)
    report = write(adapter, session_of(CHANGED, "update_row"), store=store, policy=ONCE)
    assert report.status is RunStatus.RESUME_NEEDED
    report = resume_session("s", store=store, adapter=adapter, policy=ONCE)
    assert (report.status, report.error) == (RunStatus.COMPLETED, None)
    assert len(sim.requests(method="PATCH", applied=True)) == 2
    assert (call(sim)["subject"], call(sim)["wa_amount"]) == ("y", 12.34)


@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_reply_of_a_transaction(world, applied):
    sim, adapter = world()
    store = MemoryStore()
    sim.faults.add("drop", path="$batch", apply=applied)
    operations = session_of(CHANGED, "complete_activity")
    report = write(adapter, operations, store=store, policy=ONCE, atomic=True)
    assert report.status is RunStatus.RESUME_NEEDED
    report = resume_session("s", store=store, adapter=adapter, policy=ONCE)
    assert (report.status, report.error) == (RunStatus.COMPLETED, None)
    assert call(sim)["statecode"] == 1


@pytest.mark.parametrize(
    "edit",
    [
        {"wa_amount": 99.98},
        {"wa_amount": None},
        {"wa_rate": 0.124},
        {"wa_topics": "1,2"},
        {"wa_topics": "1"},
        {"wa_localday": "2026-03-07T00:00:00Z"},
        {"wa_checkin": "2026-03-05T16:00:00Z"},
        {"wa_motto": "two lines"},
    ],
)
def test_an_edit_in_between_is_a_conflict(world, edit):
    sim, adapter = world()
    store = MemoryStore()
    sim.faults.add("status", method="PATCH", skip=1, times=1, status=503)
    write(adapter, session_of(CHANGED, "complete_activity"), store=store, policy=ONCE)
    sim.edit("phonecalls", call(sim)["activityid"], edit)
    before = call(sim)
    report = resume_session("s", store=store, adapter=adapter, policy=ONCE)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert f"changed by another user: {next(iter(edit))}" in report.error
    assert call(sim) == before


def test_the_plan_says_what_is_stored_as_something_else(world):
    sim, adapter = world()
    report = write(adapter, session_of(CHANGED, "update_row"))
    assert [warning.split(":")[0] + warning.split(":")[1][:12] for warning in report.warnings] == [
        "1-create_row wa_amount k",
        "1-create_row wa_rate kee",
        "1-create_row wa_ratio ke",
        "1-create_row wa_checkin ",
        "2-update_row wa_amount k",
    ]
    assert not [value for value in ("99.9", "0.123", "12.3") if value in "".join(report.warnings)]
    # What is sent is what was asked for.
    sent = json.loads(sim.requests(method="PATCH")[0].body)
    assert {name: sent[name] for name in CHANGED} == CHANGED


def test_a_plan_holds_no_more_than_it_must(world):
    _, adapter = world()
    plain = {"subject": "x", "wa_amount": 99.99, "wa_day": "2026-03-05", "wa_topics": "1,9"}
    [planned] = adapter.plan([keyed("create_row", {"table": "call", "columns": plain})])
    assert set(planned.precondition) == {"etag", "guarded", "later", "absent", "planned_at"}
    assert planned.warnings == ()
    [planned] = adapter.plan([keyed("create_row", {"table": "call", "columns": {"wa_rate": 0.12345}})])
    assert planned.precondition["stored"] == {"wa_rate": [0.123]}


def test_what_is_left_is_what_was_written_last(world):
    _, adapter = world()
    planned = adapter.plan(
        [
            keyed("create_row", {"table": "call", "columns": {"wa_amount": 99.995, "wa_rate": 0.12345}}),
            keyed(
                "update_row", {"table": "call", "operation": "1-create_row", "columns": {"wa_amount": 5}}, 2
            ),
            keyed("complete_activity", {"operation": "1-create_row"}, 3),
        ]
    )
    assert [one.precondition.get("left", {}).keys() for one in planned] == [
        set(),
        {"wa_amount", "wa_rate"},
        {"wa_rate"},
    ]
    assert planned[2].precondition["guarded"]["wa_amount"] == 5


@pytest.mark.parametrize("field", ["stored", "left"])
def test_a_plan_that_was_tampered_with_is_refused(world, field):
    sim, adapter = world()
    [planned] = adapter.plan([keyed("create_row", {"table": "call", "columns": {"wa_rate": 0.12345}})])
    bad = planned.model_copy(
        update={"precondition": {**planned.precondition, field: {"subject": ["edited"]}}}
    )
    with pytest.raises(InvalidInput, match="stored values of other columns"):
        adapter.emit(bad)
    assert sim.requests(method="PATCH") == []


def test_what_may_be_ours_and_was_there_before_is_no_proof(world):
    """The price reads as ours might read, since it did so before: the update has not arrived."""
    sim, adapter = world(more="")
    row = sim.seed("phonecalls", {"subject": "x", "wa_price": 100})
    [update] = adapter.plan(
        [keyed("update_row", {"table": "call", "row_id": row, "columns": {"wa_price": 99.95}})]
    )
    sim.faults.add("drop", method="PATCH", apply=False)
    with pytest.raises(TransientDataverseError):
        adapter.emit(update)
    sim.edit("phonecalls", row, {"subject": "edited"})
    with pytest.raises(ConflictError, match="version changed"):
        adapter.emit(update)
    assert call(sim)["wa_price"] == 100


@pytest.mark.parametrize(
    ("kind", "is_there"), [("update_row", True), ("upsert_row", True), ("upsert_row", False)]
)
@pytest.mark.parametrize("atomic", [False, True])
def test_a_write_without_a_marker_that_took_effect_is_found(world, kind, is_there, atomic):
    sim, adapter = world(more='guarded = ["wa_motto"]')
    if is_there:
        sim.seed("phonecalls", {"activityid": ROW, "wa_amount": 1})
    columns = {"wa_amount": 99.995, "wa_topics": [9, 1]}
    [planned] = adapter.plan([keyed(kind, {"table": "call", "row_id": ROW, "columns": columns})])
    sim.faults.add("drop", method="POST" if atomic else "PATCH", apply=True)

    def emit():
        return adapter.transact([planned])[0] if atomic else adapter.emit(planned)

    with pytest.raises(TransientDataverseError):
        emit()
    assert emit().outcome == "already_applied"
    assert len(sim.requests(method="PATCH", applied=True)) == 1


def test_a_blind_upsert_in_a_transaction_that_took_effect_is_found(world):
    """The update beside it can't be sent again, and nothing but values proves either of them."""
    sim, adapter = world(more="")
    other = sim.seed("phonecalls", {"subject": "x"})
    upsert = {"table": "call", "row_id": ROW, "columns": {"wa_amount": 99.995}}
    planned = adapter.plan(
        [
            keyed("update_row", {"table": "call", "row_id": other, "columns": {"wa_amount": 1}}),
            keyed("upsert_row", upsert, 2),
        ]
    )
    sim.faults.add("drop", method="POST", apply=True)
    with pytest.raises(TransientDataverseError):
        adapter.transact(planned)
    assert [receipt.outcome for receipt in adapter.transact(planned)] == ["already_applied"] * 2
    # Alone it is sent again, as ever, whatever is in the row.
    sim.edit("phonecalls", ROW, {"wa_amount": 7})
    assert adapter.emit(planned[1]).outcome == "applied"
    assert sim.row("phonecalls", ROW)["wa_amount"] == 100
    bad = {**planned[1].precondition, "guarded": {"wa_amount": 7}}
    with pytest.raises(InvalidInput, match="guards what the mapping does not"):
        adapter.emit(planned[1].model_copy(update={"precondition": bad}))


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("edit", [{}, {"wa_amount": 99.98}])
def test_two_updates_of_a_guarded_column(world, atomic, edit):
    sim, adapter = world(more=f'{MARKER}\nguarded = ["wa_amount"]')
    row = sim.seed("phonecalls", {"wa_amount": 1})
    operations = [
        {"kind": "update_row", "payload": {"table": "call", "row_id": row, "columns": columns}}
        for columns in ({"wa_amount": 99.995}, {"subject": "y"})
    ]
    if edit:
        sim.faults.add("edit", method="PATCH", edit_after={"row": f"phonecalls({row})", "columns": edit})
    report = write(adapter, operations, atomic=atomic)
    expected = RunStatus.BLOCKED if edit and not atomic else RunStatus.COMPLETED
    assert report.status is expected, report.error
    assert "wa_amount" in (report.error or "wa_amount")
    assert call(sim)["subject"] == ("y" if expected is RunStatus.COMPLETED else None)


def test_a_value_that_is_left_out_is_not_warned_of(world):
    sim, adapter = world(more='preserve = ["wa_amount"]')
    row = sim.seed("phonecalls", {"wa_amount": 1})
    columns = {"wa_amount": 99.995, "subject": "y"}
    [planned] = adapter.plan([keyed("update_row", {"table": "call", "row_id": row, "columns": columns})])
    assert planned.warnings == ("wa_amount has a value, and is left as it is",)
    assert "stored" not in planned.precondition


def test_a_column_of_several_options_is_discovered(world):
    _, adapter = world()
    text = adapter.discover({}, ["phonecall"])
    [line] = [line for line in text.splitlines() if '"wa_topics",' in line]
    assert line.startswith('  "wa_topics",  # MultiSelectPicklist, values of ')
    assert line.count(",") == 5  # four options


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("edit", [{}, {"wa_amount": 99.98}])
def test_a_second_run_after_the_store_was_lost(world, monkeypatch, atomic, edit):
    """The row of the first run is older than the plan, so its content decides."""
    sim, adapter = world()
    operations = session_of(CHANGED, "update_row")[:1]

    def run():
        return write(adapter, operations, atomic=atomic)

    assert run().status is RunStatus.COMPLETED
    sim.edit("phonecalls", call(sim)["activityid"], edit)
    monkeypatch.setattr(adapter, "_now", lambda: datetime.now(UTC) + timedelta(hours=8))
    report = run()
    assert report.status is (RunStatus.BLOCKED if edit else RunStatus.COMPLETED), report.error
    assert not edit or "with other content: wa_amount" in report.error
    assert len(sim.requests(method="PATCH", applied=True)) == 1


@pytest.mark.parametrize("atomic", [False, True])
def test_a_second_run_of_an_update(world, atomic):
    """Planning finds the row marked by this session, and its content as it would write it."""
    sim, adapter = world(more=f'{MARKER}\nguarded = ["wa_amount", "wa_topics"]')
    row = sim.seed("phonecalls", {"subject": "x"})
    update = {"table": "call", "row_id": row, "columns": {"wa_amount": 99.995, "wa_topics": "9,1"}}
    for _ in range(2):
        report = write(adapter, [{"kind": "update_row", "payload": update}], atomic=atomic)
        assert (report.status, report.error) == (RunStatus.COMPLETED, None)
    assert len(sim.requests(method="PATCH", applied=True)) == 1


def test_without_definitions_a_rounded_value_looks_like_an_edit(world):
    """What it costs to leave out the readiness check, as the documentation says."""
    sim, adapter = world(readiness="off")
    report = write(adapter, session_of({"wa_amount": 99.995}, "complete_activity"))
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert "wa_amount" in report.error
    assert call(sim)["statecode"] == 0


@pytest.mark.parametrize(
    ("topics", "stored"), [([9, 1], "1,9"), ([9, 9], "9"), ("9,1", "1,9"), ([], None), (None, None)]
)
def test_several_options_are_a_list_or_a_text(world, topics, stored):
    sim, adapter = world()
    [planned] = adapter.plan([keyed("create_row", {"table": "call", "columns": {"wa_topics": topics}})])
    adapter.emit(planned)
    assert call(sim)["wa_topics"] == stored


@pytest.mark.parametrize("topics", [["1"], [True], [1, None], [[1]], [1.5]])
def test_a_list_of_anything_else_is_refused(world, topics):
    _, adapter = world()
    with pytest.raises(InvalidInput, match="wa_topics"):
        adapter.plan([keyed("create_row", {"table": "call", "columns": {"wa_topics": topics}})])


@pytest.mark.parametrize("more", [MARKER, ""], ids=["marker", "no marker"])
@pytest.mark.parametrize("edited", [False, True])
def test_what_a_lost_run_has_stored_is_no_edit(world, more, edited):
    sim, adapter = world(more=more)
    row_id = sim.seed("phonecalls", {"subject": "x", "wa_amount": 1})
    loaded = adapter.read_baseline("call", row_id).model_dump(mode="json")
    # Without a marker, a value of which the service may make several things proves nothing.
    sure = {name: value for name, value in CHANGED.items() if name not in ("wa_price", "wa_localday")}
    columns = CHANGED if more else {**sure, "wa_amount": 99.994}
    payload = {"table": "call", "row_id": row_id, "columns": columns}

    def run():
        operation = {"kind": "update_row", "payload": payload, "baseline": loaded}
        return write_back([operation], session_id="s", store=MemoryStore(), adapter=adapter, policy=ONCE)

    assert run().status is RunStatus.COMPLETED
    if edited:
        edit = {"wa_topics": "12", "wa_sessionid": "another"}
        sim.edit("phonecalls", row_id, edit)
        report = run()
        assert report.block_reason is BlockReason.CONFLICT_DETECTED
        assert "changed by another user since it was loaded" in report.error
        assert call(sim)["wa_topics"] == "12"
    else:
        report = run()
        assert (report.status, report.error) == (RunStatus.COMPLETED, None)
