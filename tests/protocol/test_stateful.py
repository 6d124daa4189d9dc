"""Any history of runs, faults, crashes, sweeps and decisions, against a dict of effects.

``WRITEAHEAD_DEPTH`` multiplies the number of histories. A failure prints the history that leads to
it.
"""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.planted_bugs import (
    with_a_takeover_that_forgets,
    with_an_abandoned_session_resumed,
    without_suspicion,
)
from tests.support.remotes import found_out
from tests.support.s3_server import RawBucket
from tests.support.stepping import (
    EXPIRING,
    KEY_VALID_FOR,
    LIFETIME,
    PAST_LEASE,
    POLICY,
    Remote,
    SteppedClock,
    SteppingAdapter,
    Time,
    TimedStore,
    written_once,
)
from tests.support.stepping import check_promises as hold_promises
from tests.support.wrappers import WholeListStore
from writeahead.errors import (
    AdapterError,
    InvalidInput,
    OutcomeUnknown,
    PlanConflict,
    ResumeError,
    StoreError,
    Unavailable,
)
from writeahead.model import BlockReason, PlannedOperation, Receipt, RunReport, RunStatus
from writeahead.protocol import emission
from writeahead.protocol.finding import State, find_sessions
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.runner import write_back
from writeahead.protocol.session import read_stored
from writeahead.protocol.sweep import sweep
from writeahead.protocol.unblocking import abandon_session, unblock_session
from writeahead.stores.base import ArtifactStore
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.stores.registry import open_store

DEPTH = int(os.environ.get("WRITEAHEAD_DEPTH", "1"))
SLOW = pytest.mark.skipif(
    os.environ.get("WRITEAHEAD_TESTS") != "full", reason="takes ten seconds: WRITEAHEAD_TESTS=full runs it"
)
SESSIONS = ["a", "b"]
KINDS = ["create", "upsert", "edit", "post", "mail", "charge", "bill", "row"]
OUTCOMES = [
    "ok",
    "ok",
    "ok",
    "not applied",
    "lost",
    "late",
    "refused",
    "conflict",
    "bug before",
    "bug after",
    "own-error before",
    "own-error after",
    "crash before",
    "crash after",
    "interrupt after",
]


# Seconds after which a request whose key expires has landed, or never will. That it could take
# longer is in test_interleavings.py.
LATEST_KEY = 30.0


class Crash(BaseException):
    """The process is gone: nothing that it would still do is done."""


class Interrupt(BaseException):
    """The process is told to end, and may still tidy up."""


class AdapterBug(Exception):
    """What no adapter may raise."""


class OwnError(AdapterError):
    """An error of an adapter's own, which says nothing of what took effect."""


class FaultyStore(WholeListStore):
    """A real store that fails once, at its n-th call: before or after the call took effect."""

    def __init__(self, inner: TimedStore) -> None:
        super().__init__(inner)
        self.heal()

    def heal(self) -> None:
        self.countdown, self.fault, self.is_dead = -1, "", False

    def _around(self, verb: str, key: str, call: Callable[[], Any]) -> Any:
        if self.is_dead:
            raise Crash
        is_due = self.countdown == 0
        self.countdown -= 1
        if not is_due:
            return call()
        if self.fault.endswith("after"):
            call()
        if self.fault.startswith("crash"):
            self.is_dead = True
            raise Crash
        kind = Unavailable if self.fault.startswith("down") else OutcomeUnknown
        raise kind(self.name, verb, key, "planted")


class ManyRemotes(SteppingAdapter):
    """One remote for each session; it learns at planning which operation is whose."""

    def __init__(self, machine: "Histories") -> None:
        super().__init__(Remote(), machine.ask, machine.time)
        self.machine = machine

    def plan(self, operations):
        for operation in operations:
            self.machine.sessions_of[operation.key] = operation.session_id
        return super().plan(operations)

    def _send(self, operation: PlannedOperation) -> Receipt:
        remote = self.remote = self.machine.remotes[self.machine.sessions_of[operation.key]]
        outcome = self.machine.next_outcome()
        what, _, when = outcome.partition(" ")
        if when == "after":
            remote.apply(operation.kind, operation.id, self.time.seconds)
        if what == "crash":
            self.machine.store.is_dead = True
            raise Crash
        if what == "interrupt":
            raise Interrupt
        if what == "bug":
            raise AdapterBug
        if what == "own-error":
            raise OwnError
        self.machine.outcomes.insert(0, outcome)
        try:
            return super()._send(operation)
        finally:
            latest = self.machine.time.seconds + LATEST_KEY
            remote.late = [
                (kind, name, min(until, latest) if kind in EXPIRING else until)
                for kind, name, until in remote.late
            ]

    def find_post(self, payload, operation):
        self.remote = self.machine.remotes[self.machine.sessions_of[operation.key]]
        return super().find_post(payload, operation)


class Histories(RuleBasedStateMachine):
    """What may happen to two sessions.

    Attributes:
        only: The kinds that are tried, where it is not all of them.
        ends: What may become of a request, likewise.
    """

    only: tuple[str, ...] = tuple(KINDS)
    ends: tuple[str, ...] = tuple(OUTCOMES)

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.inner = TimedStore(self.time, self.make_store())
        self.store = FaultyStore(self.inner)
        self.clock = SteppedClock(self.time, sleep=self.pass_time)
        self.remotes = {name: Remote() for name in SESSIONS}
        self.sessions_of: dict[str, str] = {}
        self.adapter = ManyRemotes(self)
        self.outcomes: list[str] = []
        self.lands = False
        self.seen: dict[str, bytes] = {}

    def make_store(self) -> ArtifactStore:
        return MemoryStore()

    # -- the world
    # --------------------------------------------------------------------------------------

    def ask(self, what: str) -> str:
        return self.next_outcome() if what.startswith("send") else "ok"

    def next_outcome(self) -> str:
        return self.outcomes.pop(0) if self.outcomes else "ok"

    def pass_time(self, seconds: float) -> None:
        """Let time pass; a late request lands at its beginning, or never."""
        for remote in self.remotes.values():
            while self.lands and remote.late:
                remote.land(now=self.time.seconds)
        self.time.seconds += seconds
        for remote in self.remotes.values():
            remote.late = [late for late in remote.late if late[2] > self.time.seconds]

    def run(self, call: Callable[[], RunReport]) -> RunReport | None:
        """Make a run in this world; what it raises must be what it may raise."""
        report = None
        try:
            report = call()
        except (Crash, Interrupt, StoreError, AdapterBug, OwnError):
            pass
        finally:
            self.store.heal()
            self.outcomes = []
        if report:
            self.believe(report)
        return report

    def believe(self, report: RunReport) -> None:
        """Hold a report against the truth."""
        effects = self.remotes[report.session_id].effects
        for operation_id, receipt in report.receipts.items():
            count = effects.get(operation_id, 0)
            assert count == 1, f"{operation_id} took effect {count} times: {receipt}"
        if report.status in (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED):
            assert f"{report.session_id}/writeback.json" in self.inner.content
            assert set(report.receipts) == {operation.id for operation in report.operations}
        if report.status is RunStatus.BLOCKED:
            assert report.block_reason
            assert report.error

    def planned(self, session_id: str) -> list[str] | None:
        data = self.inner.content.get(f"{session_id}/planned-writeback.json")
        return [one["kind"] for one in json.loads(data).get("operations", [])] if data else None

    # -- what may happen
    # --------------------------------------------------------------------------------

    faults = st.one_of(
        st.none(), st.tuples(st.integers(0, 14), st.sampled_from(["crash", "down", "unknown"]), st.booleans())
    )
    outcome_lists = st.lists(st.sampled_from(OUTCOMES), max_size=6)

    def arm(self, fault, outcomes, lands) -> None:
        if fault:
            self.store.countdown, kind, after = fault
            self.store.fault = f"{kind} {'after' if after and kind != 'down' else 'before'}"
        self.outcomes = [self.ends[OUTCOMES.index(outcome) % len(self.ends)] for outcome in outcomes]
        self.lands = lands

    @rule(
        session_id=st.sampled_from(SESSIONS),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
        interval=st.sampled_from([0.0, 1.0, 3600.0]),
        fault=faults,
        outcomes=outcome_lists,
        lands=st.booleans(),
    )
    def write(self, *, session_id, kinds, interval, fault, outcomes, lands):
        before = self.planned(session_id)
        kinds = [self.only[KINDS.index(kind) % len(self.only)] for kind in kinds]
        operations = [{"kind": kind, "payload": {"text": "x"}} for kind in kinds]
        self.arm(fault, outcomes, lands)
        try:
            self.run(
                lambda: write_back(
                    operations,
                    session_id=session_id,
                    store=self.store,
                    adapter=self.adapter,
                    policy=POLICY.model_copy(update={"journal_interval": interval}),
                    clock=self.clock,
                )
            )
        except PlanConflict:
            assert before is not None
            assert before != kinds
        except ResumeError:
            assert before == [], "a plan that is there is refused only if it is a tombstone"

    @rule(
        session_id=st.sampled_from(SESSIONS),
        interval=st.sampled_from([0.0, 1.0, 3600.0]),
        override=st.sampled_from([{}, {"take_over": "it hangs"}, {"now": "it is up again"}]),
        fault=faults,
        outcomes=outcome_lists,
        lands=st.booleans(),
    )
    def resume(self, *, session_id, interval, override, fault, outcomes, lands):
        before = self.planned(session_id)
        self.arm(fault, outcomes, lands)
        try:
            self.run(
                lambda: resume_session(
                    session_id,
                    store=self.store,
                    adapter=self.adapter,
                    policy=POLICY.model_copy(update={"journal_interval": interval}),
                    clock=self.clock,
                    **override,
                )
            )
        except ResumeError:
            assert not before

    @rule(session_id=st.sampled_from(SESSIONS), fault=faults, sure=st.sampled_from([True, False, False]))
    def abandon(self, session_id, fault, sure):
        """An operator ends a session for good: not as often as other things happen."""
        if not sure:
            return
        self.arm(fault, [], lands=False)
        try:
            self.run(
                lambda: abandon_session(session_id, store=self.store, reason="done by hand", clock=self.clock)
            )
        except InvalidInput:
            assert f"{session_id}/writeback.json" in self.inner.content
        except ResumeError:
            assert not self.planned(session_id)

    @rule(fault=faults, outcomes=outcome_lists, lands=st.booleans())
    def sweep(self, fault, outcomes, lands):
        def all_of_it() -> None:
            for result in sweep(self.store, self.adapter, policy=POLICY, clock=self.clock):
                if result.report:
                    self.believe(result.report)

        self.arm(fault, outcomes, lands)
        self.run(all_of_it)

    @rule(
        seconds=st.sampled_from([1.0, 60.0, LIFETIME + 10, KEY_VALID_FOR / 2, PAST_LEASE]),
        lands=st.booleans(),
    )
    def advance(self, seconds, lands):
        self.lands = lands
        self.pass_time(seconds)

    @rule(session_id=st.sampled_from(SESSIONS), fault=faults, lands=st.booleans())
    def unblock(self, session_id, fault, lands):
        """A person waits until nothing can land any more, looks, and says what is true."""
        self.lands = lands
        if any(late[0] in ("mail", *EXPIRING) for late in self.remotes[session_id].late):
            self.pass_time(LIFETIME)
        blocked = {one.session_id: one for one in find_sessions(self.inner, State.BLOCKED, clock=self.clock)}
        self.arm(fault, [], lands)
        try:
            self.run(lambda: self.unblock_truly(session_id, self.store))
        except (InvalidInput, ResumeError):
            assert session_id not in blocked
        else:
            assert session_id in blocked or fault

    def unblock_truly(self, session_id: str, store: ArtifactStore) -> RunReport:
        assume = {}
        if (entry := read_stored(self.inner, session_id).entry) and (
            entry.block_reason is BlockReason.OUTCOME_UNKNOWN
        ):
            assume = {entry.operation: found_out(bool(self.remotes[session_id].effects.get(entry.operation)))}
        return unblock_session(session_id, store=store, reason="looked", assume=assume, clock=self.clock)

    # -- what must hold
    # ---------------------------------------------------------------------------------

    @invariant()
    def promises_hold(self):
        content = self.inner.content
        for session_id, remote in self.remotes.items():
            hold_promises(content, remote, session_id)
        for key, data in self.seen.items():
            assert content.get(key) == data, f"{key} has changed"
        self.seen = written_once(content)

    @invariant()
    def unfinished_sessions_are_found(self):
        found = {one.session_id for one in find_sessions(self.inner, State.OPEN, clock=self.clock)}
        for session_id in SESSIONS:
            is_final = f"{session_id}/writeback.json" in self.seen
            if self.planned(session_id) and not is_final and not self.is_abandoned(session_id):
                assert session_id in found

    def is_abandoned(self, session_id: str) -> bool:
        entry = read_stored(self.inner, session_id).entry
        return entry is not None and entry.status is RunStatus.ABANDONED

    def teardown(self):
        """After any history, sound resumes, and an operator where needed, bring it to an end."""
        self.store.heal()
        self.outcomes, self.lands = [], True
        for session_id in SESSIONS:
            # An operator may be needed once for the claim and for each of three operations.
            for _ in range(6):
                if not self.planned(session_id) or f"{session_id}/writeback.json" in self.inner.content:
                    break
                self.pass_time(PAST_LEASE + LIFETIME)
                report = resume_session(
                    session_id, store=self.inner, adapter=self.adapter, policy=POLICY, clock=self.clock
                )
                self.believe(report)
                if report.status is RunStatus.ABANDONED:
                    break
                if report.status is RunStatus.BLOCKED:
                    self.unblock_truly(session_id, self.inner)
            else:
                pytest.fail(f"session {session_id} never came to its end: {report.status}, {report.error}")
            self.promises_hold()
        self.pass_time(PAST_LEASE)
        self.promises_hold()
        list(sweep(self.inner, self.adapter, policy=POLICY, clock=self.clock))
        left = {key for key in self.inner.content if key.startswith(".")}
        # A run that died in a tombstone's place leaves one: see test_interleavings.py.
        left -= {f".blocked/{name}" for name in SESSIONS if not self.planned(name)}
        assert not left, "a marker stays behind"


class HistoriesOfTime(Histories):
    only = ("charge", "row", "bill", "row")
    ends = ("ok", "lost", "late")


class HistoriesOnDisk(Histories):
    def make_store(self) -> ArtifactStore:
        self.folder = tempfile.mkdtemp()
        return LocalStore(self.folder)

    def teardown(self):
        try:
            super().teardown()
        finally:
            shutil.rmtree(self.folder)


class HistoriesOnS3(Histories):
    bucket: RawBucket

    def make_store(self) -> ArtifactStore:
        bucket = self.bucket
        self.place = RawBucket(bucket.server, bucket.name, f"{secrets.token_hex(6)}/")
        return open_store(
            f"s3://{self.place.name}/{self.place.prefix.rstrip('/')}?endpoint_url={self.place.server}"
        )

    def __init__(self) -> None:
        super().__init__()
        self.inner.look = self.content

    def content(self) -> dict[str, bytes]:
        keys = self.place.keys()
        return {key: self.place.read(key) for key in keys}


def try_histories(machine: type[Histories], examples: int, *, to_fail: bool = False) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=12,
            deadline=None,
            database=None,
            derandomize=to_fail,
            # A planted bug need only be found, not be brought to its shortest history.
            phases=[Phase.generate] if to_fail else [Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(3600)
def test_no_history_breaks_a_promise_in_memory():
    try_histories(Histories, 200 * DEPTH)


@pytest.mark.timeout(3600)
def test_no_history_of_keys_that_expire_and_late_upserts_breaks_a_promise():
    try_histories(HistoriesOfTime, 200 * DEPTH)


@pytest.mark.timeout(3600)
def test_no_history_breaks_a_promise_on_disk():
    try_histories(HistoriesOnDisk, 30 * DEPTH)


@pytest.mark.timeout(3600)
def test_no_history_breaks_a_promise_on_s3(s3_bucket, monkeypatch):
    monkeypatch.setattr(HistoriesOnS3, "bucket", s3_bucket, raising=False)
    try_histories(HistoriesOnS3, 3 * DEPTH)


def with_an_unknown_outcome_taken_for_a_no(monkeypatch):
    monkeypatch.setattr(emission.Emission, "_note_failure", lambda self, unit, error: None)


def with_any_adapter_error_taken_for_a_no(monkeypatch):
    monkeypatch.setattr(emission, "_CONCLUSIVE", (*emission._CONCLUSIVE, AdapterError))


def without_a_wait_for_late_upserts(monkeypatch):
    monkeypatch.setattr(emission.Emission, "_wait_for_late_requests", lambda self, unit: None)


DOUBLED = "took effect 2 times"


@pytest.mark.parametrize(
    ("plant", "promise", "machine"),
    [
        (with_a_takeover_that_forgets, DOUBLED, Histories),
        # These take some ten seconds each to be found.
        pytest.param(with_an_unknown_outcome_taken_for_a_no, DOUBLED, Histories, marks=SLOW),
        pytest.param(without_suspicion, DOUBLED, Histories, marks=SLOW),
        pytest.param(with_any_adapter_error_taken_for_a_no, DOUBLED, Histories, marks=SLOW),
        pytest.param(without_a_wait_for_late_upserts, "STALE_ROW", HistoriesOfTime, marks=SLOW),
        pytest.param(with_an_abandoned_session_resumed, f"RESURRECTED|{DOUBLED}", Histories, marks=SLOW),
    ],
)
def test_a_planted_bug_is_found(plant, promise, machine, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=promise):
        try_histories(machine, 6000, to_fail=True)
