"""`writeahead dataverse discover`: a mapping from live definitions, which is read back and used."""

import json
import os
import subprocess
import sys
import tomllib
from dataclasses import replace

import pytest

from writeahead.adapters.dataverse import DataverseClient, load_mapping
from writeahead.adapters.dataverse.readiness.discover import discover
from writeahead.adapters.dataverse.readiness.draft_columns import column_line
from writeahead.adapters.dataverse.readiness.metadata import ColumnDefinition
from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Settings, Simulator
from writeahead.simulators.dataverse.schema import AlternateKey

TOKEN = "token-of-discover"
MARKER = {"wa_sessionid", "wa_operationid"}
KINDS = {"phone_call_activity": "phonecall", "task": "task", "queue_status_update": "wa_callqueue"}


@pytest.fixture
def environment(tmp_path):
    opened = []

    def make(*tables):
        schema = DEFAULT_SCHEMA.with_tables(*tables)
        sim = Simulator(
            tmp_path / "crm.sqlite", settings=Settings(static_tokens=[TOKEN], schema=schema)
        ).start()
        client = DataverseClient(sim.url, lambda: TOKEN, timeout=5)
        opened.extend([sim.stop, client.close])
        return client

    yield make
    for end in reversed(opened):
        end()


def read_back(tmp_path, text):
    path = tmp_path / "mapping.toml"
    path.write_text(text, "utf-8")
    return load_mapping(path)


def test_the_default_tables_give_the_default_mapping(environment, tmp_path):
    found = read_back(tmp_path, discover(environment(), KINDS, []))
    assert found.kinds == load_mapping(None).kinds


def test_a_field_without_a_column_is_left_out_and_said_to_be(environment, tmp_path):
    calls = DEFAULT_SCHEMA.get("phonecalls")
    columns = {
        name: column for name, column in calls.columns.items() if name not in ("wa_outcome", "actualend")
    }
    text = discover(environment(replace(calls, columns=columns)), {"phone_call_activity": "phonecall"}, [])
    call = read_back(tmp_path, text).kinds["phone_call_activity"]
    assert "actual_end" not in call.columns
    assert "outcome" not in call.options
    assert "# actual_end: there is no column actualend" in text
    assert "# outcome: there is no choice column wa_outcome" in text


def test_labels_come_from_the_live_options(environment, tmp_path):
    calls = DEFAULT_SCHEMA.get("phonecalls")
    options = {1: "Interested!", 2: "No answer", 3: "no answer", 4: "3 tries", 5: "日本"}
    columns = {**calls.columns, "wa_outcome": replace(calls.columns["wa_outcome"], options=options)}
    text = discover(environment(replace(calls, columns=columns)), {"phone_call_activity": "phonecall"}, [])
    values = read_back(tmp_path, text).kinds["phone_call_activity"].options["outcome"].values
    assert values == {"interested": 1, "no_answer": 2, "no_answer_3": 3, "option_3_tries": 4, "option": 5}


def test_custom_columns_are_named_where_a_field_has_no_column(environment, tmp_path):
    calls = DEFAULT_SCHEMA.get("phonecalls")
    columns = {name: column for name, column in calls.columns.items() if name != "wa_outcome"}
    columns["cc_result"] = replace(calls.columns["wa_outcome"], options={7: "No answer", 8: "Call back"})
    text = discover(environment(replace(calls, columns=columns)), {"phone_call_activity": "phonecall"}, [])
    line = "#   cc_result  Picklist, 2 options, values = { no_answer = 7, call_back = 8 }"
    assert line in text.splitlines()
    # Taken for a field as it stands there.
    text += "\n[kinds.phone_call_activity.options.outcome]\ncolumn = 'cc_result'\n"
    text += line.partition(", 2 options, ")[2]
    outcome = read_back(tmp_path, text).kinds["phone_call_activity"].options["outcome"]
    assert outcome.values == {"no_answer": 7, "call_back": 8}


def test_a_table_gets_the_labels_of_its_choices_as_comments(environment, tmp_path):
    text = discover(environment(), {}, ["wa_callqueue"])
    assert read_back(tmp_path, text).tables["wa_callqueue"].options == {}
    head, lines = text.partition("# [tables.wa_callqueue.options]")[::2]
    head = "\n".join(line for line in head.splitlines() if "# Picklist" not in line)
    labels = "\n".join(line.removeprefix("# ") for line in lines.partition("\n\n")[0].splitlines())
    table = read_back(tmp_path, f"{head}\n[tables.wa_callqueue.options]{labels}\n").tables["wa_callqueue"]
    assert set(table.options) == {"wa_status", "wa_lastoutcome", "wa_reasoncode"}
    assert table.options["wa_status"]["callback_requested"] == 100000003
    assert "wa_status" not in table.columns


def test_any_other_table_gets_its_writable_columns_only(environment, tmp_path):
    accounts = replace(
        DEFAULT_SCHEMA.get("accounts"),
        keys={"a": AlternateKey(("accountnumber",)), "b": AlternateKey(("name",), "Pending")},
    )
    text = discover(environment(accounts), {}, ["account", "queueitem"])
    table = tomllib.loads(text)["tables"]["account"]
    assert table["entity_set"] == "accounts"
    assert table["key"] == "accountid"
    assert {"name", "accountnumber", "donotphone"} <= set(table["columns"])
    assert not {"accountid", "createdon", "modifiedby", "versionnumber", "statecode"} & set(table["columns"])
    assert table["alternate_keys"] == [["accountnumber"]]
    contact = {"entity_sets": ["contacts"], "column": "primarycontactid"}
    assert table["lookups"]["primarycontactid"] == contact
    assert table["lookups"]["ownerid"] == {"entity_sets": ["systemusers", "teams"], "column": "ownerid"}
    assert '"name",  # String, at most 160 characters' in text
    declared = read_back(tmp_path, text).tables["account"]
    assert declared.alternate_keys == (("accountnumber",),)
    assert declared.marker is None


def test_a_key_that_rows_can_t_be_addressed_by_is_left_out_and_said_to_be(environment, tmp_path):
    keys = {
        "a": AlternateKey(("accountnumber", "primarycontactid")),
        "b": AlternateKey(("name",), "Pending"),
        "c": AlternateKey(("createdon",)),
    }
    text = discover(environment(replace(DEFAULT_SCHEMA.get("accounts"), keys=keys)), {}, ["account"])
    found = read_back(tmp_path, text).tables["account"].alternate_keys
    assert found == (("accountnumber", "_primarycontactid_value"),)
    assert "# The key of name is left out" in text
    assert "# The key of createdon is left out" in text


def test_a_field_that_every_session_has_stands_there_to_be_filled_in(environment, tmp_path):
    kinds = {"task": "account", "queue_status_update": "account"}
    text = discover(environment(), kinds, [])
    found = read_back(tmp_path, text).kinds
    assert found["task"].columns["subject"] == "subject"
    assert found["queue_status_update"].options["status"].column == "wa_status"
    assert text.count("# Not there yet: ") == 4  # two markers, subject and status


def test_a_column_of_several_choices_is_written_with_its_options():
    options = {1: "Red", 2: "Green\n# not a comment"}
    column = ColumnDefinition("MultiSelectPicklist", True, True, "None", options=options)
    assert column_line("wa_colours", column) == (
        '  "wa_colours",  # MultiSelectPicklist, values of 1 Red, 2 Green?# not a comment'
    )


def test_an_activity_gets_the_parties_that_it_can_have(environment, tmp_path):
    text = discover(environment(), {}, ["phonecall", "task", "account"])
    tables = read_back(tmp_path, text).tables
    approved = tables["phonecall"].approved_parties()
    assert approved.navigation == "phonecall_activity_parties"
    assert (
        approved.rows["to"]
        == approved.rows["from"]
        == {
            "accounts": "partyid_account",
            "contacts": "partyid_contact",
            "queues": "partyid_queue",
            "systemusers": "partyid_systemuser",
        }
    )
    assert approved.addresses == frozenset()
    # A task has the collection, and no column that stands for a role.
    assert tables["task"].parties is tables["account"].parties is None


def test_a_kind_without_party_columns_gets_no_parties(environment, tmp_path):
    calls = DEFAULT_SCHEMA.get("phonecalls")
    columns = {name: column for name, column in calls.columns.items() if name != "from"}
    text = discover(environment(replace(calls, columns=columns)), {"phone_call_activity": "phonecall"}, [])
    parties = read_back(tmp_path, text).kinds["phone_call_activity"].parties
    assert (parties.caller, parties.callee.role) == (None, "to")


@pytest.mark.parametrize(
    ("kinds", "tables", "said"),
    [
        ({}, [], "name a table"),
        ({"visit": "task"}, [], "there is no such kind"),
        ({}, ["tasks", "nothing", "task"], "no table nothing, tasks"),
    ],
)
def test_what_is_not_there_is_named(environment, kinds, tables, said):
    with pytest.raises(InvalidInput, match=said):
        discover(environment(), kinds, tables)


def run(environ, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "writeahead", "dataverse", "discover", *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_writes_a_file_once(environ, tmp_path):
    out = tmp_path / "mapping.toml"
    first = run(environ, "--kind", "task=task", "--out", str(out))
    assert (first.returncode, first.stdout) == (0, f"wrote {out}\n")
    held = out.read_bytes()
    assert set(load_mapping(out).kinds) == {"task"}
    second = run(environ, "--kind", "task=task", "--out", str(out))
    assert second.returncode == 2
    assert "--force" in second.stderr
    out.write_text("mine")
    assert run(environ, "--kind", "task=task", "--out", str(out), "--force").returncode == 0
    assert out.read_bytes() == held


def test_the_command_prints_to_stdout_otherwise(environ):
    text = run(environ, "--table", "account").stdout
    assert "accounts" in text
    document = json.loads(run(environ, "--table", "account", "--json").stdout)
    assert document["mapping"] == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--kind", "task"], "--kind KIND=TABLE"),
        ([], "name a table"),
        (["--table", "nothing"], "no table nothing"),
    ],
)
def test_the_command_says_what_is_wrong(environ, arguments, said):
    done = run(environ, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_the_command_needs_credentials(environ):
    done = run({**environ, "DATAVERSE_CLIENT_SECRET": ""}, "--table", "account")
    assert done.returncode in (1, 2, 3)
    assert "DATAVERSE_CLIENT_SECRET" in done.stderr


@pytest.mark.parametrize(
    ("there", "marker"),
    [
        ({"wa_sessionid": 128, "wa_operationid": 200}, ["wa_sessionid", "wa_operationid"]),
        ({"wa_sessionid": 128}, ["wa_sessionid"]),
        ({"wa_sessionid": 850, "wa_operationid": 100}, ["wa_sessionid"]),
        # A column of another type, or one that is too short, is none.
        ({"wa_sessionid": 39}, None),
    ],
)
def test_one_text_column_is_marker_enough(environment, tmp_path, there, marker):
    tasks = DEFAULT_SCHEMA.get("tasks")
    columns = {name: column for name, column in tasks.columns.items() if name not in MARKER}
    columns |= {name: replace(tasks.columns[name], max_length=length) for name, length in there.items()}
    text = discover(environment(replace(tasks, columns=columns)), {}, ["task"])
    declared = read_back(tmp_path, text).tables["task"]
    assert (declared.marker and declared.marker.columns) == marker
    assert not set(declared.columns) & set(marker or ())
    if marker == ["wa_sessionid"]:
        assert declared.marker.length == min(there["wa_sessionid"], 257)
