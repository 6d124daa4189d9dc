import ast
import subprocess
import sys
from pathlib import Path

import pytest

import writeahead
from writeahead.cli.exit_code import ExitCode
from writeahead.cli.failures import exit_code_of_status
from writeahead.model import RunStatus, idempotency_key


def test_the_public_names_are_these():
    assert writeahead.__all__ == [
        "Adapter",
        "ArtifactStore",
        "Clock",
        "Operation",
        "PlannedOperation",
        "Receipt",
        "ReplayArtifact",
        "ResumeError",
        "RunPolicy",
        "RunReport",
        "Session",
        "WriteaheadError",
        "abandon_session",
        "aresume_session",
        "asweep",
        "awrite_back",
        "emits",
        "find_sessions",
        "load_replay_artifact",
        "open_store",
        "prune",
        "read_session",
        "resume_item",
        "resume_session",
        "sweep",
        "unblock_session",
        "write_back",
        "write_planned_writeback_artifact",
        "write_writeback_artifact",
    ]


def test_every_public_name_is_where_type_checkers_find_it():
    tree = ast.parse(Path(writeahead.__file__).read_text())
    (checked,) = [node for node in tree.body if isinstance(node, ast.If)]
    homes = {
        alias.name: node.module.removeprefix("writeahead.") for node in checked.body for alias in node.names
    }
    assert homes == writeahead._HOMES
    assert sorted(homes) == sorted(writeahead.__all__)
    for name in writeahead.__all__:
        assert getattr(writeahead, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = writeahead.nothing


def test_importing_the_core_loads_no_backend_and_no_client():
    heavy = [
        "s3fs",
        "fsspec",
        "aiobotocore",
        "boto3",
        "httpx",
        "tenacity",
        "starlette",
        "typer",
        "rich",
        "asyncio",
    ]
    code = f"import sys; from writeahead import *; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_exit_codes_are_these():
    numbers = {"OK": 0, "BLOCKED": 1, "USAGE": 2, "FAILED": 3, "LATER": 75, "INTERRUPTED": 130}
    assert {code.name: code.value for code in ExitCode} == numbers
    assert {status.value: exit_code_of_status(status).value for status in RunStatus} == {
        "completed": 0,
        "no_resume_needed": 0,
        "planned": 0,
        "blocked": 1,
        "abandoned": 1,
        "resume_needed": 75,
        "in_progress": 75,
    }


def test_idempotency_keys_never_change():
    assert idempotency_key("s1", "1-create") == "f1b051a0-9782-58ef-8c10-6d60535293b1"
