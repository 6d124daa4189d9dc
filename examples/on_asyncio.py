"""The same on asyncio: many sessions on one event loop, with one client for all of them.

python examples/on_asyncio.py
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import httpx
from tiny_crm import running

from writeahead import Adapter, Operation, PlannedOperation, RunReport, awrite_back, emits, open_store
from writeahead.adapters.base import target_of
from writeahead.adapters.http import remote_errors, require_status


@dataclass
class Row:
    text: str


class AsyncCrm(Adapter):
    name = "crm"

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self.http = http

    def target(self) -> str:
        return target_of(self.url)

    @emits("upsert")
    async def emit_row(self, payload: Row, operation: PlannedOperation) -> None:
        with remote_errors("PUT /rows"):
            reply = await self.http.put(f"{self.url}/rows/{operation.key}", json=asdict(payload))
            require_status(reply, 201, 204)


async def write_all(url: str, calls: Sequence[str]) -> list[RunReport]:
    store = open_store("./artifacts")
    async with httpx.AsyncClient() as http:
        adapter = AsyncCrm(url, http)
        runs = [
            awrite_back(
                [
                    Operation(kind="row", payload=Row(f"{text} after {call}"))
                    for text in ("call", "follow-up")
                ],
                session_id=call,
                store=store,
                adapter=adapter,
            )
            for call in calls
        ]
        return await asyncio.gather(*runs)


with running() as crm:
    reports = asyncio.run(write_all(crm.url, [f"call-{number}" for number in range(5)]))
    print(f"{sum(report.ok for report in reports)} sessions completed, {len(crm.rows)} rows")
