"""What runs under either version: an adapter for the command line, and the artifact functions.

    python -m writeahead ... --adapter driver:RowsAdapter
    python driver.py plan|final|load STORE SESSION_ID

It uses public names alone, and no package that one of the versions may lack.
"""

import http.client
import json
import os
import sys
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from writeahead import (
    PlannedOperation,
    Receipt,
    emits,
    load_replay_artifact,
    open_store,
    write_planned_writeback_artifact,
    write_writeback_artifact,
)
from writeahead.adapters.base import TransactionalAdapter
from writeahead.errors import Applied, ConflictError, PermanentError, TransientError

# The remote answers with it where this process must end as by kill -9.
DIE = 599
DIED = 9


class Row(BaseModel):
    model_config = ConfigDict(extra="allow")


class RowsAdapter(TransactionalAdapter):
    name = "rows"
    # A request that was sent has arrived or never will: the tests' remote is on loopback.
    request_lifetime = 0.0

    def __init__(self, url):
        self._host = urlsplit(url).netloc

    def _ask(self, method, path, body=None):
        connection = http.client.HTTPConnection(self._host, timeout=30)
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode())
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(f"{method}: {type(error).__name__}", applied=Applied.UNKNOWN) from error
        finally:
            connection.close()
        if answer.status == DIE:
            os._exit(DIED)
        return answer.status, answer.headers

    def _send(self, path, body):
        status, headers = self._ask("POST", path, body)
        if status == 503:
            wait = headers.get("Retry-After")
            raise TransientError("503", applied=Applied.NO, retry_after=float(wait) if wait else None)
        if status == 409:
            raise ConflictError("409")
        if status not in (201, 208):
            raise PermanentError(str(status))
        return "already_applied" if status == 208 else "applied"

    def _emit(self, payload, operation):
        body = payload.model_dump(mode="json")
        outcome = self._send(f"/{operation.kind}/{operation.id}/{operation.key}", body)
        return Receipt(remote_id=operation.key, remote_version="1", outcome=outcome)

    @emits("create_with_key")
    def emit_create(self, payload: Row, operation: PlannedOperation) -> Receipt:
        return self._emit(payload, operation)

    @emits("upsert")
    def emit_upsert(self, payload: Row, operation: PlannedOperation) -> Receipt:
        return self._emit(payload, operation)

    @emits("conditional_update")
    def emit_update(self, payload: Row, operation: PlannedOperation) -> Receipt:
        return self._emit(payload, operation)

    @emits("lookup")
    def emit_lookup(self, payload: Row, operation: PlannedOperation) -> Receipt:
        return self._emit(payload, operation)

    def find_lookup(self, payload: Row, operation: PlannedOperation) -> Receipt | None:
        status, _ = self._ask("GET", f"/find/{operation.key}")
        return Receipt(remote_id=operation.key, outcome="already_applied") if status == 200 else None

    @emits("unprovable")
    def emit_mail(self, payload: Row, operation: PlannedOperation) -> Receipt:
        return self._emit(payload, operation)

    def transact(self, operations):
        rows = {operation.key: operation.payload for operation in operations}
        outcome = self._send("/all/all/all", rows)
        return [Receipt(remote_id=operation.key, outcome=outcome) for operation in operations]


class OwnPlan(BaseModel):
    """What an own orchestrator keeps: a model that is not writeahead's."""

    steps: dict[str, float]
    note: str


OWN = OwnPlan(steps={"first": 0.1, "second": 1e22, "third": 12345678901234567890.0}, note="ä\n\u2028")


def main():
    verb, url, session_id = sys.argv[1:]
    store = open_store(url)
    if verb == "load":
        found = load_replay_artifact(store, session_id, OwnPlan)
        assert found.model == OWN
        print(found.name)
    elif verb == "plan":
        write_planned_writeback_artifact(store, session_id, OWN)
    else:
        write_writeback_artifact(store, session_id, OWN)


if __name__ == "__main__":
    main()
