"""Without any fault."""

from writeahead.model import ReplayClass, RunStatus
from writeahead.stores.memory import MemoryStore
from writeahead.testing.adapter_contract.part import ContractPart

__all__ = ["Plain"]


class Plain(ContractPart):
    """Sessions that meet no fault."""

    def test_a_clean_session(self) -> None:
        """It makes one row, its receipt names it, and resuming it sends nothing."""
        for kind in self._cleans:
            with self._trial(kind, "clean") as trial:
                report = trial.run()
                trial.judge(report)
                trial.wire.clear()
                again = trial.resume()
                assert again is not None
                assert again.status is RunStatus.NO_RESUME_NEEDED
                assert trial.wire.requests == []

    def test_planning_has_no_side_effect(self) -> None:
        """Neither a plan nor a dry run changes anything at the remote."""
        self._need("snapshot")
        for kind in self._cleans:
            with self._trial(kind, "planning") as trial:
                before = self._place.snapshot()
                adapter = trial.adapter()
                first, second = adapter.plan(trial.operations), adapter.plan(trial.operations)
                if first != second:
                    trial.problems.append("stuck: two plans of one operation differ")
                report = trial.run(dry_run=True)
                if report is None or report.status is not RunStatus.PLANNED:
                    trial.problems.append("stuck: the dry run made no plan")
                if self._place.snapshot() != before:
                    trial.problems.append("duplicate: planning changed something")
                trial.judge_words()

    def test_a_session_that_lost_its_artifacts(self) -> None:
        """Done once more from nothing, under the same ids, it still makes one row."""
        for kind in self._kinds(
            ReplayClass.CREATE_WITH_KEY, ReplayClass.UPSERT, ReplayClass.CONDITIONAL_UPDATE
        ):
            with self._trial(kind, "artifacts lost") as trial:
                trial.run()
                trial.inner_store = MemoryStore()
                trial.store.wrapped = trial.inner_store
                trial.judge(trial.run())
