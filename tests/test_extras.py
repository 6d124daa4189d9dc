"""What works with no extra installed, and what is said of an extra that is missing."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.processes import child_environment
from writeahead._extras import _EXTRA_OF

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
CLI = {"click", "rich", "typer"}

# Hides packages as if they were not installed, then runs the command line as `python -m` does.
HIDE = """
import runpy, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
COMMAND = HIDE + "sys.argv[0] = 'writeahead'\nrunpy.run_module('writeahead', run_name='__main__')\n"


def without(packages, program, *arguments, cwd):
    return subprocess.run(
        [sys.executable, "-c", f"HIDDEN = {sorted(packages)!r}\n{program}", *map(str, arguments)],
        cwd=cwd,
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_library_needs_no_extra(tmp_path):
    program = """
from pydantic import BaseModel
from writeahead import Adapter, Receipt, emits, open_store, resume_session, write_back
from writeahead.errors import TransientError

class Row(BaseModel):
    text: str

class Crm(Adapter):
    name = "crm"
    rows = []

    @emits("upsert")
    def emit_row(self, payload: Row, operation) -> Receipt:
        if not self.rows:
            self.rows.append(payload.text)
            raise TransientError("503", retry_after=600.0)
        self.rows.append(payload.text)
        return Receipt()

store, rows = open_store("./artifacts"), [{"kind": "row", "payload": {"text": "x"}}]
print(write_back(rows, session_id="s1", store=store, adapter=Crm()).status)
print(resume_session("s1", store=store, adapter=Crm()).status)
"""
    done = without(_EXTRA_OF, HIDE + program, cwd=tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "resume_needed"
    assert (tmp_path / "artifacts/s1/planned-writeback.json").exists()


def test_the_version_needs_no_extra(tmp_path):
    done = without(_EXTRA_OF, COMMAND, "--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("writeahead ")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "session.json").write_text('{"session_id": "s1", "operations": [{"kind": "x"}]}')
    (tmp_path / "own.py").write_text("from writeahead.adapters.http import applied_despite\n")
    return tmp_path


RUN = ["run", "session.json", "--store", "./artifacts"]
MISSING = {
    "nothing": (set(_EXTRA_OF), ["list", "--store", "./artifacts"], "the command line", "cli"),
    "help": (CLI, ["--help"], "the command line", "cli"),
    "rich": ({"rich"}, [], "the command line", "cli"),
    "httpx": ({"httpx"}, [*RUN, "--adapter", "dataverse"], "--adapter: adapter 'dataverse'", "dataverse"),
    "limiter": (
        {"pyrate_limiter"},
        [*RUN, "--adapter", "dataverse"],
        "--adapter: adapter 'dataverse'",
        "dataverse",
    ),
    "own adapter": ({"httpx"}, [*RUN, "--adapter", "own:make"], "--adapter: adapter 'own:make'", "http"),
    "named by its module": (
        {"httpx"},
        [*RUN, "--adapter", "writeahead.adapters.dataverse:adapter_from_settings"],
        "--adapter: adapter 'writeahead.adapters.dataverse:adapter_from_settings'",
        "http",
    ),
    "discover": (
        {"httpx"},
        ["dataverse", "discover", "--kind", "task=task"],
        "writeahead dataverse",
        "dataverse",
    ),
    "simulator": ({"starlette"}, ["simulate", "dataverse"], "the simulator", "simulator"),
    "server": ({"uvicorn"}, ["simulate", "dataverse"], "the simulator", "simulator"),
    "s3": ({"s3fs"}, ["list", "--store", "s3://bucket"], "--store: store s3://...", "s3"),
    "s3 alone": ({"fsspec", "s3fs"}, ["list", "--store", "s3://bucket"], "--store: store s3://...", "s3"),
    "fsspec": (
        {"fsspec"},
        ["list", "--store", "fsspec+memory://x"],
        "--store: store fsspec+memory://...",
        "fsspec",
    ),
    "obstore": ({"obstore"}, ["list", "--store", "gs://bucket"], "--store: store gs://...", "obstore"),
    "profile": (
        {"botocore"},
        ["list", "--store", "s3://bucket?client=obstore&profile=x&region=us-east-1"],
        "--store: store s3://...: profile",
        "s3",
    ),
    "engine": (
        {"distributed"},
        ["sweep", "--write", "--engine", "dask", "--store", ".", "--adapter", "own:make"],
        "--engine dask",
        "dask",
    ),
    "demo": ({"httpx"}, ["demo"], "writeahead demo", "demo"),
    "demo on s3": ({"moto"}, ["demo", "--store", "s3"], "writeahead demo", "demo"),
}


@pytest.mark.parametrize(("hidden", "arguments", "what", "extra"), MISSING.values(), ids=MISSING)
def test_a_missing_extra_is_named_in_one_line(folder, hidden, arguments, what, extra):
    before = sorted(folder.rglob("*"))
    done = without(hidden, COMMAND, *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    match = re.fullmatch(
        r'error: (.+): (\w+) is not installed; run: python -m pip install "writeahead\[(\w+)\]"\n',
        done.stderr,
    )
    assert match, done.stderr
    assert (match[1], match[2] in hidden, match[3]) == (what, True, extra)
    left = [path for path in folder.rglob("*") if "__pycache__" not in path.parts]
    assert sorted(left) == before


@pytest.mark.parametrize("hidden", [CLI, {"s3fs"}], ids=["cli", "s3"])
def test_a_missing_extra_is_named_in_json(tmp_path, hidden):
    done = without(hidden, COMMAND, "list", "--store", "s3://bucket", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert (done.returncode, document["type"]) == (2, "InvalidInput")
    assert done.stderr == f"error: {document['error']}\n"


def test_a_missing_module_of_no_extra_stays_an_import_error(folder):
    (folder / "own.py").write_text("import not_there_at_all\n")
    done = without(set(), COMMAND, *RUN, "--adapter", "own:make", cwd=folder)
    assert done.returncode == 2
    assert "No module named 'not_there_at_all'" in done.stderr
    assert "pip install" not in done.stderr


def brought_by(extra):
    """The distributions of an extra, through those that it refers to."""
    found = set()
    for requirement in EXTRAS[extra]:
        name, inner = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", requirement).groups()
        if name == "writeahead":
            found.update(*(brought_by(part) for part in inner.split(",")))
        else:
            found.add(name)
    return found


def test_each_package_is_in_the_extra_that_is_said_to_bring_it():
    for extra in EXTRAS:
        for name in brought_by(extra):
            module = name.replace("-", "_").removesuffix("_api")  # opentelemetry-api
            assert name in brought_by(_EXTRA_OF[module])
    assert set(_EXTRA_OF.values()) | {"fsspec", "all"} == set(EXTRAS)
    assert brought_by("all") == set.union(*map(brought_by, EXTRAS))


def test_readme_names_every_extra():
    readme = (ROOT / "README.md").read_text()
    paragraph = readme.partition("The extras are")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", paragraph)) - {"writeahead"} == set(EXTRAS)
