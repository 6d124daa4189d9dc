"""What other users do to the same rows meanwhile."""

from functools import partial

import pytest

from writeahead.model import BlockReason, ReplayClass, RunReport
from writeahead.testing.adapter_contract.part import (
    FOREVER,
    TRANSACTION,
    ContractPart,
    Later,
    require_blocked,
    require_standing,
)
from writeahead.testing.adapter_contract.trial import Trial
from writeahead.testing.http_proxy import after, answer, lost_reply

__all__ = ["ConcurrentEdits"]


class ConcurrentEdits(ContractPart):
    """Sessions whose rows other users change, too."""

    def test_an_edit_between_plan_and_send(self) -> None:
        """An edit of what the plan guards wins, and the session waits for an operator."""
        kinds = self._kinds(ReplayClass.CONDITIONAL_UPDATE)
        self._need("edit")
        for kind, moment in self._moments(*kinds):
            with self._trial(kind, "edit before sending") as trial:
                edit = Later(partial(self._backdoor.edit, trial.operation, guarded=True))
                self._proxy.at(moment, after(edit))
                self._require_conflict(trial, trial.run(), edit)

    def test_an_edit_between_two_runs(self) -> None:
        """The same, when the remote was down for the whole of the first run."""
        kinds = self._kinds(ReplayClass.CONDITIONAL_UPDATE)
        self._need("edit")
        for kind in kinds:
            with self._trial(kind, "edit before resuming") as trial:
                self._proxy.at(self._cleans[kind].planning, answer(503), times=FOREVER)
                trial.run()
                self._proxy.clear()
                edit = Later(partial(self._backdoor.edit, trial.operation, guarded=True))
                edit()
                self._require_conflict(trial, trial.resume(), edit)

    @pytest.mark.parametrize("removed", [False, True], ids=["edited", "removed"])
    def test_an_edit_between_load_and_plan(self, *, removed: bool) -> None:
        """An edit since the caller loaded the row is a conflict, and nothing is planned."""
        for kind in self._kinds_with_baseline("remove" if removed else "edit"):
            with self._trial(kind, f"row {'removed' if removed else 'edited'} since it was loaded") as trial:
                self._load(trial)
                if removed:
                    self._backdoor.remove(trial.operation)
                else:
                    stands = self._backdoor.edit(trial.operation, guarded=True)
                report = trial.run()
                if removed and self._backdoor.rows(trial.operation):
                    trial.problems.append("loss: a row that another user deleted is there again")
                elif not removed:
                    require_standing(trial, stands)
                require_blocked(trial, report, BlockReason.CONFLICT_DETECTED)
                if trial.is_planned():
                    trial.problems.append("stuck: there is a plan, and the conflict was there before it")
                trial.judge_messages()

    def test_a_row_that_nobody_touched_since_it_was_loaded(self) -> None:
        """It is written."""
        for kind in self._kinds_with_baseline():
            with self._trial(kind, "a baseline of the caller") as trial:
                self._load(trial)
                trial.judge(trial.run())

    def test_an_edit_elsewhere_in_the_row(self) -> None:
        """An edit of what the plan does not guard stands beside the write."""
        kinds = self._kinds(ReplayClass.CONDITIONAL_UPDATE)
        self._need("edit", "unguarded")
        for kind, moment in self._moments(*kinds):
            with self._trial(kind, "edit elsewhere") as trial:
                edit = Later(partial(self._backdoor.edit, trial.operation, guarded=False))
                self._proxy.at(moment, after(edit))
                report = trial.run()
                require_standing(trial, edit.stands)
                trial.judge(report)

    def test_an_edit_of_what_was_written(self) -> None:
        """The write was applied and its reply lost; an edit of the row after that is not undone."""
        updates = self._kinds_of(ReplayClass.CONDITIONAL_UPDATE)
        # An upsert promises no more than to converge on what it writes.
        kinds = self._kinds(*(set(ReplayClass) - {ReplayClass.UPSERT, ReplayClass.UNPROVABLE}))
        self._need("edit")
        for kind in kinds:
            with self._trial(kind, "edit after a lost reply") as trial:
                self._proxy.at(self._cleans[kind].write, lost_reply(), times=FOREVER)
                trial.run()
                self._proxy.clear()
                stands = self._backdoor.edit(trial.operation, guarded=True)
                report = trial.resume()
                require_standing(trial, stands)
                if kind in updates and report and report.block_reason is BlockReason.CONFLICT_DETECTED:
                    # A remote without a mark in the row can't tell whose the rest of it is; an
                    # operator can.
                    trial.judge_messages()
                    continue
                trial.content = {}
                trial.judge(report)

    def test_an_edit_stops_a_transaction(self) -> None:
        """Where one operation ends in a conflict, none of the others is written."""
        self._need("transaction")
        if TRANSACTION not in self._cleans:
            pytest.skip("the adapter has no transactions")
        kinds = self._kinds(ReplayClass.CONDITIONAL_UPDATE)
        self._need("edit")
        for kind in kinds:
            with self._trial(TRANSACTION, f"edit of {kind} before sending") as trial:
                (target,) = (one for one in trial.operations if one.kind == kind)
                edit = Later(partial(self._backdoor.edit, target, guarded=True))
                self._proxy.at(self._cleans[TRANSACTION].planning, after(edit))
                self._require_conflict(trial, trial.run(), edit)
                if any(self._backdoor.rows(operation) for operation in trial.operations):
                    trial.problems.append("loss: a part of a transaction is there, and a part is not")

    def test_a_row_that_is_gone(self) -> None:
        """A row that another user deleted before the write is not created again."""
        kinds = self._kinds(ReplayClass.CONDITIONAL_UPDATE)
        self._need("remove")
        for kind, moment in self._moments(*kinds):
            with self._trial(kind, "row removed") as trial:
                self._proxy.at(moment, after(partial(self._backdoor.remove, trial.operation)))
                report = trial.run()
                if self._backdoor.rows(trial.operation):
                    trial.problems.append("loss: a row that another user deleted is there again")
                require_blocked(trial, report, BlockReason.CONFLICT_DETECTED, BlockReason.REJECTED)
                trial.judge_messages()

    def test_a_key_that_is_taken(self) -> None:
        """Another user's row under our key is neither changed nor taken for ours."""
        kinds = self._kinds(ReplayClass.CREATE_WITH_KEY)
        self._need("take_key")
        for kind, moment in self._moments(*kinds):
            with self._trial(kind, "key taken") as trial:
                stands = Later(partial(self._backdoor.take_key, trial.operation))
                self._proxy.at(moment, after(stands))
                report = trial.run()
                require_standing(trial, stands.stands)
                require_blocked(trial, report, BlockReason.CONFLICT_DETECTED, BlockReason.REJECTED)
                trial.judge_messages()

    def _kinds_with_baseline(self, *parts: str) -> list[str]:
        """The updates whose callers may say what they have loaded; the test is skipped without."""
        updates = self._kinds(ReplayClass.CONDITIONAL_UPDATE)
        kinds = [kind for kind in updates if self._cleans[kind].takes_baseline]
        if not kinds:
            pytest.skip("no update takes a baseline from its caller")
        self._need("baseline", *parts)
        return kinds

    def _load(self, trial: Trial) -> None:
        baseline = dict(self._backdoor.baseline(trial.operation))
        trial.given = [trial.given[0].model_copy(update={"baseline": baseline})]

    def _require_conflict(self, trial: Trial, report: RunReport | None, edit: Later) -> None:
        require_standing(trial, edit.stands)
        require_blocked(trial, report, BlockReason.CONFLICT_DETECTED)
        trial.judge_messages()
