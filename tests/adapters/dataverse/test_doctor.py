"""What `DataverseAdapter.doctor` finds in environments that a first run would fail in."""

import dataclasses
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from writeahead.adapters.dataverse import DataverseAdapter, load_mapping
from writeahead.adapters.dataverse.mapping.approval import approved_text
from writeahead.errors import InvalidInput
from writeahead.simulators.dataverse import DEFAULT_SCHEMA, Schema, Settings, Simulator

PROBED = "kinds.queue_status_update"
PLANTED = "PLANTED-SECRET"


@pytest.fixture
def environment(tmp_path):
    """Starts a simulator; each keyword is a setting of it."""
    running = []

    def start(**settings):
        running.append(Simulator(tmp_path / f"{len(running)}.sqlite", settings=Settings(**settings)))
        running[-1].start()
        return running[-1]

    yield start
    for simulator in running:
        simulator.stop()


def findings(simulator, probed=None, **options):
    with DataverseAdapter(simulator.url, simulator.issue_token, **options) as adapter:
        return list(adapter.doctor(probed))


def said(found, level):
    return [f"{item.subject}: {item.text}" for item in found if item.level == level]


def writes(simulator):
    return [request for request in simulator.requests() if request.method != "GET"]


def changed(simulator, entity_set, **changes):
    table = dataclasses.replace(DEFAULT_SCHEMA.get(entity_set), **changes)
    return simulator(schema=DEFAULT_SCHEMA.with_tables(table))


def without(column, entity_set="wa_callqueues"):
    columns = dict(DEFAULT_SCHEMA.get(entity_set).columns)
    del columns[column]
    return columns


def test_an_environment_that_a_run_fits_is_left_untouched(environment):
    simulator = environment()
    found = findings(simulator)
    assert not said(found, "problem")
    assert {item.subject for item in found} >= {"token", "user", "clock", "version", "default_owner"}
    assert writes(simulator) == []


def test_the_probe_proves_the_conditions_on_a_row_that_it_removes(environment):
    simulator = environment()
    found = findings(simulator, PROBED)
    assert not said(found, "problem")
    assert "write probe on wa_callqueues: the row is removed" in said(found, "ok")
    # What is on the wire: a create that is refused the second time, updates, one batch, deletes.
    sent = [(r.method, r.status) for r in writes(simulator) if r.batch is None]
    assert [status for method, status in sent if method == "PATCH"] == [204, 412, 204, 412]
    assert ("DELETE", 204) in sent
    assert simulator.count("wa_callqueues") == 0


@pytest.mark.parametrize("ignored", ["if-match", "if-none-match"])
def test_the_probe_finds_a_server_that_ignores_a_condition(environment, ignored):
    simulator = environment()

    class Ignoring(httpx.HTTPTransport):
        def handle_request(self, request):
            request.headers.pop(ignored, None)
            return super().handle_request(request)

    found = findings(simulator, PROBED, transport=Ignoring())
    assert "is carried out: replays are not safe" in " ".join(said(found, "problem"))
    assert simulator.count("wa_callqueues") == 0


def test_the_probe_finds_a_change_set_that_is_carried_out_in_part(environment):
    simulator = environment()

    class Partly(httpx.HTTPTransport):
        def handle_request(self, request):
            if not request.url.path.endswith("$batch"):
                return super().handle_request(request)
            row = simulator.rows("wa_callqueues")[0]
            simulator.edit("wa_callqueues", row["wa_callqueueid"], {"wa_email": "writeahead doctor"})
            return super().handle_request(request)

    found = findings(simulator, PROBED, transport=Partly())
    assert "carried out, or in part" in " ".join(said(found, "problem"))


def test_the_probe_removes_its_row_also_when_the_answers_are_lost(environment):
    simulator = environment()
    simulator.faults.add("drop", method="PATCH", path="wa_callqueues(*", apply=True, times=1)
    found = findings(simulator, PROBED)
    assert "look for the row" in " ".join(said(found, "warning"))
    assert simulator.count("wa_callqueues") == 0


def test_a_row_that_can_not_be_removed_is_named(environment):
    simulator = environment()
    simulator.faults.add("status", method="DELETE", status=503, times=9)
    problems = " ".join(said(findings(simulator, PROBED), "problem"))
    assert simulator.rows("wa_callqueues")[0]["wa_callqueueid"] in problems


def test_without_the_privilege_to_delete_there_is_no_probe(environment):
    simulator = environment(withheld_privileges=["prvDeleteWa_callqueue"])
    found = findings(simulator, PROBED)
    assert "prvDeleteWa_callqueue" in " ".join(said(found, "problem"))
    assert writes(simulator) == []


def test_privileges_that_are_missing_are_named(environment):
    simulator = environment(withheld_privileges=["prvCreateActivity", "prvWriteWa_callqueue"])
    problems = " ".join(said(findings(simulator), "problem"))
    assert "prvCreateActivity" in problems
    assert "prvWriteWa_callqueue" in problems
    # The simulator means it: the same privilege is missing on a request.
    body = httpx.post(
        f"{simulator.api_url}tasks",
        json={"subject": "x"},
        headers={"Authorization": f"Bearer {simulator.issue_token()}"},
    )
    assert (body.status_code, body.json()["error"]["code"]) == (403, "0x80040220")


def test_a_column_a_marker_and_an_option_that_are_not_there(environment):
    columns = without("wa_notes")
    columns["wa_lastsession"] = dataclasses.replace(columns["wa_lastsession"], max_length=36)
    columns["wa_status"] = dataclasses.replace(columns["wa_status"], options={100000000: "pending"})
    simulator = changed(environment, "wa_callqueues", columns=columns)
    found = findings(simulator)
    problems = " ".join(said(found, "problem"))
    assert "no column wa_notes" in problems
    assert "column wa_status has no such option as blocked" in problems
    assert "marker column wa_lastsession holds 36 characters" in " ".join(said(found, "warning"))


def test_a_table_that_is_not_there_and_one_without_versions(environment):
    simulator = changed(environment, "wa_callqueues", optimistic_concurrency=False)
    problems = said(findings(simulator), "problem")
    assert len(problems) == 1
    assert "wa_callqueues [kinds.queue_status_update]: it has no optimistic concurrency" in problems[0]
    gone = environment(schema=Schema(item for item in DEFAULT_SCHEMA if item.entity_set != "tasks"))
    assert "it is not there" in " ".join(said(findings(gone), "problem"))


def test_a_clock_that_is_wrong_and_limits(environment):
    simulator = environment(degree_of_parallelism=4)

    class Late(httpx.HTTPTransport):
        def handle_request(self, request):
            response = super().handle_request(request)
            late = datetime.now(UTC) - timedelta(minutes=3)
            response.headers["date"] = late.strftime("%a, %d %b %Y %H:%M:%S GMT")
            return response

    warnings = said(findings(simulator, transport=Late()), "warning")
    assert any(line.startswith("clock: this machine's clock") for line in warnings)
    assert "limits: the service recommends 4 requests at once, max_concurrent is 52" in warnings


def test_an_old_version_is_on_premises(environment):
    simulator = environment()

    class Old(httpx.HTTPTransport):
        def handle_request(self, request):
            response = super().handle_request(request)
            if request.url.path.endswith("RetrieveVersion"):
                return httpx.Response(200, json={"Version": "9.1.4.20"})
            return response

    assert "the Web API v9.2 is needed" in " ".join(said(findings(simulator, transport=Old()), "problem"))


def test_a_refused_token_and_missing_settings_are_the_only_findings(environment):
    simulator = environment()
    with DataverseAdapter(simulator.url, lambda: "wrong") as adapter:
        assert "token is refused" in " ".join(said(list(adapter.doctor()), "problem"))
    missing = DataverseAdapter(None, None, missing=["DATAVERSE_URL is not set"])
    assert said(list(missing.doctor()), "problem") == ["settings: DATAVERSE_URL is not set"]


@pytest.mark.parametrize("path", ["WhoAmI", "RetrieveVersion", "EntityDefinitions", "systemusers(*"])
def test_what_can_not_be_read_is_unknown_and_no_message_holds_a_secret(environment, path):
    simulator = environment()
    simulator.faults.add(
        "status", method="GET", path=path, status=403, code="0x80040220", message=PLANTED, times=99
    )
    found = findings(simulator)
    assert said(found, "unknown")
    for item in found:
        assert PLANTED not in repr(item)
        assert simulator.url.removeprefix("http://") not in repr(item)


def test_a_table_that_the_mapping_does_not_have_is_refused(environment):
    with pytest.raises(InvalidInput, match=r"has no kinds\.other: name a table"):
        findings(environment(), "kinds.other")


def test_a_mapping_that_must_be_approved_is_a_problem_until_it_is(environment, tmp_path):
    simulator = environment()
    file = tmp_path / "mapping.toml"
    file.write_text(
        "require_approval = true\n"
        '[tables.account]\nentity_set = "accounts"\nkey = "accountid"\ncolumns = ["name"]\n'
    )
    found = findings(simulator, "tables.account", mapping=file)
    assert [line.partition(":")[0] for line in said(found, "problem")] == ["approval"]
    assert "write probe on accounts: left out: solve the problems first" in said(found, "unknown")
    assert writes(simulator) == []
    file.write_text(approved_text("mapping.toml", file.read_text(), "Ada Okafor"))
    assert said(findings(simulator, mapping=file), "problem") == []


def test_an_elastic_table_is_not_probed(environment, tmp_path):
    simulator = changed(environment, "wa_callqueues", elastic=True, keys={})
    file = tmp_path / "mapping.toml"
    file.write_text(
        '[tables.log]\nentity_set = "wa_callqueues"\nkey = "wa_callqueueid"\nelastic = true\n'
        'logical_name = "wa_callqueue"\ncolumns = ["wa_name"]\n'
    )
    with pytest.raises(InvalidInput, match="wa_callqueues is an elastic table"):
        findings(simulator, "tables.log", mapping=file)
    assert writes(simulator) == []


def test_required_columns_that_the_mapping_lacks_are_warnings(environment, tmp_path):
    columns = dict(DEFAULT_SCHEMA.get("accounts").columns)
    columns["name"] = dataclasses.replace(columns["name"], required="ApplicationRequired")
    simulator = changed(environment, "accounts", columns=columns)
    file = tmp_path / "mapping.toml"
    file.write_text(
        '[tables.account]\nentity_set = "accounts"\nkey = "accountid"\ncolumns = ["telephone1"]\n'
    )
    warnings = said(findings(simulator, mapping=load_mapping(file)), "warning")
    assert any("column name requires a value" in line for line in warnings)
    assert any("it has no marker" in line for line in warnings)


def test_parties_that_can_not_be_made_and_those_that_are_required(environment, tmp_path):
    simulator = changed(environment, "phonecalls", columns=without("from", "phonecalls"))
    assert "no parties of role from" in " ".join(said(findings(simulator), "problem"))
    file = tmp_path / "mapping.toml"
    file.write_text(
        '[tables.call]\nlogical_name = "phonecall"\nentity_set = "phonecalls"\nkey = "activityid"\n'
        'columns = ["subject"]\noptions = { prioritycode = { low = 0, urgent = 9 } }\n'
    )
    found = findings(environment(), mapping=load_mapping(file))
    assert "column from requires a party" in " ".join(said(found, "warning"))
    assert "column prioritycode has no such option as urgent" in " ".join(said(found, "problem"))
