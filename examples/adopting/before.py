"""A small host before it adopts writeahead: it writes the outcome of a call to a CRM.

Its retries are its own, and `writeback.json` comes after the last write. A run that fails in the
middle, or is killed, leaves nothing to go on from.

CRM_URL=http://... python before.py call.json
"""

import json
import os
import sys
import time
import uuid
from pathlib import Path

import httpx
from pydantic import BaseModel

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


def carry_out(outcome: Outcome, crm: httpx.Client, folder: Path) -> None:
    for row in outcome.rows:
        send(row, crm)
    file = folder / outcome.call.id / "writeback.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(outcome.model_dump()))


def finish(call: Call, crm: httpx.Client, folder: Path) -> None:
    carry_out(plan(call), crm, folder)


def main(file: str) -> int:
    call = Call.model_validate_json(Path(file).read_bytes())
    try:
        with httpx.Client(base_url=os.environ["CRM_URL"]) as crm:
            finish(call, crm, Path("artifacts"))
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
