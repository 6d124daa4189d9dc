import httpx
from pydantic import BaseModel

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
from writeahead.adapters.http import remote_errors, require_status


class Row(BaseModel):
    text: str


class Crm(Adapter):
    name = "crm"

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def target(self) -> str:
        return target_of(str(self.http.base_url))

    @emits("upsert")  # same key, same content: sending it again does no harm
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        with remote_errors("PUT /rows"):  # a 503 is tried again; a 404 blocks the session, which names it
            reply = self.http.put(f"/rows/{operation.key}", json=payload.model_dump())
            require_status(reply, 201, 204)
        return Receipt(remote_id=operation.key)


# In place of the network: two writes succeed, four attempts meet an outage, then one succeeds.
answers = iter([201, 201, 503, 503, 503, 503, 201])
network = httpx.MockTransport(lambda _: httpx.Response(next(answers)))
crm = Crm(httpx.Client(base_url="https://crm.example", transport=network))

store = open_store("./artifacts")  # or s3://bucket/prefix
rows = [{"kind": "row", "payload": {"text": text}} for text in ("call", "queue", "follow-up")]
report = write_back(rows, session_id="call-7", store=store, adapter=crm, policy=RunPolicy(wait_initial=0.05))
print("run:   ", report.status, *report.emitted)

# Later, in any process, on any machine that reaches the store:
report = resume_session("call-7", store=store, adapter=crm)
print("resume:", report.status, *report.emitted)
