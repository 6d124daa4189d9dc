"""Beside its owner, a row says which user or which team that is."""

import pytest

from writeahead.simulators.dataverse import APPLICATION_USER, HUMAN_USER


@pytest.fixture
def team(sim):
    return sim.seed("teams", {"name": "Desk"})


def _owning(http, path):
    found = http.get(path, params={"$select": "_ownerid_value,_owninguser_value,_owningteam_value"}).json()
    return tuple(found[f"_{name}_value"] for name in ("ownerid", "owninguser", "owningteam"))


def test_a_user_or_a_team_owns_a_row_and_the_other_column_is_null(sim, http, team):
    path = f"wa_callqueues({sim.seed('wa_callqueues', {'wa_name': 'a'})})"
    assert _owning(http, path) == (APPLICATION_USER, APPLICATION_USER, None)
    http.patch(path, json={"ownerid@odata.bind": f"/teams({team})"})
    assert _owning(http, path) == (team, None, team)
    http.patch(path, json={"ownerid@odata.bind": f"/systemusers({HUMAN_USER})"})
    assert _owning(http, path) == (HUMAN_USER, HUMAN_USER, None)


def test_a_client_can_not_set_them(http, sim, team):
    reply = http.post("accounts", json={"name": "a", "_owninguser_value": HUMAN_USER})
    assert reply.status_code == 204
    (row,) = sim.rows("accounts")
    assert row["_owninguser_value"] == APPLICATION_USER


@pytest.mark.parametrize(("kind", "owns"), [(0, True), (1, False), (2, True), (3, True)])
def test_an_access_team_owns_nothing(http, sim, kind, owns):
    other = sim.seed("teams", {"name": "Access", "teamtype": kind})
    row = sim.seed("accounts", {"name": "a"})
    bind = {"ownerid@odata.bind": f"/teams({other})"}
    replies = [http.post("tasks", json=bind), http.patch(f"accounts({row})", json=bind)]
    assert [reply.status_code for reply in replies] == ([204] * 2 if owns else [400] * 2)
    assert sim.count("tasks") == int(owns)
    assert sim.row("accounts", row)["_ownerid_value"] == (other if owns else APPLICATION_USER)


def test_a_table_without_an_owner_has_none_of_them(http, team):
    reply = http.get(f"teams({team})", params={"$select": "_owninguser_value"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "0x0")
