"""Test an adapter of your own against its contract, on the server that it writes to.

pytest -p writeahead.testing.summary examples/test_tiny_crm.py
"""

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import ClassVar

import httpx
import pytest
from pydantic import BaseModel
from tiny_crm import TinyCrm, running

from writeahead import Adapter, Operation, PlannedOperation, Receipt, emits
from writeahead.adapters.http import applied_despite, retry_after_seconds
from writeahead.errors import Applied, PermanentError, TransientError
from writeahead.model import KeyedOperation
from writeahead.protocol.retry import Clock
from writeahead.testing import AdapterContract, RemoteRow


class Row(BaseModel):
    text: str


class Crm(Adapter):
    name = "tiny-crm"

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=5)

    def close(self) -> None:
        self._http.close()

    @emits("upsert")  # same key, same content: sending it again does no harm
    def emit_row(self, payload: Row, operation: PlannedOperation) -> Receipt:
        try:
            reply = self._http.put(f"/rows/{operation.key}", json=payload.model_dump())
        except httpx.HTTPError as error:
            what = f"PUT /rows: {type(error).__name__}"
            raise TransientError(what, applied=applied_despite(error)) from None
        if reply.status_code in (201, 204):
            return Receipt(remote_id=operation.key)
        what = f"PUT /rows: HTTP {reply.status_code}"
        wait = retry_after_seconds(reply.headers)
        if reply.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise TransientError(what, applied=Applied.NO, retry_after=wait)
        # This CRM never answers 200, so something else did, such as a proxy.
        if reply.is_server_error or reply.status_code in (200, 408):
            raise TransientError(what, applied=Applied.UNKNOWN, retry_after=wait)
        raise PermanentError(what)


class TinyBackdoor:
    """The CRM, reached around the adapter."""

    secrets = ()

    def __init__(self, crm: TinyCrm) -> None:
        self.crm = crm
        self.url = crm.url
        self.operations = {"row": lambda: Operation(kind="row", payload={"text": "call back"})}

    def adapter(self, url: str, _clock: Clock) -> Crm:
        return Crm(url)

    def rows(self, operation: KeyedOperation) -> list[RemoteRow]:
        return [RemoteRow(key, json.loads(row)) for key, row in self.crm.rows.items() if key == operation.key]

    def snapshot(self) -> object:
        return dict(self.crm.rows)


@pytest.fixture(scope="module")
def backdoor() -> Iterator[TinyBackdoor]:
    with running() as crm:
        yield TinyBackdoor(crm)


class TestTinyCrm(AdapterContract):
    impossible: ClassVar = {"edit": "no other client writes to this CRM"}
