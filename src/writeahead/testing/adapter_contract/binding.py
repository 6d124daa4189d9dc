"""What a plan is bound to: one remote, and one content under each key."""

from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest

from writeahead.model import BlockReason, Operation, ReplayClass, RunReport
from writeahead.protocol.planning import keyed_operations
from writeahead.stores.memory import MemoryStore
from writeahead.testing.adapter_contract.backdoor import RemoteRow
from writeahead.testing.adapter_contract.part import FOREVER, ContractPart
from writeahead.testing.adapter_contract.process import KillableClock
from writeahead.testing.adapter_contract.trial import DONE, LATER, Trial, outcome_of
from writeahead.testing.http_proxy import Fault

__all__ = ["Binding"]

# No server listens here: an adapter is made for it, and sends nothing.
_ELSEWHERE = "http://127.0.0.1:9"
# As docs/adapters.md says it.
_NOT_PROMISED = "not promised: a late upsert can undo a later write of its row"
_OWN_ROWS = "each upsert has a row of its own, so a late one writes what is there already"
_REFUSED = (BlockReason.CONFLICT_DETECTED, BlockReason.REJECTED, BlockReason.NOT_READY)


class Binding(ContractPart):
    """Sessions that meet another environment, other content, or their own late requests."""

    def test_the_target_names_the_remote(self) -> None:
        """It is the same for each new adapter, and another one for another URL.

        That it holds no secret is seen in each trial, since the plan has it.
        """
        self._need("target")
        one, two, other = (self._target_at(url) for url in (self._proxy.base, self._proxy.base, _ELSEWHERE))
        assert one, "target: the adapter names none, so a plan can be resumed at another remote"
        assert one == two, "target: two adapters with the same settings differ"
        assert one != other, "target: two remotes have the same"

    def test_the_target_survives_a_new_secret(self) -> None:
        """A plan can be resumed after a password or a token was replaced."""
        self._need("target")
        if not self._backdoor.secrets and not hasattr(self._backdoor, "rotated"):
            pytest.skip("the backdoor names no secret that could be replaced")
        self._need("rotated")
        adapter = self._backdoor.rotated(self._proxy.base, KillableClock(self._proxy))
        try:
            assert adapter.target() == self._target_at(self._proxy.base), "target: a new secret changes it"
        finally:
            _close(adapter)

    def test_the_same_id_with_the_same_content(self) -> None:
        """Hours after the artifacts were lost, it is found to be applied, and has one effect."""
        for kind in self._kinds(ReplayClass.CREATE_WITH_KEY, ReplayClass.UPSERT):
            with self._trial(kind, "same id, same content") as trial:
                trial.run()
                _lose_artifacts(trial)
                trial.judge(trial.run())

    def test_the_same_id_with_other_content(self) -> None:
        """Once the artifacts are lost, it is not taken for applied, nor put over the first one."""
        kinds = self._kinds(*(set(ReplayClass) - {ReplayClass.UNPROVABLE}))
        self._need("other_content")
        for kind in kinds:
            clean = self._cleans[kind]
            with self._trial(kind, "same id, other content") as trial:
                trial.run()
                before = _contents(trial)
                _lose_artifacts(trial)
                _ask_for(trial, [self._backdoor.other_content(trial.given[0])])
                trial.content = {}
                report = self._search_and_run(trial) if clean.replay == ReplayClass.LOOKUP else trial.run()
                self._judge_other(trial, report, before)

    def test_an_upsert_that_lands_late(self) -> None:
        """A request that was given up for lost does not undo the next upsert of its row."""
        upserts = self._kinds(ReplayClass.UPSERT)
        self._need("other_content")
        kinds = [kind for kind in upserts if self._is_named_by_the_caller(kind)]
        declared = {kind: self._settles_after(kind) for kind in kinds}
        if not any(declared.values()):
            pytest.skip(_NOT_PROMISED if kinds else _OWN_ROWS)
        for kind, settles_after in declared.items():
            if settles_after is not None:
                self._try_late(kind, settles_after)

    def _search_and_run(self, trial: Trial) -> RunReport | None:
        """Run a session whose first request never arrives, so that it is searched for."""
        self._proxy.clear()
        planning = self._cleans[trial.operation.kind].planning
        self._proxy.at(planning, Fault("lost request", forward=False, reset=True), times=FOREVER)
        report = trial.run()
        self._proxy.clear()
        # One that looked before it planned has refused already.
        return trial.resume() if trial.is_planned() else report

    def _try_late(self, kind: str, settles_after: timedelta) -> None:
        with self._trial(kind, "late upsert") as trial:
            first = trial.given[0]
            _ask_for(trial, [first, self._backdoor.other_content(first)])
            clean = self._cleans[kind]
            late = _LateRequest(trial, settles_after, clean.write - clean.planning)
            adapter = trial.adapter()
            adapter.before_emit = late.before_emit
            report = trial.run(adapter)
            wanted = _contents(trial)
            late.land()
            if _contents(trial) != wanted:
                trial.problems.append("loss: a late upsert undid the next one of its row")
            trial.content = {}
            trial.judge(report)

    def _settles_after(self, kind: str) -> timedelta | None:
        adapter = self._backdoor.adapter(self._proxy.base, KillableClock(self._proxy))
        _close(adapter)
        return adapter.kinds[kind].settles_after

    def _judge_other(
        self, trial: Trial, report: RunReport | None, before: list[Mapping[str, object]]
    ) -> None:
        trial.judge_messages()
        now = _contents(trial)
        updates = trial.replay_of(trial.operation) is ReplayClass.CONDITIONAL_UPDATE
        if report is None or report.status not in DONE:
            if report is None or report.block_reason not in _REFUSED:
                trial.problems.append(f"stuck: {outcome_of(report)}")
            elif now != before:
                trial.problems.append("loss: refused, and the row of the first session has changed")
            return
        if now == before:
            trial.problems.append("loss: completed, and the remote has the content of the first session only")
        elif not all(row in now for row in before) and not updates and not self._is_shared(trial):
            # An update, and an upsert of a row that the caller names, are asked to write over it.
            trial.problems.append("loss: completed over the content of the first session")

    def _is_named_by_the_caller(self, kind: str) -> bool:
        with self._trial(kind, "whose row it is") as trial:
            trial.run()
            return self._is_shared(trial)

    def _is_shared(self, trial: Trial) -> bool:
        """Whether the payload says which row it is, so that any session may write it."""
        (other,) = keyed_operations(f"{trial.session_id}-other", trial.given[:1])
        return bool(self._backdoor.rows(other))

    def _target_at(self, url: str) -> str | None:
        adapter = self._backdoor.adapter(url, KillableClock(self._proxy))
        try:
            return adapter.target()
        finally:
            _close(adapter)


class _LateRequest:
    """The first write of a session: its sender was told that the connection is gone, and it is not.

    It lands at the last moment that the kind's ``settles_after`` allows: after the next operation
    was sent, or before that if the time is over by then.
    """

    def __init__(self, trial: Trial, settles_after: timedelta, skip: int) -> None:
        self._trial = trial
        self._skip = skip
        self._settles_after = settles_after.total_seconds()
        self._first: str | None = None
        self._left_at = 0.0
        self._has_landed = False

    def before_emit(self, operation_id: str) -> None:
        """Hold the first operation's request back; let it land before another one if it must."""
        if self._first is None:
            self._first = operation_id
            fault = Fault("late", forward=False, reset=True, before=self._leave)
            self._trial.proxy.at(self._skip, fault)
        elif operation_id != self._first and self._now() - self._left_at >= self._settles_after:
            self.land()

    def land(self) -> None:
        """Reach the server, once."""
        if self._has_landed:
            return
        self._has_landed = True
        (held,) = [request for request in self._trial.proxy.requests if request.fault == "late"]
        self._trial.proxy.deliver(held)

    def _leave(self) -> None:
        self._left_at = self._now()

    def _now(self) -> float:
        return self._trial.clock.monotonic()


def _ask_for(trial: Trial, operations: list[Operation]) -> None:
    """Have the session ask for other operations than it did."""
    trial.given = operations
    trial.operations = keyed_operations(trial.session_id, operations)


def _lose_artifacts(trial: Trial) -> None:
    """Empty the store, hours later."""
    trial.inner_store = trial.store.wrapped = MemoryStore()
    trial.clock = KillableClock(trial.proxy, trial.clock.elapsed + LATER)


def _contents(trial: Trial) -> list[Mapping[str, object]]:
    found: list[RemoteRow] = [row for rows in trial.rows() for row in rows]
    return [dict(row.content) for row in found]


def _close(adapter: object) -> None:
    close: Callable[[], None] | None = getattr(adapter, "close", None)
    if close is not None:
        close()
