"""Owners are looked up before anything is planned for them."""

import httpx
import pytest

from writeahead.adapters.dataverse import DataverseClient
from writeahead.adapters.dataverse.readiness.owners import Owners, is_owner
from writeahead.adapters.dataverse.webapi.errors import TransientDataverseError
from writeahead.simulators.dataverse import Settings, Simulator

TOKEN = "token-of-owners"
UNKNOWN = "00000000-0000-4000-8000-0000000000ff"


@pytest.fixture
def sim(tmp_path):
    with Simulator(tmp_path / "crm.sqlite", settings=Settings(static_tokens=[TOKEN])) as running:
        yield running


@pytest.fixture
def client(sim):
    made = DataverseClient(sim.url, lambda: TOKEN, timeout=5)
    yield made
    made.close()


def test_enabled_users_and_teams_can_own(sim, client):
    ada = sim.seed("systemusers", {"fullname": "Ada"})
    gone = sim.seed("systemusers", {"fullname": "Gone", "isdisabled": True})
    team = sim.seed("teams", {"name": "Callers"})
    binds = [f"/systemusers({ada})", f"/systemusers({gone})", f"/teams({team})", f"/teams({UNKNOWN})"]
    assert Owners(client).problems(binds) == {
        f"/systemusers({gone})": "the user is disabled",
        f"/teams({UNKNOWN})": "there is no such team",
    }
    assert len(sim.requests()) == 4


@pytest.mark.parametrize(
    ("teamtype", "problem"),
    [(0, None), (1, "the team is an access team, which can own nothing"), (2, None), (3, None)],
)
def test_an_access_team_can_own_nothing(sim, client, teamtype, problem):
    bind = f"/teams({sim.seed('teams', {'name': 'Callers', 'teamtype': teamtype})})"
    assert Owners(client).problems([bind]) == ({bind: problem} if problem else {})
    reply = httpx.post(
        f"{sim.api_url}tasks",
        json={"subject": "x", "ownerid@odata.bind": bind},
        headers={"Authorization": f"Bearer {TOKEN}"},
    )
    # The gate says so first, and the service says so in the end.
    assert reply.status_code == (400 if problem else 204)
    assert sim.count("tasks") == (0 if problem else 1)


def test_an_answer_is_kept_for_a_while_and_no_longer(sim, client):
    bind = f"/systemusers({sim.seed('systemusers', {'fullname': 'Ada'})})"
    now = [0.0]
    owners = Owners(client, max_age=300, monotonic=lambda: now[0])
    assert owners.problems([bind, bind]) == {}
    now[0] = 299.0
    assert owners.problems([bind]) == {}
    assert len(sim.requests()) == 1
    now[0] = 300.0
    assert owners.problems([bind]) == {}
    assert len(sim.requests()) == 2


def test_an_owner_that_may_not_be_read_is_a_problem(sim, client):
    bind = f"/teams({sim.seed('teams', {'name': 'Callers'})})"
    sim.faults.add("status", path="teams*", status=403)
    assert "the team can't be read" in Owners(client).problems([bind])[bind]
    sim.faults.add("status", path="teams*", status=503)
    owners = Owners(client)
    with pytest.raises(TransientDataverseError):
        owners.problems([bind])
    assert owners.problems([bind]) == {}


@pytest.mark.parametrize(
    ("bind", "expected"),
    [
        (f"/systemusers({UNKNOWN})", True),
        (f"/teams({UNKNOWN})", True),
        (f"/contacts({UNKNOWN})", False),
        ("/systemusers(x)/roles", False),
        (None, False),
    ],
)
def test_only_users_and_teams_are_owners(bind, expected):
    assert is_owner(bind) is expected
