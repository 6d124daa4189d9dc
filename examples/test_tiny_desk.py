"""Search, then create: a remote without keys, with retries within the run, and never twice.

pytest examples/test_tiny_desk.py
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, ClassVar

import httpx
import pytest
from pydantic import BaseModel
from tiny_desk import GIVES_UP_AFTER, TinyDesk, running

from writeahead import Adapter, Operation, PlannedOperation, Receipt, RunPolicy, RunReport, emits, write_back
from writeahead.adapters.base import target_of
from writeahead.adapters.http import applied_despite, retry_after_seconds
from writeahead.errors import Applied, ConflictError, PermanentError, TransientError
from writeahead.model import KeyedOperation, ReplayClass, RunStatus
from writeahead.protocol.retry import Clock
from writeahead.stores.memory import MemoryStore
from writeahead.testing import AdapterContract, ManualClock, RemoteRow


class Ticket(BaseModel):
    text: str


class Desk(Adapter):
    name = "tiny-desk"
    # The desk gives up after 10 seconds what it has not begun; the rest is for the way there.
    request_lifetime = GIVES_UP_AFTER + 5

    def __init__(self, url: str) -> None:
        self._url = url
        # Reading the certificates takes longer than all the rest, and without TLS they have no use.
        self._http = httpx.Client(base_url=url, timeout=5, verify=url.startswith("https:"))

    def close(self) -> None:
        self._http.close()

    def target(self) -> str:
        return target_of(self._url)

    def plan_ticket(self, payload: Ticket, operation: KeyedOperation) -> PlannedOperation:
        """Refuse an id that was used: a ticket that is there is of an earlier session."""
        if self._search(operation.key):
            raise ConflictError("GET /tickets: a session of this id made one: give this one its own")
        return PlannedOperation(
            id=operation.id,
            kind=operation.kind,
            key=operation.key,
            payload=payload.model_dump(),
            replay=self.kinds[operation.kind].replay,
        )

    @emits(ReplayClass.LOOKUP)
    def emit_ticket(self, payload: Ticket, operation: PlannedOperation) -> Receipt:
        """Create; the runner has searched before, if an earlier request may have been applied."""
        reply = self._send("POST", HTTPStatus.CREATED, json={"ref": operation.key, "text": payload.text})
        return Receipt(remote_id=_json(reply)["number"])

    def find_ticket(self, payload: Ticket, operation: PlannedOperation) -> Receipt | None:
        found = self._search(operation.key)
        if found and found[0]["text"] != payload.text:
            raise ConflictError("GET /tickets: a session of this id wrote other content")
        return Receipt(remote_id=found[0]["number"], outcome="already_applied") if found else None

    def _search(self, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = _json(self._send("GET", HTTPStatus.OK, params={"ref": key}))
        return found

    def _send(self, method: str, known: HTTPStatus, **request: Any) -> httpx.Response:
        what = f"{method} /tickets"
        try:
            reply = self._http.request(method, "/tickets", **request)
        except httpx.HTTPError as error:
            what = f"{what}: {type(error).__name__}"
            raise TransientError(what, applied=applied_despite(error)) from None
        status, wait = reply.status_code, retry_after_seconds(reply.headers)
        if status == known:
            return reply
        what = f"{what}: HTTP {status}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise TransientError(what, applied=Applied.NO, retry_after=wait)
        # The desk never answers a POST with 200, so something else did, such as a proxy.
        if reply.is_server_error or status in (200, 408):
            raise TransientError(what, applied=Applied.UNKNOWN, retry_after=wait)
        raise PermanentError(what)


def _json(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except ValueError:
        raise TransientError(f"{reply.request.method} /tickets: not JSON") from None


class DeskBackdoor:
    """The desk, reached around the adapter."""

    secrets = ()

    def __init__(self, desk: TinyDesk) -> None:
        self.desk = desk
        self.url = desk.url
        self.operations = {"ticket": lambda: Operation(kind="ticket", payload={"text": "call back"})}

    def adapter(self, url: str, _clock: Clock) -> Desk:
        return Desk(url)

    def other_content(self, operation: Operation) -> Operation:
        return operation.model_copy(update={"payload": {"text": "do not call"}})

    def rows(self, operation: KeyedOperation) -> list[RemoteRow]:
        found = self.desk.find(operation.key)
        return [RemoteRow(str(ticket["number"]), {"text": ticket["text"]}) for ticket in found]

    def snapshot(self) -> object:
        return list(self.desk.tickets)


@pytest.fixture(scope="module")
def backdoor() -> Iterator[DeskBackdoor]:
    with running() as desk:
        yield DeskBackdoor(desk)


class TestTinyDesk(AdapterContract):
    impossible: ClassVar = {"edit": "no other client writes to this desk"}


# The kit takes the adapter's word for how late a request can land. What follows tries that.


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def desk(clock: ManualClock) -> Iterator[TinyDesk]:
    with running(clock.monotonic) as desk:
        yield desk


def run(adapter: Desk, desk: TinyDesk, clock: ManualClock) -> RunReport:
    """One session with retries within the run; then all that is late has landed."""
    policy = RunPolicy(waits=[1, 5, 15], run_limit=120, lease=600)
    ticket = Operation(kind="ticket", payload={"text": "call back"})
    try:
        report = write_back(
            [ticket], session_id="call-7", store=MemoryStore(), adapter=adapter, policy=policy, clock=clock
        )
    finally:
        adapter.close()
    clock.advance(3600)
    desk.catch_up()
    return report


@pytest.mark.parametrize(
    ("late", "posts", "outcome"),
    [
        ([0], 1, "already_applied"),  # only the reply was lost
        ([10], 1, "already_applied"),  # as late as can be
        ([11], 2, "applied"),  # the desk gave it up
        ([11, 11], 3, "applied"),
        ([11, 9.5], 2, "already_applied"),
    ],
)
def test_a_lost_reply_is_settled_within_the_run(
    desk: TinyDesk, clock: ManualClock, late: list[float], posts: int, outcome: str
) -> None:
    desk.late = list(late)
    report = run(Desk(desk.url), desk, clock)
    assert (report.status, report.receipts["1-ticket"].outcome) == (RunStatus.COMPLETED, outcome)
    assert (len(desk.tickets), desk.posts) == (1, posts)


class SearchesInEmit(Desk):
    """A planted bug: the search is no proof while an earlier request is on its way."""

    @emits(ReplayClass.CREATE_WITH_KEY)
    def emit_ticket(self, payload: Ticket, operation: PlannedOperation) -> Receipt:
        return self.find_ticket(payload, operation) or super().emit_ticket(payload, operation)


class TooSure(Desk):
    """A planted bug: nothing ends a request on this desk so soon."""

    request_lifetime = 1.0


@pytest.mark.parametrize(("make", "late"), [(SearchesInEmit, 2), (TooSure, 8)])
def test_a_class_or_a_lifetime_that_is_not_true_makes_two(
    desk: TinyDesk, clock: ManualClock, make: type[Desk], late: float
) -> None:
    desk.late = [late]
    assert run(make(desk.url), desk, clock).ok
    assert desk.tickets == [desk.tickets[0]] * 2
