"""Every HTTP fault at every operation, once and forever, and every pair of them, in process.

The remote is the real one of ``reference_remote``, without a network: a fault says whether it got
the request, and what the client got instead of its answer.
"""

import itertools
import os
from collections import Counter
from dataclasses import dataclass

import httpx
import pytest

from tests.support.invariants import POLICY, Invariants, Memory, decide, hours_later, recover
from tests.support.reference_remote import KINDS, OPERATIONS, ReferenceAdapter, Remote
from writeahead import resume_session, write_back
from writeahead.model import RunStatus

FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"


class Cut(httpx.SyncByteStream):
    """A body that breaks off."""

    def __iter__(self):
        yield b'{"key": "'
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


@dataclass(frozen=True)
class Fault:
    name: str
    applied: bool
    status: int = 0
    raises: type[httpx.TransportError] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = b"{}"

    def meet(self, pass_on, request: httpx.Request) -> httpx.Response:
        if self.applied:
            pass_on(request)
        if self.raises:
            raise self.raises(self.name, request=request)
        if self.body is None:
            return httpx.Response(self.status, stream=Cut())
        return httpx.Response(self.status, headers=self.headers, content=self.body)


NEVER_SENT = [Fault("refused", False, raises=httpx.ConnectError)]
NEVER_SENT += [Fault("connect timeout", False, raises=httpx.ConnectTimeout)]
LOST = [
    Fault(f"{name}, {'applied' if applied else 'not applied'}", applied, raises=kind)
    for name, kind in (("read timeout", httpx.ReadTimeout), ("reset mid-body", httpx.ReadError))
    for applied in (False, True)
]
REFUSED = [Fault(str(status), False, status) for status in (401, 403, 409, 412, 501)]
THROTTLED = [
    Fault("429 seconds", False, 429, headers=(("Retry-After", "7"),)),
    Fault("429 date", False, 429, headers=(("Retry-After", "Fri, 31 Dec 2027 23:59:59 GMT"),)),
    Fault("429 nothing", False, 429),
]
FAILED = [
    Fault(f"{status}{' applied' * applied}", applied, status)
    for status in (408, 500, 502, 503, 504)
    for applied in (False, True)
]
SPOILT = [
    Fault("cut JSON", True, 201, body=b'{"key": "'),
    Fault("cut off", True, 201, body=None),
    Fault("wrong schema", True, 201, body=b'[{"error": null}]'),
]
FAULTS = NEVER_SENT + LOST + REFUSED + THROTTLED + FAILED + SPOILT
SPECS = [(kind, fault, for_ever) for kind in KINDS for fault in FAULTS for for_ever in (False, True)]


class FaultyRemote(httpx.BaseTransport):
    """A remote and the faults of its next requests; each comes once, or until it is taken away."""

    def __init__(self, remote: Remote, specs) -> None:
        self.remote, self.specs = remote, dict(enumerate(specs))
        self.met: set[int] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        for number, (kind, fault, for_ever) in self.specs.items():
            if request.url.path.startswith(f"/{kind}/"):
                self.met.add(number)
                if not for_ever:
                    del self.specs[number]
                return fault.meet(self._pass_on, request)
        return self._pass_on(request)

    def take_away_what_was_met(self) -> None:
        self.specs = {number: spec for number, spec in self.specs.items() if number not in self.met}

    def _pass_on(self, request: httpx.Request) -> httpx.Response:
        status, body = self.remote.answer(request.method, request.url.path, request.headers, request.content)
        return httpx.Response(status, content=body)


ENDS = {RunStatus.COMPLETED, RunStatus.RESUME_NEEDED, RunStatus.BLOCKED}
# Beyond the date of the Retry-After.
YEARS = 24 * 366 * 3


def survive(specs) -> tuple[str, int]:
    """Run and resume with the faults; then take away each that was met, and finish the session.

    Returns:
        What the run came to, and how many of the faults were met.
    """
    remote = Remote()
    transport = FaultyRemote(remote, specs)
    adapter = ReferenceAdapter(remote.url, transport=transport)
    place = Memory()
    invariants = Invariants(place, remote)
    means = {"store": place.open(), "adapter": adapter, "policy": POLICY}
    try:
        report = write_back(OPERATIONS, session_id="s1", clock=hours_later(), **means)
        invariants.look()
        assert report.status in ENDS
        assert report.status is RunStatus.COMPLETED or report.error
        outcome = f"{report.status} {report.block_reason or ''}".strip()
        again = resume_session("s1", clock=hours_later(1), **means)
        invariants.look()
        assert again.status in {*ENDS, RunStatus.NO_RESUME_NEEDED}
        assert transport.met
        hours = YEARS
        while again.status not in (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED):
            transport.take_away_what_was_met()
            if not transport.specs:
                break
            if again.status is RunStatus.BLOCKED:
                decide(again, remote, place.open())
            again = resume_session("s1", clock=hours_later(hours), **means)
            invariants.look()
            hours += YEARS
        transport.specs.clear()
        recover(place, remote, invariants, hours, adapter)
    except BaseException as error:
        error.add_note("; ".join(f"{kind}: {fault.name}{' forever' * ever}" for kind, fault, ever in specs))
        raise
    finally:
        adapter.close()
    return outcome, len(transport.met)


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for_ever"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_at_each_operation(fault, for_ever):
    outcomes = Counter(survive([(kind, fault, for_ever)])[0] for kind in KINDS)
    if for_ever:
        assert "completed" not in outcomes
    elif fault in NEVER_SENT:
        assert outcomes == {"completed": len(KINDS)}


def settles(first, second) -> bool:
    """Whether nothing is sent any more after the first fault that the second could befall."""
    return first[0] == second[0] == "mail" and first[1].applied


@pytest.mark.timeout(3000)
def test_pairs_of_faults(chance):
    pairs = list(itertools.combinations(SPECS, 2)) + [(spec, spec) for spec in SPECS]
    if not FULL:
        pairs = chance.sample(pairs, 150)
    outcomes, both = Counter(), 0
    for pair in pairs:
        outcome, met = survive(pair)
        outcomes[outcome] += 1
        both += met == 2
        assert met == 2 or settles(*pair), pair
    print(f"{both} pairs of {len(pairs)} where both were met: {dict(outcomes)}")
    assert len(outcomes) >= 4
