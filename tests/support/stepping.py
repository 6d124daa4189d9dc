"""Real runs, stepped: the real runner on the real memory store, one visible step at a time.

Each actor (a ``write_back`` or a ``resume_session``) runs in a thread of its own and holds still
before each store call that others can see, before each request, and while it sleeps. A `World` lets
exactly one of them go on at a time, so that a list of choices fixes everything that happens: a
schedule. `explore` visits every schedule; two schedules that lead to the same store, remote, time
and observations are followed once only.

Reads of write-once artifacts are no choice of their own: whatever the others do, they read the
same.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import BaseModel

from tests.support.journals import whole
from tests.support.remotes import found_out
from tests.support.wrappers import WholeListStore
from writeahead.adapters.base import Adapter, TransactionalAdapter, emits
from writeahead.errors import Applied, ConflictError, PermanentError, TransientError
from writeahead.model import PlannedOperation, Receipt, RunPolicy, RunReport
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.retry import Clock
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import unblock_session
from writeahead.stores.base import ArtifactStore, ObjectInfo, StoredObject
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing import WrapperStore

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
SESSION = "s-1"
PLANNED = f"{SESSION}/planned-writeback.json"
LIFETIME = 300.0
# How long the remote remembers the keys of these kinds: less than a lease and a lifetime.
KEY_VALID_FOR = 1000.0
EXPIRING = ("charge", "bill")
# What leans on time; and what does no harm when it comes late: the remote knows it by key or
# version for ever.
TIMED = ("post", "row", *EXPIRING)
TIMELESS = ("create", "upsert", "edit", "transaction")
# Short waits, so that time passes in few jumps: a lease is over before any of them would matter.
POLICY = RunPolicy(
    attempts=2,
    wait_initial=1.0,
    wait_max=1.0,
    run_limit=5000.0,
    lease=600.0,
    clock_skew=5.0,
    journal_interval=0,
)
PAST_LEASE = POLICY.lease + POLICY.clock_skew + 1


class Killed(BaseException):
    """An actor that is never scheduled again: its thread ends without further effects."""


class Violation(AssertionError):
    """A promise was broken; the message names it."""


class Text(BaseModel):
    text: str


@dataclass
class Remote:
    """What the other system holds: the truth about effects, by operation id."""

    effects: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    late: list[tuple[str, str, float]] = field(default_factory=list)
    # When it saw a key that it remembers for a while only, and whose value the one row holds.
    keys: dict[str, float] = field(default_factory=dict)
    row: str = ""

    def apply(self, kind: str, operation_id: str, now: float = 0.0) -> Receipt:
        if kind == "transaction":
            receipts = [self.apply(one.split("-")[1], one) for one in operation_id.split(" ")]
            assert len({receipt.outcome for receipt in receipts}) == 1, "a part of a transaction was there"
            return receipts[0]
        held = self.effects.get(operation_id, 0)
        if kind in EXPIRING:
            seen_at = self.keys.get(operation_id)
            if seen_at is not None and now < seen_at + KEY_VALID_FOR:
                return Receipt(remote_id=operation_id, outcome="already_applied")
            self.keys[operation_id] = now
        if kind in ("post", "mail", *EXPIRING):
            self.effects[operation_id] = held + 1
        elif kind in ("upsert", "row"):
            self.effects[operation_id] = 1
            self.row = operation_id if kind == "row" else self.row
        elif held:
            return Receipt(remote_id=operation_id, outcome="already_applied")
        else:
            self.effects[operation_id] = 1
        return Receipt(remote_id=operation_id)

    def land(self, index: int = 0, now: float = 0.0) -> None:
        kind, operation_id, _ = self.late.pop(index)
        self.apply(kind, operation_id, now)

    def copy(self) -> "Remote":
        return Remote(dict(self.effects), dict(self.versions), list(self.late), dict(self.keys), self.row)

    def state(self) -> tuple[object, ...]:
        """All but what is on its way."""
        return tuple(sorted(self.effects.items())), tuple(sorted(self.keys.items())), self.row


class SteppingAdapter(TransactionalAdapter):
    """One kind for each replay class. ``ask`` says what becomes of each request."""

    name: ClassVar[str] = "stepping"
    request_lifetime = LIFETIME

    def __init__(self, remote: Remote, ask: Callable[[str], str], time: "Time") -> None:
        self.remote = remote
        self.ask = ask
        self.time = time

    def transact(self, operations: Sequence[PlannedOperation]) -> list[Receipt]:
        ids = " ".join(operation.id for operation in operations)
        receipt = self._request("transaction", ids)
        return [receipt.model_copy(update={"remote_id": operation.id}) for operation in operations]

    def _send(self, operation: PlannedOperation) -> Receipt:
        return self._request(operation.kind, operation.id)

    def _request(self, kind: str, operation_id: str) -> Receipt:
        outcome = self.ask(f"send {operation_id}")
        if outcome == "refused":
            raise PermanentError("400 Bad Request")
        if outcome == "conflict":
            raise ConflictError("412 Precondition Failed")
        if outcome == "not applied":
            raise TransientError("503 Service Unavailable", applied=Applied.NO)
        if outcome == "late":
            self.remote.late.append((kind, operation_id, self.time.seconds + LIFETIME))
            raise TransientError("read timeout")
        receipt = self.remote.apply(kind, operation_id, self.time.seconds)
        if outcome == "lost":
            raise TransientError("connection reset")
        return receipt

    @emits("create_with_key")
    def emit_create(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("upsert")
    def emit_upsert(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("conditional_update")
    def emit_edit(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("lookup")
    def emit_post(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    def find_post(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        self.ask(f"find {operation.id}")
        if self.remote.effects.get(operation.id):
            return Receipt(remote_id=operation.id, outcome="already_applied")
        return None

    @emits("unprovable")
    def emit_mail(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("create_with_key", key_valid_for=timedelta(seconds=KEY_VALID_FOR))
    def emit_charge(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    @emits("create_with_key", key_valid_for=timedelta(seconds=KEY_VALID_FOR))
    def emit_bill(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)

    def find_bill(self, payload: Text, operation: PlannedOperation) -> Receipt | None:
        return self.find_post(payload, operation)

    @emits("upsert", settles_after=timedelta(seconds=LIFETIME))
    def emit_row(self, payload: Text, operation: PlannedOperation) -> Receipt:
        return self._send(operation)


@dataclass
class Time:
    """True time, in seconds."""

    seconds: float = 0.0


class SteppedClock(Clock):
    """An actor's clocks: the wall clock is wrong by ``skew`` seconds, the monotonic one right."""

    def __init__(self, time: Time, skew: float = 0.0, sleep: Callable[[float], None] | None = None) -> None:
        self.time = time
        self.skew = skew
        self._sleep = sleep

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.time.seconds + self.skew)

    def monotonic(self) -> float:
        return self.time.seconds

    def random(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        if self._sleep:
            self._sleep(seconds)
        else:
            self.time.seconds += seconds


class TimedStore(WrapperStore):
    """A real store, dated by the world's time; it can be told to ignore If-None-Match."""

    def __init__(
        self, time: Time, inner: ArtifactStore | None = None, *, ignores_if_absent: bool = False
    ) -> None:
        super().__init__(inner or MemoryStore())
        self.time = time
        self.written: dict[str, datetime] = {}
        self.ignores_if_absent = ignores_if_absent
        self.look: Callable[[], dict[str, bytes]] | None = None

    @property
    def name(self) -> str:
        return "memory://stepped"

    def copy(self, time: Time) -> "TimedStore":
        twin = TimedStore(time, ignores_if_absent=self.ignores_if_absent)
        folders = self.wrapped._objects._folders.items()
        twin.wrapped._objects._folders = {first: dict(held) for first, held in folders}
        twin.written = dict(self.written)
        return twin

    @property
    def content(self) -> dict[str, bytes]:
        """The raw bytes by key, past every interface."""
        if self.look:
            return self.look()
        if isinstance(self.wrapped, LocalStore):
            root = Path(urlsplit(self.wrapped.name).path)
            return {
                str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()
            }
        folders = self.wrapped._objects._folders.values()
        return {key: held.data for folder in folders for key, held in folder.items()}

    def _dated(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, last_modified=self.written[info.key])

    def _put(self, key: str, data: bytes, *, if_absent: bool) -> ObjectInfo:
        if self.ignores_if_absent and "/journal/" in key:
            if_absent = False
        info = super()._put(key, data, if_absent=if_absent)
        now = EPOCH + timedelta(seconds=self.time.seconds)
        if not if_absent:
            self.written[key] = now
        self.written.setdefault(key, now)
        return self._dated(info)

    def _get(self, key: str) -> StoredObject:
        held = super()._get(key)
        return StoredObject(held.data, self._dated(held.info))

    def _head(self, key: str) -> ObjectInfo | None:
        info = super()._head(key)
        return info and self._dated(info)

    def _list(self, prefix: str, start_after: str | None) -> Iterator[ObjectInfo]:
        return iter([self._dated(info) for info in super()._list(prefix, start_after)])

    def _delete(self, key: str) -> None:
        super()._delete(key)
        self.written.pop(key, None)


class SteppingStore(WholeListStore):
    """One actor's store: it holds still before each call that others can see or influence."""

    def __init__(self, inner: TimedStore, actor: "Actor") -> None:
        super().__init__(inner)
        self.actor = actor

    def _around(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        # What is read this way changes in one case only: a new run replaces a tombstone.
        if verb == "get" and not (self.actor.world.scenario.replaces and key == PLANNED):
            return call()
        self.actor.hold(f"{verb} {key}")
        return self.actor.saw(call)


@dataclass(frozen=True)
class Tools:
    """What an actor's run is given."""

    store: ArtifactStore
    adapter: Adapter
    clock: Clock


Run = Callable[[Tools], RunReport]


class Actor:
    """One run in a thread, standing at a step."""

    def __init__(self, name: str, run: Run, world: "World", skew: float) -> None:
        self.name = name
        self.world = world
        self.at = ""
        self.wakes_at = 0.0
        self.history = hash(name)
        self.clock = SteppedClock(world.time, skew, self._sleep)
        # Seconds that its wall clock is still to leap by, at a moment of the world's choice.
        self.leap = world.scenario.leaps.get(name, 0.0)
        self.report: RunReport | None = None
        self.error: BaseException | None = None
        self.is_over = False
        self._answer = ""
        self._is_killed = False
        # Plain locks, handed over like a baton: much faster than semaphores.
        self._go = threading.Lock()
        self._go.acquire()
        self._stands = threading.Lock()
        self._stands.acquire()
        tools = Tools(
            SteppingStore(world.store, self),
            SteppingAdapter(world.remote, self.hold, world.time),
            self.clock,
        )
        self._thread = threading.Thread(target=self._run, args=(run, tools), name=name, daemon=True)
        self._thread.start()
        self._stands.acquire()

    def _run(self, run: Run, tools: Tools) -> None:
        try:
            self.hold("start")
            self.report = run(tools)
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        self.is_over = True
        self._stands.release()

    def hold(self, what: str) -> str:
        """Stand still until the world says go on; return what it says."""
        if self._is_killed:
            raise Killed
        self.at = what
        self._stands.release()
        self._go.acquire()
        if self._is_killed:
            raise Killed
        return self._answer

    def saw(self, call: Callable[[], Any]) -> Any:
        """Make a store call; what it says is all that the actor learns of the others."""
        try:
            result = call()
        except Exception as error:
            self.history = hash((self.history, type(error).__name__))
            raise
        self.history = hash((self.history, repr(result)))
        return result

    def _sleep(self, seconds: float) -> None:
        self.wakes_at = self.world.time.seconds + seconds
        self.hold("sleep")

    def go(self, answer: str = "") -> None:
        """Let it take its step, and come to stand at the next."""
        assert not self.is_over, f"{self.name} is over"
        self.history = hash((self.history, self.at, answer, self.world.time.seconds))
        self._answer = answer
        self._go.release()
        self._stands.acquire()

    def set_clock(self) -> None:
        """Let its wall clock leap, as if an administrator had set it."""
        self.history = hash((self.history, "leap"))
        self.clock.skew += self.leap
        self.leap = 0.0

    def kill(self) -> None:
        if not self.is_over:
            self._is_killed = True
            self._go.release()
            self._stands.acquire()
        self._thread.join()


@dataclass(frozen=True)
class Scenario:
    """What is explored.

    Attributes:
        prepare: Brings a store and a remote to where the actors start.
        runs: Each actor's name and what it runs.
        outcomes: What may become of a request besides ``ok``; each use costs one of ``faults``.
        faults: How many requests in all may go wrong.
        crashes: How many actors may be killed.
        jumps: How often time may jump past a lease.
        pauses_in_send: Time may pass while a lookup request is between the lease check and the
            wire.
        skews: By actor, how wrong its wall clock is.
        leaps: By actor, how far its wall clock leaps, once, at any moment.
        ignores_if_absent: A broken store.
        replaces: A tombstone may be replaced, so that reading what is at the plan's key is a step.
    """

    prepare: Callable[[Tools], None]
    runs: Mapping[str, Run]
    outcomes: tuple[str, ...] = ("lost", "not applied", "late")
    faults: int = 1
    crashes: int = 1
    jumps: int = 1
    pauses_in_send: bool = False
    skews: Mapping[str, float] = field(default_factory=dict)
    leaps: Mapping[str, float] = field(default_factory=dict)
    ignores_if_absent: bool = False
    replaces: bool = False
    _prepared: list[tuple[TimedStore, Remote, float]] = field(default_factory=list)

    def start(self) -> tuple[TimedStore, Remote, float]:
        """Return store, remote and time as the actors find them."""
        if not self._prepared:
            time, remote = Time(), Remote()
            store = TimedStore(time, ignores_if_absent=self.ignores_if_absent)
            adapter = SteppingAdapter(remote, lambda _: "ok", time)
            self.prepare(Tools(store, adapter, SteppedClock(time)))
            self._prepared.append((store, remote, time.seconds))
        store, remote, seconds = self._prepared[0]
        return store, remote.copy(), seconds


Choice = tuple[str, ...]


class World:
    """One execution of a scenario, step by step."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        store, self.remote, seconds = scenario.start()
        self.time = Time(seconds)
        self.store = store.copy(self.time)
        self.faults, self.crashes, self.jumps = scenario.faults, scenario.crashes, scenario.jumps
        self.seen: dict[str, bytes] = {}
        self.log: list[str] = []
        self.actors = {
            name: Actor(name, run, self, scenario.skews.get(name, 0.0)) for name, run in scenario.runs.items()
        }

    def steer(self, name: str, until: str) -> None:
        """Let one actor go on until it stands at a step, or is over."""
        actor = self.actors[name]
        while not actor.is_over and not actor.at.startswith(until):
            if actor.at == "sleep":
                self._pass(max(self.time.seconds, actor.wakes_at))
            self.do(("go", name, "ok"))
        self.check()

    def meet(self, name: str, request: str, outcome: str) -> None:
        """Let one actor's next such request come to an outcome, if there is one."""
        self.steer(name, request)
        if not self.actors[name].is_over:
            self.do(("go", name, outcome))
        self.check()

    def choices(self) -> list[Choice]:
        """Everything that can happen next."""
        found: list[Choice] = []
        alive = [actor for actor in self.actors.values() if not actor.is_over]
        for actor in alive:
            if actor.at == "sleep" and actor.wakes_at > self.time.seconds:
                continue
            found.append(("go", actor.name, "ok"))
            if self.faults and actor.at.startswith("send"):
                found += [("go", actor.name, outcome) for outcome in self._outcomes(actor)]
        if not alive:
            return []
        if self.crashes:
            # Never to be chosen again is as good as dead, and is among the schedules already. Only
            # what leans on time and stands before its request holds time back: it must be able to
            # die there.
            found += [("crash", actor.name) for actor in alive if self._is_sending_timed(actor)]
        found += [("leap", actor.name) for actor in alive if actor.leap]
        found += [("land", str(index)) for index in range(len(self.remote.late))]
        return found + self._times(alive)

    @staticmethod
    def _is_sending_timed(actor: Actor) -> bool:
        return actor.at.startswith("send") and actor.at.endswith(TIMED)

    def _outcomes(self, actor: Actor) -> list[str]:
        keyed = actor.at.endswith(TIMELESS)
        return [one for one in self.scenario.outcomes if not (keyed and one == "late")]

    def _times(self, alive: list[Actor]) -> list[Choice]:
        sending = any(self._is_sending_timed(actor) for actor in alive)
        if sending and not self.scenario.pauses_in_send:
            return []
        found: list[Choice] = []
        if self.jumps:
            found.append(("jump",))
        wakes = [actor.wakes_at for actor in alive if actor.at == "sleep"]
        if any(wake > self.time.seconds for wake in wakes):
            found.append(("wake",))
        return found

    def do(self, choice: Choice) -> None:
        what, *more = choice
        self.log.append(" ".join(choice[:2]))
        if what == "go":
            name, outcome = more
            self.log[-1] = f"{name}: {self.actors[name].at}" + (f": {outcome}" if outcome != "ok" else "")
            self.faults -= outcome != "ok"
            self.actors[name].go(outcome)
        elif what == "crash":
            self.crashes -= 1
            self.actors[more[0]].kill()
        elif what == "leap":
            self.actors[more[0]].set_clock()
        elif what == "land":
            self.remote.land(int(more[0]), self.time.seconds)
        elif what == "jump":
            self.jumps -= 1
            self._pass(self.time.seconds + PAST_LEASE)
        else:
            now = self.time.seconds
            self._pass(
                min(
                    a.wakes_at
                    for a in self.actors.values()
                    if a.at == "sleep" and not a.is_over and a.wakes_at > now
                )
            )

    def _pass(self, until: float) -> None:
        """Let time pass; a request that has not landed within its lifetime never will."""
        self.time.seconds = until
        self.remote.late = [late for late in self.remote.late if late[2] > until]

    def key(self) -> int:
        """A fingerprint of all that the future depends on."""
        actors = tuple((a.name, a.at, a.is_over, a.wakes_at, a.history) for a in self.actors.values())
        budgets = (self.faults, self.crashes, self.jumps, self.time.seconds)
        return hash((self.fingerprint(), actors, budgets, tuple(self.remote.late)))

    def fingerprint(self) -> int:
        """The same of store and remote alone."""
        content = tuple(sorted(self.store.content.items()))
        dates = tuple(sorted(self.store.written.items()))
        return hash((content, dates, self.remote.state()))

    def check(self) -> None:
        """Hold the truth against the promises."""
        check_promises(self.store.content, self.remote)
        for key, data in self.seen.items():
            if self.store.content.get(key) != data:
                raise Violation(f"REWRITTEN: {key}")
        self.seen = written_once(self.store.content)
        for actor in self.actors.values():
            if actor.error:
                raise Violation(f"{actor.name} raised {actor.error!r}") from actor.error
            if actor.report and actor.report.status in ("completed", "no_resume_needed"):
                require(f"{SESSION}/writeback.json" in self.store.content, "FINAL_TOO_EARLY: it was reported")

    def check_recovery(self) -> None:
        """Kill all actors; a later resume, and an operator if needed, finish the session."""
        time = Time(self.time.seconds)
        remote = self.remote.copy()
        while remote.late:
            remote.land(now=time.seconds)
        store = self.store.copy(time)
        # What a clock that was ahead has dated is in an honest one's future: that costs time,
        # nothing else.
        ahead = max([0.0, *self.scenario.skews.values(), *self.scenario.leaps.values()])
        recover(store, remote, time, ahead)

    def end(self) -> None:
        for actor in self.actors.values():
            actor.kill()


def written_once(content: Mapping[str, bytes]) -> dict[str, bytes]:
    """What may neither change nor go: all but markers, and a tombstone."""
    return {
        key: data
        for key, data in content.items()
        if not key.startswith(".") and not (key.endswith("/planned-writeback.json") and is_tombstone(data))
    }


def is_tombstone(data: bytes | None) -> bool:
    """Whether a sweep has put a tombstone in the plan's place."""
    return data is not None and json.loads(data).get("format") == "writeahead/abandoned"


def require(holds: bool, promise: str) -> None:
    if not holds:
        raise Violation(promise)


def check_promises(content: Mapping[str, bytes], remote: Remote, session_id: str = SESSION) -> None:
    """Hold raw bytes and effects of one session against what is promised at every moment."""
    for operation_id, count in remote.effects.items():
        require(count <= 1, f"DOUBLED: {operation_id} took effect {count} times")
    plan = content.get(f"{session_id}/planned-writeback.json")
    final = f"{session_id}/writeback.json" in content
    if plan is None:
        require(not remote.effects, "UNPLANNED_EFFECT")
        return
    operations = [operation["id"] for operation in json.loads(plan).get("operations", [])]
    if not operations:
        require(not remote.effects, "UNPLANNED_EFFECT: the session was abandoned")
        return
    if final:
        missing = [name for name in operations if not remote.effects.get(name)]
        require(not missing, f"FINAL_TOO_EARLY: {missing}")
        rows = [name for name in operations if name.endswith("-row")]
        require(not rows or remote.row == rows[-1], f"STALE_ROW: it holds the value of {remote.row}")
        return
    entries = [content[key] for key in sorted(content) if key.startswith(f"{session_id}/journal/")]
    newest = json.loads(entries[-1]) if entries else {}
    if newest.get("status") == "abandoned":
        said = whole({n: json.loads(entry) for n, entry in enumerate(entries, start=1)}, len(entries))
        known = said["receipts"].keys() | said["attempted"].keys()
        unsaid = [name for name in remote.effects if name.endswith("mail") and name not in known]
        require(not unsaid, f"SENT_AFTER_END: {unsaid}")
        return
    require(not any(b'"status": "abandoned"' in entry for entry in entries), "RESURRECTED")
    marked = f".open/{session_id}" in content or f".blocked/{session_id}" in content
    require(marked, "HIDDEN: it is not final, and has no marker")
    if newest.get("status") == "blocked":
        require(newest.get("block_reason") is not None and newest.get("error"), "SILENT_BLOCK")


def recover(store: TimedStore, remote: Remote, time: Time, ahead: float = 0.0) -> None:
    """Finish a session, with sound requests and an operator who looks before deciding."""
    tools = Tools(store, SteppingAdapter(remote, lambda _: "ok", time), SteppedClock(time))
    if PLANNED not in store.content or is_tombstone(store.content[PLANNED]):
        return
    for _ in range(4):
        time.seconds += PAST_LEASE + LIFETIME + POLICY.clock_skew + ahead
        report = resume(tools)
        check_promises(store.content, remote)
        if report.status in ("completed", "no_resume_needed", "abandoned"):
            break
        require(report.status == "blocked", f"DEAD_END: a late resume says {report.status}: {report.error}")
        require(bool(report.block_reason and report.error), "SILENT_BLOCK: in the report")
        assume = {}
        if report.block_reason == "outcome_unknown":
            assume = {report.operation: found_out(bool(remote.effects.get(report.operation)))}
        unblock_session(SESSION, store=store, reason="looked", assume=assume, clock=tools.clock)
        check_promises(store.content, remote)
    is_final = f"{SESSION}/writeback.json" in store.content
    require(is_final or report.status == "abandoned", "DEAD_END: it never came to its end")
    list(sweep(store, tools.adapter, policy=POLICY, clock=tools.clock))
    left = [key for key in store.content if key.startswith(".")]
    require(not left, f"LEFT_OVER: {left}")


def resume(tools: Tools) -> RunReport:
    return resume_session(SESSION, store=tools.store, adapter=tools.adapter, policy=POLICY, clock=tools.clock)


@dataclass
class Coverage:
    """What an exploration saw."""

    states: int = 0
    executions: int = 0
    steps: int = 0
    recoveries: int = 0
    interleavings: int = 0

    def __str__(self) -> str:
        return (
            f"{self.states} states, {self.executions} executions, {self.steps} steps, {self.recoveries}"
            f" recoveries; they stand for {self.interleavings} schedules"
        )


def explore(scenario: Scenario) -> Coverage:
    """Visit every schedule of a scenario.

    Raises:
        Violation: With the schedule that leads to it.
    """
    coverage = Coverage()
    children: dict[int, list[int]] = {}
    recovered: set[int] = set()
    pending: list[list[Choice]] = [[]]
    while pending:
        schedule = pending.pop()
        coverage.executions += 1
        world = World(scenario)
        try:
            before = None
            for position, choice in enumerate(schedule):
                if position == len(schedule) - 1:
                    before = world.key()
                world.do(choice)
                coverage.steps += 1
            while True:
                key = world.key()
                if before is not None:
                    children[before].append(key)
                if key in children:
                    break
                children[key] = []
                world.check()
                if world.fingerprint() not in recovered:
                    recovered.add(world.fingerprint())
                    world.check_recovery()
                choices = world.choices()
                if not choices:
                    break
                pending += [[*schedule, other] for other in choices[1:]]
                schedule = [*schedule, choices[0]]
                before = key
                world.do(choices[0])
                coverage.steps += 1
        except Violation as violation:
            raise Violation("\n    ".join([str(violation), *world.log])) from violation
        finally:
            world.end()
    coverage.states = len(children)
    coverage.recoveries = len(recovered)
    coverage.interleavings = _paths(children)
    return coverage


def _paths(children: Mapping[int, list[int]]) -> int:
    """Count the ways through the graph of states; it has no cycle: each step leaves a trace."""
    counts: dict[int, int] = {}
    for start in reversed(list(children)):
        todo = [start]
        while todo:
            key = todo[-1]
            missing = [child for child in children[key] if child not in counts]
            if missing:
                todo += missing
                continue
            todo.pop()
            counts[key] = sum(counts[child] for child in children[key]) or 1
    return counts[next(iter(children))]
