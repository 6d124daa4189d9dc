"""The readiness gate where it stands: in planning, before anything is persisted or sent."""

import json
from importlib import resources

import pytest

from tests.support.worlds import names
from writeahead import resume_session, write_back
from writeahead.adapters.dataverse import adapter_from_settings
from writeahead.errors import InvalidInput
from writeahead.model import BlockReason, RunStatus
from writeahead.stores.memory import MemoryStore

DEFAULT = resources.files("writeahead.adapters.dataverse").joinpath("default_mapping.toml").read_text()
UNKNOWN = "00000000-0000-4000-8000-0000000000ff"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def gated(environ):
    with adapter_from_settings(environ=environ, timeout=5, readiness="full") as made:
        yield made


@pytest.mark.parametrize(
    "name",
    ["interested-callback", "email-captured", "needs-human-review", "do-not-call", "blocked-by-eligibility"],
)
def test_the_example_sessions_are_ready(sim, gated, store, sessions, name):
    session = json.loads((sessions / f"{name}.json").read_text())
    report = write_back(session["operations"], session_id="s", store=store, adapter=gated)
    assert (report.status, report.error, report.warnings) == (RunStatus.COMPLETED, None, ())
    reads = [request for request in sim.requests() if "EntityDefinitions" in request.path]
    assert reads
    # Resuming plans nothing, so it asks for no definitions.
    resume_session("s", store=store, adapter=gated)
    assert len([request for request in sim.requests() if "EntityDefinitions" in request.path]) == len(reads)


def test_a_gap_blocks_before_anything_is_written_anywhere(sim, gated, store):
    operations = [
        {"kind": "task", "payload": {"subject": "Call back"}},
        {
            "kind": "task",
            "payload": {
                "subject": "y" * 200,
                "category": "z" * 200,
                "owner": {"type": "team", "id": UNKNOWN},
            },
        },
    ]
    sim.faults.add("status", path="EntityDefinitions*", status=403)
    report = write_back(operations, session_id="s", store=store, adapter=gated)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.NOT_READY)
    assert 'readiness = "off"' in report.error
    report = write_back(operations, session_id="s", store=store, adapter=gated)
    assert report.error == (
        "operation 2-task: its owner: there is no such team; name another, or a default_owner in the mapping"
    )
    assert names(store) == []
    assert sim.count("tasks") == 0
    assert {request.method for request in sim.requests() if "token" not in request.path} == {"GET"}


def test_only_a_call_needs_a_phone_number(sim, gated, store):
    call = {
        "subject": "A call",
        "caller": {"type": "user", "id": "a0000000-0000-4000-8000-000000000002"},
        "callee": {"address": "+49 30 1"},
    }
    operations = [
        {"kind": "phone_call_activity", "payload": call},
        {"kind": "phone_call_activity", "payload": {**call, "phone_number": "call me"}},
        {"kind": "task", "payload": {"subject": "Call back"}},
    ]
    report = write_back(operations, session_id="s", store=store, adapter=gated)
    assert (report.block_reason, report.error) == (
        BlockReason.NOT_READY,
        "operation 1-phone_call_activity: phone_number is missing: a call needs the number that was dialled",
    )
    report = write_back(operations[1:], session_id="s", store=store, adapter=gated)
    assert (report.status, len(report.warnings)) == (RunStatus.COMPLETED, 1)


def test_a_number_that_a_write_would_empty_is_a_gap(environ, store, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        f"{DEFAULT}\n[tables.person]\nentity_set = 'contacts'\nkey = 'contactid'\n"
        "columns = ['lastname', 'telephone1']\nphones = ['telephone1']\n"
    )
    for number, gap in ((None, True), ("", True), ("+49 30 901820", False)):
        columns = {"lastname": "Okafor", "telephone1": number}
        operation = {"kind": "create_row", "payload": {"table": "person", "columns": columns}}
        with adapter_from_settings(environ=environ, timeout=5, readiness="full", mapping=path) as adapter:
            report = write_back([operation], session_id="s", store=store, adapter=adapter, dry_run=True)
        said = "operation 1-create_row: telephone1 is a telephone number, and is empty"
        assert (report.error or "").startswith(said) is gap
        assert (report.status is RunStatus.PLANNED) is not gap


def test_a_disabled_owner_is_replaced_by_the_default_one(sim, environ, store, tmp_path):
    default = sim.seed("teams", {"name": "Everybody"})
    gone = sim.seed("systemusers", {"fullname": "planted-name", "isdisabled": True})
    mapping = tmp_path / "mapping.toml"
    text = resources.files("writeahead.adapters.dataverse").joinpath("default_mapping.toml").read_text()
    mapping.write_text(f'default_owner = {{ type = "team", id = "{default}" }}\n{text}')
    with adapter_from_settings(environ=environ, timeout=5, readiness="full", mapping=mapping) as adapter:
        report = write_back(
            [{"kind": "task", "payload": {"subject": "x", "owner": {"type": "user", "id": gone}}}],
            session_id="s",
            store=store,
            adapter=adapter,
        )
    assert report.status is RunStatus.COMPLETED
    assert report.warnings == ("1-task: its owner: the user is disabled; the default owner gets it",)
    (task,) = sim.rows("tasks")
    assert task["_ownerid_value"] == default
    plan = store.get("s/planned-writeback.json").data.decode()
    assert gone not in plan
    assert "planted-name" not in plan


def test_a_default_owner_that_can_own_nothing_is_a_gap(sim, environ, store, tmp_path):
    gone = sim.seed("systemusers", {"fullname": "Gone", "isdisabled": True})
    mapping = tmp_path / "mapping.toml"
    text = resources.files("writeahead.adapters.dataverse").joinpath("default_mapping.toml").read_text()
    mapping.write_text(f'default_owner = {{ type = "team", id = "{UNKNOWN}" }}\n{text}')
    with adapter_from_settings(environ=environ, timeout=5, readiness="full", mapping=mapping) as adapter:
        report = write_back(
            [
                {"kind": "task", "payload": {"subject": "x", "owner": {"type": "user", "id": gone}}},
                {"kind": "task", "payload": {"subject": "y"}},
            ],
            session_id="s",
            store=store,
            adapter=adapter,
        )
    assert report.block_reason is BlockReason.NOT_READY
    assert report.error == (
        "operation 1-task: its owner: the user is disabled; name another, or another default_owner in the"
        " mapping; operation 2-task: its owner is the mapping's default_owner: there is no such team; name"
        " another there"
    )


def test_the_gate_can_be_left_open(environ, sim, store):
    with adapter_from_settings(environ=environ, timeout=5) as adapter:
        write_back(
            [{"kind": "task", "payload": {"subject": "x"}}], session_id="s", store=store, adapter=adapter
        )
    assert not [request for request in sim.requests() if "EntityDefinitions" in request.path]
    with pytest.raises(InvalidInput, match="DATAVERSE_READINESS must be full or off"):
        adapter_from_settings(environ={**environ, "DATAVERSE_READINESS": "half"})
