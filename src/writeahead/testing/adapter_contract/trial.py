"""One session on a network that fails on demand, and its judgement."""

import json
import secrets
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from writeahead.errors import WriteaheadError
from writeahead.model import BlockReason, KeyedOperation, ReplayClass, RunPolicy, RunReport, RunStatus
from writeahead.protocol.keys import planned_key
from writeahead.protocol.planning import keyed_operations
from writeahead.protocol.resuming import resume_session
from writeahead.protocol.runner import write_back
from writeahead.stores.base import ArtifactStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing.adapter_contract.backdoor import RemoteBackdoor, RemoteRow
from writeahead.testing.adapter_contract.process import (
    FaultProxy,
    KillableClock,
    KillableStore,
    Killed,
    RecordingAdapter,
)

__all__ = ["DONE", "Clean", "Trial", "outcome_of"]

POLICY = RunPolicy(attempts=3, run_limit=7200, lease=7200, clock_skew=0)
# Hours later than any lease, wait or request lifetime that the trials have.
LATER = 8 * 3600.0
DONE = (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED)
_ROUNDS = 3


@dataclass(frozen=True)
class Clean:
    """What a session without faults did.

    Attributes:
        replay: The replay class of its kind.
        planning: How many requests planning took.
        write: The position of the request that wrote. Some adapters look again before it.
        total: How many requests all of it took.
        content: What it wrote, by kind.
        more: How many requests a run sends after a write whose reply was lost.
        takes_baseline: Whether its caller may say what the row was like.
    """

    replay: str
    planning: int
    write: int
    total: int
    content: Mapping[str, Mapping[str, object]]
    more: int
    takes_baseline: bool = False

    def exchanges(self) -> Sequence[int]:
        """Which requests to spoil: the first and the last of planning, and all that follow."""
        planning = {0, self.planning - 1} if self.planning else set()
        return sorted(planning | set(range(self.planning, self.total)))

    def lookups(self) -> Sequence[int]:
        """Which requests of planning `exchanges` leaves out."""
        return range(1, self.planning - 1)

    def moments(self) -> Sequence[int]:
        """Before which requests others come between: the first one of sending, and the write."""
        return sorted({self.planning, self.write})


@dataclass
class Trial:
    """One session, from its plan to its end, with everything that it reported.

    Attributes:
        backdoor: Reads the remote around the adapter.
        proxy: Between the adapter and the remote.
        kinds: It has one operation of each of these.
        content: By kind, what its row must hold in the end; any content will do for one that is not
            here.
        atomic: The operations are one transaction.
        inner_store: For the artifacts; it outlives the process.
        problems: What went wrong, so far.
        reports: What the runs said.
    """

    backdoor: RemoteBackdoor
    proxy: FaultProxy
    kinds: Sequence[str]
    content: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    atomic: bool = False
    inner_store: ArtifactStore = field(default_factory=MemoryStore)
    problems: list[str] = field(default_factory=list)
    reports: list[RunReport] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.proxy.clear()
        self.session_id = f"contract-{secrets.token_hex(8)}"
        self.given = [self.backdoor.operations[kind]() for kind in self.kinds]
        self.operations = keyed_operations(self.session_id, self.given)
        self.store = KillableStore(self.inner_store, self.proxy)
        self.clock = KillableClock(self.proxy)
        self.adapters: list[RecordingAdapter] = []
        self._at_first = self.rows()

    @property
    def operation(self) -> KeyedOperation:
        """The first operation; most trials have no other."""
        return self.operations[0]

    # Running.

    def adapter(
        self,
        detour_to: str | None = None,
        *,
        detours: int = 0,
        plan: bool = False,
        clock: KillableClock | None = None,
    ) -> RecordingAdapter:
        """A new adapter behind the proxy, recorded."""
        clock = clock or self.clock
        detour = self.backdoor.adapter(detour_to + self.proxy.path, clock) if detour_to else None
        inner = self.backdoor.adapter(self.proxy.base, clock)
        made = RecordingAdapter(inner, self.proxy, self.rows, detour, detours=detours, plan=plan)
        self.adapters.append(made)
        return made

    def run(self, adapter: RecordingAdapter | None = None, *, dry_run: bool = False) -> RunReport | None:
        """Plan and emit; None if the process died of it."""
        adapter = adapter or self.adapter()
        return self._report(
            lambda: write_back(
                self.given,
                session_id=self.session_id,
                store=self.store,
                adapter=adapter,
                policy=POLICY,
                clock=self.clock,
                dry_run=dry_run,
                atomic=self.atomic,
            )
        )

    def resume(self) -> RunReport | None:
        """Resume when all leases and waits are over, with nothing but the store."""
        # One of its own: several may come at once.
        clock = KillableClock(self.proxy, self.clock.elapsed + LATER)
        self.clock = clock
        adapter = self.adapter(clock=clock)
        return self._report(
            lambda: resume_session(
                self.session_id,
                store=self.store,
                adapter=adapter,
                policy=POLICY,
                clock=clock,
            )
        )

    def settle(self) -> RunReport | None:
        """Bring the session to its end, now that all faults are gone."""
        self.proxy.clear()
        report: RunReport | None = None
        for _ in range(_ROUNDS):
            report = self.resume() if self.is_planned() else self.run()
            if report is None or report.status in (*DONE, RunStatus.BLOCKED):
                break
        return report

    def is_planned(self) -> bool:
        """Whether there is a plan to resume from."""
        return self.inner_store.head(planned_key(self.session_id)) is not None

    def _report(self, call: Callable[[], RunReport]) -> RunReport | None:
        try:
            report = call()
        except Killed:
            return None
        except WriteaheadError as error:
            self.problems.append(f"stuck: it raised {type(error).__name__}: {error}")
            return None
        self.reports.append(report)
        return report

    # Judging.

    def rows(self) -> list[list[RemoteRow]]:
        """The remote's rows, by operation."""
        return [list(self.backdoor.rows(operation)) for operation in self.operations]

    def judge_rows(self) -> None:
        """Look at the remote, at a moment when no request is on its way."""
        counts = [len(rows) for rows in self.rows()]
        if max(counts) > 1:
            self.problems.append(f"duplicate: {max(counts)} rows")
        if self.atomic and 0 in counts and any(counts):
            self.problems.append("loss: a part of a transaction is there, and a part is not")

    def judge_planning(self, report: RunReport | None) -> None:
        """Look at a session that met faults before it had a plan, and ended without one."""
        if self.is_planned() or report is None:
            return
        if self.rows() != self._at_first:
            self.problems.append("duplicate: something is written, and no plan knows of it")
        if report.status is not RunStatus.RESUME_NEEDED and report.block_reason is not BlockReason.NOT_READY:
            self.problems.append(f"stuck: a fault at planning passes, and it ended {outcome_of(report)}")

    def judge(self, report: RunReport | None) -> None:
        """Compare what the session says with what the remote has."""
        self.judge_rows()
        self.judge_messages()
        self.judge_claims()
        if report is not None and report.status in DONE:
            for operation in self.operations:
                self._judge_done(operation, report, self.backdoor.rows(operation))
        elif not (self._may_be_unknown() and report and report.block_reason is BlockReason.OUTCOME_UNKNOWN):
            self.problems.append(f"stuck: {outcome_of(report)}")

    def _judge_done(self, operation: KeyedOperation, report: RunReport, rows: Sequence[RemoteRow]) -> None:
        if not rows:
            self.problems.append("loss: said to be done, and no row is there")
            return
        content = self.content.get(operation.kind)
        if content is not None and dict(rows[0].content) != dict(content):
            names = [name for name, value in content.items() if rows[0].content.get(name) != value]
            self.problems.append(f"loss: other content in {', '.join(names) or 'its fields'}")
        named = report.receipts[operation.id].remote_id
        if self._names_its_row(operation) and named not in {row.id for row in rows}:
            self.problems.append(f"receipt: it names {named!r}, and the row is {rows[0].id!r}")

    def _names_its_row(self, operation: KeyedOperation) -> bool:
        kind = self.adapters[0].kinds[operation.kind]
        return kind.has_receipt and kind.replay is not ReplayClass.UNPROVABLE

    def judge_claims(self) -> None:
        """Note each error that said "surely not applied" of a request that was applied."""
        self.problems += [
            f"claim: {error} said that nothing was applied, and the remote had applied the request"
            for one in self.adapters
            for error in one.false_claims
        ]

    def judge_messages(self) -> None:
        """Look for secrets and hosts in errors, reports and artifacts."""
        words = [
            f"{type(error).__name__} {error!s} {error!r}" for one in self.adapters for error in one.errors
        ]
        words += [repr(one.inner) for one in self.adapters]
        kept = [report.model_dump_json() for report in self.reports]
        kept += [self.inner_store.get(info.key).data.decode() for info in list(self.inner_store.list())]
        for secret in self.backdoor.secrets:
            if any(secret in text or json.dumps(secret)[1:-1] in text for text in (*words, *kept)):
                self.problems.append("leak: a secret of the settings is in a message")
        host = urllib.parse.urlsplit(self.proxy.url).netloc
        if any(host in text for text in kept):
            self.problems.append("leak: the remote's host is in a message")

    def replay_of(self, operation: KeyedOperation) -> ReplayClass:
        """The class of an operation's kind."""
        return self.adapters[0].kinds[operation.kind].replay

    def _may_be_unknown(self) -> bool:
        return any(self.replay_of(operation) is ReplayClass.UNPROVABLE for operation in self.operations)

    def waits(self) -> list[float]:
        """How long the adapters said to wait, error by error, in seconds."""
        return [wait for one in self.adapters for wait in one.waits if wait is not None]

    def close(self) -> None:
        """Close what the adapters hold, and forget the faults."""
        self.proxy.clear()
        for adapter in self.adapters:
            adapter.close()


def outcome_of(report: RunReport | None) -> str:
    """How a run ended, in words."""
    if report is None:
        return "it did not end"
    return f"{report.status} {report.block_reason or ''} {report.error or ''}".strip()
