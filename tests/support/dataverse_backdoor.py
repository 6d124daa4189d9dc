"""A simulator of Dataverse as the adapter contract needs it: read and edited around the adapter."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from writeahead import Operation
from writeahead.adapters.dataverse import ClientCredentials, DataverseAdapter
from writeahead.adapters.dataverse.webapi.protection import Protection
from writeahead.simulators.dataverse import HUMAN_USER, Settings, Simulator
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
# What a host reads of a queue row before it calls.
LOADED = (
    *("wa_callqueueid", "statecode", "wa_status", "wa_attempts", "wa_nextattempton", "wa_donotcall"),
    *("wa_email", "wa_notes", "wa_lastsession", "wa_lastoperation"),
)
# What another user edits: guarded columns or created content; and what no operation writes.
EDITS = {
    True: {
        "phonecalls": {"description": "another user's"},
        "tasks": {"description": "another user's"},
        "wa_callqueues": {"wa_attempts": 77},
    },
    False: {"wa_callqueues": {"wa_phonenumber": "+49 30 777"}},
}


def environ_of(sim: Simulator) -> dict[str, str]:
    """What an operator would have set for a simulator, without the readiness check."""
    return {
        "DATAVERSE_URL": sim.url,
        "DATAVERSE_AUTHORITY": sim.url,
        "DATAVERSE_TENANT_ID": sim.settings.tenant_id,
        "DATAVERSE_CLIENT_ID": sim.settings.client_id,
        "DATAVERSE_CLIENT_SECRET": sim.settings.client_secret,
        "DATAVERSE_READINESS": "off",
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
                    "caller": {"type": "user", "id": HUMAN_USER},
                    "callee": {"address": "+49 30 1"},
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

    # The default one.
    mapping = None
    loaded = LOADED
    # The gate's reads would make each of hundreds of trials slower: dataverse_kinds.py has it on.
    readiness = "off"

    def adapter(self, url, clock):
        return self._adapter(url, clock, SECRET)

    def rotated(self, url, clock):
        return self._adapter(url, clock, "planted-new-secret")

    def other_content(self, operation):
        notes = {"queue_status_update": "notes"}.get(operation.kind, "description")
        return operation.model_copy(update={"payload": {**operation.payload, notes: "something else"}})

    def _adapter(self, url, clock, secret):
        token = ClientCredentials(
            url=url,
            tenant_id=TENANT,
            client_id=self.sim.settings.client_id,
            client_secret=secret,
            authority=url,
            timeout=60,
        )
        return DataverseAdapter(
            url,
            token,
            mapping=self.mapping,
            timeout=60,
            # One of its own, and by the kit's clock: a wait of one trial must not hold up the next.
            protection=Protection(monotonic=clock.monotonic),
            readiness=self.readiness,
            now=clock.now,
        )

    def rows(self, operation):
        table, key, session, name = TABLES[operation.kind]
        ours = (operation.session_id, operation.id)
        return [
            RemoteRow(row[key], {column: row[column] for column in CONTENT[table]} | self._parties(row))
            for row in self.sim.rows(table)
            if (row[session], row[name]) == ours or row[key] == operation.key
        ]

    def _parties(self, row):
        """Who takes part in an activity, as often as they do; nothing for other rows."""
        found = [
            (party["participationtypemask"], party.get("_partyid_value"), party.get("addressused"))
            for party in self.sim.rows("activityparties")
            if party["_activityid_value"] == row.get("activityid")
        ]
        return {"parties": sorted(found, key=str)} if found else {}

    def snapshot(self):
        tables = [*(table for table, *_ in TABLES.values()), "activityparties"]
        return {table: self.sim.rows(table) for table in tables}

    def edit(self, operation, *, guarded):
        table, row_id = TABLES[operation.kind][0], operation.payload.get("row_id", operation.key)
        edit = EDITS[guarded][table]
        self.sim.edit(table, row_id, edit)
        return lambda: edit.items() <= self.sim.row(table, row_id).items()

    def baseline(self, operation):
        row = self.sim.row("wa_callqueues", operation.payload["row_id"])
        return {"etag": row["@odata.etag"], "columns": {name: row[name] for name in self.loaded}}

    def remove(self, operation):
        self.sim.delete("wa_callqueues", operation.payload["row_id"])

    def take_key(self, operation):
        table, key, *_ = TABLES[operation.kind]
        self.sim.seed(table, {key: operation.key, "subject": "Somebody else's"})
        before = self.sim.row(table, operation.key)
        return lambda: self.sim.row(table, operation.key) == before


# The operations on any table, on one that is declared here.
ANY_TABLE = """
[tables.row]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
marker = { session = "wa_lastsession", operation = "wa_lastoperation" }
columns = ["wa_name", "wa_notes", "wa_attempts"]
alternate_keys = [["wa_externalid"]]
guarded = ["wa_donotcall"]
"""
WRITTEN = {"wa_name": "Ada", "wa_notes": "\u00fcber things", "wa_attempts": 2}


class AnyTable(Dataverse):
    """The same, with ``create_row``, ``update_row``, and an ``upsert_row`` by an alternate key."""

    loaded = (*LOADED, "wa_name")

    def __init__(self, sim: Simulator, mapping: Path, declared: str) -> None:
        super().__init__(sim)
        default = resources.files("writeahead.adapters.dataverse") / "default_mapping.toml"
        mapping.write_text(default.read_text() + declared)
        self.mapping = mapping
        self.operations = {
            "create_row": lambda: self._operation("create_row"),
            "update_row": lambda: self._operation("update_row", row_id=sim.seed("wa_callqueues", {})),
            "upsert_row": lambda: self._operation("upsert_row", key={"wa_externalid": uuid.uuid4().hex}),
        }

    def _operation(self, kind: str, **where) -> Operation:
        return Operation(kind=kind, payload={"table": "row", "columns": WRITTEN, **where})

    def other_content(self, operation):
        columns = {**operation.payload["columns"], "wa_notes": "something else"}
        return operation.model_copy(update={"payload": {**operation.payload, "columns": columns}})

    def rows(self, operation):
        ours = (operation.session_id, operation.id)
        return [
            RemoteRow(row["wa_callqueueid"], {column: row[column] for column in WRITTEN})
            for row in self.sim.rows("wa_callqueues")
            if (row["wa_lastsession"], row["wa_lastoperation"]) == ours or self._is_of(operation, row)
        ]

    def _is_of(self, operation, row) -> bool:
        key = operation.payload.get("key")
        return row["wa_externalid"] == key["wa_externalid"] if key else row["wa_callqueueid"] == operation.key

    def edit(self, operation, *, guarded):
        (row_id,) = {
            row["wa_callqueueid"]
            for row in self.sim.rows("wa_callqueues")
            if row["wa_callqueueid"] == operation.payload.get("row_id") or self._is_of(operation, row)
        }
        edit = {"wa_donotcall": True} if guarded else {"wa_phonenumber": "+49 30 777"}
        self.sim.edit("wa_callqueues", row_id, edit)
        return lambda: edit.items() <= self.sim.row("wa_callqueues", row_id).items()

    def take_key(self, operation):
        self.sim.seed("wa_callqueues", {"wa_callqueueid": operation.key, "wa_name": "Somebody else's"})
        before = self.sim.row("wa_callqueues", operation.key)
        return lambda: self.sim.row("wa_callqueues", operation.key) == before


@contextmanager
def _running_simulator(folder: Path) -> Iterator[Simulator]:
    settings = Settings(client_secret=SECRET, tenant_id=TENANT)
    with Simulator(folder / "crm.sqlite", settings=settings) as running:
        yield running


@contextmanager
def running_dataverse(folder: Path) -> Iterator[Dataverse]:
    """Serve an empty environment."""
    with _running_simulator(folder) as running:
        yield Dataverse(running)


@contextmanager
def running_any_table(folder: Path, *, guarded: bool = True) -> Iterator[AnyTable]:
    """Serve an empty environment, and map operations on any table, guarded in a column or not."""
    declared = ANY_TABLE if guarded else ANY_TABLE.replace('guarded = ["wa_donotcall"]\n', "")
    with _running_simulator(folder) as running:
        yield AnyTable(running, folder / "any_table.toml", declared)
