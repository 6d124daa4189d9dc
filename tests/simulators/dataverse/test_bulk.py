"""CreateMultiple, UpdateMultiple and UpsertMultiple: all rows of a request, or none."""

import httpx
import pytest

from tests.simulators.dataverse.test_batch import change_set, part, read, send
from writeahead.simulators.dataverse import Settings, Simulator

ROW = "11111111-2222-4333-8444-555555555555"


def bulk(http, name, entity_set, targets, kind="Microsoft.Dynamics.CRM.account"):
    targets = [{"@odata.type": kind, **target} for target in targets]
    return http.post(f"{entity_set}/Microsoft.Dynamics.CRM.{name}", json={"Targets": targets})


def names(sim):
    return sorted((row["name"], row["accountnumber"]) for row in sim.rows("accounts"))


def test_create_answers_with_the_ids_in_order(sim, http):
    reply = bulk(http, "CreateMultiple", "accounts", [{"name": "one"}, {"name": "two", "accountid": ROW}])
    assert reply.status_code == 200
    assert reply.json()["@odata.context"].endswith("#Microsoft.Dynamics.CRM.CreateMultipleResponse")
    assert [sim.row("accounts", row_id)["name"] for row_id in reply.json()["Ids"]] == ["one", "two"]
    assert reply.json()["Ids"][1] == ROW


def test_update_by_id_and_by_alternate_key(sim, http):
    first = sim.seed("accounts", {"name": "one", "accountnumber": "A-1"})
    sim.seed("accounts", {"name": "two", "accountnumber": "A-2"})
    changes = [
        {"accountid": first, "name": "1"},
        {"@odata.id": "accounts(accountnumber='A-2')", "accountnumber": "A-9", "name": "2"},
    ]
    reply = bulk(http, "UpdateMultiple", "accounts", changes, "#Microsoft.Dynamics.CRM.account")
    assert (reply.status_code, reply.content) == (204, b"")
    # What names a row can't be changed through that name.
    assert names(sim) == [("1", "A-1"), ("2", "A-2")]


def test_upsert_creates_and_updates(sim, http):
    sim.seed("accounts", {"name": "one", "accountnumber": "A-1"})
    targets = [{"@odata.id": f"accounts(accountnumber='A-{number}')", "name": "x"} for number in (1, 2)]
    targets.append({"accountid": ROW, "name": "y"})
    for _ in range(2):
        assert bulk(http, "UpsertMultiple", "accounts", targets).status_code == 204
        assert [name for name, _ in names(sim) if name == "x"] == ["x", "x"]
    assert sim.row("accounts", ROW)["name"] == "y"
    assert sim.count("accounts") == 3


@pytest.mark.parametrize(
    ("name", "target", "status"),
    [
        ("CreateMultiple", {"nosuch": 1}, 400),
        ("CreateMultiple", {"accountid": ROW}, 412),
        ("UpdateMultiple", {"accountid": ROW.replace("1", "9"), "name": "x"}, 404),
        ("UpdateMultiple", {"name": "no row is named"}, 400),
        ("UpsertMultiple", {"name": "no row is named"}, 400),
        ("UpsertMultiple", {"@odata.id": f"tasks({ROW})", "name": "another table"}, 400),
        (
            "UpsertMultiple",
            {"accountid": ROW, "name": "x", "@odata.type": "Microsoft.Dynamics.CRM.task"},
            400,
        ),
    ],
)
def test_one_refused_row_rolls_all_back(sim, http, name, target, status):
    sim.seed("accounts", {"accountid": ROW, "name": "before", "accountnumber": "A-1"})
    good = {"accountid": ROW, "name": "after"} if name == "UpdateMultiple" else {"name": "new"}
    if name == "UpsertMultiple":
        good = {"accountid": ROW[:-1] + "0", "name": "new"}
    last = sim.last_sequence()
    assert bulk(http, name, "accounts", [good, target]).status_code == status
    assert names(sim) == [("before", "A-1")]
    assert sim.requests(after=last, applied=True) == []


@pytest.mark.parametrize(
    "payload", [{}, {"Targets": []}, {"Targets": {}}, {"Targets": [{}]}, {"targets": []}]
)
def test_a_body_without_rows_or_without_their_type(http, payload):
    reply = http.post("accounts/Microsoft.Dynamics.CRM.CreateMultiple", json=payload)
    assert reply.status_code == 400


def test_delete_is_for_elastic_tables(sim, http):
    sim.seed("accounts", {"accountid": ROW, "name": "before"})
    reply = bulk(http, "DeleteMultiple", "accounts", [{"accountid": ROW}])
    message = reply.json()["error"]["message"]
    assert (reply.status_code, message) == (501, "DeleteMultiple has not yet been implemented.")
    assert sim.count("accounts") == 1


def test_in_a_change_set_it_is_one_transaction_with_the_rest(sim, http):
    target = {"@odata.type": "Microsoft.Dynamics.CRM.account", "name": "one"}
    create = part("POST", "accounts/Microsoft.Dynamics.CRM.CreateMultiple", {"Targets": [target]}, 1)
    [(status, *_)] = read(send(http, change_set(create, part("POST", "accounts", {"nosuch": 1}, 2))))
    assert (status, sim.count("accounts")) == (400, 0)
    [[(status, *_), _]] = read(send(http, change_set(create, part("POST", "accounts", {"name": "x"}, 2))))
    assert (status, sim.count("accounts")) == (200, 2)


def test_plug_ins_and_duplicate_rules_see_each_row(tmp_path):
    settings = Settings(
        static_tokens=["t"], plugin_tables=["accounts"], duplicate_rules={"accounts": ["name"]}
    )
    with (
        Simulator(tmp_path / "crm.sqlite", settings=settings) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": "Bearer t"}) as http,
    ):
        ids = bulk(http, "CreateMultiple", "accounts", [{"name": "one"}, {"name": "two"}]).json()["Ids"]
        versions = sorted(sim.row("accounts", row_id)["versionnumber"] for row_id in ids)
        # Two creates, and then the plug-in's two writes.
        assert versions[0] > http.get("systemusers").json()["value"][-1]["versionnumber"] + 2
        http.headers["MSCRM.SuppressDuplicateDetection"] = "false"
        reply = bulk(http, "CreateMultiple", "accounts", [{"name": "three"}, {"name": "two"}])
        assert (reply.is_success, sim.count("accounts")) == (False, 2)


def test_privileges_count_for_each_row(tmp_path):
    settings = Settings(static_tokens=["t"], withheld_privileges=["prvWriteAccount"])
    with (
        Simulator(tmp_path / "crm.sqlite", settings=settings) as sim,
        httpx.Client(base_url=sim.api_url, headers={"Authorization": "Bearer t"}) as http,
    ):
        sim.seed("accounts", {"accountid": ROW, "name": "before"})
        change = {"accountid": ROW, "name": "after"}
        new = {"accountid": ROW[:-1] + "0", "name": "new"}
        assert bulk(http, "UpdateMultiple", "accounts", [change]).status_code == 403
        assert bulk(http, "UpsertMultiple", "accounts", [new, change]).status_code == 403
        assert [row["name"] for row in sim.rows("accounts")] == ["before"]
        assert bulk(http, "UpsertMultiple", "accounts", [new]).status_code == 204
