"""Activity parties in whole sessions, judged by the simulator's rows and the requests on the wire.

The readiness gate is on: the standard phone call requires who called and who was called.
"""

import json
from datetime import UTC, datetime, timedelta
from importlib import resources

import pytest

from tests.adapters.dataverse.test_binding import at
from writeahead import RunPolicy, resume_session, write_back
from writeahead.adapters.dataverse import adapter_from_settings
from writeahead.errors import InvalidInput
from writeahead.model import BlockReason, KeyedOperation, RunStatus, idempotency_key
from writeahead.simulators.dataverse import APPLICATION_USER, HUMAN_USER
from writeahead.stores.memory import MemoryStore

ONCE = RunPolicy(wait_initial=0, wait_max=0, attempts=1)
ADA, BEN = (f"c0000000-0000-4000-8000-00000000000{number}" for number in (1, 2))
UNKNOWN = "00000000-0000-4000-8000-0000000000ff"
CALL = {
    "subject": "A call",
    "phone_number": "+49 30 901820",
    "caller": {"type": "user", "id": HUMAN_USER},
    "callee": {"type": "contact", "id": ADA},
}
COMPLETE = ("complete_activity", {"operation": "1-phone_call_activity", "status": "made"})
DEFAULT = (resources.files("writeahead.adapters.dataverse") / "default_mapping.toml").read_text()
DECLARED = """
[tables.call]
entity_set = "phonecalls"
key = "activityid"
columns = ["subject", "phonenumber"]

[tables.call.parties]
navigation = "phonecall_activity_parties"
from = ["systemusers"]
to = ["contacts", { entity_set = "accounts", navigation = "partyid_account" }]
unresolved = ["to"]

[tables.person]
entity_set = "contacts"
key = "contactid"
"""
TO_ADA = {"role": "to", "table": "person", "id": ADA}
TO_ADDRESS = {"role": "to", "address": "planted-address"}
FROM_USER = {"role": "from", "entity_set": "systemusers", "id": HUMAN_USER}
TO_ACCOUNT = {"role": "to", "entity_set": "accounts", "id": UNKNOWN}
TO_LEAD = {"role": "to", "entity_set": "leads", "id": UNKNOWN}
OURS = {(1, HUMAN_USER, None), (2, ADA, None)}


@pytest.fixture
def mapping(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(DEFAULT + DECLARED)
    return path


@pytest.fixture
def adapter(environ, mapping):
    with adapter_from_settings(environ=environ, timeout=5, readiness="full", mapping=mapping) as made:
        yield made


@pytest.fixture
def store():
    return MemoryStore()


def run(adapter, store, *operations, **options):
    asked = [{"kind": kind, "payload": payload} for kind, payload in operations]
    return write_back(asked, session_id="s1", store=store, adapter=adapter, policy=ONCE, **options)


def row(*parties, **columns):
    return "create_row", {
        "table": "call",
        "columns": {"subject": "A call", **columns},
        "parties": list(parties),
    }


def parties(sim):
    """Role, row and address of each, without the owner and what the platform adds."""
    return [
        (found["participationtypemask"], found.get("_partyid_value"), found.get("addressused"))
        for found in sim.rows("activityparties")
        if found["participationtypemask"] not in (8, 9)
    ]


def bodies(sim):
    return [json.loads(request.body) for request in sim.requests(method="PATCH")]


# ---- a call and its completion


@pytest.mark.parametrize("atomic", [False, True])
def test_a_call_has_its_caller_and_its_callee(sim, adapter, store, atomic):
    report = run(adapter, store, ("phone_call_activity", CALL), COMPLETE, atomic=atomic)
    assert (report.status, report.error, report.warnings) == (RunStatus.COMPLETED, None, ())
    [call] = sim.rows("phonecalls")
    assert (call["statecode"], call["statuscode"]) == (1, 2)
    assert (len(parties(sim)), set(parties(sim))) == (2, OURS)
    assert {found["_activityid_value"] for found in sim.rows("activityparties")} == {call["activityid"]}


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("applied", [False, True])
def test_a_reply_that_is_lost_makes_no_party_twice(sim, adapter, store, atomic, applied):
    method, path = ("POST", "*batch") if atomic else ("PATCH", "phonecalls(*")
    sim.faults.add("reset", method=method, path=path, apply=applied)
    first = run(adapter, store, ("phone_call_activity", CALL), COMPLETE, atomic=atomic)
    assert (first.status, len(parties(sim))) == (RunStatus.RESUME_NEEDED, 2 * applied)
    report = resume_session("s1", store=store, adapter=adapter, policy=ONCE)
    assert report.status is RunStatus.COMPLETED, report.error
    assert (len(parties(sim)), set(parties(sim))) == (2, OURS)
    assert [call["statecode"] for call in sim.rows("phonecalls")] == [1]


def test_an_address_is_a_party_that_no_row_is_known_for(sim, adapter, store):
    report = run(adapter, store, ("phone_call_activity", {**CALL, "callee": {"address": "+49 30 901820"}}))
    assert report.status is RunStatus.COMPLETED, report.error
    assert set(parties(sim)) == {(1, HUMAN_USER, None), (2, None, "+49 30 901820")}
    assert bodies(sim)[0]["phonecall_activity_parties"] == [
        {"participationtypemask": 1, "partyid_systemuser@odata.bind": f"/systemusers({HUMAN_USER})"},
        {"participationtypemask": 2, "addressused": "+49 30 901820"},
    ]


def test_parties_of_a_declared_table(sim, adapter, store):
    account = sim.seed("accounts", {"name": "Ada Ltd"})
    to_account = {"role": "to", "entity_set": "accounts", "id": account}
    report = run(adapter, store, row(FROM_USER, TO_ADA, TO_ADDRESS, to_account))
    assert report.status is RunStatus.COMPLETED, report.error
    assert set(parties(sim)) == {*OURS, (2, None, "planted-address"), (2, account, None)}


def test_a_plan_without_parties_is_as_it_was(adapter, store, sim):
    run(adapter, store, ("task", {"subject": "Call back"}))
    [operation] = json.loads(store.get("s1/planned-writeback.json").data)["operations"]
    assert "parties" not in operation["payload"]
    assert set(bodies(sim)[0]) == {"subject", "wa_sessionid", "wa_operationid"}


# ---- gaps


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("callee", "column to requires a party: give callee"),
        ("caller", "column from requires a party: give caller"),
    ],
)
def test_a_required_party_is_a_gap(sim, adapter, store, missing, said):
    given = {name: value for name, value in CALL.items() if name != missing}
    report = run(adapter, store, ("phone_call_activity", given))
    assert (report.block_reason, sim.count("phonecalls")) == (BlockReason.NOT_READY, 0)
    assert report.error == f"operation 1-phone_call_activity: table phonecalls: {said}"


def test_a_required_party_that_is_not_mapped_is_a_gap(environ, mapping, store, sim):
    start, end = DEFAULT.index("[kinds.phone_call_activity.parties]"), DEFAULT.index("# Once completed")
    mapping.write_text(DEFAULT[:start] + DEFAULT[end:])
    given = {name: CALL[name] for name in ("subject", "phone_number")}
    with adapter_from_settings(environ=environ, timeout=5, readiness="full", mapping=mapping) as adapter:
        report = run(adapter, store, ("phone_call_activity", given))
        assert report.block_reason is BlockReason.NOT_READY
        for role in ("from", "to"):
            assert f"map it in [kinds.phone_call_activity.parties] with role = '{role}'" in report.error
        with pytest.raises(InvalidInput, match=r"no \[kinds.phone_call_activity.parties.caller\]"):
            run(adapter, store, ("phone_call_activity", CALL))
    assert sim.count("phonecalls") == 0


def test_a_declared_table_says_where_a_required_party_goes(adapter, store, sim):
    report = run(adapter, store, row(TO_ADA))
    assert "column from requires a party: give parties one of role from" in report.error
    assert sim.count("phonecalls") == 0


@pytest.mark.parametrize(
    "case",
    [
        ("phonecall_activity_parties", "call_parties", [], "its parties are phonecall_activity_parties, not"),
        ("to = [", 'cc = ["contacts"]\nto = [', [{**TO_ADA, "role": "cc"}], "no parties of role cc"),
        ("partyid_account", "partyid_organization", [TO_ACCOUNT], "accounts by partyid_organization"),
        ("to = [", 'to = ["leads", ', [TO_LEAD], "there is no table leads for a party"),
        ('entity_set = "phonecalls"', 'entity_set = "tasks"', [], "it has no parties"),
        # One character, and two units of UTF-16.
        ("", "", [{"role": "to", "address": "\U0001f4de" * 161}], "may have 320 characters, and has 322"),
    ],
)
def test_parties_that_the_environment_does_not_take_are_gaps(environ, mapping, case):
    old, new, more, said = case
    mapping.write_text(DECLARED.replace(old, new, 1))
    with adapter_from_settings(environ=environ, timeout=5, readiness="full", mapping=mapping) as adapter:
        report = run(adapter, MemoryStore(), row(FROM_USER, TO_ADA, *more))
    assert report.block_reason is BlockReason.NOT_READY
    assert said in report.error
    assert "planted" not in report.error


@pytest.mark.parametrize("atomic", [False, True])
def test_a_party_whose_row_is_gone_writes_nothing(sim, adapter, store, atomic):
    gone = {**CALL, "callee": {"type": "contact", "id": UNKNOWN}}
    report = run(adapter, store, ("phone_call_activity", gone), atomic=atomic)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.REJECTED)
    assert (sim.count("phonecalls"), sim.count("activityparties")) == (0, 0)


# ---- what the mapping does not approve


@pytest.mark.parametrize(
    ("party", "said"),
    [
        ({"role": "from", "table": "person", "id": ADA}, "contacts may not be a party of role 'from'"),
        ({"role": "from", "address": "planted-address"}, "an address may not be a party of role 'from'"),
        ({"role": "cc", "address": "planted-address"}, "an address may not be a party of role 'cc'"),
        ({"role": "to", "table": "nobody", "id": ADA}, r"no table \[tables.nobody\]"),
        (TO_ADA, "role 'to' twice"),
        ({"role": "owner", "table": "person", "id": ADA}, "role"),
        ({"role": "to"}, "must say who it is"),
        ({"role": "to", "id": ADA}, "must say who it is"),
        ({"role": "to", "id": ADA, "table": "person", "entity_set": "contacts"}, "must say who it is"),
        ({"role": "to", "id": ADA, "table": "person", "address": "planted-address"}, "must say who it is"),
        ({"role": "to", "address": "planted" * 50}, "at most 320"),
    ],
)
def test_a_party_that_is_not_approved_is_refused(sim, adapter, store, party, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        run(adapter, store, row(FROM_USER, TO_ADA, party))
    assert "planted" not in str(caught.value)
    assert (sim.requests(), list(store.list())) == ([], [])


@pytest.mark.parametrize(
    ("party", "said"),
    [
        ({"type": "team", "id": ADA}, "no type 'team' in"),
        ({"type": "contact"}, "must say who it is"),
        ({"type": "contact", "id": ADA, "address": "planted-address"}, "must say who it is"),
        ({"address": ""}, "at least 1"),
    ],
)
def test_a_caller_that_is_not_approved_is_refused(sim, adapter, store, party, said):
    with pytest.raises(InvalidInput, match=said) as caught:
        run(adapter, store, ("phone_call_activity", {**CALL, "caller": party}))
    assert "planted" not in str(caught.value)
    assert sim.requests() == []


@pytest.mark.parametrize("kind", ["update_row", "upsert_row"])
def test_only_a_create_takes_parties(sim, adapter, store, kind):
    payload = {"table": "call", "row_id": UNKNOWN, "columns": {"subject": "x"}, "parties": [TO_ADDRESS]}
    with pytest.raises(InvalidInput, match="only create_row has parties") as caught:
        run(adapter, store, (kind, payload))
    assert "planted" not in str(caught.value)
    assert sim.requests() == []


def planned(adapter, kind="phone_call_activity", payload=CALL):
    operation_id = f"1-{kind}"
    key = idempotency_key("s1", operation_id)
    [found] = adapter.plan(
        [KeyedOperation(session_id="s1", id=operation_id, kind=kind, key=key, payload=payload)]
    )
    return found


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    "party",
    [
        {"role": "to", "entity_set": "teams", "id": ADA},
        {"role": "cc", "entity_set": "contacts", "id": ADA},
        {"role": "cc", "address": "planted-address"},
        {"role": "to", "entity_set": "contacts"},
        {"role": "to", "entity_set": "contacts)/x", "id": ADA},
        {"role": "owner", "entity_set": "contacts", "id": ADA},
    ],
)
def test_a_plan_can_not_smuggle_a_party_in(sim, adapter, party, atomic):
    found = planned(adapter)
    tampered = {**found.payload, "parties": [*found.payload["parties"], party]}
    changed = found.model_copy(update={"payload": tampered})
    before = sim.last_sequence()
    with pytest.raises(InvalidInput) as caught:
        adapter.transact([changed]) if atomic else adapter.emit(changed)
    assert "planted" not in str(caught.value)
    assert sim.requests(after=before) == []


@pytest.mark.parametrize("atomic", [False, True])
def test_a_plan_can_not_smuggle_a_party_into_an_update(sim, adapter, atomic):
    call = sim.seed("phonecalls", {"subject": "A call"})
    payload = {"table": "call", "row_id": call, "columns": {"subject": "another"}}
    found = planned(adapter, "update_row", payload)
    party = {"role": "to", "entity_set": "contacts", "id": ADA}
    changed = found.model_copy(update={"payload": {**found.payload, "parties": [party]}})
    before = sim.last_sequence()
    with pytest.raises(InvalidInput, match="only a create has parties"):
        adapter.transact([changed]) if atomic else adapter.emit(changed)
    assert sim.requests(after=before) == []


# ---- one content under a GUID

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=8)


def write(sim, mapping, moment, *given, atomic=False):
    with at(sim, moment, mapping) as adapter:
        return run(adapter, MemoryStore(), row(*given), atomic=atomic)


@pytest.mark.parametrize("atomic", [False, True])
def test_the_same_parties_are_applied_already(sim, mapping, atomic):
    write(sim, mapping, NOW, FROM_USER, TO_ADA, TO_ADDRESS)
    # In another order, and with parties that the platform keeps.
    report = write(sim, mapping, LATER, TO_ADDRESS, TO_ADA, FROM_USER, atomic=atomic)
    assert [receipt.outcome for receipt in report.receipts.values()] == ["already_applied"]
    assert len(parties(sim)) == 3


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize(
    "other",
    [
        [FROM_USER, {**TO_ADA, "id": BEN}, TO_ADDRESS],
        [FROM_USER, TO_ADA, {"role": "to", "address": "planted-other"}],
        [FROM_USER, TO_ADA],
        [FROM_USER, TO_ADA, TO_ADDRESS, {**TO_ADA, "id": BEN}],
    ],
)
def test_other_parties_are_other_content(sim, mapping, other, atomic):
    write(sim, mapping, NOW, FROM_USER, TO_ADA, TO_ADDRESS)
    before = sim.rows("activityparties")
    report = write(sim, mapping, LATER, *other, atomic=atomic)
    assert report.block_reason is BlockReason.CONFLICT_DETECTED
    assert report.error.endswith("with other content: parties of role to")
    assert "planted" not in report.error
    assert sim.rows("activityparties") == before


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 503}, RunStatus.RESUME_NEEDED),
        ({"status": 403}, RunStatus.BLOCKED),
    ],
)
def test_parties_that_can_not_be_read(sim, mapping, fault, expected):
    write(sim, mapping, NOW, FROM_USER, TO_ADA)
    sim.faults.add("status", method="GET", path="activityparties*", **fault)
    assert write(sim, mapping, LATER, FROM_USER, TO_ADA).status is expected
    assert len(parties(sim)) == 2


def test_the_parties_of_a_new_plan_are_not_asked_for(sim, mapping):
    write(sim, mapping, NOW, FROM_USER, TO_ADA)
    assert sim.requests(path="activityparties*") == []
    assert {found["_ownerid_value"] for found in sim.rows("phonecalls")} == {APPLICATION_USER}
