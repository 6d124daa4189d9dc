"""A payment service whose idempotency keys are a cache of answers, and an adapter for it.

It behaves as Stripe's API v1 says of itself ("Idempotent requests", docs.stripe.com/api): the first
answer of a key is kept, a 500 too, and comes again; the same key with another body is refused; what
is refused before it begins (a 429) is not kept; a key is forgotten after 24 hours.

    POST /charges       Idempotency-Key: KEY     201, or what the key was answered first
    GET  /charges?reference=KEY                  those that were made with this reference
"""

import json
from datetime import timedelta

import httpx
from pydantic import BaseModel

from writeahead import Adapter, PlannedOperation, Receipt, emits
from writeahead.adapters.base import target_of
from writeahead.adapters.http import applied_despite
from writeahead.errors import Applied, ConflictError, PermanentError, TransientError

LIFE = timedelta(hours=24)
URL = "https://payments.example.com"


class KeyedService:
    """The truth: the charges that were made.

    ``meets`` says what becomes of the next POSTs: ``lost request``, ``lost reply``, ``429``,
    ``500`` (nothing was charged), or ``500, charged``.
    """

    def __init__(self, clock) -> None:
        self.clock = clock
        self.charges: list[dict] = []
        self.requests: list[str] = []
        self.meets: list[str] = []
        self._answers: dict[str, tuple] = {}

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.method)
        if request.method == "GET":
            wanted = request.url.params["reference"]
            return httpx.Response(200, json=[x for x in self.charges if x["reference"] == wanted])
        meets = self.meets.pop(0) if self.meets else ""
        if meets == "lost request":
            raise httpx.ReadTimeout("planted", request=request)
        if meets == "429":
            return httpx.Response(429, headers={"Retry-After": "30"})
        status, body, replayed = self._post(request.headers["Idempotency-Key"], request.content, meets)
        if meets == "lost reply":
            raise httpx.ReadTimeout("planted", request=request)
        return httpx.Response(status, json=body, headers={"Idempotent-Replayed": "true"} if replayed else {})

    def _post(self, key: str, content: bytes, meets: str) -> tuple[int, dict, bool]:
        known = self._answers.get(key)
        if known and self.clock.now() - known[0] < LIFE:
            _, first, status, body = known
            return (status, body, True) if content == first else (400, {"type": "idempotency_error"}, False)
        status, body = 500, {}
        if meets != "500":
            charge = {"id": f"ch_{len(self.charges) + 1}", **json.loads(content)}
            self.charges.append(charge)
            if meets != "500, charged":
                status, body = 201, charge
        self._answers[key] = self.clock.now(), content, status, body
        return status, body, False


class Charge(BaseModel):
    amount: int


class Charges(Adapter):
    """Charges once. Its reference can be searched when the key is forgotten."""

    name = "charges"
    request_lifetime = 60.0

    def __init__(self, service: KeyedService) -> None:
        transport = httpx.MockTransport(service.handle)
        self._http = httpx.Client(base_url=URL, transport=transport, trust_env=False, verify=False)

    def target(self) -> str:
        return target_of(URL)

    @emits("create_with_key", key_valid_for=LIFE)
    def emit_charge(self, payload: Charge, operation: PlannedOperation) -> Receipt:
        body = {"amount": payload.amount, "reference": operation.key}
        try:
            reply = self._http.post("/charges", json=body, headers={"Idempotency-Key": operation.key})
        except httpx.HTTPError as error:
            raise TransientError("POST /charges: no reply", applied=applied_despite(error)) from None
        what = f"POST /charges: HTTP {reply.status_code}"
        if reply.status_code == 201:
            return Receipt(remote_id=reply.json()["id"])
        if reply.status_code == 429:
            raise TransientError(what, applied=Applied.NO, retry_after=float(reply.headers["Retry-After"]))
        if reply.status_code == 400:
            raise ConflictError(f"{what}: the key was used for another charge")
        if "Idempotent-Replayed" not in reply.headers:
            raise TransientError(what, applied=Applied.UNKNOWN)
        # The first request under this key is over, so what is not there now never will be.
        found = self.find_charge(payload, operation)
        if found is None:
            raise PermanentError(f"{what}, which it was before and will be again: it needs a new key")
        return found

    def find_charge(self, payload: Charge, operation: PlannedOperation) -> Receipt | None:
        try:
            reply = self._http.get("/charges", params={"reference": operation.key}).raise_for_status()
        except httpx.HTTPError:
            raise TransientError("GET /charges failed") from None
        found = reply.json()
        return Receipt(remote_id=found[0]["id"], outcome="already_applied") if found else None
