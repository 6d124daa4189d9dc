"""Write to a system that you don't own, lose it half-way, and send only the missing writes.

python examples/quickstart.py
"""

import httpx
from pydantic import BaseModel
from tiny_crm import running

from writeahead import (
    Adapter,
    PlannedOperation,
    Receipt,
    RunPolicy,
    emits,
    open_store,
    resume_session,
    write_back,
)
from writeahead.adapters.base import target_of
from writeahead.errors import TransientError


class Row(BaseModel):
    text: str


class Crm(Adapter):
    name = "crm"

    def __init__(self, url: str) -> None:
        self.url = url

    def target(self) -> str:
        return target_of(self.url)

    @emits("upsert")  # same key, same content: sending it again does no harm
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        try:
            httpx.put(f"{self.url}/rows/{operation.key}", json=payload.model_dump()).raise_for_status()
        except httpx.HTTPError as error:
            raise TransientError(f"PUT /rows: {type(error).__name__}") from error
        return Receipt(remote_id=operation.key)


with running() as crm:
    crm.outage_after = 2  # the third write will meet 503 until the retries are used up

    store = open_store("./artifacts")  # or s3://bucket/prefix
    rows = [{"kind": "row", "payload": {"text": text}} for text in ("call", "queue", "follow-up")]
    policy = RunPolicy(wait_initial=0.05)
    report = write_back(rows, session_id="call-7", store=store, adapter=Crm(crm.url), policy=policy)
    print(f"run:    {report.status}, {len(crm.rows)} rows after {len(crm.requests)} requests")

    crm.outage_after = None  # later, in any process, on any machine that reaches the store
    report = resume_session("call-7", store=store, adapter=Crm(crm.url))
    print(f"resume: {report.status}, {len(crm.rows)} rows after {len(crm.requests)} requests")
