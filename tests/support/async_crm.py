"""An adapter of coroutines for the remote of `tests.support.crm`, whose client it keeps."""

import asyncio
from dataclasses import dataclass

import httpx

from writeahead import Adapter, PlannedOperation, Receipt, emits
from writeahead.adapters.awaiting import awaited
from writeahead.adapters.http import remote_errors, require_status


@dataclass
class Line:
    text: str


class AsyncCrmAdapter(Adapter):
    """Sends to a `Crm`.

    ``seen``: called in each coroutine, before it sends.
    """

    name = "async-crm"

    def __init__(self, url, seen=lambda: None):
        self.seen = seen
        self._http = httpx.AsyncClient(base_url=url, timeout=30)

    async def aclose(self):
        await self._http.aclose()

    def close(self):
        awaited(self.aclose())

    async def _send(self, method, operation):
        self.seen()
        with remote_errors(f"{method} /{operation.kind}"):
            reply = await self._http.request(method, f"/{operation.kind}/{operation.key}", content=b"{}")
            require_status(reply, 201, 412)
        outcome = "already_applied" if reply.status_code == 412 else "applied"
        return Receipt(remote_id=operation.key, outcome=outcome)

    @emits("create_with_key")
    async def emit_row(self, payload: Line, operation: PlannedOperation) -> Receipt:
        return await self._send("PUT", operation)

    @emits("unprovable")
    async def emit_mail(self, payload: Line, operation: PlannedOperation) -> None:
        await self._send("POST", operation)


async def arrival(crm):
    """Wait until a request has arrived, without holding up the loop."""
    await asyncio.get_running_loop().run_in_executor(None, crm.arrived.acquire)
