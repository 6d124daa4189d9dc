"""``writeahead simulate dataverse``: a process that runs until it is asked to end."""

import json
import signal

import pytest

from tests.support.processes import ROOT, finished
from writeahead.simulators.dataverse import SimulatorDatabase

SEED = ROOT / "examples/sessions/seed.json"


def test_the_simulator_runs_until_a_signal(start, folder):
    process = start("simulate", "dataverse", "--port", 0, "--db", folder / "crm.sqlite", "--json")
    lines = []
    while not lines or lines[-1] != "}\n":
        lines.append(process.stdout.readline())
    url = json.loads("".join(lines))["url"]
    assert url.startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    assert finished(process) == (0, "", "")


def test_a_seed_keeps_what_was_changed_since(start, folder):
    database = SimulatorDatabase(folder / "crm.sqlite")
    for turn in range(2):
        process = start("simulate", "dataverse", "--db", database.path, "--seed", SEED)
        assert process.stdout.readline().startswith("Dataverse simulator on http://127.0.0.1:")
        seeded = json.loads(SEED.read_text())
        assert {name: database.count(name) for name in seeded} == {
            name: len(rows) for name, rows in seeded.items()
        }
        contact = seeded["contacts"][0]["contactid"]
        if turn:
            assert database.row("contacts", contact)["lastname"] == "Changed"
        database.edit("contacts", contact, {"lastname": "Changed"})
        process.send_signal(signal.SIGTERM)
        assert finished(process)[0] == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "seed.json: line 1, column 2: not JSON"),
        ('{"accounts": {"name": "A"}}', 'seed.json: not rows: write {"accounts": [{"name": ...}]}'),
        ('{"accountz": [{}]}', "seed.json: accountz, row 1: the simulator has no table 'accountz'"),
        ('{"accounts": [{"name": "A"}, {"nme": "B"}]}', "seed.json: accounts, row 2:"),
        ('{"accounts": [{"accountid": "x"}]}', "seed.json: accounts, row 1: 'x' is no GUID"),
        (None, "seed.json: there is no such file"),
    ],
)
def test_a_bad_seed_is_named_and_ends_the_simulator(start, folder, text, said):
    if text is not None:
        (folder / "seed.json").write_text(text)
    code, out, err = finished(
        start("simulate", "dataverse", "--db", folder / "crm.sqlite", "--seed", folder / "seed.json")
    )
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
