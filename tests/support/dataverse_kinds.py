"""What Dataverse's adapter can do with a mapping of one's own, as the adapter contract needs it.

The readiness gate is on, so planning takes as many requests as in production. Rows are read from
the simulator's database and judged without the adapter.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from tests.support.dataverse_backdoor import LOADED, SECRET, TENANT, Dataverse
from tests.support.dataverse_elastic import READING
from tests.support.dataverse_values import COLUMNS
from writeahead import Operation
from writeahead.simulators.dataverse import (
    DEFAULT_SCHEMA,
    HUMAN_USER,
    Column,
    Kind,
    Schema,
    Settings,
    Simulator,
)
from writeahead.testing import RemoteRow

__all__ = ["ELASTIC", "EVERYTHING", "REFUSED", "TAKEN", "UNMARKED", "UPSERTED", "Mapped", "Spot", "running"]

DEFAULT = (resources.files("writeahead.adapters.dataverse") / "default_mapping.toml").read_text()
_TWO = 'marker = { session = "wa_sessionid", operation = "wa_operationid" }'
_TWO_OF_THE_QUEUE = 'marker = { session = "wa_lastsession", operation = "wa_lastoperation" }'
_WARNED = 'warnings_to = { column = "wa_warnings", length = 2000 }'
_ONE = f'marker = {{ session = "wa_sessionid", length = 128 }}\n{_WARNED}'
_ONE_OF_THE_QUEUE = f'marker = {{ session = "wa_lastsession", length = 128 }}\n{_WARNED}'
# Each is stored as something else than what is sent; options are sent as the text that the Web API
# takes.
VALUES = {
    "wa_amount": 99.995,
    "wa_price": 99.95,
    "wa_rate": 0.12345,
    "wa_checkin": "2026-03-05T15:00:00+02:00",
    "wa_topics": [9, 1],
    "wa_motto": "two \r\nlines ",
}
# Those of which the service makes one thing only: without a marker, several prove nothing.
_SURE = {name: value for name, value in VALUES.items() if name != "wa_price"} | {"wa_amount": 99.994}
_CALL_COLUMNS = ["subject", "description", "category", "phonenumber", *VALUES]
_CALL = f"""
[tables.call]
entity_set = "phonecalls"
logical_name = "phonecall"
key = "activityid"
columns = {json.dumps(_CALL_COLUMNS)}
guarded = ["leftvoicemail"]
phones = ["phonenumber"]
find_by = ["category"]
"""
_PARTIES = """
[tables.call.parties]
navigation = "phonecall_activity_parties"
from = ["systemusers"]
unresolved = ["to"]

[tables.call.lookups]
ownerid = ["systemusers", "teams"]
"""
_ROW = """
[tables.row]
entity_set = "wa_callqueues"
logical_name = "wa_callqueue"
key = "wa_callqueueid"
columns = ["wa_name", "wa_notes", "wa_attempts", "wa_phonenumber", "wa_email"]
alternate_keys = [["wa_externalid"]]
phones = ["wa_phonenumber"]
"""


def _everything() -> str:
    """The default mapping with one marker column, find_by and warnings_to, and two tables more."""
    text = DEFAULT.replace(_TWO, f'{_ONE}\nfind_by = ["category"]').replace(
        _TWO_OF_THE_QUEUE, _ONE_OF_THE_QUEUE
    )
    # A named phone call has no field for a category.
    text = text.replace('find_by = ["category"]', 'find_by = ["subject"]', 1)
    completed = "completion = { state = { completed = 1, canceled = 2 } }"
    return f"{text}{_CALL}{_ONE}\n{completed}\n{_PARTIES}{_ROW}{_ONE_OF_THE_QUEUE}\n"


def _schema() -> Schema:
    tables = []
    for name in ("phonecalls", "tasks", "wa_callqueues"):
        table = DEFAULT_SCHEMA.get(name)
        assert table is not None
        more = {"wa_warnings": Column(kind=Kind.MEMO, max_length=2000)}
        columns = {**table.columns, **(COLUMNS if name == "phonecalls" else {}), **more}
        unique = (("wa_email",),) if name == "wa_callqueues" else ()
        tables.append(replace(table, columns=columns, unique=unique))
    return DEFAULT_SCHEMA.with_tables(*tables, READING)


@dataclass(frozen=True)
class Spot:
    """Where one kind writes, and how its row is found and edited.

    Attributes:
        make: Makes a payload, and the row that it needs.
        table: The entity set.
        content: The columns that it writes.
        other: Changes to a payload that write something else.
        edits: What another user changes: True in what is guarded, False elsewhere.
        loads: The columns that the caller has loaded before; none if it says nothing of them.
        same: Columns that tell a row, with where their values are in the payload.
    """

    make: Callable[[Simulator], dict]
    table: str
    content: tuple[str, ...]
    other: Mapping[str, object]
    edits: Mapping[bool, Mapping[str, object]] = field(default_factory=dict)
    loads: tuple[str, ...] = ()
    same: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _call(_sim: Simulator) -> dict:
    parties = [
        {"role": "from", "entity_set": "systemusers", "id": HUMAN_USER},
        {"role": "to", "address": "+49 30 1"},
    ]
    columns = {"subject": "A call", "category": uuid.uuid4().hex, "phonenumber": "extension 12", **VALUES}
    # It is looked up at planning.
    columns["ownerid"] = {"entity_set": "systemusers", "id": HUMAN_USER}
    return {"table": "call", "columns": columns, "parties": parties}


def _call_again(sim: Simulator) -> dict:
    row_id = sim.seed("phonecalls", {"subject": "A call", "wa_amount": 1})
    return {"table": "call", "row_id": row_id, "columns": {"phonenumber": "extension 12", **VALUES}}


def _call_surely_again(sim: Simulator) -> dict:
    again = _call_again(sim)
    return {**again, "columns": {"phonenumber": "extension 12", **_SURE}}


def _completed(sim: Simulator) -> dict:
    return {"table": "call", "row_id": sim.seed("phonecalls", {"subject": "A call"})}


def _queue_row(**where: object) -> dict:
    columns = {"wa_name": "Ada", "wa_notes": "\u00fcber things", "wa_phonenumber": "extension 12"}
    return {"table": "row", "columns": columns, **where}


def _status(sim: Simulator) -> dict:
    row_id = sim.seed("wa_callqueues", {"wa_name": "Ada", "wa_attempts": 1})
    return {"row_id": row_id, "status": "callback_requested", "attempts": 2, "notes": "again"}


_OTHER_CALL = {"columns": {"subject": "something else"}}
_OTHER_ROW = {"columns": {"wa_notes": "something else"}}
_CALL_EDITS = {True: {"leftvoicemail": True}, False: {"actualdurationminutes": 7}}
_STORED = ("subject", "phonenumber", *VALUES)
_LOADED = ("leftvoicemail", *_STORED)
_QUEUE_CONTENT = ("wa_name", "wa_notes", "wa_phonenumber", "wa_warnings")
_CREATED = Spot(
    make=_call,
    table="phonecalls",
    content=(*_STORED, "wa_warnings"),
    other=_OTHER_CALL,
    edits={True: {"description": "another user's"}},
    same={"category": ("columns", "category")},
)
_UPDATED = Spot(
    make=_call_again,
    table="phonecalls",
    content=(*_STORED, "wa_warnings"),
    other=_OTHER_CALL,
    edits=_CALL_EDITS,
    loads=(*_LOADED, "wa_sessionid"),
)

EVERYTHING = {
    "create_row": _CREATED,
    "update_row": _UPDATED,
    "upsert_row": Spot(
        make=lambda _sim: _queue_row(key={"wa_externalid": uuid.uuid4().hex}),
        table="wa_callqueues",
        content=_QUEUE_CONTENT,
        other=_OTHER_ROW,
        edits={True: {"wa_attempts": 77}},
        same={"wa_externalid": ("key", "wa_externalid")},
    ),
    "complete_activity": Spot(
        make=_completed,
        table="phonecalls",
        content=("statecode", "statuscode"),
        other={"state": "canceled"},
        edits=_CALL_EDITS,
        loads=("leftvoicemail", "statecode", "statuscode", "wa_sessionid"),
    ),
    "queue_status_update": Spot(
        make=_status,
        table="wa_callqueues",
        content=("wa_status", "wa_attempts", "wa_notes"),
        other={"notes": "something else"},
        edits={True: {"wa_donotcall": True}, False: {"wa_name": "Ben"}},
        loads=tuple(name for name in LOADED if name != "wa_lastoperation"),
    ),
    "phone_call_activity": Spot(
        make=lambda _sim: {
            "subject": uuid.uuid4().hex,
            "description": "Said \u00fcber things",
            "phone_number": "extension 12",
            "caller": {"type": "user", "id": HUMAN_USER},
            "callee": {"address": "+49 30 1"},
        },
        table="phonecalls",
        content=("description", "phonenumber", "wa_warnings"),
        other={"description": "something else"},
        edits={True: {"description": "another user's"}},
        same={"subject": ("subject",)},
    ),
    "task": Spot(
        make=lambda _sim: {"subject": "Call back", "category": uuid.uuid4().hex, "priority": "high"},
        table="tasks",
        content=("subject", "prioritycode"),
        other={"description": "something else"},
        edits={True: {"description": "another user's"}},
        same={"category": ("category",)},
    ),
}
# Nothing in the row says who wrote it, so only what is stored can.
UNMARKED = {
    "create_row": replace(_CREATED, content=_STORED),
    "update_row": replace(_UPDATED, make=_call_surely_again, content=_STORED, loads=_LOADED),
}
ELASTIC = {
    "upsert_row": Spot(
        make=lambda _sim: {"table": "reading", "row_id": str(uuid.uuid4()), "columns": {"wa_value": 2}},
        table="wa_readings",
        content=("wa_sensor", "wa_value"),
        other={"columns": {"wa_value": 3}},
        edits={True: {"wa_sensor": "another user's"}},
        same={"wa_readingid": ("row_id",)},
    )
}
# With what its caller has loaded, it is an update of that row.
UPSERTED = {
    "upsert_row": replace(
        EVERYTHING["upsert_row"],
        make=lambda sim: _queue_row(row_id=sim.seed("wa_callqueues", {"wa_name": "Ben"})),
        loads=("wa_name", "wa_notes", "wa_phonenumber", "wa_lastsession"),
        same={"wa_callqueueid": ("row_id",)},
    )
}
_ELASTIC_MAPPING = """
[tables.reading]
entity_set = "wa_readings"
logical_name = "wa_reading"
key = "wa_readingid"
columns = ["wa_sensor", "wa_value"]
elastic = true
"""
# A value that another row has, in an index that no definition shows.
TAKEN = "planted-taken"


def _taken(**where: object) -> dict:
    return {"table": "row", "columns": {"wa_name": "Ada", "wa_email": TAKEN}, **where}


_REFUSED = Spot(make=lambda _sim: _taken(), table="wa_callqueues", content=("wa_name", "wa_email"), other={})
REFUSED = {
    "create_row": _REFUSED,
    "update_row": replace(
        _REFUSED,
        make=lambda sim: _taken(row_id=sim.seed("wa_callqueues", {"wa_name": "Ben"})),
        loads=("wa_name", "wa_email", "wa_lastsession"),
    ),
    "upsert_row": replace(_REFUSED, make=lambda _sim: _taken(row_id=str(uuid.uuid4()))),
}
_MAPPINGS = {
    id(EVERYTHING): _everything(),
    id(UNMARKED): f"{_CALL}{_PARTIES}",
    id(ELASTIC): _ELASTIC_MAPPING,
    id(REFUSED): f"{_ROW}{_ONE_OF_THE_QUEUE}",
    id(UPSERTED): f"{_ROW}{_ONE_OF_THE_QUEUE}",
}


class Mapped(Dataverse):
    """A simulator with a column for everything, and operations by their spots."""

    readiness = "full"

    def __init__(self, sim: Simulator, mapping: Path, spots: Mapping[str, Spot]) -> None:
        super().__init__(sim)
        self.mapping, self.spots = mapping, spots
        self.operations = {kind: self._maker(kind) for kind in spots}

    def _maker(self, kind: str) -> Callable[[], Operation]:
        spot = self.spots[kind]

        def make() -> Operation:
            payload = spot.make(self.sim)
            baseline = self._loaded(spot, payload) if spot.loads else None
            return Operation(kind=kind, payload=payload, baseline=baseline)

        return make

    def _loaded(self, spot: Spot, payload: Mapping[str, object]) -> dict:
        """Without a version, the columns must tell."""
        row = self.sim.row(spot.table, payload["row_id"])
        return {"columns": {name: row[name] for name in spot.loads}}

    def other_content(self, operation):
        changes = dict(self.spots[operation.kind].other)
        if "columns" in changes:
            changes["columns"] = {**operation.payload["columns"], **changes["columns"]}
        return operation.model_copy(update={"payload": {**operation.payload, **changes}})

    def rows(self, operation):
        spot = self.spots[operation.kind]
        key = self.sim.settings.schema.get(spot.table).primary_key
        return [
            RemoteRow(row[key], {name: row[name] for name in spot.content} | self._parties(row))
            for row in self.sim.rows(spot.table)
            if row[key] == operation.key or self._wrote(operation, row) or self._is_same(operation, spot, row)
        ]

    def _wrote(self, operation, row) -> bool:
        """Whether a row has the mark of an operation, in one column or two."""
        ids = (operation.session_id, operation.id)
        marks = [(row.get(f"wa_{one}sessionid"), row.get(f"wa_{one}operationid")) for one in ("", "last")]
        marks.append((row.get("wa_lastsession"), row.get("wa_lastoperation")))
        return any(mark in (ids, ("/".join(ids), None)) for mark in marks)

    def _is_same(self, operation, spot, row) -> bool:
        def value(path):
            found = operation.payload
            for name in path:
                found = found[name]
            return found

        return bool(spot.same) and all(row[name] == value(path) for name, path in spot.same.items())

    def snapshot(self):
        return {
            name: self.sim.rows(name)
            for name in ("phonecalls", "tasks", "wa_callqueues", "wa_readings", "activityparties")
        }

    def edit(self, operation, *, guarded):
        spot = self.spots[operation.kind]
        row_id = operation.payload.get("row_id") or self.rows(operation)[0].id
        edit = spot.edits[guarded]
        self.sim.edit(spot.table, row_id, edit)
        return lambda: edit.items() <= self.sim.row(spot.table, row_id).items()

    def baseline(self, operation):
        return self._loaded(self.spots[operation.kind], operation.payload)

    def remove(self, operation):
        self.sim.delete(self.spots[operation.kind].table, operation.payload["row_id"])

    def take_key(self, operation):
        table = self.spots[operation.kind].table
        self.sim.seed(table, {"activityid": operation.key, "subject": "Somebody else's"})
        before = self.sim.row(table, operation.key)
        return lambda: self.sim.row(table, operation.key) == before


class Unmarked(Mapped):
    """The same without marks: a row that has been written to is ours by its content."""

    def _wrote(self, operation, row) -> bool:
        return row["activityid"] == operation.payload.get("row_id") and row["wa_amount"] not in (1, None)


@contextmanager
def running(folder: Path, spots: Mapping[str, Spot]) -> Iterator[Mapped]:
    """Serve an empty environment, and map what the spots need."""
    settings = Settings(client_secret=SECRET, tenant_id=TENANT, schema=_schema())
    mapping = folder / "kinds.toml"
    mapping.write_text(_MAPPINGS[id(spots)])
    make = Unmarked if spots is UNMARKED else Mapped
    with Simulator(folder / "crm.sqlite", settings=settings) as sim:
        yield make(sim, mapping, spots)
