"""Operations on declared tables, judged by the simulator's rows and request log."""

import json

import pytest

from tests.support.dataverse_rows import (
    ACCOUNT,
    CONTACT,
    DEFAULT,
    ROW,
    SESSION,
    TABLES,
    keyed,
    seed_rows,
    sent,
)
from writeahead.adapters.dataverse import TransientDataverseError
from writeahead.errors import Applied, ConflictError, InvalidInput, NotReady

USER = "a0000000-0000-4000-8000-000000000002"


@pytest.fixture
def mapping_text():
    return DEFAULT + TABLES


@pytest.fixture
def sim(sim):
    seed_rows(sim)
    return sim


def plan(adapter, kind, **payload):
    [planned] = adapter.plan([keyed(kind, payload)])
    return planned


def update(adapter, **columns):
    return plan(adapter, "update_row", table="contact", row_id=CONTACT, columns=columns)


# ---- create


def test_create_under_the_key_of_the_operation(sim, adapter):
    operation = plan(
        adapter,
        "create_row",
        table="contact",
        columns={"lastname": "Okafor", "parentcustomerid_account": {"table": "account", "id": ACCOUNT}},
    )
    receipt = adapter.emit(operation)
    row = sim.row("contacts", operation.key)
    assert receipt.remote_id == operation.key
    assert (row["lastname"], row["_parentcustomerid_value"]) == ("Okafor", ACCOUNT)
    assert sent(sim) == [(204, None, "*")]


@pytest.mark.parametrize("edit", [{}, {"lastname": "edited by a user"}])
def test_without_a_marker_the_guid_alone_proves_a_create(sim, adapter, edit):
    operation = plan(adapter, "create_row", table="contact", columns={"lastname": "Okafor"})
    sim.faults.add("drop", method="PATCH", apply=True)
    with pytest.raises(TransientDataverseError):
        adapter.emit(operation)
    sim.edit("contacts", operation.key, edit)
    before = sim.row("contacts", operation.key)
    assert adapter.emit(operation).outcome == "already_applied"
    assert sim.row("contacts", operation.key) == before


def test_with_a_marker_a_strangers_row_is_none_of_ours(sim, adapter):
    operation = plan(adapter, "create_row", table="row", columns={"wa_name": "Ada"})
    sim.seed("wa_callqueues", {"wa_callqueueid": operation.key, "wa_name": "theirs"})
    with pytest.raises(ConflictError):
        adapter.emit(operation)
    assert sim.row("wa_callqueues", operation.key)["wa_name"] == "theirs"


# ---- what is approved


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"table": "lead", "columns": {"x": 1}}, ["[tables.lead]"]),
        (
            {"table": "account", "columns": {"emailaddress1": "planted"}},
            ["emailaddress1", "[tables.account]"],
        ),
        ({"table": "row", "columns": {"wa_lastsession": "planted"}}, ["wa_lastsession"]),
        ({"table": "account", "columns": {"name": {"table": "account", "id": ACCOUNT}}}, ["name@odata.bind"]),
        (
            {"table": "contact", "columns": {"parentcustomerid_account": {"entity_set": "leads", "id": ROW}}},
            ["parentcustomerid_account"],
        ),
        ({"table": "account", "columns": {"name@odata.bind": "planted"}}, ["columns"]),
        ({"table": "account", "columns": {}}, ["columns"]),
    ],
)
def test_what_is_not_declared_is_never_written(sim, adapter, payload, words):
    with pytest.raises(InvalidInput) as caught:
        adapter.plan([keyed("create_row", payload)])
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "planted" not in str(caught.value).replace(SESSION, "")
    assert sent(sim) == []


@pytest.mark.parametrize(
    "change",
    [
        {"columns": {"name": "x", "emailaddress1": "y"}},
        {"table": "tables.contact"},
        {"table": "kinds.task"},
        {"table": "tables.nothing"},
        {"table": None},
        {"entity_set": "contacts"},
        {"key": {"name": "Ada Ltd"}, "row_id": None},
    ],
)
def test_a_plan_that_was_tampered_with_is_refused(sim, adapter, change):
    operation = plan(adapter, "upsert_row", table="account", row_id=ACCOUNT, columns={"name": "x"})
    payload = {key: value for key, value in {**operation.payload, **change}.items() if value is not None}
    with pytest.raises(InvalidInput):
        adapter.emit(operation.model_copy(update={"payload": payload}))
    assert sent(sim) == []


# ---- update without a marker


def test_update_a_row_of_a_declared_table(sim, adapter):
    etag = sim.row("contacts", CONTACT)["@odata.etag"]
    adapter.emit(update(adapter, description="ours"))
    assert sim.row("contacts", CONTACT)["description"] == "ours"
    assert sent(sim) == [(204, etag, None)]


def test_an_update_whose_reply_is_lost_is_known_by_its_values(sim, adapter):
    operation = update(adapter, description="ours", lastname="Okafor")
    sim.faults.add("drop", method="PATCH", apply=True)
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(operation)
    assert caught.value.applied is Applied.UNKNOWN
    before = sim.row("contacts", CONTACT)
    assert adapter.emit(operation).outcome == "already_applied"
    assert sim.row("contacts", CONTACT) == before


@pytest.mark.parametrize("column", ["donotphone", "description", "telephone1"])
def test_a_persons_edit_is_found_and_named(sim, adapter, column):
    operation = update(adapter, description="ours", lastname="Okafor")
    edit = {column: True if column == "donotphone" else "planted-value"}
    sim.edit("contacts", CONTACT, edit)
    before = sim.row("contacts", CONTACT)
    with pytest.raises(ConflictError, match=column) as caught:
        adapter.emit(operation)
    assert "planted-value" not in str(caught.value)
    assert "ours" not in str(caught.value)
    assert sim.row("contacts", CONTACT) == before


def test_a_person_who_undoes_what_may_be_ours_is_not_overwritten(sim, adapter):
    sim.edit("contacts", CONTACT, {"description": "before"})
    operation = update(adapter, description="ours")
    sim.faults.add("drop", method="PATCH", apply=True)
    with pytest.raises(TransientDataverseError):
        adapter.emit(operation)
    sim.edit("contacts", CONTACT, {"description": "before"})
    with pytest.raises(ConflictError, match="without marker columns"):
        adapter.emit(operation)
    assert sim.row("contacts", CONTACT)["description"] == "before"


def test_a_row_that_is_gone_is_a_conflict(sim, adapter):
    operation = update(adapter, description="ours")
    sim.delete("contacts", CONTACT)
    with pytest.raises(ConflictError, match="gone"):
        adapter.emit(operation)


def test_a_row_without_a_marker_is_updated_once_in_a_session(adapter):
    payload = {"table": "contact", "row_id": CONTACT, "columns": {"description": "x"}}
    with pytest.raises(InvalidInput, match="updated twice"):
        adapter.plan([keyed("update_row", payload), keyed("update_row", payload, 2)])


def test_with_a_marker_two_updates_of_a_row_follow_each_other(sim, adapter):
    payloads = [{"table": "row", "row_id": ROW, "columns": {"wa_attempts": n}} for n in (1, 2)]
    planned = adapter.plan([keyed("update_row", payload, n) for n, payload in enumerate(payloads, 1)])
    for operation in planned:
        assert adapter.emit(operation).outcome == "applied"
    assert sim.row("wa_callqueues", ROW)["wa_attempts"] == 2
    assert {adapter.emit(operation).outcome for operation in planned} == {"already_applied"}


def test_an_alternate_key_means_the_row_that_had_it(sim, adapter):
    operation = plan(
        adapter, "update_row", table="account", key={"accountnumber": "A-1"}, columns={"name": "x"}
    )
    assert operation.payload["row_id"] == ACCOUNT
    assert adapter.emit(operation).remote_id == ACCOUNT
    assert sim.row("accounts", ACCOUNT)["name"] == "x"


@pytest.mark.parametrize(
    ("address", "error"),
    [
        ({"row_id": USER}, NotReady),
        ({"key": {"accountnumber": "planted"}}, NotReady),
        ({"key": {"name": "planted"}}, InvalidInput),
        ({"key": {"accountnumber": "pla/nted"}}, InvalidInput),
        ({"key": {"accountnumber": "A-1"}, "row_id": ACCOUNT}, InvalidInput),
        ({}, InvalidInput),
    ],
)
def test_a_row_that_can_not_be_addressed_so(sim, adapter, address, error):
    payload = {"table": "account", **address, "columns": {"description": "x"}}
    with pytest.raises(error) as caught:
        adapter.plan([keyed("update_row", payload)])
    assert "pla" not in str(caught.value).replace(SESSION, "")
    assert sent(sim) == []


# ---- preserve


@pytest.mark.parametrize("value", [None, "+49 30 1"])
def test_a_column_to_preserve_is_written_only_while_it_is_empty(sim, adapter, value):
    sim.edit("contacts", CONTACT, {"telephone1": value})
    operation = update(adapter, telephone1="+49 30 7654321", description="ours")
    assert operation.precondition["guarded"]["telephone1"] == value
    adapter.emit(operation)
    row = sim.row("contacts", CONTACT)
    assert (row["telephone1"], row["description"]) == (value or "+49 30 7654321", "ours")
    kept = [warning for warning in operation.warnings if warning.startswith("telephone1 has a value")]
    assert len(kept) == (value is not None)
    assert "+49" not in "".join(operation.warnings)


def test_a_lookup_can_be_preserved(sim, adapter):
    other = sim.seed("accounts", {"name": "other"})
    sim.edit("contacts", CONTACT, {"parentcustomerid_account@odata.bind": f"/accounts({other})"})
    operation = update(
        adapter, parentcustomerid_account={"table": "account", "id": ACCOUNT}, description="ours"
    )
    adapter.emit(operation)
    assert sim.row("contacts", CONTACT)["_parentcustomerid_value"] == other


def test_where_everything_is_preserved_nothing_is_sent(sim, adapter):
    sim.edit("contacts", CONTACT, {"telephone1": "+49 30 1"})
    operation = update(adapter, telephone1="+49 30 2")
    assert adapter.emit(operation).outcome == "already_applied"
    sim.edit("contacts", CONTACT, {"donotphone": True})
    with pytest.raises(ConflictError, match="donotphone"):
        adapter.emit(operation)
    assert sent(sim) == []


def test_a_row_last_written_by_this_session_counts_as_applied(sim, adapter):
    payload = {"table": "row", "row_id": ROW, "columns": {"wa_notes": "ours", "wa_email": "a@example.com"}}
    adapter.emit(plan(adapter, "update_row", **payload))
    again = plan(adapter, "update_row", **payload)
    assert adapter.emit(again).outcome == "already_applied"
    assert len(sent(sim)) == 1


# ---- upsert


def test_an_upsert_creates_by_an_alternate_key_and_then_updates(sim, adapter):
    operation = plan(
        adapter, "upsert_row", table="account", key={"accountnumber": "A-2"}, columns={"name": "Ben"}
    )
    first = adapter.emit(operation)
    assert sim.row("accounts", first.remote_id)["accountnumber"] == "A-2"
    assert adapter.emit(operation).remote_id == first.remote_id
    assert [row["name"] for row in sim.rows("accounts") if row["accountnumber"] == "A-2"] == ["Ben"]
    assert "A-2" not in repr(adapter)


def test_an_unguarded_upsert_overwrites_its_columns_only(sim, adapter):
    operation = plan(adapter, "upsert_row", table="account", row_id=ACCOUNT, columns={"name": "ours"})
    assert operation.precondition is None
    sim.edit("accounts", ACCOUNT, {"name": "theirs", "description": "theirs"})
    adapter.emit(operation)
    row = sim.row("accounts", ACCOUNT)
    assert (row["name"], row["description"]) == ("ours", "theirs")


@pytest.mark.parametrize("address", [{"row_id": ROW}, {"key": {"wa_externalid": "X-1"}}])
def test_an_upsert_that_watches_loses_no_edit(sim, adapter, address):
    operation = plan(adapter, "upsert_row", table="row", **address, columns={"wa_notes": "ours"})
    sim.edit("wa_callqueues", ROW, {"wa_donotcall": True})
    with pytest.raises(ConflictError, match="wa_donotcall"):
        adapter.emit(operation)
    sim.edit("wa_callqueues", ROW, {"wa_donotcall": False})
    assert adapter.emit(operation).outcome == "applied"
    assert adapter.emit(operation).outcome == "already_applied"


@pytest.mark.parametrize("table", ["row", "contact"])
@pytest.mark.parametrize("is_ours", [True, False])
def test_an_upsert_of_a_row_that_was_not_there(sim, adapter, table, is_ours):
    entity_set, column = {"row": ("wa_callqueues", "wa_notes"), "contact": ("contacts", "description")}[table]
    operation = plan(adapter, "upsert_row", table=table, row_id=USER, columns={column: "ours"})
    if is_ours:
        sim.faults.add("drop", method="PATCH", apply=True)
        with pytest.raises(TransientDataverseError):
            adapter.emit(operation)
        assert adapter.emit(operation).outcome == "already_applied"
    else:
        key = {"row": "wa_callqueueid", "contact": "contactid"}[table]
        sim.seed(entity_set, {key: USER, column: "theirs"})
        with pytest.raises(ConflictError, match="another user created"):
            adapter.emit(operation)
    assert sim.row(entity_set, USER)[column] == ("ours" if is_ours else "theirs")


# ---- owners and telephone numbers


@pytest.mark.parametrize("named", [True, False])
def test_a_new_row_belongs_to_the_default_owner_if_none_is_named(sim, adapter_with, named):
    team = sim.seed("teams", {"name": "Callers"})
    adapter = adapter_with(DEFAULT + TABLES + f'\n[default_owner]\ntype = "team"\nid = "{team}"\n')
    reference = {"entity_set": "systemusers", "id": USER}
    row = {"table": "contact", "columns": {"lastname": "x", **({"ownerid": reference} if named else {})}}
    task = {"subject": "x", **({"owner": {"type": "user", "id": USER}} if named else {})}
    planned = adapter.plan([keyed("create_row", row), keyed("task", task, 2)])
    for operation in planned:
        adapter.emit(operation)
    owners = [sim.row("contacts", planned[0].key), sim.row("tasks", planned[1].key)]
    assert [row["_ownerid_value"] for row in owners] == [USER if named else team] * 2


@pytest.mark.parametrize(
    ("number", "is_odd"),
    [
        ("+49 30 901820", False),
        ("+1 (425) 555-0100", False),
        ("+442079460000", False),
        ("030 planted", True),
        ("+0 30 901820", True),
        ("+49 30 9018200000000000", True),
    ],
)
def test_an_odd_telephone_number_is_a_warning_and_no_stop(sim, adapter, number, is_odd):
    row = {"table": "account", "columns": {"name": "x", "telephone1": number}}
    planned = adapter.plan(
        [keyed("create_row", row), keyed("phone_call_activity", CALL | {"phone_number": number}, 2)]
    )
    for operation in planned:
        assert bool(operation.warnings) is is_odd
        assert number not in "".join(operation.warnings)
        adapter.emit(operation)
    assert sim.row("accounts", planned[0].key)["telephone1"] == number


CALL = {"subject": "A call"}


def test_named_kinds_are_written_as_they_were(adapter):
    """A plan of an earlier version is byte for byte what is planned now."""
    [planned] = adapter.plan([keyed("task", {"subject": "x"})])
    assert set(json.loads(planned.model_dump_json())["payload"]) == {"entity_set", "row_id", "columns"}
