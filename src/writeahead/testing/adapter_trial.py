"""One session of one operation for `AdapterContract`: on a wire that fails on demand, and then judged."""

import json
import os
import secrets
import signal
import urllib.parse
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from writeahead.adapters.base import Adapter
from writeahead.artifacts import planned_key
from writeahead.errors import TransientError, WriteaheadError
from writeahead.model import (
    BlockReason,
    KeyedOperation,
    Operation,
    PlannedOperation,
    Receipt,
    ReplayClass,
    RunPolicy,
    RunReport,
    RunStatus,
)
from writeahead.planning import keyed_operations
from writeahead.retry import Clock
from writeahead.runner import resume_session, write_back
from writeahead.stores.base import ArtifactStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing.decorators import TracingStore
from writeahead.testing.http_proxy import Fault, HttpProxy, SeenRequest

__all__ = ["AdapterPlace", "Clean", "Killed", "RemoteRow", "Tally", "Trial", "Wire"]

_T = TypeVar("_T")

POLICY = RunPolicy(attempts=3, run_limit=7200, lease=7200, clock_skew=0)
# Hours later than any lease, wait or request lifetime that the trials have.
LATER = 8 * 3600.0
_ROUNDS = 3
_DONE = (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED)


@dataclass(frozen=True)
class RemoteRow:
    """One row, message or record of the remote.

    Attributes:
        id: As a receipt's ``remote_id`` would name it.
        content: What the operation wrote into it, without what differs from one session to the next: ids,
            versions, times, the mark of the session. Two operations of one kind must come to equal contents.
    """

    id: str
    content: Mapping[str, object]


class AdapterPlace(Protocol):
    """A remote system, reached around the adapter under test: with other code than its own."""

    @property
    def url(self) -> str:
        """The real server: plain HTTP, on loopback."""

    @property
    def secrets(self) -> Sequence[str]:
        """What is in the adapter's settings and must be in no message: passwords, tokens, tenant."""

    @property
    def operations(self) -> Mapping[str, Callable[[], Operation]]:
        """For each kind, what makes an operation that was never sent; rows that it needs are made by then."""

    def adapter(self, url: str, clock: Clock, /) -> Adapter:
        """A new adapter, as in a new process.

        Args:
            url: Where it sends: the server, through a proxy.
            clock: Passes hours in no time; for an adapter that keeps waits or expiries of its own. Others
                leave it alone.

        Returns:
            The adapter. It is closed by its ``close()``, if it has one.
        """

    def rows(self, operation: KeyedOperation) -> Sequence[RemoteRow]:
        """All rows that carry what this operation of this session wrote, or its key; each of them once."""

    def snapshot(self) -> object:
        """All that an operation could change; two of them are equal if nothing was changed."""

    def edit(self, operation: KeyedOperation, *, guarded: bool) -> Callable[[], bool]:
        """Change the row that an operation writes or has written, as a person would.

        Args:
            operation: Of any kind; its row is there.
            guarded: In a field that the plan's baseline guards; else in one that no operation writes.

        Returns:
            Tells whether that edit still stands.
        """

    def remove(self, operation: KeyedOperation) -> None:
        """Delete the row that an operation is to update, as a person would."""

    def occupy(self, operation: KeyedOperation) -> Callable[[], bool]:
        """Make a row of somebody else's that has the key which an operation is to create.

        Returns:
            Tells whether that row is there and as it was made.
        """


class Killed(BaseException):
    """The death of a process, as far as it can be told from outside: from here on nothing has an effect."""


@dataclass
class Tally:
    """What was tried of one kind, and what went wrong."""

    replay: str
    cases: int = 0
    duplicates: int = 0
    losses: int = 0
    stuck: int = 0
    leaks: int = 0


@dataclass(frozen=True)
class Clean:
    """A session that met no fault: how many requests planning and all of it took, and the content it made."""

    planning: int
    total: int
    replay: ReplayClass
    content: Mapping[str, object]

    def exchanges(self) -> list[int]:
        """The positions of the requests to spoil: the first and the last of planning, and all that follow."""
        planning = {0, self.planning - 1} if self.planning else set()
        return sorted(planning | set(range(self.planning, self.total)))


class Wire(HttpProxy):
    """A proxy that takes a process's life at an exchange: its own threads and stores ask it if they live."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.path = urllib.parse.urlsplit(upstream).path.rstrip("/")
        self.dead = False
        self.victim: int | None = None

    @property
    def base(self) -> str:
        """What an adapter is given for the server's URL."""
        return self.url + self.path

    def at(self, exchange: int, fault: Fault, *, times: int = 1) -> None:
        """Plan a fault for the exchange at this position, from 0, and for those that follow."""
        self.fault(lambda _request: True, fault, times=times, skip=exchange)

    def clear(self) -> None:
        """Forget all, and let live."""
        super().clear()
        self.dead = False
        self.victim = None

    def next_fault(self, request: SeenRequest) -> Fault | None:
        """Nothing reaches the server from a process that is dead."""
        if self.dead:
            return Fault("dead", forward=False, reset=True)
        return super().next_fault(request)

    def record(self, request: SeenRequest) -> None:
        """Kill when it is time: the server has done what it shall, and the client has no answer yet."""
        super().record(request)
        if request.fault == "crash":
            self.dead = True
        if request.fault == "kill" and self.victim is not None:
            os.kill(self.victim, signal.SIGKILL)


class _MortalStore(TracingStore):
    """Its process's store: out of reach once that is dead."""

    def __init__(self, store: ArtifactStore, wire: Wire) -> None:
        super().__init__(store)
        self._wire = wire
        self.planning: int | None = None

    def _around(self, verb: str, key: str, call: Callable[[], _T]) -> _T:
        if self._wire.dead:
            raise Killed
        if verb == "create" and key.endswith(planned_key("")) and self.planning is None:
            self.planning = len(self._wire.requests)
        return super()._around(verb, key, call)


class _SkippingClock(Clock):
    """Waits are over at once."""

    def __init__(self, wire: Wire, ahead: float = 0.0) -> None:
        self.ahead = ahead
        self.slept: list[float] = []
        self._wire = wire

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead

    def sleep(self, seconds: float) -> None:
        if self._wire.dead:
            raise Killed
        self.slept.append(seconds)
        self.ahead += seconds


class Watched(Adapter):
    """The adapter under test; what it raises and how much it sends in one attempt is kept.

    Args:
        inner: The adapter.
        wire: Where it sends.
        detour: Used instead of it for the first ``detours`` attempts at sending.
    """

    def __init__(
        self,
        inner: Adapter,
        wire: Wire,
        detour: Adapter | None = None,
        *,
        detours: int = 0,
        plan: bool = False,
    ) -> None:
        self._inner = inner
        self._wire = wire
        self._detour = detour
        self._detours = detours
        self._plan_too = plan
        self.said: list[BaseException] = []
        self.waits: list[float | None] = []
        # Of one class for adapters of all names and kinds.
        setattr(self, "name", inner.name)  # noqa: B010 - see above
        setattr(self, "kinds", inner.kinds)  # noqa: B010 - see above
        self.request_lifetime = inner.request_lifetime
        self.chatty = 0

    def plan(self, operations: Sequence[KeyedOperation]) -> list[PlannedOperation]:
        inner = self._next() if self._plan_too else self._inner
        return self._listen(lambda: inner.plan(operations))

    def emit(self, operation: PlannedOperation) -> Receipt:
        inner = self._next()
        return self._listen(lambda: inner.emit(operation))

    def find(self, operation: PlannedOperation) -> Receipt | None:
        return self._listen(lambda: self._inner.find(operation))

    def close(self) -> None:
        for adapter in filter(None, (self._inner, self._detour)):
            close = getattr(adapter, "close", None)
            if close is not None:
                close()

    def _next(self) -> Adapter:
        if self._detour is None or self._detours < 1:
            return self._inner
        self._detours -= 1
        return self._detour

    def _listen(self, call: Callable[[], _T]) -> _T:
        before = len(self._wire.requests)
        try:
            return call()
        except BaseException as error:
            self.said.append(error)
            if isinstance(error, TransientError):
                # Now: the runner may make it longer.
                self.waits.append(error.retry_after)
            raise
        finally:
            sent = self._wire.requests[before:]
            busy = [position for position, one in enumerate(sent) if one.fault and one.status in (429, 503)]
            # Whoever was told to come back later must not ask again at once.
            self.chatty += len(sent) - 1 - busy[0] if busy else 0


@dataclass
class Trial:
    """One session with one operation, from its plan to its end, and everything that was said on the way.

    ``problems`` grows; an empty one at the end is a trial that was passed.
    """

    place: AdapterPlace
    wire: Wire
    kind: str
    clean: Clean | None = None
    inner_store: ArtifactStore = field(default_factory=MemoryStore)
    problems: list[str] = field(default_factory=list)
    reports: list[RunReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wire.clear()
        self.session_id = f"contract-{secrets.token_hex(8)}"
        self.given = self.place.operations[self.kind]()
        (self.operation,) = keyed_operations(self.session_id, [self.given])
        self.store = _MortalStore(self.inner_store, self.wire)
        self.clock = _SkippingClock(self.wire)
        self.watched: list[Watched] = []

    # Running.

    def adapter(
        self,
        detour_to: str | None = None,
        *,
        detours: int = 0,
        plan: bool = False,
        clock: _SkippingClock | None = None,
    ) -> Watched:
        """A new adapter on the wire, which keeps what it says."""
        clock = clock or self.clock
        detour = self.place.adapter(detour_to + self.wire.path, clock) if detour_to else None
        inner = self.place.adapter(self.wire.base, clock)
        watched = Watched(inner, self.wire, detour, detours=detours, plan=plan)
        self.watched.append(watched)
        return watched

    def run(self, adapter: Watched | None = None, *, dry_run: bool = False) -> RunReport | None:
        """Plan and emit; None if the process died of it."""
        return self._report(
            lambda: write_back(
                [self.given],
                session_id=self.session_id,
                store=self.store,
                adapter=adapter or self.adapter(),
                policy=POLICY,
                clock=self.clock,
                dry_run=dry_run,
            )
        )

    def resume(self) -> RunReport | None:
        """Come back when all leases and waits are over, with nothing but the store."""
        # One of its own: several may come at once.
        clock = _SkippingClock(self.wire, self.clock.ahead + LATER)
        self.clock = clock
        return self._report(
            lambda: resume_session(
                self.session_id,
                store=self.store,
                adapter=self.adapter(clock=clock),
                policy=POLICY,
                clock=clock,
            )
        )

    def settle(self) -> RunReport | None:
        """Bring the session to its end, now that all faults are gone."""
        self.wire.clear()
        report: RunReport | None = None
        for _ in range(_ROUNDS):
            report = self.resume() if self.is_planned() else self.run()
            if report is None or report.status in (*_DONE, RunStatus.BLOCKED):
                break
        return report

    def is_planned(self) -> bool:
        """Whether there is anything to resume from."""
        return self.inner_store.head(planned_key(self.session_id)) is not None

    def _report(self, call: Callable[[], RunReport]) -> RunReport | None:
        try:
            report = call()
        except Killed:
            return None
        except WriteaheadError as error:
            self.problems.append(f"stuck: it raised {type(error).__name__}")
            return None
        self.reports.append(report)
        return report

    # Judging.

    def judge(self, report: RunReport | None) -> None:
        """Compare what the session says with what the remote has."""
        replay = self.replay
        rows = self.place.rows(self.operation)
        if len(rows) > 1:
            self.problems.append(f"duplicate: {len(rows)} rows")
        if report is None or report.status not in _DONE:
            unknown = report is not None and report.block_reason is BlockReason.OUTCOME_UNKNOWN
            if not (unknown and replay is ReplayClass.UNPROVABLE):
                self.problems.append(f"stuck: {_told(report)}")
        else:
            self._judge_done(report, rows)
        self.judge_words()

    def _judge_done(self, report: RunReport, rows: Sequence[RemoteRow]) -> None:
        if not rows:
            self.problems.append("loss: said to be done, and no row is there")
            return
        if self.clean and dict(rows[0].content) != dict(self.clean.content):
            names = [
                name for name in self.clean.content if rows[0].content.get(name) != self.clean.content[name]
            ]
            self.problems.append(f"loss: other content in {', '.join(names) or 'its fields'}")
        named = report.receipts[self.operation.id].remote_id
        if named not in {row.id for row in rows} and self.replay is not ReplayClass.UNPROVABLE:
            self.problems.append(f"receipt: it names {named!r}, and the row is {rows[0].id!r}")

    def judge_words(self) -> None:
        """Look for what must not be said in errors, reports and artifacts."""
        words = [f"{type(error).__name__} {error!s} {error!r}" for one in self.watched for error in one.said]
        words += [repr(one._inner) for one in self.watched]  # noqa: SLF001 - ours
        kept = [report.model_dump_json() for report in self.reports]
        kept += [self.inner_store.get(info.key).data.decode() for info in list(self.inner_store.list())]
        for secret in self.place.secrets:
            if any(secret in text or json.dumps(secret)[1:-1] in text for text in (*words, *kept)):
                self.problems.append("leak: a secret of the settings is in a message")
        host = urllib.parse.urlsplit(self.wire.url).netloc
        if any(host in text for text in kept):
            self.problems.append("leak: the remote's host is in a message")

    @property
    def replay(self) -> ReplayClass:
        """The class of the kind."""
        if self.clean is not None:
            return self.clean.replay
        return next(one.kinds[self.kind].replay for one in self.watched)

    def waits_told(self) -> list[float]:
        """How long the adapters said to wait, error by error."""
        return [wait for one in self.watched for wait in one.waits if wait is not None]

    def close(self) -> None:
        """Close what the adapters hold, and forget the faults."""
        self.wire.clear()
        for watched in self.watched:
            watched.close()


def _told(report: RunReport | None) -> str:
    if report is None:
        return "it did not end"
    return f"{report.status} {report.block_reason or ''} {report.error or ''}".strip()


def forked(work: Callable[[], object], begin: Callable[[int], None]) -> int:
    """Do the work in a child process, after ``begin`` was called here with its id; return its wait status."""
    waiting, told = os.pipe()
    with warnings.catch_warnings():
        # Python warns, rightly, of a fork beside threads; the child makes all that it uses anew.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        code = 1
        try:
            signal.alarm(60)
            os.read(waiting, 1)
            work()
            code = 0
        finally:
            os._exit(code)
    try:
        begin(child)
        os.write(told, b"x")
        return os.waitpid(child, 0)[1]
    finally:
        os.close(waiting)
        os.close(told)
