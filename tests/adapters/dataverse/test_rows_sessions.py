"""Whole sessions on any table: resumes after an edit, transactions of unknown outcome."""

import pytest

from tests.support.dataverse_rows import CONTACT, DEFAULT, ROW, SESSION, TABLES, seed_rows
from writeahead import RunPolicy, resume_session, write_back
from writeahead.model import BlockReason, Operation, RunStatus, idempotency_key

ONCE = RunPolicy(wait_initial=0, wait_max=0, attempts=1)
UPDATE = {"table": "row", "row_id": ROW, "columns": {"wa_notes": "ours", "wa_email": "ours@example.com"}}
PLAIN = {
    "table": "contact",
    "row_id": CONTACT,
    "columns": {"description": "ours", "telephone1": "+49 30 901820"},
}
TABLE_OF = {"row": ("wa_callqueues", ROW), "contact": ("contacts", CONTACT)}


@pytest.fixture
def mapping_text():
    return DEFAULT + TABLES


@pytest.fixture
def sim(sim):
    seed_rows(sim)
    return sim


def run(adapter, store, *operations, **options):
    asked = [Operation(kind=kind, payload=payload) for kind, payload in operations]
    return write_back(asked, session_id=SESSION, store=store, adapter=adapter, policy=ONCE, **options)


def resume(adapter, store):
    return resume_session(SESSION, store=store, adapter=adapter, policy=ONCE)


# ---- between planning and resume


@pytest.mark.parametrize("payload", [UPDATE, PLAIN], ids=["marker", "no marker"])
@pytest.mark.parametrize("edit", ["guarded", "preserve", "gone"])
def test_a_persons_edit_blocks_the_resume(sim, adapter, store, payload, edit):
    entity_set, row_id = TABLE_OF[payload["table"]]
    sim.faults.add("status", method="PATCH", status=503)
    assert run(adapter, store, ("update_row", payload)).status is RunStatus.RESUME_NEEDED
    edits = {
        "wa_callqueues": {"guarded": {"wa_donotcall": True}, "preserve": {"wa_email": "theirs@example.com"}},
        "contacts": {"guarded": {"donotphone": True}, "preserve": {"telephone1": "theirs"}},
    }
    if edit == "gone":
        sim.delete(entity_set, row_id)
    else:
        sim.edit(entity_set, row_id, edits[entity_set][edit])
    before = sim.rows(entity_set)
    report = resume(adapter, store)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert ("gone" if edit == "gone" else next(iter(edits[entity_set][edit]))) in report.error
    assert "theirs" not in report.error
    assert sim.rows(entity_set) == before


def test_what_was_preserved_is_told_in_every_report(sim, adapter, store):
    sim.edit("wa_callqueues", ROW, {"wa_email": "theirs@example.com"})
    sim.faults.add("status", method="PATCH", status=503)
    first = run(adapter, store, ("update_row", UPDATE))
    report = resume(adapter, store)
    assert report.status is RunStatus.COMPLETED, report.error
    assert first.warnings == report.warnings == ("1-update_row: wa_email has a value, and is left as it is",)
    row = sim.row("wa_callqueues", ROW)
    assert (row["wa_notes"], row["wa_email"]) == ("ours", "theirs@example.com")


def test_another_column_edited_meanwhile_stays_as_it_is(sim, adapter, store):
    sim.faults.add("status", method="PATCH", status=503)
    run(adapter, store, ("update_row", UPDATE))
    sim.edit("wa_callqueues", ROW, {"wa_attempts": 77})
    assert resume(adapter, store).status is RunStatus.COMPLETED
    row = sim.row("wa_callqueues", ROW)
    assert (row["wa_notes"], row["wa_attempts"]) == ("ours", 77)


# ---- transactions

CREATE = {"table": "contact", "columns": {"lastname": "Byron"}}
UPSERT = {"table": "account", "key": {"accountnumber": "A-2"}, "columns": {"name": "Ben Ltd"}}
EVERY = (("create_row", CREATE), ("update_row", PLAIN), ("update_row", UPDATE), ("upsert_row", UPSERT))


def written(sim):
    ben = [row for row in sim.rows("accounts") if row["accountnumber"] == "A-2"]
    byron = [row for row in sim.rows("contacts") if row["lastname"] == "Byron"]
    contact, row = sim.row("contacts", CONTACT), sim.row("wa_callqueues", ROW)
    return len(byron), contact["description"], row["wa_notes"], len(ben)


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("operations", [EVERY, EVERY[:2], EVERY[1:2], EVERY[1:]], ids=len)
def test_a_transaction_whose_reply_is_lost(sim, adapter, store, operations, applied):
    sim.faults.add("drop", method="POST", path="*batch", apply=applied)
    assert run(adapter, store, *operations, atomic=True).status is RunStatus.RESUME_NEEDED
    after = written(sim)
    versions = [row["@odata.etag"] for row in sim.rows("contacts")]
    report = resume(adapter, store)
    assert report.status is RunStatus.COMPLETED, report.error
    kinds = {str(payload["table"]) + kind for kind, payload in operations}
    assert written(sim) == (
        int("contactcreate_row" in kinds),
        "ours" if "contactupdate_row" in kinds else None,
        "ours" if "rowupdate_row" in kinds else None,
        int("accountupsert_row" in kinds),
    )
    if applied:
        assert written(sim) == after
        assert [row["@odata.etag"] for row in sim.rows("contacts")] == versions


def test_values_that_were_so_before_do_not_prove_a_transaction(sim, adapter, store):
    sim.edit("contacts", CONTACT, {"description": "ours", "telephone1": "+49 30 901820"})
    sim.faults.add("drop", method="POST", path="*batch", apply=False)
    run(adapter, store, *EVERY[:2], atomic=True)
    sim.edit("contacts", CONTACT, {"lastname": "touched"})
    assert resume(adapter, store).status is RunStatus.COMPLETED
    assert sim.row("contacts", idempotency_key(SESSION, "1-create_row"))["lastname"] == "Byron"


def test_a_transaction_without_a_witness_needs_a_known_version(sim, adapter, store):
    sim.faults.add("drop", method="POST", path="*batch", apply=False)
    run(adapter, store, EVERY[1], atomic=True)
    sim.edit("contacts", CONTACT, {"lastname": "touched"})
    report = resume(adapter, store)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, BlockReason.CONFLICT_DETECTED)
    assert sim.row("contacts", CONTACT)["description"] is None


def test_a_transaction_is_written_beside_preserved_rows(sim, adapter, store):
    sim.edit("contacts", CONTACT, {"telephone1": "theirs"})
    kept = {**PLAIN, "columns": {"telephone1": "+49 30 901820"}}
    report = run(adapter, store, ("update_row", kept), ("create_row", CREATE), atomic=True)
    assert report.status is RunStatus.COMPLETED, report.error
    assert [receipt.outcome for receipt in report.receipts.values()] == ["already_applied", "applied"]
    assert sim.row("contacts", CONTACT)["telephone1"] == "theirs"
