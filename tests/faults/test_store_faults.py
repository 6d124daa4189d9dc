"""Store faults at each call of a run or a resume, once and forever, on all three backends.

Two layers. A wrapper makes the errors that a store may raise by its contract, on every backend
alike. Below that the backends' own ways to fail: system calls of the folder, HTTP answers of the S3
server.
"""

import contextlib
import errno
import os
import secrets
import threading
from collections import Counter

import httpx
import pytest

from tests.support.invariants import POLICY, Bucket, Folder, Invariants, Memory, hours_later, recover
from tests.support.reference_remote import KINDS, OPERATIONS, ReferenceAdapter, Remote, transport_to
from tests.support.s3_proxy import answer, applied_then, lost_reply, reset_mid_body, truncated
from tests.support.wrappers import WholeListStore
from writeahead import ArtifactStore, open_store, resume_session, write_back
from writeahead.errors import AccessDenied, OutcomeUnknown, ResumeError, StoreError, Unavailable
from writeahead.model import RunStatus
from writeahead.protocol.finding import State, find_sessions
from writeahead.protocol.sweep import sweep
from writeahead.testing import ManualClock
from writeahead.testing.http_proxy import Fault

FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"
ENDS = set(RunStatus) - {RunStatus.PLANNED}


class Calls:
    """Counts calls; says whether the present one is to fail: one of them, or all from there on."""

    def __init__(self, first: int, for_ever: bool) -> None:
        self.first, self.for_ever = first, for_ever
        self.count = self.met = 0
        self.on = True
        self.verbs: set[str] = set()

    def fails(self, verb: str = "") -> bool:
        self.count += 1
        hit = self.on and (self.count == self.first or (self.for_ever and self.count > self.first))
        self.met += hit
        self.verbs |= {verb} if hit else set()
        return hit


class FaultyStore(WholeListStore):
    """A store whose calls fail in one way. ``late`` is applied right before the next call."""

    def __init__(self, inner: ArtifactStore, how: str, calls: Calls, clock: ManualClock) -> None:
        super().__init__(inner)
        self._how, self._calls, self._clock = how, calls, clock
        self._late = []

    def _around(self, verb: str, key: str, call):  # noqa: C901 - a table
        while self._late:
            self.arrive()
        if not self._calls.fails(verb):
            return call()
        writes = verb in ("put", "create", "delete")
        lost = OutcomeUnknown if writes else Unavailable
        match self._how:
            case "before apply":
                raise Unavailable(self.name, verb, key, "planted")
            case "reply lost":
                call()
                raise lost(self.name, verb, key, "planted")
            case "timeout":
                raise lost(self.name, verb, key, "planted")
            case "late":
                if writes:
                    self._late.append(call)
                raise lost(self.name, verb, key, "planted")
            case "access denied":
                raise AccessDenied(self.name, verb, key, "planted")
            case "delay before":
                self._clock.sleep(650)  # longer than a lease
                return call()
            case "delay after":
                result = call()
                self._clock.sleep(650)
                return result
        raise AssertionError(self._how)

    def arrive(self) -> None:
        with contextlib.suppress(StoreError):  # it may come too late
            self._late.pop(0)()


HOWS = ("before apply", "reply lost", "timeout", "late", "access denied", "delay before", "delay after")


class Survivor:
    """Runs sessions under faults on one place after the other, and brings each to its end."""

    def __init__(self) -> None:
        self.remote = Remote()
        self.adapter = ReferenceAdapter(self.remote.url, transport=transport_to(self.remote))
        self.outcomes: Counter[str] = Counter()

    def __call__(self, place, store: ArtifactStore, calls: Calls, where: str, *, clock=None) -> bool:
        """Run and resume with the fault, then recover without it. Tells whether it was met."""
        self.remote.forget()
        invariants = Invariants(place, self.remote)
        clock = clock or hours_later()
        try:
            run = lambda: write_back(OPERATIONS, session_id="s1", store=store, **means)  # noqa: E731
            resume = lambda: resume_session("s1", store=store, **means)  # noqa: E731
            means = {"adapter": self.adapter, "policy": POLICY, "clock": clock}
            first = self._attempt(run, invariants)
            clock.sleep(3600)
            self._attempt(resume, invariants)
            calls.on = False
            if isinstance(store, FaultyStore):
                while store._late:
                    store.arrive()
            self.outcomes[f"{first}, then {recover(place, self.remote, invariants, 48, self.adapter)}"] += 1
        except BaseException as error:
            error.add_note(where)
            raise
        return calls.met > 0

    def _attempt(self, call, invariants: Invariants) -> str:
        try:
            report = call()
        except (StoreError, ResumeError) as error:
            ended = type(error).__name__
        else:
            assert report.status in ENDS
            assert report.error or report.status in (
                RunStatus.COMPLETED,
                RunStatus.NO_RESUME_NEEDED,
                RunStatus.IN_PROGRESS,
            )
            ended = str(report.status)
        there = invariants.look()
        if ended in ("completed", "no_resume_needed"):
            assert "s1/writeback.json" in there
        return ended


class LosesTheMailsReply(httpx.BaseTransport):
    """A remote that applies the e-mail and does not answer, once: the run has to end as blocked."""

    def __init__(self, remote: Remote) -> None:
        self._remote, self._inner = remote, transport_to(remote)

    def handle_request(self, request):
        reply = self._inner.handle_request(request)
        if request.url.path.startswith("/mail/"):
            raise httpx.ReadTimeout("planted", request=request)
        return reply


class DownAtFirst(httpx.BaseTransport):
    """A remote that is down while a run tries: the run has to end as resume_needed."""

    def __init__(self, remote: Remote) -> None:
        self._inner, self._left = transport_to(remote), POLICY.attempts

    def handle_request(self, request):
        if request.method == "POST" and self._left:
            self._left -= 1
            raise httpx.ConnectError("planted", request=request)
        return self._inner.handle_request(request)


@pytest.fixture
def survivor():
    made = Survivor()
    yield made
    made.adapter.close()


@pytest.fixture(params=["memory", "local", "s3"])
def places(request, tmp_path):
    """Makes one empty place after the other."""
    if request.param == "memory":
        return Memory
    if request.param == "local":
        return lambda: Folder(tmp_path / secrets.token_hex(6))
    raw = request.getfixturevalue("s3_bucket")

    return lambda: Bucket(type(raw)(raw.server, raw.name, f"{secrets.token_hex(6)}/"))


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for_ever"])
@pytest.mark.parametrize("how", HOWS)
def test_what_a_store_may_raise_at_each_call(survivor, places, chance, how, for_ever):
    everywhere = FULL or places is Memory
    met, first = 0, 1 if everywhere else 1 + chance.randrange(12)
    while True:
        place, clock, calls = places(), hours_later(), Calls(first, for_ever)
        store = FaultyStore(place.open(), how, calls, clock)
        if not survivor(place, store, calls, f"call {first}", clock=clock):
            break
        met += 1
        first += 1
        if not everywhere:
            break
    print(f"{met} faults: {dict(survivor.outcomes)}")
    assert met >= (13 if everywhere else 1)


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for_ever"])
@pytest.mark.parametrize("how", HOWS)
def test_what_a_store_may_raise_while_a_session_blocks(survivor, how, for_ever):
    survivor.adapter = ReferenceAdapter(
        "http://remote.invalid", transport=LosesTheMailsReply(survivor.remote)
    )
    first = 1
    while True:
        place, clock, calls = Memory(), hours_later(), Calls(first, for_ever)
        store = FaultyStore(place.open(), how, calls, clock)
        if not survivor(place, store, calls, f"call {first}", clock=clock):
            break
        first += 1
    print(f"{first - 1} faults: {dict(survivor.outcomes)}")
    assert first > 13


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for_ever"])
@pytest.mark.parametrize("how", HOWS)
def test_what_a_store_may_raise_while_a_sweep_is_at_it(survivor, how, for_ever):
    """Sessions to abandon, to resume, and with leftover markers; and listings meanwhile."""
    remote, first, verbs = survivor.remote, 1, set()
    while True:
        remote.forget()
        place, clock, calls = Memory(), hours_later(), Calls(first, for_ever)
        adapter = ReferenceAdapter("http://remote.invalid", transport=DownAtFirst(remote))
        invariants = Invariants(place, remote)
        means = {"adapter": adapter, "policy": POLICY, "clock": clock}
        place.open().put(".open/s0", b"")
        write_back(OPERATIONS, session_id="s1", store=place.open(), **means)
        with contextlib.closing(
            ReferenceAdapter("http://r.invalid", transport=transport_to(Remote()))
        ) as another:
            write_back(OPERATIONS, session_id="s2", store=place.open(), **{**means, "adapter": another})
        for marker in (".open/s2", ".blocked/s2"):
            place.open().put(marker, b"")
        invariants.look()
        clock.sleep(3600)
        store = FaultyStore(place.open(), how, calls, clock)
        for attempt in (
            lambda: sweep(store, **means),  # noqa: B023 - called right here
            lambda: find_sessions(store, clock=clock),  # noqa: B023
            lambda: find_sessions(store, State.OPEN, clock=clock),  # noqa: B023
        ):
            with contextlib.suppress(StoreError):  # no listing, no sweep
                assert {found.session_id for found in attempt()} <= {"s0", "s1", "s2"}
            invariants.look()
        calls.on = False
        while store._late:
            store.arrive()
        verbs |= calls.verbs
        list(sweep(place.open(), adapter=adapter, policy=POLICY, clock=hours_later(47)))
        ended = recover(place, remote, invariants, 48, adapter)
        assert ended in ("no_resume_needed", "blocked outcome_unknown"), f"call {first}"
        assert not [key for key in invariants.look() if key.startswith(".")]
        assert b"abandoned" in place.objects()["s0/planned-writeback.json"]
        adapter.close()
        if not calls.met:
            break
        first += 1
    print(f"{first - 1} faults")
    assert first > 20
    assert verbs == {"create", "get", "head", "list", "delete"}


CALLS = (
    *("open", "read", "write", "fsync", "link", "rename", "unlink", "mkdir", "fchmod", "close", "stat"),
    *("fstat", "scandir"),
)
CHANGES = ("fsync", "link", "rename", "unlink", "mkdir", "fchmod")
CODES = (errno.ENOSPC, errno.EIO, errno.EINTR, errno.EACCES)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for_ever"])
@pytest.mark.parametrize("call", [*CALLS, "torn write"])
def test_system_calls_of_a_folder(survivor, tmp_path, monkeypatch, call, for_ever):
    from writeahead.stores import durable, local, portable

    total = 0
    name = call.removeprefix("torn ")
    real = getattr(os, name)
    for code in CODES:
        for applied in (False, True) if call in CHANGES else (call == "close",):
            first, step = 1, 1 if FULL else 13
            while True:
                calls = Calls(first, for_ever)

                def faulty(*args, calls=calls, code=code, applied=applied, **more):
                    if not calls.fails():
                        return real(*args, **more)
                    if call == "torn write":
                        real(args[0], bytes(args[1])[: len(args[1]) // 2])
                    elif applied:
                        real(*args, **more)
                    raise OSError(code, os.strerror(code))

                place = Folder(tmp_path / secrets.token_hex(6))
                with monkeypatch.context() as patch:
                    for module in (local, durable, portable):
                        patch.setattr(module, "os", _Os(name, faulty))
                    where = f"{call} {first}: {errno.errorcode[code]}{' applied' * applied}"
                    met = survivor(place, open_store(place.url), calls, where)
                if not met:
                    break
                total += 1
                first += step
    print(f"{total} faults: {dict(survivor.outcomes)}")
    assert total


class _Os:
    """The module ``os`` with one function replaced, for one module only."""

    def __init__(self, name, function) -> None:
        self._name, self._function = name, function

    def __getattr__(self, name):
        return self._function if name == self._name else getattr(os, name)


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for_ever"])
def test_reads_of_a_resume_that_has_work_to_do(survivor, tmp_path, monkeypatch, for_ever):
    from writeahead.stores import portable

    def failing(file, size):
        if calls.fails():
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.read(file, size)

    monkeypatch.setattr(portable, "os", _Os("read", failing))
    first = 1
    while True:
        calls, place = Calls(first, for_ever), Folder(tmp_path / secrets.token_hex(6))
        survivor.adapter = ReferenceAdapter("http://remote.invalid", transport=DownAtFirst(survivor.remote))
        if not survivor(place, open_store(place.url), calls, f"read {first}"):
            break
        first += 1
    print(f"{first - 1} faults: {dict(survivor.outcomes)}")
    assert first > 4
    assert {ended.split(",")[0] for ended in survivor.outcomes} == {"resume_needed"}


ANSWERS = {
    "before apply": reset_mid_body,
    "reply lost": lost_reply,
    "503": lambda: answer(503, "SlowDown"),
    "503 applied": lambda: applied_then(503),
    "500": lambda: answer(500, "InternalError"),
    "500 applied": lambda: applied_then(500, "InternalError"),
    "403": lambda: answer(403, "AccessDenied"),
    "409": lambda: answer(409, "ConditionalRequestConflict"),
    "507 full": lambda: answer(507, "InsufficientStorage"),
    "torn": truncated,
    # Until the test is over, which releases them.
    "silent": lambda: Fault("silent", forward=False, reset=True, before=RELEASED.wait),
}
RELEASED = threading.Event()
# Seconds that a client waits for an answer.
SILENCE = 0.5


class Pattern:
    """Plans a proxy's faults: the n-th request of any verb, or all from there on."""

    def __init__(self, calls: Calls, make) -> None:
        self.calls, self.make = calls, make

    def next_fault(self, _verb):
        return self.make() if self.calls.fails() else None


@pytest.fixture
def released():
    """Holds silent answers back until the test is over."""
    RELEASED.clear()
    yield
    RELEASED.set()


@pytest.mark.usefixtures("released")
@pytest.mark.timeout(6000)
@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for_ever"])
@pytest.mark.parametrize("what", ANSWERS)
def test_answers_of_an_s3_server(  # noqa: PLR0917
    survivor, s3_proxy, s3_bucket, monkeypatch, chance, what, for_ever
):
    from writeahead.stores import remote

    monkeypatch.setattr(remote, "WAIT_INITIAL", 0)
    monkeypatch.setattr(remote, "WAIT_MAX", 0)
    met, first = 0, 1 if FULL else 1 + chance.randrange(12)
    while True:
        prefix = secrets.token_hex(6)
        calls = Calls(first, for_ever)
        monkeypatch.setattr(s3_proxy, "next_fault", Pattern(calls, ANSWERS[what]).next_fault)
        place = Bucket(type(s3_bucket)(s3_bucket.server, s3_bucket.name, f"{prefix}/"))
        place.url = f"s3://{s3_bucket.name}/{prefix}?endpoint_url={s3_proxy.url}"
        place.url += f"&read_timeout={SILENCE}" if what == "silent" else ""
        if not survivor(place, place.open(), calls, f"request {first}"):
            break
        met += 1
        first += 1
        if not FULL:
            break
    print(f"{met} faults: {dict(survivor.outcomes)}")
    assert met


def test_a_whole_run_needs_no_luck(survivor):
    place, calls = Memory(), Calls(10**6, False)
    assert not survivor(place, place.open(), calls, "no fault")
    assert survivor.outcomes == {"completed, then no_resume_needed": 1}
    assert set(survivor.remote.counts()) == set(KINDS)
