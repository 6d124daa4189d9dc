"""A small host with writeahead's runner: it writes the outcome of a call to a CRM.

A run that fails in the middle, or is killed, goes on by the same command, or by `writeahead sweep
--adapter with_write_back:Crm --write`.

CRM_URL=http://... python with_write_back.py call.json
"""

import os
import sys
import uuid
from pathlib import Path

import httpx
from pydantic import BaseModel

from writeahead import Adapter, Operation, PlannedOperation, RunPolicy, emits, open_store, write_back
from writeahead.errors import PermanentError, TransientError

WAITS = (0.05, 0.1, 0.2)


class Call(BaseModel):
    id: str
    summary: str
    follow_up: str


class Row(BaseModel):
    key: str
    text: str


class Outcome(BaseModel):
    call: Call
    rows: list[Row]


class CrmUnavailable(TransientError):
    """Worth another try later."""


class CrmRejected(PermanentError):
    """An operator has to look."""


def plan(call: Call) -> Outcome:
    texts = {"activity": call.summary, "queue": "done", "task": call.follow_up}
    keys = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"{call.id}/{name}")) for name in texts}
    return Outcome(call=call, rows=[Row(key=keys[name], text=text) for name, text in texts.items()])


def send(row: Row, crm: httpx.Client) -> None:
    reply = crm.put(f"/rows/{row.key}", json=row.text)
    if reply.is_success:
        return
    if reply.is_client_error:
        raise CrmRejected(f"PUT /rows: HTTP {reply.status_code}")
    raise CrmUnavailable(f"PUT /rows: HTTP {reply.status_code}")


class Crm(Adapter):
    name = "crm"

    def __init__(self) -> None:
        self.http = httpx.Client(base_url=os.environ["CRM_URL"])

    @emits("upsert")
    def emit_row(self, payload: Row, operation: PlannedOperation) -> None:
        send(payload, self.http)


def finish(call: Call) -> None:
    rows = [Operation(kind="row", payload=row) for row in plan(call).rows]
    policy, store = RunPolicy(waits=WAITS), open_store("artifacts")
    report = write_back(rows, session_id=call.id, store=store, adapter=Crm(), policy=policy)
    if report.status == "blocked":
        raise report.cause or CrmRejected(f"{report.error}")
    if not report.ok:
        raise report.cause or CrmUnavailable(f"{report.error}")


def main(file: str) -> int:
    call = Call.model_validate_json(Path(file).read_bytes())
    try:
        finish(call)
    except CrmUnavailable as error:
        print(f"later: {error}")
        return 75
    except CrmRejected as error:
        print(f"look at it: {error}")
        return 1
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
