"""The client follows the links of the simulator's pages, tokens and all."""

import pytest

from writeahead.adapters.dataverse import DataverseClient
from writeahead.errors import PermanentError
from writeahead.simulators.dataverse import Settings, Simulator


@pytest.fixture
def sim(tmp_path):
    with Simulator(tmp_path / "crm.sqlite", settings=Settings(page_size=2)) as running:
        yield running


@pytest.fixture
def client(sim):
    client = DataverseClient(sim.url, sim.issue_token)
    yield client
    client.close()


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 7])
def test_all_pages_are_read(sim, client, rows):
    for number in range(rows):
        sim.seed("tasks", {"subject": f"O'Neil & {number} 100% +\u00fc"})
    found = client.get_json("/tasks", {"$select": "subject", "$filter": "statecode eq 0"})
    assert sorted(row["subject"] for row in found["value"]) == sorted(
        row["subject"] for row in sim.rows("tasks")
    )
    assert "@odata.nextLink" not in found
    assert len(sim.requests(path="tasks")) == max(1, -(-rows // 2))


def test_an_option_that_the_service_does_not_know_is_an_error(sim, client):
    sim.seed("tasks", {"subject": "x"})
    with pytest.raises(PermanentError):
        client.get_json("/tasks", {"sql": "SELECT subject FROM task"})
