"""A simulator of Dataverse as the adapter contract needs it: read and edited around the adapter."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from writeahead import Operation
from writeahead.adapters.dataverse import adapter_from_settings
from writeahead.adapters.dataverse.protection import Protection
from writeahead.simulator import Settings, Simulator
from writeahead.testing import RemoteRow

SECRET, TENANT = "planted-client-secret", "0f3a6b52-7d0e-4a57-9a53-1d2c3b4a5f60"
# Kind to table, and the columns of its marker.
TABLES = {
    "phone_call_activity": ("phonecalls", "activityid", "wa_sessionid", "wa_operationid"),
    "task": ("tasks", "activityid", "wa_sessionid", "wa_operationid"),
    "queue_status_update": ("wa_callqueues", "wa_callqueueid", "wa_lastsession", "wa_lastoperation"),
}
CONTENT = {
    "phonecalls": ("subject", "description", "phonenumber", "actualdurationminutes", "wa_outcome"),
    "tasks": ("subject", "description", "scheduledend", "prioritycode"),
    "wa_callqueues": ("wa_status", "wa_attempts", "wa_nextattempton", "wa_notes"),
}
# What a person edits: guarded, or content of what was created; and what no operation writes.
EDITS = {
    True: {
        "phonecalls": {"description": "a person's"},
        "tasks": {"description": "a person's"},
        "wa_callqueues": {"wa_attempts": 77},
    },
    False: {"wa_callqueues": {"wa_phonenumber": "+49 30 777"}},
}


class Dataverse:
    """A simulator's database."""

    secrets = (SECRET, TENANT)

    def __init__(self, sim: Simulator) -> None:
        self.sim, self.url = sim, sim.url
        self.operations = {
            "phone_call_activity": lambda: Operation(
                kind="phone_call_activity",
                payload={
                    "subject": "A call",
                    "description": "Said \u00fcber things",
                    "phone_number": "+49 30 1",
                    "outcome": "interested_callback",
                    "duration_minutes": 6,
                },
            ),
            "queue_status_update": self._update,
        }

        if os.environ.get("WRITEAHEAD_TESTS") == "full":
            # Made by the same code as a phone call.
            self.operations["task"] = lambda: Operation(
                kind="task",
                payload={"subject": "Call back", "due": "2026-03-05T09:00:00Z", "priority": "high"},
            )

    def _update(self) -> Operation:
        row_id = self.sim.seed("wa_callqueues", {"wa_name": "Ada", "wa_phonenumber": "+49", "wa_attempts": 1})
        payload = {"row_id": row_id, "status": "callback_requested", "attempts": 2, "notes": "again"}
        return Operation(kind="queue_status_update", payload=payload)

    def adapter(self, url, clock):
        environ = {
            "DATAVERSE_URL": url,
            "DATAVERSE_AUTHORITY": url,
            "DATAVERSE_TENANT_ID": TENANT,
            "DATAVERSE_CLIENT_ID": self.sim.settings.client_id,
            "DATAVERSE_CLIENT_SECRET": SECRET,
            # Its reads would make each of hundreds of trials slower; tests of its own hold the gate.
            "DATAVERSE_READINESS": "off",
        }
        made = adapter_from_settings(environ=environ, timeout=5)
        # One of its own, and by the kit's clock: what one trial was told must not hold up the next.
        made._client._wire._protection = Protection(monotonic=clock.monotonic)
        return made

    def rows(self, operation):
        table, key, session, name = TABLES[operation.kind]
        ours = (operation.session_id, operation.id)
        return [
            RemoteRow(row[key], {column: row[column] for column in CONTENT[table]})
            for row in self.sim.rows(table)
            if (row[session], row[name]) == ours or row[key] == operation.key
        ]

    def snapshot(self):
        return {table: self.sim.rows(table) for table, *_ in TABLES.values()}

    def edit(self, operation, *, guarded):
        table, row_id = TABLES[operation.kind][0], operation.payload.get("row_id", operation.key)
        edit = EDITS[guarded][table]
        self.sim.edit(table, row_id, edit)
        return lambda: edit.items() <= self.sim.row(table, row_id).items()

    def remove(self, operation):
        self.sim.delete("wa_callqueues", operation.payload["row_id"])

    def occupy(self, operation):
        table, key, *_ = TABLES[operation.kind]
        self.sim.seed(table, {key: operation.key, "subject": "Somebody else's"})
        before = self.sim.row(table, operation.key)
        return lambda: self.sim.row(table, operation.key) == before


@contextmanager
def running_dataverse(folder: Path) -> Iterator[Dataverse]:
    """Serve an empty environment."""
    settings = Settings(client_secret=SECRET, tenant_id=TENANT)
    with Simulator(folder / "crm.sqlite", settings=settings) as running:
        yield Dataverse(running)
