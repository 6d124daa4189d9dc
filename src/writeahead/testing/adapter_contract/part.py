"""What the parts of the adapter contract share: trials, and how they are counted."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from writeahead.adapters.base import TransactionalAdapter
from writeahead.model import BlockReason, ReplayClass, RunReport
from writeahead.testing.adapter_contract.backdoor import RemoteBackdoor
from writeahead.testing.adapter_contract.process import FaultProxy
from writeahead.testing.adapter_contract.trial import DONE, Clean, Trial, outcome_of
from writeahead.testing.http_proxy import lost_reply
from writeahead.testing.part import Part, require_members
from writeahead.testing.summary import ADAPTER_PROPERTY

__all__ = [
    "FOREVER",
    "TRANSACTION",
    "ContractPart",
    "Later",
    "require_blocked",
    "require_standing",
    "wait_for",
]

FOREVER = 10**6
# What stands for the kind of a session whose operations are one transaction.
TRANSACTION = "all of them"
_PATIENCE = 300.0  # seconds that a thread waits for another one; more is a deadlock
_COUNTED = {"duplicate": "duplicates", "loss": "losses", "stuck": "stuck", "leak": "leaks"}


@dataclass
class Tally:
    """What was tried of one kind, and what went wrong."""

    replay: str
    cases: int = 0
    duplicates: int = 0
    losses: int = 0
    stuck: int = 0
    leaks: int = 0


class ContractPart(Part):
    """Some of the tests of `AdapterContract`."""

    _known: ClassVar[tuple[RemoteBackdoor, Mapping[str, Clean]] | None] = None

    @pytest.fixture(autouse=True)
    def _tried(
        self, backdoor: RemoteBackdoor, tmp_path: Path, record_property: Callable[[str, object], None]
    ) -> Iterator[None]:
        with self.on(backdoor, tmp_path) as tallies:
            # By reference: it is filled by the time that the report is made.
            record_property(ADAPTER_PROPERTY, {"name": type(self).__name__, "kinds": tallies})
            yield

    @contextmanager
    def on(self, backdoor: RemoteBackdoor, folder: Path) -> Iterator[Mapping[str, Mapping[str, Any]]]:
        """Let the tests run on a backdoor, without pytest's fixtures; for tests of this kit.

        Args:
            backdoor: The remote.
            folder: For artifacts; empty.

        Returns:
            A `Tally` for each kind, as a dict.
        """
        self._tallies: dict[str, dict[str, Any]] = {}
        self._folder = folder
        require_members(backdoor, "url", "secrets", "operations", "adapter", "rows")
        self._backdoor = backdoor
        self._echo = " ".join(backdoor.secrets).encode()
        with FaultProxy(backdoor.url) as proxy:
            self._proxy = proxy
            self._cleans = self._cleans_of(backdoor)
            yield self._tallies

    def _need(self, *parts: str) -> None:
        super()._need(*parts)
        for part in parts:
            if part in vars(RemoteBackdoor):
                require_members(self._backdoor, part, part=part)

    def _kinds_of(self, *classes: ReplayClass) -> list[str]:
        return [kind for kind, clean in self._cleans.items() if clean.replay in classes]

    def _kinds(self, *classes: ReplayClass) -> list[str]:
        """The kinds of some classes; the test is skipped if there are none."""
        kinds = self._kinds_of(*classes)
        if not kinds:
            pytest.skip(f"no kind is of class {', '.join(sorted(classes))}")
        return kinds

    def _moments(self, *kinds: str) -> list[tuple[str, int]]:
        """Each kind with each of its `Clean.moments`."""
        return [(kind, moment) for kind in kinds for moment in self._cleans[kind].moments()]

    def _cleans_of(self, backdoor: RemoteBackdoor) -> Mapping[str, Clean]:
        """Each kind's session without a fault, done once for all tests that share a backdoor."""
        known = type(self)._known  # noqa: SLF001 - the subclass's own
        if known is None or known[0] is not backdoor:
            cleans = {kind: self._clean([kind]) for kind in backdoor.operations}
            known = backdoor, {**cleans, **self._transaction(cleans)}
            type(self)._known = known  # noqa: SLF001 - see above
        return known[1]

    def _transaction(self, cleans: Mapping[str, Clean]) -> Mapping[str, Clean]:
        """One transaction of all kinds, if the adapter can do that; it is tried like a kind."""
        unfit = (ReplayClass.LOOKUP, ReplayClass.UNPROVABLE)
        kinds = [kind for kind, clean in cleans.items() if clean.replay not in unfit]
        if "transaction" in self.impossible or not kinds:
            return {}
        trial = Trial(self._backdoor, self._proxy, kinds)
        able = isinstance(trial.adapter().inner, TransactionalAdapter)
        trial.close()
        return {TRANSACTION: self._clean(kinds, atomic=True)} if able else {}

    def _clean(self, kinds: Sequence[str], *, atomic: bool = False) -> Clean:
        """Do one session without any fault, to learn its exchanges and its content."""
        trial = Trial(self._backdoor, self._proxy, kinds, atomic=atomic)
        try:
            self._proxy.watch(trial.rows)
            report = trial.run()
            trial.judge(report)
            assert not trial.problems, f"{kinds}: without any fault: {'; '.join(trial.problems)}"
            content = {one.kind: self._backdoor.rows(one)[0].content for one in trial.operations}
            replay = "transaction" if atomic else str(trial.replay_of(trial.operation))
            planning, total = trial.store.planning or 0, len(self._proxy.requests)
            # A write that leaves the rows as they were is taken for the first request that is sent.
            write = planning if self._proxy.effect is None else self._proxy.effect
            takes_baseline = trial.adapters[0].kinds[trial.operation.kind].baseline is not None
        finally:
            trial.close()
        more = self._more(kinds, write, atomic=atomic)
        return Clean(replay, planning, write, total, content, more, takes_baseline)

    def _more(self, kinds: Sequence[str], write: int, *, atomic: bool) -> int:
        """How many requests a run sends after a lost reply; nothing is judged here."""
        trial = Trial(self._backdoor, self._proxy, kinds, atomic=atomic)
        try:
            self._proxy.at(write, lost_reply())
            trial.run()
            more = len(self._proxy.requests) - write - 1
            trial.settle()
            return more
        finally:
            trial.close()

    @contextmanager
    def _trial(self, kind: str, what: str, **parts: Any) -> Iterator[Trial]:
        """One case: it is counted, and its problems fail the test with its name."""
        clean = self._cleans[kind]
        trial = Trial(
            self._backdoor,
            self._proxy,
            list(clean.content),
            clean.content,
            atomic=kind == TRANSACTION,
            **parts,
        )
        try:
            yield trial
        finally:
            trial.close()
            tally = Tally(**self._tallies.get(kind, {"replay": clean.replay}))
            tally.cases += 1
            for problem in trial.problems:
                counter = _COUNTED.get(problem.split(":")[0])
                if counter:
                    setattr(tally, counter, getattr(tally, counter) + 1)
            self._tallies[kind] = asdict(tally)
        assert not trial.problems, f"{kind}, {what}: {'; '.join(trial.problems)}"

    def _settle(self, trial: Trial, report: RunReport | None) -> None:
        """Judge a session that met faults, after it was resumed if it must be."""
        trial.judge_rows()
        if report is None or report.status not in DONE:
            trial.judge_planning(report)
            report = trial.settle()
        trial.judge(report)


class Later:
    """An edit at a moment to come; it then tells whether it is still there."""

    def __init__(self, edit: Callable[[], Callable[[], bool]]) -> None:
        self._edit = edit
        self._stands: Callable[[], bool] | None = None

    def __call__(self) -> None:
        """Edit."""
        self._stands = self._edit()

    def stands(self) -> bool:
        """Whether the edit is still there."""
        assert self._stands is not None, "the moment never came: the adapter sent nothing"
        return self._stands()


def require_standing(trial: Trial, stands: Callable[[], bool]) -> None:
    """Note a loss if what another user wrote is gone."""
    if not stands():
        trial.problems.append("loss: what another user wrote is gone")


def require_blocked(trial: Trial, report: RunReport | None, *reasons: BlockReason) -> None:
    """Note a loss if a session did not end as blocked, with one of the reasons."""
    if report is None or report.block_reason not in reasons:
        problem = f"loss: it must end {' or '.join(reasons)}, and it ended: {outcome_of(report)}"
        trial.problems.append(problem)


def wait_for(event: threading.Event) -> None:
    """Wait until another thread has set the event."""
    assert event.wait(_PATIENCE), "the other thread never came so far"
