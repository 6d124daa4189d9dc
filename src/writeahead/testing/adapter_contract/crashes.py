"""Processes that die, those that resume, and requests that arrive late."""

import os
import threading
from collections.abc import Callable
from functools import partial

import pytest

from writeahead.model import ReplayClass, RunReport
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing.adapter_contract.part import ContractPart, require_standing, wait_for
from writeahead.testing.adapter_contract.process import KILL, forked
from writeahead.testing.adapter_contract.trial import DONE
from writeahead.testing.http_proxy import Fault, after

__all__ = ["Crashes"]


class Crashes(ContractPart):
    """Sessions whose process dies, loses its artifacts, or is overtaken."""

    @pytest.mark.parametrize("applied", [False, True], ids=["before_apply", "after_apply"])
    def test_a_crash_at_each_exchange(self, *, applied: bool) -> None:
        """From there on nothing of that process has any effect; another one resumes the session."""
        for kind, clean in self._cleans.items():
            for exchange in range(clean.total):
                with self._trial(kind, f"crash at exchange {exchange}, applied: {applied}") as trial:
                    self._proxy.at(exchange, Fault("crash", forward=applied, reset=True))
                    assert trial.run() is None
                    trial.judge_rows()
                    trial.judge(trial.settle())

    @pytest.mark.parametrize("applied", [False, True], ids=["before_apply", "after_apply"])
    def test_a_kill(self, *, applied: bool) -> None:
        """A real process gets SIGKILL while its write is on the way."""
        self._need("fork")
        for kind, clean in self._cleans.items():
            store = LocalStore(self._folder / kind)
            with self._trial(kind, f"kill -9, applied: {applied}", inner_store=store) as trial:
                self._proxy.at(clean.write, Fault("kill", forward=applied, reset=True))
                status = forked(trial.run, partial(setattr, self._proxy, "victim"))
                assert os.waitstatus_to_exitcode(status) == -KILL
                trial.judge_rows()
                trial.judge(trial.settle())

    def test_a_session_that_lost_its_artifacts(self) -> None:
        """Done again from nothing, under the same ids, it still makes one row."""
        for kind in self._kinds(
            ReplayClass.CREATE_WITH_KEY, ReplayClass.UPSERT, ReplayClass.CONDITIONAL_UPDATE
        ):
            with self._trial(kind, "artifacts lost") as trial:
                trial.run()
                trial.inner_store = MemoryStore()
                trial.store.wrapped = trial.inner_store
                trial.judge(trial.run())

    def test_two_resumers_at_once(self) -> None:
        """After a crash of unknown outcome two resume; the first request waits for the other."""
        for kind, clean in self._cleans.items():
            with self._trial(kind, "two resumers") as trial:
                self._proxy.at(clean.write, Fault("crash", forward=True, reset=True))
                trial.run()
                self._proxy.clear()
                other_is_done = threading.Event()
                self._proxy.at(0, after(lambda done=other_is_done: wait_for(done)))  # type: ignore[misc]
                reports = _both(trial.resume, other_is_done)
                if not any(report and report.status in DONE for report in reports):
                    reports = [trial.settle()]
                # Done, if one of them is done; else blocked, as both are.
                ended = sorted(filter(None, reports), key=lambda report: report.status not in DONE)
                trial.judge(ended[0] if ended else None)

    @pytest.mark.parametrize("edited", [False, True], ids=["unseen", "edited_meanwhile"])
    def test_a_request_that_arrives_late(self, *, edited: bool) -> None:
        """A write is on its way for hours; meanwhile another process finishes the session."""
        kinds = self._kinds(ReplayClass.CREATE_WITH_KEY, ReplayClass.CONDITIONAL_UPDATE)
        self._need("late", *(["edit"] if edited else []))
        for kind in kinds:
            with self._trial(kind, "late request") as trial:
                on_its_way, may_arrive = threading.Event(), threading.Event()

                def hold(arrived: threading.Event = on_its_way, go: threading.Event = may_arrive) -> None:
                    arrived.set()
                    wait_for(go)

                self._proxy.at(self._cleans[kind].write, after(hold))
                slow = threading.Thread(target=trial.run)
                slow.start()
                try:
                    wait_for(on_its_way)
                    report = trial.resume()
                    stands = self._backdoor.edit(trial.operation, guarded=True) if edited else lambda: True
                finally:
                    may_arrive.set()
                    slow.join()
                require_standing(trial, stands)
                # Its content is the other user's by now.
                trial.content = {} if edited else trial.content
                trial.judge(report)


def _both(work: Callable[[], RunReport | None], first_is_done: threading.Event) -> list[RunReport | None]:
    """Do the work in two threads that start together; set the event when the first is done."""
    start = threading.Barrier(2)
    reports: list[RunReport | None] = []

    def run() -> None:
        start.wait()
        try:
            reports.append(work())
        finally:
            first_is_done.set()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return reports
