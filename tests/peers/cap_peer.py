"""The Dataverse adapter keeps the adapter contract on SAP CAP, an OData v4 server of others.

For ``nox -s peers``.
"""

import sqlite3
import uuid
from contextlib import closing

import pytest

from tests.peers.cap_server import Cap, running_cap
from tests.support.dataverse_backdoor import LOADED
from writeahead import Operation
from writeahead.adapters.dataverse import DataverseAdapter
from writeahead.adapters.dataverse.webapi.protection import Protection
from writeahead.testing import AdapterContract, RemoteRow

TOKEN = "planted-bearer-token"
# Kind to table, key column, and the columns of its marker.
TABLES = {
    "phone_call_activity": ("phonecalls", "activityid", "wa_sessionid", "wa_operationid"),
    "task": ("tasks", "activityid", "wa_sessionid", "wa_operationid"),
    "queue_status_update": ("wa_callqueues", "wa_callqueueid", "wa_lastsession", "wa_lastoperation"),
}
CONTENT = {
    "phonecalls": (
        "subject",
        "description",
        "wa_outcome",
        "actualend",
        "regardingobjectid_contact_phonecall_contactid",
    ),
    "tasks": ("subject", "scheduledend", "prioritycode"),
    "wa_callqueues": ("wa_status", "wa_attempts", "wa_nextattempton", "wa_notes"),
}
EDITS = {
    ("phonecalls", True): ("description", "another user's"),
    ("tasks", True): ("description", "another user's"),
    ("wa_callqueues", True): ("wa_attempts", 77),
    ("wa_callqueues", False): ("wa_phonenumber", "+49 30 777"),
}
CONTACT = "c0000000-0000-4000-8000-000000000001"


class Tables:
    """What CAP keeps, read from its SQLite file; edits of others go through its Web API."""

    secrets = (TOKEN,)
    # The default one.
    mapping = None

    def __init__(self, cap: Cap) -> None:
        self.cap, self.url = cap, cap.url
        self.cap.send("POST", "contacts", {"contactid": CONTACT, "fullname": "Ada Brandt"})
        self.operations = {
            "phone_call_activity": lambda: Operation(
                kind="phone_call_activity",
                payload={
                    "subject": "A call",
                    "description": "Said \u00fcber things",
                    "outcome": "interested_callback",
                    "actual_end": "2026-03-02T10:06:00+01:00",
                    "regarding": {"type": "contact", "id": CONTACT},
                },
            ),
            "task": lambda: Operation(
                kind="task",
                payload={"subject": "Call back", "due": "2026-03-05T09:00:00Z", "priority": "high"},
            ),
            "queue_status_update": self._update,
        }

    def _update(self) -> Operation:
        row_id = str(uuid.uuid4())
        row = {"wa_callqueueid": row_id, "wa_name": "Ada", "wa_attempts": 1}
        self.cap.send("POST", "wa_callqueues", row)
        payload = {
            "row_id": row_id,
            "status": "callback_requested",
            "attempts": 2,
            "next_attempt_at": "2026-03-05T09:00:00Z",
            "notes": "again",
        }
        return Operation(kind="queue_status_update", payload=payload)

    def adapter(self, url, clock):
        # Table definitions are Dataverse's own.
        # One protection for each trial, by the kit's clock.
        protection = Protection(monotonic=clock.monotonic)
        return DataverseAdapter(
            url,
            lambda: TOKEN,
            mapping=self.mapping,
            timeout=10,
            protection=protection,
            readiness="off",
            now=clock.now,
        )

    def rotated(self, url, clock):
        return DataverseAdapter(url, lambda: "planted-new-token", mapping=self.mapping, readiness="off")

    def other_content(self, operation):
        notes = {"queue_status_update": "notes"}.get(operation.kind, "description")
        return operation.model_copy(update={"payload": {**operation.payload, notes: "something else"}})

    def rows(self, operation):
        table, key, session, name = TABLES[operation.kind]
        sql = f"SELECT {key}, {', '.join(CONTENT[table])} FROM Dataverse_{table} WHERE {key} = ?"
        found = self._select(
            f"{sql} OR ({session} = ? AND {name} = ?)", operation.key, operation.session_id, operation.id
        )
        return [RemoteRow(one, dict(zip(CONTENT[table], rest, strict=True))) for one, *rest in found]

    def snapshot(self):
        return [self._select(f"SELECT * FROM Dataverse_{table}") for table, *_ in TABLES.values()]

    def edit(self, operation, *, guarded):
        table, key, *_ = TABLES[operation.kind]
        row_id = operation.payload.get("row_id", operation.key)
        column, value = EDITS[table, guarded]
        self.cap.send("PATCH", f"{table}({row_id})", {column: value})
        look = f"SELECT {column} FROM Dataverse_{table} WHERE {key} = ?"
        return lambda: self._select(look, row_id) == [(value,)]

    def baseline(self, operation):
        """Without its version: the columns must tell."""
        look = f"SELECT {', '.join(LOADED)} FROM Dataverse_wa_callqueues WHERE wa_callqueueid = ?"
        ((*values,),) = self._select(look, operation.payload["row_id"])
        columns = dict(zip(LOADED, values, strict=True))
        return {"columns": {**columns, "wa_donotcall": columns["wa_donotcall"] and True}}

    def remove(self, operation):
        self.cap.send("DELETE", f"wa_callqueues({operation.payload['row_id']})")

    def take_key(self, operation):
        table, key, *_ = TABLES[operation.kind]
        self.cap.send("POST", table, {key: operation.key, "subject": "Somebody else's"})
        look = f"SELECT * FROM Dataverse_{table} WHERE {key} = ?"
        before = self._select(look, operation.key)
        return lambda: self._select(look, operation.key) == before

    def _select(self, sql, *parameters):
        with closing(sqlite3.connect(self.cap.file, timeout=30)) as connection:
            return connection.execute(sql, parameters).fetchall()


@pytest.fixture(scope="module", params=[400, 500], ids=["key_exists_400", "key_exists_500"])
def backdoor(tmp_path_factory, request):
    with running_cap(tmp_path_factory.mktemp("cap"), key_exists=request.param) as cap:
        yield Tables(cap)


class TestDataverseOnCap(AdapterContract):
    """Everything that the kit has, twice: an existing key is answered with 400, and with 500."""
