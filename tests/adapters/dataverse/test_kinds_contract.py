"""What a mapping can ask for keeps the adapter contract, with the readiness gate on.

Parties, one marker column, find_by, warnings_to, baselines of the caller, values that are stored as
something else, rows without a marker, elastic tables, values that must be unique. A sample in the
suite; all of it takes minutes, for WRITEAHEAD_TESTS=full.
"""

import copy
import os
from typing import ClassVar

import pytest

from tests.support.dataverse_kinds import ELASTIC, EVERYTHING, REFUSED, TAKEN, UNMARKED, UPSERTED, running
from writeahead.model import BlockReason, RunStatus
from writeahead.testing import AdapterContract
from writeahead.testing.adapter_contract.faults import FAULTS
from writeahead.testing.adapter_contract.process import FaultProxy
from writeahead.testing.adapter_contract.trial import Trial

IS_FULL = os.environ.get("WRITEAHEAD_TESTS") == "full"
FULL = pytest.mark.skipif(not IS_FULL, reason="takes minutes")
FOREVER = 10**6


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    with running(tmp_path_factory.mktemp("everything"), EVERYTHING) as backdoor:
        yield backdoor


@pytest.fixture(scope="module")
def unmarked(tmp_path_factory):
    with running(tmp_path_factory.mktemp("unmarked"), UNMARKED) as backdoor:
        yield backdoor


@pytest.fixture(scope="module")
def elastic(tmp_path_factory):
    with running(tmp_path_factory.mktemp("elastic"), ELASTIC) as backdoor:
        yield backdoor


@pytest.fixture(scope="module")
def upserted(tmp_path_factory):
    with running(tmp_path_factory.mktemp("upserted"), UPSERTED) as backdoor:
        yield backdoor


@FULL
class TestEverythingOnTheSimulator(AdapterContract):
    impossible: ClassVar = {
        "transaction": "what the service calls a row that is upserted by an alternate key is not known in one"
    }

    @pytest.fixture
    def backdoor(self, everything):
        return everything


@FULL
class TestUnmarkedOnTheSimulator(AdapterContract):
    impossible: ClassVar = {
        "transaction": "test_contract.py has one",
        "take_key": "the GUID is the mark there: docs/decisions/0007",
        "unguarded": "a row of another version is a conflict: docs/decisions/0007",
    }

    @pytest.fixture
    def backdoor(self, unmarked):
        return unmarked


@FULL
class TestElasticOnTheSimulator(AdapterContract):
    impossible: ClassVar = {"transaction": "a change set of an elastic table is none"}

    @pytest.fixture
    def backdoor(self, elastic):
        return elastic


@FULL
class TestUpsertOfALoadedRowOnTheSimulator(AdapterContract):
    @pytest.fixture
    def backdoor(self, upserted):
        return upserted


# ---- a sample


@pytest.mark.parametrize("kind", ["create_row", "update_row"])
@pytest.mark.parametrize("contract", [TestEverythingOnTheSimulator, TestUnmarkedOnTheSimulator])
def test_a_sample(contract, kind, everything, unmarked, tmp_path):
    sampled = type("Sampled", (contract,), {})()
    backdoor = copy.copy(everything if contract is TestEverythingOnTheSimulator else unmarked)
    backdoor.operations = {kind: backdoor.operations[kind]}
    with sampled.on(backdoor, tmp_path):
        sampled.test_each_fault_at_each_exchange("lost reply", 1)
        sampled.test_each_lookup_of_planning("503")
        if kind == "update_row":
            sampled.test_an_edit_between_load_and_plan(removed=False)
        sampled.test_an_edit_of_what_was_written()
        sampled.test_a_session_that_lost_its_artifacts()
        # The kit compares contents with each other; here is what they are.
        content = sampled._cleans[kind].content[kind]
        assert (content["wa_rate"], content["wa_topics"]) == (0.123, "1,9")
        assert {role for role, *_ in content["parties"]} == ({1, 2, 9} if kind == "create_row" else {9})
        tally = sampled._tallies[kind]
        assert (tally["cases"] > 10, tally["duplicates"] + tally["losses"]) == (True, 0)


def test_a_sample_of_elastic_tables(elastic, tmp_path):
    sampled = type("Sampled", (TestElasticOnTheSimulator,), {})()
    with sampled.on(elastic, tmp_path):
        for name in ("lost reply", "503", "not JSON, applied"):
            sampled.test_each_fault_at_each_exchange(name, FOREVER)
        sampled.test_an_upsert_that_lands_late()


# ---- a value that another row has


_NAMES = list(FAULTS) if IS_FULL else ["lost reply", "not JSON"]


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    with running(tmp_path_factory.mktemp("refused"), REFUSED) as backdoor:
        backdoor.sim.seed("wa_callqueues", {"wa_name": "theirs", "wa_email": TAKEN})
        yield backdoor


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("kind", REFUSED)
def test_a_value_that_is_taken_is_refused_whatever_fails(refused, kind, name):
    """Once or for good, at any request: nothing is written, and an operator is told."""
    with FaultProxy(refused.url) as proxy:
        clean = Trial(refused, proxy, [kind])
        assert clean.run().block_reason is BlockReason.REJECTED
        total = len(proxy.requests)
        clean.close()
        for exchange in range(total):
            for times in (1, FOREVER):
                trial = Trial(refused, proxy, [kind])
                before = refused.sim.rows("wa_callqueues")
                proxy.at(exchange, FAULTS[name](b"planted-client-secret"), times=times)
                report = trial.run()
                assert any(request.fault for request in proxy.requests)
                if report.status is not RunStatus.BLOCKED or report.block_reason is BlockReason.NOT_READY:
                    report = trial.settle()
                trial.judge_messages()
                trial.judge_claims()
                trial.close()
                assert (report.block_reason, trial.problems) == (BlockReason.REJECTED, []), (exchange, times)
                assert TAKEN not in report.error
                assert refused.sim.rows("wa_callqueues") == before
