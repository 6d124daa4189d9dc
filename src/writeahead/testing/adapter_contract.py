"""What every adapter promises about its remote, as tests that an adapter's own tests inherit."""

import dataclasses
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from writeahead.model import BlockReason, ReplayClass, RunReport, RunStatus
from writeahead.stores.local import LocalStore
from writeahead.stores.memory import MemoryStore
from writeahead.testing.adapter_faults import FAULTS, RETRY_AFTER, TOLD_TO_WAIT
from writeahead.testing.adapter_trial import AdapterPlace, Clean, RemoteRow, Tally, Trial, Wire, forked
from writeahead.testing.http_proxy import Fault, after, answer, lost_reply
from writeahead.testing.summary import ADAPTER_PROPERTY

__all__ = ["AdapterContract", "AdapterPlace", "RemoteRow"]

_FOR_EVER = 10**6
_PATIENCE = 20.0  # seconds that a thread waits for another one; it is a failure if they pass
_COUNTED = {"duplicate": "duplicates", "loss": "losses", "stuck": "stuck", "leak": "leaks"}


class AdapterContract:
    """The promises of `Adapter`, tried over real HTTP against a real server.

    An adapter's tests subclass it, and give a fixture ``place``::

        @pytest.fixture(scope="module")
        def place(my_server):
            return MyCrmPlace(my_server)      # an AdapterPlace; all trials can share one

        class TestMyCrm(AdapterContract):
            pass

    Each trial is a session of its own with one operation of one kind, sent through an `HttpProxy`. Faults and
    crashes are put on each of its exchanges; then they end, and the session is resumed hours later. After
    that there must be exactly one row (at most one for ``unprovable``) with the right content, the receipt
    must name it, and no person may have been needed.

    What a remote can't have is declared, with the reason, in ``impossible``; its tests are then skipped. The
    parts are ``fork`` (the adapter in a process that is killed), ``late`` (a request that is applied after
    its session was resumed), and methods of `AdapterPlace`: ``snapshot``, ``edit``, ``unguarded`` (`edit` in
    a field that no operation writes), ``remove`` and ``occupy``.
    """

    impossible: ClassVar[Mapping[str, str]] = {}
    _known: ClassVar[tuple[AdapterPlace, Mapping[str, Clean]] | None] = None

    @pytest.fixture(autouse=True)
    def _tried(
        self, place: AdapterPlace, tmp_path: Path, record_property: Callable[[str, object], None]
    ) -> Iterator[None]:
        with self.on(place, tmp_path) as tallies:
            # By reference: it is filled by the time that the report is made.
            record_property(ADAPTER_PROPERTY, {"name": type(self).__name__, "kinds": tallies})
            yield

    @contextmanager
    def on(self, place: AdapterPlace, folder: Path) -> Iterator[Mapping[str, Mapping[str, Any]]]:
        """Let the tests run on a place, without pytest's fixtures; for tests of this kit.

        Args:
            place: The remote.
            folder: For artifacts; empty.

        Returns:
            A `Tally` for each kind, as a dict.
        """
        self._tallies: dict[str, dict[str, Any]] = {}
        self._folder = folder
        self._place = place
        self._echo = " ".join(place.secrets).encode()
        with Wire(place.url) as wire:
            self._wire = wire
            self._cleans = self._cleans_of(place)
            yield self._tallies

    # Without faults.

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
                first, second = adapter.plan([trial.operation]), adapter.plan([trial.operation])
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

    # Faults.

    @pytest.mark.parametrize("times", [1, _FOR_EVER], ids=["once", "exhausted"])
    @pytest.mark.parametrize("name", FAULTS)
    def test_each_fault_at_each_exchange(self, name: str, times: int) -> None:
        """Once, or until the attempts are used up; then the session is resumed."""
        for kind, clean in self._cleans.items():
            for exchange in clean.exchanges():
                with self._trial(kind, f"{name} x{min(times, 2)} at exchange {exchange}") as trial:
                    self._wire.at(exchange, FAULTS[name](self._echo), times=times)
                    report = trial.run()
                    assert any(request.fault for request in self._wire.requests), "the fault was not met"
                    self._settle(trial, report)
                    self._require_waits(trial, name)

    @pytest.mark.parametrize("name", FAULTS)
    def test_each_fault_after_a_lost_reply(self, name: str) -> None:
        """What an adapter does to find out about its own write may fail, too."""
        for kind, clean in self._cleans.items():
            for further in (1, 2):
                with self._trial(kind, f"lost reply, then {name} {further} later") as trial:
                    self._wire.at(clean.planning, lost_reply())
                    # Counted from there: a fault that waits for its turn takes no part before.
                    self._wire.at(further - 1, FAULTS[name](self._echo), times=_FOR_EVER)
                    self._settle(trial, trial.run())

    @pytest.mark.parametrize("times", [1, _FOR_EVER], ids=["once", "exhausted"])
    @pytest.mark.parametrize("plan", [True, False], ids=["planning", "sending"])
    def test_connection_refused(self, times: int, *, plan: bool) -> None:
        """Nobody listens, from planning on, or from the moment that the plan is durable."""
        with _closed_port() as url:
            for kind in self._cleans:
                with self._trial(kind, "connection refused") as trial:
                    report = trial.run(trial.adapter(url, detours=times, plan=plan))
                    self._settle(trial, report)

    @pytest.mark.parametrize("status", [429, 503])
    def test_nothing_is_sent_again_inside_an_attempt(self, status: int) -> None:
        """An attempt that was told to come back later is over: only the runner sends again, and counts."""
        for kind, clean in self._cleans.items():
            with self._trial(kind, f"{status} for ever") as trial:
                self._wire.at(
                    clean.planning, answer(status, {"Retry-After": str(RETRY_AFTER)}), times=_FOR_EVER
                )
                adapter = trial.adapter()
                report = trial.run(adapter)
                if adapter.chatty:
                    trial.problems.append(
                        f"retry: {adapter.chatty} more requests in an attempt that met {status}"
                    )
                self._settle(trial, report)

    # Crashes.

    @pytest.mark.parametrize("applied", [False, True], ids=["before_apply", "after_apply"])
    def test_a_crash_at_each_exchange(self, *, applied: bool) -> None:
        """From there on nothing of that process has any effect; another one resumes it."""
        for kind, clean in self._cleans.items():
            for exchange in range(clean.total):
                with self._trial(kind, f"crash at exchange {exchange}, applied: {applied}") as trial:
                    self._wire.at(exchange, Fault("crash", forward=applied, reset=True))
                    assert trial.run() is None
                    trial.judge(trial.settle())

    @pytest.mark.parametrize("applied", [False, True], ids=["before_apply", "after_apply"])
    def test_a_kill(self, *, applied: bool) -> None:
        """A real process, and SIGKILL while its write is on the way."""
        self._need("fork")
        for kind, clean in self._cleans.items():
            store = LocalStore(self._folder / kind)
            with self._trial(kind, f"kill -9, applied: {applied}", inner_store=store) as trial:
                self._wire.at(clean.planning, Fault("kill", forward=applied, reset=True))
                status = forked(trial.run, partial(setattr, self._wire, "victim"))
                assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
                trial.judge(trial.settle())

    def test_two_resumers_at_once(self) -> None:
        """After a crash that nobody knows the outcome of, two come; the first request waits for the other."""
        for kind, clean in self._cleans.items():
            with self._trial(kind, "two resumers") as trial:
                self._wire.at(clean.planning, Fault("crash", forward=True, reset=True))
                trial.run()
                self._wire.clear()
                other_is_done = threading.Event()
                self._wire.at(0, after(lambda done=other_is_done: _wait(done)))  # type: ignore[misc]
                reports = _both(trial.resume, other_is_done)
                if not any(report and report.status in _ENDS for report in reports):
                    reports = [trial.settle()]
                # Done, as one of them says; or blocked, as both do.
                told = sorted(filter(None, reports), key=lambda report: report.status not in _ENDS)
                trial.judge(told[0] if told else None)

    @pytest.mark.parametrize("edited", [False, True], ids=["unseen", "edited_meanwhile"])
    def test_a_request_that_arrives_late(self, *, edited: bool) -> None:
        """A write is on its way for hours, while the session is resumed, and done, by another process."""
        self._need("late", *(["edit"] if edited else []))
        for kind in self._kinds(ReplayClass.CREATE_WITH_KEY, ReplayClass.CONDITIONAL_UPDATE):
            with self._trial(kind, "late request") as trial:
                on_its_way, may_arrive = threading.Event(), threading.Event()

                def hold(arrived: threading.Event = on_its_way, go: threading.Event = may_arrive) -> None:
                    arrived.set()
                    _wait(go)

                self._wire.at(self._cleans[kind].planning, after(hold))
                slow = threading.Thread(target=trial.run)
                slow.start()
                try:
                    _wait(on_its_way)
                    report = trial.resume()
                    stands = self._place.edit(trial.operation, guarded=True) if edited else lambda: True
                finally:
                    may_arrive.set()
                    slow.join()
                _require_standing(trial, stands)
                # Its content is the person's by now.
                trial.clean = None if edited else trial.clean
                trial.judge(report)

    # Other people.

    def test_an_edit_between_plan_and_send(self) -> None:
        """A person's edit of what the plan guards wins, and the session waits for a person."""
        self._need("edit")
        for kind in self._kinds(ReplayClass.CONDITIONAL_UPDATE):
            with self._trial(kind, "edit before sending") as trial:
                edit = _Later(partial(self._place.edit, trial.operation, guarded=True))
                self._wire.at(self._cleans[kind].planning, after(edit))
                self._require_conflict(trial, trial.run(), edit)

    def test_an_edit_between_two_runs(self) -> None:
        """The same, when the remote was down for the whole of the first run."""
        self._need("edit")
        for kind in self._kinds(ReplayClass.CONDITIONAL_UPDATE):
            with self._trial(kind, "edit before resuming") as trial:
                self._wire.at(self._cleans[kind].planning, answer(503), times=_FOR_EVER)
                trial.run()
                self._wire.clear()
                edit = _Later(partial(self._place.edit, trial.operation, guarded=True))
                edit()
                self._require_conflict(trial, trial.resume(), edit)

    def test_an_edit_elsewhere_in_the_row(self) -> None:
        """A person's edit of what nobody guards stands beside the write."""
        self._need("edit", "unguarded")
        for kind in self._kinds(ReplayClass.CONDITIONAL_UPDATE):
            with self._trial(kind, "edit elsewhere") as trial:
                edit = _Later(partial(self._place.edit, trial.operation, guarded=False))
                self._wire.at(self._cleans[kind].planning, after(edit))
                report = trial.run()
                _require_standing(trial, edit.stands)
                trial.judge(report)

    def test_an_edit_of_what_was_written(self) -> None:
        """The write was applied, its reply lost, and then a person changed the row: that is not undone."""
        self._need("edit")
        updates = self._kinds_of(ReplayClass.CONDITIONAL_UPDATE)
        # An upsert promises no more than to converge on what it writes.
        for kind in self._kinds(*(set(ReplayClass) - {ReplayClass.UPSERT, ReplayClass.UNPROVABLE})):
            with self._trial(kind, "edit after a lost reply") as trial:
                self._wire.at(self._cleans[kind].planning, lost_reply(), times=_FOR_EVER)
                trial.run()
                self._wire.clear()
                stands = self._place.edit(trial.operation, guarded=True)
                report = trial.resume()
                _require_standing(trial, stands)
                if kind in updates and report and report.block_reason is BlockReason.CONFLICT_DETECTED:
                    # A remote without a mark in the row can't tell whose the rest of it is: a person can.
                    trial.judge_words()
                    continue
                trial.clean = None
                trial.judge(report)

    def test_a_row_that_is_gone(self) -> None:
        """A row that a person deleted before the write is not made anew."""
        self._need("remove")
        for kind in self._kinds(ReplayClass.CONDITIONAL_UPDATE):
            with self._trial(kind, "row removed") as trial:
                self._wire.at(
                    self._cleans[kind].planning, after(partial(self._place.remove, trial.operation))
                )
                report = trial.run()
                if self._place.rows(trial.operation):
                    trial.problems.append("loss: a row that a person deleted is there again")
                _require_blocked(trial, report, BlockReason.CONFLICT_DETECTED, BlockReason.REJECTED)
                trial.judge_words()

    def test_a_key_that_is_taken(self) -> None:
        """A row of somebody else's under our key is neither changed nor taken for ours."""
        self._need("occupy")
        for kind in self._kinds(ReplayClass.CREATE_WITH_KEY):
            with self._trial(kind, "key taken") as trial:
                stands = _Later(partial(self._place.occupy, trial.operation))
                self._wire.at(self._cleans[kind].planning, after(stands))
                report = trial.run()
                _require_standing(trial, stands.stands)
                _require_blocked(trial, report, BlockReason.CONFLICT_DETECTED, BlockReason.REJECTED)
                trial.judge_words()

    # What the tests above are made of.

    def _need(self, *parts: str) -> None:
        for part in parts:
            if part in self.impossible:
                pytest.skip(f"{part} declared impossible: {self.impossible[part]}")

    def _kinds_of(self, *classes: ReplayClass) -> list[str]:
        return [kind for kind, clean in self._cleans.items() if clean.replay in classes]

    def _kinds(self, *classes: ReplayClass) -> list[str]:
        kinds = self._kinds_of(*classes)
        if not kinds:
            pytest.skip(f"no kind is of class {', '.join(sorted(classes))}")
        return kinds

    def _cleans_of(self, place: AdapterPlace) -> Mapping[str, Clean]:
        """Each kind's session without a fault, done once for all tests that share a place."""
        known = type(self)._known  # noqa: SLF001 - the subclass's own
        if known is None or known[0] is not place:
            known = place, {kind: self._clean(kind) for kind in place.operations}
            type(self)._known = known  # noqa: SLF001 - see above
        return known[1]

    def _clean(self, kind: str) -> Clean:
        """Do one session without any fault, to know its exchanges and its content."""
        trial = Trial(self._place, self._wire, kind)
        try:
            report = trial.run()
            trial.judge(report)
            assert not trial.problems, f"{kind}: without any fault: {'; '.join(trial.problems)}"
            (row,) = self._place.rows(trial.operation)
            planning = trial.store.planning or 0
            return Clean(planning, len(self._wire.requests), trial.replay, row.content)
        finally:
            trial.close()

    @contextmanager
    def _trial(self, kind: str, what: str, **parts: Any) -> Iterator[Trial]:
        """One case; it is counted, and what went wrong fails the test at once, with its name."""
        clean = self._cleans[kind]
        tally = Tally(**self._tallies.get(kind, {"replay": str(clean.replay)}))
        trial = Trial(self._place, self._wire, kind, clean, **parts)
        try:
            yield trial
        finally:
            trial.close()
            tally.cases += 1
            for problem in trial.problems:
                counter = _COUNTED.get(problem.split(":")[0])
                if counter:
                    setattr(tally, counter, getattr(tally, counter) + 1)
            self._tallies[kind] = dataclasses.asdict(tally)
        assert not trial.problems, f"{kind}, {what}: {'; '.join(trial.problems)}"

    def _settle(self, trial: Trial, report: RunReport | None) -> None:
        """Judge a session that met faults, after it was resumed if it must be."""
        if len(self._place.rows(trial.operation)) > 1:
            trial.problems.append("duplicate: before any resume")
        if report is None or report.status not in _ENDS:
            report = trial.settle()
        trial.judge(report)

    def _require_waits(self, trial: Trial, name: str) -> None:
        if name not in TOLD_TO_WAIT:
            return
        told = trial.waits_told()
        if RETRY_AFTER not in told:
            trial.problems.append(
                f"retry: Retry-After was {RETRY_AFTER} s, and the adapter told {told or 'none'}"
            )

    def _require_conflict(self, trial: Trial, report: RunReport | None, edit: "_Later") -> None:
        _require_standing(trial, edit.stands)
        _require_blocked(trial, report, BlockReason.CONFLICT_DETECTED)
        trial.judge_words()


_ENDS = (RunStatus.COMPLETED, RunStatus.NO_RESUME_NEEDED)


class _Later:
    """A person's deed at a moment to come, and what tells whether it still stands."""

    def __init__(self, deed: Callable[[], Callable[[], bool]]) -> None:
        self._deed = deed
        self._stands: Callable[[], bool] | None = None

    def __call__(self) -> None:
        self._stands = self._deed()

    def stands(self) -> bool:
        assert self._stands is not None, "the moment never came: the adapter sent nothing"
        return self._stands()


def _require_standing(trial: Trial, stands: Callable[[], bool]) -> None:
    if not stands():
        trial.problems.append("loss: what somebody else wrote is gone")


def _require_blocked(trial: Trial, report: RunReport | None, *reasons: BlockReason) -> None:
    if report is None or report.block_reason not in reasons:
        said = (
            "nothing"
            if report is None
            else f"{report.status} {report.block_reason or ''} {report.error or ''}"
        )
        trial.problems.append(f"loss: it must end {' or '.join(reasons)}, and it said: {said}")


def _both(work: Callable[[], RunReport | None], first_is_done: threading.Event) -> list[RunReport | None]:
    """Do the work in two threads that start together, and tell when the first of them is done."""
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


def _wait(event: threading.Event) -> None:
    assert event.wait(_PATIENCE), "nobody came"


@contextmanager
def _closed_port() -> Iterator[str]:
    """The URL of a port where nobody listens, and nobody else will as long as it is held."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
