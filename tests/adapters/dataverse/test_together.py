"""Features that were built apart, two and three at a time: judged by the rows and the requests."""

from dataclasses import replace

import pytest

from tests.adapters.dataverse.test_edits import emit_change_set, emit_each
from tests.adapters.dataverse.test_rows import DEFAULT, ROW, SESSION, keyed, sent
from writeahead import RunPolicy, resume_session, write_back
from writeahead.adapters.dataverse import DataverseAdapter
from writeahead.adapters.dataverse.webapi.codes import ADMINISTRATION_WAIT
from writeahead.errors import ConflictError, InvalidInput
from writeahead.model import REFERENCE, BlockReason, Operation, ReplayClass, RunStatus, idempotency_key
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, HUMAN_USER, Settings, Simulator
from writeahead.simulators.dataverse.schema import AlternateKey, Column, Kind
from writeahead.stores.memory import MemoryStore
from writeahead.testing import ManualClock

ACCOUNT = "b1000000-0000-4000-8000-000000000001"
PERSON = "b2000000-0000-4000-8000-000000000001"
NUMBER = "planted-number"
ONCE = RunPolicy(wait_initial=0, wait_max=0, attempts=1)
TABLES = """
[tables.account]
entity_set = "accounts"
key = "accountid"
columns = ["name", "accountnumber", "telephone1", "description"]
find_by = ["accountnumber"]

[tables.person]
entity_set = "contacts"
key = "contactid"
columns = ["firstname", "lastname", "telephone1", "description"]
find_by = ["lastname", "_parentcustomerid_value"]

[tables.person.lookups]
parentcustomerid_account = { entity_sets = ["accounts"], column = "parentcustomerid" }

[tables.call]
entity_set = "phonecalls"
key = "activityid"
columns = ["subject", "phonenumber"]
completion = { state = { completed = 1 } }

[tables.call.parties]
navigation = "phonecall_activity_parties"
from = ["systemusers"]
to = ["contacts"]

[tables.row]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", length = 128 }
columns = ["wa_name", "wa_attempts", "wa_notes"]
"""
OURS = idempotency_key(SESSION, "1-create_row")
SECOND = idempotency_key(SESSION, "2-create_row")
FROM_USER = {"role": "from", "entity_set": "systemusers", "id": HUMAN_USER}


@pytest.fixture
def sim(tmp_path):
    """With a key of a lookup, an amount that is rounded, and several options."""
    people, accounts = DEFAULT_SCHEMA.get("contacts"), DEFAULT_SCHEMA.get("accounts")
    key = AlternateKey(("lastname", "parentcustomerid"))
    more = {
        "revenue": Column(kind=Kind.MONEY, precision=2),
        "wa_topics": Column(kind=Kind.MULTI_SELECT_PICKLIST, options={1: "Price", 9: "Other"}),
    }
    schema = DEFAULT_SCHEMA.with_tables(
        replace(people, keys={"wa_personkey": key}),
        replace(accounts, columns={**accounts.columns, **more}),
    )
    settings = Settings(client_secret="planted-client-secret", schema=schema)
    with Simulator(tmp_path / "crm.sqlite", settings=settings) as running:
        running.seed("wa_callqueues", {"wa_callqueueid": ROW, "wa_name": "Ada", "wa_notes": "before"})
        yield running


@pytest.fixture
def mapping_text():
    return DEFAULT + TABLES


@pytest.fixture
def account(sim):
    """A row of an earlier system."""
    sim.seed("accounts", {"accountid": ACCOUNT, "accountnumber": NUMBER, "name": "theirs"})
    return ACCOUNT


@pytest.fixture
def person(sim, account):
    columns = {"contactid": PERSON, "lastname": "Okafor"}
    sim.seed("contacts", {**columns, "parentcustomerid_account@odata.bind": f"/accounts({account})"})
    return PERSON


def plan(adapter, *operations):
    return adapter.plan([keyed(kind, payload, n) for n, (kind, payload) in enumerate(operations, start=1)])


def an_account(**columns):
    return "create_row", {"table": "account", "columns": {"accountnumber": NUMBER, "name": "ours", **columns}}


def a_person(parent=OURS, **columns):
    given = {"lastname": "Okafor", "parentcustomerid_account": {"table": "account", "id": parent}, **columns}
    return "create_row", {"table": "person", "columns": given}


def a_call(*people):
    to = [{"role": "to", "table": "person", "id": row_id} for row_id in people]
    columns = {"subject": "A call", "phonenumber": "+49 30 901820"}
    return "create_row", {"table": "call", "columns": columns, "parties": [FROM_USER, *to]}


# ---- rows that are there, and what points to them


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_row_is_found_by_a_lookup_to_a_row_that_was_found(sim, adapter, person, emit):
    planned = plan(adapter, an_account(), a_person())
    assert emit(adapter, planned) == ["already_applied"] * 2
    assert [row["contactid"] for row in sim.rows("contacts")] == [person]


@pytest.mark.parametrize("edit", [{}, {"telephone1": "edited"}])
def test_a_row_that_was_found_is_held_against_what_was_loaded(sim, adapter, account, edit):
    loaded = adapter.read_baseline("account", account).model_dump(mode="json")
    sim.edit("accounts", account, edit)
    columns = {"telephone1": "+49 30 901820"}
    update = keyed("update_row", {"table": "account", "operation": "1-create_row", "columns": columns}, 2)
    asked = [keyed(*an_account()), update.model_copy(update={"baseline": loaded})]
    if edit:
        with pytest.raises(ConflictError, match=r"since it was loaded: telephone1$"):
            adapter.plan(asked)
    else:
        assert emit_each(adapter, adapter.plan(asked)) == ["already_applied", "applied"]


def test_two_rows_that_turn_out_to_have_the_same_lookup_are_one(sim, adapter, account):
    with pytest.raises(InvalidInput, match="operation 3-create_row: operation 2-create_row creates"):
        plan(adapter, an_account(), a_person(), a_person(account))


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_party_is_the_row_that_was_found(sim, adapter, person, emit):
    planned = plan(adapter, an_account(), a_person(), a_call(SECOND))
    assert emit(adapter, planned) == ["already_applied", "already_applied", "applied"]
    parties = sim.rows("activityparties")
    assert {row["_partyid_value"] for row in parties if row["participationtypemask"] == 2} == {person}


def test_a_party_that_is_named_twice_takes_part_once(sim, adapter, person):
    planned = plan(adapter, an_account(), a_person(), a_call(SECOND, person))
    emit_each(adapter, planned)
    [party] = [row for row in sim.rows("activityparties") if row["participationtypemask"] == 2]
    assert party["_partyid_value"] == person


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_key_names_the_row_that_was_found(sim, adapter_with, person, emit):
    adapter = adapter_with(
        DEFAULT
        + TABLES.replace(
            "[tables.person.lookups]",
            'alternate_keys = [["lastname", "_parentcustomerid_value"]]\n[tables.person.lookups]',
        )
    )
    update = {
        "table": "person",
        "key": {"lastname": "Okafor", "_parentcustomerid_value": OURS},
        "columns": {"firstname": "ours"},
    }
    planned = plan(adapter, an_account(), ("update_row", update))
    assert planned[1].payload["row_id"] == person


# ---- a session that changes what its rows are found by


@pytest.mark.parametrize(
    "row", [{"operation": "1-create_row"}, {"row_id": ACCOUNT}, {"row_id": OURS}], ids=str
)
@pytest.mark.parametrize("number", ["N-2", None])
def test_a_session_can_t_change_what_a_row_of_it_is_found_by(sim, adapter, account, row, number):
    update = "update_row", {"table": "account", **row, "columns": {"accountnumber": number}}
    with pytest.raises(InvalidInput, match=r"operation 2-update_row: .* accountnumber") as caught:
        plan(adapter, an_account(), update)
    assert NUMBER not in str(caught.value)


def test_not_even_if_the_row_is_new(sim, adapter):
    update = {"table": "account", "operation": "1-create_row", "columns": {"accountnumber": "N-2"}}
    with pytest.raises(InvalidInput, match=r"operation 2-update_row: .* accountnumber"):
        plan(adapter, an_account(), ("update_row", update))


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_the_same_value_may_be_written_again(sim, adapter, account, emit):
    update = {"table": "account", "operation": "1-create_row"}
    columns = {"accountnumber": NUMBER, "telephone1": "+49 30 901820"}
    planned = plan(adapter, an_account(), ("update_row", {**update, "columns": columns}))
    assert emit(adapter, planned) == ["already_applied", "applied"]
    assert sim.row("accounts", account)["telephone1"] == "+49 30 901820"


# ---- a row that was loaded, and a run whose artifacts were lost


def loaded_update(loaded, number, **columns):
    asked = keyed("update_row", {"table": "row", "row_id": ROW, "columns": columns}, number)
    return asked.model_copy(update={"baseline": loaded.model_dump(mode="json")})


@pytest.mark.parametrize("lost_after", [1, 2])
def test_what_a_lost_run_wrote_is_ours_by_one_marker_column_too(sim, adapter, lost_after):
    loaded = adapter.read_baseline("row", ROW)
    asked = [loaded_update(loaded, 1, wa_notes="first"), loaded_update(loaded, 2, wa_notes="second")]
    assert emit_each(adapter, adapter.plan(asked)[:lost_after]) == ["applied"] * lost_after
    outcomes = emit_each(adapter, adapter.plan(asked))
    assert outcomes == ["already_applied"] * lost_after + ["applied"] * (2 - lost_after)
    assert sim.row("wa_callqueues", ROW)["wa_notes"] == "second"


def test_an_edit_beside_what_a_lost_run_wrote_is_seen(sim, adapter):
    loaded = adapter.read_baseline("row", ROW)
    asked = [loaded_update(loaded, 1, wa_notes="first"), loaded_update(loaded, 2, wa_attempts=2)]
    emit_each(adapter, adapter.plan(asked)[:1])
    sim.edit("wa_callqueues", ROW, {"wa_attempts": 7})
    with pytest.raises(ConflictError, match=r"since it was loaded: wa_attempts$"):
        adapter.plan(asked)
    assert sim.row("wa_callqueues", ROW)["wa_attempts"] == 7


MONEY = """
[tables.company]
entity_set = "accounts"
key = "accountid"
columns = ["name", "revenue", "wa_topics"]
"""


@pytest.fixture
def money(sim, adapter_with):
    sim.seed("accounts", {"accountid": ACCOUNT, "name": "theirs", "revenue": 90.0})
    return adapter_with(DEFAULT + MONEY, readiness="full")


def an_amount(loaded, amount, kind="update_row"):
    payload = {"table": "company", "row_id": ACCOUNT, "columns": {"revenue": amount}}
    return keyed(kind, payload).model_copy(update={"baseline": loaded.model_dump(mode="json")})


@pytest.mark.parametrize("kind", ["update_row", "upsert_row"])
@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_rounded_amount_of_a_lost_run_is_ours(sim, money, emit, kind):
    asked = [an_amount(money.read_baseline("company", ACCOUNT), 99.994, kind)]
    assert emit(money, money.plan(asked)) == ["applied"]
    assert sim.row("accounts", ACCOUNT)["revenue"] == 99.99
    emit(money, money.plan(asked))
    assert sim.row("accounts", ACCOUNT)["revenue"] == 99.99


@pytest.mark.parametrize("theirs", [99.99, 100.0])
def test_what_ours_may_be_rounded_to_is_another_users_since_it_was_loaded(sim, money, theirs):
    """In the middle of two; nothing of this plan was sent, and theirs would be overwritten."""
    loaded = money.read_baseline("company", ACCOUNT)
    sim.edit("accounts", ACCOUNT, {"revenue": theirs})
    with pytest.raises(ConflictError, match="revenue"):
        money.plan([an_amount(loaded, 99.995)])
    assert sim.row("accounts", ACCOUNT)["revenue"] == theirs


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("meanwhile", [{}, {"name": "edited"}])
def test_what_was_loaded_may_be_what_ours_is_rounded_to(sim, money, emit, meanwhile):
    sim.edit("accounts", ACCOUNT, {"revenue": 100.0})
    loaded = money.read_baseline("company", ACCOUNT)
    sim.edit("accounts", ACCOUNT, meanwhile)
    planned = money.plan([an_amount(loaded, 99.995)])
    assert emit(money, planned) == ["applied"]
    [request] = sim.requests(method="PATCH") or sim.requests(path="*$batch")
    assert request.status < 300


def test_an_edit_to_nearly_ours_since_it_was_loaded_is_seen(sim, money):
    loaded = money.read_baseline("company", ACCOUNT)
    sim.edit("accounts", ACCOUNT, {"revenue": 99.9})
    with pytest.raises(ConflictError, match="revenue") as caught:
        money.plan([an_amount(loaded, 99.995)])
    assert "99" not in str(caught.value)


# ---- a plan of before, and a mapping of now

PARTS = {
    "create": ("create_row", {"table": "row", "columns": {"wa_name": "ours", "wa_attempts": 7}}),
    "update": ("update_row", {"table": "row", "row_id": ROW, "columns": {"wa_name": "ours"}}),
    "upsert": ("upsert_row", {"table": "company", "row_id": ACCOUNT, "columns": {"name": "ours"}}),
    "call": a_call(PERSON),
}
KEYS = """find_by = ["wa_attempts"]
warnings_to = { column = "wa_notes", length = 4000 }
options = { wa_status = { pending = 100000000 } }
unknown_columns = "drop"
default_owner = { type = "user", id = "a0000000-0000-4000-8000-000000000002" }
"""


def released(operation):
    """As version 0.2 has it: a create says nothing of before, and no value of its forms."""
    payload = dict(operation.payload)
    precondition = operation.precondition
    if operation.replay is ReplayClass.CREATE_WITH_KEY or not (precondition or {}).get("guarded"):
        precondition = None
    else:
        precondition = {name: precondition[name] for name in ("etag", "guarded", "later")}
    return operation.model_copy(update={"payload": payload, "precondition": precondition})


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("part", PARTS)
def test_a_plan_of_an_earlier_version_is_carried_out(sim, adapter_with, person, part, emit):
    old = adapter_with(DEFAULT + TABLES.replace(', "wa_notes"]', "]") + MONEY)
    planned = [released(operation) for operation in plan(old, PARTS[part])]
    new = adapter_with(
        DEFAULT + TABLES.replace(', "wa_notes"]', "]\n" + KEYS) + MONEY + 'find_by = ["name"]\n',
        readiness="full",
    )
    assert emit(new, planned) == ["applied"]
    again = emit(new, planned)
    assert again == ["applied" if part == "upsert" else "already_applied"]


OTHER_MAPPINGS = {
    "another length": ("length = 128", "length = 64", "update", None),
    "two columns": (
        'session = "wa_lastsession", length = 128',
        'session = "wa_lastsession", operation = "wa_lastoperation"',
        "update",
        "lacks the marker",
    ),
    "another column": (
        'session = "wa_lastsession"',
        'session = "wa_lastoperation"',
        "update",
        "lacks the marker",
    ),
    "no marker": ('marker = { session = "wa_lastsession", length = 128 }\n', "", "update", "not approved"),
    "found by": ('columns = ["wa_name"', 'find_by = ["wa_attempts"]\ncolumns = ["wa_name"', "create", None),
    "warnings": (', "wa_notes"]', ']\nwarnings_to = "wa_notes"', "create", None),
    "no such role": ('to = ["contacts"]\n', 'to = ["accounts"]\n', "call", "parties has one of role 'to'"),
    "no parties": (
        "[tables.call.parties]",
        '[tables.other]\nentity_set = "x"\nkey = "x"\n[tables.other.parties]',
        "call",
        "parties has one of role",
    ),
    "guarded": (
        'columns = ["wa_name"',
        'guarded = ["wa_email"]\ncolumns = ["wa_name"',
        "update",
        "guards other columns",
    ),
    "preserved": ('columns = ["wa_name"', 'preserve = ["wa_name"]\ncolumns = ["wa_name"', "update", None),
    "elastic": ('key = "wa_callqueueid"', 'key = "wa_callqueueid"\nelastic = true', "update", "elastic"),
}


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("change", OTHER_MAPPINGS)
def test_a_mapping_that_was_changed_since(sim, adapter_with, person, change, emit):
    old, new, part, words = OTHER_MAPPINGS[change]
    assert old in TABLES
    planned = plan(adapter_with(DEFAULT + TABLES + MONEY), PARTS[part])

    changed = adapter_with(DEFAULT + TABLES.replace(old, new) + MONEY)
    before = sim.last_sequence()
    if words is None:
        assert emit(changed, planned) == ["applied"]
        assert emit(changed, planned) == ["already_applied"]
    else:
        with pytest.raises(InvalidInput, match=words) as caught:
            emit(changed, planned)
        assert "ours" not in str(caught.value)
        assert sim.requests(after=before) == []


# ---- whole sessions


WARNED = """
[tables.queue]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", length = 128 }
columns = ["wa_name", "wa_attempts", "wa_email", "wa_phonenumber"]
preserve = ["wa_email"]
phones = ["wa_phonenumber"]
find_by = ["wa_phonenumber"]
warnings_to = { column = "wa_notes", length = 4000 }
"""


FOUND_CALLS = TABLES.replace('columns = ["subject", ', 'find_by = ["subject"]\ncolumns = ["subject", ')


def run(adapter, store, *operations, **options):
    asked = [Operation(kind=kind, payload=payload) for kind, payload in operations]
    return write_back(asked, session_id=SESSION, store=store, adapter=adapter, policy=ONCE, **options)


def resumed(adapter, store, **options):
    return resume_session(SESSION, store=store, adapter=adapter, policy=ONCE, **options)


def lose(sim, atomic, **fields):
    method, path = ("POST", "*batch") if atomic else ("PATCH", "*")
    sim.faults.add("drop", method=method, path=path, **fields)


def an_update(row_id=ROW, **columns):
    return "update_row", {"table": "queue", "row_id": row_id, "columns": columns}


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("edit", [{"wa_notes": ""}, {"wa_donotcall": True}])
def test_warnings_that_are_cleared_are_no_edit(sim, adapter_with, atomic, applied, edit):
    """With a column that is preserved, an edit to rebase on, and a second update of the row."""
    adapter, store = adapter_with(DEFAULT + WARNED), MemoryStore()
    sim.edit("wa_callqueues", ROW, {"wa_email": "theirs"})
    lose(sim, atomic, apply=applied)
    operations = an_update(wa_email="ours", wa_phonenumber="030"), an_update(wa_attempts=2)
    assert run(adapter, store, *operations, atomic=atomic).status is RunStatus.RESUME_NEEDED
    sim.edit("wa_callqueues", ROW, edit)
    report = resumed(adapter, store)
    assert report.status is RunStatus.COMPLETED, report.error
    row = sim.row("wa_callqueues", ROW)
    assert (row["wa_email"], row["wa_phonenumber"], row["wa_attempts"]) == ("theirs", "030", 2)
    assert all(row[name] == value for name, value in edit.items() if name != "wa_notes")


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("applied", [False, True])
def test_a_row_that_was_found_is_changed_once(sim, adapter_with, atomic, applied):
    """Found by one marker column's table, with warnings, and planned again after a lost run."""
    adapter = adapter_with(DEFAULT + WARNED)
    sim.edit("wa_callqueues", ROW, {"wa_phonenumber": "030"})
    create = "create_row", {"table": "queue", "columns": {"wa_phonenumber": "030", "wa_name": "ours"}}
    payload = {"table": "queue", "operation": "1-create_row", "columns": {"wa_attempts": 2}}
    store = MemoryStore()
    lose(sim, atomic, apply=applied)
    operations = create, ("update_row", payload)
    assert run(adapter, store, *operations, atomic=atomic).status is RunStatus.RESUME_NEEDED
    for again in (resumed(adapter, store), run(adapter, MemoryStore(), *operations)):
        assert again.status is RunStatus.COMPLETED, again.error
        assert again.receipts["1-create_row"].remote_id == ROW
    [row] = sim.rows("wa_callqueues")
    assert (row["wa_name"], row["wa_attempts"], row["wa_notes"]) == ("Ada", 2, "before")


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("applied", [False, True])
def test_an_activity_that_was_found_is_closed_once(sim, adapter_with, person, atomic, applied):
    adapter = adapter_with(DEFAULT + FOUND_CALLS)
    theirs = sim.seed("phonecalls", {"subject": "A call"})
    store = MemoryStore()
    operations = a_call(person), ("complete_activity", {"operation": "1-create_row"})
    lose(sim, atomic, apply=applied)
    assert run(adapter, store, *operations, atomic=atomic).status is RunStatus.RESUME_NEEDED
    report = resumed(adapter, store)
    assert report.status is RunStatus.COMPLETED, report.error
    [row] = sim.rows("phonecalls")
    assert (row["activityid"], row["statecode"]) == (theirs, 1)
    assert sim.count("activityparties") == 1  # the owner
    # Planned again, after the artifacts were lost.
    again = run(adapter, MemoryStore(), *operations, atomic=atomic)
    assert again.status is RunStatus.COMPLETED, again.error
    assert [row["statecode"] for row in sim.rows("phonecalls")] == [1]


@pytest.mark.parametrize("atomic", [False, True])
def test_an_activity_that_was_found_and_closed_by_others_is_a_conflict(sim, adapter_with, person, atomic):
    adapter = adapter_with(DEFAULT + FOUND_CALLS)
    theirs = sim.seed("phonecalls", {"subject": "A call"})
    store = MemoryStore()
    operations = a_call(person), ("complete_activity", {"operation": "1-create_row"})
    lose(sim, atomic, apply=False)
    run(adapter, store, *operations, atomic=atomic)
    sim.edit("phonecalls", theirs, {"statecode": 2})
    report = resumed(adapter, store)
    assert report.block_reason is BlockReason.CONFLICT_DETECTED, report
    assert [row["statecode"] for row in sim.rows("phonecalls")] == [2]


@pytest.mark.parametrize("atomic", [False, True])
def test_a_unique_value_that_is_taken_by_what_can_t_be_found(sim, adapter_with, account, atomic):
    """The row that has the number is found by its name only."""
    adapter = adapter_with(DEFAULT + TABLES.replace('find_by = ["accountnumber"]', 'find_by = ["name"]'))
    report = run(adapter, MemoryStore(), an_account(), atomic=atomic)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert NUMBER not in report.error
    assert [row["name"] for row in sim.rows("accounts")] == ["theirs"]


@pytest.mark.parametrize("atomic", [False, True])
def test_what_is_closed_while_it_is_planned(sim, adapter, account, atomic):
    fault = sim.faults.add("status", status=403, code="0x8004a113", times=None)
    store = MemoryStore()
    report = run(adapter, store, an_account(), atomic=atomic)
    assert report.status is RunStatus.BLOCKED, report
    assert report.not_before is not None
    assert list(store.list()) == []
    sim.faults.remove(fault)
    assert run(adapter, store, an_account(), atomic=atomic).status is RunStatus.COMPLETED


@pytest.mark.parametrize("atomic", [False, True])
def test_what_is_closed_while_a_row_is_looked_for_again(sim, adapter, person, atomic):
    store, clock = MemoryStore(), ManualClock()
    closed = {"status": 403, "code": "0x8004a113", "times": None}
    fault = sim.faults.add("status", method="GET", path="accounts", skip=1, **closed)
    report = run(adapter, store, an_account(), a_call(person), atomic=atomic, clock=clock)
    assert report.status is RunStatus.RESUME_NEEDED, report.error
    sim.faults.remove(fault)
    clock.advance(ADMINISTRATION_WAIT + 10)
    assert resumed(adapter, store, clock=clock).status is RunStatus.COMPLETED
    assert (sim.count("accounts"), sim.count("phonecalls")) == (1, 1)


@pytest.mark.parametrize("atomic", [False, True])
def test_approval_is_asked_before_a_row_is_looked_for(sim, adapter_with, account, atomic):
    store = MemoryStore()
    lose(sim, atomic, apply=True)
    operations = an_account(accountnumber="N-2"), a_person()
    assert run(adapter_with(), store, *operations, atomic=atomic).status is RunStatus.RESUME_NEEDED
    before = sim.last_sequence()
    strict = adapter_with(require_approval=True)
    assert resumed(strict, store).status is RunStatus.RESUME_NEEDED
    assert sim.requests(after=before) == []
    assert resumed(adapter_with(), store).status is RunStatus.COMPLETED
    assert (sim.count("accounts"), sim.count("contacts")) == (2, 1)


def test_the_default_owner_tells_a_row_too(sim, adapter_with, account):
    user = sim.seed("systemusers", {"fullname": "planted-name"})
    other = sim.seed("systemusers", {"fullname": "planted-other"})
    sim.edit("accounts", account, {"ownerid@odata.bind": f"/systemusers({user})"})
    lookup = '[tables.account.lookups]\nownerid = { entity_sets = ["systemusers"], column = "ownerid" }\n'
    text = TABLES.replace('find_by = ["accountnumber"]', 'find_by = ["name", "_ownerid_value"]').replace(
        "[tables.person]", f"{lookup}[tables.person]"
    )
    for owner, found in ((user, True), (other, False)):
        owned = f'default_owner = {{ type = "user", id = "{owner}" }}\n{DEFAULT}{text}'
        [planned] = plan(
            adapter_with(owned, readiness="full"),
            ("create_row", {"table": "account", "columns": {"name": "theirs"}}),
        )
        assert planned.precondition.get("found") == (account if found else None)


# ---- dry runs


FEATURES = {
    "found": an_account(),
    "lookup": a_person(),
    "parties": a_call(PERSON),
    "update": PARTS["update"],
    "upsert": PARTS["upsert"],
}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("atomic", [False, True])
def test_a_dry_run_of_what_is_not_approved_sends_nothing(sim, adapter_with, person, feature, atomic):
    before = {name: sim.rows(name) for name in ("accounts", "contacts", "phonecalls", "wa_callqueues")}
    adapter = adapter_with(DEFAULT + TABLES + MONEY, require_approval=True)
    report = run(adapter, MemoryStore(), FEATURES[feature], atomic=atomic, dry_run=True)
    assert report.status is RunStatus.PLANNED, report.error
    assert [warning for warning in report.warnings if "not approved" in warning]
    assert sim.requests(method="PATCH") + sim.requests(path="*$batch") == []
    assert before == {name: sim.rows(name) for name in before}


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("atomic", [False, True])
def test_a_dry_run_without_credentials_says_what_was_not_looked_at(tmp_path, feature, atomic):
    path = tmp_path / "mine.toml"
    path.write_text(DEFAULT + TABLES + MONEY)
    with DataverseAdapter(None, None, mapping=path) as adapter:
        report = run(adapter, MemoryStore(), FEATURES[feature], atomic=atomic, dry_run=True)
    assert report.status is RunStatus.PLANNED, report.error
    [warning] = [warning for warning in report.warnings if "not checked" in warning]
    seen = {"found": "a row with the same accountnumber", "update": "the row as it is now"}
    assert seen.get(feature, "owners") in warning


# ---- labels of a column of several options

LABELLED = MONEY.replace(', "wa_topics"]', "]\noptions = { wa_topics = { price = 1, other = 9 } }")


@pytest.mark.usefixtures("money")
@pytest.mark.parametrize("readiness", ["full", "off"])
@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("given", [[9, 1], "9,1", [1], []])
def test_several_options_are_written_where_they_have_labels(sim, adapter_with, given, emit, readiness):
    adapter = adapter_with(DEFAULT + LABELLED, readiness=readiness)
    loaded = adapter.read_baseline("company", ACCOUNT).model_dump(mode="json")
    payload = {"table": "company", "row_id": ACCOUNT, "columns": {"wa_topics": given}}
    asked = keyed("update_row", payload).model_copy(update={"baseline": loaded})
    assert emit(adapter, adapter.plan([asked])) == ["applied"]
    stored = {"[1]": "1", "[]": None}.get(str(given), "1,9")
    assert sim.row("accounts", ACCOUNT)["wa_topics"] == stored


@pytest.mark.parametrize("given", [[1, 2], "1,2", "1,,9", "1,price", "planted"])
def test_an_option_without_a_label_is_refused(sim, money, adapter_with, given):
    adapter = adapter_with(DEFAULT + LABELLED)
    with pytest.raises(InvalidInput, match="wa_topics") as caught:
        plan(
            adapter, ("update_row", {"table": "company", "row_id": ACCOUNT, "columns": {"wa_topics": given}})
        )
    assert "planted" not in str(caught.value)


# ---- two markers of one row


def test_one_row_is_not_marked_in_two_ways(sim, adapter):
    """One operation's mark would hide the other's, once the artifacts are lost."""
    status = "queue_status_update", {"row_id": ROW, "status": "callback_requested"}
    update = "update_row", {"table": "row", "row_id": ROW, "columns": {"wa_notes": "ours"}}
    with pytest.raises(InvalidInput, match=r"2-update_row: .* wa_lastsession, .* 1-queue_status_update"):
        plan(adapter, status, update)
    assert sent(sim) == []
    for one in (status, update):
        assert emit_each(adapter, plan(adapter, one)) == ["applied"]


# ---- what a state changes besides

STATES = """
[tables.stateful]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", length = 128 }
columns = ["wa_name", "wa_notes", "statecode", "statuscode"]
"""


def stateful(**columns):
    return "update_row", {"table": "stateful", "row_id": ROW, "columns": columns}


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_the_status_of_a_state_is_no_edit_of_a_row_that_the_session_makes(sim, adapter_with, emit):
    adapter = adapter_with(DEFAULT + STATES)
    row = {"table": "stateful", "operation": "1-create_row"}
    planned = plan(
        adapter,
        ("create_row", {"table": "stateful", "columns": {"wa_name": "ours", "statuscode": 1}}),
        ("update_row", {**row, "columns": {"statecode": 1}}),
        ("update_row", {**row, "columns": {"wa_notes": "ours"}}),
    )
    assert emit(adapter, planned) == ["applied"] * 3
    row = sim.row("wa_callqueues", planned[0].key)
    assert (row["statecode"], row["statuscode"], row["wa_notes"]) == (1, 2, "ours")


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_status_that_is_watched_must_be_known_to_the_session(sim, adapter_with, emit):
    adapter = adapter_with(DEFAULT + STATES.replace("columns", 'guarded = ["statuscode"]\ncolumns'))
    with pytest.raises(InvalidInput, match=r"operation 2-update_row: .* statuscode"):
        plan(adapter, stateful(statecode=1), stateful(wa_notes="ours"))
    assert sent(sim) == []
    planned = plan(adapter, stateful(statecode=1, statuscode=2), stateful(wa_notes="ours"))
    assert emit(adapter, planned) == ["applied"] * 2


@pytest.mark.parametrize("there", [True, False])
def test_what_comes_from_a_receipt_is_searched_for_before_the_create(sim, adapter_with, person, there):
    """While planning, nobody knows what it will be."""
    adapter = adapter_with(DEFAULT + FOUND_CALLS)
    if there:
        sim.seed("phonecalls", {"subject": ACCOUNT})
    kind, payload = a_call(person)
    columns = {**payload["columns"], "subject": {REFERENCE: "1-create_row"}}
    report = run(adapter, MemoryStore(), an_account(), (kind, {**payload, "columns": columns}))
    ended = (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED) if there else (RunStatus.COMPLETED, None)
    assert (report.status, report.block_reason) == ended
    assert [row["subject"] for row in sim.rows("phonecalls")] == [ACCOUNT]
