"""What goes wrong on the wire."""

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from writeahead.testing.adapter_contract.fault_table import FAULTS, RETRY_AFTER, TOLD_TO_WAIT
from writeahead.testing.adapter_contract.part import FOR_EVER, ContractPart
from writeahead.testing.adapter_contract.trial import Trial
from writeahead.testing.http_proxy import answer, lost_reply

__all__ = ["Faults"]


class Faults(ContractPart):
    """Sessions that meet faults, which pass, and that are resumed then."""

    @pytest.mark.parametrize("times", [1, FOR_EVER], ids=["once", "exhausted"])
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
            # Not where nothing more is sent: an unprovable request is over.
            for further in range(1, min(clean.more, 2) + 1):
                with self._trial(kind, f"lost reply, then {name} {further} later") as trial:
                    self._wire.at(clean.planning, lost_reply())
                    # Counted from there: a fault that waits for its turn takes no part before.
                    self._wire.at(further - 1, FAULTS[name](self._echo), times=FOR_EVER)
                    report = trial.run()
                    met = [request.fault for request in self._wire.requests if request.fault]
                    assert len(met) > 1, "the second fault was not met"
                    self._settle(trial, report)

    @pytest.mark.parametrize("times", [1, FOR_EVER], ids=["once", "exhausted"])
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
                    clean.planning, answer(status, {"Retry-After": str(RETRY_AFTER)}), times=FOR_EVER
                )
                adapter = trial.adapter()
                report = trial.run(adapter)
                if adapter.chatty:
                    trial.problems.append(
                        f"retry: {adapter.chatty} more requests in an attempt that met {status}"
                    )
                self._settle(trial, report)

    def _require_waits(self, trial: Trial, name: str) -> None:
        if name not in TOLD_TO_WAIT:
            return
        told = trial.waits_told()
        if RETRY_AFTER not in told:
            trial.problems.append(
                f"retry: Retry-After was {RETRY_AFTER} s, and the adapter told {told or 'none'}"
            )


@contextmanager
def _closed_port() -> Iterator[str]:
    """The URL of a port where nobody listens, and nobody else will as long as it is held."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
