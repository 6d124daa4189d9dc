"""The small host with writeahead's artifacts; its retries and its models are its own.

The plan is there before the first write. A run that fails in the middle, or is killed, goes on by
the same command, or by `writeahead sweep --own with_artifacts:resume --write`.

CRM_URL=http://... python with_artifacts.py call.json
"""

import os
import sys
import time
import uuid
from pathlib import Path

import httpx
from pydantic import BaseModel

from writeahead import (
    ArtifactStore,
    load_replay_artifact,
    open_store,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)

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


class CrmUnavailable(Exception):
    """Worth another try later."""


class CrmRejected(Exception):
    """An operator has to look."""


def plan(call: Call) -> Outcome:
    texts = {"activity": call.summary, "queue": "done", "task": call.follow_up}
    keys = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"{call.id}/{name}")) for name in texts}
    return Outcome(call=call, rows=[Row(key=keys[name], text=text) for name, text in texts.items()])


def send(row: Row, crm: httpx.Client) -> None:
    for wait in (*WAITS, None):
        reply = crm.put(f"/rows/{row.key}", json=row.text)
        if reply.is_success:
            return
        if reply.is_client_error:
            raise CrmRejected(f"PUT /rows: HTTP {reply.status_code}")
        if wait is not None:
            time.sleep(wait)
    raise CrmUnavailable(f"PUT /rows: HTTP {reply.status_code}")


def carry_out(outcome: Outcome, crm: httpx.Client, store: ArtifactStore) -> None:
    for row in outcome.rows:
        send(row, crm)
    write_writeback_artifact(store, outcome.call.id, outcome)


def finish(call: Call, store: ArtifactStore) -> None:
    write_planned_writeback_artifact(store, call.id, plan(call))
    resume(store, call.id)


def resume(store: ArtifactStore, call_id: str) -> None:
    found = load_replay_artifact(store, call_id, Outcome)
    if not found.finished:
        with httpx.Client(base_url=os.environ["CRM_URL"]) as crm:
            carry_out(found.model, crm, store)


def main(file: str) -> int:
    call = Call.model_validate_json(Path(file).read_bytes())
    try:
        finish(call, open_store("artifacts"))
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
