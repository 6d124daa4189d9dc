"""An approval in the mapping file: what it covers, and that nothing is written without it."""

import hashlib
import tomllib

import pytest

from writeahead import RunPolicy, open_store, resume_session, write_back
from writeahead.adapters.dataverse import DataverseAdapter, load_mapping
from writeahead.adapters.dataverse.mapping.approval import approved_text
from writeahead.errors import InvalidInput
from writeahead.model import RunStatus
from writeahead.simulators.dataverse import Simulator

MAPPING = """# What the service writes.
require_approval = true

# Tasks for employees.
[tables.task]
entity_set = "tasks"
key = "activityid"
columns = ["subject", "description"]
"""
TASK = {"kind": "create_row", "payload": {"table": "task", "columns": {"subject": "Call back"}}}


@pytest.fixture
def simulator(tmp_path):
    with Simulator(tmp_path / "crm.sqlite") as running:
        yield running


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    return path


def approve(file, by="Ada Okafor"):
    file.write_text(approved_text(str(file), file.read_text(), by))


def run(simulator, file, store, **options):
    with DataverseAdapter(simulator.url, simulator.issue_token, mapping=file) as adapter:
        return write_back([TASK], session_id="s1", store=store, adapter=adapter, **options)


def test_nothing_is_planned_or_written_before_an_approval(simulator, file):
    store = open_store("memory://approval")
    report = run(simulator, file, store)
    assert (report.status, report.block_reason) == (RunStatus.BLOCKED, "not_ready")
    assert "is not approved" in report.error
    assert simulator.requests() == []
    assert list(store.list()) == []
    approve(file)
    assert run(simulator, file, store).status is RunStatus.COMPLETED
    assert simulator.count("tasks") == 1


def test_a_dry_run_works_and_says_so(simulator, file, tmp_path):
    report = run(simulator, file, open_store(str(tmp_path / "store")), dry_run=True)
    assert report.status is RunStatus.PLANNED
    assert any("is not approved" in warning for warning in report.warnings)


def test_a_resume_under_a_changed_mapping_sends_nothing(simulator, file, tmp_path):
    approve(file)
    store = open_store(str(tmp_path / "store"))
    simulator.faults.add("status", method="PATCH", status=503, times=99)
    assert run(simulator, file, store, policy=RunPolicy(attempts=1)).status is RunStatus.RESUME_NEEDED
    simulator.faults.clear()
    before = len(simulator.requests(method="PATCH"))
    file.write_text(file.read_text().replace('"description"]', '"description", "category"]'))
    with DataverseAdapter(simulator.url, simulator.issue_token, mapping=file) as adapter:
        report = resume_session("s1", store=store, adapter=adapter)
    assert report.status is RunStatus.RESUME_NEEDED
    assert "was changed after Ada Okafor had approved it" in report.error
    assert len(simulator.requests(method="PATCH")) == before
    approve(file, by="Bo")
    with DataverseAdapter(simulator.url, simulator.issue_token, mapping=file) as adapter:
        assert resume_session("s1", store=store, adapter=adapter).status is RunStatus.COMPLETED


def test_the_caller_can_ask_where_the_file_does_not(simulator, file):
    file.write_text(MAPPING.replace("require_approval = true", ""))
    assert run(simulator, file, open_store("memory://approval-1")).status is RunStatus.COMPLETED
    with DataverseAdapter(
        simulator.url, simulator.issue_token, mapping=file, require_approval=True
    ) as adapter:
        report = write_back([TASK], session_id="s2", store=open_store("memory://x"), adapter=adapter)
    assert "is not approved" in report.error


def test_the_rest_of_the_file_stays_and_the_digest_is_of_the_content(file):
    approve(file)
    text = file.read_text()
    lines = text.splitlines()
    assert [line for line in lines if not line.startswith("approved_")] == MAPPING.splitlines()
    assert lines.index('approved_by = "Ada Okafor"') < lines.index("[tables.task]")
    # The digest, without the code under test.
    expected = (
        '{"require_approval": true, "tables": {"task": {"columns": ["subject", "description"],'
        ' "entity_set": "tasks", "key": "activityid"}}}'
    )
    content = tomllib.loads(text)
    assert content["approved_sha256"] == hashlib.sha256(expected.encode()).hexdigest()
    # Comments don't count, and an approval is replaced rather than repeated.
    file.write_text(text.replace("# Tasks for employees.", "# Tasks."))
    assert load_mapping(file).approval.problem("x") is None
    approve(file, by="Bo")
    assert tomllib.loads(file.read_text())["approved_by"] == "Bo"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_byte_order_mark_stay(file, newline, mark):
    text = mark + MAPPING.replace("\n", newline)
    approved = approved_text("x", text, "Ada")
    assert approved.startswith(mark)
    assert approved.count("\n") == approved.count(newline)
    file.write_bytes(approved.encode())
    assert load_mapping(file).approval.problem("x") is None


@pytest.mark.parametrize("text", ['[tables.task]\nentity_set = "tasks"\nkey = "activityid"\n', MAPPING[27:]])
def test_a_file_without_keys_of_its_own_gets_them_first(file, text):
    file.write_text(approved_text("x", text, "Ada"))
    assert load_mapping(file).approval.by == "Ada"


def test_a_layout_that_it_can_not_edit_is_left_alone():
    odd = 'default_owner = { type = "team", id = """00000000-0000-4000-8000-\\\n[000000000001""" }\n'
    with pytest.raises(InvalidInput, match="by hand"):
        approved_text("x", odd, "Ada")


@pytest.mark.parametrize("by", ["", "  ", "a\nb", "x" * 201, "\x1b[31m"])
def test_a_name_that_is_none(by):
    with pytest.raises(InvalidInput, match="--by must be a name"):
        approved_text("x", MAPPING, by)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('require_approval = "yes"', "require_approval must be true or false"),
        ('approved_by = "Ada"', "come together"),
        ("approved_by = 1\napproved_sha256 = 2", "approved_by must be a text"),
    ],
)
def test_keys_that_can_not_be_used(file, line, said):
    file.write_text(f"{line}\n{MAPPING.replace('require_approval = true', '')}")
    with pytest.raises(InvalidInput, match=said):
        load_mapping(file)
