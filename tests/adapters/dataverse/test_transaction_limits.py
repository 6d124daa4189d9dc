"""What one change set can't hold is refused while planning, before anything is persisted."""

import pytest

from tests.support.worlds import names
from writeahead import write_back
from writeahead.errors import InvalidInput
from writeahead.model import RunStatus
from writeahead.stores.memory import MemoryStore


def tasks(count):
    return [{"kind": "task", "payload": {"subject": f"{number}"}} for number in range(count)]


@pytest.mark.parametrize("dry_run", [False, True])
def test_more_operations_than_a_change_set_holds(sim, adapter, dry_run):
    store = MemoryStore()
    with pytest.raises(InvalidInput, match="holds 1,000 operations at most, and 1,001 are planned: split"):
        write_back(tasks(1001), session_id="s", store=store, adapter=adapter, atomic=True, dry_run=dry_run)
    assert names(store) == []
    assert sim.requests(path="$batch") == []


def test_as_many_as_it_holds_are_planned(adapter):
    store = MemoryStore()
    report = write_back(tasks(1000), session_id="s", store=store, adapter=adapter, atomic=True, dry_run=True)
    assert report.status is RunStatus.PLANNED
