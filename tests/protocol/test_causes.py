"""The exception that ended a run is at hand in its report, and nowhere else."""

import copy
import json
import logging
import pickle

import pytest

from tests.support.remotes import Meets
from tests.support.worlds import take_over
from writeahead import RunPolicy, RunReport
from writeahead.cli.output import report_document
from writeahead.errors import (
    Applied,
    ConflictError,
    Fenced,
    InvalidInput,
    NotCompleted,
    NotReady,
    PermanentError,
    TransientError,
    Unavailable,
)
from writeahead.model import BlockReason, RunStatus
from writeahead.testing import FaultyStore, StoreFault

HOST = "https://crm.internal.example/rows?token=planted-secret"


class Refused(PermanentError, ConflictError):
    """What an adapter's author may well write: refused for good, since another was faster."""


class Taken(ConflictError, PermanentError):
    """The same, the other way round."""


def ends_with(world, error, verb="emit"):
    setattr(world.adapter, verb, raising(error))
    return world.run("create")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TransientError("503", applied=Applied.NO), None),
        (PermanentError("400"), BlockReason.REJECTED),
        (ConflictError("412"), BlockReason.CONFLICT_DETECTED),
        (Refused("409"), BlockReason.CONFLICT_DETECTED),
        (Taken("409"), BlockReason.CONFLICT_DETECTED),
        (NotReady("no password"), None),
        (InvalidInput("no such column"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_adapter_raised_is_the_cause(world, error, reason):
    world.policy = RunPolicy(attempts=2)
    report = ends_with(world, error)
    assert (report.cause, report.block_reason) == (error, reason)
    assert report.cause is error
    with pytest.raises(NotCompleted) as caught:
        report.raise_for_status()
    assert caught.value.__cause__ is error
    assert (caught.value.report, caught.value.report.cause) == (report, error)


def test_an_unprovable_operation_s_unknown_outcome_is_the_cause(world):
    world.remote.script["1-mail"] = [Meets.LOST_REPLY]
    report = world.run("mail")
    assert report.block_reason is BlockReason.OUTCOME_UNKNOWN
    assert isinstance(report.cause, TransientError)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotReady("no password"), BlockReason.NOT_READY),
        (TransientError("503"), BlockReason.NOT_READY),
        (Refused("409"), BlockReason.CONFLICT_DETECTED),
    ],
)
def test_what_ended_planning_is_the_cause(world, error, reason):
    world.policy = RunPolicy(attempts=1)
    report = ends_with(world, error, "plan")
    assert (report.block_reason, report.cause) == (reason, error)


def test_a_watcher_that_fails_leaves_the_cause(world):
    error = PermanentError("400")
    world.adapter.emit = raising(error)
    report = world.run("create", on_progress=raising(RuntimeError()))
    assert (report.cause, len(report.warnings)) == (error, 1)


def raising(error):
    def fail(*_):
        raise error

    return fail


def test_the_store_s_error_is_the_cause(world):
    world.store = FaultyStore(world.store)
    world.store.fail("create", "s1/writeback.json", StoreFault.unavailable(), times=None)
    report = world.run("create")
    assert (report.status, type(report.cause)) == (RunStatus.RESUME_NEEDED, Unavailable)
    # All but the plan: the end can't be journaled either.
    world.store.fail("create", "s2/*", StoreFault.unavailable(), times=None, skip=1)
    report = world.run("create", session_id="s2")
    assert (report.status, type(report.cause)) == (RunStatus.RESUME_NEEDED, Unavailable)


def test_a_run_that_was_taken_over_has_a_cause(world):
    emit = world.adapter.emit

    def slow(operation):
        take_over(world)
        return emit(operation)

    world.adapter.emit = slow
    report = world.run("create", "update")
    assert (report.status, type(report.cause)) == (RunStatus.IN_PROGRESS, Fenced)


def test_what_no_exception_ended_has_no_cause(world):
    done = world.run("create")
    assert done.cause is None
    assert done.raise_for_status() is done
    assert world.resume().cause is None
    world.remote.script["1-update"] = [Meets.REJECTED]
    world.run("update", session_id="s2")
    # What is on record is no exception any more.
    report = world.resume("s2")
    assert (report.status, report.cause) == (RunStatus.BLOCKED, None)
    with pytest.raises(NotCompleted) as caught:
        report.raise_for_status()
    assert caught.value.__cause__ is None


def test_the_cause_leaves_the_process_by_no_way(world, caplog):
    caplog.set_level(logging.DEBUG)
    report = ends_with(world, PermanentError(f"POST {HOST}: refused"))
    assert "planted-secret" in str(report.cause)
    said = [repr(report), str(report), report.model_dump_json(), json.dumps(report_document(report))]
    said += [repr(report.model_dump()), caplog.text, pickle.dumps(report).decode("latin-1")]
    said += [world.store.get(info.key).data.decode() for info in world.store.list()]
    with pytest.raises(NotCompleted) as caught:
        report.raise_for_status()
    said += [str(caught.value), repr(caught.value), pickle.dumps(caught.value).decode("latin-1")]
    assert [text for text in said if "planted-secret" in text] == []


def test_a_report_is_the_same_value_with_its_cause_and_without(world):
    report = ends_with(world, PermanentError("400"))
    for other in (
        pickle.loads(pickle.dumps(report)),
        copy.copy(report),
        copy.deepcopy(report),
        report.model_copy(update={"error": report.error}),
        RunReport.model_validate(report.model_dump()),
        RunReport.model_validate_json(report.model_dump_json()),
    ):
        assert other == report
        assert other.cause is None
    assert "cause" not in RunReport.model_fields
