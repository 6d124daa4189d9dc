"""The adapter contract on an adapter of coroutines: its planner, its emit method, its client."""

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

import httpx
import pytest
from test_tiny_crm import TinyBackdoor
from tiny_crm import running

from writeahead import Adapter, PlannedOperation, emits
from writeahead.adapters.awaiting import awaited
from writeahead.adapters.base import target_of
from writeahead.adapters.http import remote_errors, require_status
from writeahead.errors import ConflictError, TransientError
from writeahead.model import KeyedOperation, ReplayClass
from writeahead.testing import AdapterContract


@dataclass
class Row:
    text: str


class AsyncCrm(Adapter):
    name = "tiny-crm"

    def __init__(self, url):
        self._url = url
        self._http = httpx.AsyncClient(base_url=url, timeout=5)

    def close(self):
        awaited(self._http.aclose())

    def target(self):
        return target_of(self._url)

    async def plan_row(self, payload: Row, operation: KeyedOperation) -> PlannedOperation:
        row = asdict(payload)
        reply = await self._send("GET", operation.key, known=(200, 404))
        if reply.status_code == 200 and _json(reply) != row:
            raise ConflictError("GET /rows: a session of this id wrote other content")
        return PlannedOperation(
            id=operation.id, kind=operation.kind, key=operation.key, payload=row, replay=ReplayClass.UPSERT
        )

    @emits("upsert")
    async def emit_row(self, payload: Row, operation: PlannedOperation) -> None:
        await self._send("PUT", operation.key, known=(201, 204), row=asdict(payload))

    async def _send(self, method, key, known, row=None):
        with remote_errors(f"{method} /rows"):
            reply = await self._http.request(method, f"/rows/{key}", json=row)
            require_status(reply, *known)
        return reply


def _json(reply):
    try:
        return json.loads(reply.content)
    except ValueError:
        raise TransientError("GET /rows: not JSON") from None


class AsyncBackdoor(TinyBackdoor):
    def adapter(self, url, _clock):
        return AsyncCrm(url)


@pytest.fixture(scope="module")
def backdoor():
    with running() as crm:
        yield AsyncBackdoor(crm)


class TestAsyncCrm(AdapterContract):
    impossible: ClassVar = {
        "edit": "no other client writes to this CRM",
        "rotated": "this CRM asks for no secret",
    }
