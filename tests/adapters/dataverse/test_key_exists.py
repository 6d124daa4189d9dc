"""A server that answers 500 where a key is taken, as SAP CAP does on SQLite."""

import pytest

from writeahead.adapters.dataverse import TransientDataverseError
from writeahead.errors import ConflictError
from writeahead.model import KeyedOperation, idempotency_key


@pytest.fixture
def task(sim, adapter):
    key = idempotency_key("s1", "1-task")
    asked = KeyedOperation(session_id="s1", id="1-task", kind="task", key=key, payload={"subject": "call"})
    [planned] = adapter.plan([asked])
    return planned


def test_a_row_of_ours_is_found_behind_a_500(sim, adapter, task):
    adapter.emit(task)
    sim.faults.add("status", method="PATCH", path="tasks(*", status=500)
    assert adapter.emit(task).outcome == "already_applied"


def test_a_row_of_another_user_behind_a_500_is_a_conflict(sim, adapter, task):
    sim.seed("tasks", {"activityid": task.key, "subject": "theirs"})
    sim.faults.add("status", method="PATCH", path="tasks(*", status=500)
    with pytest.raises(ConflictError):
        adapter.emit(task)


def test_a_500_with_no_row_behind_it_passes(sim, adapter, task):
    sim.faults.add("status", method="PATCH", path="tasks(*", status=500)
    with pytest.raises(TransientDataverseError):
        adapter.emit(task)
    assert adapter.emit(task).outcome == "applied"
    assert sim.count("tasks") == 1
