"""Sessions without faults, and with each fault that the network and gateways have."""

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import pytest

from writeahead.model import PlannedOperation, RunReport, RunStatus
from writeahead.testing.adapter_contract.part import FOREVER, ContractPart
from writeahead.testing.adapter_contract.trial import Trial, outcome_of
from writeahead.testing.http_proxy import (
    Fault,
    answer,
    applied_then,
    lost_reply,
    reset_mid_body,
    truncated,
)

__all__ = ["FAULTS", "Faults"]

# Seconds, in both forms of Retry-After (RFC 9110, section 10.2.3). The date stands beside the Date
# that it is compared with, so that no clock of ours counts.
RETRY_AFTER = 7
# Longer than a run of a trial may wait.
_TOO_LONG = 3 * 3600
_SECONDS = {"Retry-After": str(RETRY_AFTER)}
_DATE = {"Date": "Sun, 06 Nov 1994 08:49:37 GMT", "Retry-After": "Sun, 06 Nov 1994 08:49:44 GMT"}
_HTML = {"Content-Type": "text/html"}
_JSON = {"Content-Type": "application/json"}

# By name, from the body that the client is sent: it repeats what no message may hold. All of these
# pass by themselves, so that no operator is needed. "applied" is a server that has done its work
# behind a gateway that says otherwise.
FAULTS: Mapping[str, Callable[[bytes], Fault]] = {
    "reset before apply": lambda _body: Fault("reset before apply", forward=False, reset=True),
    "reset mid-body": lambda _body: reset_mid_body(),
    "lost reply": lambda _body: lost_reply(),
    "truncated reply": lambda _body: truncated(),
    "not JSON": lambda body: answer(200, _HTML, b"<html>" + body),
    "not JSON, applied": lambda body: applied_then(200, _HTML, b"<html>" + body),
    "408": lambda body: answer(408, _JSON, body),
    "429": lambda body: answer(429, _JSON, body),
    "429 seconds": lambda body: answer(429, _JSON | _SECONDS, body),
    "429 date": lambda body: answer(429, _JSON | _DATE, body),
    "503 seconds": lambda body: answer(503, _JSON | _SECONDS, body),
    "500": lambda body: answer(500, _JSON, body),
    "502": lambda body: answer(502, _HTML, body),
    "503": lambda body: answer(503, _HTML, body),
    "504": lambda body: answer(504, _HTML, body),
    "408, applied": lambda body: applied_then(408, _JSON, body),
    "500, applied": lambda body: applied_then(500, _JSON, body),
    "502, applied": lambda body: applied_then(502, _HTML, body),
    "503, applied": lambda body: applied_then(503, _HTML, body),
    "503 seconds, applied": lambda body: applied_then(503, _HTML | _SECONDS, body),
    "504, applied": lambda body: applied_then(504, _HTML, body),
}
# Of these a read can't tell the others.
_OF_LOOKUPS = ("reset before apply", "truncated reply", "not JSON", "429 seconds", "503")
_WITH_RETRY_AFTER = ("429 seconds", "429 date", "503 seconds", "503 seconds, applied")


class Faults(ContractPart):
    """Sessions that meet no fault, or one that passes; then they are resumed."""

    def test_a_clean_session(self) -> None:
        """It makes one row, its receipt names it, and resuming it sends nothing."""
        for kind in self._cleans:
            with self._trial(kind, "clean") as trial:
                report = trial.run()
                trial.judge(report)
                trial.proxy.clear()
                again = trial.resume()
                assert again is not None
                assert again.status is RunStatus.NO_RESUME_NEEDED
                assert trial.proxy.requests == []

    def test_planning_has_no_side_effect(self) -> None:
        """Neither a plan nor a dry run changes anything at the remote."""
        self._need("snapshot")
        for kind in self._cleans:
            with self._trial(kind, "planning") as trial:
                before = self._backdoor.snapshot()
                adapter = trial.adapter()
                first, second = adapter.plan(trial.operations), adapter.plan(trial.operations)
                if _issued(first) != _issued(second):
                    trial.problems.append("stuck: two plans of one operation differ")
                report = trial.run(dry_run=True)
                if report is None or report.status is not RunStatus.PLANNED:
                    trial.problems.append("stuck: the dry run made no plan")
                if self._backdoor.snapshot() != before:
                    trial.problems.append("duplicate: planning changed something")
                trial.judge_messages()

    @pytest.mark.parametrize("times", [1, FOREVER], ids=["once", "exhausted"])
    @pytest.mark.parametrize("name", FAULTS)
    def test_each_fault_at_each_exchange(self, name: str, times: int) -> None:
        """It comes once, or until the attempts are used up; then the session is resumed."""
        for kind, clean in self._cleans.items():
            for exchange in clean.exchanges():
                with self._trial(kind, f"{name} x{min(times, 2)} at exchange {exchange}") as trial:
                    self._proxy.at(exchange, FAULTS[name](self._echo), times=times)
                    report = trial.run()
                    assert any(request.fault for request in self._proxy.requests), "the fault was not met"
                    self._settle(trial, report)
                    self._require_waits(trial, name)

    @pytest.mark.parametrize("name", _OF_LOOKUPS)
    def test_each_lookup_of_planning(self, name: str) -> None:
        """One that fails for good leaves nothing behind; the next run plans again."""
        for kind, clean in self._cleans.items():
            for exchange in clean.lookups():
                with self._trial(kind, f"{name} at exchange {exchange}") as trial:
                    self._proxy.at(exchange, FAULTS[name](self._echo), times=FOREVER)
                    report = trial.run()
                    assert any(request.fault for request in self._proxy.requests), "the fault was not met"
                    self._settle(trial, report)

    @pytest.mark.parametrize("name", FAULTS)
    def test_each_fault_after_a_lost_reply(self, name: str) -> None:
        """The requests by which an adapter finds out about its own write may fail, too."""
        for kind, clean in self._cleans.items():
            # Not where nothing more is sent: an unprovable request is over.
            for further in range(1, min(clean.more, 2) + 1):
                with self._trial(kind, f"lost reply, then {name} {further} later") as trial:
                    self._proxy.at(clean.write, lost_reply())
                    # Counted from the lost reply on: the first fault goes first.
                    self._proxy.at(further - 1, FAULTS[name](self._echo), times=FOREVER)
                    report = trial.run()
                    met = [request.fault for request in self._proxy.requests if request.fault]
                    assert len(met) > 1, "the second fault was not met"
                    self._settle(trial, report)

    @pytest.mark.parametrize("times", [1, FOREVER], ids=["once", "exhausted"])
    @pytest.mark.parametrize("plan", [True, False], ids=["planning", "sending"])
    def test_connection_refused(self, times: int, *, plan: bool) -> None:
        """No server listens, from planning on, or from the moment that the plan is durable."""
        with _closed_port() as url:
            for kind in self._cleans:
                with self._trial(kind, "connection refused") as trial:
                    report = trial.run(trial.adapter(url, detours=times, plan=plan))
                    self._settle(trial, report)

    @pytest.mark.parametrize("status", [429, 503])
    def test_nothing_is_sent_again_inside_an_attempt(self, status: int) -> None:
        """An attempt that meets "come back later" is over: only the runner sends again."""
        for kind, moment in self._moments(*self._cleans):
            with self._trial(kind, f"{status} forever") as trial:
                self._proxy.at(moment, answer(status, {"Retry-After": str(RETRY_AFTER)}), times=FOREVER)
                adapter = trial.adapter()
                report = trial.run(adapter)
                if adapter.repeats:
                    trial.problems.append(
                        f"retry: {adapter.repeats} more requests in an attempt that met {status}"
                    )
                self._settle(trial, report)

    def test_a_wait_holds_for_the_whole_target(self) -> None:
        """What one session was told, another one of the process heeds before it sends anything.

        It has an adapter of its own, if that names its target.
        """
        self._need("wait")
        for kind, clean in self._cleans.items():
            with self._trial(kind, "told to wait") as first, self._trial(kind, "beside it") as second:
                self._proxy.at(clean.planning, answer(429, {"Retry-After": str(_TOO_LONG)}), times=FOREVER)
                adapter = first.adapter()
                self._require_later(first, first.run(adapter))
                sent = len(self._proxy.requests)
                second.clock = first.clock
                report = second.run(None if adapter.target() else adapter)
                if len(self._proxy.requests) > sent:
                    second.problems.append("retry: it sent before the wait of its target was over")
                self._require_later(second, report)
                self._proxy.clear()
                first.clock.advance(_TOO_LONG)
                for trial in (first, second):
                    trial.judge(trial.settle())

    def _require_later(self, trial: Trial, report: RunReport | None) -> None:
        """Require of a session that it has to wait."""
        if report is None or report.not_before is None:
            trial.problems.append(f"retry: it must wait {_TOO_LONG} s, and it ended: {outcome_of(report)}")

    def _require_waits(self, trial: Trial, name: str) -> None:
        if name not in _WITH_RETRY_AFTER:
            return
        waits = trial.waits()
        if RETRY_AFTER not in waits:
            trial.problems.append(
                f"retry: Retry-After was {RETRY_AFTER} s, and the adapter raised {waits or 'none'}"
            )


def _issued(plan: Sequence[PlannedOperation]) -> list[PlannedOperation]:
    """A plan without what was found while it was made, such as the time."""
    return [operation.model_copy(update={"precondition": None}) for operation in plan]


@contextmanager
def _closed_port() -> Iterator[str]:
    """The URL of a port where no server listens, and none will as long as it is held."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
