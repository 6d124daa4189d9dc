"""Test an adapter of your own against its contract, on the server that it writes to.

pytest examples/test_tiny_crm.py
"""

import json
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from tiny_crm import TinyCrm, running

from writeahead import Adapter, Operation, PlannedOperation, Receipt, emits
from writeahead.adapters.base import target_of
from writeahead.adapters.http import remote_errors, require_status
from writeahead.errors import ConflictError, TransientError
from writeahead.model import KeyedOperation, ReplayClass
from writeahead.protocol.retry import Clock
from writeahead.testing import AdapterContract, RemoteRow


class Row(BaseModel):
    text: str


class Crm(Adapter):
    name = "tiny-crm"

    def __init__(self, url: str) -> None:
        self._url = url
        # Reading the certificates takes longer than all the rest, and without TLS they have no use.
        self._http = httpx.Client(base_url=url, timeout=5, verify=url.startswith("https:"))

    def close(self) -> None:
        self._http.close()

    def target(self) -> str:
        return target_of(self._url)

    def plan_row(self, payload: Row, operation: KeyedOperation) -> PlannedOperation:
        """Refuse an id that was used for other content: its row would be overwritten."""
        row = payload.model_dump()
        reply = self._send("GET", operation.key, known=(200, 404))
        if reply.status_code == HTTPStatus.OK and _json(reply) != row:
            raise ConflictError("GET /rows: a session of this id wrote other content: give this one its own")
        return PlannedOperation(
            id=operation.id, kind=operation.kind, key=operation.key, payload=row, replay=ReplayClass.UPSERT
        )

    @emits("upsert")  # same key, same content: sending it again does no harm
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        self._send("PUT", operation.key, known=(201, 204), row=payload.model_dump())
        return Receipt(remote_id=operation.key)

    def _send(
        self, method: str, key: str, known: Sequence[int], row: dict[str, Any] | None = None
    ) -> httpx.Response:
        with remote_errors(f"{method} /rows"):
            reply = self._http.request(method, f"/rows/{key}", json=row)
            require_status(reply, *known)
        return reply


def _json(reply: httpx.Response) -> object:
    try:
        return reply.json()
    except ValueError:
        raise TransientError("GET /rows: not JSON") from None


class TinyBackdoor:
    """The CRM, reached around the adapter."""

    secrets = ()

    def __init__(self, crm: TinyCrm) -> None:
        self.crm = crm
        self.url = crm.url
        self.operations = {"row": lambda: Operation(kind="row", payload={"text": "call back"})}

    def adapter(self, url: str, _clock: Clock) -> Crm:
        return Crm(url)

    def other_content(self, operation: Operation) -> Operation:
        return operation.model_copy(update={"payload": {"text": "do not call"}})

    def rows(self, operation: KeyedOperation) -> list[RemoteRow]:
        return [RemoteRow(key, json.loads(row)) for key, row in self.crm.rows.items() if key == operation.key]

    def snapshot(self) -> object:
        return dict(self.crm.rows)


@pytest.fixture(scope="module")
def backdoor() -> Iterator[TinyBackdoor]:
    with running() as crm:
        yield TinyBackdoor(crm)


class TestTinyCrm(AdapterContract):
    pass
