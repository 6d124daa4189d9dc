"""Planned writes against live definitions: all that does not fit is named at once."""

from dataclasses import replace

import pytest

from writeahead.adapters.dataverse import DataverseClient
from writeahead.adapters.dataverse.mapping.parties import ApprovedParties
from writeahead.adapters.dataverse.mapping.payloads import PartyWrite
from writeahead.adapters.dataverse.readiness.checks import WriteRequirements
from writeahead.adapters.dataverse.readiness.definitions import Definitions
from writeahead.adapters.dataverse.readiness.metadata import AlternateKey as KeyDefinition
from writeahead.adapters.dataverse.readiness.metadata import entity_sets, read_tables
from writeahead.adapters.dataverse.readiness.parties import PartyRequirements
from writeahead.adapters.dataverse.webapi.errors import TransientDataverseError
from writeahead.errors import NotReady
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator
from writeahead.simulators.dataverse.schema import AlternateKey, Column, Kind

TOKEN = "token-of-readiness"
USER = PartyWrite(role="from", entity_set="systemusers", id="00000000-0000-4000-8000-000000000002")
ADDRESS = PartyWrite(role="to", address="+49 30 1")
APPROVED = ApprovedParties(
    "phonecall_activity_parties",
    {"from": {"systemusers": "partyid_systemuser"}, "to": {}},
    frozenset({"to"}),
)
CALL = WriteRequirements(
    operation="1-call",
    entity_set="phonecalls",
    key="activityid",
    columns={
        "subject": "Call",
        "directioncode": True,
        "wa_outcome": 100000000,
        "regardingobjectid_contact_phonecall@odata.bind": "/contacts(00000000-0000-4000-8000-000000000001)",
        "ownerid@odata.bind": "/systemusers(00000000-0000-4000-8000-000000000002)",
        "wa_sessionid": "s",
        "wa_operationid": "1-call",
    },
    read=("wa_sessionid", "wa_operationid"),
    creates=True,
    parties=PartyRequirements((USER, ADDRESS), APPROVED),
)
UPDATE = WriteRequirements(
    operation="2-update",
    entity_set="wa_callqueues",
    key="wa_callqueueid",
    columns={"wa_status": 100000002, "wa_lastsession": "s", "wa_lastoperation": "2-update"},
    read=("wa_status", "statecode", "_ownerid_value"),
    updates=True,
    versioned=True,
)


@pytest.fixture
def environment(tmp_path):
    """A simulator with a schema of one's choice, and a client for it."""
    opened = []

    def make(*tables):
        schema = DEFAULT_SCHEMA.with_tables(*tables)
        sim = Simulator(tmp_path / "crm.sqlite", settings=Settings(static_tokens=[TOKEN], schema=schema))
        opened.append(sim.start())
        client = DataverseClient(sim.url, lambda: TOKEN, timeout=5)
        opened.append(client)
        return sim, client

    yield make
    for one in reversed(opened):
        one.close() if isinstance(one, DataverseClient) else one.stop()


def gaps(client, *demands):
    with pytest.raises(NotReady) as caught:
        Definitions(client).require(demands)
    return str(caught.value)


def table(entity_set):
    return DEFAULT_SCHEMA.get(entity_set)


def without(entity_set, *columns):
    found = table(entity_set)
    return replace(found, columns={k: v for k, v in found.columns.items() if k not in columns})


def test_what_the_environment_can_take_is_ready_in_few_requests(environment):
    sim, client = environment()
    Definitions(client).require([CALL, UPDATE])
    paths = [request.path for request in sim.requests()]
    # One for all definitions, one for the tables that lookups point to, and one for each type of
    # column used.
    assert sum(path.endswith("/EntityDefinitions") for path in paths) == 2
    assert len(paths) <= 2 + 2 * 6
    assert {request.method for request in sim.requests()} == {"GET"}


def test_definitions_are_kept_for_a_while_and_no_longer(environment):
    sim, client = environment()
    now = [0.0]
    definitions = Definitions(client, max_age=300, monotonic=lambda: now[0])
    definitions.require([CALL])
    first = len(sim.requests())
    now[0] = 299.0
    definitions.require([CALL])
    assert len(sim.requests()) == first
    now[0] = 300.0
    definitions.require([CALL])
    assert len(sim.requests()) == 2 * first


def test_a_column_that_was_not_asked_for_before_is_read(environment):
    _, client = environment()
    definitions = Definitions(client)
    definitions.require([replace(CALL, columns={"subject": "Call"})])
    with pytest.raises(NotReady, match="column description holds 2000 characters, and 2001 are planned"):
        definitions.require([replace(CALL, columns={"description": "x" * 2001})])


def test_every_gap_of_every_operation_is_named_at_once(environment):
    phonecalls = replace(without("phonecalls", "wa_outcome", "wa_operationid"), primary_key="activityid")
    queue = replace(table("wa_callqueues"), optimistic_concurrency=False)
    _, client = environment(phonecalls, queue)
    said = gaps(
        client,
        replace(CALL, columns={**CALL.columns, "subject": "x" * 201, "createdon": "2026-01-01T00:00:00Z"}),
        replace(UPDATE, key="wa_id", columns={"wa_status": 7}, read=("wa_gone",)),
        replace(UPDATE, operation="3-lost", entity_set="nothings"),
    )
    for gap in (
        "operation 1-call: table phonecalls: there is no column wa_outcome",
        "table phonecalls: there is no column wa_operationid: check the mapping",
        "table phonecalls: column subject holds 200 characters, and 201 are planned",
        "table phonecalls: column createdon can't be written",
        "operation 2-update: table wa_callqueues: its key column is wa_callqueueid, not wa_id",
        "table wa_callqueues: there is no column wa_gone, which the mapping guards or marks rows with",
        "table wa_callqueues: it has no optimistic concurrency",
        "table wa_callqueues: column wa_status has no such option as is planned",
        "operation 3-lost: table nothings: it is not there",
    ):
        assert gap in said
    assert said.count("no column wa_operationid") == 1
    assert "x" * 201 not in said


@pytest.mark.parametrize(
    ("bind", "value", "gap"),
    [
        (
            "regardingobjectid_lead_phonecall",
            "/contacts({})",
            "no navigation property regardingobjectid_lead_phonecall",
        ),
        ("regardingobjectid_contact_phonecall", "/accounts({})", "does not point to accounts"),
        ("regardingobjectid_contact_phonecall", "/leads({})", "no table leads"),
        ("owner", "/teams({})", "no navigation property owner"),
    ],
)
def test_a_lookup_must_be_there_and_point_to_its_table(environment, bind, value, gap):
    _, client = environment()
    guid = "00000000-0000-4000-8000-000000000001"
    said = gaps(client, replace(CALL, columns={f"{bind}@odata.bind": value.format(guid)}))
    assert gap in said
    assert guid not in said


@pytest.mark.parametrize("navigation", ["ownerid", "ownerid_phonecall"])
def test_an_activitys_owner_goes_by_two_names(environment, navigation):
    _, client = environment()
    owner = {f"{navigation}@odata.bind": "/teams(00000000-0000-4000-8000-000000000001)"}
    Definitions(client).require([replace(CALL, columns={"subject": "Call", **owner})])


@pytest.mark.parametrize(
    ("keys", "gap"),
    [
        ({}, "there is no alternate key of accountnumber"),
        ({"wa_number": AlternateKey(("accountnumber",), "Pending")}, "accountnumber is Pending, not Active"),
        ({"wa_other": AlternateKey(("accountnumber", "name"))}, "there is no alternate key of accountnumber"),
        ({"wa_number": AlternateKey(("accountnumber",))}, None),
    ],
)
def test_an_alternate_key_needs_an_active_index(environment, keys, gap):
    _, client = environment(replace(table("accounts"), keys=keys))
    upsert = WriteRequirements(
        operation="1-upsert",
        entity_set="accounts",
        key="accountid",
        columns={"name": "Ada"},
        creates=True,
        updates=True,
        alternate_key={"accountnumber": "A-1"},
    )
    if gap:
        assert gap in gaps(client, upsert)
    else:
        Definitions(client).require([upsert])


def test_a_required_column_needs_a_value_on_create_only(environment):
    calls = table("phonecalls")
    required = {
        **calls.columns,
        "phonenumber": replace(calls.columns["phonenumber"], required="ApplicationRequired"),
    }
    queue = table("wa_callqueues")
    name = {**queue.columns, "wa_name": replace(queue.columns["wa_name"], required="ApplicationRequired")}
    _, client = environment(replace(calls, columns=required), replace(queue, columns=name))
    assert "operation 1-call: table phonecalls: column phonenumber requires a value" in gaps(
        client, CALL, UPDATE
    )
    with_number = replace(CALL, columns={**CALL.columns, "phonenumber": "+49301234"})
    Definitions(client).require([with_number, UPDATE])


def test_definitions_that_may_not_be_read_are_said_to_be_so(environment):
    sim, client = environment()
    sim.faults.add("status", path="EntityDefinitions*", status=403)
    assert 'readiness = "off"' in gaps(client, CALL)


@pytest.mark.parametrize("action", ["not_json", "cut", "drop"])
def test_definitions_that_can_t_be_read_now_may_be_later(environment, action):
    sim, client = environment()
    sim.faults.add(action, path="EntityDefinitions*")
    definitions = Definitions(client)
    with pytest.raises(TransientDataverseError):
        definitions.require([CALL])
    definitions.require([CALL])


def test_the_metadata_of_a_table_is_read_as_it_is(environment):
    keys = {"wa_number": AlternateKey(("accountnumber", "name"), "Failed")}
    _, client = environment(replace(table("accounts"), keys=keys))
    found = read_tables(client, {"accounts": None, "tasks": ["prioritycode"], "nothings": None})
    assert set(found) == {"accounts", "tasks"}
    assert found["accounts"].keys == (KeyDefinition(frozenset({"accountnumber", "name"}), "Failed"),)
    assert found["accounts"].columns["donotphone"].options == {True: "Do Not Allow", False: "Allow"}
    assert found["accounts"].columns["creditonhold"].options == {True: "Yes", False: "No"}
    assert found["accounts"].columns["name"].max_length == 160
    assert found["tasks"].columns["prioritycode"].options == {0: "Low", 1: "Normal", 2: "High"}
    # Not asked for, so not read.
    assert found["tasks"].columns["description"].max_length is None
    # Not asked for, so not read, unless a row must have it.
    assert found["tasks"].columns["description"].max_length is None
    assert found["tasks"].columns["subject"].max_length == 200
    assert entity_sets(client, ["task", "nothing"]) == {"task": "tasks"}


def with_columns(entity_set, **columns):
    found = table(entity_set)
    return replace(found, columns={**found.columns, **columns})


def test_a_value_that_is_no_option_is_not_repeated(environment):
    _, client = environment()
    assert "planted" not in gaps(client, replace(CALL, columns={"wa_outcome": "planted +49 30 901820"}))


def test_a_gap_that_is_mended_blocks_no_longer(environment):
    sim, client = environment()
    definitions = Definitions(client, monotonic=lambda: 0.0)
    sim.faults.add("wrong_schema", path="EntityDefinitions", times=1)
    with pytest.raises(NotReady):
        definitions.require([CALL])
    definitions.require([CALL])
    before = len(sim.requests())
    with pytest.raises(NotReady):
        definitions.require([replace(CALL, columns={"subject": "x" * 201})])
    assert len(sim.requests()) > before, "a gap was reported from an old definition"


def test_two_kinds_of_session_do_not_take_turns_at_reading(environment):
    sim, client = environment()
    definitions = Definitions(client, monotonic=lambda: 0.0)
    both = [
        replace(CALL, columns={"subject": "Call"}),
        replace(CALL, columns={"subject": "", "description": "x"}),
    ]
    both = [replace(CALL, columns={"subject": "Call", name: "x"}) for name in ("category", "description")]
    for demand in both:
        definitions.require([demand])
    warm = len(sim.requests())
    for demand in both * 2:
        definitions.require([demand])
    assert len(sim.requests()) == warm


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actualdurationminutes", "soon"),
        ("actualdurationminutes", -1),
        ("actualstart", "soon"),
        ("actualstart", "2026-W01-1"),
        ("actualstart", "2026-01-01"),
        ("actualstart", "2026-01-01T10:00:00"),
        ("regardingobjectid", "00000000-0000-4000-8000-000000000001"),
        ("wa_rate", -0.5),
        ("wa_rate", 101),
        ("subject", 3),
    ],
)
def test_a_value_must_be_one_that_its_column_takes(environment, column, value):
    rate = Column(kind=Kind.DECIMAL, minimum=0, maximum=100)
    _, client = environment(with_columns("phonecalls", wa_rate=rate))
    assert f"column {column} " in gaps(client, replace(CALL, columns={column: value}))


@pytest.mark.parametrize("moment", ["2026-01-01T10:00Z", "2026-01-01T10:00:00.5+01:00"])
def test_a_moment_as_odata_writes_it(environment, moment):
    _, client = environment()
    Definitions(client).require([replace(CALL, columns={"subject": "Call", "actualstart": moment})])


def test_one_thread_may_forget_what_another_one_is_looking_at(environment, monkeypatch):
    """It met a gap in what was kept, and reads again."""
    _, client = environment()
    definitions = Definitions(client)
    definitions.require([UPDATE])

    def forget(client, tables):
        definitions._tables.clear()
        definitions._names.clear()
        return read_tables(client, tables)

    monkeypatch.setattr("writeahead.adapters.dataverse.readiness.definitions.read_tables", forget)
    definitions.require([CALL, UPDATE])


def test_a_lookup_of_ones_own_to_users_points_to_users(environment):
    reviewer = Column(kind=Kind.LOOKUP, navigation={"systemusers": "wa_Reviewer"})
    _, client = environment(with_columns("phonecalls", wa_reviewer=reviewer))
    guid = "00000000-0000-4000-8000-000000000001"
    said = gaps(client, replace(CALL, columns={"wa_Reviewer@odata.bind": f"/teams({guid})"}))
    assert "wa_Reviewer does not point to teams" in said
    user = {"wa_Reviewer@odata.bind": f"/systemusers({guid})"}
    Definitions(client).require([replace(CALL, columns={"subject": "Call", **user})])
    reviewed = {"subject": "Call", "wa_Reviewer@odata.bind": f"/systemusers({guid})"}
    Definitions(client).require([replace(CALL, columns=reviewed)])


QUEUED = {
    "queueid@odata.bind": "/queues(00000000-0000-4000-8000-000000000001)",
    "objectid_task@odata.bind": "/tasks(00000000-0000-4000-8000-000000000002)",
}


@pytest.mark.parametrize(
    ("columns", "gap"),
    [
        (QUEUED, None),
        ({"objectid_task@odata.bind": QUEUED["objectid_task@odata.bind"]}, "column queueid requires a value"),
        ({"queueid@odata.bind": QUEUED["queueid@odata.bind"]}, "column objectid requires a value"),
        ({**QUEUED, "title": "Call back"}, "column title can't be written"),
    ],
)
def test_a_queue_item_needs_its_queue_and_its_object_alone(environment, columns, gap):
    """Workeridtype is required in the definition, and no payload can hold it."""
    _, client = environment()
    item = WriteRequirements(
        operation="1-item", entity_set="queueitems", key="queueitemid", columns=columns, creates=True
    )
    if gap:
        said = gaps(client, item)
        assert gap in said
        assert "workeridtype" not in said
    else:
        Definitions(client).require([item])


CASE = {"title": "No dial tone"}
CUSTOMER = {"customerid_account@odata.bind": "/accounts(00000000-0000-4000-8000-000000000001)"}


@pytest.mark.parametrize(
    ("columns", "gap"),
    [
        ({**CASE, **CUSTOMER}, None),
        (CASE, "column customerid requires a value"),
        (CUSTOMER, "column title requires a value"),
    ],
)
def test_a_case_needs_its_customer(environment, columns, gap):
    """It is required by the system, as are its owner and its key, which a new row has by itself."""
    _, client = environment()
    case = WriteRequirements(
        operation="1-case", entity_set="incidents", key="incidentid", columns=columns, creates=True
    )
    if gap:
        assert gaps(client, case).count("requires a value") == 1
        assert gap in gaps(client, case)
    else:
        Definitions(client).require([case])


def test_a_required_column_with_a_default_needs_no_value(environment):
    flag = Column(kind=Kind.BOOLEAN, default=False, required="ApplicationRequired")
    text = Column(kind=Kind.STRING, max_length=9, required="ApplicationRequired")
    _, client = environment(with_columns("phonecalls", wa_flag=flag, wa_need=text))
    said = gaps(client, replace(CALL, columns={**CALL.columns, "wa_need": None}))
    assert "column wa_need requires a value" in said
    assert "wa_flag" not in said
