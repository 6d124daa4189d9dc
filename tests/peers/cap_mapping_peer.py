"""A mapping of one's own on SAP CAP: find_by, a marker, warnings_to, parties, callers' baselines.

For ``nox -s peers``. Parties are addresses here; stored values are Dataverse's own, as definitions
are.
"""

import uuid

import pytest

from tests.peers.cap_peer import Tables
from tests.peers.cap_server import running_cap
from writeahead import Operation
from writeahead.testing import AdapterContract, RemoteRow

MAPPING = """
[tables.call]
entity_set = "phonecalls"
key = "activityid"
columns = ["subject", "category", "phonenumber"]
phones = ["phonenumber"]
find_by = ["category"]
marker = { session = "wa_sessionid", length = 128 }
warnings_to = { column = "wa_warnings", length = 2000 }

[tables.call.parties]
navigation = "phonecall_activity_parties"
unresolved = ["from", "to"]

[tables.row]
entity_set = "wa_callqueues"
key = "wa_callqueueid"
columns = ["wa_name", "wa_notes", "wa_phonenumber"]
phones = ["wa_phonenumber"]
guarded = ["wa_attempts"]
marker = { session = "wa_lastsession", length = 128 }
warnings_to = { column = "wa_warnings", length = 2000 }
"""
# No telephone number in international format: that is a warning.
WRITTEN = {"wa_notes": "\u00fcber things", "wa_phonenumber": "extension 12"}
CONTENT = {
    "phonecalls": ("subject", "phonenumber", "wa_warnings"),
    "wa_callqueues": ("wa_notes", "wa_phonenumber", "wa_warnings"),
}
LOADED = ("wa_callqueueid", "wa_attempts", "wa_notes", "wa_phonenumber", "wa_lastsession")


class AnyTables(Tables):
    """Operations on declared tables; an update comes with what its caller has loaded."""

    def __init__(self, cap, mapping) -> None:
        super().__init__(cap)
        mapping.write_text(MAPPING)
        self.mapping = mapping
        self.operations = {"create_row": self._create, "update_row": self._loaded, "upsert_row": self._upsert}

    def _create(self):
        # The quotes show how CAP reads a text in a filter.
        columns = {"subject": "A call", "category": f"it's {uuid.uuid4().hex}", "phonenumber": "extension 12"}
        parties = [{"role": "from", "address": "+49 30 1"}, {"role": "to", "address": "+49 30 2"}]
        return Operation(kind="create_row", payload={"table": "call", "columns": columns, "parties": parties})

    def _loaded(self):
        row_id = str(uuid.uuid4())
        row = {"wa_callqueueid": row_id, "wa_name": "Ada", "wa_attempts": 1}
        self.cap.send("POST", "wa_callqueues", row)
        payload = {"table": "row", "row_id": row_id, "columns": WRITTEN}
        update = Operation(kind="update_row", payload=payload)
        return update.model_copy(update={"baseline": self.baseline(update)})

    def _upsert(self):
        payload = {"table": "row", "row_id": str(uuid.uuid4()), "columns": WRITTEN}
        return Operation(kind="upsert_row", payload=payload)

    def other_content(self, operation):
        name = "subject" if operation.kind == "create_row" else "wa_notes"
        columns = {**operation.payload["columns"], name: "something else"}
        return operation.model_copy(update={"payload": {**operation.payload, "columns": columns}})

    def rows(self, operation):
        mark = f"{operation.session_id}/{operation.id}"
        if operation.kind == "create_row":
            same = operation.payload["columns"]["category"]
            where = "activityid = ? OR wa_sessionid = ? OR category = ?"
            calls = self._found("phonecalls", "activityid", where, operation.key, mark, same)
            return [RemoteRow(call.id, {**call.content, "parties": self._parties(call.id)}) for call in calls]
        own = operation.payload["row_id"] if operation.kind == "upsert_row" else operation.key
        where = "wa_callqueueid = ? OR wa_lastsession = ?"
        return self._found("wa_callqueues", "wa_callqueueid", where, own, mark)

    def _found(self, table, key, where, *values):
        names = CONTENT[table]
        found = self._select(
            f"SELECT {key}, {', '.join(names)} FROM Dataverse_{table} WHERE {where}", *values
        )
        return [RemoteRow(one, dict(zip(names, rest, strict=True))) for one, *rest in found]

    def _parties(self, row_id):
        return self._select(
            "SELECT participationtypemask, addressused FROM Dataverse_activityparties"
            " WHERE _activityid_value = ? ORDER BY participationtypemask",
            row_id,
        )

    def edit(self, operation, *, guarded):
        if operation.kind == "create_row":
            table, key, row_id = "phonecalls", "activityid", operation.key
            column, value = "subject", "another user's"
        else:
            table, key, row_id = "wa_callqueues", "wa_callqueueid", operation.payload["row_id"]
            column, value = ("wa_attempts", 77) if guarded else ("wa_email", "ada@example.com")
        self.cap.send("PATCH", f"{table}({row_id})", {column: value})
        look = f"SELECT {column} FROM Dataverse_{table} WHERE {key} = ?"
        return lambda: self._select(look, row_id) == [(value,)]

    def baseline(self, operation):
        """Without its version: the columns must tell."""
        look = f"SELECT {', '.join(LOADED)} FROM Dataverse_wa_callqueues WHERE wa_callqueueid = ?"
        ((*values,),) = self._select(look, operation.payload["row_id"])
        return {"columns": dict(zip(LOADED, values, strict=True))}

    def take_key(self, operation):
        self.cap.send("POST", "phonecalls", {"activityid": operation.key, "subject": "Somebody else's"})
        look = "SELECT * FROM Dataverse_phonecalls WHERE activityid = ?"
        before = self._select(look, operation.key)
        return lambda: self._select(look, operation.key) == before


@pytest.fixture(scope="module", params=[400, 500], ids=["key_exists_400", "key_exists_500"])
def backdoor(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("cap")
    with running_cap(folder, key_exists=request.param) as cap:
        yield AnyTables(cap, folder / "mapping.toml")


class TestMappingOnCap(AdapterContract):
    """Everything that the kit has, twice: an existing key is answered with 400, and with 500."""

    def test_what_is_written(self):
        """The kit compares contents with each other; here is what they are."""
        content = self._cleans["create_row"].content["create_row"]
        assert content["parties"] == [(1, "+49 30 1"), (2, "+49 30 2")]
        assert content["wa_warnings"].startswith("phonenumber is no number")
