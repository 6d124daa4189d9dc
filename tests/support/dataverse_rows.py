"""Declared tables, rows of them, and what tests of the Dataverse adapter do with plans of them."""

from importlib import resources

import pytest

from writeahead.adapters.dataverse import TransientDataverseError
from writeahead.model import KeyedOperation, idempotency_key

DEFAULT = (resources.files("writeahead.adapters.dataverse") / "default_mapping.toml").read_text()
TABLES = """
[tables.account]
entity_set = "accounts"
key = "accountid"
columns = ["name", "telephone1", "description"]
alternate_keys = [["accountnumber"]]
phones = ["telephone1"]

[tables.contact]
entity_set = "contacts"
key = "contactid"
columns = ["firstname", "lastname", "telephone1", "description"]
guarded = ["donotphone"]
preserve = ["telephone1", "parentcustomerid"]

[tables.contact.lookups]
ownerid = ["systemusers", "teams"]
parentcustomerid_account = { entity_sets = ["accounts"], column = "parentcustomerid" }

[tables.row]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", operation = "wa_lastoperation" }
columns = ["wa_name", "wa_attempts", "wa_notes", "wa_email"]
alternate_keys = [["wa_externalid"]]
guarded = ["wa_donotcall"]
preserve = ["wa_email"]
"""
SESSION = "planted-session"
ACCOUNT = "b1000000-0000-4000-8000-000000000001"
CONTACT = "b2000000-0000-4000-8000-000000000001"
ROW = "b3000000-0000-4000-8000-000000000001"


def keyed(kind, payload, number=1):
    operation_id = f"{number}-{kind}"
    key = idempotency_key(SESSION, operation_id)
    return KeyedOperation(session_id=SESSION, id=operation_id, kind=kind, key=key, payload=payload)


def seed_rows(sim):
    """An account, a contact and a row of the call queue, as others made them."""
    sim.seed("accounts", {"accountid": ACCOUNT, "name": "Ada Ltd", "accountnumber": "A-1"})
    sim.seed("contacts", {"contactid": CONTACT, "firstname": "Ada", "donotphone": False})
    sim.seed("wa_callqueues", {"wa_callqueueid": ROW, "wa_name": "Ada", "wa_externalid": "X-1"})


def plan(adapter, *operations):
    return adapter.plan([keyed(kind, payload, n) for n, (kind, payload) in enumerate(operations, start=1)])


def emit_each(adapter, planned):
    return [adapter.emit(operation).outcome for operation in planned]


def emit_change_set(adapter, planned):
    return [receipt.outcome for receipt in adapter.transact(planned)]


def emit_without_replies(sim, adapter, planned):
    """Each write takes effect, its reply is lost, and the next try finds it."""
    for operation in planned:
        sim.faults.add("drop", method="PATCH", apply=True)
        with pytest.raises(TransientDataverseError):
            adapter.emit(operation)
        assert adapter.emit(operation).outcome == "already_applied"


def sent(sim):
    return [
        (request.status, request.if_match, request.if_none_match) for request in sim.requests(method="PATCH")
    ]
