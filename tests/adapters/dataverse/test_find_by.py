"""Rows that an earlier system made: a create of one counts as done, judged by the rows."""

import pytest

from tests.support.dataverse_rows import DEFAULT, SESSION, emit_change_set, emit_each, keyed, plan, sent
from writeahead import RunPolicy, resume_session, write_back
from writeahead.adapters.dataverse import TransientDataverseError, load_mapping
from writeahead.errors import Applied, ConflictError, InvalidInput, NotReady
from writeahead.model import BlockReason, Operation, RunStatus, idempotency_key
from writeahead.stores.memory import MemoryStore

TABLES = """
[tables.account]
entity_set = "accounts"
key = "accountid"
columns = ["name", "accountnumber", "telephone1", "description"]
find_by = ["accountnumber"]

[tables.person]
entity_set = "contacts"
key = "contactid"
columns = ["firstname", "lastname", "donotphone", "description"]
find_by = ["lastname", "donotphone", "_parentcustomerid_value"]

[tables.person.lookups]
parentcustomerid_account = { entity_sets = ["accounts"], column = "parentcustomerid" }

[tables.row]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", operation = "wa_lastoperation" }
columns = ["wa_name", "wa_attempts", "wa_notes"]
find_by = ["wa_attempts"]
"""
MAPPING = DEFAULT.replace("[kinds.task]\n", '[kinds.task]\nfind_by = ["category", "prioritycode"]\n') + TABLES
THEIRS = "b1000000-0000-4000-8000-000000000001"
OTHER = "b1000000-0000-4000-8000-000000000002"
VALUE = "planted-number"
CREATE = "create_row", {"table": "account", "columns": {"accountnumber": VALUE, "name": "ours"}}
OURS = idempotency_key(SESSION, "1-create_row")
ONCE = RunPolicy(wait_initial=0, wait_max=0, attempts=1)


@pytest.fixture
def mapping_text():
    return MAPPING


@pytest.fixture
def theirs(sim):
    """A row of an earlier system, as it is stored."""
    sim.seed("accounts", {"accountid": THEIRS, "accountnumber": VALUE, "name": "theirs"})
    return sim.row("accounts", THEIRS)


def searches(sim, table="accounts"):
    return sim.requests(method="GET", path=table)


def changed(operation, **precondition):
    kept = {**operation.precondition, **precondition}
    kept = {name: value for name, value in kept.items() if value is not None}
    return operation.model_copy(update={"precondition": kept})


# ---- what is found


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_row_that_is_there_counts_as_created(sim, adapter, theirs, emit):
    planned = plan(adapter, CREATE)
    assert planned[0].precondition["found"] == THEIRS
    assert planned[0].warnings == (
        f"accounts({THEIRS}) has the same accountnumber: it counts as created, and is left as it is",
    )
    assert emit(adapter, planned) == ["already_applied"]
    assert emit(adapter, planned) == ["already_applied"]
    receipt = adapter.emit(planned[0])
    assert (receipt.remote_id, receipt.remote_version) == (THEIRS, theirs["@odata.etag"])
    assert sim.rows("accounts") == [theirs]
    assert sim.requests(method="PATCH") + sim.requests(method="POST", path="*batch") == []


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_row_that_is_not_there_is_created_once(sim, adapter, emit):
    sim.seed("accounts", {"accountid": OTHER, "accountnumber": "another"})
    planned = plan(adapter, CREATE)
    assert (planned[0].warnings, "found" in planned[0].precondition) == ((), False)
    assert emit(adapter, planned) == ["applied"]
    assert emit(adapter, planned) == ["already_applied"]
    # Once for the plan, and once for each attempt; the second one finds our own row.
    assert len(searches(sim)) == 4
    assert [row["accountid"] for row in sim.rows("accounts")].count(OURS) == 1
    assert sim.count("accounts") == 2


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_value_nothing_is_searched(sim, adapter, value):
    sim.seed("accounts", {"accountid": THEIRS, "accountnumber": None})
    columns = {"name": "ours", "accountnumber": value}
    assert emit_each(adapter, plan(adapter, ("create_row", {"table": "account", "columns": columns}))) == [
        "applied"
    ]
    columns = {"name": "ours"}
    assert emit_each(
        adapter, adapter.plan([keyed("create_row", {"table": "account", "columns": columns}, 2)])
    ) == ["applied"]
    assert searches(sim) == []


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("O'Neil & co+1%20#?=/", "O'Neil & co+1%20#?=/"),
        ("' or name eq 'x", "' or name eq 'x"),
        ("A-1", "a-1"),
        ("Café", "cafe"),
        ("日本 😀", "日本 😀"),
    ],
)
def test_a_text_is_compared_as_the_service_does(sim, adapter, stored, asked):
    sim.seed("accounts", {"accountid": THEIRS, "accountnumber": stored, "name": "theirs"})
    sim.seed("accounts", {"accountid": OTHER, "accountnumber": "x", "name": "x"})
    columns = {"name": "ours", "accountnumber": asked}
    planned = plan(adapter, ("create_row", {"table": "account", "columns": columns}))
    assert adapter.emit(planned[0]).remote_id == THEIRS


@pytest.mark.parametrize("pattern", ["%", "A-_", "A*", "[A]-1"])
def test_a_text_is_no_pattern(sim, adapter, pattern):
    sim.seed("accounts", {"accountid": THEIRS, "accountnumber": "A-1"})
    columns = {"name": "ours", "accountnumber": pattern}
    assert emit_each(adapter, plan(adapter, ("create_row", {"table": "account", "columns": columns}))) == [
        "applied"
    ]


@pytest.mark.parametrize(
    ("other", "found"),
    [
        ({}, True),
        ({"lastname": "Other"}, False),
        ({"donotphone": False}, False),
        ({"parentcustomerid_account": {"table": "account", "id": OTHER}}, False),
    ],
)
def test_all_columns_must_be_the_same_lookups_too(sim, adapter, other, found):
    for row_id in (THEIRS, OTHER):
        sim.seed("accounts", {"accountid": row_id})
    parent = "parentcustomerid_account"
    row_id = sim.seed(
        "contacts",
        {"lastname": "Okafor", "donotphone": True, f"{parent}@odata.bind": f"/accounts({THEIRS})"},
    )
    columns = {"lastname": "Okafor", "donotphone": True, parent: {"table": "account", "id": THEIRS}, **other}
    [planned] = plan(adapter, ("create_row", {"table": "person", "columns": columns}))
    assert adapter.emit(planned).remote_id == (row_id if found else OURS)


def test_a_named_kind_and_a_number_are_found_too(sim, adapter):
    task = sim.seed("tasks", {"subject": "theirs", "category": "c", "prioritycode": 2})
    row = sim.seed("wa_callqueues", {"wa_name": "theirs", "wa_attempts": 7})
    planned = plan(
        adapter,
        ("task", {"subject": "x", "category": "c", "priority": "high"}),
        ("task", {"subject": "x", "category": "c", "priority": "low"}),
        ("create_row", {"table": "row", "columns": {"wa_name": "x", "wa_attempts": 7}}),
    )
    assert [adapter.emit(operation).remote_id for operation in planned] == [task, planned[1].key, row]


def test_several_rows_are_a_gap_with_their_count(sim, adapter):
    for number in range(3):
        sim.seed("contacts", {"lastname": VALUE, "donotphone": False, "firstname": str(number)})
    mapping_columns = {"table": "row", "columns": {"wa_attempts": 5}}
    for _ in range(12):
        sim.seed("wa_callqueues", {"wa_attempts": 5})
    account = sim.seed("accounts", {})
    for row in sim.rows("contacts"):
        bind = {"parentcustomerid_account@odata.bind": f"/accounts({account})"}
        sim.edit("contacts", row["contactid"], bind)
    parent = {"table": "account", "id": account}
    columns = {"lastname": VALUE, "donotphone": False, "parentcustomerid_account": parent}
    with pytest.raises(NotReady) as caught:
        plan(
            adapter, ("create_row", {"table": "person", "columns": columns}), ("create_row", mapping_columns)
        )
    first, second = caught.value.problems
    assert "operation 1-create_row: 3 rows of contacts have the same lastname, donotphone" in first
    assert "operation 2-create_row: more than 10 rows of wa_callqueues" in second
    assert VALUE not in str(caught.value)
    assert sent(sim) == []


def test_two_creates_of_one_row_are_refused(sim, adapter):
    other = {"table": "account", "columns": {"accountnumber": VALUE.upper(), "name": "x"}}
    with pytest.raises(
        InvalidInput, match="operation 2-create_row: operation 1-create_row creates"
    ) as caught:
        plan(adapter, CREATE, ("create_row", other))
    assert VALUE not in str(caught.value).lower()


# ---- what follows is about the row that is there


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_what_follows_a_create_is_done_to_the_row_that_is_there(sim, adapter, theirs, emit):
    parent = {"table": "account", "id": OURS}
    planned = plan(
        adapter,
        CREATE,
        (
            "update_row",
            {"table": "account", "operation": "1-create_row", "columns": {"telephone1": "+49 30 901820"}},
        ),
        ("create_row", {"table": "person", "columns": {"lastname": "x", "parentcustomerid_account": parent}}),
    )
    assert planned[1].precondition["etag"] == theirs["@odata.etag"]
    assert emit(adapter, planned) == ["already_applied", "applied", "applied"]
    [row] = sim.rows("accounts")
    assert (row["accountid"], row["name"], row["telephone1"]) == (THEIRS, "theirs", "+49 30 901820")
    assert sim.row("contacts", planned[2].key)["_parentcustomerid_value"] == THEIRS


def test_an_edit_of_the_row_that_is_there_is_seen(sim, adapter, theirs):
    planned = plan(
        adapter,
        CREATE,
        (
            "update_row",
            {"table": "account", "operation": "1-create_row", "columns": {"telephone1": "+49 30 901820"}},
        ),
    )
    sim.edit("accounts", THEIRS, {"telephone1": "edited"})
    assert adapter.emit(planned[0]).outcome == "already_applied"
    with pytest.raises(ConflictError, match="telephone1"):
        adapter.emit(planned[1])
    assert sim.row("accounts", THEIRS)["telephone1"] == "edited"


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_an_activity_that_is_there_is_completed(sim, adapter, emit):
    task = sim.seed("tasks", {"subject": "theirs", "category": "c", "prioritycode": 2})
    planned = plan(
        adapter,
        ("task", {"subject": "x", "category": "c", "priority": "high"}),
        ("complete_activity", {"operation": "1-task"}),
    )
    assert emit(adapter, planned) == ["already_applied", "applied"]
    [row] = sim.rows("tasks")
    assert (row["activityid"], row["subject"], row["statecode"]) == (task, "theirs", 1)


# ---- meanwhile


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_row_made_after_planning_is_a_conflict_and_no_second_row(sim, adapter, emit):
    planned = plan(adapter, CREATE)
    sim.seed("accounts", {"accountid": THEIRS, "accountnumber": VALUE})
    with pytest.raises(ConflictError, match="which planning did not see") as caught:
        emit(adapter, planned)
    assert VALUE not in str(caught.value)
    assert sim.count("accounts") == 1
    assert sent(sim) == []


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("edit", [None, {"accountnumber": "edited"}])
def test_a_row_that_was_found_and_is_no_more_is_a_conflict(sim, adapter, theirs, emit, edit):
    planned = plan(adapter, CREATE)
    if edit:
        sim.edit("accounts", THEIRS, edit)
    else:
        sim.delete("accounts", THEIRS)
    with pytest.raises(ConflictError, match=f"accounts\\({THEIRS}\\).*is gone, or has another accountnumber"):
        emit(adapter, planned)
    assert sent(sim) == []


@pytest.mark.parametrize("edit", [{}, {"accountnumber": "edited"}, {"description": "edited"}])
@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_a_create_whose_reply_is_lost_is_known_by_its_guid(sim, adapter, emit, edit):
    """Also if another user has made such a row since."""
    planned = plan(adapter, CREATE)
    sim.faults.add("drop", method="PATCH" if emit is emit_each else "POST", apply=True)
    with pytest.raises(TransientDataverseError):
        emit(adapter, planned)
    sim.edit("accounts", OURS, edit)
    if "accountnumber" in edit:
        sim.seed("accounts", {"accountid": THEIRS, "accountnumber": VALUE})
    before = sim.rows("accounts")
    assert emit(adapter, planned) == ["already_applied"]
    assert sim.rows("accounts") == before


def test_our_own_row_of_an_earlier_run_is_ours(sim, adapter_with):
    # No alternate key in the way, so there may be two such rows.
    adapter = adapter_with(MAPPING.replace('find_by = ["accountnumber"]', 'find_by = ["telephone1"]'))
    create = "create_row", {"table": "account", "columns": {"name": "ours", "telephone1": "+49 30 901820"}}
    assert emit_each(adapter, plan(adapter, create)) == ["applied"]
    sim.seed("accounts", {"accountid": THEIRS, "telephone1": "+49 30 901820"})
    before = sim.rows("accounts")
    again = plan(adapter, create)
    assert again[0].warnings == ()
    assert emit_each(adapter, again) == ["already_applied"]
    assert adapter.emit(again[0]).remote_id == OURS
    assert sim.rows("accounts") == before


# ---- whole sessions


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("applied", [False, True])
def test_a_session_is_resumed_to_the_same_rows(sim, adapter, theirs, atomic, applied):
    operations = [
        Operation(kind="create_row", payload=CREATE[1]),
        Operation(kind="create_row", payload={"table": "account", "columns": {"accountnumber": "N-1"}}),
        Operation(
            kind="update_row",
            payload={"table": "account", "operation": "1-create_row", "columns": {"description": "ours"}},
        ),
    ]
    store = MemoryStore()
    options = {"store": store, "adapter": adapter, "policy": ONCE}
    sim.faults.add(
        "drop", method="POST" if atomic else "PATCH", path="*batch" if atomic else "*", apply=applied
    )
    report = write_back(operations, session_id=SESSION, atomic=atomic, **options)
    assert report.status is RunStatus.RESUME_NEEDED, report.error
    report = resume_session(SESSION, **options)
    assert report.status is RunStatus.COMPLETED, report.error
    assert report.receipts["1-create_row"].remote_id == THEIRS
    assert [warning for warning in report.warnings if "counts as created" in warning]
    rows = {row["accountnumber"]: (row["accountid"], row["description"]) for row in sim.rows("accounts")}
    assert rows == {
        VALUE: (THEIRS, "ours"),
        "N-1": (idempotency_key(SESSION, "2-create_row"), None),
    }


def test_a_row_made_before_the_resume_blocks_the_session(sim, adapter):
    store = MemoryStore()
    options = {"store": store, "adapter": adapter, "policy": ONCE}
    sim.faults.add("status", method="PATCH", status=503)
    write_back([Operation(kind="create_row", payload=CREATE[1])], session_id=SESSION, **options)
    sim.seed("accounts", {"accountid": THEIRS, "accountnumber": VALUE})
    report = resume_session(SESSION, **options)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert VALUE not in report.error
    assert sim.count("accounts") == 1


@pytest.mark.parametrize("readiness", ["full"])
def test_the_readiness_check_is_no_hindrance(sim, adapter_with, theirs, readiness):
    adapter = adapter_with(readiness=readiness)
    assert emit_each(adapter, plan(adapter, CREATE)) == ["already_applied"]


# ---- a plan that was changed on disk


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
@pytest.mark.parametrize("found", [OTHER, None, OURS, "not a guid"])
def test_a_changed_plan_finds_nothing_else(sim, adapter, theirs, emit, found):
    sim.seed("accounts", {"accountid": OTHER, "accountnumber": "another"})
    [planned] = plan(adapter, CREATE)
    before = sim.rows("accounts")
    with pytest.raises((ConflictError, InvalidInput)):
        emit(adapter, [changed(planned, found=found)])
    assert sim.rows("accounts") == before
    assert sent(sim) == []


@pytest.mark.parametrize("emit", [emit_each, emit_change_set])
def test_nothing_but_a_create_is_done_by_being_found(sim, adapter, theirs, emit):
    update = {"table": "account", "row_id": THEIRS, "columns": {"accountnumber": VALUE, "name": "ours"}}
    [planned] = plan(adapter, ("update_row", update))
    with pytest.raises(InvalidInput, match="not created"):
        emit(adapter, [changed(planned, found=THEIRS)])


def test_a_mapping_that_finds_no_more_refuses_the_plan(sim, adapter, adapter_with, theirs):
    planned = plan(adapter, CREATE)
    narrow = adapter_with(MAPPING.replace('find_by = ["accountnumber"]\n', ""))
    with pytest.raises(InvalidInput, match="find_by"):
        narrow.emit(planned[0])
    assert sim.rows("accounts") == [theirs]


# ---- what goes wrong


@pytest.mark.parametrize("status", [400, 403])
def test_a_search_that_is_refused_is_a_gap(sim, adapter, status):
    sim.faults.add("status", method="GET", path="accounts", status=status)
    with pytest.raises(NotReady, match="can't search accounts by accountnumber") as caught:
        plan(adapter, CREATE)
    assert VALUE not in str(caught.value)


def test_a_search_that_fails_for_now_tells_nothing_of_what_was_sent(sim, adapter):
    sim.faults.add("status", method="GET", path="accounts", status=503)
    with pytest.raises(TransientDataverseError):
        plan(adapter, CREATE)
    planned = plan(adapter, CREATE)
    sim.faults.add("status", method="GET", path="accounts", status=503)
    with pytest.raises(TransientDataverseError) as caught:
        adapter.emit(planned[0])
    assert caught.value.applied is Applied.UNKNOWN
    assert sent(sim) == []


@pytest.mark.parametrize("value", ["a\nplanted", 1.5, "\ud800planted"])
def test_a_value_that_can_not_be_searched_for(adapter, value):
    columns = {"name": "ours", "accountnumber": value}
    with pytest.raises(InvalidInput, match="1-create_row") as caught:
        plan(adapter, ("create_row", {"table": "account", "columns": columns}))
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('find_by = ["accountnumber"]', 'find_by = ["fax"]', ["[tables.account]", "'fax'", "find_by"]),
        ('find_by = ["accountnumber"]', 'find_by = "accountnumber"', ["find_by"]),
        ('find_by = ["accountnumber"]', 'find_by = ["name", "name"]', ["find_by", "twice"]),
        ('"_parentcustomerid_value"]', '"parentcustomerid"]', ["[tables.person]", "_<column>_value"]),
        ('find_by = ["wa_attempts"]', 'find_by = ["wa_lastsession"]', ["[tables.row]", "wa_lastsession"]),
        ('find_by = ["category", "prioritycode"]', 'find_by = ["priority"]', ["[kinds.task]", "'priority'"]),
        ('find_by = ["category", "prioritycode"]', "", []),
        (
            "[kinds.queue_status_update]\n",
            '[kinds.queue_status_update]\nfind_by = ["wa_notes"]\n',
            ["[kinds.queue_status_update]", "leave find_by out"],
        ),
    ],
)
def test_a_mistake_in_the_mapping_is_named(tmp_path, old, new, words):
    path = tmp_path / "mine.toml"
    assert old in MAPPING
    path.write_text(MAPPING.replace(old, new, 1))
    if not words:
        assert load_mapping(path).kinds["task"].find_by == ()
        return
    with pytest.raises(InvalidInput) as caught:
        load_mapping(path)
    assert all(word in str(caught.value) for word in [str(path), *words]), str(caught.value)


def test_a_column_of_a_type_that_can_not_be_searched_is_a_gap(sim, adapter_with):
    """The service says what the filter was; we don't."""
    adapter = adapter_with(
        MAPPING.replace('find_by = ["category", "prioritycode"]', 'find_by = ["scheduledend"]')
    )
    with pytest.raises(NotReady, match="can't search tasks by scheduledend") as caught:
        plan(adapter, ("task", {"subject": "x", "due": "2026-03-05T09:00:00Z"}))
    assert "2026-03" not in str(caught.value)
    assert sent(sim) == []
