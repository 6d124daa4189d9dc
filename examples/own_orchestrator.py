"""Your own orchestrator and models, with the three artifact functions of writeahead only.

They keep two promises for you. The plan is durable before the first request, and the final artifact
exists only after you say that all is done. Sending, retrying and recognizing earlier requests are
up to you.

python examples/own_orchestrator.py
"""

import contextlib
import uuid

import httpx
from pydantic import BaseModel
from tiny_crm import running

from writeahead import (
    ArtifactStore,
    ResumeError,
    load_replay_artifact,
    open_store,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)


class Write(BaseModel):
    """One row for the CRM. Its key is chosen before the first request, so a replay is harmless."""

    key: str
    text: str
    confirmed: bool = False


class Outcome(BaseModel):
    """The outcome of a call. In the plan no write is confirmed, in the final artifact all are."""

    call: str
    writes: list[Write]


def send(write: Write, crm_url: str) -> Write:
    httpx.put(f"{crm_url}/rows/{write.key}", json={"text": write.text}).raise_for_status()
    return write.model_copy(update={"confirmed": True})


def carry_out(outcome: Outcome, store: ArtifactStore, crm_url: str) -> None:
    done = [send(write, crm_url) for write in outcome.writes]
    write_writeback_artifact(store, outcome.call, outcome.model_copy(update={"writes": done}))


def record(call: str, texts: list[str], store: ArtifactStore, crm_url: str) -> str:
    """Write a call's outcome to the CRM, plan first; go on with the plan if there is one."""
    with contextlib.suppress(ResumeError):
        return resume(call, store, crm_url)
    outcome = Outcome(call=call, writes=[Write(key=str(uuid.uuid4()), text=text) for text in texts])
    write_planned_writeback_artifact(store, call, outcome)
    carry_out(outcome, store, crm_url)
    return "done"


def resume(call: str, store: ArtifactStore, crm_url: str) -> str:
    """Send a call's outcome again as planned, unless all is done: the CRM recognizes its keys."""
    replay = load_replay_artifact(store, call, Outcome)
    if replay.finished:
        return "was done before"
    carry_out(replay.model, store, crm_url)
    return "done"


with running() as crm:
    store = open_store("./own-artifacts")

    crm.outage_after = 1
    try:
        print(f"record: {record('call-8', ['call', 'follow-up'], store, crm.url)}")
    except httpx.HTTPStatusError as error:
        print(f"record: {error.response.status_code}, rows in the CRM: {len(crm.rows)}")

    crm.outage_after = None
    print(f"resume: {resume('call-8', store, crm.url)}, rows in the CRM: {len(crm.rows)}")

    try:
        resume("call-9", store, crm.url)
    except ResumeError as error:
        print(f"resume: {str(error).split(' is in ')[0]}")
